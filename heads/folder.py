"""Folders of heads: they appear under their name only when they are whole, and never in place of something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stores.atomic import full_disk_told
from stores.errors import OptionError
from stores.provenance import file_checksum

HEAD = "head.json"


@contextmanager
def filling(folder: str | Path) -> Iterator[Path]:
    """A new folder beside `folder` to write to; it takes the place of `folder` at the end, or vanishes.

    Raises OptionError for a folder that holds something other than a head.
    """
    named, folder = Path(folder), Path(folder).absolute()
    refuse_folder(folder)
    building = folder.with_name(f"{folder.name}.building-{os.getpid()}")
    try:
        with full_disk_told(named):
            building.mkdir(parents=True)
            yield building
            _take_place(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def refuse_folder(folder: Path) -> None:
    """Raise an OptionError if no head can be written to a folder, as it is there and holds something else."""
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / HEAD).is_file()):
        return
    if folder.exists() or folder.is_symlink():
        raise OptionError(f"'{folder}' exists and holds no head; choose another folder.")


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_checksum(path) for path in files}


def fault(folder: Path, files: Mapping[str, str]) -> str:
    """The first file that is not there or not as it was written, as a part of a sentence; empty if all are.

    files: their checksums
    """
    for name, checksum in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_checksum(folder / name) != checksum:
            return f"{name} was changed after it was written"
    return ""


def _take_place(building: Path, folder: Path) -> None:
    """Rename a folder; what has that name goes, or comes back if this fails."""
    old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    try:
        building.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
