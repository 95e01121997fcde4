"""Embedders: what makes embeddings of spectra, by name; this package knows of `embed` by these names only.

The entry-point group `spectrabridge.embedders` has `default`, which embeds a file, `store`, which embeds a spectra
store, `arrays`, which gives what embeds spectra in memory, `check`, which says beforehand whether that will work, and
`encoder`, which gives a model to train through.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stores.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from stores.embeddings import EmbeddingStore
    from stores.location import Url
    from stores.store import Array
    from stores.surveys import ReadOptions
    from stores.velocities import Velocities

EMBEDDERS = "spectrabridge.embedders"


class Embedder(Protocol):
    """Embeds every spectrum of a file as a store was made: ids (n,) int64, embeddings (n, d) float32."""

    def __call__(
        self,
        path: Path,
        survey: str,
        store: EmbeddingStore,
        model: str | None,
        options: ReadOptions,
        velocities: Velocities | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...


class StoreEmbedder(Protocol):
    """Embeds a spectra store into an embedding store `out`; what is unfinished there is finished.

    workers, scheduler: as of in_processes
    """

    def __call__(
        self, spectra: Path | Url, out: Path, model: str, workers: int = 1, scheduler: str | None = None
    ) -> None: ...


class ArrayEmbedder(Protocol):
    """Embeddings (n, d) float32 of flux, ivar (n, n_pix); 0 for a spectrum without a valid pixel."""

    def __call__(self, flux: Array, ivar: Array) -> NDArray[np.float32]: ...


class ArrayEmbedderLoader(Protocol):
    """What embeds spectra on a grid whose log10 begins at `start`, loaded once a process; raises as ModelCheck."""

    def __call__(self, model: str, fingerprint: str, start: float) -> ArrayEmbedder: ...


class ModelCheck(Protocol):
    """Raises ModelError if a model cannot be had, or has not the fingerprint."""

    def __call__(self, model: str, fingerprint: str) -> None: ...


class EncoderLoader(Protocol):
    """A model as a module, flux and ivar (B, n_pix) -> embeddings (B, d), on a grid whose log10 begins at `start`.

    The Linear layers within its parts named `blocks` are those of attention and MLPs. Raises as ModelCheck does.
    """

    def __call__(self, model: str, fingerprint: str, start: float) -> torch.nn.Module: ...


def find_embedder(name: str = "default") -> Any:
    """The entry point of this name, one of the protocols above. Raises ModelError if there is none."""
    for point in entry_points(group=EMBEDDERS, name=name):
        try:
            return point.load()
        except ImportError as error:
            raise ModelError(f"the embedder '{point.value}' cannot be loaded ({error}).") from None
    raise ModelError("nothing here can embed spectra; install spectrabridge again with its package embed.")
