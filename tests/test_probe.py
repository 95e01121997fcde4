"""The probe: an honest ridge, folds by star, and the right comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from models_made import make_store, save_model

from embed.probe import ProbeOptions, Ridge, cross_validate, folds_by_star, probe, ridge, scores
from stores.errors import InputError, OptionError
from stores.spectra import SpectraStore
from stores.stars import same_stars


def test_ridge_finds_a_linear_law() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 20))
    weights = random.normal(size=20)
    y = 3 + x @ weights + 0.01 * random.normal(size=300)
    np.testing.assert_allclose(ridge(x[:200], y[:200], x[200:]), y[200:], atol=0.05)
    # pure noise is not fitted: the penalty is chosen by leave-one-out error
    noise = random.normal(size=200)
    assert np.std(ridge(random.normal(size=(200, 150)), noise, x[:100] @ random.normal(size=(20, 150)))) < 0.6


def test_constant_features_do_no_harm() -> None:
    x = np.concatenate([np.ones((50, 3)), np.arange(50.0)[:, None]], axis=1)
    np.testing.assert_allclose(ridge(x, np.arange(50.0), x), np.arange(50.0), atol=0.1)


def test_scores_are_those_of_their_definition() -> None:
    label = np.linspace(-2, 0, 1001)
    residual = np.random.default_rng(1).normal(0.05, 0.1, 1001)
    residual[:5] = 9.0
    score = scores(label, label + residual)
    assert score["sigma"] == pytest.approx(0.1, rel=0.08)
    assert score["median"] == pytest.approx(np.median(residual))
    assert score["r2"] == pytest.approx(1 - np.sum(residual**2) / np.sum((label - label.mean()) ** 2))


def test_spectra_of_a_star_share_its_fold() -> None:
    random = np.random.default_rng(2)
    ra, dec = random.uniform(0, 360, 200), np.degrees(np.arcsin(random.uniform(-1, 1, 200)))
    ra, dec = np.tile(ra, 2), np.concatenate([dec, dec + 1.0 / 3600])
    ra, dec = np.append(ra, [np.nan, np.nan]), np.append(dec, [np.nan, np.nan])
    star = same_stars(ra, dec)
    np.testing.assert_array_equal(star[:200], star[200:400])
    assert len(np.unique(star)) == 202
    fold = folds_by_star(star, 5, seed=0)
    np.testing.assert_array_equal(fold[:200], fold[200:400])
    assert np.bincount(fold).min() > 60


def test_each_prediction_comes_from_the_other_folds() -> None:
    fold = np.arange(100) % 5
    label = np.random.default_rng(3).normal(size=100)
    seen = []

    def features(training: np.ndarray) -> np.ndarray:
        seen.append(training)
        return np.ones((100, 1))

    predicted = cross_validate(features, label, fold)
    for number, training in enumerate(seen):
        assert not training[fold == number].any()
        assert training[fold != number].all()
        np.testing.assert_allclose(predicted[fold == number], label[fold != number].mean())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_command_reads_depth_from_spectra(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tmp_path / "s.zarr", n=200)
    spectra = SpectraStore.open(store.path)
    depth = 1 - spectra.read("flux")[:, 95:105].mean(axis=1)
    order = np.random.default_rng(0).permutation(200)  # joined by id, not by position
    table = Table({"ID": spectra.read("id")[order], "depth": depth[order], "teff": np.full(200, 5000.0)})
    table["teff"][:20] = 9000.0
    labels = tmp_path / f"labels{suffix}"
    if suffix == ".parquet":
        columns = {name: [*table[name].tolist(), more] for name, more in (("depth", 0.5), ("teff", 5000.0))}
        pq.write_table(pa.table({"ID": [*table["ID"].tolist(), None], **columns}), labels)
    else:
        table.write(labels)
    model = save_model(tmp_path / "model")
    options = ProbeOptions(
        stores=(str(store.path),),
        labels=(labels,),
        target="depth",
        models=(str(model), "untrained", "pca3"),
        json=True,
    )
    assert probe(options) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["spectra"] == 180
    scored = {row["model"]: row["r2"] for row in result["rows"]}
    assert scored["pca3"] > 0.98
    assert scored[str(model)] > 0.3
    assert scored["untrained"] != scored[str(model)]


def test_no_overlap_is_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", n=60)
    Table({"id": np.arange(10_000, 10_100), "feh": np.zeros(100)}).write(tmp_path / "labels.csv")
    options = ProbeOptions(stores=(str(store.path),), labels=(tmp_path / "labels.csv",), models=("pca3",))
    with pytest.raises(InputError, match="0 spectra of the stores have a label"):
        probe(options)
    Table({"name": ["a"]}).write(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match=r"has no column of ids \(id, obsid, targetid\); it has name"):
        probe(ProbeOptions(stores=(str(store.path),), labels=(tmp_path / "nothing.csv",), models=("pca3",)))
    with pytest.raises(InputError, match=r"labels\.csv' has no column nosuch; it has id, feh"):
        probe(ProbeOptions(stores=(str(store.path),), labels=(tmp_path / "labels.csv",), target="nosuch"))
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(InputError, match=r"text\.parquet' cannot be read as a table"):
        probe(ProbeOptions(stores=(str(store.path),), labels=(tmp_path / "text.parquet",), models=("pca3",)))


def test_what_cannot_be_probed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tmp_path / "s.zarr", n=60)
    feh = np.random.default_rng(0).normal(size=60)
    Table({"id": np.arange(1, 61), "feh": feh}).write(tmp_path / "labels.csv")

    def call(**more: Any) -> int:
        return probe(ProbeOptions(stores=(str(store.path),), labels=(tmp_path / "labels.csv",), **more))

    for name in ("pca48", "pca5000", "pca0"):
        with pytest.raises(OptionError, match=f"--models {name}: 48 spectra to learn from allow pca1 to pca47"):
            call(models=("pca3", name))
    assert "probing" not in capsys.readouterr().err  # before any work
    assert call(models=("pca47",)) == 0
    for reversed_range in ((7000.0, 4000.0), (5000.0, 5000.0), (np.nan, 5000.0)):
        with pytest.raises(OptionError, match="holds no star; give the lower end first"):
            call(models=("pca3",), teff_range=reversed_range)


def left_out_by_hand(x: Any, y: Any, worth: Any, penalty: float) -> Any:
    """What a weighted ridge, standardised on all rows, predicts of each row without it."""
    mean, scatter = (
        np.average(x, axis=0, weights=worth),
        np.sqrt(np.average((x - np.average(x, axis=0, weights=worth)) ** 2, axis=0, weights=worth)),
    )
    found = np.empty(len(y))
    for i in range(len(y)):
        own = np.arange(len(y)) != i
        design = np.column_stack([np.ones(len(y)), (x - mean) / scatter])
        weighted = design[own] * worth[own, None]
        normal = weighted.T @ design[own] + penalty * np.diag([0.0] + [1.0] * x.shape[1])
        found[i] = design[i] @ np.linalg.solve(normal, weighted.T @ y[own])
    return found


def test_what_a_ridge_says_of_spectra_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    x, worth = random.normal(size=(40, 6)), random.uniform(0.2, 3.0, 40)
    y = x[:, 0] + random.normal(size=40)
    monkeypatch.setattr("embed.probe.PENALTIES", np.array([7.0]))
    by_hand = left_out_by_hand(x, y, worth / worth.mean(), 7.0)
    np.testing.assert_allclose(Ridge.fit(x, y, worth).left_out, by_hand, atol=1e-8)
    np.testing.assert_allclose(Ridge.fit(x, y, 5 * worth)(x), Ridge.fit(x, y, worth)(x))


def test_a_ridge_counts_spectra_by_their_worth() -> None:
    random = np.random.default_rng(6)
    x = random.normal(size=(200, 3))
    y = np.where(np.arange(200) < 100, x[:, 0], 4.0 - x[:, 0])
    worth = np.where(np.arange(200) < 100, 1.0, 1e-6)
    np.testing.assert_allclose(Ridge.fit(x, y, worth)(x), x[:, 0], atol=0.01)


def test_a_ridge_with_more_features_than_spectra_does_not_fit_the_noise() -> None:
    random = np.random.default_rng(7)
    found = Ridge.fit(random.normal(size=(20, 64)), random.normal(size=20))
    assert np.std(found(random.normal(size=(500, 64)))) < 0.5
