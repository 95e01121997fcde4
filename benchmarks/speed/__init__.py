"""How fast things are: one file a measurement, each a function that returns rows; this file is the registry."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from stores.errors import OptionError

REPEATS = 7


@dataclass(frozen=True)
class Row:
    """One measured thing.

    seconds: median over the repeats, per spectrum
    reference: name of the row of the same measurement that this one is compared with; empty if none
    """

    name: str
    seconds: float
    reference: str = ""


Measurement = Callable[[int], list[Row]]

# a measurement's module has a function `measure(repeats)`; imported only when it is asked for
MEASUREMENTS: dict[str, str] = {
    name: f"benchmarks.speed.{name}"
    for name in ("resample", "prepare", "embed", "whole", "stores", "rows", "search", "seeds")
}


def get_measurement(name: str) -> Measurement:
    """A measurement by name."""
    if name not in MEASUREMENTS:
        raise OptionError(f"measurement '{name}' is unknown; known ones are {', '.join(MEASUREMENTS)}.")
    measure: Measurement = import_module(MEASUREMENTS[name]).measure
    return measure


def median_seconds(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """Median seconds of each action; the actions take turns, so that a busy moment strikes them all."""
    taken: list[list[float]] = [[] for _ in actions]
    for action in actions:
        action()  # what is cached at the first call is not measured
    for _ in range(repeats):
        for action, seconds in zip(actions, taken, strict=True):
            start = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in taken]
