"""DESI coadds per HEALPix pixel, with redrock's redshifts beside them.

    coadd-main-bright-PIX.fits    FIBERMAP, EXP_FIBERMAP, X_WAVELENGTH, X_FLUX, X_IVAR, X_MASK, X_RESOLUTION, SCORES
    redrock-main-bright-PIX.fits  REDSHIFTS, FIBERMAP, EXP_FIBERMAP, TSNR2

Format: https://desidatamodel.readthedocs.io. Pixels are nested as DESI's, but larger than its nside of 64 where stars
are sparse: the largest that hold no more than a block of stars; the header's HPXNSIDE tells. Scores of target
classes that stars are not (TSNR2), imaging other than in r, and focal-plane coordinates are 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stores.atomic import replacing
from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.simulate.healpix import fitting_nside, pixel_of
from stores.simulate.layouts import BLOCK, Cards, Group, fits_blocks, layout, serial, spectral_class
from stores.simulate.layouts import desi_target as desi
from stores.simulate.observe import Bad, Observation, ObservedArm
from stores.simulate.population import Stars
from stores.spectrum import SpectrumBatch

Float = NDArray[np.float64]

DIAGONALS = 11  # of the resolution matrix, as in DESI's files
STARS_PER_SKY = 16  # chosen; DESI has about one sky fibre in ten
BITS = {Bad.NO_DATA: 1 << 1, Bad.DEAD: 1 << 1, Bad.COSMIC: 1 << 2}  # ALLBADPIX and COSMIC of desispec's specmask
BAD_POSITION = 1 << 9  # of COADD_FIBERSTATUS
SMALL_DELTA_CHI2 = 1 << 2  # of ZWARN
NIGHT, MJD = 20211115, 59534.3
FLUX_UNIT = "10**-17 erg/(s cm2 Angstrom)"
IVAR_UNIT = "10**+34 (s2 cm4 Angstrom2) / erg2"


@layout("desi_coadd")
class DesiCoadd:
    """TARGETID is encoded as DESI does it, from the star's brick on the sky, with the bit set that marks mocks."""

    @staticmethod
    def ids(stars: Stars, seed: int) -> NDArray[np.int64]:
        return desi.target_ids(desi.bricks(stars.ra, stars.dec)[0], serial(stars))

    @staticmethod
    def groups(stars: Stars) -> list[Group]:
        nside = fitting_nside(stars.ra, stars.dec, BLOCK)
        pixel = pixel_of(nside, stars.ra, stars.dec)
        order = np.argsort(pixel, kind="stable")
        found, first = np.unique(pixel[order], return_index=True)
        return [Group(rows, (nside, int(one))) for one, rows in zip(found, np.split(order, first[1:]), strict=True)]

    @staticmethod
    def write(observation: Observation, place: tuple[int, ...], folder: Path, cards: Cards) -> None:
        _check_arms(observation)
        nside, pixel = place
        sky = _Sky.of(observation, pixel)
        start: dict[str, fits_blocks.Value] = {
            "SPGRP": "healpix",
            "SPGRPVAL": pixel,
            "HPXPIXEL": pixel,
            "HPXNSIDE": nside,
            "HPXNEST": "True",
        }
        start |= {"SURVEY": "main", "PROGRAM": "bright", "SPECPROD": "simulated", **cards}
        primary = fits_blocks.primary(fits_blocks.card(*one) for one in start.items())
        fibermap, exposures = _fibermap(observation, sky), _exposures(observation, sky)
        coadd = [
            primary,
            _hdu("FIBERMAP", desi.FIBERMAP, fibermap),
            _hdu("EXP_FIBERMAP", desi.EXP_FIBERMAP, exposures),
        ]
        for arm, seen in zip(observation.arms, sky.flux, strict=True):
            coadd += _arm_hdus(observation, arm, seen, sky.like)
        coadd.append(_hdu("SCORES", desi.SCORES, _scores(observation, sky)))
        stars = slice(0, len(observation))
        redrock = [primary, _hdu("REDSHIFTS", desi.REDSHIFTS, _redshifts(observation))]
        redrock.append(_hdu("FIBERMAP", desi.FIBERMAP, {name: value[stars] for name, value in fibermap.items()}))
        redrock.append(_hdu("EXP_FIBERMAP", desi.EXP_FIBERMAP, {name: v[stars] for name, v in exposures.items()}))
        redrock.append(_hdu("TSNR2", desi.TSNR2, {"TARGETID": observation.id}))
        # the coadd last: a coadd without its redshifts would look whole
        for kind, hdus in (("redrock", redrock), ("coadd", coadd)):
            with replacing(folder / f"{kind}-main-bright-{pixel}.fits") as path:
                path.write_bytes(b"".join(hdus))

    @staticmethod
    def batch(observation: Observation) -> SpectrumBatch:
        _check_arms(observation)
        stars = observation.stars
        arms = [arm.read(arm.wavelength, observation.width[:, None] * arm.sigma) for arm in observation.arms]
        rv = SPEED_OF_LIGHT * (observation.rv / SPEED_OF_LIGHT)  # as Z goes through the file
        batch = SpectrumBatch(arms, observation.id, stars.ra, stars.dec, rv)
        batch.flag(observation.fates.unusable, Flag.SURVEY_WARNING)
        batch.flag(observation.galaxy, Flag.NOT_A_STAR)
        return batch


