"""The list of a job's files: order, resuming, duplicates over any number of passes, failed files."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from files import BIG_ID, write_lamost, write_table
from ingest_made import made, options

from stores import listing as module
from stores.errors import InputError, OptionError, StoreError
from stores.ingest import ingest
from stores.listing import Listing, Source, repeated_ids
from stores.surveys import Survey, get_survey


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were opened for their ids."""
    names: list[str] = []
    survey = get_survey("table")

    def ids(path: Path) -> np.ndarray:
        names.append(path.name)
        return survey.ids(path)

    counted = Survey("table", survey.read, ids, survey.files)
    monkeypatch.setattr(module, "get_survey", lambda name: counted)
    return names


def tables(folder: Path, *sizes: int) -> list[Path]:
    """Tables of so many rows, whose ids count on from BIG_ID."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    return [
        write_table(folder / f"t{i}.fits", n=n, n_pix=8, ids=BIG_ID + start + np.arange(n))
        for i, (n, start) in enumerate(zip(sizes, first, strict=False))
    ]


def listed(path: Path | None, files: list[Path], **more: int | None) -> Listing:
    listing = Listing(path)
    listing.look(files, "table", **more)
    return listing


def test_rows_are_where_the_files_are(tmp_path: Path) -> None:
    files = tables(tmp_path, 3, 1, 5)
    listing = listed(None, files)
    assert listing.totals[:2] == (3, 9)
    sizes = [path.stat().st_size for path in files]
    whole = [Source(files[0], 0, 3, sizes[0]), Source(files[1], 3, 1, sizes[1]), Source(files[2], 4, 5, sizes[2])]
    assert listing.sources(slice(0, 9)) == whole
    for start in range(9):
        for stop in range(start + 1, 10):
            np.testing.assert_array_equal(listing.ids(slice(start, stop)), BIG_ID + np.arange(start, stop))
            overlapping = [one for one in whole if one.start < stop and one.start + one.count > start]
            assert listing.sources(slice(start, stop)) == overlapping


@pytest.mark.parametrize("at_once", [1, 3, 10**6])
def test_repeated_ids_are_found_in_any_number_of_passes(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDS_AT_ONCE", at_once)
    ids = np.array([5, -7, 5, 9, -7, 5, 0, BIG_ID, 9, BIG_ID + 1])
    files = [
        write_table(tmp_path / f"{i}.fits", n=len(part), n_pix=8, ids=part)
        for i, part in enumerate(np.split(ids, [4, 5]))
    ]
    listing = listed(None, files)
    expected = [False, False, True, False, True, True, False, False, True, False]
    np.testing.assert_array_equal(listing.repeated(slice(0, 10)), expected)
    np.testing.assert_array_equal(listing.repeated(slice(3, 7)), expected[3:7])
    np.testing.assert_array_equal(repeated_ids(ids), expected)


def test_files_that_are_listed_and_unchanged_are_not_opened_again(tmp_path: Path, looked: list[str]) -> None:
    files = tables(tmp_path, 3, 1, 5)
    path = tmp_path / "x.files"
    first = listed(path, files).totals
    assert looked == ["t0.fits", "t1.fits", "t2.fits"]
    looked.clear()
    assert listed(path, files).totals == first
    assert looked == []
    write_table(files[1], n=2, n_pix=8, ids=[1, BIG_ID])
    again = listed(path, files)
    assert looked == ["t1.fits"]
    np.testing.assert_array_equal(
        again.ids(slice(0, 10)), [*BIG_ID + np.arange(3), 1, BIG_ID, *BIG_ID + np.arange(4, 9)]
    )
    np.testing.assert_array_equal(np.flatnonzero(again.repeated(slice(0, 10))), [4])
    assert again.totals[2] != first[2]
    # the list is that of the files given, in their order, whatever it held before
    shorter = listed(path, files[::2][::-1])
    np.testing.assert_array_equal(shorter.ids(slice(0, 8)), BIG_ID + np.array([4, 5, 6, 7, 8, 0, 1, 2]))
    assert shorter.totals[:2] == (2, 8)
    assert not shorter.repeated(slice(0, 8)).any()


def test_a_look_that_was_interrupted_goes_on(
    tmp_path: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tables(tmp_path, *[1] * 6)
    monkeypatch.setattr(module, "FILES_AT_ONCE", 1)

    def interrupted() -> Iterator[Path]:
        yield from files[:4]
        raise KeyboardInterrupt

    listing = Listing(tmp_path / "x.files")
    with pytest.raises(KeyboardInterrupt):
        listing.look(interrupted(), "table")
    looked.clear()
    whole = listed(tmp_path / "x.files", files)
    assert looked == ["t4.fits", "t5.fits"]
    np.testing.assert_array_equal(whole.ids(slice(0, 6)), BIG_ID + np.arange(6))


def test_a_limit_can_be_lifted_again(tmp_path: Path) -> None:
    files = tables(tmp_path, 3, 4, 2)
    path = tmp_path / "x.files"
    few = listed(path, files, limit=5)
    assert few.totals[:2] == (2, 5)
    np.testing.assert_array_equal(few.ids(slice(0, 5)), BIG_ID + np.arange(5))
    assert listed(path, files).totals == listed(None, files).totals


def test_workers_give_the_same_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write_lamost(tmp_path / f"{i}.fits", obsid=BIG_ID + i, n_pix=60) for i in range(5)]
    files[3].write_text("no")
    monkeypatch.setattr(module, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(module, "FILES_ALONE", 2)
    one, two = Listing(), Listing()
    one.look(files, "lamost")
    two.look(files, "lamost", workers=2)
    assert one.totals == two.totals
    assert one.totals[:2] == (5, 4)
    assert list(one.failed()) == list(two.failed())
    assert [Path(entry["file"]).name for entry in one.failed()] == ["3.fits"]


def test_a_failed_file_is_looked_at_again(tmp_path: Path, looked: list[str]) -> None:
    files = tables(tmp_path, 2, 2)
    good = files[1].read_bytes()
    files[1].write_text("no")
    path = tmp_path / "x.files"
    assert listed(path, files).totals[:2] == (2, 2)
    files[1].write_bytes(good)
    looked.clear()
    mended = listed(path, files)
    assert looked == ["t1.fits"]
    assert not list(mended.failed())
    assert mended.totals == listed(None, files).totals


def test_it_is_kept_while_the_store_is_unfinished_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tables(tmp_path, 3, 4)
    with monkeypatch.context() as patch:
        patch.setattr("stores.ingest.in_processes", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ingest(options(tmp_path, *files))
    [kept] = tmp_path.glob("out.zarr.files-*")
    # another job at the same place neither touches it nor leaves one of its own
    before = kept.read_bytes()
    with pytest.raises(StoreError, match="belongs to another job"):
        ingest(options(tmp_path, files[0]))
    assert [path.read_bytes() for path in tmp_path.glob("out.zarr.files-*")] == [before]
    with pytest.raises(StoreError, match="belongs to another job"):
        ingest(options(tmp_path, *files, grid="3.602:3.62:0.0002"))
    assert list(tmp_path.glob("out.zarr.files-*")) == [kept]
    kept.with_name("out.zarr.files-otherwise").write_bytes(before)  # of a call that named the same files otherwise
    made(tmp_path, *files)
    made(tmp_path, *files)  # finished already
    assert not list(tmp_path.glob("out.zarr.files-*"))


def test_what_is_no_list_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.files").write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(StoreError, match=r"list of files '.*x\.files' cannot be opened \(.*\); delete it\."):
        Listing(tmp_path / "x.files")
    with pytest.raises(StoreError, match="is not there; all processes need a folder that they share"):
        Listing.open(tmp_path / "y.files")
    with pytest.raises(OptionError, match="no files were given"):
        Listing().look([], "table")
    with pytest.raises(InputError, match=r"none of 1 files can be used; the first: '.*x\.files'"):
        Listing().look([tmp_path / "x.files"], "table")
    assert not (tmp_path / "y.files").exists()


def test_two_runs_at_once_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tables(tmp_path, 1)
    connect = sqlite3.connect
    monkeypatch.setattr(module.sqlite3, "connect", lambda *args, **more: connect(*args, **{"timeout": 0.1, **more}))
    path = tmp_path / "x.files"
    mine, other = Listing(path), connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"locked.*if no other run of this job is at work, delete it"):
        mine.look(files, "table")
    other.rollback()
    other.close()
    mine.look(files, "table")
    assert mine.totals[:2] == (1, 1)
    other = connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"cannot be read \(.*locked.*\); if another run of this job is at work"):
        mine.ids(slice(0, 1))
    other.rollback()
    other.close()


def test_another_process_reads_what_one_has_listed(tmp_path: Path) -> None:
    files = tables(tmp_path, 3, 4)
    first = listed(tmp_path / "x?.files#1", files)  # signs that mean something in a URI
    other = Listing.open(tmp_path / "x?.files#1")
    assert other.totals == first.totals
    np.testing.assert_array_equal(other.ids(slice(1, 6)), BIG_ID + np.arange(1, 6))


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [file] = tables(tmp_path, 1)
    survey = get_survey("table")
    numbers = count(BIG_ID)
    cheap = Survey("table", survey.read, lambda path: np.array([next(numbers)]), survey.files)
    monkeypatch.setattr(module, "get_survey", lambda name: cheap)
    monkeypatch.setattr(module, "IDS_AT_ONCE", 500)
    peak = {}
    for n in (1_000, 6_000):
        listing = Listing(tmp_path / f"{n}.files")
        tracemalloc.start()
        listing.look((file for _ in range(n)), "table")
        peak[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert listing.totals[:2] == (n, n)
    assert peak[6_000] < peak[1_000] + 5_000 * 20, peak  # a path alone would be 200 bytes
