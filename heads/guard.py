"""Whether a star lies beyond the temperatures that a head is made for, told by stars on both sides of their ends.

A head that never saw a hot star takes one for a metal-poor star of the last temperature that it knows. Distances do
not give it away: with few lines, hot stars lie near the middle of all others. A small ensemble that learned the
temperatures of both does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heads.calibration import Float
from heads.ensemble import Ensemble
from heads.fit import FitOptions, Stars, Watch, fit
from heads.network import HeadNetwork, NetworkOptions, load_network, new_networks, save_network
from heads.sample import Sample, features
from heads.scaling import Scaling

MEMBERS = 3
FOLDS = 5  # of the stars, one of which each member does not see
WIDTHS = (128, 64)
FIT = FitOptions(epochs=5)
FEWEST = 20  # stars beyond, without which nothing can be learned of them
SHARE_BEYOND = 0.3  # of the weight in training
MARGIN = 0.02  # of the range, that a temperature may lie beyond it


@dataclass(frozen=True)
class Border:
    """What teaches a guard.

    low, high: ends of the range, K; teff: (n,) K of the n spectra to learn from
    beyond, apart: those outside the range, to learn from and to judge by, with the label teff
    """

    low: float
    high: float
    teff: Float
    beyond: Sample
    apart: Sample

    @property
    def teaches(self) -> bool:
        """Whether there are stars enough beyond the ends."""
        return len(np.unique(self.beyond.star)) >= FEWEST


@dataclass(frozen=True)
class Guard:
    """An ensemble that reads log10 Teff from a head's features.

    mean, scatter: of the labels it learned; low, high: K, between which it lets stars pass
    """

    members: list[HeadNetwork]
    network: NetworkOptions
    mean: float
    scatter: float
    low: float
    high: float

    @classmethod
    def of(
        cls, sample: Sample, border: Border, scalings: Mapping[str, Scaling], seed: int, watch: Watch = iter
    ) -> Guard:
        """Trained on the spectra that the head learned from and on those beyond its border."""
        both = _both(sample, border)
        label = np.log10(both.y)
        network = NetworkOptions(tuple(len(scaling.mean) for scaling in scalings.values()), 1, WIDTHS)
        members = new_networks(network, MEMBERS, seed)
        made = cls(members, network, float(label.mean()), float(label.std()), border.low, border.high)
        made._learn(both, scalings, seed, watch, statistics=True)
        return made

    def taught(
        self, sample: Sample, border: Border, scalings: Mapping[str, Scaling], seed: int, watch: Watch = iter
    ) -> Guard:
        """A copy that went on to learn from the stars of another survey, within its border and beyond."""
        made = replace(self, members=copy.deepcopy(self.members), low=border.low, high=border.high)
        for value in (value for member in made.members for value in member.parameters()):
            value.requires_grad_(True)
        made._learn(_both(sample, border), scalings, seed, watch, statistics=False)
        return made

    def _learn(
        self, both: Sample, scalings: Mapping[str, Scaling], seed: int, watch: Watch, *, statistics: bool
    ) -> None:
        x, label = features(both.blocks, scalings), (np.log10(both.y) - self.mean) / self.scatter
        held = both.folds(FOLDS, seed) == np.arange(len(self.members))[:, None]
        ensemble = Ensemble(self.members, statistics=statistics)
        fit(ensemble, Stars.of(x, label, both.weights(0.0)), held, FIT, seed, watch=watch)
        for member in self.members:
            member.eval()

    @cached_property
    def _ensemble(self) -> Ensemble:
        return Ensemble(self.members)

    def teff(self, x: NDArray[np.float32]) -> Float:
        """Temperatures (n,), K, of standardised features (n, d)."""
        outputs = self._ensemble.predict(torch.from_numpy(x)).double().numpy()
        return np.asarray(10 ** (self.mean + self.scatter * outputs[..., 0, 0].mean(axis=0)))

    def beyond(self, x: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n,) True for stars that are hotter or cooler than those the head is made for."""
        teff, margin = self.teff(x), MARGIN * (self.high - self.low)
        return np.asarray((teff < self.low - margin) | (teff > self.high + margin))

    @property
    def numbers(self) -> Float:
        """All of it that is not weights."""
        return np.array([self.mean, self.scatter, self.low, self.high])

    def tensors(self) -> list[NDArray[Any]]:
        """All that decides what it says."""
        weights = [value.numpy() for member in self.members for value in member.state_dict().values()]
        return [self.numbers, *weights]

    def save(self, folder: Path) -> None:
        """Write the weights."""
        folder.mkdir()
        for number, member in enumerate(self.members):
            save_network(member, folder / f"{number}.safetensors")

    def as_json(self) -> dict[str, Any]:
        return {"members": len(self.members), "network": self.network.as_json(), "numbers": self.numbers.tolist()}

    @classmethod
    def load(cls, folder: Path, told: dict[str, Any]) -> Guard:
        """What `save` and `as_json` left."""
        network = NetworkOptions.from_json(told["network"])
        members = [load_network(network, folder / f"{number}.safetensors") for number in range(told["members"])]
        mean, scatter, low, high = told["numbers"]
        return cls([member.eval() for member in members], network, mean, scatter, low, high)


def _both(sample: Sample, border: Border) -> Sample:
    """The spectra within a border and those beyond, of known teff, with that label alone."""
    within = replace(sample, y=border.teff[:, None], targets=("teff",))
    both = Sample.concatenated([within, border.beyond], (1 - SHARE_BEYOND, SHARE_BEYOND))
    return both.take(np.flatnonzero(np.isfinite(both.y[:, 0])))
