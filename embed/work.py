"""Where the spectra of an embedding run come from: survey files, a spectra store, or the built-in sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from stores.ingest import discard_lists
from stores.location import Url
from stores.plan import Plan
from stores.processes import in_processes
from stores.sample import BuiltInSample
from stores.spectra import SpectraStore, spectra_details
from stores.store import Array, shard_rows_for
from stores.task import Task


class Work(Protocol):
    """Where prepared spectra come from, shard by shard."""

    job: dict[str, Any]
    details: dict[str, Any]
    start: float

    def __len__(self) -> int: ...

    def shard_rows(self) -> int: ...

    def shards(
        self, shards: Sequence[int], rows: Sequence[slice]
    ) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
        """Columns of a spectra store and the shard's record, for each of the shards."""
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

    def __init__(self, plan: Plan, workers: int) -> None:
        self.plan = plan
        self.workers = workers
        self.job = plan.job
        self.details = spectra_details(plan.grid, plan.survey, plan.preparation)
        self.start = plan.grid.start

    def __len__(self) -> int:
        return len(self.plan)

    def shard_rows(self) -> int:
        return shard_rows_for(len(self.plan))

    def shards(
        self, shards: Sequence[int], rows: Sequence[slice]
    ) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
        return in_processes(Task.make, ((self.plan.task(span),) for span in rows), self.workers)

    def failed(self) -> Iterable[dict[str, str]]:
        return self.plan.listing.failed()

    def leave(self, out: Path | Url) -> None:
        discard_lists(self.plan.listing, out)

    def refuse(self) -> None:
        self.plan.listing.discard_new()


class FromSample:
    """Spectra simulated on the spot, where no files were given."""

    def __init__(self, sample: BuiltInSample) -> None:
        self.sample = sample
        self.job = sample.job
        self.details = sample.details
        self.start = sample.grid.start

    def __len__(self) -> int:
        return len(self.sample)

    def shard_rows(self) -> int:
        return shard_rows_for(len(self.sample))

    def shards(
        self, shards: Sequence[int], rows: Sequence[slice]
    ) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
        return ((self.sample.make(span), {"sources": [], "failed": []}) for span in rows)

    def failed(self) -> Iterable[dict[str, str]]:
        return ()

    def leave(self, out: Path | Url) -> None:
        """Nothing: there are no files."""

    def refuse(self) -> None:
        """Nothing: there are no files."""


class FromStore:
    """Spectra prepared before, in a spectra store."""

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

    def shards(
        self, shards: Sequence[int], rows: Sequence[slice]
    ) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
        for shard, span in zip(shards, rows, strict=True):
            values = {name: self.store.read(name, span) for name in self.store.columns}
            marker = self.store.marker(shard)
            yield values, {"sources": marker["sources"], "failed": marker["failed"]}

    def failed(self) -> Iterable[dict[str, str]]:
        return list(self.store.attributes["failed"])

    def leave(self, out: Path | Url) -> None:
        """Nothing: the store stays."""

    def refuse(self) -> None:
        """Nothing: the store stays."""
