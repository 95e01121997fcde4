"""Picture: figures as PNG and PDF, drawn by matplotlib."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
    Spared,
    Steps,
    Surface,
)
from benchmarks.figures.look import SCALES
from stores.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn

DPI = 150
SYMBOLS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "X", "star": "*"}
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
FONT: dict[Any, float] = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "axes.linewidth": 0.6,
}
TEXT = 7.0  # size of notes, tick labels
CROWD = 300  # points of a mark that are pixels in a PDF
LEVELS = 16  # of contours


def save_pictures(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Write NAME.png and NAME.pdf of each into a folder, the same bytes for the same figure; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for figure in figures:
        drawn = picture(figure)
        for kind, about in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            with replacing(folder / f"{figure.name}.{kind}") as temporary:
                drawn.savefig(temporary, format=kind, dpi=DPI, metadata=about)
            paths.append(folder / f"{figure.name}.{kind}")
    return paths


def picture(figure: Figure) -> Drawn:
    """A figure as matplotlib's own."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure as Drawn

    width, height = figure.size
    with matplotlib.rc_context(FONT):
        drawn = Drawn(figsize=(max(width * figure.columns, 4.5), height * figure.rows + 0.9), layout="constrained")
        FigureCanvasAgg(drawn)
        axes: dict[int, Any] = {}
        for number, panel in enumerate(figure.panels):
            if panel is None:
                continue
            kind = {"projection": "3d"} if panel.solid else {}
            axes[number] = drawn.add_subplot(figure.rows, figure.columns, number + 1, **kind)
            for order, mark in enumerate(panel.marks):
                DRAW[type(mark)](axes[number], mark, order + 2)
            _frame(axes[number], panel, figure.spared(number))
        for scale, numbers in figure.scales().items():
            # a row or more of panels beside the bar, which is as high as they are
            beside = [axes[number] for number in numbers]
            colours = ScalarMappable(Normalize(scale.low, scale.high), colour_map(scale))
            bar = drawn.colorbar(colours, ax=beside, shrink=0.6 if figure.panels[numbers[0]].solid else 0.9)  # type: ignore[union-attr]
            bar.set_label(text(scale.title))
            bar.ax.tick_params(labelsize=TEXT)
        _legend(drawn, axes.values())
        drawn.suptitle(text(figure.title), fontsize=10)
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")  # once is enough
    return drawn


def text(words: str) -> str:
    """Subscripts and superscripts as matplotlib has them."""
    words = words.replace("$", r"\$")
    for tag, sign in (("sub", "_"), ("sup", "^")):
        words = re.sub(rf"<{tag}>(.*?)</{tag}>", rf"$\\mathdefault{{{{}}{sign}{{\1}}}}$", words)
    return words


def colour_map(scale: Scale) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(scale.colours, SCALES[scale.colours])


def _frame(axes: Any, panel: Panel, spared: Spared) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(text(panel.title))
    axes.tick_params(labelsize=TEXT, labelbottom=not spared.x_ticks, labelleft=not spared.y_ticks)
    if not spared.x_label:
        axes.set_xlabel(text(panel.x_label))
    if not spared.y_label:
        axes.set_ylabel(text(panel.y_label))
    if panel.solid:
        axes.tick_params(pad=-2, labelsize=TEXT - 1)
        axes.set_box_aspect(None, zoom=0.92)
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.set_major_locator(MaxNLocator(4))
            axis.labelpad = -4
        return
    for log, set_scale in ((panel.x_log, axes.set_xscale), (panel.y_log, axes.set_yscale)):
        if log:
            set_scale("log")
    for ticks, axis in ((panel.x_ticks, axes.xaxis), (panel.y_ticks, axes.yaxis)):
        if ticks is not None:
            axis.set_ticks([place for place, _ in ticks], [text(words) for _, words in ticks])
            axis.set_ticks([], minor=True)
    if panel.x_range:
        axes.set_xlim(*panel.x_range)
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    if panel.equal:
        axes.set_aspect("equal", adjustable="box")
    axes.grid(color=GREY, alpha=0.18, lw=0.6)
    axes.set_axisbelow(True)


