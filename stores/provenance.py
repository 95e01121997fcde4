"""Where a result comes from: version, commit, command, time; and fingerprints of content."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np


def package_version() -> str:
    """The installed version of spectrabridge."""
    try:
        return version("spectrabridge")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


@cache
def commit() -> str | None:
    """The git commit of the running code, `+changes` if files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "HEAD").strip() + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance() -> dict[str, Any]:
    """What every written thing carries: version, commit, command line and time (UTC)."""
    return {
        "version": package_version(),
        "commit": commit(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def header_text(text: str) -> str:
    """Text as FITS headers can hold it: printable ASCII, with what else there is written as Python escapes it."""
    plain = "".join(one if one.isprintable() else " " for one in text)
    return plain.encode("ascii", "backslashreplace").decode()


def fingerprint(value: Any) -> str:
    """A short stable hash of anything that JSON can hold."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def array_digest(*arrays: np.ndarray[Any, Any]) -> str:
    """A hash of the values, types and shapes of arrays, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()


def file_checksum(path: Path) -> str:
    """The SHA-256 of a file, as surveys publish it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
