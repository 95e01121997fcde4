"""heads-predict for a HATS catalogue of spectra: a HATS catalogue of parameters with the same partitions.

A partition is the unit of work: read, prepared as the head's spectra were, embedded where the head reads embeddings,
its parameters written. What is on the way lies beside the catalogue, so that a run that was killed goes on:

    .parameters.work/job.json                    what is being done
    .parameters.work/catalogue/dataset/...       partitions that are done
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heads.bundle import Bundle, load_head
from heads.head import Head
from heads.inputs import InputArrays
from heads.intake import Need, discard, work_folder
from heads.library import find_head, head_of_survey
from heads.portion import portions
from heads.predict import PredictOptions, Summary, catalogue_form, catalogue_part, together
from stores.atomic import remove_folder, replacing
from stores.command import PARTIAL, say
from stores.embedders import find_embedder
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
from stores.progress import progress
from stores.provenance import fingerprint
from stores.spectra import spectra_columns
from stores.store import Array
from stores.surveys import ReadOptions
from stores.tables import TableForm
from stores.task import BLOCK_ROWS
from stores.velocities import Velocities

if TYPE_CHECKING:
    from stores.embedders import ArrayEmbedderLoader


@dataclass(frozen=True)
class Partitions:
    """What makes any of the partitions, small enough to send to another process.

    head: its folder; checked: its fingerprint; need: what spectra have to be for it; rv: catalogue of velocities
    model: where the one lies that the head needs, if not where its name says
    work: the folder for what is on the way; form: of the catalogue
    """

    catalogue: HatsCatalogue
    head: str
    checked: str
    need: Need
    model: str | None
    options: ReadOptions
    rv: Path | None
    work: Path
    form: TableForm

    @property
    def written(self) -> Path:
        """The catalogue as far as it is written."""
        return self.work / "catalogue"

    def write(self, pixel: Pixel) -> str | None:
        """Write the parameters of a partition; gives the reason if its spectra cannot be used."""
        if partition_file(self.written, pixel).exists():  # by a worker that was lost after it
            return None
        try:
            rows, place = self.catalogue.read(pixel)
            if len(rows):
                part = {INDEX: place, **self._parameters(rows)}
                write_partition(self.written, pixel, self.form, part)
        except InputError as error:
            return f"partition {shown(pixel)}: {error}"
        return None

    def _parameters(self, rows: Rows) -> dict[str, Array]:
        """The catalogue's columns of the rows."""
        head, fingerprint = _head(self.head, self.model)
        if fingerprint != self.checked:
            raise ModelError(f"the head in '{self.head}' was changed meanwhile; run the same command again.")
        given = InputArrays(self.need.input, self._columns(rows))
        parts = [catalogue_part(*portion) for portion in portions(head, given, 0, len(given))]
        return next(together(parts, len(given)))

    def _columns(self, rows: Rows) -> dict[str, Array]:
        """What the stores of the rows would have."""
        velocities = None if self.rv is None else _velocities(self.rv)
        grid, preparation = self.need.grid, self.need.preparation
        columns: dict[str, Array] = {}
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, min(start + BLOCK_ROWS, len(rows)))
            for name, values in rows.prepare(block, grid, preparation, self.options, velocities).items():
                if name not in columns:
                    dtype = spectra_columns(grid)[name].dtype
                    columns[name] = np.empty((len(rows), *values.shape[1:]), dtype=dtype)
                columns[name][block] = values
        if self.need.model is not None:
            name, fingerprint = self.need.model
            load: ArrayEmbedderLoader = find_embedder("arrays")
            embed = load(self.model or name, fingerprint, grid.start)
            # as exact as in the stores that heads learn from
            columns["embedding"] = embed(columns["flux"], columns["ivar"]).astype(np.float16)
        return columns


@lru_cache(maxsize=1)
def _head(folder: str, model: str | None) -> tuple[Head | Bundle, str]:
    """The head of this process, and its fingerprint."""
    head = load_head(folder, model)
    return head, head.fingerprint


@lru_cache(maxsize=1)
def _velocities(path: Path) -> Velocities:
    return Velocities.read(path)


# -- the run -----------------------------------------------------------------------------------------------


def predict_hats(options: PredictOptions) -> int:
    """Write the catalogue; returns the exit status. The options are checked."""
    assert options.hats is not None
    folder = head_of_survey(str(options.survey)) if options.head is None else find_head(options.head)
    catalogue = HatsCatalogue.open(options.hats, parse_names(options.columns))
    model = options.model
    if model is not None and Path(model).exists():
        model = str(Path(model).absolute())  # for processes that are at home in other folders
    for cached in (_head, _velocities):
        cached.cache_clear()  # what lies there may have changed
    head, checked = _head(str(folder.absolute()), model)
    need = Need.of(head.identity, folder)
    need.check_model(model)
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
        "made": catalogue.made,
        "rv": None if velocities is None else velocities.fingerprint,
        "head": checked,
    }
    form = catalogue_form(head, folder, {}, 0)
    properties = {"prov_progenitor": catalogue.path, "head_fingerprint": checked}
    about = {**form.about, "hats": given, "job": job, "identity": head.identity, "properties": properties}
    work = work_folder(options.out).absolute()
    maker = Partitions(
        catalogue=catalogue,
        head=str(folder.absolute()),
        checked=checked,
        need=need,
        model=model,
        options=ReadOptions(medium=options.medium, at_rest=options.at_rest),
        rv=None if options.rv is None else options.rv.absolute(),
        work=work,
        form=replace(form, about=about, cards=(), comments=()),
    )
    _begin(options, job, work)
    failed = dict(_make(maker, options))
    status = _finish(maker, head.targets, failed, options.out)
    discard(work)
    return status


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
            Path(maker.head),
            *([] if "://" in maker.catalogue.path else [Path(maker.catalogue.path)]),
            *([] if maker.rv is None else [maker.rv]),
            *([Path(maker.model)] if maker.model is not None and Path(maker.model).is_absolute() else []),
        ],
    )
    done = len(pixels) - len(missing)
    found = progress(found, "predicting", unit="partition", total=len(pixels), done=done)
    for pixel, reason in zip(missing, found, strict=True):
        if reason is not None:
            yield pixel, reason


def _finish(maker: Partitions, targets: Sequence[str], failed: dict[Pixel, str], out: Path) -> int:
    """Make a catalogue of the partitions, give it its name, and say what is in it; returns the exit status."""
    summary, rows = Summary(targets), Counter[Pixel]()
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
        how = "a catalogue can be given with --rv" if maker.rv is None else f"'{maker.rv}' has none for them"
        say(f"note: spectra without a velocity stay in the observed frame; {how}.")
    for reason in list(failed.values())[:SHOWN_FAULTS]:
        say(f"not usable: {reason}")
    if len(failed) > SHOWN_FAULTS:
        say(f"and {len(failed) - SHOWN_FAULTS} more; '{out / TOLD}' lists them all.")
    if failed:
        say("run the same command again to try these partitions again.")
    return PARTIAL if failed else 0
