"""Fine-tuning of everything."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from heads.adapters import Adapter, adapter
from heads.fit import FitOptions
from heads.network import HeadNetwork


@adapter("full")
class Full(Adapter):
    """Train all weights on, at a small rate; the batch statistics stay those of the source."""

    @property
    def fit_options(self) -> FitOptions:
        return replace(super().fit_options, learning_rate=1e-4)

    def wrap(self, network: HeadNetwork) -> nn.Module:
        for value in network.parameters():
            value.requires_grad_(True)
        return network

    def merge(self, module: nn.Module) -> HeadNetwork | None:
        return module  # type: ignore[return-value]
