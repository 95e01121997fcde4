"""Backends: all say the same, and one is chosen where it pays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_made import GRID, make_spectra, make_store, small_config

from embed import backend as backends
from embed import run
from embed.backend import AGREEMENT, Float32, OpenVinoBackend, TorchBackend, agreement, choose
from embed.embedder import Embedder
from embed.load import DEFAULT, LoadedModel, load_model
from embed.model import SpectralTransformer
from embed.run import EmbedOptions, embed
from heads.bundle import load_head
from heads.head import Head
from heads.library import find_head
from heads.sample import features
from stores import EmbeddingStore, SpectraStore
from stores.errors import ModelError, OptionError, StoreError
from stores.sample import BuiltInSample

needs_openvino = pytest.mark.skipif(not backends.installed(), reason="openvino is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    SpectralTransformer(small_config()).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return load_model(str(folder))


@pytest.fixture(scope="module")
def spectra() -> tuple[Float32, Float32]:
    """Some with gaps, some nearly all masked."""
    batch = make_spectra(40, poor=(3, 17))
    flux, ivar = batch.flux.astype(np.float32), batch.ivar.astype(np.float32)
    ivar[5:9, 30:90] = 0
    return flux, ivar


# -- they agree --------------------------------------------------------------------------------------------


@needs_openvino
@pytest.mark.parametrize("size", [1, 7, 40])
def test_openvino_says_what_torch_says(model: LoadedModel, spectra: tuple[Float32, Float32], size: int) -> None:
    one, other = (Embedder(model, GRID.start, "cpu", size, backend)(*spectra) for backend in ("torch", "openvino"))
    np.testing.assert_allclose(other, one, rtol=1e-3, atol=3e-4)
    assert np.ptp(one, axis=0).max() > 0.1  # stars differ by far more


@needs_openvino
def test_openvino_takes_grids_of_other_lengths(model: LoadedModel, spectra: tuple[Float32, Float32]) -> None:
    cut = tuple(np.ascontiguousarray(array[:, :160]) for array in spectra)
    backend = OpenVinoBackend(model, GRID.start, "cpu", "float32")
    for flux, ivar in (spectra, cut, spectra):
        wanted = TorchBackend(model, GRID.start, "cpu", "float32")(flux, ivar)
        np.testing.assert_allclose(backend(flux, ivar), wanted, rtol=1e-3, atol=3e-4)


@pytest.mark.parametrize("backend", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_other_ways_of_running_the_built_in_model_do_not_move_parameters(backend: str) -> None:
    """Cosines of 0.999 with float32 by torch, and parameters within a tenth of their sigma."""
    loaded = load_model(DEFAULT)
    sample = BuiltInSample("lamost", loaded.grid, loaded.preparation, 48)
    values = sample.make(slice(0, 48))
    usable = np.any(values["ivar"] > 0, axis=1)
    flux, ivar = (values[name][usable].astype(np.float32) for name in ("flux", "ivar"))
    precision = "bfloat16" if backend == "torch" else "float32"
    wanted = Embedder(loaded, loaded.grid.start, "cpu", 48)(flux, ivar)
    found = Embedder(loaded, loaded.grid.start, "cpu", 48, backend, precision)(flux, ivar)
    assert agreement(wanted, found) > AGREEMENT
    assert not np.array_equal(wanted, found)
    head = load_head(find_head(Path("lamost")))
    assert isinstance(head, Head)

    def parameters(embedding: Float32) -> Any:
        blocks = {"pixels": (flux, ivar > 0), "embedding": (embedding, np.ones(embedding.shape, dtype=bool))}
        x = features(blocks, head.scalings)
        return head.predict_features(x, values["id"][usable], np.zeros(len(x), np.uint32))

    one, other = parameters(wanted), parameters(found)
    for label in head.targets:
        moved = (other.value[label] - one.value[label]) / one.sigma[label]
        assert np.sqrt(np.mean(moved**2)) < 0.1


# -- which one is taken ------------------------------------------------------------------------------------


class Timed:
    """In place of the clock: seconds that each backend takes, and how far openvino is off."""

    def __init__(self, torch: float, openvino: float, off: float = 0.0) -> None:
        self.seconds, self.off = {"torch": torch, "openvino": openvino}, off

    def __call__(self, backend: Any, flux: Float32, ivar: Float32) -> tuple[Float32, float]:
        found = np.ones((len(flux), 4), np.float32)
        if backend.name == "openvino":
            found[:, 0] += self.off
        return found, self.seconds[backend.name]


@pytest.mark.parametrize(
    ("timed", "count", "wanted"),
    [
        (Timed(1.0, 0.5), 40 * 100, "openvino"),
        (Timed(1.0, 0.5), 40 * 10, "torch"),  # it would save 5 s
        (Timed(1.0, 0.9), 40 * 1000, "torch"),  # not by enough to be sure
        (Timed(1.0, 2.0), 40 * 1000, "torch"),
        (Timed(1.0, 0.5, off=0.5), 40 * 100, "torch"),  # it says something else
    ],
)
@needs_openvino
def test_what_pays_is_taken(
    timed: Timed,
    count: int,
    wanted: str,
    model: LoadedModel,
    spectra: tuple[Float32, Float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "_timed", timed)
    assert choose(model, GRID.start, "float32", count, *spectra) == wanted


def test_nothing_to_try_on_is_torch(model: LoadedModel, spectra: tuple[Float32, Float32]) -> None:
    none = tuple(array[:0] for array in spectra)
    assert choose(model, GRID.start, "float32", 10**9, *none) == "torch"  # type: ignore[call-arg]


@needs_openvino
def test_a_model_that_cannot_be_compiled_is_left_to_torch(
    model: LoadedModel, spectra: tuple[Float32, Float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no such operation\nand much more")

    monkeypatch.setattr(backends, "_exported", refuse)
    with pytest.raises(ModelError, match=r"cannot be compiled by openvino \(no such operation\); use --backend torch"):
        OpenVinoBackend(model, GRID.start, "cpu", "float32")(*spectra)
    monkeypatch.setattr(backends, "LEAST_SAVED", 0.0)
    assert choose(model, GRID.start, "float32", 10**9, *spectra) == "torch"


# -- the command -------------------------------------------------------------------------------------------


@needs_openvino
def test_a_store_goes_on_with_the_backend_that_it_was_begun_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "s.zarr", 100)
    given = {"inputs": (str(tmp_path / "s.zarr"),), "model": str(folder), "out": tmp_path / "e.zarr", "device": "cpu"}
    options = EmbedOptions(**given, backend="auto")  # type: ignore[arg-type]
    monkeypatch.setattr(run, "choose", lambda *_: "openvino")
    made: list[str] = []

    class Watched(Embedder):
        def __init__(self, *given: Any) -> None:
            made.append(given[4])
            super().__init__(*given)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "Embedder", Watched)
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed(options)
    monkeypatch.setattr(run, "choose", lambda *_: "torch")
    assert embed(options) == 0
    assert made == ["openvino", "openvino"]
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    assert store.attributes["backend"] == "openvino"
    wanted = Embedder(load_model(str(folder)), GRID.start, "cpu", 8)
    spectra = SpectraStore.open(tmp_path / "s.zarr")
    np.testing.assert_allclose(
        store.read("embedding"), wanted(spectra.read("flux"), spectra.read("ivar")), rtol=2e-3, atol=4e-4
    )


def test_another_precision_is_another_job(folder: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "s.zarr", 70)
    given = {"inputs": (str(tmp_path / "s.zarr"),), "model": str(folder), "out": tmp_path / "e.zarr", "device": "cpu"}
    assert embed(EmbedOptions(**given, precision="bfloat16")) == 0  # type: ignore[arg-type]
    assert EmbeddingStore.open(tmp_path / "e.zarr").attributes["job"]["precision"] == "bfloat16"
    with pytest.raises(StoreError, match="precision: 'bfloat16' there, 'float32' here"):
        embed(EmbedOptions(**given))  # type: ignore[arg-type]


@needs_openvino
def test_a_store_of_another_backend_is_refused(folder: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "s.zarr", 70)
    given = {"inputs": (str(tmp_path / "s.zarr"),), "model": str(folder), "out": tmp_path / "e.zarr", "device": "cpu"}
    assert embed(EmbedOptions(**given)) == 0  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="was begun with the backend torch; leave --backend out"):
        embed(EmbedOptions(**given, backend="openvino"))  # type: ignore[arg-type]


@needs_openvino
def test_openvino_tells_nobody() -> None:
    """Its package for that would send word over the network with every model that is converted."""
    asked = (
        "from embed.backend import _openvino; _openvino(); import openvino.tools.ovc.convert_impl as one; "
        "print(one.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "openvino.tools.ovc.telemetry_stub\n"


@needs_openvino
def test_bfloat16_is_refused_where_it_would_be_float32(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        class Core:
            def get_property(self, device: str, name: str) -> list[str]:
                return ["FP32", "INT8"]

    monkeypatch.setattr(backends, "_openvino", Library)
    with pytest.raises(OptionError, match="no bfloat16 on this processor; leave --precision out"):
        OpenVinoBackend(model, GRID.start, "cpu", "bfloat16")


def test_backends_that_are_not_there_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    with pytest.raises(OptionError, match=r"openvino is not installed; run pip install 'spectrabridge\[openvino\]'"):
        embed(EmbedOptions(backend="openvino", survey="desi"))
    monkeypatch.setattr(backends, "find_spec", lambda _: object())
    with pytest.raises(OptionError, match="runs on the CPU, not on 'cuda'"):
        embed(EmbedOptions(backend="openvino", survey="desi", device="cuda"))
