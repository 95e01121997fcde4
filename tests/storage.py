"""A server of S3 on this machine, for tests: moto's, in a process of its own, as its warnings would be errors here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

from stores.location import Url

KEY, SECRET = "the-key-of-the-tests", "a-secret-that-is-written-nowhere"
BUCKET = "spectra"
NEEDED = ("obstore", "moto", "flask", "flask_cors")
SERVER = f"""
import sys
import boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
endpoint = "http://{{}}:{{}}".format(*server.get_host_and_port())
access = dict(aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1")
boto3.client("s3", endpoint_url=endpoint, **access).create_bucket(Bucket="{BUCKET}")
print(endpoint, flush=True)
sys.stdin.read()
"""
_numbers = count()


class Storage:
    """A running server with one bucket."""

    def __init__(self, endpoint: str, log: Path) -> None:
        self.endpoint = endpoint
        self.log = log

    def new(self, name: str = "x.zarr") -> Url:
        """A URL where nothing lies."""
        return Url(f"s3://{BUCKET}/test-{next(_numbers)}/{name}")

    def requests(self) -> int:
        """How many there were until now."""
        return self.log.read_text().count("HTTP/1.1")


@contextmanager
def serving(folder: Path) -> Iterator[Storage]:
    """A server until the end, and an environment that leads to it and to no cache of the user's."""
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"{', '.join(lacking)} not installed: the extra `test` brings it")
    log = folder / "server.log"
    server = [sys.executable, "-W", "ignore", "-c", SERVER]
    with (
        log.open("w") as told,
        subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert endpoint, log.read_text()
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        try:
            yield Storage(endpoint, log)
        finally:
            process.stdin.close()
            process.wait(20)
