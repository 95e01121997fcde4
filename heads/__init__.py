"""Heads: from spectra or embeddings to stellar parameters, across surveys, with uncertainties.

    stores + labels --InputStores, Sample--> train_head --> Head --adapt_head--> Head of another survey --> catalogue

This package holds the networks and the strategies that turn rows of a spectra or an embedding store, joined with
labels by id, into stellar parameters. It imports `stores` and never `embed`: what it needs of a model lies in
the embedding store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heads.adapters import Adapter, adapter
    from heads.bundle import load_head
    from heads.head import Head, Prediction
    from heads.inputs import InputStores
    from heads.sample import Sample
    from heads.training import TrainOptions, adapt_head, train_head

__all__ = [
    "Adapter",
    "Head",
    "InputStores",
    "Prediction",
    "Sample",
    "TrainOptions",
    "adapt_head",
    "adapter",
    "load_head",
    "train_head",
]

_LATE = {
    "Adapter": "heads.adapters",
    "Head": "heads.head",
    "InputStores": "heads.inputs",
    "Prediction": "heads.head",
    "Sample": "heads.sample",
    "TrainOptions": "heads.training",
    "adapt_head": "heads.training",
    "adapter": "heads.adapters",
    "load_head": "heads.bundle",
    "train_head": "heads.training",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'heads' has no attribute '{name}'")
    return getattr(import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATE])
