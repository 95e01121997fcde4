"""Labels of simulated and of real surveys, from files to the table that heads learn from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files import DATA
from stores_made import make_spectra
from twins_made import N, Twin, make_twin

from stores.catalogue import Catalogue
from stores.catalogues import read_catalogue
from stores.errors import InputError, OptionError
from stores.labelling import LabelOptions, label
from stores.labels import Labels
from stores.match import GAIA, ID, POSITION, Spectra, match
from stores.stars import directions

ROOT = Path(__file__).resolve().parents[1]
LABELS = ("teff", "logg", "feh", "alphafe")
# of a label from a catalogue: what few simulated stars differ by more than
FAR = {"teff": 600.0, "logg": 1.0, "feh": 0.8, "alphafe": 0.6}
real = pytest.mark.skipif(not DATA.exists(), reason="the shared real data are not on this machine")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Twin]:
    folder = tmp_path_factory.mktemp("twins")
    return {survey: make_twin(folder, survey) for survey in ("desi", "lamost")}


def read(twin: Twin, kind: str) -> Catalogue:
    file = {"apogee": "allStar-twin.fits", "saga": "saga-twin.tsv", "pastel": "pastel-twin.tsv"}
    return read_catalogue(kind, twin.catalogues / file.get(kind, "mwsall-pix-twin.fits"))


def bridge(twin: Twin) -> Catalogue:
    """The truth as a bridge: Gaia id and motion of every spectrum."""
    columns = {name: twin.truth[name] for name in ("id", "pmra", "pmdec")}
    return Catalogue("truth", {}, gaia=twin.truth["star_id"], **columns)


def row_of_star(catalogue: Catalogue, twin: Twin, star: np.ndarray) -> np.ndarray:
    """The catalogue's row of each star (n,), by brute force over true positions at its epoch; -1 without one."""
    from stores.match import moved

    truth = twin.truth
    years = np.full(N, catalogue.epoch[0] - 2016.0)
    at = moved(truth["ra"], truth["dec"], truth["pmra"], truth["pmdec"], years)
    gap = np.linalg.norm(at[:, None] - directions(catalogue.ra, catalogue.dec)[None], axis=2)
    nearest = np.where(gap.min(axis=1) < np.radians(0.01 / 3600), gap.argmin(axis=1), -1)
    order = np.argsort(truth["star_id"])
    return nearest[order[np.searchsorted(truth["star_id"][order], star)]]


@pytest.mark.parametrize("survey", ["desi", "lamost"])
@pytest.mark.parametrize("kind", ["apogee", "saga", "pastel"])
@pytest.mark.parametrize("way", ["gaia", "position with motion", "position"])
def test_every_match_is_the_right_star(twins: dict[str, Twin], survey: str, kind: str, way: str) -> None:
    twin = twins[survey]
    catalogue = read(twin, kind)
    spectra = Spectra.of(twin.store, [] if way == "position" else [bridge(twin)])
    found = match(catalogue, spectra, radius=1.0, by=("gaia",) if way == "gaia" else ("position",))
    matched = found.star >= 0
    if way == "gaia" and catalogue.gaia is None:
        assert not matched.any()
        return
    assert (found.fate[matched] == (GAIA if way == "gaia" else POSITION)).all()
    truth = row_of_star(catalogue, twin, twin.of(spectra.id, "star_id"))
    assert (truth >= 0).sum() == len(catalogue)
    # each is right, and with motion or ids nobody is missed
    assert matched.sum() == len(catalogue) if way != "position" else matched.sum() > 0.9 * len(catalogue)
    for name, value in catalogue.values.items():
        np.testing.assert_array_equal(found.values[name][matched], value[truth[matched]])
        np.testing.assert_array_equal(found.sigmas[name][matched], catalogue.sigmas[name][truth[matched]])
        residual = found.values[name] - twin.of(spectra.id, name)
        assert np.isnan(found.values[name][~matched]).all()
        assert np.nanmax(np.abs(residual)) < FAR[name]
        assert np.nanmedian(np.abs(residual)) < 0.25 * FAR[name]


