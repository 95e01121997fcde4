"""The leaderboard of the repository: a line of JSON for each recorded run, of heads or of speed on a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.cell import HEAD
from benchmarks.results import Results
from stores.errors import OptionError

LEADERBOARD = Path(__file__).parent / "leaderboard.jsonl"
# what was asked for, without folders, which mean nothing on another machine: fingerprints tell the data
SETTINGS = (
    *("labels", "regime", "inputs", "adapters", "baselines"),
    *("sizes", "seeds", "draws", "model", "replicates"),
)
MEASURES = ("n", "sigma", "sigma_low", "sigma_high", "median", "r2", "cover90", "bound_ratio")


def check_recordable(commit: str | None) -> None:
    """Raises OptionError for a run of code that no commit holds, which nobody could repeat."""
    if commit is None:
        raise OptionError(
            "--record needs a git checkout of spectrabridge, whose leaderboard it is; leave it out here."
        )
    if commit.endswith("+changes"):
        raise OptionError("--record needs code that is committed, so that others can repeat the run; commit first.")


def record(results: Results, path: Path = LEADERBOARD) -> str:
    """Add a run: where it comes from, and the best head of each label and regime at its largest size.

    Says in a sentence what was written, or that it was there before. Raises OptionError as `check_recordable`.
    """
    about = results.about
    check_recordable(about.get("commit"))
    line = {name: about[name] for name in ("suite", "version", "commit", "created", "fingerprints")}
    asked = about.get("options", {})
    line["settings"] = {name: asked[name] for name in SETTINGS if name in asked}
    line["best"] = _best(results)
    cells = sum(len(regimes) for regimes in line["best"].values())
    what = f"suite {line['suite']} at commit {str(line['commit'])[:12]}"
    return _add(line, what, f"{what}, the best head of {cells} labels and regimes", path)


def record_speed(
    about: dict[str, Any], card: dict[str, Any], best: list[dict[str, Any]], path: Path = LEADERBOARD
) -> str:
    """Add what was measured on a device: its name and rates, and the fastest batch of each task and size.

    about, card, best: as of benchmarks.speed.device. Returns and raises as `record`.
    """
    check_recordable(about.get("commit"))
    line = {
        "suite": "speed",
        **{name: about[name] for name in ("version", "commit", "command", "created", "versions")},
    }
    numbers = ("seconds", "spectra_per_second", "share", "of_store", "megabytes")
    line |= {"card": card, "best": [{**one, **{name: _short(one[name]) for name in numbers}} for one in best]}
    what = f"{card['name']} at commit {str(line['commit'])[:12]}"
    return _add(line, what, f"{what}, the fastest of {len(best)} tasks and sizes", path)


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")


def _add(line: dict[str, Any], what: str, told: str, path: Path) -> str:
    """Write a line unless it is there; a sentence on either."""
    text = json.dumps(line)
    before = path.read_text().splitlines() if path.is_file() else []
    if text in before:
        return f"'{path}' has this run ({what}) in line {before.index(text) + 1}; nothing was added."
    with path.open("a") as file:
        file.write(text + "\n")
    return f"'{path}', line {len(before) + 1}: {told}; commit it."


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
