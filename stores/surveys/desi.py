"""DESI coadds and spectra, with redrock's redshifts from the file beside them.

Format: https://desidatamodel.readthedocs.io, DESI_SPECTRO_REDUX/SPECPROD/healpix: `coadd-*.fits` and
`spectra-*.fits`, plain or gzip, and `redrock-*.fits`. HDUs are found by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.spectrum import Arm, SpectrumBatch, as_id
from stores.surveys import ALL_ROWS, ReadOptions, check_ids, survey
from stores.surveys.fits import FitsFile, open_fits
from stores.surveys.width import from_resolution_matrix

ARMS = ("B", "R", "Z")


@dataclass(frozen=True)
class Targets:
    """The objects of a file (no sky, no broken positioners) and the rows that hold their exposures.

    id: (n,) TARGETID in order of first appearance, each once
    row: (n_exp,) rows of the file, rising
    target: (n_exp,) the index in `id` that each row belongs to
    n_row: how many rows the file has in all
    """

    id: NDArray[np.int64]
    row: NDArray[np.intp]
    target: NDArray[np.intp]
    n_row: int

    def take(self, rows: slice) -> Targets:
        chosen = np.arange(len(self.id))[rows]
        place = np.full(len(self.id), -1)
        place[chosen] = np.arange(len(chosen))
        used = place[self.target] >= 0
        return Targets(self.id[chosen], self.row[used], place[self.target[used]], self.n_row)


def ids(path: Path) -> NDArray[np.int64]:
    """TARGETIDs of the objects, from the FIBERMAP alone."""
    with open_fits(path) as file:
        return check_ids(path, _targets(file).id)


@survey(
    "desi",
    ids=ids,
    files=("coadd-*.fits", "coadd-*.fits.gz", "spectra-*.fits", "spectra-*.fits.gz"),
    medium="vacuum",
    velocities=True,
)
def read(path: Path, options: ReadOptions, rows: slice = ALL_ROWS) -> SpectrumBatch:
    """DESI coadd-*.fits and spectra-*.fits, plain or gzip, with redrock-*.fits beside them; rows of OBJTYPE TGT only.

    id is TARGETID; flux in 1e-17 erg/s/cm2/A; pixels with a MASK bit get ivar 0; the exposures of a target
    are added up with their ivar as weights. rv is redrock's c * Z, joined by TARGETID.
    """
    with open_fits(path) as file:
        targets = _targets(file)
        check_ids(path, targets.id)
        targets = targets.take(rows)
        fibermap = file.hdu("FIBERMAP")
        first = targets.row[np.unique(targets.target, return_index=True)[1]]
        names = [name for name in ARMS if file.find(f"{name}_FLUX") is not None]
        if not names:
            raise InputError("none of the arms B, R, Z is in it; give a coadd-*.fits or spectra-*.fits file.")
        flags = np.zeros(len(targets.id), np.uint32)
        arms = [_arm(file, name, targets, flags) for name in names]
        if len(names) < len(ARMS):
            flags |= np.uint32(Flag.MISSING_ARM)
        status = file.column(fibermap, "COADD_FIBERSTATUS", "FIBERSTATUS")[targets.row]
        # as in DESI's own coadds, a bit counts if all exposures of the target have it
        common = np.full(len(targets.id), -1, dtype=np.int64)
        np.bitwise_and.at(common, targets.target, status.astype(np.int64))
        flags[common != 0] |= np.uint32(Flag.SURVEY_WARNING)
        ra, dec = (file.column(fibermap, name)[first] for name in ("TARGET_RA", "TARGET_DEC"))
        rv = _velocities(path, targets.id, flags)
        return SpectrumBatch(arms, targets.id, ra, dec, rv, flags)


def _targets(file: FitsFile) -> Targets:
    fibermap = file.hdu("FIBERMAP")
    target_id = as_id(file.column(fibermap, "TARGETID"))
    objects = np.flatnonzero(file.column(fibermap, "OBJTYPE") == "TGT")
    found, first, which = np.unique(target_id[objects], return_index=True, return_inverse=True)
    order = np.argsort(first)
    return Targets(found[order], objects, np.argsort(order)[which], len(target_id))


def _arm(file: FitsFile, name: str, targets: Targets, flags: NDArray[np.uint32]) -> Arm:
    span = slice(int(targets.row.min()), int(targets.row.max()) + 1) if len(targets.row) else slice(0, 0)

    def image(kind: str) -> NDArray[Any]:
        hdu = file.hdu(f"{name}_{kind}")
        values = file.image(hdu, span)
        if hdu.shape[0] != targets.n_row or values.ndim != 2 + (kind == "RESOLUTION"):
            raise InputError(f"HDU {name}_{kind} has a shape that does not fit the FIBERMAP.")
        return values[targets.row - span.start]

    wavelength = file.image(file.hdu(f"{name}_WAVELENGTH")).astype(np.float64)
    flux, ivar = image("FLUX"), image("IVAR")
    if file.find(f"{name}_MASK") is not None:
        mask = image("MASK")
        if mask.shape != ivar.shape:
            raise InputError(f"HDU {name}_MASK has a shape that does not fit {name}_IVAR.")
        ivar[mask != 0] = 0.0
    sigma = None
    if file.find(f"{name}_RESOLUTION") is not None:
        diagonals = image("RESOLUTION")
        if diagonals.shape[2:] != wavelength.shape:
            raise InputError(f"HDU {name}_RESOLUTION has a shape that does not fit {name}_WAVELENGTH.")
        sigma = from_resolution_matrix(diagonals, wavelength) if len(diagonals) else None
    arm = Arm(wavelength, flux, ivar, sigma)
    if np.array_equal(targets.target, np.arange(len(targets.id))):
        return arm
    bad = arm.mask_bad_values()
    flags[targets.target[bad]] |= np.uint32(Flag.BAD_VALUES)
    return _added(arm, targets)


def _added(arm: Arm, targets: Targets) -> Arm:
    """The exposures (n_exp, n_pix) of every target added up with ivar as weights, (n, n_pix)."""
    from scipy.sparse import csr_array

    n_exp, n = len(targets.row), len(targets.id)
    gather = csr_array((np.ones(n_exp), (targets.target, np.arange(n_exp))), shape=(n, n_exp))
    share = gather.sum(axis=1)[:, None]
    ivar = gather @ arm.ivar
    seen = ivar > 0
    weight = np.where(seen, ivar, 1.0)
    flux = np.where(seen, gather @ (arm.flux * arm.ivar), 0.0) / weight
    if arm.sigma is None:
        return Arm(arm.wavelength, flux, ivar)
    sigma = np.where(seen, (gather @ (arm.sigma * arm.ivar)) / weight, (gather @ arm.sigma) / share)
    return Arm(arm.wavelength, flux, ivar, sigma)


def _velocities(path: Path, target_id: NDArray[np.int64], flags: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Velocities (n,) in km/s, NaN where redrock has none; its warnings are added to `flags`."""
    rv = np.full(len(target_id), np.nan)
    redrock = _redrock(path)
    if redrock is None:
        return rv
    with open_fits(redrock) as file:
        table = file.hdu("REDSHIFTS")
        known = {int(value): row for row, value in enumerate(as_id(file.column(table, "TARGETID")))}
        z, warn, kind = (file.column(table, name) for name in ("Z", "ZWARN", "SPECTYPE"))
    here = np.array([i for i, value in enumerate(target_id) if int(value) in known], dtype=np.intp)
    there = np.array([known[int(target_id[i])] for i in here], dtype=np.intp)
    rv[here] = SPEED_OF_LIGHT * z[there]
    flags[here[warn[there] != 0]] |= np.uint32(Flag.SURVEY_WARNING)
    flags[here[kind[there] != "STAR"]] |= np.uint32(Flag.NOT_A_STAR)
    return rv


def _redrock(path: Path) -> Path | None:
    """The redrock file beside a coadd or spectra file, if there is one."""
    stem = path.name.removesuffix(".gz")
    rest = stem.removeprefix("coadd-").removeprefix("spectra-")
    beside = (path.with_name(f"redrock-{rest}{end}") for end in ("", ".gz"))
    return next((file for file in beside if file.is_file()), None)
