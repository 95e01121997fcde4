"""Study: the stars of a source survey and of a target survey, and which of them are learned from and tested.

A study lies in a folder as study.json, which names stores and labels, so that every process can open it by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.request import LEAST_TESTED
from benchmarks.task import Task
from heads.inputs import INPUTS, InputStores
from heads.sample import Sample
from heads.sources import Source, star_numbers
from stores.atomic import replacing
from stores.errors import InputError, OptionError
from stores.id_table import IdTable
from stores.labels import Labels
from stores.location import Url, location
from stores.provenance import fingerprint
from stores.spectra import SpectraStore

Float = NDArray[np.float64]

STUDY = "study.json"


@dataclass(frozen=True)
class Side:
    """Stores and labels of one survey.

    share: how much it counts among the sources
    """

    name: str
    spectra: Path | Url
    embeddings: Path
    labels: Path
    share: float = 1.0

    def open(self) -> Source:
        """Its stores, with both pixels and embeddings, and its labels."""
        return Source.open(InputStores.open("fused", self.spectra, self.embeddings), str(self.labels))

    def identity(self, name: str) -> dict[str, Any]:
        """What a head that learns from the input `name` remembers of it."""
        return InputStores.open(name, self.spectra, self.embeddings).identity

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of stores and labels."""
        stores = InputStores.open("fused", self.spectra, self.embeddings).stores
        return {kind: store.fingerprint for kind, store in stores.items()} | {
            "labels": Labels.load(self.labels).fingerprint
        }


@dataclass(frozen=True)
class Study:
    """What is compared on: sources, a target, and the labels to give.

    targets: labels; teff_range: K, of all stars
    pool: target stars that may be learned from; the others are tested, `tested` of them at most
    truth: table with the true labels of the target's stars by id, and their Cramer-Rao bounds sigma_LABEL; without it
        the target's labels are what predictions are held against
    pipelines: name -> labels of the target's stars as a survey's own pipeline gives them
    """

    name: str
    sources: tuple[Side, ...]
    target: Side
    targets: tuple[str, ...]
    pool: int
    tested: int
    teff_range: tuple[float, float] | None = None
    truth: Path | None = None
    pipelines: Mapping[str, Path] = field(default_factory=dict)
    seed: int = 0

    def save(self, folder: Path) -> None:
        """Write study.json."""
        with replacing(folder / STUDY) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read study.json."""
        held = json.loads((folder / STUDY).read_text())

        def side(values: dict[str, Any]) -> Side:
            paths = {name: Path(values[name]) for name in ("embeddings", "labels")}
            return Side(**{**values, **paths, "spectra": location(values["spectra"])})

        held |= {
            "sources": tuple(side(one) for one in held["sources"]),
            "target": side(held["target"]),
            "targets": tuple(held["targets"]),
            "teff_range": None if held["teff_range"] is None else tuple(held["teff_range"]),
            "truth": None if held["truth"] is None else Path(held["truth"]),
            "pipelines": {name: Path(path) for name, path in held["pipelines"].items()},
        }
        return cls(**held)

    @property
    def pipeline_fingerprints(self) -> dict[str, str]:
        """Of what pipelines say, by name."""
        return {name: Labels.load(path).fingerprint for name, path in self.pipelines.items()}

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides heads: the content of stores and labels, the labels asked for, the split."""
        sides = [{**side.fingerprints, "share": side.share} for side in (*self.sources, self.target)]
        own = [self.targets, self.pool, self.tested, self.teff_range, self.truth is not None, self.seed]
        return fingerprint([sides, own])


