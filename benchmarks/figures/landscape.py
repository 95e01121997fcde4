"""Landscape: the loss around a head's weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.figures import look
from benchmarks.figures.figure import Contours, Figure, Float, Panel, Points, Scale, Surface
from benchmarks.figures.view import View
from benchmarks.results import Table

MOST = 8  # three-dimensional panels: a page can hold few of them
SIDE = 41  # steps drawn along an axis
FIRST = "metal_poor"  # the regime that surfaces are drawn of


@dataclass(frozen=True)
class Ground:
    """log10 of losses z (nb, na) at steps a (na,) and b (nb,)."""

    input: str
    strategy: str
    a: Float
    b: Float
    z: Float

    def lowest(self) -> tuple[float, float, float]:
        """a, b and z of the minimum."""
        row, column = np.unravel_index(int(np.nanargmin(self.z)), self.z.shape)
        return float(self.a[column]), float(self.b[row]), float(self.z[row, column])


def draw(view: View) -> list[Figure]:
    """Contours for each regime, a row an input, a column a strategy; surfaces of one input and regime."""
    table = view.results.landscapes
    if table is None or not len(table):
        return []
    regimes = {name: _grounds(table.where(regime=name)) for name in dict.fromkeys(table["regime"].tolist())}
    regimes = {name: grounds for name, grounds in regimes.items() if grounds}
    if not regimes:
        return []
    stars = {name: int(rows.sum()) for name, rows in view.members.items()}
    first = min(regimes, key=lambda name: (name != FIRST, stars.get(name, 0)))
    grounds = regimes[first]
    given = min((one.input for one in grounds), key=[*view.inputs, *(one.input for one in grounds)].index)
    solid = _surfaces(view, first, [one for one in grounds if one.input == given][:MOST])
    return [solid, *(_contours(view, name, grounds) for name, grounds in regimes.items())]


def _grounds(table: Table) -> list[Ground]:
    found = []
    for given, strategy in dict.fromkeys(zip(table["input"].tolist(), table["strategy"].tolist(), strict=True)):
        one = table.where(input=given, strategy=strategy)
        (a, i), (b, j) = (np.unique(one[name], return_inverse=True) for name in ("a", "b"))
        z = np.full((len(b), len(a)), np.nan)
        loss = one["loss"].astype(float)
        z[j, i] = np.log10(np.where(loss > 0, loss, np.nan))
        every = [slice(None, None, -(-len(steps) // SIDE)) for steps in (a, b)]
        z, a, b = z[every[1], every[0]], a[every[0]], b[every[1]]
        if np.isfinite(z).any() and len(a) > 1 and len(b) > 1:
            found.append(Ground(given, strategy, a.astype(float), b.astype(float), z))
    return found


def _surfaces(view: View, regime: str, grounds: list[Ground]) -> Figure:
    scale = _scale(grounds)
    return Figure(
        "landscape-surfaces",
        f"Loss landscapes (surfaces), {grounds[0].input}, {_title(view, regime)}",
        _caption(f" At most {MOST} strategies are drawn."),
        tuple(
            Panel(_words(ground, ", "), "step a", "step b", (Surface(ground.a, ground.b, ground.z, scale),))
            for ground in grounds
        ),
        len(grounds) if len(grounds) < 4 else -(-len(grounds) // 2),
        size=(2.9, 2.9),
    )


def _contours(view: View, regime: str, grounds: list[Ground]) -> Figure:
    scale = _scale(grounds)
    inputs = dict.fromkeys(ground.input for ground in grounds)
    strategies = dict.fromkeys(ground.strategy for ground in grounds)
    places = {(ground.input, ground.strategy): ground for ground in grounds}
    rows = [[places.get((given, strategy)) for strategy in strategies] for given in inputs]
    return Figure(
        f"landscape-contours-{look.plain(regime)}",
        f"Loss landscapes (contours), {_title(view, regime)}",
        _caption(" Cross: the weights themselves; star: the minimum."),
        tuple(_panel(ground, scale) if ground else None for row in rows for ground in row),
        len(strategies),
        size=(2.1, 2.2),
    )


def _panel(ground: Ground, scale: Scale) -> Panel:
    a, b, _ = ground.lowest()
    marks = (
        Contours(ground.a, ground.b, ground.z, scale),
        Points(np.zeros(1), np.zeros(1), "weights", "#c8c8c8", "cross", 6),
        Points(np.array([a]), np.array([b]), "minimum", "#d55e00", "star", 10),
    )
    x_range, y_range = ((float(steps[0]), float(steps[-1])) for steps in (ground.a, ground.b))
    title = f"{ground.input}, " + _words(ground, "\n")
    return Panel(title, "step a", "step b", marks, x_range, y_range)


def _words(ground: Ground, between: str) -> str:
    return f"{look.plain(ground.strategy)}{between}minimum {ground.lowest()[2]:.2f}".replace(" -", " −")


def _scale(grounds: list[Ground]) -> Scale:
    low = min(float(np.nanmin(ground.z)) for ground in grounds)
    high = max(float(np.nanmax(ground.z)) for ground in grounds)
    return Scale("log<sub>10</sub> MSE", low, high if high > low else low + 1)


def _title(view: View, regime: str) -> str:
    return view.title(regime) if regime in view.regimes else look.plain(regime)


def _caption(more: str) -> str:
    return (
        "log<sub>10</sub> of the mean squared error of standardised labels, along two random directions around a "
        "head's weights, each scaled to the weights filter by filter; panels have the same colours." + more
    )
