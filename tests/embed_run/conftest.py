"""A store and models that the tests of embed-spectra share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from embedding_made import LRS
from models_made import make_store, save_model, small_config

from embed.model import SpectralTransformer
from stores.prepare import Preparation


@pytest.fixture(scope="module")
def spectra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("stores") / "made.zarr").path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def lrs_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "lrs"
    torch.manual_seed(0)
    SpectralTransformer(small_config(LRS, Preparation())).save_pretrained(folder)
    return folder
