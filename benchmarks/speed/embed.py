"""Embedding on CPU against SpecCLIP's architecture in plain PyTorch, float32: the same spectra, the same threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.speed import Row, median_seconds
from benchmarks.speed.plain import LAYERS, LENGTH, TOKENS, WIDTH, plain_layers
from embed.backend import BACKENDS, OpenVinoBackend, installed
from embed.config import SpectralConfig
from embed.embedder import Embedder
from embed.load import DEFAULT, LoadedModel, load_model
from embed.model import SpectralTransformer
from embed.specclip import GRID, PREPARATION, SETTINGS, SpecClip
from stores.errors import ModelError

N, BATCH = 64, 64
OWN = "SpecCLIP's architecture, plain PyTorch"


def measure(repeats: int) -> list[Row]:
    """Seconds per spectrum of N spectra, from prepared arrays to embeddings; start-up is left out.

    The built-in model, the size `base` and SpecCLIP's published encoder as we run it, by each backend that is there.
    """
    torch.manual_seed(0)
    reference, tokens = plain_layers(LAYERS), torch.randn(N, TOKENS, WIDTH)
    random = np.random.default_rng(0)
    flux = (1 + 0.1 * random.normal(size=(N, GRID.n_pix))).astype(np.float32)
    ivar = np.full_like(flux, 100.0)

    def embed_reference() -> None:
        with torch.inference_mode():
            reference(tokens).mean(dim=1)

    actions: dict[str, Callable[[], object]] = {OWN: embed_reference}
    for what, model in (
        ("the built-in model", load_model(DEFAULT)),
        ("base", untrained("base")),
        ("SpecCLIP", specclip()),
    ):
        for name in BACKENDS:
            if name == OpenVinoBackend.name and not installed():
                continue
            embedder = Embedder(model, model.grid.start, "cpu", BATCH, name)
            try:
                embedder(flux[:2], ivar[:2])
            except ModelError:
                continue  # a backend need not take every model
            actions[f"{what}, {name}"] = lambda embedder=embedder: embedder(flux, ivar)  # type: ignore[misc]
    seconds = median_seconds(repeats, *actions.values())
    return [Row(name, taken / N, "" if name == OWN else OWN) for name, taken in zip(actions, seconds, strict=True)]


def untrained(size: str) -> LoadedModel:
    """A model of a size, untrained."""
    built_in = load_model(DEFAULT)
    network = SpectralTransformer(SpectralConfig.of_size(size, grid=str(built_in.grid))).eval()
    return loaded(size, network, built_in.preprocessing, network.config.embedding_width)


def specclip() -> LoadedModel:
    """SpecCLIP's encoder with weights drawn at random, as its checkpoints are run."""
    shapes = {"data_embed.weight": (WIDTH, LENGTH + 1), "position_embed.weight": (TOKENS, WIDTH)}
    shapes |= {f"blocks.{layer}.mlp.0.weight": (4 * WIDTH, WIDTH) for layer in range(LAYERS)}
    weights = {f"backbone.{name}": torch.empty(shape) for name, shape in shapes.items()}
    network = SpecClip(weights, SETTINGS).eval()
    return loaded("SpecCLIP", network, PREPARATION.attributes(GRID), network.width)


def loaded(name: str, network: nn.Module, preprocessing: dict[str, object], width: int) -> LoadedModel:
    """A network as a model that was read from somewhere."""
    return LoadedModel(
        name=name, model=network, fingerprint="untrained", preprocessing=preprocessing, grid=GRID, width=width
    )
