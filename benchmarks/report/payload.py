"""Payload: numbers and texts as the page holds them, safe inside a script element, and as CSV."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.results import Table

DIGITS = 6  # significant ones that drawings and tables keep
EXACT = 2**53  # JavaScript's numbers hold no larger integer


def plain(value: Any) -> Any:
    """The same in JSON's types: numbers rounded, null for what is not finite, text for integers beyond 2^53."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return _rounded(value) if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT:
        return str(value)
    return value


def _rounded(value: float) -> float | int:
    near = float(f"{value:.{DIGITS}g}")
    return int(near) if near.is_integer() and abs(near) < EXACT else near


def script_json(value: Any) -> str:
    """JSON for a <script type="application/json">: nothing in it can end the element or open another."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def csv_link(table: Table) -> str:
    """A data: address of the table as CSV, in full precision; empty where there is no number."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    for row in zip(*(column.tolist() for column in table.columns.values()), strict=True):
        writer.writerow(["" if isinstance(one, float) and not math.isfinite(one) else one for one in row])
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(out.getvalue().encode()).decode()
