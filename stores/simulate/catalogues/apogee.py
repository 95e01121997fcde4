"""APOGEE's allStar file as of DR17, a subset of its columns.

HDU 1 is the table, a row an entry: stars that were observed in two fields have two, of which the one with the lower
S/N carries EXTRATARG bit 4. What ASPCAP could not measure is NaN, with bits of ASPCAPFLAG (19 M_H_BAD, 23 STAR_BAD,
24 CHI2_BAD, 27 SN_BAD, 7 and 11 the warnings) and of FE_H_FLAG (0 GRIDEDGE_BAD). Bits as in Holtzman et al. (2015)
and in the real allStar files; RA and DEC are of epoch 2000, as 2MASS gives them.

DR17 reaches [Fe/H] of about -2.5 (grid edge); here nothing is given below -2.0, where the study's samples end too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.simulate.catalogues.origin import origin
from stores.simulate.layouts import NO_CARDS, Cards
from stores.simulate.population import Stars
from stores.spectrum import Float

LOWEST_FEH = -2.0
REPEATED, BAD = 0.05, 0.03  # share of stars with a second entry; of entries that are bad whatever their S/N
VALUES = ("TEFF", "LOGG", "FE_H", "ALPHA_M", "MG_FE")
ERRORS = np.array([20.0, 0.03, 0.012, 0.010, 0.015])  # at S/N 100 and [Fe/H] >= -0.5; K, then dex
FLOORS = np.array([50.0, 0.05, 0.030, 0.020, 0.030])  # of a star, whatever the S/N; not in the given errors
SNR_AT_12, SNR_SCATTER = 250.0, 0.3  # at G = 12; ln
STAR_WARN, SN_WARN, M_H_BAD, STAR_BAD, CHI2_BAD, SN_BAD = (1 << bit for bit in (7, 11, 19, 23, 24, 27))
GRIDEDGE_BAD, BRIGHT_NEIGHBOR, DUPLICATE = 1 << 0, 1 << 2, 1 << 4


def write_apogee(path: Path, stars: Stars, seed: int, *, cards: Cards = NO_CARDS) -> None:
    """Write allStar entries of all these stars."""
    from astropy.io import fits

    random = np.random.default_rng([seed, 101])
    n = len(stars)
    again = np.flatnonzero(random.random(n) < REPEATED)
    entry = np.concatenate([np.arange(n), again])  # the star of every row
    m = len(entry)
    snr = SNR_AT_12 * 10 ** (-0.2 * (stars.gmag[entry] - 12)) * np.exp(SNR_SCATTER * random.normal(size=m))
    extra = np.zeros(m, dtype=np.int32)
    extra[np.where(snr[n:] < snr[again], np.arange(n, m), again)] = DUPLICATE

    feh = stars.labels[entry, 2]
    truth = stars.labels[:, (0, 1, 2, 3, 3)] + FLOORS * random.normal(size=(n, len(VALUES)))
    errors = ERRORS * (100 / snr * 10 ** (0.3 * np.maximum(-0.5 - feh, 0)))[:, None]
    bad = random.random(m) < BAD
    values = truth[entry] + errors * np.where(bad, 10, 1)[:, None] * random.normal(size=(m, len(VALUES)))
    low = values[:, 2] < LOWEST_FEH
    values[low] = errors[low] = np.nan
    aspcap = np.where(bad, STAR_BAD | CHI2_BAD, 0) | np.where(low, STAR_BAD | M_H_BAD, 0)
    aspcap |= np.where(snr < 30, STAR_BAD | SN_BAD, 0) | np.where(snr < 70, STAR_WARN | SN_WARN, 0)
    neighbour = random.random(m) < 0.02

    ra, dec = stars.at(2000.0)
    columns = [
        fits.Column("APOGEE_ID", "18A", array=designations(ra, dec)[entry]),
        fits.Column("GAIAEDR3_SOURCE_ID", "K", array=stars.id[entry]),
        fits.Column("RA", "D", unit="deg", array=ra[entry]),
        fits.Column("DEC", "D", unit="deg", array=dec[entry]),
        fits.Column("SNR", "E", array=snr),
        fits.Column("VHELIO_AVG", "E", unit="km/s", array=stars.rv[entry] + 0.1 * random.normal(size=m)),
        fits.Column("STARFLAG", "K", array=np.where(neighbour, BRIGHT_NEIGHBOR, 0)),
        fits.Column("EXTRATARG", "J", array=extra),
        fits.Column("ASPCAPFLAG", "K", array=aspcap),
        *_pairs(values, errors),
        fits.Column("M_H", "E", unit="dex", array=values[:, 2]),
        fits.Column("FE_H_FLAG", "J", array=np.where(low, GRIDEDGE_BAD, 0)),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    primary = fits.PrimaryHDU()
    primary.header.update(origin("APOGEE allStar DR17", seed, cards))
    with replacing(path) as temporary:
        fits.HDUList([primary, table]).writeto(temporary, overwrite=True)


def _pairs(values: Float, errors: Float) -> Iterator[Any]:
    """A column of values and one of errors for each of VALUES."""
    from astropy.io import fits

    for i, name in enumerate(VALUES):
        unit = "K" if name == "TEFF" else "dex"
        yield fits.Column(name, "E", unit=unit, array=values[:, i])
        yield fits.Column(f"{name}_ERR", "E", unit=unit, array=errors[:, i])


def designations(ra: Float, dec: Float) -> NDArray[np.str_]:
    """Names of the 2MASS kind, 2MHHMMSSss+DDMMSSs, of positions (n,) in deg."""
    hundredths = (ra * 240 * 100).astype(np.int64)  # of a second of time, cut and not rounded
    tenths = (np.abs(dec) * 3600 * 10).astype(np.int64)
    names = [
        f"2M{h // 360000:02d}{h // 6000 % 60:02d}{h % 6000:04d}{'-' if sign else '+'}"
        f"{d // 36000:02d}{d // 600 % 60:02d}{d % 600:03d}"
        for h, d, sign in zip(hundredths.tolist(), tenths.tolist(), dec < 0, strict=True)
    ]
    return np.array(names, dtype="U18")
