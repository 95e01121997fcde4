"""JINAbase (Abohalima & Frebel 2018; 2021 edition): metal-poor stars as papers have measured them, CSV.

Abundances are log epsilon: [Mg/Fe], which stands for [alpha/Fe], is Mg - 7.60 - [Fe/H] with the Sun of Asplund et al.
(2009), the database's own. Upper limits (<4.6) are no values. Rows are of one star if identifier or position say so:
many have only one of them. Names count only where there is no identifier, as 'Star1' is several stars. Positions are
sexagesimal in most rows and decimal degrees in others; a few are wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stores.catalogue import Catalogue
from stores.catalogues import CatalogueOptions, Sieve, catalogue
from stores.catalogues.columns import load_columns
from stores.catalogues.literature import DISCORDANT_CUT, combine_papers, numbered
from stores.stars import same_stars

SUN_MG = 7.60
CUTS = DISCORDANT_CUT
COLUMNS = ("Name", "Simbad_Identifier", "RA", "DEC", "Teff", "logg", "Fe/H", "Mg")


@catalogue("jinabase", cuts=CUTS)
def read(path: Path, options: CatalogueOptions) -> Catalogue:
    """JINAbase, CSV: teff, logg, feh, alphafe ([Mg/Fe]), one row a star."""
    table = load_columns(path, COLUMNS)
    table.need("Simbad_Identifier")
    table.need("Fe/H")
    feh = table.numbers("Fe/H")
    values = {
        "teff": table.numbers("Teff"),
        "logg": table.numbers("logg"),
        "feh": feh,
        "alphafe": table.numbers("Mg") - SUN_MG - feh,
    }
    ra, dec = table.degrees("RA", hours=True), table.degrees("DEC")
    identifier, name = table.words("Simbad_Identifier"), table.words("Name")
    star = same_stars(ra, dec, [numbered(np.where(identifier == "", name, identifier))])
    sieve = Sieve(CUTS, int(star.max()) + 1, options)
    return combine_papers("jinabase", star, values, {}, ra, dec, sieve)
