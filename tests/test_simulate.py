"""The command stores-simulate: twins of one population, resumed and the same whatever the workers."""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from stores.errors import InputError, OptionError, StoreError
from stores.grid import GRIDS
from stores.ingest import IngestOptions, ingest
from stores.simulate import twin
from stores.simulate.instrument import Instrument
from stores.simulate.simulate import SimulateOptions, simulate
from stores.simulate.truth import KEY
from stores.spectra import SpectraStore
from stores.verify import VerifyOptions, verify

N = 30
ROOT = Path(__file__).resolve().parents[1]


def made(out, survey, **more):
    """A twin of N stars, with its truth as columns."""
    options = {"survey": survey, "n": N, "out": out, "seed": 4, **more}
    assert simulate(SimulateOptions(**options)) == 0
    return {name: column.to_numpy() for name, column in zip(*columns_of(out / "truth.parquet"), strict=True)}


def columns_of(path):
    table = pq.read_table(path)
    return table.column_names, table.columns


def digests(folder):
    """Checksums of all spectra by name."""
    files = sorted((folder / "spectra").iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A LAMOST and a DESI twin: folders and truths."""
    folder = tmp_path_factory.mktemp("twins")
    return {name: (folder / name, made(folder / name, name)) for name in ("lamost", "desi")}


def test_the_twins_share_their_stars(twins):
    lamost, desi = (truth for _, truth in twins.values())
    by_star = [np.argsort(truth["star_id"]) for truth in (lamost, desi)]
    for name in ("star_id", "teff", "feh", "alphafe", "gmag", "ebv", "rv", "ra"):
        np.testing.assert_array_equal(lamost[name][by_star[0]], desi[name][by_star[1]])
    assert not set(lamost["id"]) & set(desi["id"])


def test_every_column_of_the_truth_is_documented(twins):
    page = (ROOT / "docs" / "simulation.md").read_text()
    for _, truth in twins.values():
        assert not [name for name in truth if f"`{name}`" not in page]


def documented_instrument():
    page = (ROOT / "docs" / "adding-an-instrument.md").read_text()
    return re.search(r"```toml\n(.*?)```", page, flags=re.DOTALL).group(1)


def test_what_an_instrument_needs_is_documented(tmp_path):
    """Every key of the example has to be there, but for those that the page calls optional."""
    optional = {"lattice", "resolving_power"}
    lines = documented_instrument().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"\w+ *=", line)]
    assert len(keys) > 25
    for number in keys:
        name = lines[number].split("=")[0].strip()
        (tmp_path / "mine.toml").write_text("\n".join([*lines[:number], *lines[number + 1 :]]))
        lacking = rf"[.\]]?{name} is missing" if name not in optional else "needs either fwhm|are joined need lattice"
        with pytest.raises(InputError, match=lacking):
            Instrument.load(str(tmp_path / "mine.toml"))
    for section in ("arms", "noise", "flux_errors", "velocities", "sky", "faults"):
        cut = re.sub(rf"\[+{section}\]+.*?(?=\n\[|\Z)", "", "\n".join(lines), flags=re.DOTALL)
        (tmp_path / "mine.toml").write_text(cut)
        with pytest.raises(InputError, match=f"{section} is missing"):
            Instrument.load(str(tmp_path / "mine.toml"))


def test_the_documented_instrument_works(tmp_path):
    (tmp_path / "mine.toml").write_text(documented_instrument())
    truth = made(tmp_path / "mine", str(tmp_path / "mine.toml"), n=5, catalogues=False)
    np.testing.assert_array_equal(truth["id"], truth["star_id"])
    files = (str(tmp_path / "mine" / "spectra"),)
    assert ingest(IngestOptions(survey="table", files=files, out=tmp_path / "mine.zarr")) == 0
    assert SpectraStore.open(tmp_path / "mine.zarr").read("id").tolist() == truth["id"].tolist()


def test_an_instrument_too_sharp_is_refused_before_anything_is_written(tmp_path):
    text = documented_instrument().replace("[3900, 3000], [6200, 4200]", "[3900, 4600], [6200, 4600]")
    (tmp_path / "sharp.toml").write_text(text)
    with pytest.raises(
        InputError, match=r"arm blue has a resolving power of 49\d\d in its sharpest fibres, too close"
    ):
        simulate(SimulateOptions(survey=str(tmp_path / "sharp.toml"), n=1, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["lamost", "desi"])
def test_truth_is_whole(twins, name):
    folder, truth = twins[name]
    assert truth["id"].dtype == np.int64
    assert len(set(truth["id"].tolist())) == len(truth["id"]) == N
    labels = ("teff", "logg", "feh", "alphafe", "vmic")
    usable = ~truth["unusable"].astype(bool)
    for label in labels:
        assert np.all(np.isfinite(truth[label]))
        assert np.all(truth[f"sigma_{label}"][usable] > 0)
    assert np.all(np.isinf(truth["sigma_feh"]) | (truth["snr"] > 0))
    assert set(truth["component"]) <= {"thin", "thick", "halo", "metal_poor"}
    assert set(truth["mislabelled"]) <= {"no", "other_star", "wrong_class"}
    assert np.mean(truth["mislabelled"] == "no") > 0.8
    assert set(truth["missing_arm"]) <= {"", "blue", "red", "B", "R", "Z"}
    assert np.corrcoef(truth["sigma_teff"][usable], 1 / truth["snr"][usable])[0, 1] > 0.2
    about = json.loads(pq.read_schema(folder / "truth.parquet").metadata[KEY.encode()])
    assert (about["seed"], about["n"], about["instrument"]["name"]) == (4, N, name)
    assert {"version", "commit", "command", "created"} <= set(about)
    assert not list(folder.glob(".*"))  # parts are gone


def test_what_lies_in_the_folder(twins):
    for name, (folder, _) in twins.items():
        config = json.loads((folder / "config.json").read_text())
        assert config["instrument"]["layout"] == {"lamost": "lamost_dr10", "desi": "desi_coadd"}[name]
        assert {"version", "commit", "seed", "gmag", "emulator"} <= set(config)
        held = {path.name for path in (folder / "catalogues").iterdir()}
        assert {"allStar-twin.fits"} <= held
        assert ("mwsall-pix-twin.fits" in held) == (name == "desi")


def test_every_file_says_that_it_is_simulated(twins):
    for folder, _ in twins.values():
        files = [path for part in ("spectra", "catalogues") for path in sorted((folder / part).iterdir())]
        assert {path.suffix for path in files} >= {".fits"}
        found = []
        for path in files:
            if path.suffix == ".tsv":
                told = dict(
                    line.strip("# \n").split(": ", 1)
                    for line in path.read_text().splitlines()
                    if re.match(r"# *SIM", line)
                )
                told = {**told, "SIMULATD": told["SIMULATD"] == "True", "SIMSEED": int(told["SIMSEED"])}
            else:
                header = fits.getheader(path)
                told = {name: header[name] for name in ("SIMULATD", "SIMVERS", "SIMCOMIT", "SIMSEED", "SIMCONF")}
            found.append(told)
        assert all(told == found[0] for told in found)
        assert found[0]["SIMULATD"] is True
        assert found[0]["SIMSEED"] == 4
        assert len(found[0]["SIMCONF"]) == 16


def test_ingest_takes_the_twins_for_surveys(twins, tmp_path):
    for name, (folder, truth) in twins.items():
        options = IngestOptions(survey=name, files=(str(folder / "spectra"),), out=tmp_path / f"{name}.zarr")
        if name == "desi":
            options = dataclasses.replace(options, rv=folder / "catalogues" / "mwsall-pix-twin.fits")
        assert ingest(options) == 0
        store = SpectraStore.open(tmp_path / f"{name}.zarr")
        assert set(store.read("id").tolist()) == set(truth["id"].tolist())
        row = store.find(truth["id"])
        good = (truth["mislabelled"] == "no") & ~truth["unusable"].astype(bool) & (truth["missing_arm"] == "")
        assert np.median(np.abs(store.read("rv")[row] - truth["rv"])[good]) < 12
        snr = store.read("snr")[row]
        assert np.median((snr / truth["snr"])[good]) == pytest.approx(1.15, abs=0.3)


@pytest.mark.parametrize("name", ["lamost", "desi"])
def test_a_store_without_files_equals_the_files(twins, tmp_path, name):
    folder, _ = twins[name]
    path = tmp_path / "direct.zarr"
    options = SimulateOptions(survey=name, n=N, store=path, seed=4)
    assert simulate(options) == 0
    assert simulate(options) == 0  # nothing is left to do
    assert verify(VerifyOptions(path=path)) == 0
    direct = SpectraStore.open(path)
    ingest(IngestOptions(survey=name, files=(str(folder / "spectra"),), out=tmp_path / "files.zarr"))
    files = SpectraStore.open(tmp_path / "files.zarr")
    assert direct.preparation_fingerprint == files.preparation_fingerprint
    assert direct.grid == GRIDS["lrs"]
    row = files.find(direct.read("id"))
    assert np.all(row >= 0)
    np.testing.assert_allclose(direct.read("flux"), files.read("flux")[row], atol=2e-3)
    np.testing.assert_array_equal(direct.read("ivar") > 0, files.read("ivar")[row] > 0)
    np.testing.assert_array_equal(direct.read("flags"), files.read("flags")[row])
    np.testing.assert_allclose(direct.read("rv"), files.read("rv")[row], atol=1e-3)
    beside = pq.read_table(tmp_path / "direct.truth.parquet")
    assert beside["id"].to_pylist() == direct.read("id").tolist()
    assert "sigma_feh" not in beside.column_names  # bounds take longer than all the rest
    with pytest.raises(StoreError, match="belongs to another job"):
        simulate(dataclasses.replace(options, seed=5))


def test_workers_decide_nothing(twins, tmp_path):
    folder, truth = twins["desi"]
    again = made(tmp_path / "two", "desi", workers=2)
    assert len(digests(folder)) > 4
    assert digests(tmp_path / "two") == digests(folder)
    for name, column in again.items():
        np.testing.assert_array_equal(column, truth[name])


def test_a_killed_run_goes_on(twins, tmp_path, monkeypatch):
    folder, truth = twins["desi"]
    write, calls = twin._write_group, []

    def killed(*arguments):
        calls.append(arguments[1])
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(twin, "_write_group", killed)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "killed", "desi")
    assert not (tmp_path / "killed" / "truth.parquet").exists()
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "spectra").iterdir()}
    assert 0 < len(first) < len(digests(folder))
    again = made(tmp_path / "killed", "desi")
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    assert sorted(calls) == sorted([*range(len(calls) - 1), 3])  # the one that was cut short, again
    assert digests(tmp_path / "killed") == digests(folder)
    np.testing.assert_array_equal(again["sigma_feh"], truth["sigma_feh"])
    before = len(calls)
    made(tmp_path / "killed", "desi")
    assert len(calls) == before


def test_other_seeds_and_magnitudes_give_other_stars(tmp_path, twins):
    _, truth = twins["lamost"]
    bright = made(tmp_path / "bright", "lamost", gmag=(14.0, 15.0), catalogues=False)
    assert np.all((bright["gmag"] >= 14) & (bright["gmag"] <= 15))
    assert not (tmp_path / "bright" / "catalogues").exists()
    other = made(tmp_path / "other", "lamost", seed=5, catalogues=False)
    assert not set(other["star_id"]) & set(truth["star_id"])
    assert not set(other["id"]) & set(truth["id"])


def test_other_folders_are_left_alone(twins, tmp_path):
    folder, _ = twins["lamost"]
    before = digests(folder)
    with pytest.raises(OptionError, match=r"lamost' holds a simulation with another seed; choose another --out"):
        made(folder, "lamost", seed=7)
    with pytest.raises(OptionError, match="another instrument"):
        made(folder, "desi")
    assert digests(folder) == before
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(OptionError, match="is not empty and holds no simulation"):
        made(tmp_path, "lamost")
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text("{")
    with pytest.raises(OptionError, match=r"config\.json' is damaged"):
        made(tmp_path / "copy", "lamost")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"out": None}, "give --out DIR, --store X.zarr"),
        ({"n": 0}, "--n 0 must be 1 or more"),
        ({"seed": -1}, "--seed -1 must be 0 or more"),
        ({"workers": 0}, "--workers 0 must be 1 or more"),
        ({"survey": "sdss"}, "'sdss' is neither a built-in one"),
        ({"gmag": (18.0, 13.0)}, "G magnitudes from 18 to 13"),
        ({"grid": "lr"}, "grid 'lr' is neither"),
    ],
)
def test_options_that_cannot_work_are_one_sentence(tmp_path, change, sentence):
    options = SimulateOptions(survey="lamost", n=3, out=tmp_path / "out")
    with pytest.raises((OptionError, InputError), match=sentence):
        simulate(dataclasses.replace(options, **change))
    assert not (tmp_path / "out" / "spectra").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OptionError, match="is a file; name a folder"):
        simulate(SimulateOptions(survey="lamost", n=3, out=tmp_path / "out"))


def test_shares_of_the_components_can_be_chosen(tmp_path: Path) -> None:
    options = SimulateOptions(survey="template", n=200, store=tmp_path / "poor.zarr", fractions=(0.0, 0.0, 0.0, 1.0))
    assert simulate(options) == 0
    truth = pq.read_table(tmp_path / "poor.truth.parquet")
    assert set(truth["component"].to_pylist()) == {"metal_poor"}
    assert np.median(SpectraStore.open(tmp_path / "poor.zarr").read("snr")) > 500  # the template has next to no noise
    with pytest.raises(OptionError, match="are not shares of thin, thick, halo, metal_poor"):
        simulate(dataclasses.replace(options, fractions=(0.5, 0.0, 0.0, 0.1)))


def test_the_truth_beside_a_store_is_of_that_store(tmp_path: Path) -> None:
    options = SimulateOptions(survey="template", n=6, store=tmp_path / "t.zarr", seed=1)
    truth = tmp_path / "t.truth.parquet"
    simulate(options)
    shutil.rmtree(tmp_path / "t.zarr")
    other = dataclasses.replace(options, seed=2)
    simulate(other)
    ids = SpectraStore.open(tmp_path / "t.zarr").read("id")
    np.testing.assert_array_equal(pq.read_table(truth)["id"].to_numpy(), ids)
    simulate(other)  # finished already
    truth.unlink()
    with pytest.raises(
        StoreError, match=r"t\.truth\.parquet', the truth of '.*t\.zarr', is missing or that of another"
    ):
        simulate(other)


def test_names_and_seeds_that_cannot_work(tmp_path: Path) -> None:
    options = SimulateOptions(survey="template", n=6, store=Path())
    with pytest.raises(OptionError, match="names no store"):
        simulate(options)
    with pytest.raises(OptionError, match="--seed 10000000000000000 must be below"):
        simulate(dataclasses.replace(options, store=tmp_path / "t.zarr", seed=10**16))
