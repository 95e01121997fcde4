"""Low-rank updates that reach into the pre-trained transformer: of what makes the embeddings, and of the head.

Every member has updates of its own, of the transformer too. Were it shared, the stars that a member must not see
would have moved the embeddings that it reads, and its errors on them, by which uncertainties are calibrated, would be
too small. The price is a pass through the transformer for each member, in training and in predictions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from heads.adapters import adapter
from heads.adapters.lora import Lora
from heads.fit import FitOptions

PARTS = ("encoder", "head")  # of an EncodedNetwork


@adapter("lora_encoder")
class LoraEncoder(Lora):
    """Train low-rank updates of the head and of the transformer behind its embeddings, from spectra."""

    encodes = True

    @property
    def fit_options(self) -> FitOptions:
        # small batches: all members' graphs are held at once
        return replace(super().fit_options, epochs=20, batch_size=16, learning_rate=5e-4)

    def wrap(self, network: Any) -> nn.Module:
        for part in PARTS:
            setattr(network, part, super().wrap(getattr(network, part)))
        return network

    def merge(self, module: Any) -> Any:
        for part in PARTS:
            setattr(module, part, super().merge(getattr(module, part)))
        return module

    def save(self, module: Any, folder: Path) -> None:
        for part in PARTS:
            super().save(getattr(module, part), folder / part)

    def load(self, network: Any, folder: Path) -> nn.Module:
        for part in PARTS:
            setattr(network, part, super().load(getattr(network, part), folder / part))
        return network.eval()
