"""How well any embedding could find a star again: the limit that noise sets.

    python -m benchmarks.embeddings.limit --stars 10000 --snr 50

All that a twin's spectrum says of its star is in five labels, so no embedding can tell stars apart better than the
labels' full error ellipsoids (Fisher matrices, velocity and continuum not known) allow. For every star, labels as
either instrument would measure them at the Cramer-Rao limit are drawn, and its partner is looked for among all stars
by the likelihood of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.bounds import covariances
from benchmarks.embeddings.samples import TWIN_SEED, seen_by
from stores.command import run_command
from stores.errors import OptionError

Float = NDArray[np.float64]


@dataclass(kw_only=True)
class LimitOptions:
    """The share of twin stars whose partner the noise lets anyone find."""

    stars: int = 10_000
    """Stars that both twins see."""
    snr: float = 50.0
    """Signal-to-noise ratio per pixel of both."""
    queries: int = 2000
    """Stars that are looked for."""
    range: tuple[float, float] | None = (3999.45, 5598.87)
    """Wavelengths that count, Angstrom: those of the lrs grid."""


def limit(options: LimitOptions) -> int:
    """Print the share at rank 1 and the median rank; returns the exit status."""
    if options.stars < 2 or options.queries < 1 or options.snr <= 0:
        raise OptionError("--stars must be 2 or more, --queries 1 or more, --snr above 0.")
    limits = []
    for survey in ("lamost", "desi"):
        instrument, stars, fates = seen_by(survey, options.stars, options.snr)
        limits.append(covariances(instrument, stars, fates, TWIN_SEED, options.range))
    ranks = likelihood_ranks(stars.labels, limits[0], limits[1], options.queries, TWIN_SEED)
    print(f"{len(ranks)} stars among {options.stars} at S/N {options.snr:g}:")
    print(f"partner at rank 1 {np.mean(ranks == 1):.1%}, median rank {np.median(ranks):.0f}")
    return 0


def likelihood_ranks(labels: Float, one: Float, other: Float, queries: int, seed: int) -> NDArray[np.int64]:
    """Rank (q,) of each star's second measurement by its likelihood, given the first; 1 is best.

    labels: (n, 5); one, other: (n, 5, 5), covariances of the two measurements
    """
    random = np.random.default_rng(seed)
    first, second = (labels + _drawn(matrix, random) for matrix in (one, other))
    chosen = random.permutation(len(labels))[:queries]
    ranks = np.empty(len(chosen), dtype=np.int64)
    for i, star in enumerate(chosen):
        both = one[star] + other
        difference = second - first[star]
        square = np.einsum("ni,ni->n", difference, np.linalg.solve(both, difference[..., None])[..., 0])
        score = square + np.linalg.slogdet(both)[1]
        ranks[i] = 1 + np.count_nonzero(score < score[star])
    return ranks


def _drawn(covariance: Float, random: np.random.Generator) -> Float:
    root = np.linalg.cholesky(covariance)
    drawn: Float = (root @ random.standard_normal((*root.shape[:2], 1)))[..., 0]
    return drawn


def main() -> None:
    """Entry point of python -m benchmarks.embeddings.limit."""
    run_command(LimitOptions, limit, "benchmarks.embeddings.limit")


if __name__ == "__main__":
    main()
