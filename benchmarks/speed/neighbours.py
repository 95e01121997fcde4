"""python -m benchmarks.speed.neighbours [--vectors 1000000] [--indices Flat IVF4096,Flat] [--folder DIR] [--json OUT]

Search among many embeddings: what an index takes to build, to read again and to ask, its peak memory (Linux) and what
it finds, each index in a process of its own. The vectors are 384 wide and smooth functions of a dozen numbers with
some noise, as embeddings of stars are; neighbours among independent random numbers would be harder to find.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.machine import machine, versions
from benchmarks.speed.memory import run
from benchmarks.speed.rows import write
from stores.atomic import replacing
from stores.command import run_command
from stores.embeddings import EmbeddingStore
from stores.errors import OptionError
from stores.index import Index, index_path
from stores.provenance import provenance

WIDTH, NUMBERS, HIDDEN = 384, 12, 64
NOISE = 0.1  # of the scatter of a vector's numbers
QUERIES, K = 64, 10
PART = 65_536  # vectors that are made at once


@dataclass(kw_only=True)
class NeighbourOptions:
    """Measure how long it takes to find neighbours among many embeddings, and the memory for it."""

    vectors: int = 1_000_000
    """How many embeddings."""
    indices: tuple[str, ...] = ("Flat", "IVF4096,Flat")
    """Kinds of index, as of stores-search --index."""
    repeats: int = 7
    """Repeats that the medians of queries are of."""
    folder: Path = Path("neighbours")
    """Where the store and the indices are made: 2.5 kB a vector and index; a store that is there is used again."""
    json: Path | None = None
    """File to write the results to, with versions, machine and commit."""
    only: Path | None = None
    """Measure in this process, and write there what is not the memory: what the processes of the others do."""


@dataclass(frozen=True)
class Found:
    """seconds to build (recall and writing included) and to read; ms a query, alone and of QUERIES at once."""

    index: str
    build: float
    read: float
    alone: float
    together: float
    recall: float
    megabytes: float = 0.0


def neighbours(options: NeighbourOptions) -> None:
    """Measure each index, print a table, write the file."""
    if options.vectors < 1000 or options.repeats < 1:
        raise OptionError("--vectors must be 1000 or more, and --repeats 1 or more.")
    options.folder.mkdir(parents=True, exist_ok=True)
    store = stored(options.folder / f"{options.vectors}.zarr", options.vectors)
    if options.only is not None:
        options.only.write_text(json.dumps(asdict(measured(store, options.indices[0], options.repeats))))
        return
    found = []
    print(
        f"{'index':<16}{'build s':>9}{'read s':>8}{'ms alone':>10}{'ms of 64':>10}{'recall':>8}{'peak MB':>9}",
        flush=True,
    )
    for index in options.indices:
        told = options.folder.resolve() / "told.json"
        call = [sys.executable, "-m", "benchmarks.speed.neighbours", "--vectors", str(options.vectors)]
        call += ["--indices", index, "--repeats", str(options.repeats), "--folder", str(options.folder.resolve())]
        megabytes, _ = run([*call, "--only", str(told)])
        one = Found(**{**json.loads(told.read_text()), "megabytes": megabytes})
        told.unlink()
        found.append(one)
        print(
            f"{one.index:<16}{one.build:>9.0f}{one.read:>8.1f}{one.alone:>10.2f}{one.together:>10.2f}"
            f"{one.recall:>8.3f}{one.megabytes:>9.0f}",
            flush=True,
        )
    if options.json is not None:
        made = {**provenance(), "machine": machine(), "versions": versions(), "vectors": options.vectors}
        with replacing(options.json) as path:
            path.write_text(json.dumps({**made, "results": {"neighbours": list(map(asdict, found))}}, indent=2) + "\n")


def measured(store: EmbeddingStore, factory: str, repeats: int) -> Found:
    """An index that is built anew, read again and asked for neighbours of spectra of the store."""
    for left in index_path(store, factory).parent.glob(f"{index_path(store, factory).name}*"):
        left.unlink()
    begun = time.perf_counter()
    recall = Index.open(store, factory).recall
    built = time.perf_counter()
    index = Index.open(store, factory)
    read = time.perf_counter()
    some = np.sort(np.random.default_rng(2).choice(len(store), QUERIES, replace=False))
    queries = store.read("embedding", some).astype(np.float32)
    alone, together = [], []
    for number in range(repeats):
        start = time.perf_counter()
        index.search(queries[number % QUERIES][None], K)
        middle = time.perf_counter()
        index.search(queries, K)
        alone.append(middle - start)
        together.append((time.perf_counter() - middle) / QUERIES)
    one, many = (1e3 * statistics.median(times) for times in (alone, together))
    return Found(factory, built - begun, read - built, one, many, 1.0 if recall is None else recall)


def stored(path: Path, n: int) -> EmbeddingStore:
    """A store of n vectors, which is made unless it is there."""
    if path.exists():
        return EmbeddingStore.open(path)
    return write(path, vectors(n))


def vectors(n: int) -> NDArray[np.float16]:
    """The embeddings (n, WIDTH)."""
    random = np.random.default_rng(0)
    inner = random.normal(size=(NUMBERS, HIDDEN)).astype(np.float32) / np.sqrt(NUMBERS)
    outer = random.normal(size=(HIDDEN, WIDTH)).astype(np.float32) / np.sqrt(HIDDEN)
    made = np.empty((n, WIDTH), dtype=np.float16)
    for first in range(0, n, PART):
        own = made[first : first + PART]
        hidden = np.tanh(random.standard_normal((len(own), NUMBERS), dtype=np.float32) @ inner)
        own[:] = hidden @ outer + NOISE * random.standard_normal((len(own), WIDTH), dtype=np.float32)
    return made


if __name__ == "__main__":
    run_command(NeighbourOptions, neighbours, "benchmarks.speed.neighbours")
