"""A Dask cluster: processes of this machine, or the workers behind a scheduler that somebody has started.

A worker that dies is replaced, and what it was doing is done again by another; a task that kills as many workers as
the scheduler allows (Dask's `allowed-failures`, three, and one more) is given up and named.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from stores.command import say
from stores.errors import OptionError, SpectraBridgeError
from stores.provenance import commit, package_version

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

Result = TypeVar("Result")
Identity = tuple[str, str | None]  # version and commit

PATIENCE = 10.0  # seconds for a scheduler to answer
LOOK_SECONDS = 5.0  # between looks at how many workers there are
# what sets the threads of numpy and torch
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# run by a worker that may lack this package; built-in `eval` is there
ASK_IDENTITY = "__import__('stores.cluster', fromlist=['identity']).identity()"

_one_at_a_time = threading.Lock()


class Cluster:
    """Workers that functions can be sent to; `close` it."""

    def __init__(self, client: Client, own: LocalCluster | None, where: str, expected: Identity | None) -> None:
        self._client = client
        self._own = own
        self._where = where
        self._expected = expected
        self._workers = 0
        self._looked = -LOOK_SECONDS
        self._keys: set[object] = set()
        client.subscribe_topic("all", self._tell)

    # -- starting and ending -----------------------------------------------------------------------------

    @classmethod
    def of_this_machine(cls, workers: int) -> Cluster:
        """So many processes, which share its cores and end when this one does, however it ends."""
        import dask
        from distributed import Client, LocalCluster, Security

        share = max(1, _cores() // workers)
        threads = {
            f"distributed.nanny.pre-spawn-environ.{name}": int(os.environ.get(name) or share) for name in THREADS
        }
        spare: dict[str, list[str]] = {f"distributed.{who}.http.routes": [] for who in ("scheduler", "worker")}
        settings = {
            **threads,
            **spare,
            "distributed.worker.profile.enabled": False,
            "distributed.scheduler.worker-ttl": None,
        }
        try:
            with dask.config.set(settings), _same_environment():
                own = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,  # the default one would kill a worker that has a good reason
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else a port that another run may have
                    # without it, whoever else is on this machine could send functions too
                    security=Security.temporary(),
                    silence_logs=logging.CRITICAL,
                )
        except (RuntimeError, OSError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise SpectraBridgeError(
                f"{workers} processes cannot be started ({reason}); use one of --workers, or, in a "
                "script of your own, start work below if __name__ == '__main__'."
            ) from None
        return cls(Client(own, set_as_default=False), own, "this machine", None)

    @classmethod
    def behind(cls, scheduler: str) -> Cluster:
        """The workers of a scheduler, by its address or by the file that it has left.

        Raises OptionError if it does not answer, or if its workers have not this version of the package.
        """
        from distributed import Client

        address = _address(scheduler)
        _refuse_unknown_host(address)
        try:
            client = Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise OptionError(
                f"no Dask scheduler answers at '{address}' ({reason}); start one, or check --scheduler."
            ) from None
        cluster = cls(client, None, address, identity())
        try:
            cluster._await_workers()
            cluster._refuse_others()
        except BaseException:
            cluster.close()
            raise
        return cluster

    def close(self) -> None:
        """Leave the scheduler; end the processes that were started."""
        with suppress(ValueError):
            self._client.unsubscribe_topic("all")
        self._client.close()
        if self._own is not None:
            self._own.close()

    def _await_workers(self) -> None:
        if not self._client.nthreads():
            say(f"note: the scheduler at '{self._where}' has no workers yet; waiting for one.")
            self._client.wait_for_workers(1)
        if max(self._client.nthreads().values()) > 1:
            say("note: a worker does one thing at a time, whatever its threads; more workers of --nthreads 1 do more.")

    def _refuse_others(self) -> None:
        mine = identity()
        for worker, theirs in self._client.run(eval, ASK_IDENTITY, on_error="return").items():
            if isinstance(theirs, Exception):
                raise OptionError(
                    f"the worker {worker} cannot import spectrabridge ({theirs}); install version {mine[0]} there."
                )
            if fault := _differing(mine, theirs):
                raise OptionError(f"the worker {worker} {fault}")

    def refuse_blind(self, shared: Sequence[Path]) -> None:
        """Raise OptionError if a worker on another machine does not see one of these paths."""
        if self._own is not None:
            return
        for path in shared:
            for worker, sees in self._client.run(os.path.exists, str(path), on_error="return").items():
                if sees is not True:
                    raise OptionError(
                        f"the worker {worker} does not see '{path}'; workers need the file system of this machine."
                    )

    # -- working -----------------------------------------------------------------------------------------

    def results(
        self, function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], named: Callable[..., str]
    ) -> Iterator[Result]:
        """Results of function(*task) in the order of tasks; what is on the way when this ends is cancelled."""
        from distributed import CancelledError

        waiting: deque[tuple[Future[Result], tuple[Any, ...]]] = deque()

        def submitted(task: tuple[Any, ...]) -> Future[Result]:
            # pure: tasks that are alike are done as often as they are given
            future = self._client.submit(_do, self._expected, function, task, pure=False)
            self._keys.add(future.key)
            return future

        def first() -> Result:
            from distributed import KilledWorker, wait

            future, task = waiting.popleft()
            try:
                try:
                    return future.result()
                except KilledWorker:
                    # perhaps it only stood in line where another one killed: alone it has nobody else to blame
                    with self._client.as_current():
                        wait([other for other, _ in waiting])
                    future = submitted(task)
                    return future.result()
            except KilledWorker:
                fewer = "with fewer --workers" if self._own is not None else "with workers of more memory"
                raise SpectraBridgeError(
                    f"{named(*task)} kills every worker process that takes it (out of memory?); run the same command "
                    f"again, {fewer}."
                ) from None
            finally:
                self._keys.discard(future.key)

        try:
            for task in tasks:
                waiting.append((submitted(task), task))
                while len(waiting) >= self._room():
                    yield first()
            while waiting:
                yield first()
        except CancelledError:
            raise SpectraBridgeError(
                f"the Dask scheduler at '{self._where}' is gone; start it and run the same command again to go on."
            ) from None
        finally:
            self._client.cancel([future for future, _ in waiting], force=True)
            self._keys.clear()

    def _room(self) -> int:
        """How many tasks may be on the way: two a worker, so that none waits for the slowest."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._workers = len(self._client.nthreads())
        # a few more for a cluster that grows with what it is asked for
        return 2 * self._workers if self._own is not None else max(2 * self._workers, 8)

    def _tell(self, event: tuple[float, Any]) -> None:
        """Say that a worker was lost in the middle of something of ours."""
        told = event[1]
        if isinstance(told, dict) and told.get("action") == "remove-worker" and not told.get("expected"):
            lost = set(told["processing-tasks"]) | set(told["lost-computed-tasks"])
            if lost & self._keys:
                say("note: a worker was lost; what it was doing is done again.")


