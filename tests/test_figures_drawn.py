"""Figures: both ways of drawing show every mark, and the same results give the same bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figures_made import drawn, small
from results_made import make_results

from benchmarks.figures import figures, plotly_json, save_pictures
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
)
from benchmarks.figures.picture import picture, text
from benchmarks.results import Results


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
