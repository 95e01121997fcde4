"""stores-ingest with input as it comes: bad files, folders and lists, duplicates, velocities, a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from files import BIG_ID, truncate, write_desi_coadd, write_fits1d, write_lamost, write_table
from ingest_made import GRID, ROWS, assert_same_store, big_table, command, made, options, stop_after

from stores import Flag, Grid, Preparation, SpectraStore, prepare
from stores.command import run_command
from stores.errors import InputError, OptionError
from stores.ingest import IngestOptions, ingest
from stores.plan import expand_files, make_plan
from stores.surveys import FITS_FILES, ReadOptions, get_survey
from stores.velocities import Velocities


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
    plan = chosen.plan(chosen.files, Grid.parse(GRID), Preparation(), chosen.out)
    write_lamost(files[2], obsid=5, n_pix=700)
    columns, record = plan.make()
    np.testing.assert_array_equal(columns["id"], BIG_ID + np.arange(4))
    np.testing.assert_array_equal((columns["flags"] & Flag.UNREADABLE) != 0, [False, False, True, False])
    assert "changed while it was read; write it into another store" in record["failed"][0]["reason"]


def test_nothing_usable_is_refused(tmp_path: Path) -> None:
    for name in ("a.fits", "b.fits"):
        (tmp_path / name).write_text("no")
    with pytest.raises(InputError, match=r"none of 2 files can be used; the first: '.*a\.fits' is not a FITS"):
        ingest(options(tmp_path, tmp_path / "a.fits", tmp_path / "b.fits", survey="lamost"))
    assert not (tmp_path / "out.zarr").exists()


def test_one_spectrum_is_told_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, *lamost_files(tmp_path, 1), survey="lamost")
    assert "out.zarr': 1 spectrum in 1 shard." in capsys.readouterr().err


def write_off_the_grid(folder: Path) -> list[Path]:
    return [write_table(folder / "a.fits", wavelength=8000.0 + np.arange(50))]


def write_cut_off(folder: Path) -> list[Path]:
    files = lamost_files(folder, 7)
    for file in files:
        truncate(file, 9000)
    return files


def write_mixed(folder: Path) -> list[Path]:
    files = write_cut_off(folder)
    write_lamost(files[0], ivar=0.0, obsid=BIG_ID, n_pix=700)
    return files


@pytest.mark.parametrize("write", [write_off_the_grid, write_mixed])
def test_without_a_usable_spectrum_no_store_is_left(
    write: Callable[[Path], list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    files = write(tmp_path / "in")
    chosen = options(tmp_path, *files, survey="lamost" if len(files) > 1 else "table")
    for _ in range(2):  # the next call fails alike
        with pytest.raises(InputError, match=r"out\.zarr' is not written: not one spectrum has a usable") as caught:
            ingest(chosen)
        assert caught.value.exit_status == 2
        assert [path.name for path in tmp_path.iterdir()] == ["in"]
    said = capsys.readouterr().err
    assert f"NO_VALID_PIXELS {7 if len(files) > 1 else 5}, " in said
    if len(files) > 1:
        assert said.count("not usable: ") == 10
        assert "and 1 more.\n" in said


def test_files_that_all_lack_the_same_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    files = [write_fits1d(tmp_path / "in" / f"star-{i}.fits", n_pix=700, seed=i) for i in range(1, 8)]
    with pytest.raises(InputError) as caught:
        ingest(options(tmp_path, *files, survey="fits1d"))
    assert str(caught.value) == (
        f"none of 7 files can be used; the first: '{files[0]}' does not say whether its wavelengths are in air or in "
        "vacuum; add `--medium air` or `--medium vacuum`."
    )
    assert caught.value.exit_status == 2
    assert "star-" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    made(tmp_path, *files, survey="fits1d", medium="air")


def test_killed_while_it_removes_a_useless_store_it_blocks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()

    def killed(folder: Path, **more: Any) -> None:
        if (lost := folder / "zarr.json").exists():
            lost.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stores.atomic.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(options(tmp_path, *write_off_the_grid(tmp_path / "in")))
    assert not (tmp_path / "out.zarr").exists()
    assert len(made(tmp_path, big_table(tmp_path / "in"))) == ROWS


def test_a_finished_store_without_a_usable_spectrum_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(tmp_path, *write_off_the_grid(tmp_path))
    with monkeypatch.context() as patch:  # as they were finished once
        patch.setattr("stores.ingest.finish", SpectraStore.finish)
        with pytest.raises(InputError, match="delete it, and check the files"):
            ingest(chosen)
    with pytest.raises(InputError, match=r"out\.zarr' has not one spectrum with a usable pixel"):
        ingest(chosen)
    assert (tmp_path / "out.zarr").exists()


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
        ({"out": Path()}, "--out '.' names no store; give it a name of its own"),
    ):
        with pytest.raises(OptionError, match=sentence):
            ingest(replace(options(tmp_path, path), **change))
    for survey in ("lamost", "desi", "sdss"):
        with pytest.raises(OptionError, match=f"wavelengths of {survey} files are in vacuum; leave --medium air out"):
            ingest(options(tmp_path, path, survey=survey, medium="air"))
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


def test_at_rest_passes_over_the_velocities_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [*lamost_files(tmp_path, 2, z=1e-3), write_lamost(tmp_path / "none.fits", obsid=7, n_pix=700, z=-9999.0)]
    said = "note: --at-rest: the velocities that lamost files come with are not applied."
    shifted = made(tmp_path, *files, survey="lamost", medium="vacuum")
    assert said not in capsys.readouterr().err
    at_rest = made(tmp_path, *files, survey="lamost", at_rest=True, out=tmp_path / "rest.zarr")
    assert said in capsys.readouterr().err
    np.testing.assert_allclose(shifted.read("rv"), [299.792458, 299.792458, 0.0])
    np.testing.assert_array_equal(at_rest.read("rv"), 0.0)
    assert shifted.read("flags")[2] & Flag.RV_MISSING
    assert not np.any(at_rest.read("flags") & np.uint32(Flag.RV_MISSING))
    assert not np.allclose(shifted.read("flux")[:2], at_rest.read("flux")[:2])
    made(tmp_path, write_table(tmp_path / "t.fits"), at_rest=True, out=tmp_path / "table.zarr")
    assert "--at-rest" not in capsys.readouterr().err


def test_velocities_that_are_warned_of_leave_the_files_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file's own is redrock's, which the second spectrum lacks."""
    coadd = write_desi_coadd(tmp_path / "coadd-x.fits", ids=BIG_ID + np.arange(3), z=[1e-4, np.nan, 3e-4])
    warn = {"TARGETID": BIG_ID + np.arange(3), "VRAD": [1449.0, -1200.0, 88.0], "RVS_WARN": [2, 1, 0]}
    fits.BinTableHDU(Table(warn), name="RVTAB").writeto(tmp_path / "mwsall.fits")
    store = made(tmp_path, coadd, survey="desi", rv=tmp_path / "mwsall.fits")
    np.testing.assert_allclose(store.read("rv"), [29.9792458, 0, 88], rtol=1e-6)
    expected = [Flag.SURVEY_WARNING, Flag.SURVEY_WARNING | Flag.RV_MISSING, 0]
    np.testing.assert_array_equal(store.read("flags") & (Flag.SURVEY_WARNING | Flag.RV_MISSING), expected)
    said = capsys.readouterr().err
    assert said.count("are passed over") == 1
    assert "velocities for 1 of 3 spectra come from" in said
    assert "2 of 3 velocities" in said


def test_velocities_of_other_spectra_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.fits", n_pix=300, ids=BIG_ID + np.arange(5))
    rv = tmp_path / "rv.csv"
    Table({"id": [1, 2], "rv": [1.0, 2.0]}).write(rv)
    sentence = rf"none of the 5 spectra is in '.*rv\.csv'.*such as {BIG_ID},.*such as 1;"
    with pytest.raises(InputError, match=sentence):
        ingest(options(tmp_path, path, rv=rv))
    with pytest.raises(InputError, match=sentence):
        make_plan("table", [path], Grid.parse(GRID), Preparation(), velocities=Velocities.read(rv))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.fits", "rv.csv"]


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
