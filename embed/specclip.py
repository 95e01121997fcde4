"""SpecCLIP (arXiv:2507.01939): its published transformer of LAMOST spectra and the aligned models built on it.

    embed-spectra --survey lamost spectra/ --model specclip:astroshawn/SpecCLIP/encoders/lrs_encoder.ckpt
    embed-spectra --survey desi coadd-*.fits --model specclip:specclip_model_split_mlp.ckpt

`encoder` is the transformer alone, the mean over its tokens; `aligned` asks its tokens with one learned query, by
cross-attention and an MLP; `split` does so twice, for a part shared with Gaia XP spectra and one private to these.
Sizes come from the weights. Checkpoints are read without running anything in them and converted to safetensors once.
"""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embed.load import PICKLES, SPECCLIP, LoadedModel, fetch
from stores.atomic import replacing
from stores.errors import ModelError
from stores.grid import Grid
from stores.prepare import Preparation
from stores.provenance import array_digest, file_checksum, fingerprint, provenance

Weights = dict[str, Tensor]

GRID = Grid.parse("lrs")
PREPARATION = Preparation(frame="observed", continuum="specclip", resampling="linear")
HUB_FILE = "encoders/lrs_encoder.ckpt"
CONVERTED = "specclip-converted"
IN_WHOLE = "lamost_lrs_encoder."  # where the part for LAMOST spectra is in an aligned model
SETTINGS = {"num_heads": 6, "slice_overlap": 10}  # as published, where a checkpoint does not say
# variant: (prefix of the weights, attention heads) of each query; heads as in the published code, shapes do not tell
QUERIES: dict[str, tuple[tuple[str, int], ...]] = {
    "encoder": (),
    "aligned": (("", 4),),
    "split": (("shared_", 4), ("private_", 2)),
}
# the parts of Python's library that only hold values; all others in a checkpoint are refused
HARMLESS = {"argparse", "collections", "copyreg", "datetime", "enum", "functools", "pathlib", "typing"}
LEAST_SCATTER = 1e-6  # of a spectrum that is constant: its standardised flux is 0, not 0 / 0


class Embedded(NamedTuple):
    """embedding: (B, d); tokens: (B, T, width) of the transformer."""

    embedding: Tensor
    tokens: Tensor


class Attention(nn.Module):
    """Self-attention whose logits are q.k / width of a head: the published code scales by its root twice."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.kv_proj = nn.Linear(width, 2 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D)
        q, k, v = (_heads(part, self.heads) for part in (self.q_proj(x), *self.kv_proj(x).chunk(2, dim=-1)))
        attended = F.scaled_dot_product_attention(q, k, v, scale=1 / q.shape[-1])
        projected: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """One pre-LayerNorm transformer layer."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))
        fed: Tensor = self.mlp(self.ln2(x))
        return x + fed


class Encoder(nn.Module):
    """The transformer: flux (B, n_pix) -> tokens (B, T, width), the first of them for the scatter."""

    def __init__(self, weights: Weights, settings: dict[str, int]) -> None:
        super().__init__()
        width, features = _shape(weights, "backbone.data_embed.weight", 2)
        positions, _ = _shape(weights, "backbone.position_embed.weight", 2)
        inner, _ = _shape(weights, "backbone.blocks.0.mlp.0.weight", 2)
        layers = len({key.split(".")[2] for key in weights if key.startswith("backbone.blocks.")})
        heads, overlap = settings["num_heads"], settings["slice_overlap"]
        self.length = features - 1
        self.stride = self.length - overlap
        if heads < 1 or width % heads or overlap < 0 or self.stride < 1:
            raise ModelError(
                f"its width {width}, slices of {self.length}, num_heads {heads} and slice_overlap {overlap} do not fit"
            )
        self.n_tokens = 1 + (GRID.n_pix - self.length) // self.stride + 1
        if positions < self.n_tokens:
            raise ModelError(f"it has {positions} positions for the {self.n_tokens} tokens of a spectrum")
        self.data_embed = nn.Linear(features, width)
        self.position_embed = nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, heads, inner) for _ in range(layers))
        self.final_layernorm = nn.LayerNorm(width)
        self.head = nn.Linear(width, features)  # reconstructs slices in pre-training

    def forward(self, flux: Tensor) -> Tensor:
        mean = flux.mean(dim=1, keepdim=True)
        scatter = flux.std(dim=1, keepdim=True).clamp(min=LEAST_SCATTER)
        slices = ((flux - mean) / scatter).unfold(1, self.length, self.stride)  # (B, T - 1, length)
        first = F.pad(scatter.log10()[:, None], (0, self.length))  # (B, 1, 1 + length)
        x = self.data_embed(torch.cat([first, F.pad(slices, (1, 0))], dim=1))
        x = x + self.position_embed.weight[: self.n_tokens]
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.final_layernorm(x)
        return normed


