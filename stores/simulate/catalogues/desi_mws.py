"""The DESI Milky Way Survey catalogue `mwsall-pix-*.fits`: row-matched HDUs RVTAB, SPTAB, FIBERMAP, SCORES, GAIA.

Columns, types and HDUs are a subset of the survey's data model. RVTAB plays RVSpecfit; SPTAB plays the SP pipeline
(FERRE), noisier, biased high for metal-poor stars, and with [alpha/Fe] so smeared that the two discs run together.
Rows that failed keep numbers, as such pipelines do: only SPTAB.SUCCESS = 0, BESTGRID 's_rdesi1', RVS_WARN or
RR_SPECTYPE tell. Columns left out: healpix, photometry, targeting beyond MWS_ANY, single elements, correlations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.errors import InputError
from stores.simulate.catalogues.origin import origin
from stores.simulate.layouts import NO_CARDS, Cards
from stores.simulate.population import EPOCH, Stars
from stores.spectrum import Float

SNR_AT_16 = np.array([25.0, 45.0, 50.0])  # at G = 16 in B, R, Z, falling by 0.3 dex a magnitude
SNR_SCATTER = 0.25  # ln
FAILED, GALAXY = 0.03, 0.01  # share of rows that a pipeline failed on; that Redrock takes for galaxies
RV_FLOOR = 1.0  # km/s, not in the given error
RVS_ERRORS, RVS_POOR = np.array([60.0, 0.12, 0.08, 0.07]), 1.8  # Teff, log g, [Fe/H], [alpha/Fe]; times at -2.5
SP_ERRORS, SP_ALPHA_SHRINK, SP_ALPHA_CENTRE = np.array([100.0, 0.25, 0.15, 0.11]), 0.5, 0.15
SP_FEH_POOR, SP_BIAS_POOR = 0.35, 0.20  # dex at [Fe/H] = -2.5: scatter and bias
GIVEN = 0.4  # errors as given, in units of the true ones
MWS_ANY = 1 << 61
GAIA_G = (15.0, 17.0, 20.0, 21.0)  # errors of parallax and proper motion: Gaia Collaboration (2021)
GAIA_ERROR = (0.025, 0.07, 0.5, 1.3)  # mas and mas/yr


def write_mwsall(
    path: Path,
    ids: NDArray[np.int64],
    stars: Stars,
    seed: int,
    *,
    snr: Float | None = None,
    cards: Cards = NO_CARDS,
) -> None:
    """Write the rows of these stars under their target ids (n,).

    snr: (n, 3) median S/N in the arms B, R, Z; from the magnitude where not given. Errors grow as it falls.
    cards: more of the primary header
    Raises InputError if ids or snr do not fit the stars.
    """
    from astropy.io import fits

    n = len(stars)
    random = np.random.default_rng([seed, 104])
    drawn = SNR_AT_16 * (10 ** (-0.3 * (stars.gmag - 16)) * np.exp(SNR_SCATTER * random.normal(size=n)))[:, None]
    snr = drawn if snr is None else np.asarray(snr, dtype=np.float64)
    if len(ids) != n or snr.shape != (n, 3):
        raise InputError(
            f"{len(ids)} target ids and S/N of shape {snr.shape} do not fit {n} stars; give one row each."
        )
    ids = np.asarray(ids, dtype=np.int64)
    common: dict[str, Any] = {
        "TARGETID": ids,
        "TARGET_RA": stars.ra,
        "TARGET_DEC": stars.dec,
        "REF_ID": stars.id,
        "REF_CAT": np.full(n, "G2"),
    }
    scores = {"TARGETID": ids}
    scores |= {f"MEDIAN_COADD_SNR_{arm}": snr[:, i].astype(np.float32) for i, arm in enumerate("BRZ")}
    tables = {
        "RVTAB": _rvtab(stars, snr, random) | common,
        "SPTAB": _sptab(stars, snr, random) | common,
        "FIBERMAP": _fibermap(stars) | common,
        "SCORES": scores,
        "GAIA": _gaia(stars, random),
    }
    primary = fits.PrimaryHDU()
    primary.header.update(origin("DESI mwsall-pix", seed, cards))
    hdus = [primary, *(fits.BinTableHDU(_records(columns), name=name) for name, columns in tables.items())]
    with replacing(path) as temporary:
        fits.HDUList(hdus).writeto(temporary, overwrite=True)


def _records(columns: dict[str, Any]) -> NDArray[np.void]:
    """A structured array of columns; text as bytes, logicals as bool."""
    arrays = {name: np.char.encode(a) if a.dtype.kind == "U" else a for name, a in columns.items()}
    made = np.empty(len(next(iter(arrays.values()))), dtype=[(k, a.dtype, a.shape[1:]) for k, a in arrays.items()])
    for name, array in arrays.items():
        made[name] = array
    return made


def _loss(snr: Float) -> Float:
    """(n, 1) times by which errors are larger than at S/N 40 in R; most of their square does not fall with S/N."""
    return np.sqrt(0.8 + 0.2 * (40 / np.maximum(snr[:, 1:2], 1.0)) ** 2)


def _poverty(feh: Float) -> Float:
    """0 for [Fe/H] >= -0.5, 1 at -2.5."""
    return np.clip((-0.5 - feh) / 2.0, 0, None)


def _rvtab(stars: Stars, snr: Float, random: np.random.Generator) -> dict[str, Any]:
    n = len(stars)
    poverty = _poverty(stars.labels[:, 2])[:, None]
    errors = RVS_ERRORS * (1 + (RVS_POOR - 1) * poverty) * _loss(snr)
    values = stars.labels[:, :4] + errors * random.normal(size=(n, 4))
    rv_error = 0.6 * (1 + 1.5 * poverty[:, 0]) * 40 / np.maximum(snr[:, 1], 1.0)
    rv = stars.rv + np.hypot(rv_error, RV_FLOOR) * random.normal(size=n)
    failed, galaxy = random.random((2, n)) < np.array([[FAILED], [GALAXY]])
    rv[failed] = random.uniform(-1500, 1500, failed.sum())
    values[failed] = random.uniform((3000, 0, -4, -0.4), (9000, 6, 1, 1.2), (failed.sum(), 4))
    table = {"VRAD": rv, "VRAD_ERR": rv_error}
    for i, name in enumerate(("TEFF", "LOGG", "FEH", "ALPHAFE")):
        table |= {name: values[:, i], f"{name}_ERR": GIVEN * errors[:, i]}
    return table | {
        "VSINI": np.abs(random.normal(0, 8, n)),
        "RVS_WARN": np.where(failed, 1 << random.integers(0, 3, n), 0).astype(np.int64),
        **{f"SN_{arm}": snr[:, i].astype(np.float32) for i, arm in enumerate("BRZ")},
        "SUCCESS": np.ones(n, dtype=bool),
        "RR_SPECTYPE": np.where(galaxy, "GALAXY", "STAR"),
        "SURVEY": np.full(n, "main"),
        "PROGRAM": np.full(n, "bright"),
        "PRIMARY": np.ones(n, dtype=bool),
    }


def _sptab(stars: Stars, snr: Float, random: np.random.Generator) -> dict[str, Any]:
    n = len(stars)
    truth = stars.labels[:, :4].copy()
    poverty = _poverty(truth[:, 2])
    truth[:, 2] += SP_BIAS_POOR * np.clip((poverty - 0.25) / 0.75, 0, None)  # from [Fe/H] = -1 on
    truth[:, 3] = SP_ALPHA_CENTRE + SP_ALPHA_SHRINK * (truth[:, 3] - SP_ALPHA_CENTRE)
    errors = SP_ERRORS * np.ones((n, 1))
    errors[:, 2] += (SP_FEH_POOR - SP_ERRORS[2]) * poverty
    errors *= _loss(snr)
    values = truth + errors * random.normal(size=(n, 4))
    failed, poor_grid = random.random((2, n)) < np.array([[FAILED], [FAILED]])
    lost = failed | poor_grid
    values[lost] = random.uniform((3500, 0, -5, -0.5), (8000, 5, 0.5, 1.0), (lost.sum(), 4))
    micro = np.log10(stars.labels[:, 4])
    order = (2, 3, 0, 1)  # [Fe/H], [alpha/Fe], microturbulence, Teff, log g
    param = np.insert(values[:, order], 2, micro, axis=1)
    covar = np.zeros((n, 5, 5))
    covar[:, range(5), range(5)] = np.insert((GIVEN * errors[:, order]) ** 2, 2, 0.01, axis=1)
    return {
        "SUCCESS": (~failed).astype(np.int64),
        "BESTGRID": np.where(poor_grid, "s_rdesi1", "s_rdesi2"),
        **{name: values[:, i] for i, name in enumerate(("TEFF", "LOGG", "FEH", "ALPHAFE"))},
        "LOG10MICRO": micro,
        "PARAM": param,
        "COVAR": covar,
        "CHISQ_TOT": random.chisquare(7000, n) * np.where(lost, 3, 1),
        "SNR_MED": np.median(snr, axis=1),
    }


def _fibermap(stars: Stars) -> dict[str, Any]:
    n = len(stars)
    return {
        "COADD_FIBERSTATUS": np.zeros(n, dtype=np.int32),
        "PMRA": stars.pmra.astype(np.float32),
        "PMDEC": stars.pmdec.astype(np.float32),
        "REF_EPOCH": np.full(n, EPOCH, dtype=np.float32),
        "OBJTYPE": np.full(n, "TGT"),
        "EBV": stars.ebv.astype(np.float32),
        "GAIA_PHOT_G_MEAN_MAG": stars.gmag.astype(np.float32),
        "PARALLAX": stars.parallax.astype(np.float32),
        "DESI_TARGET": np.full(n, MWS_ANY, dtype=np.int64),
    }


def _gaia(stars: Stars, random: np.random.Generator) -> dict[str, Any]:
    error = np.exp(np.interp(stars.gmag, GAIA_G, np.log(GAIA_ERROR)))
    noise = error * random.normal(size=(3, len(stars)))
    return {
        "SOURCE_ID": stars.id,
        "REF_EPOCH": np.full(len(stars), EPOCH),
        "RA": stars.ra,
        "DEC": stars.dec,
        "PARALLAX": stars.parallax + noise[0],
        "PARALLAX_ERROR": error.astype(np.float32),
        "PMRA": stars.pmra + noise[1],
        "PMDEC": stars.pmdec + noise[2],
        "PHOT_G_MEAN_MAG": stars.gmag.astype(np.float32),
    }