def identity() -> Identity:
    """Version and commit of the running package; of a checkout with changes, the commit that it had before."""
    return package_version(), (commit() or "").removesuffix("+changes") or None


def _do(expected: Identity | None, function: Callable[..., Result], task: tuple[Any, ...]) -> Result:
    """Do a task in a worker; one at a time where it has several threads, which readers of files do not stand.

    expected: the package's identity, which a worker that came later may not have
    """
    with _one_at_a_time:
        if expected is not None and (fault := _differing(expected, identity())):
            raise OptionError(f"a worker {fault}")
        return function(*task)


def _differing(mine: Identity, theirs: Identity) -> str:
    """How another package differs from this one; empty if it does not."""
    (version, own), (other, others) = mine, theirs
    if version != other:
        return f"has spectrabridge {other}, and this is {version}; install the same there and start it again."
    if own and others and own != others:
        return f"runs commit {others} of spectrabridge, and this is {own}; start it again from the same checkout."
    return ""


def _address(scheduler: str) -> str:
    """The address of a scheduler, from itself or from its file. Raises OptionError."""
    path = Path(scheduler)
    if path.is_file():
        try:
            return str(json.loads(path.read_text())["address"])
        except (ValueError, KeyError, TypeError):
            raise OptionError(f"'{scheduler}' is not the file of a Dask scheduler; check --scheduler.") from None
    if "://" in scheduler or re.fullmatch(r"[^/]+:\d+", scheduler):
        return scheduler
    raise OptionError(
        f"--scheduler '{scheduler}' is neither an address, such as tcp://HOST:8786, nor the file of a Dask scheduler."
    )


def _refuse_unknown_host(address: str) -> None:
    """Raise OptionError for a host without an address: Dask would ask again and again until its patience ends."""
    try:
        host = urlsplit(address if "://" in address else f"tcp://{address}").hostname
        if host:
            socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError):
        raise OptionError(f"the host '{host}' of --scheduler {address} is not known; check --scheduler.") from None
    except ValueError:
        pass  # no URL at all: told by who connects


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _same_environment() -> Iterator[None]:
    """Undo what Dask sets for its workers in the environment of this process too."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
