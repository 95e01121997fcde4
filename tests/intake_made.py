"""Files, and heads of each input for them, as heads-predict is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from files import DATA
from models_made import small_config

from embed.model import SpectralTransformer
from heads.predict import PredictOptions, predict
from stores import Grid, Preparation

ROOT = Path(__file__).resolve().parents[1]
LRS = Grid.parse("lrs")
N = 24
INPUTS = ("spectra", "embedding", "fused")
real = pytest.mark.skipif(not DATA.exists(), reason="the shared real data are not on this machine")


def save_model(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    SpectralTransformer(small_config(LRS, Preparation())).save_pretrained(path)
    return path


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def about(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"spectrabridge"])
    return told


def assert_same(one: Path, other: Path) -> None:
    found, wanted = read(one), read(other)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def from_files(name: str, made: dict[str, Path], model: Path, folder: Any, out: Path, **more: Any) -> PredictOptions:
    given: dict[str, Any] = {"survey": "lamost", "files": (str(folder),), "head": made[name], "out": out}
    if name != "spectra":
        given["model"] = str(model)
    return PredictOptions(**(given | more))


def by_hand(name: str, made: dict[str, Path], stores: dict[str, Path], out: Path) -> Path:
    assert (
        predict(PredictOptions(head=made[name], store=stores["spectra"], embeddings=stores["embeddings"], out=out))
        == 0
    )
    return out
