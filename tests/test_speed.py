"""The speed benchmark runs, and says what was measured with what; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_made import small_config

import benchmarks.speed.embed
import benchmarks.speed.memory
import benchmarks.speed.prepare
import benchmarks.speed.resample
import benchmarks.speed.rows
import benchmarks.speed.search
import benchmarks.speed.seeds
import benchmarks.speed.stores
import benchmarks.speed.whole
from benchmarks.speed import MEASUREMENTS, Row, get_measurement, median_seconds
from benchmarks.speed.__main__ import SpeedOptions, as_records, speed, table
from benchmarks.speed.memory import MemoryOptions, memory
from benchmarks.speed.neighbours import NeighbourOptions, measured, neighbours
from benchmarks.speed.plain import continuum
from embed.model import SpectralTransformer
from stores import EmbeddingStore, Grid, Preparation
from stores.errors import OptionError
from stores.prepare.specclip import specclip_continuum


def test_every_measurement_is_registered_with_a_function() -> None:
    for name in MEASUREMENTS:
        assert callable(get_measurement(name))
    with pytest.raises(OptionError, match="measurement 'sorting' is unknown; known ones are resample"):
        get_measurement("sorting")


def test_resampling_is_measured_against_specutils(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks.speed.resample, "N", 8)
    speed(SpeedOptions(measurements=("resample",), repeats=1, json=tmp_path / "speed.json"))
    printed = capsys.readouterr().out
    made = json.loads((tmp_path / "speed.json").read_text())
    rows = {row["name"]: row for row in made["results"]["resample"]}
    reference = "specutils FluxConservingResampler"
    assert next(iter(rows)) == reference
    assert len(rows) == 5
    for name, row in rows.items():
        assert row["seconds"] > 0
        assert name in printed
        if name != reference:
            assert row["speed_up"] == pytest.approx(rows[reference]["seconds"] / row["seconds"])
            assert f"{row['speed_up']:.{1 if row['speed_up'] >= 10 else 2}f}x" in printed
    assert made["versions"]["numpy"]
    assert made["versions"]["specutils"]
    assert made["machine"]["cores"] >= 1
    assert made["repeats"] == 1
    assert {"commit", "command", "created", "version"} < set(made)


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("embed", {"N": 2, "BATCH": 2, "LAYERS": 1}),
        ("whole", {"N": 4, "LAYERS": 1, "commands": lambda *_: {}}),
        ("stores", {"N": 300, "CHOSEN": 7}),
        ("prepare", {"N": 6}),
        ("rows", {"N": 2100, "CHOSEN": 9}),
        ("search", {"N": 500, "QUERIES": 3}),
        ("seeds", {"N": 40, "SEEDS": 2, "STEPS": 3}),
    ],
)
def test_every_measurement_has_a_reference(name: str, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module = getattr(benchmarks.speed, name)
    for constant, value in small.items():
        monkeypatch.setattr(module, constant, value)
    rows = as_records(get_measurement(name)(1))
    assert all(row["seconds"] > 0 for row in rows)
    references = {row["name"] for row in rows if not row["reference"]}
    compared = [row for row in rows if row["reference"]]
    assert compared
    assert {row["reference"] for row in compared} == references
    assert all(row["speed_up"] > 0 for row in compared)


@pytest.mark.parametrize(("slope", "tolerance"), [(1.0, 1e-6), (-2.0, 1e-2)])
def test_the_plain_script_takes_the_continuum_of_specclip(slope: float, tolerance: float) -> None:
    """Where that has a fit; of hot stars the windows of one are displaced by a pixel."""
    random = np.random.default_rng(0)
    wavelength = 10 ** (3.5682 + 1e-4 * np.arange(3909))  # as LAMOST files have them
    flux = (wavelength / 5000) ** slope * (1 - 0.5 * np.exp(-0.5 * ((wavelength - 5180) / 20) ** 2))
    flux *= 1 + 0.01 * random.normal(size=len(flux))
    wanted = specclip_continuum(wavelength, flux[None], np.ones((1, len(flux))))[0]
    fitted = (wavelength > 3700) & (wavelength < 5700) | (wavelength > 6100)
    np.testing.assert_allclose(continuum(wavelength, flux)[fitted], wanted[fitted], rtol=tolerance)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_peak_memory_is_that_of_each_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks.speed.memory, "ROWS", 20)
    torch.manual_seed(0)
    SpectralTransformer(small_config(Grid.parse("lrs"), Preparation())).save_pretrained(tmp_path / "model")
    options = MemoryOptions(
        spectra=(30,), model=str(tmp_path / "model"), folder=tmp_path / "made", json=tmp_path / "memory.json"
    )
    memory(options)
    peaks = json.loads((tmp_path / "memory.json").read_text())["results"]["memory"]
    assert [peak["command"] for peak in peaks] == ["stores-ingest", "embed-spectra"]
    assert peaks[1]["megabytes"] > peaks[0]["megabytes"] + 50 > 100  # torch alone takes more
    assert f"stores-ingest{peaks[0]['megabytes']:>13.0f}" in capsys.readouterr().out
    embedded = EmbeddingStore.open(tmp_path / "made" / "30-e.zarr")
    assert embedded.read("id").tolist() == list(range(1, 31))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_an_index_is_measured_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = NeighbourOptions(vectors=2000, indices=("IVF16,Flat",), repeats=1, folder=tmp_path / "made")
    options.json = tmp_path / "found.json"
    neighbours(options)
    [found] = json.loads(options.json.read_text())["results"]["neighbours"]
    assert found["index"] == "IVF16,Flat"
    assert 0.9 < found["recall"] <= 1
    assert min(found[name] for name in ("build", "read", "alone", "together")) > 0
    assert found["megabytes"] > 30
    assert f"{found['recall']:.3f}" in capsys.readouterr().out
    store = EmbeddingStore.open(tmp_path / "made" / "2000.zarr")
    exact = measured(store, "Flat", 1)
    assert exact.recall == 1.0


def test_a_command_that_fails_is_one_sentence() -> None:
    with pytest.raises(OptionError, match=r"heads\.predict --head nothing.*' ended with status 2: .*nothing"):
        benchmarks.speed.memory.run([sys.executable, "-m", "heads.predict", "--head", "nothing", "--out", "x.parquet"])


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be kept to cores here")
def test_threads_that_were_kept_to_one_core_have_all_again() -> None:
    cores, seen, go_on = os.sched_getaffinity(0), [], threading.Event()

    def look() -> None:
        seen.append(os.sched_getaffinity(0))
        go_on.wait(10)
        seen.append(os.sched_getaffinity(0))

    with benchmarks.speed.prepare.one_core():
        thread = threading.Thread(target=look)
        thread.start()
    go_on.set()
    thread.join()
    assert len(seen[0]) == 1
    assert seen[1] == os.sched_getaffinity(0) == cores


def test_the_table_and_the_ratio() -> None:
    rows = as_records([Row("slow", 2e-3), Row("fast", 1e-5, "slow")])
    assert [row["speed_up"] for row in rows] == [None, pytest.approx(200.0)]
    lines = table("things", rows).splitlines()
    assert lines[1].split() == ["slow", "2000.0"]
    assert lines[2].split() == ["fast", "10.0", "200.0x"]


def test_actions_take_turns_after_a_first_call() -> None:
    calls: list[str] = []
    seconds = median_seconds(3, lambda: calls.append("a"), lambda: calls.append("b"))
    assert "".join(calls) == "ab" + 3 * "ab"
    assert len(seconds) == 2


def test_a_mistake_in_the_call_is_one_sentence() -> None:
    run = [sys.executable, "-m", "benchmarks.speed", "nothing"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2
    assert done.stderr == (
        "benchmarks.speed: measurement 'nothing' is unknown; known ones are " + ", ".join(MEASUREMENTS) + ".\n"
    )


def test_a_file_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"):
        speed(SpeedOptions(json=tmp_path / "none" / "speed.json"))
