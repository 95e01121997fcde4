"""Where a simulated catalogue comes from, for its header or its first lines."""

from __future__ import annotations

from typing import Any

from stores.provenance import header_text, provenance
from stores.simulate.layouts import Cards


def origin(imitates: str, seed: int, cards: Cards) -> dict[str, str | int | bool]:
    """Provenance, seed, what is imitated and the twin's cards, by upper-case key of at most eight letters.

    Text is ASCII.
    """
    told: dict[str, Any] = {"CONTENT": f"simulated stars in the layout of {imitates}", "SEED": seed, **provenance()}
    return {**{key.upper(): header_text(str(value)) for key, value in told.items()}, **cards}
