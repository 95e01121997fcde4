"""LAMOST low-resolution spectra as released since DR8: one gzipped FITS file a star.

    spec-MJD-PLANID_spSP-FIBER.fits.gz   header with OBSID; HDU COADD: FLUX, IVAR, WAVELENGTH, ANDMASK, ORMASK, ...

Format: https://www.lamost.org/dr10/v2.0/doc/lr-data-production-description. Plans have 16 spectrographs with 250
fibres as real ones have, but their stars are spread over the sky.
"""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.prepare.continuum import smooth_continuum
from stores.simulate.layouts import Cards, Group, blocks, fits_blocks, layout, only_arm, serial, spectral_class
from stores.simulate.observe import Bad, Observation
from stores.simulate.population import Stars
from stores.spectrum import SpectrumBatch
from stores.surveys.lamost import RESOLVING_POWER
from stores.surveys.width import from_resolving_power

Float = NDArray[np.float64]

FIBRES, SPECTROGRAPHS = 250, 16
PLANS = 1000  # a seed: four million stars
FIRST_NIGHT = 59000  # MJD
COMPRESSION = 4  # half the time of gzip's default, 2 % more bytes
NO_REDSHIFT = -9999.0
BITS = {Bad.NO_DATA: 1 << 5, Bad.DEAD: 1 << 0, Bad.COSMIC: 1 << 0}  # NODATA and BADCCD of the pipeline's mask
BANDS = {"U": (3700, 4030), "G": (3797, 5549), "R": (5418, 6994), "I": (6692, 8400), "Z": (7964, 9100)}  # SDSS's
NORMALISATION = 58.0  # pixels, 4000 km/s
COLUMNS = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK", "NORMALIZATION")
TEMPLATE = Path(__file__).with_suffix(".header")


@layout("lamost_dr10")
class LamostDr10:
    """OBSID is plan * 10**5 + spectrograph * 10**3 + fibre, as in the releases."""

    @staticmethod
    def ids(stars: Stars, seed: int) -> NDArray[np.int64]:
        plan, spectrograph, fibre = _place(stars, seed)
        ids: NDArray[np.int64] = plan * 10**5 + spectrograph * 10**3 + fibre
        return ids

    @staticmethod
    def groups(stars: Stars) -> list[Group]:
        return blocks(len(stars))

    @staticmethod
    def write(observation: Observation, place: tuple[int, ...], folder: Path, cards: Cards) -> None:
        arm = only_arm(observation)
        ivar = arm.ivar
        continuum = smooth_continuum(arm.flux.astype(np.float64), ivar.astype(np.float64), NORMALISATION)
        normal = np.divide(arm.flux, continuum, out=np.ones_like(continuum), where=continuum > 0)
        spectra = np.stack(
            np.broadcast_arrays(
                arm.flux, ivar, arm.wavelength, _bits(arm.mask), _bits(arm.touched | arm.mask), normal
            ),
            axis=1,
        ).astype(np.float32)
        for name, header, rows in zip(_names(observation), _headers(observation, cards), spectra, strict=True):
            with replacing(folder / f"{name}.gz") as path:
                _write(path, header, rows)

    @staticmethod
    def batch(observation: Observation) -> SpectrumBatch:
        arm, stars = only_arm(observation), observation.stars
        wavelength = arm.wavelength.astype(np.float32).astype(np.float64)
        sigma = from_resolving_power(wavelength, RESOLVING_POWER)
        z = _redshift(observation)
        rv = np.where(z == NO_REDSHIFT, np.nan, SPEED_OF_LIGHT * z)
        batch = SpectrumBatch([arm.read(wavelength, sigma)], observation.id, stars.ra, stars.dec, rv)
        batch.flag(_class(observation) != "STAR", Flag.NOT_A_STAR)
        return batch


