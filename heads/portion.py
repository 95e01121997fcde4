"""Portions of a catalogue: the parameters of some rows of stores, read by whatever process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from heads.bundle import Bundle, load_head
from heads.head import ROWS_AT_ONCE, Head, Prediction
from heads.inputs import Given, InputStores
from heads.predict import SPECTRUM
from stores.errors import ModelError
from stores.processes import absolute, in_processes

if TYPE_CHECKING:
    from stores.store import Array


Portion = tuple[Prediction, dict[str, "Array"]]  # parameters, and SPECTRUM of the same rows


@dataclass(frozen=True)
class Reader:
    """A head and the stores that it reads, by where they lie; fingerprint: of the head.

    model: where the one that the head encodes spectra by lies, if not where its name says
    """

    head: str
    fingerprint: str
    spectra: str | None
    embeddings: str | None
    model: str | None

    @classmethod
    def of(cls, head: Head | Bundle, folder: Path, stores: InputStores, model: str | None) -> Reader:
        """Of what is open here, for processes that are at home in other folders."""
        paths = {kind: str(absolute(store.path)) for kind, store in stores.stores.items()}
        if model is not None and Path(model).exists():
            model = str(Path(model).absolute())
        return cls(str(folder.absolute()), head.fingerprint, paths.get("spectra"), paths.get("embeddings"), model)

    def read(self, start: int, stop: int) -> Portion:
        """Rows from `start` to `stop`."""
        head, stores = _opened(self)
        return next(portions(head, stores, start, stop))


def portions(head: Head | Bundle, stores: Given, start: int, stop: int) -> Iterator[Portion]:
    """Rows from `start` to `stop`, ROWS_AT_ONCE of them at a time."""
    for found in head.parts(stores, slice(start, stop)):
        rows = slice(start, start + len(found))
        start = rows.stop
        yield found, {name: stores.main.read(name, rows) for name in SPECTRUM}


def portions_by_workers(reader: Reader, n: int, workers: int, scheduler: str | None) -> Iterator[Portion]:
    """The first n rows, as `portions` gives them."""
    starts = range(0, max(n, 1), ROWS_AT_ONCE)
    return in_processes(
        Reader.read,
        ((reader, start, min(start + ROWS_AT_ONCE, n)) for start in starts),
        min(workers, len(starts)),
        scheduler,
        named=lambda _, start, stop: f"the prediction of rows {start} to {stop}",
        shared=[Path(path) for path in (reader.head, reader.spectra, reader.embeddings) if path and "://" not in path],
    )


@lru_cache(maxsize=1)
def _opened(reader: Reader) -> tuple[Head | Bundle, InputStores]:
    """The head and the stores of this process, opened once."""
    head = load_head(reader.head, reader.model)
    if head.fingerprint != reader.fingerprint:
        raise ModelError(f"the head in '{reader.head}' was changed meanwhile; run the same command again.")
    return head, InputStores.open(head.identity["input"], reader.spectra, reader.embeddings)
