"""Noise: the scatter against S/N, beside what the photons allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import look
from benchmarks.figures.figure import Figure, Float, Line, Mark, Panel, Points, log_ticks, padded
from benchmarks.figures.study import Cell, Study

Rows = NDArray[np.int64]
LEAST = 20  # predictions in a bin
BINS = 8


def draw(study: Study) -> list[Figure]:
    """A row a regime, a column a label: the best pipeline, the best head of each input, and the Cramer-Rao bound."""
    if "snr" not in study.stars.columns:
        return []
    found = [(label, regime, _marks(study, label, regime)) for regime in study.regimes for label in study.labels]
    labels = [label for label in study.labels if any(marks for one, _, marks in found if one == label)]
    regimes = [regime for regime in study.regimes if any(marks for _, one, marks in found if one == regime)]
    if not labels:
        return []
    bound = any(isinstance(mark, Line) for *_, marks in found for mark in marks)
    panels = tuple(
        _panel(study, label, regime, marks) if marks else None
        for label, regime, marks in found
        if label in labels and regime in regimes
    )
    figure = Figure(
        "noise",
        "Scatter against S/N" + (" and the Cramér-Rao bound" if bound else ""),
        f"Standard deviation after 3-sigma clipping in at most {BINS} bins of S/N with equally many, and at least "
        f"{LEAST}, predictions, at their median S/N: the best pipeline and, for each input, the strategy with the "
        "smallest scatter."
        + (
            " Dashed: median Cramér-Rao bound of the stars in the bin, which no unbiased method can beat."
            if bound
            else ""
        ),
        panels,
        len(labels),
        size=(2.6, 2.5),
    )
    return [figure]


def _panel(study: Study, label: str, regime: str, marks: tuple[Mark, ...]) -> Panel:
    drawn = [mark for mark in marks if isinstance(mark, (Points, Line))]
    x_range, y_range = (padded(*several, log=True) for several in ([m.x for m in drawn], [m.y for m in drawn]))
    return Panel(
        f"{look.name(label)} · {look.plain(regime)}",
        look.name("snr"),
        look.axis(label, study.units, "σ"),
        marks,
        x_range,
        y_range,
        x_log=True,
        y_log=True,
        x_ticks=log_ticks(*x_range),
        y_ticks=log_ticks(*y_range),
    )


def _marks(study: Study, label: str, regime: str) -> tuple[Mark, ...]:
    found: list[Mark] = []
    bound: Line | None = None
    for one in study.leaders(label):
        cell = study.cell(one, label)
        cell = cell.take(study.members[regime][cell.star]) if cell else None
        if cell is None or len(cell.id) < LEAST:
            continue
        snr = study.stars["snr"][cell.star]
        bins = _bins(snr)
        if not bins:
            continue
        x = np.array([np.median(snr[rows]) for rows in bins])
        sigma = np.array([clipped(cell.error[rows]) for rows in bins])
        found.append(Points(x, sigma, one.title, **one.style))
        bound = bound or _bound(study, label, cell, bins, x)
    return (bound, *found) if bound else tuple(found)


def _bound(study: Study, label: str, cell: Cell, bins: list[Rows], x: Float) -> Line | None:
    column = study.stars.columns.get(f"bound_{label}")
    if column is None:
        return None
    y = np.array([np.median(known) if len(known := _finite(column[cell.star[rows]])) else np.nan for rows in bins])
    return Line(x, y, "Cramér-Rao bound", dash="dash", width=1.6) if np.isfinite(y).any() else None


def _bins(snr: Float) -> list[Rows]:
    """Rows with S/N in bins of equal numbers."""
    order = np.argsort(snr, kind="stable")
    order = order[np.isfinite(snr[order]) & (snr[order] > 0)]
    count = min(BINS, len(order) // LEAST)
    return np.array_split(order, count) if count else []


def _finite(values: Float) -> Float:
    return values[np.isfinite(values)]


def clipped(error: Float) -> float:
    """Standard deviation after 3-sigma clipping, as everywhere in the results."""
    from astropy.stats import sigma_clip

    return float(np.std(sigma_clip(error, sigma=3, masked=False)))