def test_motion_matters_where_the_radius_is_small(twins: dict[str, Twin]) -> None:
    twin = twins["lamost"]
    catalogue = read(twin, "pastel")  # of epoch 2000, without motions
    moving = match(catalogue, Spectra.of(twin.store, [bridge(twin)]), radius=0.05)
    still = match(catalogue, Spectra.of(twin.store), radius=0.05)
    assert moving.counts["by position"] == len(catalogue)
    assert still.counts["by position"] < 0.5 * len(catalogue)


def test_desi_labels_by_targetid_and_for_lamost_by_gaia_id(twins: dict[str, Twin]) -> None:
    desi, lamost = twins["desi"], twins["lamost"]
    for kind in ("desi_rvs", "desi_sp"):
        catalogue = read(desi, kind)
        by_id = match(catalogue, Spectra.of(desi.store))
        assert by_id.counts["by id"] == len(catalogue)
        assert (by_id.fate[by_id.star >= 0] == ID).all()
        assert catalogue.id is not None
        row = np.argsort(catalogue.id)[np.searchsorted(np.sort(catalogue.id), by_id.id[by_id.star >= 0])]
        np.testing.assert_array_equal(by_id.values["feh"][by_id.star >= 0], catalogue.values["feh"][row])
        # the same stars as LAMOST sees them get the same labels
        by_gaia = match(catalogue, Spectra.of(lamost.store, [bridge(lamost)]))
        by_place = match(catalogue, Spectra.of(lamost.store))  # the catalogue has motions and epochs
        assert by_gaia.counts["by Gaia id"] == by_place.counts["by position"] == len(catalogue)
        star = {
            int(desi.of(np.array([i]), "star_id")[0]): feh
            for i, feh in zip(by_id.id, by_id.values["feh"], strict=True)
        }
        expected = [star[int(s)] for s in lamost.of(by_gaia.id, "star_id")]
        np.testing.assert_array_equal(by_gaia.values["feh"], expected)
        np.testing.assert_array_equal(by_place.values["feh"], expected)


# -- the command --------------------------------------------------------------------------------------------


def run(twin: Twin, out: Path, *kinds: str, **options: Any) -> Labels:
    file = {"apogee": "allStar-twin.fits", "saga": "saga-twin.tsv", "pastel": "pastel-twin.tsv"}
    specs = tuple(f"{kind}:{twin.catalogues / file.get(kind, 'mwsall-pix-twin.fits')}" for kind in kinds)
    assert label(LabelOptions(path=twin.store.path, catalogue=specs, out=out, **options)) == 0
    return Labels.load(out)


