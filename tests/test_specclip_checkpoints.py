"""Checkpoints of SpecCLIP: converted once and without loss, and nothing in them is run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from specclip_made import HEADS, KINDS, PUBLISHED, WIDTH, Weights, embedded, load, save, spectra, weights_of

from embed.load import load_model
from embed.specclip import CONVERTED, HUB_FILE
from stores.errors import ModelError
from stores.provenance import file_checksum

# -- checkpoints ---------------------------------------------------------------------------------------------


def test_a_checkpoint_is_converted_once_and_without_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import safe_open

    weights = weights_of("split")
    weights["lamost_lrs_encoder.backbone.head.bias"] = weights["lamost_lrs_encoder.backbone.head.bias"].half()
    path = save(tmp_path / "split.ckpt", weights)
    first = load(path)
    (converted,) = (tmp_path / CONVERTED).iterdir()
    with safe_open(converted, framework="pt") as file:
        about, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert held.keys() == {name for name in weights if name.startswith("lamost_lrs_encoder.")}
    for name, value in held.items():
        assert value.dtype == weights[name].dtype
        assert torch.equal(value, weights[name])
    assert about["source"] == "split.ckpt"
    assert about["source_sha256"] == file_checksum(path)
    assert {"version", "commit", "command", "created"} <= about.keys()
    assert json.loads(about["settings"]) == {"num_heads": HEADS, "slice_overlap": 10}
    written = converted.stat().st_mtime_ns
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the checkpoint was read again"))
    for again in (load(path), load(converted), load(tmp_path / CONVERTED), load(tmp_path)):
        assert again.attributes() == first.attributes()
        np.testing.assert_array_equal(embedded(again, spectra()), embedded(first, spectra()))
    assert converted.stat().st_mtime_ns == written
    monkeypatch.undo()
    assert load(save(path, weights_of("split", seed=3))).fingerprint != first.fingerprint
    assert len(list((tmp_path / CONVERTED).iterdir())) == 2


def test_where_nothing_can_be_written_the_users_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "model.ckpt", weights_of("encoder"))
    (tmp_path / CONVERTED).write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = load(path)
    (converted,) = (tmp_path / "cache" / "spectrabridge" / CONVERTED).iterdir()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the checkpoint was read again"))
    assert load(path).fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(converted))
    with pytest.raises(ModelError, match=r"neither .* nor .* can be written"):
        load(path)


def test_both_layouts_of_the_projections_are_one_model(tmp_path: Path) -> None:
    one, three = (load(save(tmp_path / f"{kind}.ckpt", weights_of(kind))) for kind in KINDS[1:3])
    assert one.fingerprint == three.fingerprint
    assert load(save(tmp_path / "other.ckpt", weights_of(KINDS[1], seed=1))).fingerprint != one.fingerprint


def test_settings_come_from_the_checkpoint_or_are_the_published_ones(tmp_path: Path) -> None:
    published = load(save(tmp_path / "said.ckpt", weights_of("encoder")))
    assert load(save(tmp_path / "unsaid.ckpt", weights_of("encoder"), hyper={})).fingerprint == published.fingerprint
    bare = tmp_path / "bare.ckpt"
    torch.save(weights_of("encoder"), bare)
    assert load(bare).fingerprint == published.fingerprint
    other = load(save(tmp_path / "other.ckpt", weights_of("encoder"), hyper={**PUBLISHED, "num_heads": 4}))
    assert np.abs(embedded(other, spectra()) - embedded(published, spectra())).max() > 0.01


@pytest.fixture
def training_code(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package whose objects Lightning pickles into a checkpoint."""
    code = ModuleType("specclip.models")
    program = """
from torch import nn
class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.MultiheadAttention(4, 2))
        self.options = Options(num_heads=3)
        self.seen = {1, 2}
class Options(dict):
    pass
"""
    exec(compile(program, "specclip", "exec"), code.__dict__)
    for name in ("specclip", "specclip.models"):
        monkeypatch.setitem(sys.modules, name, code)
    return code


def test_objects_of_the_training_code_are_passed_over(training_code: Any, tmp_path: Path) -> None:
    hyper = {"lamost_lrs_encoder": training_code.Head(), "lr": np.float64(1e-4), "where": Path("run")}
    more = {"callbacks": {"made": training_code.Options(a=1)}, "optimizer_states": [{"state": {0: torch.ones(2)}}]}
    path = save(tmp_path / "model.ckpt", weights_of("aligned in one"), hyper, **more)
    del sys.modules["specclip.models"]
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        torch.load(path, weights_only=True)
    plain = load(save(tmp_path / "plain.ckpt", weights_of("aligned in one")))
    assert load(path).fingerprint == plain.fingerprint


