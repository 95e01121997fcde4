"""Traces: figures as the `data` and `layout` that plotly.js draws, small, and without a colour of text or page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures.figure import (
    GREY,
    Band,
    Contours,
    Figure,
    Heat,
    Line,
    Mark,
    Note,
    Panel,
    Points,
    Scale,
    Steps,
    Surface,
)
from benchmarks.figures.look import SCALES

DIGITS = 4  # significant ones
PIXELS = 90  # an inch of a panel
BETWEEN = (0.07, 62)  # panels: share of the width, pixels of the height
CLOSE = (0.025, 36)  # the same where panels do not repeat labels and numbers
TOP, FOOT, LEGEND, LINE = 50, 46, 22, 14  # pixels: above, below, for a row of the legend, for a line of a title
BAR = 96  # pixels of a bar of colours, with its title
WIDE = 140  # letters in a row of the legend
DASHES = {"solid": "solid", "dash": "5px,3px", "dot": "2px,2px", "dashdot": "6px,2px,2px,2px"}
SYMBOLS = {"triangle": "triangle-up", "cross": "x"}
CLEAR = "rgba(0,0,0,0)"
LEVELS = 16  # of contours
JSON = dict[str, Any]


def plotly_json(figure: Figure) -> JSON:
    """data and layout for plotly.js. Title and caption are left to the page, and so is the width."""
    grid = _Grid(figure)
    scales = {scale: f"coloraxis{i + 1 if i else ''}" for i, scale in enumerate(figure.scales())}
    data: list[JSON] = []
    notes: list[JSON] = []
    layout: JSON = grid.layout()
    told: set[str] = set()
    for number, panel in enumerate(figure.panels):
        if panel is None:
            continue
        axes = grid.axes(number, panel, layout)
        notes += grid.title(number, panel)
        for mark in panel.marks:
            if isinstance(mark, Note):
                notes.append(grid.note(number, panel, mark))
                continue
            trace = TRACES[type(mark)](mark, panel)
            label = getattr(mark, "label", None)
            trace |= axes | {"showlegend": bool(label) and label not in told}
            if label:
                trace |= {"name": label, "legendgroup": label}
                told.add(label)
            scale = getattr(mark, "scale", None)
            if scale is not None:
                (trace["marker"] if isinstance(mark, Points) else trace)["coloraxis"] = scales[scale]
            data.append(trace)
    for scale, numbers in figure.scales().items():
        layout[scales[scale]] = _colour_axis(scale, grid, numbers)
    if scales:
        layout["margin"]["r"] = BAR  # plotly makes room for a bar, but not always for its title
    layout["annotations"] = notes
    if told:
        rows = -(-sum(len(label) + 7 for label in told) // WIDE)
        layout["margin"]["b"] += LEGEND * rows
        layout["height"] += LEGEND * rows
        layout["legend"] = {
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0.5,
            "xanchor": "center",
            "bgcolor": CLEAR,
            "itemsizing": "trace" if any("line" in trace for trace in data if trace["showlegend"]) else "constant",
        }
    return {"data": data, "layout": layout}


class _Grid:
    """Where panels lie on the page."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        numbers = [number for number, panel in enumerate(figure.panels) if panel is not None]
        spared = {number: figure.spared(number) for number in numbers}
        rows = [spared[number] for number in numbers if figure.place(number)[0] < figure.rows - 1]
        columns = [spared[number] for number in numbers if figure.place(number)[1]]
        self.gap_x = CLOSE[0] if all(one.y_label and one.y_ticks for one in columns) else BETWEEN[0]
        gap = CLOSE[1] if all(one.x_label and one.x_ticks for one in rows) else BETWEEN[1]
        lines = [panel.title.count("\n") if panel else 0 for panel in figure.panels]
        gap += LINE * max(lines[figure.columns :], default=0)
        self.inner = figure.rows * round(figure.size[1] * PIXELS) + (figure.rows - 1) * gap
        self.gap_y = gap / self.inner
        self.top = TOP + LINE * max(lines[: figure.columns])

    def layout(self) -> JSON:
        return {
            "height": self.inner + self.top + FOOT,
            "margin": {"l": 64, "r": 16, "t": self.top, "b": FOOT},
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "font": {"size": 11},
            "hovermode": "closest",
            "modebar": {"bgcolor": CLEAR, "color": GREY, "activecolor": "#0072b2"},
        }

    def domain(self, number: int) -> tuple[list[float], list[float]]:
        """Left and right, bottom and top of a panel, as shares of the plot."""
        row, column = self.figure.place(number)
        width = (1 - self.gap_x * (self.figure.columns - 1)) / self.figure.columns
        height = (1 - self.gap_y * (self.figure.rows - 1)) / self.figure.rows
        left, top = column * (width + self.gap_x), 1 - row * (height + self.gap_y)
        return [round(left, 4), round(left + width, 4)], [round(max(top - height, 0), 4), round(top, 4)]

    def axes(self, number: int, panel: Panel, layout: JSON) -> JSON:
        """Add a panel's axes to the layout; what a trace says to lie on them."""
        spared = self.figure.spared(number)
        end = str(number + 1) if number else ""
        x, y = self.domain(number)
        titles = ("" if spared.x_label else panel.x_label, "" if spared.y_label else panel.y_label)
        if panel.solid:
            low, high = next((mark.scale.low, mark.scale.high) for mark in panel.marks if isinstance(mark, Surface))
            names = zip("xyz", (*titles, ""), strict=True)
            scene: JSON = {f"{name}axis": _scene_axis(title) for name, title in names}
            scene["zaxis"]["range"] = _numbers([low, high])
            scene["camera"] = {"eye": {"x": 2.0, "y": -2.4, "z": 1.4}}
            scene["aspectmode"] = "cube"
            layout[f"scene{end}"] = scene | {"domain": {"x": x, "y": y}, "bgcolor": CLEAR}
            return {"scene": f"scene{end}"}
        first, second = _axis(titles[0]), _axis(titles[1])
        first |= {"domain": x, "anchor": f"y{end}"} | _reach(panel.x_range, panel.x_log, panel.x_ticks)
        second |= {"domain": y, "anchor": f"x{end}"} | _reach(panel.y_range, panel.y_log, panel.y_ticks)
        first["showticklabels"], second["showticklabels"] = not spared.x_ticks, not spared.y_ticks
        if panel.equal:
            second |= {"scaleanchor": f"x{end}", "constrain": "domain"}
            first |= {"constrain": "domain"}
        layout[f"xaxis{end}"], layout[f"yaxis{end}"] = first, second
        return {"xaxis": f"x{end}", "yaxis": f"y{end}"}

    def title(self, number: int, panel: Panel) -> list[JSON]:
        if not panel.title:
            return []
        place = self._place(number, panel, 0.5, 1) | {"xanchor": "center", "yanchor": "bottom"}
        return [place | {"text": _text(panel.title), "showarrow": False, "font": {"size": 12}}]

    def note(self, number: int, panel: Panel, mark: Note) -> JSON:
        up, left = mark.corner.startswith("upper"), mark.corner.endswith("left")
        found = self._place(number, panel, 0 if left else 1, 1 if up else 0)
        return found | {
            "text": _text(mark.text),
            "showarrow": False,
            "font": {"size": 10},
            "align": "left" if left else "right",
            "xanchor": "left" if left else "right",
            "yanchor": "top" if up else "bottom",
            "xshift": 3 if left else -3,
            "yshift": -3 if up else 3,
        }

    def _place(self, number: int, panel: Panel, x: float, y: float) -> JSON:
        """A place inside a panel; of a three-dimensional one on the page."""
        end = str(number + 1) if number else ""
        if not panel.solid:
            return {"xref": f"x{end} domain", "yref": f"y{end} domain", "x": x, "y": y}
        (left, right), (bottom, top) = self.domain(number)
        return {"xref": "paper", "yref": "paper", "x": left + x * (right - left), "y": bottom + y * (top - bottom)}


