"""LAMOST's labels (LASP; Luo et al. 2015), from its catalogues of A, F, G and K stars or any table with their columns.

CSV, FITS (plain or gzip) or Parquet, by obsid. Rows are spectra: a star has as many as it was observed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stores.catalogue import Catalogue
from stores.catalogues import CatalogueOptions, Sieve, catalogue
from stores.catalogues.columns import load_columns

SNR = 20.0
CUTS = {"snr": f"snrg above {SNR:g}, where the table has snrg"}
LABELS = ("teff", "logg", "feh")
GAIA = ("gaia_source_id", "gaia_dr3_source_id", "source_id")
ERRORS = {label: (f"{label}_err", f"{label}_error") for label in LABELS}


@catalogue("lasp", cuts=CUTS)
def read(path: Path, options: CatalogueOptions) -> Catalogue:
    """LAMOST catalogues with LASP's labels: teff, logg, feh by obsid, and by Gaia id where given."""
    wanted = (*LABELS, *sum(ERRORS.values(), ()), "obsid", *GAIA, "ra", "dec", "ra_obs", "dec_obs", "snrg")
    table = load_columns(path, wanted)
    table.need("obsid")
    table.need("feh")
    sieve = Sieve(CUTS, table.n, options)
    if table.find("snrg") is not None:
        sieve.drop("snr", ~(table.numbers("snrg") > SNR))
    return sieve.catalogue(
        "lasp",
        {label: table.numbers(label) for label in LABELS},
        {label: table.numbers(*names) for label, names in ERRORS.items()},
        id=table.ids("obsid"),
        gaia=table.ids(*GAIA),
        ra=table.numbers("ra", "ra_obs"),
        dec=table.numbers("dec", "dec_obs"),
        # the input catalogues of LAMOST are of several epochs, and it does not say of which
        epoch=np.full(table.n, np.nan if options.epoch is None else options.epoch),
    )
