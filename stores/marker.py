"""The markers of a store: what says that a shard is finished, and what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

KEY = "spectrabridge"  # of what is ours among the attributes of a group
METADATA = "zarr.json"  # of the store, of each column and of each marker
NEEDED = {"rows": int, "digest": str, "files": dict, "sources": list, "failed": list}


def marker_path(shard: int) -> str:
    """The group that marks a shard as finished."""
    return f"shards/{shard:05d}"


def marker_file(shard: int) -> str:
    """The file of that group."""
    return f"{marker_path(shard)}/{METADATA}"


def parse_marker(text: bytes) -> dict[str, Any]:
    """The record in a marker's file. Raises ValueError, KeyError or TypeError for what is none."""
    return dict(json.loads(text)["attributes"][KEY])


def lacking(record: Mapping[str, Any], needed: Mapping[str, type] = NEEDED) -> str:
    """The first name that a record lacks, or holds with another type; empty if none."""
    return next((name for name, kind in needed.items() if not isinstance(record.get(name), kind)), "")
