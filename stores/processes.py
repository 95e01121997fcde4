"""Work shared among processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from stores.errors import SpectraBridgeError

Result = TypeVar("Result")


def in_processes(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Result]:
    """Results of function(*task) in the order of tasks, by `workers` processes with few results in flight."""
    if workers == 1:
        for task in tasks:
            yield function(*task)
        return
    # a fresh interpreter a worker: zarr and torch have threads that a fork would break
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: list[Future[Result]] = []
        try:
            for task in tasks:
                waiting.append(pool.submit(function, *task))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenProcessPool:
            raise SpectraBridgeError(
                "a worker process was killed (out of memory?); run the same command again, with fewer --workers."
            ) from None
        finally:
            for future in waiting:
                future.cancel()
