"""Labels of one store from several catalogues: which of them speaks for a star, and who gives which label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stores.catalogue import UNITS
from stores.errors import InputError, OptionError
from stores.labels import NONE, Labels
from stores.match import Match, Spectra
from stores.spectrum import Float
from stores.stars import same_stars

FIRST = ("teff", "logg", "feh", "alphafe")  # in this order, then others by name


@dataclass(frozen=True)
class Sample:
    """Which catalogues may speak for which stars, by the [Fe/H] that they themselves give.

    rich: names of catalogues that speak for [Fe/H] >= feh only, while all others speak for [Fe/H] < feh only; rows
    without [Fe/H] are in neither. None: every catalogue speaks for every star.
    """

    name: str
    rich: tuple[str, ...] | None = None
    feh: float = -2.0

    def cuts(self, match: Match) -> tuple[str, Any]:
        """What a catalogue's rows must have, and where (n,) they have not."""
        n = len(match.id)
        if self.rich is None:
            return "", np.zeros(n, dtype=bool)
        feh = match.values.get("feh", np.full(n, np.nan))
        if match.name in self.rich:
            return f"[Fe/H] of at least {self.feh:g}, for the sample {self.name}", ~(feh >= self.feh)
        return f"[Fe/H] below {self.feh:g}, for the sample {self.name}", ~(feh < self.feh)


PLAIN = Sample("plain")
# APOGEE's grids end near -2.5, and metal-poor stars pile up above that: others supplement it from -2 down
APOGEE_METAL_POOR = Sample("apogee-metal-poor", rich=("apogee",), feh=-2.0)
SAMPLES = {sample.name: sample for sample in (PLAIN, APOGEE_METAL_POOR)}


def combine(matches: Sequence[Match], spectra: Spectra, sample: Sample = PLAIN) -> Labels:
    """Labels of the spectra that any catalogue knows, from catalogues in order of priority.

    Each label is taken from the first catalogue that has it; `Labels.source` says which. Spectra are of one star if
    one catalogue says so, or their Gaia ids are the same, or they lie within 3 arcsec.
    Raises InputError for matches that are not of these spectra or know nothing of them, OptionError for a sample
    without its main catalogue.
    """
    if not matches:
        raise OptionError("no catalogue was given; name at least one.")
    if any(not np.array_equal(match.id, spectra.id) for match in matches):
        raise InputError("a match is of other spectra; match every catalogue with the same ones.")
    names = [match.name for match in matches]
    if len(set(names)) < len(names):
        raise OptionError(f"two catalogues are called '{max(names, key=names.count)}'; give one another name.")
    if sample.rich is not None and not set(sample.rich) & set(names):
        raise OptionError(f"the sample {sample.name} needs the catalogue {' or '.join(sample.rich)}; add it.")
    known = {label for match in matches for label in match.values}
    labels = [label for label in FIRST if label in known] + sorted(known - set(FIRST))
    n = len(spectra)
    values: dict[str, Float] = {label: np.full(n, np.nan) for label in labels}
    sigmas: dict[str, Float] = {label: np.full(n, np.nan) for label in labels}
    source = {label: np.full(n, NONE, dtype=np.int64) for label in labels}
    notes: list[dict[str, Any]] = []
    for number, match in enumerate(matches):
        sentence, unfit = sample.cuts(match)
        has_any = np.zeros(n, dtype=bool)
        for label, value in match.values.items():
            taken = (source[label] == NONE) & np.isfinite(value) & ~unfit
            values[label][taken], sigmas[label][taken] = value[taken], match.sigmas[label][taken]
            source[label][taken] = number
            has_any |= np.isfinite(value)
        told: dict[str, Any] = {
            "catalogue": match.name,
            "cuts": [list(cut) for cut in match.cuts],
            "spectra": match.counts,
            "of_several_rows": match.several,
        }
        if sentence:
            told["sample"] = [sentence, int(np.count_nonzero(has_any & unfit))]
        notes.append(told)
    labels = [label for label in labels if (source[label] >= 0).any()]
    keep = np.any([origin >= 0 for origin in source.values()], axis=0)
    if not keep.any():
        raise InputError(
            f"no spectrum of the store has a label from {', '.join(names)}; check that catalogue and survey overlap, "
            "the radius, or give a bridge to Gaia ids."
        )
    star = same_stars(spectra.ra, spectra.dec, [spectra.gaia, *(match.star + 1 for match in matches)])
    order = np.flatnonzero(keep)[np.argsort(spectra.id[keep])]
    # numbered from 0 on in the order of ids
    first, inverse = np.unique(star[order], return_index=True, return_inverse=True)[1:]
    return Labels(
        id=spectra.id[order],
        star=np.argsort(np.argsort(first))[inverse],
        values={label: values[label][order] for label in labels},
        sigmas={label: sigmas[label][order] for label in labels},
        source={label: source[label][order] for label in labels},
        sources=tuple(names),
        notes={
            "catalogues": notes,
            "sample": {"name": sample.name, "rich": sample.rich, "feh": sample.feh},
            "epoch": spectra.epoch,
            "units": {label: UNITS.get(label, "") for label in labels},
        },
    )
