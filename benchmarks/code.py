"""Code: a hash of what decides a cell, so that what is kept is used again where it would come out the same."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CELLS = (  # what computes a cell of data that are hashed themselves: stores, labels, embeddings
    "heads",
    "benchmarks/baselines",
    "benchmarks/cell.py",
    "benchmarks/landscape.py",
    "benchmarks/study.py",
    "benchmarks/task.py",
    "embed/probe.py",
    "stores/prepare",
    "stores/simulate",
    "stores/simulate/data/emulator.safetensors",
)
ALL = ("benchmarks", *CELLS)  # and what makes tables, figures and the page of cells
SUFFIXES = (".py", ".toml", ".js", ".css", ".html")  # of the files that count in folders
LIBRARIES = ("numpy", "torch", "scipy", "peft", "faiss-cpu")  # on which last bits depend


@cache
def digest(parts: tuple[str, ...] = CELLS, root: Path = ROOT) -> str:
    """A hash of the code below `root` in these files and folders, and of the versions of the libraries.

    Comments, docstrings and the way in which code is laid out do not count.
    """
    found = hashlib.blake2b(digest_size=8)
    for path in sorted(_files(parts, root)):
        found.update(f"{path.relative_to(root).as_posix()}\0".encode())
        found.update(plain(path.read_text()).encode() if path.suffix == ".py" else path.read_bytes())
    for name in LIBRARIES:
        found.update(f"{name} {_version(name)}\0".encode())
    return found.hexdigest()


def plain(source: str) -> str:
    """What Python makes of a source, without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *others]:
                    node.body = others
    return ast.dump(tree)


def _files(parts: Iterable[str], root: Path) -> set[Path]:
    """The files that are named, and those in the folders that are."""
    found = set()
    for part in parts:
        path = root / part
        found |= {path} if path.is_file() else {one for one in path.rglob("*") if one.suffix in SUFFIXES}
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
