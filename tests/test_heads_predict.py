"""heads-predict: the catalogue holds what the head says, in every format, with what it needs to be understood."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from heads_made import SMALL, TARGETS, make_head, make_stores
from stores_made import BIG_ID

import heads.head
import heads.predict
from heads import Head
from heads.bundle import Bundle
from heads.predict import PredictOptions, Summary, catalogue_columns, predict, together
from stores import EmbeddingStore, Flag, SpectraStore
from stores.errors import ModelError, OptionError, StoreError

COLUMNS = ["id", "ra", "dec", "snr"]
for _target in TARGETS:
    COLUMNS += [_target + suffix for suffix in ("", "_sigma", "_16", "_84", "_05", "_95")]
COLUMNS += ["flags"]
N, EMPTY = 150, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def paths(folder: Path) -> dict[str, Path]:
    return make_stores(folder, N, empty=(EMPTY,))


@pytest.fixture(scope="module")
def head(folder: Path, paths: dict[str, Path]) -> Path:
    """The folder of a head for embeddings."""
    make_head("embedding", paths).save_pretrained(folder / "head")
    return folder / "head"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts, and several row groups of several parts."""
    monkeypatch.setattr(heads.head, "ROWS_AT_ONCE", 20)
    monkeypatch.setattr(heads.predict.together, "__defaults__", (50,))


