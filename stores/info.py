"""stores-info: what a store is, finished or not.

stores-info desi.zarr
stores-info desi.zarr --json | jq .attributes.preprocessing
stores-info desi.zarr --files > files.tsv
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from stores.command import run_command
from stores.errors import StoreError
from stores.location import Location

if TYPE_CHECKING:
    from stores.store import Store

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(kw_only=True)
class InfoOptions:
    """Say what a store is: rows, grid, preprocessing, where it comes from and what is flagged."""

    path: tyro.conf.Positional[Location]
    """The store; an unfinished one is described as far as it is written."""
    json: bool = False
    """Print all attributes and numbers as JSON."""
    files: bool = False
    """Print the files that the rows came from, a line each below a header: bytes, SHA-256, rows, file."""


def info(options: InfoOptions) -> int:
    """Print what the store is; returns the exit status."""
    from stores.store import open_store

    store = open_store(options.path, unfinished=True)
    if options.files:
        print("bytes", "sha256", "rows", "file", sep="\t")
        for source in store.sources():
            print(source["size"], source["sha256"] or "-", source["rows"], source["file"], sep="\t")
        return 0
    found = describe(store)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    lines = list(_lines(found))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:<{width}}  {text}".rstrip())
    return 0


def describe(store: Store) -> dict[str, Any]:
    """The attributes of a store and the numbers that are not among them, fit for JSON."""
    import numpy as np

    from stores.flags import REASONS, Flag, count_flags
    from stores.grid import Grid

    attributes = store.attributes
    finished: list[int] = []
    failed: dict[str, dict[str, Any]] = {}
    for shard, marker in store.markers():
        finished.append(shard)
        failed.update((entry["file"], entry) for entry in marker["failed"])
    flags, snr = (
        np.concatenate([store.read(name, store.rows(shard)) for shard in finished] or [np.zeros(0, dtype)])
        for name, dtype in (("flags", np.uint32), ("snr", np.float32))
    )
    used = snr[((flags & np.uint32(Flag.NO_VALID_PIXELS)) == 0) & np.isfinite(snr)]
    try:
        grid = Grid(**attributes["grid"])
        wavelength = grid.wavelength
    except (KeyError, TypeError):
        raise StoreError(f"'{store.path}' is damaged: it has no usable grid; run stores-verify on it.") from None
    return {
        "path": str(store.path),
        "kind": store.KIND,
        "rows": len(store),
        "rows_written": len(flags),
        "shards": {"done": len(finished), "total": store.n_shards},
        "complete": store.complete,
        "grid": {"name": str(grid), "n_pix": grid.n_pix, "angstrom": [wavelength[0], wavelength[-1]]},
        "flags": [
            {"name": name, "rows": count, "reason": REASONS[Flag[name]]} for name, count in count_flags(flags).items()
        ],
        "snr": {str(q): float(np.quantile(used, q)) for q in QUANTILES} if len(used) else {},
        "sources": store.source_totals(),
        "failed": attributes.get("failed") or list(failed.values()),
        "bytes_on_disk": sum(store.place.sizes().values()),
        "attributes": attributes,
    }


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    attributes, shards, grid = found["attributes"], found["shards"], found["grid"]
    done = f"{shards['done']} of {shards['total']} shards"
    yield "store", f"{found['path']} ({found['kind']}, {_bytes(found['bytes_on_disk'])})"
    if found["complete"]:
        yield "state", f"complete, {done}, fingerprint {attributes.get('fingerprint')}"
    else:
        yield "state", f"NOT FINISHED, {done}; run the command below again to finish it"
    rows = f"{found['rows']} spectra"
    yield "rows", rows if found["complete"] else f"{rows}, {found['rows_written']} of them written"
    yield "survey", str(attributes.get("survey"))
    low, high = grid["angstrom"]
    yield "grid", f"{grid['name']}, {low:.2f}-{high:.2f} A (vacuum), {grid['n_pix']} pixels"
    yield "preprocessing", _pairs(attributes.get("preprocessing"))
    if "model" in attributes:
        yield "model", _pairs(attributes["model"])
    if "backend" in attributes:
        yield "run by", f"{attributes['backend']}, {attributes['job'].get('precision', 'float32')}"
    yield "written by", f"spectrabridge {attributes.get('version')}, commit {attributes.get('commit')}"
    yield "created", str(attributes.get("created"))
    command = str(attributes.get("command"))
    yield "command", command if len(command) < 300 else command[:240] + " ... (all of it with --json)"
    yield "source files", f"{found['sources']['files']} ({_bytes(found['sources']['bytes'])})"
    yield "failed files", str(len(found["failed"]))
    for entry in found["failed"]:
        yield "", str(entry["reason"])
    if found["snr"]:
        values = ", ".join(f"{float(q):.0%} {value:.1f}" for q, value in found["snr"].items())
        yield "S/N quantiles", f"{values} (per grid pixel, spectra with valid pixels)"
    yield "flagged", "" if found["flags"] else "none"
    for flag in found["flags"]:
        yield f"  {flag['name']}", f"{flag['rows']}: {flag['reason']}"


def _pairs(values: Any) -> str:
    if not isinstance(values, dict):
        return str(values)
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _bytes(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def main() -> None:
    """Entry point of stores-info."""
    run_command(InfoOptions, info, "stores-info")


if __name__ == "__main__":
    main()
