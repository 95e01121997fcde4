"""Of two runs into one place of object storage the second says so and ends; a killed one is not long in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ingest_made import big_table
from storage import Storage, serving

from stores.errors import OptionError
from stores.ingest import main
from stores.location import Url
from stores.lock import RANKS, writing

obstore = pytest.importorskip("obstore", reason="obstore is not installed: the extra `test` brings it")

from stores import lease  # noqa: E402
from stores.objects import connect  # noqa: E402

HOLDER = """
import sys, time
from stores.location import Url
from stores.lock import writing
with writing(Url(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with serving(tmp_path_factory.mktemp("storage")) as running:
        yield running


def locks(url: Url) -> list[str]:
    """The locks beside a store."""
    return [str(one["path"]) for some in obstore.list(connect(url.folder)) for one in some if "lock" in one["path"]]


def leave(url: Url, **owner: Any) -> None:
    """A lock as another process would leave it."""
    owner = {"lock": "theirs", "host": "elsewhere/1", "process": 1, **owner}
    obstore.put(connect(url.folder), f".{url.name}.lock", json.dumps(owner).encode())


def test_one_writer_at_a_time(storage: Storage) -> None:
    url = storage.new()
    with writing(url):
        assert locks(url) == [".x.zarr.lock"]
        for _ in range(2):
            with pytest.raises(OptionError) as caught, writing(Url(url)):
                pytest.fail("it was free")
        assert str(caught.value).startswith(f"another run (process {os.getpid()} on ")
        assert f"is writing to '{url}'; wait until it has ended, or choose another --out" in str(caught.value)
        assert f"delete '{url.folder}/.x.zarr.lock' or wait 20 minutes" in str(caught.value)
        with writing(storage.new()):  # another place
            pass
        assert locks(url) == [".x.zarr.lock"]
    with writing(url):
        pass
    assert locks(url) == []


def test_a_fault_frees_the_place_too(storage: Storage) -> None:
    url = storage.new()
    with pytest.raises(KeyboardInterrupt), writing(url):
        raise KeyboardInterrupt
    assert locks(url) == []


def test_a_command_is_refused(
    storage: Storage, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = storage.new()
    leave(url)
    words = ["stores-ingest", "--survey", "table", str(big_table(tmp_path)), "--out", url, "--limit", "3"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"stores-ingest: another run (process 1 on elsewhere) is writing to '{url}'; wait")
    assert err.count("\n") == 1


def test_a_killed_run_of_this_machine_is_in_nobodys_way(storage: Storage) -> None:
    url = storage.new()
    process = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OptionError, match=rf"another run \(process {process.pid} on"), writing(url):
            pass
    finally:
        process.kill()
        process.communicate()
    assert locks(url) == [".x.zarr.lock"]
    with writing(url):
        assert locks(url) == [".x.zarr.lock"]
    assert locks(url) == []


def test_a_number_that_another_process_had_is_not_taken_for_it(storage: Storage) -> None:
    url = storage.new()
    leave(url, host=lease._host(), process=os.getpid())
    with writing(url):
        pass
    assert locks(url) == []


def test_a_lock_of_elsewhere_expires(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    url = storage.new()
    leave(url)
    with pytest.raises(OptionError, match="process 1 on elsewhere"), writing(url):
        pass
    monkeypatch.setattr(lease, "EXPIRES", -60.0)  # as old as that already
    with writing(url):
        pass
    assert locks(url) == []


def test_a_lock_that_cannot_be_read_is_one(storage: Storage) -> None:
    url = storage.new()
    obstore.put(connect(url.folder), ".x.zarr.lock", b"\xff")
    with pytest.raises(OptionError, match=r"^another run is writing to"), writing(url):
        pass


def test_of_two_that_take_over_one_does(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    url = storage.new()
    leave(url)
    monkeypatch.setattr(lease, "EXPIRES", -60.0)
    faster, slower = lease.Lease(url), lease.Lease(url)
    read = lease.Lease._read

    def late(self: lease.Lease) -> Any:
        found = read(self)
        monkeypatch.setattr(lease.Lease, "_read", read)
        faster.take()  # between the look and the taking over
        return found

    monkeypatch.setattr(lease.Lease, "_read", late)
    with pytest.raises(OptionError, match="another run is writing"):
        slower.take()
    faster.free()
    assert locks(url) == []


def test_it_is_renewed_until_it_is_anothers(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    url = storage.new()
    monkeypatch.setattr(lease, "RENEW", 0.01)
    held = lease.Lease(url)
    held.take()
    renewing = threading.Thread(target=held.renew, args=(threading.Event(),))
    before = storage.requests()
    renewing.start()
    while storage.requests() < before + 3:
        assert renewing.is_alive()
    leave(url)
    renewing.join(20)
    assert not renewing.is_alive()
    held.free()
    assert locks(url) == [".x.zarr.lock"]  # theirs


@pytest.mark.parametrize("name", RANKS[:1])
def test_the_first_of_several_processes_holds_it_for_all(
    name: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = storage.new()
    monkeypatch.setenv(name, "0")
    with writing(url):
        monkeypatch.setenv(name, "1")
        with writing(url):
            pass
        assert locks(url) == [".x.zarr.lock"]
