"""One writer at a time in object storage: an object beside the store, `.NAME.lock`, that says who writes.

Storage knows nothing of processes that end, so a lock holds for as long as its writer renews it. One whose process
has ended on this machine, or that was not renewed for a while, is taken over.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from stores.errors import OptionError, PlaceError
from stores.location import Url
from stores.objects import QUICK, client, connect, told

RENEW = 60.0  # seconds
EXPIRES = 20 * 60.0  # seconds: more than the clocks of a machine and of its storage may differ

_mine: set[str] = set()  # locks that this process holds


@contextmanager
def leasing(url: Url) -> Iterator[None]:
    """Hold the lock of a store. Raises OptionError if another run does, PlaceError where none can be held."""
    client(url)  # says quickly what is wrong
    lease = Lease(url)
    lease.take()
    stop = threading.Event()
    renewing = threading.Thread(target=lease.renew, args=(stop,), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        stop.set()
        renewing.join()
        lease.free()


class Lease:
    """The lock of a store."""

    def __init__(self, url: Url) -> None:
        self.url = url
        self.name = f".{url.name}.lock"
        self._client = connect(url.folder, QUICK)
        self._key = uuid4().hex
        self._owner = {
            "lock": self._key,
            "host": _host(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._version: Any = None

    def take(self) -> None:
        """Write the lock, unless another run's is there."""
        try:
            self._version = self._put("create")
        except AlreadyExistsError:
            theirs, version, age = self._read()
            if theirs.get("lock") != self._key:  # it may be ours: a request that was answered too late
                if not (_ended(theirs) or age > EXPIRES):
                    raise self._busy(theirs) from None
                try:
                    self._version = self._put(version)
                except (AlreadyExistsError, PreconditionError, FileNotFoundError):  # another run was faster
                    raise self._busy({}) from None
            else:
                self._version = version
        _mine.add(self._key)

    def renew(self, stop: threading.Event) -> None:
        """Write it again and again, until told to stop or it is another's."""
        while not stop.wait(RENEW):
            from stores.command import say

            try:
                self._version = self._put(self._version)
            except PlaceError:
                continue  # the network may come back before it expires
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                say(f"note: another run has taken over '{self.url}', as this one was not heard of for too long.")
                return  # it must be of the same job, and writes the same

    def free(self) -> None:
        """Delete it, if it is ours still."""
        _mine.discard(self._key)
        with suppress(PlaceError, FileNotFoundError):
            theirs, _, _ = self._read()
            if theirs.get("lock") == self._key:
                with told(self.url):
                    obstore.delete(self._client, self.name)

    def _put(self, mode: Any) -> Any:
        """Write it on a condition; the version that it then has."""
        with told(self.url):
            put = obstore.put(self._client, self.name, json.dumps(self._owner).encode(), mode=mode)
        return {name: value for name, value in put.items() if value is not None}

    def _read(self) -> tuple[dict[str, Any], Any, float]:
        """Whose lock is there, its version, and its age in seconds."""
        try:
            with told(self.url):
                found = obstore.get(self._client, self.name)
                text, meta = bytes(found.bytes()), found.meta
        except FileNotFoundError:  # freed meanwhile
            return {}, "create", float("inf")
        version = {name: meta.get(name) for name in ("e_tag", "version") if meta.get(name) is not None}
        age = time.time() - meta["last_modified"].timestamp()
        try:
            owner = dict(json.loads(text))
        except (ValueError, TypeError):
            owner = {}
        return owner, version, age

    def _busy(self, theirs: dict[str, Any]) -> OptionError:
        who = f" (process {theirs['process']} on {theirs['host'].split('/')[0]})" if "process" in theirs else ""
        return OptionError(
            f"another run{who} is writing to '{self.url}'; wait until it has ended, or choose another --out; if it "
            f"was killed, delete '{self.url.folder}/{self.name}' or wait {EXPIRES / 60:.0f} minutes."
        )


def _host() -> str:
    """This machine, and since when it is up."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.exists() else ''}"


def _ended(theirs: dict[str, Any]) -> bool:
    """Whether a lock is of a process of this machine that is no more."""
    process = theirs.get("process")
    if os.name != "posix" or theirs.get("host") != _host() or not isinstance(process, int):
        return False
    if process == os.getpid():  # of an earlier one with this number, unless it is ours
        return theirs.get("lock") not in _mine
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
