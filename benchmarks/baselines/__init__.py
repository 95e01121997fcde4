"""Classical methods that heads are compared with: a function each; this file is the registry.

    @baseline("mine")
    def mine(task: Task) -> Predicted:
        '''What it does, in a line.'''

    predicted = get_baseline("mine")(task)

None reads the labels of the stars to predict: they are NaN. A package of its own adds one by naming its module under
the entry-point group `spectrabridge.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from benchmarks.task import Predicted, Task
from stores.errors import OptionError

Baseline = Callable[[Task], Predicted]

BASELINES: dict[str, Baseline] = {}
BUILT_IN = ("ridge", "neighbours", "payne")


def baseline(name: str) -> Callable[[Baseline], Baseline]:
    """Register a method under `name`."""

    def register(method: Baseline) -> Baseline:
        BASELINES[name] = method
        return method

    return register


def load_baselines() -> dict[str, Baseline]:
    """All methods: the built-in ones and those of other packages."""
    for module in BUILT_IN:
        import_module(f"benchmarks.baselines.{module}")
    for point in entry_points(group="spectrabridge.baselines"):
        point.load()
    return BASELINES


def get_baseline(name: str) -> Baseline:
    """A method by name."""
    known = load_baselines()
    if name not in known:
        raise OptionError(f"baseline '{name}' is unknown; known ones are {', '.join(known)}.")
    return known[name]
