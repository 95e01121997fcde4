"""Pre-training: it learns, it resumes to the bit, it refuses what cannot work."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models_made import make_store
from safetensors import SafetensorError
from safetensors.numpy import load_file

import embed
from embed.batches import Batches, is_validation, open_stores
from embed.config import SIZES
from embed.pretrain import PretrainOptions, main, pretrain
from stores.errors import InputError, OptionError, StoreError

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "embed" / "pretrain.py"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tiny` made tinier still."""
    size = {"width": 32, "layers": 2, "heads": 2, "decoder_width": 32, "decoder_layers": 1}
    monkeypatch.setitem(SIZES, "tiny", size)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("stores") / "made.zarr").path


def options(store: Path, out: Path, **changes: object) -> PretrainOptions:
    small: dict[str, Any] = {"size": "tiny", "steps": 10, "batch_size": 16, "validate_every": 5, "validation_rows": 16}
    return PretrainOptions(stores=(str(store),), out=out, **{**small, **changes})


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "last" / "model.safetensors")


@pytest.mark.parametrize("objective", ["views", "masked"])
def test_ten_steps_equal_five_and_five_resumed(objective: str, store: Path, tmp_path: Path) -> None:
    pretrain(options(store, tmp_path / "whole", objective=objective))
    pretrain(options(store, tmp_path / "parts", objective=objective, stop_after=5))
    assert json.loads((tmp_path / "parts/last/training.json").read_text())["step"] == 5
    pretrain(options(store, tmp_path / "parts", objective=objective, resume=True))
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    histories = [json.loads((tmp_path / run / "training.json").read_text())["history"] for run in ("whole", "parts")]
    assert histories[0] == histories[1]


@pytest.mark.parametrize(("objective", "measure"), [("views", "loss"), ("masked", "validation")])
def test_it_learns_and_writes_what_it_promises(objective: str, measure: str, store: Path, tmp_path: Path) -> None:
    pretrain(options(store, tmp_path / "run", steps=60, batch_size=32, validate_every=20, objective=objective))
    state = json.loads((tmp_path / "run/training.json").read_text())
    losses = [entry[measure] for entry in state["history"]]
    assert losses[-1] < 0.8 * losses[0]
    assert state["recipe"]["seed"] == 0
    assert {"version", "commit", "command", "created"} <= state.keys()
    for name in ("config.json", "model.safetensors", "loss.png", "last/optimizer.safetensors"):
        assert (tmp_path / "run" / name).stat().st_size > 100
    assert not list((tmp_path / "run").glob("*building*"))