def values_of(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    if path.suffix == ".csv":
        table = pyarrow.csv.read_csv(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    table = Table.read(path)
    return {name: np.ma.getdata(np.asarray(table[name])) for name in table.colnames}


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv", ".csv"])
def test_the_catalogue_holds_what_the_head_says(
    suffix: str, head: Path, paths: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / f"c{suffix}"
    assert predict(PredictOptions(head=head, embeddings=paths["embeddings"], out=out)) == 0
    found, said = values_of(out), Head.from_pretrained(head).predict(embeddings=paths["embeddings"])
    store = EmbeddingStore.open(paths["embeddings"])
    assert list(found) == COLUMNS
    assert found["id"].tolist() == store.read("id").tolist()
    assert found["id"][0] == BIG_ID == 2**62 + 1
    for name in ("ra", "dec", "snr"):
        np.testing.assert_array_equal(found[name].astype(store.read(name).dtype), store.read(name))
    np.testing.assert_array_equal(found["flags"], said.flags)
    kinds = {"": "value", "_sigma": "sigma", "_16": "low", "_84": "high", "_05": "low90", "_95": "high90"}
    for target in TARGETS:
        for end, kind in kinds.items():
            wanted = getattr(said, kind)[target].astype(np.float32)
            np.testing.assert_array_equal(found[target + end].astype(np.float32), wanted, err_msg=target + end)
    usable = np.arange(N) != EMPTY
    assert np.isnan(found["feh"].astype(float)).tolist() == (~usable).tolist()
    assert found["flags"][EMPTY] & Flag.NO_VALID_PIXELS
    feh = {end: found[f"feh{end}"][usable] for end in ("", "_05", "_16", "_84", "_95")}
    assert np.all((feh["_05"] <= feh["_16"]) & (feh["_16"] <= feh["_84"]) & (feh["_84"] <= feh["_95"]))


def test_units_descriptions_and_origin_go_along(head: Path, paths: dict[str, Path], tmp_path: Path) -> None:
    stores = {"head": head, "embeddings": paths["embeddings"]}
    for suffix in ("parquet", "fits", "ecsv"):
        predict(PredictOptions(**stores, out=tmp_path / f"c.{suffix}"))  # type: ignore[arg-type]
    schema = pq.read_schema(tmp_path / "c.parquet")
    assert schema.field("teff_sigma").metadata[b"unit"] == b"K"
    assert schema.field("feh_16").metadata == {
        b"unit": b"dex",
        b"description": b"[Fe/H], lower bound of the central 68 per cent",
    }
    told = json.loads(schema.metadata[b"spectrabridge"])
    loaded, store = Head.from_pretrained(head), EmbeddingStore.open(paths["embeddings"])
    assert told["head"]["fingerprint"] == loaded.fingerprint
    assert told["head"]["about"] == {"trained_on": "made"}
    assert told["stores"]["embeddings"]["fingerprint"] == store.fingerprint
    assert {"version", "commit", "command", "created"} <= set(told)
    assert {entry["name"] for entry in told["flag_bits"]} == {flag.name for flag in Flag}
    with fits.open(tmp_path / "c.fits") as hdus:
        hdus.verify("exception")
        header = hdus["PARAMETERS"].header
    assert header["HEADFP"] == loaded.fingerprint
    assert header["EMBEDFP"] == store.fingerprint
    assert "bit 16: OUT_OF_DISTRIBUTION" in str(header["COMMENT"])
    # FITS knows no dex, of which astropy would warn
    for suffix, dex in (("fits", "None"), ("ecsv", "dex")):
        table = Table.read(tmp_path / f"c.{suffix}")
        assert (str(table["teff"].unit), str(table["feh_95"].unit), str(table["ra"].unit)) == ("K", dex, "deg")
        assert table["id"].dtype.newbyteorder("=") == np.int64
    told = {header[f"TTYPE{i}"]: header[f"TCOMM{i}"] for i in range(1, header["TFIELDS"] + 1)}
    assert told["feh_95"] == "[Fe/H], upper bound of the central 90 per cent (dex)"
    assert told["teff_sigma"] == "effective temperature, one calibrated sigma"
    assert table.meta["spectrabridge"]["head"]["fingerprint"] == loaded.fingerprint


def test_few_row_groups_and_never_all_rows(
    head: Path, paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    whole = heads.predict.catalogue_part

    def counted(found: Any, spectrum: Any) -> Any:
        read.append(len(found))
        return whole(found, spectrum)

    monkeypatch.setattr(heads.predict, "catalogue_part", counted)
    predict(PredictOptions(head=head, embeddings=paths["embeddings"], out=tmp_path / "c.parquet"))
    assert read == [20] * 7 + [10]
    metadata = pq.ParquetFile(tmp_path / "c.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [60, 60, 30]


def test_parts_are_put_together_in_order() -> None:
    parts = [{"id": np.arange(start, stop)} for start, stop in ((0, 3), (3, 4), (4, 9), (9, 10))]
    joined = [part["id"].tolist() for part in together(parts, 4)]
    assert joined == [[0, 1, 2, 3], [4, 5, 6, 7, 8], [9]]


@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (20, 20), (21, 21), (1000, N)])
def test_limit(limit: int, rows: int, head: Path, paths: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "c.parquet"
    predict(PredictOptions(head=head, embeddings=paths["embeddings"], out=out, limit=limit))
    assert pq.read_table(out)["id"].to_pylist() == [BIG_ID + i for i in range(rows)]


@pytest.mark.parametrize("name", ["spectra", "fused"])
def test_other_inputs(name: str, folder: Path, paths: dict[str, Path], tmp_path: Path) -> None:
    made = make_head(name, paths)
    made.save_pretrained(tmp_path / "head")
    out = tmp_path / "c.parquet"
    predict(PredictOptions(head=tmp_path / "head", store=paths["spectra"], embeddings=paths["embeddings"], out=out))
    found, spectra = values_of(out), SpectraStore.open(paths["spectra"])
    np.testing.assert_array_equal(found["snr"], spectra.read("snr"))
    said = made.predict(paths["spectra"], paths["embeddings"])
    np.testing.assert_array_equal(found["teff"], said.value["teff"].astype(np.float32))
    told = json.loads(pq.read_schema(out).metadata[b"spectrabridge"])
    assert set(told["stores"]) == ({"spectra"} if name == "spectra" else {"spectra", "embeddings"})


def test_a_bundle_writes_each_label_of_its_part(paths: dict[str, Path], tmp_path: Path) -> None:
    one = make_head("embedding", paths)
    other = make_head("embedding", paths, replace(SMALL, seed=1))
    bundle = Bundle({"one": one, "other": other}, {"feh": "other", "teff": "one"}, {"picked": "by hand"})
    bundle.save_pretrained(tmp_path / "both")
    out = tmp_path / "c.parquet"
    predict(PredictOptions(head=tmp_path / "both", embeddings=paths["embeddings"], out=out))
    found, store = values_of(out), paths["embeddings"]
    said = {"teff": one.predict(embeddings=store), "feh": other.predict(embeddings=store)}
    for target, part in said.items():
        np.testing.assert_array_equal(found[target], part.value[target].astype(np.float32))
        np.testing.assert_array_equal(found[f"{target}_05"], part.low90[target].astype(np.float32))
    np.testing.assert_array_equal(found["flags"], said["teff"].flags | said["feh"].flags)
    told = json.loads(pq.read_schema(out).metadata[b"spectrabridge"])["head"]
    assert told["fingerprint"] == bundle.fingerprint
    assert told["adapter"] == {"feh": "other", "teff": "one"}
    assert told["about"] == {"picked": "by hand"}


def test_the_summary_counts_rows_flags_and_sigmas(
    head: Path, paths: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(PredictOptions(head=head, embeddings=paths["embeddings"], out=tmp_path / "c.fits"))
    said = Head.from_pretrained(head).predict(embeddings=paths["embeddings"])
    err = capsys.readouterr().err
    assert f"c.fits': {N} rows." in err
    assert "NO_VALID_PIXELS 1" in err
    outside = int(np.count_nonzero(said.flags & np.uint32(Flag.OUTSIDE_LABELS)))
    assert (f"OUTSIDE_LABELS {outside}" in err) == (outside > 0)
    for target, unit in (("teff", "K"), ("feh", "dex")):
        shown = re.search(rf"{target} ([\d.]+) {unit}", err)
        assert shown is not None
        assert float(shown.group(1)) == pytest.approx(np.nanmedian(said.sigma[target]), rel=0.01)


def test_the_median_of_nothing() -> None:
    summary = Summary(("feh",))
    empty = {"id": np.arange(2), "flags": np.zeros(2, np.uint32), "feh_sigma": np.full(2, np.nan, np.float32)}
    assert len(list(summary.watch([empty]))) == 1
    assert np.isnan(summary.median_sigma("feh"))
    assert str(summary) == "2 rows.\nmedian sigma: feh nan dex\nflagged: none"


def test_columns_of_labels_that_are_not_known_have_no_unit() -> None:
    columns = catalogue_columns(["age"])
    assert columns["age_sigma"].unit == ""
    assert columns["age_sigma"].description == "age, one calibrated sigma"


def test_a_store_that_the_head_does_not_read_is_told(
    head: Path, paths: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = PredictOptions(head=head, embeddings=paths["embeddings"], out=tmp_path / "c.parquet")
    predict(given)
    assert "is not used" not in capsys.readouterr().err
    predict(replace(given, store=paths["spectra"], overwrite=True))
    assert "note: the head reads the input embedding; --store is not used.\n" in capsys.readouterr().err


# -- what is refused ---------------------------------------------------------------------------------------


def test_calls_that_cannot_work_are_refused_before_anything_is_read(
    head: Path, paths: dict[str, Path], tmp_path: Path
) -> None:
    store = paths["embeddings"]
    with pytest.raises(OptionError, match=r"c\.txt' has no suffix of a table; use one of \.parquet"):
        predict(PredictOptions(head=tmp_path / "none", out=tmp_path / "c.txt"))
    with pytest.raises(OptionError, match="--limit 0 must be 1 or more"):
        predict(PredictOptions(head=head, embeddings=store, out=tmp_path / "c.csv", limit=0))
    with pytest.raises(ModelError, match="none' holds no head"):
        predict(PredictOptions(head=tmp_path / "none", embeddings=store, out=tmp_path / "c.csv"))
    made_by = rf"name it with --embeddings \(`embed-spectra {re.escape(str(paths['spectra']))}.* --out EMBEDDINGS"
    with pytest.raises(OptionError, match=f"needs a store of embeddings; {made_by}"):
        predict(PredictOptions(head=head, store=paths["spectra"], out=tmp_path / "c.csv"))
    with pytest.raises(StoreError, match=r"gone\.zarr' does not exist"):
        predict(PredictOptions(head=head, embeddings=tmp_path / "gone.zarr", out=tmp_path / "c.csv"))
    with pytest.raises(StoreError, match="is a store of spectra, not of embeddings"):
        predict(PredictOptions(head=head, embeddings=paths["spectra"], out=tmp_path / "c.csv"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_on_demand(head: Path, paths: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "c.parquet"
    out.write_text("precious")
    with pytest.raises(OptionError, match=r"c\.parquet' exists; choose another --out or add --overwrite"):
        predict(PredictOptions(head=head, embeddings=paths["embeddings"], out=out))
    assert out.read_text() == "precious"
    predict(PredictOptions(head=head, embeddings=paths["embeddings"], out=out, overwrite=True, limit=5))
    assert pq.read_table(out).num_rows == 5


@pytest.mark.parametrize("part", ["model", "preprocessing", "grid"])
def test_a_store_that_is_not_as_the_heads_is_refused(part: str, paths: dict[str, Path], tmp_path: Path) -> None:
    made = make_head("embedding", paths)
    other: Any = {"model": {"name": "m2", "fingerprint": "beef"}, "preprocessing": "other", "grid": {"start": 3.0}}
    made.identity = {**made.identity, part: other[part]}
    made.save_pretrained(tmp_path / "head")
    out = tmp_path / "c.parquet"
    with pytest.raises(StoreError, match=rf"e\.zarr' has {part} .*, and the head learned from {part} "):
        predict(PredictOptions(head=tmp_path / "head", embeddings=paths["embeddings"], out=out))
    assert not out.exists()


def test_a_failure_leaves_what_was_there(
    head: Path, paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = heads.predict.catalogue_part
    calls: list[int] = []

    def failing(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise OSError("disk on fire")
        return whole(*given)

    monkeypatch.setattr(heads.predict, "catalogue_part", failing)
    for suffix in ("parquet", "fits", "ecsv", "csv"):
        calls.clear()
        out = tmp_path / f"c.{suffix}"
        out.write_text("precious")
        with pytest.raises(OSError, match="disk on fire"):
            predict(PredictOptions(head=head, embeddings=paths["embeddings"], out=out, overwrite=True))
        assert out.read_text() == "precious"
        assert [file.name for file in tmp_path.iterdir()] == [out.name]
        out.unlink()


def test_the_command_says_one_sentence(head: Path, paths: dict[str, Path], tmp_path: Path) -> None:
    run = [sys.executable, "-m", "heads.predict", "--head", str(head), "--embeddings", str(paths["spectra"])]
    done = subprocess.run(
        [*run, "--out", str(tmp_path / "c.parquet")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 2
    assert done.stderr.startswith("heads-predict: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