@dataclass(frozen=True)
class Stage:
    """A study with its stars in memory.

    source: all sources as one sample, without the target's stars; target: the target's stars; reference: (n, k), what
    predictions of the target's stars are held against; bounds: (n, k), Cramer-Rao, NaN where unknown
    """

    study: Study
    source: Sample
    target: Sample
    reference: Float
    bounds: Float

    @classmethod
    def open(cls, study: Study) -> Stage:
        """Read the stores. Raises InputError if too few stars are left to test."""
        opened = [side.open() for side in (*study.sources, study.target)]
        samples = [one.sample(study.targets, study.teff_range) for one in opened]
        target = samples.pop()
        star = star_numbers(opened, [*samples, target])
        ends = np.cumsum([len(sample) for sample in samples])
        # a star of the target is nobody's to learn from beforehand
        others = [np.flatnonzero(~np.isin(part, star[ends[-1] :])) for part in np.split(star[: ends[-1]], ends[:-1])]
        kept = [sample.take(rows) for sample, rows in zip(samples, others, strict=True) if len(rows)]
        if not kept:
            raise InputError("all stars of the source are stars of the target; name another survey with --source.")
        shares = [side.share for side, rows in zip(study.sources, others, strict=True) if len(rows)]
        source = Sample.concatenated(kept, shares)
        reference, bounds = target.y, np.full_like(target.y, np.nan)
        if study.truth is not None:
            reference, bounds = _truth(study.truth, target)
        stage = cls(study, source, target, reference, bounds)
        if len(stage.split(0)[1]) < LEAST_TESTED:
            raise InputError(
                f"'{study.target.labels}' has {len(np.unique(target.star))} stars; {study.pool} to learn from leave "
                f"fewer than {LEAST_TESTED} to test: ask for smaller --sizes."
            )
        return stage

    def split(self, draw: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the target that may be learned from, in the order in which they are, and those that are tested.

        By star; sizes of one draw are nested. The tested rows are sorted by id.
        """
        random = np.random.default_rng([self.study.seed, draw])
        stars = random.permutation(np.unique(self.target.star))
        rank = {star: number for number, star in enumerate(stars.tolist())}
        number = np.array([rank[star] for star in self.target.star.tolist()])
        order = np.lexsort((self.target.id, number))
        learned = order[number[order] < self.study.pool]
        tested = np.flatnonzero((number >= self.study.pool) & (number < self.study.pool + self.study.tested))
        return learned, tested[np.argsort(self.target.id[tested])]

    def tuning(self, size: int, draw: int) -> Sample:
        """The first `size` stars to learn from."""
        learned, _ = self.split(draw)
        stars = self.target.star[learned]
        firsts = stars[np.sort(np.unique(stars, return_index=True)[1])][:size]
        return self.target.take(learned[np.isin(stars, firsts)])

    def test(self, draw: int) -> Sample:
        """The tested stars, without their labels."""
        sample = self.target.take(self.split(draw)[1])
        return replace(sample, y=np.full_like(sample.y, np.nan))

    def task(self, size: int, draw: int) -> Task:
        """What a method is given."""
        return Task(self.source, self.tuning(size, draw), self.test(draw), self.spectra, self.study.seed + draw)

    def columns(self, names: Iterable[str]) -> dict[str, Float]:
        """The reference (n,) of these labels of the target's stars, be they asked for or not; without unknown ones."""
        asked = {target: self.reference[:, i] for i, target in enumerate(self.target.targets)}
        others = tuple(name for name in dict.fromkeys(names) if name not in asked)
        if not others:
            return asked
        if self.study.truth is not None:
            table = IdTable.read(self.study.truth, ("id",), others)
            ids, held = table.ids, {name: table.numbers(name) for name in others if name in table.columns}
        else:
            labels = Labels.load(self.study.target.labels)
            ids, held = labels.id, {name: labels.values[name] for name in others if name in labels.values}
        order = np.argsort(ids)
        row = order[np.searchsorted(ids[order], self.target.id)]  # the target's stars come from there
        return asked | {name: values[row].astype(np.float64) for name, values in held.items()}

    @cached_property
    def spectra(self) -> SpectraStore:
        """The target's spectra store."""
        return SpectraStore.open(self.study.target.spectra)


def only(sample: Sample, name: str) -> Sample:
    """The sample with the blocks of one input."""
    return replace(sample, blocks={block: sample.blocks[block] for block in INPUTS[name]})


def _truth(path: Path, sample: Sample) -> tuple[Float, Float]:
    """True labels and bounds (n, k) of a sample's rows, by id."""
    names = tuple(column for target in sample.targets for column in (target, f"sigma_{target}"))
    table = IdTable.read(path, ("id",), names)
    order = np.argsort(table.ids)
    row = order[np.minimum(np.searchsorted(table.ids[order], sample.id), len(order) - 1)]
    if not np.array_equal(table.ids[row], sample.id):
        raise OptionError(f"'{path}' lacks stars of the target; it is the truth of another twin.")
    values = [
        np.stack(
            [table.numbers(name)[row] if name in table.columns else np.full(len(row), np.nan) for name in wanted],
            axis=1,
        )
        for wanted in (sample.targets, tuple(f"sigma_{target}" for target in sample.targets))
    ]
    return values[0], np.where(np.isfinite(values[1]), values[1], np.nan)
