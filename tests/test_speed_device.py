"""Embedding and pre-training on a device are measured by the product's own steps; no time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import benchmarks.speed.__main__
import benchmarks.speed.device
from benchmarks.leaderboard import record_speed
from benchmarks.speed.__main__ import SpeedOptions, speed
from benchmarks.speed.device import Card, Trial, as_record, best, line, product_rate
from benchmarks.speed.flops import counted
from benchmarks.speed.stores import spectra, write
from embed.config import SIZES, SpectralConfig
from embed.model import SpectralTransformer
from stores.errors import OptionError
from stores.grid import Grid

CARD = Card("a card", "bfloat16", 1e12, 1000.0)


def test_a_device_is_measured_and_said_with_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks.speed.device, "PRODUCTS", 1)
    monkeypatch.setattr(benchmarks.speed.device, "WARM_UP", 1)
    speed(SpeedOptions(device="cpu", sizes=("tiny",), batches=(4, 2), repeats=1, json=tmp_path / "made.json"))
    made = json.loads((tmp_path / "made.json").read_text())
    found = made["results"]["device"]
    assert found["card"]["precision"] == "float32"
    assert min(found["card"]["flops"], found["card"]["spectra"]) > 0
    told = [(trial["task"], trial["batch"]) for trial in found["trials"]]
    assert told == [
        ("embedding", 2), ("embedding", 4), ("pre-training", 2), ("views", 2), ("pre-training", 4), ("views", 4),
    ]  # fmt: skip
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(found["card"]["name"])
    assert len(printed) == 2 + len(told)
    for trial in found["trials"]:
        assert trial["spectra_per_second"] == pytest.approx(trial["batch"] / trial["seconds"])
        assert trial["of_store"] == pytest.approx(trial["spectra_per_second"] / found["card"]["spectra"])
        if trial["task"] == "views":
            assert trial["share"] is None
        else:
            assert trial["share"] == pytest.approx(trial["flops"] / trial["seconds"] / found["card"]["flops"])
    by_task = {(trial["task"], trial["batch"]): trial["flops"] for trial in found["trials"]}
    # two views, half of their patches hidden, three passes
    assert 2 < by_task["pre-training", 4] / by_task["embedding", 4] < 3.5
    assert {"commit", "command", "machine", "versions"} < set(made)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of torch, which looks at it
def test_what_runs_on_a_card_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16, and torch.compile with a compiler that needs no minutes."""
    monkeypatch.setattr(benchmarks.speed.device, "COMPILER", "eager")
    monkeypatch.setattr(benchmarks.speed.device, "WARM_UP", 1)
    monkeypatch.setitem(benchmarks.speed.device.SIDE, "cpu", 64)  # bfloat16 takes long here
    monkeypatch.setitem(SIZES, "tiny", {**SIZES["tiny"], "layers": 1})
    grid = Grid.parse("lrs")
    store = write(tmp_path / "spectra.zarr", grid, benchmarks.speed.device.edged(spectra(grid, 64)))
    for measure in (benchmarks.speed.device.embedding, benchmarks.speed.device.pretraining):
        trial = measure(store, "tiny", True, 2, "cpu", "bfloat16", 1)[0]
        assert trial.compiled
        assert trial.seconds is not None
        assert trial.flops > 0
    assert not (tmp_path / "run").exists()
    assert product_rate("cpu", "bfloat16", 1) > 0


def test_a_batch_that_does_not_fit_ends_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> list[Trial]:
        if given[3] > 8:
            raise torch.OutOfMemoryError
        return [Trial("embedding", given[1], given[2], given[3], 1.0, 1)]

    monkeypatch.setattr(benchmarks.speed.device, "embedding", full)
    monkeypatch.setattr(benchmarks.speed.device, "pretraining", lambda *given: [])
    trials = list(benchmarks.speed.device._trials(None, "tiny", False, (4, 16, 64), "cpu", "float32", 1))  # type: ignore[arg-type]
    assert [(trial.batch, trial.seconds) for trial in trials] == [(4, 1.0), (16, None)]
    record = as_record(trials[1], CARD)
    assert record["spectra_per_second"] is record["share"] is record["of_store"] is None
    assert line(trials[1], CARD).endswith("16  does not fit into the memory of the device")


