"""The names that `stores` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import stores

NAMES = {
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
}


def test_public_names_are_these() -> None:
    assert set(stores.__all__) == NAMES
    assert NAMES.issubset(dir(stores))
    for name in NAMES:
        assert getattr(stores, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'stores' has no attribute 'nothing'"):
        stores.nothing  # noqa: B018


def test_prepare_is_the_function_whatever_was_imported_before() -> None:
    script = "import stores.ingest\nfrom stores import prepare\nassert callable(prepare), prepare\n"
    script += "from stores.prepare.resample import resample\nfrom stores.prepare import prepare as same\n"
    script += "assert same is prepare\n"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = ["zarr", "astropy", "scipy", "faiss", "pyarrow", "torch", "embed"]
    script = "import sys, stores, stores.info, stores.verify, stores.export, stores.search, stores.labelling\n"
    script += f"found = [name for name in {heavy} if name in sys.modules]\nassert not found, found\n"
    subprocess.run([sys.executable, "-c", script], check=True)
