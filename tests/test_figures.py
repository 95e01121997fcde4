"""Figures: what is drawn is what the results say, by both ways of drawing, whatever is missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results_made import make_results

from benchmarks.figures import figures, look, plotly_json, save_pictures
from benchmarks.figures.figure import (
    Band,
    Contours,
    Figure,
    Heat,
    Line,
    Note,
    Panel,
    Points,
    Scale,
    Steps,
    Surface,
    log_ticks,
    padded,
    thinned,
)
from benchmarks.figures.picture import picture, text
from benchmarks.figures.view import Method, View
from benchmarks.results import Results, Table
from heads.score import measures

LABELS = ("teff", "logg", "feh", "alphafe")


@cache
def made() -> Results:
    return make_results(stars=300, sizes=(0, 100, 500), adapters=("scratch", "zero_shot", "kriging", "anchored"))


@cache
def view() -> View:
    return View(made())


@cache
def drawn() -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(made())}


def panels(name: str) -> list[Panel]:
    return [panel for panel in drawn()[name].panels if panel is not None]


def marks(panel: Panel, kind: type) -> list[Any]:
    return [mark for mark in panel.marks if isinstance(mark, kind)]


def predicted(title: str, label: str, size: int | None = None) -> Table:
    """Rows of a method by its title in figures, at its largest size, whose reference is known."""
    method = next(one for one in view().methods if one.title == title)
    rows = made().predictions.where(**vars(method), label=label)
    rows = rows.where(size=rows["size"].max() if size is None else size)
    return rows.take(np.isfinite(rows["reference"]))


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


def every_mark() -> Figure:
    """A figure with all kinds of marks, and with NaN in them."""
    x, y = np.array([1.0, 2.0, np.nan, 4.0]), np.array([0.5, np.nan, 0.7, 0.9])
    scale, other = Scale("heat", 0, 2), Scale("error", -1, 1, "diverging")
    z = np.array([[0.0, 1.0, np.nan], [1.0, 2.0, 1.5], [0.5, 0.2, 0.1]])
    grid = np.arange(3.0)
    plain = Panel(
        "a<sub>1</sub>",
        "x<sup>2</sup>",
        "y",
        (
            Points(x, y, "points", "#0072b2", ids=np.array(["1", "2", "3", "4"]), y_bounds=(y - 0.1, y + 0.1)),
            Points(x, y, "joined", dash="dot", x_bounds=(x - 0.1, x + 0.1), hollow=True),
            Points(x, y, values=y, scale=other, symbol="triangle"),
            Line(x, y, "line", dash="dashdot"),
            Band(x, y - 0.2, y + 0.2, "band"),
            Steps(np.arange(5.0), np.array([1.0, 2, 3, 1]), "steps"),
            Note("words\nmore", "lower right"),
        ),
        x_range=(0.5, 5),
        x_log=True,
        x_ticks=log_ticks(0.5, 5),
    )
    heat = Panel("", "x", "y", (Heat(np.arange(4.0), np.arange(4.0), z, scale),), equal=True)
    contours = Panel("", "x", "y", (Contours(grid, grid, np.nan_to_num(z), scale), Points(grid, grid, "points")))
    solid = Panel("3", "x", "y", (Surface(grid, grid, z, scale), Note("deep")))
    return Figure("every", "Every mark", "All.", (plain, heat, None, contours, solid), 2)


def test_pictures_have_every_mark() -> None:
    from matplotlib.collections import PathCollection, QuadMesh
    from matplotlib.contour import ContourSet
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    figure = every_mark()
    seen = picture(figure)
    plain, heat, contours, solid = seen.axes[:4]
    expected = [mark for mark in figure.panels[0].marks if isinstance(mark, (Points, Line))]  # type: ignore[union-attr]
    lines = {line.get_label(): line for line in plain.lines}
    for mark in (one for one in expected if one.label):
        assert np.array_equal(lines[mark.label].get_xdata(), mark.x, equal_nan=True)
        assert np.array_equal(lines[mark.label].get_ydata(), mark.y, equal_nan=True)
    assert lines["steps"].get_ydata().tolist() == [1, 1, 2, 2, 3, 3, 1, 1]
    assert sum(isinstance(one, PathCollection) for one in plain.collections) == 1
    assert any(one.get_label() == "band" for one in plain.collections)
    assert len(plain.containers) == 2  # error bars
    assert [note.get_text() for note in plain.texts] == ["words\nmore"]
    assert sum(isinstance(one, QuadMesh) for one in heat.collections) == 1
    assert sum(isinstance(one, ContourSet) for one in contours.collections) == 2
    assert sum(isinstance(one, Poly3DCollection) for one in solid.collections) == 1
    assert [bar.get_ylabel() for bar in seen.axes[4:]] == ["error", "heat"]
    (legend,) = seen.legends
    assert [one.get_text() for one in legend.get_texts()] == ["points", "joined", "line", "band", "steps"]
    assert plain.get_xscale() == "log"
    assert plain.get_xlim() == (0.5, 5)


def test_plotly_has_every_mark_and_takes_it() -> None:
    import plotly.graph_objects as go

    figure = every_mark()
    found = plotly_json(figure)
    kinds = [trace["type"] for trace in found["data"]]
    assert kinds == ["scatter"] * 6 + ["heatmap", "contour", "scatter", "surface"]
    points, joined, coloured, line, band, steps = found["data"][:6]
    assert (points["x"], points["y"]) == ([1, 2, None, 4], [0.5, None, 0.7, 0.9])
    assert points["text"] == ["1", "2", "3", "4"]
    assert points["error_y"]["array"] == [0.1, None, 0.1, 0.1]
    assert joined["mode"] == "lines+markers"
    assert joined["marker"]["symbol"] == "circle-open"
    assert (coloured["x"], coloured["marker"]["color"]) == ([1, None, 4], [0.5, 0.7, 0.9])
    assert coloured["marker"]["coloraxis"] == "coloraxis"
    assert found["data"][6]["coloraxis"] == "coloraxis2"
    assert found["layout"]["coloraxis2"]["cmax"] == 2
    assert found["layout"]["margin"]["r"] >= 90  # of a bar and its title
    assert line["y"] == points["y"]
    assert (band["x"], band["y"]) == ([1, 4, 4, 1], [0.3, 0.7, 1.1, 0.7])
    assert steps["y"] == [1, 2, 3, 1, 1]
    assert steps["line"]["shape"] == "hv"
    assert [note["text"] for note in found["layout"]["annotations"]] == ["a<sub>1</sub>", "words<br>more", "3", "deep"]
    assert found["layout"]["xaxis"]["range"] == [round(np.log10(0.5), 4), 0.699]
    assert [trace["name"] for trace in found["data"] if trace["showlegend"]] == [
        *("points", "joined", "line", "band", "steps"),
    ]
    taken = go.Figure(found)
    assert len(taken.data) == 10
    json.dumps(found, allow_nan=False)


def test_subscripts_are_those_of_matplotlib() -> None:
    assert text("T<sub>eff</sub> (K)") == r"T$\mathdefault{{}_{eff}}$ (K)"
    assert text("R<sup>2</sup>") == r"R$\mathdefault{{}^{2}}$"


def words_without_colour(found: Any, where: str = "") -> None:
    """No colour of text anywhere: the page sets them."""
    if isinstance(found, dict):
        for key, value in found.items():
            assert not (key == "color" and re.search(r"font|title|text", where)), where
            words_without_colour(value, f"{where}/{key}")
    elif isinstance(found, list):
        for value in found:
            if isinstance(value, (dict, list)):
                words_without_colour(value, where)


def test_plotly_takes_all_figures_and_leaves_colours_of_text_and_page_alone() -> None:
    import plotly.graph_objects as go

    for figure in drawn().values():
        found = plotly_json(figure)
        expected = [mark for panel in figure.panels if panel for mark in panel.marks if not isinstance(mark, Note)]
        assert len(go.Figure(found).data) == len(expected) == len(found["data"])
        json.dumps(found, allow_nan=False)
        assert found["layout"]["paper_bgcolor"] == found["layout"]["plot_bgcolor"] == "rgba(0,0,0,0)"
        assert "title" not in found["layout"]
        words_without_colour(found["layout"])


def test_many_stars_stay_small() -> None:
    results = make_results(stars=3000, sizes=(2000,), adapters=("scratch", "zero_shot", "kriging"))
    total = 0
    for figure in figures(results):
        found = plotly_json(figure)
        total += len(json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode())
        assert all(len(trace["x"]) <= 2000 for trace in found["data"])
        numbers = [number for trace in found["data"] for number in trace["x"] if number is not None]
        assert all(len(f"{number!r}".strip("-0.").replace(".", "")) <= 7 for number in numbers)
    assert total < 3e6


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    again = make_results(stars=300, sizes=(0, 100, 500), adapters=("scratch", "zero_shot", "kriging", "anchored"))
    again.save(tmp_path / "results")
    loaded = figures(Results.load(tmp_path / "results"))
    assert [plotly_json(figure) for figure in loaded] == [plotly_json(figure) for figure in drawn().values()]
    first, second = (save_pictures([drawn()["overview"]], tmp_path / name) for name in ("first", "second"))
    assert [path.name for path in first] == ["overview.png", "overview.pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert first[1].read_bytes().startswith(b"%PDF")


def test_the_example_of_the_docs_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmarks.figures

    docs = (Path(__file__).parents[1] / "docs/benchmarks.md").read_text()
    example, *_ = re.findall(r"```python\n(.*?)```", docs, flags=re.DOTALL)
    small(landscapes=False).save(tmp_path / "comparison")
    monkeypatch.chdir(tmp_path)
    saved: list[Figure] = []
    monkeypatch.setattr(benchmarks.figures, "save_pictures", lambda found, folder: saved.extend(found))
    names: dict[str, Any] = {}
    exec(compile(example, "benchmarks.md", "exec"), names)
    assert list(names["pages"]) == [figure.name for figure in saved]
    for name in drawn():
        told = re.sub(r"-(teff|logg|feh|alphafe)$", "-LABEL", name)
        assert f"`{told.replace('-metal-poor', '-REGIME')}`" in docs


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


def small(**options: Any) -> Results:
    options = {"inputs": ("spectra", "fused"), "labels": ("feh", "alphafe"), **options}
    return make_results(**{"stars": 120, "sizes": (0, 100), "adapters": ("zero_shot", "kriging"), **options})


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
