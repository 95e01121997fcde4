"""embed-spectra: spectra -> an embedding store.

    embed-spectra --survey desi coadd-*.fits --out desi-embeddings.zarr
    embed-spectra lamost.zarr --model run --out lamost-embeddings.zarr
    embed-spectra --survey desi                    (a built-in sample)
    embed-spectra lamost.zarr --scheduler tcp://HOST:8786 --out lamost-embeddings.zarr
    accelerate launch --num_processes 4 embed/run.py lamost.zarr --out lamost-embeddings.zarr

With --workers on a CPU, or with --scheduler, whole shards are made by workers, each with the model; on a GPU workers
prepare spectra and this process embeds them. Under a launcher every process writes whole shards of its own.

A shard is the unit of work: prepared, embedded, checked, written, marked. Run the same command again to finish
what was interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script: import the packages beside embed/, not the files in it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from embed.backend import TRIED, choose, installed, refuse_openvino
from embed.embedder import Embedder, Recipe, usable_device, write_shard
from embed.launch import join_processes, leave_processes, main_first, started_alone
from embed.load import DEFAULT, LoadedModel, ModelDescription, describe_model, load_model, model_place
from embed.work import FromFiles, FromSample, FromStore, Work, make_part
from stores.command import run_command, say
from stores.embeddings import EmbeddingStore, embedding_columns
from stores.errors import InputError, ModelError, OptionError, StoreError
from stores.flags import Flag
from stores.grid import Grid
from stores.ingest import InputOptions, finish, report, report_finished, unfinished
from stores.location import Location, Url, location
from stores.lock import writing
from stores.marker import METADATA
from stores.place import place_at
from stores.plan import make_plan
from stores.processes import absolute, in_processes, reach
from stores.progress import progress
from stores.sample import SAMPLE_STARS, SURVEYS, BuiltInSample, check_sampled
from stores.spectra import SpectraStore
from stores.surveys import ReadOptions
from stores.velocities import Velocities

if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(kw_only=True)
class EmbedOptions(InputOptions):
    """Embed spectra with a pre-trained transformer and write an embedding store."""

    inputs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Survey files or folders (with --survey), or one spectra store; nothing for a built-in sample."""
    model: str = DEFAULT
    """Built-in model, folder from embed-pretrain, hub id, or specclip:PATH_OR_HUB_ID for a published SpecCLIP."""
    out: Location | None = None
    """The store to write, a path or a URL (default: SURVEY-MODEL.zarr, or SURVEY-sample-MODEL.zarr for the built-in
    sample); an unfinished one of the same job is finished."""
    grid: str | None = None
    """Grid for files, if not the one the model was trained on: lrs, optical or START:STOP:STEP (same step)."""
    batch_size: int = 256
    """Spectra that the model takes at once; on a CPU no more than 64, which is faster there."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    backend: Literal["auto", "torch", "openvino"] = "torch"
    """What runs the model; auto times both on a CPU, so that last bits depend on which was the faster."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the arithmetic: bfloat16 is faster on processors and cards that have it, and a little less exact."""
    dtype: Annotated[Literal["float16", "float32"], tyro.conf.arg(name="store-dtype")] = "float16"
    """Type of the stored embeddings."""

    @property
    def takes_store(self) -> bool:
        """Whether the input is a spectra store and no files."""
        return len(self.inputs) == 1 and place_at(self.inputs[0]).has(METADATA)

    def job(self, work: Work) -> dict[str, object]:
        """What decides the content of the store, but for the model."""
        return {**work.job, "dtype": self.dtype, "precision": self.precision}

    def check(self) -> None:
        """Refuse values and inputs that cannot work, before anything heavy is loaded."""
        if self.batch_size < 1:
            raise OptionError(f"--batch-size {self.batch_size} must be 1 or more.")
        if self.backend == "openvino":
            refuse_openvino(self.device)
        super().check()
        if self.scheduler is not None and not started_alone():
            raise OptionError("--scheduler has workers of its own; start the command once, without a launcher.")
        if self.grid is not None:
            Grid.parse(self.grid)
        for_files = ("rv", "medium", "at_rest") + (("grid", "limit") if self.takes_store else ())
        given = [name.replace("_", "-") for name in for_files if getattr(self, name)]
        if self.takes_store and given:
            raise OptionError(f"--{given[0]} works with files; a spectra store is taken as it is.")
        if not self.inputs and given:
            raise OptionError(f"--{given[0]} works with files, and none were given.")
        if not self.inputs:
            check_sampled(self.survey or SURVEYS[0])
        elif not self.takes_store:
            if isinstance(location(self.inputs[0]), Url):
                raise InputError(f"no spectra store lies at '{self.inputs[0]}'; check it (files are read from disk).")
            if not any(Path(name.removeprefix("@")).exists() for name in self.inputs):
                raise InputError(f"'{self.inputs[0]}' does not exist; check the path.")
            if any(place_at(name).has(METADATA) for name in self.inputs):
                raise OptionError("one spectra store is embedded at a time, with no files beside it.")
            if self.survey is None:
                raise OptionError("files need a reader: add --survey, for instance --survey desi.")
            if self.rv is not None and not self.rv.exists():
                raise InputError(f"'{self.rv}' does not exist; check the path.")