def _legend(drawn: Drawn, axes: Iterable[Axes]) -> None:
    entries: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    fit = int(drawn.get_figwidth() / (0.55 + 0.065 * max(len(label) for label in entries)))
    legend: Any = drawn.legend(
        list(entries.values()),
        list(map(text, entries)),
        loc="outside lower center",
        ncols=max(min(fit, len(entries)), 1),
        frameon=False,
        markerscale=1.0,
    )
    for handle in filter(None, legend.legend_handles):
        handle.set_alpha(1)
        if hasattr(handle, "set_markersize"):
            handle.set_markersize(5)  # seen, however small the points are


def _points(axes: Any, mark: Points, order: int) -> None:
    many = len(mark.x) > CROWD
    if mark.values is not None and mark.scale is not None:
        axes.scatter(
            mark.x,
            mark.y,
            s=mark.size**2,
            c=mark.values,
            cmap=colour_map(mark.scale),
            vmin=mark.scale.low,
            vmax=mark.scale.high,
            marker=SYMBOLS[mark.symbol],
            linewidths=0,
            alpha=mark.opacity,
            rasterized=many,
            zorder=order,
        )
        return
    for bounds, value, name in ((mark.x_bounds, mark.x, "xerr"), (mark.y_bounds, mark.y, "yerr")):
        if bounds is not None:
            bars = np.maximum(np.stack([value - bounds[0], bounds[1] - value]), 0)
            axes.errorbar(mark.x, mark.y, **{name: bars}, fmt="none", ecolor=mark.colour, elinewidth=0.9, zorder=order)
    axes.plot(
        mark.x,
        mark.y,
        marker=SYMBOLS[mark.symbol],
        ms=mark.size,
        ls=DASHES[mark.dash] if mark.dash else "none",
        lw=1.1,
        color=mark.colour,
        mfc="none" if mark.hollow else mark.colour,
        mew=1.2 if mark.hollow else 0,
        alpha=mark.opacity,
        label=mark.label,
        rasterized=many,
        zorder=order,
    )


def _line(axes: Any, mark: Line, order: int) -> None:
    axes.plot(mark.x, mark.y, DASHES[mark.dash], color=mark.colour, lw=mark.width, label=mark.label, zorder=order)


def _band(axes: Any, mark: Band, order: int) -> None:
    axes.fill_between(mark.x, mark.low, mark.high, color=mark.colour, alpha=0.22, lw=0, label=mark.label, zorder=order)


def _steps(axes: Any, mark: Steps, order: int) -> None:
    # not axes.stairs, whose handle in a legend is a box
    x, y = np.repeat(mark.edges, 2)[1:-1], np.repeat(mark.heights, 2)
    axes.plot(x, y, DASHES[mark.dash], color=mark.colour, lw=1.2, label=mark.label, zorder=order)


def _heat(axes: Any, mark: Heat, order: int) -> None:
    low, high = mark.scale.low, mark.scale.high
    axes.pcolormesh(mark.x, mark.y, mark.z, cmap=colour_map(mark.scale), vmin=low, vmax=high, zorder=order)


def _contours(axes: Any, mark: Contours, order: int) -> None:
    levels = np.linspace(mark.scale.low, mark.scale.high, LEVELS)
    z = np.clip(mark.z, mark.scale.low, mark.scale.high)
    axes.contour(mark.x, mark.y, z, levels, colors="white", linewidths=0.4, linestyles="solid", zorder=order)
    axes.contourf(mark.x, mark.y, z, levels, cmap=colour_map(mark.scale), zorder=order - 0.5)


def _surface(axes: Any, mark: Surface, order: int) -> None:
    x, y = np.meshgrid(mark.x, mark.y)
    low, high = mark.scale.low, mark.scale.high
    axes.set_zlim(low, high)
    axes.plot_surface(
        x, y, mark.z, cmap=colour_map(mark.scale), vmin=low, vmax=high, rcount=41, ccount=41, lw=0, rasterized=True
    )


def _note(axes: Any, mark: Note, order: int) -> None:
    up, left = mark.corner.startswith("upper"), mark.corner.endswith("left")
    axes.annotate(
        text(mark.text),
        (0 if left else 1, 1 if up else 0),
        (4 if left else -4, -4 if up else 4),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="left" if left else "right",
        va="top" if up else "bottom",
        fontsize=TEXT,
        zorder=order + 20,
    )


DRAW: dict[type[Mark], Callable[[Any, Any, int], None]] = {
    Points: _points,
    Line: _line,
    Band: _band,
    Steps: _steps,
    Heat: _heat,
    Contours: _contours,
    Surface: _surface,
    Note: _note,
}
