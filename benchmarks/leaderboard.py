"""The leaderboard of the repository: a line of JSON for each recorded run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.cell import HEAD
from benchmarks.results import Results
from stores.errors import OptionError

LEADERBOARD = Path(__file__).parent / "leaderboard.jsonl"
MEASURES = ("n", "sigma", "sigma_low", "sigma_high", "median", "r2", "cover90", "bound_ratio")


def record(results: Results, path: Path = LEADERBOARD) -> None:
    """Add a run: where it comes from, and the best head of each label and regime at its largest size.

    Raises OptionError for a run of code that no commit holds, which nobody could repeat.
    """
    about = results.about
    if not about.get("commit") or str(about["commit"]).endswith("+changes"):
        raise OptionError("--record needs code that is committed, so that others can repeat the run; commit first.")
    line = {name: about[name] for name in ("suite", "version", "commit", "command", "created", "fingerprints")}
    line["best"] = _best(results)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _best(results: Results) -> dict[str, dict[str, dict[str, Any]]]:
    """By label and regime."""
    heads = results.scores.where(group=HEAD)
    largest = heads.where(size=max(heads["size"].tolist(), default=0))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in sorted(largest.rows(), key=lambda row: float(row["sigma"]), reverse=True):
        numbers = {name: round(float(row[name]), 4) for name in MEASURES if row[name] == row[name]}
        method = {"input": str(row["input"]), "strategy": str(row["strategy"]), "size": int(row["size"])}
        found.setdefault(str(row["label"]), {})[str(row["regime"])] = method | numbers
    return found
