"""Heads from samples: trained on one survey (`train_head`), taken to another (`adapt_head`).

The stars are shared out into as many folds as there are seeds, at least five; member j does not see fold j. So
every star has a prediction by a member that never saw it, which sets the uncertainties (`heads.calibration`), chooses
between strategies, and costs nothing: together the members still see all stars.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from heads.adapters import Adapter, count_weights, get_adapter
from heads.calibration import Calibration, Float
from heads.encoder import encoding, source_features
from heads.ensemble import Ensemble
from heads.fit import FitOptions, History, Stars, Watch
from heads.guard import Guard
from heads.head import Head, mixture
from heads.network import HeadNetwork, NetworkOptions, new_networks
from heads.novelty import SHARE, Novelty
from heads.sample import Sample, features
from heads.scaling import Scaling
from stores.errors import InputError, OptionError

FOLDS = 5
LEAST_STARS = 10
BALANCE = 0.5


@dataclass(frozen=True)
class TrainOptions:
    """How heads are trained.

    seeds: members; widths, dropout: of the network; balance: see Sample.weights
    fit: in place of the strategy's own; epochs, learning_rate, batch_size: in place of those in it
    """

    seeds: int = 5
    seed: int = 0
    widths: tuple[int, ...] = (1024, 512, 64)
    dropout: float = 0.1
    balance: float = BALANCE
    fit: FitOptions | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, number, least in (("seeds", self.seeds, 1), ("seed", self.seed, 0)):
            if number < least:
                raise OptionError(f"{name} {number} must be {least} or more.")
        if not 0 <= self.balance <= 1:
            raise OptionError(f"balance {self.balance:g} must lie between 0 and 1.")
        self.fit_of(FitOptions())

    def fit_of(self, own: FitOptions) -> FitOptions:
        """How a strategy trains, its own way being `own`. Raises OptionError for numbers that cannot work."""
        wanted = self.fit or own
        if self.epochs is not None:
            # the bounds on steps are for epochs that nobody asked for
            wanted = replace(wanted, epochs=self.epochs, least_steps=1, most_steps=sys.maxsize)
        if self.learning_rate is not None:
            wanted = replace(wanted, learning_rate=self.learning_rate)
        return wanted if self.batch_size is None else replace(wanted, batch_size=self.batch_size)


@dataclass(frozen=True)
class Outcome:
    """A head, how its training went, and what it says of stars that each prediction's member did not see.

    seen_by_none: (n,) True where there is such a prediction; value, sigma: (n, k), NaN elsewhere
    trained, total: numbers of parameters
    """

    head: Head
    history: History
    seen_by_none: NDArray[np.bool_]
    value: Float
    sigma: Float
    trained: int
    total: int

    @property
    def told(self) -> dict[str, Any]:
        """What a head keeps of its training, as JSON holds it."""
        return {"weights": {"trained": self.trained, "total": self.total}, "history": asdict(self.history)}


def train_head(
    sample: Sample,
    identity: dict[str, Any],
    options: TrainOptions,
    watch: Watch = iter,
) -> Outcome:
    """A head trained on a sample alone. Raises InputError for fewer stars than can be learned from."""
    _enough(sample, sample.targets)
    if "spectrum" in sample.blocks:
        raise OptionError(
            "a new head cannot read the input encoded; train one for embedding, and adapt it by lora_encoder."
        )
    scalings, label_scaling = sample.scalings(), sample.label_scaling()
    sizes = tuple(len(scaling.mean) for scaling in scalings.values())
    network = NetworkOptions(sizes, len(sample.targets), options.widths, options.dropout)
    x = features(sample.blocks, scalings)
    strategy = get_adapter("scratch")
    modules = [strategy.wrap(one) for one in new_networks(network, options.seeds, options.seed)]
    fit_options = options.fit_of(strategy.fit_options)
    stars, held = _stars(sample, x, label_scaling, options), _held(sample, options)
    history = strategy.fit(modules, stars, held, options.seed, options=fit_options, replay=None, watch=watch)
    head = Head(
        members=modules,
        network=network,
        identity=identity,
        targets=sample.targets,
        scalings=scalings,
        label_scaling=label_scaling,
        label_range=_range(sample.y),
        calibration=Calibration.none(len(sample.targets)),
        novelty=Novelty.of(x, options.seed),
    )
    return _judged(head, history, sample, x, held, count_weights(modules[0]))


def adapt_head(
    base: Head,
    sample: Sample,
    adapter: str,
    options: TrainOptions,
    *,
    replay: Sample | None = None,
    watch: Watch = iter,
) -> Outcome:
    """A head taken to the stars of another survey by a strategy.

    replay: stars of the source survey, for strategies that want them; without any they go without

    A label that none of the stars has teaches nothing: its uncertainties stay those of the base, and its values change
    as far as the strategy changes what all labels share. A head that is trained anew does not give it.

    Raises InputError for too few stars, OptionError for labels that the base lacks or a base that is adapted already.
    """
    strategy = get_adapter(adapter)
    if not strategy.from_base:
        return train_head(sample.only(sample.known_targets), base.identity, options, watch)
    if sample.targets != base.targets:
        lacking = sorted(set(sample.targets) - set(base.targets)) or list(sample.targets)
        raise OptionError(f"the base head gives {', '.join(base.targets)}, not {', '.join(lacking)}; ask for those.")
    if base.adapter is not None:
        raise OptionError(f"the base head was adapted by '{base.adapter}' already; start from the one before.")
    _enough(sample, ())
    if strategy.encodes:
        base = encoding(base)
        if "spectrum" not in sample.blocks:
            raise OptionError(f"'{adapter}' learns from spectra; join the sample from stores of the input encoded.")
    x = features(sample.blocks, base.scalings)
    modules = _wrapped(strategy, base, options.seed)
    weights = count_weights(modules[0])
    options = replace(options, seeds=len(modules))
    stars, held = _stars(sample, x, base.label_scaling, options), _held(sample, options)
    history = History()
    if strategy.learns:
        replayed = None
        if strategy.replays and replay is not None:
            replayed = _stars(replay, features(replay.blocks, base.scalings), base.label_scaling, options)
        fit_options = options.fit_of(strategy.fit_options)
        history = strategy.fit(modules, stars, held, options.seed, options=fit_options, replay=replayed, watch=watch)
    else:
        held = np.ones_like(held)  # no member has seen any of these stars
    is_plain = all(isinstance(module, HeadNetwork) for module in modules)
    head = replace(
        base,
        members=[module.eval() for module in modules],
        adapter=None if is_plain else adapter,
        label_range=_wider(base.label_range, _range(sample.y)),
        novelty=_extended(base.novelty, source_features(base.members, x), options.seed),
        guard=_opened(base.guard, sample),
    )
    return _judged(head, history, sample, x, held, weights)


def _judged(
    head: Head,
    history: History,
    sample: Sample,
    x: NDArray[np.float32],
    held: NDArray[np.bool_],
    weights: tuple[int, int],
) -> Outcome:
    """Calibrate a head by predictions of members that did not see the star."""
    values, sigmas = head.raw(x, Ensemble(head.members))  # (seeds, n, k)
    unseen = np.logical_or.reduce(held)
    if held.all():
        value, sigma = mixture(values, sigmas)
    else:
        member = held.argmax(axis=0)
        rows = np.arange(len(x))
        value, sigma = values[member, rows], sigmas[member, rows]
    value, sigma = np.where(unseen[:, None], value, np.nan), np.where(unseen[:, None], sigma, np.nan)
    feh = head.targets.index("feh") if "feh" in head.targets else None
    calibration = Calibration.of(_calibrating(sample, unseen), value[unseen], sigma[unseen], feh)
    calibration = calibration.or_else(head.calibration)
    return Outcome(replace(head, calibration=calibration), history, unseen, value, sigma, *weights)


def _calibrating(sample: Sample, unseen: NDArray[np.bool_]) -> Float:
    """Labels (m, k) of the m held-out spectra, NaN where they do not set uncertainties.

    A label that none of the calibrating ones has is left to all of them.
    """
    y = sample.y[unseen]
    own = np.isfinite(y) & sample.calibrates[unseen, None]
    return np.where(own | ~own.any(axis=0), y, np.nan)


def _enough(sample: Sample, needed: tuple[str, ...]) -> None:
    """Refuse too few stars, and those without any of the labels that are needed."""
    stars = len(np.unique(sample.star))
    if stars < LEAST_STARS:
        raise InputError(f"{stars} labelled stars are too few to learn from; {LEAST_STARS} are the least.")
    if lacking := [target for target in needed if target not in sample.known_targets]:
        raise InputError(f"none of the {stars} stars to learn from has a label {lacking[0]}; add labels of it.")


def _wrapped(strategy: Adapter, base: Head, seed: int) -> list[nn.Module]:
    """Copies of a head's members, wrapped by a strategy; seed and number decide the weights that it adds."""
    made = []
    with torch.random.fork_rng(devices=[]):
        for number, member in enumerate(base.members):
            torch.manual_seed(seed * 1009 + number)
            made.append(strategy.wrap(copy.deepcopy(member)))  # type: ignore[arg-type]
    return made


