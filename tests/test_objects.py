"""Stores in object storage: the same as on disk, whatever happens on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from heads_made import make_labels, make_truth
from ingest_made import assert_same_store, big_table, options, stop_after
from storage import KEY, SECRET, Storage, serving
from stores_made import (
    create_spectra,
    make_batch,
    make_embeddings,
    make_ids,
    make_spectra,
    write_spectra_shard,
)

from stores import EmbeddingStore, SpectraStore, open_store
from stores.errors import OptionError, PlaceError, StoreError
from stores.export import ExportOptions, export
from stores.info import describe
from stores.ingest import ingest
from stores.location import Url, home
from stores.lock import writing
from stores.place import place_at
from stores.search import SearchOptions, search
from stores.verify import VerifyOptions, verify


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with serving(tmp_path_factory.mktemp("storage")) as running:
        yield running


def objects(url: Url) -> Any:
    """A client for what lies below a URL."""
    from stores.objects import connect

    return connect(url)


def put(url: Url, file: str, data: bytes) -> None:
    import obstore

    obstore.put(objects(url), file, data)


def get(url: Url, file: str) -> bytes:
    import obstore

    return bytes(obstore.get(objects(url), file).bytes())


def delete(url: Url, file: str) -> None:
    import obstore

    obstore.delete(objects(url), file)


# -- the same as on disk -------------------------------------------------------------------------------------


def test_every_object_is_the_file_that_it_is_on_disk(storage: Storage, tmp_path: Path) -> None:
    here, there = make_spectra(tmp_path / "x.zarr"), make_spectra(storage.new())
    assert isinstance(there.path, Url)
    assert there.fingerprint == here.fingerprint
    assert there.place.sizes().keys() == here.place.sizes().keys()
    files = sorted(here.place.sizes().keys() - {"zarr.json"})  # which holds the time
    assert list(there.place.read(files)) == list(here.place.read(files))
    assert_same_store(here, SpectraStore.open(there.path))
    np.testing.assert_array_equal(
        there.read("flux", np.array([149, 0, 64])), here.read("flux", np.array([149, 0, 64]))
    )
    assert [told for _, told in there.verify() if told] == []
    told, expected = describe(there), describe(here)
    assert told["path"] == there.path
    for name in ("rows", "rows_written", "shards", "flags", "snr", "sources", "failed"):
        assert told[name] == expected[name]
    assert told["bytes_on_disk"] > 100_000


def test_survey_files_give_the_same_store(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = big_table(tmp_path), storage.new("desi.zarr")
    assert ingest(options(tmp_path, path)) == 0
    assert ingest(options(tmp_path, path, out=out, workers=2)) == 0
    assert_same_store(SpectraStore.open(tmp_path / "out.zarr"), SpectraStore.open(out))
    written = get(out, "zarr.json")
    assert ingest(options(tmp_path, path, out=out)) == 0
    assert f"'{out}' is finished already" in capsys.readouterr().err
    assert get(out, "zarr.json") == written
    assert not home(out).exists()
    assert not Path("s3:").exists()
    with pytest.raises(StoreError, match="belongs to another job"):
        ingest(options(tmp_path, path, out=out, limit=100))


def test_credentials_are_written_nowhere(storage: Storage, tmp_path: Path) -> None:
    out = storage.new()
    assert ingest(options(tmp_path, big_table(tmp_path), out=out, limit=10)) == 0
    place = place_at(out)
    for text in place.read(place.sizes()):
        assert text is not None
        assert KEY.encode() not in text
        assert SECRET.encode() not in text


# -- interrupted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", ["the same", "another"])
def test_an_interrupted_run_goes_on(
    machine: str, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = big_table(tmp_path), storage.new()
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            ingest(options(tmp_path, path, out=out))
    assert len(list(home(out).glob("x.zarr.files-*"))) == 1
    with pytest.raises(StoreError, match=r"is not finished \(1 of 3 shards\)"):
        SpectraStore.open(out)
    if machine == "another":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = stop_after(monkeypatch, 9, AssertionError())
    assert ingest(options(tmp_path, path, out=out)) == 0
    assert made == [1, 2]
    assert ingest(options(tmp_path, path)) == 0
    assert_same_store(SpectraStore.open(tmp_path / "out.zarr"), SpectraStore.open(out))
    assert not home(out).exists()


def test_the_marker_comes_last(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    from stores.objects import Objects

    store, put_object, done = create_spectra(storage.new()), Objects.set, []

    async def limited(self: Objects, key: str, value: Any) -> None:
        if len(done) == 8:  # the columns
            raise ZeroDivisionError
        done.append(key)
        await put_object(self, key, value)

    monkeypatch.setattr(Objects, "set", limited)
    with pytest.raises(ZeroDivisionError):
        write_spectra_shard(store, 0, make_batch())
    assert sorted(done) == sorted(store.files(0))
    assert list(store.finished_shards()) == []


def test_a_creation_that_was_interrupted_is_none(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    from stores.objects import Prefix

    url, write = storage.new(), Prefix._write

    def limited(self: Prefix, file: str, data: bytes, **how: Any) -> None:
        if file == "zarr.json":
            raise KeyboardInterrupt
        write(self, file, data, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Prefix, "_write", limited)
        with pytest.raises(KeyboardInterrupt):
            create_spectra(url, medium="air")
    assert "flux/zarr.json" in place_at(url).sizes()
    store = create_spectra(url, medium="vacuum")  # another job may: there is no store
    assert list(store.finished_shards()) == []


def test_a_process_that_comes_second_takes_the_store_of_the_first(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stores.objects import Prefix

    url, write = storage.new(), Prefix._write

    def late(self: Prefix, file: str, data: bytes, **how: Any) -> None:
        if file == "zarr.json":
            monkeypatch.setattr(Prefix, "_write", write)
            write_spectra_shard(create_spectra(url), 0, make_batch())  # the other process, just before
        write(self, file, data, **how)

    monkeypatch.setattr(Prefix, "_write", late)
    assert list(create_spectra(url).finished_shards()) == [0]


def test_what_is_no_store_is_left_alone(storage: Storage) -> None:
    url = storage.new()
    with pytest.raises(StoreError, match=f"'{url}' does not exist; check the path"):
        open_store(url)
    put(url, "notes.txt", b"precious")
    with pytest.raises(StoreError, match="is not a spectrabridge store; choose another path"):
        create_spectra(url)
    make_spectra(there := storage.new())
    delete(there, "zarr.json")
    with pytest.raises(StoreError, match=r"is damaged: its zarr\.json is missing"):
        create_spectra(there)


def test_a_deleted_store_is_gone_and_its_neighbour_is_not(storage: Storage) -> None:
    store = make_spectra(storage.new("x.zarr"))
    neighbour = make_spectra(Url(f"{store.path}2"))
    store.place.delete()
    assert store.place.sizes() == {}
    assert not store.place.exists()
    assert [told for _, told in neighbour.verify() if told] == []


def test_a_store_without_a_usable_spectrum_is_not_left(storage: Storage, tmp_path: Path) -> None:
    out = storage.new()
    with pytest.raises(Exception, match="not one spectrum has a usable pixel"):
        ingest(options(tmp_path, big_table(tmp_path), out=out, grid="3.902:3.93:0.0002"))
    assert not place_at(out).exists()
    assert not home(out).exists()


# -- damaged -------------------------------------------------------------------------------------------------


def test_damage_is_found(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    url = Url(make_spectra(storage.new()).path)
    assert verify(VerifyOptions(path=url)) == 0
    data = bytearray(get(url, "flux/c/1/0"))
    data[1000] ^= 1
    put(url, "flux/c/1/0", bytes(data))
    assert verify(VerifyOptions(path=url)) == 1
    assert "shard 1: flux/c/1/0 was changed or damaged after it was written" in capsys.readouterr().out
    delete(url, "flux/c/1/0")
    assert verify(VerifyOptions(path=url)) == 1
    assert "shard 1: flux/c/1/0 is missing" in capsys.readouterr().out
    with pytest.raises(StoreError, match="is damaged: flux/c/1/0 is missing; run stores-verify"):
        SpectraStore.open(url)
    delete(url, "zarr.json")
    assert verify(VerifyOptions(path=url)) == 1
    assert "its zarr.json is missing" in capsys.readouterr().out
    with pytest.raises(StoreError, match="does not exist"):
        verify(VerifyOptions(path=storage.new()))


def test_storage_out_of_reach_is_not_damage(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    from stores import objects as module

    store = make_spectra(storage.new())
    store.array("flux")
    dead = connected("http://127.0.0.1:9", store.path, monkeypatch)
    monkeypatch.setattr(module, "client", lambda url: dead)
    store.place.zarr().store = dead
    for ask in (
        lambda: store.read("flux"),
        lambda: list(store.markers()),
        lambda: list(store.verify()),
        lambda: store.array("ivar"),
        lambda: open_store(store.path),
        lambda: create_spectra(Url(store.path)),
        lambda: write_spectra_shard(store, 0, make_batch()),
        store.place.delete,
    ):
        with pytest.raises(PlaceError, match=rf"^'{store.path}' cannot be used: the storage cannot be reached; check"):
            ask()


def test_a_bucket_that_is_not_there_is_told(storage: Storage) -> None:
    for call in (
        lambda: open_store("s3://elsewhere/x.zarr"),
        lambda: create_spectra(Url("s3://elsewhere/x.zarr")),
        lambda: verify(VerifyOptions(path=Url("s3://elsewhere/x.zarr"))),
    ):
        with pytest.raises(
            PlaceError, match=r"^'s3://elsewhere/x\.zarr' cannot be used: there is no such bucket; create"
        ):
            call()
    with pytest.raises(PlaceError, match="no such bucket"), writing(Url("s3://elsewhere/y.zarr")):
        pass


def connected(endpoint: str, url: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of another endpoint, that does not insist."""
    from stores.objects import QUICK, connect

    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        return connect(url, QUICK)


