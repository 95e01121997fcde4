"""stores-export: values, units and provenance come back from every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from stores_made import BIG_ID, make_embeddings, make_spectra

import stores.export
from stores import EmbeddingStore, SpectraStore
from stores.errors import OptionError, StoreError
from stores.export import ExportOptions, export
from stores.tables import _card

SCALARS = ("id", "ra", "dec", "snr", "flags")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def spectra(folder: Path) -> SpectraStore:
    return make_spectra(folder / "s.zarr", empty=(5,))


@pytest.fixture(scope="module")
def embeddings(folder: Path) -> EmbeddingStore:
    ids = BIG_ID + np.arange(150)
    ids[9] = ids[2]
    return make_embeddings(folder / "e.zarr", dtype="float16", empty=(7,), ids=ids)


def test_parquet_holds_the_embeddings_and_what_they_are(embeddings: EmbeddingStore, tmp_path: Path) -> None:
    out = tmp_path / "e.parquet"
    assert export(ExportOptions(path=embeddings.path, out=out)) == 0
    table = pq.read_table(out)
    assert table.column_names == [*SCALARS, "embedding"]
    for name in SCALARS:
        value = table[name].to_numpy()
        assert value.dtype == embeddings.read(name).dtype, name
        np.testing.assert_array_equal(value, embeddings.read(name))
    assert table["id"][0].as_py() == 2**62 + 1
    kind = table.schema.field("embedding").type
    assert pa.types.is_fixed_size_list(kind)
    assert (kind.list_size, kind.value_type) == (24, pa.float32())
    vectors = np.stack(table["embedding"].to_numpy(zero_copy_only=False))
    np.testing.assert_array_equal(vectors, embeddings.read("embedding").astype(np.float32))
    assert table.schema.field("ra").metadata[b"unit"] == b"deg"
    assert table.schema.field("snr").metadata[b"description"].startswith(b"median signal-to-noise")
    told = json.loads(table.schema.metadata[b"spectrabridge"])
    assert told["sources"] == embeddings.attributes["sources"]
    assert told == {k: v for k, v in embeddings.attributes.items() if k != "metadata"}


def test_parquet_is_written_shard_by_shard(embeddings: EmbeddingStore, tmp_path: Path) -> None:
    export(ExportOptions(path=embeddings.path, out=tmp_path / "e.parquet"))
    file = pq.ParquetFile(tmp_path / "e.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [64, 64, 22]


def test_parquet_describes_its_columns_as_votable(embeddings: EmbeddingStore, tmp_path: Path) -> None:
    export(ExportOptions(path=embeddings.path, out=tmp_path / "e.parquet"))
    metadata = pq.read_schema(tmp_path / "e.parquet").metadata
    assert metadata[b"IVOA.VOTable-Parquet.version"] == b"1.0"
    root = ElementTree.fromstring(metadata[b"IVOA.VOTable-Parquet.content"])
    fields = {field.get("name"): field for field in root.iter("{http://www.ivoa.net/xml/VOTable/v1.3}FIELD")}
    assert list(fields) == [*SCALARS, "embedding"]
    assert fields["dec"].get("unit") == "deg"
    assert fields["id"].get("datatype") == "long"
    assert (fields["embedding"].get("datatype"), fields["embedding"].get("arraysize")) == ("float", "24")


@pytest.mark.parametrize("suffix", [".fits", ".ecsv"])
def test_astropy_reads_values_and_units(suffix: str, embeddings: EmbeddingStore, tmp_path: Path) -> None:
    out = tmp_path / f"e{suffix}"
    assert export(ExportOptions(path=embeddings.path, out=out)) == 0
    table = Table.read(out)
    assert table.colnames == [*SCALARS, "embedding"]
    for name in table.colnames:
        wanted = embeddings.read(name)
        wanted = wanted.astype(np.float32) if name == "embedding" else wanted
        assert table[name].dtype.newbyteorder("=") == wanted.dtype
        np.testing.assert_array_equal(np.asarray(table[name]), wanted, err_msg=name)
    assert int(table["id"][0]) == 2**62 + 1
    assert str(table["ra"].unit) == "deg"
    assert table["snr"].unit is None
    if suffix == ".ecsv":
        assert table["ra"].description.startswith("right ascension")
        assert table.meta["spectrabridge"]["fingerprint"] == embeddings.fingerprint


def test_fits_header_says_where_it_comes_from(embeddings: EmbeddingStore, tmp_path: Path) -> None:
    export(ExportOptions(path=embeddings.path, out=tmp_path / "e.fits"))
    with fits.open(tmp_path / "e.fits") as hdus:
        hdus.verify("exception")
        header = hdus[1].header
    assert header["EXTNAME"] == "EMBEDDINGS"
    assert header["STOREFP"] == embeddings.fingerprint
    assert header["SURVEY"] == "made"
    assert header["COMMAND"] == embeddings.attributes["command"]
    assert json.loads(header["PREPROC"]) == embeddings.attributes["preprocessing"]
    assert json.loads(header["MODEL"])["name"] == "m1"
    assert header["TUNIT2"] == "deg"
    assert header["TCOMM2"].startswith("right ascension")
    assert "bit 9: DUPLICATE_ID" in str(header["COMMENT"])


@pytest.mark.parametrize("length", [1, 20, 45, 50, 60, 67, 68, 69, 100, 500])
def test_values_of_any_length_are_kept_whole_without_a_word(length: int, tmp_path: Path) -> None:
    """Warnings are errors here; astropy warns where a value leaves its comment no room."""
    value = ("embed-spectra it's " * 30)[: length - 1] + "x"
    header = fits.Header([_card("COMMAND", value, "that wrote the store"), _card("TCOMM1", value, "")])
    fits.PrimaryHDU(header=header).writeto(tmp_path / "x.fits")
    with fits.open(tmp_path / "x.fits") as hdus:
        hdus.verify("exception")
        back = hdus[0].header
    assert back["COMMAND"] == back["TCOMM1"] == value
    if length <= 20:
        assert back.comments["COMMAND"] == "that wrote the store"


def test_a_command_of_any_characters_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["embed-spectra", "spectres/é\tà", "--out", "a name of fifty characters or so.zarr"]
    )
    store = make_embeddings(tmp_path / "a store whose name leaves its own comment little room.zarr")
    export(ExportOptions(path=store.path, out=tmp_path / "e.fits"))
    header = fits.getheader(tmp_path / "e.fits", 1)
    assert header["COMMAND"] == "embed-spectra spectres/\\xe9 \\xe0 --out a name of fifty characters or so.zarr"
    assert header["STORE"] == store.path.name
    assert header["STOREFP"] == store.fingerprint


def test_spectra_only_when_asked_for(spectra: SpectraStore, tmp_path: Path) -> None:
    export(ExportOptions(path=spectra.path, out=tmp_path / "rows.fits"))
    table = Table.read(tmp_path / "rows.fits")
    assert table.colnames == ["id", "ra", "dec", "rv", "snr", "flags"]
    assert str(table["rv"].unit) == "km / s"
    np.testing.assert_array_equal(table["rv"], spectra.read("rv"))
    assert np.isnan(np.ma.getdata(table["ra"])[3])
    for suffix in ("fits", "parquet"):
        export(ExportOptions(path=spectra.path, out=tmp_path / f"all.{suffix}", spectra=True))
    whole = Table.read(tmp_path / "all.fits")
    streamed = pq.read_table(tmp_path / "all.parquet")
    for name in ("flux", "ivar"):
        np.testing.assert_array_equal(whole[name], spectra.read(name))
        np.testing.assert_array_equal(np.stack(streamed[name].to_numpy(zero_copy_only=False)), spectra.read(name))


def test_csv_keeps_ids_and_refuses_vectors(
    embeddings: EmbeddingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e.csv"
    with pytest.raises(OptionError, match=r"CSV cannot hold the vectors of embedding; use \.parquet"):
        export(ExportOptions(path=embeddings.path, out=out))
    assert list(tmp_path.iterdir()) == []
    export(ExportOptions(path=embeddings.path, out=out, embeddings=False))
    assert "no place for units" in capsys.readouterr().err
    table = pyarrow.csv.read_csv(out)
    for name in SCALARS:
        value = table[name].to_numpy().astype(embeddings.read(name).dtype)
        np.testing.assert_array_equal(value, embeddings.read(name), err_msg=name)
    assert f"\n{2**62 + 2}," in out.read_text()


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv"])
@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (64, 64), (65, 65), (1000, 150)])
def test_limit(suffix: str, limit: int, rows: int, embeddings: EmbeddingStore, tmp_path: Path) -> None:
    out = tmp_path / f"e{suffix}"
    export(ExportOptions(path=embeddings.path, out=out, limit=limit, embeddings=False))
    table: Any = pq.read_table(out) if suffix == ".parquet" else Table.read(out)
    np.testing.assert_array_equal(np.asarray(table["id"]), embeddings.read("id")[:rows])
    assert "embedding" not in (table.column_names if suffix == ".parquet" else table.colnames)


def test_calls_that_cannot_work_are_refused(embeddings: EmbeddingStore, spectra: SpectraStore, tmp_path: Path) -> None:
    out = tmp_path / "e.parquet"
    with pytest.raises(OptionError, match=r"e\.hdf5' has no suffix of a table; use one of \.parquet, \.fits"):
        export(ExportOptions(path=embeddings.path, out=tmp_path / "e.hdf5"))
    with pytest.raises(OptionError, match="--limit 0 must be 1 or more"):
        export(ExportOptions(path=embeddings.path, out=out, limit=0))
    with pytest.raises(OptionError, match="is a store of embeddings and has no flux"):
        export(ExportOptions(path=embeddings.path, out=out, spectra=True))
    with pytest.raises(StoreError, match="does not exist"):
        export(ExportOptions(path=tmp_path / "none.zarr", out=out))
    unfinished = make_spectra(tmp_path / "u.zarr", shards=1)
    with pytest.raises(StoreError, match="is not finished"):
        export(ExportOptions(path=unfinished.path, out=out))
    assert not out.exists()


def test_a_file_is_replaced_only_on_demand(embeddings: EmbeddingStore, tmp_path: Path) -> None:
    out = tmp_path / "e.parquet"
    out.write_text("precious")
    with pytest.raises(OptionError, match=r"e\.parquet' exists; choose another --out or add --overwrite"):
        export(ExportOptions(path=embeddings.path, out=out))
    assert out.read_text() == "precious"
    export(ExportOptions(path=embeddings.path, out=out, overwrite=True))
    assert pq.read_table(out).num_rows == 150


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv"])
def test_a_failure_leaves_what_was_there(
    suffix: str, embeddings: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"e{suffix}"
    out.write_text("precious")
    whole = stores.export._shards

    def failing(*given: Any) -> Any:
        yield next(whole(*given))
        raise OSError("disk on fire")

    monkeypatch.setattr(stores.export, "_shards", failing)
    with pytest.raises(OSError, match="disk on fire"):
        export(ExportOptions(path=embeddings.path, out=out, overwrite=True))
    assert [file.name for file in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "precious"
