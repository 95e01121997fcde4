"""Training the members of a head together against one by one."""

from __future__ import annotations

import numpy as np

from benchmarks.speed import Row, median_seconds
from heads.fit import FitOptions
from heads.sample import Sample
from heads.training import TrainOptions, train_head

N, WIDTH, SEEDS, STEPS = 1000, 384, 5, 60
OWN = f"{SEEDS} members one by one"


def measure(repeats: int) -> list[Row]:
    """Seconds per star of training heads on N embeddings for STEPS steps; and what one member takes."""
    sample = stars()
    fit = FitOptions(least_steps=STEPS, most_steps=STEPS, checks=2)

    def train(seed: int, seeds: int) -> None:
        train_head(sample, {"input": "embedding"}, TrainOptions(seeds=seeds, seed=seed, fit=fit))

    def train_apart() -> None:
        for seed in range(SEEDS):
            train(seed, 1)

    apart, together, single = median_seconds(
        repeats,
        train_apart,
        lambda: train(0, SEEDS),
        lambda: train(0, 1),
    )
    return [
        Row(OWN, apart / N),
        Row(f"{SEEDS} members together", together / N, OWN),
        Row("one member", single / N, OWN),
    ]


def stars() -> Sample:
    """Stars whose labels are linear in their embeddings."""
    random = np.random.default_rng(0)
    x = random.normal(size=(N, WIDTH)).astype(np.float32)
    y = x[:, :2] * (0.5, 500.0) + (-1.0, 5500.0)
    return Sample(
        id=np.arange(1, N + 1),
        star=np.arange(N),
        blocks={"embedding": (x, np.ones(x.shape, dtype=bool))},
        y=y.astype(np.float64),
        targets=("feh", "teff"),
        ra=np.full(N, np.nan),
        dec=np.full(N, np.nan),
        worth=np.ones(N),
        calibrates=np.ones(N, dtype=bool),
    )
