"""python -m benchmarks.speed.memory [--spectra 2000 20000 200000] [--model DIR] [--folder DIR] [--json OUT]

Peak memory of ingest, embedding and prediction of so many spectra, each command in a process of its own (Linux).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.machine import machine, versions
from stores.atomic import replacing
from stores.command import run_command
from stores.errors import OptionError
from stores.provenance import provenance

ROWS = 2000  # of a table
SEED_STARS = 500  # of the built-in sample, which are repeated under other ids


@dataclass(kw_only=True)
class MemoryOptions:
    """Measure peak memory by number of spectra: simulated stars in FITS tables, again and again under other ids."""

    spectra: tuple[int, ...] = (2_000, 20_000, 200_000)
    """How many spectra, one after the other."""
    model: str | None = None
    """Embeds in place of the built-in model, whose encoder takes long for many spectra; nothing is predicted then."""
    folder: Path = Path("memory")
    """Where tables and stores are made: 50 kB a spectrum; tables that are there already are used again."""
    json: Path | None = None
    """File to write the results to, with versions, machine and commit."""


@dataclass(frozen=True)
class Peak:
    """What a command took; megabytes: its largest resident set."""

    spectra: int
    command: str
    megabytes: float
    seconds: float


def memory(options: MemoryOptions) -> None:
    """Measure, print a table, write the file."""
    if not options.spectra or min(options.spectra) < 1:
        raise OptionError("--spectra needs some numbers of 1 or more.")
    if not Path("/proc/self/status").exists():
        raise OptionError("peak memory can be measured on Linux only.")
    options.folder.mkdir(parents=True, exist_ok=True)
    peaks = [peak for count in sorted(options.spectra) for peak in measured(count, options.folder, options.model)]
    print(table(peaks))
    if options.json is not None:
        made = {**provenance(), "machine": machine(), "versions": versions()}
        results = [vars(peak) for peak in peaks]
        with replacing(options.json) as path:
            path.write_text(json.dumps({**made, "results": {"memory": results}}, indent=2) + "\n")


def measured(count: int, folder: Path, model: str | None) -> list[Peak]:
    """What each command takes for so many spectra; stores of a run before are made again."""
    tables = write_tables(count, folder / "tables")
    spectra, embeddings, catalogue = (folder.resolve() / f"{count}{end}" for end in (".zarr", "-e.zarr", ".parquet"))
    listed = folder / f"{count}.txt"
    listed.write_text("".join(f"{path.resolve()}\n" for path in tables))
    limit = ["--limit", str(count)]
    for store in (spectra, embeddings):
        shutil.rmtree(store, ignore_errors=True)
    calls = {
        "stores-ingest": ["stores.ingest", "--survey", "table", f"@{listed}", "--out", str(spectra), *limit],
        "embed-spectra": ["embed.run", str(spectra), "--out", str(embeddings), "--device", "cpu"],
        "heads-predict": [
            "heads.predict", "--head", "lamost", "--store", str(spectra), "--embeddings", str(embeddings),
            "--out", str(catalogue), "--overwrite",
        ],
    }  # fmt: skip
    if model is not None:
        calls["embed-spectra"] += ["--model", str(Path(model).resolve() if Path(model).exists() else model)]
        del calls["heads-predict"]
    found = []
    for name, call in calls.items():
        megabytes, seconds = run([sys.executable, "-m", *call])
        found.append(Peak(count, name, megabytes, seconds))
        print(f"{count} spectra, {name}: {megabytes:.0f} MB, {seconds:.0f} s", flush=True)
    return found


def run(call: list[str]) -> tuple[float, float]:
    """Largest resident set, MB, and seconds of a process. Raises OptionError if it fails."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(call, stdout=told, stderr=told, cwd=Path(__file__).parents[2])
        peak = 0.0
        while process.poll() is None:
            # not what wait4 tells: that starts from the memory of the process that forks
            peak = max(peak, resident_peak(process.pid))
            time.sleep(0.05)
        if process.returncode not in (0, 3):
            told.seek(0)
            last = told.read().decode(errors="replace").strip().splitlines()[-1:]
            raise OptionError(f"'{' '.join(call)}' ended with status {process.returncode}: {' '.join(last)}")
    return peak, time.perf_counter() - begun


def resident_peak(process: int) -> float:
    """Largest resident set of a running process so far, MB; 0 if it has gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    held = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), "0")
    return int(held) / 1024


def write_tables(count: int, folder: Path) -> list[Path]:
    """FITS tables with at least so many spectra at rest, ROWS in each; those that are there stay."""
    from astropy.table import Table

    from stores.grid import Grid
    from stores.prepare import Preparation
    from stores.sample import BuiltInSample

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.fits" for number in range(-(-count // ROWS))]
    if all(path.exists() for path in paths):
        return paths
    grid = Grid.parse("lrs")
    stars = BuiltInSample("lamost", grid, Preparation(), SEED_STARS).make(slice(0, SEED_STARS))
    usable = np.flatnonzero((stars["ivar"] > 0).mean(axis=1) > 0.5)
    for number, path in enumerate(paths):
        if path.exists():
            continue
        chosen = usable[np.arange(ROWS) % len(usable)]
        columns: dict[str, Any] = {name: stars[name][chosen] for name in ("flux", "ivar", "ra", "dec")}
        columns |= {"id": 1 + number * ROWS + np.arange(ROWS), "rv": np.zeros(ROWS)}
        columns["wavelength"] = np.broadcast_to(grid.wavelength, (ROWS, grid.n_pix))
        with replacing(path) as building:
            Table(columns).write(building, format="fits")
    return paths


def table(peaks: list[Peak]) -> str:
    """Peaks as text: a row a command, a column a number of spectra, and the growth from the first to the last."""
    counts = sorted({peak.spectra for peak in peaks})
    lines = [f"{'peak memory, MB':<16}" + "".join(f"{count:>10,}" for count in counts) + f"{'growth':>9}"]
    for command in dict.fromkeys(peak.command for peak in peaks):
        own = [next(p.megabytes for p in peaks if (p.command, p.spectra) == (command, count)) for count in counts]
        growth = f"{own[-1] / own[0] - 1:+.0%}"
        lines.append(f"{command:<16}" + "".join(f"{megabytes:>10.0f}" for megabytes in own) + f"{growth:>9}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(MemoryOptions, memory, "benchmarks.speed.memory")
