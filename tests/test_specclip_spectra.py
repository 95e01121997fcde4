"""Spectra for SpecCLIP: interpolated, normalised and embedded as its published code does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import BIG_ID, write_desi_coadd, write_lamost
from models_made import make_store
from specclip_made import Float, by_hand, embed_options, load, save, weights_of
from test_continuum import specclip_by_hand
from test_prepare import NASTY, batch_of

from embed.run import embed, embed_file
from embed.specclip import GRID, PREPARATION
from stores import Arm, EmbeddingStore, Flag, Grid, Preparation, SpectrumBatch, prepare
from stores.errors import StoreError
from stores.ingest import IngestOptions, ingest
from stores.prepare.resample import interpolate

# -- preparation ---------------------------------------------------------------------------------------------


def test_fingerprints_of_older_preparations_are_what_they_were() -> None:
    for preparation, known in {
        Preparation(): "26122fbbc0fba881",
        Preparation(frame="observed", continuum="specclip"): "24b4bcdcc9258e9d",
        Preparation(continuum="none", resolving_power=1800): "05f2cf3e0db040a4",
    }.items():
        attributes = preparation.attributes(GRID)
        assert attributes["fingerprint"] == known
        assert "resampling" not in attributes
        assert Preparation.from_attributes(attributes) == preparation
    linear = PREPARATION.attributes(GRID)
    assert linear["resampling"] == "linear"
    assert linear["fingerprint"] != "24b4bcdcc9258e9d"
    assert Preparation.from_attributes(linear) == PREPARATION


@pytest.mark.parametrize("redshift", [None, np.zeros(3), np.array([1e-3, 0.0, -1e-3])])
def test_interpolation_is_linear_in_log_wavelength(redshift: Float | None) -> None:
    random = np.random.default_rng(2)
    wavelength = 3900.0 + np.cumsum(random.uniform(0.5, 1.2, 1800))
    flux, ivar = random.normal(size=(3, 1800)), random.uniform(0.5, 2, (3, 1800))
    found, weight = interpolate(wavelength, flux, ivar, GRID.wavelength, redshift)
    for row in range(3):
        at = GRID.wavelength * (1 + (0 if redshift is None else redshift[row]))
        inside = (at > wavelength[0]) & (at < wavelength[-1])
        assert 1000 < inside.sum() < GRID.n_pix
        expected = np.interp(np.log10(at), np.log10(wavelength), flux[row])
        np.testing.assert_allclose(found[row, inside], expected[inside], rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(weight[row] > 0, inside)
        after = np.searchsorted(wavelength, at[inside])
        share = np.log(at[inside] / wavelength[after - 1]) / np.log(wavelength[after] / wavelength[after - 1])
        variance = (1 - share) ** 2 / ivar[row, after - 1] + share**2 / ivar[row, after]
        np.testing.assert_allclose(weight[row, inside], 1 / variance, rtol=1e-6)
        assert not found[row, ~inside].any()


def test_interpolation_keeps_pixels_and_masks_what_touches_a_mask() -> None:
    # LAMOST's own lattice, its wavelengths rounded to float32
    wavelength = GRID.wavelength.astype(np.float32).astype(float)
    flux, ivar = np.random.default_rng(3).normal(size=(1, GRID.n_pix)), np.ones((1, GRID.n_pix))
    ivar[0, 700], flux[0, 700] = 0, 1e30
    found, weight = interpolate(wavelength, flux, ivar, GRID.wavelength)
    np.testing.assert_array_equal(weight > 0, ivar > 0)
    np.testing.assert_allclose(found[ivar > 0], flux[ivar > 0], atol=0.02)
    between = np.sqrt(GRID.wavelength[1:] * GRID.wavelength[:-1])
    _, weight = interpolate(wavelength, flux, ivar, between)
    np.testing.assert_array_equal(np.flatnonzero(weight == 0), [699, 700])


def test_nothing_but_numbers_comes_out_of_interpolation() -> None:
    flux = np.stack([np.broadcast_to(flux, 900) for flux, _ in NASTY.values()])
    ivar = np.stack([np.broadcast_to(ivar, 900) for _, ivar in NASTY.values()])
    grid = Grid(3.65, 300)
    for preparation in (PREPARATION, replace(PREPARATION, frame="rest", continuum="none")):
        ready = prepare([batch_of(flux, ivar, rv=50.0)], grid, preparation)
        assert np.all(np.isfinite(ready.flux.astype(np.float32)))
        assert np.all(np.isfinite(ready.ivar.astype(np.float32)))
        assert np.all(ready.flux[ready.ivar == 0] == (0.0 if preparation.continuum == "none" else 1.0))
        assert (ready.ivar > 0).any()
        alone = prepare([batch_of(flux[-1], ivar[-1], rv=50.0)], grid, preparation)
        np.testing.assert_allclose(ready.flux[-1], alone.flux[0], rtol=1e-12)


# -- from files to a store -----------------------------------------------------------------------------------


def prepared_by_hand(wavelength: Float, flux: Float, good: Float) -> Float:
    """One spectrum (1462,) as SpecCLIP takes it: interpolated, masked pixels bridged, its continuum divided out."""
    grid, inside = GRID.extended(3700.0, 9100.0)
    x, at = np.log10(wavelength), np.log10(grid.wavelength)
    # a pixel of the grid is good if both pixels around it are
    valid = np.interp(at, x, good.astype(float), left=0, right=0) > 0.99
    pixel = np.arange(grid.n_pix)
    raw = np.interp(at, x[good], flux[good])
    continuum = specclip_by_hand(grid.wavelength, np.interp(pixel, pixel[valid], raw[valid]))
    seen = pixel[inside][valid[inside]]
    result: Float = np.interp(pixel[inside], seen, (raw / continuum)[seen])
    return result


def star(wavelength: Float, seed: int) -> Float:
    """Not flat, lines and noise."""
    x = wavelength / 5000 - 1
    lines = sum(0.4 * np.exp(-0.5 * ((wavelength - centre) / 6) ** 2) for centre in (4102, 4340, 4861, 5175))
    noise = np.random.default_rng(seed).normal(size=len(wavelength))
    return 100 * (1 + 0.3 * seed * x - x**2) * (1 - lines) + noise


def test_desi_spectra_are_embedded(tmp_path: Path) -> None:
    wavelength = np.arange(3600.0, 5800.4, 0.8)
    flux = np.stack([star(wavelength, seed) for seed in range(4)])
    ivar = np.ones_like(flux)
    ivar[1, 1000:1010] = ivar[1, 2000] = 0
    ivar[3] = 0
    dirty = np.where(ivar > 0, flux, 1e6)
    ids = BIG_ID + np.arange(4)
    path = tmp_path / "coadd-x.fits"
    write_desi_coadd(path, ids=ids, arms={"B": (3600.0, 5800.0)}, flux=dirty, ivar=ivar, z=np.full(4, 0.001))
    weights = weights_of("aligned smaller")
    model = save(tmp_path / "model.ckpt", weights)
    assert embed(embed_options(model, tmp_path / "e.zarr", path, survey="desi")) == 0
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    assert store.read("id").tolist() == ids.tolist()
    found = store.read("embedding")
    assert not found[3].any()
    np.testing.assert_array_equal((store.read("flags") & np.uint32(Flag.NO_VALID_PIXELS)) != 0, ids == ids[3])
    # in float32, as files hold it; the redshift of 300 km/s is left as it is
    dirty = dirty.astype(np.float32).astype(float)
    ready = [prepared_by_hand(wavelength, dirty[row], ivar[row] > 0) for row in range(3)]
    expected = by_hand(np.array(ready), weights, "aligned")
    np.testing.assert_allclose(found[:3], expected, atol=1e-4 * np.abs(expected).max())
    assert not [fault for _, faults in store.verify() for fault in faults]


def test_lamost_spectra_are_embedded(tmp_path: Path) -> None:
    wavelength = np.power(10.0, 3.5682 + 1e-4 * np.arange(2300))
    files, ready = [], []
    for seed in range(3):
        flux, ivar = star(wavelength, seed), np.ones(2300)
        ivar[500 : 500 + 3 * seed] = 0
        dirty = np.where(ivar > 0, flux, -1e5)
        name = tmp_path / f"spec-{seed}.fits"
        about: dict[str, Any] = {"wavelength": wavelength, "COEFF0": 3.5682, "n_pix": 2300, "z": 1e-3}
        files.append(write_lamost(name, "image", obsid=BIG_ID + seed, flux=dirty, ivar=ivar, **about))
        written = wavelength.astype(np.float32).astype(float)
        ready.append(prepared_by_hand(written, dirty.astype(np.float32).astype(float), ivar > 0))
    weights = weights_of("split")
    model = save(tmp_path / "specclip_model_split_mlp.ckpt", weights)
    options = embed_options(model, tmp_path / "e.zarr", *files, survey="lamost")
    assert embed(options) == 0
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    expected = by_hand(np.array(ready), weights, "split")
    np.testing.assert_allclose(store.read("embedding"), expected, atol=1e-4 * np.abs(expected).max())
    loaded = load(model)
    told = {"name": "specclip-specclip_model_split_mlp", "fingerprint": loaded.fingerprint, "variant": "split"}
    assert told.items() <= store.attributes["model"].items()
    assert store.attributes["model"]["width"] == 48
    assert store.attributes["preprocessing"] == PREPARATION.attributes(GRID)
    # by way of a spectra store
    spectra = IngestOptions(files=tuple(map(str, files)), survey="lamost", out=tmp_path / "s.zarr")
    assert ingest(replace(spectra, preparation=PREPARATION)) == 0
    assert embed(embed_options(model, tmp_path / "from-store.zarr", tmp_path / "s.zarr")) == 0
    again = EmbeddingStore.open(tmp_path / "from-store.zarr").read("embedding")
    np.testing.assert_array_equal(again, store.read("embedding"))
    # one file alone, as a search needs it
    ids, vectors = embed_file(files[1], "lamost", store, f"specclip:{model}")
    assert ids.tolist() == [BIG_ID + 1]
    np.testing.assert_allclose(vectors[0], store.read("embedding")[1], rtol=1e-5, atol=1e-6)
    # the same again is finished already, other weights are another job, half precision too
    assert embed(options) == 0
    other = save(tmp_path / "other" / model.name, weights_of("split", seed=9))
    with pytest.raises(StoreError, match="belongs to another job"):
        embed(replace(options, model=f"specclip:{other}"))
    with pytest.raises(StoreError, match="dtype: 'float32' there, 'float16' here"):
        embed(replace(options, dtype="float16"))
    assert embed(replace(options, dtype="float16", out=tmp_path / "half.zarr")) == 0
    half = EmbeddingStore.open(tmp_path / "half.zarr").read("embedding")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, expected, atol=2e-3 * np.abs(expected).max())


def test_the_continuum_does_not_follow_where_a_survey_starts() -> None:
    # the same star from 3600 A in DESI's pixels and from 3700 A in LAMOST's, hot enough for the Balmer windows
    found = []
    for wavelength in (np.arange(3600.0, 9100.0, 0.8), np.power(10.0, 3.5682 + 1e-4 * np.arange(3909))):
        flux = 100 * (wavelength / 4000) ** -3
        for centre in (4102, 4340, 4861):
            flux = flux * (1 - 0.5 * np.exp(-0.5 * ((wavelength - centre) / 15) ** 2))
        nowhere = np.zeros(1)
        arm = Arm(wavelength, flux[None], np.ones((1, len(flux))))
        batch = SpectrumBatch([arm], np.array([1]), nowhere, nowhere, nowhere)
        found.append(prepare([batch], GRID, PREPARATION).flux[0])
    np.testing.assert_allclose(found[0], found[1], atol=5e-4)


def test_spectra_of_a_store_prepared_otherwise_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", n=5)
    model = save(tmp_path / "model.ckpt", weights_of("encoder"))
    with pytest.raises(StoreError, match="with frame = 'rest' but the spectra of the model 'specclip-model'"):
        embed(embed_options(model, tmp_path / "e.zarr", store.path))