def embed(options: EmbedOptions, *, quiet: bool = False) -> int:
    """Write the embedding store; returns the exit status.

    quiet: say nothing of what was written
    """
    options.check()
    reach(options.scheduler)
    with ExitStack() as held:
        model = describe_model(options.model) if started_alone() else None
        if model is not None:
            options = _placed(options, model, held)
        seen = None if model is None else _seen_early(options, model)
        state = join_processes(cpu=options.device == "cpu")
        try:
            return _embed(options, state, seen, held, quiet)
        finally:
            leave_processes()


def _placed(options: EmbedOptions, model: ModelDescription, held: ExitStack) -> EmbedOptions:
    """With a store to write, where none was named; what was not named is not locked by the command either."""
    if options.out is not None:
        return options
    out = _default_out(options, model)
    held.enter_context(writing(out))
    return replace(options, out=out)


def _seen_early(options: EmbedOptions, model: ModelDescription) -> Work | None:
    """The input, looked at before torch is loaded, which takes seconds; None without any.

    Refuses what is there of another job.
    """
    out = options.out
    if not options.inputs or out is None:
        return None
    work = _work(options, model, out)
    try:
        if place_at(out).taken():
            store = EmbeddingStore.open(out, unfinished=True)
            store.refuse_other_job(options.job(work))
            theirs = store.attributes["job"].get("model")
            if isinstance(theirs, dict) and theirs.get("fingerprint") != model.fingerprint:
                store.refuse_other_job({"model": {**theirs, "fingerprint": model.fingerprint}})
    except StoreError:
        work.refuse()
        raise
    return work


def _embed(options: EmbedOptions, state: PartialState, seen: Work | None, held: ExitStack, quiet: bool) -> int:
    """The part of one of the processes."""
    try:
        model = load_model(options.model)
    except ModelError:
        if seen is not None:
            seen.refuse()
        raise
    out = options.out or _default_out(options, model)
    # None: each worker has its own
    device = None if options.scheduler else usable_device(options.device, lambda: str(state.device))
    work = main_first(state, lambda: _begin(_placed(options, model, held), model, out, seen, device))
    if work is None:
        work = _work(options, model, out, look=False)
    store = EmbeddingStore.open(out, unfinished=True)
    if store.complete:
        if not state.is_main_process:
            return 0
        work.leave(out)
        return 0 if quiet else report_finished(store)
    missing = unfinished(store)
    # by number: the others may be writing already, and see another list
    mine = [shard for shard in missing if shard % state.num_processes == state.process_index]
    if device is None or (device == "cpu" and options.workers > 1 and state.num_processes == 1):
        written = _embedded_elsewhere(store, work, model, mine, options)
    else:
        backend = _backend(store)
        embedder = Embedder(model, work.start, device, options.batch_size, backend, options.precision)
        written = _embedded_here(store, work, embedder, mine, options, state)
    if state.is_main_process:
        done = store.n_shards - len(missing)
        written = progress(written, "embedding", unit="shard", total=done + len(mine), done=done)
    for _ in written:
        pass
    state.wait_for_everyone()
    if not state.is_main_process:
        return 0
    try:
        finish(store, work.failed())
    except InputError:
        work.leave(out)
        raise
    work.leave(out)
    return 0 if quiet else report(store)


