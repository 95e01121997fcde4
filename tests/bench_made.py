"""Surveys of a comparison made from numbers, for tests of `benchmarks`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heads_made import QUICK, SMALL, make_features, make_labels, make_truth
from stores_made import make_embeddings, make_ids, make_spectra

from benchmarks.study import Side

SEEDS = 2
TRAINING = replace(SMALL, widths=(32, 16), fit=replace(QUICK, least_steps=250, most_steps=250))


def make_side(folder: Path, name: str, seed: int, offset: float) -> Side:
    """150 stars of a survey: at places of its own, with [Fe/H] `offset` beside those that the embeddings hold."""
    truth, ids = make_truth(150, seed), make_ids(150) + (0 if name == "target" else 1000)
    spectra = make_spectra(folder / f"{name}.zarr", 150, seed=seed, ids=ids)
    embeddings = make_embeddings(folder / f"{name}-e.zarr", 150, vectors=make_features(truth, seed), ids=ids)
    labels = folder / f"{name}.parquet"
    make_labels(ids, {**truth, "feh": truth["feh"] + offset}).save(labels)
    return Side(name, spectra.path, embeddings.path, labels)
