"""The head as it is."""

from __future__ import annotations

from torch import nn

from heads.adapters import Adapter, adapter, frozen
from heads.network import HeadNetwork


@adapter("zero_shot")
class ZeroShot(Adapter):
    """Change nothing: the head of the source survey on spectra of the target."""

    learns = False

    def wrap(self, network: HeadNetwork) -> nn.Module:
        module: nn.Module = frozen(network)
        return module

    def merge(self, module: nn.Module) -> HeadNetwork | None:
        return module  # type: ignore[return-value]
