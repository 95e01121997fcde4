"""LAMOST low-resolution spectra (R ~ 1800), one a file, in the three layouts of the releases.

Formats: https://www.lamost.org/dr10/v2.0/doc/lr-data-production-description and its older versions.
  DR8 v2 on    HDU COADD, a table of one row: FLUX, IVAR, WAVELENGTH, ANDMASK, ORMASK
  DR2 - DR8    primary image, rows flux, ivar, wavelength, andmask, ormask
  pilot, DR1   the same, but the third row is the continuum-subtracted spectrum
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.spectrum import Arm, SpectrumBatch, as_id
from stores.surveys import ALL_ROWS, ReadOptions, survey
from stores.surveys.fits import FitsFile, integer, naming, number, open_fits, primary_header, text
from stores.surveys.width import from_resolving_power

Float = NDArray[np.float64]

RESOLVING_POWER = 1800.0
FIBRE_MASKS = ("FIBERMAS", "FIB_MASK")  # "bitmask of warning values, 0 means all is well": DR5 - DR8; DR10


def ids(path: Path) -> NDArray[np.int64]:
    """The id, from the primary header alone."""
    with naming(path):
        return as_id([spectrum_id(primary_header(path))])


@survey("lamost", ids=ids, medium="vacuum", velocities=True)
def read(path: Path, options: ReadOptions, rows: slice = ALL_ROWS) -> SpectrumBatch:
    """LAMOST LRS spec-*.fits of all releases, plain or gzip.

    id is OBSID (see `spectrum_id`); flux in the file's relative unit; rv is the header's c * Z. Any bit of
    the fibre mask is flagged SURVEY_WARNING: in two of five files of DR10, mostly for bit 6 alone.
    """
    with open_fits(path) as file:
        header = file.header
        flux, ivar, wavelength, mask = _from_table(file) if file.find("COADD") else _from_image(file)
        # ORMASK (a flaw in any exposure) would drop good pixels; ANDMASK (in all of them) marks 0.1 % of the
        # pixels, up to 12 % of a spectrum, and they had ivar 0 in all files seen, so this only makes sure
        ivar = np.where(mask != 0, 0.0, ivar)
        arm = Arm(wavelength, flux, ivar, from_resolving_power(wavelength, RESOLVING_POWER))
        z = number(header, "Z")
        batch = SpectrumBatch(
            [arm],
            as_id([spectrum_id(header)]),
            np.array([number(header, "RA")]),
            np.array([number(header, "DEC")]),
            np.array([SPEED_OF_LIGHT * z if z > -1.0 else np.nan]),  # -9999 says that there is none
        )
        if text(header, "CLASS") not in ("STAR", ""):
            batch.flags |= np.uint32(Flag.NOT_A_STAR)
        if integer(header, *FIBRE_MASKS) not in (None, 0):
            batch.flags |= np.uint32(Flag.SURVEY_WARNING)
    return batch.take(rows)


def spectrum_id(header: Any) -> int:
    """OBSID; where it is missing (pilot survey), 0 or negative, one packed from the night, plan and fibre.

    A negative OBSID is what 16 bits kept of it (DR3 has -28762 for 28807078), so many spectra share it. The
    packed id is LMJD * 10**13 + plan * 10**5 + SPID * 10**3 + FIBERID, its last five digits as in an OBSID,
    where `plan` is blake2b(PLANID, 8 bytes, big-endian) modulo 10**8: the plans of a night share fibres.
    """
    obsid = integer(header, "OBSID")
    if obsid is not None and obsid > 0:
        return obsid
    night, spectrograph, fibre = (integer(header, key) for key in ("LMJD", "SPID", "FIBERID"))
    if night is None or spectrograph is None or fibre is None:
        raise InputError("the header has neither OBSID nor LMJD, SPID and FIBERID to make an id of; check the survey.")
    if not (0 < night < 10**5 and 0 <= spectrograph < 100 and 0 <= fibre < 1000):
        raise InputError("LMJD, SPID and FIBERID in the header are out of range, so no id can be made of them.")
    plan = int.from_bytes(blake2b(text(header, "PLANID").encode(), digest_size=8).digest(), "big") % 10**8
    return night * 10**13 + plan * 10**5 + spectrograph * 10**3 + fibre


def _from_table(file: FitsFile) -> tuple[Float, Float, Float, Float]:
    table = file.hdu("COADD")
    columns = [file.column(table, name) for name in ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK")]
    if any(column.ndim != 2 or len(column) != 1 for column in columns):
        raise InputError("HDU COADD is not a table of one row of arrays; check the survey.")
    flux, ivar, wavelength, mask = (column[0].astype(np.float64) for column in columns)
    return flux, ivar, wavelength, mask


def _from_image(file: FitsFile) -> tuple[Float, Float, Float, Float]:
    image = file.hdus[0]
    if len(image.shape) != 2 or image.shape[0] < 4:
        raise InputError("the file has neither HDU COADD nor a first image of 5 rows; check the survey.")
    flux, ivar, third, mask = file.image(image)[:4].astype(np.float64)
    start, step = number(file.header, "COEFF0"), number(file.header, "COEFF1")
    if not (np.isfinite(start) and step > 0):
        # without coefficients only a row that rises like a wavelength can be one
        if np.all(np.diff(third) > 0) and third[0] > 1000.0:
            return flux, ivar, third, mask
        raise InputError("the header has no COEFF0 and COEFF1, and the third row is no wavelength.")
    fitted = np.power(10.0, start + step * np.arange(len(flux)), dtype=np.float64)
    agrees = np.all(np.abs(third - fitted) < 0.5 * step * np.log(10.0) * fitted)
    return flux, ivar, third if agrees else fitted, mask
