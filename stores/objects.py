"""Prefix: a place in object storage, through obstore; credentials come from the environment and are kept nowhere.

This module needs the extra `objects`; stores.place imports it late.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from hashlib import sha256
from itertools import islice
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import MemoryStore, from_url
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from stores.errors import PlaceError
from stores.location import Url

AT_ONCE = 16  # requests under way
# the first request says quickly what is wrong; later ones outlast a while without the network
QUICK: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}
PATIENT: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=180)}
ROOT = "zarr.json"
_WHERE = re.compile(r"https?://(?!\S*/latest/api/token|\S*/computeMetadata/)\S+|(location|path:?) \S+")
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")

# what storage says, and what that means; the first that is found
FAULTS = (
    (r"NoSuchBucket|ContainerNotFound|bucket does not exist", "there is no such bucket; create it, or check its name"),
    (
        r"169\.254\.169\.254|/latest/api/token|/computeMetadata/|[Cc]redential|MissingAccount",
        "there are no credentials in the environment; set those of the storage, such as AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"redirect|AuthorizationHeaderMalformed",
        "the bucket lies in another region than the environment says; set AWS_REGION",
    ),
    (
        r"Unauth|PermissionDenied|AccessDenied|Forbidden|\b40[13]\b|InvalidAccessKey|SignatureDoesNotMatch",
        "the storage refuses the credentials in the environment, or what they may do; check them",
    ),
    (
        r"sending request|[Cc]onnect|timed out|dns",
        "the storage cannot be reached; check the network and, for storage other than the provider's own, "
        "AWS_ENDPOINT_URL",
    ),
    (r"BadScheme", "its endpoint is not https; use one that is, or set AWS_ALLOW_HTTP=true"),
)


@contextmanager
def told(where: str) -> Iterator[None]:
    """Raise what obstore makes of a fault as a PlaceError about `where`, but for answers: not there, there already.

    Of the storage's own words nothing is passed on but a status: they may hold more than a log should.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        text = f"{type(error).__name__} {_WHERE.sub('', str(error))}"
        answers = (AlreadyExistsError, PreconditionError, FileNotFoundError)
        if isinstance(error, answers) and "NoSuchBucket" not in text:
            raise
        status = re.search(r"status code: (\d{3} [A-Za-z ]+)", text)
        answer = status[1].strip() if status else type(error).__name__
        other = f"the storage does not do its part ({answer}); check its endpoint, or try again later"
        fault = next((fault for pattern, fault in FAULTS if re.search(pattern, text)), other)
        raise PlaceError(f"'{where}' cannot be used: {fault}.") from None


def connect(url: str, retry: Any = PATIENT) -> Any:
    """A client for what lies below scheme://bucket/..., configured by the environment."""
    options: dict[str, Any] = {"connect_timeout": "5s", "timeout": "300s"}
    # options given here hide this one of the environment
    if os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes"):
        options["allow_http"] = True
    for name in ENDPOINTS:
        if not re.fullmatch(r"(https?://[\w.:\[\]-]+(/[\w./-]*)?)?", os.environ.get(name, "")):
            raise PlaceError(f"'{url}' cannot be used: {name} in the environment is no URL such as https://HOST:PORT.")
    with told(url):
        connecting: Any = from_url  # typed by overloads, of which these options fit none
        return connecting(url, retry_config=retry, client_options=options)


@cache
def client(url: Url) -> Any:
    """A client for what lies below, once a first request has shown that the storage can be used."""
    with told(url):
        obstore.list_with_delimiter(connect(url, QUICK))
    return connect(url)


