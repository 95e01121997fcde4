"""The synthetic spectra: LAMOST-like in resolution, noise and pixels; the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stores.errors import InputError, OptionError
from stores.spectra import SpectraStore
from stores.synthetic import PIXELS, SyntheticGrid, SyntheticOptions, make_synthetic


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of twelve stars in the files' true form, each with one line of its own depth at 5000 A."""
    folder = tmp_path_factory.mktemp("grid")
    wavelength = np.exp(np.arange(np.log(3822), np.log(7377), 6.667e-5))
    continuum_wavelength = np.linspace(3800, 7400, 360)
    np.savez(folder / "axes.npz", wavelength_vacuum=wavelength, continuum_wavelength_vacuum=continuum_wavelength)
    depth = np.linspace(0.1, 0.9, 12)[:, None] * np.exp(-0.5 * ((wavelength - 5000) / 0.354) ** 2)
    steps = np.diff(np.round(depth * 2048).astype(np.int32), axis=1, prepend=0)
    level = np.round(np.log10(1e6 * (continuum_wavelength / 5000) ** -2) * 10000).astype(np.int32)
    level = np.diff(np.tile(level, (12, 1)), axis=1, prepend=0)
    labels = np.stack([np.linspace(4000, 7000, 12), *np.zeros((4, 12))], axis=1)
    np.savez(
        folder / "spectra_00000.npz", depth_delta=steps.astype(np.int16), log10_continuum_delta=level, labels=labels
    )
    return folder


def test_lines_have_the_width_of_lamost(grid: Path) -> None:
    clean = SyntheticGrid.read(grid)
    assert clean.flux.shape == (3, 12, PIXELS.n_pix)
    window = np.abs(PIXELS.wavelength - 5000) < 12
    x = PIXELS.wavelength[window]
    for spectrum, resolution in zip(clean.flux[:, -1], clean.resolutions, strict=True):
        inside = spectrum[window].astype(float)
        line = 1 - inside / np.interp(x, x[[0, -1]], inside[[0, -1]])
        sigma = np.sqrt(np.sum(line * (x - np.sum(line * x) / line.sum()) ** 2) / line.sum())
        # the line-spread function and the pixel, in quadrature
        pixel = 5000 * np.log(10) * 1e-4
        assert sigma == pytest.approx(np.hypot(5000 / resolution / 2.3548, pixel / np.sqrt(12)), rel=0.02)


def test_noise_is_what_ivar_says(grid: Path) -> None:
    clean = SyntheticGrid.read(grid)
    random = np.random.default_rng(0)
    flux, ivar, rv = clean.observe(np.full(400, 3), random)
    assert np.mean(ivar == 0) == pytest.approx(0.002, rel=0.2)
    red = slice(-400, None)
    rough = np.diff(flux[:, red], n=2)  # the spectrum is smooth there: what is left is noise
    variance = 1 / np.where(ivar[:, red] > 0, ivar[:, red], np.nan)
    assert np.nanmean(rough[:, ::3] ** 2 / (6 * variance[:, 1:-1:3])) == pytest.approx(1, rel=0.03)
    assert np.std(rv) == pytest.approx(5, rel=0.15)


def test_store_is_the_same_for_the_same_seed(grid: Path, tmp_path: Path) -> None:
    fingerprints = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = SyntheticOptions(grid_folder=grid, out=tmp_path / f"{name}.zarr", draws=3, seed=seed)
        assert make_synthetic(options) == 0
        store = SpectraStore.open(options.out)
        assert sorted(store.read("id")) == list(range(36))
        fingerprints.append(store.fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    make_synthetic(SyntheticOptions(grid_folder=grid, out=tmp_path / "a.zarr", draws=3, seed=1))  # finished already


def test_wrong_calls_are_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"does not end in \.zarr"):
        make_synthetic(SyntheticOptions(grid_folder=tmp_path, out=tmp_path / "x.txt"))
    with pytest.raises(InputError, match=r"has no axes\.npz"):
        make_synthetic(SyntheticOptions(grid_folder=tmp_path, out=tmp_path / "x.zarr"))
