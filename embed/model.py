"""SpectralTransformer: a masked autoencoder over patches of a spectrum.

A patch is `patch_size` neighbouring pixels carrying flux and validity; its position is its wavelength, so any
range of a grid with the same step can be embedded. The mean and the scatter of a spectrum, which the patches
lose when they are standardised, come back as one more token. The encoder sees visible patches only; a small
decoder predicts the hidden ones, and the error counts in units of the noise (He et al. 2022, arXiv:2111.06377,
for masked autoencoders).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from embed.config import SpectralConfig
from embed.masking import PatchMask
from stores.grid import Grid

POSITION_SCALES = 48  # sine and cosine pairs, from two patches to far more than the optical range
LONGEST_PERIOD = 20_000.0  # pixels
READOUT_SCALE = 0.1  # of the lines in a normalised spectrum


@dataclass
class SpectralOutput(ModelOutput):
    """Result of a forward pass.

    embedding: (B, embedding_width), means over the visible patches after each of the layers that are pooled; 0 for a
        spectrum without valid pixels
    tokens: (B, V, width), encoded visible patches
    prediction: (B, n_pix), predicted flux, only if patches were hidden or the spectrum was read
    loss: scalar, mean squared error over hidden valid pixels in units of (noise^2 + floor^2)
    """

    embedding: Tensor | None = None
    tokens: Tensor | None = None
    prediction: Tensor | None = None
    loss: Tensor | None = None


class Block(nn.Module):
    """One pre-LayerNorm transformer layer."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, mlp_ratio * width)
        self.down = nn.Linear(mlp_ratio * width, width)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:  # x (B, T, D), keys (B, 1, 1, T) bool
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D / H)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class SpectralTransformer(PreTrainedModel):
    """Encoder and decoder; `forward` takes flux and ivar of spectra on a grid and where that grid starts."""

    config_class = SpectralConfig
    base_model_prefix = "spectral"
    main_input_name = "flux"

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__(config)
        patch, width, inner = config.patch_size, config.width, config.decoder_width
        self.patch_embed = nn.Linear(2 * patch, width)
        self.position_embed = nn.Linear(2 * POSITION_SCALES, width)
        self.statistics_embed = nn.Linear(2, width)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.mlp_ratio) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        if config.objective == "views":
            self.readout_in = nn.Linear(width, config.readout_width)
            self.readout_out = nn.Linear(config.readout_width, Grid.parse(config.grid).n_pix)
        else:
            self.decoder_embed = nn.Linear(width, inner)
            self.decoder_position = nn.Linear(2 * POSITION_SCALES, inner)
            self.mask_token = nn.Parameter(torch.zeros(inner))
            self.decoder_blocks = nn.ModuleList(
                Block(inner, max(1, inner // 32), config.mlp_ratio) for _ in range(config.decoder_layers)
            )
            self.decoder_norm = nn.LayerNorm(inner)
            self.predict = nn.Linear(inner, patch)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, SpectralTransformer) and hasattr(module, "mask_token"):
            nn.init.normal_(module.mask_token, std=0.02)

    def forward(
        self,
        flux: Tensor,
        ivar: Tensor,
        start: float,
        mask: PatchMask | None = None,
        decode: bool = True,
        read: bool = False,
    ) -> SpectralOutput:
        """Encode spectra, and predict hidden patches if a mask hides some; with `read`, the spectrum behind each.

        flux, ivar: (B, n_pix) float32, ivar 0 where invalid; start: log10 of the first pixel's wavelength / A
        """
        pixels = _Pixels(flux, ivar, self.config.patch_size)
        positions = self._positions(pixels.n_patches, start, flux.device)
        layers = self._encode(pixels, positions, mask)
        tokens = layers[-1]
        used = (pixels.valid if mask is None else mask.used)[..., None].to(tokens.dtype)
        means = [(layer * used).sum(dim=1) / used.sum(dim=1).clamp(min=1) for layer in layers]
        output = SpectralOutput(embedding=torch.cat(means, dim=1), tokens=tokens)
        if read:
            hidden = F.gelu(self.readout_in(means[-1]))
            output.prediction = 1 + READOUT_SCALE * self.readout_out(hidden).float()
        elif mask is not None and decode:
            predicted = self._decode(tokens, positions, mask, pixels)
            output.prediction = pixels.restore(predicted)
            output.loss = pixels.loss(predicted, mask.hidden, self.config.noise_floor)
        return output

    def _positions(self, n_patches: int, start: float, device: torch.device) -> Tensor:
        """Sines and cosines (P, 2 * POSITION_SCALES) of the patch centres, counted in pixels from 1 A."""
        first = start / self.config.step + (self.config.patch_size - 1) / 2
        centre = first + self.config.patch_size * torch.arange(n_patches, dtype=torch.float64)
        shortest = 2.0 * self.config.patch_size
        periods = shortest * (LONGEST_PERIOD / shortest) ** torch.linspace(0, 1, POSITION_SCALES, dtype=torch.float64)
        phase = 2 * math.pi * centre[:, None] / periods
        return torch.cat([phase.sin(), phase.cos()], dim=1).to(device, torch.float32)

    def _encode(self, pixels: _Pixels, positions: Tensor, mask: PatchMask | None) -> list[Tensor]:
        """Visible patches (B, V, width), all valid ones without a mask, after each of the layers that are pooled."""
        x = self.patch_embed(pixels.features.to(self.dtype)) + self.position_embed(positions.to(self.dtype))
        used = pixels.valid
        if mask is not None:
            x = x.gather(1, mask.visible[..., None].expand(-1, -1, x.shape[-1]))
            used = mask.used
        x = torch.cat([self.statistics_embed(pixels.statistics.to(self.dtype))[:, None], x], dim=1)
        keys = None
        if torch.compiler.is_exporting() or not bool(used.all()):  # a program for any batch cannot look at this one
            keys = F.pad(used, (1, 0), value=True)[:, None, None]  # the statistics token is always there
        found = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, keys)
            if number in self.config.pooled_layers:
                found.append(self.norm(x)[:, 1:])
        return found

    def _decode(self, tokens: Tensor, positions: Tensor, mask: PatchMask, pixels: _Pixels) -> Tensor:
        encoded = self.decoder_embed(tokens)
        x = self.mask_token.to(encoded.dtype).expand(len(tokens), pixels.n_patches, -1)
        place = mask.visible[..., None].expand_as(encoded)
        # padding points at patches that are hidden or empty: those keep the mask token
        kept = torch.where(mask.used[..., None], encoded, x.gather(1, place))
        x = x.scatter(1, place, kept) + self.decoder_position(positions.to(encoded.dtype))
        keys = None if bool(pixels.valid.all()) else pixels.valid[:, None, None]
        for block in self.decoder_blocks:
            x = block(x, keys)
        return self.predict(self.decoder_norm(x)).float()  # (B, P, patch)


