"""heads-predict from survey files: the catalogue is that of stores made by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import BIG_ID, DATA, truncate, write_fits1d, write_lamost
from heads_made import SMALL, make_labels
from intake_made import INPUTS, LRS, N, about, assert_same, by_hand, from_files, read, real

from embed.run import embed_store
from heads import Head, InputStores, Sample, adapt_head, train_head
from heads.encoder import encoding
from heads.predict import PredictOptions, main, predict
from stores import EmbeddingStore, Flag, Preparation, SpectraStore
from stores.errors import InputError, StoreError
from stores.ingest import IngestOptions, ingest

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
