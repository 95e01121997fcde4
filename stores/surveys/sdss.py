"""SDSS and BOSS spectra, one a file: spec-PLATE-MJD-FIBER.fits.

Format: https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/PLATE4/spec.html
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.spectrum import Arm, SpectrumBatch, as_id
from stores.surveys import ALL_ROWS, ReadOptions, survey
from stores.surveys.fits import FitsFile, integer, naming, number, open_fits, primary_header
from stores.surveys.width import mend

PIXEL = 1e-4 * float(np.log(10.0))  # width of a pixel over its wavelength, the unit of wdisp


def ids(path: Path) -> NDArray[np.int64]:
    """The id, from the primary header or the file's name."""
    with naming(path):
        return as_id([spectrum_id(path, primary_header(path))])


@survey("sdss", ids=ids, medium="vacuum", velocities=True)
def read(path: Path, options: ReadOptions, rows: slice = ALL_ROWS) -> SpectrumBatch:
    """SDSS and BOSS spec-PLATE-MJD-FIBER.fits, plain or gzip.

    id is PLATE * 10**9 + MJD * 10**4 + FIBERID (SDSS's own SPECOBJID outgrows int64 for recent plates); flux
    in 1e-17 erg/s/cm2/A; rv is c * Z of the second table.
    """
    with open_fits(path) as file:
        coadd = file.hdu("COADD")
        flux, ivar, loglam, mask = (file.column(coadd, name) for name in ("flux", "ivar", "loglam", "and_mask"))
        if flux.ndim != 1:
            raise InputError("HDU COADD is not a table of one pixel a row; check the survey.")
        wavelength = 10.0 ** loglam.astype(np.float64)
        # and_mask marks flaws in all exposures, mostly residuals of bright sky lines: 1 to 6 % of the pixels,
        # which keep a positive ivar in the file
        ivar = np.where(mask != 0, 0.0, ivar)
        sigma = None
        if file.has_column(coadd, "wdisp"):
            mended = mend((file.column(coadd, "wdisp") * PIXEL * wavelength)[None])
            sigma = None if mended is None else mended[0]
        ra, dec = _position(file)
        batch = SpectrumBatch(
            [Arm(wavelength, flux, ivar, sigma)],
            as_id([spectrum_id(path, file.header)]),
            np.array([ra]),
            np.array([dec]),
            np.array([np.nan]),
        )
        _classify(file, batch)
    return batch.take(rows)


def spectrum_id(path: Path, header: Any) -> int:
    """PLATE * 10**9 + MJD * 10**4 + FIBERID, from the header, else from the file's name."""
    parts = [integer(header, *keys) for keys in (("PLATEID", "PLATE"), ("MJD",), ("FIBERID", "FIBER"))]
    if None in parts:
        named = re.search(r"(\d+)-(\d+)-(\d+)\.fits?(\.gz)?$", path.name)
        if named is None:
            raise InputError(
                "neither the header nor the file's name (spec-PLATE-MJD-FIBER.fits) gives an id; check the survey."
            )
        parts = [int(part) for part in named.groups()[:3]]
    plate, mjd, fibre = (int(part or 0) for part in parts)
    if not (0 <= plate < 10**9 and 0 <= mjd < 10**5 and 0 <= fibre < 10**4):
        raise InputError(f"plate {plate}, MJD {mjd}, fibre {fibre} are out of range, so no id can be made of them.")
    return plate * 10**9 + mjd * 10**4 + fibre


def _catalogue(file: FitsFile) -> Any:
    """The table of one row that describes the object: SPALL or SPECOBJ, else the third HDU."""
    table = file.find("SPALL", "SPECOBJ")
    if table is None and len(file.hdus) > 2 and hasattr(file.hdus[2], "columns"):
        return file.hdus[2]
    return file.hdu("SPALL", "SPECOBJ") if table is None else table


def _position(file: FitsFile) -> tuple[float, float]:
    table = _catalogue(file)
    for ra, dec in (("PLUG_RA", "PLUG_DEC"), ("RA", "DEC")):
        if file.has_column(table, ra) and file.has_column(table, dec):
            return float(_value(file, table, ra)), float(_value(file, table, dec))
    # the header's RA and DEC are where the telescope pointed, a degree or more from the object
    return number(file.header, "PLUG_RA"), number(file.header, "PLUG_DEC")


def _value(file: FitsFile, table: Any, name: str) -> Any:
    column = file.column(table, name)
    if len(column) != 1:
        raise InputError(f"HDU {table.name} has {len(column)} rows, not the one of the object.")
    return column[0]


def _classify(file: FitsFile, batch: SpectrumBatch) -> None:
    """Velocity and warnings of the one object of `batch`."""
    table = _catalogue(file)
    z = float(_value(file, table, "Z"))
    batch.set_rv(np.array([SPEED_OF_LIGHT * z if z > -1.0 else np.nan]))
    if file.has_column(table, "ZWARNING") and _value(file, table, "ZWARNING") != 0:
        batch.flags |= np.uint32(Flag.SURVEY_WARNING)
    if file.has_column(table, "CLASS") and str(_value(file, table, "CLASS")).upper() not in ("STAR", ""):
        batch.flags |= np.uint32(Flag.NOT_A_STAR)
