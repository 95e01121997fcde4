"""Figures: what is drawn is what the results say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from figures_made import LABELS, drawn, made, marks, panels, predicted

from benchmarks.figures import look
from benchmarks.figures.figure import (
    Band,
    Contours,
    Heat,
    Line,
    Note,
    Points,
    Steps,
)
from benchmarks.figures.view import Method
from heads.score import measures


def test_all_figures_are_there_in_order_with_captions() -> None:
    names = list(drawn())
    assert names[0] == "overview"
    assert set(names) == {
        "overview",
        "alpha-plane",
        "noise",
        "calibration",
        "kiel-diagram",
        "landscape-surfaces",
        "landscape-contours-metal-poor",
        *(f"{kind}-{label}" for kind in ("sizes", "one-to-one", "residuals") for label in LABELS),
    }
    assert all(len(figure.caption) > 60 for figure in drawn().values())
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


@pytest.mark.parametrize("label", ["teff", "feh", "alphafe"])
def test_one_to_one_shows_each_star_and_the_numbers_of_all(label: str) -> None:
    seen = panels(f"one-to-one-{label}")
    assert [panel.title for panel in seen if panel.title.startswith("fused")][:2] == [
        "fused, zero-shot",
        "fused, scratch",
    ]
    assert {"SP", "RVSpecfit"} < {panel.title for panel in seen}
    for panel in seen:
        rows = predicted(panel.title, label)
        value = dict(zip(rows["id"].tolist(), zip(rows["reference"], rows["value"], strict=True), strict=True))
        found = measures(rows["reference"], rows["value"])
        (note,) = marks(panel, Note)
        n, r2, sigma, median = note.text.replace("−", "-").splitlines()
        digits = 0 if label == "teff" else 3
        assert n == f"N = {len(rows)}"
        assert r2 == f"R<sup>2</sup> = {found['r2']:.3f}"
        assert sigma == f"σ = {found['sigma']:.{digits}f}"
        assert median == f"median {found['median']:+.{digits}f}"
        drawn_stars = 0
        feh = dict(zip(made().stars["id"].tolist(), made().stars["feh"], strict=True))
        for points in marks(panel, Points):
            drawn_stars += len(points.x)
            for x, y, star in zip(points.x, points.y, points.ids, strict=True):
                assert (x, y) == value[int(star)]  # ids are text, as plotly's numbers would round them
                assert (feh[int(star)] > -1) == (points.label == "metal-rich")
        assert 0.9 * min(len(rows), 5000 // len(seen)) <= drawn_stars <= min(len(rows), 5000 // len(seen))
    lines = marks(seen[0], Line)
    shifts = sorted({round(float((line.y - line.x)[0]), 6) for line in lines})
    assert shifts == {"teff": [-200, 0, 200], "feh": [-0.2, 0, 0.2], "alphafe": [-0.1, 0, 0.1]}[label]


def test_curves_are_the_scores_by_size() -> None:
    seen = panels("sizes-feh")
    assert [panel.title.split(" · ")[0] for panel in seen] == ["spectra", "embedding", "fused"] * 2
    for panel in seen:
        given, regime = panel.title.split(" · ")
        regime = regime.split(":")[0].replace("-", "_")
        curves = {mark.label: mark for mark in marks(panel, Points)}
        for strategy in ("scratch", "zero_shot", "kriging", "anchored"):
            rows = made().scores.where(label="feh", regime=regime, input=given, strategy=strategy)
            curve = curves[look.plain(strategy)]
            assert curve.y.tolist() == rows["sigma"].tolist()
            assert curve.y_bounds[0].tolist() == rows["sigma_low"].tolist()
            assert curve.y_bounds[1].tolist() == rows["sigma_high"].tolist()
            assert curve.colour == look.colour(strategy)
            assert [dict(panel.x_ticks)[round(float(x))] for x in curve.x] == [str(size) for size in rows["size"]]
        (pipeline,) = marks(panel, Line)
        row = made().scores.where(label="feh", regime=regime, strategy=pipeline.label)
        assert pipeline.y.tolist() == [row["sigma"][0]] * 2


def test_the_overview_has_every_method_once_and_rings_the_best() -> None:
    for panel, regime in zip(panels("overview"), ("metal_rich", "metal_poor"), strict=True):
        rows = made().scores.where(label="feh", regime=regime)
        last = rows.take(np.array([row["size"] == 500 or row["group"] == "pipeline" for row in rows.rows()]))
        dots = [mark for mark in marks(panel, Points) if mark.x_bounds is not None]
        assert sorted(dot.x[0] for dot in dots) == sorted(last["sigma"])
        for row in last.rows():
            title = Method(row["group"], row["input"], row["strategy"]).title
            (dot,) = [dot for dot in dots if dot.ids[0].startswith(f"{title}, {row['n']:.0f} stars")]
            assert (dot.x[0], dot.x_bounds[0][0], dot.x_bounds[1][0]) == (
                row["sigma"],
                row["sigma_low"],
                row["sigma_high"],
            )
            assert dict(panel.y_ticks)[round(float(dot.y[0]))] == look.plain(row["strategy"])
        rings = [float(x) for mark in marks(panel, Points) if mark.label == "significantly best" for x in mark.x]
        assert rings == last.where(best=True)["sigma"].tolist()
        worse = sorted(dot.x[0] for dot in dots if dot.hollow)
        assert worse == sorted(last.where(group="head", tied=False)["sigma"])
        assert worse


def test_planes_count_stars_and_say_how_far_they_are() -> None:
    figure = drawn()["alpha-plane"]
    above, below = figure.panels[: figure.columns], figure.panels[figure.columns :]
    known = np.count_nonzero(np.isfinite(made().stars["alphafe"]))
    for one, other in zip(above, below, strict=True):
        assert one is not None
        assert other is not None
        counts, shares = one.marks[0], other.marks[0]
        assert isinstance(counts, Heat)
        assert isinstance(shares, Heat)
        assert 0.7 * known < np.nansum(counts.z) <= known
        top = np.nan_to_num(shares.z).max(axis=0)
        assert set(np.round(top, 12)) <= {0.0, 1.0}
        assert np.allclose(np.nan_to_num(counts.z), np.nan_to_num(shares.z) * np.nan_to_num(counts.z).max(axis=0))
    assert above[0] is not None
    assert above[0].title == "true labels"
    assert np.nansum(above[0].marks[0].z) == known  # type: ignore[union-attr]
    assert all("MMD<sup>2</sup>" in panel.title and "p " in panel.title for panel in above[1:] if panel)
    assert "median heuristic" in figure.caption
    assert "Gaussian" in figure.caption


def test_scatter_against_noise_is_that_of_the_bin_and_has_the_bound() -> None:
    panel = next(panel for panel in panels("noise") if panel.title == "[Fe/H] · metal-rich")
    snr = dict(zip(made().stars["id"].tolist(), made().stars["snr"], strict=True))
    rich = {star: feh > -1 for star, feh in zip(made().stars["id"].tolist(), made().stars["feh"], strict=True)}
    curve = marks(panel, Points)[-1]
    rows = predicted(curve.label, "feh")
    rows = rows.take(np.array([rich[star] for star in rows["id"].tolist()]))
    order = np.argsort([snr[star] for star in rows["id"].tolist()])
    log = np.log([snr[star] for star in rows["id"].tolist()])[order]
    wide = (np.quantile(log, 0.99) - np.quantile(log, 0.01)) / 8
    end = next(row for row in range(20, len(log)) if log[row] - log[0] >= wide)
    first = rows.take(order[:end])
    assert curve.x[0] == np.median([snr[star] for star in first["id"].tolist()])
    assert len(curve.x) >= 4
    assert curve.y[0] == pytest.approx(measures(first["reference"], first["value"])["sigma"])
    (bound,) = marks(panel, Line)
    assert bound.dash == "dash"
    limit = dict(zip(made().stars["id"].tolist(), made().stars["bound_feh"], strict=True))
    assert bound.y[0] == pytest.approx(np.median([limit[star] for star in first["id"].tolist()]))


def test_calibration_tells_sound_sigmas_from_small_ones() -> None:
    figure = drawn()["calibration"]
    shown = {}
    for pulls, coverage, label in zip(figure.panels[:4], figure.panels[4:], LABELS, strict=True):
        assert pulls is not None
        assert coverage is not None
        for steps in marks(pulls, Steps):
            rows = predicted(steps.label, label)
            pull = (rows["value"] - rows["reference"]) / rows["sigma"]
            inside = np.mean((pull >= 0.5) & (pull < 1))
            at = list(steps.edges).index(0.5)
            assert steps.heights[at] == pytest.approx(inside / 0.5)
            assert np.sum(steps.heights * np.diff(steps.edges)) == pytest.approx(1)
        for curve in marks(coverage, Points):
            rows = predicted(curve.label, label)
            pull = np.abs(rows["value"] - rows["reference"]) / rows["sigma"]
            if curve.dash is None:
                assert curve.y[0] == np.mean(
                    (rows["reference"] >= rows["low90"]) & (rows["reference"] <= rows["high90"])
                )
            else:
                middle = list(np.round(curve.x, 2)).index(0.5)
                assert curve.y[middle] == pytest.approx(np.mean(pull <= 0.67449), abs=1 / len(pull))
                shown[curve.label.split(", ")[-1]] = curve.y[middle]
    assert abs(shown["kriging"] - 0.5) < 0.08  # made sound, and
    assert shown["anchored"] < 0.43  # made too small


def test_residuals_have_the_median_and_the_band_of_their_bins() -> None:
    for panel in panels("residuals-feh"):
        rows = predicted(panel.title, "feh")
        against = {"T": "teff", "l": "logg", "[": "feh"}[panel.x_label.removeprefix("reference ")[0]]
        star = dict(zip(made().stars["id"].tolist(), made().stars[against], strict=True))
        x = np.array([star[one] for one in rows["id"].tolist()])
        error = rows["value"] - rows["reference"]
        (band,) = marks(panel, Band)
        median = marks(panel, Line)[1]
        low, high = np.quantile(x, (0.002, 0.998))
        edges = np.linspace(low, high, 16)
        at = len(median.x) // 2
        number = int(np.digitize(median.x[at], edges[1:-1]))
        own = np.digitize(x, edges[1:-1]) == number
        assert median.x[at] == np.median(x[own])
        assert [band.low[at], median.y[at], band.high[at]] == pytest.approx(np.percentile(error[own], (16, 50, 84)))
        (points,) = marks(panel, Points)
        errors = dict(zip(rows["id"].tolist(), error, strict=True))
        assert all(errors[int(one)] == y for one, y in zip(points.ids, points.y, strict=True))
    titles = [panel.title for panel in panels("residuals-feh")]
    assert not titles[0].endswith("zero-shot")
    assert titles[3].endswith("zero-shot")
    assert titles[0].split(",")[0] == titles[3].split(",")[0]


def test_the_kiel_diagram_is_coloured_by_errors_alike_on_both_sides() -> None:
    for panel in panels("kiel-diagram"):
        rows = predicted(panel.title, "feh")
        (points,) = marks(panel, Points)
        assert points.scale.low == -points.scale.high
        assert points.scale.colours == "diverging"
        errors = dict(zip(rows["id"].tolist(), rows["value"] - rows["reference"], strict=True))
        assert all(
            errors[int(one.split(",")[0])] == value for one, value in zip(points.ids, points.values, strict=True)
        )
        for span in (panel.x_range, panel.y_range):
            assert span is not None
            assert span[0] > span[1]  # hot and dwarf stars are left and below
        (note,) = marks(panel, Note)
        assert note.text.replace("−", "-") == f"median {np.median(list(errors.values())):+.3f}"


def test_landscapes_have_their_minimum_where_it_is() -> None:
    table = made().landscapes
    assert table is not None
    surfaces = panels("landscape-surfaces")
    for panel, surface in zip(panels("landscape-contours-metal-poor"), surfaces, strict=True):
        rows = table.where(strategy=surface.title.split(",")[0].replace("-", "_"))
        lowest = int(np.argmin(rows["loss"]))
        star = marks(panel, Points)[-1]
        assert (star.label, star.x[0], star.y[0]) == ("minimum", rows["a"][lowest], rows["b"][lowest])
        assert f"minimum {np.log10(rows['loss'][lowest]):.2f}".replace("-", "−") in panel.title
        assert panel.title.replace("\n", ", ") == f"spectra, {surface.title}"
        (contours,) = marks(panel, Contours)
        i, j = list(contours.x).index(rows["a"][7]), list(contours.y).index(rows["b"][7])
        assert contours.z[j, i] == np.log10(rows["loss"][7])
        assert np.array_equal(surface.marks[0].z, contours.z)  # type: ignore[union-attr]
