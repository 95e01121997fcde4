"""EmbeddingStore: one vector a spectrum, at rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from stores.column import ROW_COLUMNS, Column
from stores.flags import Flag
from stores.store import Array, Store

TELLING_ROWS = 3  # two spectra may well be alike


def embedding_columns(width: int, dtype: str) -> dict[str, Column]:
    """The arrays of an embedding store of vectors of `width` in float16 or float32."""
    return {
        "embedding": Column(dtype, "", "embedding vector; 0 where the spectrum is empty", width),
        **ROW_COLUMNS,
    }


class EmbeddingStore(Store):
    """embedding (n, d), and id, ra, dec, snr, flags (n,)."""

    KIND = "embeddings"

    @property
    def width(self) -> int:
        return int(self.array("embedding").shape[1])

    @property
    def model(self) -> str:
        return str(self.attributes["model"]["name"])

    def check(self, values: Mapping[str, Array]) -> Iterator[str]:
        yield from super().check(values)
        yield from embedding_faults(values["embedding"], values["flags"])


def embedding_faults(embedding: Array, flags: Array) -> Iterator[str]:
    """What makes embeddings (n, d) useless: not finite, all the same, or nothing but zeros."""
    if not np.all(np.isfinite(embedding)):
        yield "an embedding is not finite"
        return
    # the same spectrum twice has the same embedding rightly
    used = (flags & np.uint32(Flag.NO_VALID_PIXELS | Flag.DUPLICATE_ID)) == 0
    vectors = embedding[used].astype(np.float32)
    if len(vectors) and not np.all(np.any(vectors != 0, axis=1)):
        yield "an embedding of a spectrum with valid pixels is all zeros"
    if len(vectors) >= TELLING_ROWS:
        scatter = np.std(vectors, axis=0).max()
        if scatter < 1e-4 * max(float(np.abs(vectors).max()), 1e-12):
            yield "all embeddings are the same vector"