def test_the_classic_sample_of_a_twin(
    twins: dict[str, Twin], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = twins["desi"]
    mwsall = twin.catalogues / "mwsall-pix-twin.fits"
    options: dict[str, Any] = {"sample": "apogee-metal-poor", "bridge": (mwsall,), "seed": 4}
    labels = run(twin, tmp_path / "labels.parquet", "apogee", "saga", "pastel", **options)
    text = capsys.readouterr().out
    assert labels.sources == ("apogee", "saga", "pastel")
    feh = labels.values["feh"]
    apogee = labels.source["feh"] == 0
    assert (feh[apogee] >= -2).all()
    assert (feh[~apogee] < -2).all()
    assert (~apogee).sum() > 10
    assert np.abs(feh - twin.of(labels.id, "feh")).max() < 0.8
    assert np.std((feh - twin.of(labels.id, "feh"))[apogee]) < 0.06
    for part in labels.parts:
        assert np.isin([0, 2], labels.regime()[labels.in_part(part)]).all()
    by_gaia = read(twin, "apogee")
    assert labels.notes["catalogues"][0]["spectra"]["by Gaia id"] == len(by_gaia)
    for cut in by_gaia.cuts:
        assert f"{cut.rows}  {cut.sentence}" in text
    for told in ("by Gaia id", "[Fe/H] of at least -2", "very poor", "train", "valid"):
        assert told in text
    assert labels.notes["files"][0]["sha256"]
    assert labels.notes["store_fingerprint"] == twin.store.fingerprint
    again = run(twin, tmp_path / "again.parquet", "apogee", "saga", "pastel", **options)
    assert again.fingerprint == labels.fingerprint


def test_cuts_are_turned_off_by_name_or_all(twins: dict[str, Twin], tmp_path: Path) -> None:
    twin = twins["lamost"]
    cut = run(twin, tmp_path / "a.parquet", "apogee")
    some = run(twin, tmp_path / "b.parquet", "apogee", off=("apogee.snr",))
    whole = run(twin, tmp_path / "c.parquet", "apogee", keep_all=True)
    assert len(cut) < len(some) < len(whole)
    assert set(cut.id) < set(some.id) < set(whole.id)
    assert some.notes["cuts_off"] == {"apogee": ["snr"]}


def test_catalogues_with_both_ids_are_bridges_themselves(twins: dict[str, Twin], tmp_path: Path) -> None:
    labels = run(twins["desi"], tmp_path / "labels.parquet", "apogee", "desi_rvs")
    counts = [entry["spectra"] for entry in labels.notes["catalogues"]]
    assert counts[0]["by Gaia id"] > 0.9 * sum(counts[0][way] for way in ("by Gaia id", "by position"))
    assert counts[1]["by id"] > 0.9 * N


def test_any_table_and_names_of_ones_own(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "s.zarr", n=60)
    ids = store.read("id")
    table = pa.table({"number": ids, "iron": np.linspace(-3, 0, 60), "carbon": np.linspace(0, 1, 60)})
    pq.write_table(table, tmp_path / "mine.parquet")
    out = tmp_path / "labels.parquet"
    spec = (f"mine=table:{tmp_path / 'mine.parquet'}",)
    columns = ("id=number", "feh=iron", "cfe=carbon")
    options = LabelOptions(path=store.path, catalogue=spec, out=out, columns=columns, parts=("a=0.5", "b=0.5"))
    assert label(options) == 0
    labels = Labels.load(out)
    assert (labels.sources, labels.names, labels.parts) == (("mine",), ("feh", "cfe"), ("a", "b"))
    order = np.argsort(ids)
    np.testing.assert_array_equal(labels.id, ids[order])
    np.testing.assert_array_equal(labels.values["cfe"], np.linspace(0, 1, 60)[order])
    with pytest.raises(OptionError, match="exists; choose another --out or add --overwrite"):
        label(options)
    options.overwrite = True
    assert label(options) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"out": Path("x.csv")}, OptionError, "'x.csv' does not end in .parquet"),
        ({"catalogue": ("saga",)}, OptionError, "--catalogue saga is neither KIND:FILE nor NAME=KIND:FILE"),
        ({"catalogue": ("saga",)}, OptionError, "kinds are apogee, .*, saga, .*table:FILE"),
        ({"catalogue": ("t.parquet",)}, OptionError, "a table of your own is table:t.parquet"),
        ({"catalogue": ("simbad:x",)}, OptionError, "catalogue 'simbad' is unknown"),
        ({"catalogue": ("saga:x.tsv",)}, InputError, "'x.tsv' does not exist"),
        ({"catalogue": ()}, OptionError, "no catalogue was given"),
        ({"off": ("snr",)}, OptionError, "--off snr is not KIND.CUT"),
        ({"columns": ("feh",)}, OptionError, "--columns feh is not NAME=VALUE"),
        ({"columns": ("feh=a", "feh=b")}, OptionError, "--columns names 'feh' twice"),
        ({"catalogue": ("lasp:x.csv",), "columns": ("feh=a",)}, OptionError, "there is none"),
        ({"parts": ("train=all", "test=0")}, OptionError, "--parts train=all is not a fraction"),
        ({"parts": ("train=0.9", "test=0.2")}, OptionError, "add up to 1"),
        ({"radius": -1.0}, OptionError, "radius -1 must lie above 0"),
        ({"epoch": 3.0}, OptionError, "epoch 3 is not a year"),
        ({"seed": -1}, OptionError, "seed -1"),
        ({"sample": "apogee-metal-poor"}, OptionError, "needs the catalogue apogee"),
    ],
)
def test_mistakes_are_one_sentence(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = make_spectra(tmp_path / "s.zarr", n=10)
    pq.write_table(pa.table({"id": store.read("id"), "feh": np.zeros(10)}), "t.parquet")
    held: dict[str, Any] = {"path": store.path, "catalogue": ("table:t.parquet",), "out": Path("labels.parquet")}
    with pytest.raises(error, match=message) as raised:
        label(LabelOptions(**(held | options)))
    assert "\n" not in str(raised.value)
    assert not Path("labels.parquet").exists()


def test_a_bridge_must_lead_somewhere(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "s.zarr", n=10)
    for name, columns in (("a", {"id": store.read("id"), "feh": np.zeros(10)}), ("b", {"gaia": store.read("id")})):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"id": store.read("id"), "gaia": 2**62 + 1 + np.arange(10)}), tmp_path / "bridge.parquet")
    pq.write_table(pa.table({"source_id": 2**62 + 1 + np.arange(10), "feh": np.zeros(10)}), tmp_path / "gaia.parquet")
    held: dict[str, Any] = {"path": store.path, "catalogue": (f"table:{tmp_path / 'gaia.parquet'}",)}
    out = tmp_path / "labels.parquet"
    for name in ("a", "b"):
        with pytest.raises(
            InputError, match=rf"{name}.parquet' has no ids of spectra with Gaia ids or proper motions"
        ):
            label(LabelOptions(**held, out=out, bridge=(tmp_path / f"{name}.parquet",)))
    with pytest.raises(InputError, match="no spectrum of the store has a label from table; check"):
        label(LabelOptions(**held, out=out))
    assert label(LabelOptions(**held, out=out, bridge=(tmp_path / "bridge.parquet",))) == 0
    assert len(Labels.load(out)) == 10


