"""Plane: stars in [alpha/Fe] against [Fe/H], where the discs part."""

from __future__ import annotations

import numpy as np

from benchmarks.discrepancy import LEAST, MOST, PERMUTATIONS, discrepancy
from benchmarks.figures import look
from benchmarks.figures.figure import Figure, Float, Heat, Panel, Scale, padded
from benchmarks.figures.view import Method, View

LABELS = ("feh", "alphafe")
BINS = (18, 40)  # along an axis, few stars and many


def draw(view: View) -> list[Figure]:
    """Reference, best pipeline and best head of each input: counts above, each column to its maximum below."""
    if any(label not in view.labels for label in LABELS):
        return []
    found = [(one, planes) for one in view.leaders("alphafe") if (planes := _planes(view, one)) is not None]
    if not found:
        return []
    reference = max((planes[1] for _, planes in found), key=len)
    bins = int(np.clip(np.sqrt(len(reference)) / 1.1, *BINS))
    edges = [
        np.linspace(*padded(np.quantile(reference[:, axis], (0.002, 0.998)), margin=0.1), bins + 1) for axis in (0, 1)
    ]
    bandwidths: list[float] = []
    columns = [(view.reference, _counts(reference, edges))]
    for one, (value, own) in found:
        far = discrepancy(value, own)
        bandwidths += [far.bandwidth] if far else []
        told = f"MMD<sup>2</sup> {_short(far.squared)}, p {_chance(far.p)}" if far else f"under {LEAST} stars"
        columns.append((f"{one.title}\n{told}", _counts(value, edges)))
    most = max(float(np.nanmax(counts, initial=1)) for _, counts in columns)
    scales = (Scale("stars", 0, most), Scale("share of the column's maximum", 0, 1))
    names = [look.axis(label, view.units) for label in LABELS]
    ranges = [(float(edge[0]), float(edge[-1])) for edge in edges]
    panels = []
    for scale, normalised in zip(scales, (False, True), strict=True):
        for title, counts in columns:
            z = counts / np.maximum(counts.max(axis=0), 1) if normalised else counts
            marks = (Heat(edges[0], edges[1], np.where(counts > 0, z, np.nan), scale),)
            panels.append(Panel("" if normalised else title, names[0], names[1], marks, ranges[0], ranges[1]))
    return [
        Figure(
            "alpha-plane",
            "[α/Fe] against [Fe/H], predicted and reference",
            "Above: stars in each cell. Below: each column of [Fe/H] divided by its maximum. "
            f"{view.reference.capitalize()} and predictions of the same stars: the best pipeline and, for each "
            "input, the strategy with the smallest scatter of [α/Fe]. MMD<sup>2</sup>: squared maximum mean "
            "discrepancy to the reference (unbiased estimate, 0 on average for equal distributions; Gaussian kernel; "
            "bandwidth by the median heuristic, the median distance of all pairs of stars of both samples in units of "
            f"the reference's standard deviations{_bandwidths(bandwidths)}); p: share of at least as large ones among "
            f"{PERMUTATIONS} exchanges of predicted and reference values, star by star; of at most {MOST} stars, "
            "drawn at random.",
            tuple(panels),
            len(columns),
            size=(2.5, 2.5),
        )
    ]


def _planes(view: View, method: Method) -> tuple[Float, Float] | None:
    """Predicted and reference [Fe/H] and [alpha/Fe] (n, 2) of stars that have both."""
    cells = [view.cell(method, label) for label in LABELS]
    if cells[0] is None or cells[1] is None:
        return None
    first, second = (cell.distinct() for cell in cells if cell is not None)
    both, one, other = np.intersect1d(first.id, second.id, return_indices=True)
    if not len(both):
        return None
    value = np.stack([first.value[one], second.value[other]], axis=1)
    return value, np.stack([first.reference[one], second.reference[other]], axis=1)


def _counts(plane: Float, edges: list[Float]) -> Float:
    return np.histogram2d(plane[:, 1], plane[:, 0], bins=(edges[1], edges[0]))[0]


def _bandwidths(found: list[float]) -> str:
    return f": {min(found):.2f} to {max(found):.2f}" if found else ""


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−") if abs(value) >= 1e-4 else f"{value:.0e}".replace("-", "−")


def _chance(p: float) -> str:
    least = 1 / (1 + PERMUTATIONS)
    return f"≤ {least:.3f}" if p <= least else f"= {p:.2g}"
