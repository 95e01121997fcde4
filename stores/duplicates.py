"""Which of the rows with one id is used, where the file of the first could not be read.

Duplicates are found in the list of files, before anything is read. A truncated copy must not take the id from a
sound file, so this is mended once all shards are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.flags import Flag
from stores.marker import marker_path
from stores.store import Store

DUPLICATE, UNREADABLE = np.uint32(Flag.DUPLICATE_ID), np.uint32(Flag.UNREADABLE)


def prefer_readable(store: Store) -> None:
    """Move DUPLICATE_ID from the first readable row of an id to its unreadable ones.

    It can be interrupted anywhere and done again, whatever shards were made again since.
    """
    lost = _unreadable_ids(store)
    if len(lost) == 0:
        return
    owner = np.full(len(lost), -1)  # the first readable row of each id
    for shard, place, flags in _rows_of(store, lost):
        rows = store.rows(shard).start + np.arange(len(place))
        free = np.flatnonzero((place >= 0) & ((flags & UNREADABLE) == 0))
        free = free[owner[place[free]] < 0]
        found, first = np.unique(place[free], return_index=True)
        owner[found] = rows[free[first]]
        _write_flags(store, shard, flags, np.where(_owned(rows, place, owner), flags & ~DUPLICATE, flags))
    for shard, place, flags in _rows_of(store, lost):
        rows = store.rows(shard).start + np.arange(len(place))
        other = (place >= 0) & (owner[place] >= 0) & ~_owned(rows, place, owner)
        _write_flags(store, shard, flags, np.where(other, flags | DUPLICATE, flags))


def _unreadable_ids(store: Store) -> NDArray[np.int64]:
    """Sorted ids of which a row could not be read."""
    ids = [np.zeros(0, np.int64)]
    for shard in range(store.n_shards):
        unreadable = (store.read("flags", store.rows(shard)) & UNREADABLE) != 0
        if unreadable.any():
            ids.append(store.read("id", store.rows(shard))[unreadable])
    return np.unique(np.concatenate(ids))


def _rows_of(store: Store, wanted: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.uint32]]]:
    """Shards with rows of the wanted ids: where among these each row's id stands, -1 if it does not, and its flags."""
    for shard in range(store.n_shards):
        ids = store.read("id", store.rows(shard))
        place = np.clip(np.searchsorted(wanted, ids), 0, len(wanted) - 1)
        place = np.where(wanted[place] == ids, place, -1)
        if np.any(place >= 0):
            yield shard, place, store.read("flags", store.rows(shard))


def _owned(rows: NDArray[Any], place: NDArray[np.intp], owner: NDArray[Any]) -> NDArray[np.bool_]:
    return (place >= 0) & (owner[place] == rows)


def _write_flags(store: Store, shard: int, old: NDArray[np.uint32], new: NDArray[np.uint32]) -> None:
    if np.array_equal(old, new):
        return
    values = {name: store.read(name, store.rows(shard)) for name in store.columns}
    marker = store.marker(shard)
    # a marker over files that are half rewritten would be trusted by the next run
    store.place.delete(marker_path(shard))
    store.write_shard(shard, {**values, "flags": new}, marker)
