"""Where the spectra of an embedding run come from: survey files, a spectra store, or the built-in sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stores.ingest import discard_lists
from stores.location import Url
from stores.plan import Plan
from stores.processes import absolute
from stores.sample import BuiltInSample
from stores.spectra import SpectraStore, spectra_details
from stores.store import Array, shard_rows_for


class Part(Protocol):
    """Spectra of one shard."""

    def make(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Columns of a spectra store, and the shard's record."""
        ...


def make_part(shard: int, part: Part) -> tuple[int, dict[str, Array], dict[str, Any]]:
    """The number of a shard, and its spectra."""
    return shard, *part.make()


class Work(Protocol):
    """Where prepared spectra come from, shard by shard."""

    job: dict[str, Any]
    details: dict[str, Any]
    start: float
    takes_time: bool  # to make a part, more than to send it from another process

    def __len__(self) -> int: ...

    def shard_rows(self) -> int: ...

    def part(self, shard: int, rows: slice) -> Part:
        """What makes a shard, small enough to send to another process."""
        ...

    def shared(self) -> Sequence[object]:
        """Paths that have to be seen where it is made."""
        ...

    def failed(self) -> Iterable[dict[str, str]]:
        """Inputs that gave no rows at all."""
        ...

    def leave(self, out: Path | Url) -> None:
        """Delete what is of no use once the store `out` is finished."""
        ...

    def refuse(self) -> None:
        """Delete what this run alone has left, the store being another job's."""
        ...


class FromFiles:
    """Spectra prepared on the fly from survey files."""

    takes_time = True

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.job = plan.job
        self.details = spectra_details(plan.grid, plan.survey, plan.preparation)
        self.start = plan.grid.start

    def __len__(self) -> int:
        return len(self.plan)

    def shard_rows(self) -> int:
        return shard_rows_for(len(self.plan))

    def part(self, shard: int, rows: slice) -> Part:
        return self.plan.task(rows)

    def shared(self) -> Sequence[object]:
        return self.plan.listing.first()

    def failed(self) -> Iterable[dict[str, str]]:
        return self.plan.listing.failed()

    def leave(self, out: Path | Url) -> None:
        discard_lists(self.plan.listing, out)

    def refuse(self) -> None:
        self.plan.listing.discard_new()


@dataclass(frozen=True)
class SamplePart:
    """Rows of the built-in sample."""

    sample: BuiltInSample
    rows: slice

    def make(self) -> tuple[dict[str, Array], dict[str, Any]]:
        return self.sample.make(self.rows), {"sources": [], "failed": []}


class FromSample:
    """Spectra simulated on the spot, where no files were given."""

    takes_time = True

    def __init__(self, sample: BuiltInSample) -> None:
        self.sample = sample
        self.job = sample.job
        self.details = sample.details
        self.start = sample.grid.start

    def __len__(self) -> int:
        return len(self.sample)

    def shard_rows(self) -> int:
        return shard_rows_for(len(self.sample))

    def part(self, shard: int, rows: slice) -> Part:
        return SamplePart(self.sample, rows)

    def shared(self) -> Sequence[object]:
        return ()

    def failed(self) -> Iterable[dict[str, str]]:
        return ()

    def leave(self, out: Path | Url) -> None:
        """Nothing: there are no files."""

    def refuse(self) -> None:
        """Nothing: there are no files."""


@dataclass(frozen=True)
class StorePart:
    """A shard of a spectra store at `path`."""

    path: str
    shard: int
    rows: slice

    def make(self) -> tuple[dict[str, Array], dict[str, Any]]:
        store = SpectraStore.open(self.path, unfinished=True)  # it was looked at before; that need not be repeated
        marker = store.marker(self.shard)
        values = {name: store.read(name, self.rows) for name in store.columns}
        return values, {"sources": marker["sources"], "failed": marker["failed"]}


class FromStore:
    """Spectra prepared before, in a spectra store."""

    takes_time = False

    def __init__(self, store: SpectraStore) -> None:
        self.store = store
        attributes = store.attributes
        self.job = {"survey": store.survey, "grid": str(store.grid), "content": store.fingerprint}
        self.details = {name: attributes[name] for name in ("grid", "survey", "preprocessing")}
        self.start = store.grid.start

    def __len__(self) -> int:
        return len(self.store)

    def shard_rows(self) -> int:
        return self.store.shard_rows

    def part(self, shard: int, rows: slice) -> Part:
        return StorePart(str(absolute(self.store.path)), shard, rows)

    def shared(self) -> Sequence[object]:
        return (absolute(self.store.path),)

    def failed(self) -> Iterable[dict[str, str]]:
        return list(self.store.attributes["failed"])

    def leave(self, out: Path | Url) -> None:
        """Nothing: the store stays."""

    def refuse(self) -> None:
        """Nothing: the store stays."""
