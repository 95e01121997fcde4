"""Files and folders that bear their name only while they are whole, and say it where the disk is full."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the place of `path` at the end, or vanishes."""
    # the suffix stays: writers tell the format by it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with full_disk_told(path):
            yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder that is renamed first: killed on the way, nothing half-removed has its name."""
    remove_rest(folder)
    os.replace(folder, _rest(folder))
    remove_rest(folder)


def remove_rest(folder: Path) -> None:
    """Delete what a `remove_folder` that was killed has left."""
    shutil.rmtree(_rest(folder), ignore_errors=True)


def _rest(folder: Path) -> Path:
    return folder.with_name(f".{folder.name.lstrip('.')}.rest")


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Raise what libraries make of a full disk, or of a quota, as the OSError it is, with the name of `path`."""
    try:
        yield
    except Exception as error:
        number = _of_full_disk(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _of_full_disk(error: Exception) -> int | None:
    """The errno of an error that says, in its own way, that there was no room."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        if error.errno is None and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
            return errno.ENOSPC  # numpy, which drops the reason
        return error.errno if error.errno in full and error.filename is None else None
    # safetensors, whose errors are not OSErrors
    return next((number for number in full if f"(os error {number})" in str(error)), None)
