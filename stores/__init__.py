"""Spectra at rest: survey files -> prepared spectra, embeddings, and what can be asked of both.

    survey files --prepare--> SpectraStore --(package embed)--> EmbeddingStore --> search, export, heads
    catalogues --match--> Labels --> heads

A reader of a survey (`stores.surveys`) gives a typed SpectrumBatch: flux, inverse variance, wavelength, id.
`prepare` brings it to the rest frame, a common Grid and a unit continuum, the same way for all surveys. A
store is a Zarr v3 group written by whole shards: it resumes, verifies itself, knows where its rows come from
and says in Flag bits what is wrong with one. Rows are joined by their 64-bit id, never by position.

    from stores import open_store
    spectra = open_store("desi.zarr")
    flux = spectra.read("flux", slice(0, 100))  # (100, n_pix)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stores.errors import SpectraBridgeError

# At once, so that the name is always the function: a late import would leave it to the module of that name.
from stores.prepare import Preparation, prepare

if TYPE_CHECKING:
    from stores.catalogue import Catalogue
    from stores.embeddings import EmbeddingStore
    from stores.flags import Flag
    from stores.grid import Grid
    from stores.labels import Labels
    from stores.spectra import SpectraStore
    from stores.spectrum import Arm, SpectrumBatch
    from stores.store import open_store
    from stores.surveys import survey

__all__ = [
    "Arm",
    "Catalogue",
    "EmbeddingStore",
    "Flag",
    "Grid",
    "Labels",
    "Preparation",
    "SpectraBridgeError",
    "SpectraStore",
    "SpectrumBatch",
    "open_store",
    "prepare",
    "survey",
]

_LATE = {
    "Arm": "stores.spectrum",
    "Catalogue": "stores.catalogue",
    "EmbeddingStore": "stores.embeddings",
    "Flag": "stores.flags",
    "Grid": "stores.grid",
    "Labels": "stores.labels",
    "SpectraStore": "stores.spectra",
    "SpectrumBatch": "stores.spectrum",
    "open_store": "stores.store",
    "survey": "stores.surveys",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'stores' has no attribute '{name}'")
    return getattr(import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATE])
