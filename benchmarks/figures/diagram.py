"""Diagram: errors of [Fe/H] across the Kiel diagram, log g against Teff."""

from __future__ import annotations

import numpy as np

from benchmarks.figures import look
from benchmarks.figures.figure import Figure, Note, Panel, Points, Scale, padded, thinned
from benchmarks.figures.view import View

POINTS = 5000  # in a figure


def draw(view: View) -> list[Figure]:
    """A panel for the best pipeline and the best head of each input, stars coloured by their error."""
    stars = view.stars
    if "feh" not in view.labels or any(name not in stars.columns for name in ("teff", "logg")):
        return []
    placed = np.isfinite(stars["teff"]) & np.isfinite(stars["logg"])
    found = [(one, view.cell(one, "feh")) for one in view.leaders("feh")]
    cells = [(one, cell.take(placed[cell.star])) for one, cell in found if cell and placed[cell.star].any()]
    if not cells:
        return []
    most = min(2000, POINTS // len(cells))
    size = max(float(np.quantile(np.abs(np.concatenate([cell.error for _, cell in cells])), 0.95)), 1e-3)
    size = float(f"{size:.1g}")
    scale = Scale(look.axis("feh", view.units, "Δ"), -size, size, "diverging")
    teff, logg = (padded(stars[name][placed], margin=0.04)[::-1] for name in ("teff", "logg"))
    panels = []
    for one, cell in cells:
        some = cell.take(thinned(len(cell.id), most))
        x, y = (stars[name][some.star] for name in ("teff", "logg"))
        ids = np.array([f"{star}, {error:+.3f}" for star, error in zip(some.id.tolist(), some.error, strict=True)])
        points = Points(x, y, size=3.4, ids=ids, values=some.error, scale=scale)
        x_name, y_name = (look.axis(name, view.units) for name in ("teff", "logg"))
        note = Note(f"median {look.number(float(np.median(cell.error)), 'feh', sign=True)}", "upper left")
        panels.append(Panel(one.title, x_name, y_name, (points, note), teff, logg))
    thin = any(len(cell.id) > most for _, cell in cells)
    return [
        Figure(
            "kiel-diagram",
            "Residuals of [Fe/H] across the Kiel diagram",
            "Predicted minus reference [Fe/H] (colour; larger errors have the colour of the ends) at the reference "
            "effective temperature and surface gravity: the best pipeline and, for each input, the strategy with the "
            "smallest scatter" + (f"; {most} stars a panel, drawn at random." if thin else "."),
            tuple(panels),
            min(len(panels), 4),
            size=(2.7, 2.9),
        )
    ]
