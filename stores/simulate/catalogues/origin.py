"""Where a simulated catalogue comes from, for its header or its first lines."""

from __future__ import annotations

from typing import Any

from stores.provenance import provenance


def origin(imitates: str, seed: int) -> dict[str, str]:
    """Provenance, seed and what is imitated, as ASCII text by upper-case key of at most eight letters."""
    told: dict[str, Any] = {"CONTENT": f"simulated stars in the layout of {imitates}", "SEED": seed, **provenance()}
    return {
        key.upper(): str(value).replace("\n", " ").encode("ascii", "replace").decode() for key, value in told.items()
    }
