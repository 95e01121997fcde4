"""Summary: outcomes of cells -> tables of scores and predictions, and a sentence for each regime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cell import HEAD, ZERO_SHOT, Cell, Outcome
from benchmarks.landscape import steps
from benchmarks.measures import LEAST, Bootstrap, Measured, measure, significantly_less
from benchmarks.regime import Regime
from benchmarks.results import Table, explained
from benchmarks.study import Stage
from stores.catalogue import UNITS

Float = NDArray[np.float64]
SHOWN = {"teff": "Teff", "logg": "log g", "feh": "[Fe/H]", "alphafe": "[α/Fe]"}
TIES = 3  # named at the most
PAYNE = "payne"
PAYNE_KNOWS = "it fits the very model that simulated these stars, which no model of real ones can match"
Method = tuple[str, str, str, int]  # group, input, strategy, size


@dataclass(frozen=True)
class Tested:
    """Predictions of one method for the stars of all draws, a row a star and draw.

    rows: (n,) of the stage's target; value, low90, high90: (n, k); members: (m, n, k)
    """

    rows: NDArray[np.int64]
    value: Float
    low90: Float
    high90: Float
    members: Float
    seconds: float
    trained: int


def tested(stage: Stage, outcomes: Mapping[Cell, Outcome]) -> dict[Method, Tested]:
    """Outcomes by method, draws together."""
    by_method: dict[Method, list[tuple[Cell, Outcome]]] = {}
    for cell, outcome in outcomes.items():
        by_method.setdefault((cell.group, cell.input, cell.strategy, cell.size), []).append((cell, outcome))
    order = np.argsort(stage.target.id)
    found = {}
    for method, some in by_method.items():
        some = sorted(some, key=lambda one: one[0].draw)
        parts = [outcome for _, outcome in some]
        rows = [order[np.searchsorted(stage.target.id[order], one.id)] for one in parts]
        said = [one.predicted for one in parts]
        found[method] = Tested(
            rows=np.concatenate(rows),
            value=np.concatenate([one.value for one in said]),
            low90=np.concatenate([one.low90 for one in said]),
            high90=np.concatenate([one.high90 for one in said]),
            members=np.concatenate([one.members for one in said], axis=1),
            seconds=sum(one.seconds for one in parts) / len(parts),
            trained=parts[0].trained,
        )
    return found


def score(stage: Stage, methods: Mapping[Method, Tested], regimes: Sequence[Regime], replicates: int) -> Table:
    """A row for each method, label and regime that has stars enough."""
    columns = stage.columns(name for regime in regimes for name in regime.names)
    rows: list[dict[str, Any]] = []
    drawn: dict[bytes, Bootstrap | None] = {}
    for regime in regimes:
        inside = regime.of(columns)
        for i, target in enumerate(stage.target.targets):
            alike: dict[tuple[bytes, int], list[Method]] = {}  # on the same stars, with as many seeds
            for method, one in methods.items():
                known = _known(stage, one, i, inside)
                alike.setdefault((one.rows[known].tobytes(), len(one.members)), []).append(method)
            measured: dict[Method, Measured] = {}
            for (key, _), some in alike.items():
                own = np.frombuffer(key, dtype=np.int64)
                if key not in drawn:
                    star = stage.target.star[own]
                    enough = len(np.unique(star)) >= LEAST
                    drawn[key] = Bootstrap.of(star, replicates, stage.study.seed) if enough else None
                bootstrap = drawn[key]
                if bootstrap is not None:
                    held = [(methods[one], _known(stage, methods[one], i, inside)) for one in some]
                    found = _measured(stage, held, own, i, bootstrap)
                    measured |= dict(zip(some, found, strict=True))
            in_order = {method: measured[method] for method in methods if method in measured}
            rows += _rows(in_order, methods, target, regime.name)
    return Table.of_rows(rows)


def _known(stage: Stage, one: Tested, i: int, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) True where a method and the reference have the i-th label of a star of the regime."""
    known = np.isfinite(stage.reference[one.rows, i]) & np.isfinite(one.value[:, i]) & inside[one.rows]
    return np.asarray(known)


