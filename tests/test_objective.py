"""Views of a spectrum, and the loss that looks through them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from models_made import GRID

from embed.augment import Augmentation
from embed.config import SpectralConfig
from embed.model import SpectralTransformer
from embed.objective import READ_FLOOR, Views, alignment_loss, reading_loss

N_PIX = 1462
PIXEL = 299792.458 * math.log(10) * 1e-4  # km/s
NOTHING = Augmentation(snr=(1e6, 1e6), colour=(0, 0), smoothing=(0.0, 0.0), shift=0.0, warp=0.0, dead=0.0, gap=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clean(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra without noise: a line of its own in each."""
    x = torch.arange(N_PIX)
    flux = torch.stack([1 - 0.5 * torch.exp(-0.5 * ((x - 200 - 150 * i) / 4.0) ** 2) for i in range(n)])
    return flux, torch.full_like(flux, 1e8)


def changed(**values: object) -> Augmentation:
    return Augmentation(**{**NOTHING.__dict__, **values})  # type: ignore[arg-type]


def test_without_changes_a_view_is_the_spectrum() -> None:
    flux, ivar = clean()
    seen, seen_ivar = NOTHING(flux, ivar, seeded())
    torch.testing.assert_close(seen, flux, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen_ivar, 1 / (1 / ivar + 1e-12), rtol=1e-3, atol=0)


