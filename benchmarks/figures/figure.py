"""Figure: what is drawn, said once, for every way of drawing it.

Text may hold <sub>, <sup> and line breaks (\\n). Arrays may hold NaN, which is not drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Range = tuple[float, float]
Ticks = tuple[tuple[float, str], ...]
Dash = Literal["solid", "dash", "dot", "dashdot"]

GREY = "#808080"  # of lines that must be seen on a white and on a black page


@dataclass(frozen=True)
class Scale:
    """Colours of numbers from low to high; marks with equal scales share a colour bar."""

    title: str
    low: float
    high: float
    colours: Literal["sequential", "diverging"] = "sequential"


@dataclass(frozen=True, eq=False)
class Points:
    """Points x, y (n,), in one colour or coloured by `values` on a scale.

    ids: (n,) said where the pointer is; dash: a line through the points
    x_bounds, y_bounds: (low, high), each (n,), drawn as bars
    """

    x: Float
    y: Float
    label: str | None = None
    colour: str = GREY
    symbol: str = "circle"
    size: float = 5.0  # points
    opacity: float = 1.0
    hollow: bool = False
    dash: Dash | None = None
    ids: NDArray[Any] | None = None
    values: Float | None = None
    scale: Scale | None = None
    x_bounds: tuple[Float, Float] | None = None
    y_bounds: tuple[Float, Float] | None = None


@dataclass(frozen=True, eq=False)
class Line:
    """A line through x, y (n,)."""

    x: Float
    y: Float
    label: str | None = None
    colour: str = GREY
    dash: Dash = "solid"
    width: float = 1.2


@dataclass(frozen=True, eq=False)
class Band:
    """The area between low and high (n,) over x (n,)."""

    x: Float
    low: Float
    high: Float
    label: str | None = None
    colour: str = GREY


@dataclass(frozen=True, eq=False)
class Steps:
    """A histogram's outline: heights (n,) between edges (n + 1,)."""

    edges: Float
    heights: Float
    label: str | None = None
    colour: str = GREY
    dash: Dash = "solid"


@dataclass(frozen=True, eq=False)
class Heat:
    """Cells z (ny, nx) between edges x (nx + 1,) and y (ny + 1,)."""

    x: Float
    y: Float
    z: Float
    scale: Scale


@dataclass(frozen=True, eq=False)
class Contours:
    """Lines and areas of equal z (ny, nx) at x (nx,), y (ny,)."""

    x: Float
    y: Float
    z: Float
    scale: Scale


@dataclass(frozen=True, eq=False)
class Surface:
    """Heights z (ny, nx) over x (nx,), y (ny,): makes its panel three-dimensional."""

    x: Float
    y: Float
    z: Float
    scale: Scale


@dataclass(frozen=True)
class Note:
    """Text in a corner of the panel."""

    text: str
    corner: Literal["upper left", "upper right", "lower left", "lower right"] = "upper left"


Mark = Points | Line | Band | Steps | Heat | Contours | Surface | Note


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes. A range may run backwards; None leaves it to the data. Log axes need ticks."""

    title: str
    x_label: str
    y_label: str
    marks: tuple[Mark, ...]
    x_range: Range | None = None
    y_range: Range | None = None
    x_log: bool = False
    y_log: bool = False
    x_ticks: Ticks | None = None
    y_ticks: Ticks | None = None
    equal: bool = False

    @property
    def x_axis(self) -> tuple[Range | None, bool, Ticks | None]:
        return self.x_range, self.x_log, self.x_ticks

    @property
    def y_axis(self) -> tuple[Range | None, bool, Ticks | None]:
        return self.y_range, self.y_log, self.y_ticks

    @property
    def solid(self) -> bool:
        """Whether it is three-dimensional."""
        return any(isinstance(mark, Surface) for mark in self.marks)


@dataclass(frozen=True)
class Spared:
    """Labels and numbers of axes that a panel does not repeat."""

    x_label: bool
    y_label: bool
    x_ticks: bool
    y_ticks: bool


@dataclass(frozen=True, eq=False)
class Figure:
    """Panels row by row, None where a place stays empty; `size` of a panel in inches.

    name: of its files; title and caption: the page's, not drawn by plotly
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel | None, ...]
    columns: int
    size: tuple[float, float] = (2.9, 2.7)

    @property
    def rows(self) -> int:
        return -(-len(self.panels) // self.columns)

    def place(self, number: int) -> tuple[int, int]:
        """Row and column of a panel."""
        return divmod(number, self.columns)

    def spared(self, number: int) -> Spared:
        """What a panel leaves to one below it in its column, or before it in its row."""
        panel = self.panels[number]
        assert panel is not None
        if panel.solid:
            return Spared(False, False, False, False)
        row, _ = self.place(number)
        below = [other for other in self.panels[number + self.columns :: self.columns] if other]
        before = [other for other in self.panels[row * self.columns : number] if other]
        x = [other for other in below if other.x_label == panel.x_label]
        y = [other for other in before if other.y_label == panel.y_label]
        return Spared(
            x_label=bool(x),
            y_label=bool(y),
            x_ticks=panel.x_range is not None and any(other.x_axis == panel.x_axis for other in x),
            y_ticks=panel.y_range is not None and any(other.y_axis == panel.y_axis for other in y),
        )

    def scales(self) -> dict[Scale, list[int]]:
        """Scales of colours, with the numbers of the panels that use them."""
        found: dict[Scale, list[int]] = {}
        for number, panel in enumerate(self.panels):
            for mark in panel.marks if panel else ():
                scale = getattr(mark, "scale", None)
                if scale is not None and number not in found.setdefault(scale, []):
                    found[scale].append(number)
        return found


def padded(*values: Float, log: bool = False, margin: float = 0.06) -> Range:
    """A range that holds all finite values (positive ones where log), with a margin."""
    joined = np.concatenate([np.ravel(value) for value in values]) if values else np.empty(0)
    joined = joined[np.isfinite(joined) & ((joined > 0) | (not log))]
    if not len(joined):
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = (float(joined.min()), float(joined.max()))
    if log:
        factor = max((high / low) ** margin, 1.1)
        return low / factor, high * factor
    step = (high - low) * margin or abs(low) * margin or 1.0
    return low - step, high + step


def log_ticks(low: float, high: float) -> Ticks:
    """Ticks at 1, 2 and 5 times powers of ten, at more where that gives fewer than three."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8), (1, 1.2, 1.5, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)):
        values = sorted(float(f"{digit * power:.3g}") for power in powers for digit in digits)
        inside = [value for value in values if low <= value <= high]
        if len(inside) > 2:
            break
    return tuple((value, f"{value:g}") for value in inside)


def thinned(n: int, most: int, seed: int = 0) -> NDArray[np.int64]:
    """At most `most` of the numbers below n, in order, drawn by the seed."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
