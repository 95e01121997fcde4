"""Landscape: the loss around a head's weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.figures import look
from benchmarks.figures.figure import Contours, Figure, Float, Panel, Points, Scale, Surface
from benchmarks.figures.study import Study
from benchmarks.results import Table

MOST = 8  # three-dimensional panels: a page can hold few of them
SIDE = 41  # steps drawn along an axis
COLUMNS = 4


@dataclass(frozen=True)
class Ground:
    """log10 of losses z (nb, na) at steps a (na,) and b (nb,)."""

    strategy: str
    a: Float
    b: Float
    z: Float

    def lowest(self) -> tuple[float, float, float]:
        """a, b and z of the minimum."""
        row, column = np.unravel_index(int(np.nanargmin(self.z)), self.z.shape)
        return float(self.a[column]), float(self.b[row]), float(self.z[row, column])


def draw(study: Study) -> list[Figure]:
    """Contours for each input and regime, a panel a strategy; surfaces of the regime with the fewest stars."""
    table = study.results.landscapes
    if table is None or not len(table):
        return []
    keys = dict.fromkeys(zip(table["input"].tolist(), table["regime"].tolist(), strict=True))
    found = {}
    for given, regime in keys:
        grounds = _grounds(table.where(input=given, regime=regime))
        if grounds:
            found[given, regime] = grounds
    if not found:
        return []
    stars = {name: int(rows.sum()) for name, rows in study.members.items()}
    inputs = [*study.inputs, *(given for given, _ in found)]
    first = min(found, key=lambda key: (stars.get(key[1], len(study.stars)), inputs.index(key[0])))
    solid = [_figure(study, *first, found[first][:MOST], solid=True)]
    return solid + [_figure(study, *key, grounds, solid=False) for key, grounds in found.items()]


def _grounds(table: Table) -> list[Ground]:
    found = []
    for strategy in dict.fromkeys(table["strategy"].tolist()):
        one = table.where(strategy=strategy)
        (a, i), (b, j) = (np.unique(one[name], return_inverse=True) for name in ("a", "b"))
        z = np.full((len(b), len(a)), np.nan)
        loss = one["loss"].astype(float)
        z[j, i] = np.log10(np.where(loss > 0, loss, np.nan))
        every = [slice(None, None, -(-len(steps) // SIDE)) for steps in (a, b)]
        z, a, b = z[every[1], every[0]], a[every[0]], b[every[1]]
        if np.isfinite(z).any() and len(a) > 1 and len(b) > 1:
            found.append(Ground(strategy, a.astype(float), b.astype(float), z))
    return found


def _figure(study: Study, given: str, regime: str, grounds: list[Ground], solid: bool) -> Figure:
    low = min(float(np.nanmin(ground.z)) for ground in grounds)
    high = max(float(np.nanmax(ground.z)) for ground in grounds)
    scale = Scale("log<sub>10</sub> MSE", low, high if high > low else low + 1)
    title = study.title(regime) if regime in study.regimes else look.plain(regime)
    what = "Surfaces" if solid else "Contours"
    return Figure(
        f"landscape-{what.lower()}-{given}-{look.plain(regime)}",
        f"Loss landscapes as {what.lower()}: {given}, {title}",
        "log<sub>10</sub> of the mean squared error of standardised labels, along two random directions around the "
        "head's weights, each scaled to the weights filter by filter. "
        + ("" if solid else "Cross: the weights themselves; star: the minimum. ")
        + "All panels have the same colours."
        + (f" The first {MOST} strategies." if solid and len(grounds) == MOST else ""),
        tuple(_panel(ground, scale, solid) for ground in grounds),
        min(len(grounds), COLUMNS),
        size=(2.9, 2.9) if solid else (2.5, 2.5),
    )


def _panel(ground: Ground, scale: Scale, solid: bool) -> Panel:
    a, b, z = ground.lowest()
    title = f"{look.plain(ground.strategy)}, minimum {z:.2f}".replace(" -", " −")
    names = title, "step a", "step b"
    if solid:
        return Panel(*names, (Surface(ground.a, ground.b, ground.z, scale),))
    marks = (
        Contours(ground.a, ground.b, ground.z, scale),
        Points(np.zeros(1), np.zeros(1), "weights", "#c8c8c8", "cross", 6),
        Points(np.array([a]), np.array([b]), "minimum", "#d55e00", "star", 10),
    )
    x_range, y_range = ((float(steps[0]), float(steps[-1])) for steps in (ground.a, ground.b))
    return Panel(*names, marks, x_range, y_range)
