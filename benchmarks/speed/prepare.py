"""Preparation on one core: from survey files to rows of a store, where the time goes, and against the encoder.

Files are simulated ones in the surveys' own formats: LAMOST has a gzip file a star, DESI many spectra a coadd.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import Row, median_seconds
from embed.embedder import Embedder
from embed.load import DEFAULT, load_model
from stores.grid import Grid
from stores.prepare import Preparation, prepare
from stores.simulate.simulate import SimulateOptions, simulate
from stores.spectra import SpectraStore, spectra_columns, spectra_details, spectra_values
from stores.spectrum import SpectrumBatch
from stores.surveys import get_survey

N = 128
SURVEYS = ("lamost", "desi")
OWN = f"embedding by {DEFAULT}, the same core"


def measure(repeats: int) -> list[Row]:
    """Seconds per spectrum on one core; the reference is what the built-in model's encoder takes there."""
    with tempfile.TemporaryDirectory() as folder, one_core():
        return _measured(repeats, Path(folder))


@contextmanager
def one_core() -> Iterator[None]:
    """Keep every thread of this process to one core, whatever the libraries start."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    try:
        if cores:
            os.sched_setaffinity(0, {min(cores)})
        yield
    finally:
        torch.set_num_threads(threads)
        # threads that were started meanwhile are kept to that core too, each by itself
        for thread in os.listdir("/proc/self/task") if cores else ():
            with suppress(ProcessLookupError):  # it has ended since
                os.sched_setaffinity(int(thread), cores)


def _measured(repeats: int, folder: Path) -> list[Row]:
    grid = Grid.parse("lrs")
    actions: dict[str, Callable[[], object]] = {}
    for survey in SURVEYS:
        batches, steps = _steps(survey, folder, grid)
        actions |= steps
    prepared = prepare(batches, grid, Preparation())
    model = load_model(DEFAULT)
    embedder = Embedder(model, grid.start, "cpu", 64)
    flux, ivar = prepared.flux.astype(np.float32), prepared.ivar.astype(np.float32)
    actions = {OWN: lambda: embedder(flux, ivar)} | actions
    seconds = median_seconds(repeats, *actions.values())
    return [Row(name, taken / N, "" if name == OWN else OWN) for name, taken in zip(actions, seconds, strict=True)]


def _steps(survey: str, folder: Path, grid: Grid) -> tuple[list[SpectrumBatch], dict[str, Callable[[], object]]]:
    """What one survey's files go through, as actions to be timed, and what was read from them."""
    simulate(SimulateOptions(survey=survey, n=N, out=folder / survey, seed=1, catalogues=False))
    reader = get_survey(survey)
    files = files_of(folder / survey, reader.files)
    batches = read_all(survey, files)
    values = spectra_values(prepare(batches, grid, Preparation()))
    written = [0]

    def write() -> None:
        written[0] += 1
        write_store(folder / f"{survey}-{written[0]}.zarr", grid, values)

    def whole() -> None:
        prepared = spectra_values(prepare(read_all(survey, files), grid, Preparation()))
        written[0] += 1
        write_store(folder / f"{survey}-{written[0]}.zarr", grid, prepared)

    return batches, {
        f"{survey}: read {len(files)} files": lambda: read_all(survey, files),
        f"{survey}: shift, resample, join, normalise": lambda: prepare(batches, grid, Preparation()),
        f"{survey}: write a store": write,
        f"{survey}: all of it": whole,
    }


def files_of(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files that a simulation wrote into a folder, in order."""
    return sorted({path for pattern in patterns for path in (folder / "spectra").rglob(pattern)})


def read_all(survey: str, files: Sequence[Path]) -> list[SpectrumBatch]:
    """The spectra of files, as an ingest reads them."""
    from stores.surveys import ReadOptions

    read = get_survey(survey).read
    return [read(path, ReadOptions()) for path in files]


def write_store(path: Path, grid: Grid, values: dict[str, Any]) -> None:
    """A finished store of prepared spectra, in one shard."""
    n = len(values["id"])
    store = SpectraStore.create(
        path,
        spectra_columns(grid),
        n,
        {"survey": "speed", "rows": n},
        shard_rows=1024,
        details=spectra_details(grid, "speed", Preparation()),
    )
    store.write_shard(0, values, {"sources": [], "failed": []})
    store.finish()