class Harmful:
    """Something that acts when it is unpickled."""

    def __init__(self, function: Any, argument: str) -> None:
        self.call = function, (argument,)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "named"), [(os.system, "posix.system"), (exec, "builtins.exec"), (os.mkdir, "posix.mkdir")]
)
def test_a_checkpoint_that_would_run_something_is_refused(function: Any, named: str, tmp_path: Path) -> None:
    target = tmp_path / "made"
    argument = str(target) if function is os.mkdir else f"touch {target}"
    path = save(tmp_path / "model.ckpt", weights_of("encoder"), {**PUBLISHED, "x": Harmful(function, argument)})
    with pytest.raises(ModelError, match=f"it is a pickle that wants to run '{named}'; do not trust it") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert not (tmp_path / CONVERTED).exists()


def without(name: str) -> Weights:
    return {key: value for key, value in weights_of("split").items() if not key.endswith(name)}


PREFIX = "lamost_lrs_encoder."
ENCODER = weights_of("encoder")


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (without("blocks.1.ln2.bias"), "'backbone.blocks.1.ln2.bias' is missing where .48,. was expected"),
        (without("data_embed.weight"), "no weight 'data_embed.weight'"),
        (without("private_attention.query"), "no weight 'private_attention.query'"),
        (without("shared_mlp.encoder.weight"), "no weight 'shared_mlp.encoder.weight'"),
        (
            weights_of("split") | {f"{PREFIX}private_mlp.decoder.bias": torch.ones(7)},
            r"'private_mlp.decoder.bias' has shape \(7,\) where \(16,\)",
        ),
        ({**ENCODER, "blocks.0.more": torch.ones(2)}, "'backbone.blocks.0.more' is not part of SpecCLIP"),
        ({**ENCODER, "data_embed.weight": torch.ones(4)}, r"'backbone.data_embed.weight' has shape \(4,\)"),
        ({**ENCODER, "position_embed.weight": torch.ones(90, WIDTH)}, "90 positions for the 146 tokens"),
        ({**ENCODER, "head.bias": torch.ones(21, dtype=torch.int64)}, "'head.bias' .* is not a tensor of"),
        ({"fc.weight": torch.ones(2, 2)}, "no weight 'data_embed.weight'"),
        ({}, "holds no state_dict"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else None,
)
def test_weights_that_do_not_fit_are_one_sentence(weights: Weights, sentence: str, tmp_path: Path) -> None:
    path = save(tmp_path / "model.ckpt", weights)
    with pytest.raises(ModelError, match=sentence) as caught:
        load(path)
    assert str(caught.value).startswith(f"'{path}' is not a SpecCLIP model that can be used: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / CONVERTED).exists()


def test_files_that_are_no_models_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "text.safetensors").write_text("no safetensors")
    (tmp_path / "text.txt").write_text("text")
    torch.save([1, 2], tmp_path / "list.ckpt")
    (tmp_path / "empty").mkdir()
    save_file(weights_of("encoder"), tmp_path / "said.safetensors", metadata={"settings": "six"})
    whole = save(tmp_path / "whole.ckpt", weights_of("encoder")).read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    heads = {**PUBLISHED, "num_heads": 5}
    save(tmp_path / "heads.ckpt", weights_of("encoder"), heads)
    for name, sentence in {
        "text.ckpt": "it is no checkpoint of torch",
        "cut.ckpt": "it is no checkpoint of torch",
        "list.ckpt": "it holds no state_dict",
        "heads.ckpt": "num_heads 5 and slice_overlap 10 do not fit",
        "text.safetensors": "'text.safetensors' cannot be read",
        "said.safetensors": "its settings 'six' are not JSON of whole numbers",
        "text.txt": r"neither a checkpoint \(.ckpt\) nor .safetensors",
        "empty": "holds no weights; name the file",
        "": r"holds 7 files of weights \(cut.ckpt, ",
        "absent.ckpt": "does not exist; name a checkpoint of SpecCLIP or a hub id",
    }.items():
        with pytest.raises(ModelError, match=sentence) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="'' does not exist"):
        load_model("specclip:")
    with pytest.raises(ModelError, match="is a pickle, which could run any code"):
        load_model(str(tmp_path / "whole.ckpt"))


def test_the_hub_is_asked_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    path = save(tmp_path / "snapshot" / "lrs_encoder.ckpt", weights_of("encoder"))
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    named = load_model("specclip:someone/SpecCLIP/specclip/model.ckpt")
    default = load_model("specclip:someone/SpecCLIP")
    assert asked == [("someone/SpecCLIP", "specclip/model.ckpt"), ("someone/SpecCLIP", HUB_FILE)]
    assert named.name == "specclip:someone/SpecCLIP/specclip/model.ckpt"
    assert default.name == f"specclip:someone/SpecCLIP/{HUB_FILE}"  # by which it can be loaded again
    assert load(path).name == "specclip-lrs_encoder"
    assert named.fingerprint == load(path).fingerprint

    def fail(*_: str) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ModelError, match=r"'specclip:someone/SpecCLIP/a\.ckpt' .* could not be fetched from the hub"):
        load_model("specclip:someone/SpecCLIP/a.ckpt")
