"""One spectrum a file as a one-dimensional FITS image, the common form of stellar libraries.

The wavelength axis is the header's (Greisen et al. 2006, A&A 446, 747, and IRAF's DC-FLAG): CRVAL1, CDELT1 or
CD1_1, CRPIX1, CUNIT1; linear, or logarithmic where DC-FLAG is 1, CTYPE1 speaks of LOG or CRVAL1 is below 10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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
from stores.surveys.air import air_to_vacuum
from stores.surveys.fits import FitsFile, integer, number, open_fits, text
from stores.surveys.noise import estimate_ivar
from stores.surveys.width import FWHM

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Library:
    """What a library's headers leave unsaid; fwhm in Angstrom."""

    medium: str
    at_rest: bool
    fwhm: float


# By header keyword TPLLIB. MILES: Sanchez-Blazquez et al. 2006 (MNRAS 371, 703), Falcon-Barroso et al. 2011
# (A&A 532, A95): wavelengths in air, shifted to the rest frame, FWHM 2.50 A.
LIBRARIES = {"MILES": Library("air", at_rest=True, fwhm=2.50)}

UNITS = {"": 1.0, "ANGSTROM": 1.0, "ANGSTROMS": 1.0, "A": 1.0, "AA": 1.0, "0.1NM": 1.0}
UNITS |= {"NM": 10.0, "UM": 1e4, "MICRON": 1e4, "MICRONS": 1e4, "M": 1e10}

ID_KEYS = ("OBSID", "TARGETID", "ID", "STARID")
ERROR_HDUS = ("ERR", "ERROR", "ERRORS", "SIGMA", "STD", "UNCERT", "UNCERTAINTY")
VARIANCE_HDUS = ("VAR", "VARIANCE", "STAT")
IVAR_HDUS = ("IVAR", "INVVAR")


def ids(path: Path) -> NDArray[np.int64]:
    """The id, from the headers or the file's name."""
    with open_fits(path) as file:
        return as_id([file_id(path, file.header, _image(file).header)])


@survey("fits1d", ids=ids)
def read(path: Path, options: ReadOptions, rows: slice = ALL_ROWS) -> SpectrumBatch:
    """A one-dimensional FITS image (stellar libraries such as MILES), plain or gzip.

    Of a (k, n_pix) image the first row is the flux. id: see `file_id`. Errors come from an HDU named ERR,
    ERROR, SIGMA, VAR, STAT or IVAR; without one a constant ivar is estimated from the flux and flagged.
    """
    with open_fits(path) as file:
        image = _image(file)
        header = image.header
        name = text(header, "TPLLIB") or text(file.header, "TPLLIB")
        library = LIBRARIES.get(name)
        flux = file.image(image).reshape(-1, image.shape[-1])[:1].astype(np.float64)
        wavelength = _wavelength(header, flux.shape[1])
        if _medium(path, header, name, options) == "air":
            wavelength = air_to_vacuum(wavelength)
        given = _ivar(file, flux.shape[1])
        ivar = estimate_ivar(flux) if given is None else given
        fwhm = number(header, "FWHM")
        if not fwhm > 0 and library is not None:
            fwhm = library.fwhm
        sigma = np.full(flux.shape[1], fwhm / FWHM) if fwhm > 0 else None
        at_rest = options.at_rest or (library is not None and library.at_rest)
        batch = SpectrumBatch(
            [Arm(wavelength, flux, ivar, sigma)],
            as_id([file_id(path, file.header, header)]),
            np.array([number(header, "RA")]),
            np.array([number(header, "DEC")]),
            np.array([0.0 if at_rest else header_velocity(header)]),
        )
    if given is None:
        batch.flags |= np.uint32(Flag.NO_ERRORS)
    return batch.take(rows)


