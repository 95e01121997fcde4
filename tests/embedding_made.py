"""What embed-spectra is given in tests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from embed.model import SpectralTransformer
from embed.run import EmbedOptions
from stores.grid import Grid
from stores.spectra import SpectraStore

LRS = Grid.parse("lrs")
SCRIPT = Path(__file__).resolve().parents[1] / "embed" / "run.py"


def options(spectra: Path, model: Path, out: Path, **changes: object) -> EmbedOptions:
    base = EmbedOptions(inputs=(str(spectra),), model=str(model), out=out, dtype="float32", device="cpu")
    return replace(base, **changes)  # type: ignore[arg-type]


def direct(spectra: Path, model: Path) -> np.ndarray:
    """Embeddings of a whole store by one plain call of the model."""
    store = SpectraStore.open(spectra)
    network = SpectralTransformer.from_pretrained(model).eval()
    with torch.no_grad():
        flux, ivar = (torch.from_numpy(store.read(name)) for name in ("flux", "ivar"))
        return network(flux, ivar, store.grid.start).embedding.numpy()


def start(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(SCRIPT), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