def _place(stars: Stars, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Plan, spectrograph and fibre (n,) of stars."""
    slot = serial(stars)
    fibre, slot = slot % FIBRES + 1, slot // FIBRES
    return PLANS * seed + slot // SPECTROGRAPHS + 1, slot % SPECTROGRAPHS + 1, fibre


def _bits(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = np.zeros(mask.shape, dtype=np.int32)
    for bad, bit in BITS.items():
        values |= np.where(mask & bad, bit, 0)
    return values.astype(np.float32)


def _redshift(observation: Observation) -> Float:
    """Z (n,) as the header holds it."""
    return np.where(observation.fates.unusable, NO_REDSHIFT, np.round(observation.rv / SPEED_OF_LIGHT, 8))


def _class(observation: Observation) -> NDArray[np.str_]:
    return np.where(observation.fates.unusable, "UNKNOWN", np.where(observation.galaxy, "GALAXY", "STAR"))


def _night(plan: int) -> int:
    return FIRST_NIGHT + plan % 1500


def _names(observation: Observation) -> list[str]:
    places = zip(*_place(observation.stars, observation.seed), strict=True)
    return [f"spec-{_night(plan) + 1}-SIM{plan:07d}_sp{sp:02d}-{fibre:03d}.fits" for plan, sp, fibre in places]


def _headers(observation: Observation, cards: Cards) -> list[dict[str, Any]]:
    """The cards of every star that differ from the template's."""
    arm, stars = observation.arms[0], observation.stars
    start = round(float(np.log10(arm.wavelength[0])), 6)
    ratio = np.where(arm.mask == 0, arm.flux / arm.error, np.nan)
    snr = {f"SNR{band}": _band_snr(arm.wavelength, ratio, limits) for band, limits in BANDS.items()}
    names, kinds, redshift = _names(observation), _class(observation), _redshift(observation)
    plans, spectrographs, fibres = _place(stars, observation.seed)
    headers = []
    for i, name in enumerate(names):
        night = _night(int(plans[i]))
        when = datetime(1858, 11, 17) + timedelta(days=night, hours=14)
        middle, end = (when + timedelta(minutes=minutes) for minutes in (15, 30))
        ra, dec = round(float(stars.ra[i]), 6), round(float(stars.dec[i]), 6)
        subclass = spectral_class(float(observation.fates.seen.labels[i, 0])) if kinds[i] == "STAR" else "Non"
        headers.append(
            {
                "FILENAME": name,
                "OBSID": int(observation.id[i]),
                "DATE": end.isoformat(),
                "DATE-OBS": middle.isoformat(),
                "DATE-BEG": (when + timedelta(hours=8)).isoformat(),
                "DATE-END": (end + timedelta(hours=8)).isoformat(),
                "LMJD": night + 1,
                "MJD": night,
                "PLANID": name.split("-")[2].split("_")[0],
                **dict.fromkeys(("RA", "RA_OBS", "SPRA"), ra),
                **dict.fromkeys(("DEC", "DEC_OBS", "SPDEC"), dec),
                "DESIG": f"LAMOST J{designation(ra, dec)}",
                "FIBERID": int(fibres[i]),
                "OBJNAME": str(stars.id[i]),
                "MAG_PS_G": round(float(stars.gmag[i]), 2),
                "SPID": int(spectrographs[i]),
                "HELIO_RV": round(float(observation.helio[i]), 5),
                "COEFF0": start,
                "CRVAL1": start,
                "CLASS": str(kinds[i]),
                "SUBCLASS": subclass,
                "Z": float(redshift[i]),
                "Z_ERR": NO_REDSHIFT if redshift[i] == NO_REDSHIFT else _rounded_z(observation.rv_error[i]),
                **{key: round(float(values[i]), 2) for key, values in snr.items()},
                **cards,
            }
        )
    return headers


def _rounded_z(velocity: float) -> float:
    return round(float(velocity) / SPEED_OF_LIGHT, 8)


def _band_snr(wavelength: Float, ratio: NDArray[Any], band: tuple[float, float]) -> Float:
    """Median S/N per pixel (n,) in a band; -9999 where it has no pixel."""
    values = ratio[:, (wavelength > band[0]) & (wavelength < band[1])]
    empty = np.all(np.isnan(values), axis=1)
    return np.where(empty, NO_REDSHIFT, np.nanmedian(np.where(empty[:, None], 0.0, values), axis=1))


def designation(ra: float, dec: float) -> str:
    """Sexagesimal position such as 224802.89+052456.0, cut and not rounded, as the IAU wants it."""
    seconds = int(ra * 240 * 100)
    arcsec = int(abs(dec) * 3600 * 10)
    hours = f"{seconds // 360000:02d}{seconds // 6000 % 60:02d}{seconds % 6000 / 100:05.2f}"
    return f"{hours}{'-' if dec < 0 else '+'}{arcsec // 36000:02d}{arcsec // 600 % 60:02d}{arcsec % 600 / 10:04.1f}"


@cache
def _template() -> dict[str, str]:
    """The cards of the primary header, by keyword and number."""
    lines = TEMPLATE.read_text().splitlines()
    return {line[:8].strip() if line[8:9] == "=" else str(i): line.ljust(80) for i, line in enumerate(lines)}


def _write(path: Path, changed: dict[str, Any], rows: NDArray[Any]) -> None:
    """One star: rows (6, n_pix), of the COLUMNS."""
    cards = dict(_template())
    for key, value in changed.items():
        _, _, comment = cards.get(key, "").partition(" / ")
        cards[key] = fits_blocks.card(key, value, comment.strip())
    columns = ", ".join(f"{name} {rows.shape[1]}E" for name in COLUMNS)
    table = fits_blocks.table("COADD", columns, 1, dict(zip(COLUMNS, rows, strict=True)))
    # no name and no time in the gzip header: the same star gives the same bytes
    with path.open("wb") as file, gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as packed:
        packed.write(fits_blocks.primary(cards.values()) + table)