def test_the_seed_decides() -> None:
    flux, ivar = clean()
    one, again, other = (Augmentation()(flux, ivar, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


def test_noise_is_what_ivar_says() -> None:
    flux, ivar = torch.ones(200, N_PIX), torch.full((200, N_PIX), 2500.0)
    seen, seen_ivar = changed(snr=(5.0, 50.0), colour=(0.0, 8.0))(flux, ivar, seeded())
    # the spectrum's own noise is 0 here, so only the added part of the variance shows
    pull = (seen - 1) / (1 / seen_ivar - 1 / ivar).sqrt()
    assert float(pull.std()) == pytest.approx(1, abs=0.01)
    ends = (1 / seen_ivar - 1 / ivar).sqrt()
    assert float((ends[:, 0] / ends[:, -1]).min()) >= 0.999  # noisier towards the blue
    middle = (1 / seen_ivar[:, N_PIX // 2] - 1 / ivar[:, 0]).rsqrt()
    assert float(middle.min()) >= 5
    assert float(middle.max()) <= 51


def test_smoothing_widens_lines_and_keeps_their_strength() -> None:
    flux, ivar = clean()
    seen, seen_ivar = changed(smoothing=(1.2 * PIXEL, 1.2 * PIXEL))(flux, ivar, seeded())
    x = torch.arange(N_PIX, dtype=torch.float64)
    for i in range(len(flux)):
        for values, width in ((flux[i], 4.0), (seen[i], math.hypot(4.0, 1.2))):
            depth = (1 - values).double() * ((x - 200 - 150 * i).abs() < 30)  # far off the noise would count most
            centre = (depth * x).sum() / depth.sum()
            spread = ((depth * (x - centre) ** 2).sum() / depth.sum()).sqrt()
            assert float(centre) == pytest.approx(200 + 150 * i, abs=0.01)
            assert float(spread) == pytest.approx(width, rel=0.01)
            assert float(depth.sum()) == pytest.approx(0.5 * 4 * math.sqrt(2 * math.pi), rel=1e-3)
    # averaging pixels makes them less noisy: the sum of the squared weights of the Gaussian
    assert float(ivar[0, 700] / seen_ivar[0, 700]) == pytest.approx(1 / (2 * math.sqrt(math.pi) * 1.2), rel=0.02)


def test_velocities_move_lines() -> None:
    flux, ivar = clean(200)[0][:1].repeat(500, 1), torch.full((500, N_PIX), 1e8)
    seen, _ = changed(shift=0.5 * PIXEL, smoothing=(0.6 * PIXEL, 0.6 * PIXEL))(flux, ivar, seeded())
    depth = (1 - seen).double()
    centre = (depth * torch.arange(N_PIX)).sum(dim=1) / depth.sum(dim=1) - 200
    assert float(centre.mean()) == pytest.approx(0, abs=0.07)
    assert float(centre.std()) == pytest.approx(0.5, rel=0.1)


def test_smoothing_and_shift_are_velocities_whatever_the_grid() -> None:
    flux, ivar = clean(1)
    fine, _ = changed(smoothing=(100.0, 100.0), step=1e-4)(flux, ivar, seeded())
    coarse, _ = changed(smoothing=(200.0, 200.0), step=2e-4)(flux, ivar, seeded())
    torch.testing.assert_close(fine, coarse, rtol=0, atol=1e-4)
    # narrower than half a pixel is not possible
    least, _ = changed(smoothing=(1.0, 1.0))(flux, ivar, seeded())
    half, _ = changed(smoothing=(0.5 * PIXEL, 0.5 * PIXEL))(flux, ivar, seeded())
    torch.testing.assert_close(least, half, rtol=0, atol=1e-5)


def test_the_warp_is_smooth_and_of_its_size() -> None:
    flux, ivar = torch.ones(500, N_PIX), torch.full((500, N_PIX), 1e8)
    seen, _ = changed(warp=0.02, warp_order=6)(flux, ivar, seeded())
    assert float((seen - 1).std()) == pytest.approx(0.02, rel=0.1)
    assert float(seen.diff(dim=1).abs().max()) < 0.002


def test_gaps_and_masks() -> None:
    flux, ivar = clean(400)
    flux, ivar = flux.clamp(0, 1), ivar.clone()
    ivar[:, 100:110] = 0
    flux[:, 100:110] = 1e6  # what stands under a mask
    seen, seen_ivar = changed(gap=0.5, gap_pixels=100, dead=0.01, smoothing=(0.5 * PIXEL, 1.5 * PIXEL))(
        flux, ivar, seeded()
    )
    assert torch.isfinite(seen).all()
    assert float(seen.max()) < 1.1
    assert (seen_ivar[:, 100:110] == 0).all()
    assert (seen[seen_ivar == 0] == 1).all()
    masked = (seen_ivar == 0).float().mean(dim=1)
    assert float(masked.mean()) == pytest.approx(0.01 + 10 / N_PIX + 0.5 * 50 / N_PIX, rel=0.15)
    assert float((masked > 0.03).float().mean()) > 0.1


def test_reading_counts_errors_in_units_of_noise() -> None:
    flux, ivar = torch.ones(3, 50), torch.full((3, 50), 400.0)
    ivar[1, 10:] = 0
    ivar[2] = 0
    predicted = flux + 0.1
    chi = 0.01 / (1 / 400 + READ_FLOOR**2)
    expected = (math.log1p(chi) + math.log1p(chi) + 0) / 3
    assert float(reading_loss(predicted, flux, ivar)) == pytest.approx(expected, rel=1e-5)
    assert float(reading_loss(flux, flux, ivar)) == 0


def test_alignment_tells_partners_from_others() -> None:
    corners = torch.eye(6)
    together = alignment_loss(torch.cat([corners, 3 * corners]), 0.1)
    apart = alignment_loss(torch.cat([corners, corners.roll(1, 0)]), 0.1)
    # by hand: similarity 1 to the partner, 0 to the ten others
    assert float(together) == pytest.approx(math.log(1 + 10 * math.exp(-10)), rel=1e-3)
    assert float(apart) > 10 * float(together)
    assert float(alignment_loss(torch.ones(12, 4), 0.1)) == pytest.approx(math.log(11), rel=1e-5)


def test_views_train_embeddings_that_see_the_star() -> None:
    torch.manual_seed(0)
    config = SpectralConfig(width=32, layers=1, heads=2, objective="views", readout_width=64, grid=str(GRID))
    model = SpectralTransformer(config)
    random = np.random.default_rng(0)
    strength = torch.from_numpy(random.uniform(0, 0.5, (64, 1)).astype(np.float32))
    line = torch.exp(-0.5 * ((torch.arange(GRID.n_pix) - 50) / 3.0) ** 2)
    flux = 1 - strength * line
    ivar = torch.full_like(flux, 1e6)
    objective = Views(GRID.start, 0.2, 0.1, 0.1, changed(snr=(20, 50)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = objective.loss(model, config, flux, ivar, seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    with torch.no_grad():
        read = model(flux, ivar, GRID.start, read=True).prediction
    found = 1 - read[:, 50]
    assert np.corrcoef(found, strength[:, 0])[0, 1] > 0.9
    assert not hasattr(model, "decoder_embed")
