"""Encoder: a model as a plain module that other packages can train through; they find it by an entry point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from embed.load import load_model
from embed.run import check_model


class Encoder(nn.Module):
    """Spectra on the grid of a store -> their embeddings, as they would be in an embedding store."""

    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__()
        self.model = model
        self.start = start

    def forward(self, flux: Tensor, ivar: Tensor) -> Tensor:
        """Embeddings (B, d) of flux, ivar (B, n_pix) float32; 0 for a spectrum without a valid pixel."""
        output: Any = self.model(flux, ivar, self.start)
        return torch.where((ivar > 0).any(dim=1, keepdim=True), output.embedding, 0.0)


def load_encoder(model: str, fingerprint: str, start: float) -> Encoder:
    """A model for spectra on a grid that starts there. Raises ModelError as `check_model` does."""
    check_model(model, fingerprint)
    return Encoder(load_model(model).model, start)
