"""Ingestion: files -> a store with the values that `prepare` gives, however often it is interrupted."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from files import BIG_ID, write_desi_coadd, write_fits1d, write_lamost, write_sdss, write_table
from ingest_made import GRID, ROWS, assert_same_store, big_table, made, options, stop_after

from stores import Grid, Preparation, SpectraStore, prepare
from stores.errors import StoreError
from stores.ingest import ingest
from stores.spectra import spectra_values
from stores.surveys import ReadOptions, get_survey
from stores.task import Task

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
    sources = list(store.sources())
    assert store.attributes["sources"] == {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
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
    make = Task.make

    def counted(task: Task) -> Any:
        again.append(task.start // 256)
        return make(task)

    monkeypatch.setattr(Task, "make", counted)
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


@pytest.mark.parametrize("name", ["shards/00001/zarr.json", "shards/00001", "flux/c/2/0"])
def test_a_finished_store_that_lost_a_file_is_not_called_finished(name: str, tmp_path: Path) -> None:
    path = big_table(tmp_path)
    lost = made(tmp_path, path).path / name
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    sentence = r"'.*out\.zarr' is damaged: (shards/00001/zarr\.json is missing; copy|flux/c/2/0 is missing; run)"
    with pytest.raises(StoreError, match=sentence) as raised:
        ingest(options(tmp_path, path))
    assert raised.value.exit_status == 2
    assert not list(tmp_path.glob("*.files-*"))


SLOW_WRITER = """
import signal, sys, time
from stores.spectra import SpectraStore
write = SpectraStore.write_shard
def slow(store, shard, *args):
    write(store, shard, *args)
    print(shard, flush=True)
    time.sleep(300 if shard else 0)
SpectraStore.write_shard = slow
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where tests run in the background
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
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        assert [run.stdout.readline().strip() for _ in range(2)] == ["0", "1"]
        run.send_signal(signal.SIGINT)
        _, said = run.communicate()
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

    def stop(*_: Any, **__: Any) -> None:
        raise Stop

    monkeypatch.setattr("stores.ingest.in_processes", stop)
    shard_rows = []
    for workers in (1, 2, 8):
        chosen = options(tmp_path, path, out=tmp_path / f"{workers}.zarr", workers=workers)
        with pytest.raises(Stop):
            ingest(chosen)
        shard_rows.append(SpectraStore.open(chosen.out, unfinished=True).shard_rows)
    assert len(set(shard_rows)) == 1


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
    Table({"id": [100], "rv": [2.0]}).write(tmp_path / "rv.csv")
    with pytest.raises(StoreError, match=r"another job .velocities: None there"):
        ingest(options(tmp_path, first, rv=tmp_path / "rv.csv"))


# -- files that cannot be used -------------------------------------------------------------------------------
