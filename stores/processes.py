"""Work shared among processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
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
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent) as pool:
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


def _end_with_parent() -> None:
    """End this worker when its parent is gone: the pool tells workers to stop, and a killed one tells nothing."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    # not sys.exit, which ends this thread alone; a half-written shard has no marker and is made again
    os._exit(1)