def _check_arms(observation: Observation) -> None:
    names = [arm.name for arm in observation.arms]
    if not set(names) <= {"B", "R", "Z"}:
        raise InputError(
            f"instrument {observation.instrument.name} has the arms {', '.join(names)} and its layout, desi_coadd, "
            "only knows B, R and Z; rename them or choose another layout."
        )


class _Sky:
    """Sky fibres of a file: positions, ids, and noise about 0 in each arm.

    like: (n_sky,) the star whose fibre and errors each sky fibre shares; flux: for each arm (n_sky, n_pix)
    """

    def __init__(self, observation: Observation, like: NDArray[np.int64], random: np.random.Generator) -> None:
        stars = observation.stars
        self.like = like
        self.ra, self.dec = stars.ra[like], np.clip(stars.dec[like] + 0.01, -90, 90)
        brick, self.brick_name = desi.bricks(self.ra, self.dec)
        self.id = desi.target_ids(brick, serial(stars)[like], sky=True)
        self.flux = [
            np.where(arm.mask[like], 0, arm.error[like] * random.standard_normal((len(like), arm.wavelength.size)))
            for arm in observation.arms
        ]

    @classmethod
    def of(cls, observation: Observation, pixel: int) -> _Sky:
        like = np.arange(0, len(observation), STARS_PER_SKY)
        return cls(observation, like, np.random.default_rng([observation.seed, pixel, 2]))


def _hdu(name: str, columns: str, values: Mapping[str, NDArray[Any]]) -> bytes:
    return fits_blocks.table(name, columns, len(values["TARGETID"]), values)


def _both(stars: ArrayLike, sky: ArrayLike, n: int, n_sky: int) -> NDArray[Any]:
    """A column of n stars and n_sky sky fibres, each an array or one value."""
    return np.concatenate([np.broadcast_to(np.asarray(stars), (n,)), np.broadcast_to(np.asarray(sky), (n_sky,))])