def _measured(
    stage: Stage, held: Sequence[tuple[Tested, NDArray[np.bool_]]], rows: NDArray[np.int64], i: int, drawn: Bootstrap
) -> list[Measured]:
    """What is measured of methods that know the same stars."""
    limit = stage.bounds[rows, i]
    return measure(
        stage.reference[rows, i],
        np.stack([one.value[known, i] for one, known in held]),
        np.stack([one.members[:, known, i] for one, known in held]),
        (
            np.stack([one.low90[known, i] for one, known in held]),
            np.stack([one.high90[known, i] for one, known in held]),
        ),
        limit if np.isfinite(limit).any() else None,
        drawn,
    )


def _rows(
    measured: Mapping[Method, Measured], methods: Mapping[Method, Tested], label: str, regime: str
) -> Iterable[dict[str, Any]]:
    """The rows of one label and regime, the best of heads of one size marked."""
    for method, one in measured.items():
        group, name, strategy, size = method
        row = {"group": group, "input": name, "strategy": strategy, "size": size, "label": label, "regime": regime}
        rivals = {other: held for other, held in measured.items() if other[0] == HEAD and other[3] == size}
        others = [held for other, held in rivals.items() if other != method]
        own = [held for other, held in rivals.items() if other != method and other[1] == name]
        sigmas = sorted(held.values["sigma"] for held in rivals.values())
        head = group == HEAD
        yield {
            **row,
            **one.values,
            "n": round(one.values["n"]),
            "best_of_row": head and _best(one, own),
            "best": head and _best(one, others),
            "tied": head and not any(significantly_less(held.replicates, one.replicates) for held in others),
            "rank": 1 + sigmas.index(one.values["sigma"]) if head else 0,
            "seconds": methods[method].seconds,
            "trained": methods[method].trained,
        }


def _best(one: Measured, others: Sequence[Measured]) -> bool:
    return bool(others) and all(significantly_less(one.replicates, other.replicates) for other in others)