class Projections(nn.Module):
    """The weights of torch's MultiheadAttention with one projection each for query, keys and values."""

    def __init__(self, width: int, width_in: int) -> None:
        super().__init__()
        self.q_proj_weight = nn.Parameter(torch.empty(width, width))
        self.k_proj_weight = nn.Parameter(torch.empty(width, width_in))
        self.v_proj_weight = nn.Parameter(torch.empty(width, width_in))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)


class CrossAttention(nn.Module):
    """One learned query on all tokens: (B, T, width_in) -> (B, width)."""

    def __init__(self, width: int, width_in: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.multihead_attn = Projections(width, width_in)
        self.layernorm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        own = self.multihead_attn
        in_bias = own.in_proj_bias.chunk(3)
        in_weight = (own.q_proj_weight, own.k_proj_weight, own.v_proj_weight)
        inputs = (self.query.expand(len(tokens), -1, -1), tokens, tokens)
        q, k, v = (_heads(F.linear(*three), self.heads) for three in zip(inputs, in_weight, in_bias, strict=True))
        attended = F.scaled_dot_product_attention(q, k, v)
        normed: Tensor = self.layernorm(own.out_proj(attended.transpose(1, 2).flatten(1)))
        return normed


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(width, inner)
        self.decoder = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(F.gelu(self.encoder(x)))
        return decoded


class SpecClip(nn.Module):
    """Spectra on SpecCLIP's grid -> embeddings, by the variant that the weights are of."""

    def __init__(self, weights: Weights, settings: dict[str, int]) -> None:
        super().__init__()
        self.variant = _variant(weights)
        self.backbone = Encoder(weights, settings)
        width_in, self.width = self.backbone.data_embed.out_features, 0
        for prefix, heads in QUERIES[self.variant]:
            *_, width = _shape(weights, f"{prefix or 'cross_'}attention.query", 3)
            inner, _ = _shape(weights, f"{prefix}mlp.encoder.weight", 2)
            if width % heads:
                raise ModelError(f"its width {width} is no multiple of {heads} attention heads")
            self.add_module(f"{prefix or 'cross_'}attention", CrossAttention(width, width_in, heads))
            self.add_module(f"{prefix}mlp", Mlp(width, inner))
            self.width += width
        self.width = self.width or width_in

    def forward(self, flux: Tensor, ivar: Tensor, start: float) -> Embedded:
        """flux, ivar: (B, 1462) float32 on SpecCLIP's grid, ivar 0 where invalid; start: where their grid starts."""
        if flux.shape[1] != GRID.n_pix or abs(start - GRID.start) > 1e-9:
            raise ModelError(f"SpecCLIP embeds spectra on the grid '{GRID}' only; prepare them on that grid.")
        tokens = self.backbone(bridge(flux, ivar > 0))
        parts = []
        for prefix, _ in QUERIES[self.variant]:
            part = self.get_submodule(f"{prefix or 'cross_'}attention")(tokens)
            parts.append(part + self.get_submodule(f"{prefix}mlp")(part))
        return Embedded(torch.cat(parts, dim=1) if parts else tokens.mean(dim=1), tokens)


def bridge(flux: Tensor, good: Tensor) -> Tensor:
    """Flux (B, n_pix) with straight lines over pixels that are not good (B, n_pix): SpecCLIP knows no mask."""
    n_pix = flux.shape[1]
    pixel = torch.arange(n_pix, device=flux.device).expand_as(flux)
    # the good pixels in order, and how many there are up to each: cummax would do, but not every backend has it
    ordered = torch.where(good, pixel, n_pix).sort(dim=1).values
    count = good.long().cumsum(dim=1)
    before = torch.where(count > 0, ordered.gather(1, (count - 1).clamp(min=0)), -1)
    after = ordered.gather(1, (count - good.long()).clamp(max=n_pix - 1))
    # beyond the first and the last good pixel, their values
    before, after = torch.where(before < 0, after, before), torch.where(after == n_pix, before, after)
    before, after = before.clamp(0, n_pix - 1), after.clamp(0, n_pix - 1)
    share = ((pixel - before) / (after - before).clamp(min=1)).clamp(0, 1)
    line = flux.gather(1, before) * (1 - share) + flux.gather(1, after) * share
    return torch.where(good, flux, line)


def load_specclip(name: str) -> LoadedModel:
    """A model by `specclip:` and a checkpoint, a converted file, a folder with one of them, or a hub id.

    A hub id is USER/MODEL/PATH/OF/FILE.ckpt; without a file it is SpecCLIP's encoder of LAMOST spectra.
    """
    known, path = _find(name)
    try:
        weights, about = _read(path if path.suffix == ".safetensors" else _converted(path))
        settings = _settings(about.get("settings", "{}"))
        network = _network(_canonical(weights), settings)
    except ModelError as error:
        raise ModelError(f"'{path}' is not a SpecCLIP model that can be used: {error}.") from None
    state = network.state_dict()
    content = array_digest(*(state[key].numpy() for key in sorted(state)))
    return LoadedModel(
        name=known or f"specclip-{Path(about.get('source', path.name)).stem}",
        model=network,
        fingerprint=fingerprint(["specclip", network.variant, settings, content]),
        preprocessing=PREPARATION.attributes(GRID),
        grid=GRID,
        width=network.width,
        variant=network.variant,
        fixed_grid=True,
    )


def _find(name: str) -> tuple[str | None, Path]:
    """The name under which a model from the hub is known, and the file."""
    given = name.removeprefix(SPECCLIP)
    path = Path(given)
    if given and path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (*PICKLES, ".safetensors"))
        if len(files) == 1:
            return None, files[0]
        found = f"{len(files)} files of weights ({', '.join(file.name for file in files)})" if files else "no weights"
        raise ModelError(f"folder '{given}' holds {found}; name the file of a SpecCLIP model.")
    if path.is_file():
        if path.suffix not in (*PICKLES, ".safetensors"):
            raise ModelError(f"'{given}' is neither a checkpoint (.ckpt) nor .safetensors; name SpecCLIP's file.")
        return None, path
    if given.count("/") < 1 or given.startswith((".", "/", "~")):
        raise ModelError(
            f"'{given}' does not exist; name a checkpoint of SpecCLIP or a hub id such as astroshawn/SpecCLIP."
        )
    from huggingface_hub import hf_hub_download

    user, model, *parts = given.split("/")
    file = "/".join(parts) or HUB_FILE
    known = f"{SPECCLIP}{user}/{model}/{file}"
    return known, fetch(known, lambda: hf_hub_download(f"{user}/{model}", file))


