"""Tables with one spectrum a row: FITS (plain or gzip), ECSV or Parquet.

Columns, in any case, the first that is there:
  id      id, obsid, targetid, source_id, specobjid, starid: integers of 64 bits
  flux    flux: arrays of the same length in every row
  ivar    ivar, inverse_variance, invvar; or error, err, sigma, flux_error, flux_err (then 1 / error**2);
          without either, ivar is estimated from the flux and the row is flagged
  mask    mask, andmask, and_mask: not 0 masks the pixel
  ra, dec deg, ICRS
  rv      rv, vrad, radial_velocity in km/s; or z, redshift (then c * z)
          rvs_warn, zwarn, zwarning: not 0 flags the row and leaves its velocity out
  wavelength, loglam (log10)   the same in every row, in Angstrom
Wavelengths may also stand in an HDU WAVELENGTH (log10 if below 10) or, in ECSV and Parquet, in the metadata
under `wavelength` (JSON list in Parquet). RESPOWER in the header or metadata is the resolving power.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.spectrum import Arm, SpectrumBatch, as_id
from stores.surveys import ALL_ROWS, FITS_FILES, ReadOptions, check_ids, survey
from stores.surveys.air import air_to_vacuum
from stores.surveys.columns import Source, open_table
from stores.surveys.fits1d import ivar_of
from stores.surveys.noise import estimate_ivar
from stores.surveys.width import from_resolving_power
from stores.velocities import WARNINGS

Float = NDArray[np.float64]

ID = ("id", "obsid", "targetid", "source_id", "specobjid", "starid")
FLUX = ("flux",)
IVAR = ("ivar", "inverse_variance", "invvar")
ERROR = ("error", "err", "sigma", "flux_error", "flux_err")
MASK = ("mask", "andmask", "and_mask")
RV = ("rv", "vrad", "radial_velocity")
REDSHIFT = ("z", "redshift")


def ids(path: Path) -> NDArray[np.int64]:
    """The id column alone."""
    with open_table(path) as source:
        return check_ids(path, as_id(source.column(ID)))


@survey("table", ids=ids, files=(*FITS_FILES, "*.ecsv", "*.parquet"))
def read(path: Path, options: ReadOptions, rows: slice = ALL_ROWS) -> SpectrumBatch:
    """A FITS, ECSV or Parquet table of one spectrum a row, with array columns flux and ivar (or error).

    Wavelengths are taken as vacuum unless `--medium air`. `stores.surveys.table` lists the columns' names.
    """
    with open_table(path) as source:
        return spectra_of(source, options, rows)


def spectra_of(source: Source, options: ReadOptions, rows: slice = ALL_ROWS) -> SpectrumBatch:
    """The same of a table that is open, or held in memory."""
    row_ids = as_id(source.column(ID, rows))
    flux = source.numbers(FLUX, rows, 2)
    if source.name(IVAR):
        ivar = source.numbers(IVAR, rows, 2)
    elif source.name(ERROR):
        error = source.numbers(ERROR, rows, 2)
        ivar = ivar_of(error**2 * np.sign(error))
    else:
        ivar = estimate_ivar(flux)
    if source.name(MASK):
        mask = source.numbers(MASK, rows, 2)
        if mask.shape != ivar.shape:
            raise InputError(f"column {source.name(MASK)} does not fit the spectra.")
        ivar[mask != 0] = 0.0
    wavelength = _wavelength(source, rows)
    if options.medium == "air":
        wavelength = air_to_vacuum(wavelength)
    power = _resolving_power(source.meta)
    sigma = from_resolving_power(wavelength, power) if power > 0 else None
    nan = np.full(len(row_ids), np.nan)
    ra = source.numbers(("ra",), rows, 1) if source.name(("ra",)) else nan
    dec = source.numbers(("dec",), rows, 1) if source.name(("dec",)) else nan
    rv = np.zeros(len(row_ids)) if options.at_rest else _velocity(source, rows, nan)
    warned = _warned(source, rows, len(row_ids))
    if not options.at_rest:
        rv[warned] = np.nan
    batch = SpectrumBatch([Arm(wavelength, flux, ivar, sigma)], row_ids, ra, dec, rv)
    batch.flag(warned, Flag.SURVEY_WARNING)
    if not (source.name(IVAR) or source.name(ERROR)):
        batch.flags |= np.uint32(Flag.NO_ERRORS)
    return batch


def _velocity(source: Source, rows: slice, missing: Float) -> Float:
    if source.name(RV):
        return source.numbers(RV, rows, 1)
    if source.name(REDSHIFT):
        z = source.numbers(REDSHIFT, rows, 1)
        return np.where(z > -1.0, SPEED_OF_LIGHT * z, np.nan)
    return missing


def _warned(source: Source, rows: slice, n: int) -> NDArray[np.bool_]:
    """(n,) True where the pipeline that measured a velocity warns of it."""
    if source.name(WARNINGS) is None:
        return np.zeros(n, dtype=bool)
    warned: NDArray[np.bool_] = np.nan_to_num(source.numbers(WARNINGS, rows, 1)) != 0
    return warned


def _wavelength(source: Source, rows: slice) -> Float:
    """Wavelengths (n_pix,) in Angstrom, in the medium of the file."""
    for name in ("wavelength", "loglam"):
        if source.name((name,)):
            values = source.numbers((name,), rows, 2)
            differ = np.flatnonzero(np.any(values != values[:1], axis=1))
            if len(differ):
                row = (rows.start or 0) + int(differ[0])
                raise InputError(f"column {name} of row {row} differs; give one table for each set of wavelengths.")
            if len(values) == 0:
                values = source.numbers((name,), slice(0, 1), 2)
            return 10.0 ** values[0] if name == "loglam" else values[0]
    if source.wavelength is None:
        raise InputError("the table has no wavelengths: neither a column nor an HDU or metadata WAVELENGTH.")
    wavelength = source.wavelength
    return 10.0**wavelength if wavelength.size and wavelength.max() < 10.0 else wavelength


def _resolving_power(meta: Mapping[str, Any]) -> float:
    try:
        return float(meta.get("RESPOWER", meta.get("respower", np.nan)))
    except (TypeError, ValueError):
        raise InputError("RESPOWER in the header or metadata is not a number.") from None
