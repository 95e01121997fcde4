"""A mistaken command line is one sentence, whatever box the parser draws."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import tyro

from stores.command import run_command
from stores.mistake import sentence


@dataclass(kw_only=True)
class Options:
    """Do something."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Any files; a long sentence on what they are makes a box of many lines, which is why it is so long."""
    out: Path
    """What to write."""
    medium: Literal["air", "vacuum"] | None = None
    """Of the wavelengths."""
    radial_range: tuple[float, float] | None = None
    """Of velocities."""
    workers: int = 1
    """Processes."""
    share: float = 1.0
    """Of them."""
    labels: tuple[str, ...] = field(default=())
    """Names."""


LONG = "x" * 300
CASES = {
    "": "--out PATH is needed",
    "--oot x": "--out PATH is needed; unknown arguments: --oot, x",
    "--out": "--out needs 1 value",
    "--out x --wokers 2": "unknown arguments: --wokers, 2; perhaps you meant --workers",
    "--out x --wokers 2 --lables a": (
        "unknown arguments: --wokers, 2, --lables, a; perhaps you meant --workers or --labels"
    ),
    "--out x --nothing": "unknown arguments: --nothing",
    f"--out x --{LONG}": f"unknown arguments: --{LONG}",
    "--out x --medium water": "--medium cannot be 'water', but air or vacuum",
    "--out x --radial-range 1 2 3": "--radial-range takes FLOAT FLOAT, not '1', '2', '3'",
    "--out x --radial-range a b": "--radial-range takes FLOAT FLOAT, not 'a', 'b'",
    "--out x --workers 1.5": "--workers takes INT, not '1.5'",
    "--out x --workers two": "--workers takes INT, not 'two'",
    "--out x --share half": "--share takes FLOAT, not 'half'",
}


def said(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """Exit status, standard output and error of a command called with words."""
    monkeypatch.setattr(sys, "argv", ["prog", *words.split()])
    with pytest.raises(SystemExit) as end:
        run_command(Options, lambda options: None, "prog")
    return end.value.code, *capsys.readouterr()


@pytest.mark.parametrize("words", list(CASES))
def test_a_mistake_is_one_sentence(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    status, out, err = said(words, monkeypatch, capsys)
    assert (status, out) == (2, "")
    # the order of close names is the parser's
    same = CASES[words].replace("--workers or --labels", "--labels or --workers")
    assert err in {f"prog: {one}; see prog --help.\n" for one in (CASES[words], same)}
    assert os.environ["COLUMNS"] == "40"


def test_a_box_of_ascii_is_understood_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is drawn where the terminal knows no other characters."""
    error = io.StringIO()
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["prog", "--oot", "x"])
    with pytest.raises(SystemExit):
        run_command(Options, lambda options: None, "prog")
    assert error.getvalue() == f"prog: {CASES['--oot x']}; see prog --help.\n"


def test_an_unknown_box_is_told_in_its_own_words() -> None:
    box = "╭─ New fault ──────────╮\n│ The option is odd,   │\n│ and wrong.           │\n│ ──────────────────── │\n"
    box += "│ For full helptext, run prog --help │\n╰──────────────────────╯\n"
    assert sentence(box) == "New fault: The option is odd, and wrong"
    assert sentence("\x1b[31m" + box) == sentence(box)
    assert sentence("something else entirely\n") == "something else entirely"


def test_help_is_not_touched(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    status, out, err = said("--help", monkeypatch, capsys)
    assert (status, err) == (0, "")
    assert out.startswith("usage: prog")
    assert 40 < max(map(len, out.splitlines())) <= 60


def test_what_the_command_itself_exits_with_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prog", "--out", "x"])
    monkeypatch.delenv("COLUMNS", raising=False)
    with pytest.raises(SystemExit) as end:
        run_command(Options, lambda options: 3 if "COLUMNS" not in os.environ else 0, "prog")
    assert end.value.code == 3
