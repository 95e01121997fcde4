"""Figures of made results, and their parts."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from results_made import make_results

from benchmarks.figures import figures
from benchmarks.figures.figure import (
    Figure,
    Panel,
)
from benchmarks.figures.view import View
from benchmarks.results import Results, Table

LABELS = ("teff", "logg", "feh", "alphafe")


@cache
def made() -> Results:
    return make_results(stars=300, sizes=(0, 100, 500), adapters=("scratch", "zero_shot", "kriging", "anchored"))


@cache
def view() -> View:
    return View(made())


@cache
def drawn() -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(made())}


def panels(name: str) -> list[Panel]:
    return [panel for panel in drawn()[name].panels if panel is not None]


def marks(panel: Panel, kind: type) -> list[Any]:
    return [mark for mark in panel.marks if isinstance(mark, kind)]


def predicted(title: str, label: str, size: int | None = None) -> Table:
    """Rows of a method by its title in figures, at its largest size, whose reference is known."""
    method = next(one for one in view().methods if one.title == title)
    rows = made().predictions.where(**vars(method), label=label)
    rows = rows.where(size=rows["size"].max() if size is None else size)
    return rows.take(np.isfinite(rows["reference"]))


def small(**options: Any) -> Results:
    options = {"inputs": ("spectra", "fused"), "labels": ("feh", "alphafe"), **options}
    return make_results(**{"stars": 120, "sizes": (0, 100), "adapters": ("zero_shot", "kriging"), **options})
