"""Cells: a method, so many target stars, one draw of them. Each is computed once and kept under its key.

CELLS/KEY.npz    predictions of the tested stars, by id, and what it took
HEADS/KEY/       heads trained on the source, which the cells of an input start from
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.code import digest
from benchmarks.study import Stage, Study, only
from benchmarks.task import Predicted
from stores.atomic import replacing
from stores.provenance import fingerprint

if TYPE_CHECKING:
    from heads.bundle import Bundle
    from heads.head import Head
    from heads.training import TrainOptions

Float = NDArray[np.float64]

PIPELINE, BASELINE, HEAD = "pipeline", "baseline", "head"
ZERO_SHOT, SCRATCH, AUTO = "zero_shot", "scratch", "auto"


@dataclass(frozen=True)
class Settings:
    """What decides a cell beside the study and itself.

    seeds: members of heads; landscape: steps a side of loss landscapes, 0 for none
    landscape_size: target stars of the heads that have one
    source_epochs: passes over the source's stars, if not the strategy's own number
    """

    seeds: int = 5
    landscape: int = 0
    landscape_size: int = 0
    source_epochs: float | None = None

    @property
    def training(self) -> TrainOptions:
        """Of every head; those of the source have epochs of their own."""
        from heads.training import TrainOptions

        return TrainOptions(seeds=self.seeds)


@dataclass(frozen=True)
class Cell:
    """group: pipeline, baseline or head; input and strategy: of a head, else the name alone; size: target stars."""

    group: str
    input: str
    strategy: str
    size: int
    draw: int

    def key(self, study: str, settings: Settings) -> str:
        """Of the study's fingerprint, the settings, the code that computes cells, and the cell itself."""
        return fingerprint([study, asdict(settings), digest(), asdict(self)])

    @property
    def shown(self) -> str:
        """For people: fused + kriging, 100 stars."""
        name = f"{self.input} + {self.strategy}" if self.input else self.strategy
        return f"{name}, {self.size} stars"


