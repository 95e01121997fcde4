"""Stores: written by whole shards, resumed, joined by id."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from stores_made import (
    BIG_ID,
    GRID,
    PREPARATION,
    create_spectra,
    make_batch,
    make_embeddings,
    make_ids,
    make_spectra,
    make_vectors,
    write_spectra_shard,
)

from stores import EmbeddingStore, Flag, SpectraStore, open_store
from stores.column import CHUNK_ROWS
from stores.errors import StoreError
from stores.spectra import spectra_values
from stores.store import KEY, SHARD_ROWS, shard_rows_for


def test_values_come_back_as_they_were_written(tmp_path: Path) -> None:
    make_spectra(tmp_path / "a.zarr", empty=(5,))
    store = SpectraStore.open(tmp_path / "a.zarr")
    for name, value in spectra_values(make_batch(empty=(5,))).items():
        np.testing.assert_array_equal(store.read(name), value.astype(store.array(name).dtype), err_msg=name)
    assert store.read("id").dtype == np.int64
    assert store.read("id")[0] == BIG_ID
    assert len(store) == 150
    assert store.grid == GRID
    assert store.preparation == PREPARATION
    assert store.survey == "made"
    assert store.columns == sorted(["flux", "ivar", "id", "ra", "dec", "rv", "snr", "flags"])


def test_random_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    rows = np.array([149, 0, 64, 63, 64, 7])
    for name in ("id", "flux", "ivar", "snr"):
        np.testing.assert_array_equal(store.read(name, rows), store.read(name)[rows])
    with pytest.raises(IndexError):
        store.read("id", np.array([150]))
    with pytest.raises(StoreError, match=r"no column 'embedding'; it has dec, flags"):
        store.read("embedding")


def test_find_joins_by_all_64_bits(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    wanted = np.array([BIG_ID + 149, 4, BIG_ID, BIG_ID - 1, BIG_ID + 150, BIG_ID + 1, -1])
    np.testing.assert_array_equal(store.find(wanted), [149, -1, 0, -1, -1, 1, -1])
    assert store.find(np.zeros(0, np.int64)).shape == (0,)


def test_of_rows_with_one_id_the_first_is_found(tmp_path: Path) -> None:
    ids = make_ids(150)
    ids[100] = ids[3] = ids[20]
    store = make_spectra(tmp_path / "a.zarr", ids=ids)
    duplicate = (store.read("flags") & np.uint32(Flag.DUPLICATE_ID)) != 0
    np.testing.assert_array_equal(np.flatnonzero(duplicate), [20, 100])
    np.testing.assert_array_equal(store.find(ids[[20, 100, 3, 21]]), [3, 3, 3, 21])
    assert [told for _, told in store.verify() if told] == []


def test_unfinished_is_refused_and_resumed_to_the_same_store(tmp_path: Path) -> None:
    whole = make_spectra(tmp_path / "whole.zarr")
    store = make_spectra(tmp_path / "a.zarr", shards=2)
    assert not store.complete
    assert list(store.finished_shards()) == [0, 1]
    with pytest.raises(StoreError, match=r"a\.zarr' is not finished \(2 of 3 shards\); run the command"):
        SpectraStore.open(store.path)
    with pytest.raises(StoreError, match="still lacks 1 of 3 shards"):
        store.finish()

    again = create_spectra(store.path)
    assert list(again.finished_shards()) == [0, 1]
    write_spectra_shard(again, 2, make_batch())
    again.finish()
    finished = SpectraStore.open(store.path)
    assert finished.complete
    assert finished.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(finished.read("flux"), whole.read("flux"))


def test_fingerprint_follows_the_values_and_the_job(tmp_path: Path) -> None:
    one = make_spectra(tmp_path / "1.zarr")
    assert make_spectra(tmp_path / "2.zarr").fingerprint == one.fingerprint
    assert make_spectra(tmp_path / "3.zarr", seed=1).fingerprint != one.fingerprint
    other = create_spectra(tmp_path / "4.zarr", survey="other")
    for shard in range(other.n_shards):
        write_spectra_shard(other, shard, make_batch())
    other.finish()
    assert other.fingerprint != one.fingerprint


def test_another_job_is_refused_with_what_differs(tmp_path: Path) -> None:
    create_spectra(tmp_path / "a.zarr", medium="air")
    with pytest.raises(
        StoreError,
        match=r"exists and belongs to another job \(medium: 'air' there, 'vacuum' here\); choose another --out",
    ):
        create_spectra(tmp_path / "a.zarr", medium="vacuum")
    with pytest.raises(StoreError, match=r"survey: 'made' there, 'desi' here"):
        create_spectra(tmp_path / "a.zarr", survey="desi")
    with pytest.raises(StoreError, match=r"another job \(files differs\)"):
        create_spectra(tmp_path / "a.zarr", files=["x"])
    create_spectra(tmp_path / "a.zarr", medium="air")


def test_the_marker_comes_last(tmp_path: Path) -> None:
    store = create_spectra(tmp_path / "a.zarr")
    values = {name: column[:64] for name, column in spectra_values(make_batch()).items()}
    values["snr"] = values["snr"][:5]  # columns are written in order of their names: snr after flux
    with pytest.raises(ValueError, match=r"snr of shard 0 has shape \(5,\), not \(64,\)"):
        store.write_shard(0, values, {})
    assert (store.path / "flux/c/0/0").exists()
    assert list(store.finished_shards()) == []
    with pytest.raises(StoreError, match="shard 0 is not written"):
        store.marker(0)


def test_a_shard_holds_every_column(tmp_path: Path) -> None:
    store = create_spectra(tmp_path / "a.zarr")
    values = {name: column[:64] for name, column in spectra_values(make_batch()).items()}
    del values["ra"]
    with pytest.raises(ValueError, match="shard 0 has columns"):
        store.write_shard(0, values, {})
    assert list(store.finished_shards()) == []


def test_a_process_that_comes_second_takes_the_store_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        create_spectra(target)  # the other process, between the look and the rename
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    store = create_spectra(tmp_path / "a.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    assert list(store.finished_shards()) == []


def test_a_marker_cut_short_does_not_count(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr", shards=2)
    (store.path / "shards/00001/zarr.json").write_text("")
    again = SpectraStore.open(store.path, unfinished=True)
    assert list(again.finished_shards()) == [0]
    write_spectra_shard(again, 1, make_batch())
    assert list(again.finished_shards()) == [0, 1]


def test_complete_stands_only_after_finish(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr", shards=3)
    attributes = json.loads((store.path / "zarr.json").read_text())["attributes"][KEY]
    assert attributes["complete"] is False
    assert "fingerprint" not in attributes
    store.finish()
    attributes = json.loads((store.path / "zarr.json").read_text())["attributes"][KEY]
    assert attributes["complete"] is True
    assert attributes["fingerprint"] == store.fingerprint


def test_finishing_twice_changes_nothing(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    before = (store.path / "zarr.json").read_bytes()
    store.finish()
    assert (store.path / "zarr.json").read_bytes() == before
    assert [told for _, told in store.verify() if told] == []


def test_attributes_say_where_it_comes_from(tmp_path: Path) -> None:
    attributes = make_spectra(tmp_path / "a.zarr").attributes
    assert attributes["kind"] == "spectra"
    assert attributes["rows"] == 150
    assert attributes["version"]
    assert attributes["command"]
    assert attributes["created"].endswith("+00:00")
    assert {"bit": 9, "name": "DUPLICATE_ID"}.items() <= attributes["flag_bits"][9].items()


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        create_spectra(tmp_path / "a.zarr", medium=object())
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    import zarr

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    zarr.open_group(tmp_path / "group", mode="w", zarr_format=3)
    with pytest.raises(StoreError, match="none' does not exist; check the path"):
        open_store(tmp_path / "none")
    for name in ("folder", "file"):
        with pytest.raises(StoreError, match=f"{name}' is not a spectrabridge store"):
            open_store(tmp_path / name)
    with pytest.raises(StoreError, match="is a Zarr group but not a spectrabridge store"):
        open_store(tmp_path / "group")


def test_the_right_kind_is_opened(tmp_path: Path) -> None:
    make_spectra(tmp_path / "s.zarr")
    make_embeddings(tmp_path / "e.zarr")
    assert type(open_store(tmp_path / "s.zarr")) is SpectraStore
    assert type(open_store(tmp_path / "e.zarr")) is EmbeddingStore
    with pytest.raises(StoreError, match=r"s\.zarr' is a store of spectra, not of embeddings"):
        EmbeddingStore.open(tmp_path / "s.zarr")


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    document = json.loads((store.path / "zarr.json").read_text())
    document["attributes"][KEY]["format"] = 99
    (store.path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="format version 99, and this version of spectrabridge reads version 1"):
        open_store(store.path)


def test_lost_files_are_refused_before_they_are_read_as_fill_values(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    (store.path / "flux/c/1/0").unlink()
    with pytest.raises(StoreError, match=r"is damaged: flux/c/1/0 is missing; run stores-verify"):
        SpectraStore.open(store.path)


def test_rows_that_were_never_written_do_not_look_like_data(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr", shards=1)
    rows = slice(64, 150)
    assert np.isnan(store.read("flux", rows)).all()
    assert np.isnan(store.read("ra", rows)).all()
    assert (store.read("id", rows) == -1).all()
    assert (store.read("flags", rows) == 0xFFFFFFFF).all()


def test_a_store_can_be_moved(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    shutil.move(store.path, tmp_path / "b.zarr")
    assert [told for _, told in open_store(tmp_path / "b.zarr").verify() if told] == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_embeddings_come_back(tmp_path: Path, dtype: str) -> None:
    store = make_embeddings(tmp_path / "e.zarr", dtype=dtype)
    assert store.read("embedding").dtype == dtype
    np.testing.assert_array_equal(store.read("embedding"), make_vectors().astype(dtype))
    assert store.width == 24
    assert store.model == "m1"


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
@pytest.mark.parametrize("n", [1, 63, 64, 1000, 4096, 4097, 100_000, 10_000_000])
def test_shards_are_whole_chunks_and_shared_among_workers(n: int, workers: int) -> None:
    rows = shard_rows_for(n, workers)
    assert rows % CHUNK_ROWS == 0
    assert 256 <= rows <= SHARD_ROWS
    shards = -(-n // rows)
    if n > 256 * 4 * workers:
        assert shards >= 3 * workers  # something to share


def test_shards_cover_every_row_once(tmp_path: Path) -> None:
    store = create_spectra(tmp_path / "a.zarr", 129)
    assert store.n_shards == 3
    rows = [np.arange(129)[store.rows(shard)] for shard in range(store.n_shards)]
    assert [len(part) for part in rows] == [64, 64, 1]
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(129))


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be created \(.*\); choose another --out"):
        create_spectra(tmp_path / "file" / "s.zarr")