def predictions(stage: Stage, outcomes: Mapping[Cell, Outcome]) -> Table:
    """A row for each cell, label and tested star."""
    order = np.argsort(stage.target.id)
    parts: list[dict[str, NDArray[Any]]] = []
    for cell, outcome in outcomes.items():
        rows = order[np.searchsorted(stage.target.id[order], outcome.id)]
        n = len(rows)
        for i, target in enumerate(stage.target.targets):
            part: dict[str, NDArray[Any]] = {
                name: np.full(n, getattr(cell, name)) for name in ("group", "input", "strategy", "size", "draw")
            }
            part |= {"label": np.full(n, target), "id": outcome.id, "reference": stage.reference[rows, i]}
            for name in ("value", "sigma", "low90", "high90"):
                part[name] = getattr(outcome.predicted, name)[:, i].astype(np.float32)
            parts.append(part)
    return Table({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def stars(stage: Stage, draws: int, regimes: Sequence[Regime]) -> Table:
    """The stars that are tested in any draw, with the labels that are asked for and those that regimes ask for."""
    rows = np.unique(np.concatenate([stage.split(draw)[1] for draw in range(draws)]))
    ids = stage.target.id[rows]
    snr = stage.spectra.read("snr", stage.spectra.find(ids)).astype(np.float64)
    columns = {"id": ids, "ra": stage.target.ra[rows], "dec": stage.target.dec[rows], "snr": snr}
    known = stage.columns(name for regime in regimes for name in regime.names)
    columns |= {label: values[rows] for label, values in known.items()}
    for i, target in enumerate(stage.target.targets):
        if np.isfinite(stage.bounds[rows, i]).any():
            columns[f"bound_{target}"] = stage.bounds[rows, i]
    return Table(columns)


def landscapes(stage: Stage, outcomes: Mapping[Cell, Outcome], regimes: Sequence[Regime]) -> Table | None:
    """Mean losses over the stars of each regime; None if no cell has a landscape."""
    columns = stage.columns(name for regime in regimes for name in regime.names)
    rows: list[dict[str, Any]] = []
    for cell, outcome in outcomes.items():
        if not outcome.landscape.size:
            continue
        places = steps(len(outcome.landscape))
        own = stage.split(cell.draw)[1]
        for regime in regimes:
            inside = regime.of(columns)[own]
            if np.count_nonzero(inside) < LEAST:
                continue
            loss = outcome.landscape[..., inside].mean(axis=-1)
            about = {name: getattr(cell, name) for name in ("group", "input", "strategy")} | {"regime": regime.name}
            rows += [
                {**about, "a": a, "b": b, "loss": float(loss[i, j])}
                for i, a in enumerate(places.tolist())
                for j, b in enumerate(places.tolist())
            ]
    return Table.of_rows(rows) if rows else None


def sentences(scores: Table, regimes: Sequence[Regime], label: str, simulated: bool = False) -> dict[str, str]:
    """What to say first, for each regime: who reads a label best, by how much, and whether that may be chance.

    simulated: whether the target's stars are, which is said where it is an advantage
    """
    found = {}
    for regime in regimes:
        # a table without rows has no columns to choose by
        own = scores.where(label=label, regime=regime.name) if len(scores) else scores
        found[regime.name] = _sentence(own.rows(), label, simulated)
    return found


def _sentence(rows: Sequence[Mapping[str, Any]], label: str, simulated: bool) -> str:
    heads = [row for row in rows if row["group"] == HEAD]
    name, unit, digits = SHOWN.get(label, label), UNITS.get(label, ""), 0 if label == "teff" else 3
    if not heads:
        return f"Fewer than {LEAST} tested stars have {name}: nothing can be said."

    def number(row: Mapping[str, Any], measure: str = "sigma", sign: str = "") -> str:
        return f"{row[measure]:{sign}.{digits}f}".replace("-", "−")

    most = max(row["size"] for row in heads)
    largest = [row for row in heads if row["size"] == most]
    best = _least(largest)
    learned = (
        "without any target star" if best["strategy"] == ZERO_SHOT else f"having learned from {most:,} target stars"
    )
    leads = "wins" if best["best"] else "leads, but not significantly"
    said = [
        f"{best['input']} + {best['strategy']} {leads}: it reads {name} of {best['n']:,} stars with sigma "
        f"{number(best)} {unit} (95 % interval {number(best, 'sigma_low')}–{number(best, 'sigma_high')}), median "
        f"error {number(best, 'median', '+')}, {learned}."
    ]
    tied = sorted((row for row in largest if row["tied"] and row is not best), key=lambda row: float(row["sigma"]))
    if best["best"]:
        said.append("Every other head is significantly worse.")
    elif tied:
        named = ", ".join(f"{row['input']} + {row['strategy']} {number(row)}" for row in tied[:TIES])
        more = f" and {len(tied) - TIES} more" if len(tied) > TIES else ""
        said.append(f"Others that no head significantly beats: {named}{more}.")
    by_input = [
        _least([row for row in largest if row["input"] == other])
        for other in dict.fromkeys(row["input"] for row in largest)
        if other != best["input"]
    ]
    told = [f"from {row['input']} is {row['strategy']} with {number(row)}, {_worse(row)}" for row in by_input]
    untuned = [row for row in largest if row["strategy"] == ZERO_SHOT]
    if untuned and best["strategy"] != ZERO_SHOT:
        least = _least(untuned)
        told.append(f"without any target star has {number(least)}, from {least['input']}, {_worse(least)}")
    if told:
        said.append(f"The best {'; '.join(told)}.")
    fewer = [_least([row for row in heads if row["size"] == size]) for size in _sizes(heads) if 0 < size < most]
    if fewer:
        named = ", ".join(f"{row['size']:,} give {number(row)} ({row['input']} + {row['strategy']})" for row in fewer)
        said.append(f"Fewer target stars: {named}.")
    others = [row for row in rows if row["group"] != HEAD and row["size"] in (0, most)]
    if others:
        least = _least(others)
        than = "less than any head" if least["sigma"] < best["sigma"] else "no less than the best head"
        said.append(
            f"Of pipelines and classical methods {explained(least['strategy'])} has {number(least)}, {than} here"
            + (f"; {PAYNE_KNOWS}." if simulated and least["strategy"] == PAYNE else ".")
        )
    return " ".join(said)


def _least(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return min(rows, key=lambda row: float(row["sigma"]))


def _sizes(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({int(row["size"]) for row in rows})


def _worse(row: Mapping[str, Any]) -> str:
    return "not significantly worse" if row["tied"] else "significantly worse"
