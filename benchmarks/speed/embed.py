"""Embedding on CPU: the built-in model against SpecCLIP's architecture in plain PyTorch, float32, the same threads."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from benchmarks.speed import Row, median_seconds
from embed.load import DEFAULT, load_model
from embed.run import Embedder

N, BATCH = 64, 64
TOKENS, WIDTH, LAYERS, HEADS = 146, 768, 6, 6  # SpecCLIP's encoder of LAMOST spectra (arXiv:2507.01939)
OWN = "SpecCLIP's architecture, plain PyTorch"


def measure(repeats: int) -> list[Row]:
    """Seconds per spectrum of N spectra, from prepared arrays to embeddings; start-up is left out."""
    torch.manual_seed(0)
    tokens = torch.randn(N, TOKENS, WIDTH)
    reference = plain_encoder()
    model = load_model(DEFAULT)
    embedder = Embedder(model, model.grid.start, "cpu", BATCH)
    random = np.random.default_rng(0)
    flux = (1 + 0.1 * random.normal(size=(N, model.grid.n_pix))).astype(np.float32)
    ivar = np.full_like(flux, 100.0)

    def embed_reference() -> None:
        with torch.inference_mode():
            reference(tokens).mean(dim=1)

    one, own = median_seconds(repeats, embed_reference, lambda: embedder(flux, ivar))
    return [Row(OWN, one / N), Row(f"the built-in model, {DEFAULT}", own / N, OWN)]


def plain_encoder() -> nn.Module:
    """Six pre-norm layers as torch has them, its fused kernels for inference included."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).eval()
