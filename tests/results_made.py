"""Made-up results of a comparison: small, seeded, in every column as `benchmarks.results` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measures import clipped_scatter
from benchmarks.results import Results, Table

UNITS = {"teff": "K", "logg": "dex", "feh": "dex", "alphafe": "dex"}
INPUTS = ("spectra", "embedding", "fused")
ADAPTERS = ("scratch", "zero_shot", "residual", "kriging", "lora", "full", "anchored")
REGIMES = {"metal_rich": "feh > -1", "metal_poor": "feh <= -1"}
SIZES = (0, 100, 500, 2000)
SCATTER = {"teff": 90.0, "logg": 0.2, "feh": 0.07, "alphafe": 0.04}  # of the best head, metal-rich stars, high S/N
POOR = {"teff": 1.3, "logg": 1.5, "feh": 2.2, "alphafe": 1.6}  # times so much for metal-poor ones
METHODS = {"SP": 1.7, "RVSpecfit": 1.5, "ridge_pca64": 1.4, "knn": 1.6, "payne": 1.2}
HUNGER = {"scratch": 3.0, "zero_shot": 0.0, "residual": 0.3, "kriging": 0.1, "lora": 0.5, "full": 0.9, "anchored": 0.4}
FINAL = {
    "scratch": 1.2,
    "zero_shot": 1.35,
    "residual": 1.15,
    "kriging": 1.1,
    "lora": 1.05,
    "full": 1.0,
    "anchored": 1.0,
}


def make_results(
    seed: int = 0,
    stars: int = 300,
    labels: Sequence[str] = tuple(UNITS),
    inputs: Sequence[str] = INPUTS,
    adapters: Sequence[str] = ADAPTERS,
    sizes: Sequence[int] = SIZES,
    draws: int = 1,
    twins: bool = True,
    landscapes: bool = True,
) -> Results:
    """A whole comparison. Without `twins` bounds are unknown, and pipelines have no sigma."""
    random = np.random.default_rng(seed)
    about = _about(seed, stars, labels, inputs, adapters, sizes, draws, twins)
    table = _stars(random, stars, twins)
    cells: list[dict[str, Any]] = []
    for group, given, strategy, size in _methods(inputs, adapters, sizes):
        for draw in range(draws):
            tested = np.arange(stars) if draws == 1 else np.sort(random.permutation(stars)[: max(stars * 4 // 5, 1)])
            for label in labels:
                key = {
                    "group": group,
                    "input": given,
                    "strategy": strategy,
                    "size": size,
                    "draw": draw,
                    "label": label,
                }
                cells.append(key | _predict(random, table.take(tested), key, twins))
    rows = [len(cell["id"]) for cell in cells]
    predictions = Table(
        {
            name: np.concatenate([np.full(n, cell[name]) for n, cell in zip(rows, cells, strict=True)])
            if np.ndim(cells[0][name]) == 0
            else np.concatenate([cell[name] for cell in cells])
            for name in cells[0]
        }
    )
    scores = Table.of_rows(_scores(table, cells, draws, twins))
    return Results(about, scores, predictions, table, _landscapes(random, adapters) if landscapes else None)


def _methods(inputs: Sequence[str], adapters: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, str, str, int]]:
    found = [("pipeline", "", name, 0) for name in ("SP", "RVSpecfit")]
    found += [("baseline", "", name, size) for name in ("ridge_pca64", "knn", "payne") for size in sizes]
    for size in sizes:
        for given in inputs:
            found += [("head", given, name, size) for name in adapters if size or name == "zero_shot"]
    return found


def _stars(random: np.random.Generator, n: int, twins: bool) -> Table:
    """Thin disc, thick disc and halo; dwarfs and giants; one in ten has no [alpha/Fe]."""
    part = random.choice(3, n, p=(0.6, 0.25, 0.15))
    feh = np.clip(random.normal(np.array([-0.1, -0.5, -1.7])[part], np.array([0.2, 0.25, 0.5])[part]), -3.5, 0.5)
    alphafe = np.array([0.04, 0.24, 0.28])[part] - np.array([0.1, 0.12, 0.0])[part] * (feh + 0.3)
    alphafe = alphafe + random.normal(0, 0.025, n)
    giant = random.random(n) < 0.4
    logg = np.where(giant, random.uniform(1.0, 3.4, n), random.normal(4.4, 0.15, n))
    teff = np.where(giant, 4200 + 380 * (logg - 1) - 120 * feh, random.uniform(4600, 6800, n))
    snr = np.exp(random.uniform(np.log(10), np.log(150), n))
    alphafe[random.random(n) < 0.1] = np.nan
    columns: dict[str, NDArray[Any]] = {
        "id": 39_627_000_000_000_001 + 7 * random.permutation(n).astype(np.int64),  # above 2^53: no float holds them
        "ra": random.uniform(0, 360, n),
        "dec": random.uniform(-10, 80, n),
        "snr": snr,
        "teff": teff + random.normal(0, 40, n),
        "logg": logg,
        "feh": feh,
        "alphafe": alphafe,
    }
    for label, scatter in SCATTER.items():
        bound = 0.5 * scatter * np.where(feh > -1, 1, POOR[label]) * 30 / snr
        columns[f"bound_{label}"] = bound if twins else np.full(n, np.nan)
    return Table(columns)


def _predict(random: np.random.Generator, stars: Table, key: dict[str, Any], twins: bool) -> dict[str, NDArray[Any]]:
    n, label, name = len(stars), key["label"], key["strategy"]
    rich = stars["feh"] > -1
    times = METHODS.get(name) or FINAL.get(name, 1.1) + HUNGER.get(name, 0.5) * np.sqrt(100 / max(key["size"], 25))
    regime = np.where(rich, 1, POOR[label])
    if key["input"] == "embedding":  # better where there are many stars, worse where there are few
        regime = regime * np.where(rich, 0.92, 1.25)
    if key["input"] == "fused":
        regime = regime * 0.93
    scatter = SCATTER[label] * times * regime * np.sqrt(1 + (30 / stars["snr"]) ** 2) / 1.2
    error = scatter * random.standard_normal(n) * np.where(random.random(n) < 0.02, 5, 1)
    offset = SCATTER[label] * np.where(rich, 0.2, 0.9) if name in ("zero_shot", "SP") else 0.0
    sigma = scatter * (0.75 if key["group"] == "head" and name != "kriging" else 1.0)
    if name == "knn" or (key["group"] == "pipeline" and not twins):
        sigma = np.full(n, np.nan)
    value = stars[label] + offset + error
    if label == "alphafe":  # unknown references have values all the same
        value = np.where(np.isfinite(value), value, 0.1 + offset + error)
    half = 1.645 * sigma if key["group"] == "head" else np.full(n, np.nan)
    found = {"id": stars["id"], "reference": stars[label], "value": value, "sigma": sigma}
    return found | {"low90": value - half, "high90": value + half}


def _scores(stars: Table, cells: list[dict[str, Any]], draws: int, twins: bool) -> list[dict[str, Any]]:
    position = {number: row for row, number in enumerate(stars["id"].tolist())}
    rows: list[dict[str, Any]] = []
    for first in range(0, len(cells), draws * len({cell["label"] for cell in cells})):
        block = cells[first : first + draws * len({cell["label"] for cell in cells})]
        for label in dict.fromkeys(cell["label"] for cell in block):
            same = [cell for cell in block if cell["label"] == label]
            joined = {
                name: np.concatenate([cell[name] for cell in same]) for name in same[0] if np.ndim(same[0][name])
            }
            where = np.array([position[number] for number in joined["id"].tolist()])
            for regime in REGIMES:
                inside = (stars["feh"][where] > -1) == (regime == "metal_rich")
                inside &= np.isfinite(joined["reference"]) & np.isfinite(joined["value"])
                one = {name: column[inside] for name, column in joined.items()}
                bound = stars[f"bound_{label}"][where][inside]
                rows.append(_score(same[0], label, regime, one, bound if twins else None))
    for row in rows:
        same = [
            other
            for other in rows
            if (other["size"], other["label"], other["regime"]) == (row["size"], row["label"], row["regime"])
        ]
        heads = sorted(other["sigma"] for other in same if other["group"] == "head")
        beside = [other["sigma"] for other in same if other["input"] == row["input"] and other is not row]
        head = row["group"] == "head" and np.isfinite(row["sigma"])
        row["best_of_row"] = bool(head and all(row["sigma"] * 1.05 < other for other in beside))
        row["best"] = bool(head and all(row["sigma"] * 1.03 < other for other in heads if other != row["sigma"]))
        row["tied"] = bool(head and row["sigma"] < 1.05 * heads[0])
        row["rank"] = heads.index(row["sigma"]) + 1 if head else 0
    return rows


def _score(
    cell: dict[str, Any], label: str, regime: str, one: dict[str, NDArray[Any]], bound: NDArray[Any] | None
) -> dict[str, Any]:
    nan = float("nan")
    n = len(np.unique(one["id"]))
    error = one["value"] - one["reference"]
    found = _measures(one["reference"], one["value"]) if n > 1 else (nan, nan, nan)
    r2, sigma, median = found
    half = 1.96 / np.sqrt(2 * max(n, 1))
    known = np.isfinite(one["low90"])
    inside = (one["reference"] >= one["low90"]) & (one["reference"] <= one["high90"])
    return {
        **{name: cell[name] for name in ("group", "input", "strategy", "size")},
        "label": label,
        "regime": regime,
        "n": float(n),
        "r2": r2,
        "sigma": sigma,
        "biweight": sigma,
        "median": median,
        "outliers": float(np.mean(np.abs(error - median) > 3 * sigma)) if n > 1 else nan,
        "cover90": float(inside[known].mean()) if known.any() else nan,
        "sigma_low": sigma * (1 - half),
        "sigma_high": sigma * (1 + half),
        "median_low": median - 2 * half * sigma,
        "median_high": median + 2 * half * sigma,
        "seeds_mean": sigma * 1.05,
        "seeds_scatter": sigma * 0.03 if cell["group"] == "head" else nan,
        "bound_ratio": float(np.std(error / bound)) if bound is not None and n > 1 else nan,
        "seconds": 12.5 if cell["group"] == "head" else 1.5,
        "trained": 100_000 if cell["group"] == "head" and cell["strategy"] != "zero_shot" else 0,
    }


def _measures(reference: NDArray[Any], value: NDArray[Any]) -> tuple[float, float, float]:
    error = value - reference
    r2 = 1 - float(np.sum(error**2) / np.sum((reference - reference.mean()) ** 2))
    return r2, float(clipped_scatter(error)), float(np.median(error))


def _landscapes(random: np.random.Generator, adapters: Sequence[str]) -> Table:
    """Bowls of their own width around weights near their minimum, for one input and the metal-poor stars."""
    steps = np.linspace(-1, 1, 15)
    a, b = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    parts = []
    for strategy in adapters:
        near, width = random.normal(0, 0.15, 2), random.uniform(0.3, 2, 2)
        loss = 0.05 * random.uniform(0.8, 1.6) + width[0] * (a - near[0]) ** 2 + width[1] * (b - near[1]) ** 2
        words = {"group": "head", "input": "spectra", "strategy": strategy, "regime": "metal_poor"}
        parts.append({name: np.full(len(a), word) for name, word in words.items()} | {"a": a, "b": b, "loss": loss})
    return Table({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _about(
    seed: int,
    stars: int,
    labels: Sequence[str],
    inputs: Sequence[str],
    adapters: Sequence[str],
    sizes: Sequence[int],
    draws: int,
    twins: bool,
) -> dict[str, Any]:
    return {
        "suite": "quick",
        "labels": list(labels),
        "regimes": dict(REGIMES),
        "inputs": list(inputs),
        "adapters": list(adapters),
        "sizes": list(sizes),
        "draws": draws,
        "seeds": 5,
        "source": {"name": "LAMOST twin" if twins else "LAMOST", "stars": 8000},
        "target": {"name": "DESI twin" if twins else "DESI", "stars": stars + max(sizes), "tested": stars},
        "reference": "true labels" if twins else "literature labels",
        "units": {label: UNITS[label] for label in labels},
        "version": "0.1.0",
        "commit": "0123abc",
        "command": f"heads-bench --suite quick --seed {seed} --out made",
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        "fingerprints": {"source": "0f" * 16, "target": "f0" * 16},
        "settings": {"seed": seed},
        "sentences": {
            "metal_rich": "For metal-rich stars full on fused has the smallest scatter of [Fe/H], by 0.002 dex.",
            "metal_poor": "For metal-poor stars full on fused has the smallest scatter of [Fe/H], by 0.011 dex.",
        },
    }
