"""The figures of a comparison, each described once and drawn twice: as PNG and PDF, and as plotly's JSON.

A family of figures is a file with `draw(view) -> list[Figure]`, named in FAMILIES; where its data are not there, it
gives none.
"""

from __future__ import annotations

from benchmarks.figures import (
    coverage,
    diagram,
    landscape,
    noise,
    one_to_one,
    overview,
    plane,
    residuals,
    sizes,
)
from benchmarks.figures.figure import Figure
from benchmarks.figures.picture import save_pictures
from benchmarks.figures.traces import plotly_json
from benchmarks.figures.view import View
from benchmarks.results import Results

FAMILIES = (overview, sizes, one_to_one, plane, noise, coverage, residuals, diagram, landscape)  # in a page's order

__all__ = ["FAMILIES", "Figure", "figures", "plotly_json", "save_pictures"]


def figures(results: Results) -> list[Figure]:
    """All figures that the results have data for, the one to look at first first."""
    view = View(results)
    return [figure for family in FAMILIES for figure in family.draw(view)]
