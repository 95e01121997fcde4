"""Ingestion: files -> a store with the values that `prepare` gives, however often it is interrupted."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from files import BIG_ID, truncate, write_desi_coadd, write_fits1d, write_lamost, write_sdss, write_table

from stores import Flag, Grid, Preparation, SpectraStore, prepare
from stores.command import run_command
from stores.errors import InputError, OptionError, SpectraBridgeError, StoreError
from stores.ingest import IngestOptions, in_processes, ingest
from stores.plan import Plan, expand_files
from stores.spectra import spectra_values
from stores.surveys import FITS_FILES, ReadOptions, get_survey

GRID = "3.602:3.63:0.0002"  # 4000-4266 A in 141 pixels
ROWS = 600  # of the big table: three shards of 256 rows


def options(tmp_path: Path, *files: Path | str, survey: str | None = "table", **more: Any) -> IngestOptions:
    more = {"out": tmp_path / "out.zarr", "grid": GRID, **more}
    return IngestOptions(survey=survey, files=tuple(map(str, files)), **more)


def made(tmp_path: Path, *files: Path | str, status: int = 0, **more: Any) -> SpectraStore:
    chosen = options(tmp_path, *files, **more)
    assert ingest(chosen) == status
    return SpectraStore.open(chosen.out)


def big_table(tmp_path: Path, **columns: Any) -> Path:
    wavelength = 3950.0 + 2.0 * np.arange(180)
    path = tmp_path / "big.fits"
    return write_table(path, n=ROWS, n_pix=180, wavelength=wavelength, ids=BIG_ID + np.arange(ROWS), columns=columns)


def assert_same_store(one: SpectraStore, other: SpectraStore) -> None:
    assert one.fingerprint == other.fingerprint
    for name in one.columns:
        np.testing.assert_array_equal(one.read(name), other.read(name), err_msg=name)


def command(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stores.ingest", *map(str, words)], capture_output=True, text=True, **more
    )


# -- values --------------------------------------------------------------------------------------------------

WRITERS: dict[str, Callable[[Path], list[Path]]] = {
    "lamost": lambda folder: [
        write_lamost(folder / f"spec-{i}.fits", obsid=BIG_ID + i, z=1e-4 * i, seed=i, n_pix=900) for i in range(3)
    ],
    "desi": lambda folder: [
        write_desi_coadd(folder / "coadd-a.fits", n=4, ids=BIG_ID + np.arange(4)),
        write_desi_coadd(folder / "coadd-b.fits", n=3, ids=BIG_ID - 10 + np.arange(3), seed=1),
    ],
    "sdss": lambda folder: [
        write_sdss(folder / f"spec-0266-51602-000{i}.fits", fibre=i, z=-1e-4 * i, n_pix=900) for i in (1, 2)
    ],
    "fits1d": lambda folder: [
        write_fits1d(folder / f"star{i}.fits", OBSID=BIG_ID + i, RV=10.0 * i, VACUUM=True, seed=i) for i in range(3)
    ],
    "table": lambda folder: [
        write_table(folder / "a.parquet", n=5, n_pix=300, ids=BIG_ID + np.arange(5)),
        write_table(folder / "b.parquet", n=2, n_pix=300, ids=[1, 2], seed=3),
    ],
}


@pytest.mark.parametrize("survey", WRITERS)
def test_a_store_holds_what_prepare_gives(survey: str, tmp_path: Path) -> None:
    files = WRITERS[survey](tmp_path)
    preparation = Preparation(continuum_width=3000, resolving_power=1000)
    store = made(tmp_path, *files, survey=survey, preparation=preparation)
    batches = [get_survey(survey).read(path, ReadOptions()) for path in files]
    expected = spectra_values(prepare(batches, Grid.parse(GRID), preparation))
    for name, values in expected.items():
        held = store.read(name)
        np.testing.assert_array_equal(held, values.astype(held.dtype), err_msg=name)
    assert np.abs(expected["flux"] - 1).max() > 0.001
    assert (expected["ivar"] > 0).mean() > 0.5
    assert len(set(store.read("rv").tolist())) > 1
    if survey != "sdss":
        assert np.isin([BIG_ID, BIG_ID + 1], store.read("id")).all()
    assert store.read("id").dtype == np.int64
    assert store.preparation == preparation
    assert store.grid == Grid.parse(GRID)
    assert store.survey == survey
    sources = store.attributes["sources"]
    assert [entry["file"] for entry in sources] == [str(path) for path in files]
    assert sum(entry["rows"] for entry in sources) == len(store)
    assert not [fault for _, faults in store.verify() for fault in faults]


def test_shards_hold_the_rows_of_one_preparation(tmp_path: Path) -> None:
    path = big_table(tmp_path, rv=np.random.default_rng(0).uniform(-400, 400, ROWS))
    store = made(tmp_path, path)
    assert store.n_shards == 3
    whole = prepare([get_survey("table").read(path, ReadOptions())], store.grid, store.preparation)
    np.testing.assert_array_equal(store.read("id"), BIG_ID + np.arange(ROWS))
    np.testing.assert_allclose(store.read("flux"), whole.flux, rtol=2e-7)
    np.testing.assert_allclose(store.read("ivar"), whole.ivar, rtol=2e-7)


# -- resuming ------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, shards: int, error: BaseException) -> list[int]:
    """Let so many shards be written, then raise; gives the list of the shards that were made."""
    tried: list[int] = []
    write = SpectraStore.write_shard

    def limited(store: SpectraStore, shard: int, *args: Any) -> None:
        if len(tried) == shards:
            raise error
        tried.append(shard)
        write(store, shard, *args)

    monkeypatch.setattr(SpectraStore, "write_shard", limited)
    return tried


@pytest.mark.parametrize("shards", [0, 1, 2])
def test_running_again_finishes_and_repeats_nothing(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = big_table(tmp_path)
    whole = made(tmp_path, path, out=tmp_path / "whole.zarr")
    with monkeypatch.context() as patch:
        stop_after(patch, shards, Stop())
        with pytest.raises(Stop):
            ingest(options(tmp_path, path))
    with pytest.raises(StoreError, match=rf"not finished \({shards} of 3 shards\)"):
        SpectraStore.open(tmp_path / "out.zarr")
    again: list[int] = []
    make = Plan.make

    def counted(plan: Plan, rows: slice) -> Any:
        again.append(rows.start // 256)
        return make(plan, rows)

    monkeypatch.setattr(Plan, "make", counted)
    assert_same_store(made(tmp_path, path), whole)
    assert again == list(range(shards, 3))


def test_a_finished_store_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = big_table(tmp_path)
    before = made(tmp_path, path).fingerprint
    stop_after(monkeypatch, 0, AssertionError("a shard was written"))
    assert made(tmp_path, path).fingerprint == before
    assert "out.zarr' is finished already: 600 rows." in capsys.readouterr().err


SLOW_WRITER = """
import sys, time
from stores.spectra import SpectraStore
write = SpectraStore.write_shard
def slow(store, shard, *args):
    write(store, shard, *args)
    print(shard, flush=True)
    time.sleep(30 if shard else 0)
