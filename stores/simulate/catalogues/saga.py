"""The SAGA database (Suda et al. 2008) as tab-separated text: a row a star and paper.

Object, Reference, Teff, log g, [X/H] and d(X) are named as in the tables of sagadatabase.jp, RAdeg and DECdeg as in
its cleaned catalogue; which of them stand side by side in one file was not checked against the site. Positions are
of epoch 2000. Objects and papers are made up. Lines that begin with # say where the file comes from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stores.atomic import replacing
from stores.simulate.catalogues.literature import Literature, text
from stores.simulate.catalogues.origin import origin
from stores.simulate.layouts import NO_CARDS, Cards
from stores.simulate.population import Stars

PAPERS, MORE = 8, 1.0
OFFSET = np.array([80.0, 0.15, 0.10, 0.05, 0.15])  # K, dex, dex, dex, km/s
SCATTER = np.array([60.0, 0.15, 0.08, 0.06, 0.15])
UNGIVEN = 0.15  # share of rows without magnesium, and without errors


def write_saga(path: Path, stars: Stars, seed: int, *, cards: Cards = NO_CARDS) -> None:
    """Write rows of all these stars, several of a star that was in several papers; give it metal-poor ones."""
    random = np.random.default_rng([seed, 102])
    rows = Literature.of(stars, random, papers=PAPERS, more=MORE, offset=OFFSET, scatter=SCATTER)
    ra, dec = (position[rows.star] for position in stars.at(2000.0))
    teff, logg, feh, alphafe, vmic = rows.values.T
    magnesium, iron_error, magnesium_error = random.random((3, len(teff))) > UNGIVEN
    columns = {
        "Object": [f"SIM{star:06d}" for star in rows.star],
        "Reference": [f"Author{paper + 1:02d}+, SIM, {paper + 1}, 1, {2001 + paper}" for paper in rows.paper],
        "RAdeg": text(ra, "{:.6f}"),
        "DECdeg": text(dec, "{:.6f}"),
        "Teff": text(teff, "{:.0f}"),
        "log g": text(logg, "{:.2f}"),
        "Vturb": text(vmic, "{:.2f}"),
        "[Fe/H]": text(feh, "{:.2f}"),
        "d(Fe)": text(rows.errors[:, 2], "{:.2f}", iron_error),
        "[Mg/H]": text(feh + alphafe, "{:.2f}", magnesium),
        "d(Mg)": text(rows.errors[:, 3], "{:.2f}", magnesium & magnesium_error),
    }
    lines = [f"# {key}: {value}" for key, value in origin("the SAGA database", seed, cards).items()]
    lines += ["\t".join(row) for row in (tuple(columns), *zip(*columns.values(), strict=True))]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
