"""Training of an ensemble: batches, loss, and the state of each member that did best on stars it did not see."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.ensemble import Ensemble
from stores.errors import InputError, OptionError

Watch = Callable[[range], Iterable[int]]


@dataclass(frozen=True)
class FitOptions:
    """How an ensemble is trained.

    epochs: passes over the training stars, but at least `least_steps` and at most `most_steps` steps
    batch_size, learning_rate, weight_decay: of AdamW, its rate a cosine after a short warm-up
    beta: 0 is the Gaussian likelihood, 1 squared errors; 0.5 keeps stars that are hard to fit from being given up
        (Seitzer et al. 2022, arXiv:2203.09168)
    checks: how often the stars held out are looked at
    pull: decay towards the values that training started from, in place of 0
    """

    epochs: float = 30.0
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    beta: float = 0.5
    checks: int = 20
    pull: float = 0.0
    least_steps: int = 200
    most_steps: int = 20_000

    def __post_init__(self) -> None:
        for name, rate in (("epochs", self.epochs), ("learning rate", self.learning_rate)):
            if not 0 < rate < math.inf:
                raise OptionError(f"{name} {rate:g} must be a number above 0.")
        for name, number, least in (("batch size", self.batch_size, 2), ("checks", self.checks, 1)):
            if number < least:
                raise OptionError(f"{name} {number} must be {least} or more.")

    def steps(self, n: int) -> int:
        """Steps for n training spectra."""
        wanted = math.ceil(self.epochs * n / min(self.batch_size, n))
        return min(max(wanted, self.least_steps), self.most_steps)


@dataclass(frozen=True)
class Stars:
    """Standardised features x (n, d), labels y (n, k) with NaN where unknown, weights (n,)."""

    x: Tensor
    y: Tensor
    weight: Tensor

    @classmethod
    def of(cls, x: NDArray[np.float32], y: NDArray[np.floating], weight: NDArray[np.float32]) -> Stars:
        return cls(torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)), torch.from_numpy(weight))

    def __len__(self) -> int:
        return len(self.x)


@dataclass
class History:
    """Losses at the checks: step, training and held-out loss of each member (E,)."""

    step: list[int] = field(default_factory=list)
    training: list[list[float]] = field(default_factory=list)
    held_out: list[list[float]] = field(default_factory=list)
    best: list[int] = field(default_factory=list)


def likelihood(outputs: Tensor, y: Tensor, weight: Tensor, beta: float) -> Tensor:
    """Loss (E,) of outputs (E, m, B, k, 2) for labels (E, B, k), NaN where unknown, weights (E, B).

    The mean over known labels of sigma^(2 beta) times the Gaussian negative log-likelihood, added up over the m.
    """
    value, log_sigma = outputs.unbind(dim=-1)
    known = torch.isfinite(y)
    error = (torch.where(known, y, 0.0)[:, None] - value) / log_sigma.exp()
    nll = log_sigma + 0.5 * error.square()
    if beta:
        nll = nll * (2 * beta * log_sigma.detach()).exp()
    counted = (known * weight[..., None])[:, None]
    total: Tensor = (nll * counted).sum(dim=(1, 2, 3)) / counted.sum(dim=(1, 2, 3)).clamp(min=1e-6)
    return total


def fit(
    ensemble: Ensemble,
    stars: Stars,
    held: NDArray[np.bool_],
    options: FitOptions,
    seed: int,
    *,
    replay: Stars | None = None,
    watch: Watch = iter,
) -> History:
    """Train in place; held (E, n) tells which stars each member does not see.

    Every member keeps the state that did best on them, the one before the first step included, or the last one if
    it holds none out. With `replay`, half of every batch is drawn from those stars.
    """
    count = len(ensemble)
    if held.shape != (count, len(stars)):
        raise ValueError(f"held has shape {held.shape}, not {(count, len(stars))}")
    seen = [torch.from_numpy(np.flatnonzero(~row)) for row in held]
    fewest = min(map(len, seen))
    if fewest < 2:
        raise InputError(f"{len(stars)} stars are too few to train on; use more stars or fewer seeds.")
    batch = min(options.batch_size, fewest)
    steps = options.steps(fewest)
    check_at = {max(1, round(steps * (i + 1) / options.checks)) for i in range(options.checks)}
    parameters = list(ensemble.parameters())
    started = [value.detach().clone() for value in parameters]
    decay = 0.0 if options.pull else options.weight_decay
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, weight_decay=decay, betas=(0.9, 0.98), fused=True
    )
    generator = torch.Generator().manual_seed(seed)
    judge = _Judge(ensemble, stars, held, options)
    history = History()
    decks = [_Deck(rows, generator) for rows in seen]
    replayed = None if replay is None else _Deck(torch.arange(len(replay)), generator)
    losses: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the dropout
        for step in watch(range(steps)):
            rate = options.learning_rate * _shape(step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = torch.stack([deck.draw(batch) for deck in decks])
            x, y, weight = stars.x[rows], stars.y[rows], stars.weight[rows]
            if replay is not None and replayed is not None:
                own = torch.stack([replayed.draw(batch) for _ in range(count)])
                x, y = torch.cat([x, replay.x[own]], dim=1), torch.cat([y, replay.y[own]], dim=1)
                weight = torch.cat([weight, replay.weight[own]], dim=1)
            loss = likelihood(ensemble(x, training=True), y, weight, options.beta)
            if not torch.isfinite(loss).all():
                raise InputError(f"the loss is not finite at step {step}; try a smaller learning rate.")
            optimizer.zero_grad()
            loss.sum().backward()
            _clip(parameters)
            optimizer.step()
            if options.pull:
                with torch.no_grad():
                    for value, start in zip(parameters, started, strict=True):
                        value.sub_(value - start, alpha=min(1.0, rate * options.pull))
            losses.append(loss.detach())
            if step + 1 in check_at:
                history.step.append(step + 1)
                history.training.append(torch.stack(losses).mean(dim=0).tolist())
                history.held_out.append(judge.look(step + 1))
                losses = []
    history.best = judge.settle()
    ensemble.write_back()
    return history


class _Judge:
    """Remembers the best state of every member by the loss of the stars that it does not see."""

    def __init__(self, ensemble: Ensemble, stars: Stars, held: NDArray[np.bool_], options: FitOptions) -> None:
        self.ensemble, self.stars, self.options = ensemble, stars, options
        sizes = held.sum(axis=1)
        self.rows = np.zeros((len(ensemble), int(sizes.max(initial=0))), dtype=np.int64)
        self.counted = np.zeros(self.rows.shape, dtype=np.float32)
        for number, own in enumerate(held):
            self.rows[number, : sizes[number]] = np.flatnonzero(own)
            self.counted[number, : sizes[number]] = 1.0
        self.best = torch.full((len(ensemble),), torch.inf)
        self.step = [0] * len(ensemble)
        self.state = ensemble.state()
        self.look(0)

    @torch.no_grad()
    def look(self, step: int) -> list[float]:
        """Losses (E,) now; states that are better than all before are kept."""
        if not self.rows.shape[1]:
            return [math.nan] * len(self.ensemble)
        rows, counted = torch.from_numpy(self.rows), torch.from_numpy(self.counted)
        weight = self.stars.weight[rows] * counted
        parts = [
            self.ensemble(self.stars.x[some])[:, :1] for some in rows.split(1024, dim=1)
        ]  # the fused output decides
        outputs = torch.cat(parts, dim=2)
        loss = likelihood(outputs, self.stars.y[rows], weight, 0.0)
        better = loss < self.best
        self.best = torch.where(better, loss, self.best)
        for name, value in self.ensemble.state().items():
            self.state[name][better] = value[better]
        self.step = [step if flag else old for flag, old in zip(better.tolist(), self.step, strict=True)]
        found: list[float] = loss.tolist()
        return found

    def settle(self) -> list[int]:
        """Put the best states into the ensemble; the steps they are from."""
        if self.rows.shape[1]:
            self.ensemble.restore(self.state)
        return self.step


class _Deck:
    """Rows in shuffled order, shuffled anew when they run out."""

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        self.rows, self.generator = rows, generator
        self.left = rows[:0]

    def draw(self, count: int) -> Tensor:
        while len(self.left) < count:
            order = torch.randperm(len(self.rows), generator=self.generator)
            self.left = torch.cat([self.left, self.rows[order]])
        drawn, self.left = self.left[:count], self.left[count:]
        return drawn


def _shape(step: int, steps: int) -> float:
    """Of the learning rate: up over a twentieth, then a cosine to a hundredth."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.505 + 0.495 * math.cos(math.pi * (step - warm) / max(1, steps - warm))


def _clip(parameters: list[Tensor], largest: float = 5.0) -> None:
    """Scale the gradients of each member on its own: members must not know of each other."""
    gradients = [value.grad for value in parameters if value.grad is not None]
    norm = torch.stack([g.reshape(len(g), -1).square().sum(dim=1) for g in gradients]).sum(dim=0).sqrt()
    scale = (largest / norm.clamp(min=1e-12)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *([1] * (gradient.ndim - 1))))
