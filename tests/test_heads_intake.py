"""heads-predict from survey files: the catalogue is that of stores made by hand, whatever happens on the way."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from files import BIG_ID, DATA, truncate, write_fits1d, write_lamost
from heads_made import SMALL, make_labels
from models_made import small_config

import heads.library
from embed.model import SpectralTransformer
from embed.run import EmbedOptions, check_model, embed, embed_store
from heads import Head, InputStores, Sample, adapt_head, train_head
from heads.encoder import encoding
from heads.library import built_in_heads, find_head
from heads.predict import PredictOptions, main, predict
from heads.train import HeadTrainOptions, train
from stores import EmbeddingStore, Flag, Grid, Preparation, SpectraStore
from stores.errors import InputError, ModelError, OptionError, SpectraBridgeError, StoreError
from stores.ingest import IngestOptions, ingest
from stores.lock import writing
from stores.sample import BuiltInSample
from stores.simulate.simulate import SimulateOptions, simulate

ROOT = Path(__file__).resolve().parents[1]
LRS = Grid.parse("lrs")
N = 24
INPUTS = ("spectra", "embedding", "fused")

real = pytest.mark.skipif(not DATA.exists(), reason="the shared real data are not on this machine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("intake")


@pytest.fixture(scope="module")
def files(folder: Path) -> Path:
    """The spectra of a twin of LAMOST, a file each, with the truth beside them."""
    assert simulate(SimulateOptions(survey="lamost", n=N, out=folder / "lamost", seed=1)) == 0
    return folder / "lamost" / "spectra"


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return save_model(folder / "models" / "lrs", 0)


def save_model(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    SpectralTransformer(small_config(LRS, Preparation())).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def stores(folder: Path, files: Path, model: Path) -> dict[str, Path]:
    """What stores-ingest and embed-spectra make of the files."""
    paths = {"spectra": folder / "s.zarr", "embeddings": folder / "e.zarr"}
    assert ingest(IngestOptions(survey="lamost", files=(str(files),), out=paths["spectra"])) == 0
    assert embed(EmbedOptions(inputs=(str(paths["spectra"]),), model=str(model), out=paths["embeddings"])) == 0
    return paths


@pytest.fixture(scope="module")
def made(folder: Path, stores: dict[str, Path]) -> dict[str, Path]:
    """A head for each input, which learned the truth of the twin."""
    table = pq.read_table(folder / "lamost" / "truth.parquet").sort_by("id")
    truth = {name: table[name].to_numpy().astype(float) for name in ("feh", "teff")}
    labels = make_labels(table["id"].to_numpy(), truth)
    for name in INPUTS:
        given = InputStores.open(name, stores["spectra"], stores["embeddings"])
        sample = Sample.join(given, labels, ("feh", "teff"))
        train_head(sample, given.identity, SMALL).head.save_pretrained(folder / name)
    return {name: folder / name for name in INPUTS}


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def about(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"spectrabridge"])
    return told


def assert_same(one: Path, other: Path) -> None:
    found, wanted = read(one), read(other)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def from_files(name: str, made: dict[str, Path], model: Path, folder: Any, out: Path, **more: Any) -> PredictOptions:
    given: dict[str, Any] = {"survey": "lamost", "files": (str(folder),), "head": made[name], "out": out}
    if name != "spectra":
        given["model"] = str(model)
    return PredictOptions(**(given | more))


def by_hand(name: str, made: dict[str, Path], stores: dict[str, Path], out: Path) -> Path:
    assert (
        predict(PredictOptions(head=made[name], store=stores["spectra"], embeddings=stores["embeddings"], out=out))
        == 0
    )
    return out


# -- the same catalogue ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INPUTS)
def test_the_catalogue_is_that_of_stores_made_by_hand(
    name: str, made: dict[str, Path], stores: dict[str, Path], model: Path, files: Path, tmp_path: Path, capsys: Any
) -> None:
    wanted = by_hand(name, made, stores, tmp_path / "wanted.parquet")
    capsys.readouterr()
    out = tmp_path / "deep" / "c.parquet"
    assert predict(from_files(name, made, model, files, out)) == 0
    assert_same(out, wanted)
    assert np.isfinite(read(out)["feh"]).any()
    assert [path.name for path in out.parent.iterdir()] == ["c.parquet"]
    told = about(out)
    assert told["files"]["survey"] == "lamost"
    assert told["files"]["given"] == [str(files)]
    assert (told["files"]["sources"]["files"], told["files"]["failed"]) == (N, [])
    made_of = {"spectra": {"spectra"}, "embedding": {"embeddings"}, "fused": {"spectra", "embeddings"}}[name]
    assert set(told["stores"]) == made_of
    said = capsys.readouterr().err
    assert f"c.parquet': {N} rows." in said


def test_a_bundle_and_workers_and_another_format(
    made: dict[str, Path], stores: dict[str, Path], model: Path, files: Path, tmp_path: Path
) -> None:
    from astropy.io import fits

    from heads.bundle import Bundle

    head = Head.from_pretrained(made["spectra"])
    Bundle({"a": head}, dict.fromkeys(head.targets, "a")).save_pretrained(tmp_path / "bundle")
    out = tmp_path / "c.fits"
    given = from_files("spectra", {"spectra": tmp_path / "bundle"}, model, files, out, workers=2, limit=10)
    assert predict(given) == 0
    wanted = read(by_hand("spectra", made, stores, tmp_path / "wanted.parquet"))
    with fits.open(out) as hdus:
        table, header = hdus[1].data, hdus[1].header
        np.testing.assert_array_equal(table["id"], wanted["id"][:10])
        # other batches round otherwise
        np.testing.assert_allclose(table["feh"], wanted["feh"][:10], rtol=1e-5, atol=1e-6)
        assert (header["SURVEY"], header["NFAILED"]) == ("lamost", "0")


def test_a_head_that_encodes_needs_no_embeddings(
    made: dict[str, Path], stores: dict[str, Path], model: Path, files: Path, tmp_path: Path
) -> None:
    given = InputStores.open("encoded", stores["spectra"])
    truth = {"feh": np.linspace(-2, 0, N), "teff": np.linspace(4000, 7000, N)}
    sample = Sample.join(given, make_labels(np.sort(given.ids), truth), ("feh", "teff"))
    base = encoding(Head.from_pretrained(made["embedding"]), str(model))
    adapt_head(base, sample, "lora_encoder", SMALL).head.save_pretrained(tmp_path / "head")
    out, wanted = tmp_path / "c.parquet", tmp_path / "wanted.parquet"
    head = {"embedding": tmp_path / "head"}
    assert predict(from_files("embedding", head, model, files, out, keep_work=True)) == 0
    assert [path.name for path in (tmp_path / ".c.parquet.work").iterdir()] == ["spectra.zarr"]
    predict(PredictOptions(head=tmp_path / "head", store=stores["spectra"], model=str(model), out=wanted))
    assert_same(out, wanted)
    before = read(by_hand("embedding", made, stores, tmp_path / "before.parquet"))
    assert not np.array_equal(read(out)["feh"], before["feh"])


def test_stores_are_kept_on_demand_and_used_again(
    made: dict[str, Path], model: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.parquet"
    given = from_files("fused", made, model, files, out, keep_work=True)
    assert predict(given) == 0
    work = tmp_path / ".c.parquet.work"
    assert sorted(path.name for path in work.iterdir()) == ["embeddings.zarr", "spectra.zarr"]
    first = read(out)

    def written(*args: Any) -> None:
        raise AssertionError("a shard was written again")

    for kind in (SpectraStore, EmbeddingStore):
        monkeypatch.setattr(kind, "write_shard", written)
    assert predict(replace(given, overwrite=True, keep_work=False)) == 0
    np.testing.assert_array_equal(read(out)["feh"], first["feh"])
    assert not work.exists()


def test_work_on_other_files_is_not_taken(made: dict[str, Path], model: Path, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.parquet"
    given = from_files("spectra", made, model, files, out, keep_work=True)
    predict(given)
    other = write_lamost(tmp_path / "a.fits")
    with pytest.raises(StoreError, match=r"spectra\.zarr' exists and belongs to another job .* or delete it"):
        predict(replace(given, files=(str(other),), overwrite=True))
    assert (tmp_path / ".c.parquet.work" / "spectra.zarr").exists()


def test_how_files_are_read_is_passed_on(made: dict[str, Path], model: Path, tmp_path: Path) -> None:
    """Air wavelengths and spectra at rest, and velocities of a catalogue."""
    files = [write_fits1d(tmp_path / f"star-{i}.fits", n_pix=1700, seed=i) for i in range(1, 4)]
    head = {"survey": "fits1d", "files": tuple(map(str, files)), "head": made["spectra"], "keep_work": True}
    assert predict(PredictOptions(**head, out=tmp_path / "air.parquet", medium="air", at_rest=True)) == 0
    store = SpectraStore.open(tmp_path / ".air.parquet.work" / "spectra.zarr")
    job = store.attributes["job"]
    assert (job["medium"], job["at_rest"], store.grid) == ("air", True, LRS)
    assert store.attributes["preprocessing"] == Preparation().attributes(LRS)
    assert not (store.read("flags") & Flag.RV_MISSING).any()
    (tmp_path / "rv.csv").write_text("id,rv\n1,10\n2,20\n3,30\n")
    assert predict(PredictOptions(**head, out=tmp_path / "rv.parquet", medium="air", rv=tmp_path / "rv.csv")) == 0
    store = SpectraStore.open(tmp_path / ".rv.parquet.work" / "spectra.zarr")
    assert store.read("rv").tolist() == [10, 20, 30]
    vacuum = PredictOptions(**head, out=tmp_path / "vacuum.parquet", medium="vacuum", at_rest=True)
    predict(vacuum)
    assert not np.array_equal(read(vacuum.out)["feh"], read(tmp_path / "air.parquet")["feh"])


@pytest.mark.parametrize("name", ["grid", "preparation"])
def test_files_are_prepared_as_the_heads_were(name: str, made: dict[str, Path], files: Path, tmp_path: Path) -> None:
    """On a grid and by a preparation that are not those by default."""
    grid = "3.65:3.7:0.0002" if name == "grid" else "lrs"
    preparation = Preparation(continuum="none", frame="observed") if name == "preparation" else Preparation()
    path = tmp_path / "s.zarr"
    ingest(IngestOptions(survey="lamost", files=(str(files),), out=path, grid=grid, preparation=preparation))
    given = InputStores.open("spectra", path)
    truth = {"feh": np.linspace(-2, 0, N), "teff": np.linspace(4000, 7000, N)}
    sample = Sample.join(given, make_labels(np.sort(given.ids), truth), ("feh", "teff"))
    train_head(sample, given.identity, SMALL).head.save_pretrained(tmp_path / "head")
    wanted, out = tmp_path / "wanted.parquet", tmp_path / "c.parquet"
    predict(PredictOptions(head=tmp_path / "head", store=path, out=wanted))
    predict(PredictOptions(head=tmp_path / "head", survey="lamost", files=(str(files),), out=out))
    assert_same(out, wanted)


# -- what cannot be used -----------------------------------------------------------------------------------


def test_files_of_no_use_are_told_and_the_rest_goes_on(
    made: dict[str, Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(write_lamost(tmp_path / f"{i}.fits", obsid=BIG_ID + i, n_pix=1700, seed=i)) for i in range(4)]
    names += [str(truncate(write_lamost(tmp_path / f"broken-{i}.fits"), 5000)) for i in range(7)]
    out = tmp_path / "c.parquet"
    given = from_files("fused", made, model, "", out, files=(*names, str(tmp_path / "gone.fits")))
    assert predict(given) == 3
    found = read(out)
    assert found["id"][:4].tolist() == [BIG_ID + i for i in range(4)]
    # the header of the broken ones can be read, so that they have rows
    assert np.isfinite(found["feh"]).tolist() == [True] * 4 + [False] * 7
    assert ((found["flags"] & Flag.UNREADABLE) > 0).tolist() == [False] * 4 + [True] * 7
    failed = {Path(entry["file"]).name for entry in about(out)["files"]["failed"]}
    assert failed == {"gone.fits", *(f"broken-{i}.fits" for i in range(7))}
    said = capsys.readouterr().err
    assert said.count("not usable: ") == 5
    assert "and 3 more; with --keep-work the spectra are kept, and stores-info lists them all." in said
    assert not (tmp_path / ".c.parquet.work").exists()


def test_nothing_usable_is_status_two_and_leaves_nothing(made: dict[str, Path], model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.fits"
    text.write_text("not a spectrum")
    masked = write_lamost(tmp_path / "masked.fits", ivar=0.0)
    for file, sentence in ((text, "none of 1 files can be used"), (masked, "not one spectrum has a usable pixel")):
        with pytest.raises(InputError, match=sentence) as caught:
            predict(from_files("fused", made, model, file, tmp_path / "c.parquet"))
        assert caught.value.exit_status == 2
        assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".fits") == []


def test_the_command_ends_with_the_status(
    made: dict[str, Path], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["heads-predict", "--survey", "lamost", str(files), str(tmp_path / "gone.fits"), "--workers", "2"]
    monkeypatch.setattr("sys.argv", [*words, "--head", str(made["spectra"]), "--out", str(tmp_path / "c.csv")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 3
    assert len((tmp_path / "c.csv").read_text().splitlines()) == N + 1


# -- killed ------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import heads.head, heads.predict, stores.column, stores.ingest, stores.spectra, stores.embeddings

stores.column.CHUNK_ROWS = 8
stores.ingest.shard_rows_for = lambda n: 8
heads.head.ROWS_AT_ONCE = 8
places = {
    "preparing": (stores.spectra.SpectraStore, "write_shard"),
    "embedding": (stores.embeddings.EmbeddingStore, "write_shard"),
    "predicting": (heads.predict, "catalogue_part"),
}
holder, name = places[sys.argv.pop(1)]
whole, calls = getattr(holder, name), []

def killed(*given):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given)

setattr(holder, name, killed)
heads.predict.main()
"""


