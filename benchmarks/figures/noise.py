"""Noise: the scatter against S/N, beside what the photons allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import look
from benchmarks.figures.figure import Figure, Float, Line, Mark, Panel, Points, log_ticks, padded
from benchmarks.figures.view import Cell, View
from benchmarks.measures import clipped_scatter

Rows = NDArray[np.int64]
LEAST = 20  # predictions in a bin
BINS = 8


def draw(view: View) -> list[Figure]:
    """A row a regime, a column a label: the best pipeline, the best head of each input, and the Cramer-Rao bound."""
    if "snr" not in view.stars.columns:
        return []
    found = [(label, regime, _marks(view, label, regime)) for regime in view.regimes for label in view.labels]
    labels = [label for label in view.labels if any(marks for one, _, marks in found if one == label)]
    regimes = [regime for regime in view.regimes if any(marks for _, one, marks in found if one == regime)]
    if not labels:
        return []
    bound = any(isinstance(mark, Line) for *_, marks in found for mark in marks)
    panels = tuple(
        _panel(view, label, regime, marks) if marks else None
        for label, regime, marks in found
        if label in labels and regime in regimes
    )
    figure = Figure(
        "noise",
        "Scatter against S/N" + (" and the Cramér-Rao bound" if bound else ""),
        f"Standard deviation after 3-sigma clipping in bins of S/N, each at least 1/{BINS} of the range of its "
        f"logarithm wide and with at least {LEAST} predictions, at their median S/N: the best pipeline and, for each "
        "input, the strategy with the smallest scatter."
        + (
            " Dashed: median Cramér-Rao bound of the stars in the bin, which no unbiased method can beat (one that "
            "knows how labels are distributed, as heads do, can)."
            if bound
            else ""
        ),
        panels,
        len(labels),
        size=(2.6, 2.5),
    )
    return [figure]


def _panel(view: View, label: str, regime: str, marks: tuple[Mark, ...]) -> Panel:
    drawn = [mark for mark in marks if isinstance(mark, (Points, Line))]
    x_range, y_range = (padded(*several, log=True) for several in ([m.x for m in drawn], [m.y for m in drawn]))
    return Panel(
        f"{look.name(label)} · {look.plain(regime)}",
        look.name("snr"),
        look.axis(label, view.units, "σ"),
        marks,
        x_range,
        y_range,
        x_log=True,
        y_log=True,
        x_ticks=log_ticks(*x_range),
        y_ticks=log_ticks(*y_range),
    )


def _marks(view: View, label: str, regime: str) -> tuple[Mark, ...]:
    found: list[Mark] = []
    bound: Line | None = None
    for one in view.leaders(label):
        cell = view.cell(one, label)
        cell = cell.take(view.members[regime][cell.star]) if cell else None
        if cell is None or len(cell.id) < LEAST:
            continue
        snr = view.stars["snr"][cell.star]
        bins = _bins(snr)
        if len(bins) < 2:
            continue
        x = np.array([np.median(snr[rows]) for rows in bins])
        sigma = np.array([float(clipped_scatter(cell.error[rows])) for rows in bins])
        found.append(Points(x, sigma, one.title, **one.style))
        bound = bound or _bound(view, label, cell, bins, x)
    return (bound, *found) if bound else tuple(found)


def _bound(view: View, label: str, cell: Cell, bins: list[Rows], x: Float) -> Line | None:
    column = view.stars.columns.get(f"bound_{label}")
    if column is None:
        return None
    y = np.array([np.median(known) if len(known := _finite(column[cell.star[rows]])) else np.nan for rows in bins])
    return Line(x, y, "Cramér-Rao bound", dash="dash", width=1.6) if np.isfinite(y).any() else None


def _bins(snr: Float) -> list[Rows]:
    """Rows in bins of S/N that are wide enough and hold enough; what is left over belongs to the last."""
    order = np.argsort(snr, kind="stable")
    order = order[np.isfinite(snr[order]) & (snr[order] > 0)]
    if len(order) < LEAST:
        return []
    log = np.log(snr[order])
    low, high = np.quantile(log, (0.01, 0.99))
    starts = [0]
    for row in range(LEAST, len(order) - LEAST + 1):
        if row - starts[-1] >= LEAST and log[row] - log[starts[-1]] >= (high - low) / BINS:
            starts.append(row)
    return np.split(order, starts[1:])


def _finite(values: Float) -> Float:
    return values[np.isfinite(values)]
