"""Workers do not outlive the process that started them, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import os, sys, time
from stores.processes import in_processes

def work(folder, seconds):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    while len(os.listdir(folder)) < 2:  # else the first worker may do both tasks
        time.sleep(0.02)
    time.sleep(seconds)

if __name__ == "__main__":
    seconds = float(sys.argv[2])
    for _ in in_processes(work, [(sys.argv[1], seconds)] * 2, 2):
        time.sleep(300)  # the workers are idle meanwhile
"""


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        # an orphan that nobody waits for stays as a zombie where the first process is no init
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("seconds", ["0", "300"], ids=["idle", "at work"])
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_workers_end_with_their_parent(name: str, seconds: str, tmp_path: Path) -> None:
    script, folder = tmp_path / "program.py", tmp_path / "started"
    folder.mkdir()
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    parent = subprocess.Popen([sys.executable, str(script), str(folder), seconds], env=environment)
    try:
        assert until(lambda: len(list(folder.iterdir())) == 2)
        workers = [int(path.name) for path in folder.iterdir()]
        parent.send_signal(getattr(signal, name))
        parent.wait(60)
        assert until(lambda: not any(map(alive, workers))), f"{workers} live on"
    finally:
        parent.kill()
        for path in folder.iterdir():
            if alive(int(path.name)):
                os.kill(int(path.name), signal.SIGKILL)
