"""embed-spectra: the right vectors in the right rows, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from files import BIG_ID, truncate, write_lamost
from models_made import GRID, make_model, make_spectra, make_store, save_model, small_config

from embed.launch import LAUNCHERS, join_processes, leave_processes
from embed.load import DEFAULT, built_in_models, describe_model, load_model
from embed.model import SpectralTransformer
from embed.run import Embedder, EmbedOptions, embed, embed_file
from stores.embeddings import EmbeddingStore
from stores.errors import InputError, ModelError, OptionError, SpectraBridgeError, StoreError
from stores.flags import Flag
from stores.grid import Grid
from stores.prepare import Preparation, prepare
from stores.sample import SAMPLE_SEED, SAMPLE_STARS
from stores.simulate.simulate import SimulateOptions, simulate
from stores.spectra import SpectraStore
from stores.surveys import ReadOptions, get_survey
from stores.velocities import Velocities

LRS = Grid.parse("lrs")
SCRIPT = Path(__file__).resolve().parents[1] / "embed" / "run.py"


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


def options(spectra: Path, model: Path, out: Path, **changes: object) -> EmbedOptions:
    base = EmbedOptions(inputs=(str(spectra),), model=str(model), out=out, dtype="float32", device="cpu")
    return replace(base, **changes)  # type: ignore[arg-type]


def direct(spectra: Path, model: Path) -> np.ndarray:
    """Embeddings of a whole store by one plain call of the model."""
    store = SpectraStore.open(spectra)
    network = SpectralTransformer.from_pretrained(model).eval()
    with torch.no_grad():
        flux, ivar = (torch.from_numpy(store.read(name)) for name in ("flux", "ivar"))
        return network(flux, ivar, store.grid.start).embedding.numpy()


def test_a_spectra_store_is_embedded(spectra: Path, model: Path, tmp_path: Path) -> None:
    assert embed(options(spectra, model, tmp_path / "e.zarr", batch_size=50)) == 0
    source, store = SpectraStore.open(spectra), EmbeddingStore.open(tmp_path / "e.zarr")
    np.testing.assert_allclose(store.read("embedding"), direct(spectra, model), rtol=1e-4, atol=1e-5)
    for name in ("id", "ra", "dec", "snr", "flags"):
        np.testing.assert_array_equal(store.read(name), source.read(name))
    assert store.attributes["preprocessing"] == source.attributes["preprocessing"]
    assert store.attributes["model"]["fingerprint"] == load_model(str(model)).fingerprint
    assert {"version", "commit", "command", "created", "grid", "survey"} <= store.attributes.keys()
    assert not [fault for _, faults in store.verify() for fault in faults]
    # half precision is the same to its own accuracy
    embed(options(spectra, model, tmp_path / "half.zarr", dtype="float16"))
    half = EmbeddingStore.open(tmp_path / "half.zarr").read("embedding")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, store.read("embedding"), rtol=2e-3, atol=2e-3)


def test_a_query_without_a_velocity_is_told(
    lrs_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known, lacking = (write_lamost(tmp_path / f"{z}.fits", obsid=BIG_ID, z=z) for z in (1e-4, -9999.0))
    embed(options(Path(), lrs_model, tmp_path / "e.zarr", inputs=(str(known),), survey="lamost"))
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    note = f"1 of 1 spectra in '{lacking}' have no velocity and stay in the observed frame"
    capsys.readouterr()
    embed_file(known, "lamost", store, str(lrs_model))
    assert "have no velocity" not in capsys.readouterr().err
    embed_file(lacking, "lamost", store, str(lrs_model))
    assert note in capsys.readouterr().err
    (tmp_path / "rv.csv").write_text(f"id,rv\n{BIG_ID},10\n")
    velocities = Velocities.read(tmp_path / "rv.csv")
    embed_file(lacking, "lamost", store, str(lrs_model), velocities=velocities)
    assert capsys.readouterr().err == f"velocities for 1 of 1 spectra come from '{velocities.path}'.\n"


def test_files_are_prepared_on_the_fly(lrs_model: Path, tmp_path: Path) -> None:
    files = [write_lamost(tmp_path / f"{i}.fits", obsid=BIG_ID + i, seed=i) for i in range(5)]
    truncate(write_lamost(tmp_path / "broken.fits"), 5000)
    names = (*map(str, files), str(tmp_path / "broken.fits"), str(tmp_path / "absent.fits"))
    status = embed(options(Path(), lrs_model, tmp_path / "e.zarr", inputs=names, survey="lamost"))
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    assert status == 3
    assert store.read("id")[:5].tolist() == [BIG_ID + i for i in range(5)]
    failed = {Path(entry["file"]).name for entry in store.attributes["failed"]}
    assert failed == {"broken.fits", "absent.fits"}
    read = get_survey("lamost").read
    batch = prepare([read(path, ReadOptions()) for path in files], LRS, Preparation())
    expected = Embedder(load_model(str(lrs_model)), LRS.start, "cpu", 8)(batch.flux, batch.ivar)
    np.testing.assert_allclose(store.read("embedding")[:5], expected, rtol=1e-3, atol=1e-4)
    # and one file alone, as a search needs it
    ids, vectors = embed_file(files[2], "lamost", store, str(lrs_model))
    assert ids.tolist() == [BIG_ID + 2]
    np.testing.assert_allclose(vectors[0], expected[2], rtol=1e-3, atol=1e-4)


def test_nothing_usable_is_status_two(lrs_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("not a spectrum")
    with pytest.raises(SpectraBridgeError, match="none of 1 files can be used") as caught:
        embed(options(tmp_path / "text.fits", lrs_model, tmp_path / "e.zarr", survey="lamost"))
    assert caught.value.exit_status == 2
    assert not (tmp_path / "e.zarr").exists()


def test_without_a_usable_spectrum_no_store_is_left(lrs_model: Path, tmp_path: Path) -> None:
    masked = write_lamost(tmp_path / "masked.fits", ivar=0.0)
    chosen = options(masked, lrs_model, tmp_path / "e.zarr", survey="lamost")
    before = sorted(tmp_path.iterdir())
    for _ in range(2):  # the next call fails alike
        with pytest.raises(InputError, match=r"e\.zarr' is not written: not one spectrum has a usable pixel"):
            embed(chosen)
        assert sorted(tmp_path.iterdir()) == before


def test_interrupted_it_goes_on_without_doing_anything_twice(
    spectra: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(options(spectra, model, tmp_path / "whole.zarr"))
    written: list[int] = []
    write = EmbeddingStore.write_shard

    def stop_at_third(self: EmbeddingStore, shard: int, *rest: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        write(self, shard, *rest)  # type: ignore[arg-type]
        written.append(shard)

    monkeypatch.setattr(EmbeddingStore, "write_shard", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        embed(options(spectra, model, tmp_path / "parts.zarr"))
    with pytest.raises(StoreError, match=r"not finished \(2 of 5 shards\)"):
        EmbeddingStore.open(tmp_path / "parts.zarr")
    monkeypatch.setattr(
        EmbeddingStore, "write_shard", lambda self, shard, *rest: (written.append(shard), write(self, shard, *rest))
    )
    embed(options(spectra, model, tmp_path / "parts.zarr"))
    assert written == [0, 1, 2, 3, 4]
    whole, parts = EmbeddingStore.open(tmp_path / "whole.zarr"), EmbeddingStore.open(tmp_path / "parts.zarr")
    assert whole.fingerprint == parts.fingerprint
    embed(options(spectra, model, tmp_path / "parts.zarr"))
    assert len(written) == 5


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


def test_wavelengths_beyond_the_training_are_told(
    lrs_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(write_lamost(tmp_path / "a.fits"))
    embed(options(Path(), lrs_model, tmp_path / "wide.zarr", inputs=(name,), survey="lamost", grid="3.6:3.63:1e-4"))
    assert "was trained on 3999-5599 A and embeds 3981-4266 A" in capsys.readouterr().err
    embed(options(Path(), lrs_model, tmp_path / "part.zarr", inputs=(name,), survey="lamost", grid="3.602:3.63:1e-4"))
    assert "was trained on" not in capsys.readouterr().err


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


def test_a_description_is_that_of_the_loaded_model(model: Path) -> None:
    for name in (str(model), DEFAULT):
        described, loaded = describe_model(name), load_model(name)
        for field in fields(described):
            assert getattr(described, field.name) == getattr(loaded, field.name), field.name
        assert described.preparation == loaded.preparation
    assert describe_model("specclip:x.ckpt") is None
    assert describe_model("someone/model") is None


def test_the_default_name_tells_the_survey(
    model: Path, spectra: Path, lrs_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = EmbedOptions(model=str(lrs_model), limit=20, device="cpu")
    for change in ({"survey": "desi"}, {"survey": "lamost"}, {}):
        embed(replace(sample, **change))  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"desi-sample-lrs.zarr", "lamost-sample-lrs.zarr"}
    name = str(write_lamost(tmp_path / "a.fits"))
    embed(replace(sample, survey="lamost", inputs=(name,)))
    assert EmbeddingStore.open(tmp_path / "lamost-lrs.zarr").attributes["survey"] == "lamost"
    embed(EmbedOptions(inputs=(str(spectra),), model=str(model), device="cpu"))
    assert len(EmbeddingStore.open(tmp_path / "made-small.zarr")) == len(SpectraStore.open(spectra))


def test_meaningless_embeddings_are_not_written(spectra: Path, tmp_path: Path) -> None:
    network = make_model()
    with torch.no_grad():
        network.norm.weight.zero_()  # every spectrum becomes the same vector
        network.norm.bias.fill_(1.0)
    network.save_pretrained(tmp_path / "same")
    with pytest.raises(StoreError, match="all embeddings are the same vector"):
        embed(options(spectra, tmp_path / "same", tmp_path / "e.zarr"))
    with torch.no_grad():
        network.norm.bias.fill_(float("nan"))
    network.save_pretrained(tmp_path / "nan")
    with pytest.raises(StoreError, match="an embedding is not finite"):
        embed(options(spectra, tmp_path / "nan", tmp_path / "e2.zarr"))
    with pytest.raises(StoreError, match="not finished"):
        EmbeddingStore.open(tmp_path / "e2.zarr")


def test_a_grid_beside_the_spectra_is_refused(lrs_model: Path, tmp_path: Path) -> None:
    files = [write_lamost(tmp_path / f"{i}.fits", obsid=i + 1, seed=i) for i in range(3)]
    names = tuple(map(str, files))
    with pytest.raises(StoreError, match="of the pixels of its spectra are masked"):
        embed(options(Path(), lrs_model, tmp_path / "e.zarr", inputs=names, survey="lamost", grid="3.4:3.612:1e-4"))


def test_a_last_shard_of_one_poor_spectrum_does_not_stop_the_job(model: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", n=2 * 64 + 1, poor=(128,))
    assert embed(options(store.path, model, tmp_path / "e.zarr")) == 0
    assert EmbeddingStore.open(tmp_path / "e.zarr").read("flags")[128] & Flag.MOSTLY_MASKED


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


@pytest.mark.parametrize("survey", ["desi", None])
def test_built_in_model_on_the_built_in_sample(
    survey: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert DEFAULT in built_in_models()
    out = tmp_path / "e.zarr"
    assert embed(EmbedOptions(survey=survey, out=out, limit=64, device="cpu")) == 0
    assert f"a built-in sample of 64 simulated {survey or 'lamost'} spectra" in capsys.readouterr().err
    store = EmbeddingStore.open(out)
    assert len(store) == 64
    assert store.attributes["survey"] == f"{survey or 'lamost'} (simulated)"
    assert store.model == DEFAULT
    usable = (store.read("flags") & np.uint32(Flag.NO_VALID_PIXELS)) == 0
    assert np.count_nonzero(usable) > 60
    # the rows are those that stores-simulate gives
    spectra = tmp_path / "s.zarr"
    simulate(
        SimulateOptions(survey=survey or "lamost", n=SAMPLE_STARS, seed=SAMPLE_SEED, store=spectra, gmag=(12, 19))
    )
    np.testing.assert_array_equal(SpectraStore.open(spectra).read("id")[:64], store.read("id"))


def test_other_surveys_have_no_sample(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--rv works with files, and none were given"):
        embed(EmbedOptions(survey="desi", rv=tmp_path / "rv.fits", out=tmp_path / "e.zarr", device="cpu"))
    with pytest.raises(OptionError, match="survey 'sdss' has no built-in sample; name files, or use --survey lamost"):
        embed(EmbedOptions(survey="sdss", out=tmp_path / "e.zarr", device="cpu"))


# torchrun, and accelerate as it launches on many GPUs; ACCELERATE_USE_CPU keeps the processes on the CPU
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node")
LAUNCH = "-m accelerate.commands.launch --multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no"
LAUNCHES = [(TORCHRUN, 2), ((*LAUNCH.split(), "--num_processes"), 4)]


def start(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(SCRIPT), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_at_any_moment_it_finishes_the_same(model: Path, tmp_path: Path) -> None:
    spectra = make_store(tmp_path / "many.zarr", n=2000).path  # 32 shards
    arguments = (str(spectra), "--model", str(model), "--batch-size", "1")
    process = start(*arguments, "--out", str(tmp_path / "whole.zarr"))
    _, message = process.communicate(timeout=120)
    assert process.returncode == 0, message
    whole = EmbeddingStore.open(tmp_path / "whole.zarr")
    out = tmp_path / "killed.zarr"
    kills = 0
    for delay in (0.0, 0.05, 0.4, 0.15, 0.3, 0.02, 0.25, 0.1):
        process = start(*arguments, "--out", str(out))
        while not out.exists() and process.poll() is None:
            time.sleep(0.01)
        before = len(list((out / "shards").glob("0*/zarr.json")))
        while len(list((out / "shards").glob("0*/zarr.json"))) <= before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
    assert kills >= 3
    finished = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("shards/0*/zarr.json")}
    process = start(*arguments, "--out", str(out))
    _, message = process.communicate(timeout=120)
    assert process.returncode == 0, message
    store = EmbeddingStore.open(out)
    assert store.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(store.read("id"), whole.read("id"))
    for name, written in finished.items():
        assert (out / "shards" / name / "zarr.json").stat().st_mtime_ns == written
    assert not [fault for _, faults in store.verify() for fault in faults]


def test_of_several_processes_none_looks_at_the_input_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed.run._seen_early", lambda options: pytest.fail("looked at the input"))
    monkeypatch.setattr("embed.run.join_processes", lambda **_: sys.exit(7))
    for name in ("WORLD_SIZE", "PMI_SIZE"):
        with monkeypatch.context() as environment:
            environment.setenv(name, "2")
            with pytest.raises(SystemExit, match="7"):
                embed(EmbedOptions(survey="desi"))


@pytest.mark.parametrize(
    ("launcher", "threads", "told"),
    [
        (None, "1", False),
        ("ACCELERATE_MIXED_PRECISION", "1", True),
        ("TORCHELASTIC_RUN_ID", "1", True),
        ("TORCHELASTIC_RUN_ID", "2", False),
    ],
)
def test_idle_cores_are_told_only_under_a_launcher(
    launcher: str | None,
    threads: str,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    if launcher is not None:
        monkeypatch.setenv(launcher, "no")
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    join_processes(cpu=True)
    leave_processes()
    assert ("running on one of 8 cores" in capsys.readouterr().err) == told


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "processes"), LAUNCHES, ids=["torchrun", "accelerate"])
def test_processes_write_whole_shards_of_the_same_store(
    launcher: tuple[str, ...], processes: int, spectra: Path, model: Path, tmp_path: Path
) -> None:
    embed(options(spectra, model, tmp_path / "one.zarr"))
    arguments = (str(spectra), "--model", str(model), "--store-dtype", "float32", "--out", str(tmp_path / "many.zarr"))
    process = start(*arguments, launcher=(*launcher, str(processes)))
    _, message = process.communicate(timeout=280)
    assert process.returncode == 0, message
    one, many = EmbeddingStore.open(tmp_path / "one.zarr"), EmbeddingStore.open(tmp_path / "many.zarr")
    np.testing.assert_array_equal(one.read("id"), many.read("id"))
    np.testing.assert_allclose(one.read("embedding"), many.read("embedding"), rtol=1e-4, atol=1e-5)
    assert [many.marker(shard)["process"] for shard in range(5)] == [shard % processes for shard in range(5)]
    assert not [fault for _, faults in many.verify() for fault in faults]


MEASURED = """
import sys
sys.argv[1:] = {!r}
from embed.run import main
try:
    main()
finally:
    # not ru_maxrss, which a child inherits from a large parent
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_spectra(model: Path, tmp_path: Path) -> None:
    peak = {}
    for n in (500, 8000):
        spectra = make_store(tmp_path / f"{n}.zarr", n=n).path
        arguments = [str(spectra), "--model", str(model), "--out", str(tmp_path / f"e{n}.zarr"), "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED.format(arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        peak[n] = int(done.stdout.split()[-1])
    assert peak[8000] < 1.1 * peak[500], peak


def test_batch_size_does_not_matter(model: Path) -> None:
    batch = make_spectra(30)
    loaded = load_model(str(model))
    one, many = (Embedder(loaded, GRID.start, "cpu", size)(batch.flux, batch.ivar) for size in (1, 30))
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-5)


def test_accelerate_is_not_left_behind(tmp_path: Path) -> None:
    """A second call in one process works on its own device choice."""
    spectra, model = make_store(tmp_path / "s.zarr", n=20).path, save_model(tmp_path / "m")
    for name in ("a", "b"):
        assert embed(options(spectra, model, tmp_path / f"{name}.zarr")) == 0
    shutil.rmtree(tmp_path / "a.zarr")
