"""Checkpoints as SpecCLIP's, made small, and what its published code computes from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embed.load import LoadedModel, load_model
from embed.run import Embedder, EmbedOptions
from embed.specclip import GRID

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