@pytest.mark.parametrize("stage", ["preparing", "embedding", "predicting"])
def test_killed_it_goes_on_to_the_same_catalogue(
    stage: str,
    made: dict[str, Path],
    stores: dict[str, Path],
    model: Path,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = by_hand("fused", made, stores, tmp_path / "wanted.parquet")
    out = tmp_path / "out" / "c.parquet"
    given = from_files("fused", made, model, files, out)
    words = [
        stage,
        "--survey",
        "lamost",
        str(files),
        "--head",
        str(given.head),
        "--model",
        str(model),
        "--out",
        str(out),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, env=environment, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(path.name for path in out.parent.iterdir()) == [".c.parquet.lock", ".c.parquet.work"]
    monkeypatch.setattr("stores.column.CHUNK_ROWS", 8)
    written: list[str] = []
    for kind in (SpectraStore, EmbeddingStore):
        write = kind.write_shard

        def counted(store: Any, shard: int, *values: Any, write: Any = write) -> None:
            written.append(f"{store.path.name} {shard}")
            write(store, shard, *values)

        monkeypatch.setattr(kind, "write_shard", counted)
    with writing(out):  # as the command does
        assert predict(given) == 0
    left = {"preparing": [1, 2], "embedding": [], "predicting": []}[stage]
    assert [shard for shard in written if shard.startswith("spectra")] == [f"spectra.zarr {i}" for i in left]
    left = {"preparing": [0, 1, 2], "embedding": [1, 2], "predicting": []}[stage]
    assert [shard for shard in written if shard.startswith("emb")] == [f"embeddings.zarr {i}" for i in left]
    assert_same(out, wanted)
    assert [path.name for path in out.parent.iterdir()] == ["c.parquet"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_while_it_clears_up_it_blocks_nothing(
    overwrite: bool, made: dict[str, Path], files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.parquet"
    given = from_files("spectra", made, model, files, out, limit=5)

    def killed(folder: Path, **more: Any) -> None:
        if (lost := folder / "spectra.zarr" / "flux" / "zarr.json").exists():
            lost.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stores.atomic.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            predict(given)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.parquet.work.rest", "c.parquet"]
    first = read(out)
    if overwrite:
        assert predict(replace(given, overwrite=True)) == 0
        np.testing.assert_array_equal(read(out)["feh"], first["feh"])
    else:
        with pytest.raises(OptionError, match=r"c\.parquet' exists"):
            predict(given)
    assert [path.name for path in tmp_path.iterdir()] == ["c.parquet"]


@pytest.mark.parametrize("lost", ["flux/c/0/0", "shards/00000/zarr.json", "zarr.json"])
def test_work_that_is_damaged_is_begun_anew(
    lost: str,
    made: dict[str, Path],
    files: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "c.parquet"
    given = from_files("spectra", made, model, files, out, limit=5, keep_work=True)
    assert predict(given) == 0
    first = read(out)
    (tmp_path / ".c.parquet.work" / "spectra.zarr" / lost).unlink()
    capsys.readouterr()
    assert predict(replace(given, overwrite=True)) == 0
    said = capsys.readouterr().err
    assert "spectra.zarr' is damaged: " in said
    assert f"{lost} is missing; the work is begun anew.\n" in said
    np.testing.assert_array_equal(read(out)["feh"], first["feh"])
    assert SpectraStore.open(tmp_path / ".c.parquet.work" / "spectra.zarr").complete


# -- the built-in sample -----------------------------------------------------------------------------------


@pytest.mark.parametrize("survey", [None, "desi"])
def test_without_files_a_sample_is_taken_and_told(
    survey: str | None, made: dict[str, Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.parquet"
    head = Head.from_pretrained(made["fused"])
    assert predict(PredictOptions(survey=survey, head=made["fused"], model=str(model), out=out, limit=12)) == 0
    named = survey or "lamost"
    assert (
        f"no files were given: a built-in sample of 12 simulated {named} spectra is taken." in capsys.readouterr().err
    )
    sample = BuiltInSample(named, LRS, Preparation(), 12).write(tmp_path / "s.zarr")
    embed_store(sample.path, tmp_path / "e.zarr", str(model))
    said = head.predict(sample.path, tmp_path / "e.zarr")
    np.testing.assert_array_equal(read(out)["id"], said.id)
    np.testing.assert_array_equal(read(out)["feh"], said.value["feh"].astype(np.float32))
    assert about(out)["files"] == {
        "survey": f"{named} (simulated)",
        "given": [],
        "sources": {"files": 0, "bytes": 0},
        "failed": [],
    }


def test_a_sample_that_was_begun_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.sample.shard_rows_for", lambda n: 64)
    sample = BuiltInSample("lamost", Grid(3.65, 96, 2e-4), Preparation(), 100)
    whole = sample.write(tmp_path / "whole.zarr")
    write, calls = SpectraStore.write_shard, []

    def failing(store: SpectraStore, shard: int, *values: Any) -> None:
        calls.append(shard)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(store, shard, *values)

    monkeypatch.setattr(SpectraStore, "write_shard", failing)
    with pytest.raises(KeyboardInterrupt):
        sample.write(tmp_path / "begun.zarr")
    found = sample.write(tmp_path / "begun.zarr")
    assert calls == [0, 1, 1]
    assert (found.fingerprint, len(found)) == (whole.fingerprint, 100)
    assert sample.write(tmp_path / "begun.zarr").fingerprint == whole.fingerprint
    assert len(calls) == 3


# -- the model ---------------------------------------------------------------------------------------------


def test_the_model_is_looked_for_before_any_file_is(made: dict[str, Path], files: Path, tmp_path: Path) -> None:
    given = PredictOptions(survey="lamost", files=(str(files),), head=made["embedding"], out=tmp_path / "c.parquet")
    with pytest.raises(ModelError, match=r"the head needs its model: model 'lrs' is unknown.*name where it lies with"):
        predict(given)
    other = save_model(tmp_path / "lrs", 1)
    with pytest.raises(
        ModelError, match=r"the head needs its model: the model '.*lrs' has other weights \(.*--model\."
    ):
        predict(replace(given, model=str(other)))
    with pytest.raises(ModelError) as caught:
        predict(replace(given, model=str(tmp_path)))
    assert str(caught.value).count("\n") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["lrs"]


def test_a_built_in_model_needs_no_place(files: Path, tmp_path: Path) -> None:
    """Its name is enough."""
    spectra, embeddings = tmp_path / "s.zarr", tmp_path / "e.zarr"
    ingest(IngestOptions(survey="lamost", files=(str(files),), out=spectra))
    embed_store(spectra, embeddings, "tiny-lamost")
    given = InputStores.open("embedding", embeddings=embeddings)
    truth = {"feh": np.linspace(-2, 0, N), "teff": np.linspace(4000, 7000, N)}
    sample = Sample.join(given, make_labels(np.sort(given.ids), truth), ("feh", "teff"))
    train_head(sample, given.identity, SMALL).head.save_pretrained(tmp_path / "head")
    out = tmp_path / "c.parquet"
    assert predict(PredictOptions(head=tmp_path / "head", survey="lamost", files=(str(files),), out=out)) == 0
    said = Head.from_pretrained(tmp_path / "head").predict(embeddings=embeddings)
    np.testing.assert_array_equal(read(out)["feh"], said.value["feh"].astype(np.float32))


def test_a_store_is_embedded_as_by_the_command(
    stores: dict[str, Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embed_store(stores["spectra"], tmp_path / "e.zarr", str(model))
    wanted, found = EmbeddingStore.open(stores["embeddings"]), EmbeddingStore.open(tmp_path / "e.zarr")
    assert found.fingerprint == wanted.fingerprint
    embed_store(stores["spectra"], tmp_path / "e.zarr", str(model))
    assert "e.zarr" not in capsys.readouterr().err
    fingerprint = found.attributes["model"]["fingerprint"]
    check_model(str(model), fingerprint)
    with pytest.raises(ModelError, match=f"has other weights \\({fingerprint}, not beef\\)"):
        check_model(str(model), "beef")


# -- heads -------------------------------------------------------------------------------------------------


def test_heads_that_remember_a_fingerprint_only(
    made: dict[str, Path], model: Path, files: Path, tmp_path: Path
) -> None:
    """Those of earlier versions do for the preparation by default."""
    head = Head.from_pretrained(made["spectra"])
    whole = head.identity["preprocessing"]
    for number, fingerprint in enumerate((whole["fingerprint"], "beef")):
        head.identity = {**head.identity, "preprocessing": fingerprint}
        head.save_pretrained(tmp_path / str(number))
    given = from_files("spectra", {"spectra": tmp_path / "0"}, model, files, tmp_path / "c.parquet")
    assert predict(given) == 0
    with pytest.raises(ModelError, match="1' learned from spectra that this version of spectrabridge cannot prepare"):
        predict(replace(given, head=tmp_path / "1", overwrite=True))


def test_heads_are_found_by_name_or_folder(
    made: dict[str, Path], stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads.library, "BUILT_IN", tmp_path / "models")
    assert built_in_heads() == []
    assert find_head(made["spectra"]) == made["spectra"]
    with pytest.raises(
        ModelError, match=r"'lamost' holds no head and is none of the built-in ones \(there are none yet"
    ):
        find_head("lamost")
    spectra = Head.from_pretrained(made["spectra"])
    for name in ("lamost", "desi"):
        spectra.save_pretrained(tmp_path / "models" / name)
    assert built_in_heads() == ["desi", "lamost"]
    assert find_head("desi") == tmp_path / "models" / "desi"
    with pytest.raises(ModelError, match=r"'sdss' holds no head and is none of the built-in ones \(desi, lamost\)"):
        find_head("sdss")
    # the one of the survey, where none is named
    predict(PredictOptions(store=stores["spectra"], out=tmp_path / "store.parquet"))
    predict(PredictOptions(out=tmp_path / "sample.parquet", limit=3))
    predict(PredictOptions(survey="desi", out=tmp_path / "desi.parquet", limit=3))
    heads_used = [
        Path(about(tmp_path / f"{name}.parquet")["head"]["path"]).name for name in ("store", "sample", "desi")
    ]
    assert heads_used == ["lamost", "lamost", "desi"]
    for survey, words in (("fits1d", "survey 'fits1d', only of desi, lamost;"), ("sdss", "survey 'sdss', only of")):
        given = PredictOptions(survey=survey, files=(str(tmp_path),), out=tmp_path / "other.parquet")
        with pytest.raises(OptionError, match=f"no built-in head of the {words}.* name one with --head: ") as caught:
            predict(given)
        assert len(str(caught.value).splitlines()) == 1
    labels = HeadTrainOptions(
        store=(stores["spectra"],), labels=("x",), adapter="full", base=Path("sdss"), out=tmp_path / "head"
    )
    with pytest.raises(ModelError, match="'sdss' holds no head"):
        train(labels)
    with pytest.raises(InputError, match="'x' does not exist"):
        train(replace(labels, base=Path("desi")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": ("a.fits",), "survey": None}, "'a.fits' does not exist"),
        ({"files": (".",), "survey": None}, "files need a reader: add --survey"),
        ({"files": (".",), "survey": "nothing"}, "nothing"),
        ({"files": (".",), "survey": "lamost", "rv": Path("gone.csv")}, "'gone.csv' does not exist"),
        ({"files": (".",), "survey": "lamost", "rv": Path("a"), "at_rest": True}, "--at-rest and --rv contradict"),
        ({"files": (".",), "survey": "lamost", "workers": 0}, "--workers 0"),
        ({"files": (".",), "survey": "lamost", "limit": 0}, "--limit 0"),
        ({"files": (".",), "store": Path("s.zarr")}, "give files or stores"),
        ({"survey": "lamost", "store": Path("s.zarr")}, "--survey works with files; stores are taken as they are"),
        ({"keep_work": True, "store": Path("s.zarr")}, "--keep-work works with files"),
        ({"model": "m", "embeddings": Path("s.zarr")}, "--model works with files"),
        ({"at_rest": True}, "--at-rest works with files, and none were given"),
        ({"medium": "air"}, "--medium works with files, and none were given"),
        ({"survey": "sdss"}, "survey 'sdss' has no built-in sample"),
        ({"files": ("folder",), "survey": "lamost"}, "folder 'folder' holds no file named"),
    ],
)
def test_calls_that_cannot_work_are_refused(
    changes: dict[str, Any], words: str, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(SpectraBridgeError, match=re.escape(words)) as caught:
        predict(PredictOptions(head=made["spectra"], out=Path("c.parquet"), **changes))
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_store_among_the_files_is_told(made: dict[str, Path], stores: dict[str, Path], tmp_path: Path) -> None:
    given = PredictOptions(head=made["spectra"], out=tmp_path / "c.parquet", files=(str(stores["spectra"]),))
    with pytest.raises(OptionError, match=r"s\.zarr' is a store; name it with --store or --embeddings"):
        predict(given)


# -- real files --------------------------------------------------------------------------------------------


@real
def test_the_built_in_head_flags_hot_stars_and_no_others(tmp_path: Path) -> None:
    with (DATA / "lamost" / "labels.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["teff"] and float(row["snrg"]) > 20]
    hot = [row["file"] for row in rows if float(row["teff"]) > 9000][:8]
    usual = [row["file"] for row in rows if 5000 < float(row["teff"]) < 6000][:8]
    files = tuple(str(DATA / "lamost" / "fits" / name) for name in hot + usual)
    out = tmp_path / "c.parquet"
    assert predict(PredictOptions(survey="lamost", files=files, out=out)) == 0
    found = read(out)
    flagged = dict(zip(found["id"].tolist(), (found["flags"] & Flag.OUTSIDE_LABELS).tolist(), strict=True))
    ids = {row["file"]: int(row["obsid"]) for row in rows}
    assert [bool(flagged[ids[name]]) for name in hot + usual] == [True] * 8 + [False] * 8


@real
@pytest.mark.parametrize(
    ("survey", "names", "more"),
    [
        ("lamost", "lamost/fits/spec-*.fits.gz", {}),
        ("desi", "desi/[cs]*.fits", {"limit": 20}),
        ("fits1d", "miles/fits/*.fits.gz", {"medium": "air", "at_rest": True}),
    ],
)
def test_real_files(survey: str, names: str, more: Any, made: dict[str, Path], model: Path, tmp_path: Path) -> None:
    files = tuple(str(path) for path in sorted(DATA.glob(names))[:10])
    assert files
    out = tmp_path / "c.parquet"
    status = predict(from_files("fused", made, model, "", out, survey=survey, files=files, **more))
    spectra = tmp_path / "s.zarr"
    assert ingest(IngestOptions(survey=survey, files=files, out=spectra, **more)) == status
    embed_store(spectra, tmp_path / "e.zarr", str(model))
    wanted = by_hand("fused", made, {"spectra": spectra, "embeddings": tmp_path / "e.zarr"}, tmp_path / "w.parquet")
    assert_same(out, wanted)
    assert len(read(out)["id"]) >= len(files) >= 3