SpectraStore.write_shard = slow
from stores.ingest import main
main()
"""


def test_a_killed_run_is_finished_by_the_next(tmp_path: Path) -> None:
    path = big_table(tmp_path)
    whole = made(tmp_path, path, out=tmp_path / "whole.zarr")
    words = [str(path), "--survey", "table", "--out", str(tmp_path / "out.zarr"), "--grid", GRID]
    run = subprocess.Popen([sys.executable, "-c", SLOW_WRITER, *words], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run.stdout:
        assert [run.stdout.readline().strip() for _ in range(2)] == ["0", "1"]
        run.send_signal(signal.SIGKILL)
        run.wait()
    store = SpectraStore.open(tmp_path / "out.zarr", unfinished=True)
    assert list(store.finished_shards()) == [0, 1]
    assert_same_store(made(tmp_path, path), whole)


def test_a_shard_whose_marker_is_missing_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = big_table(tmp_path)
    whole = made(tmp_path, path, out=tmp_path / "whole.zarr")
    with monkeypatch.context() as patch:
        # as if killed between the data and their marker
        stop_after(patch, 1, Stop())
        with pytest.raises(Stop):
            ingest(options(tmp_path, path))
    store = SpectraStore.open(tmp_path / "out.zarr", unfinished=True)
    store.array("flux")[256:512] = 7.0
    assert_same_store(made(tmp_path, path), whole)


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    path = big_table(tmp_path)
    words = [str(path), "--survey", "table", "--out", str(tmp_path / "out.zarr"), "--grid", GRID]
    run = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None
    assert [run.stdout.readline().strip() for _ in range(2)] == ["0", "1"]
    time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "interrupted; run the same command again to go on." in said
    assert "Traceback" not in said


# -- workers -------------------------------------------------------------------------------------------------


def test_the_number_of_workers_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = big_table(tmp_path, rv=np.linspace(-300, 300, ROWS))
    rv = tmp_path / "rv.csv"
    Table({"id": BIG_ID + np.arange(0, ROWS, 7), "rv": np.arange(0.0, ROWS, 7)}).write(rv)
    one = made(tmp_path, path, rv=rv, out=tmp_path / "one.zarr")
    with monkeypatch.context() as patch:
        stop_after(patch, 1, Stop())
        with pytest.raises(Stop):
            ingest(options(tmp_path, path, rv=rv))
    # processes of their own, which finish what one has begun
    assert_same_store(made(tmp_path, path, rv=rv, workers=2), one)


def test_shards_do_not_depend_on_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 6000  # where a share for each worker would be another number of rows
    path = write_table(tmp_path / "many.fits", n=n, n_pix=4, wavelength=[4000, 4050, 4100, 4150])

    def stop(*_: Any) -> None:
        raise Stop

    monkeypatch.setattr("stores.ingest.in_processes", stop)
    shard_rows = []
    for workers in (1, 2, 8):
        chosen = options(tmp_path, path, out=tmp_path / f"{workers}.zarr", workers=workers)
        with pytest.raises(Stop):
            ingest(chosen)
        shard_rows.append(SpectraStore.open(chosen.out, unfinished=True).shard_rows)
    assert len(set(shard_rows)) == 1


def test_a_worker_that_is_killed_is_one_sentence() -> None:
    with pytest.raises(SpectraBridgeError, match=r"a worker process was killed.*with fewer --workers\."):
        list(in_processes(os._exit, [(1,), (1,)], 2))


# -- other jobs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"grid": "3.602:3.62:0.0002"}, "grid: '3.602:3.63:0.0002' there, '3.602:3.62:0.0002' here"),
        ({"preparation": Preparation(frame="observed")}, r"preprocessing differs"),
        ({"limit": 3}, "rows: 5 there, 3 here"),
        ({"medium": "air"}, "medium: None there, 'air' here"),
        ({"at_rest": True}, "at_rest: False there, True here"),
    ],
)
def test_another_job_is_refused(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.fits", n_pix=300)
    chosen = options(tmp_path, path)
    ingest(chosen)
    with pytest.raises(StoreError, match=rf"belongs to another job.*{sentence}.*choose another --out"):
        ingest(replace(chosen, **change))


def test_other_files_are_another_job(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.fits", n_pix=300)
    second = write_table(tmp_path / "b.fits", n_pix=300, ids=np.arange(5))
    made(tmp_path, first)
    with pytest.raises(StoreError, match=r"another job .content: "):
        ingest(options(tmp_path, second))
    Table({"id": [1], "rv": [2.0]}).write(tmp_path / "rv.csv")
    with pytest.raises(StoreError, match=r"another job .velocities: None there"):
        ingest(options(tmp_path, first, rv=tmp_path / "rv.csv"))


# -- files that cannot be used -------------------------------------------------------------------------------


def lamost_files(tmp_path: Path, n: int = 4, **more: Any) -> list[Path]:
    folder = tmp_path / "lamost"
    folder.mkdir(exist_ok=True)
    return [write_lamost(folder / f"spec-{i}.fits", obsid=BIG_ID + i, seed=i, n_pix=700, **more) for i in range(n)]


def test_one_bad_file_among_many_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = lamost_files(tmp_path)
    good = made(tmp_path, files[0], files[2], files[3], survey="lamost", out=tmp_path / "good.zarr")
    files[1].write_text("this is no spectrum")
    missing = tmp_path / "missing.fits"
    store = made(tmp_path, *files, missing, survey="lamost", status=3)
    assert_equal_but_job(store, good)
    failed = store.attributes["failed"]
    assert [entry["file"] for entry in failed] == [str(files[1]), str(missing)]
    assert "is not a FITS file" in failed[0]["reason"]
    assert "does not exist" in failed[1]["reason"]
    said = capsys.readouterr().err
    assert f"not usable: '{files[1]}' is not a FITS file." in said
    # and so it is when the finished store is asked for again
    made(tmp_path, *files, missing, survey="lamost", status=3)


def assert_equal_but_job(one: SpectraStore, other: SpectraStore) -> None:
    for name in one.columns:
        np.testing.assert_array_equal(one.read(name), other.read(name), err_msg=name)


def test_a_file_whose_data_are_cut_off_keeps_its_row(tmp_path: Path) -> None:
    files = lamost_files(tmp_path)
    good = made(tmp_path, *files, survey="lamost", out=tmp_path / "good.zarr")
    truncate(files[1], 9000)
    store = made(tmp_path, *files, survey="lamost", status=3)
    assert len(store) == 4
    np.testing.assert_array_equal(store.read("id"), BIG_ID + np.arange(4))
    flags = store.read("flags")
    assert flags[1] & Flag.UNREADABLE
    assert flags[1] & Flag.NO_VALID_PIXELS
    assert not np.any(flags[[0, 2, 3]] & Flag.UNREADABLE)
    assert not store.read("ivar")[1].any()
    np.testing.assert_array_equal(store.read("flux")[1], 1.0)
    for row in (0, 2, 3):
        np.testing.assert_array_equal(store.read("flux")[row], good.read("flux")[row])
    [entry] = store.attributes["failed"]
    assert entry["file"] == str(files[1])
    assert "truncated" in entry["reason"]
    assert not [fault for _, faults in store.verify() for fault in faults]


def test_a_file_that_changes_after_the_plan_is_not_trusted(tmp_path: Path) -> None:
    files = lamost_files(tmp_path)
    chosen = options(tmp_path, *files, survey="lamost")
    plan = chosen.plan(chosen.files, Grid.parse(GRID), Preparation())
    write_lamost(files[2], obsid=5, n_pix=700)
    columns, record = plan.make(slice(0, 4))
    np.testing.assert_array_equal(columns["id"], BIG_ID + np.arange(4))
    np.testing.assert_array_equal((columns["flags"] & Flag.UNREADABLE) != 0, [False, False, True, False])
    assert "changed while it was read; run the command again" in record["failed"][0]["reason"]


def test_nothing_usable_is_refused(tmp_path: Path) -> None:
    for name in ("a.fits", "b.fits"):
        (tmp_path / name).write_text("no")
    with pytest.raises(InputError, match=r"none of 2 files can be used; the first: '.*a\.fits' is not a FITS"):
        ingest(options(tmp_path, tmp_path / "a.fits", tmp_path / "b.fits", survey="lamost"))
    assert not (tmp_path / "out.zarr").exists()


def test_spectra_off_the_grid_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.fits", wavelength=8000.0 + np.arange(50))
    with pytest.raises(InputError, match="not one spectrum has a usable pixel on the grid"):
        ingest(options(tmp_path, path))


def test_mistakes_in_the_call_are_one_sentence(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.fits")
    for change, sentence in (
        ({"survey": "gaia"}, "survey 'gaia' is unknown; known ones are desi, fits1d, lamost, sdss"),
        ({"survey": None}, "files need a reader: add --survey"),
        ({"limit": 0}, "--limit 0 must be 1 or more"),
        ({"workers": 0}, "--workers 0 must be 1 or more"),
        ({"grid": "x"}, "grid 'x' is neither"),
        ({"files": ()}, "no files were given"),
        ({"files": ("@nowhere.txt",)}, "'nowhere.txt', named as a list of files, does not exist"),
    ):
        with pytest.raises(OptionError, match=sentence):
            ingest(replace(options(tmp_path, path), **change))
    with pytest.raises(InputError, match=r"'.*nowhere\.csv' does not exist; check the path"):
        ingest(options(tmp_path, path, rv=tmp_path / "nowhere.csv"))
    assert not (tmp_path / "out.zarr").exists()


# -- which files and rows ------------------------------------------------------------------------------------


def test_duplicates_are_flagged_and_the_first_is_found(tmp_path: Path) -> None:
    files = lamost_files(tmp_path, 3)
    copy = write_lamost(tmp_path / "again.fits", obsid=BIG_ID + 1, seed=9, n_pix=700)
    store = made(tmp_path, *files, copy, survey="lamost")
    np.testing.assert_array_equal((store.read("flags") & Flag.DUPLICATE_ID) != 0, [False, False, False, True])
    np.testing.assert_array_equal(store.find(np.array([BIG_ID + 1, BIG_ID + 2, BIG_ID + 3])), [1, 2, -1])


def test_duplicates_are_found_across_shards(tmp_path: Path) -> None:
    wavelength = 3950.0 + 2.0 * np.arange(180)
    ids = BIG_ID + np.arange(ROWS)
    ids[[300, 599]] = BIG_ID + 7
    path = write_table(tmp_path / "a.fits", n=ROWS, n_pix=180, ids=ids, wavelength=wavelength)
    store = made(tmp_path, path)
    assert store.n_shards == 3
    np.testing.assert_array_equal(np.flatnonzero(store.read("flags") & Flag.DUPLICATE_ID), [300, 599])


@pytest.mark.parametrize("limit", [1, 4, 5, 6, 300, 10**6])
def test_limit_takes_the_first_rows(limit: int, tmp_path: Path) -> None:
    small = write_table(tmp_path / "a.fits", n_pix=180, wavelength=3950.0 + 2.0 * np.arange(180))
    big = big_table(tmp_path)
    store = made(tmp_path, small, big, limit=limit)
    expected = np.concatenate([100 + np.arange(5), BIG_ID + np.arange(ROWS)])[:limit]
    np.testing.assert_array_equal(store.read("id"), expected)


def test_folders_and_lists_stand_for_their_files(tmp_path: Path) -> None:
    files = lamost_files(tmp_path)
    deeper = tmp_path / "lamost" / "x"
    deeper.mkdir()
    files[1] = files[1].rename(deeper / files[1].name)
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(map(str, [files[3], "", files[0]])) + "\n\n")
    (deeper / "labels.csv").write_text("not a spectrum")
    assert list(expand_files([str(tmp_path / "lamost")], FITS_FILES)) == sorted(files)
    assert list(expand_files([f"@{listing}", str(files[2])], FITS_FILES)) == [files[3], files[0], files[2]]
    with pytest.raises(OptionError, match=r"holds no file named coadd-\*\.fits or "):
        list(expand_files([str(deeper)], get_survey("desi").files))
    by_list = made(tmp_path, f"@{listing}", survey="lamost", out=tmp_path / "list.zarr")
    np.testing.assert_array_equal(by_list.read("id"), [BIG_ID + 3, BIG_ID])
    by_folder = made(tmp_path, tmp_path / "lamost", survey="lamost")
    assert sorted(by_folder.read("id")) == [BIG_ID, BIG_ID + 1, BIG_ID + 2, BIG_ID + 3]


# -- velocities ----------------------------------------------------------------------------------------------


def test_velocities_are_joined_by_id(tmp_path: Path) -> None:
    own = np.array([1.0, np.nan, 3.0, 9999.0, 9999.0])
    path = write_table(tmp_path / "a.fits", n_pix=300, ids=BIG_ID + np.arange(5), columns={"rv": own})
    without = made(tmp_path, path, out=tmp_path / "without.zarr")
    np.testing.assert_array_equal(without.read("rv"), [1, 0, 3, 0, 0])
    expected = [0, Flag.RV_MISSING, 0, Flag.RV_ABSURD, Flag.RV_ABSURD]
    np.testing.assert_array_equal(without.read("flags") & (Flag.RV_MISSING | Flag.RV_ABSURD), expected)

    # shuffled; row 0 keeps its own velocity, row 1 has none anywhere, row 4 keeps its absurd one
    catalogue = tmp_path / "rv.csv"
    ids = [BIG_ID + 3, BIG_ID + 1, 17, BIG_ID + 2]
    Table({"id": ids, "rv": [-50.0, np.nan, 70.0, 5000.0]}).write(catalogue)
    store = made(tmp_path, path, rv=catalogue)
    np.testing.assert_array_equal(store.read("rv"), [1, 0, 0, -50, 0])
    expected = [0, Flag.RV_MISSING, Flag.RV_ABSURD, 0, Flag.RV_ABSURD]
    np.testing.assert_array_equal(store.read("flags") & (Flag.RV_MISSING | Flag.RV_ABSURD), expected)

    # the spectra were shifted by it, not only labelled
    batch = get_survey("table").read(path, ReadOptions())
    batch.set_rv(np.array([1.0, np.nan, 5000.0, -50.0, 9999.0]))
    values = prepare([batch], store.grid, store.preparation)
    np.testing.assert_array_equal(store.read("flux"), values.flux.astype(np.float32))
    assert np.any(store.read("flux")[3] != without.read("flux")[3])


def test_velocities_do_not_go_by_position(tmp_path: Path) -> None:
    files = lamost_files(tmp_path, 5)
    files[1].unlink()
    files[3].write_text("broken")
    Table({"id": BIG_ID + np.array([4, 3, 2, 1, 0]), "rv": [40.0, 30, 20, 10, 1]}).write(tmp_path / "rv.csv")
    store = made(tmp_path, *files, survey="lamost", rv=tmp_path / "rv.csv", status=3)
    np.testing.assert_array_equal(store.read("id") - BIG_ID, [0, 2, 4])
    np.testing.assert_array_equal(store.read("rv"), [1, 20, 40])


# -- a full disk ---------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_sentence_and_can_be_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = big_table(tmp_path)
    whole = made(tmp_path, path, out=tmp_path / "whole.zarr")
    words = [str(path), "--survey", "table", "--out", str(tmp_path / "out.zarr"), "--grid", GRID]
    monkeypatch.setattr(sys, "argv", ["stores-ingest", *words])
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "out.zarr/flux/c/1/0"))
    with monkeypatch.context() as patch:
        stop_after(patch, 1, full)
        with pytest.raises(SystemExit) as left:
            run_command(IngestOptions, ingest, "stores-ingest")
    assert left.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stores-ingest: no space left on device ('")
    assert said.endswith("; mend that and run the same command again to go on.")
    with pytest.raises(SystemExit) as left:
        run_command(IngestOptions, ingest, "stores-ingest")
    assert left.value.code == 0
    assert_same_store(SpectraStore.open(tmp_path / "out.zarr"), whole)


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_ends_with_a_status_that_means_something(tmp_path: Path) -> None:
    files = lamost_files(tmp_path, 3)
    words: list[str | Path] = ["--survey", "lamost", "--out", tmp_path / "out.zarr", "--grid", GRID]
    done = command(*files, *words)
    assert (done.returncode, done.stdout) == (0, "")
    assert "out.zarr': 3 spectra in 1 shard." in done.stderr
    refused = command(*files[:2], *words)
    assert refused.returncode == 2
    assert refused.stderr.startswith("stores-ingest: '")
    assert "belongs to another job" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_partly_usable_input_is_status_3(tmp_path: Path) -> None:
    files = lamost_files(tmp_path, 3)
    truncate(files[2], 9000)
    done = command(*files, "--survey", "lamost", "--out", tmp_path / "out.zarr", "--grid", GRID, "--workers", "2")
    assert done.returncode == 3
    assert "UNREADABLE 1" in done.stderr
    assert "not usable: '" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_nothing_heavy() -> None:
    script = """
import sys
sys.argv = ["stores-ingest", "--help"]
from stores.ingest import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = [name for name in ("torch", "zarr", "astropy", "scipy", "pyarrow", "faiss") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in ("--survey", "--grid", "--rv", "--continuum", "--resolving-power", "--workers", "@LIST"):
        assert word in done.stdout
