"""Work shared among processes: of this machine, or the workers behind a Dask scheduler.

Results come in the order of the tasks, with few of them on the way, so that memory does not grow with their number.
What a process was doing when it died is done again by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from stores.cluster import Cluster

Result = TypeVar("Result")
Place = TypeVar("Place")

_kept: list[tuple[int, str | None, Cluster]] = []  # workers, scheduler, what was started or found for them
_keeping: ExitStack | None = None  # what ends them


def in_processes(
    function: Callable[..., Result],
    tasks: Iterable[tuple[Any, ...]],
    workers: int,
    scheduler: str | None = None,
    *,
    named: Callable[..., str] | None = None,
    shared: Sequence[object] = (),
) -> Iterator[Result]:
    """Results of function(*task) in the order of tasks, by `workers` processes or by those behind `scheduler`.

    A task whose process dies is done again, so it must be one that can be; what it raises is raised here.

    scheduler: address or file of a Dask scheduler; named(*task): what a task is, for a fault that names it; shared:
    paths that workers on other machines have to see (URLs are taken to be seen)

    Raises OptionError for a scheduler that cannot be used, SpectraBridgeError for a task whose process dies each time.
    """
    if workers == 1 and scheduler is None:
        for task in tasks:
            yield function(*task)
        return
    with ExitStack() as ends:
        cluster = _cluster(workers, scheduler, ends if _keeping is None else _keeping)
        cluster.refuse_blind([path for path in shared if isinstance(path, Path)])
        yield from cluster.results(function, tasks, named or (lambda *_: f"a task ({function.__name__})"))


def absolute(path: Place) -> Place:
    """A path as processes find it that are at home in other folders; a URL as it is."""
    return path.absolute() if isinstance(path, Path) else path


def reach(scheduler: str | None) -> None:
    """Connect to a scheduler, if one is named, before anything is written; kept workers are used for what comes next.

    Raises OptionError if it cannot be used.
    """
    if scheduler is not None:
        with ExitStack() as ends:
            _cluster(1, scheduler, ends if _keeping is None else _keeping)


@contextmanager
def keeping_workers() -> Iterator[None]:
    """Until its end, workers that were started stay for what comes next: each start costs a second or more."""
    global _keeping
    if _keeping is not None:
        yield
        return
    with ExitStack() as ends:
        _keeping = ends
        try:
            yield
        finally:
            _keeping = None
            _kept.clear()


def _cluster(workers: int, scheduler: str | None, ends: ExitStack) -> Cluster:
    """Workers that were kept, or new ones that end with `ends`."""
    for number, address, cluster in _kept:
        if address == scheduler and (scheduler is not None or number >= workers):
            return cluster
    from stores.cluster import Cluster

    cluster = Cluster.of_this_machine(workers) if scheduler is None else Cluster.behind(scheduler)
    ends.callback(cluster.close)
    if ends is _keeping:
        _kept.append((workers, scheduler, cluster))
    return cluster