def _stars(sample: Sample, x: NDArray[np.float32], scaling: Scaling, options: TrainOptions) -> Stars:
    return Stars.of(x, (sample.y - scaling.mean) / scaling.scatter, sample.weights(options.balance))


def _held(sample: Sample, options: TrainOptions) -> NDArray[np.bool_]:
    """(seeds, n) True for the stars that a member does not see."""
    fold = sample.folds(max(FOLDS, options.seeds), options.seed)
    return fold == np.arange(options.seeds)[:, None]


def _range(y: Float) -> Float:
    return np.stack([np.fmin.reduce(y, axis=0), np.fmax.reduce(y, axis=0)], axis=1)  # NaN where none is known


def _wider(one: Float, other: Float) -> Float:
    return np.stack([np.fmin(one[:, 0], other[:, 0]), np.fmax(one[:, 1], other[:, 1])], axis=1)


def _opened(guard: Guard | None, sample: Sample) -> Guard | None:
    """That also lets pass what was learned from now."""
    if guard is None or "teff" not in sample.targets:
        return guard
    low, high = _range(sample.y)[sample.targets.index("teff")]
    return replace(guard, low=min(guard.low, float(low)), high=max(guard.high, float(high)))


def _extended(novelty: Novelty, x: NDArray[np.float32], seed: int) -> Novelty:
    """With the stars of the target among the references, and a threshold that most of them keep."""
    places = x @ novelty.axes
    random = np.random.default_rng(seed)
    half = random.permutation(len(x)) % 2 == 0
    whole = [
        Novelty(novelty.axes, np.concatenate([novelty.references, places[part]]), np.inf) for part in (half, ~half)
    ]
    near = np.concatenate([whole[0].distance_of_places(places[~half]), whole[1].distance_of_places(places[half])])
    threshold = max(novelty.threshold, float(np.quantile(near, SHARE)))
    return Novelty(novelty.axes, np.concatenate([novelty.references, places]), threshold)
