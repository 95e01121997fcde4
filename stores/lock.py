"""One writer at a time: a second run into the same place says so and ends before it touches anything.

The lock is a hidden file beside what is written, `.NAME.lock`, that the operating system frees when a process ends,
however it ends; what a killed run leaves of it does no harm. In object storage it is an object (stores.lease).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stores.errors import OptionError
from stores.location import Url
from stores.place import place_at

# where launchers of several processes number them; the first one holds the lock for all
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


@contextmanager
def writing(out: Path | Url) -> Iterator[None]:
    """Hold the lock of a file, folder or store that is written.

    Without one where there can be none: a folder that cannot be written to, or a file system without locks.

    Raises OptionError if another run holds it.
    """
    if any(os.environ.get(name, "0") != "0" for name in RANKS):
        yield
        return
    if isinstance(out, Url):
        place_at(out)  # says what is not installed
        from stores.lease import leasing

        with leasing(out):
            yield
        return
    from filelock import FileLock, Timeout

    whole = Path(os.path.realpath(out))  # by whatever path, the same place
    path = whole.with_name(f".{whole.name}.lock") if whole.name else whole
    missing = [folder for folder in path.parents if not folder.exists()]
    lock = FileLock(path)
    held = False
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a file system without locks: a file must do there
                lock.acquire(timeout=0)
            held = True
        except Timeout:
            raise OptionError(
                f"another run is writing to '{out}'; wait until it has ended, or choose another --out."
            ) from None
        except (OSError, NotImplementedError):
            pass  # the command says better what is wrong with the place
        yield
    finally:
        if held:
            # while it is held: nobody can take it between the two
            with suppress(OSError):
                path.unlink()
            lock.release()
        for folder in missing:  # a call that was refused leaves nothing
            with suppress(OSError):
                folder.rmdir()
