"""heads-predict from survey files: samples, models and heads are found, or it is said what is lacking."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_made import SMALL, make_labels
from intake_made import LRS, N, about, from_files, read, save_model

import heads.library
from embed.run import check_model, embed_store
from heads import Head, InputStores, Sample, train_head
from heads.library import built_in_heads, find_head
from heads.predict import PredictOptions, predict
from heads.train import HeadTrainOptions, train
from stores import EmbeddingStore, Grid, Preparation, SpectraStore
from stores.errors import InputError, ModelError, OptionError, SpectraBridgeError
from stores.ingest import IngestOptions, ingest
from stores.sample import BuiltInSample

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
