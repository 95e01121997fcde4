"""Surveys that the tests of heads-train share."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_made import (
    made,
    make_survey,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Path]:
    return make_survey(folder, "one")


@pytest.fixture(scope="module")
def other(folder: Path) -> dict[str, Path]:
    """Other spectra of the same stars, of which others are in the part `test`."""
    return make_survey(folder, "other", 1000, seed=5, test=slice(0, 10))


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> dict[str, Path]:
    """Spectra of other stars."""
    return make_survey(folder, "elsewhere", 2000, seed=7, sky=1)


@pytest.fixture(scope="module")
def base(folder: Path, one: dict[str, Path]) -> Path:
    made(folder / "base", one)
    return folder / "base"