@dataclass(frozen=True)
class Outcome:
    """A cell's predictions. id: (n,) int64; seconds, trained weights; landscape: (steps, steps, n) or empty."""

    id: NDArray[np.int64]
    predicted: Predicted
    seconds: float
    trained: int
    landscape: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write, whole or not at all."""
        about = np.frombuffer(json.dumps({"seconds": self.seconds, "trained": self.trained}).encode(), dtype=np.uint8)
        columns: dict[str, Any] = {**vars(self.predicted), "id": self.id, "landscape": self.landscape, "about": about}
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **columns)

    @classmethod
    def load(cls, path: Path) -> Outcome:
        """Read what `save` wrote."""
        with np.load(path) as held:
            about = json.loads(held["about"].tobytes())
            predicted = Predicted(*(held[name] for name in ("value", "sigma", "low90", "high90", "members")))
            return cls(held["id"], predicted, about["seconds"], about["trained"], held["landscape"])


@dataclass
class Laboratory:
    """A process's hands on a study: its stars are read when they are first asked for."""

    folder: Path
    settings: Settings

    def __post_init__(self) -> None:
        self.study = Study.load(self.folder / "study")
        self._stage: Stage | None = None
        self._bases: dict[str, Head] = {}
        self._said: dict[str, str] = {}

    @property
    def stage(self) -> Stage:
        self._stage = self._stage or Stage.open(self.study)
        return self._stage

    def path(self, cell: Cell, study: str) -> Path:
        """Where a cell's outcome is kept; that of a pipeline, of which heads know nothing, by what that says."""
        if cell.group == PIPELINE:
            self._said = self._said or self.study.pipeline_fingerprints
            study = fingerprint([study, self._said[cell.strategy]])
        return self.folder / "cells" / f"{cell.key(study, self.settings)}.npz"

    def base_path(self, name: str, study: str) -> Path:
        """Where the head of an input that was trained on the source is kept."""
        key = fingerprint([study, self.settings.seeds, self.settings.source_epochs, digest(), name])
        return self.folder / "heads" / f"{name}-{key}"

    def make_base(self, name: str, study: str) -> None:
        """Train an input's head on the source, unless it is there."""
        path = self.base_path(name, study)
        if path.exists():
            return
        from heads.training import train_head

        path.parent.mkdir(parents=True, exist_ok=True)
        options = replace(self.settings.training, epochs=self.settings.source_epochs)
        outcome = train_head(only(self.stage.source, name), self.study.target.identity(name), options)
        outcome.head.save_pretrained(path)

    def run(self, cell: Cell, study: str) -> None:
        """Compute a cell, unless it is there."""
        path = self.path(cell, study)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        ids = self.stage.test(cell.draw).id
        started = time.monotonic()
        make: Callable[[Cell, str], tuple[Predicted, int, NDArray[np.float32]]] = {
            PIPELINE: self._pipeline,
            BASELINE: self._baseline,
            HEAD: self._head,
        }[cell.group]
        predicted, trained, landscape = make(cell, study)
        seconds = round(time.monotonic() - started, 3)
        Outcome(ids, predicted, seconds, trained, landscape).save(path)

    def _pipeline(self, cell: Cell, study: str) -> tuple[Predicted, int, NDArray[np.float32]]:
        """What a survey's own catalogue says of the tested stars, joined by id."""
        from stores.labels import Labels

        labels = Labels.load(self.study.pipelines[cell.strategy])
        ids = self.stage.test(cell.draw).id
        row = np.minimum(np.searchsorted(labels.id, ids), len(labels) - 1)
        there = labels.id[row] == ids
        value = np.stack(
            [
                np.where(there, labels.values[target][row], np.nan) if target in labels.values else _unknown(len(ids))
                for target in self.study.targets
            ],
            axis=1,
        )
        nothing = np.full_like(value, np.nan)
        return Predicted(value, nothing, nothing, nothing, value[None]), 0, _no_landscape()

    def _baseline(self, cell: Cell, study: str) -> tuple[Predicted, int, NDArray[np.float32]]:
        from benchmarks.baselines import get_baseline

        return get_baseline(cell.strategy)(self.stage.task(cell.size, cell.draw)), 0, _no_landscape()

    def _head(self, cell: Cell, study: str) -> tuple[Predicted, int, NDArray[np.float32]]:
        head, trained = self._adapted(cell, study)
        test = only(self.stage.test(cell.draw), cell.input)
        found = head.predict_sample(test)
        by_label = [getattr(found, name) for name in ("value", "sigma", "low90", "high90", "members")]
        columns = [np.stack([held[target] for target in self.study.targets], axis=-1) for held in by_label]
        landscape = _no_landscape()
        if self.settings.landscape and cell.draw == 0 and cell.size == self.settings.landscape_size:
            from benchmarks.landscape import landscape_of

            reference = self.stage.reference[self.stage.split(cell.draw)[1]]
            landscape = landscape_of(head, test, reference, self.settings.landscape, self.study.seed)
        return Predicted(*columns), trained, landscape

    def _adapted(self, cell: Cell, study: str) -> tuple[Head | Bundle, int]:
        """The head of a cell, and how many weights were trained for it."""
        from heads.auto import adapt_auto
        from heads.head import Head
        from heads.training import adapt_head

        if cell.input not in self._bases:
            self._bases[cell.input] = Head.from_pretrained(self.base_path(cell.input, study))
        base = self._bases[cell.input]
        if cell.size == 0:
            return base, 0
        sample, replay = (
            only(one, cell.input) for one in (self.stage.tuning(cell.size, cell.draw), self.stage.source)
        )
        if cell.strategy == AUTO:
            return adapt_auto(base, sample, self.settings.training, replay=replay).head, 0
        outcome = adapt_head(base, sample, cell.strategy, self.settings.training, replay=replay)
        return outcome.head, outcome.trained


def _unknown(n: int) -> Float:
    return np.full(n, np.nan)


def _no_landscape() -> NDArray[np.float32]:
    return np.zeros((0, 0, 0), dtype=np.float32)
