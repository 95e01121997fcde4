"""The library: heads inside the package, by name, where any head lies, and the model that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heads.folder import HEAD
from stores.errors import ModelError, OptionError

BUILT_IN = Path(__file__).parent / "models"


def built_in_heads() -> list[str]:
    """Names of the heads inside the package."""
    return sorted(path.parent.name for path in BUILT_IN.glob("*/head.json"))


def find_head(name: str | Path) -> Path:
    """The folder of a head: the folder itself, or a built-in one by its name. Raises ModelError if there is none."""
    known = built_in_heads()
    if str(name) in known and not (Path(name) / HEAD).is_file():
        return BUILT_IN / name
    if Path(name).is_dir():
        return Path(name)
    shown = ", ".join(known) or "there are none yet"
    raise ModelError(
        f"'{name}' holds no head and is none of the built-in ones ({shown}); name another, or make one with "
        "heads-train."
    )


def head_of_survey(survey: str) -> Path:
    """The folder of the built-in head of a survey. Raises OptionError if there is none."""
    known = built_in_heads()
    if survey in known:
        return BUILT_IN / survey
    shown = f"only of {', '.join(known)}" if known else "nor of any other"
    raise OptionError(
        f"there is no built-in head of the survey '{survey}', {shown}; name one with --head: that of another survey "
        "for a first look, or one that heads-train --base has taken to yours."
    )


def ask_of_model(point: str, name: str, fingerprint: str, where: str | None, *more: Any) -> Any:
    """What an entry point of stores.embedders makes of a head's model. Raises ModelError if it is not to be had.

    where: it lies, if not where its name says
    """
    from stores.embedders import find_embedder

    ask = find_embedder(point)
    try:
        return ask(where or name, fingerprint, *more)
    except ModelError as error:
        reason = str(error).rstrip(".")
        raise ModelError(f"the head needs its model: {reason}; name where it lies with --model.") from None
