"""A progress bar on standard error; silent where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")
QUIET_SECONDS = 30.0  # between lines where standard error is a file


def progress(
    items: Iterable[Item],
    what: str,
    *,
    unit: str,
    total: int | None = None,
    done: int = 0,
    status: Callable[[], str] = str,
) -> Iterator[Item]:
    """The items, with a bar on a terminal and a line now and then in a log.

    done: items finished before; status: more to say beside the count, asked for at every item
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not sys.stderr.isatty():
        yield from _lines(items, what, unit, total, done, status)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit + "s"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(what, total=total, completed=done)
        for item in items:
            yield item
            bar.update(task, advance=1, description=f"{what} {status()}".rstrip())


def _lines(
    items: Iterable[Item], what: str, unit: str, total: int | None, done: int, status: Callable[[], str]
) -> Iterator[Item]:
    last = time.monotonic()
    for count, item in enumerate(items, done + 1):
        yield item
        if time.monotonic() - last > QUIET_SECONDS:
            last = time.monotonic()
            print(f"{what}: {count} of {total or '?'} {unit}s {status()}".rstrip(), file=sys.stderr, flush=True)
