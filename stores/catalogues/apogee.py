"""APOGEE's allStar files: DR17, and the older ones without Gaia ids.

[alpha/Fe] of DR17 is ALPHA_M + M_H - FE_H: by what the brackets mean, that is [alpha/H] - [Fe/H], so it belongs to
the [Fe/H] beside it. In files up to DR12 the calibrations of PARAM_M_H and FE_H differ (by 0.06 +- 0.06 dex in v603),
so PARAM_ALPHA_M is taken as it is: in ASPCAP's grids [M/H] is what iron scales with (Garcia Perez et al. 2016).

Bits: Holtzman et al. (2015) and https://www.sdss4.org/dr17/irspec/apogee-bitmasks. Positions are 2MASS's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stores.catalogue import Catalogue
from stores.catalogues import CatalogueOptions, Sieve, catalogue
from stores.catalogues.columns import load_columns

STAR_BAD, DUPLICATE = 1 << 23, 1 << 4
BAD_BITS = 0b101_1111  # of FE_H_FLAG: 0-4 and 6 say bad, 5 tells which error was taken, 8 and above warn
SNR = 50.0
EPOCH = 2000.0  # 2MASS was observed from 1997 to 2001
CUTS = {
    "star_bad": "ASPCAPFLAG bit 23 STAR_BAD is clear",
    "duplicate": "EXTRATARG bit 4 is clear: the star's main entry",
    "snr": f"SNR above {SNR:g}",
    "feh_flag": "FE_H_FLAG bits 0-4 and 6 are clear, or feh and alphafe are taken as unknown",
}
COLUMNS = (
    *("GAIAEDR3_SOURCE_ID", "GAIAEDR3_PMRA", "GAIAEDR3_PMDEC", "RA", "DEC", "PMRA", "PMDEC"),
    *("TEFF", "LOGG", "FE_H", "M_H", "ALPHA_M", "PARAM_ALPHA_M"),
    *("TEFF_ERR", "LOGG_ERR", "FE_H_ERR", "ALPHA_M_ERR", "PARAM_ALPHA_M_ERR"),
    *("ASPCAPFLAG", "EXTRATARG", "SNR", "FE_H_FLAG"),
)


@catalogue("apogee", cuts=CUTS)
def read(path: Path, options: CatalogueOptions) -> Catalogue:
    """APOGEE allStar files, DR17 or older: teff, logg, feh, alphafe."""
    table = load_columns(path, COLUMNS)
    for name in ("ASPCAPFLAG", "SNR", "FE_H"):
        table.need(name)
    sieve = Sieve(CUTS, table.n, options)
    sieve.drop("star_bad", table.bits("ASPCAPFLAG") & STAR_BAD != 0)
    sieve.drop("duplicate", table.bits("EXTRATARG") & DUPLICATE != 0)
    sieve.drop("snr", ~(table.numbers("SNR") > SNR))
    values = {label: _known(table.numbers(name)) for label, name in (("teff", "TEFF"), ("logg", "LOGG"))}
    feh = _known(table.numbers("FE_H"))
    if table.find("ALPHA_M") is not None:
        alphafe = _known(table.numbers("ALPHA_M")) + _known(table.numbers("M_H")) - feh
    else:
        alphafe = _known(table.numbers("PARAM_ALPHA_M")) + 0 * feh  # without [Fe/H] beside it, of no use
    sieve.withhold("feh_flag", table.bits("FE_H_FLAG") & BAD_BITS != 0, feh, alphafe)
    sigmas = {
        "teff": table.numbers("TEFF_ERR"),
        "logg": table.numbers("LOGG_ERR"),
        "feh": table.numbers("FE_H_ERR"),
        "alphafe": table.numbers("ALPHA_M_ERR", "PARAM_ALPHA_M_ERR"),
    }
    return sieve.catalogue(
        "apogee",
        {**values, "feh": feh, "alphafe": alphafe},
        sigmas,
        gaia=table.ids("GAIAEDR3_SOURCE_ID"),
        ra=table.numbers("RA"),
        dec=table.numbers("DEC"),
        pmra=_known(table.numbers("GAIAEDR3_PMRA", "PMRA")),
        pmdec=_known(table.numbers("GAIAEDR3_PMDEC", "PMDEC")),
        epoch=np.full(table.n, EPOCH),
    )


def _known(values: np.ndarray) -> np.ndarray:
    """NaN for -9999, so that no sum of such numbers looks like one."""
    return np.where(values > -9000, values, np.nan)