def test_the_command_says_its_mistakes_in_a_line(tmp_path: Path) -> None:
    words = [str(tmp_path / "none.zarr"), "--catalogue", "saga:x.tsv", "--out", str(tmp_path / "l.parquet")]
    command = [sys.executable, "-m", "stores.labelling", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("stores-labels: '")
    assert "does not exist" in done.stderr


# -- real spectra -------------------------------------------------------------------------------------------


@real
def test_real_lamost_spectra_get_their_own_labels(tmp_path: Path) -> None:
    from stores.ingest import IngestOptions, ingest

    store = tmp_path / "lamost.zarr"
    files = sorted((DATA / "lamost/fits").glob("spec-*.fits.gz"))[:60]
    assert ingest(IngestOptions(files=tuple(map(str, files)), survey="lamost", out=store)) == 0
    out = tmp_path / "labels.parquet"
    catalogue = (f"lasp:{DATA / 'lamost/labels.csv'}",)
    assert label(LabelOptions(path=store, catalogue=catalogue, out=out, keep_all=True)) == 0
    labels = Labels.load(out)
    assert labels.notes["catalogues"][0]["spectra"]["by id"] == len(labels) == 60
    rows = [line.split(",") for line in (DATA / "lamost/labels.csv").read_text().splitlines()[1:]]
    feh = {int(row[1]): float(row[5]) for row in rows}
    assert labels.values["feh"].tolist() == [feh[i] for i in labels.id.tolist()]
    cut = LabelOptions(path=store, catalogue=catalogue, out=tmp_path / "cut.parquet")
    assert label(cut) == 0
    bright = {int(row[1]) for row in rows if float(row[6]) > 20}
    assert set(Labels.load(cut.out).id.tolist()) == set(labels.id.tolist()) & bright
