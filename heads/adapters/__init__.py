"""Strategies that take a head trained on one survey to another: one small file each; this file is the registry.

    @adapter("mine")
    class Mine(Adapter):
        '''What it does, in a line.'''
        def wrap(self, network): ...

A strategy wraps the networks of a head so that nothing changes at first (to the bit), says by `requires_grad` what
may be trained, and where it can, merges the outcome into a plain network. A package of its own adds one by naming
its module under the entry-point group `spectrabridge.adapters`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stores.errors import ModelError, OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from heads.fit import FitOptions, History, Stars, Watch
    from heads.network import HeadNetwork

WEIGHTS = "adapter.safetensors"


class Adapter:
    """A strategy. What a subclass does not change: all gradients off, trained by `heads.fit`, saved as safetensors.

    from_base: whether it starts from a trained head; learns: whether it trains anything
    replays: whether it wants stars of the source survey in its batches
    encodes: whether what it wraps are networks that encode spectra (heads.encoder), not those of the head alone
    """

    name: ClassVar[str]
    from_base: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    replays: ClassVar[bool] = False
    encodes: ClassVar[bool] = False

    @property
    def fit_options(self) -> FitOptions:
        """How it trains."""
        from heads.fit import FitOptions

        return FitOptions(epochs=40, batch_size=64, learning_rate=3e-4, least_steps=100, most_steps=600)

    def wrap(self, network: HeadNetwork) -> nn.Module:
        """The network with what the strategy adds; its outputs are those of the network, to the bit."""
        raise NotImplementedError

    def merge(self, module: nn.Module) -> HeadNetwork | None:
        """A network of the kind that was wrapped, with the same outputs, or None where there is none."""
        return None

    def fit(
        self,
        modules: Sequence[nn.Module],
        stars: Stars,
        held: NDArray[np.bool_],
        seed: int,
        *,
        options: FitOptions,
        replay: Stars | None,
        watch: Watch,
    ) -> History:
        """Train wrapped networks in place."""
        from heads.ensemble import Ensemble
        from heads.fit import fit

        return fit(Ensemble(modules), stars, held, options, seed, replay=replay, watch=watch)

    def own_state(self, module: nn.Module) -> dict[str, Tensor]:
        """What the strategy added or changed, by name."""
        return {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}

    def save(self, module: nn.Module, folder: Path) -> None:
        """Write what the strategy added or changed."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.own_state(module).items()}, folder / WEIGHTS)

    def load(self, network: HeadNetwork, folder: Path) -> nn.Module:
        """The wrapped network as it was saved, in evaluation mode. Raises ModelError for anything else."""
        module = self.wrap(network)
        wanted, found = self.own_state(module), self.read(folder)
        if set(wanted) != set(found) or any(wanted[name].shape != found[name].shape for name in wanted):
            raise ModelError(f"'{folder}' does not hold the weights of the adapter '{self.name}'; write it again.")
        for name, value in wanted.items():
            value.copy_(found[name])
        return module.eval()

    def read(self, folder: Path) -> dict[str, Tensor]:
        """The saved tensors by name."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(folder / WEIGHTS))
        except (OSError, SafetensorError):
            raise ModelError(f"'{folder}' lacks a usable {WEIGHTS}; write the head again.") from None


ADAPTERS: dict[str, Adapter] = {}
BUILT_IN = ("scratch", "zero_shot", "residual", "lora", "lora_encoder", "full", "anchored", "kriging")


def adapter(name: str) -> Callable[[type[Adapter]], type[Adapter]]:
    """Register a strategy under `name`."""

    def register(kind: type[Adapter]) -> type[Adapter]:
        kind.name = name
        ADAPTERS[name] = kind()
        return kind

    return register


def load_adapters() -> dict[str, Adapter]:
    """All strategies: the built-in ones and those of other packages."""
    for module in BUILT_IN:
        import_module(f"heads.adapters.{module}")
    for point in entry_points(group="spectrabridge.adapters"):
        point.load()
    return ADAPTERS


def get_adapter(name: str) -> Adapter:
    """A strategy by name."""
    known = load_adapters()
    if name not in known:
        raise OptionError(f"adapter '{name}' is unknown; known ones are {', '.join(known)}.")
    return known[name]


def frozen(module: Any) -> Any:
    """The module with all gradients off."""
    for value in module.parameters():
        value.requires_grad_(False)
    return module


def count_weights(module: nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many there are."""
    trained = sum(value.numel() for value in module.parameters() if value.requires_grad)
    return trained, sum(value.numel() for value in module.parameters())
