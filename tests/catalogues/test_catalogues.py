"""Catalogues: exact ids, values that are no values, faults that are one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from catalogues_made import write_allstar
from files import BIG_ID, truncate

from stores.catalogue import Catalogue
from stores.catalogues import CATALOGUES, CatalogueOptions, catalogue, load_catalogues, read_catalogue
from stores.errors import InputError, OptionError

# -- what a catalogue is ------------------------------------------------------------------------------------


def test_values_that_cannot_be_are_unknown_and_told() -> None:
    made = Catalogue(
        "made",
        {
            "teff": np.array([5000.0, 0.0, -9999.0, 2e5, np.nan]),
            "feh": np.array([-10.0, -9.9, -9999.0, 11, np.inf]),
            "cfe": np.array([-999.0, -9999.99, 2.5, 1.0, np.nan]),
        },
        {"teff": np.array([50.0, 50, 50, 50, 50]), "feh": np.array([0.1, -1.0, 0.1, 0.1, 0.1])},
    )
    np.testing.assert_array_equal(np.isfinite(made.values["teff"]), [True, False, False, False, False])
    np.testing.assert_array_equal(np.isfinite(made.values["feh"]), [False, True, False, False, False])
    np.testing.assert_array_equal(np.isfinite(made.values["cfe"]), [False, False, True, True, False])
    assert np.isfinite(made.sigmas["teff"]).tolist() == [True, False, False, False, False]
    assert not np.isfinite(made.sigmas["feh"]).any()  # the one that is known has an error of -1
    assert {cut.sentence.split()[0]: cut.rows for cut in made.cuts} == {"teff": 3, "feh": 3, "cfe": 2}
    assert made.take(slice(None)).cuts == made.cuts


def test_positions_and_ids_are_put_right() -> None:
    made = Catalogue(
        "made",
        {"feh": np.zeros(4)},
        gaia=np.array([BIG_ID, -1, 999_999, BIG_ID + 1]),
        ra=np.array([-10.0, 360.0, 999.0, 5.0]),
        dec=np.array([0.0, -90.0, 0.0, -9999.0]),
        pmra=np.array([1.0, np.nan, -9999.99, 1e9]),
        pmdec=np.array([1.0, 2.0, 1.0, 1.0]),
    )
    assert made.gaia is not None
    assert made.gaia.tolist() == [BIG_ID, 0, 0, BIG_ID + 1]
    np.testing.assert_array_equal(made.ra, [350.0, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(made.dec, [0.0, -90.0, np.nan, np.nan])
    assert np.isfinite(made.pmra).tolist() == np.isfinite(made.pmdec).tolist() == [True, False, True, False]
    assert made.id is None
    assert len(made) == 4


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="'made' has logg that is not one number in each of its 3 rows"):
        Catalogue("made", {"feh": np.zeros(3), "logg": np.zeros(2)})
    with pytest.raises(InputError, match="'made' has 2 id for 3 rows"):
        Catalogue("made", {"feh": np.zeros(3)}, id=np.arange(2))
    with pytest.raises(InputError, match="float64"):
        Catalogue("made", {"feh": np.zeros(2)}, gaia=np.array([1.0, 2.0]))  # type: ignore[arg-type]


def test_the_fingerprint_is_of_the_content() -> None:
    def made(value: float, gaia: int = BIG_ID) -> str:
        return Catalogue("made", {"feh": np.array([value])}, gaia=np.array([gaia])).fingerprint

    assert made(1.0) == made(1.0)
    assert len({made(1.0), made(2.0), made(1.0, BIG_ID + 1)}) == 3


# -- the registry -------------------------------------------------------------------------------------------


def test_kinds_are_known_by_name() -> None:
    known = load_catalogues()
    assert {"apogee", "pastel", "saga", "jinabase", "desi_rvs", "desi_sp", "lasp", "table"} <= set(known)
    assert all(kind.summary for kind in known.values())
    with pytest.raises(OptionError, match="catalogue 'simbad' is unknown; known ones are apogee, desi_rvs"):
        read_catalogue("simbad", "x.fits")
    with pytest.raises(OptionError, match="'lasp' has no cut 'star_bad' to turn off; its cuts are snr"):
        read_catalogue("lasp", "x.fits", off=["star_bad"])
    with pytest.raises(OptionError, match="name columns for the catalogue 'table' only"):
        read_catalogue("lasp", "x.fits", columns={"feh": "FE_H"})


def test_another_package_adds_a_kind(tmp_path: Path) -> None:
    before = dict(CATALOGUES)
    try:

        @catalogue("mine", cuts={"bad": "it is good"})
        def read(path: Path, options: CatalogueOptions) -> Catalogue:
            """Mine."""
            return Catalogue("mine", {"feh": np.array([0.0 if "bad" in options.off else np.nan])})

        assert read_catalogue("mine", tmp_path, off=["bad"]).values["feh"].tolist() == [0.0]
        with pytest.raises(InputError, match="gives no label; check the file"):
            read_catalogue("mine", tmp_path)
    finally:
        CATALOGUES.clear()
        CATALOGUES.update(before)


def test_faults_of_files_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    cases = {
        "ragged.csv": ("id,feh\n1,2,3\n", "row 1 has 3 fields, not 2"),
        "empty.csv": ("id,feh\n", "has no rows"),
        "twice.csv": ("id,id\n1,2\n", "column names that differ"),
        "words.csv": ("id,feh\n1,rich\n", "column feh holds no numbers, but 'rich'"),
        "nothing.csv": ("id,name\n1,a\n", "gives no label"),
    }
    for name, (text, message) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message) as error:
            read_catalogue("table", tmp_path / name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)
    with pytest.raises(InputError, match="does not exist"):
        read_catalogue("table", tmp_path / "none.csv")
    (tmp_path / "noise.bin").write_bytes(bytes(100))
    with pytest.raises(InputError, match="no FITS, Parquet, ECSV, CSV or tab-separated table"):
        read_catalogue("table", tmp_path / "noise.bin")
    cut = tmp_path / "cut.fits"
    cut.write_bytes((folder / "allStar.fits").read_bytes())
    with pytest.raises(InputError, match="truncated"):
        read_catalogue("apogee", truncate(cut, 100_000))
    table = Table.read(write_allstar(tmp_path / "x.fits"))
    table.remove_column("SNR")
    table.write(tmp_path / "y.fits")
    with pytest.raises(InputError, match=r"y\.fits' has no column SNR \(it has RA, DEC"):
        read_catalogue("apogee", tmp_path / "y.fits")
    (tmp_path / "fake.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(InputError, match="no Parquet table"):
        read_catalogue("table", tmp_path / "fake.parquet")


def test_large_tables_are_read_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_catalogue("desi_sp", folder / "mwsall.fits")
    monkeypatch.setattr("stores.catalogues.columns.PART_BYTES", 2**16)
    monkeypatch.setattr("stores.surveys.fits.PART_BYTES", 2**16)
    assert read_catalogue("desi_sp", folder / "mwsall.fits").fingerprint == whole.fingerprint
