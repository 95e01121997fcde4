"""Floating-point operations of a model, counted on a real pass by what its layers are given.

A linear layer from n to m numbers takes 2 r n m for r rows, and as much again for each gradient: that of its weights,
and that of its input where one is wanted. Attention of B spectra with T tokens of width D takes 4 B T^2 D (queries by
keys, weights by values), and twice that for its gradients. All else (normalisation, GELU, softmax, the loss, the
optimiser) counts as nothing, and so does what a fused kernel computes a second time. Tokens that only fill a batch up
count: the card has to multiply them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from embed.model import Block


@dataclass
class Flops:
    """Operations of the passes so far; backward: those that their gradients would take."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted(model: nn.Module) -> Iterator[Flops]:
    """Count the operations of all passes through a model that is not compiled."""
    found = Flops()

    def linear(layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        operations = 2 * output.numel() * int(layer.in_features)  # type: ignore[arg-type]
        found.forward += operations
        found.backward += operations * (2 if given[0].requires_grad else 1)

    def attention(_: nn.Module, given: tuple[Any, ...], __: Tensor) -> None:
        batch, tokens, width = given[0].shape
        found.forward += 4 * batch * tokens**2 * width
        found.backward += 8 * batch * tokens**2 * width

    hooks = [module.register_forward_hook(linear) for module in model.modules() if isinstance(module, nn.Linear)]
    hooks += [module.register_forward_hook(attention) for module in model.modules() if isinstance(module, Block)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
