"""Files, stores and heads that the tests share; none writes into them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from heads_made import SMALL, make_labels
from intake_made import INPUTS, N, save_model

from embed.run import EmbedOptions, embed
from heads import InputStores, Sample, train_head
from stores.ingest import IngestOptions, ingest
from stores.simulate.simulate import SimulateOptions, simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("intake")


@pytest.fixture(scope="module")
def files(folder: Path) -> Path:
    """The spectra of a twin of LAMOST, a file each, with the truth beside them."""
    assert simulate(SimulateOptions(survey="lamost", n=N, out=folder / "lamost", seed=1)) == 0
    return folder / "lamost" / "spectra"


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return save_model(folder / "models" / "lrs", 0)


@pytest.fixture(scope="module")
def stores(folder: Path, files: Path, model: Path) -> dict[str, Path]:
    """What stores-ingest and embed-spectra make of the files."""
    paths = {"spectra": folder / "s.zarr", "embeddings": folder / "e.zarr"}
    assert ingest(IngestOptions(survey="lamost", files=(str(files),), out=paths["spectra"])) == 0
    assert embed(EmbedOptions(inputs=(str(paths["spectra"]),), model=str(model), out=paths["embeddings"])) == 0
    return paths


@pytest.fixture(scope="module")
def made(folder: Path, stores: dict[str, Path]) -> dict[str, Path]:
    """A head for each input, which learned the truth of the twin."""
    table = pq.read_table(folder / "lamost" / "truth.parquet").sort_by("id")
    truth = {name: table[name].to_numpy().astype(float) for name in ("feh", "teff")}
    labels = make_labels(table["id"].to_numpy(), truth)
    for name in INPUTS:
        given = InputStores.open(name, stores["spectra"], stores["embeddings"])
        sample = Sample.join(given, labels, ("feh", "teff"))
        train_head(sample, given.identity, SMALL).head.save_pretrained(folder / name)
    return {name: folder / name for name in INPUTS}
