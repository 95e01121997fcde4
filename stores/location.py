"""Where a store lies: a folder on disk, or a URL of object storage such as s3://bucket/surveys/desi.zarr."""

from __future__ import annotations

import os
import re
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Self

from tyro.constructors import PrimitiveConstructorSpec

from stores.errors import OptionError

SCHEMES = ("s3", "gs", "az")
_NAMES = re.compile(r"[\w.+=,~-]+", re.ASCII)  # what stands in a URL as it stands in a key


class Url(str):
    """scheme://bucket/name of a store in object storage; answers to `name` and `stem` as a Path does.

    Raises OptionError for text that is none: credentials in it, an unknown scheme, no name behind the bucket.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return super().__new__(cls, _checked(text))

    @property
    def name(self) -> str:
        return self.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def bucket(self) -> str:
        return self.split("/")[2]

    @property
    def folder(self) -> str:
        """What the store lies in: scheme://bucket or scheme://bucket/name."""
        return self.rpartition("/")[0]


def location(text: str | Path) -> Path | Url:
    """A path, or a checked URL; what is one already stays as it is."""
    if isinstance(text, Path | Url):
        return text
    return Url(text) if "://" in text else Path(text)


# a store on the command line: a Path would take one of the two slashes away
Location = Annotated[
    Path | Url,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: location(words[0]),
        is_instance=lambda value: isinstance(value, Path | Url),
        str_from_instance=lambda value: [str(value)],
    ),
]


def resolved(where: Path | Url) -> Path | Url:
    """The same for the same place, whatever it is called."""
    return where.resolve() if isinstance(where, Path) else where


def home(where: Path | Url) -> Path:
    """The folder on disk for what lies beside a store: the one that holds it, or one among the user's caches."""
    if isinstance(where, Path):
        return where.parent
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "spectrabridge" / "beside" / sha256(where.encode()).hexdigest()[:16]


def refuse_urls(options: Any) -> None:
    """Raise OptionError if a command's options, a dataclass, name something other than a store by a URL."""
    if not is_dataclass(options):
        return
    for field in fields(options):
        value = getattr(options, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path) and (found := re.match(rf"({'|'.join(SCHEMES)}):/(?!/)", str(one))):
                raise OptionError(
                    f"--{field.name.replace('_', '-')} takes a path on this machine, and no URL of object storage "
                    f"such as {found[1]}://...; name another place."
                )


def _checked(text: str) -> str:
    scheme, _, rest = text.partition("://")
    bucket, *names = [part for part in rest.split("/") if part] or [""]
    if "@" in rest or ":" in rest:  # nothing of it is repeated, a password might be
        raise OptionError(
            f"a URL that begins with '{scheme}://' has a @ or : in it, as credentials have; leave them out and set "
            "them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if "?" in rest or "#" in rest:
        raise OptionError(
            f"'{scheme}://{rest.split('?')[0].split('#')[0]}' has more behind it, which may be a secret; name the "
            "store alone."
        )
    if scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise OptionError(f"'{text}' cannot be read: stores lie in folders, or at {known}.")
    if not names:
        raise OptionError(f"'{text}' names no store; add a name behind the bucket, such as {scheme}://bucket/x.zarr.")
    for part in (bucket, *names):
        if not _NAMES.fullmatch(part) or part in (".", ".."):
            raise OptionError(f"'{text}': '{part}' is no name of an object; use letters, digits and . _ - + = , ~ .")
    return "/".join((f"{scheme}:/", bucket, *names))
