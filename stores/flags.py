"""The quality bitmask of a row: one bit, one reason."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray


class Flag(IntFlag):
    """Bits of `flags` (uint32). Bits 0-15 are of spectra, 16-23 of heads, 24-31 are the user's own."""

    RV_MISSING = 1 << 0
    RV_ABSURD = 1 << 1
    NO_VALID_PIXELS = 1 << 2
    MOSTLY_MASKED = 1 << 3
    LOW_SNR = 1 << 4
    MISSING_ARM = 1 << 5
    BAD_VALUES = 1 << 6
    NO_ERRORS = 1 << 7
    BAD_CONTINUUM = 1 << 8
    DUPLICATE_ID = 1 << 9
    SURVEY_WARNING = 1 << 10
    NOT_A_STAR = 1 << 11
    NO_COORDINATES = 1 << 12
    RESOLUTION_UNMATCHED = 1 << 13
    UNREADABLE = 1 << 14
    OUT_OF_DISTRIBUTION = 1 << 16
    OUTSIDE_LABELS = 1 << 17


REASONS: dict[Flag, str] = {
    Flag.RV_MISSING: "no radial velocity: left in the observed frame (rv = 0)",
    Flag.RV_ABSURD: "radial velocity beyond 2000 km/s: left in the observed frame (rv = 0)",
    Flag.NO_VALID_PIXELS: "no usable pixel on the grid",
    Flag.MOSTLY_MASKED: "more than half of the grid is masked",
    Flag.LOW_SNR: "median signal-to-noise ratio per grid pixel below 5",
    Flag.MISSING_ARM: "an arm of the spectrograph has no usable pixel",
    Flag.BAD_VALUES: "NaN or infinite flux, or negative ivar, in pixels not masked: those pixels were masked",
    Flag.NO_ERRORS: "the file gives no errors: ivar was estimated from the flux",
    Flag.BAD_CONTINUUM: "the continuum was not positive somewhere: those pixels were masked",
    Flag.DUPLICATE_ID: "joins and searches use another row of the same id, the first that could be read",
    Flag.SURVEY_WARNING: "the survey's own pipeline warns about this spectrum or its redshift",
    Flag.NOT_A_STAR: "the survey's own pipeline says that this is not a star",
    Flag.NO_COORDINATES: "no sky position in the file (ra, dec = NaN)",
    Flag.RESOLUTION_UNMATCHED: "the asked resolving power is above the spectrum's, or its own is unknown",
    Flag.UNREADABLE: "the file failed while it was read: every pixel is masked",
    Flag.OUT_OF_DISTRIBUTION: "unlike the spectra that the head learned from: do not trust its parameters",
    Flag.OUTSIDE_LABELS: "a parameter, or the temperature, lies beyond those of the stars that the head learned from",
}
USER_BITS = range(24, 32)


def flag_table() -> list[dict[str, int | str]]:
    """The bits as a table, to be written beside every `flags` column."""
    return [{"bit": flag.bit_length() - 1, "name": str(flag.name), "reason": REASONS[flag]} for flag in Flag]


def count_flags(flags: NDArray[np.uint32]) -> dict[str, int]:
    """How many rows carry each flag; flags that no row carries are left out."""
    counts = {str(flag.name): int(np.count_nonzero(flags & np.uint32(flag))) for flag in Flag}
    return {name: count for name, count in counts.items() if count}
