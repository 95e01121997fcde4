"""Models by name: built in, in a folder, on a hub, or SpecCLIP's. Only safetensors are read, but for SpecCLIP's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stores.errors import ModelError
from stores.grid import Grid
from stores.prepare import RECIPE, Preparation
from stores.provenance import file_checksum, fingerprint

if TYPE_CHECKING:
    import torch

BUILT_IN = Path(__file__).parent / "models"
DEFAULT = "tiny-views"
WEIGHTS = "model.safetensors"
SPECCLIP = "specclip:"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def load_model(name: str) -> LoadedModel:
    """A pre-trained model.

    name: built-in, a folder from embed-pretrain, a hub id such as USER/MODEL, or specclip: and a path or hub id
    """
    if name.startswith(SPECCLIP):
        from embed.specclip import load_specclip

        return load_specclip(name)
    folder = _folder(name)
    _settings(name, folder)
    return _load_spectral(name, folder)


def model_place(name: str) -> str:
    """The same model by a name that another process takes, who is at home in another folder."""
    if name.startswith(SPECCLIP):
        path = Path(name.removeprefix(SPECCLIP))
        return f"{SPECCLIP}{path.absolute()}" if path.exists() else name
    return name if name in built_in_models() else str(_folder(name).absolute())


def describe_model(name: str) -> ModelDescription | None:
    """What can be said of a model without torch; None where its weights have to be seen or fetched for that.

    name: as of `load_model`
    """
    if name.startswith(SPECCLIP) or (name not in built_in_models() and not Path(name).exists() and _is_hub_id(name)):
        return None
    folder = _folder(name)
    settings = _settings(name, folder)
    preprocessing, grid, width = (settings.get(key) for key in ("preprocessing", "grid", "width"))
    if not (isinstance(preprocessing, dict) and isinstance(grid, str) and isinstance(width, int)):
        return None
    _check_recipe(name, preprocessing)
    return ModelDescription(
        name=_short(name),
        fingerprint=_fingerprint(folder),
        preprocessing=preprocessing,
        grid=Grid.parse(grid),
        width=width * len(settings.get("pooled_layers", [0])),  # there was no choice once
    )


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What is known of a model before its weights are in memory.

    preprocessing: how the spectra it was trained on were prepared, with its fingerprint
    variant: which of the published forms this is, where there are several
    fixed_grid: it embeds spectra on its own grid and on no other
    """

    name: str
    fingerprint: str
    preprocessing: dict[str, Any]
    grid: Grid
    width: int
    variant: str | None = None
    fixed_grid: bool = False

    @property
    def preparation(self) -> Preparation:
        return Preparation.from_attributes(self.preprocessing)

    @property
    def preparation_fingerprint(self) -> str:
        return str(self.preprocessing["fingerprint"])


@dataclass(frozen=True, kw_only=True)
class LoadedModel(ModelDescription):
    """A model's weights in memory, ready to embed.

    model: called with flux, ivar (B, n_pix) and the start of their grid; what it returns has an embedding (B, width)
    """

    model: torch.nn.Module

    def attributes(self) -> dict[str, str | int]:
        """What an embedding store says of the model that made it."""
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        known: dict[str, str | int] = {"name": self.name, "fingerprint": self.fingerprint, "width": self.width}
        return {**known, "weights": weights} | ({} if self.variant is None else {"variant": self.variant})


def _settings(name: str, folder: Path) -> dict[str, Any]:
    """The settings in the folder of a whole model, from its config.json. Raises ModelError."""
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"'{name}' is not a model: it has no config.json; name a folder from embed-pretrain.")
    if not (folder / WEIGHTS).is_file():
        pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLES]
        if pickles:
            raise ModelError(
                f"'{name}' offers its weights as a pickle ({pickles[0]}), which could run any code; "
                "convert them to safetensors."
            )
        raise ModelError(f"'{name}' is not a whole model: it has no {WEIGHTS}; copy it again.")
    try:
        settings = dict(json.loads(config.read_text()))
    except (ValueError, TypeError):
        raise ModelError(f"'{config}' is not valid JSON; copy the model again.") from None
    if settings.get("model_type") != "spectrabridge":
        raise ModelError(f"'{name}' is a model of type '{settings.get('model_type')}', not a spectrabridge model.")
    return settings


def _check_recipe(name: str, preprocessing: Any) -> None:
    if not preprocessing:
        raise ModelError(f"'{name}' does not say how its training spectra were prepared; pre-train it again.")
    if preprocessing.get("recipe") != RECIPE:
        raise ModelError(
            f"'{name}' was trained on spectra of preparation recipe {preprocessing.get('recipe')}, and this version "
            f"of spectrabridge prepares by recipe {RECIPE}; use the version that the model was trained with."
        )


def _short(name: str) -> str:
    """The name a store gives a model: that of its folder, without where it lies."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _fingerprint(folder: Path) -> str:
    return fingerprint([file_checksum(folder / WEIGHTS), (folder / "config.json").read_text()])


def _load_spectral(name: str, folder: Path) -> LoadedModel:
    """A SpectralTransformer from a folder with its config.json and weights."""
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    from embed.model import SpectralTransformer

    logging.disable_progress_bar()
    try:
        loaded: Any = SpectralTransformer.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except ModelError as error:
        raise ModelError(f"the config.json of '{name}' was changed: {error}") from None
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the weights of '{name}' cannot be loaded ({reason}); copy the model again.") from None
    model, found = loaded
    wrong = sorted(str(key) for kind in ("missing_keys", "unexpected_keys") for key in found[kind])
    if wrong:
        raise ModelError(f"the weights of '{name}' do not fit its config.json ({wrong[0]}); copy the model again.")
    preprocessing = model.config.preprocessing
    _check_recipe(name, preprocessing)
    return LoadedModel(
        name=_short(name),
        model=model.eval(),
        fingerprint=_fingerprint(folder),
        preprocessing=preprocessing,
        grid=Grid.parse(model.config.grid),
        width=model.config.embedding_width,
    )


def built_in_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in BUILT_IN.glob("*/config.json"))


def _folder(name: str) -> Path:
    if name in built_in_models():
        return BUILT_IN / name
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        if path.suffix in PICKLES:
            raise ModelError(
                f"'{name}' is a pickle, which could run any code; name a folder with config.json and {WEIGHTS}, or "
                f"{SPECCLIP}{name} if it is SpecCLIP's."
            )
        raise ModelError(f"'{name}' is a file; name the folder with its config.json and {WEIGHTS}.")
    if _is_hub_id(name):
        return _from_hub(name)
    known = ", ".join(built_in_models())
    raise ModelError(f"model '{name}' is unknown: it is no folder, no hub id, and not built in ({known}).")


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/"))


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    return fetch(name, lambda: snapshot_download(name, allow_patterns=["config.json", WEIGHTS]))


def fetch(name: str, download: Callable[[], str]) -> Path:
    """What `download` fetches from the hub for the model of this name."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(download())
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError):
        raise ModelError(
            f"model '{name}' is not to be found here and could not be fetched from the hub; check the name and the "
            "network."
        ) from None
