"""Classical methods learn, none reads test labels, and they are known by name."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from baselines_made import N_SOURCE, N_TARGET, N_TUNING, TARGETS, Float, Seen, check, make_task, truth, width

import benchmarks.baselines
from benchmarks.baselines import BASELINES, baseline, get_baseline, load_baselines
from benchmarks.baselines.correction import Correction
from benchmarks.baselines.descent import descend
from benchmarks.baselines.held import Held, excess
from benchmarks.task import Predicted, Task
from heads.sample import Sample
from stores.errors import OptionError

# -- ridge and neighbours --------------------------------------------------------------------------------

LEARNERS = ("ridge_pca64", "knn")


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_beat_the_scatter_of_the_labels(name: str, source: Seen, target: Seen) -> None:
    found = get_baseline(name)(make_task(source, target, 0))
    check(found, N_TARGET - N_TUNING)
    better = width(found.value - truth(target)) / width(truth(target))
    assert np.all(better[[0, 2]] < 0.5)
    assert np.all(better < 0.95)


@pytest.mark.parametrize("name", LEARNERS)
def test_tuning_stars_tell_an_offset(name: str, source: Seen, target: Seen) -> None:
    shift = np.array([300.0, 0.5, -0.4, 0.15])
    wanted = truth(target) + shift
    without, found = (get_baseline(name)(make_task(source, target, n, shift)) for n in (0, N_TUNING))
    off, less = (np.abs(np.median(one.value - wanted, axis=0)) for one in (without, found))
    assert np.all(less < 0.4 * off)
    inside = np.mean((wanted > found.low90) & (wanted < found.high90), axis=0)
    assert np.all(inside > 0.75)
    assert np.all(inside > np.mean((wanted > without.low90) & (wanted < without.high90), axis=0) - 0.05)


@pytest.mark.parametrize("name", LEARNERS)
def test_labels_may_be_lacking(name: str, source: Seen, target: Seen) -> None:
    task = make_task(source, target, N_TUNING)
    y = task.source.y.copy()
    y[::3, 0] = np.nan
    y[:, 1] = np.nan  # the target's stars alone know it
    tuning = task.tuning.y.copy()
    y[:, 3], tuning[:, 3] = np.nan, np.nan  # nobody does
    tuning[::2, 2] = np.nan
    task = replace(task, source=replace(task.source, y=y), tuning=replace(task.tuning, y=tuning))
    found = get_baseline(name)(task)
    assert np.isnan(found.value[:, 3]).all()
    better = width(found.value - truth(target))[:3] / width(truth(target))[:3]
    assert np.all(better < (0.5, 0.95, 0.6))


@pytest.mark.parametrize("name", LEARNERS)
def test_worth_counts(name: str, source: Seen, target: Seen) -> None:
    """Stars of next to no worth, with labels of another scale, change next to nothing."""
    clean = make_task(source, target, 0)
    odd = replace(clean.source, y=clean.source.y + 5 * width(clean.source.y), worth=np.full(N_SOURCE, 1e-9))
    odd = replace(odd, star=odd.star + 10**6)
    both = {
        field: np.concatenate([getattr(clean.source, field), getattr(odd, field)])
        for field in ("id", "star", "y", "ra", "dec", "worth", "calibrates")
    }
    blocks = {
        block: tuple(np.concatenate([one.blocks[block][i] for one in (clean.source, odd)]) for i in (0, 1))
        for block in odd.blocks
    }
    task = replace(clean, source=Sample(blocks=blocks, targets=TARGETS, **both))  # type: ignore[arg-type]
    moved = np.median(get_baseline(name)(task).value - get_baseline(name)(clean).value, axis=0)
    assert np.all(np.abs(moved) < 0.3 * width(clean.source.y))


@pytest.mark.parametrize("name", LEARNERS)
def test_only_stars_that_calibrate_set_uncertainties(name: str, source: Seen, target: Seen) -> None:
    task = make_task(source, target, 0)
    wrong = np.arange(N_SOURCE) % 2 == 0
    y = task.source.y + wrong[:, None] * np.random.default_rng(0).normal(size=(N_SOURCE, 1)) * (900.0, 1.0, 1.0, 0.3)
    y[~wrong, 3] = np.nan  # of this label nobody else knows anything
    told, untold = (
        get_baseline(name)(replace(task, source=replace(task.source, y=y, calibrates=calibrates)))
        for calibrates in (~wrong, np.ones(N_SOURCE, dtype=bool))
    )
    smaller = np.median(told.sigma, axis=0) / np.median(untold.sigma, axis=0)
    assert np.all(smaller[:3] < 0.9)
    assert smaller[3] == pytest.approx(1.0)


@pytest.mark.parametrize("name", [*LEARNERS, "payne"])
def test_no_method_reads_the_labels_of_the_test(name: str, source: Seen, target: Seen) -> None:
    task = make_task(source, target, N_TUNING)
    told = replace(task, test=replace(task.test, y=truth(target) * 2))
    one, other = (get_baseline(name)(each) for each in (task, told))
    for field in ("value", "sigma", "low90", "high90"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_spectrum_without_features_is_nan_and_a_source_is_needed(name: str, source: Seen, target: Seen) -> None:
    task = make_task(source, target, 0)
    blocks = {block: (values, valid.copy()) for block, (values, valid) in task.test.blocks.items()}
    for _, valid in blocks.values():
        valid[0] = False
    found = get_baseline(name)(replace(task, test=replace(task.test, blocks=blocks)))
    assert np.isnan(found.value[0]).all()
    assert np.isnan(found.sigma[0]).all()
    assert np.isfinite(found.value[1:]).all()
    with pytest.raises(OptionError, match="source survey"):
        get_baseline(name)(replace(task, source=task.source.take(np.arange(0))))


def test_a_star_is_not_its_own_neighbour(source: Seen, target: Seen) -> None:
    """Every spectrum twice under one star: leave-one-out errors stay those of other stars."""
    task = make_task(source, target, 0)
    once = get_baseline("knn")(task)
    twice = get_baseline("knn")(replace(task, source=task.source.take(np.tile(np.arange(N_SOURCE), 2))))
    assert np.all(np.median(once.sigma, axis=0) > 0.1 * width(truth(target)))
    assert np.all(np.median(twice.sigma, axis=0) > 0.6 * np.median(once.sigma, axis=0))


# -- what they are made of -------------------------------------------------------------------------------


def test_descent_stays_within_bounds_and_finds_the_least() -> None:
    from scipy.optimize import lsq_linear

    random = np.random.default_rng(1)
    a, b = random.normal(size=(8, 30, 4)), random.normal(size=(8, 30)) * 3

    def model(rows: Any, x: Float) -> tuple[Float, Float]:
        return np.einsum("mnp,mp->mn", a[rows], x) - b[rows], a[rows].transpose(0, 2, 1)

    low, high = np.full(4, -0.3), np.full(4, 0.3)
    found = descend(model, np.zeros((8, 4)), low, high, enough=1e-12)
    for i in range(8):
        best = lsq_linear(a[i], b[i], (-0.3, 0.3), tol=1e-12)
        np.testing.assert_allclose(found.parameters[i], best.x, atol=1e-4)
        assert found.cost[i] == pytest.approx(2 * best.cost, rel=1e-6)


def test_descent_finds_a_minimum_that_is_not_linear() -> None:
    t = np.linspace(0, 3, 40)
    true = np.array([[1.0, 0.7], [0.4, 2.0]])
    y = true[:, :1] * np.exp(-true[:, 1:] * t)

    def model(rows: Any, x: Float) -> tuple[Float, Float]:
        wave = np.exp(-x[:, 1:] * t)
        return x[:, :1] * wave - y[rows], np.stack([wave, -x[:, :1] * t * wave], axis=1)

    found = descend(model, np.ones((2, 2)) * 1.5, np.zeros(2), np.full(2, 5.0), enough=1e-14)
    np.testing.assert_allclose(found.parameters, true, atol=1e-5)


@pytest.mark.parametrize("columns", [None, (), (2,), (0, 1, 2)])
def test_a_correction_is_as_simple_as_it_can_be(columns: tuple[int, ...] | None) -> None:
    random = np.random.default_rng(2)
    terms = np.column_stack([random.normal(5500, 500, 150), random.normal(4, 0.5, 150), random.normal(-1, 0.7, 150)])
    value = random.normal(size=150)
    wrong = np.zeros(150) if columns is None else np.full(150, 0.5)
    for column in columns or ():
        wrong = wrong + 0.4 * (terms[:, column] - terms[:, column].mean()) / terms[:, column].std()
    y = value + wrong + 0.1 * random.normal(size=150)
    y[::15] += 4.0  # outliers
    correction, held = Correction.chosen(value, terms, y, np.arange(150) % 10)
    assert correction.columns == columns
    np.testing.assert_allclose(correction(value, terms), value + wrong, atol=0.15)
    good = np.arange(150) % 15 != 0
    assert width((held - y)[good]) == pytest.approx(0.1, rel=0.3)


def test_held_out_stars_are_the_targets_where_there_are_enough() -> None:
    random = np.random.default_rng(3)
    ours = Held(random.normal(size=(300, 2)), np.zeros((300, 2)), np.ones((300, 2)))
    y = 5 * random.normal(size=(60, 2))
    y[10:, 1] = np.nan
    theirs = Held(y, np.zeros((60, 2)), np.ones((60, 2)))
    found = Held.chosen(ours, theirs).judge(("teff", "logg"), np.zeros((1, 2)), np.ones((1, 2)))
    np.testing.assert_allclose(found.sigma[0], (5.0, 1.0), rtol=0.3)
    np.testing.assert_allclose(found.high90[0] - found.low90[0], (2 * 1.645 * 5, 2 * 1.645), rtol=0.35)


def test_without_held_out_stars_a_sigma_is_that_of_a_normal_number() -> None:
    nobody = Held(*(np.empty((0, 1)) for _ in range(3)))
    found = nobody.judge(("teff",), np.array([[5000.0]]), np.array([[10.0]]))
    assert found.sigma[0, 0] == 10
    assert found.high90[0, 0] == pytest.approx(5016.45, abs=0.01)


def test_excess_is_what_noise_does_not_explain() -> None:
    random = np.random.default_rng(4)
    noise = np.full((2000, 3), 0.1)
    error = np.hypot(0.1, [0.0, 0.2, 1.0]) * random.normal(size=(2000, 3))
    error[:100, 1] = np.nan
    error[::50] *= 30  # a median is not moved
    np.testing.assert_allclose(excess(error, noise), (0.0, 0.2, 1.0), atol=0.05)
    assert np.all(excess(np.full((4, 2), np.nan), np.ones((4, 2))) == 0)


def test_the_registry_names_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(load_baselines()) >= {"ridge_pca64", "knn", "payne"}
    assert all(method.__doc__ for method in BASELINES.values())
    with pytest.raises(OptionError, match="ridge_pca64, knn, payne"):
        get_baseline("oracle")
    module = ModuleType("another_package")
    monkeypatch.setitem(__import__("sys").modules, "another_package", module)
    points = [EntryPoint("mean", "another_package", "spectrabridge.baselines")]
    monkeypatch.setattr(benchmarks.baselines, "entry_points", lambda **want: EntryPoints(points).select(**want))
    monkeypatch.setattr(benchmarks.baselines, "BASELINES", dict(BASELINES))

    @baseline("mean")
    def mean(task: Task) -> Predicted:
        raise NotImplementedError

    assert get_baseline("mean") is mean
    assert "mean" not in BASELINES


def test_the_example_of_the_docs_works(source: Seen, target: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "baselines.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[-1]
    monkeypatch.setattr(benchmarks.baselines, "BASELINES", dict(BASELINES))
    exec(compile(code, "baselines.md", "exec"), {})
    found = get_baseline("mean")(make_task(source, target, 0))
    check(found, N_TARGET - N_TUNING)
    np.testing.assert_allclose(found.value[0], source.stars.labels[:, :4].mean(axis=0), rtol=1e-5)


def test_every_baseline_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "baselines.md").read_text()
    for name in load_baselines():
        assert f"| `{name}` |" in page
