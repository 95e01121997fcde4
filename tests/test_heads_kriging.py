"""Kriging is a Gaussian process: exact where it can be, and without effect where the target has no stars."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heads.adapters import get_adapter, kriging
from heads.adapters.kriging import KrigedNetwork
from heads.ensemble import Ensemble
from heads.fit import FitOptions, Stars

Float = NDArray[np.float64]


class Telling(nn.Module):
    """A head that says its features: values (B, k) with one sigma."""

    def __init__(self, k: int, sigma: float) -> None:
        super().__init__()
        self.options = SimpleNamespace(labels=k)
        self.log_sigma = float(np.log(sigma))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x, torch.full_like(x, self.log_sigma)], dim=-1)[None]


def learned(said: Float, y: Float, sigma: float, held: Any = None) -> Any:
    """A kriged head that says `said` (n, k) of stars with labels y (n, k)."""
    module = KrigedNetwork(Telling(said.shape[1], sigma))  # type: ignore[arg-type]
    stars = Stars.of(said.astype(np.float32), y, np.ones(len(said), dtype=np.float32))
    held = np.zeros((1, len(said)), dtype=bool) if held is None else held
    strategy = get_adapter("kriging")
    strategy.fit([module], stars, held, 0, options=FitOptions(), replay=None, watch=iter)
    return module.eval()


def asked(module: Any, said: Float) -> tuple[Float, Float]:
    """Corrected values and sigmas (n, k)."""
    outputs = module(torch.from_numpy(said.astype(np.float32)))[0].detach().double().numpy()
    return outputs[..., 0], np.exp(outputs[..., 1])


def covariance(a: Float, b: Float, prior: Any) -> Float:
    constant, smooth, length = (float(value) for value in prior)
    square = ((a[:, None] - b[None]) ** 2).sum(axis=-1)
    return constant**2 + smooth**2 * np.exp(-0.5 * square / length**2)


@pytest.mark.parametrize(("sigma", "bend"), [(0.3, 0.3), (0.1, 0.3), (0.05, 0.6), (0.1, 0.0)])
@pytest.mark.parametrize("k", [1, 2])
def test_it_is_the_exact_process_while_every_star_is_a_point(sigma: float, bend: float, k: int) -> None:
    random = np.random.default_rng(1)
    said = random.normal(size=(40, k)).astype(np.float32).astype(float)
    wrong = 0.1 + bend * np.sin(2 * said[:, :1]) + sigma * random.normal(size=said.shape)
    module = learned(said, said + wrong, sigma)
    places = np.linspace(-4, 4, 60)[:, None].repeat(k, axis=1).astype(np.float32).astype(float)
    value, spread = asked(module, places)
    assert module.points.shape == (40, k)
    wrong = (said + wrong).astype(np.float32) - said
    for label in range(k):
        prior = module.prior[label]
        own, cross = covariance(said, said, prior), covariance(places, said, prior)
        # the factor on sigma is chosen inside: the exact process has one of them too
        means = {
            factor: cross @ np.linalg.solve(own + (factor * sigma) ** 2 * np.eye(40), wrong[:, label])
            for factor in kriging.NOISE
        }
        error = {factor: np.abs(value[:, label] - places[:, label] - mean).max() for factor, mean in means.items()}
        factor = min(error, key=lambda one: error[one])
        assert error[factor] < 1e-4
        noisy = own + (factor * sigma) ** 2 * np.eye(40)
        left = covariance(places, places, prior).diagonal() - np.einsum(
            "ij,ij->i", cross, np.linalg.solve(noisy, cross.T).T
        )
        np.testing.assert_allclose(spread[:, label], np.sqrt(sigma**2 + left), atol=1e-4)


def test_the_prior_is_the_most_likely_one_of_the_grid() -> None:
    random = np.random.default_rng(2)
    said = random.normal(size=(30, 1)).astype(np.float32).astype(float)
    y = said + 0.3 + 0.1 * random.normal(size=said.shape)
    module = learned(said, y, 0.1)
    wrong = (y.astype(np.float32) - said)[:, 0]
    evidence = {}
    for constant in kriging.CONSTANT:
        for smooth in kriging.SMOOTH:
            for length in kriging.LENGTHS:
                for factor in kriging.NOISE:
                    matrix = covariance(said, said, (constant, smooth, length)) + (factor * 0.1) ** 2 * np.eye(30)
                    sign, log = np.linalg.slogdet(matrix)
                    assert sign == 1
                    evidence[constant, smooth, length, factor] = -0.5 * (wrong @ np.linalg.solve(matrix, wrong) + log)
    best = max(evidence.values())
    mine = max(value for key, value in evidence.items() if np.allclose(key[:3], module.prior[0].numpy(), atol=1e-6))
    assert mine == pytest.approx(best, abs=1e-6)
    assert module.prior[0, 0] == pytest.approx(0.3)  # an offset of all stars is a constant


def test_metal_poor_stars_are_left_alone_by_what_metal_rich_ones_teach() -> None:
    """The offset bends with [Fe/H], so that a smooth part is preferred; nobody is below -1."""
    random = np.random.default_rng(3)
    feh = random.uniform(-0.5, 1.5, (120, 1))  # in units of the scatter
    offset = 0.5 * np.exp(-0.5 * (feh - 0.5) ** 2)
    module = learned(feh, feh + offset + 0.05 * random.normal(size=feh.shape), 0.1)
    constant, smooth, _ = module.prior[0].tolist()
    assert constant == 0.0
    assert smooth > 0.1
    rich, poor = np.linspace(0.0, 1.0, 20)[:, None], np.array([[-8.0], [-12.0]])
    value, sigma = asked(module, rich)
    np.testing.assert_allclose(value - rich, 0.5 * np.exp(-0.5 * (rich - 0.5) ** 2), atol=0.06)
    np.testing.assert_allclose(sigma, 0.1, atol=0.02)
    value, sigma = asked(module, poor)
    np.testing.assert_allclose(value, poor, atol=5e-3)
    np.testing.assert_allclose(sigma, np.hypot(0.1, smooth), rtol=1e-3)  # and is not sure of it


def test_an_offset_of_all_stars_moves_all() -> None:
    random = np.random.default_rng(4)
    feh = random.normal(size=(100, 1))
    module = learned(feh, feh + 0.3 + 0.05 * random.normal(size=feh.shape), 0.1)
    value, _ = asked(module, np.array([[-10.0], [0.0], [10.0]]))
    np.testing.assert_allclose(value - [[-10.0], [0.0], [10.0]], 0.3, atol=0.05)


@pytest.mark.parametrize("n", [6, 40, 400])
def test_sigma_never_shrinks(n: int) -> None:
    random = np.random.default_rng(n)
    said = random.normal(size=(n, 2))
    module = learned(said, said + 0.2 * np.sin(3 * said) + 0.1 * random.normal(size=said.shape), 0.1)
    _, sigma = asked(module, np.concatenate([said, 5 * random.normal(size=(200, 2))]))
    assert (sigma >= 0.1 * (1 - 1e-6)).all()
    assert np.isfinite(sigma).all()


def test_many_stars_are_summarised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer points than stars say nearly the same."""
    random = np.random.default_rng(5)
    said = random.normal(size=(600, 1))
    y = said + 0.3 * np.sin(2 * said) + 0.1 * random.normal(size=said.shape)
    places = np.linspace(-2, 2, 30)[:, None]
    some = learned(said, y, 0.1)
    monkeypatch.setattr(kriging, "SUPPORT", 600)
    every = learned(said, y, 0.1)
    assert (len(some.points), len(every.points)) == (256, 600)
    for one, other in zip(asked(some, places), asked(every, places), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_nothing_is_learned_from_too_few_or_unknown_labels() -> None:
    random = np.random.default_rng(6)
    said = random.normal(size=(30, 2))
    y = said + 0.5
    y[4:, 1] = np.nan
    module = learned(said, y, 0.1)
    value, sigma = asked(module, said)
    assert np.abs(value[:, 0] - said[:, 0] - 0.5).max() < 0.1
    np.testing.assert_array_equal(value[:, 1], said[:, 1].astype(np.float32))
    np.testing.assert_allclose(sigma[:, 1], 0.1, rtol=1e-6)


def test_stars_held_out_have_no_say_and_members_share_a_size() -> None:
    random = np.random.default_rng(7)
    said = random.normal(size=(50, 1))
    held = np.zeros((2, 50), dtype=bool)
    held[0, :20], held[1, 20:30] = True, True
    strategy, made = get_adapter("kriging"), []
    for wild in (0.0, 100.0):
        y = said + 0.3
        y[:20] += wild
        modules: list[Any] = [KrigedNetwork(Telling(1, 0.1)) for _ in range(2)]  # type: ignore[arg-type]
        stars = Stars.of(said.astype(np.float32), y, np.ones(50, dtype=np.float32))
        strategy.fit(modules, stars, held, 0, options=FitOptions(), replay=None, watch=iter)
        made.append(modules)
    for name, value in made[0][0].named_buffers():
        assert torch.equal(value, dict(made[1][0].named_buffers())[name]), name
    assert not torch.equal(made[0][1].gain, made[1][1].gain)
    assert len(made[0][0].points) == len(made[0][1].points) == 30
    x = torch.randn(9, 1)
    together = Ensemble(made[0])(x)
    for number, module in enumerate(made[0]):
        torch.testing.assert_close(together[number], module(x), rtol=1e-5, atol=1e-5)


def test_the_same_spectrum_twice_is_no_trouble() -> None:
    said = np.repeat(np.random.default_rng(8).normal(size=(10, 1)), 20, axis=0)
    module = learned(said, said + 0.2 * np.sin(3 * said), 0.1)
    before = copy.deepcopy(module.state_dict())
    value, sigma = asked(module, said)
    assert np.isfinite(value).all()
    assert np.isfinite(sigma).all()
    assert all(torch.isfinite(tensor).all() for tensor in before.values())
