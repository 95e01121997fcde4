"""Residuals: errors against the stars' own parameters."""

from __future__ import annotations

import numpy as np

from benchmarks.figures import look
from benchmarks.figures.figure import Band, Figure, Float, Line, Mark, Panel, Points, Range, padded, thinned
from benchmarks.figures.view import Cell, Method, View

AGAINST = ("teff", "logg", "feh")
ZERO_SHOT = "zero_shot"
POINTS = 5000  # in a figure
LEAST = 10  # stars in a bin of the running median
BINS = 15


def draw(view: View) -> list[Figure]:
    """A figure a label: a row a method (the best head, and zero-shot of its input), a column a parameter."""
    return [figure for label in view.labels if (figure := _figure(view, label)) is not None]


def shown(view: View, label: str) -> list[tuple[Method, Cell]]:
    """The best head and the zero-shot one of its input, or the next best if that is the best; their predictions."""
    best = view.best(label, [one for one in view.methods if one.group == "head"])[:1]
    beside = [one for first in best for one in view.best(label, view.heads(first.input)) if one != first]
    beside.sort(key=lambda one: one.strategy != ZERO_SHOT)  # the others stay in order
    return [(one, cell) for one in [*best, *beside[:1]] if (cell := view.cell(one, label)) is not None]


def _figure(view: View, label: str) -> Figure | None:
    found = shown(view, label)
    against = [name for name in AGAINST if name in view.stars.columns and np.isfinite(view.stars[name]).any()]
    if not found or not against:
        return None
    most = min(2000, POINTS // (len(found) * len(against)))
    errors = np.concatenate([cell.error for _, cell in found])
    half = 1.25 * max(float(np.max(np.abs(np.quantile(errors, (0.01, 0.99))))), 1e-6)
    thin = any(len(cell.id) > most for _, cell in found)
    return Figure(
        f"residuals-{label}",
        f"Residuals of {look.name(label)} against stellar parameters",
        f"Predicted minus reference {look.name(label)} against reference parameters, of the head with the smallest "
        "scatter and of the zero-shot head of its input (the next best where that is the best); line and band: median "
        f"and central 68 % in bins of equal width with at least {LEAST} stars"
        + (f"; {most} stars a panel are drawn, at random" if thin else "")
        + ". The axis leaves out the outermost stars.",
        tuple(_panel(view, label, one, cell, name, (-half, half), most) for one, cell in found for name in against),
        len(against),
        size=(3.0, 2.3),
    )


def _panel(view: View, label: str, method: Method, cell: Cell, against: str, span: Range, most: int) -> Panel:
    x = view.stars[against][cell.star]
    known = np.isfinite(x)
    cell, x = cell.take(known), x[known]
    some = thinned(len(x), most)
    x_range = padded(np.quantile(x, (0.002, 0.998)), margin=0.04) if len(x) else (0.0, 1.0)
    colour = look.colour(method.strategy)
    points = Points(x[some], cell.error[some], None, colour, size=2.6, opacity=0.6, ids=cell.id[some].astype(str))
    marks: list[Mark] = [Line(np.array(x_range), np.zeros(2)), points]
    middle, low, median, high = running(x, cell.error)
    if len(middle):
        marks += [Band(middle, low, high, None, colour), Line(middle, median, method.title, colour, width=2.2)]
    return Panel(
        method.title,
        look.axis(against, view.units, "reference"),
        look.axis(label, view.units, "Δ"),
        tuple(marks),
        x_range,
        span,
    )


def running(x: Float, error: Float) -> tuple[Float, Float, Float, Float]:
    """Median x, and 16th, 50th and 84th percentile of errors, in bins of equal width that have stars enough."""
    if len(x) < LEAST:
        return (np.empty(0),) * 4
    low, high = np.quantile(x, (0.002, 0.998))
    place = np.digitize(x, np.linspace(low, high, BINS + 1)[1:-1])
    bins = [rows for number in range(BINS) if len(rows := np.flatnonzero(place == number)) >= LEAST]
    if not bins:
        return (np.empty(0),) * 4
    middle = np.array([np.median(x[rows]) for rows in bins])
    shares = np.array([np.percentile(error[rows], (16, 50, 84)) for rows in bins])
    return middle, shares[:, 0], shares[:, 1], shares[:, 2]
