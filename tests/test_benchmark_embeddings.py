"""The comparison of embeddings: ranks and regimes by hand, and the whole on small data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.embeddings import __main__ as comparison
from benchmarks.embeddings.__main__ import EmbeddingsOptions, compare, table
from benchmarks.embeddings.limit import LimitOptions, likelihood_ranks, limit
from benchmarks.embeddings.probes import across, by_regime, partner_ranks, repeat_ranks, within
from benchmarks.embeddings.samples import Sample, Workshop
from stores.errors import InputError, OptionError
from stores.grid import Grid
from stores.prepare import Preparation

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def sample(n: int = 120, *, name: str = "made", seed: int = 0, offset: float = 0.0) -> Sample:
    """Spectra whose first pixels are the labels, seen through a little noise."""
    random = np.random.default_rng(seed)
    feh = random.uniform(-2.5, 0.5, n)
    flux = np.stack([feh, random.normal(size=n), random.normal(size=n)], axis=1) + random.normal(0, 1e-3, (n, 3))
    labels = {"feh": feh + offset, "teff": np.where(np.arange(n) % 2, 5000 + 100 * feh, np.nan)}
    return Sample(name, flux.astype(np.float32), np.ones((n, 3), np.float32), labels, np.arange(n))


def features(sample: Sample) -> np.ndarray:
    return sample.flux.astype(np.float64)


def test_partner_ranks_are_those_counted_by_hand() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(size=(700, 5)) + 7, random.normal(size=(700, 5)) + 7
    other[:300] = one[:300]
    mean = np.concatenate([one, other]).mean(axis=0)
    a, b = one - mean, other - mean
    cosine = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    expected = [1 + np.sum(cosine[i] > cosine[i, i] + 1e-12) for i in range(700)]
    found = partner_ranks(one, other)
    np.testing.assert_array_equal(found[300:], expected[300:])
    assert (found[:300] <= 2).all()  # equal but for rounding
    assert np.median(found[300:]) > 200


def test_repeats_are_ranked_among_other_stars() -> None:
    background = np.eye(4)
    x = np.array([[1, 1, 0, 0], [1, 0.9, 0, 0], [0, 0, 1, 0.2], [0, 0, 1, -3.0], [5, 5, 5, 5.0]])
    star = np.array([1, 1, 2, 2, 3])
    assert repeat_ranks(x, star, background).tolist()[:2] == [1, 1]
    assert repeat_ranks(x, star, background)[2] > 1
    assert len(repeat_ranks(x, star, background)) == 4  # the last star was seen once


def test_scores_are_given_by_regime_and_only_where_labels_are_known() -> None:
    found = within(sample(), lambda _: features)
    assert found["teff"]["n"] == 60
    assert found["feh"]["n"] == found["feh_rich"]["n"] + found["feh_poor"]["n"] == 120
    assert found["feh"]["r2"] > 0.999
    assert found["feh"]["sigma"] < 0.005
    shifted = across(sample(), sample(seed=1, offset=0.3), lambda _: features)
    assert shifted["feh"]["median"] == pytest.approx(-0.3, abs=0.002)
    edge = by_regime("feh", np.concatenate([np.linspace(-2, -1, 20), np.linspace(-0.99, 0, 25)]), np.zeros(45))
    assert (edge["feh_poor"]["n"], edge["feh_rich"]["n"]) == (20, 25)


def test_pixels_are_the_spectra_themselves() -> None:
    sample = Sample("a", np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32), {}, np.arange(2))
    fit = comparison._fit("pixels", "", Workshop(Path(), Path(), Grid.parse("lrs"), Preparation()), 0)
    np.testing.assert_array_equal(fit(sample)(sample), sample.flux)


def test_components_are_fitted_to_the_source() -> None:
    source, target = sample(), sample(seed=1)
    fit = comparison._fit("pca2", "", Workshop(Path(), Path(), Grid.parse("lrs"), Preparation()), 0)
    flux = source.flux.astype(np.float64)
    axes = np.linalg.svd(flux - flux.mean(axis=0), full_matrices=False)[2][:2]
    expected = (target.flux - flux.mean(axis=0)) @ axes.T
    found = fit(source)(target)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)


def test_the_table_marks_the_best() -> None:
    good, bad = within(sample(), lambda _: features), within(sample(), lambda _: lambda s: s.flux[:, 1:].astype(float))
    rank = {"rank": {"n": 3.0, "first": 0.5, "median": 2.0}}
    text = table({"good": {"made": good, "partner": rank}, "bad": {"made": bad, "partner": rank}})
    [line] = [line for line in text.splitlines() if line.startswith("| good") and "**" in line]
    assert line.count("**") == 2 * 4
    assert "| bad | 50.0% (2) |" in text


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="names no model that is trained"):
        compare(EmbeddingsOptions(data=tmp_path, out=tmp_path, models=("pca64", "untrained")))
    with pytest.raises(OptionError, match="--stars 5 must be 100 or more"):
        compare(EmbeddingsOptions(data=tmp_path, out=tmp_path, stars=5))
    with pytest.raises(InputError, match="does not exist; name the folder of the real data"):
        Workshop(tmp_path, tmp_path / "no", Grid.parse("lrs"), Preparation()).miles()


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="the real spectra of ../shared/data are not here")
def test_the_whole_comparison(tmp_path: Path) -> None:
    options = EmbeddingsOptions(data=DATA, out=tmp_path / "out", stars=400, models=("pca16", "tiny-lamost"))
    assert compare(options) == 0
    results = json.loads((tmp_path / "out/embeddings.json").read_text())["results"]
    for name in ("lamost", "lamost -> miles", "twins, S/N 50"):
        assert results["tiny-lamost"][name]["feh"]["sigma"] < results["pca16"][name]["feh"]["sigma"], name
    assert results["tiny-lamost"]["lamost"]["feh"]["n"] == 1726
    assert (tmp_path / "out/embeddings.png").stat().st_size > 10_000
    assert compare(options) == 0  # the samples' stores are found again


def test_the_limit_ranks_by_the_whole_ellipsoid() -> None:
    # errors along one direction only: across it, stars are told apart whatever their scatter along it
    random = np.random.default_rng(0)
    n = 300
    labels = random.normal(size=(n, 5))
    along = np.full((5, 1), 1 / np.sqrt(5))
    narrow = np.broadcast_to(25 * along @ along.T + 1e-6 * np.eye(5), (n, 5, 5))
    ranks = likelihood_ranks(labels, narrow, narrow, 200, seed=1)
    assert len(ranks) == 200
    assert np.mean(ranks == 1) > 0.95
    round_ones = np.broadcast_to(25 * np.eye(5), (n, 5, 5))
    lost = likelihood_ranks(labels, round_ones, round_ones, 200, seed=1)
    assert np.mean(lost == 1) < 0.05
    assert 0.2 * n < np.median(lost) < 0.8 * n


def test_the_limit_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert limit(LimitOptions(stars=40, queries=20)) == 0
    assert "20 stars among 40 at S/N 50" in capsys.readouterr().out
    with pytest.raises(OptionError, match="--stars"):
        limit(LimitOptions(stars=1))
