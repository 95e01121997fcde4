"""Which patches the encoder sees and which it has to predict."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PatchMask:
    """A choice of patches for a batch of B spectra with P patches each.

    visible: (B, V) int64, indices of the patches that the encoder sees, padded to the longest row
    used: (B, V) bool, False where `visible` is padding
    hidden: (B, P) bool, True for patches to be predicted; patches without a valid pixel are neither
    """

    visible: Tensor
    used: Tensor
    hidden: Tensor


def random_mask(valid: Tensor, ratio: float, generator: torch.Generator) -> PatchMask:
    """Hide `ratio` of each spectrum's valid patches at random.

    The random numbers come from a CPU generator whatever the device, so that a seed means the same everywhere.
    """
    n_patches = valid.shape[1]
    score = torch.rand(valid.shape, generator=generator).to(valid.device)
    order = torch.argsort(score.masked_fill(~valid, 2.0), dim=1)  # (B, P), patches without data last
    kept = torch.ceil(valid.sum(dim=1) * (1.0 - ratio)).long().clamp(min=1)  # (B,)
    longest = int(kept.max())
    visible = order[:, :longest]
    used = torch.arange(longest, device=valid.device) < kept[:, None]
    used &= valid.gather(1, visible)
    seen = torch.zeros(len(valid), n_patches, dtype=torch.bool, device=valid.device).scatter(1, visible, used)
    return PatchMask(visible, used, valid & ~seen)