def valid_patches(ivar: Tensor, patch_size: int) -> Tensor:
    """(B, P) True for patches with at least one valid pixel of ivar (B, n_pix)."""
    filled = F.pad(ivar, (0, -ivar.shape[1] % patch_size))
    return (filled.unflatten(1, (-1, patch_size)) > 0).any(dim=2)


class _Pixels:
    """A batch cut into patches: padded, standardised, with what is needed to undo both."""

    def __init__(self, flux: Tensor, ivar: Tensor, patch_size: int) -> None:
        self.n_pix = flux.shape[1]
        good = ivar > 0
        count = good.sum(dim=1, keepdim=True).clamp(min=1)
        self.mean = (flux * good).sum(dim=1, keepdim=True) / count
        centred = (flux - self.mean) * good
        self.scatter = (centred.square().sum(dim=1, keepdim=True) / count).sqrt().clamp(min=1e-4)
        self.statistics = torch.cat([self.mean - 1, self.scatter.log10()], dim=1)
        # the last patch is filled up with invalid pixels, not dropped
        filling = -self.n_pix % patch_size
        self.value = F.pad(centred / self.scatter, (0, filling)).unflatten(1, (-1, patch_size))
        self.good = F.pad(good, (0, filling)).unflatten(1, (-1, patch_size))
        self.ivar = F.pad(ivar, (0, filling)).unflatten(1, (-1, patch_size))
        self.valid = valid_patches(ivar, patch_size)
        self.features = torch.cat([self.value, self.good.to(flux.dtype)], dim=2)  # (B, P, 2 * patch)
        self.n_patches = self.valid.shape[1]

    def restore(self, predicted: Tensor) -> Tensor:
        """Flux (B, n_pix) from standardised patches (B, P, patch)."""
        return predicted.flatten(1)[:, : self.n_pix] * self.scatter + self.mean

    def loss(self, predicted: Tensor, hidden: Tensor, floor: float) -> Tensor:
        """Mean of error^2 / (noise^2 + floor^2) over the valid pixels of hidden patches."""
        counted = self.good & hidden[..., None]
        error = (predicted - self.value) * self.scatter[..., None]
        weight = self.ivar / (1.0 + self.ivar * floor**2) * counted
        return (weight * error.square()).sum() / counted.sum().clamp(min=1)


AutoConfig.register(SpectralConfig.model_type, SpectralConfig, exist_ok=True)
AutoModel.register(SpectralConfig, SpectralTransformer, exist_ok=True)
