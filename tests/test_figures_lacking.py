"""Figures: whatever is missing, the rest is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from figures_made import made, small, view

from benchmarks.figures import figures, look, plotly_json
from benchmarks.figures.figure import (
    Line,
    log_ticks,
    padded,
    thinned,
)
from benchmarks.figures.picture import picture
from benchmarks.figures.view import Method, View
from benchmarks.results import Results, Table


def without(results: Results, **values: Any) -> Results:
    """Leave out rows of scores and predictions."""
    tables = []
    for table in (results.scores, results.predictions):
        out = np.ones(len(table), dtype=bool)
        for name, value in values.items():
            out &= table[name] == value
        tables.append(table.take(~out))
    return replace(results, scores=tables[0], predictions=tables[1])


def renamed(results: Results, strategy: str, name: str) -> Results:
    tables = []
    for table in (results.scores, results.predictions):
        column = np.where(table["strategy"] == strategy, name, table["strategy"])
        tables.append(Table({**table.columns, "strategy": column}))
    return replace(results, scores=tables[0], predictions=tables[1])


def unknown(results: Results, strategy: str) -> Results:
    rows = results.predictions["strategy"] == strategy
    gone = {name: np.where(rows, np.nan, results.predictions[name]) for name in ("value", "sigma", "low90", "high90")}
    return replace(results, predictions=Table({**results.predictions.columns, **gone}))


def no_poor_stars() -> Results:
    results = small()
    feh = np.maximum(results.stars["feh"], -0.9)
    scores = results.scores.columns
    poor = scores["regime"] == "metal_poor"
    gone = {
        name: np.where(poor, np.nan, scores[name]) for name in ("sigma", "sigma_low", "sigma_high", "r2", "median")
    }
    stars = Table({**results.stars.columns, "feh": feh})
    return replace(results, scores=Table({**scores, **gone}), stars=stars)


def nested_regimes() -> Results:
    results = small()
    about = {**results.about, "regimes": {**results.about["regimes"], "halo": "feh <= -1.6 and snr > 0"}}
    poor = results.scores.where(regime="metal_poor")
    halo = {**poor.columns, "regime": np.full(len(poor), "halo")}
    joined = {name: np.concatenate([column, halo[name]]) for name, column in results.scores.columns.items()}
    return replace(results, about=about, scores=Table(joined))


def empty_bounds() -> Results:
    results = small(twins=False)
    columns = {name: column for name, column in results.stars.columns.items() if not name.startswith("bound")}
    return replace(results, stars=Table(columns))


CASES = {
    "one regime without stars": no_poor_stars,
    "one size": lambda: small(sizes=(100,)),
    "zero stars only": lambda: small(sizes=(0,)),
    "one star": lambda: small(stars=1),
    "five stars": lambda: small(stars=5),
    "several draws": lambda: small(draws=3),
    "no pipelines": lambda: without(small(), group="pipeline"),
    "no heads": lambda: without(small(), group="head"),
    "heads only": lambda: without(without(small(), group="pipeline"), group="baseline"),
    "one input": lambda: small(inputs=("embedding",)),
    "no zero-shot": lambda: small(adapters=("kriging", "lora"), sizes=(100,)),
    "one label": lambda: small(labels=("feh",)),
    "no [Fe/H]": lambda: small(labels=("teff", "alphafe")),
    "no bounds": empty_bounds,
    "no landscapes": lambda: small(landscapes=False),
    "a method without values": lambda: unknown(small(), "kriging"),
    "a strategy of another package": lambda: renamed(small(), "kriging", "shift_of_mine"),
    "regimes inside each other": nested_regimes,
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_is_missing_the_rest_is_drawn(case: str) -> None:
    import plotly.graph_objects as go

    found = figures(CASES[case]())
    assert {"one star": 2, "one label": 7, "no [Fe/H]": 7, "no heads": 8}.get(case, 9) <= len(found)
    assert found[0].name == "overview" or case == "one star"
    for figure in found:
        found_json = plotly_json(figure)
        json.dumps(found_json, allow_nan=False)
        go.Figure(found_json)
        assert any(panel is not None for panel in figure.panels)
        assert len(figure.panels) >= figure.columns


@pytest.mark.parametrize("case", ["one regime without stars", "one star"])
def test_pictures_are_made_of_what_there_is(case: str) -> None:
    for figure in figures(CASES[case]()):
        if figure.name in ("overview", "sizes-feh", "one-to-one-feh", "noise"):
            seen = picture(figure)
            assert len(seen.axes) >= sum(panel is not None for panel in figure.panels)


def test_what_learns_from_no_star_is_drawn_across() -> None:
    results = small(sizes=(0, 100, 500))
    later = without(without(results, strategy="zero_shot", size=100), strategy="zero_shot", size=500)
    seen = {figure.name: figure for figure in figures(later)}
    panel = seen["sizes-feh"].panels[0]
    assert panel is not None
    zero = next(mark for mark in panel.marks if isinstance(mark, Line) and mark.label == "zero-shot")
    assert len(set(zero.y)) == 1
    assert (zero.x[0], zero.x[-1]) == panel.x_range
    alone = {figure.name: figure for figure in figures(small(sizes=(0, 100)))}["sizes-feh"].panels[0]
    assert alone is not None
    assert [len(mark.x) for mark in alone.marks if mark.label == "kriging"] == [1]  # type: ignore[union-attr]
    assert [mark.label for mark in alone.marks if isinstance(mark, Line)] in (["SP"], ["RVSpecfit"])


def test_without_heads_the_others_stand_side_by_side() -> None:
    found = {figure.name: figure for figure in figures(CASES["no heads"]())}
    titles = [panel.title for panel in found["one-to-one-feh"].panels if panel]
    assert len(titles) == 4
    assert set(titles[:2]) == {"SP", "RVSpecfit"}
    assert "last column" not in found["one-to-one-feh"].caption


def test_stars_belong_to_the_smallest_of_their_regimes() -> None:
    results = nested_regimes()
    table = View(results)
    rows = np.arange(len(results.stars))
    groups = table.regime_of(rows)
    feh = results.stars["feh"]
    assert list(groups) == ["metal_rich", "metal_poor", "halo"]
    assert np.array_equal(groups["halo"], feh <= -1.6)
    assert np.array_equal(groups["metal_poor"], (feh > -1.6) & (feh <= -1))
    assert np.array_equal(groups["metal_rich"], feh > -1)


def test_the_best_has_the_smallest_sigma_over_regimes() -> None:
    found = view().best("feh", view().heads("embedding"))
    mean = {}
    for method in found:
        rows = made().scores.where(**vars(method), label="feh", size=500)
        mean[method] = np.prod(rows["sigma"])
    assert [mean[method] for method in found] == sorted(mean.values())
    assert view().size(Method("pipeline", "", "SP"), "feh") == 0
    assert view().size(Method("pipeline", "", "none"), "feh") is None


def test_looks_are_told_apart_and_stay() -> None:
    heads = ("zero_shot", "scratch", "residual", "kriging", "lora", "full", "anchored")
    assert len({look.colour(name) for name in heads}) == len(heads)
    assert look.colour("mine") == look.colour("mine")
    assert len({look.symbol_and_dash("head", given) for given in ("spectra", "embedding", "fused", "other")}) == 4
    assert look.axis("teff", {"teff": "K"}, "σ") == "σ T<sub>eff</sub> (K)"
    assert look.axis("logg", {"logg": "dex"}) == "log g"
    assert look.axis("feh", {"feh": "dex"}) == "[Fe/H] (dex)"
    assert look.condition("feh <= -1") == "[Fe/H] ≤ −1"


def test_ranges_and_ticks() -> None:
    assert padded(np.array([np.nan, np.inf])) == (0.0, 1.0)
    low, high = padded(np.array([2.0]))
    assert low < 2 < high
    low, high = padded(np.array([0.0, 0.1, 1.0]), log=True)
    assert 0 < low < 0.1 < 1 < high
    for span in ((0.08, 0.16), (0.15, 0.45), (0.01, 30.0), (95.0, 105.0)):
        ticks = [value for value, _ in log_ticks(*span)]
        assert ticks == sorted(ticks)
        assert all(span[0] <= tick <= span[1] for tick in ticks)
        assert 1 <= len(ticks) <= 12
    assert log_ticks(0.01, 30)[0] == (0.01, "0.01")
    assert thinned(5, 9).tolist() == [0, 1, 2, 3, 4]
    some = thinned(1000, 10)
    assert len(set(some.tolist())) == 10
    assert np.array_equal(some, thinned(1000, 10))
