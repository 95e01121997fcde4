"""Coverage: whether uncertainties say how wrong the values are."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.figures import look
from benchmarks.figures.figure import Figure, Float, Line, Mark, Panel, Points, Steps
from benchmarks.figures.view import Cell, View

EDGES = np.linspace(-4, 4, 17)
NOMINAL = np.arange(0.05, 1.0, 0.05)
TRUTH = " Heads learn from labels with errors, which their σ covers; against the truth they should lie above the line."
LEAST = 20  # predictions with an uncertainty
Drawn = list[tuple[str, dict[str, Any], Cell]]  # titles, styles, and predictions with an uncertainty


def draw(view: View) -> list[Figure]:
    """A column a label: pulls above, coverage below, of the best pipeline and the best head of each input."""
    found = {label: cells for label in view.labels if (cells := _cells(view, label))}
    if not found:
        return []
    top = 1.08 * max(float(_density(cell).max()) for cells in found.values() for *_, cell in cells)
    top = max(top, 0.44)  # the unit Gaussian's 0.4
    figure = Figure(
        "calibration",
        "Calibration of uncertainties",
        "Above: histogram of (predicted − reference) / σ as a density, beside the unit Gaussian (grey); what lies "
        "beyond ±4 counts at the ends. Below: share of stars whose reference lies inside the central interval of a "
        "Gaussian with the predicted σ, against the nominal share; the large symbol is the share inside the 90 % "
        "interval that a head gives by itself. On the grey line uncertainties are right, below it too small. The best "
        "pipeline and, for each input, the strategy with the smallest scatter."
        + (TRUTH if view.reference == "true labels" else ""),
        (*(_pulls(label, cells, top) for label, cells in found.items()), *map(_coverage, found.values())),
        len(found),
        size=(2.6, 2.5),
    )
    return [figure]


def _cells(view: View, label: str) -> Drawn:
    found = []
    for one in view.leaders(label):
        cell = view.cell(one, label)
        cell = cell.take(np.isfinite(cell.sigma) & (cell.sigma > 0)) if cell else None
        if cell is not None and len(cell.id) >= LEAST:
            found.append((one.title, one.style, cell))
    return found


def _pulls(label: str, cells: Drawn, top: float) -> Panel:
    x = np.linspace(-4, 4, 81)
    gauss = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    marks: list[Mark] = [Line(x, gauss, "unit Gaussian", width=2.0)]
    for title, style, cell in cells:
        marks.append(Steps(EDGES, _density(cell), title, style["colour"], style["dash"]))
    return Panel(look.name(label), "(predicted − reference) / σ", "density", tuple(marks), (-4.0, 4.0), (0.0, top))


def _density(cell: Cell) -> Float:
    pull = cell.error / cell.sigma
    counts = np.histogram(np.clip(pull, EDGES[0], EDGES[-1]), EDGES)[0]
    return counts / (len(pull) * np.diff(EDGES))


def _coverage(cells: Drawn) -> Panel:
    from scipy.stats import norm

    unit, limits = np.array([0.0, 1.0]), norm.ppf((1 + NOMINAL) / 2)
    marks: list[Mark] = [Line(unit, unit)]
    for title, style, cell in cells:
        pull = np.abs(cell.error / cell.sigma)
        share = np.mean(pull[:, None] <= limits, axis=0)
        marks.append(Points(NOMINAL, share, title, size=3, **style))
        known = np.isfinite(cell.low90) & np.isfinite(cell.high90)
        if known.any():
            inside = (cell.reference >= cell.low90) & (cell.reference <= cell.high90)
            one = np.array([0.9]), np.array([np.mean(inside[known])])
            marks.append(Points(*one, title, style["colour"], style["symbol"], size=9))
    return Panel("", "nominal coverage", "actual coverage", tuple(marks), (0.0, 1.04), (0.0, 1.04), equal=True)
