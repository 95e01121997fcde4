"""The whole way from LAMOST files to a finished store, against a script with SpecCLIP's own steps (plain.py).

Simulated gzip files, one a star, in the page cache; the built-in model; the same threads; each in this process, where
all libraries are loaded, and as a command of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.speed import Row, median_seconds
from benchmarks.speed.plain import LAYERS, PlainEncoder, embed_files
from benchmarks.speed.prepare import files_of
from embed.run import EmbedOptions, embed
from stores.embeddings import EmbeddingStore
from stores.simulate.simulate import SimulateOptions, simulate

N = 128
PLAIN, PLAIN_COMMAND = "plain script with SpecCLIP's steps", "plain script, as a command"
OWN, COMMAND = "files to store", "embed-spectra, as a command"
REFERENCES = {PLAIN: "", OWN: PLAIN, PLAIN_COMMAND: "", COMMAND: PLAIN_COMMAND}


def measure(repeats: int) -> list[Row]:
    """Seconds per spectrum of N files; start-up and the loading of libraries count in the commands alone."""
    with tempfile.TemporaryDirectory() as name:
        return _measured(repeats, Path(name))


def _measured(repeats: int, folder: Path) -> list[Row]:
    simulate(SimulateOptions(survey="lamost", n=N, out=folder / "files", seed=1, catalogues=False))
    spectra = folder / "files" / "spectra"
    files = files_of(folder / "files", ("*.fits.gz",))
    torch.manual_seed(0)
    encoder = PlainEncoder(LAYERS).eval()
    made: list[Path] = []

    def out() -> Path:
        made.append(folder / f"{len(made)}.zarr")  # a finished store would not be made again
        return made[-1]

    def whole() -> None:
        embed(EmbedOptions(survey="lamost", inputs=(str(spectra),), out=out(), device="cpu"), quiet=True)

    actions: dict[str, Callable[[], object]] = {
        PLAIN: lambda: embed_files(files, folder / "plain.npy", encoder),
        OWN: whole,
        **commands(spectra, out, folder / "plain.npy"),
    }
    seconds = median_seconds(repeats, *actions.values())
    if any(len(EmbeddingStore.open(path)) != N for path in made):
        raise RuntimeError("a store lacks spectra")
    return [Row(name, taken / N, REFERENCES[name]) for name, taken in zip(actions, seconds, strict=True)]


def commands(spectra: Path, out: Callable[[], Path], plain: Path) -> dict[str, Callable[[], object]]:
    """The same as commands."""

    def run(*arguments: str) -> None:
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        call, place = [sys.executable, "-m", *arguments], Path(__file__).parents[2]
        subprocess.run(call, check=True, capture_output=True, cwd=place, env={**os.environ, **threads})

    own = ("embed.run", "--survey", "lamost", str(spectra), "--device", "cpu", "--out")
    return {
        PLAIN_COMMAND: lambda: run("benchmarks.speed.plain", str(spectra), str(plain)),
        COMMAND: lambda: run(*own, str(out())),
    }
