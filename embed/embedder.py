"""Embedder: a model on a device, and the shard of an embedding store that it makes, in this process or another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.backend import BACKENDS
from embed.load import LoadedModel, load_model
from embed.work import Part
from stores.embeddings import EmbeddingStore, embedding_faults
from stores.errors import ModelError, OptionError, StoreError
from stores.flags import Flag
from stores.ingest import is_finished
from stores.store import Array

MAX_MASKED = 0.9  # of the pixels of a shard's usable spectra
MOST_ON_CPU = 64  # spectra that a model takes at once there; with 128, which its caches do not hold, it is slower
TELLING_ROWS = 16  # usable spectra in a shard that such a share says something about


class Embedder:
    """A model on a device that turns arrays into arrays."""

    def __init__(
        self,
        model: LoadedModel,
        start: float,
        device: str,
        batch_size: int,
        backend: str = "torch",
        precision: str = "float32",
    ) -> None:
        self.backend = BACKENDS[backend](model, start, device, precision)
        self.width = model.width
        self.batch_size = min(batch_size, MOST_ON_CPU) if device == "cpu" else batch_size

    def __call__(self, flux: Array, ivar: Array) -> NDArray[np.float32]:
        """Embeddings (n, d) of flux, ivar (n, n_pix); 0 for a spectrum without a valid pixel."""
        embedding = np.zeros((len(flux), self.width), dtype=np.float32)
        usable = np.flatnonzero(np.any(ivar > 0, axis=1))
        for first in range(0, len(usable), self.batch_size):
            rows = usable[first : first + self.batch_size]
            embedding[rows] = self.backend(flux[rows], ivar[rows])
        return embedding


@dataclass(frozen=True)
class Recipe:
    """All that another process needs to embed shards of a store as this one would.

    out: the store; model: where it lies, for that process; start: of the grid, log10 of Angstrom
    backend, precision: as of Embedder
    """

    out: str
    model: str
    fingerprint: str
    start: float
    device: str
    batch_size: int
    backend: str = "torch"
    precision: str = "float32"

    def write(self, shard: int, part: Part) -> None:
        """Make a shard, unless it is there: a worker may have been lost after it."""
        store = EmbeddingStore.open(self.out, unfinished=True)
        if not is_finished(store, shard):
            how = (self.device, self.batch_size, self.backend, self.precision)
            embedder = load_embedder(self.model, self.fingerprint, self.start, *how)
            write_shard(store, shard, *part.make(), embedder)


@lru_cache(maxsize=1)
def load_embedder(
    model: str,
    fingerprint: str,
    start: float,
    device: str = "auto",
    batch_size: int = 256,
    backend: str = "torch",
    precision: str = "float32",
) -> Embedder:
    """The one of this process, which is loaded once; for other packages too.

    model: where it lies; start: of the grid, log10 of Angstrom; the rest as of Embedder

    Raises ModelError if the model cannot be had, or has not the fingerprint.
    """
    loaded = load_model(model)
    if loaded.fingerprint != fingerprint:
        raise ModelError(f"the model '{model}' of a worker has other weights; give all workers the same.")
    return Embedder(loaded, start, usable_device(device, _best_device), batch_size, backend, precision)


def write_shard(
    store: EmbeddingStore,
    shard: int,
    values: dict[str, Array],
    record: dict[str, Any],
    embedder: Embedder,
    process: int = 0,
) -> None:
    """Embed prepared spectra, check the embeddings, and write them as a shard.

    values, record: as of a spectra store; process: number of the one that writes, among those launched together
    """
    embedding = embedder(values["flux"], values["ivar"]).astype(store.array("embedding").dtype)
    _refuse_useless(shard, embedding, values, alone=store.n_shards == 1)
    columns = {name: values[name] for name in ("id", "ra", "dec", "snr", "flags")}
    store.write_shard(shard, {"embedding": embedding, **columns}, {**record, "process": process})


def _refuse_useless(shard: int, embedding: Array, values: dict[str, Array], *, alone: bool) -> None:
    """Stop before embeddings that mean nothing are written; a last shard of few rows must not stop a long job."""
    for fault in embedding_faults(embedding, values["flags"]):
        raise StoreError(f"shard {shard} is not written: {fault}; check the model and the spectra.")
    usable = (values["flags"] & np.uint32(Flag.NO_VALID_PIXELS)) == 0
    masked = float(np.mean(values["ivar"][usable] == 0)) if usable.any() else 0.0
    if masked > MAX_MASKED and (alone or np.count_nonzero(usable) >= TELLING_ROWS):
        raise StoreError(
            f"shard {shard} is not written: {masked:.0%} of the pixels of its spectra are masked; "
            "check that the grid lies within the survey's wavelengths."
        )


def usable_device(wanted: str, best: Callable[[], str]) -> str:
    """A device that is there, the best one for `auto`. Raises OptionError."""
    import torch

    if wanted == "auto":
        return best()
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError):
        raise OptionError(f"device '{wanted}' is not there; use --device auto or cpu.") from None
    return wanted


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
