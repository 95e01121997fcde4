"""The PASTEL catalogue (Soubiran et al. 2016) as VizieR gives B/pastel as tab-separated values.

Lines that begin with #, then names, units and dashes, then a row a star and paper, with positions of epoch 2000 that
VizieR adds. A good part of the rows has Teff alone, and many values have no error: those fields hold blanks. Names
are those of the catalogue's VizieR columns; identifiers and bibliographic codes are made up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stores.atomic import replacing
from stores.simulate.catalogues.literature import Literature, text
from stores.simulate.catalogues.origin import origin
from stores.simulate.layouts import NO_CARDS, Cards
from stores.simulate.population import Stars

PAPERS, MORE = 12, 1.0
OFFSET = np.array([50.0, 0.08, 0.05, 0.0, 0.0])  # K, dex, dex; it has neither [alpha/Fe] nor microturbulence
SCATTER = np.array([60.0, 0.12, 0.06, 0.0, 0.0])
TEFF_ALONE, NO_ERROR = 0.35, 0.4  # shares of rows
FORM = {  # unit, width
    "_RAJ2000": ("deg", 10),
    "_DEJ2000": ("deg", 10),
    "ID": ("", 12),
    "Teff": ("K", 5),
    "e_Teff": ("K", 4),
    "logg": ("[cm/s2]", 5),
    "e_logg": ("[cm/s2]", 4),
    "[Fe/H]": ("[Sun]", 5),
    "e_[Fe/H]": ("[Sun]", 4),
    "bibcode": ("", 19),
}


def write_pastel(path: Path, stars: Stars, seed: int, *, cards: Cards = NO_CARDS) -> None:
    """Write rows of all these stars, several of a star that was in several papers; give it bright ones."""
    random = np.random.default_rng([seed, 103])
    rows = Literature.of(stars, random, papers=PAPERS, more=MORE, offset=OFFSET, scatter=SCATTER)
    ra, dec = (position[rows.star] for position in stars.at(2000.0))
    whole, error = random.random((2, len(ra))) > np.array([[TEFF_ALONE], [NO_ERROR]])
    (teff, logg, feh), (e_teff, e_logg, e_feh) = rows.values.T[:3], rows.errors.T[:3]
    columns = (
        text(ra, "{:.6f}"),
        text(dec, "{:+.6f}"),
        [f"SIM {star:06d}" for star in rows.star],
        text(teff, "{:.0f}"),
        text(e_teff, "{:.0f}", error),
        text(logg, "{:.2f}", whole),
        text(e_logg, "{:.2f}", whole & error),
        text(feh, "{:.2f}", whole),
        text(e_feh, "{:.2f}", whole & error),
        [f"{2001 + paper}Sim...{paper + 1:3d}...{1:2d}A" for paper in rows.paper],
    )
    lines = [f"#   {key}: {value}" for key, value in origin("VizieR B/pastel", seed, cards).items()]
    lines += ["#Name: B/pastel/pastel", "#Title: PASTEL catalogue, simulated", ""]
    units, widths = zip(*FORM.values(), strict=True)
    padded = [[field.rjust(width) for field in column] for column, width in zip(columns, widths, strict=True)]
    lines += ["\t".join(row) for row in (tuple(FORM), units, ("-" * width for width in widths))]
    lines += ["\t".join(row) for row in zip(*padded, strict=True)]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
