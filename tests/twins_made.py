"""Small twins of DESI and LAMOST: the same stars as spectra stores, label catalogues and truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from stores.simulate.simulate import SimulateOptions, simulate
from stores.spectra import SpectraStore

N = 300


@dataclass(frozen=True)
class Twin:
    """A simulated survey: its store, the folder of its catalogues, and the truth by column, sorted by spectrum id."""

    survey: str
    store: SpectraStore
    catalogues: Path
    truth: dict[str, np.ndarray]

    def of(self, ids: np.ndarray, column: str) -> np.ndarray:
        """The truth of spectra (n,) by their id."""
        place = np.searchsorted(self.truth["id"], ids)
        assert np.array_equal(self.truth["id"][place], ids)
        return self.truth[column][place]


def make_twin(folder: Path, survey: str, n: int = N) -> Twin:
    """Simulate n stars as a survey sees them; the same n gives the same stars."""
    out, store = folder / survey, folder / f"{survey}.zarr"
    assert simulate(SimulateOptions(survey=survey, n=n, out=out, store=store, seed=1)) == 0
    table = pq.read_table(out / "truth.parquet").sort_by("id")
    columns = ("id", "star_id", "teff", "logg", "feh", "alphafe", "ra", "dec", "pmra", "pmdec")
    truth = {name: table[name].to_numpy() for name in columns}
    return Twin(survey, SpectraStore.open(store), out / "catalogues", truth)
