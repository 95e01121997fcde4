"""Measures: what a column of the results is called, how it is shown, and what it means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

LABELS = {"teff": "Teff", "logg": "log g", "feh": "[Fe/H]", "alphafe": "[α/Fe]"}


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
        "Standard deviation of the errors (value − reference) without those that lie more than 3 standard deviations "
        "from their mean; such errors are cut again and again until none is left. An offset that all stars share does "
        "not count here.",
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
        "Share of the stars whose errors lie beyond 3 σ, and which σ therefore does not see.",
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
        "Scatter of the errors over the Cramér-Rao bound, the smallest scatter that the noise of these very spectra "
        "leaves to any unbiased method. 1 is perfect. Known only where stars are simulated.",
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
    Column("best", "Better", "mark"),
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
WITHIN = ("sigma_high", "median_high", "best_of_row")  # shown in the column of another

TERMS = (
    (
        "95 % interval",
        "Where the measure falls in 95 of 100 bootstrap samples, in which stars and seeds are drawn again. Two "
        "methods whose intervals overlap may still differ significantly, since both were tested on the same stars.",
    ),
    (
        "Significant, ★ and ★★",
        "★: σ is smaller than that of every other strategy of the same input, size, label and regime. ★★: smaller "
        "than that of every other head, whatever its input. Both at 95 per cent of a bootstrap over stars and seeds. "
        "No mark means that no one is ahead by more than chance; a smaller number alone is no proof.",
    ),
    ("N", "Distinct tested stars with a reference of this label, inside the regime."),
    ("Learned from", "Labelled stars of the target survey that a method was given. 0: none."),
    ("Regime", "Part of the tested stars, told apart by their reference labels."),
    (
        "Group",
        "pipeline: the survey's own catalogue. baseline: a plain method, trained for this comparison. head: a network "
        "of this package.",
    ),
    ("Input", "What a head reads: spectra (pixels), embedding (a model's vector for the spectrum) or fused (both)."),
    ("Rank", "1 is the smallest σ among the heads of one size, label and regime, significant or not."),
    ("σ of one seed", "Mean and scatter of σ over single networks; the σ beside it is that of their mean."),
)


def label_name(label: str) -> str:
    """A label as people write it."""
    return LABELS.get(label, label)


def listed(scores: dict[str, Any]) -> list[dict[str, str]]:
    """The columns to show of these scores: those that are known, then any others by their own names."""
    known = {column.name for column in COLUMNS}.union(WITHIN)
    others = [Column(name, name, "other") for name in scores if name not in known]
    return [asdict(column) for column in COLUMNS if column.name in scores] + [asdict(column) for column in others]