def _fibermap(observation: Observation, sky: _Sky) -> dict[str, NDArray[Any]]:
    stars = observation.stars
    brick, brick_name = desi.bricks(stars.ra, stars.dec)
    sky_brick, sky_name = desi.bricks(sky.ra, sky.dec)
    number = serial(stars) % (1 << desi.OBJECT_BITS)
    nanomaggies = 10 ** (0.4 * (22.5 - stars.gmag))
    status = np.where(observation.fates.unusable, BAD_POSITION, 0)
    columns: dict[str, tuple[ArrayLike, ArrayLike]] = {
        "TARGETID": (observation.id, sky.id),
        "COADD_FIBERSTATUS": (status, 0),
        "TARGET_RA": (stars.ra, sky.ra),
        "TARGET_DEC": (stars.dec, sky.dec),
        "PMRA": (stars.pmra, 0),
        "PMDEC": (stars.pmdec, 0),
        "REF_EPOCH": (2015.5, 0),
        "FA_TARGET": (desi.MWS_ANY, desi.SKY_TARGET),
        "FA_TYPE": (1, 4),
        "OBJTYPE": ("TGT", "SKY"),
        "OBSCONDITIONS": (4, 4),
        "RELEASE": (desi.RELEASE, desi.RELEASE),
        "BRICKNAME": (brick_name, sky_name),
        "BRICKID": (brick, sky_brick),
        "BRICK_OBJID": (number, number[sky.like]),
        "MORPHTYPE": ("PSF", ""),
        "EBV": (stars.ebv, stars.ebv[sky.like]),
        "FLUX_R": (nanomaggies, 0),
        "FLUX_IVAR_R": ((100 / nanomaggies) ** 2, 0),
        "REF_ID": (stars.id, 0),
        "REF_CAT": ("G2", ""),
        "GAIA_PHOT_G_MEAN_MAG": (stars.gmag, 0),
        "PARALLAX": (stars.parallax, 0),
        "PHOTSYS": (np.where(stars.dec > 32.375, "N", "S"), "S"),
        "PRIORITY_INIT": (1500, 0),
        "NUMOBS_INIT": (1, 0),
        "DESI_TARGET": (desi.MWS_ANY, desi.SKY_TARGET),
        "MWS_TARGET": (desi.MWS_BROAD_MAIN_BLUE, 0),
        "PLATE_RA": (stars.ra, sky.ra),
        "PLATE_DEC": (stars.dec, sky.dec),
        "COADD_NUMEXP": (1, 1),
        "COADD_EXPTIME": (180.0, 180.0),
        "COADD_NUMNIGHT": (1, 1),
        "COADD_NUMTILE": (1, 1),
        "MEAN_FIBER_RA": (stars.ra, sky.ra),
        "MEAN_FIBER_DEC": (stars.dec, sky.dec),
        "MEAN_PSF_TO_FIBER_SPECFLUX": (0.79, 0.79),
    }
    return {name: _both(*values, len(stars), len(sky.id)) for name, values in columns.items()}


def _exposures(observation: Observation, sky: _Sky) -> dict[str, NDArray[Any]]:
    """One exposure a target."""
    n, n_sky = len(observation), len(sky.id)
    fibre = np.arange(n + n_sky) % 5000
    ra, dec = _both(observation.stars.ra, sky.ra, n, n_sky), _both(observation.stars.dec, sky.dec, n, n_sky)
    same = {"NIGHT": NIGHT, "EXPID": 110000, "MJD": MJD, "TILEID": 20000, "EXPTIME": 180.0, "LAMBDA_REF": 5400.0}
    return {
        **{name: np.full(n + n_sky, value) for name, value in same.items()},
        "TARGETID": _both(observation.id, sky.id, n, n_sky),
        "PETAL_LOC": fibre // 500,
        "FIBER": fibre,
        "FIBERSTATUS": _both(np.where(observation.fates.unusable, BAD_POSITION, 0), 0, n, n_sky),
        "PLATE_RA": ra,
        "PLATE_DEC": dec,
        "FIBER_RA": ra,
        "FIBER_DEC": dec,
        "PSF_TO_FIBER_SPECFLUX": np.full(n + n_sky, 0.79),
    }