def _converted(path: Path) -> Path:
    """The safetensors of a checkpoint, written beside it, or in the user's cache, the first time."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    checksum = file_checksum(path)
    beside = path.parent / CONVERTED
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spectrabridge" / CONVERTED
    name = f"{path.stem}-{checksum[:16]}.safetensors"
    for folder in (beside, cache):
        if (folder / name).is_file():
            return folder / name
    weights, said = _from_checkpoint(path)
    about = {"source": path.name, "source_sha256": checksum, "settings": json.dumps(said)}
    about |= {key: str(value) for key, value in provenance().items()}
    _network(_canonical(weights), _settings(about["settings"]))  # so that nothing useless is kept
    for folder in (beside, cache):
        with suppress(OSError, SafetensorError):
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as partial:
                save_file(weights, partial, metadata=about)
            return folder / name
    raise ModelError(f"it cannot be converted, since neither '{beside}' nor '{cache}' can be written")


def _read(path: Path) -> tuple[Weights, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"'{path.name}' cannot be read ({_first_line(error)}), delete or replace that file") from None


class _Fields:
    """Stands for a class of the training code in a checkpoint: an object of it becomes a dict, and nothing runs."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()  # the one kind that torch fills with items as well as with attributes


class _Nothing:
    """The same for numpy's, whose state is a tuple."""

    def __new__(cls, *_: Any) -> Any:
        return object.__new__(cls)

    def __setstate__(self, _: Any) -> None: ...