class Prefix:
    """Everything below a URL."""

    def __init__(self, url: Url) -> None:
        self.url = url
        self._zarr: Objects | None = None

    def __reduce__(self) -> Any:
        return Prefix, (self.url,)

    @property
    def _client(self) -> Any:
        return client(self.url)

    def exists(self, below: str = "") -> bool:
        with told(self.url):
            found = obstore.list_with_delimiter(self._client, below or None)
        return bool(found["objects"] or found["common_prefixes"])

    def taken(self) -> bool:
        if self.has(ROOT):
            return True
        # a creation that was killed leaves metadata of columns, which the next one writes again
        return any(not re.fullmatch(rf"[^/]+/{re.escape(ROOT)}", file) for file in self.sizes())

    def has(self, file: str) -> bool:
        try:
            with told(self.url):
                obstore.head(self._client, file)
        except FileNotFoundError:
            return False
        return True

    def sizes(self) -> dict[str, int]:
        with told(self.url):
            return {str(one["path"]): int(one["size"]) for some in obstore.list(self._client) for one in some}

    def lacking(self, files: Iterable[str]) -> str | None:
        found = self.sizes()
        return next((file for file in files if file not in found), None)

    def read(self, files: Iterable[str]) -> Iterator[bytes | None]:
        several = iter(files)
        while some := list(islice(several, 4 * AT_ONCE)):
            yield from self._at_once(self._read, some)

    def _read(self, file: str) -> bytes | None:
        try:
            with told(self.url):
                return bytes(obstore.get(self._client, file).bytes())
        except FileNotFoundError:
            return None

    def checksums(self, files: Iterable[str]) -> Iterator[str]:
        for data in self.read(files):
            yield "" if data is None else sha256(data).hexdigest()

    def written(self, file: str) -> str:
        return self.zarr().sent.pop(file)

    def zarr(self) -> Objects:
        if self._zarr is None:
            self._zarr = Objects(self._client, url=self.url)
        return self._zarr

    @contextmanager
    def building(self) -> Iterator[ObjectStore[Any]]:
        memory = MemoryStore()
        yield ObjectStore(memory)
        files = {str(one["path"]) for some in obstore.list(memory) for one in some} - {ROOT}
        held = {file: bytes(obstore.get(memory, file).bytes()) for file in (*files, ROOT)}
        list(self._at_once(lambda file: self._write(file, held[file]), sorted(files)))
        self._write(ROOT, held[ROOT], mode="create")  # what makes it a store, by one process alone

    def _write(self, file: str, data: bytes, **how: Any) -> None:
        try:
            with told(self.url):
                obstore.put(self._client, file, data, use_multipart=False, **how)
        except AlreadyExistsError:
            raise FileExistsError(f"{self.url}/{file}") from None

    def delete(self, below: str = "") -> None:
        """As of any place: markers first and the root last, so that no kill leaves what looks like more than it is."""
        with told(self.url):
            files = {str(one["path"]) for some in obstore.list(self._client, below or None) for one in some}
            markers = {file for file in files if file.startswith("shards/")}
            for some in (markers, files - markers - {ROOT}, files & {ROOT}):
                if some:
                    obstore.delete(self._client, sorted(some))

    def _at_once(self, what: Any, files: Sequence[str]) -> Iterator[Any]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(what, files)


class Objects(ObjectStore):
    """Zarr's view of a prefix: its faults are PlaceErrors, and it knows the SHA-256 of the data that it has sent."""

    def __init__(self, store: Any, *, read_only: bool = False, url: str = "") -> None:
        super().__init__(store, read_only=read_only)
        self.url = url
        self.sent: dict[str, str] = {}

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        try:
            with told(self.url):
                return await super().get(key, prototype, byte_range)
        except FileNotFoundError:
            return None

    async def set(self, key: str, value: Buffer) -> None:
        data = value.to_bytes()
        with told(self.url):
            # in one request, which is atomic and leaves no parts behind
            await obstore.put_async(self.store, key, data, use_multipart=False)
        if "/c/" in key:  # what storage holds is what was sent: it checks the hash that a request is signed with
            self.sent[key] = sha256(data).hexdigest()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        with told(self.url):
            await super().set_if_not_exists(key, value)

    async def delete_dir(self, prefix: str) -> None:
        with told(self.url):
            await super().delete_dir(prefix)
