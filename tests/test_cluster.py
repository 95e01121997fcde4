"""Work on the workers of a Dask cluster: in order, retried where a worker dies, refused in one sentence."""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import BIG_ID, write_table
from ingest_made import GRID, assert_same_store, made, options
from test_processes import until

from stores import EmbeddingStore, SpectraStore
from stores.cluster import Cluster
from stores.errors import InputError, OptionError, SpectraBridgeError
from stores.ingest import ingest
from stores.processes import in_processes, keeping_workers

LOST = "note: a worker was lost; what it was doing is done again."
ROWS = 3000  # of a table: four shards


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """A cluster of two workers that somebody else has started; a task is given up at the first kill."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.comm.timeouts.connect": "3s"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def scheduler(dask: Any) -> str:
    return str(dask.scheduler_address)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "big.fits"
    wavelength = 3950.0 + 2.0 * np.arange(180)
    return write_table(path, n=ROWS, n_pix=180, wavelength=wavelength, ids=BIG_ID + np.arange(ROWS))


@pytest.fixture(scope="module")
def alone(table: Path, tmp_path_factory: pytest.TempPathFactory) -> SpectraStore:
    """The store that one process makes."""
    return made(tmp_path_factory.mktemp("alone"), table)


# -- tasks (sent by value: workers do not see the tests) ---------------------------------------------------


def slowly(number: int) -> int:
    import time

    time.sleep(0.15 if number % 4 == 0 else 0)
    return number


def mistaken(tried: str, number: int) -> int:
    with open(tried, "a") as file:
        file.write(f"{number}\n")
    if number == 2:
        from stores.errors import InputError

        raise InputError("'two.fits' has no spectra; check the file.")
    return number


def killing(folder: str, number: int, kills: int) -> int:
    """Kills its process so many times, as other processes are told by files."""
    import os
    import signal

    if number == 1 and len(os.listdir(folder)) < kills:
        open(os.path.join(folder, str(os.getpid())), "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture(autouse=True, scope="module")
def by_value() -> Iterator[None]:
    import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


# -- results -----------------------------------------------------------------------------------------------


def test_results_come_in_order_with_few_on_the_way(scheduler: str) -> None:
    given = 0

    def tasks() -> Iterator[tuple[int]]:
        nonlocal given
        for number in range(40):
            given += 1
            yield (number,)

    most = 0
    found = []
    for result in in_processes(slowly, tasks(), 1, scheduler):
        found.append(result)
        most = max(most, given - len(found))
    assert found == list(range(40))
    assert 2 <= most <= 8


def test_workers_are_started_once_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Fake:
        def __init__(self, workers: int) -> None:
            started.append(workers)
            self.closed = False

        def refuse_blind(self, shared: object) -> None:
            assert not self.closed

        def results(self, function: Any, tasks: Any, named: Any) -> Iterator[Any]:
            assert not self.closed
            return (function(*task) for task in tasks)

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(Cluster, "of_this_machine", Fake)
    tasks = [(number,) for number in range(3)]
    with keeping_workers():
        for workers in (4, 2, 4):
            assert list(in_processes(abs, tasks, workers)) == [0, 1, 2]
        assert started == [4]
        assert list(in_processes(abs, tasks, 1)) == [0, 1, 2]
    assert list(in_processes(abs, tasks, 2)) == [0, 1, 2]
    assert started == [4, 2]


# -- faults ------------------------------------------------------------------------------------------------


def test_a_mistake_comes_as_it_is_and_is_not_tried_again(scheduler: str, tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    results = in_processes(mistaken, ((str(tried), number) for number in range(4)), 1, scheduler)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(InputError, match=r"^'two\.fits' has no spectra; check the file\.$"):
        next(results)
    assert tried.read_text().split().count("2") == 1


def test_a_task_that_kills_every_worker_is_named(scheduler: str, tmp_path: Path, capsys: Any) -> None:
    tasks = ((str(tmp_path), number, 100) for number in range(3))
    results = in_processes(killing, tasks, 1, scheduler, named=lambda _, number, __: f"number {number}")
    assert next(results) == 0
    with pytest.raises(
        SpectraBridgeError, match=r"^number 1 kills every worker process .*\(out of memory\?\); run the same command"
    ):
        next(results)
    assert len(list(tmp_path.iterdir())) == 2  # once in company, once alone
    assert LOST in capsys.readouterr().err


@pytest.mark.slow
def test_bad_luck_is_not_held_against_a_task(scheduler: str, tmp_path: Path) -> None:
    tasks = ((str(tmp_path), number, 1) for number in range(3))  # given up by then, and tried alone
    assert list(in_processes(killing, tasks, 1, scheduler)) == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("tcp://127.0.0.1:9", r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9' \(.*\); start one, or check"),
        ("nowhere.json", r"--scheduler 'nowhere\.json' is neither an address, such as tcp://HOST:8786, nor the file"),
        ("pigeon://localhost:1", r"no Dask scheduler answers at 'pigeon://localhost:1' \(.*\); start one"),
        ("tcp://[::1", r"no Dask scheduler answers at 'tcp://\[::1' \(.*\); start one"),
        (
            "tcp://no.such.host.invalid:8786",
            r"the host 'no\.such\.host\.invalid' of --scheduler tcp.* is not known",
        ),
        ("no.such.host.invalid:8786", r"the host 'no\.such\.host\.invalid' of --scheduler .* is not known; check"),
    ],
)
def test_a_scheduler_that_is_not_there(
    given: str, sentence: str, tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.cluster.PATIENCE", 0.5)
    with pytest.raises(OptionError, match=sentence):
        ingest(options(tmp_path, table, scheduler=given))
    assert list(tmp_path.iterdir()) == []


def test_no_command_writes_before_its_scheduler_answers(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it look at what is there: a store of another job would hide a wrong address."""
    from heads_made import SMALL, make_sample, make_stores
    from models_made import make_store, save_model

    from embed.run import EmbedOptions, embed
    from heads import train_head
    from heads.predict import PredictOptions, predict

    monkeypatch.setattr("stores.cluster.PATIENCE", 0.5)
    monkeypatch.chdir(tmp_path)
    made(tmp_path, table, limit=5, out=Path("other.zarr"))
    make_store(Path("spectra.zarr"), 20)
    save_model(Path("model"))
    embed(EmbedOptions(inputs=("spectra.zarr",), model="model", out=Path("taken.zarr"), device="cpu"), quiet=True)
    Path("stores").mkdir()
    embeddings = make_stores(Path("stores"), 40)["embeddings"]
    train_head(make_sample(60), {"input": "embedding"}, SMALL).head.save_pretrained("head")
    before = sorted(tmp_path.rglob("*"))
    nobody: dict[str, Any] = {"scheduler": "tcp://127.0.0.1:9"}
    double: dict[str, Any] = {**nobody, "dtype": "float32"}
    head = Path("head")
    for command, chosen in (
        (ingest, options(tmp_path, table, **nobody)),
        (ingest, options(tmp_path, table, out=Path("other.zarr"), **nobody)),
        (embed, EmbedOptions(inputs=("spectra.zarr",), model="model", out=Path("e.zarr"), **nobody)),
        (embed, EmbedOptions(inputs=("spectra.zarr",), model="model", out=Path("taken.zarr"), **double)),
        (embed, EmbedOptions(survey="table", inputs=(str(table),), out=Path("e.zarr"), **nobody)),
        (predict, PredictOptions(head=head, embeddings=embeddings, out=Path("c.parquet"), **nobody)),
        (predict, PredictOptions(out=Path("c.parquet"), **nobody)),
    ):
        with pytest.raises(OptionError, match="no Dask scheduler answers at"):
            command(chosen)  # type: ignore[operator]
        assert sorted(tmp_path.rglob("*")) == before


