"""The transformer: what it may see, what it must ignore, what it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models_made import GRID, make_model, make_spectra
from transformers import AutoModel

from embed.config import SIZES, SpectralConfig
from embed.masking import PatchMask, random_mask
from embed.model import SpectralTransformer, valid_patches
from stores.errors import ModelError, OptionError


def tensors(n: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    batch = make_spectra(n, seed)
    return torch.tensor(batch.flux, dtype=torch.float32), torch.tensor(batch.ivar, dtype=torch.float32)


def embed(
    model: SpectralTransformer, flux: torch.Tensor, ivar: torch.Tensor, start: float = GRID.start
) -> torch.Tensor:
    with torch.no_grad():
        embedding = model(flux, ivar, start).embedding
    assert embedding is not None
    return embedding


def test_masked_pixels_do_not_count() -> None:
    flux, ivar = tensors()
    other = torch.where(ivar > 0, flux, torch.tensor(1e30))
    assert (ivar == 0).any()
    assert torch.equal(embed(make_model(), flux, ivar), embed(make_model(), other, ivar))


def test_patches_without_pixels_are_left_out() -> None:
    flux, ivar = tensors()
    ivar[2, 40:80] = 0  # two whole patches
    together = embed(make_model(), flux, ivar)
    alone = embed(make_model(), flux[2:3], ivar[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)
    # the same as if the two patches did not exist
    valid = valid_patches(ivar[2:3], 20)
    kept = valid[0].nonzero().T
    short = PatchMask(kept, torch.ones_like(kept, dtype=torch.bool), torch.zeros_like(valid))
    with torch.no_grad():
        expected = make_model()(flux[2:3], ivar[2:3], GRID.start, short, decode=False).embedding
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)


def test_layers_that_are_pooled_stand_side_by_side_in_the_embedding() -> None:
    flux, ivar = tensors()
    deep = SpectralTransformer(SpectralConfig.of_size("tiny", layers=4)).eval()
    assert deep.config.pooled_layers == [2, 4]
    both = embed(deep, flux, ivar)
    assert both.shape == (len(flux), deep.config.embedding_width) == (len(flux), 384)
    last = SpectralTransformer(SpectralConfig.of_size("tiny", layers=4, pooled_layers=[4])).eval()
    last.load_state_dict(deep.state_dict())
    torch.testing.assert_close(both[:, 192:], embed(last, flux, ivar))
    # the first part is what a model that ends there gives
    short = SpectralTransformer(SpectralConfig.of_size("tiny", layers=2, pooled_layers=[2])).eval()
    short.load_state_dict({name: deep.state_dict()[name] for name in short.state_dict()})
    torch.testing.assert_close(both[:, :192], embed(short, flux, ivar))
    assert not torch.allclose(both[:, :192], both[:, 192:], atol=0.1)


@pytest.mark.parametrize("layers", [[], [1], [4, 2], [0, 4], [2, 2, 4], [4, 5]])
def test_layers_that_cannot_be_pooled_are_refused(layers: list[int]) -> None:
    with pytest.raises(ModelError, match="pooled_layers"):
        SpectralConfig.of_size("tiny", pooled_layers=layers)


def test_the_last_pixels_are_not_dropped() -> None:
    flux, ivar = tensors()
    ivar[:, -5:] = 100
    changed = flux.clone()
    changed[:, -1] += 0.5
    assert not torch.allclose(embed(make_model(), flux, ivar), embed(make_model(), changed, ivar), atol=1e-4)


def test_positions_come_from_wavelength() -> None:
    """The tokens of a range are placed alike whichever grid the range is cut from."""
    model = make_model()
    whole = model._positions(11, GRID.start, torch.device("cpu"))
    part = model._positions(4, GRID.start + 3 * 20 * GRID.step, torch.device("cpu"))
    torch.testing.assert_close(whole[3:7], part, rtol=0, atol=1e-5)
    assert not torch.allclose(whole[:4], part, atol=1e-2)


def test_an_empty_spectrum_gives_no_nan() -> None:
    flux, ivar = tensors()
    ivar[1] = 0
    embedding = embed(make_model(), flux, ivar)
    assert torch.isfinite(embedding).all()
    assert torch.equal(embedding[1], torch.zeros_like(embedding[1]))


def test_the_encoder_does_not_see_hidden_patches() -> None:
    flux, ivar = tensors()
    ivar[:] = 100
    mask = random_mask(valid_patches(ivar, 20), 0.5, torch.Generator().manual_seed(1))
    other = flux.clone()
    for row in range(len(flux)):
        for patch in mask.hidden[row, :-1].nonzero():
            span = slice(int(patch) * 20, int(patch) * 20 + 20)
            other[row, span] = flux[row, span].flip(0)  # mean and scatter, which it may know, stay
    assert not torch.equal(other, flux)
    model = make_model()
    with torch.no_grad():
        a, b = (model(x, ivar, GRID.start, mask).tokens for x in (flux, other))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_loss_is_chi_square_of_hidden_valid_pixels() -> None:
    flux, ivar = tensors()
    mask = random_mask(valid_patches(ivar, 20), 0.5, torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = make_model()(flux, ivar, GRID.start, mask)
    hidden = np.repeat(mask.hidden.numpy(), 20, axis=1)[:, : GRID.n_pix] & (ivar.numpy() > 0)
    error = (output.prediction - flux).numpy()[hidden]
    variance = 1 / ivar.numpy()[hidden] + 0.03**2
    assert output.loss.item() == pytest.approx(np.mean(error**2 / variance), rel=1e-4)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_random_mask_shares_patches_out(ratio: float) -> None:
    valid = torch.ones(40, 12, dtype=torch.bool)
    valid[:20, 3:6] = False
    mask = random_mask(valid, ratio, torch.Generator().manual_seed(0))
    seen = torch.zeros_like(valid).scatter(1, mask.visible, mask.used)
    assert not (seen & mask.hidden).any()
    assert torch.equal(seen | mask.hidden, valid)
    expected = torch.ceil(valid.sum(1) * (1 - ratio)).long()
    assert torch.equal(seen.sum(1), expected)
    again = random_mask(valid, ratio, torch.Generator().manual_seed(0))
    assert torch.equal(mask.hidden, again.hidden)
    assert not torch.equal(mask.hidden, random_mask(valid, ratio, torch.Generator().manual_seed(1)).hidden)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    flux, ivar = tensors()
    model = make_model()
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, SpectralTransformer)
    assert torch.equal(embed(model, flux, ivar), embed(loaded.eval(), flux, ivar))
    assert loaded.config.preprocessing == model.config.preprocessing


def test_half_precision_weights_agree(tmp_path: Path) -> None:
    flux, ivar = tensors()
    model = make_model()
    exact = embed(model, flux, ivar)
    model.half().save_pretrained(tmp_path)
    loaded = SpectralTransformer.from_pretrained(tmp_path, dtype=torch.float32).eval()
    cosine = torch.cosine_similarity(exact, embed(loaded, flux, ivar))
    assert cosine.min() > 0.9999


def test_small_has_about_ten_million_weights() -> None:
    model = SpectralTransformer(SpectralConfig.of_size("small"))
    assert 8e6 < sum(p.numel() for p in model.parameters()) < 13e6
    assert (SIZES["base"]["width"], SIZES["base"]["layers"]) == (768, 6)


def test_bad_options_are_refused() -> None:
    with pytest.raises(OptionError, match="known ones are tiny, small, base"):
        SpectralConfig.of_size("huge")
    with pytest.raises(ModelError, match="cannot be shared evenly"):
        SpectralConfig(width=100, heads=6)
