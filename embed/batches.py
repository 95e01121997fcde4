"""Batches of training spectra streamed from spectra stores, in an order that seed and epoch decide.

Shards are shuffled, a few of them are held in memory, and their rows are shuffled there. The whole order of an
epoch is known beforehand, so any batch can be reached without reading those before it: that is how a resumed
run goes on with the very same data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, StoreError
from stores.flags import Flag
from stores.spectra import SpectraStore

BUFFER_ROWS = 8192
UNUSABLE = Flag.NO_VALID_PIXELS | Flag.MOSTLY_MASKED
VALIDATION_SHARE = 50  # one spectrum in so many


@dataclass(frozen=True)
class Shard:
    """The rows of one shard that take part: `rows` (m,) within store number `store`."""

    store: int
    rows: NDArray[np.int64]


def open_stores(paths: Sequence[str]) -> list[SpectraStore]:
    """Spectra stores that can be trained on together: one grid, one preparation."""
    stores = [SpectraStore.open(path) for path in paths]
    for store in stores[1:]:
        if store.grid != stores[0].grid or store.preparation_fingerprint != stores[0].preparation_fingerprint:
            raise StoreError(
                f"'{store.path}' and '{stores[0].path}' differ in grid or preparation; ingest them alike."
            )
    return stores


def is_validation(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) True for ids held out of training, by a hash of the id so that all stores and runs agree."""
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, wraps on purpose
    return ((mixed >> np.uint64(40)) % np.uint64(VALIDATION_SHARE)) == 0


class Batches:
    """Training batches of `batch_size` rows from stores; a store named twice counts twice."""

    def __init__(self, stores: Sequence[SpectraStore], batch_size: int, seed: int) -> None:
        self.stores = stores
        self.batch_size = batch_size
        self.seed = seed
        self.shards: list[Shard] = []
        validation: list[tuple[int, NDArray[np.int64]]] = []
        for number, store in enumerate(stores):
            usable = (store.read("flags") & np.uint32(UNUSABLE)) == 0
            held_out = is_validation(store.read("id"))
            for shard in range(store.n_shards):
                rows = np.arange(store.rows(shard).start, store.rows(shard).stop)
                chosen = rows[usable[rows] & ~held_out[rows]]
                if len(chosen):
                    self.shards.append(Shard(number, chosen))
            if store.path not in {stores[other].path for other, _ in validation}:
                validation.append((number, np.flatnonzero(usable & held_out)))
        self._validation = validation
        self.n_rows = sum(len(shard.rows) for shard in self.shards)
        self.per_epoch = self.n_rows // batch_size
        if self.per_epoch == 0:
            raise InputError(
                f"the stores hold {self.n_rows} usable training spectra, fewer than one batch of {batch_size}; "
                "use a smaller --batch-size or more spectra."
            )
        self._epoch = -1
        self._order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._groups: list[list[int]] = []
        self._ends: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._held: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """flux, ivar of this process' share of batch number `step`, counted from the start of training."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        share = self.batch_size // world
        first = place * self.batch_size + rank * share
        positions = np.arange(first, first + share)
        group_of = np.searchsorted(self._ends, positions, side="right")
        parts = []
        for group in np.unique(group_of):
            flux, ivar = self._load(int(group))
            rows = self._order[positions[group_of == group]]
            parts.append((flux[rows], ivar[rows]))
        for group in [held for held in self._held if held < group_of[0]]:
            del self._held[group]
        return np.concatenate([flux for flux, _ in parts]), np.concatenate([ivar for _, ivar in parts])

    def validation(self, limit: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """flux, ivar of up to `limit` held-out rows, the first ones of every store in equal parts."""
        share = max(1, limit // len(self._validation))
        chosen = [(self.stores[number], rows[:share]) for number, rows in self._validation]
        flux = np.concatenate([store.read("flux", rows) for store, rows in chosen])[:limit]
        ivar = np.concatenate([store.read("ivar", rows) for store, rows in chosen])[:limit]
        if len(flux) == 0:
            raise InputError("no spectrum was left for validation; train on more spectra.")
        return flux, ivar

    def _start_epoch(self, epoch: int) -> None:
        """Groups of shuffled shards, and within each group its rows in shuffled order."""
        random = np.random.default_rng([self.seed, epoch])
        self._groups = [[]]
        size = 0
        for shard in random.permutation(len(self.shards)):
            if size >= BUFFER_ROWS:
                self._groups.append([])
                size = 0
            self._groups[-1].append(int(shard))
            size += len(self.shards[shard].rows)
        sizes = [sum(len(self.shards[shard].rows) for shard in group) for group in self._groups]
        self._order = np.concatenate([random.permutation(size) for size in sizes])
        self._ends = np.cumsum(sizes)
        self._held = {}
        self._epoch = epoch

    def _load(self, group: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if group not in self._held:
            flux, ivar = [], []
            for number in self._groups[group]:
                shard = self.shards[number]
                store = self.stores[shard.store]
                span = slice(int(shard.rows[0]), int(shard.rows[-1]) + 1)  # one read, then the rows of it
                inside = shard.rows - span.start
                flux.append(store.read("flux", span)[inside])
                ivar.append(store.read("ivar", span)[inside])
            self._held[group] = np.concatenate(flux), np.concatenate(ivar)
        return self._held[group]
