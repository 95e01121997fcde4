"""Of two runs into one place the second says so and ends; a killed one is in nobody's way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from stores.errors import OptionError
from stores.lock import RANKS, writing

SENTENCE = "another run is writing to '{}'; wait until it has ended, or choose another --out."

HOLDER = """
import sys, time
from pathlib import Path
from stores.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def held_by_another(out: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_one_writer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alias").symlink_to(tmp_path)
    with writing(Path("x.zarr")):
        for same in (tmp_path / "x.zarr", Path("alias/x.zarr"), Path("../" + tmp_path.name) / "x.zarr"):
            with pytest.raises(OptionError) as caught, writing(same):
                pytest.fail("it was free")
            assert str(caught.value) == SENTENCE.format(same)
        with writing(Path("y.zarr")):  # another place
            pass
    with writing(Path("x.zarr")):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alias"]


def test_a_fault_frees_the_place_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "x"):
        raise KeyboardInterrupt
    with writing(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_is_in_nobodys_way(tmp_path: Path) -> None:
    process = held_by_another(tmp_path / "x")
    try:
        with pytest.raises(OptionError, match="another run is writing"), writing(tmp_path / "x"):
            pass
    finally:
        process.kill()
        process.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".x.lock"]
    with writing(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", RANKS)
def test_the_first_of_several_processes_holds_it_for_all(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "0")
    with writing(tmp_path / "x"):
        monkeypatch.setenv(name, "1")
        with writing(tmp_path / "x"):
            pass
        monkeypatch.setenv(name, "0")
        with pytest.raises(OptionError), writing(tmp_path / "x"):
            pass


def test_folders_that_are_not_there_come_only_with_what_is_written(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no good"), writing(tmp_path / "a" / "b" / "x"):
        raise OptionError("no good.")
    assert list(tmp_path.iterdir()) == []
    with writing(tmp_path / "a" / "b" / "x"):
        (tmp_path / "a" / "b" / "x").write_text("something")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a", "a/b", "a/b/x"]


def test_where_there_can_be_no_lock_the_command_has_its_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file" / "x", Path("/")):
        with writing(out):
            pass

    def refuse(*args: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.open", refuse)
    with writing(tmp_path / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_systems_without_locks_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*args: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    with writing(tmp_path / "x"):
        pass
    with writing(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


COMMANDS = {
    "stores.ingest": ["a.fits", "--survey", "desi", "--out"],
    "stores.export": ["x.zarr", "--out"],
    "stores.labelling": ["x.zarr", "--catalogue", "saga:x", "--out"],
    "stores.simulate.simulate": ["--survey", "desi", "--n", "5", "--store"],
    "embed.pretrain": ["x.zarr", "--out"],
    "embed.run": ["x.zarr", "--out"],
    "heads.train": ["--store", "x.zarr", "--labels", "x", "--out"],
    "heads.predict": ["--limit", "5", "--out"],
}


@pytest.mark.parametrize("module", list(COMMANDS))
def test_every_command_that_writes(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.parquet"
    monkeypatch.setattr(sys, "argv", ["prog", *COMMANDS[module], str(out)])
    with writing(out), pytest.raises(SystemExit) as end:
        import_module(module).main()
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f": {SENTENCE.format(out)}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_was_not_named_is_locked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from embed.run import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["embed-spectra", "--survey", "lamost", "--limit", "3"])
    out = Path("lamost-sample-tiny-views.zarr")
    with writing(out), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == f"embed-spectra: {SENTENCE.format(out)}\n"
    assert list(tmp_path.iterdir()) == []