def _from_checkpoint(path: Path) -> tuple[Weights, dict[str, int]]:
    """The weights for LAMOST spectra, as they are, and those of the published settings that the file says."""
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    try:
        named = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception as error:  # whatever torch makes of a file that is none of its own
        raise ModelError(f"it is no checkpoint of torch ({_first_line(error)})") from None
    for one in named:
        module = one.split(".")[0]
        if module in sys.stdlib_module_names - HARMLESS:
            raise ModelError(f"it is a pickle that wants to run '{one}'; do not trust it, get it from its authors")
    stand_ins: list[Any] = [(_Nothing if one.startswith("numpy.") else _Fields, one) for one in named]
    try:
        with safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ModelError(f"it cannot be read without running code from it ({_first_line(error)})") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not (isinstance(state, dict) and state and all(isinstance(key, str) for key in state)):
        raise ModelError("it holds no state_dict")
    if any(key.startswith(IN_WHOLE) for key in state):
        state = {key: value for key, value in state.items() if key.startswith(IN_WHOLE)}
    for key, value in state.items():
        if not (isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided):
            raise ModelError(f"'{key}' in its state_dict is not a tensor of weights")
    told = content.get("hyper_parameters")
    said = {key: told[key] for key in SETTINGS if isinstance(told, dict) and type(told.get(key)) is int}
    return {key: value.detach().clone().contiguous() for key, value in state.items()}, said


def _settings(said: str) -> dict[str, int]:
    """The published settings, or what JSON says in their place."""
    try:
        return SETTINGS | {key: int(value) for key, value in json.loads(said).items() if key in SETTINGS}
    except (ValueError, TypeError, AttributeError):
        raise ModelError(f"its settings '{said}' are not JSON of whole numbers") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _canonical(weights: Weights) -> Weights:
    """Weights in float32 under the names of `SpecClip`, with one projection each for query, keys and values."""
    if not any(key.startswith(IN_WHOLE) for key in weights):
        weights = {f"{IN_WHOLE}backbone.{key}": value for key, value in weights.items()}
    canonical: Weights = {}
    for key, value in weights.items():
        name = key.removeprefix(IN_WHOLE)
        if name.endswith("in_proj_weight") and len(value) % 3 == 0:
            stem = name.removesuffix("in_proj_weight")
            canonical |= {f"{stem}{one}_proj_weight": part for one, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            canonical[name] = value
    return {name: value.float() for name, value in canonical.items()}


def _network(weights: Weights, settings: dict[str, int]) -> SpecClip:
    with torch.device("meta"):
        network = SpecClip(weights, settings)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in wanted:
        if wanted[name] != found.get(name, ()):
            have = f"has shape {found[name]}" if name in found else "is missing"
            raise ModelError(f"its weight '{name}' {have} where {wanted[name]} was expected")
    for name in sorted(found.keys() - wanted.keys()):
        raise ModelError(f"its weight '{name}' is not part of SpecCLIP")
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()


def _variant(weights: Weights) -> str:
    if "backbone.data_embed.weight" not in weights:
        raise ModelError("it has no weight 'data_embed.weight'")
    for variant in ("split", "aligned"):
        prefix, _ = QUERIES[variant][0]
        if f"{prefix or 'cross_'}attention.query" in weights:
            return variant
    return "encoder"


def _shape(weights: Weights, name: str, axes: int) -> tuple[int, ...]:
    if name not in weights:
        raise ModelError(f"it has no weight '{name}'")
    shape = tuple(weights[name].shape)
    if len(shape) != axes or 0 in shape:
        raise ModelError(f"its weight '{name}' has shape {shape}")
    return shape


def _heads(x: Tensor, heads: int) -> Tensor:  # (B, T, D) -> (B, H, T, D / H)
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
