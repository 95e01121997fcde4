"""Learning curves as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heads.fit import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(history: History, path: Path) -> None:
    """Write the picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(curves(history)).print_png(path)


def curves(history: History) -> Figure:
    """Losses of every member on its training and its held-out stars, with a dot at the state that was kept."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, losses, colour in (("training", history.training, "0.6"), ("held out", history.held_out, "C0")):
        for number in range(len(losses[0])):
            values = [check[number] for check in losses]
            axes.plot(history.step, values, color=colour, lw=1, label=name if number == 0 else None)
    for number, best in enumerate(history.best):
        if best in history.step:  # not where the start was best
            axes.plot(best, history.held_out[history.step.index(best)][number], "o", color="C0", ms=4)
    axes.set(xlabel="step", ylabel="negative log-likelihood")
    axes.legend(frameon=False)
    return figure
