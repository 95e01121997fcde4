"""heads-predict for a HATS catalogue of spectra: a HATS catalogue of parameters with the same partitions.

A partition is the unit of work: read, prepared as the head's spectra were, embedded where the head reads embeddings,
its parameters written. What is on the way lies beside the catalogue, so that a run that was killed goes on:

    .parameters.work/job.json                    what is being done
    .parameters.work/catalogue/dataset/...       partitions that are done
    .parameters.work/parts/Norder=1/Npix=44/     stores of one that is not
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heads.bundle import Bundle, load_head
from heads.head import Head
from heads.inputs import InputStores
from heads.intake import Need, discard, work_folder
from heads.library import find_head, head_of_survey
from heads.portion import portions
from heads.predict import KINDS, SPECTRUM, PredictOptions, Summary, catalogue_form, catalogue_part, together
from stores.atomic import remove_folder, replacing
from stores.command import PARTIAL, say
from stores.errors import InputError, ModelError, OptionError
from stores.flags import Flag
from stores.hats import (
    INDEX,
    TOLD,
    HatsCatalogue,
    Pixel,
    finish,
    json_of,
    partition_file,
    partitions,
    shown,
    told_of,
    write_partition,
)
from stores.ingest import SHOWN_FAULTS
from stores.nested import Rows, parse_names
from stores.processes import in_processes
from stores.progress import progress, silently
from stores.provenance import fingerprint
from stores.spectra import SpectraStore, spectra_columns, spectra_details
from stores.store import Array, shard_rows_for
from stores.surveys import ReadOptions
from stores.tables import TableForm
from stores.task import BLOCK_ROWS
from stores.velocities import Velocities

if TYPE_CHECKING:
    from stores.embedders import StoreEmbedder


@dataclass(frozen=True)
class Partitions:
    """What makes any of the partitions, small enough to send to another process.

    head: its folder; checked: its fingerprint; model: where the one lies that it needs; rv: catalogue of velocities;
    work: the folder for what is on the way; form: of the catalogue
    """

    catalogue: HatsCatalogue
    head: str
    checked: str
    model: str | None
    survey: str
    options: ReadOptions
    rv: Path | None
    work: Path
    form: TableForm

    def write(self, pixel: Pixel) -> str | None:
        """Write the parameters of a partition; gives the reason if its spectra cannot be used."""
        if partition_file(self.written, pixel).exists():  # by a worker that was lost after it
            return None
        folder = self.work / "parts" / shown(pixel)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            rows, place = self.catalogue.read(pixel)
            if len(rows):
                write_partition(self.written, pixel, self.form, {INDEX: place, **self._parameters(rows, folder)})
        except InputError as error:
            return str(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return None

    @property
    def written(self) -> Path:
        """The catalogue as far as it is written."""
        return self.work / "catalogue"

    def _parameters(self, rows: Rows, folder: Path) -> dict[str, Array]:
        """The catalogue's columns of the rows."""
        head = _head(self.head, self.checked, self.model)
        need = Need.of(head.identity, Path(self.head))
        spectra = self._spectra(rows, need, folder / "spectra.zarr")
        embeddings = None
        if need.model is not None:
            if not spectra.read("ivar").any():
                return _without(head, spectra)
            from stores.embedders import find_embedder

            embeddings = folder / "embeddings.zarr"
            embed: StoreEmbedder = find_embedder("store")
            with silently():
                embed(spectra.path, embeddings, self.model or need.model[0])
        stores = InputStores.open(need.input, str(spectra.path), None if embeddings is None else str(embeddings))
        parts = (catalogue_part(*portion) for portion in portions(head, stores, 0, len(stores)))
        return next(together(parts, len(stores)))

    def _spectra(self, rows: Rows, need: Need, path: Path) -> SpectraStore:
        """The rows as a spectra store, like that of any other input."""
        velocities = None if self.rv is None else _velocities(self.rv)
        store = SpectraStore.create(
            path,
            spectra_columns(need.grid),
            len(rows),
            {"partition": path.parent.name},
            shard_rows=shard_rows_for(len(rows)),
            details=spectra_details(need.grid, self.survey, need.preparation),
        )
        for shard in range(store.n_shards):
            whole = store.rows(shard)
            blocks = [
                rows.prepare(
                    slice(start, min(start + BLOCK_ROWS, whole.stop)),
                    need.grid,
                    need.preparation,
                    self.options,
                    velocities,
                )
                for start in range(whole.start, whole.stop, BLOCK_ROWS)
            ]
            store.write_shard(shard, {name: np.concatenate([one[name] for one in blocks]) for name in blocks[0]}, {})
        store.finish()
        return SpectraStore.open(path)


@lru_cache(maxsize=1)
def _head(folder: str, checked: str, model: str | None) -> Head | Bundle:
    """The head of this process."""
    head = load_head(folder, model)
    if head.fingerprint != checked:
        raise ModelError(f"the head in '{folder}' was changed meanwhile; run the same command again.")
    return head


@lru_cache(maxsize=1)
def _velocities(path: Path) -> Velocities:
    return Velocities.read(path)


def _without(head: Head | Bundle, spectra: SpectraStore) -> dict[str, Array]:
    """Rows of which none has a valid pixel: no parameters, and the flags that say why."""
    part: dict[str, Array] = {name: spectra.read(name) for name in ("id", *SPECTRUM)}
    nothing = np.full(len(spectra), np.nan, dtype=np.float32)
    part |= {target + suffix: nothing for target in head.targets for suffix, _, _ in KINDS}
    return {**part, "flags": spectra.read("flags")}


# -- the run -----------------------------------------------------------------------------------------------