def _axis(title: str) -> JSON:
    line = "rgba(128,128,128,0.6)"
    return {
        "title": {"text": _text(title), "standoff": 6} if title else {"text": ""},
        "zeroline": False,
        "gridcolor": "rgba(128,128,128,0.2)",
        "linecolor": line,
        "tickcolor": line,
        "showline": True,
        "ticks": "outside",
        "ticklen": 3,
        "automargin": True,
    }


def _scene_axis(title: str) -> JSON:
    found: JSON = {
        "title": {"text": _text(title), "font": {"size": 10}},
        "nticks": 5,
        "tickfont": {"size": 9},
        "zeroline": False,
    }
    return found | {"gridcolor": "#9a9a9a", "showbackground": False}  # WebGL knows no faint lines


def _reach(span: tuple[float, float] | None, log: bool, ticks: tuple[tuple[float, str], ...] | None) -> JSON:
    found: JSON = {"type": "log" if log else "linear"}
    if span is not None:
        found["range"] = _numbers(np.log10(span) if log else span)
    if ticks is not None:
        found |= {"tickmode": "array", "tickvals": [place for place, _ in ticks]}
        found["ticktext"] = [_text(words) for _, words in ticks]
    return found


def _colour_axis(scale: Scale, grid: _Grid, numbers: list[int]) -> JSON:
    stops = SCALES[scale.colours]
    tops, bottoms = ([grid.domain(number)[1][end] for number in numbers] for end in (1, 0))
    return {
        "cmin": _number(scale.low),
        "cmax": _number(scale.high),
        "colorscale": [[round(i / (len(stops) - 1), 4), stop] for i, stop in enumerate(stops)],
        "colorbar": {
            "title": {"text": _text(scale.title), "side": "right"},
            "thickness": 12,
            "len": round(max(tops) - min(bottoms), 4),
            "y": round((max(tops) + min(bottoms)) / 2, 4),
            "outlinewidth": 0,
        },
    }


