"""embed-spectra: what cannot work is one sentence, before anything is computed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from embedding_made import options
from files import truncate, write_lamost
from models_made import save_model

from embed.load import DEFAULT, load_model
from embed.run import embed
from stores.errors import ModelError, OptionError, StoreError


def test_another_job_is_refused(spectra: Path, model: Path, tmp_path: Path) -> None:
    embed(options(spectra, model, tmp_path / "e.zarr"))
    with pytest.raises(StoreError, match="belongs to another job"):
        embed(options(spectra, save_model(tmp_path / "other", seed=5), tmp_path / "e.zarr"))
    with pytest.raises(StoreError, match="dtype: 'float32' there, 'float16' here"):
        embed(options(spectra, model, tmp_path / "e.zarr", dtype="float16"))


def test_spectra_prepared_otherwise_are_refused(spectra: Path, lrs_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="with continuum = 'none' but the spectra of the model 'lrs' with"):
        embed(options(spectra, lrs_model, tmp_path / "e.zarr"))
    name = str(write_lamost(tmp_path / "x.fits"))
    with pytest.raises(OptionError, match="choose a grid with that step"):
        embed(options(spectra, lrs_model, tmp_path / "e.zarr", inputs=(name,), survey="lamost", grid="3.6:3.7:0.0002"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"survey": "nosuch"}, "survey 'nosuch' is unknown"),
        ({"limit": -4}, "--limit -4"),
        ({"workers": 0}, "--workers 0"),
        ({"grid": "lsr"}, "grid 'lsr'"),
        ({"batch_size": 0}, "--batch-size 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(
    change: dict[str, object], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed.run.load_model", lambda name: pytest.fail("the model was loaded"))
    with pytest.raises(OptionError, match=sentence):
        embed(options(tmp_path / "x.fits", tmp_path, tmp_path / "e.zarr", **{"survey": "lamost", **change}))


MISTAKES = """
import sys
from embed.run import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["embed-spectra", *line.split("|")]
    try:
        main()
    except SystemExit as end:
        assert end.code == 2, end.code
