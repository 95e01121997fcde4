"""Overview: the scatter of all methods at a glance."""

from __future__ import annotations

import numpy as np

from benchmarks.figures import look
from benchmarks.figures.figure import Figure, Line, Note, Panel, Points, log_ticks, padded
from benchmarks.figures.view import Method, View

ROW = 0.27  # inches
NUDGE = 0.24  # between inputs of one row


def draw(view: View) -> list[Figure]:
    """Sigma of [Fe/H], or of the first label, with its interval: a row a strategy, a panel a regime."""
    label = "feh" if "feh" in view.labels else next(iter(view.labels), None)
    regimes = [
        regime for regime in view.regimes if label and any(view.score(one, label, regime) for one in view.methods)
    ]
    if label is None or not regimes:
        return []
    methods = [one for one in view.methods if any(view.score(one, label, regime) for regime in regimes)]
    rows = list(dict.fromkeys((one.group, one.strategy) for one in methods))
    ticks = tuple((float(row), look.plain(strategy)) for row, (_, strategy) in enumerate(rows))
    figure = Figure(
        "overview",
        f"Scatter of {look.name(label)} by method",
        f"Standard deviation of predicted minus reference {look.name(label)} ({view.reference}) after 3-sigma "
        f"clipping, with its 95 % bootstrap interval{_learned(view, methods, label)}. Smaller is better. Hollow: "
        "significantly larger than that of another head in the regime; a ring: significantly smaller than all others.",
        tuple(_panel(view, label, regime, methods, rows, ticks) for regime in regimes),
        min(len(regimes), 3),
        size=(3.6, 0.9 + ROW * len(rows)),
    )
    return [figure]


def _learned(view: View, methods: list[Method], label: str) -> str:
    sizes = [view.size(one, label) or 0 for one in methods if one.group != "pipeline"]
    return f", each at the largest number of target stars, {max(sizes)}" if sizes else ""


def _panel(
    view: View,
    label: str,
    regime: str,
    methods: list[Method],
    rows: list[tuple[str, str]],
    ticks: tuple[tuple[float, str], ...],
) -> Panel:
    marks: list[Points] = []
    best: list[tuple[float, float]] = []
    bounds: list[float] = []
    stars, some_worse = 0, False
    for one in methods:
        row = view.score(one, label, regime)
        if row is None:
            continue
        among = len(view.inputs) if one.group == "head" else 1
        place = float(rows.index((one.group, one.strategy)))
        place += NUDGE * (view.inputs.index(one.input) - (among - 1) / 2) if among > 1 else 0.0
        x, y = np.array([row["sigma"]]), np.array([place])
        low, high = np.array([row["sigma_low"]]), np.array([row["sigma_high"]])
        said = np.array([f"{one.title}, {int(row['n'])} stars"])
        style = one.style | {"dash": None}
        worse = one.group == "head" and not row.get("tied", True)
        some_worse |= worse
        marks.append(Points(x, y, None, ids=said, x_bounds=(low, high), size=6, hollow=worse, **style))
        bounds += [low[0], high[0], x[0]]
        stars = max(stars, int(row["n"]))
        if row["best"]:
            best.append((row["sigma"], place))
    marks += [
        Points(np.array([np.nan]), np.array([np.nan]), words, symbol=look.symbol_and_dash(group, given)[0], size=6)
        for words, (group, given) in {one.input or one.group: (one.group, one.input) for one in methods}.items()
    ]
    if some_worse:
        nothing = np.array([np.nan])
        marks.append(Points(nothing, nothing, "significantly worse than another head", size=6, hollow=True))
    if best:
        x, y = np.array(best).T
        marks.append(Points(x, y, "significantly best", size=13, hollow=True))
    x_range = padded(np.array(bounds), log=True, margin=0.05)
    between = [row - 0.5 for row in range(1, len(rows)) if rows[row][0] != rows[row - 1][0]]
    rules = [Line(np.array(x_range), np.full(2, row), width=0.8) for row in between]
    return Panel(
        view.title(regime),
        look.axis(label, view.units, "σ"),
        "",
        (*rules, *marks, Note(f"N = {stars}", "upper right")),
        x_range=x_range,
        y_range=(len(rows) - 0.4, -0.6),
        x_log=True,
        x_ticks=log_ticks(*x_range),
        y_ticks=ticks,
    )
