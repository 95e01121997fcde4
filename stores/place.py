"""Place: what a store needs of where it lies, be it a folder on disk or a prefix in object storage.

Files are named by their paths within the place, such as `flux/c/0/0`. A file is written as a whole or not at all in
both: on disk by a rename, in object storage because a PUT is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stores.atomic import remove_folder
from stores.errors import OptionError
from stores.location import Url, location
from stores.provenance import file_checksum


class Place(Protocol):
    """A folder, or a prefix in object storage; sent to other processes as its name.

    In object storage everything raises PlaceError where the storage cannot be reached or refuses.
    """

    def exists(self, below: str = "") -> bool:
        """Whether there is anything at all, here or in a folder within."""
        ...

    def taken(self) -> bool:
        """Whether a store cannot be created here: there is one, or something else."""
        ...

    def has(self, file: str) -> bool: ...

    def sizes(self) -> dict[str, int]:
        """Bytes of all files."""
        ...

    def lacking(self, files: Iterable[str]) -> str | None:
        """The first of the files that is not there."""
        ...

    def read(self, files: Iterable[str]) -> Iterator[bytes | None]:
        """What stands in small files, in order; None for one that is not there."""
        ...

    def checksums(self, files: Iterable[str]) -> Iterator[str]:
        """SHA-256 of files, in order; empty for one that is not there."""
        ...

    def written(self, file: str) -> str:
        """SHA-256 of a file that was written just now through `zarr`."""
        ...

    def zarr(self) -> Any:
        """What Zarr opens a group in."""
        ...

    def building(self) -> AbstractContextManager[Any]:
        """What Zarr makes a new group in, which takes its place at the end, whole.

        Raises OSError where there can be none, or another process was faster.
        """
        ...

    def delete(self, below: str = "") -> None:
        """Delete everything, here or in a folder within."""
        ...


def place_at(where: str | Path) -> Place:
    """The place of a path or URL; nothing is asked of it yet. Raises OptionError for a URL that cannot be read."""
    found = location(where)
    if not isinstance(found, Url):
        return Folder(found)
    try:
        from stores.objects import Prefix
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise OptionError(
            f"'{found}' lies in object storage, and what reads that is not installed; run "
            "pip install 'spectrabridge[objects]'."
        ) from None
    return Prefix(found)


@dataclass(frozen=True)
class Folder:
    """A folder on disk."""

    path: Path

    def exists(self, below: str = "") -> bool:
        return (self.path / below).exists()

    def taken(self) -> bool:
        return self.path.exists() or self.path.is_symlink()

    def has(self, file: str) -> bool:
        return (self.path / file).is_file()

    def sizes(self) -> dict[str, int]:
        files = (file for file in self.path.rglob("*") if file.is_file())
        return {file.relative_to(self.path).as_posix(): file.stat().st_size for file in files}

    def lacking(self, files: Iterable[str]) -> str | None:
        return next((file for file in files if not self.has(file)), None)

    def read(self, files: Iterable[str]) -> Iterator[bytes | None]:
        for file in files:
            yield (self.path / file).read_bytes() if self.has(file) else None

    def checksums(self, files: Iterable[str]) -> Iterator[str]:
        for file in files:
            yield file_checksum(self.path / file) if self.has(file) else ""

    def written(self, file: str) -> str:
        return file_checksum(self.path / file)

    def zarr(self) -> Path:
        return self.path

    @contextmanager
    def building(self) -> Iterator[Path]:
        building = self.path.with_name(f"{self.path.name}.building-{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            yield building
            building.rename(self.path)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def delete(self, below: str = "") -> None:
        remove_folder(self.path / below)
