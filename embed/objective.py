"""What pre-training asks of a model: `masked` to predict hidden patches, `views` to see through the instrument.

`views` shows the model two views of every spectrum (`embed.augment`), each with patches hidden, and asks two things
of their embeddings: that the spectrum behind the view can be read from the embedding alone, without the view's
noise, line spread, continuum error and gaps, and that the two embeddings are alike and unlike those of other stars
(the normalised temperature-scaled cross entropy of Chen et al. 2020, arXiv:2002.05709).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embed.augment import Augmentation
from embed.masking import random_mask
from embed.model import valid_patches

READ_FLOOR = 0.01  # flux error that is as good as none when a spectrum is read from its embedding


@dataclass(frozen=True)
class Masked:
    """Predict hidden patches from the others (He et al. 2022, arXiv:2111.06377).

    start: log10 of the grid's first wavelength / A; mask_ratio: share of patches to hide
    """

    start: float
    mask_ratio: float

    def loss(self, model: nn.Module, config: Any, flux: Tensor, ivar: Tensor, generator: torch.Generator) -> Tensor:
        """Scalar loss of flux, ivar (B, n_pix); `model` may be wrapped, `config` is its SpectralConfig.

        All that is random in it comes from the generator.
        """
        mask = random_mask(valid_patches(ivar, config.patch_size), self.mask_ratio, generator)
        loss: Tensor = model(flux, ivar, self.start, mask).loss
        return loss


@dataclass(frozen=True)
class Views:
    """Read the spectrum behind two views of it from their embeddings, and bring those together.

    alignment: weight of the second against the first; temperature: of its cosine similarities
    """

    start: float
    mask_ratio: float
    alignment: float
    temperature: float
    augmentation: Augmentation = field(default_factory=Augmentation)

    def loss(self, model: nn.Module, config: Any, flux: Tensor, ivar: Tensor, generator: torch.Generator) -> Tensor:
        """As that of `Masked`."""
        with torch.autocast(flux.device.type, enabled=False):  # half precision would add noise that ivar does not know
            views = [self.augmentation(flux, ivar, generator) for _ in range(2)]
        seen, seen_ivar = (torch.cat(parts) for parts in zip(*views, strict=True))
        mask = random_mask(valid_patches(seen_ivar, config.patch_size), self.mask_ratio, generator)
        output = model(seen, seen_ivar, self.start, mask, decode=False, read=True)
        reading = reading_loss(output.prediction, flux.repeat(2, 1), ivar.repeat(2, 1))
        last = output.embedding[:, -config.width :]  # of the last layer, which is what the spectrum is read from
        return reading + self.alignment * alignment_loss(last.float(), self.temperature)


def reading_loss(predicted: Tensor, flux: Tensor, ivar: Tensor) -> Tensor:
    """Mean over spectra of log(1 + mean of error^2 / (noise^2 + READ_FLOOR^2)); all (B, n_pix).

    The logarithm makes an improvement of a weak-lined spectrum count as much as the same factor in a strong-lined one.
    """
    weight = ivar / (1 + ivar * READ_FLOOR**2)
    count = (ivar > 0).sum(dim=1).clamp(min=1)
    return torch.log1p((weight * (predicted - flux).square()).sum(dim=1) / count).mean()


def alignment_loss(embedding: Tensor, temperature: float) -> Tensor:
    """Cross entropy of telling an embedding's partner among all others; rows i and B + i of (2 B, d) are partners."""
    unit = F.normalize(embedding, dim=1)
    similarity = unit @ unit.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -torch.inf)
    half = len(unit) // 2
    partner = torch.arange(2 * half, device=unit.device).roll(half)
    return F.cross_entropy(similarity, partner)
