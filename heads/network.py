"""The network of a head: a value and a sigma for each label from blocks of features.

One branch a block, each the perceptron of the field (Linear, BatchNorm, ReLU, Dropout; widths 1024, 512, 64). Several
branches are fused by their own predicted precision, which a gate corrects label by label and star by star: so each
star is read from where it can be read best, whatever its regime.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stores.errors import OptionError

SIGMA_RANGE = (-5.0, 2.0)  # of ln sigma, in units of the label's scatter


@dataclass(frozen=True)
class NetworkOptions:
    """Shape of a head's network.

    blocks: numbers of features of each block; labels: how many it predicts
    """

    blocks: tuple[int, ...]
    labels: int
    widths: tuple[int, ...] = (1024, 512, 64)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.blocks or min(self.blocks) < 1 or self.labels < 1 or not self.widths or min(self.widths) < 1:
            raise OptionError(
                f"a head needs features, labels and widths, not {self.blocks}, {self.labels}, {self.widths}."
            )
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout {self.dropout:g} must be 0 or more and below 1.")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> NetworkOptions:
        return cls(tuple(values["blocks"]), values["labels"], tuple(values["widths"]), values["dropout"])


class Branch(nn.Module):
    """Features of one block -> hidden features (B, widths[-1])."""

    def __init__(self, width: int, options: NetworkOptions) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wider in options.widths:
            layers += [nn.Linear(width, wider), nn.BatchNorm1d(wider), nn.ReLU(), nn.Dropout(options.dropout)]
            width = wider
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.layers(x)
        return hidden


class HeadNetwork(nn.Module):
    """Standardised features (B, sum of blocks) -> outputs (m, B, labels, 2) in standardised label units.

    The last axis holds value and ln sigma; of the m outputs the first is the prediction, the others are those of
    the branches alone, if there are several.
    """

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__()
        self.options = options
        last = options.widths[-1]
        self.branches = nn.ModuleList(Branch(width, options) for width in options.blocks)
        self.readouts = nn.ModuleList(nn.Linear(last, 2 * options.labels) for _ in options.blocks)
        if len(options.blocks) > 1:
            self.gate = nn.Linear(last * len(options.blocks), len(options.blocks) * options.labels)
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    @property
    def hidden_width(self) -> int:
        """Width of `features`."""
        return len(self.options.blocks) * self.options.widths[-1]

    def features(self, x: Tensor) -> Tensor:
        """Hidden features (B, hidden_width)."""
        blocks = x.split(list(self.options.blocks), dim=-1)
        return torch.cat([branch(block) for branch, block in zip(self.branches, blocks, strict=True)], dim=-1)

    def read(self, hidden: Tensor) -> Tensor:
        """Outputs (m, B, labels, 2) of hidden features."""
        parts = hidden.split(self.options.widths[-1], dim=-1)
        outputs = torch.stack([self._bounded(one(part)) for one, part in zip(self.readouts, parts, strict=True)])
        if len(outputs) == 1:
            return outputs
        gate = self.gate(hidden).unflatten(-1, (len(outputs), self.options.labels)).movedim(-2, 0)
        weight = torch.softmax(gate - 2 * outputs[..., 1], dim=0)  # (branches, B, labels), by precision
        fused = (weight[..., None] * outputs).sum(dim=0)
        return torch.cat([fused[None], outputs])

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.features(x))

    def _bounded(self, output: Tensor) -> Tensor:
        value, log_sigma = output.unflatten(-1, (self.options.labels, 2)).unbind(dim=-1)
        low, high = SIGMA_RANGE
        middle, half = (low + high) / 2, (high - low) / 2
        # soft, so that its gradient never vanishes; near 1 at the start
        return torch.stack([value, middle + half * torch.tanh((log_sigma - middle) / half)], dim=-1)


def new_networks(options: NetworkOptions, count: int, seed: int) -> list[HeadNetwork]:
    """Networks with weights that seed and number decide."""
    made = []
    with torch.random.fork_rng(devices=[]):
        for number in range(count):
            torch.manual_seed(seed * 1009 + number)
            made.append(HeadNetwork(options))
    return made


def save_network(network: HeadNetwork, path: Path) -> None:
    """Weights under their plain names: peft renames what it wraps."""
    from safetensors.torch import save_file

    state = {}
    for name, value in network.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = value.contiguous()
    save_file(state, path)


def load_network(options: NetworkOptions, path: Path) -> HeadNetwork:
    """A network as `save_network` left it."""
    from safetensors.torch import load_file

    network = HeadNetwork(options)
    network.load_state_dict(load_file(path))
    return network
