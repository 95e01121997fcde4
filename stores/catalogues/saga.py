"""The SAGA database (Suda et al. 2008, sagadatabase.jp) as tab-separated text: a row a star and paper.

Columns are found by the names that the site's tables have; [alpha/Fe] is [Mg/Fe], of the alpha elements the one that
most papers give.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stores.catalogue import Catalogue
from stores.catalogues import CatalogueOptions, Sieve, catalogue
from stores.catalogues.columns import load_columns
from stores.catalogues.literature import DISCORDANT_CUT, combine_papers, numbered
from stores.stars import same_stars

OBJECT = ("Object", "Object name", "Star")
RA, DEC = ("RAdeg", "RA", "RAJ2000", "_RA"), ("DECdeg", "DEdeg", "DEC", "Decl.", "DEJ2000", "_DE")
TEFF, LOGG, FEH = ("Teff",), ("log g", "logg"), ("[Fe/H]", "__Fe_H_")
FEH_ERROR, MG_ERROR = ("d(Fe)", "e_[Fe/H]"), ("d(Mg)",)
MG_H, MG_FE = ("[Mg/H]",), ("[Mg/Fe]",)
CUTS = DISCORDANT_CUT


@catalogue("saga", cuts=CUTS)
def read(path: Path, options: CatalogueOptions) -> Catalogue:
    """The SAGA database, tab-separated: teff, logg, feh, alphafe ([Mg/Fe]), one row a star."""
    table = load_columns(path, (*OBJECT, *RA, *DEC, *TEFF, *LOGG, *FEH, *FEH_ERROR, *MG_ERROR, *MG_H, *MG_FE))
    table.need(*OBJECT)
    table.need(*FEH)
    feh = table.numbers(*FEH)
    mgfe = table.numbers(*MG_FE) if table.find(*MG_FE) is not None else table.numbers(*MG_H) - feh
    values = {"teff": table.numbers(*TEFF), "logg": table.numbers(*LOGG), "feh": feh, "alphafe": mgfe}
    errors = {"feh": table.numbers(*FEH_ERROR), "alphafe": table.numbers(*MG_ERROR)}
    ra, dec = table.degrees(*RA, hours=True), table.degrees(*DEC)
    nowhere = np.full(table.n, np.nan)
    star = same_stars(nowhere, nowhere, [numbered(table.words(*OBJECT))])
    sieve = Sieve(CUTS, int(star.max()) + 1, options)
    return combine_papers("saga", star, values, errors, ra, dec, sieve)
