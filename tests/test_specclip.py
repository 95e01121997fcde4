"""SpecCLIP: what its published code computes, from its own checkpoints, without running anything in them."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from files import BIG_ID, write_desi_coadd, write_lamost
from models_made import make_store
from numpy.typing import NDArray
from safetensors.torch import save_file
from test_continuum import specclip_by_hand
from test_prepare import NASTY, batch_of
from torch import Tensor, nn

from embed.load import LoadedModel, load_model
from embed.run import Embedder, EmbedOptions, embed, embed_file
from embed.specclip import CONVERTED, GRID, HUB_FILE, PREPARATION, bridge
from stores import Arm, EmbeddingStore, Flag, Grid, Preparation, SpectrumBatch, prepare
from stores.errors import ModelError, OptionError, StoreError
from stores.ingest import IngestOptions, ingest
from stores.prepare.resample import interpolate
from stores.provenance import file_checksum

Float = NDArray[Any]
Weights = dict[str, Tensor]

WIDTH, LAYERS, HEADS = 48, 2, 6
KINDS = ("encoder", "aligned in one", "aligned in three", "aligned smaller", "split")
PUBLISHED = {"num_heads": HEADS, "slice_section_length": 20, "slice_overlap": 10, "mask_num_chunks": 6, "dropout": 0.0}


# -- made checkpoints ----------------------------------------------------------------------------------------


def encoder_weights(seed: int = 0, width: int = WIDTH, layers: int = LAYERS) -> Weights:
    """Random weights under the published names."""
    shapes = {"data_embed.weight": (width, 21), "data_embed.bias": (width,), "position_embed.weight": (150, width)}
    linears = (("attention.q_proj", 1, 1), ("attention.kv_proj", 2, 1), ("attention.out_proj", 1, 1))
    for i in range(layers):
        for name, out, into in (*linears, ("mlp.0", 4, 1), ("mlp.2", 1, 4)):
            shapes |= {f"blocks.{i}.{name}.weight": (out * width, into * width)}
            shapes |= {f"blocks.{i}.{name}.bias": (out * width,)}
        shapes |= {f"blocks.{i}.{name}.{part}": (width,) for name in ("ln1", "ln2") for part in ("weight", "bias")}
    shapes |= {"final_layernorm.weight": (width,), "final_layernorm.bias": (width,)}
    shapes |= {"head.weight": (21, width), "head.bias": (21,)}
    return filled(shapes, seed)


def filled(shapes: dict[str, tuple[int, ...]], seed: int) -> Weights:
    random = np.random.default_rng([seed, 5])
    # large enough for attention to be far from uniform
    return {
        name: torch.from_numpy(random.normal(size=shape) * 2 / np.sqrt(shape[-1])).float()
        for name, shape in shapes.items()
    }


def query_weights(stem: str, width: int, heads: int, seed: int) -> Weights:
    """Cross-attention as torch itself names and stores it, and the MLP after it."""
    torch_own = nn.MultiheadAttention(width, heads, batch_first=True, kdim=WIDTH, vdim=WIDTH).state_dict()
    attention = f"{stem or 'cross_'}attention"
    shapes = {f"{attention}.multihead_attn.{name}": tuple(value.shape) for name, value in torch_own.items()}
    shapes |= {f"{attention}.query": (1, 1, width)}
    shapes |= {f"{attention}.layernorm.weight": (width,), f"{attention}.layernorm.bias": (width,)}
    shapes |= {f"{stem}mlp.encoder.weight": (4 * width, width), f"{stem}mlp.encoder.bias": (4 * width,)}
    shapes |= {f"{stem}mlp.decoder.weight": (width, 4 * width), f"{stem}mlp.decoder.bias": (width,)}
    return filled(shapes, seed)


def weights_of(kind: str, seed: int = 0) -> Weights:
    """The state dict of a checkpoint of this kind."""
    encoder = encoder_weights(seed)
    if kind == "encoder":
        return encoder
    if kind == "split":
        queries = query_weights("shared_", 32, 4, seed + 1) | query_weights("private_", 16, 2, seed + 2)
    else:
        queries = query_weights("", 24 if kind == "aligned smaller" else WIDTH, 4, seed + 1)
    one = "cross_attention.multihead_attn.in_proj_weight"
    assert (one in queries) == (kind.startswith("aligned in"))
    if kind == "aligned in three":
        three = dict(zip("qkv", queries.pop(one).chunk(3), strict=True))
        queries |= {one.replace("in_proj", f"{name}_proj"): value for name, value in three.items()}
    own = {f"backbone.{name}": value for name, value in encoder.items()} | queries
    others = {
        "gaia_xp_encoder.mlp.encoder.weight": torch.ones(3, 3),
        "lamost_lrs_decoder.decoder.0.bias": torch.ones(2),
    }
    return {f"lamost_lrs_encoder.{name}": value for name, value in own.items()} | others


def save(path: Path, weights: Weights, hyper: Any = PUBLISHED, **more: Any) -> Path:
    """A checkpoint as Lightning writes it."""
    content = {"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.1.0", "state_dict": weights}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, "loops": {}, "hyper_parameters": hyper, **more}, path)
    return path


def load(path: Path) -> LoadedModel:
    return load_model(f"specclip:{path}")


def embed_options(model: Path, out: Path, *files: Path, **changes: Any) -> EmbedOptions:
    names = tuple(map(str, files))
    base = EmbedOptions(inputs=names, model=f"specclip:{model}", out=out, dtype="float32", device="cpu", batch_size=2)
    return replace(base, **changes)


def spectra(n: int = 3, seed: int = 0) -> NDArray[np.float32]:
    flux = 1 + np.random.default_rng(seed).normal(size=(n, GRID.n_pix)) * np.linspace(0.05, 0.3, n)[:, None]
    return flux.astype(np.float32)


def embedded(model: LoadedModel, flux: Float, ivar: Float | None = None) -> Float:
    return Embedder(model, GRID.start, "cpu", 2)(flux, np.ones_like(flux) if ivar is None else ivar)


# -- the published computation, plainly -----------------------------------------------------------------------


def norm(x: Float, w: dict[str, Float], name: str) -> Float:
    variance = np.mean((x - x.mean(-1, keepdims=True)) ** 2, axis=-1, keepdims=True)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Float, w: dict[str, Float], name: str) -> Float:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x: Float) -> Float:
    from scipy.special import erf

    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def attend(q: Float, k: Float, v: Float, heads: int, factor: float) -> Float:
    """(Tq, D) from q (Tq, D), k and v (T, D), head by head."""
    parts = []
    for qh, kh, vh in zip(*(np.split(one, heads, axis=1) for one in (q, k, v)), strict=True):
        logits = qh @ kh.T * factor
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        parts.append(share / share.sum(axis=1, keepdims=True) @ vh)
    return np.concatenate(parts, axis=1)


def tokens_by_hand(x: Float, w: dict[str, Float], *, scalings: int = 2) -> Float:
    """(146, D) of one spectrum (1462,) in float64."""
    width = w["data_embed.bias"].shape[0]
    s = np.std(x, ddof=1)
    rows = [[np.log10(s)] + 20 * [0.0]]
    for start in range(0, 1462 - 20 + 1, 10):
        rows.append([0.0, *((x[start : start + 20] - x.mean()) / s)])
    assert len(rows) == 146
    x = linear(np.array(rows), w, "data_embed") + w["position_embed.weight"][:146]
    head = width // HEADS
    for i in range(len({name.split(".")[1] for name in w if name.startswith("blocks.")})):
        name = f"blocks.{i}"
        seen = norm(x, w, f"{name}.ln1")
        kv = linear(seen, w, f"{name}.attention.kv_proj")
        q = linear(seen, w, f"{name}.attention.q_proj") * head**-0.5
        found = attend(q, kv[:, :width], kv[:, width:], HEADS, head**-0.5 if scalings == 2 else 1.0)
        x = x + linear(found, w, f"{name}.attention.out_proj")
        x = x + linear(gelu(linear(norm(x, w, f"{name}.ln2"), w, f"{name}.mlp.0")), w, f"{name}.mlp.2")
    return norm(x, w, "final_layernorm")


def query_by_hand(tokens: Float, w: dict[str, Float], stem: str, heads: int) -> Float:
    name = f"{stem or 'cross_'}attention"
    own = {key.removeprefix(f"{name}.multihead_attn."): value for key, value in w.items() if key.startswith(name)}
    if "in_proj_weight" in own:
        matrices = np.split(own["in_proj_weight"], 3)
    else:
        matrices = [own[f"{one}_proj_weight"] for one in "qkv"]
    inputs = (w[f"{name}.query"][0], tokens, tokens)
    q, k, v = (x @ m.T + b for x, m, b in zip(inputs, matrices, np.split(own["in_proj_bias"], 3), strict=True))
    found = linear(attend(q, k, v, heads, (q.shape[1] / heads) ** -0.5), own, "out_proj")
    x = norm(found, w, f"{name}.layernorm")
    return (x + linear(gelu(linear(x, w, f"{stem}mlp.encoder")), w, f"{stem}mlp.decoder"))[0]


def by_hand(flux: Float, weights: Weights, kind: str, **options: Any) -> Float:
    """Embeddings (n, d) of spectra (n, 1462)."""
    w = {name.removeprefix("lamost_lrs_encoder."): value.double().numpy() for name, value in weights.items()}
    backbone = {name.removeprefix("backbone."): value for name, value in w.items()}
    found = []
    for x in flux.astype(np.float64):
        tokens = tokens_by_hand(x, backbone, **options)
        if kind == "encoder":
            found.append(tokens.mean(axis=0))
        elif kind == "split":
            found.append(np.concatenate([query_by_hand(tokens, w, *one) for one in (("shared_", 4), ("private_", 2))]))
        else:
            found.append(query_by_hand(tokens, w, "", 4))
    return np.array(found)


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_the_published_code_does(kind: str, tmp_path: Path) -> None:
    weights = weights_of(kind)
    model = load(save(tmp_path / "model.ckpt", weights))
    flux = spectra()
    expected = by_hand(flux, weights, kind)
    found = embedded(model, flux)
    assert found.shape == expected.shape == (3, model.width)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert model.variant == kind.split()[0]


def test_queries_are_scaled_twice() -> None:
    weights = weights_of("encoder")
    once, twice = (by_hand(spectra(1), weights, "encoder", scalings=n) for n in (1, 2))
    assert np.abs(once - twice).max() > 0.01 * np.abs(twice).max()


def test_all_the_weights_of_an_encoder_of_full_size_are_there() -> None:
    # by hand from the facts: 42,677,013 at width 768 and 6 layers; here the same sum at the small width
    d = WIDTH
    block = (d * d + d) * 2 + (2 * d * d + 2 * d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    assert sum(value.numel() for value in encoder_weights().values()) == (
        21 * d + d + 150 * d + LAYERS * block + 2 * d + 21 * d + 21
    )


@pytest.mark.slow
def test_full_size(tmp_path: Path) -> None:
    weights = encoder_weights(width=768, layers=6)
    model = load(save(tmp_path / "lrs_encoder.ckpt", weights))
    assert model.attributes()["weights"] == 42_677_013
    expected = by_hand(spectra(1), weights, "encoder")
    np.testing.assert_allclose(embedded(model, spectra(1)), expected, atol=1e-4 * np.abs(expected).max())


def test_masked_pixels_are_bridged() -> None:
    flux, good = spectra(4), np.random.default_rng(1).random((4, GRID.n_pix)) > 0.3
    good[1, :50], good[2, -9:], good[3] = False, False, False
    good[3, 700] = True
    pixel = np.arange(GRID.n_pix)
    expected = [np.interp(pixel, pixel[row], one[row]) for one, row in zip(flux, good, strict=True)]
    dirty = np.where(good, flux, 1e30).astype(np.float32)
    found = bridge(torch.from_numpy(dirty), torch.from_numpy(good))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(found.numpy()[good], flux[good])


def test_odd_spectra_give_numbers(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model.ckpt", weights_of("aligned in one")))
    flux, ivar = spectra(3), np.ones((3, GRID.n_pix), np.float32)
    ivar[0], ivar[1] = 0, 0
    ivar[1, 500] = 1  # a single pixel: a constant spectrum without scatter
    found = embedded(model, flux, ivar)
    assert np.all(found[0] == 0)
    assert np.all(np.isfinite(found))
    assert np.all(np.any(found[1:] != 0, axis=1))


def test_another_grid_is_refused(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model.ckpt", weights_of("encoder")))
    for start, n_pix in ((3.602, 1463), (3.603, 1462)):
        with pytest.raises(ModelError, match="on the grid 'lrs' only"):
            Embedder(model, start, "cpu", 2)(np.ones((1, n_pix)), np.ones((1, n_pix)))
    (tmp_path / "x.fits").touch()  # refused before any file is looked at
    options = embed_options(tmp_path / "model.ckpt", tmp_path / "e.zarr", tmp_path / "x.fits", survey="lamost")
    with pytest.raises(OptionError, match="on the grid 'lrs' and on no other, not on 'optical'; leave --grid out"):
        embed(replace(options, grid="optical"))


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


# -- preparation ---------------------------------------------------------------------------------------------


def test_fingerprints_of_older_preparations_are_what_they_were() -> None:
    for preparation, known in {
        Preparation(): "26122fbbc0fba881",
        Preparation(frame="observed", continuum="specclip"): "24b4bcdcc9258e9d",
        Preparation(continuum="none", resolving_power=1800): "05f2cf3e0db040a4",
    }.items():
        attributes = preparation.attributes(GRID)
        assert attributes["fingerprint"] == known
        assert "resampling" not in attributes
        assert Preparation.from_attributes(attributes) == preparation
    linear = PREPARATION.attributes(GRID)
    assert linear["resampling"] == "linear"
    assert linear["fingerprint"] != "24b4bcdcc9258e9d"
    assert Preparation.from_attributes(linear) == PREPARATION


@pytest.mark.parametrize("redshift", [None, np.zeros(3), np.array([1e-3, 0.0, -1e-3])])
def test_interpolation_is_linear_in_log_wavelength(redshift: Float | None) -> None:
    random = np.random.default_rng(2)
    wavelength = 3900.0 + np.cumsum(random.uniform(0.5, 1.2, 1800))
    flux, ivar = random.normal(size=(3, 1800)), random.uniform(0.5, 2, (3, 1800))
    found, weight = interpolate(wavelength, flux, ivar, GRID.wavelength, redshift)
    for row in range(3):
        at = GRID.wavelength * (1 + (0 if redshift is None else redshift[row]))
        inside = (at > wavelength[0]) & (at < wavelength[-1])
        assert 1000 < inside.sum() < GRID.n_pix
        expected = np.interp(np.log10(at), np.log10(wavelength), flux[row])
        np.testing.assert_allclose(found[row, inside], expected[inside], rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(weight[row] > 0, inside)
        after = np.searchsorted(wavelength, at[inside])
        share = np.log(at[inside] / wavelength[after - 1]) / np.log(wavelength[after] / wavelength[after - 1])
        variance = (1 - share) ** 2 / ivar[row, after - 1] + share**2 / ivar[row, after]
        np.testing.assert_allclose(weight[row, inside], 1 / variance, rtol=1e-6)
        assert not found[row, ~inside].any()


def test_interpolation_keeps_pixels_and_masks_what_touches_a_mask() -> None:
    # LAMOST's own lattice, its wavelengths rounded to float32
    wavelength = GRID.wavelength.astype(np.float32).astype(float)
    flux, ivar = np.random.default_rng(3).normal(size=(1, GRID.n_pix)), np.ones((1, GRID.n_pix))
    ivar[0, 700], flux[0, 700] = 0, 1e30
    found, weight = interpolate(wavelength, flux, ivar, GRID.wavelength)
    np.testing.assert_array_equal(weight > 0, ivar > 0)
    np.testing.assert_allclose(found[ivar > 0], flux[ivar > 0], atol=0.02)
    between = np.sqrt(GRID.wavelength[1:] * GRID.wavelength[:-1])
    _, weight = interpolate(wavelength, flux, ivar, between)
    np.testing.assert_array_equal(np.flatnonzero(weight == 0), [699, 700])


def test_nothing_but_numbers_comes_out_of_interpolation() -> None:
    flux = np.stack([np.broadcast_to(flux, 900) for flux, _ in NASTY.values()])
    ivar = np.stack([np.broadcast_to(ivar, 900) for _, ivar in NASTY.values()])
    grid = Grid(3.65, 300)
    for preparation in (PREPARATION, replace(PREPARATION, frame="rest", continuum="none")):
        ready = prepare([batch_of(flux, ivar, rv=50.0)], grid, preparation)
        assert np.all(np.isfinite(ready.flux.astype(np.float32)))
        assert np.all(np.isfinite(ready.ivar.astype(np.float32)))
        assert np.all(ready.flux[ready.ivar == 0] == (0.0 if preparation.continuum == "none" else 1.0))
        assert (ready.ivar > 0).any()
        alone = prepare([batch_of(flux[-1], ivar[-1], rv=50.0)], grid, preparation)
        np.testing.assert_allclose(ready.flux[-1], alone.flux[0], rtol=1e-12)


# -- from files to a store -----------------------------------------------------------------------------------


def prepared_by_hand(wavelength: Float, flux: Float, good: Float) -> Float:
    """One spectrum (1462,) as SpecCLIP takes it: interpolated, masked pixels bridged, its continuum divided out."""
    grid, inside = GRID.extended(3700.0, 9100.0)
    x, at = np.log10(wavelength), np.log10(grid.wavelength)
    # a pixel of the grid is good if both pixels around it are
    valid = np.interp(at, x, good.astype(float), left=0, right=0) > 0.99
    pixel = np.arange(grid.n_pix)
    raw = np.interp(at, x[good], flux[good])
    continuum = specclip_by_hand(grid.wavelength, np.interp(pixel, pixel[valid], raw[valid]))
    seen = pixel[inside][valid[inside]]
    result: Float = np.interp(pixel[inside], seen, (raw / continuum)[seen])
    return result


def star(wavelength: Float, seed: int) -> Float:
    """Not flat, lines and noise."""
    x = wavelength / 5000 - 1
    lines = sum(0.4 * np.exp(-0.5 * ((wavelength - centre) / 6) ** 2) for centre in (4102, 4340, 4861, 5175))
    noise = np.random.default_rng(seed).normal(size=len(wavelength))
    return 100 * (1 + 0.3 * seed * x - x**2) * (1 - lines) + noise


def test_desi_spectra_are_embedded(tmp_path: Path) -> None:
    wavelength = np.arange(3600.0, 5800.4, 0.8)
    flux = np.stack([star(wavelength, seed) for seed in range(4)])
    ivar = np.ones_like(flux)
    ivar[1, 1000:1010] = ivar[1, 2000] = 0
    ivar[3] = 0
    dirty = np.where(ivar > 0, flux, 1e6)
    ids = BIG_ID + np.arange(4)
    path = tmp_path / "coadd-x.fits"
    write_desi_coadd(path, ids=ids, arms={"B": (3600.0, 5800.0)}, flux=dirty, ivar=ivar, z=np.full(4, 0.001))
    weights = weights_of("aligned smaller")
    model = save(tmp_path / "model.ckpt", weights)
    assert embed(embed_options(model, tmp_path / "e.zarr", path, survey="desi")) == 0
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    assert store.read("id").tolist() == ids.tolist()
    found = store.read("embedding")
    assert not found[3].any()
    np.testing.assert_array_equal((store.read("flags") & np.uint32(Flag.NO_VALID_PIXELS)) != 0, ids == ids[3])
    # in float32, as files hold it; the redshift of 300 km/s is left as it is
    dirty = dirty.astype(np.float32).astype(float)
    ready = [prepared_by_hand(wavelength, dirty[row], ivar[row] > 0) for row in range(3)]
    expected = by_hand(np.array(ready), weights, "aligned")
    np.testing.assert_allclose(found[:3], expected, atol=1e-4 * np.abs(expected).max())
    assert not [fault for _, faults in store.verify() for fault in faults]


def test_lamost_spectra_are_embedded(tmp_path: Path) -> None:
    wavelength = np.power(10.0, 3.5682 + 1e-4 * np.arange(2300))
    files, ready = [], []
    for seed in range(3):
        flux, ivar = star(wavelength, seed), np.ones(2300)
        ivar[500 : 500 + 3 * seed] = 0
        dirty = np.where(ivar > 0, flux, -1e5)
        name = tmp_path / f"spec-{seed}.fits"
        about: dict[str, Any] = {"wavelength": wavelength, "COEFF0": 3.5682, "n_pix": 2300, "z": 1e-3}
        files.append(write_lamost(name, "image", obsid=BIG_ID + seed, flux=dirty, ivar=ivar, **about))
        written = wavelength.astype(np.float32).astype(float)
        ready.append(prepared_by_hand(written, dirty.astype(np.float32).astype(float), ivar > 0))
    weights = weights_of("split")
    model = save(tmp_path / "specclip_model_split_mlp.ckpt", weights)
    options = embed_options(model, tmp_path / "e.zarr", *files, survey="lamost")
    assert embed(options) == 0
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    expected = by_hand(np.array(ready), weights, "split")
    np.testing.assert_allclose(store.read("embedding"), expected, atol=1e-4 * np.abs(expected).max())
    loaded = load(model)
    told = {"name": "specclip-specclip_model_split_mlp", "fingerprint": loaded.fingerprint, "variant": "split"}
    assert told.items() <= store.attributes["model"].items()
    assert store.attributes["model"]["width"] == 48
    assert store.attributes["preprocessing"] == PREPARATION.attributes(GRID)
    # by way of a spectra store
    spectra = IngestOptions(files=tuple(map(str, files)), survey="lamost", out=tmp_path / "s.zarr")
    assert ingest(replace(spectra, preparation=PREPARATION)) == 0
    assert embed(embed_options(model, tmp_path / "from-store.zarr", tmp_path / "s.zarr")) == 0
    again = EmbeddingStore.open(tmp_path / "from-store.zarr").read("embedding")
    np.testing.assert_array_equal(again, store.read("embedding"))
    # one file alone, as a search needs it
    ids, vectors = embed_file(files[1], "lamost", store, f"specclip:{model}")
    assert ids.tolist() == [BIG_ID + 1]
    np.testing.assert_allclose(vectors[0], store.read("embedding")[1], rtol=1e-5, atol=1e-6)
    # the same again is finished already, other weights are another job, half precision too
    assert embed(options) == 0
    other = save(tmp_path / "other" / model.name, weights_of("split", seed=9))
    with pytest.raises(StoreError, match="belongs to another job"):
        embed(replace(options, model=f"specclip:{other}"))
    with pytest.raises(StoreError, match="dtype: 'float32' there, 'float16' here"):
        embed(replace(options, dtype="float16"))
    assert embed(replace(options, dtype="float16", out=tmp_path / "half.zarr")) == 0
    half = EmbeddingStore.open(tmp_path / "half.zarr").read("embedding")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, expected, atol=2e-3 * np.abs(expected).max())


def test_the_continuum_does_not_follow_where_a_survey_starts() -> None:
    # the same star from 3600 A in DESI's pixels and from 3700 A in LAMOST's, hot enough for the Balmer windows
    found = []
    for wavelength in (np.arange(3600.0, 9100.0, 0.8), np.power(10.0, 3.5682 + 1e-4 * np.arange(3909))):
        flux = 100 * (wavelength / 4000) ** -3
        for centre in (4102, 4340, 4861):
            flux = flux * (1 - 0.5 * np.exp(-0.5 * ((wavelength - centre) / 15) ** 2))
        nowhere = np.zeros(1)
        arm = Arm(wavelength, flux[None], np.ones((1, len(flux))))
        batch = SpectrumBatch([arm], np.array([1]), nowhere, nowhere, nowhere)
        found.append(prepare([batch], GRID, PREPARATION).flux[0])
    np.testing.assert_allclose(found[0], found[1], atol=5e-4)


def test_spectra_of_a_store_prepared_otherwise_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", n=5)
    model = save(tmp_path / "model.ckpt", weights_of("encoder"))
    with pytest.raises(StoreError, match="with frame = 'rest' but the spectra of the model 'specclip-model'"):
        embed(embed_options(model, tmp_path / "e.zarr", store.path))


def test_the_grid_is_specclips() -> None:
    assert GRID.n_pix == 1462
    np.testing.assert_allclose(GRID.wavelength[[0, -1]], [3999.45, 5598.87], atol=0.005)
    assert GRID.kms == pytest.approx(69.03, abs=0.005)
