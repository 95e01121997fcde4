"""Regimes by expression, measures of errors and their bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.stats import sigma_clip

from benchmarks.measures import Bootstrap, Measured, clipped_scatter, measure, resampled, significantly_less
from benchmarks.regime import REGIMES, Regime
from stores.errors import OptionError


def measured(
    reference: np.ndarray,
    value: np.ndarray,
    members: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    limit: np.ndarray | None,
    bootstrap: Bootstrap,
) -> Measured:
    """What is measured of a single method."""
    low, high = bounds
    (found,) = measure(reference, value[None], members[None], (low[None], high[None]), limit, bootstrap)
    return found


STARS = {"feh": np.array([-2.5, -1.0, 0.0, np.nan]), "teff": np.array([4000.0, 5000.0, 6000.0, 5000.0])}


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("metal_rich", [False, False, True, False]),
        ("metal_poor", [True, True, False, False]),
        ("very_metal_poor", [True, False, False, False]),
        ("warm=feh > -2 and teff > 5500", [False, False, True, False]),
        ("either=feh < -2 or teff > 5500", [True, False, True, False]),
        ("others=not feh < -1", [False, True, True, False]),  # nor is a star without [Fe/H]
        ("between=-2 < feh <= -1", [False, True, False, False]),
    ],
)
def test_a_regime_is_an_expression(text: str, inside: list[bool]) -> None:
    (regime,) = Regime.parse(text)
    assert regime.of(STARS).tolist() == inside


def test_all_are_the_regimes_that_have_names() -> None:
    assert {one.name: one.expression for one in Regime.parse("all")} == REGIMES


@pytest.mark.parametrize(
    "text",
    [
        "rich",
        "a=feh",
        "a=1 < 2",
        'a=__import__("os")',
        'a=feh < "x"',
        "a=feh.real < 1",
        "a=feh <",
        "=feh < 1",
        "all=feh<1",
    ],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"expression|EXPRESSION"):
        Regime.parse(text)


def test_a_label_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionError, match="asks for 'mass'"):
        Regime("a", "mass > 1").of(STARS)


@pytest.mark.parametrize("n", [5, 12, 301])
def test_the_clipped_scatter_is_astropys(n: int) -> None:
    error = 40 + np.random.default_rng(n).standard_t(2, size=(20, n))
    expected = [np.std(sigma_clip(row, sigma=3, masked=False)) for row in error]
    np.testing.assert_allclose(clipped_scatter(error), expected, rtol=1e-9)
    assert n < 100 or (clipped_scatter(error) < error.std(axis=1)).all()


def test_far_errors_and_many_of_them_are_clipped_as_astropy_does() -> None:
    random = np.random.default_rng(8)
    error = random.normal(size=(4, 400))
    error[1, :70] += 1e7  # more on one side than are looked through at first, and so far that squares are all theirs
    error[2, :60] -= 8
    error[3] = 0
    expected = [np.std(sigma_clip(row, sigma=3, masked=False)) for row in error]
    np.testing.assert_allclose(clipped_scatter(error), expected, rtol=1e-7)
    assert expected[2] < 1.1


def test_replicates_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    reference = random.normal(size=90)
    members = reference + 7 + 0.3 * random.standard_t(3, size=(3, 4, 90))
    bootstrap = Bootstrap.of(np.repeat(np.arange(45), 2), 70, 11)
    seeds = np.random.default_rng([11, 1]).integers(0, 4, (70, 4))
    scatter, median = np.empty((3, 70)), np.empty((3, 70))
    for method in range(3):
        for replicate in range(70):
            prediction = np.mean([members[method, seed] for seed in seeds[replicate]], axis=0)
            error = np.array([prediction[star] - reference[star] for star in bootstrap.stars[replicate]])
            scatter[method, replicate] = np.std(sigma_clip(error, sigma=3, masked=False))
            median[method, replicate] = np.median(error)
    for size in (200_000, 90 * 16, 1):  # however many replicates are worked on at once
        monkeypatch.setattr("benchmarks.measures.CACHE", size)
        found = resampled(reference, members, bootstrap)
        np.testing.assert_allclose(found[0], scatter, rtol=1e-10)
        np.testing.assert_allclose(found[1], median, rtol=1e-10)


def test_methods_measured_together_are_those_measured_alone() -> None:
    random = np.random.default_rng(6)
    reference = random.normal(size=60)
    members = reference + 0.2 * random.normal(size=(5, 3, 60))
    value = members.mean(axis=1)
    bounds, bootstrap = (value - 0.2, value + 0.2), Bootstrap.of(np.arange(60), 50, 0)
    together = measure(reference, value, members, bounds, None, bootstrap)
    for i, one in enumerate(together):
        alone = measured(reference, value[i], members[i], (bounds[0][i], bounds[1][i]), None, bootstrap)
        assert one.values == pytest.approx(alone.values, rel=1e-12, nan_ok=True)
        np.testing.assert_array_equal(one.replicates, alone.replicates)


def test_measures_are_those_of_the_errors() -> None:
    random = np.random.default_rng(1)
    reference = random.uniform(-3, 0, 4000)
    error = 0.1 * random.normal(size=4000) + 0.02
    error[:40] += 2
    members = reference + error + 0.05 * random.normal(size=(3, 4000))
    value = members.mean(axis=0)
    found = measured(
        reference,
        value,
        members,
        (value - 0.1645 - 0.02, value + 0.1645 - 0.02),
        np.full(4000, 0.05),
        Bootstrap.of(np.arange(4000), 100, 0),
    ).values
    assert found["n"] == 4000
    assert found["sigma"] == pytest.approx(0.104, rel=0.05)
    assert found["biweight"] == pytest.approx(0.104, rel=0.05)
    assert found["median"] == pytest.approx(0.02, abs=0.01)
    assert found["outliers"] == pytest.approx(0.0127, abs=0.003)
    assert found["cover90"] == pytest.approx(0.88, abs=0.02)
    assert found["bound_ratio"] == pytest.approx(2.08, rel=0.05)
    assert found["r2"] == pytest.approx(
        1 - np.sum((value - reference) ** 2) / np.sum((reference - reference.mean()) ** 2)
    )
    assert found["sigma_low"] < found["sigma"] < found["sigma_high"] < 1.1 * found["sigma"]
    assert found["seeds_mean"] == pytest.approx(0.112, rel=0.05)
    assert 0 < found["seeds_scatter"] < 0.005


def test_an_interval_is_not_given_where_a_method_has_none() -> None:
    reference = np.linspace(-3, 0, 50)
    nothing = np.full(50, np.nan)
    found = measured(
        reference, reference, reference[None], (nothing, nothing), None, Bootstrap.of(np.arange(50), 60, 0)
    )
    assert np.isnan([found.values[name] for name in ("cover90", "bound_ratio", "seeds_scatter")]).all()
    assert found.values["sigma"] == 0


def test_the_interval_holds_the_true_scatter() -> None:
    random = np.random.default_rng(3)
    held = 0
    for trial in range(60):
        reference, error = np.zeros(150), random.normal(size=150)
        found = measured(reference, error, error[None], (error, error), None, Bootstrap.of(np.arange(150), 200, trial))
        # clipping at 3 sigma leaves 98.7 per cent of a Gaussian's scatter
        held += found.values["sigma_low"] <= 0.987 <= found.values["sigma_high"]
    assert 48 <= held <= 60


def test_a_difference_counts_only_beyond_chance() -> None:
    random = np.random.default_rng(5)
    reference, shared = np.zeros(200), random.normal(size=200)
    bootstrap = Bootstrap.of(np.arange(200), 300, 1)

    def replicates(error: np.ndarray) -> np.ndarray:
        return measured(reference, error, error[None], (error, error), None, bootstrap).replicates

    # paired: five per cent is much where the stars' errors are shared, and nothing where they are not
    assert significantly_less(replicates(shared), replicates(1.05 * shared))
    assert not significantly_less(replicates(random.normal(size=200)), replicates(1.05 * random.normal(size=200)))


def test_rows_of_one_star_are_drawn_together() -> None:
    star = np.repeat(np.arange(30), 3)
    bootstrap = Bootstrap.of(star, 50, 0)
    assert bootstrap.count == 30
    counts = np.apply_along_axis(np.bincount, 1, bootstrap.stars, minlength=90).reshape(50, 30, 3)
    assert (counts == counts[..., :1]).all()
    assert (counts == 0).any()