def test_seed_decides(store: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pretrain(options(store, tmp_path / name, steps=2, seed=seed))
    a, b, c = (weights(tmp_path / name)["readout_out.weight"] for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_share_of_hidden_patches_falls_over_the_second_half(store: Path, tmp_path: Path) -> None:
    falling = options(store, tmp_path / "a", steps=8, mask_ratio=0.8, mask_ratio_end=0.2)
    shares = [falling.mask_ratio_at(step) for step in range(9)]
    assert shares == pytest.approx([0.8] * 5 + [0.65, 0.5, 0.35, 0.2])
    pretrain(falling)
    pretrain(options(store, tmp_path / "b", steps=8, mask_ratio=0.8))
    a, b = (weights(tmp_path / name)["readout_out.weight"] for name in "ab")
    assert not np.array_equal(a, b)


def test_a_run_is_not_overwritten_and_not_mixed(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(OptionError, match="no checkpoint to resume"):
        pretrain(options(store, run, resume=True))
    pretrain(options(store, run, stop_after=1))
    with pytest.raises(OptionError, match="add --resume"):
        pretrain(options(store, run))
    with pytest.raises(OptionError, match=r"mask_ratio = 0.5, not 0.75"):
        pretrain(options(store, run, resume=True, mask_ratio=0.75))
    # a run from before there were objectives
    old = tmp_path / "old"
    pretrain(options(store, old, objective="masked", stop_after=1))
    state = json.loads((old / "last/training.json").read_text())
    for name in ("objective", "alignment", "temperature"):
        del state["recipe"][name]
    (old / "last/training.json").write_text(json.dumps(state))
    pretrain(options(store, old, objective="masked", resume=True, stop_after=1))
    with pytest.raises(OptionError, match=r"objective = 'views', not 'masked'"):
        pretrain(options(store, run, resume=True, objective="masked"))


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_other_files_is_refused_as_it_is(store: Path, tmp_path: Path, resume: bool) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    options(store, mine, stop_after=1)  # an empty folder will do
    (mine / "config.json").write_text("mine")
    # among them what pre-training reads
    for folder in (mine, store):
        before = sorted(folder.rglob("*"))
        with pytest.raises(OptionError, match=f"'{folder}' holds other files and no run; choose another --out"):
            options(store, folder, resume=resume)
        assert sorted(folder.rglob("*")) == before
    assert (mine / "config.json").read_text() == "mine"


def test_a_folder_is_refused_before_torch_is_loaded(store: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "embed.pretrain", str(store), "--out", str(store)]
    done = run_script(command, {})
    assert done.returncode == 2
    assert "holds other files and no run" in done.stderr
    assert not any(line.endswith("| torch") for line in done.stderr.splitlines())


def test_a_checkpoint_being_replaced_is_not_lost(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(options(store, run, stop_after=5))
    (run / "last").rename(run / "last.old")  # killed between the two renames
    pretrain(options(store, run, resume=True))
    assert json.loads((run / "last/training.json").read_text())["step"] == 10


@pytest.mark.parametrize("where", ["optimizer", "best"])
def test_a_full_disk_is_one_sentence_and_can_be_mended(
    where: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(*args: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def no_room_for_weights(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:100])
        if source.suffix == ".safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = tmp_path / "run"
    words = ["--size", "tiny", "--steps", "4", "--batch-size", "16", "--validation-rows", "16"]
    monkeypatch.setattr(sys, "argv", ["embed-pretrain", str(store), "--out", str(run), *words])
    with monkeypatch.context() as patch:
        if where == "optimizer":
            patch.setattr("safetensors.torch.save_file", no_room)
        else:
            patch.setattr("shutil.copyfile", no_room_for_weights)
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"embed-pretrain: no space left on device ('{run}'); mend that and add --resume to go on."
    assert list(run.iterdir()) == []  # so that the same call can be made again
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0


def test_what_a_killed_save_left_does_no_harm(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    left = run / f"last.building-{os.getpid()}"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_text("half")
    pretrain(options(store, run, steps=2))
    assert not left.exists()


def test_too_few_spectra(tmp_path: Path) -> None:
    small = make_store(tmp_path / "small.zarr", n=12)
    with pytest.raises(InputError, match="smaller --batch-size"):
        pretrain(options(small.path, tmp_path / "run"))


def test_unlike_stores_are_not_mixed(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import models_made

    from stores.prepare import Preparation

    monkeypatch.setattr(models_made, "PREPARATION", Preparation(continuum="none", frame="observed"))
    other = make_store(tmp_path / "other.zarr", n=70)
    with pytest.raises(StoreError, match="differ in grid or preparation"):
        open_stores([str(store), str(other.path)])


def test_every_training_row_once_an_epoch(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed.batches.BUFFER_ROWS", 100)  # several buffers, and batches across them
    stores = open_stores([str(store)])
    batches = Batches(stores, 16, seed=3)
    flux = stores[0].read("flux")
    row_of = {row.tobytes(): number for number, row in enumerate(flux)}
    epochs = []
    for epoch in range(2):
        steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        epochs.append([row_of[row.tobytes()] for step in steps for row in batches.batch(step)[0]])
    for rows in epochs:
        assert len(set(rows)) == len(rows) == batches.per_epoch * 16
        assert not is_validation(stores[0].read("id")[rows]).any()
    assert epochs[0] != epochs[1]
    # a batch reached out of order, and the shares of two processes, are the same rows
    fresh = Batches(stores, 16, seed=3)
    np.testing.assert_array_equal(fresh.batch(7)[0], flux[epochs[0][7 * 16 : 8 * 16]])
    shares = [fresh.batch(7, rank, 2)[0] for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(shares), fresh.batch(7)[0])


def test_validation_rows_are_held_out_by_id() -> None:
    ids = np.arange(100_000, dtype=np.int64) + 2**62
    share = is_validation(ids).mean()
    assert 0.015 < share < 0.025
    np.testing.assert_array_equal(is_validation(ids)[::-1], is_validation(ids[::-1]))


def test_no_file_in_embed_shadows_another_module() -> None:
    """`accelerate launch embed/pretrain.py` puts embed/ first on the import path."""
    mine = {path.stem for path in Path(embed.__file__).parent.glob("*.py")} - {"__init__"}
    assert mine.isdisjoint(sys.stdlib_module_names)
    assert mine.isdisjoint(packages_distributions())


def run_script(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=280, env={**os.environ, **environment}, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "environment"),
    [
        ([sys.executable], {}),
        (
            [
                *(sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"),
                *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
                *("--num_cpu_threads_per_process", "2"),
            ],
            {},
        ),
        (
            [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"],
            {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        ),
        (
            [
                *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "4"),
                *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
            ],
            {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        ),
    ],
    ids=["python", "accelerate", "two processes", "four processes by accelerate"],
)
def test_launchers(store: Path, tmp_path: Path, launcher: list[str], environment: dict[str, str]) -> None:
    arguments = [str(store), "--out", str(tmp_path / "run"), "--size", "tiny", "--steps", "4", "--batch-size", "8"]
    done = run_script([*launcher, str(SCRIPT), *arguments, "--validate-every", "2"], environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("best validation loss") == 1
    assert json.loads((tmp_path / "run/training.json").read_text())["step"] == 4


@pytest.mark.slow
def test_processes_that_do_not_know_of_each_other_are_refused(store: Path, tmp_path: Path) -> None:
    environment = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "-1", "ACCELERATE_USE_CPU": "false"}
    command = [sys.executable, str(SCRIPT), str(store), "--out", str(tmp_path / "run"), "--steps", "1"]
    done = run_script(command, environment)
    assert done.returncode == 2
    assert "do not know of each other" in done.stderr
    assert "Traceback" not in done.stderr
