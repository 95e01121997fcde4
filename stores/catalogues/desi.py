"""The DESI Milky Way Survey catalogue `mwsall-pix-*.fits` (data model: desimilkyway/desi-mws-edr-datamodel).

Its HDUs are matched row by row: RVTAB holds RVSpecfit's labels, SPTAB those of the SP pipeline (FERRE), GAIA the Gaia
DR3 source, FIBERMAP the position and motion that the target was observed with. REF_ID is of Gaia DR2 and not used.
Errors as given are known to be too small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.catalogue import Catalogue
from stores.catalogues import CatalogueOptions, Sieve, catalogue
from stores.catalogues.columns import Columns, load_columns, read_fits
from stores.errors import InputError
from stores.surveys.fits import FitsFile, open_fits

LABELS = {"teff": "TEFF", "logg": "LOGG", "feh": "FEH", "alphafe": "ALPHAFE"}
COVARIANCE = {"feh": 0, "alphafe": 1, "teff": 3, "logg": 4}  # place in SPTAB's PARAM and COVAR; 2 is microturbulence
POOR_GRID = "s_rdesi1"  # of templates, without the line spread of DESI
RVS_CUTS = {"warn": "RVS_WARN is 0", "spectype": "RR_SPECTYPE is STAR"}
SP_CUTS = {"success": "SUCCESS is set", "grid": f"BESTGRID is not {POOR_GRID}"}


@catalogue("desi_rvs", cuts=RVS_CUTS)
def read_rvs(path: Path, options: CatalogueOptions) -> Catalogue:
    """DESI mwsall, HDU RVTAB (RVSpecfit): teff, logg, feh, alphafe by TARGETID and Gaia id."""
    columns = [*LABELS.values(), *(f"{name}_ERR" for name in LABELS.values())]
    table = load_columns(path, (*columns, "TARGETID", "RVS_WARN", "RR_SPECTYPE"), hdus=("RVTAB",))
    for name in ("TARGETID", "RVS_WARN", "RR_SPECTYPE", *LABELS.values()):
        table.need(name)
    sieve = Sieve(RVS_CUTS, table.n, options)
    sieve.drop("warn", table.bits("RVS_WARN") != 0)
    sieve.drop("spectype", table.words("RR_SPECTYPE") != "STAR")
    sigmas = {label: table.numbers(f"{name}_ERR") for label, name in LABELS.items()}
    return _catalogue("desi_rvs", table, sigmas, sieve)


@catalogue("desi_sp", cuts=SP_CUTS)
def read_sp(path: Path, options: CatalogueOptions) -> Catalogue:
    """DESI mwsall, HDU SPTAB (SP pipeline): teff, logg, feh, alphafe by TARGETID and Gaia id."""
    wanted = (*LABELS.values(), "COVAR", "TARGETID", "SUCCESS", "BESTGRID")
    table = load_columns(path, wanted, hdus=("SPTAB",))
    for name in ("TARGETID", "SUCCESS", *LABELS.values()):
        table.need(name)
    sieve = Sieve(SP_CUTS, table.n, options)
    sieve.drop("success", table.bits("SUCCESS") == 0)
    sieve.drop("grid", table.words("BESTGRID") == POOR_GRID)
    sigmas = {}
    if (covariance := table.find("COVAR")) is not None and covariance.size == 25 * table.n:
        square = covariance.reshape(table.n, 5, 5)
        sigmas = {label: np.sqrt(np.abs(square[:, i, i])) for label, i in COVARIANCE.items()}
    return _catalogue("desi_sp", table, sigmas, sieve)


def _catalogue(name: str, table: Columns, sigmas: dict[str, Any], sieve: Sieve) -> Catalogue:
    """The labels of a table of the file with what its other HDUs say of the same rows."""
    with open_fits(table.path) as file:
        place = _beside(file, "FIBERMAP", ("TARGET_RA", "TARGET_DEC", "PMRA", "PMDEC", "REF_EPOCH"), table)
        gaia = _beside(file, "GAIA", ("SOURCE_ID",), table).get("SOURCE_ID")
    nowhere = np.full(table.n, np.nan)
    epoch = place.get("REF_EPOCH", nowhere).astype(np.float64)
    return sieve.catalogue(
        name,
        {label: table.numbers(column) for label, column in LABELS.items()},
        sigmas,
        id=table.ids("TARGETID"),
        gaia=gaia,
        ra=place.get("TARGET_RA", nowhere),
        dec=place.get("TARGET_DEC", nowhere),
        pmra=place.get("PMRA", nowhere),
        pmdec=place.get("PMDEC", nowhere),
        epoch=np.where(epoch > 1900, epoch, np.nan),  # 0 where a target has none
    )


def _beside(file: FitsFile, name: str, columns: tuple[str, ...], table: Columns) -> dict[str, NDArray[Any]]:
    """Columns of an HDU that is matched to the table row by row; none where the file lacks it."""
    hdu = file.find(name)
    if hdu is None:
        return {}
    if int(hdu.header["NAXIS2"]) != table.n:
        raise InputError(
            f"'{file.path}' has {hdu.header['NAXIS2']} rows in HDU {name}, not {table.n}; fetch it again."
        )
    return read_fits(file, hdu, [column for column in columns if file.has_column(hdu, column)])
