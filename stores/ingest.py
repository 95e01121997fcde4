"""stores-ingest: survey files -> a spectra store.

stores-ingest --survey desi coadd-*.fits --out desi.zarr
stores-ingest --survey lamost FOLDER --out lamost.zarr --workers 8
stores-ingest --survey lamost FOLDER --out lamost.zarr --scheduler tcp://HOST:8786
stores-ingest --survey fits1d miles/*.fits.gz --out miles.zarr --medium air --at-rest
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stores.command import PARTIAL, run_command, say
from stores.errors import InputError, OptionError, StoreError
from stores.flags import Flag, count_flags
from stores.grid import Grid
from stores.listing import Listing
from stores.location import Location, Url, home
from stores.plan import Plan, expand_files
from stores.prepare import Preparation
from stores.processes import absolute, in_processes, reach
from stores.progress import progress
from stores.provenance import fingerprint
from stores.spectra import SpectraStore, spectra_columns, spectra_details
from stores.store import Store, shard_rows_for
from stores.surveys import ReadOptions, get_survey
from stores.task import Task

SHOWN_FAULTS = 5


@dataclass(kw_only=True)
class InputOptions:
    """Where spectra come from and how they are prepared: what every command that takes files shares."""

    survey: str | None = None
    """Reader of the files: desi, lamost, sdss, fits1d, table, specutils, or one of another package."""
    rv: Path | None = None
    """Catalogue of radial velocities joined by id (DESI mwsall, rvtab, redrock, or a table with id and rv columns)."""
    medium: Literal["air", "vacuum"] | None = None
    """Medium of the wavelengths, where the files do not say."""
    at_rest: bool = False
    """The spectra are in the rest frame already (stellar libraries)."""
    limit: int | None = None
    """Use at most this many spectra."""
    workers: int = 1
    """Processes of this machine that share the work."""
    scheduler: str | None = None
    """Address (tcp://HOST:8786) or file of a Dask scheduler, whose workers do the work instead."""

    def check(self) -> None:
        """Refuse values that cannot work, before anything heavy is loaded."""
        if self.survey is not None:
            get_survey(self.survey).refuse_medium(self.medium)
        if self.at_rest and self.rv is not None:
            raise OptionError("--at-rest and --rv contradict each other; leave one of them out.")
        if self.workers < 1:
            raise OptionError(f"--workers {self.workers} must be 1 or more.")
        if self.workers > 1 and self.scheduler is not None:
            raise OptionError("--workers is of this machine, and --scheduler has workers of its own; leave one out.")
        if self.limit is not None and self.limit < 1:
            raise OptionError(f"--limit {self.limit} must be 1 or more.")

    def plan(
        self, files: Sequence[str], grid: Grid, preparation: Preparation, out: Path | Url, *, look: bool = True
    ) -> Plan:
        """The plan for files named on the command line, whose list is kept beside the store `out`.

        look: at the files; without it the list is taken as another process has left it
        """
        self.check()
        if self.survey is None:
            raise OptionError("files need a reader: add --survey, for instance --survey desi.")
        from stores.velocities import Velocities

        velocities = None if self.rv is None else Velocities.read(self.rv)
        if out.name in ("", ".."):
            raise OptionError(f"--out '{out}' names no store; give it a name of its own, such as spectra.zarr.")
        # a call with other files has another list, so that a mistaken one cannot touch that of a run at work
        call = fingerprint([self.survey, list(files), self.limit])
        path = home(out) / f"{out.name}.files-{call}"
        if look:
            listing = Listing(path)
            reader = get_survey(self.survey)
            if self.at_rest and reader.velocities:
                say(f"note: --at-rest: the velocities that {self.survey} files come with are not applied.")
            try:
                found = expand_files(files, reader.files)
                if self.scheduler is not None:
                    found = map(Path.absolute, found)  # workers are at home in other folders
                listing.look(found, self.survey, limit=self.limit, workers=self.workers, scheduler=self.scheduler)
                if velocities is not None:
                    velocities.tell_joined(listing.all_ids())
            except (InputError, OptionError):
                listing.discard_new()
                raise
        else:
            listing = Listing.open(path)
        options = ReadOptions(medium=self.medium, at_rest=self.at_rest)
        return Plan(self.survey, listing, grid, preparation, options, velocities)


@dataclass(kw_only=True)
class IngestOptions(InputOptions):
    """Prepare survey files onto a common grid and write them as a spectra store."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, or @LIST with a path a line."""
    out: Location
    """The store to write, a path or a URL such as s3://bucket/desi.zarr; an unfinished one of the same job is
    finished."""
    grid: str = "lrs"
    """lrs (3999-5599 A), optical (3700-9100 A) or START:STOP:STEP in log10 of Angstrom."""
    preparation: Annotated[Preparation, tyro.conf.arg(name="")] = Preparation()


def ingest(options: IngestOptions) -> int:
    """Write the store; returns the exit status."""
    options.check()
    reach(options.scheduler)
    plan = options.plan(options.files, Grid.parse(options.grid), options.preparation, options.out)
    store, is_new = write_spectra(plan, options.out, options.workers, options.scheduler)
    return report(store) if is_new else report_finished(store)


def write_spectra(
    plan: Plan, out: Path | Url, workers: int = 1, scheduler: str | None = None
) -> tuple[SpectraStore, bool]:
    """The store of a plan's spectra, whatever of it was there before, and whether any had to be written."""
    try:
        store = SpectraStore.create(
            out,
            spectra_columns(plan.grid),
            len(plan),
            plan.job,
            shard_rows=shard_rows_for(len(plan)),  # not of the workers: the store must not depend on them
            details=spectra_details(plan.grid, plan.survey, plan.preparation),
        )
    except StoreError:
        plan.listing.discard_new()
        raise
    if store.complete:
        discard_lists(plan.listing, store.path)
        return store, False
    missing = unfinished(store)
    path = absolute(store.path)
    tasks = ((str(path), shard, plan.task(store.rows(shard))) for shard in missing)
    for _ in progress(
        in_processes(
            _ingest_shard,
            tasks,
            min(workers, max(len(missing), 1)),
            scheduler,
            named=lambda _, shard, __: f"shard {shard} of '{store.path}'",
            shared=[path, *plan.listing.first()],
        ),
        "preparing",
        unit="shard",
        total=store.n_shards,
        done=store.n_shards - len(missing),
    ):
        pass
    try:
        finish(store, plan.listing.failed())
    except InputError:
        discard_lists(plan.listing, store.path)
        raise
    discard_lists(plan.listing, store.path)
    return store, True


def _ingest_shard(path: str, shard: int, task: Task) -> None:
    store = SpectraStore.open(path, unfinished=True)
    if not is_finished(store, shard):  # by a worker that was lost after it
        store.write_shard(shard, *task.make())


def is_finished(store: Store, shard: int) -> bool:
    """Whether a shard has its marker."""
    try:
        store.marker(shard)
    except StoreError:
        return False
    return True


def discard_lists(listing: Listing, out: Path | Url) -> None:
    """Delete the lists of files of a store that is finished, those of calls that were worded otherwise too."""
    listing.discard()
    for left in home(out).glob(f"{escape(out.name)}.files-*"):
        left.unlink(missing_ok=True)
    if isinstance(out, Url):
        with suppress(OSError):
            home(out).rmdir()  # unless an index is there


def unfinished(store: Store) -> list[int]:
    """The shards that still have to be written."""
    finished = set(store.finished_shards())
    return [shard for shard in range(store.n_shards) if shard not in finished]


def finish(store: Store, failed: Iterable[Mapping[str, str]]) -> None:
    """Declare the store complete, or say why not and delete it, where it has not one usable spectrum.

    failed: inputs that gave no rows at all, {file, reason}

    Raises InputError for a store of no use: it would block its name, and look like a success to the next call.
    """
    counts = _count_flags(store)
    if _usable(store, counts):
        store.finish(failed)
        return
    failures = store.failures(failed)
    store.place.delete()
    if counts[str(Flag.UNREADABLE.name)] == len(store) and _alike(failures):
        raise InputError(f"none of {len(failures)} files can be used; the first: {failures[0]['reason']}")
    _tell_faults(counts, failures)
    raise InputError(
        f"'{store.path}' is not written: not one spectrum has a usable pixel on the grid; check that the files "
        "are of that survey and reach the grid."
    )


def _alike(failed: Sequence[Mapping[str, str]]) -> bool:
    """Whether all files failed for the same reason."""
    return len({entry["reason"].replace(entry["file"], "") for entry in failed}) == 1


def report(store: Store, more: str = "stores-info lists them all") -> int:
    """Say what was written and what was not usable; returns the exit status.

    more: where to look for the rest of many faults
    """
    failed = store.attributes["failed"]
    counts = _count_flags(store)
    spectra = "1 spectrum" if len(store) == 1 else f"{len(store)} spectra"
    say(f"'{store.path}': {spectra} in {store.n_shards} shard{'s' if store.n_shards > 1 else ''}.")
    _tell_faults(counts, failed, f"; {more}")
    _refuse_useless(store, counts)
    return PARTIAL if failed else 0


def report_finished(store: Store) -> int:
    """Say that there was nothing to do; returns the exit status that the store had when it was made."""
    _refuse_useless(store, _count_flags(store))
    failed = len(store.attributes["failed"])
    lost = f" ({failed} files were not usable: stores-info lists them)" if failed else ""
    say(f"'{store.path}' is finished already: {len(store)} rows{lost}.")
    return PARTIAL if failed else 0


def _count_flags(store: Store) -> Counter[str]:
    counts: Counter[str] = Counter()
    for shard in range(store.n_shards):
        counts.update(count_flags(store.read("flags", store.rows(shard))))
    return counts


def _usable(store: Store, counts: Counter[str]) -> bool:
    return counts[str(Flag.NO_VALID_PIXELS.name)] < len(store)


def _refuse_useless(store: Store, counts: Counter[str]) -> None:
    """Stores without a usable spectrum are not finished any more, but were once."""
    if not _usable(store, counts):
        raise InputError(
            f"'{store.path}' has not one spectrum with a usable pixel on the grid; delete it, and check the files."
        )


def _tell_faults(counts: Counter[str], failed: Sequence[Mapping[str, str]], more: str = "") -> None:
    """Say how many spectra have which flags, and which files could not be used."""
    if counts:
        # in the order of their bits
        told = ((flag.name, counts[str(flag.name)]) for flag in Flag if counts[str(flag.name)])
        say("flagged: " + ", ".join(f"{name} {count}" for name, count in told) + ".")
    if counts[str(Flag.RV_MISSING.name)]:
        say("note: spectra without a velocity stay in the observed frame; a catalogue can be given with --rv.")
    for entry in failed[:SHOWN_FAULTS]:
        say(f"not usable: {entry['reason']}")
    if len(failed) > SHOWN_FAULTS:
        say(f"and {len(failed) - SHOWN_FAULTS} more{more}.")


def main() -> None:
    """Entry point of stores-ingest."""
    run_command(IngestOptions, ingest, "stores-ingest")


if __name__ == "__main__":
    main()