def _points(mark: Points, panel: Panel) -> JSON:
    if mark.values is not None and not np.isfinite(mark.values).all():
        good = np.isfinite(mark.values)  # plotly has no colour for null
        named = mark.ids[good] if mark.ids is not None else None
        mark = replace(mark, x=mark.x[good], y=mark.y[good], values=mark.values[good], ids=named)
    symbol = SYMBOLS.get(mark.symbol, mark.symbol) + ("-open" if mark.hollow else "")
    marker: JSON = {"symbol": symbol, "size": round(mark.size * 4 / 3, 1), "opacity": mark.opacity}
    marker |= {"line": {"width": 2 if mark.hollow else 0}}
    marker["color"] = _numbers(mark.values) if mark.values is not None and mark.scale is not None else mark.colour
    found: JSON = {"type": "scatter", "mode": "lines+markers" if mark.dash else "markers", "marker": marker}
    found |= {"x": _numbers(mark.x), "y": _numbers(mark.y)}
    if mark.dash:
        found["line"] = {"color": mark.colour, "width": 1.5, "dash": DASHES[mark.dash]}
    if mark.ids is not None:
        found["text"] = [str(one) for one in mark.ids]
    ids = "%{text}<br>" if mark.ids is not None else ""
    found["hovertemplate"] = (
        f"{ids}{_hover(panel.x_label, 'x')}<br>{_hover(panel.y_label, 'y')}<extra>{mark.label or ''}</extra>"
    )
    for name, values, bounds in (("error_x", mark.x, mark.x_bounds), ("error_y", mark.y, mark.y_bounds)):
        if bounds is not None:
            above, below = np.maximum(bounds[1] - values, 0), np.maximum(values - bounds[0], 0)
            found[name] = {"type": "data", "symmetric": False, "array": _numbers(above), "arrayminus": _numbers(below)}
            found[name] |= {"color": mark.colour, "thickness": 1.2, "width": 0}
    return found


def _hover(label: str, axis: str) -> str:
    return f"{_text(label)} %{{{axis}:.4~g}}" if label else f"%{{{axis}}}"


def _line(mark: Line, panel: Panel) -> JSON:
    line = {"color": mark.colour, "width": mark.width, "dash": DASHES[mark.dash]}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _numbers(mark.x),
        "y": _numbers(mark.y),
        "line": line,
        "hoverinfo": "skip",
    }


def _band(mark: Band, panel: Panel) -> JSON:
    good = np.isfinite(mark.x) & np.isfinite(mark.low) & np.isfinite(mark.high)
    x = np.concatenate([mark.x[good], mark.x[good][::-1]])
    y = np.concatenate([mark.low[good], mark.high[good][::-1]])
    found: JSON = {"type": "scatter", "mode": "lines", "x": _numbers(x), "y": _numbers(y), "fill": "toself"}
    return found | {"fillcolor": _faint(mark.colour), "line": {"width": 0}, "hoverinfo": "skip"}


def _steps(mark: Steps, panel: Panel) -> JSON:
    y = np.append(mark.heights, mark.heights[-1:])
    line = {"color": mark.colour, "width": 1.6, "dash": DASHES[mark.dash], "shape": "hv"}
    found: JSON = {"type": "scatter", "mode": "lines", "x": _numbers(mark.edges), "y": _numbers(y), "line": line}
    return found | {"hovertemplate": f"%{{x:.3~g}}: %{{y:.3~g}}<extra>{mark.label or ''}</extra>"}


def _grid(kind: str, mark: Heat | Contours | Surface, panel: Panel) -> JSON:
    found: JSON = {"type": kind, "x": _numbers(mark.x), "y": _numbers(mark.y), "z": [_numbers(row) for row in mark.z]}
    x, y, z = _hover(panel.x_label, "x"), _hover(panel.y_label, "y"), _hover(mark.scale.title, "z")
    return found | {"hovertemplate": f"{x}<br>{y}<br>{z}<extra></extra>"}


def _heat(mark: Heat, panel: Panel) -> JSON:
    return _grid("heatmap", mark, panel) | {"hoverongaps": False}


def _contours(mark: Contours, panel: Panel) -> JSON:
    step = (mark.scale.high - mark.scale.low) / (LEVELS - 1)
    levels = {"start": _number(mark.scale.low), "end": _number(mark.scale.high), "size": _number(step)}
    return _grid("contour", mark, panel) | {
        "contours": levels,
        "autocontour": False,
        "line": {"width": 0.5, "color": "white"},
    }


def _surface(mark: Surface, panel: Panel) -> JSON:
    return _grid("surface", mark, panel)


TRACES: dict[type[Mark], Callable[[Any, Panel], JSON]] = {
    Points: _points,
    Line: _line,
    Band: _band,
    Steps: _steps,
    Heat: _heat,
    Contours: _contours,
    Surface: _surface,
}


def _text(words: str) -> str:
    return words.replace("\n", "<br>")


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.22)"


def _number(value: float) -> float | None:
    """Rounded; None, which plotly leaves out, for what is not finite."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def _numbers(values: Any) -> list[float | None]:
    array: NDArray[np.float64] = np.asarray(values, dtype=float)
    return [_number(value) for value in array.tolist()]
