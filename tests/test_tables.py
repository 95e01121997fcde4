"""Tables at rest: extreme values come back, parts must be those of the form."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from safetensors import SafetensorError

from stores.atomic import replacing
from stores.column import Column
from stores.command import run_command
from stores.errors import OptionError
from stores.tables import WRITERS, TableForm, refuse_out, write_table

COLUMNS = {
    "id": Column("int64", "", "identifier"),
    "flags": Column("uint32", "", "bits"),
    "v": Column("float64", "km/s", 'a < b & "c"'),
    "pair": Column("float32", "", "two", 2),
}
VALUES: dict[str, Any] = {
    "id": np.array([2**63 - 1, -(2**63), 2**62 + 1, 0, 5], dtype=np.int64),
    "flags": np.array([0, 2**32 - 1, 2**31, 2**31 - 1, 1], dtype=np.uint32),
    "v": np.array([np.nan, np.inf, -0.0, 1e300, 0.1]),
    "pair": np.arange(10, dtype=np.float32).reshape(5, 2),
}


@dataclass(kw_only=True)
class Out:
    """Options of a command that writes a table."""

    out: Path


def form(rows: int = 5) -> TableForm:
    return TableForm("t", COLUMNS, rows, {"kind": "made"}, "MADE", [("MADEBY", "nobody", "")], ["a comment"])


def parts(*cuts: int) -> Iterator[dict[str, Any]]:
    for start, stop in zip((0, *cuts), (*cuts, 5), strict=True):
        yield {name: value[start:stop] for name, value in VALUES.items()}


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv"])
def test_extreme_values_come_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"t{suffix}"
    write_table(path, form(), parts(2, 3))
    if suffix == ".parquet":
        read = pq.read_table(path)
        found = {name: read[name].to_numpy() for name in COLUMNS}
        found["pair"] = np.stack(found["pair"])
    else:
        table = Table.read(path)
        found = {name: np.ma.getdata(np.asarray(table[name])) for name in COLUMNS}
    for name, column in COLUMNS.items():
        assert found[name].dtype.newbyteorder("=") == column.dtype
        np.testing.assert_array_equal(found[name], VALUES[name])
    assert np.signbit(found["v"][2])


@pytest.mark.parametrize("rows", [0, 5])
def test_fits_is_of_whole_blocks_and_sound(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    write_table(path, form(rows), parts(1) if rows else [])
    assert path.stat().st_size % 2880 == 0
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus["MADE"].header["NAXIS2"] == rows == len(hdus["MADE"].data)
        assert hdus["MADE"].header["MADEBY"] == "nobody"
        assert "a comment" in str(hdus["MADE"].header["COMMENT"])


@pytest.mark.parametrize(
    ("unit", "card"), [("km/s", "km/s"), ("deg", "deg"), ("dex", None), ("dex(cm/s2)", None), ("furlong", None)]
)
def test_astropy_reads_every_unit_without_a_warning(unit: str, card: str | None, tmp_path: Path) -> None:
    told = TableForm("t", {"v": Column("float64", unit, "how much")}, 5, {})
    write_table(tmp_path / "t.fits", told, [{"v": VALUES["v"]}])
    table = Table.read(tmp_path / "t.fits")  # warnings are errors here
    header = fits.getheader(tmp_path / "t.fits", 1)
    assert header.get("TUNIT1") == card
    assert header["TCOMM1"] == ("how much" if card else f"how much ({unit})")
    assert (table["v"].unit is None) == (card is None)
    write_table(tmp_path / "t.parquet", told, [{"v": VALUES["v"]}])
    assert pq.read_schema(tmp_path / "t.parquet").field("v").metadata[b"unit"] == unit.encode()


def test_descriptions_of_any_characters_are_xml(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", form(), parts())
    content = pq.read_schema(tmp_path / "t.parquet").metadata[b"IVOA.VOTable-Parquet.content"]
    told = [
        one.text for one in ElementTree.fromstring(content).iter("{http://www.ivoa.net/xml/VOTable/v1.3}DESCRIPTION")
    ]
    assert told == [column.description for column in COLUMNS.values()]


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_parts_that_are_not_of_the_form_leave_no_file(suffix: str, tmp_path: Path) -> None:
    plain = TableForm("t", {"id": COLUMNS["id"]}, 4, {})
    with pytest.raises(ValueError, match="was given 5 rows or more, not 4"):
        write_table(tmp_path / f"t{suffix}", plain, parts(2))
    with pytest.raises(ValueError, match=r"column id has shape \(4, 2\), not \(4,\)"):
        write_table(tmp_path / f"t{suffix}", plain, [{"id": np.zeros((4, 2))}])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"t' has no suffix of a table; use one of \.parquet, \.fits, \.ecsv, \.csv"):
        write_table(tmp_path / "t", form(), parts())
    with pytest.raises(OptionError, match="CSV cannot hold the vectors of pair"):
        write_table(tmp_path / "t.csv", form(), parts())
    (tmp_path / "t.FITS").write_text("precious")
    with pytest.raises(OptionError, match="exists; choose another --out or add --overwrite"):
        refuse_out(tmp_path / "t.FITS", overwrite=False)
    refuse_out(tmp_path / "t.FITS", overwrite=True)


@pytest.mark.parametrize(
    "full",
    [
        OSError("64000 requested and 13120 written"),
        OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.part"),
    ],
    ids=["numpy", "pyarrow", "safetensors", "named"],
)
def test_a_full_disk_is_one_sentence_with_the_name(
    full: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(path: Path, form: TableForm, parts: Any) -> None:
        path.write_text("half")
        raise full

    monkeypatch.setitem(WRITERS, ".fits", write)
    monkeypatch.setattr("sys.argv", ["prog", "--out", str(tmp_path / "t.fits")])
    with pytest.raises(SystemExit) as left:
        run_command(Out, lambda options: write_table(options.out, form(), parts()), "prog")
    assert left.value.code == 2
    name = getattr(full, "filename", None) or tmp_path / "t.fits"
    wanted = f"prog: no space left on device ('{name}'); mend that and run the same command again to go on.\n"
    assert capsys.readouterr().err == wanted
    assert list(tmp_path.iterdir()) == []


def test_other_faults_of_writers_keep_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd"), replacing(tmp_path / "t"):
        raise OSError("odd")
    with pytest.raises(ValueError, match="odd"), replacing(tmp_path / "t"):
        raise ValueError("odd")
