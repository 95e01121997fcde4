"""No transfer: what the stars of the target survey teach alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from heads.adapters import Adapter, adapter
from heads.ensemble import Ensemble
from heads.fit import FitOptions, History, Stars, Watch, fit
from heads.network import HeadNetwork

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@adapter("scratch")
class Scratch(Adapter):
    """Train a new head on the stars of the target survey only."""

    from_base = False

    @property
    def fit_options(self) -> FitOptions:
        return FitOptions()

    def wrap(self, network: HeadNetwork) -> nn.Module:
        for value in network.parameters():
            value.requires_grad_(True)
        return network

    def merge(self, module: nn.Module) -> HeadNetwork | None:
        return module  # type: ignore[return-value]

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
        # batch statistics are learned with the weights
        return fit(Ensemble(modules, statistics=True), stars, held, options, seed, replay=replay, watch=watch)
