"""View: results as figures ask for them: methods, the best of them, and what they say of stars of a regime."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import look
from benchmarks.figures.figure import Float
from benchmarks.regime import Regime
from benchmarks.results import Results, Table

KEY = ("group", "input", "strategy", "size", "label")
GROUPS = ("pipeline", "baseline", "head")
UNTUNED = ("zero_shot", "scratch")  # strategies that take nothing from one of the surveys


@dataclass(frozen=True, order=True)
class Method:
    """What is compared."""

    group: str
    input: str
    strategy: str

    @property
    def title(self) -> str:
        """As figures name it: spectra, zero-shot."""
        strategy = look.plain(self.strategy)
        return f"{self.input}, {strategy}" if self.input else strategy

    @property
    def style(self) -> dict[str, Any]:
        """Colour, symbol and dash of its points."""
        symbol, dash = look.symbol_and_dash(self.group, self.input)
        return {"colour": look.colour(self.strategy), "symbol": symbol, "dash": dash}


@dataclass(frozen=True)
class Cell:
    """What a method says of stars whose reference is known, all draws together.

    star: (n,) rows of the stars' table
    """

    id: NDArray[np.int64]
    star: NDArray[np.int64]
    reference: Float
    value: Float
    sigma: Float
    low90: Float
    high90: Float

    @property
    def error(self) -> Float:
        return self.value - self.reference

    def take(self, rows: NDArray[Any]) -> Cell:
        """Only these rows."""
        return Cell(*(column[rows] for column in vars(self).values()))

    def distinct(self) -> Cell:
        """Every star once: of its first draw."""
        return self.take(np.sort(np.unique(self.id, return_index=True)[1]))


class View:
    """Results, indexed once."""

    def __init__(self, results: Results) -> None:
        self.results, self.about, self.stars = results, results.about, results.stars
        self.units: dict[str, str] = dict(self.about.get("units", {}))
        self.scores: dict[tuple[Any, ...], dict[str, Any]] = {
            (*(row[name] for name in KEY), row["regime"]): row for row in results.scores.rows()
        }
        self._blocks = _blocks(results.predictions)
        known = {key[:3] for key in self.scores} | {key[:3] for key in self._blocks}
        inputs, strategies = list(self.about.get("inputs", [])), list(self.about.get("adapters", []))
        self.methods = sorted(
            (Method(*map(str, key)) for key in known),
            key=lambda one: (_at(GROUPS, one.group), _at(inputs, one.input), _at(strategies, one.strategy), one),
        )
        self.inputs = list(dict.fromkeys(one.input for one in self.methods if one.group == "head"))
        labels = dict.fromkeys([*(key[4] for key in self.scores), *(key[4] for key in self._blocks)])
        self.labels = [label for label in self.about.get("labels", labels) if label in labels]
        self.sizes = sorted({int(key[3]) for key in self.scores if key[0] == "head"})
        self.regimes = {
            name: text
            for name, text in self.about.get("regimes", {}).items()
            if name in {key[5] for key in self.scores}
        }
        self._size: dict[tuple[Any, ...], int] = {}
        for *method, size, label in [*(key[:5] for key in self.scores), *self._blocks]:
            self._size[*method, label] = max(int(size), self._size.get((*method, label), 0))
        self._order = np.argsort(self.stars["id"], kind="stable")
        self.members = {name: Regime(name, text).of(self.stars.columns) for name, text in self.regimes.items()}

    @property
    def reference(self) -> str:
        return str(self.about.get("reference", "reference labels"))

    def title(self, regime: str) -> str:
        """metal-rich: [Fe/H] > −1."""
        text = look.condition(self.regimes[regime])
        return f"{look.plain(regime)}: {text}" if text else look.plain(regime)

    def size(self, method: Method, label: str) -> int | None:
        """The most stars that a method learned the label from; None where there is no such method."""
        return self._size.get((method.group, method.input, method.strategy, label))

    def score(self, method: Method, label: str, regime: str, size: int | None = None) -> dict[str, Any] | None:
        """The row of results.parquet, of the largest size unless told; None where there is none or no sigma."""
        size = self.size(method, label) if size is None else size
        row = self.scores.get((method.group, method.input, method.strategy, size, label, regime))
        return row if row is not None and np.isfinite(row["sigma"]) else None

    def cell(self, method: Method, label: str) -> Cell | None:
        """Predictions at the largest size; None where there are none of stars whose label is known."""
        key = (method.group, method.input, method.strategy, self.size(method, label), label)
        blocks = self._blocks.get(key)
        if not blocks:
            return None
        rows = np.concatenate([np.arange(*block) for block in blocks])
        one = self.results.predictions.take(rows)
        star = self._star(one["id"])
        good = np.isfinite(one["reference"]) & np.isfinite(one["value"]) & (star >= 0)
        if not good.any():
            return None
        return Cell(one["id"], star, *(one[name] for name in list(Cell.__annotations__)[2:])).take(good)

    def best(self, label: str, methods: Iterable[Method]) -> list[Method]:
        """Methods that predict the label, the smallest sigma (geometric mean over regimes) first."""
        mean = {}
        candidates = [one for one in methods if self.size(one, label) is not None]
        rows = {one: [self.score(one, label, regime) for regime in self.regimes] for one in candidates}
        counted = [i for i in range(len(self.regimes)) if any(found[i] for found in rows.values())]
        for one, found in rows.items():
            sigmas = [row["sigma"] if row else np.inf for row in (found[i] for i in counted)]
            mean[one] = float(np.mean(np.log(np.maximum(sigmas, 1e-12)))) if sigmas else np.inf
        return sorted(candidates, key=lambda one: mean[one])

    def heads(self, given: str) -> list[Method]:
        """Heads of an input."""
        return [one for one in self.methods if one.group == "head" and one.input == given]

    def named(self, strategy: str, given: str) -> list[Method]:
        return [one for one in self.heads(given) if one.strategy == strategy]

    def leaders(self, label: str) -> list[Method]:
        """The best pipeline, and the best head of each input."""
        families = [[one for one in self.methods if one.group == "pipeline"], *map(self.heads, self.inputs)]
        return [one for family in families for one in self.best(label, family)[:1]]

    def regime_of(self, star: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """Rows (n,) of each regime, every star in the one with the fewest stars that it belongs to."""
        found: dict[str, NDArray[np.bool_]] = {}
        left = np.ones(len(star), dtype=bool)
        for name in sorted(self.members, key=lambda name: int(self.members[name].sum())):
            found[name] = left & self.members[name][star]
            left &= ~found[name]
        return {name: found[name] for name in self.members}

    def _star(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of the stars' table of each id, -1 where there is none."""
        known = self.stars["id"][self._order]
        if not len(known):
            return np.full(len(ids), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, self._order[at], -1)


def _blocks(predictions: Table) -> dict[tuple[Any, ...], list[tuple[int, int]]]:
    """First and last row + 1 of all runs of rows of one cell."""
    n = len(predictions)
    if not n:
        return {}
    new = np.zeros(n, dtype=bool)
    new[0] = True
    for name in KEY:
        new[1:] |= predictions[name][1:] != predictions[name][:-1]
    starts = np.flatnonzero(new)
    found: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for first, last in zip(starts.tolist(), [*starts[1:].tolist(), n], strict=True):
        found.setdefault(tuple(predictions[name][first] for name in KEY), []).append((first, last))
    return found


def _at(names: Iterable[str], name: str) -> int:
    """Position of a name; the unknown come last."""
    found = list(names)
    return found.index(name) if name in found else len(found)
