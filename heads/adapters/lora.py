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
from stores.errors import ModelError

RANK, ALPHA = 8, 16
FILES = ("adapter_config.json", "adapter_model.safetensors")


@adapter("lora")
class Lora(Adapter):
    """Train low-rank updates of all Linear layers (rank 8, alpha 16); saved in peft's format."""

    @property
    def fit_options(self) -> FitOptions:
        return replace(super().fit_options, learning_rate=1e-3)

    def wrap(self, network: HeadNetwork) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        layers = [name for name in names if "blocks" in name.split(".")] or names  # of a transformer no others
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
        from safetensors import SafetensorError

        for file in FILES:
            if not (folder / file).is_file():  # peft would look for it in the internet
                raise ModelError(f"'{folder}' lacks a usable {file}; write the head again.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of weights that are lacking or left over
                module: nn.Module = PeftModel.from_pretrained(frozen(network), folder)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError, UserWarning):
            raise ModelError(
                f"'{folder}' does not hold the weights of the adapter '{self.name}'; write it again."
            ) from None
        return module.eval()
