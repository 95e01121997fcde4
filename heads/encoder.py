"""Heads that make their embeddings themselves, from spectra, so that the model behind them can be trained with them.

Any head that reads embeddings can be taken for one (`encoding`): its predictions stay, but it reads flux and ivar.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heads.library import ask_of_model
from heads.scaling import LIMIT, Scaling
from stores.errors import OptionError

if TYPE_CHECKING:
    from heads.head import Head

ENCODED = "encoded"  # the input of such heads
ROWS_AT_ONCE = 256  # that are encoded


class EncodedNetwork(nn.Module):
    """Spectra (B, 2 n_pix), flux and then ivar -> outputs (m, B, labels, 2) of a head's network.

    encoder: flux, ivar (B, n_pix) -> embeddings (B, d); scalings: of the blocks of features that the network reads
    """

    def __init__(self, encoder: nn.Module, scalings: Mapping[str, Scaling], head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.scalings, self.head = encoder, dict(scalings), head

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.features(x))
        return outputs

    def features(self, x: Tensor) -> Tensor:
        """Standardised features (B, sum of d), as those of stores are."""
        flux, ivar = x.chunk(2, dim=-1)
        parts = []
        for block, scaling in self.scalings.items():
            values, valid = flux, ivar > 0
            if block == "embedding":
                pairs = zip(flux.split(ROWS_AT_ONCE), ivar.split(ROWS_AT_ONCE), strict=True)
                values = torch.cat([self.encoder(*pair) for pair in pairs])
                valid = (values != 0).any(dim=-1, keepdim=True)
            mean, scatter = torch.from_numpy(scaling.mean), torch.from_numpy(scaling.scatter)
            scaled = ((values - mean) / scatter).clamp(-LIMIT, LIMIT)
            parts.append(torch.where(valid, scaled, 0.0).to(x.dtype))
        return torch.cat(parts, dim=-1)


def source_features(members: Sequence[nn.Module], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (n, d) by the model as it was before it was adapted; x as it is where the members encode nothing.

    Whether a spectrum is unlike the others is told by these, in which the stars of the source survey are known too.
    """
    first = members[0]
    if not isinstance(first, EncodedNetwork):
        return x
    with torch.no_grad(), getattr(first.encoder, "disable_adapter", nullcontext)():
        found: NDArray[np.float32] = first.features(torch.from_numpy(x)).numpy()
    return found


def encoding(base: Head, where: str | None = None) -> Head:
    """A head of embeddings as one of spectra; one that encodes already as it is.

    where: its model lies, if not where its name says

    Raises OptionError for a head that reads no embeddings, ModelError if its model is not to be had.
    """
    if base.identity["input"] == ENCODED:
        return base
    if "embedding" not in base.scalings:
        raise OptionError(
            f"a head that reads the input {base.identity['input']} has no model behind it; start from one that reads "
            "embedding or fused."
        )
    members = with_encoders(base.members, base.scalings, base.identity, where)
    return replace(base, members=members, identity={**base.identity, "input": ENCODED})


def with_encoders(
    networks: Sequence[nn.Module], scalings: Mapping[str, Scaling], identity: Mapping[str, Any], where: str | None
) -> list[nn.Module]:
    """Networks behind the model of their head's identity, each with one of its own."""
    name, fingerprint = identity["model"]["name"], identity["model"]["fingerprint"]
    encoder = ask_of_model("encoder", name, fingerprint, where, identity["grid"]["start"])
    return [EncodedNetwork(copy.deepcopy(encoder), scalings, network) for network in networks]
