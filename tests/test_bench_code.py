"""What is kept of a comparison is used again where the code that made it would make the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cell
from benchmarks.cell import HEAD, Cell, Settings
from benchmarks.code import ALL, CELLS, ROOT, digest, plain

SOURCE = '''
"""What it is."""

def half(x):
    """Half of x."""
    return x / 2
'''


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("Half of x.", "Half of `x`, a number."), True),
        (('    """Half of x."""\n', ""), True),
        (("x / 2", "x / 2  # exactly"), True),
        (("x / 2", "(\n        x / 2\n    )"), True),
        (("x / 2", "x / 3"), False),
        (("return x / 2", "return 'x / 2'"), False),
    ],
)
def test_only_what_python_does_counts(change: tuple[str, str], same: bool, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for folder, text in ((before, SOURCE), (after, SOURCE.replace(*change))):
        (folder / "heads").mkdir(parents=True)
        (folder / "heads" / "half.py").write_text(text)
    assert (digest(("heads",), before) == digest(("heads",), after)) is same


def test_files_are_told_apart_and_notes_left_out(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "heads").mkdir(parents=True)
        (tmp_path / name / "heads" / "half.py").write_text(SOURCE)
    (tmp_path / "two" / "heads" / "README.md").write_text("read me")
    one, two = (digest(("heads",), tmp_path / name) for name in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "heads" / "half.py").rename(tmp_path / "two" / "heads" / "third.py")
    digest.cache_clear()
    assert digest(("heads",), tmp_path / "two") != one


def test_what_is_named_is_there() -> None:
    assert all((ROOT / part).exists() for part in ALL)
    assert digest(CELLS) != digest(ALL)
    assert plain('"alone"\nx = 1') == plain("x = 1")


def test_other_code_is_another_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Cell(HEAD, "fused", "full", 100, 0)
    before = one.key("study", Settings())
    assert before == one.key("study", Settings())
    monkeypatch.setattr(cell, "digest", lambda: "other")
    assert one.key("study", Settings()) != before
