"""SpecCLIP: what its published code computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from specclip_made import (
    KINDS,
    LAYERS,
    WIDTH,
    by_hand,
    embed_options,
    embedded,
    encoder_weights,
    load,
    save,
    spectra,
    weights_of,
)

from embed.run import Embedder, embed
from embed.specclip import GRID, bridge
from stores.errors import ModelError, OptionError


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_the_published_code_does(kind: str, tmp_path: Path) -> None:
    weights = weights_of(kind)
    model = load(save(tmp_path / "model.ckpt", weights))
    flux = spectra()
    expected = by_hand(flux, weights, kind)
    found = embedded(model, flux)
    assert found.shape == expected.shape == (3, model.width)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert model.variant == kind.split()[0]


def test_queries_are_scaled_twice() -> None:
    weights = weights_of("encoder")
    once, twice = (by_hand(spectra(1), weights, "encoder", scalings=n) for n in (1, 2))
    assert np.abs(once - twice).max() > 0.01 * np.abs(twice).max()


def test_all_the_weights_of_an_encoder_of_full_size_are_there() -> None:
    # by hand from the facts: 42,677,013 at width 768 and 6 layers; here the same sum at the small width
    d = WIDTH
    block = (d * d + d) * 2 + (2 * d * d + 2 * d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    assert sum(value.numel() for value in encoder_weights().values()) == (
        21 * d + d + 150 * d + LAYERS * block + 2 * d + 21 * d + 21
    )


@pytest.mark.slow
def test_full_size(tmp_path: Path) -> None:
    weights = encoder_weights(width=768, layers=6)
    model = load(save(tmp_path / "lrs_encoder.ckpt", weights))
    assert model.attributes()["weights"] == 42_677_013
    expected = by_hand(spectra(1), weights, "encoder")
    np.testing.assert_allclose(embedded(model, spectra(1)), expected, atol=1e-4 * np.abs(expected).max())


def test_masked_pixels_are_bridged() -> None:
    flux, good = spectra(4), np.random.default_rng(1).random((4, GRID.n_pix)) > 0.3
    good[1, :50], good[2, -9:], good[3] = False, False, False
    good[3, 700] = True
    pixel = np.arange(GRID.n_pix)
    expected = [np.interp(pixel, pixel[row], one[row]) for one, row in zip(flux, good, strict=True)]
    dirty = np.where(good, flux, 1e30).astype(np.float32)
    found = bridge(torch.from_numpy(dirty), torch.from_numpy(good))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(found.numpy()[good], flux[good])


def test_odd_spectra_give_numbers(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model.ckpt", weights_of("aligned in one")))
    flux, ivar = spectra(3), np.ones((3, GRID.n_pix), np.float32)
    ivar[0], ivar[1] = 0, 0
    ivar[1, 500] = 1  # a single pixel: a constant spectrum without scatter
    found = embedded(model, flux, ivar)
    assert np.all(found[0] == 0)
    assert np.all(np.isfinite(found))
    assert np.all(np.any(found[1:] != 0, axis=1))


def test_another_grid_is_refused(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model.ckpt", weights_of("encoder")))
    for start, n_pix in ((3.602, 1463), (3.603, 1462)):
        with pytest.raises(ModelError, match="on the grid 'lrs' only"):
            Embedder(model, start, "cpu", 2)(np.ones((1, n_pix)), np.ones((1, n_pix)))
    (tmp_path / "x.fits").touch()  # refused before any file is looked at
    options = embed_options(tmp_path / "model.ckpt", tmp_path / "e.zarr", tmp_path / "x.fits", survey="lamost")
    with pytest.raises(OptionError, match="on the grid 'lrs' and on no other, not on 'optical'; leave --grid out"):
        embed(replace(options, grid="optical"))


def test_the_grid_is_specclips() -> None:
    assert GRID.n_pix == 1462
    np.testing.assert_allclose(GRID.wavelength[[0, -1]], [3999.45, 5598.87], atol=0.005)
    assert GRID.kms == pytest.approx(69.03, abs=0.005)