def test_shares_targets_and_the_fastest() -> None:
    trials = [
        Trial("embedding", "base", False, 8, 0.1, 4 * 10**10),
        Trial("embedding", "base", True, 16, 0.1, 6 * 10**10),
        Trial("views", "base", True, 16, 0.001),
        Trial("pre-training", "base", True, 16, 0.4, 10**11),
        Trial("pre-training", "small", True, 16, None),
    ]
    records = [as_record(trial, CARD) for trial in trials]
    assert [record["share"] for record in records] == [pytest.approx(0.4), pytest.approx(0.6), None, 0.25, None]
    assert [record["reached"] for record in records] == [False, True, None, False, None]
    assert records[1]["of_store"] == pytest.approx(0.16)
    assert best(records) == [records[1], records[3]]
    assert line(trials[1], CARD).split() == [
        "embedding",
        "base",
        "yes",
        "16",
        "160",
        "0.60",
        "60%",
        "50%",
        "0.16",
        "0",
    ]


def test_operations_are_those_that_torch_counts() -> None:
    torch.manual_seed(0)
    model = SpectralTransformer(SpectralConfig.of_size("tiny", grid="lrs", layers=2))
    flux = torch.randn(3, 1462)
    with counted(model) as found, FlopCounterMode(display=False) as counter:
        output = model(flux, torch.ones_like(flux), 3.602)
        forward = counter.get_total_flops()
        output.embedding.sum().backward()
    attention = 2 * 4 * 3 * 75**2 * 192  # 74 patches and the token for the statistics
    # the kernel for processors is one that torch does not count
    assert found.forward == forward + (0 if forward > found.forward - attention else attention)
    assert not any(module._forward_hooks for module in model.modules())
    backward = counter.get_total_flops() - forward
    assert 0.8 < found.backward / backward < 1.25


def test_the_leaderboard_has_a_line_for_a_card(tmp_path: Path) -> None:
    about: dict[str, Any] = {"version": "1", "command": "c", "created": "t", "versions": {}, "machine": {}}
    fastest = best([as_record(Trial("embedding", "base", True, 16, 1 / 3, 10**11), CARD)])
    path = tmp_path / "leaderboard.jsonl"
    with pytest.raises(OptionError, match="commit first"):
        record_speed({**about, "commit": "abc+changes"}, vars(CARD), fastest, path)
    told = record_speed({**about, "commit": "abc"}, vars(CARD), fastest, path)
    assert told == f"'{path}', line 1: a card at commit abc, the fastest of 1 tasks and sizes; commit it."
    assert "nothing was added" in record_speed({**about, "commit": "abc"}, vars(CARD), fastest, path)
    [held] = [json.loads(text) for text in path.read_text().splitlines()]
    assert held["card"]["name"] == "a card"
    assert held["suite"] == "speed"
    assert held["best"][0]["share"] == 0.3
    assert held["best"][0]["spectra_per_second"] == 48.0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"device": "cuda"}, "device 'cuda' is not there; use --device auto or cpu."),
        (
            {"device": "cuda:1"},
            "--device cuda:1 must be a kind alone; CUDA_VISIBLE_DEVICES chooses among several GPUs.",
        ),
        ({"device": "cpu", "batches": (1,)}, "--batches needs some numbers of 2 or more."),
        ({"device": "cpu", "measurements": ("rows",)}, "--device measures embedding and pre-training alone"),
        ({"record": True, "measurements": ("rows",)}, "--record is for runs with --device; leave it out."),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, Any], told: str) -> None:
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(OptionError) as error:
        speed(SpeedOptions(**options))
    assert str(error.value).startswith(told)


def test_code_that_no_commit_holds_is_refused_before_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.speed.__main__, "provenance", lambda: {"commit": "abc+changes"})
    with pytest.raises(OptionError, match="commit first"):
        speed(SpeedOptions(device="cpu", record=True))
