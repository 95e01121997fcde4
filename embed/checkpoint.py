"""Checkpoints of a training: safetensors and JSON, replaced whole or not at all.

RUN/config.json, model.safetensors    the best model so far, ready for from_pretrained
RUN/last/                             the last model, optimizer.safetensors and training.json
RUN/training.json                     a copy of the last one, to look at
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stores.atomic import full_disk_told
from stores.errors import ModelError, OptionError

if TYPE_CHECKING:
    import torch

    from embed.model import SpectralTransformer

BEST = ("config.json", "model.safetensors")


class Checkpoint:
    """The checkpoints in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last = folder / "last"
        self._old = folder / "last.old"

    @property
    def last(self) -> Path:
        """The newest whole checkpoint; while one is being replaced that is the one before."""
        return self._last if self._last.exists() else self._old

    @property
    def exists(self) -> bool:
        return (self.last / "training.json").is_file()

    def refuse(self, *, resume: bool) -> None:
        """Raise an OptionError if the folder holds what is not this run's to replace, or nothing to resume."""
        if self.exists and resume:
            return
        if self.exists:
            raise OptionError(f"'{self.folder}' holds a run already; add --resume to go on or choose another --out.")
        if self.folder.exists() and not self.folder.is_dir():
            raise OptionError(f"'{self.folder}' is a file; name a folder with --out.")
        # a run that was killed in its first save has left only what it was building
        if self.folder.is_dir() and any(self.folder.iterdir()) and not any(self.folder.glob("last.building-*")):
            raise OptionError(f"'{self.folder}' holds other files and no run; choose another --out.")
        if resume:
            raise OptionError(f"'{self.folder}' holds no checkpoint to resume; leave --resume out.")

    def save(
        self, model: SpectralTransformer, optimizer: torch.optim.Optimizer, state: dict[str, Any], best: bool
    ) -> None:
        """Write `last`, and the model as the best one if it is."""
        with full_disk_told(self.folder):
            try:
                self._save(model, optimizer, state, best)
            except BaseException:
                if not self.exists:  # without a checkpoint they would look like another's files
                    for name in BEST:
                        (self.folder / name).unlink(missing_ok=True)
                raise

    def _save(
        self, model: SpectralTransformer, optimizer: torch.optim.Optimizer, state: dict[str, Any], best: bool
    ) -> None:
        from safetensors.torch import save_file

        building = self.folder / f"last.building-{os.getpid()}"
        for left in self.folder.glob("last.building-*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            model.save_pretrained(building)
            save_file(_optimizer_tensors(optimizer, model), building / "optimizer.safetensors")
            (building / "training.json").write_text(json.dumps(state, indent=1))
            if best:
                for name in BEST:
                    _replace_file(building / name, self.folder / name)
            if self._last.exists():
                shutil.rmtree(self._old, ignore_errors=True)
                self._last.rename(self._old)
            building.rename(self._last)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(self._old, ignore_errors=True)
        _replace_file(self._last / "training.json", self.folder / "training.json")

    def load(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """step, history and seconds of the last checkpoint; refuses one of another recipe."""
        state = json.loads((self.last / "training.json").read_text())
        before = {"objective": "masked", **state["recipe"]}  # there was no other once
        idle = ("alignment", "temperature") if recipe.get("objective") == "masked" else ()
        for name, value in json.loads(json.dumps(recipe)).items():
            if name not in idle and before.get(name) != value:
                raise OptionError(
                    f"'{self.folder}' was trained with {name} = {before.get(name)!r}, not {value!r}; resume with the "
                    "same options or choose another --out."
                )
        return {name: state[name] for name in ("step", "history", "seconds")}

    def load_model(self) -> SpectralTransformer:
        """The model of the last checkpoint."""
        import torch

        from embed.model import SpectralTransformer

        model: SpectralTransformer = SpectralTransformer.from_pretrained(self.last, dtype=torch.float32)
        return model.train()

    def load_optimizer(self, optimizer: torch.optim.Optimizer, model: SpectralTransformer) -> None:
        """Put the last checkpoint's moments into the optimizer."""
        from safetensors.torch import load_file

        tensors = load_file(self.last / "optimizer.safetensors")
        for name, parameter in model.named_parameters():
            try:
                optimizer.state[parameter] = {key: tensors[f"{key}/{name}"] for key in _MOMENTS}
            except KeyError:
                raise ModelError(
                    f"'{self.last}' lacks the optimizer's state of {name}; start again without --resume."
                ) from None


_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def _optimizer_tensors(optimizer: Any, model: SpectralTransformer) -> dict[str, torch.Tensor]:
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    return {
        f"{key}/{name}": inner.state[parameter][key].contiguous()
        for name, parameter in model.named_parameters()
        for key in _MOMENTS
    }


def _replace_file(source: Path, target: Path) -> None:
    """Copy a file so that `target` is either the old one or the new one."""
    partial = target.with_name(target.name + ".partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
