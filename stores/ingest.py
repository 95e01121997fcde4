"""stores-ingest: survey files -> a spectra store.

stores-ingest --survey desi coadd-*.fits --out desi.zarr
stores-ingest --survey lamost FOLDER --out lamost.zarr --workers 8
stores-ingest --survey fits1d miles/*.fits.gz --out miles.zarr --medium air --at-rest
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import tyro

from stores.command import PARTIAL, run_command, say
from stores.errors import InputError, OptionError, SpectraBridgeError
from stores.flags import Flag, count_flags
from stores.grid import Grid
from stores.plan import Plan, expand_files, make_plan
from stores.prepare import Preparation
from stores.progress import progress
from stores.spectra import SpectraStore, spectra_columns, spectra_details
from stores.store import Store, shard_rows_for
from stores.surveys import ReadOptions, get_survey

Result = TypeVar("Result")

SHOWN_FAULTS = 5


@dataclass(kw_only=True)
class InputOptions:
    """Where spectra come from and how they are prepared: what every command that takes files shares."""

    survey: str | None = None
    """Reader of the files: desi, lamost, sdss, fits1d, table, specutils, or one of another package."""
    rv: Path | None = None
    """Catalogue of radial velocities joined by id (DESI mwsall or rvtab, or a table with id and rv columns)."""
    medium: Literal["air", "vacuum"] | None = None
    """Medium of the wavelengths, where the files do not say."""
    at_rest: bool = False
    """The spectra are in the rest frame already (stellar libraries)."""
    limit: int | None = None
    """Use at most this many spectra."""
    workers: int = 1
    """Processes that read and prepare."""

    def check(self) -> None:
        """Refuse values that cannot work, before anything heavy is loaded."""
        if self.survey is not None:
            get_survey(self.survey)
        if self.at_rest and self.rv is not None:
            raise OptionError("--at-rest and --rv contradict each other; leave one of them out.")
        if self.workers < 1:
            raise OptionError(f"--workers {self.workers} must be 1 or more.")
        if self.limit is not None and self.limit < 1:
            raise OptionError(f"--limit {self.limit} must be 1 or more.")

    def plan(self, files: Sequence[str], grid: Grid, preparation: Preparation) -> Plan:
        """The plan for files named on the command line."""
        self.check()
        if self.survey is None:
            raise OptionError("files need a reader: add --survey, for instance --survey desi.")
        from stores.velocities import Velocities

        return make_plan(
            self.survey,
            list(expand_files(files, get_survey(self.survey).files)),
            grid,
            preparation,
            options=ReadOptions(medium=self.medium, at_rest=self.at_rest),
            velocities=None if self.rv is None else Velocities.read(self.rv),
            limit=self.limit,
        )


@dataclass(kw_only=True)
class IngestOptions(InputOptions):
    """Prepare survey files onto a common grid and write them as a spectra store."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, or @LIST with a path a line."""
    out: Path
    """The store to write; an unfinished one of the same job is finished."""
    grid: str = "lrs"
    """lrs (3999-5599 A), optical (3700-9100 A) or START:STOP:STEP in log10 of Angstrom."""
    preparation: Annotated[Preparation, tyro.conf.arg(name="")] = Preparation()


def ingest(options: IngestOptions) -> int:
    """Write the store; returns the exit status."""
    plan = options.plan(options.files, Grid.parse(options.grid), options.preparation)
    store = SpectraStore.create(
        options.out,
        spectra_columns(plan.grid),
        len(plan),
        plan.job,
        shard_rows=shard_rows_for(len(plan)),  # not of the workers: the store must not depend on them
        details=spectra_details(plan.grid, plan.survey, plan.preparation),
    )
    if store.complete:
        return report_finished(store)
    missing = unfinished(store)
    tasks = ((str(store.path), shard, plan.chosen(store.rows(shard))) for shard in missing)
    for _ in progress(
        in_processes(_ingest_shard, tasks, options.workers),
        "preparing",
        unit="shard",
        total=store.n_shards,
        done=store.n_shards - len(missing),
    ):
        pass
    finish(store, plan.failed)
    return report(store)


def _ingest_shard(path: str, shard: int, plan: Plan) -> None:
    store = SpectraStore.open(path, unfinished=True)
    store.write_shard(shard, *plan.make(store.rows(shard)))


def unfinished(store: Store) -> list[int]:
    """The shards that still have to be written."""
    finished = set(store.finished_shards())
    return [shard for shard in range(store.n_shards) if shard not in finished]


def finish(store: Store, failed: Iterable[dict[str, str]]) -> None:
    """Close a store made from files; `failed` are files that gave no rows at all, [{file, reason}]."""
    reasons = {entry["file"]: entry["reason"] for entry in failed}
    sources: dict[str, dict[str, Any]] = {}
    for shard in range(store.n_shards):
        marker = store.marker(shard)
        reasons.update((entry["file"], entry["reason"]) for entry in marker["failed"])
        for entry in marker["sources"]:
            known = sources.setdefault(entry["file"], {**entry, "rows": 0})
            known["rows"] += entry["rows"]
            known["sha256"] = known["sha256"] or entry["sha256"]
    store.finish(
        sources=list(sources.values()),
        failed=[{"file": file, "reason": reason} for file, reason in reasons.items()],
    )


def report(store: Store) -> int:
    """Say what was written and what was not usable; returns the exit status."""
    failed = store.attributes["failed"]
    flags = store.read("flags")
    counts = count_flags(flags)
    say(f"'{store.path}': {len(store)} spectra in {store.n_shards} shard{'s' if store.n_shards > 1 else ''}.")
    if counts:
        say("flagged: " + ", ".join(f"{name} {count}" for name, count in counts.items()) + ".")
    if str(Flag.RV_MISSING.name) in counts:
        say("note: spectra without a velocity stay in the observed frame; a catalogue can be given with --rv.")
    for entry in failed[:SHOWN_FAULTS]:
        say(f"not usable: {entry['reason']}")
    if len(failed) > SHOWN_FAULTS:
        say(f"and {len(failed) - SHOWN_FAULTS} more; stores-info lists them all.")
    if np.all(flags & np.uint32(Flag.NO_VALID_PIXELS)):
        raise InputError("not one spectrum has a usable pixel on the grid; see the flags above.")
    return PARTIAL if failed else 0


def report_finished(store: Store) -> int:
    """Say that there was nothing to do; returns the exit status that the store had when it was made."""
    failed = len(store.attributes["failed"])
    lost = f" ({failed} files were not usable: stores-info lists them)" if failed else ""
    say(f"'{store.path}' is finished already: {len(store)} rows{lost}.")
    return PARTIAL if failed else 0


def in_processes(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Result]:
    """Results of function(*task) in the order of tasks, by `workers` processes with few results in flight."""
    if workers == 1:
        for task in tasks:
            yield function(*task)
        return
    # a fresh interpreter a worker: zarr and torch have threads that a fork would break
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: list[Future[Result]] = []
        try:
            for task in tasks:
                waiting.append(pool.submit(function, *task))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenProcessPool:
            raise SpectraBridgeError(
                "a worker process was killed (out of memory?); run the same command again, with fewer --workers."
            ) from None
        finally:
            for future in waiting:
                future.cancel()


def main() -> None:
    """Entry point of stores-ingest."""
    run_command(IngestOptions, ingest, "stores-ingest")


if __name__ == "__main__":
    main()
