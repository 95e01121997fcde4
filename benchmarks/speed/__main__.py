"""python -m benchmarks.speed [--json OUT] [--repeats N] [MEASUREMENT ...]"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tyro

from benchmarks.speed import MEASUREMENTS, REPEATS, Row, get_measurement
from stores.atomic import replacing
from stores.command import run_command
from stores.errors import OptionError
from stores.provenance import provenance

COMPARED = ("numpy", "scipy", "astropy", "specutils", "torch", "zarr", "faiss-cpu")


@dataclass(kw_only=True)
class SpeedOptions:
    """Measure how fast things are, each as the median of several repeats in this one run."""

    measurements: tyro.conf.Positional[tuple[str, ...]] = tuple(MEASUREMENTS)
    """What to measure; everything if not given."""
    repeats: int = REPEATS
    """Repeats that the medians are of."""
    json: Path | None = None
    """File to write the results to, with versions, machine and commit."""


def speed(options: SpeedOptions) -> None:
    """Measure, print a table, write the file."""
    if options.repeats < 1:
        raise OptionError(f"--repeats {options.repeats} must be 1 or more.")
    if options.json is not None and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise OptionError(f"--json {options.json} cannot be written; name a file in a folder that is there.")
    chosen = {name: get_measurement(name) for name in options.measurements}
    results = {}
    for name, measure in chosen.items():
        rows = as_records(measure(options.repeats))
        results[name] = rows
        print(table(name, rows), flush=True)
    if options.json is not None:
        made = {**provenance(), "machine": machine(), "versions": versions(), "repeats": options.repeats}
        with replacing(options.json) as path:
            path.write_text(json.dumps({**made, "results": results}, indent=2) + "\n")


def as_records(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows with `speed_up`, how many times faster than its reference each is; None without one."""
    seconds = {row.name: row.seconds for row in rows}
    return [
        {**asdict(row), "speed_up": seconds[row.reference] / row.seconds if row.reference else None} for row in rows
    ]


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """Rows as text: microseconds per spectrum (of searches, per query) and the ratio to the reference."""
    width = max(len(row["name"]) for row in rows)
    lines = [f"{name:<{width}}  {'us/spectrum':>12}  {'speed-up':>8}"]
    for row in rows:
        ratio = "" if row["speed_up"] is None else f"{row['speed_up']:.{1 if row['speed_up'] >= 10 else 2}f}x"
        lines.append(f"{row['name']:<{width}}  {1e6 * row['seconds']:>12.1f}  {ratio:>8}")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def versions() -> dict[str, str]:
    """Versions of the packages that are measured or compared with."""
    found = {}
    for package in COMPARED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Entry point of python -m benchmarks.speed."""
    run_command(SpeedOptions, speed, "benchmarks.speed")


if __name__ == "__main__":
    main()
