"""embed-spectra in processes of its own: killed, several at once, and how much memory they take."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from embedding_made import options, start
from models_made import make_store, save_model

from embed.launch import LAUNCHERS, join_processes, leave_processes
from embed.run import EmbedOptions, embed
from stores.embeddings import EmbeddingStore

# torchrun, and accelerate as it launches on many GPUs; ACCELERATE_USE_CPU keeps the processes on the CPU
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node")
LAUNCH = "-m accelerate.commands.launch --multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no"
LAUNCHES = [(TORCHRUN, 2), ((*LAUNCH.split(), "--num_processes"), 4)]


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


def test_accelerate_is_not_left_behind(tmp_path: Path) -> None:
    """A second call in one process works on its own device choice."""
    spectra, model = make_store(tmp_path / "s.zarr", n=20).path, save_model(tmp_path / "m")
    for name in ("a", "b"):
        assert embed(options(spectra, model, tmp_path / f"{name}.zarr")) == 0
    shutil.rmtree(tmp_path / "a.zarr")
