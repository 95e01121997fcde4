"""Small models and the stores they are trained on, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from embed.config import SpectralConfig
from embed.model import SpectralTransformer
from stores.grid import Grid
from stores.prepare import Preparation, prepare
from stores.spectra import SpectraStore, spectra_columns, spectra_details, spectra_values
from stores.spectrum import Arm, SpectrumBatch

GRID = Grid(3.65, 205)  # ten patches and a quarter
PREPARATION = Preparation(continuum="none")
SHARD_ROWS = 64


def make_spectra(n: int, seed: int = 0, first_id: int = 1, poor: tuple[int, ...] = ()) -> SpectrumBatch:
    """Prepared spectra whose single line differs in depth from star to star; rows of `poor` are nearly all masked."""
    random = np.random.default_rng(seed)
    depth = random.uniform(0.1, 0.9, (n, 1))
    pixel = np.arange(GRID.n_pix)
    flux = 1 - depth * np.exp(-0.5 * ((pixel - 100) / 15) ** 2) + 0.02 * random.normal(size=(n, GRID.n_pix))
    ivar = np.full_like(flux, 2500.0)
    ivar[random.random(flux.shape) < 0.02] = 0
    ivar[list(poor), 10:] = 0
    ids = np.arange(first_id, first_id + n, dtype=np.int64)
    ra, dec = 0.01 * np.arange(n), np.full(n, 40.0)
    batch = SpectrumBatch([Arm(GRID.wavelength, flux, ivar)], ids, ra, dec, np.zeros(n))
    return prepare([batch], GRID, PREPARATION)


def make_store(path: Path, n: int = 300, seed: int = 0, poor: tuple[int, ...] = ()) -> SpectraStore:
    """A finished spectra store of `make_spectra`."""
    store = SpectraStore.create(
        path,
        spectra_columns(GRID),
        n,
        {"survey": "made", "rows": n, "seed": seed},
        shard_rows=SHARD_ROWS,
        details=spectra_details(GRID, "made", PREPARATION),
    )
    batch = make_spectra(n, seed, poor=poor)
    for shard in range(store.n_shards):
        store.write_shard(shard, spectra_values(batch.take(store.rows(shard))), {"sources": [], "failed": []})
    store.finish()
    return store


def small_config(grid: Grid = GRID, preparation: Preparation = PREPARATION) -> SpectralConfig:
    """A transformer of a few thousand weights."""
    return SpectralConfig(
        width=32,
        layers=2,
        heads=2,
        decoder_width=32,
        decoder_layers=1,
        grid=str(grid),
        preprocessing=preparation.attributes(grid),
    )


def make_model(seed: int = 0) -> SpectralTransformer:
    """An untrained model."""
    torch.manual_seed(seed)
    return SpectralTransformer(small_config()).eval()


def save_model(folder: Path, seed: int = 0) -> Path:
    """The folder of an untrained model for spectra of `make_store`."""
    make_model(seed).save_pretrained(folder)
    return folder
