"""Glossary: what the columns of the results are called, how they are shown, and what they mean."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import look
from benchmarks.measures import CLIP, LEAST, LEVEL, PASSES


@dataclass(frozen=True)
class Measure:
    """A measure of errors.

    kind: "label" (in the label's unit), "share" (shown in per cent) or "ratio"
    interval: whether NAME_low and NAME_high are there, bounds of 95 per cent
    meaning: for the glossary
    """

    name: str
    title: str
    kind: str
    meaning: str
    interval: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the table of all numbers; kind: that of a measure, "text", "integer", "range" or "mark"."""

    name: str
    title: str
    kind: str


MEASURES = (
    Measure(
        "sigma",
        "σ",
        "label",
        f"Standard deviation of the errors (value − reference) without those that lie more than {CLIP:g} standard "
        f"deviations from their median, which are cut up to {PASSES} times. An offset that all stars share does not "
        "count here.",
        interval=True,
    ),
    Measure(
        "r2",
        "R²",
        "ratio",
        "Share of the variance of the reference that the values explain: 1 − Σ(value − reference)² / "
        "Σ(reference − mean)². 1 is perfect; below 0 the mean of the tested stars would do better. It counts offsets "
        "and outliers, and falls where a regime spans little.",
    ),
    Measure(
        "median",
        "Median error",
        "label",
        "Median of value − reference: the offset of a typical star.",
        interval=True,
    ),
    Measure(
        "biweight",
        "Biweight",
        "label",
        "Tukey's biweight scale of the errors (c = 6): a scatter for which far errors count less and less, without "
        "a sharp cut.",
    ),
    Measure(
        "outliers",
        "Outliers",
        "share",
        f"Share of the stars whose errors lie more than {CLIP:g} σ from their median: those that σ does not see.",
    ),
    Measure(
        "cover90",
        "Coverage",
        "share",
        "Share of the stars whose reference lies inside the interval that is said to hold it with 90 per cent. Less "
        "than 90 %: uncertainties are too small; more: too large. Empty where a method gives no intervals.",
    ),
    Measure(
        "bound_ratio",
        "Bound ratio",
        "ratio",
        "Clipped scatter of the errors, each divided by its star's Cramér-Rao bound: the smallest scatter that the "
        "noise of the star's own spectrum leaves to any unbiased method. 1 is perfect; a method that knows what stars "
        "are like may be below. Known only where stars are simulated.",
    ),
)

COLUMNS = (
    Column("strategy", "Strategy", "text"),
    Column("input", "Input", "text"),
    Column("group", "Group", "text"),
    Column("size", "Learned from", "integer"),
    Column("label", "Label", "text"),
    Column("regime", "Regime", "text"),
    Column("n", "N", "integer"),
    Column("sigma", "σ", "label"),
    Column("sigma_low", "95 % of σ", "range"),
    Column("best", "Ahead", "mark"),
    Column("rank", "Rank", "integer"),
    Column("biweight", "Biweight", "label"),
    Column("median", "Median error", "label"),
    Column("median_low", "95 % of median", "range"),
    Column("r2", "R²", "ratio"),
    Column("outliers", "Outliers", "share"),
    Column("cover90", "Coverage", "share"),
    Column("bound_ratio", "Bound ratio", "ratio"),
    Column("seeds_mean", "σ of one seed", "label"),
    Column("seeds_scatter", "± over seeds", "label"),
    Column("trained", "Weights trained", "integer"),
    Column("seconds", "Seconds", "seconds"),
)
WITHIN = ("sigma_high", "median_high", "best_of_row", "tied")  # shown in the column of another

TERMS = (
    (
        "95 % interval",
        f"Where the measure falls in {LEVEL:.0%} of bootstrap samples, in which stars and seeds are drawn with "
        "replacement. Two methods whose intervals overlap may still differ significantly, since both were tested on "
        "the same stars.",
    ),
    (
        "Significant: ★, ★★, ≈",
        "Methods are compared on the same bootstrap samples of stars. One is significantly better than another if "
        f"its σ is smaller in at least {1 - (1 - LEVEL) / 2:.1%} of them. ★: better than every other strategy of the "
        "same input, size, label and regime. ★★: better than every other head, whatever its input. ≈: no head is "
        "better. Pipelines and baselines have no marks. A number that is smaller, and no more, proves nothing.",
    ),
    (
        "N",
        "Distinct tested stars of the regime with a value and a reference of this label. Fewer than "
        f"{LEAST} have no numbers.",
    ),
    ("Learned from", "Labelled stars of the target survey that a method was given. 0: none."),
    ("Regime", "Part of the tested stars, told apart by their reference labels."),
    (
        "Group",
        "pipeline: the survey's own catalogue. baseline: a classical method. head: a network of this package.",
    ),
    ("Input", "What a head reads: spectra (pixels), embedding (a model's vector for the spectrum) or fused (both)."),
    ("Rank", "1 is the smallest σ among the heads of one size, label and regime, significant or not."),
    ("σ of one seed", "Mean and scatter of σ over single networks; the σ beside it is that of their mean."),
)


def label_name(label: str) -> str:
    """A label as the figures write it, without markup: Teff."""
    return _bare(look.name(label))


def condition(text: str) -> str:
    """A regime's condition as the figures write it, without markup: [Fe/H] ≤ −1."""
    return _bare(look.condition(text))


def listed(scores: dict[str, Any]) -> list[dict[str, str]]:
    """The columns to show of these scores: those that are known, then any others by their own names."""
    known = {column.name for column in COLUMNS}.union(WITHIN)
    others = [Column(name, name, "other") for name in scores if name not in known]
    return [asdict(column) for column in COLUMNS if column.name in scores] + [asdict(column) for column in others]


def _bare(text: str) -> str:
    return re.sub(r"</?su[bp]>", "", text)
