"""A correction that is learned where the target survey has stars, and fades where it has none.

The labels that a frozen head gives are a point; its errors on the stars of the target survey are a Gaussian process
over such points (Rasmussen & Williams 2006, chapter 2) with a constant and a smooth part. Far from any star of the
target the smooth part is 0 again and its uncertainty is added to sigma: a handful of metal-rich stars cannot spoil
metal-poor ones. Many stars are summarised by inducing points (the DTC approximation of Quinonero-Candela &
Rasmussen 2005, JMLR 6, 1939).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from heads.adapters import Adapter, adapter, frozen
from heads.fit import FitOptions, History, Stars, Watch
from heads.network import HeadNetwork
from stores.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUPPORT = 256  # inducing points at most
TELLING = 250  # stars that the hyperparameters are chosen by, at most
LEAST = 5  # stars below which nothing is learned
JITTER = 1e-10  # of the variance
# in units of the scatter of the labels; of the smooth part's length, in those of the points
SMOOTH = (0.0, 0.03, 0.1, 0.3, 0.6)
CONSTANT = (0.0, 0.03, 0.1, 0.3)
LENGTHS = (0.5, 1.0, 2.0)
NOISE = (0.7, 1.0, 1.5, 2.5)  # factor on the head's sigma


class KrigedNetwork(nn.Module):
    """Outputs of a frozen head, corrected by a Gaussian process for each label.

    points: (s, k) inducing points; gain: (k, s), mean correction = kernel @ gain; loss: (k, s, s), what the stars
    take off the prior variance; prior: (k, 3), constant and smooth amplitude and length. In double precision: the
    gains of neighbouring points are large and cancel.
    """

    points: Tensor
    gain: Tensor
    loss: Tensor
    prior: Tensor

    def __init__(self, base: HeadNetwork, support: int = 0) -> None:
        super().__init__()
        self.base = frozen(base)
        k = base.options.labels
        for name, shape in (("points", (support, k)), ("gain", (k, support)), ("loss", (k, support, support))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("prior", torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).repeat(k, 1))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.base(x)
        if self.points.shape[0] == 0:
            return outputs
        value, log_sigma = outputs[0].unbind(dim=-1)  # (B, k)
        cross = kernel(value.double(), self.points, self.prior)  # (k, B, s)
        change = (cross @ self.gain[..., None])[..., 0].T
        known = ((cross @ self.loss) * cross).sum(dim=-1).T
        variance = (self.prior[:, :2].square().sum(dim=1) - known).clamp(min=0.0)
        log_sigma = 0.5 * torch.log((2 * log_sigma.double()).exp() + variance)
        corrected = torch.stack([value + change, log_sigma], dim=-1).to(outputs.dtype)
        return torch.cat([corrected[None], outputs[1:]])


def kernel(a: Tensor, b: Tensor, prior: Tensor) -> Tensor:
    """Covariances (k, n, m) of points a (n, p) and b (m, p) under each of k priors (k, 3)."""
    square = (a[:, None] - b[None]).square().sum(dim=-1)
    constant, smooth, length = (prior[:, i, None, None] for i in range(3))
    return constant**2 + smooth**2 * torch.exp(-0.5 * square / length**2)


@adapter("kriging")
class Kriging(Adapter):
    """Correct the frozen head by a Gaussian process over its labels, which fades where the target has no stars."""

    @property
    def fit_options(self) -> FitOptions:
        return FitOptions()

    def wrap(self, network: HeadNetwork) -> nn.Module:
        return KrigedNetwork(network)

    def fit(
        self,
        modules: Sequence[nn.Module],
        stars: Stars,
        held: NDArray[np.bool_],
        seed: int,
        *,
        options: FitOptions,
        replay: Stars | None,
        watch: Watch,
    ) -> History:
        for number in watch(range(len(modules))):
            module = modules[number]
            assert isinstance(module, KrigedNetwork)
            seen = np.flatnonzero(~held[number])
            # every member as many points, so that they run as one program
            support = min(SUPPORT, int((~held).sum(axis=1).min()))
            order = np.random.default_rng([seed, number]).permutation(seen)
            self._learn(module, stars, order, support)
        return History(best=[0] * len(modules))

    @torch.no_grad()
    def _learn(self, module: KrigedNetwork, stars: Stars, order: NDArray[np.int64], support: int) -> None:
        module.eval()
        rows = torch.from_numpy(order)
        outputs = torch.cat([module.base(part)[0] for part in stars.x[rows].split(1024)]).double()
        value, sigma = outputs[..., 0], outputs[..., 1].exp()
        error = stars.y[rows].double() - value
        k = value.shape[1]
        points, prior = value[:support], module.prior.double()
        gain, loss = (
            torch.zeros(k, support, dtype=torch.float64),
            torch.zeros(k, support, support, dtype=torch.float64),
        )
        one = torch.eye(support, dtype=torch.float64)
        for label in range(k):
            known = torch.isfinite(error[:, label])
            if int(known.sum()) < LEAST:
                continue
            place, wrong, spread = value[known], error[known, label], sigma[known, label]
            best, factor = _most_likely(place[:TELLING], wrong[:TELLING], spread[:TELLING])
            prior[label] = best
            if float(best[:2].abs().sum()) == 0.0:
                continue
            inner = kernel(points, points, best[None])[0]
            inner += JITTER * float(inner.diagonal().mean()) * one
            cross = kernel(points, place, best[None])[0]
            precision = 1 / (factor * spread) ** 2
            # by the root of the inner covariance: its inverse alone would drown the difference in rounding
            root = torch.linalg.cholesky(inner)
            told = torch.linalg.solve_triangular(root, cross, upper=False)
            seen = one + (told * precision) @ told.T
            half = torch.linalg.solve_triangular(root.T, one, upper=True)
            gain[label] = half @ torch.linalg.solve(seen, (told * precision) @ wrong)
            loss[label] = half @ (one - torch.linalg.inv(seen)) @ half.T
        for name, found in (("points", points), ("gain", gain), ("loss", loss), ("prior", prior)):
            setattr(module, name, found)

    def own_state(self, module: nn.Module) -> dict[str, Tensor]:
        return {name: getattr(module, name) for name in ("points", "gain", "loss", "prior")}

    def load(self, network: HeadNetwork, folder: Path) -> nn.Module:
        found = self.read(folder)
        module = KrigedNetwork(network, len(found["points"]) if "points" in found else 0)
        wanted = self.own_state(module)
        if set(wanted) != set(found) or any(wanted[name].shape != found[name].shape for name in wanted):
            raise ModelError(f"'{folder}' does not hold the weights of the adapter '{self.name}'; write it again.")
        for name, value in found.items():
            setattr(module, name, value)
        return module.eval()


def _most_likely(place: Tensor, error: Tensor, sigma: Tensor) -> tuple[Tensor, float]:
    """The prior (3,) and the factor on sigma under which the errors (n,) at points (n, k) are most likely."""
    best, chosen = -np.inf, (torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), 1.0)
    square = (place[:, None] - place[None]).square().sum(dim=-1)
    shapes = {length: torch.exp(-0.5 * square / length**2) for length in LENGTHS}
    for constant, smooth, length, factor in itertools.product(CONSTANT, SMOOTH, LENGTHS, NOISE):
        if smooth == 0.0 and length != LENGTHS[0]:
            continue
        covariance = constant**2 + smooth**2 * shapes[length] + torch.diag((factor * sigma) ** 2)
        root, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            continue
        solved = torch.cholesky_solve(error[:, None], root)[:, 0]
        evidence = float(-0.5 * error @ solved - root.diagonal().log().sum())
        if evidence > best:
            prior = torch.tensor([constant, smooth, length], dtype=torch.float64)
            best, chosen = evidence, (prior, factor)
    return chosen
