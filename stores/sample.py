"""The built-in sample: 500 simulated LAMOST-like spectra with known labels, for commands called without files.

Made by `python -m stores.synthetic GRID_FOLDER --out sample.fits.gz --limit 500 --seed 7`; the `table` reader
reads it like any other table. Columns TEFF (K), LOGG (dex), FEH, ALPHAFE (dex), VMIC (km/s) are the true labels.
"""

from __future__ import annotations

from pathlib import Path

SAMPLE = Path(__file__).parent / "data" / "sample.fits.gz"
