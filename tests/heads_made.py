"""Small samples, stores and heads made from numbers, for tests of `heads`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stores_made import make_embeddings, make_ids, make_spectra
from torch import Tensor, nn

from heads.encoder import EncodedNetwork
from heads.fit import FitOptions, Stars
from heads.head import Head
from heads.inputs import InputStores
from heads.network import HeadNetwork, NetworkOptions
from heads.sample import Sample
from heads.scaling import Scaling
from heads.training import TrainOptions, train_head
from stores.labels import Labels

Float = NDArray[np.float64]

TARGETS = ("feh", "teff")
WIDTH = 6  # of the features that carry the labels
QUICK = FitOptions(batch_size=16, learning_rate=3e-3, least_steps=20, most_steps=20, checks=4)
SMALL = TrainOptions(seeds=2, widths=(16, 8), fit=QUICK)
IDENTITY = {"input": "embedding"}


def make_truth(n: int, seed: int = 0) -> dict[str, Float]:
    """Labels of n stars."""
    random = np.random.default_rng(seed)
    return {"feh": random.uniform(-3.0, 0.4, n), "teff": random.normal(5500, 500, n)}


def make_features(truth: dict[str, Float], seed: int = 0, noise: float = 0.1) -> NDArray[np.float32]:
    """Vectors (n, WIDTH) in which the labels stand, mixed and noisy."""
    scaled = np.stack([(truth["feh"] + 1.3) / 1.0, (truth["teff"] - 5500) / 500], axis=1)
    mixing = np.random.default_rng(99).normal(size=(2, WIDTH))
    noisy = scaled @ mixing + noise * np.random.default_rng([seed, 1]).normal(size=(len(scaled), WIDTH))
    return noisy.astype(np.float32)


def make_sample(n: int = 80, seed: int = 0, *, noise: float = 0.1) -> Sample:
    """A sample of n stars whose one block is an embedding."""
    truth = make_truth(n, seed)
    values = make_features(truth, seed, noise)
    y = np.stack([truth[target] for target in TARGETS], axis=1)
    return Sample(
        id=make_ids(n),
        star=np.arange(n),
        blocks={"embedding": (values, np.ones(values.shape, dtype=bool))},
        y=y,
        targets=TARGETS,
        ra=np.random.default_rng([seed, 2]).uniform(0, 360, n),
        dec=np.full(n, 40.0),
        worth=np.ones(n),
        calibrates=np.ones(n, dtype=bool),
    )


def make_labels(ids: NDArray[np.int64], truth: dict[str, Float], star: Any = None) -> Labels:
    """Labels of spectra, NaN where the truth has none."""
    return Labels(
        id=ids,
        star=np.arange(len(ids)) if star is None else star,
        values=truth,
        sigmas={name: np.where(np.isfinite(value), 0.1, np.nan) for name, value in truth.items()},
        source={name: np.where(np.isfinite(value), 0, -1) for name, value in truth.items()},
        sources=("made",),
    )


def make_stores(folder: Path, n: int = 150, *, empty: tuple[int, ...] = (), order: Any = None) -> dict[str, Path]:
    """Paths of a spectra and an embedding store of the same n spectra, the latter in another order if one is given.

    The embeddings carry the labels of `make_truth(n)`, row by row of the spectra store.
    """
    order = np.arange(n) if order is None else order
    vectors = make_features(make_truth(n))
    vectors[list(empty)] = 0
    spectra = make_spectra(folder / "s.zarr", n, empty=empty)
    lies = tuple(int(np.flatnonzero(order == row)[0]) for row in empty)
    embeddings = make_embeddings(
        folder / "e.zarr", n, vectors=vectors[order].copy(), ids=make_ids(n)[order], empty=lies
    )
    return {"spectra": spectra.path, "embeddings": embeddings.path}


def make_head(name: str, paths: dict[str, Path], options: TrainOptions = SMALL) -> Head:
    """A head for an input, trained for a moment on stores of `make_stores`."""
    stores = InputStores.open(name, paths["spectra"], paths["embeddings"])
    sample = Sample.join(stores, make_labels(make_ids(len(stores)), make_truth(len(stores))), TARGETS)
    head = train_head(sample, stores.identity, options).head
    head.about = {"trained_on": "made"}
    return head


def make_network(blocks: tuple[int, ...] = (WIDTH,), seed: int = 0, dropout: float = 0.1) -> HeadNetwork:
    """A network with random weights and batch statistics that are not those of the start."""
    torch.manual_seed(seed)
    network = HeadNetwork(NetworkOptions(blocks, len(TARGETS), (16, 8), dropout))
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(0.3 + 2 * torch.randn(32, sum(blocks)))
    return network.eval()


class MadeEncoder(nn.Module):
    """Embeds spectra by a Linear layer, and another within its blocks."""

    def __init__(self, n_pix: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_pix, width)
        self.blocks = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, flux: Tensor, ivar: Tensor) -> Tensor:
        hidden = self.first(flux * (ivar > 0))
        return hidden + self.blocks[0](hidden.relu())


def make_encoded(blocks: tuple[int, ...] = (WIDTH,), seed: int = 0) -> EncodedNetwork:
    """A network of `make_network` that reads spectra of as many pixels as its first block has features."""
    names = ("pixels", "embedding")[-len(blocks) :]
    scalings = {name: Scaling(np.full(d, 0.1), np.full(d, 0.7)) for name, d in zip(names, blocks, strict=True)}
    network = make_network(blocks, seed)
    return EncodedNetwork(MadeEncoder(blocks[0], blocks[-1]), scalings, network).eval()


def make_stars(n: int = 60, seed: int = 0, width: int = WIDTH) -> Stars:
    """Standardised stars whose labels are linear in their features."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, width)).astype(np.float32)
    y = x[:, : len(TARGETS)] + 0.5 * x[:, -1:] + 0.05 * random.normal(size=(n, len(TARGETS)))
    return Stars.of(x, y, np.ones(n, dtype=np.float32))
