"""Low-rank updates of the Linear layers (Hu et al. 2021, arXiv:2106.09685), made by peft."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from heads.adapters import Adapter, adapter, frozen
from heads.fit import FitOptions
from heads.network import HeadNetwork

RANK, ALPHA = 8, 16


@adapter("lora")
class Lora(Adapter):
    """Train low-rank updates of all Linear layers (rank 8, alpha 16); saved in peft's format."""

    @property
    def fit_options(self) -> FitOptions:
        return replace(super().fit_options, learning_rate=1e-3)

    def wrap(self, network: HeadNetwork) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=layers, lora_dropout=0.0)
        module: Any = get_peft_model(frozen(network), config)
        return module

    def merge(self, module: Any) -> HeadNetwork | None:
        merged: HeadNetwork = module.merge_and_unload()
        return merged

    def save(self, module: Any, folder: Path) -> None:
        module.save_pretrained(folder)

    def load(self, network: HeadNetwork, folder: Path) -> nn.Module:
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            module: nn.Module = PeftModel.from_pretrained(frozen(network), folder)
        return module.eval()
