"""A small network added to what a frozen head says."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from heads.adapters import Adapter, adapter, frozen
from heads.fit import FitOptions
from heads.network import HeadNetwork

WIDTH = 32


class ResidualNetwork(nn.Module):
    """Outputs of a frozen head plus a correction from its hidden features; the correction starts at 0."""

    def __init__(self, base: HeadNetwork) -> None:
        super().__init__()
        self.base = frozen(base)
        k = base.options.labels
        self.inner = nn.Linear(base.hidden_width + k, WIDTH)
        self.outer = nn.Linear(WIDTH, 2 * k)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.base.features(x)
        outputs = self.base.read(hidden)
        known = torch.cat([hidden, outputs[0, ..., 0]], dim=-1)
        change = self.outer(torch.relu(self.inner(known))).unflatten(-1, (-1, 2))
        return torch.cat([outputs[:1] + change, outputs[1:]])


@adapter("residual")
class Residual(Adapter):
    """Add a small network's correction, read from the frozen head's hidden features."""

    @property
    def fit_options(self) -> FitOptions:
        return replace(super().fit_options, learning_rate=1e-3)

    def wrap(self, network: HeadNetwork) -> nn.Module:
        return ResidualNetwork(network)