# -- requests ------------------------------------------------------------------------------------------------


def test_requests_are_few(storage: Storage) -> None:
    def counted(what: Any) -> int:
        before = storage.requests()
        what()
        return storage.requests() - before

    batch = make_batch(900)
    store = create_spectra(storage.new(), 900)
    write_spectra_shard(store, 0, batch)  # which opens the columns too
    assert counted(lambda: write_spectra_shard(store, 1, batch)) <= 16
    for shard in range(2, store.n_shards):
        write_spectra_shard(store, shard, batch)
    assert store.n_shards == 15
    assert counted(store.finish) <= 7 * store.n_shards + 12
    assert counted(lambda: open_store(store.path)) <= 12  # however many shards there are
    opened = open_store(store.path)
    assert counted(lambda: opened.read("id")) == store.n_shards
    assert counted(lambda: opened.read("flux", np.array([3, 70]))) <= 4


# -- other commands ------------------------------------------------------------------------------------------


def test_spectra_are_embedded_from_storage_to_storage(storage: Storage, tmp_path: Path) -> None:
    from models_made import make_store, save_model

    from embed.run import EmbedOptions, embed

    model = str(save_model(tmp_path / "small"))
    here, there = make_store(tmp_path / "s.zarr", n=80).path, make_store(storage.new(), n=80).path
    outs: tuple[Any, ...] = (tmp_path / "e.zarr", storage.new("e.zarr"))
    for spectra, out in zip((here, there), outs, strict=True):
        assert embed(EmbedOptions(inputs=(str(spectra),), model=model, out=out, device="cpu")) == 0
    one, other = (EmbeddingStore.open(out) for out in outs)
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.read("embedding"), other.read("embedding"))
    with pytest.raises(StoreError, match="belongs to another job"):
        embed(EmbedOptions(inputs=(str(there),), model=model, out=outs[1], device="cpu", dtype="float32"))
    with pytest.raises(Exception, match="no spectra store lies at 's3://spectra/none'"):
        embed(EmbedOptions(inputs=("s3://spectra/none",), model=model, out=outs[1]))


