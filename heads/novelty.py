"""Whether a spectrum is unlike those that a head learned from: distance to its nearest neighbours among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5
COMPONENTS = 32  # directions in which distances are measured, by variance among the training stars
REFERENCES = 20_000  # training stars that are remembered
SHARE = 0.99  # of held-out training stars that are not called unlike

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Novelty:
    """axes: (d, p), references: (m, p) float32; threshold: the largest usual distance."""

    axes: Float32
    references: Float32
    threshold: float

    @classmethod
    def of(cls, x: Float32, seed: int) -> Novelty:
        """From standardised features (n, d) of the training stars; the threshold from a tenth held out."""
        random = np.random.default_rng(seed)
        order = random.permutation(len(x))[: REFERENCES + REFERENCES // 10]
        some = x[order].astype(np.float64)
        values, vectors = np.linalg.eigh(some.T @ some / len(some))
        chosen = np.argsort(values)[::-1][: min(COMPONENTS, len(some) - 1)]
        axes = vectors[:, chosen].astype(np.float32)
        places = x[order] @ axes
        held = max(1, len(places) // 10)
        near = cls(axes, places[held:], np.inf).distance_of_places(places[:held])
        return cls(axes, places[:REFERENCES], float(np.quantile(near, SHARE)))

    def distance(self, x: Float32) -> Float32:
        """Mean distance (n,) of standardised features (n, d) to their nearest neighbours."""
        return self.distance_of_places(x @ self.axes)

    def distance_of_places(self, places: Float32) -> Float32:
        """The same of projected features (n, p)."""
        import faiss

        index = faiss.IndexFlatL2(self.references.shape[1])
        index.add(np.ascontiguousarray(self.references))
        square, _ = index.search(np.ascontiguousarray(places), min(NEIGHBOURS, len(self.references)))
        return np.sqrt(np.maximum(square, 0)).mean(axis=1)

    def unlike(self, x: Float32) -> NDArray[np.bool_]:
        """(n,) True for standardised features farther from the training stars than those from each other."""
        return np.asarray(self.distance(x) > self.threshold)
