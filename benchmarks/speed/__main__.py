"""python -m benchmarks.speed [--json OUT] [--repeats N] [MEASUREMENT ...]

python -m benchmarks.speed --device cuda [--json OUT] [--record]         (embedding and pre-training on a GPU)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.speed import MEASUREMENTS, REPEATS, Row, get_measurement
from benchmarks.speed.machine import machine, versions
from stores.atomic import replacing
from stores.command import run_command
from stores.errors import OptionError
from stores.provenance import provenance


@dataclass(kw_only=True)
class SpeedOptions:
    """Measure how fast things are, each as the median of several repeats in this one run."""

    measurements: tyro.conf.Positional[tuple[str, ...]] = tuple(MEASUREMENTS)
    """What to measure; everything if not given."""
    repeats: int = REPEATS
    """Repeats that the medians are of."""
    json: Path | None = None
    """File to write the results to, with versions, machine and commit."""
    device: str | None = None
    """Measure embedding and pre-training on this device instead: cuda, or cpu to try it."""
    sizes: tuple[Literal["tiny", "small", "base"], ...] = ("small", "base")
    """With --device: sizes of the models."""
    batches: tuple[int, ...] = (64, 256, 1024, 4096)
    """With --device: spectra in a batch, one after the other."""
    record: bool = False
    """With --device: add a line to the leaderboard of the repository."""


def speed(options: SpeedOptions) -> None:
    """Measure, print a table, write the file."""
    if options.repeats < 1:
        raise OptionError(f"--repeats {options.repeats} must be 1 or more.")
    if options.json is not None and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise OptionError(f"--json {options.json} cannot be written; name a file in a folder that is there.")
    about = {**provenance(), "machine": machine(), "versions": versions(), "repeats": options.repeats}
    results = parts(options) if options.device is None else on_device(options, options.device, about)
    if options.json is not None:
        with replacing(options.json) as path:
            path.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")


def parts(options: SpeedOptions) -> dict[str, Any]:
    """The rows of each measurement."""
    if options.record:
        raise OptionError("--record is for runs with --device; leave it out.")
    results = {}
    for name, measure in {name: get_measurement(name) for name in options.measurements}.items():
        rows = as_records(measure(options.repeats))
        results[name] = rows
        print(table(name, rows), flush=True)
    return results


def on_device(options: SpeedOptions, device: str, about: dict[str, Any]) -> dict[str, Any]:
    """The card and what was tried on it; recorded where that is asked for."""
    from benchmarks.leaderboard import check_recordable, record_speed
    from benchmarks.speed.device import best, measure_device

    if options.measurements != tuple(MEASUREMENTS):
        raise OptionError("--device measures embedding and pre-training alone; leave the other measurements out.")
    if options.record:
        check_recordable(about.get("commit"))
    results = measure_device(device, options.sizes, options.batches, options.repeats)
    if options.record:
        print(record_speed(about, results["card"], best(results["trials"])))
    return {"device": results}


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


def main() -> None:
    """Entry point of python -m benchmarks.speed."""
    run_command(SpeedOptions, speed, "benchmarks.speed")


if __name__ == "__main__":
    main()
