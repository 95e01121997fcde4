"""What is wrong with a command line, as one sentence: tyro draws a box of many lines.

The box is read as text, which is all that tyro promises of it: a title, then parts between rules, the last of which
points to --help. A box of another make is told in its own words.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import TypeVar

from stores.errors import OptionError

Options = TypeVar("Options")

HELP = ("-h", "--help", "-H", "--help-verbose")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
EDGES = re.compile(r"^[│╭╰ ] ?|[ ─│╮╯]*$")
UNKNOWN = "Unrecognized options:"


def parsed(parse: Callable[[], Options], prog: str) -> Options:
    """What `parse` makes of the command line. Raises OptionError where it draws a box and exits."""
    box = StringIO()
    try:
        with _unwrapped(), redirect_stderr(box):
            options = parse()
    except SystemExit as end:
        if end.code != 2 or not box.getvalue().strip():
            raise
        raise OptionError(f"{sentence(box.getvalue())}; see {prog} --help.") from None
    sys.stderr.write(box.getvalue())  # no box, but a warning of tyro's
    return options


def sentence(box: str) -> str:
    """The essence of a box, without a full stop."""
    title, *parts = _parts(box)
    told = [part for part in parts if not part[0].strip().startswith("For full helptext")]
    first = " ".join(line.strip() for line in told[0]) if told else ""
    if found := re.match(r"Missing value for argument '(.+)'. Expected (\d+) values?", first):
        return f"{found[1]} needs {found[2]} value{'s' if found[2] != '1' else ''}"
    if found := re.match(r"invalid choice (.+) for argument '(.+)'. Expected one of \((.+?),?\)\.", first):
        choices = sorted(set(re.findall(r"'([^']*)'", found[3])) - {"None"})
        return f"{found[2]} cannot be {found[1]}, but {' or '.join(choices)}"
    if found := re.match(r"Error parsing (\S+): no type matching (.+) could be instantiated from \[(.*?)\]\.", first):
        kinds = found[2].removeprefix("{None}|").strip("{}")
        return f"{found[1]} takes {kinds}, not {found[3]}"
    if found := re.match(r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.+)", first):
        return f"{found[1]} takes INT, not {found[2].rstrip('.')}"
    if found := re.match(r"Error parsing (\S+): could not convert string to float: (.+)", first):
        return f"{found[1]} takes FLOAT, not {found[2].rstrip('.')}"
    if found := re.match(r"Error parsing (\S+): (.+)", first):
        return f"{found[1]} cannot be read ({found[2].rstrip('.')})"
    if first.startswith("Missing from"):
        lacking = _names(told[0])
        said = [f"{', '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} needed"]
        said += [f"unknown arguments: {', '.join(_names(part))}" for part in told[1:] if part[0].startswith(UNKNOWN)]
        return "; ".join(said)
    if first.startswith(UNKNOWN):
        meant = [name.split(" ")[0].rstrip(",") for part in told[1:] for name in _names(part)]
        hint = f"; perhaps you meant {' or '.join(dict.fromkeys(meant))}" if meant else ""
        return f"unknown arguments: {first.removeprefix(UNKNOWN).strip()}{hint}"
    return re.sub(r"\s+", " ", f"{title[0]}: {first}").strip(" .:")


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Boxes as wide as their text, unless it is help that is asked for."""
    before = os.environ.get("COLUMNS")
    if not set(HELP) & set(sys.argv):
        os.environ["COLUMNS"] = "100000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def _parts(box: str) -> list[list[str]]:
    """Title and parts of a box, each its lines without edges."""
    parts: list[list[str]] = [[]]
    for line in COLOURS.sub("", box).splitlines():
        words = EDGES.sub("", line)
        if words.strip("─- ╭"):
            parts[-1].append(words)
        elif parts[-1]:
            parts.append([])
    title = parts[0].pop(0).strip("─ ")
    return [[title], *(part for part in parts if part)]


def _names(part: list[str]) -> list[str]:
    """Options in a part: they stand four columns from its edge, their descriptions eight."""
    return [line.strip() for line in part if re.match(r" {4}\S", line)]