def _begin(options: EmbedOptions, model: LoadedModel, out: Path | Url, seen: Work | None, device: str | None) -> Work:
    """Look at the input, if it was not seen, and create the store, or find that of this job."""
    work = _work(options, model, out) if seen is None else seen
    try:
        there = place_at(out).taken()
        backend = "torch" if there else _chosen(options, model, work, device)
        store = EmbeddingStore.create(
            out,
            embedding_columns(model.width, options.dtype),
            len(work),
            {**options.job(work), "model": model.attributes()},
            shard_rows=work.shard_rows(),
            details={**work.details, "model": model.attributes(), "backend": backend},
        )
        if options.backend not in ("auto", "torch", _backend(store)):
            raise StoreError(
                f"'{store.path}' was begun with the backend {_backend(store)}; leave --backend out, or choose "
                "another --out."
            )
    except StoreError:
        work.refuse()
        raise
    return work


def _chosen(options: EmbedOptions, model: LoadedModel, work: Work, device: str | None) -> str:
    """The backend of a job."""
    if options.backend != "auto":
        return options.backend
    if device != "cpu" or not installed():
        return "torch"
    some = work.part(0, slice(0, min(TRIED, len(work)))).make()[0]
    usable = np.any(some["ivar"] > 0, axis=1)
    found = choose(model, work.start, options.precision, len(work), some["flux"][usable], some["ivar"][usable])
    if found != "torch":
        say(f"note: {found} runs the model, as it is the faster here.")
    return found


def _backend(store: EmbeddingStore) -> str:
    """The one that a store was begun with: what was interrupted goes on alike."""
    return str(store.attributes.get("backend", "torch"))


def _embedded_here(
    store: EmbeddingStore,
    work: Work,
    embedder: Embedder,
    shards: list[int],
    options: EmbedOptions,
    state: PartialState,
) -> Iterator[None]:
    """Embed and write shards in this process; those from files are prepared by workers."""
    parts = ((shard, work.part(shard, store.rows(shard))) for shard in shards)
    workers = min(options.workers, max(len(shards), 1)) if work.takes_time else 1
    for shard, values, record in in_processes(make_part, parts, workers, named=lambda shard, _: f"shard {shard}"):
        write_shard(store, shard, values, record, embedder, state.process_index)
        yield


def _embedded_elsewhere(
    store: EmbeddingStore, work: Work, model: LoadedModel, shards: list[int], options: EmbedOptions
) -> Iterator[None]:
    """Whole shards by workers, each with the model."""
    out = absolute(store.path)
    place = model_place(options.model)
    recipe = Recipe(
        str(out),
        place,
        model.fingerprint,
        work.start,
        options.device,
        options.batch_size,
        _backend(store),
        options.precision,
    )
    return in_processes(
        Recipe.write,
        ((recipe, shard, work.part(shard, store.rows(shard))) for shard in shards),
        min(options.workers, max(len(shards), 1)),
        options.scheduler,
        named=lambda _, shard, __: f"shard {shard} of '{store.path}'",
        shared=[out, *work.shared(), *([Path(place)] if Path(place).is_absolute() else [])],
    )


def _work(options: EmbedOptions, model: ModelDescription, out: Path | Url, *, look: bool = True) -> Work:
    """Where the spectra come from, checked against what the model was trained on.

    look: at the input, and say what there is to say; without it, another process has
    """
    if options.takes_store:
        store = SpectraStore.open(options.inputs[0])
        if look:
            check_preparation(store, model)
            check_grid(store.grid, model)
        return FromStore(store)
    grid = model.grid if options.grid is None else Grid.parse(options.grid)
    if look:
        check_grid(grid, model)
    if options.inputs:
        return FromFiles(options.plan(options.inputs, grid, model.preparation, out, look=look))
    stars = min(options.limit or SAMPLE_STARS, SAMPLE_STARS)
    sample = BuiltInSample(options.survey or SURVEYS[0], grid, model.preparation, stars)
    if look:
        say(f"no files were given: embedding a built-in sample of {len(sample)} simulated {sample.survey} spectra.")
    return FromSample(sample)