def test_embeddings_are_searched_and_exported(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = make_embeddings(tmp_path / "e.zarr"), make_embeddings(storage.new("e.zarr"))
    found = []
    for store in (here, there, there):
        assert search(SearchOptions(embeddings=store.path, id=int(make_ids(1)[0]), k=3, json=True)) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] == found[2]
    assert sorted(path.name for path in home(there.path).iterdir()) == ["e.zarr.flat.faiss", "e.zarr.flat.faiss.json"]
    for name, store in (("here", here), ("there", there)):
        assert export(ExportOptions(path=store.path, out=tmp_path / f"{name}.parquet")) == 0
    one, other = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("here", "there"))
    assert one.equals(other)
    assert one.num_rows == 150


def test_heads_learn_from_storage_and_predict_from_it(storage: Storage, tmp_path: Path) -> None:
    from heads.predict import PredictOptions, predict
    from heads.train import HeadTrainOptions, train

    truth, head = make_truth(150), tmp_path / "head"
    make_labels(make_ids(150), truth).save(tmp_path / "labels.parquet")
    here, there = make_spectra(tmp_path / "s.zarr").path, make_spectra(storage.new("s.zarr")).path
    how: dict[str, Any] = {"epochs": 1.0, "seeds": 1, "widths": (8,), "targets": "teff,feh", "out": head}
    labels = (str(tmp_path / "labels.parquet"),)
    assert train(HeadTrainOptions(store=(there,), labels=labels, calibrate_on=(there,), **how)) == 0
    about = json.loads((head / "head.json").read_text())["about"]
    assert about["options"]["store"] == about["calibrated_on"] == [str(there)]
    for store, name in ((here, "here"), (there, "there")):
        assert predict(PredictOptions(head=head, store=store, out=tmp_path / f"{name}.parquet")) == 0
    one, other = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("here", "there"))
    told = ["id", "teff", "teff_sigma", "feh", "flags"]
    assert one.select(told).equals(other.select(told))
    with pytest.raises(OptionError, match="'s3://spectra/none' does not exist"):
        HeadTrainOptions(store=(Url("s3://spectra/none"),), labels=("x",), out=tmp_path / "x").check()