assert "torch" not in sys.modules
"""


def test_simple_mistakes_are_told_before_torch_is_loaded(spectra: Path, model: Path, tmp_path: Path) -> None:
    """All in one process, since torch would take seconds to load in each."""
    embed(options(spectra, model, tmp_path / "taken.zarr"))
    table = tmp_path / "files" / "coadd-x.fits"
    table.parent.mkdir()
    table.write_text("no spectra")
    other = save_model(tmp_path / "other", seed=5)
    incomplete = tmp_path / "incomplete"
    shutil.copytree(model, incomplete)
    (incomplete / "model.safetensors").unlink()
    out = ("--out", tmp_path / "e.zarr")
    calls = {
        ("--survey", "desi", "absent.fits", *out): "'absent.fits' does not exist; check the path.",
        ("absent.zarr", *out): "'absent.zarr' does not exist; check the path.",
        (table, *out): "files need a reader: add --survey",
        (spectra, tmp_path / "taken.zarr", *out): "one spectra store is embedded at a time",
        (spectra, table, "--survey", "desi", *out): "one spectra store is embedded at a time",
        ("--survey", "nosuch", table, *out): "survey 'nosuch' is unknown",
        ("--survey", "desi", table, "--rv", "absent.csv", *out): "'absent.csv' does not exist; check the path.",
        ("--survey", "desi", table, *out): f"none of 1 files can be used; the first: '{table}'",
        ("--survey", "desi", table, "--model", "nosuch", *out): "model 'nosuch' is unknown",
        ("--survey", "sdss", *out): "survey 'sdss' has no built-in sample",
        (spectra, "--model", incomplete, *out): "is not a whole model",
        (spectra, *out): "was prepared with continuum = 'none' but the spectra of the model",
        (spectra, "--model", model, "--out", tmp_path / "taken.zarr"): "another job (dtype: 'float32' there",
        (spectra, "--model", other, "--store-dtype", "float32", "--out", tmp_path / "taken.zarr"): "(model differs)",
        (spectra, "--model", model, "--out", spectra): "is a store of spectra, not of embeddings",
    }
    lines = "\n".join("|".join(map(str, words)) for words in calls)
    done = subprocess.run([sys.executable, "-c", MISTAKES], input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert len(told) == len(calls), done.stderr
    for sentence, line in zip(calls.values(), told, strict=True):
        assert sentence in line
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"taken.zarr", "files", "other", "incomplete"}  # no lists of files, and no store


def test_weights_that_cannot_be_loaded_leave_nothing(lrs_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(lrs_model, broken)
    truncate(broken / "model.safetensors", 1000)
    name = str(write_lamost(tmp_path / "a.fits"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        embed(options(Path(), broken, tmp_path / "e.zarr", inputs=(name,), survey="lamost"))
    assert {path.name for path in tmp_path.iterdir()} == {"model", "a.fits"}


def test_a_grid_beside_the_spectra_is_refused(lrs_model: Path, tmp_path: Path) -> None:
    files = [write_lamost(tmp_path / f"{i}.fits", obsid=i + 1, seed=i) for i in range(3)]
    names = tuple(map(str, files))
    with pytest.raises(StoreError, match="of the pixels of its spectra are masked"):
        embed(options(Path(), lrs_model, tmp_path / "e.zarr", inputs=names, survey="lamost", grid="3.4:3.612:1e-4"))


def test_options_for_files_are_refused_with_a_store(spectra: Path, model: Path, tmp_path: Path) -> None:
    for name, value in (("grid", "lrs"), ("medium", "air"), ("limit", 3), ("rv", tmp_path / "rv.csv")):
        with pytest.raises(OptionError, match=f"--{name} works with files"):
            embed(options(spectra, model, tmp_path / "e.zarr", **{name: value}))
    with pytest.raises(OptionError, match="--at-rest and --rv contradict"):
        embed(options(spectra, model, tmp_path / "e.zarr", at_rest=True, rv=tmp_path / "rv.csv"))


def test_a_model_of_another_recipe_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed.load.RECIPE", 2)
    with pytest.raises(ModelError, match="recipe 1, and this version of spectrabridge prepares by recipe 2"):
        load_model(str(model))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.mkdir(), "it has no config.json"),
        (lambda path: (path.mkdir(), (path / "config.json").write_text("{")), "has no model.safetensors"),
        (
            lambda path: (
                save_model(path),
                (path / "model.safetensors").unlink(),
                torch.save({"a": torch.ones(1)}, path / "pytorch_model.bin"),
            ),
            "as a pickle .pytorch_model.bin., which could run any code",
        ),
        (lambda path: torch.save({"a": torch.ones(1)}, path), "name the folder|is a pickle"),
        (lambda path: (save_model(path), (path / "config.json").write_text("{")), "is not valid JSON"),
        (
            lambda path: (save_model(path), (path / "config.json").write_text(json.dumps({"model_type": "bert"}))),
            "is a model of type 'bert'",
        ),
        (lambda path: truncate(save_model(path) / "model.safetensors", 1000), "cannot be loaded"),
        (
            lambda path: (
                save_model(path),
                (path / "config.json").write_text(
                    (path / "config.json").read_text().replace('"layers": 2', '"layers": 3')
                ),
            ),
            "the config.json of '.*' was changed: pooled_layers",
        ),
        (
            lambda path: (
                save_model(path),
                (path / "config.json").write_text(
                    (path / "config.json").read_text().replace('"width": 32', '"width": 64')
                ),
            ),
            "cannot be loaded|do not fit",
        ),
    ],
    ids=["empty", "no weights", "pickle in folder", "pickle", "json", "type", "truncated", "layers", "width"],
)
def test_what_is_no_model_is_refused(make, sentence: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    name = tmp_path / ("model.ckpt" if "name the folder" in sentence else "model")
    make(name)
    with pytest.raises(ModelError, match=sentence) as caught:
        load_model(str(name))
    assert "\n" not in str(caught.value)


def test_an_unknown_model_names_the_built_in_ones() -> None:
    with pytest.raises(ModelError, match=DEFAULT):
        load_model("no-such-model")


def test_the_hub_is_asked_and_its_absence_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    folder = save_model(tmp_path / "snapshot")
    asked: list[str] = []

    def download(name: str, **_: object) -> str:
        asked.append(name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_model("someone/model").width == 32
    assert asked == ["someone/model"]

    def fail(name: str, **_: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match="could not be fetched from the hub"):
        load_model("someone/model")