def _arm_hdus(observation: Observation, arm: ObservedArm, sky: NDArray[Any], like: NDArray[np.int64]) -> list[bytes]:
    def image(kind: str, data: NDArray[Any], unit: str = "") -> bytes:
        return fits_blocks.image(f"{arm.name}_{kind}", data, unit)

    rows = np.concatenate([np.arange(len(observation)), like])
    mask = np.zeros(arm.mask.shape, dtype=np.int32)
    for bad, bit in BITS.items():
        mask |= np.where(arm.mask & bad, np.int32(bit), np.int32(0))
    classes, which = np.unique(observation.width, return_inverse=True)
    kernels = np.stack([resolution(arm.wavelength, arm.sigma * width) for width in classes])
    return [
        image("WAVELENGTH", arm.wavelength, "Angstrom"),
        image("FLUX", np.concatenate([arm.flux, sky.astype(np.float32)]), FLUX_UNIT),
        image("IVAR", arm.ivar[rows], IVAR_UNIT),
        image("MASK", mask[rows]),
        image("RESOLUTION", kernels[which[rows]]),
    ]


def resolution(wavelength: Float, sigma: Float) -> NDArray[np.float32]:
    """The diagonals (DIAGONALS, n_pix) of a resolution matrix of a Gaussian of widths sigma (n_pix,) in Angstrom.

    As in desispec: row d holds the diagonal of offset DIAGONALS // 2 - d, so column j is how pixel j is spread.
    """
    offset = np.arange(DIAGONALS // 2, DIAGONALS // 2 - DIAGONALS, -1)[:, None]
    kernel = np.exp(-0.5 * (offset * np.gradient(wavelength) / sigma) ** 2)
    return (kernel / kernel.sum(axis=0)).astype(np.float32)


def _scores(observation: Observation, sky: _Sky) -> dict[str, NDArray[Any]]:
    scores = {"TARGETID": np.concatenate([observation.id, sky.id])}
    for arm, seen in zip(observation.arms, sky.flux, strict=True):
        flux = np.concatenate([arm.flux, seen])
        error = np.concatenate([arm.error, arm.error[sky.like]])
        used = np.concatenate([arm.mask, arm.mask[sky.like]]) == 0
        some = used.any(axis=1)
        # a row without pixels is all zeros, as are its scores
        kept = np.where(used | ~some[:, None], np.where(used, flux, 0), np.nan)
        scores[f"INTEG_COADD_FLUX_{arm.name}"] = np.nansum(kept, axis=1) * np.median(np.diff(arm.wavelength))
        scores[f"MEDIAN_COADD_FLUX_{arm.name}"] = np.nanmedian(kept, axis=1)
        scores[f"MEDIAN_COADD_SNR_{arm.name}"] = np.nanmedian(kept / error, axis=1)
    return scores


def _redshifts(observation: Observation) -> dict[str, NDArray[Any]]:
    """What redrock would say; DELTACHI2 is against a spectrum of constant flux."""
    fits_of = [(arm.flux, arm.model, arm.ivar) for arm in observation.arms]
    n = len(observation)
    chi2, flat, n_used = np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64)
    for flux, model, ivar in fits_of:
        mean = np.sum(model * ivar, axis=1) / np.maximum(np.sum(ivar, axis=1), 1e-30)
        chi2 += np.sum((flux - model) ** 2 * ivar, axis=1)
        flat += np.sum((model - mean[:, None]) ** 2 * ivar, axis=1)
        n_used += np.count_nonzero(ivar, axis=1)
    letters = [spectral_class(teff)[0] for teff in observation.fates.seen.labels[:, 0]]
    return {
        "TARGETID": observation.id,
        "Z": observation.rv / SPEED_OF_LIGHT,
        "ZERR": observation.rv_error / SPEED_OF_LIGHT,
        "ZWARN": np.where(observation.fates.unusable, SMALL_DELTA_CHI2, 0),
        "CHI2": chi2,
        "NPIXELS": n_used,
        "SPECTYPE": np.where(observation.galaxy, "GALAXY", "STAR"),
        "SUBTYPE": np.where(observation.galaxy, "", letters),
        "NCOEFF": np.where(observation.galaxy, 10, 5),
        "DELTACHI2": flat,
    }
