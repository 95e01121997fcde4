"""Ranges of labels: which stars to learn from, and whether their labels lie where a base head learned.

A head that is taken to stars unlike all that it knows is bent for their sake, and gets worse for those it did know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stores.catalogue import UNITS
from stores.command import say
from stores.errors import OptionError

if TYPE_CHECKING:
    from heads.head import Head
    from heads.sample import Sample

Ranges = Mapping[str, tuple[float, float]]

# labels beyond a base are warned of if they are more than this share of all, or lie farther beyond than this share of
# its range
FEW, FAR = 0.05, 0.1


def parse_ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Label -> lowest and highest, from LABEL=LOW:HIGH. Raises OptionError."""
    ranges: dict[str, tuple[float, float]] = {}
    for text in texts:
        label, _, span = text.partition("=")
        low, _, high = span.partition(":")
        try:
            ends = (float(low), float(high))
        except ValueError:
            ends = (np.nan, np.nan)
        if not label or not ends[0] < ends[1]:
            raise OptionError(f"--ranges {text} is not LABEL=LOW:HIGH with LOW below HIGH, such as logg=0:5.")
        if label == "teff":
            raise OptionError(
                f"--ranges {text}: name the range of teff with --teff-range, which also teaches the head to flag "
                "stars outside."
            )
        if label in ranges:
            raise OptionError(f"--ranges names '{label}' twice.")
        ranges[label] = ends
    return ranges


def tell_outside(base: Head, name: str, sample: Sample) -> dict[str, int]:
    """How many labels are beyond those that a base head learned from, by label; warns where they are many, or far.

    name: of the base
    """
    outside = base.outside(sample.y)
    found = {}
    for target, beyond, y, (low, high) in zip(base.targets, outside.T, sample.y.T, base.label_range, strict=True):
        count, known = int(beyond.sum()), y[np.isfinite(y)]
        if not count:
            continue
        found[target] = count
        farthest = max(low - known.min(), known.max() - high)
        if count <= FEW * len(known) and farthest <= FAR * (high - low):
            continue
        ends = [f"{end:.0f}" if target == "teff" else f"{end:.2f}" for end in (low, high, known.min(), known.max())]
        option = f"--teff-range {ends[0]} {ends[1]}" if target == "teff" else f"--ranges {target}={ends[0]}:{ends[1]}"
        unit = f" {UNITS[target]}" if target in UNITS else ""
        say(
            f"warning: {count} of {len(known)} labels {target} ({ends[2]} to {ends[3]}{unit}) are outside {ends[0]} "
            f"to {ends[1]}{unit}, where '{name}' learned; if they are not wanted, {option} leaves them out."
        )
    return found