def predict_hats(options: PredictOptions) -> int:
    """Write the catalogue; returns the exit status. The options are checked."""
    assert options.hats is not None
    survey = options.survey or "hats"
    folder = head_of_survey(survey) if options.head is None else find_head(options.head)
    catalogue = HatsCatalogue.open(options.hats, parse_names(options.columns))
    head = load_head(folder, options.model)
    need = Need.of(head.identity, folder)
    model = need.check_model(options.model)
    if model is not None and Path(model).exists():
        model = str(Path(model).absolute())
    velocities = None if options.rv is None else _velocities(options.rv.absolute())
    given = {
        "catalogue": catalogue.path,
        "columns": dict(catalogue.columns.of),
        "partitions": len(catalogue.pixels),
        "survey": options.survey,
        "medium": options.medium or "vacuum",
        "at_rest": options.at_rest,
        "rv": None if options.rv is None else str(options.rv),
    }
    job = {
        **given,
        "partitions": fingerprint(catalogue.pixels),
        "rv": None if velocities is None else velocities.fingerprint,
        "head": head.fingerprint,
    }
    form = catalogue_form(head, folder, {}, 0)
    form = replace(form, about={**form.about, "hats": given, **_shared(job, head, catalogue)}, cards=(), comments=())
    work = work_folder(options.out).absolute()
    maker = Partitions(
        catalogue,
        str(folder.absolute()),
        head.fingerprint,
        model if model is not None else options.model,
        survey,
        ReadOptions(medium=options.medium, at_rest=options.at_rest),
        None if options.rv is None else options.rv.absolute(),
        work,
        form,
    )
    _begin(options, job, work)
    failed = dict(_make(maker, options))
    status = _finish(maker, head, failed, options.out)
    discard(work)
    return status


def _shared(job: dict[str, Any], head: Head | Bundle, catalogue: HatsCatalogue) -> dict[str, Any]:
    """What the catalogue says of itself beside what every catalogue of parameters does."""
    return {
        "job": job,
        "identity": head.identity,
        "properties": {"prov_progenitor": catalogue.path, "head_fingerprint": head.fingerprint},
    }


def _begin(options: PredictOptions, job: dict[str, Any], work: Path) -> None:
    """Find what the same call has left, in `work` or as a catalogue that lacks partitions; refuse that of another."""
    kept = work / "job.json"
    if json_of(kept) not in ({}, job):
        raise OptionError(
            f"'{work}' holds what another call has begun; choose another --out, or delete it to begin anew."
        )
    told = told_of(options.out)
    again = bool(told.get("failed")) and told.get("job") == job
    if options.out.exists() and not again and not options.overwrite:
        raise OptionError(f"'{options.out}' exists; choose another --out or add --overwrite.")
    work.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as temporary:
        temporary.write_text(json.dumps(job, indent=1) + "\n")
    if again and not options.overwrite and not (work / "catalogue").exists():
        say(f"note: {len(told['failed'])} partitions that '{options.out}' lacks are tried again.")
        os.replace(options.out, work / "catalogue")


def _make(maker: Partitions, options: PredictOptions) -> Iterator[tuple[Pixel, str]]:
    """Make the partitions that are not there yet; gives those that cannot be used, and why."""
    pixels = maker.catalogue.pixels
    missing = [pixel for pixel in pixels if not partition_file(maker.written, pixel).exists()]
    found = in_processes(
        Partitions.write,
        ((maker, pixel) for pixel in missing),
        min(options.workers, max(len(missing), 1)),
        options.scheduler,
        named=lambda _, pixel: f"partition {shown(pixel)}",
        shared=[
            maker.work,
            *(Path(path) for path in (maker.head, maker.catalogue.path) if "://" not in path),
            *([] if maker.rv is None else [maker.rv]),
        ],
    )
    done = len(pixels) - len(missing)
    found = progress(found, "predicting", unit="partition", total=len(pixels), done=done)
    for pixel, reason in zip(missing, found, strict=True):
        if reason is not None:
            yield pixel, reason


def _finish(maker: Partitions, head: Head | Bundle, failed: dict[Pixel, str], out: Path) -> int:
    """Make a catalogue of the partitions, give it its name, and say what is in it; returns the exit status."""
    summary, rows = Summary(head.targets), Counter[Pixel]()
    for pixel, table in partitions(maker.written, maker.catalogue.pixels):
        rows[pixel] = table.num_rows
        for _ in summary.watch([{name: table[name].to_numpy() for name in table.column_names}]):
            pass
    if not rows:
        discard(maker.work)
        first = next(iter(failed.values()), "it has no rows")
        raise InputError(f"nothing in '{maker.catalogue.path}' can be used: {first.rstrip('.')}.")
    told = [{"partition": shown(pixel), "reason": reason} for pixel, reason in failed.items()]
    form = replace(maker.form, rows=summary.rows, about={**maker.form.about, "failed": told})
    with replacing(maker.written / TOLD) as temporary:
        temporary.write_text(json.dumps(form.about, indent=1) + "\n")
    finish(maker.written, out.name, form, list(rows), max(rows.values()))
    if out.exists():
        remove_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(maker.written, out)
    say(f"'{out}': {len(rows)} partitions, {summary}")
    if summary.flags[str(Flag.RV_MISSING.name)]:
        say("note: spectra without a velocity stay in the observed frame; a catalogue can be given with --rv.")
    for reason in list(failed.values())[:SHOWN_FAULTS]:
        say(f"not usable: {reason}")
    if len(failed) > SHOWN_FAULTS:
        say(f"and {len(failed) - SHOWN_FAULTS} more; '{out / TOLD}' lists them all.")
    if failed:
        say("run the same command again to try these partitions again.")
    return PARTIAL if failed else 0
