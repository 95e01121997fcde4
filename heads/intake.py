"""Intake: survey files, or the built-in sample, as stores like those that a head learned from.

A hidden folder beside the catalogue holds what is on the way, so that a run that was killed goes on:

    .parameters.parquet.work/spectra.zarr        prepared as the head's spectra were
    .parameters.parquet.work/embeddings.zarr     by the head's model, where it reads embeddings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heads.library import ask_of_model
from stores.atomic import remove_folder
from stores.command import say
from stores.errors import InputError, ModelError, StoreError
from stores.grid import Grid
from stores.location import Url
from stores.prepare import Preparation
from stores.sample import SAMPLE_STARS, SURVEYS, BuiltInSample

if TYPE_CHECKING:
    from stores.embedders import StoreEmbedder
    from stores.ingest import InputOptions
    from stores.spectra import SpectraStore


@dataclass(frozen=True)
class Need:
    """What stores have to be for a head: input, grid, preparation, and its model's name and fingerprint, if any."""

    input: str
    grid: Grid
    preparation: Preparation
    model: tuple[str, str] | None

    @classmethod
    def of(cls, identity: Mapping[str, Any], folder: Path) -> Need:
        """What a head's identity asks for. Raises ModelError if it does not say enough.

        folder: of the head
        """
        from heads.inputs import BLOCKS, INPUTS

        grid, told, model = Grid(**identity["grid"]), identity["preprocessing"], None
        # heads of earlier versions remember no more than the fingerprint
        preparation = Preparation.from_attributes(dict(told)) if isinstance(told, Mapping) else Preparation()
        if preparation.attributes(grid)["fingerprint"] != (told["fingerprint"] if isinstance(told, Mapping) else told):
            raise ModelError(
                f"the head in '{folder}' learned from spectra that this version of spectrabridge cannot prepare; make "
                "it again with heads-train, or give it stores."
            )
        if any(BLOCKS[block].store == "embeddings" for block in INPUTS[identity["input"]]):
            model = (str(identity["model"]["name"]), str(identity["model"]["fingerprint"]))
        return cls(identity["input"], grid, preparation, model)

    def check_model(self, where: str | None) -> str | None:
        """Where the model lies that the head needs, None if it needs none. Raises ModelError if it is not to be had.

        where: if not where the head's name for it says
        """
        if self.model is None:
            return None
        ask_of_model("check", *self.model, where)
        return where or self.model[0]


@dataclass(frozen=True)
class Taken:
    """Stores by kind, what a catalogue says of where they are from, and the exit status so far."""

    stores: Mapping[str, Path | Url]
    about: Mapping[str, Any]
    status: int


def work_folder(out: Path) -> Path:
    """Where what is on the way to a catalogue lies."""
    return out.with_name(f".{out.name}.work")


def take_in(options: InputOptions, files: Sequence[str], need: Need, model: str | None, work: Path) -> Taken:
    """Prepare files, or the built-in sample if there are none, and embed them; what was done before is kept.

    model: where the one that the head needs lies

    Raises InputError if nothing can be used; then nothing is left.
    """
    _begin_anew(work)
    work.mkdir(parents=True, exist_ok=True)
    try:
        store, status = _spectra(options, files, need, work / "spectra.zarr")
    finally:
        with suppress(OSError):
            work.rmdir()  # if it is empty: the call could not work
    stores: dict[str, Path | Url] = {"spectra": store.path}
    if model is not None:
        from stores.embedders import find_embedder

        embed: StoreEmbedder = find_embedder("store")
        stores["embeddings"] = whole = work / "embeddings.zarr"
        embed(store.path, whole, model, options.workers, options.scheduler)
    about = {
        "survey": store.survey,
        "given": list(files),
        "sources": store.source_totals(),
        "failed": store.attributes["failed"],
    }
    return Taken(stores, about, status)


def _spectra(options: InputOptions, files: Sequence[str], need: Need, out: Path) -> tuple[SpectraStore, int]:
    """The prepared spectra, and the exit status: some files may have been of no use."""
    from stores.ingest import report, write_spectra

    if not files:
        stars = min(options.limit or SAMPLE_STARS, SAMPLE_STARS)
        sample = BuiltInSample(options.survey or SURVEYS[0], need.grid, need.preparation, stars)
        say(f"no files were given: a built-in sample of {stars} simulated {sample.survey} spectra is taken.")
        return sample.write(out), 0
    plan = options.plan(files, need.grid, need.preparation, out)
    try:
        store, _ = write_spectra(plan, out, options.workers, options.scheduler)
        return store, report(store, "with --keep-work the spectra are kept, and stores-info lists them all")
    except InputError:
        discard(out.parent)  # no row is of any use
        raise


def _begin_anew(work: Path) -> None:
    """Delete work with a damaged store in it, and say so: it can be made again, but not gone on with."""
    from stores.soundness import refuse_missing_files, refuse_missing_markers
    from stores.store import open_store

    for path in work.glob("*.zarr"):
        try:
            store = open_store(path, unfinished=True)
            if store.complete:
                refuse_missing_markers(store)
                refuse_missing_files(store)
        except StoreError as error:
            say(f"note: {str(error).partition(';')[0].rstrip('.')}; the work is begun anew.")
            discard(work)
            return


def discard(work: Path) -> None:
    """Delete what was on the way."""
    if work.exists():
        remove_folder(work)
