"""Of rows with one id, the first that could be read is the one that is used, wherever the others stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import BIG_ID, truncate, write_lamost
from ingest_made import made
from stores_made import create_spectra, make_batch, make_ids, write_spectra_shard

from stores import Flag, SpectraStore
from stores.spectrum import SpectrumBatch
from stores.store import Store

UNREADABLE_ROWS = [3, 10, 70, 80]
# 3, readable at 90 and 140; 10, readable at 5; 70 and 80 have one id, and nobody could read it
SAME = {90: 3, 140: 3, 10: 5, 80: 70}
DUPLICATES = [3, 10, 80, 140]


def duplicates(store: Store) -> list[int]:
    return list(np.flatnonzero(store.read("flags") & np.uint32(Flag.DUPLICATE_ID)))


def partly_unreadable() -> SpectrumBatch:
    ids = make_ids(150)
    for row, other in SAME.items():
        ids[row] = ids[other]
    batch = make_batch(ids=ids, empty=tuple(UNREADABLE_ROWS))
    batch.flag(np.isin(np.arange(150), UNREADABLE_ROWS), Flag.UNREADABLE)
    return batch


def write_missing(store: SpectraStore, batch: SpectrumBatch) -> None:
    for shard in set(range(store.n_shards)) - set(store.finished_shards()):
        write_spectra_shard(store, shard, batch)


def assert_preferred(store: SpectraStore, batch: SpectrumBatch) -> None:
    assert duplicates(store) == DUPLICATES
    np.testing.assert_array_equal(store.find(batch.id[[3, 90, 140, 10, 70, 80]]), [90, 90, 90, 5, 70, 70])
    assert [told for _, told in store.verify() if told] == []


def test_a_truncated_copy_does_not_take_the_id_of_a_sound_file(tmp_path: Path) -> None:
    sound = write_lamost(tmp_path / "b.fits", obsid=BIG_ID, n_pix=700)
    third = write_lamost(tmp_path / "c.fits", obsid=BIG_ID, n_pix=700, seed=1)
    cut = truncate(sound, 9000, "a.fits")
    store = made(tmp_path, cut, sound, third, survey="lamost", status=3)
    flags = store.read("flags")
    np.testing.assert_array_equal((flags & Flag.UNREADABLE) != 0, [True, False, False])
    assert duplicates(store) == [0, 2]
    assert store.find(np.array([BIG_ID])) == [1]
    assert [told for _, told in store.verify() if told] == []


def test_the_first_readable_row_is_used_in_every_shard(tmp_path: Path) -> None:
    batch = partly_unreadable()
    store = create_spectra(tmp_path / "a.zarr")
    write_missing(store, batch)
    assert 90 in duplicates(store)
    store.finish()
    assert_preferred(store, batch)
    assert store.marker(1)["sources"][0]["file"] == "made-1.fits"


@pytest.mark.parametrize("written", [0, 1])
def test_killed_at_any_moment_it_comes_out_the_same(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = partly_unreadable()
    store = create_spectra(tmp_path / "a.zarr")
    write_missing(store, batch)
    write, tried = SpectraStore.write_shard, []

    def killed(self: SpectraStore, shard: int, *args: Any) -> None:
        tried.append(shard)
        if len(tried) > written:
            raise KeyboardInterrupt
        write(self, shard, *args)

    with monkeypatch.context() as patch:
        patch.setattr(SpectraStore, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            store.finish()
    again = SpectraStore.open(store.path, unfinished=True)
    assert not again.complete
    write_missing(again, batch)
    again.finish()
    assert_preferred(again, batch)