def file_id(path: Path, *headers: Any) -> int:
    """The id of a file with one spectrum.

    A header's integer OBSID, TARGETID, ID or STARID; else the longest run of digits in the file's name (the
    last of equals); else the first 62 bits of blake2b of the name.
    """
    for header in headers:
        value = integer(header, *ID_KEYS)
        if value is not None:
            return value
    stem = re.sub(r"(\.(fits?|fts))?(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    runs = re.findall(r"\d+", stem)
    if runs:
        run = int(max(reversed(runs), key=len))
        if run < 2**63:
            return run
    return int.from_bytes(blake2b(path.name.encode(), digest_size=8).digest(), "big") >> 2


def header_velocity(header: Any) -> float:
    """The star's velocity in km/s from RV, VRAD or Z, else NaN (VHELIO and the like mean the Earth's)."""
    velocity = number(header, "RV", "VRAD")
    if np.isnan(velocity):
        z = number(header, "Z")
        velocity = SPEED_OF_LIGHT * z if z > -1.0 else np.nan
    return float(velocity)


def header_medium(header: Any) -> str | None:
    """'air' or 'vacuum' where the header says so: VACUUM, AIRORVAC or CTYPE1 = AWAV."""
    vacuum = header.get("VACUUM")
    if isinstance(vacuum, bool) or text(header, "VACUUM") in ("T", "F"):
        return "vacuum" if text(header, "VACUUM") in ("TRUE", "T") else "air"
    said = text(header, "AIRORVAC")
    if said.startswith(("AIR", "VAC")):
        return "air" if said.startswith("AIR") else "vacuum"
    # CTYPE1 = WAVE should mean vacuum, but many files in air have it
    return "air" if text(header, "CTYPE1").startswith("AWAV") else None


def _image(file: FitsFile) -> Any:
    other = {*ERROR_HDUS, *VARIANCE_HDUS, *IVAR_HDUS}
    for hdu in file.hdus:
        if hdu.is_image and len(hdu.shape) in (1, 2) and hdu.name.upper() not in other:
            return hdu
    raise InputError("the file has no one-dimensional image; check the survey.")


def _wavelength(header: Any, n_pix: int) -> Float:
    """Wavelengths (n_pix,) in Angstrom, in the medium of the file."""
    start, step = number(header, "CRVAL1"), number(header, "CDELT1", "CD1_1")
    if not (np.isfinite(start) and np.isfinite(step) and step != 0):
        raise InputError("the header gives no wavelengths (CRVAL1 and CDELT1 or CD1_1).")
    kind, unit = text(header, "CTYPE1"), text(header, "CUNIT1")
    if unit not in UNITS:
        raise InputError(f"CUNIT1 = '{unit}' is no unit of wavelength that is known; it may be Angstrom, nm or um.")
    reference = number(header, "CRPIX1")
    axis = (np.arange(n_pix) + 1.0 - (1.0 if np.isnan(reference) else reference)) * step
    micron = UNITS[unit] > 10.0  # where a small CRVAL1 is no logarithm
    if header.get("DC-FLAG") == 1 or (start < 10.0 and ("LOG" in kind or not micron)):
        with np.errstate(over="ignore"):
            wavelength = 10.0 ** (start + axis)
    elif "LOG" in kind:
        wavelength = start * np.exp(axis / start)
    else:
        wavelength = start + axis
    wavelength = wavelength * UNITS[unit]
    if not (wavelength.min() > 500.0 and wavelength.max() < 1e6):
        raise InputError(
            f"the header's wavelengths run from {wavelength[0]:.6g} to {wavelength[-1]:.6g} A, "
            "outside 500-1000000 A; check CRVAL1, CDELT1 and CUNIT1."
        )
    return np.asarray(wavelength, dtype=np.float64)


def _medium(path: Path, header: Any, library: str, options: ReadOptions) -> str:
    """What the header says, else the library that it names, else the options, which may not contradict that one."""
    if said := header_medium(header):
        return said
    medium = LIBRARIES[library].medium if library in LIBRARIES else options.medium
    if options.medium not in (None, medium):
        raise InputError(
            f"'{path}' is of the library {library}, whose wavelengths are in {medium}; leave `--medium "
            f"{options.medium}` out, or set VACUUM in its header if they were changed."
        )
    if medium is None:
        raise InputError(
            f"'{path}' does not say whether its wavelengths are in air or in vacuum; "
            "add `--medium air` or `--medium vacuum`."
        )
    return medium


def _ivar(file: FitsFile, n_pix: int) -> Float | None:
    """ivar (1, n_pix) from an HDU of errors, variances or ivar; an error that is not positive masks."""
    hdu = file.find(*ERROR_HDUS, *VARIANCE_HDUS, *IVAR_HDUS)
    if hdu is None:
        return None
    values = file.image(hdu).astype(np.float64)
    if values.shape[-1] != n_pix:
        raise InputError(f"HDU {hdu.name} has {values.shape[-1]} pixels and the spectrum {n_pix}.")
    values = values.reshape(-1, n_pix)[:1]
    if hdu.name.upper() in IVAR_HDUS:
        return values
    return ivar_of(values if hdu.name.upper() in VARIANCE_HDUS else values**2 * np.sign(values))


def ivar_of(variance: Float) -> Float:
    """1 / variance, and 0 where the variance is not positive."""
    good = variance > 0
    return np.where(good, 1.0 / np.where(good, variance, 1.0), 0.0)
