"""Sizes: the scatter against the number of target stars to learn from."""

from __future__ import annotations

import numpy as np

from benchmarks.figures import look
from benchmarks.figures.figure import Figure, Float, Line, Mark, Panel, Points, log_ticks, padded
from benchmarks.figures.view import Method, View

NUDGE = 0.05  # between strategies, so that their bars do not hide each other


def draw(view: View) -> list[Figure]:
    """A figure a label: a row a regime, a column an input, a curve a strategy."""
    return [figure for label in view.labels if (figure := _figure(view, label)) is not None]


def _figure(view: View, label: str) -> Figure | None:
    regimes = [
        regime
        for regime in view.regimes
        if any(_curve(view, one, label, regime) is not None for given in view.inputs for one in view.heads(given))
    ]
    if not regimes:
        return None
    beside = view.best(label, [one for one in view.methods if one.group == "pipeline"])[:1]
    beside += view.best(label, [one for one in view.methods if one.group == "baseline"])[:1]
    panels = tuple(panel for regime in regimes for panel in _row(view, label, regime, beside))
    named = " and ".join(one.title for one in beside)
    return Figure(
        f"sizes-{label}",
        f"Scatter of {look.name(label)} against the number of target stars",
        "Standard deviation after 3-sigma clipping, and its 95 % bootstrap interval, against the number of stars of "
        "the target survey that a head learned from. What learns from none is drawn across"
        + (f"; for comparison, without inputs, the best of their kind: {named}." if named else "."),
        panels,
        len(view.inputs),
    )


def _curve(view: View, method: Method, label: str, regime: str) -> tuple[Float, ...] | None:
    """Positions of sizes, sigma, and the bounds of its interval."""
    found = [
        (position, row["sigma"], row["sigma_low"], row["sigma_high"])
        for position, size in enumerate(view.sizes)
        if (row := view.score(method, label, regime, size)) is not None
    ]
    return tuple(np.array(found, dtype=float).T) if found else None


def _constant(view: View, method: Method, label: str, regime: str) -> float | None:
    """Sigma of what learns from no target star at all, where others do."""
    row = view.score(method, label, regime)
    alone = view.size(method, label) == 0 and (view.sizes != [0] or method.group == "pipeline")
    return float(row["sigma"]) if row is not None and alone else None


def _row(view: View, label: str, regime: str, beside: list[Method]) -> list[Panel]:
    marks = {given: _marks(view, [*view.heads(given), *beside], label, regime) for given in view.inputs}
    seen = [one for several in marks.values() for one in several if isinstance(one, (Points, Line))]
    bounds = [bound for one in seen if isinstance(one, Points) for bound in one.y_bounds or ()]
    y_range = padded(*(one.y for one in seen), *bounds, log=True)
    return [
        Panel(
            f"{given} · {view.title(regime)}",
            "target stars learned from",
            look.axis(label, view.units, "σ"),
            several,
            x_range=(-0.35, len(view.sizes) - 0.65),
            y_range=y_range,
            y_log=True,
            x_ticks=tuple((float(position), str(size)) for position, size in enumerate(view.sizes)),
            y_ticks=log_ticks(*y_range),
        )
        for given, several in marks.items()
    ]


def _marks(view: View, methods: list[Method], label: str, regime: str) -> tuple[Mark, ...]:
    found: list[Mark] = []
    across = np.array([-0.35, len(view.sizes) - 0.65])
    for number, one in enumerate(methods):
        name = look.plain(one.strategy)
        constant = _constant(view, one, label, regime)
        if constant is not None:
            found.append(Line(across, np.repeat(constant, 2), name, look.colour(one.strategy), "dash"))
            continue
        curve = _curve(view, one, label, regime)
        if curve is None:
            continue
        position, sigma, low, high = curve
        shift = NUDGE * (number - (len(methods) - 1) / 2)
        style = one.style | {"dash": "solid" if one.group == "head" else "dot"}
        found.append(Points(position + shift, sigma, name, y_bounds=(low, high), **style))
    return tuple(found)
