"""What a ridge regression reads from features, and how well features find the same star again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.embeddings.samples import LABELS, Sample
from embed.probe import cross_validate, folds_by_star, ridge, scores

Float = NDArray[np.float64]
Scores = dict[str, dict[str, float]]  # of each label: n, r2, sigma, median
Features = Callable[[Sample], Float]  # (n, d) of a sample
Fit = Callable[[Sample], Features]  # learned from a sample without its labels, or known beforehand

RICH = -1.0  # [Fe/H] above which a star is metal-rich
FOLDS = 5
QUERIES_AT_ONCE = 512


def within(sample: Sample, fit: Fit, seed: int = 0) -> Scores:
    """Scores by label, cross-validated by star within one sample.

    What is learned without labels (principal components) is learned from all of it, test stars too.
    """
    x, fold = fit(sample)(sample), folds_by_star(sample.star, FOLDS, seed)
    found: Scores = {}
    for label, values in sample.labels.items():
        known = np.isfinite(values)
        found |= by_regime(label, values[known], cross_validate(x[known], values[known], fold[known]))
    return found


def across(source: Sample, target: Sample, fit: Fit) -> Scores:
    """Scores by label on the target of a ridge fitted to the source."""
    features = fit(source)
    x, x_new = features(source), features(target)
    found: Scores = {}
    for label in LABELS:
        if label not in source.labels or label not in target.labels:
            continue
        known, known_new = np.isfinite(source.labels[label]), np.isfinite(target.labels[label])
        if known.any() and known_new.any():
            predicted = ridge(x[known], source.labels[label][known], x_new[known_new])
            found |= by_regime(label, target.labels[label][known_new], predicted)
    return found


def by_regime(label: str, values: Float, predicted: Float) -> Scores:
    """Scores of one label, and of [Fe/H] for metal-rich and metal-poor stars too."""
    found = {label: {"n": float(len(values)), **scores(values, predicted)}}
    if label == "feh":
        for name, chosen in (("feh_rich", values > RICH), ("feh_poor", values <= RICH)):
            if np.count_nonzero(chosen) > 10:
                found[name] = {"n": float(chosen.sum()), **scores(values[chosen], predicted[chosen])}
    return found


def partner_ranks(one: Float, other: Float) -> NDArray[np.int64]:
    """Rank (n,) of row i of `other` among all its rows by cosine similarity to row i of `one`; 1 is nearest.

    Both (n, d) are centred on their common mean first: what all spectra share tells no star from another.
    """
    mean = (one.mean(axis=0) + other.mean(axis=0)) / 2
    one, other = _unit(one - mean), _unit(other - mean)
    ranks = np.empty(len(one), dtype=np.int64)
    for start in range(0, len(one), QUERIES_AT_ONCE):
        rows = np.arange(start, min(start + QUERIES_AT_ONCE, len(one)))
        similarity = one[rows] @ other.T
        own = similarity[np.arange(len(rows)), rows]
        ranks[rows] = 1 + np.count_nonzero(similarity > own[:, None], axis=1)
    return ranks


def repeat_ranks(x: Float, star: NDArray[np.int64], background: Float) -> NDArray[np.int64]:
    """Rank of the best other spectrum of each star's own among those of other stars and a background (m, d).

    x: (n, d); star: (n,); the rank (k,) is given for spectra whose star has another one
    """
    mean = background.mean(axis=0)
    x, background = _unit(x - mean), _unit(background - mean)
    ranks = []
    for i in range(len(x)):
        same = (star == star[i]) & (np.arange(len(x)) != i)
        if same.any():
            best = np.max(x[same] @ x[i])
            others = np.concatenate([x[star != star[i]], background]) @ x[i]
            ranks.append(1 + int(np.count_nonzero(others > best)))
    return np.array(ranks)


def _unit(x: Float) -> Float:
    scaled: Float = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return scaled
