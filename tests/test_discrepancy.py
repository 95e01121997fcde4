"""Maximum mean discrepancy: nothing between equal distributions, more the farther apart."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.discrepancy import LEAST, discrepancy


def many(shift: float, correlated: float, trials: int = 60, n: int = 60) -> np.ndarray:
    """(trials, 2): squared and p of pairs of two-dimensional normal samples."""
    found = []
    for trial in range(trials):
        random = np.random.default_rng(trial)
        common = np.sqrt(correlated) * random.standard_normal((n, 2))
        one, other = (common + np.sqrt(1 - correlated) * random.standard_normal((n, 2)) for _ in range(2))
        far = discrepancy(one + shift, other, seed=trial, permutations=99)
        assert far is not None
        found.append((far.squared, far.p))
    return np.array(found)


@pytest.mark.parametrize("correlated", [0.0, 0.8])
def test_equal_distributions_are_zero_apart_on_average_and_p_is_uniform(correlated: float) -> None:
    """Predictions and references of the same stars are correlated: that must neither lower nor raise anything."""
    squared, p = many(0.0, correlated).T
    assert abs(squared.mean()) < 3 * squared.std() / np.sqrt(len(squared))
    assert squared.min() < 0 < squared.max()
    assert abs(p.mean() - 0.5) < 3 * np.sqrt(1 / 12 / len(p))
    assert 0.1 < np.mean(p < 0.25) < 0.45


def test_it_grows_with_the_shift_and_p_falls() -> None:
    means = [many(shift, 0.0, trials=15).mean(axis=0) for shift in (0.0, 0.3, 0.6, 1.2)]
    squared, p = np.array(means).T
    assert np.all(np.diff(squared) > 0)
    assert np.all(np.diff(p) < 0)
    assert p[-1] == pytest.approx(0.01)


def test_it_is_the_sum_over_pairs_of_different_stars() -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(0, 2, (12, 2)), random.normal(0.5, 2, (12, 2))
    found = discrepancy(x, y, permutations=9)
    assert found is not None
    a, b = x / y.std(axis=0), y / y.std(axis=0)
    joined = np.concatenate([a, b])
    distances = [np.linalg.norm(joined[i] - joined[j]) for i in range(24) for j in range(i)]
    assert found.bandwidth == pytest.approx(np.median(distances))

    def k(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.exp(-np.sum((one - other) ** 2) / (2 * found.bandwidth**2)))

    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    total = sum(k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i, j in pairs)
    assert found.squared == pytest.approx(total / len(pairs))
    assert found.n == 12


def test_units_do_not_matter_and_unknown_values_are_left_out() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(0, 1, (40, 2)), random.normal(0.4, 1, (40, 2))
    plain = discrepancy(x, y)
    assert plain == discrepancy(x, y)
    scaled = discrepancy(x * [1000, 1], y * [1000, 1])
    assert plain is not None
    assert scaled is not None
    assert scaled.squared == pytest.approx(plain.squared)
    gaps = np.vstack([x, [[np.nan, 0.0]]]), np.vstack([y, [[0.0, 0.0]]])
    assert discrepancy(*gaps) == plain


def test_few_stars_have_none_and_many_are_drawn_from() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(0, 1, (300, 2)), random.normal(0, 1, (300, 2))
    assert discrepancy(x[: LEAST - 1], y[: LEAST - 1]) is None
    found = discrepancy(x, y, most=100)
    assert found is not None
    assert found.n == 100


def test_constant_values_do_not_break_it() -> None:
    found = discrepancy(np.ones((20, 2)), np.ones((20, 2)))
    assert found is not None
    assert (found.squared, found.p) == (0.0, 1.0)
