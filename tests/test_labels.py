"""Labels: what heads learn from. They survive the disk to the bit, know their sources, and never leak a star."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from stores.catalogue import Catalogue
from stores.combine import APOGEE_METAL_POOR, PLAIN, combine
from stores.errors import InputError, OptionError
from stores.labels import REGIMES, UNKNOWN, Labels, regime, star_regimes
from stores.match import Spectra, match
from stores.split import split

BIG_ID = 2**62 + 1


def make_labels(n: int = 12, stars: int = 6, seed: int = 0, **columns: Any) -> Labels:
    """Spectra of stars that have several each; [Fe/H] of every star from rich to very poor, some labels unknown."""
    random = np.random.default_rng(seed)
    star = np.arange(n) % stars
    feh = np.linspace(0.2, -3.0, stars)[star]
    logg = np.where(random.random(n) < 0.3, np.nan, random.normal(4, 1, n))
    held: dict[str, Any] = {
        "id": BIG_ID + random.permutation(n),
        "star": star,
        "values": {"feh": feh, "logg": logg},
        "sigmas": {"feh": np.full(n, 0.1), "logg": np.full(n, np.nan)},
        "source": {"feh": np.arange(n) % 2, "logg": np.where(np.isnan(logg), -1, 1)},
        "sources": ("apogee", "saga"),
    }
    return Labels(**(held | columns))


# -- the type -----------------------------------------------------------------------------------------------


def test_rows_are_sorted_by_id() -> None:
    labels = make_labels()
    assert (np.diff(labels.id) == 1).all()
    again = make_labels(id=BIG_ID + np.arange(12)[::-1])
    np.testing.assert_array_equal(again.star, (np.arange(12) % 6)[::-1])
    np.testing.assert_array_equal(again.source["feh"], (np.arange(12) % 2)[::-1])
    np.testing.assert_array_equal(again.values["feh"], np.linspace(0.2, -3.0, 6)[again.star])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": np.full(12, BIG_ID)}, f"id {BIG_ID} has two rows of labels"),
        ({"star": np.zeros(5, int)}, "do not have the 12 rows"),
        ({"sigmas": {"feh": np.zeros(12)}}, "the same names in values, sigmas and source"),
        ({"source": {"feh": np.full(12, -1), "logg": np.full(12, -1)}}, "sources of the label 'feh' do not fit"),
        ({"source": {"feh": np.full(12, 2), "logg": np.full(12, 2)}}, "sources of the label 'feh' do not fit"),
        ({"split": np.arange(12) // 6, "parts": ("train", "test")}, r"star \d is in two parts of the split"),
        ({"split": np.full(12, 1), "parts": ("train",)}, "a part that is not one of train"),
    ],
)
def test_what_does_not_fit_is_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_labels(**columns)


def test_labels_are_not_called_as_columns_are() -> None:
    one = {"star": np.zeros(1)}
    with pytest.raises(InputError, match="'star' cannot be the name of a label"):
        Labels(np.array([1]), np.array([0]), one, one, {"star": np.array([0])}, ("a",))


def test_nan_is_no_label() -> None:
    labels = make_labels()
    np.testing.assert_array_equal(labels.known("logg"), np.isfinite(labels.values["logg"]))
    np.testing.assert_array_equal(labels.known("feh", "logg"), labels.known("logg"))
    with pytest.raises(OptionError, match="there is no label 'teff'; there are feh, logg"):
        labels.known("teff")
    with pytest.raises(OptionError, match="there is no part 'train'; there are none: split first"):
        labels.in_part("train")


def test_regimes_are_closed_below() -> None:
    feh = np.array([0.5, -1.0, -1.0001, -2.0, -2.0001, np.nan])
    assert [(*REGIMES, "unknown")[i] for i in regime(feh)] == ["rich", "rich", "poor", "poor", "very poor", "unknown"]
    assert regime(feh)[-1] == UNKNOWN


def test_the_regime_of_a_star_is_that_of_its_median() -> None:
    one = {"feh": np.array([-0.9, -1.4, -1.2, np.nan, -2.5])}
    nan = {"feh": np.full(5, np.nan)}
    source = {"feh": np.array([0, 0, 0, -1, 0])}
    labels = Labels(np.arange(1, 6), np.array([3, 3, 3, 5, 9]), one, nan, source, ("a",))
    assert star_regimes(labels).tolist() == [1, UNKNOWN, 2]


def test_take_keeps_rows_whole() -> None:
    labels = split(make_labels(60, 30), {"a": 0.5, "b": 0.5})
    chosen = labels.take(labels.in_part("b"))
    assert len(chosen) == labels.in_part("b").sum()
    assert chosen.in_part("b").all()
    place = np.searchsorted(labels.id, chosen.id)
    np.testing.assert_array_equal(chosen.values["logg"], labels.values["logg"][place])
    np.testing.assert_array_equal(chosen.source["logg"], labels.source["logg"][place])
    np.testing.assert_array_equal(chosen.star, labels.star[place])
    assert labels.take(np.arange(60)[::-1]).fingerprint == labels.fingerprint


def test_the_fingerprint_is_of_all_that_counts() -> None:
    labels = make_labels()
    seen = {labels.fingerprint}
    for changed in (
        replace(labels, values={**labels.values, "feh": labels.values["feh"] + 1e-9}),
        replace(labels, sources=("apogee", "pastel")),
        replace(labels, star=np.arange(12) % 4),
        split(labels, {"a": 0.5, "b": 0.5}),
    ):
        assert changed.fingerprint not in seen
        seen.add(changed.fingerprint)
    assert replace(labels, notes={"x": 1}).fingerprint == labels.fingerprint


# -- at rest ------------------------------------------------------------------------------------------------


def test_labels_survive_the_disk_to_the_bit(tmp_path: Path) -> None:
    labels = split(make_labels(60, 30), {"train": 0.5, "test": 0.5}, seed=3)
    labels = replace(labels, notes={**labels.notes, "sample": "mine"})
    labels.save(tmp_path / "new" / "labels.parquet")
    again = Labels.load(tmp_path / "new" / "labels.parquet")
    for name in ("id", "star", "split"):
        np.testing.assert_array_equal(getattr(again, name), getattr(labels, name))
    for name in ("values", "sigmas", "source"):
        for label in labels.names:
            np.testing.assert_array_equal(getattr(again, name)[label], getattr(labels, name)[label])
    assert (again.sources, again.parts, again.names) == (labels.sources, labels.parts, labels.names)
    assert again.fingerprint == labels.fingerprint
    assert again.notes == labels.notes
    assert BIG_ID in again.id
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["labels.parquet"]


def test_the_table_speaks_for_itself(tmp_path: Path) -> None:
    split(make_labels(), {"train": 0.5, "test": 0.5}).save(tmp_path / "labels.parquet")
    table = pq.read_table(tmp_path / "labels.parquet")
    columns = ["id", "star", "split", "feh", "sigma_feh", "source_feh", "logg", "sigma_logg", "source_logg"]
    assert table.column_names == columns
    assert table["feh"].null_count == 0 < table["logg"].null_count
    assert set(table["source_feh"].to_pylist()) == {"apogee", "saga"}
    assert set(table["split"].to_pylist()) == {"train", "test"}
    assert (table["source_logg"].is_null().to_numpy() == table["logg"].is_null().to_numpy()).all()
    about = json.loads(table.schema.metadata[b"spectrabridge"])
    assert {"version", "commit", "command", "created", "fingerprint"} <= set(about)
    assert table.schema.field("feh").metadata[b"unit"] == b"dex"


def test_files_that_are_no_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    with pytest.raises(InputError, match=r"labels.parquet' does not exist; make labels with stores-labels"):
        Labels.load(path)
    make_labels().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is damaged or no Parquet table"):
        Labels.load(path)
    other = tmp_path / "labels.csv"
    other.write_text("id,feh\n1,0.5\n")
    with pytest.raises(InputError, match=r"labels\.csv' is no table of stores-labels; .* such as table:.*labels\.csv"):
        Labels.load(other)
    path.write_bytes(whole)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(InputError, match=r"holds no labels of stores-labels; .* table:.*labels\.parquet"):
        Labels.load(path)
    pq.write_table(table.set_column(3, table.schema.field(3), pq.read_table(path)["sigma_feh"]), path)
    with pytest.raises(InputError, match="was changed after it was written"):
        Labels.load(path)
    pq.write_table(table.drop(["feh"]), path)
    with pytest.raises(InputError, match=r"lacks .*feh.*; make it again"):
        Labels.load(path)
    about = json.loads(table.schema.metadata[b"spectrabridge"]) | {"format": 99}
    pq.write_table(table.replace_schema_metadata({"spectrabridge": json.dumps(about)}), path)
    with pytest.raises(InputError, match="has format version 99"):
        Labels.load(path)


# -- the split ----------------------------------------------------------------------------------------------


def test_spectra_of_a_star_are_in_one_part() -> None:
    labels = split(make_labels(3000, 700), {"train": 0.7, "valid": 0.1, "test": 0.2}, seed=1)
    assert labels.split is not None
    for star in np.unique(labels.star):
        assert len(np.unique(labels.split[labels.star == star])) == 1
    assert (labels.split >= 0).all()
    share = np.bincount(labels.split[np.unique(labels.star, return_index=True)[1]]) / 700
    np.testing.assert_allclose(share, [0.7, 0.1, 0.2], atol=0.005)


def test_a_split_that_leaks_cannot_be_made() -> None:
    labels = split(make_labels(60, 30), {"train": 0.5, "test": 0.5})
    assert labels.split is not None
    leaked = labels.split.copy()
    leaked[0] = 1 - leaked[0]
    with pytest.raises(InputError, match="is in two parts of the split; split by star"):
        replace(labels, split=leaked)


def test_small_parts_have_stars_of_every_regime() -> None:
    n = 1000
    feh = np.full(n, -0.3)
    feh[:20], feh[20:24], feh[24:26] = -1.5, -2.5, np.nan
    source = {"feh": np.where(np.isnan(feh), -1, 0), "teff": np.zeros(n, int)}
    unknown = {"feh": np.full(n, np.nan), "teff": np.full(n, np.nan)}
    labels = Labels(np.arange(1, n + 1), np.arange(n), {"feh": feh, "teff": np.ones(n)}, unknown, source, ("a",))
    for seed in range(5):
        made = split(labels, {"train": 0.9, "valid": 0.05, "test": 0.05}, seed)
        for part in made.parts:
            counts = np.bincount(made.regime()[made.in_part(part)], minlength=UNKNOWN + 1)
            assert (counts[:UNKNOWN] >= 1).all()
        assert made.in_part("train").sum() == pytest.approx(900, abs=3)


def test_seeds_and_not_rows_decide() -> None:
    labels = make_labels(600, 200)
    one = split(labels, seed=1)
    other = split(labels, seed=2)
    assert one.split is not None
    assert other.split is not None
    assert (one.split != other.split).mean() > 0.1
    # the same whatever the stars are numbered, and in whatever order the rows were given
    numbers = np.random.default_rng(0).permutation(200)
    renamed = split(replace(labels, star=numbers[labels.star]), seed=1)
    np.testing.assert_array_equal(renamed.split, one.split)
    assert one.notes["split"] == {"fractions": {"train": 0.8, "valid": 0.1, "test": 0.1}, "seed": 1}


@pytest.mark.parametrize(
    "fractions", [{}, {"train": 1.0}, {"train": 0.5, "test": 0.4}, {"train": 1.2, "test": -0.2}, {"a": 1.0, "b": 0.0}]
)
def test_fractions_that_cannot_work(fractions: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="must be two or more fractions above 0 that add up to 1"):
        split(make_labels(), fractions)


def test_too_few_stars_for_the_parts() -> None:
    with pytest.raises(InputError, match="2 stars are too few for 3 parts"):
        split(make_labels(12, 2))
    with pytest.raises(OptionError, match="seed -1"):
        split(make_labels(), seed=-1)


# -- from catalogues ----------------------------------------------------------------------------------------


def make_spectra(n: int) -> Spectra:
    nan = np.full(n, np.nan)
    return Spectra(
        BIG_ID + np.arange(n, dtype=np.int64), 10.0 * np.arange(n), nan * 0, np.zeros(n, np.int64), nan, nan
    )


def known(name: str, spectra: Spectra, **values: list[float]) -> Any:
    """The match of a catalogue that has every spectrum by id."""
    made = {label: np.array(value, dtype=float) for label, value in values.items()}
    errors = {label: np.full(len(spectra), 0.01 * len(name)) for label in made}
    return match(Catalogue(name, made, errors, id=spectra.id), spectra)


def test_the_first_catalogue_that_knows_a_label_gives_it() -> None:
    spectra = make_spectra(3)
    first = known("apogee", spectra, feh=[-0.5, np.nan, np.nan], teff=[5000, 5100, np.nan])
    second = known("saga", spectra, feh=[-0.6, -2.5, np.nan], alphafe=[0.1, 0.2, np.nan])
    labels = combine([first, second], spectra)
    assert labels.names == ("teff", "feh", "alphafe")
    np.testing.assert_array_equal(labels.id, spectra.id[:2])  # of the third nothing is known
    np.testing.assert_array_equal(labels.values["feh"], [-0.5, -2.5])
    np.testing.assert_array_equal(labels.source["feh"], [0, 1])
    np.testing.assert_array_equal(labels.source["teff"], [0, 0])
    np.testing.assert_array_equal(labels.source["alphafe"], [1, 1])
    np.testing.assert_allclose(labels.sigmas["feh"], [0.06, 0.04])
    nothing = known("a", spectra, cfe=[np.nan] * 3)
    assert combine([first, second, nothing], spectra).names == labels.names  # what nobody has is no label
    turned = combine([second, first], spectra)
    assert turned.sources == ("saga", "apogee")
    np.testing.assert_array_equal(turned.values["feh"], [-0.6, -2.5])


def test_the_classic_sample() -> None:
    """APOGEE above [Fe/H] = -2 and nothing of it below, not even Teff; others below only."""
    spectra = make_spectra(6)
    nan = np.nan
    apogee = known("apogee", spectra, feh=[-0.5, -2.0, -2.1, nan, nan, -0.3], teff=[1, 2, 3, 4, 5, 6])
    saga = known("saga", spectra, feh=[-2.4, -1.9, -2.2, -3.0, -1.0, nan], teff=[10, 20, 30, 40, 50, 60])
    labels = combine([apogee, saga], spectra, APOGEE_METAL_POOR)
    np.testing.assert_array_equal(labels.id, spectra.id[[0, 1, 2, 3, 5]])
    np.testing.assert_array_equal(labels.values["feh"], [-0.5, -2.0, -2.2, -3.0, -0.3])
    np.testing.assert_array_equal(labels.values["teff"], [1, 2, 30, 40, 6])
    for label in labels.names:
        assert (labels.values["feh"][labels.source[label] == 0] >= -2).all()
        assert (labels.values["feh"][labels.source[label] == 1] < -2).all()
    told = [entry["sample"] for entry in labels.notes["catalogues"]]
    assert told[0] == ["[Fe/H] of at least -2, for the sample apogee-metal-poor", 3]
    assert told[1] == ["[Fe/H] below -2, for the sample apogee-metal-poor", 3]
    with pytest.raises(OptionError, match="the sample apogee-metal-poor needs the catalogue apogee; add it"):
        combine([saga], spectra, APOGEE_METAL_POOR)


def test_spectra_of_a_star_are_found_in_every_way() -> None:
    n = 8
    nan = np.full(n, np.nan)
    ra = np.array([0.0, 0.0005, 10, 20, 30, 40, 50, 60])  # the first two are 1.8 arcsec apart
    gaia = np.array([0, 0, BIG_ID, BIG_ID, BIG_ID + 1, 0, 0, 0])
    spectra = Spectra(BIG_ID + np.arange(n, dtype=np.int64), ra, np.zeros(n), gaia, nan, nan)
    catalogue = Catalogue(
        "a", {"feh": np.zeros(n)}, id=spectra.id, gaia=BIG_ID + np.array([11, 12, 13, 14, 15, 16, 16, 17])
    )
    star = combine([match(catalogue, spectra)], spectra).star
    assert star[0] == star[1]  # by position
    assert star[2] == star[3] != star[4]  # by Gaia id of the spectra
    assert star[5] == star[6] != star[7]  # by the catalogue
    assert len(np.unique(star)) == 5
    assert star.tolist() == [0, 0, 1, 1, 2, 3, 3, 4]  # numbered in the order of ids


def test_what_cannot_be_combined_is_told() -> None:
    spectra = make_spectra(3)
    one = known("a", spectra, feh=[0, 0, 0])
    with pytest.raises(OptionError, match="no catalogue was given"):
        combine([], spectra)
    with pytest.raises(OptionError, match="two catalogues are called 'a'"):
        combine([one, one], spectra)
    with pytest.raises(InputError, match="a match is of other spectra"):
        combine([one], make_spectra(4))
    with pytest.raises(InputError, match="no spectrum of the store has a label from b; check"):
        combine([match(Catalogue("b", {"feh": np.zeros(1)}, id=np.array([5])), spectra)], spectra)


def test_the_summary_counts(capsys: pytest.CaptureFixture[str]) -> None:
    spectra = make_spectra(40)
    apogee = known("apogee", spectra, feh=[-0.5] * 15 + [-1.5] * 10 + [np.nan] * 15, teff=[5000] * 40)
    saga = known("saga", spectra, feh=[-3.0] * 40)
    text = split(combine([apogee, saga], spectra, PLAIN), {"train": 0.8, "test": 0.2}).summary()
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["40", "spectra", "of", "40", "stars"]
    assert ["teff", "apogee", "15", "10", "15", "0", "40"] in lines
    assert ["feh", "apogee", "15", "10", "0", "0", "25"] in lines
    assert ["feh", "saga", "0", "0", "15", "0", "15"] in lines
    assert ["train", "32", "12", "8", "12", "0", "32"] in lines
    assert ["test", "8", "3", "2", "3", "0", "8"] in lines
