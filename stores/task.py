"""A part of a job: some rows of some files, and how they are prepared; small enough to send to another process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import Grid
from stores.listing import Source
from stores.prepare import Preparation, prepare
from stores.provenance import file_checksum
from stores.spectra import spectra_values
from stores.spectrum import Arm, SpectrumBatch
from stores.store import Array
from stores.surveys import ReadOptions, get_survey
from stores.velocities import Velocities

BLOCK_ROWS = 256  # prepared at once: what bounds the memory of a shard that is being made


@dataclass(frozen=True)
class Task:
    """Rows `start` to `start + len(ids)` of a job.

    sources: the files that hold them; ids: (n,) int64; repeated: (n,) True where an earlier row has the same id
    """

    survey: str
    start: int
    sources: Sequence[Source]
    ids: NDArray[np.int64]
    repeated: NDArray[np.bool_]
    grid: Grid
    preparation: Preparation
    options: ReadOptions
    velocities: Velocities | None

    def make(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Read and prepare the rows: the columns of a spectra store, and the record of where they came from.

        A file that fails gives masked rows flagged UNREADABLE, and an entry in the record's `failed`.
        """
        columns: dict[str, Array] = {}
        done = 0
        waiting: list[SpectrumBatch] = []
        record: dict[str, Any] = {"sources": [], "failed": []}
        for source in self.sources:
            for batch in self._read(source, record):
                waiting.append(batch)
                if sum(map(len, waiting)) >= BLOCK_ROWS:
                    done = self._prepare_into(columns, waiting, done)
        if waiting:
            self._prepare_into(columns, waiting, done)
        return columns, record

    def _read(self, source: Source, record: dict[str, Any]) -> Iterator[SpectrumBatch]:
        """The rows of one file that are among these, a block at a time, with velocities and flags; as recorded."""
        first = max(self.start, source.start)
        last = min(self.start + len(self.ids), source.start + source.count)
        entry = {"file": str(source.path), "size": source.size, "sha256": "", "rows": last - first}
        record["sources"].append(entry)
        for start in range(first, last, BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, last))
            own = slice(rows.start - self.start, rows.stop - self.start)
            try:
                batch = self._block(source, slice(rows.start - source.start, rows.stop - source.start), self.ids[own])
                if rows.start == source.start:  # once a file, by whoever makes its first row
                    entry["sha256"] = file_checksum(source.path)
            except (InputError, OSError) as error:
                record["failed"].append({"file": str(source.path), "reason": str(error)})
                batch = unreadable(self.ids[own], self.grid)
            if self.velocities is not None:
                self.velocities.give(batch)
            batch.flag(self.repeated[own], Flag.DUPLICATE_ID)
            yield batch

    def _block(self, source: Source, rows: slice, wanted: NDArray[np.int64]) -> SpectrumBatch:
        batch = get_survey(self.survey).read(source.path, self.options, rows)
        if not np.array_equal(batch.id, wanted):
            raise InputError(f"'{source.path}' changed while it was read; write it into another store.")
        if self.options.at_rest:  # whatever velocity the file has
            batch.set_rv(np.zeros(len(batch)))
        return batch

    def _prepare_into(self, columns: dict[str, Array], waiting: list[SpectrumBatch], done: int) -> int:
        """Prepare the waiting batches into the next rows of the columns, and forget them."""
        values = spectra_values(prepare(waiting, self.grid, self.preparation))
        waiting.clear()
        end = done + len(values["id"])
        for name, value in values.items():
            if name not in columns:
                dtype = np.float32 if name in ("flux", "ivar") else value.dtype
                columns[name] = np.empty((len(self.ids), *value.shape[1:]), dtype=dtype)
            columns[name][done:end] = value
        return end


def unreadable(ids: NDArray[np.int64], grid: Grid) -> SpectrumBatch:
    """Masked spectra that are flagged so, (n,) ids, for rows that cannot be read."""
    zeros = np.zeros((len(ids), grid.n_pix))
    nowhere = np.full(len(ids), np.nan)
    batch = SpectrumBatch([Arm(grid.wavelength, zeros, zeros.copy())], ids, nowhere, nowhere, nowhere)
    batch.flag(np.ones(len(ids), dtype=bool), Flag.UNREADABLE)
    return batch
