"""What the errors of unlike methods have in common: how good the reference labels themselves can be, at the least.

    python -m benchmarks.limits bench-real --one fused:anchored --other payne

A head that learned from one survey's labels, and a fit of synthetic spectra that learned from none, err for reasons of
their own; the errors of the reference labels, and what a star's spectrum does not tell of it, they share. So the
covariance of their errors over the same stars is the variance of what neither can mend ("three-cornered hat"; Gray &
Allan 1974, doi:10.1109/FREQ.1974.200027), as far as their own errors are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.measures import LEAST, clipped_scatter
from benchmarks.results import Results, Table
from stores.command import run_command
from stores.errors import InputError, OptionError

Float = NDArray[np.float64]
REPLICATES = 1000


@dataclass(kw_only=True)
class LimitsOptions:
    """Part the scatter of two methods into what they share and what is their own."""

    folder: tyro.conf.Positional[Path]
    """Results of heads-bench."""
    one: str = "fused:zero_shot"
    """A head as INPUT:STRATEGY, or a baseline or pipeline by name."""
    other: str = "payne"
    """The method to compare it with, as unlike as may be."""
    size: int | None = None
    """Target stars that both learned from; the largest that both have, without."""


def limits(options: LimitsOptions) -> int:
    """Print a line for each label and regime; returns the exit status."""
    from benchmarks.regime import Regime

    found = Results.load(options.folder)
    said = [_of(found.predictions, name) for name in (options.one, options.other)]
    sizes = set(said[0]["size"].tolist()) & set(said[1]["size"].tolist())
    size = max(sizes, default=None) if options.size is None else options.size
    if size not in sizes:
        raise OptionError(f"{options.one} and {options.other} have no size {size} in common; see --size.")
    one, other = (table.where(size=size) for table in said)
    print(f"{options.one} and {options.other}, {size} target stars; shared: 68 % of bootstrap draws")
    print(f"{'label':<9}{'regime':<18}{'n':>6}{'one':>9}{'other':>9}{'shared':>9}{'':>17}{'one alone':>12}")
    columns = {name: found.stars[name] for name in found.about["labels"]}
    for label in found.about["labels"]:
        for name, expression in found.about["regimes"].items():
            ids = found.stars["id"][Regime(name, expression).of(columns)]
            errors = _paired(one.where(label=label), other.where(label=label), ids)
            if errors.shape[1] < LEAST:
                continue
            scatter, common, low, high = shared(errors, 0)
            digits = 0 if label == "teff" else 3
            alone = np.sqrt(max(scatter[0] ** 2 - common**2, 0.0))
            numbers = "".join(f"{number:>9.{digits}f}" for number in (*scatter, common))
            interval = f"  ({low:.{digits}f}-{high:.{digits}f})"
            print(f"{label:<9}{name:<18}{errors.shape[1]:>6}{numbers}{interval:>17}{alone:>12.{digits}f}")
    return 0


def shared(errors: Float, seed: int) -> tuple[Float, float, float, float]:
    """Clipped scatter (2,) of errors (2, n), the root of their covariance (0 if it is negative), its 68 % range.

    The covariance is that of clipped scatters: of the sum and the difference, a quarter of the squares apart, so that
    outliers do not rule it.
    """
    stars = np.random.default_rng(seed).integers(0, errors.shape[1], (REPLICATES, errors.shape[1]))

    def root(one: Float, other: Float) -> Float:
        covariance = (clipped_scatter(one + other) ** 2 - clipped_scatter(one - other) ** 2) / 4
        return np.asarray(np.sqrt(np.maximum(covariance, 0.0)))

    low, high = np.quantile(root(errors[0][stars], errors[1][stars]), (0.16, 0.84))
    return clipped_scatter(errors), float(root(errors[0], errors[1])), float(low), float(high)


def _of(predictions: Table, name: str) -> Table:
    """The predictions of a method by its name."""
    head, colon, strategy = name.partition(":")
    found = predictions.where(input=head if colon else "", strategy=strategy if colon else name)
    if not len(found):
        raise InputError(f"there are no predictions of '{name}'; name a head as INPUT:STRATEGY, or a baseline.")
    return found


def _paired(one: Table, other: Table, ids: NDArray[np.int64]) -> Float:
    """Errors (2, n) of both methods, a column a star of `ids`: the mean over the draws in which it was tested."""
    means = []
    for table in (one, other):
        error = table["value"].astype(np.float64) - table["reference"]
        known = np.isfinite(error) & np.isin(table["id"], ids)
        star, place = np.unique(table["id"][known], return_inverse=True)
        means.append(dict(zip(star.tolist(), np.bincount(place, error[known]) / np.bincount(place), strict=True)))
    both = sorted(means[0].keys() & means[1].keys())
    return np.array([[mean[star] for star in both] for mean in means])


def main() -> None:
    """Entry point of python -m benchmarks.limits."""
    run_command(LimitsOptions, limits, "benchmarks.limits")


if __name__ == "__main__":
    main()
