"""The PASTEL catalogue (Soubiran et al. 2016), VizieR B/pastel: a row a star and paper, many with Teff alone.

As VizieR gives it: tab- or ;-separated with lines of units and dashes, or FITS, whose names have no brackets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stores.catalogue import Catalogue
from stores.catalogues import CatalogueOptions, Sieve, catalogue
from stores.catalogues.columns import load_columns
from stores.catalogues.literature import DISCORDANT_CUT, combine_papers, numbered
from stores.stars import same_stars

RA, DEC = ("_RAJ2000", "_RA", "RAJ2000"), ("_DEJ2000", "_DE", "DEJ2000")
FEH, FEH_ERROR = ("[Fe/H]", "__Fe_H_", "FeH"), ("e_[Fe/H]", "e__Fe_H_", "e_FeH")
CUTS = DISCORDANT_CUT


@catalogue("pastel", cuts=CUTS)
def read(path: Path, options: CatalogueOptions) -> Catalogue:
    """The PASTEL catalogue from VizieR: teff, logg, feh, one row a star."""
    table = load_columns(path, ("ID", "Teff", "e_Teff", "logg", "e_logg", *FEH, *FEH_ERROR, *RA, *DEC))
    table.need("ID")
    table.need(*FEH)
    values = {"teff": table.numbers("Teff"), "logg": table.numbers("logg"), "feh": table.numbers(*FEH)}
    errors = {"teff": table.numbers("e_Teff"), "logg": table.numbers("e_logg"), "feh": table.numbers(*FEH_ERROR)}
    ra, dec = table.degrees(*RA, hours=True), table.degrees(*DEC)
    nowhere = np.full(table.n, np.nan)
    star = same_stars(nowhere, nowhere, [numbered(table.words("ID"))])
    sieve = Sieve(CUTS, int(star.max()) + 1, options)
    return combine_papers("pastel", star, values, errors, ra, dec, sieve)
