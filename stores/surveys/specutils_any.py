"""Whatever specutils reads (https://specutils.readthedocs.io), one object a file; an extra dependency."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, OptionError
from stores.flags import Flag
from stores.spectrum import Arm, SpectrumBatch, as_id
from stores.surveys import ALL_ROWS, ReadOptions, survey
from stores.surveys.air import air_to_vacuum
from stores.surveys.fits import FITS_MAGIC, first_bytes, naming, primary_header
from stores.surveys.fits1d import file_id, header_medium, header_velocity
from stores.surveys.noise import estimate_ivar


def ids(path: Path) -> NDArray[np.int64]:
    """The id, from the primary header of a FITS file or from the file's name."""
    with naming(path):
        return as_id([file_id(path, _header(path))])


@survey("specutils", ids=ids)
def read(path: Path, options: ReadOptions, rows: slice = ALL_ROWS) -> SpectrumBatch:
    """Any file with one object that specutils reads (pip install 'spectrabridge[specutils]').

    id as for fits1d; several spectra of a file are taken as arms if their wavelengths hardly overlap.
    Wavelengths are taken as vacuum unless the header or `--medium` says air.
    """
    with naming(path):
        header = _header(path)
        spectra = _load(path)
        air = (header_medium(header) or options.medium) == "air"
        arms, estimated = [], False
        for spectrum in spectra:
            arm, without_errors = _arm(spectrum, air)
            arms.append(arm)
            estimated |= without_errors
        arms.sort(key=lambda arm: float(arm.wavelength[0]))
        _check_arms(arms)
        rv = 0.0 if options.at_rest else _velocity(spectra[0], header)
        batch = SpectrumBatch(
            arms,
            as_id([file_id(path, header)]),
            # RA and DEC of a header are as often the telescope's or the plate's as the star's
            np.array([np.nan]),
            np.array([np.nan]),
            np.array([rv]),
        )
    if estimated:
        batch.flags |= np.uint32(Flag.NO_ERRORS)
    return batch.take(rows)


def _header(path: Path) -> Any:
    """The primary header of a FITS file, else nothing."""
    return primary_header(path) if first_bytes(path) == FITS_MAGIC else {}


def _load(path: Path) -> list[Any]:
    try:
        from specutils import SpectrumList
    except ImportError:
        raise OptionError("survey 'specutils' needs specutils: pip install 'spectrabridge[specutils]'.") from None
    with warnings.catch_warnings():
        # its loaders warn about units and headers that they then read all the same
        warnings.simplefilter("ignore")
        try:
            spectra = list(SpectrumList.read(str(path)))
        # every loader fails in its own way
        except Exception as error:
            raise InputError("specutils cannot read this file; try another survey or write a table.") from error
    if not spectra:
        raise InputError("specutils finds no spectrum in this file.")
    return spectra


def _arm(spectrum: Any, air: bool) -> tuple[Arm, bool]:
    """One spectrum as an arm, and whether its ivar had to be estimated."""
    from astropy import units
    from astropy.nddata import InverseVariance, UnknownUncertainty

    flux = np.atleast_2d(np.asarray(spectrum.flux.value, dtype=np.float64))
    if flux.ndim != 2 or len(flux) != 1:
        raise InputError(f"it holds spectra of shape {flux.shape}, not of one object; write a table with their ids.")
    try:
        wavelength = spectrum.spectral_axis.to(units.AA, units.spectral()).value
    except units.UnitConversionError:
        raise InputError(f"its axis is in '{spectrum.spectral_axis.unit}', which is no wavelength.") from None
    wavelength = np.asarray(wavelength, dtype=np.float64)
    if air:
        wavelength = air_to_vacuum(wavelength)
    unknown = spectrum.uncertainty is None or isinstance(spectrum.uncertainty, UnknownUncertainty)
    if unknown:
        ivar = estimate_ivar(flux)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            ivar = np.array(spectrum.uncertainty.represent_as(InverseVariance).array, dtype=np.float64)
        # an error of 0 says that there is none
        ivar = np.where(np.isinf(ivar), 0.0, np.atleast_2d(ivar))
    if spectrum.mask is not None:
        ivar = np.where(np.atleast_2d(np.asarray(spectrum.mask)) != 0, 0.0, ivar)
    if len(wavelength) > 1 and wavelength[0] > wavelength[-1]:
        wavelength, flux, ivar = wavelength[::-1], flux[:, ::-1], ivar[:, ::-1]
    return Arm(wavelength, flux, ivar), unknown


def _check_arms(arms: list[Arm]) -> None:
    for blue, red in pairwise(arms):
        overlap = blue.wavelength[-1] - red.wavelength[0]
        if overlap > 0.5 * min(np.ptp(blue.wavelength), np.ptp(red.wavelength)):
            raise InputError(f"it holds {len(arms)} spectra that are no arms of one; write a table with their ids.")


def _velocity(spectrum: Any, header: Any) -> float:
    # specutils gives 0 for a velocity that is not known
    velocity = float(spectrum.radial_velocity.to_value("km/s"))
    return velocity if velocity != 0.0 else header_velocity(header)