def test_a_scheduler_by_its_file(dask: Any, scheduler: str, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text("{}")
    with pytest.raises(OptionError, match=r"scheduler\.json' is not the file of a Dask scheduler"):
        list(in_processes(abs, [(-1,)], 1, str(path)))
    path.write_text(json.dumps({"address": scheduler}))
    assert list(in_processes(abs, [(-1,)], 1, str(path))) == [1]


def test_other_workers_are_refused(scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(sentence: str) -> None:
        with pytest.raises(OptionError, match=sentence):
            list(in_processes(abs, [(-1,)], 1, scheduler, shared=[tmp_path, "s3://bucket/x", tmp_path / "gone"]))

    refused(rf"the worker tcp://.* does not see '{tmp_path}/gone'; workers need the file system of this machine")
    with monkeypatch.context() as patch:
        patch.setattr("stores.cluster.commit", lambda: "123abc")
        refused(r"the worker tcp://.* runs commit .* of spectrabridge, and this is 123abc; start it again")
    with monkeypatch.context() as patch:
        patch.setattr("stores.cluster.package_version", lambda: "9.9")
        refused(r"the worker tcp://.* has spectrabridge .*, and this is 9\.9; install the same there")
    with monkeypatch.context() as patch:
        patch.setattr("stores.cluster.ASK_IDENTITY", "__import__('stores.nothing')")
        refused(r"the worker tcp://.* cannot import spectrabridge \(No module named 'stores\.nothing'\); install")


def test_a_worker_that_comes_later_is_refused_too(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("stores.cluster.package_version", lambda: "9.9")
        patch.setattr(Cluster, "_refuse_others", lambda _: None)
        with pytest.raises(OptionError, match=r"a worker has spectrabridge .*, and this is 9\.9"):
            list(in_processes(abs, [(-1,)], 1, scheduler))


@pytest.mark.slow
def test_a_scheduler_that_goes_is_one_sentence() -> None:
    import dask
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=1,
        processes=False,
        dashboard_address=None,
        protocol="tcp",
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    )
    results = in_processes(slowly, ((number,) for number in range(100)), 1, cluster.scheduler_address)
    with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
        assert next(results) == 0
        cluster.close()
        with pytest.raises(SpectraBridgeError, match=r"the Dask scheduler at 'tcp://.*' is gone; start it and run"):
            list(results)


# -- commands ----------------------------------------------------------------------------------------------


def test_a_store_does_not_depend_on_who_makes_it(
    scheduler: str, table: Path, alone: SpectraStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)  # where the workers are not
    (tmp_path / "work").mkdir()
    out = Path(os.path.relpath(tmp_path / "work" / "out.zarr"))
    store = made(tmp_path, table.name, out=out, scheduler=scheduler)
    assert_same_store(store, alone)
    assert [entry["file"] for entry in store.sources()] == [str(table)]
    assert not [fault for _, faults in store.verify() for fault in faults]


def assert_alike(one: EmbeddingStore, other: EmbeddingStore) -> None:
    """The same rows; another process may round the last bit of an embedding otherwise."""
    for name in one.columns:
        off = {"rtol": 2e-3, "atol": 1e-4} if name == "embedding" else {"rtol": 0, "atol": 0}
        np.testing.assert_allclose(one.read(name), other.read(name), err_msg=name, **off)


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["sent", "cluster"])
def test_embeddings_do_not_depend_on_who_makes_them(
    real: bool, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers take long to load torch: what is sent to them is done here, or by them."""
    from models_made import make_store, save_model

    from embed.run import EmbedOptions, embed

    def elsewhere(function: Any, tasks: Any, _: int, scheduler: str | None = None, **__: Any) -> Iterator[Any]:
        for sent in map(pickle.dumps, tasks):
            with monkeypatch.context() as patch:
                if scheduler is not None:
                    patch.chdir("/")
                yield function(*pickle.loads(sent))

    if not real:
        monkeypatch.setattr("embed.run.in_processes", elsewhere)
    monkeypatch.chdir(tmp_path)
    make_store(Path("spectra.zarr"), 200)
    save_model(Path("model"))
    stores = []
    for name, more in (("alone", {}), ("cluster", {"scheduler": scheduler})):
        chosen = EmbedOptions(inputs=("spectra.zarr",), model="model", out=Path(f"{name}.zarr"), device="cpu", **more)
        assert embed(chosen, quiet=True) == 0
        stores.append(EmbeddingStore.open(chosen.out))
    if real:
        assert_alike(*stores)
    else:
        assert_same_store(*stores)
    assert not [fault for _, faults in stores[1].verify() for fault in faults]


def test_predictions_do_not_depend_on_who_makes_them(
    dask: Any, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq
    from heads_made import SMALL, make_sample, make_stores

    import heads.head
    from heads import train_head
    from heads.predict import PredictOptions, predict

    # five parts, for the workers too
    monkeypatch.setattr(heads.head, "ROWS_AT_ONCE", 40)
    monkeypatch.setattr("heads.portion.ROWS_AT_ONCE", 40)
    monkeypatch.chdir(tmp_path)
    made_of = make_stores(tmp_path, 180)
    train_head(make_sample(60), {"input": "embedding"}, SMALL).head.save_pretrained("head")
    catalogues = []
    for name, more in (("alone", {}), ("cluster", {"scheduler": scheduler})):
        out = Path(f"{name}.parquet")
        embeddings = Path(os.path.relpath(made_of["embeddings"]))
        assert predict(PredictOptions(head=Path("head"), embeddings=embeddings, out=out, **more)) == 0
        catalogues.append(pq.read_table(out))
    assert catalogues[0].num_rows == 180
    assert catalogues[0].equals(catalogues[1])


def test_a_launch_and_a_scheduler_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from embed.run import EmbedOptions, embed

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OptionError, match="--scheduler has workers of its own; start the command once, without"):
        embed(EmbedOptions(scheduler="tcp://host:1"))


def test_workers_and_a_scheduler_are_one_too_many(tmp_path: Path, table: Path) -> None:
    with pytest.raises(OptionError, match="--workers is of this machine, and --scheduler has workers of its own"):
        ingest(options(tmp_path, table, workers=2, scheduler="tcp://host:1"))


def run_killing_a_worker(module: str, out: Path, *words: str) -> list[str]:
    """What a command says that loses one of its two workers once the first shard is there."""
    import psutil

    command = [sys.executable, "-m", module, *words, "--out", str(out), "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        try:
            assert until(lambda: run.poll() is not None or any(out.glob("shards/0*")), 300)
            workers = [one for one in psutil.Process(run.pid).children() if "spawn_main" in " ".join(one.cmdline())]
            assert len(workers) == 2
            workers[0].send_signal(signal.SIGKILL)
            _, said = run.communicate(timeout=300)
        finally:
            run.kill()
    assert run.returncode == 0, said
    assert until(lambda: not any(one.is_running() and one.status() != "zombie" for one in workers), 10)
    return said.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_worker_is_killed_and_nothing_is_lost(table: Path, alone: SpectraStore, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    lines = run_killing_a_worker("stores.ingest", out, "--survey", "table", str(table), "--grid", GRID)
    assert lines[:2] == [LOST, f"'{out}': {ROWS} spectra in 4 shards."]
    store = SpectraStore.open(out)
    assert_same_store(store, alone)
    assert not [fault for _, faults in store.verify() for fault in faults]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_worker_is_killed_and_no_embedding_is_lost(tmp_path: Path) -> None:
    from models_made import make_store, save_model

    spectra, model = make_store(tmp_path / "s.zarr", 1500).path, save_model(tmp_path / "model")
    words = (str(spectra), "--model", str(model), "--device", "cpu", "--batch-size", "1")
    lines = run_killing_a_worker("embed.run", tmp_path / "killed.zarr", *words)
    assert lines == [LOST, f"'{tmp_path}/killed.zarr': 1500 spectra in 24 shards."]
    alone = [sys.executable, "-m", "embed.run", *words, "--out", str(tmp_path / "alone.zarr")]
    subprocess.run(alone, check=True, capture_output=True)
    store = EmbeddingStore.open(tmp_path / "killed.zarr")
    assert_alike(store, EmbeddingStore.open(tmp_path / "alone.zarr"))
    assert not [fault for _, faults in store.verify() for fault in faults]


def test_processes_that_cannot_be_started_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**_: Any) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("distributed.LocalCluster", failing)
    with pytest.raises(SpectraBridgeError, match=r"^2 processes cannot be started \(Nanny failed to start\); use"):
        list(in_processes(abs, [(-1,), (-2,)], 2))


def test_the_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("stores.cluster._cores", lambda: 7)
    before = dict(os.environ)
    assert list(in_processes(os.getenv, [("OMP_NUM_THREADS",)] * 2, 2)) == ["3", "3"]
    assert dict(os.environ) == before