def check_preparation(store: SpectraStore, model: ModelDescription) -> None:
    """Refuse spectra that were prepared otherwise than those the model was trained on."""
    if store.preparation_fingerprint == model.preparation_fingerprint:
        return
    mine, theirs = store.attributes["preprocessing"], model.preprocessing
    differing = [name for name in {**mine, **theirs} if name != "fingerprint" and mine.get(name) != theirs.get(name)]
    name = differing[0] if differing else "fingerprint"
    raise StoreError(
        f"'{store.path}' was prepared with {name} = {mine.get(name)!r} but the spectra of the model '{model.name}' "
        f"with {theirs.get(name)!r}; ingest the files again as the model's were, or embed them with --survey."
    )


def check_grid(grid: Grid, model: ModelDescription) -> None:
    """Refuse a grid whose pixels are not the model's; warn of one that goes beyond what it was trained on."""
    if model.fixed_grid and grid != model.grid:
        raise OptionError(
            f"the model '{model.name}' embeds spectra on the grid '{model.grid}' and on no other, not on '{grid}'; "
            "leave --grid out, or ingest on that grid."
        )
    if abs(grid.step - model.grid.step) > 1e-12:
        raise OptionError(
            f"grid '{grid}' has steps of {grid.step:g} but the model '{model.name}' was trained on "
            f"{model.grid.step:g} in log10 of Angstrom; choose a grid with that step."
        )
    known, asked = model.grid.wavelength, grid.wavelength
    if asked[0] < known[0] - 1 or asked[-1] > known[-1] + 1:
        say(
            f"note: the model '{model.name}' was trained on {known[0]:.0f}-{known[-1]:.0f} A and embeds "
            f"{asked[0]:.0f}-{asked[-1]:.0f} A; what it makes of the wavelengths beyond is not trained."
        )


def _default_out(options: EmbedOptions, model: ModelDescription) -> Path:
    """Named after survey, or store, and model: desi-tiny-views.zarr; desi-sample-tiny-views.zarr without files."""
    source = f"{options.survey or SURVEYS[0]}-sample"
    if options.inputs:
        source = location(options.inputs[0]).stem if options.takes_store else str(options.survey)
    # of a hub id, the last part
    short = model.name.replace(":", "/").rsplit("/", 1)[-1].removesuffix(".ckpt")
    return Path(f"{source}-{short}.zarr")


def embed_file(
    path: Path,
    survey: str,
    store: EmbeddingStore,
    model: str | None = None,
    options: ReadOptions = ReadOptions(),
    velocities: Velocities | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """ids (n,) and embeddings (n, d) of the spectra of one file, made exactly as those of a store were."""
    attributes = store.attributes
    loaded = load_model(model or attributes["model"]["name"])
    if loaded.fingerprint != attributes["model"]["fingerprint"]:
        raise StoreError(
            f"'{store.path}' was made with other weights than those of '{loaded.name}'; name its model with --model."
        )
    grid = Grid(**attributes["grid"])
    plan = make_plan(survey, [path], grid, loaded.preparation, options=options, velocities=velocities)
    values, record = plan.make()
    if record["failed"]:
        raise InputError(record["failed"][0]["reason"])
    missing = np.count_nonzero(values["flags"] & np.uint32(Flag.RV_MISSING))
    if missing and loaded.preparation.frame == "rest":
        say(
            f"note: {missing} of {len(values['id'])} spectra in '{path}' have no velocity and stay in the observed "
            "frame; a catalogue can be given with --rv."
        )
    return values["id"], Embedder(loaded, grid.start, "cpu", 256)(values["flux"], values["ivar"])


def embed_store(spectra: Path | Url, out: Path, model: str, workers: int = 1, scheduler: str | None = None) -> None:
    """Embed a spectra store into `out` as embed-spectra does, for other packages; what is unfinished is finished."""
    options = EmbedOptions(inputs=(str(spectra),), model=model, out=out, workers=workers, scheduler=scheduler)
    embed(options, quiet=True)


def check_model(model: str, fingerprint: str) -> None:
    """Raise ModelError if a model cannot be had, or has other weights than those with the fingerprint."""
    found = describe_model(model) or load_model(model)
    if found.fingerprint != fingerprint:
        raise ModelError(f"the model '{model}' has other weights ({found.fingerprint}, not {fingerprint}).")


def main() -> None:
    """Entry point of embed-spectra."""
    run_command(EmbedOptions, embed, "embed-spectra")


if __name__ == "__main__":
    main()
