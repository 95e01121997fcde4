"""Networks of one shape that are trained and evaluated as one batched program.

Each member stays a plain module that can be saved, merged or wrapped by peft; their parameters are stacked and the
forward pass of one of them is mapped over the stack (torch.func), or where they encode spectra, called in turn.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from heads.encoder import EncodedNetwork

ROWS_AT_ONCE = 1024


class Ensemble:
    """E modules of one shape, (B, d) -> (m, B, k, 2) each.

    Only parameters that require a gradient are trained, and batch statistics only move with `statistics`.
    """

    def __init__(self, members: Sequence[nn.Module], *, statistics: bool = False) -> None:
        self.members = list(members)
        parameters, buffers = stack_module_state(self.members)
        wanted = {name for name, value in self.members[0].named_parameters() if value.requires_grad}
        self.trained = {name: value.detach() for name, value in parameters.items() if name in wanted}
        for value in self.trained.values():
            value.requires_grad_(True)
        self.fixed = {name: value.detach() for name, value in parameters.items() if name not in wanted}
        self.buffers = buffers
        self._statistics = statistics
        self._shape = copy.deepcopy(self.members[0]).to("meta")

    def __len__(self) -> int:
        return len(self.members)

    def __call__(self, x: Tensor, *, training: bool = False) -> Tensor:
        """Outputs (E, m, B, k, 2) of features (E, B, d), each member's own, or (B, d), the same for all."""
        self._shape.train(training)
        if training and not self._statistics:
            for module in self._shape.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.eval()
        parameters = {**self.trained, **self.fixed}
        own = 0 if x.ndim == 3 else None
        if isinstance(self._shape, EncodedNetwork):  # its tokens depend on the spectra, and cannot be mapped over
            rows = x if x.ndim == 3 else x.expand(len(self), *x.shape)
            return torch.stack(
                [self._one(_of(i, parameters), _of(i, self.buffers), rows[i]) for i in range(len(self))]
            )
        run = vmap(self._one, in_dims=(0, 0, own), randomness="different")
        outputs: Tensor = run(parameters, self.buffers, x)
        return outputs

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._shape, (parameters, buffers), (x,))
        return outputs

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Final outputs (E, n, k, 2) of features (n, d), a part at a time."""
        parts = [self(part)[:, 0] for part in x.split(ROWS_AT_ONCE)]
        return torch.cat(parts, dim=1)

    def state(self) -> dict[str, Tensor]:
        """A copy of all that training changes, (E, ...) each."""
        moving = self.buffers if self._statistics else {}
        return {name: value.detach().clone() for name, value in (*self.trained.items(), *moving.items())}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Put a state back."""
        for name, value in state.items():
            (self.trained if name in self.trained else self.buffers)[name].copy_(value)

    def parameters(self) -> Iterator[Tensor]:
        """What is trained."""
        return iter(self.trained.values())

    @torch.no_grad()
    def write_back(self) -> None:
        """Give every member its own parameters and statistics."""
        for number, member in enumerate(self.members):
            own = dict(member.named_parameters())
            for name, value in self.trained.items():
                own[name].copy_(value[number])
            statistics = dict(member.named_buffers())
            if self._statistics:
                for name, value in self.buffers.items():
                    statistics[name].copy_(value[number])
            member.eval()


def _of(number: int, stacked: dict[str, Tensor]) -> dict[str, Tensor]:
    """What one member has of a stack."""
    return {name: value[number] for name, value in stacked.items()}
