"""Stars as surveys see them, and tasks for classical methods."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.task import Predicted, Task
from heads.inputs import pixels
from heads.sample import Sample
from stores.grid import Grid
from stores.prepare import Preparation
from stores.simulate.emulator import LABELS
from stores.simulate.instrument import Instrument
from stores.simulate.observe import Fates, Observation, observe
from stores.simulate.population import Stars
from stores.simulate.twin import Twin, shared_emulator
from stores.spectra import SpectraStore

Float = np.ndarray[Any, np.dtype[np.float64]]
GRID, PREPARATION = Grid.parse("lrs"), Preparation()
TARGETS = LABELS[:4]
SEED, SNR = 5, 50.0
N_SOURCE, N_TARGET, N_TUNING = 200, 76, 34


def faultless(survey: str, snr: float = SNR) -> Instrument:
    """An instrument at one S/N, none of whose objects are mislabelled or lost."""
    instrument = Instrument.load(survey)
    noise = replace(instrument.noise, snr_range=(snr - 0.5, snr + 0.5))
    faults = replace(instrument.faults, mislabelled=0.0, unusable=0.0, missing_arm=0.0)
    return replace(instrument, noise=noise, faults=faults)


@dataclass(frozen=True)
class Seen:
    """Stars as an instrument sees them, in a store, row by row."""

    store: SpectraStore
    stars: Stars
    instrument: Instrument
    observation: Observation

    def sample(self, rows: slice | Float, y: Float | None = None) -> Sample:
        """Rows with their true labels, or others; the embedding is a few broad averages of the flux."""
        picked = np.arange(len(self.stars))[rows]
        block = pixels(self.store, picked)
        patches = block[0][:, :1456].reshape(len(picked), 56, 26).mean(axis=2)
        return Sample(
            id=self.store.read("id", picked),
            star=picked,
            blocks={"pixels": block, "embedding": (patches, np.ones(patches.shape, dtype=bool))},
            y=self.stars.labels[picked, : len(TARGETS)] if y is None else y,
            targets=TARGETS,
            ra=self.stars.ra[picked],
            dec=self.stars.dec[picked],
            worth=np.ones(len(picked)),
            calibrates=np.ones(len(picked), dtype=bool),
        )


def make_seen(path: Path, survey: str, stars: Stars) -> Seen:
    """A twin's store of these stars."""
    instrument = faultless(survey)
    fates = Fates.draw(stars, instrument, SEED)
    job = {"instrument": json.loads(json.dumps(instrument.settings)), "n": len(stars)}
    Twin(instrument, SEED, stars, fates, job).write_store(path, GRID, PREPARATION)
    observation = observe(stars, instrument, shared_emulator(), SEED, fates=fates)
    return Seen(SpectraStore.open(path), stars, instrument, observation)


def make_task(source: Seen, target: Seen, tuning: int, shift: Float | float = 0.0, **changes: Any) -> Task:
    """Source and target, whose labels are all shifted; the first rows of the target are those to learn from."""
    test = target.sample(slice(N_TUNING, None))
    blind = replace(test, y=np.full_like(test.y, np.nan))
    own = target.sample(slice(0, tuning))
    task = Task(source.sample(slice(None)), replace(own, y=own.y + shift), blind, target.store, 0)
    return replace(task, **changes)


def truth(target: Seen) -> Float:
    return target.stars.labels[N_TUNING:, : len(TARGETS)]


def width(error: Float) -> Float:
    """Half the central 68 per cent of columns."""
    low, high = np.quantile(error, [0.1587, 0.8413], axis=0)
    return (high - low) / 2


def check(found: Predicted, n: int) -> None:
    assert found.value.shape == found.sigma.shape == found.low90.shape == found.high90.shape == (n, len(TARGETS))
    assert found.members.shape == (1, n, len(TARGETS))
    np.testing.assert_array_equal(found.members[0], found.value)
    known = np.isfinite(found.value)
    assert np.all(found.sigma[known] > 0)
    assert np.all(found.low90[known] < found.high90[known])
