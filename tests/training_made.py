"""Small surveys to train heads on by heads-train, for its tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_made import TARGETS, make_features, make_labels, make_truth
from stores_made import BIG_ID, make_embeddings

from heads import Head
from heads.adapters import load_adapters
from heads.bundle import load_head
from heads.train import HeadTrainOptions, train
from stores import Labels, SpectraBridgeError

N, TRAIN = 80, 64  # spectra, of which the last are in the part `test`
WILD = {"feh": 9.0, "teff": 9e4}
STRATEGIES = [name for name, strategy in load_adapters().items() if not strategy.encodes]  # of embeddings


def make_survey(
    folder: Path, name: str, first: int = 0, *, seed: int = 0, sky: int = 0, test: slice = slice(TRAIN, N)
) -> dict[str, Path]:
    """An embedding store of N stars with ids from BIG_ID + first on, and their labels.

    seed: of labels and noise; sky: of the positions, so that stores with the same sky are of the same stars
    """
    truth = make_truth(N, seed)
    ids = BIG_ID + first + np.arange(N)
    vectors = make_features(truth, seed)
    store = make_embeddings(folder / f"{name}.zarr", N, vectors=vectors, ids=ids, seed=sky)
    save_labels(folder / f"{name}.parquet", ids, truth, test)
    return {"store": store.path, "labels": folder / f"{name}.parquet"}


def save_labels(path: Path, ids: Any, truth: dict[str, Any], test: slice | None) -> Path:
    split = np.zeros(len(ids), dtype=np.int64)
    split[slice(0, 0) if test is None else test] = 1
    replace(make_labels(ids, truth), split=split, parts=("train", "test")).save(path)
    return path


def changed_labels(survey: dict[str, Path], rows: Any, folder: Path, values: dict[str, float] = WILD) -> Path:
    """Another table with other labels for some rows."""
    labels = Labels.load(survey["labels"])
    changed = {name: value.copy() for name, value in labels.values.items()}
    for name, value in values.items():
        changed[name][rows] = value
    path = folder / f"changed-{survey['labels'].name}"
    replace(labels, values=changed).save(path)
    return path


def options(out: Path, *surveys: dict[str, Path], **more: Any) -> HeadTrainOptions:
    given: dict[str, Any] = {
        "input": "embedding",
        "embeddings": tuple(survey["store"] for survey in surveys),
        "labels": tuple(str(survey["labels"]) for survey in surveys),
        "targets": ",".join(TARGETS),
        "seeds": 2,
        "epochs": 3,
        "out": out,
    }
    return HeadTrainOptions(**(given | more))


def made(out: Path, *surveys: dict[str, Path], **more: Any) -> Head:
    assert train(options(out, *surveys, **more)) == 0
    head = load_head(out)
    assert isinstance(head, Head)
    return head


def adapted(base: Path, **more: Any) -> dict[str, Any]:
    """Options that take a head to another survey."""
    return {"input": None, "targets": None, "epochs": None, "base": base, **more}


def refused(given: HeadTrainOptions, kind: type[SpectraBridgeError], *words: str) -> None:
    """Nothing is trained or written, and one sentence is said."""
    before = sorted(given.out.parent.iterdir()) if given.out.parent.is_dir() else []

    def trained(*args: Any, **more: Any) -> None:
        raise AssertionError("something was trained")

    with pytest.MonkeyPatch.context() as patch:
        for place in ("heads.fit.fit", "heads.adapters.scratch.fit"):
            patch.setattr(place, trained)
        with pytest.raises(kind) as caught:
            train(given)
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1
    assert sentence.endswith(".")
    for word in words:
        assert word in sentence
    if given.out.parent.is_dir():
        assert sorted(given.out.parent.iterdir()) == before
