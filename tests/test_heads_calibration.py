"""Intervals cover what they say on stars that had no part in them, whatever the errors and the predicted sigmas."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from heads_made import SMALL, TARGETS, make_sample
from numpy.typing import NDArray

from heads import Head, Sample, TrainOptions, train_head
from heads.calibration import FEWEST, RICH, TAILS, Calibration
from heads.fit import FitOptions
from heads.head import mixture

Float = NDArray[np.float64]

ERRORS = {
    "gaussian": lambda random, n: random.normal(size=n),
    "heavy": lambda random, n: random.standard_t(2.5, size=n),
    "skewed": lambda random, n: random.exponential(size=n) - 0.4,
}


def draw(kind: str, n: int, seed: int, wrong: float = 0.4) -> tuple[Float, Float, Float]:
    """Labels, values, sigmas (n, 1): the sigmas differ from star to star and are all wrong by a factor."""
    random = np.random.default_rng(seed)
    value = random.uniform(-3, 0.5, n)
    scatter = random.uniform(0.05, 0.2, n)
    error = scatter * ERRORS[kind](random, n)
    return (value + error)[:, None], value[:, None], (wrong * scatter)[:, None]


def covered(calibration: Calibration, y: Float, value: Float, sigma: Float, tail: float) -> Any:
    low, high = calibration.interval(value, sigma, tail)
    return (low <= y) & (y <= high)


@pytest.mark.parametrize("wrong", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("kind", list(ERRORS))
@pytest.mark.parametrize("tail", TAILS)
def test_fresh_stars_are_covered_as_promised(kind: str, tail: float, wrong: float) -> None:
    calibration = Calibration.of(*draw(kind, 4000, 0, wrong), feh=0)
    y, value, sigma = draw(kind, 20_000, 1, wrong)
    share, nominal = covered(calibration, y, value, sigma, tail).mean(), 1 - 2 * tail
    # both the 4000 and the 20,000 are drawn; each regime has its own share of the 4000
    error = np.sqrt(nominal * (1 - nominal) * (1 / 20_000 + 1 / 2000))
    assert abs(share - nominal) < 4 * error
    # either side, too
    low, high = calibration.interval(value, sigma, tail)
    for side in ((y < low).mean(), (y > high).mean()):
        assert abs(side - tail) < 4 * np.sqrt(tail * (1 - tail) * (1 / 20_000 + 1 / 2000))


@pytest.mark.parametrize("wrong", [0.2, 5.0])
def test_sigma_is_that_of_the_errors(wrong: float) -> None:
    calibration = Calibration.of(*draw("gaussian", 4000, 0, wrong), feh=0)
    y, value, sigma = draw("gaussian", 4000, 1, wrong)
    found = calibration.sigma(value, sigma)
    assert np.std((y - value) / found) == pytest.approx(1.0, abs=0.06)


def test_outliers_do_not_move_sigma() -> None:
    y, value, sigma = draw("gaussian", 4000, 0)
    clean = Calibration.of(y, value, sigma, feh=0).factor
    y[::50] += 100.0
    np.testing.assert_allclose(Calibration.of(y, value, sigma, feh=0).factor, clean, rtol=0.06)


def test_regimes_have_quantiles_of_their_own() -> None:
    """Metal-poor errors are five times as large as their sigmas say, metal-rich ones as they say."""
    random = np.random.default_rng(0)

    def made(n: int) -> tuple[Float, Float, Float]:
        value = random.uniform(-3, 0.5, (n, 1))
        return value + np.where(value <= RICH, 0.5, 0.1) * random.normal(size=(n, 1)), value, np.full((n, 1), 0.1)

    calibration = Calibration.of(*made(4000), feh=0)
    y, value, sigma = made(20_000)
    inside = covered(calibration, y, value, sigma, 0.16)
    for regime in (value <= RICH, value > RICH):
        assert inside[regime].mean() == pytest.approx(0.68, abs=0.04)
    found = calibration.sigma(value, sigma)
    assert found[value <= RICH].mean() == pytest.approx(0.5, rel=0.07)
    assert found[value > RICH].mean() == pytest.approx(0.1, rel=0.07)
    # without [Fe/H] there is one for all
    for part in (value <= RICH, value > RICH):
        one = Calibration.of(y, value, sigma, None).sigma(value, sigma)[part]
        assert np.ptp(one) == 0
    assert Calibration.of(y, value, sigma, None).sigma(value, sigma)[0, 0] == one[0]


def test_a_regime_of_few_stars_takes_the_quantiles_of_all() -> None:
    random = np.random.default_rng(0)
    n = 500
    for poor, own in ((FEWEST - 1, False), (FEWEST, True)):
        value = np.where(np.arange(n) < poor, -2.0, 0.0)[:, None]
        y = value + np.where(value < -1, 3.0, 1.0) * random.normal(size=(n, 1))
        calibration = Calibration.of(y, value, np.ones((n, 1)), feh=0)
        assert calibration.count[:, 0].tolist() == [n, poor, n - poor]
        assert (calibration.factor[1, 0] == calibration.factor[0, 0]) == (not own)
        assert np.array_equal(calibration.low[1], calibration.low[0]) == (not own)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 10, 15, 20, 30])
@pytest.mark.parametrize("tail", TAILS)
def test_few_stars_make_wide_intervals_not_wrong_ones(n: int, tail: float) -> None:
    """Averaged over many sets of n stars, at least as many fresh stars are inside as promised."""
    random = np.random.default_rng(n)
    trials = 1500
    inside = np.empty(trials)
    for trial in range(trials):
        calibration = Calibration.of(random.normal(0.3, 2.0, (n, 1)), np.zeros((n, 1)), np.ones((n, 1)), None)
        low, high = calibration.interval(np.zeros((1, 1)), np.ones((1, 1)), tail)
        law = NormalDist(0.3, 2.0)
        inside[trial] = law.cdf(high[0, 0]) - law.cdf(low[0, 0])
    assert inside.mean() > 1 - 2 * tail - 3 * inside.std() / np.sqrt(trials)


@pytest.mark.parametrize("n", [0, 1])
def test_without_stars_the_errors_are_taken_as_gaussian(n: int) -> None:
    calibration = Calibration.of(np.ones((n, 1)), np.zeros((n, 1)), np.ones((n, 1)), 0)
    low, high = calibration.interval(np.zeros((1, 1)), np.full((1, 1), 2.0), 0.05)
    assert high[0, 0] == pytest.approx(2 * 1.6449, abs=1e-3)
    assert low[0, 0] == -high[0, 0]
    assert calibration.sigma(np.zeros((1, 1)), np.full((1, 1), 2.0))[0, 0] == 2.0
    plain = Calibration.none(1)
    assert plain.interval(np.zeros((1, 1)), np.ones((1, 1)), 0.16)[1][0, 0] == pytest.approx(0.9945, abs=1e-3)


def test_labels_that_are_not_known_have_no_say() -> None:
    y, value, sigma = draw("gaussian", 300, 0)
    both = np.concatenate([y, y], axis=1)
    both[100:, 1] = np.nan
    twice = Calibration.of(both, value.repeat(2, axis=1), sigma.repeat(2, axis=1), 0)
    first = Calibration.of(y, value, sigma, 0)
    part = Calibration.of(y[:100], value[:100], sigma[:100], 0)
    for name in ("low", "high", "factor", "count"):
        np.testing.assert_array_equal(getattr(twice, name)[:, 0], getattr(first, name)[:, 0])
        np.testing.assert_array_equal(getattr(twice, name)[:, 1], getattr(part, name)[:, 0])


def test_intervals_lie_within_one_another() -> None:
    for n in (3, 10, 25, 400):
        calibration = Calibration.of(*draw("heavy", n, n), feh=0)
        for tail, wider in ((0.16, 0.05), (0.05, 0.025)):
            low, high = (calibration.interval(np.zeros((1, 1)), np.ones((1, 1)), one) for one in (tail, wider))
            assert high[0] <= low[0]
            assert low[1] <= high[1]


@pytest.mark.parametrize("feh", [0, None])
def test_json_brings_it_back_to_the_bit(feh: int | None) -> None:
    calibration = Calibration.of(*draw("heavy", 333, 0), feh=feh)
    back = Calibration.from_json(json.loads(json.dumps(calibration.as_json())))
    for name in ("low", "high", "factor", "count"):
        one, other = getattr(back, name), getattr(calibration, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert back.feh == feh


def test_the_mixture_of_members_has_their_mean_and_all_their_variance() -> None:
    random = np.random.default_rng(0)
    values, sigmas = random.normal(size=(3, 5, 2)), random.uniform(0.1, 1, (3, 5, 2))
    value, sigma = mixture(values, sigmas)
    draws = values[..., None] + sigmas[..., None] * random.normal(size=(3, 5, 2, 40_000))
    np.testing.assert_allclose(value, draws.mean(axis=(0, 3)), atol=0.02)
    np.testing.assert_allclose(sigma, draws.std(axis=(0, 3)), rtol=0.02)


def test_labels_without_a_star_keep_the_quantiles_of_another() -> None:
    y, value, sigma = draw("gaussian", 300, 0, 1.5)
    both = np.concatenate([y, y], axis=1)
    twice = (value.repeat(2, axis=1), sigma.repeat(2, axis=1))
    whole = Calibration.of(both, *twice, 0)
    both[:, y.shape[1] :] = np.nan
    bare = Calibration.of(both, *twice, 0)
    wide = Calibration(whole.low * 3, whole.high * 3, whole.factor * 3, whole.count * 3, 0)
    found, k = bare.or_else(wide), y.shape[1]
    for name in ("low", "high", "factor", "count"):
        kept, own, other = (getattr(one, name) for one in (found, bare, wide))
        np.testing.assert_array_equal(kept[:, :k], own[:, :k])
        np.testing.assert_array_equal(kept[:, k:], other[:, k:])
        assert kept.shape == own.shape
    assert whole.or_else(wide).as_json() == whole.as_json()


# -- stars that set the uncertainties ----------------------------------------------------------------------

FEW_STEPS = TrainOptions(
    seeds=5, widths=(16, 8), fit=FitOptions(batch_size=256, learning_rate=1e-2, least_steps=300, most_steps=300)
)


def blurred(n: int, seed: int, *, calibrates: bool = True) -> Sample:
    """Stars whose labels are uncertain by 0.5 dex and 250 K, which their features do not tell."""
    sample = make_sample(n, seed)
    error = np.random.default_rng([seed, 3]).normal(size=sample.y.shape) * [0.5, 250.0]
    return replace(sample, y=sample.y + error, calibrates=np.full(n, calibrates))


def exact(n: int, seed: int, *, calibrates: bool = True) -> Sample:
    """Stars like them with better labels."""
    return replace(make_sample(n, seed), calibrates=np.full(n, calibrates))


def shares_inside(head: Head, fresh: Sample) -> list[float]:
    """Share of the labels of fresh stars within the bounds of 90 per cent, of each label."""
    found = head.predict_sample(fresh)
    inside = [(y >= found.low90[name]) & (y <= found.high90[name]) for name, y in zip(TARGETS, fresh.y.T, strict=True)]
    return [float(one.mean()) for one in inside]


def test_bounds_hold_for_stars_like_those_that_set_them() -> None:
    """Few stars with uncertain labels among many with good ones, as real stars among simulated ones."""
    few, many, fresh = blurred(1500, 1), exact(4500, 2), blurred(5000, 3)
    silent = replace(many, calibrates=np.zeros(len(many), dtype=bool))
    of_all, of_few = (
        train_head(Sample.concatenated([few, others], (1.0, 1.0)), {}, FEW_STEPS).head for others in (many, silent)
    )
    assert max(shares_inside(of_all, fresh)) < 0.75
    assert all(0.88 < share < 0.92 for share in shares_inside(of_few, fresh))
    # and too wide, then, for the others
    assert min(shares_inside(of_few, exact(2000, 4))) > 0.97


def test_stars_that_do_not_set_uncertainties_change_nothing_else() -> None:
    parts = [blurred(60, 1), exact(90, 2)]
    silent = [parts[0], replace(parts[1], calibrates=np.zeros(90, dtype=bool))]
    one, other = (train_head(Sample.concatenated(given), {}, SMALL) for given in (parts, silent))
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(one.sigma, other.sigma)
    own = np.arange(150) < 60
    assert other.head.calibration.count[0].tolist() == [int((one.seen_by_none & own).sum())] * 2
    assert one.head.calibration.count[0].tolist() == [int(one.seen_by_none.sum())] * 2
    assert one.head.fingerprint != other.head.fingerprint


def test_a_label_that_no_calibrating_star_has_is_set_by_all() -> None:
    without = blurred(60, 1)
    without.y[:, 1] = np.nan
    joined = Sample.concatenated([without, exact(90, 2, calibrates=False)])
    outcome = train_head(joined, {}, SMALL)
    own = np.arange(150) < 60
    wanted = [(outcome.seen_by_none & own).sum(), (outcome.seen_by_none & ~own).sum()]
    assert outcome.head.calibration.count[0].tolist() == wanted
