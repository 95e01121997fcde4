"""What tests of catalogues share: stars, and whether the real files are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from files import DATA

from stores.simulate.population import Stars

ALLSTAR = DATA / "catalogues/APOGEE-allStar-v603-Hipparcos.fits.gz"
JINABASE = DATA / "catalogues/JINAbase_2021.csv"
LABELS = ("teff", "logg", "feh", "alphafe")
real = pytest.mark.skipif(not DATA.exists(), reason="the shared real data are not on this machine")


def poor(stars: Stars) -> Stars:
    return stars.take(stars.labels[:, 2] < -1.5)


def bright(stars: Stars) -> Stars:
    return stars.take(stars.gmag < 16)


def sigma(values: np.ndarray) -> float:
    return float(np.diff(np.nanpercentile(values, [15.865, 84.135]))[0] / 2)


def write_allstar(path: Path, **columns: Any) -> Path:
    n = 4
    held: dict[str, tuple[str, Any]] = {
        "RA": ("D", np.arange(n) * 10.0),
        "DEC": ("D", np.arange(n) * 10.0),
        "SNR": ("E", np.full(n, 100.0)),
        "ASPCAPFLAG": ("J", np.zeros(n)),
        "EXTRATARG": ("J", np.zeros(n)),
        "FE_H_FLAG": ("J", np.zeros(n)),
        "TEFF": ("E", np.full(n, 5000.0)),
        "FE_H": ("E", np.full(n, -0.5)),
        **columns,
    }
    table = [fits.Column(name, code, array=np.asarray(array)) for name, (code, array) in held.items()]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(table)]).writeto(path)
    return path
