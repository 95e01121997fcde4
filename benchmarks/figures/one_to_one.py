"""One to one: predicted against reference labels, star by star."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import look
from benchmarks.figures.figure import Figure, Line, Mark, Note, Panel, Points, Range, padded, thinned
from benchmarks.figures.view import UNTUNED, Cell, Method, View
from heads.score import measures

POINTS = 5000  # in a figure
OTHERS = 4  # panels of methods without inputs where there is no head
TOLERANCE = {"teff": 200.0, "logg": 0.3, "feh": 0.2, "alphafe": 0.1}  # of the dashed lines


def draw(view: View) -> list[Figure]:
    """A figure a label: a row an input; other methods, zero-shot, scratch and the best strategy side by side."""
    return [figure for label in view.labels if (figure := _figure(view, label)) is not None]


def _figure(view: View, label: str) -> Figure | None:
    rows = [_row(view, label, given) for given in view.inputs]
    others = [one for group in ("pipeline", "baseline") for one in _best(view, label, group)]
    if not rows:
        rows = [list(others[:OTHERS])]
    elif others:
        rows = [[others[i] if i < len(others) else None, *row] for i, row in enumerate(rows)]
    cells = [view.cell(one, label) if one else None for row in rows for one in row]
    drawn = [cell for cell in cells if cell is not None]
    if not drawn:
        return None
    span = padded(
        *(cell.reference for cell in drawn), *(np.quantile(cell.value, (0.005, 0.995)) for cell in drawn), margin=0.04
    )
    most = min(2000, POINTS // len(drawn))
    titles = [one.title if one else "" for row in rows for one in row]
    panels = tuple(
        _panel(view, label, title, cell, span, most) if cell is not None else None
        for title, cell in zip(titles, cells, strict=True)
    )
    thin = any(len(cell.id) > most for cell in drawn)
    width = TOLERANCE.get(label)
    return Figure(
        f"one-to-one-{label}",
        f"Predicted against reference {look.name(label)}",
        f"Predictions at the largest number of target stars against {view.reference}. The line is the identity"
        + (f", dashed ±{width:g} {view.units.get(label, '')}".rstrip() if width else "")
        + ". N (stars), R<sup>2</sup>, σ (after 3-sigma clipping) and the median of predicted − reference are those "
        "of all predictions"
        + (f", of which at most {most} a panel are drawn, of regimes equally many" if thin else "")
        + (
            ". The strategies of the last column are the best of their input on these very stars."
            if view.inputs
            else "."
        ),
        panels,
        len(rows[0]),
        size=(2.6, 2.6),
    )


def _row(view: View, label: str, given: str) -> list[Method | None]:
    """Zero-shot, scratch and the best of the others."""
    heads = view.heads(given)
    tuned = view.best(label, [one for one in heads if one.strategy not in UNTUNED])
    return [
        next(iter(view.best(label, several)), None)
        for several in (*(view.named(name, given) for name in UNTUNED), tuned)
    ]


def _best(view: View, label: str, group: str) -> list[Method]:
    return view.best(label, [one for one in view.methods if one.group == group])


def _panel(view: View, label: str, title: str, cell: Cell, span: Range, most: int) -> Panel:
    across = np.array(span)
    marks: list[Mark] = [Line(across, across)]
    width = TOLERANCE.get(label)
    if width:
        marks += [Line(across, across + shift, dash="dash", width=0.8) for shift in (-width, width)]
    regimes = view.regime_of(cell.star)
    rest = np.ones(len(cell.id), dtype=bool)
    for rows in regimes.values():
        rest &= ~rows
    groups = [(look.plain(name), rows, look.REGIMES[i % 4]) for i, (name, rows) in enumerate(regimes.items())]
    groups = [group for group in [*groups, ("other", rest, "#999999")] if group[1].any()]
    for name, rows, colour in groups:
        some = cell.take(
            np.flatnonzero(rows)[_share([int(group[1].sum()) for group in groups], int(rows.sum()), most)]
        )
        marks.append(Points(some.reference, some.value, name, colour, size=2.6, opacity=0.6, ids=some.id.astype(str)))
    marks.append(Note(legend(cell, label)))
    return Panel(
        title,
        look.axis(label, view.units, "reference"),
        look.axis(label, view.units, "predicted"),
        tuple(marks),
        x_range=span,
        y_range=span,
        equal=True,
    )


def _share(counts: list[int], n: int, most: int) -> NDArray[np.int64]:
    """Rows of a group of n that are drawn, so that groups have equal shares of the most points of a panel."""
    small = [count for count in counts if count <= most // len(counts)]
    left = len(counts) - len(small)
    return thinned(n, n if n in small else (most - sum(small)) // left)


def legend(cell: Cell, label: str) -> str:
    """N, R^2, sigma and median of all stars of a cell."""
    n = len(np.unique(cell.id))
    if n < 2:
        return f"N = {n}"
    found = measures(cell.reference, cell.value)
    return (
        f"N = {n}\nR<sup>2</sup> = {found['r2']:.3f}\nσ = {look.number(found['sigma'], label)}\n"
        f"median {look.number(found['median'], label, sign=True)}"
    ).replace("= -", "= −")
