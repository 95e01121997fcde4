"""Loss landscapes: how the error of a head changes around its weights along two random directions.

Directions are normalised filter by filter (Li et al. 2018, arXiv:1712.09913): each row of a matrix as long as the
row of weights that it is added to, biases and batch statistics left alone, so that landscapes of networks of other
scales can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from heads.sample import features

if TYPE_CHECKING:
    from heads.bundle import Bundle
    from heads.head import Head
    from heads.sample import Sample

Float = NDArray[np.float64]
REACH = 1.0  # in units of the weights, to either side


def steps(count: int) -> Float:
    """Where the landscape is looked at along either direction, (count,)."""
    return np.linspace(-REACH, REACH, count)


def landscape_of(head: Head | Bundle, sample: Sample, reference: Float, count: int, seed: int) -> NDArray[np.float32]:
    """Squared errors (count, count, n) of the standardised labels, a mean over labels, of each star.

    sample: of n stars; reference: (n, k), their labels, NaN where unknown. Of the first member; empty for a bundle,
    whose parts are landscapes of their own.
    """
    from heads.head import Head

    if not isinstance(head, Head):
        return np.zeros((0, 0, 0), dtype=np.float32)
    module: nn.Module = head.members[0].eval()
    x = torch.from_numpy(features(sample.blocks, head.scalings))
    y = torch.as_tensor((reference - head.label_scaling.mean) / head.label_scaling.scatter, dtype=torch.float32)
    known = torch.isfinite(y)
    weights = {name: value for name, value in module.named_parameters() if value.ndim > 1}
    generator = torch.Generator().manual_seed(seed)
    one, other = ({name: _direction(value.detach(), generator) for name, value in weights.items()} for _ in range(2))
    found = np.empty((count, count, len(x)), dtype=np.float32)
    with torch.no_grad():
        for i, a in enumerate(steps(count).tolist()):
            for j, b in enumerate(steps(count).tolist()):
                moved = {name: value + a * one[name] + b * other[name] for name, value in weights.items()}
                value = functional_call(module, moved, (x,))[0, ..., 0]  # (n, k) of the answer
                error = torch.where(known, (value - torch.where(known, y, 0.0)).square(), 0.0)
                found[i, j] = (error.sum(dim=1) / known.sum(dim=1).clamp(min=1)).numpy()
    return found


def _direction(weight: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(weight.shape, generator=generator)
    axes = tuple(range(1, weight.ndim))
    return drawn * (weight.norm(dim=axes, keepdim=True) / drawn.norm(dim=axes, keepdim=True).clamp(min=1e-12))
