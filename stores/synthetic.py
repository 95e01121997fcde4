"""Spectra of the synthetic grid as LAMOST would have taken them: its resolution, pixels, noise and flux errors.

    python -m stores.synthetic GRID_FOLDER --out synthetic.zarr --draws 8 --seed 1

The grid's flux (R = 6000) times its continuum is smoothed to R ~ 1800 +- 8 %, sampled every 1e-4 dex, warped by
a relative flux error of about 10 % of low order, given a velocity error, noise of S/N 10-150 that grows to the
blue, and a few dead pixels; prepared and written as a spectra store for pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from stores.command import run_command, say
from stores.errors import InputError, OptionError
from stores.grid import Grid
from stores.prepare import Preparation, prepare
from stores.prepare.resample import resample
from stores.prepare.resolution import degrade, line_width
from stores.progress import progress
from stores.provenance import array_digest
from stores.spectra import SpectraStore, spectra_columns, spectra_details, spectra_values
from stores.spectrum import Arm, Float, SpectrumBatch

PIXELS = Grid(3.5850, 2815)  # LAMOST's lattice inside the synthetic grid, 3846-7351 A
GRID_RESOLUTION = 6000.0
RESOLUTION, RESOLUTION_SCATTER = 1800.0, 0.08
SNR_RANGE = (10.0, 150.0)
VELOCITY_ERROR = 5.0  # km/s
FLUX_ERROR = 0.10
DEAD_PIXELS = 0.002
SEEDED_ROWS = 4096  # rows of a shard, which share a seed: part of the recipe of the built-in model


@dataclass(kw_only=True)
class SyntheticOptions:
    """Make LAMOST-like spectra from the grid of synthetic spectra."""

    grid_folder: tyro.conf.Positional[Path]
    """Folder of axes.npz and spectra_*.npz."""
    out: Path
    """Spectra store to write, X.zarr."""
    draws: int = 1
    """Noisy spectra of each star."""
    limit: int | None = None
    """At most this many stars, spread over the whole grid."""
    seed: int = 1
    """Seed of noise, flux errors, velocities and resolution."""
    grid: str = "lrs"
    """Grid of the spectra store."""
    preparation: Annotated[Preparation, tyro.conf.arg(name="")] = Preparation()


@dataclass(frozen=True)
class SyntheticGrid:
    """Clean spectra on `PIXELS` at three resolving powers, and their labels (n, 5).

    flux: (3, n, n_pix) times the continuum, scaled to a median of 1
    """

    labels: Float
    flux: NDArray[np.float32]
    resolutions: Float

    @classmethod
    def read(cls, folder: Path, limit: int | None = None) -> SyntheticGrid:
        """Read, smooth and resample the grid; `limit` stars spread over it."""
        if not (folder / "axes.npz").is_file():
            raise InputError(f"'{folder}' has no axes.npz; name the folder of the synthetic grid.")
        with np.load(folder / "axes.npz") as axes:
            wavelength = axes["wavelength_vacuum"]
            continuum_wavelength = axes["continuum_wavelength_vacuum"]
        files = sorted(folder.glob("spectra_*.npz"))
        resolutions = RESOLUTION * (1 + RESOLUTION_SCATTER * np.array([-1.0, 0.0, 1.0]))
        labels, spectra = [], []
        for path in progress(files, "smoothing the grid", unit="file"):
            with np.load(path) as file:
                flux = 1 - np.cumsum(file["depth_delta"], axis=1, dtype=np.int32) / 2048
                level = 10 ** (np.cumsum(file["log10_continuum_delta"], axis=1) / 10000)
                some = file["labels"]
            chosen = slice(None)
            if limit is not None:
                chosen = slice(None, None, max(1, 1000 * len(files) // limit))
            some, flux, level = some[chosen], flux[chosen], level[chosen]
            flux *= np.stack([np.interp(wavelength, continuum_wavelength, row) for row in level])
            flux /= np.median(flux, axis=1, keepdims=True)
            sigma = line_width(wavelength, GRID_RESOLUTION)
            arm = Arm(wavelength, flux, np.ones_like(flux), sigma)
            smooth = [degrade(arm, resolution)[0] for resolution in resolutions]
            spectra.append([resample(wavelength, s.flux, s.ivar, PIXELS.wavelength)[0] for s in smooth])
            labels.append(some)
        clean = np.concatenate([np.array(part, dtype=np.float32) for part in spectra], axis=1)
        return cls(np.concatenate(labels)[:limit], clean[:, :limit], resolutions)

    def observe(self, stars: NDArray[np.int64], random: np.random.Generator) -> tuple[Float, Float, Float]:
        """flux, ivar (n, n_pix) and velocity error (n,) km/s of one noisy spectrum of each star."""
        n = len(stars)
        where = random.uniform(0, 2, n)  # between the three resolutions
        low = np.minimum(where.astype(int), 1)
        share = (where - low)[:, None]
        flux = self.flux[low, stars] * (1 - share) + self.flux[low + 1, stars] * share
        x = np.linspace(-1, 1, PIXELS.n_pix)
        warp = np.polynomial.legendre.legval(x, random.normal(0, FLUX_ERROR / 2, (4, n)))
        flux = flux * np.exp(warp)
        snr = np.exp(random.uniform(np.log(SNR_RANGE[0]), np.log(SNR_RANGE[1]), n))[:, None]
        # the blue end is noisier than the red one by two to three times, as in LAMOST's blue arm
        shape = (PIXELS.wavelength / 5000.0) ** random.uniform(-3.0, -1.0, (n, 1))
        sigma = np.median(flux, axis=1, keepdims=True) / snr * shape
        flux = flux + sigma * random.normal(size=flux.shape)
        ivar = np.broadcast_to(sigma**-2, flux.shape).copy()
        ivar[random.random(flux.shape) < DEAD_PIXELS] = 0.0
        return flux, ivar, random.normal(0, VELOCITY_ERROR, n)


def make_synthetic(options: SyntheticOptions) -> int:
    """Write the store; returns the exit status."""
    if options.out.suffix != ".zarr":
        raise OptionError(f"'{options.out}' does not end in .zarr; name a store.")
    return _write_store(options)


def _write_store(options: SyntheticOptions) -> int:
    grid = Grid.parse(options.grid)
    clean = SyntheticGrid.read(options.grid_folder, options.limit)
    n_stars = len(clean.labels)
    n = n_stars * options.draws
    job = {
        "survey": "synthetic",
        "seed": options.seed,
        "rows": n,
        "content": array_digest(clean.labels, clean.flux),
        "preprocessing": options.preparation.attributes(grid),
    }
    details = spectra_details(grid, "synthetic", options.preparation)
    store = SpectraStore.create(options.out, spectra_columns(grid), n, job, shard_rows=SEEDED_ROWS, details=details)
    done = set(store.finished_shards())
    # rows of all stars are mixed, so that every shard is a fair sample of the grid
    order = np.random.default_rng([options.seed, 0]).permutation(n)
    for shard in progress(range(store.n_shards), "observing", unit="shard"):
        if shard in done:
            continue
        rows = order[store.rows(shard)]
        random = np.random.default_rng([options.seed, 1, shard])
        parts = [_batch(clean, some, n_stars, random) for some in np.array_split(rows, max(1, len(rows) // 256))]
        batch = _joined([prepare([part], grid, options.preparation) for part in parts])
        store.write_shard(shard, spectra_values(batch), {"sources": [], "failed": []})
    if not store.complete:
        store.finish()
    say(f"'{store.path}': {n} synthetic spectra of {n_stars} stars.")
    return 0


def _batch(clean: SyntheticGrid, rows: NDArray[np.int64], n_stars: int, random: np.random.Generator) -> SpectrumBatch:
    flux, ivar, rv = clean.observe(rows % n_stars, random)
    return SpectrumBatch([Arm(PIXELS.wavelength, flux, ivar)], rows, np.nan, np.nan, rv)  # type: ignore[arg-type]


def _joined(parts: list[SpectrumBatch]) -> SpectrumBatch:
    def all_of(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    whole = SpectrumBatch(
        [Arm(parts[0].wavelength, all_of("flux"), all_of("ivar"))],
        *(all_of(name) for name in ("id", "ra", "dec", "rv")),
    )
    whole.snr = all_of("snr")
    whole.flags = all_of("flags")
    return whole


def main() -> None:
    """Entry point of python -m stores.synthetic."""
    run_command(SyntheticOptions, make_synthetic, "stores.synthetic")


if __name__ == "__main__":
    main()
