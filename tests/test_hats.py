"""HATS catalogues of spectra: their parameters are those that heads-predict reads from stores of the same spectra."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from files import truncate
from heads_made import SMALL, make_labels
from models_made import small_config

import embed.embedder
import heads.hats
from embed.model import SpectralTransformer
from embed.run import EmbedOptions
from embed.run import embed as embed_spectra
from heads import InputStores, Sample, train_head
from heads.predict import PredictOptions, predict
from stores import Flag, Grid, Preparation
from stores.errors import InputError, ModelError, OptionError
from stores.hats import HatsCatalogue, partition_file
from stores.ingest import IngestOptions, ingest
from stores.simulate.simulate import SimulateOptions, simulate
from stores.surveys import ReadOptions, get_survey

pytest.importorskip("lsdb")
pd = pytest.importorskip("pandas")

# LSDB's own
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in NestedFrame:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]
N = 24
PIXELS = 3, 9  # least and most partitions of the catalogue

Table = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hats")


@pytest.fixture(scope="module")
def twin(folder: Path) -> Path:
    """Spectra of a twin of LAMOST, a file each, with the truth beside them."""
    assert simulate(SimulateOptions(survey="lamost", n=N, out=folder / "lamost", seed=1)) == 0
    return folder / "lamost"


@pytest.fixture(scope="module")
def table(twin: Path) -> Table:
    """The same spectra as columns, named as the Multimodal Universe names them."""
    read = get_survey("lamost").read
    batches = [read(path, ReadOptions()) for path in sorted((twin / "spectra").iterdir())]
    rows = {name: [getattr(batch, name)[0] for batch in batches] for name in ("id", "ra", "dec", "rv")}
    arms = [batch.arms[0] for batch in batches]
    return {
        "object_id": [str(one) for one in rows["id"]],
        "ra": rows["ra"],
        "dec": rows["dec"],
        "vrad": rows["rv"],
        "spectrum": [{"flux": arm.flux[0], "ivar": arm.ivar[0], "lambda": arm.wavelength} for arm in arms],
    }


@pytest.fixture(scope="module")
def catalogue(folder: Path, table: Table) -> Path:
    return write_catalogue(folder / "desi-hats", table)


@pytest.fixture(scope="module")
def made(folder: Path, twin: Path) -> dict[str, Path]:
    """Stores of the files, a model, and heads that learned from them."""
    torch.manual_seed(0)
    paths = {name: folder / name for name in ("s.zarr", "e.zarr", "model", "spectra", "fused")}
    SpectralTransformer(small_config(Grid.parse("lrs"), Preparation())).save_pretrained(paths["model"])
    assert ingest(IngestOptions(survey="lamost", files=(str(twin / "spectra"),), out=paths["s.zarr"])) == 0
    options = EmbedOptions(inputs=(str(paths["s.zarr"]),), model=str(paths["model"]), out=paths["e.zarr"])
    assert embed_spectra(options) == 0
    truth = pq.read_table(twin / "truth.parquet").sort_by("id")
    labels = make_labels(truth["id"].to_numpy(), {name: truth[name].to_numpy() for name in ("feh", "teff")})
    for name in ("spectra", "fused"):
        given = InputStores.open(name, paths["s.zarr"], paths["e.zarr"])
        train_head(Sample.join(given, labels, ("feh", "teff")), given.identity, SMALL).head.save_pretrained(
            paths[name]
        )
    return paths


@pytest.fixture(scope="module")
def wanted(folder: Path, made: dict[str, Path]) -> dict[str, np.ndarray[Any, Any]]:
    """What heads-predict reads from the store, in the order of ids."""
    out = folder / "wanted.parquet"
    assert predict(PredictOptions(head=made["spectra"], store=made["s.zarr"], out=out)) == 0
    return by_id(pq.read_table(out))


def write_catalogue(path: Path, columns: Table) -> Path:
    """A HATS catalogue of a table, by LSDB, cut into parts of a few rows."""
    import lsdb

    frame = pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)
    place: dict[str, Any] = {"ra_column": "ra", "dec_column": "dec", "margin_threshold": None}
    cut = lsdb.from_dataframe(frame, **place, lowest_order=0, highest_order=2, partition_rows=8)
    cut.write_catalog(path, catalog_name=path.name, as_collection=False, progress_bar=False)
    return path


def by_id(table: Any) -> dict[str, np.ndarray[Any, Any]]:
    table = table.sort_by("id")
    return {name: table[name].to_numpy() for name in table.column_names}


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All of a catalogue, as LSDB reads it, in the order of ids."""
    import lsdb

    frame = lsdb.open_catalog(path).compute(progress_bar=False)
    assert np.all(np.diff(frame.index.to_numpy()) >= 0)
    return by_id(pa.table({name: pa.array(frame[name].array) for name in frame.columns}))


def assert_alike(found: dict[str, Any], wanted: dict[str, Any], rows: Any = slice(None)) -> None:
    """The same rows, to the rounding of sums in batches of other sizes."""
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        exact = name in ("id", "flags", "ra", "dec")
        check: Callable[..., None] = np.testing.assert_array_equal if exact else np.testing.assert_allclose
        check(found[name], value[rows], err_msg=name, **({} if exact else {"rtol": 1e-5, "atol": 1e-5}))


def of(made: dict[str, Path], catalogue: Path, out: Path, head: str = "spectra", **more: Any) -> PredictOptions:
    return PredictOptions(hats=str(catalogue), head=made[head], out=out, **more)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- the catalogue that is written -------------------------------------------------------------------------


def test_parameters_are_those_of_the_store(
    made: dict[str, Path], catalogue: Path, wanted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, here = tmp_path / "parameters", heads.hats.in_processes

    def sent(function: Any, tasks: Any, *more: Any, **named: Any) -> Any:
        """As to another process."""
        return here(function, (pickle.loads(pickle.dumps(task)) for task in tasks), *more, **named)

    monkeypatch.setattr(heads.hats, "in_processes", sent)
    assert predict(of(made, catalogue, out)) == 0
    assert_alike(read(out), wanted)
    assert left(tmp_path) == ["parameters"]
    pixels = HatsCatalogue.open(str(catalogue)).pixels
    assert PIXELS[0] <= len(pixels) <= PIXELS[1]
    assert [partition_file(out, pixel).exists() for pixel in pixels] == [True] * len(pixels)
    assert (out / "partition_info.csv").read_text() == (catalogue / "partition_info.csv").read_text()


@pytest.fixture(scope="module")
def fused(folder: Path, made: dict[str, Path]) -> dict[str, np.ndarray[Any, Any]]:
    """The same of a head that reads spectra and embeddings."""
    out = folder / "fused.parquet"
    assert predict(PredictOptions(head=made["fused"], store=made["s.zarr"], embeddings=made["e.zarr"], out=out)) == 0
    return by_id(pq.read_table(out))


def test_head_and_model_are_loaded_once_for_all_partitions(
    made: dict[str, Path], catalogue: Path, fused: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    for module, name in ((heads.hats, "load_head"), (embed.embedder, "load_model")):
        load = getattr(module, name)

        def counted(*given: Any, load: Any = load) -> Any:
            loaded.append(str(given[0]))
            return load(*given)

        monkeypatch.setattr(module, name, counted)
    embed.embedder.load_embedder.cache_clear()
    assert predict(of(made, catalogue, tmp_path / "p", "fused", model=str(made["model"]))) == 0
    assert loaded == [str(made["fused"]), str(made["model"])]
    assert_alike(read(tmp_path / "p"), fused)


@pytest.mark.slow
def test_partitions_are_shared_among_processes(
    made: dict[str, Path], catalogue: Path, fused: dict[str, Any], tmp_path: Path
) -> None:
    from distributed import LocalCluster

    given = of(made, catalogue, tmp_path / "p", "fused", model=str(made["model"]), workers=2)
    assert predict(given) == 0
    assert_alike(read(tmp_path / "p"), fused)
    spare = {"dashboard_address": "127.0.0.1:0"}  # else a port that another run may have
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, scheduler_kwargs=spare) as cluster:
        assert predict(replace(given, out=tmp_path / "s", workers=1, scheduler=cluster.scheduler_address)) == 0
    assert_alike(read(tmp_path / "s"), fused)


def test_it_says_where_it_comes_from(made: dict[str, Path], catalogue: Path, tmp_path: Path) -> None:
    import lsdb

    out = tmp_path / "parameters"
    assert predict(of(made, catalogue, out)) == 0
    info = lsdb.open_catalog(out).hc_structure.catalog_info
    assert (info.total_rows, info.ra_column, info.dec_column) == (N, "ra", "dec")
    told = json.loads((out / "spectrabridge.json").read_text())
    common = pq.read_schema(out / "dataset" / "_common_metadata")
    assert json.loads(common.metadata[b"spectrabridge"]) == told
    assert common.field("teff_sigma").metadata == {b"unit": b"K", b"description": info_of("teff_sigma")}
    assert told["hats"]["columns"]["flux"] == "spectrum.flux"
    assert told["hats"]["catalogue"] == str(catalogue)
    assert {"version", "commit", "command", "created", "flag_bits"} <= set(told)
    assert told["head"]["fingerprint"] == info.head_fingerprint
    one = pq.read_schema(partition_file(out, HatsCatalogue.open(str(catalogue)).pixels[0]))
    assert json.loads(one.metadata[b"spectrabridge"])["created"] == told["created"]


def test_velocities_come_from_a_catalogue(
    made: dict[str, Path],
    table: Table,
    wanted: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without = write_catalogue(tmp_path / "c", {name: value for name, value in table.items() if name != "vrad"})
    velocities = tmp_path / "rv.parquet"
    pq.write_table(pa.table({"id": [int(one) for one in table["object_id"]], "rv": table["vrad"]}), velocities)
    assert predict(of(made, without, tmp_path / "p", rv=velocities)) == 0
    assert_alike(read(tmp_path / "p"), wanted)
    assert "velocity" not in capsys.readouterr().err
    assert predict(of(made, without, tmp_path / "p", overwrite=True)) == 0
    assert np.all(read(tmp_path / "p")["flags"] & np.uint32(Flag.RV_MISSING))
    assert "stay in the observed frame; a catalogue can be given with --rv" in capsys.readouterr().err
    pq.write_table(pa.table({"id": [1], "rv": [2.0]}), velocities)
    assert predict(of(made, without, tmp_path / "p", rv=velocities, overwrite=True)) == 0
    assert "rv.parquet' has none for them" in capsys.readouterr().err


def info_of(name: str) -> bytes:
    from heads.predict import catalogue_columns

    return catalogue_columns(("teff",))[name].description.encode()


def test_spectra_without_a_valid_pixel_have_no_parameters(made: dict[str, Path], table: Table, tmp_path: Path) -> None:
    empty = [{**one, "ivar": np.zeros(len(one["flux"]))} for one in table["spectrum"][:3]]
    some = {name: values[:3] for name, values in table.items()} | {"spectrum": empty}
    assert (
        predict(of(made, write_catalogue(tmp_path / "c", some), tmp_path / "p", "fused", model=str(made["model"])))
        == 0
    )
    found = read(tmp_path / "p")
    assert np.isnan(found["teff"]).all()
    assert np.all(found["flags"] & np.uint32(Flag.NO_VALID_PIXELS))


# -- what goes wrong ---------------------------------------------------------------------------------------


def test_a_run_that_was_interrupted_goes_on(
    made: dict[str, Path], catalogue: Path, wanted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole, begun = tmp_path / "parameters", heads.hats.write_partition, []

    def interrupted(*given: Any) -> None:
        begun.append(given[1])
        if len(begun) == 3:
            raise KeyboardInterrupt
        whole(*given)

    monkeypatch.setattr(heads.hats, "write_partition", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(of(made, catalogue, out))
    assert left(tmp_path) == [".parameters.work"]
    with pytest.raises(OptionError, match=r"parameters\.work' holds what another call has begun; choose another"):
        predict(of(made, catalogue, out, at_rest=True))
    pixels = HatsCatalogue.open(str(catalogue)).pixels
    half = partition_file(tmp_path / ".parameters.work" / "catalogue", pixels[0]).with_name(".half.7.partial.parquet")
    half.touch()  # as of a worker that was killed
    assert predict(of(made, catalogue, out)) == 0
    assert not list(out.rglob(half.name))
    assert begun == [*pixels[:3], *pixels[2:]]
    assert_alike(read(out), wanted)
    assert left(tmp_path) == ["parameters"]


def test_a_partition_that_fails_is_left_out_and_can_be_tried_again(
    made: dict[str, Path],
    catalogue: Path,
    wanted: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(catalogue, broken)
    bad = HatsCatalogue.open(str(broken)).pixels[1]
    lost = pq.ParquetFile(partition_file(broken, bad)).read()["object_id"].to_pylist()
    truncate(partition_file(broken, bad), 100)
    out = tmp_path / "parameters"
    assert predict(of(made, broken, out)) == 3
    assert f"not usable: partition Norder={bad[0]}/Npix={bad[1]}: it cannot be read (" in capsys.readouterr().err
    rows = ~np.isin(wanted["id"], np.array(lost, dtype=np.int64))
    assert 0 < rows.sum() < N
    assert_alike(read(out), wanted, rows)
    failed = json.loads((out / "spectrabridge.json").read_text())["failed"]
    assert [entry["partition"] for entry in failed] == [f"Norder={bad[0]}/Npix={bad[1]}"]
    shutil.copy(partition_file(catalogue, bad), partition_file(broken, bad))
    written, whole = [], heads.hats.write_partition
    monkeypatch.setattr(heads.hats, "write_partition", lambda *given: (written.append(given[1]), whole(*given)))
    assert predict(of(made, broken, out)) == 0
    assert written == [bad]
    assert_alike(read(out), wanted)
    with pytest.raises(OptionError, match="parameters' exists; choose another --out or add --overwrite"):
        predict(of(made, broken, out))


def test_a_catalogue_without_anything_usable_leaves_nothing(
    made: dict[str, Path], catalogue: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(catalogue, broken)
    for pixel in HatsCatalogue.open(str(broken)).pixels:
        truncate(partition_file(broken, pixel), 100)
    with pytest.raises(
        InputError, match=r"nothing in '.*broken' can be used: partition Norder=0/Npix=0: it cannot be"
    ):
        predict(of(made, broken, tmp_path / "parameters"))
    assert left(tmp_path) == ["broken"]


def test_the_callers_mistakes_are_told_before_anything_is_loaded(
    made: dict[str, Path], catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "parameters"
    monkeypatch.setattr(heads.hats, "predict_hats", None)  # not reached
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"files": ("a.fits",)}, "files and --hats do not go together"),
        ({"store": made["s.zarr"]}, "--store and --hats do not go together"),
        ({"limit": 3}, "--limit and --hats do not go together"),
        ({"head": None}, "--hats needs a head: add --head, or --survey"),
        ({"columns": ("flu=f",)}, "--columns flu=f is not ROLE=NAME with a role of id, ra, dec"),
        ({"out": tmp_path / "p.parquet"}, r"p\.parquet' is the name of a table; with --hats --out is a folder"),
        ({"out": catalogue / "p"}, "lies in the catalogue that is read"),
        ({"out": made["model"], "overwrite": True}, "model' exists and is no catalogue of parameters"),
        ({"hats": "https://me:secret@host/desi"}, r"the URL of --hats has a @ or \? in it"),
        ({"workers": 0}, "--workers 0 must be 1 or more"),
    ]
    for given, sentence in wrong:
        with pytest.raises(OptionError, match=sentence):
            predict(PredictOptions(**({"hats": str(catalogue), "head": made["spectra"], "out": out} | given)))
    with pytest.raises(OptionError, match="--columns names columns of a HATS catalogue; add --hats"):
        predict(PredictOptions(columns=("id=a",), out=tmp_path / "c.csv"))
    for given in ({"hats": str(tmp_path / "none")}, {"rv": tmp_path / "none"}):
        with pytest.raises(InputError, match="none' does not exist; check the path"):
            predict(PredictOptions(**({"hats": str(catalogue), "head": made["spectra"], "out": out} | given)))
    assert left(tmp_path) == []


def test_without_lsdb_one_sentence_says_what_to_install(
    made: dict[str, Path], catalogue: Path, tmp_path: Path
) -> None:
    run = "import sys, importlib.util as u; found = u.find_spec\n"
    run += "u.find_spec = lambda name, *more: None if name == 'lsdb' else found(name, *more)\n"
    run += f"sys.argv = ['heads-predict', '--hats', {str(catalogue)!r}, '--head', {str(made['spectra'])!r}, '--out', "
    run += f"{str(tmp_path / 'p')!r}]\nfrom heads.predict import main\nmain()"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == (
        "heads-predict: HATS catalogues need LSDB, which is not installed; run pip install 'spectrabridge[hats]'.\n"
    )
    assert left(tmp_path) == []


def test_what_is_no_catalogue_or_lacks_its_head_is_refused(
    made: dict[str, Path], catalogue: Path, tmp_path: Path
) -> None:
    (tmp_path / "some").mkdir()
    with pytest.raises(InputError, match=r"some' cannot be opened as a HATS catalogue \(.*\); check the path"):
        predict(of(made, tmp_path / "some", tmp_path / "p"))
    with pytest.raises(ModelError, match="none' holds no head"):
        predict(PredictOptions(hats=str(catalogue), head=tmp_path / "none", out=tmp_path / "p"))
    with pytest.raises(OptionError, match="there is no built-in head of the survey 'sdss'"):
        predict(PredictOptions(hats=str(catalogue), survey="sdss", out=tmp_path / "p"))
    assert left(tmp_path) == ["some"]


def test_a_catalogue_without_indices_gets_them_from_the_positions(
    made: dict[str, Path], catalogue: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(catalogue, bare)
    opened = HatsCatalogue.open(str(catalogue))
    for path in (partition_file(bare, pixel) for pixel in opened.pixels):
        pq.write_table(pq.ParquetFile(path).read().drop_columns(["_healpix_29"]), path)
    schema = pq.read_schema(partition_file(bare, opened.pixels[0]))
    (bare / "dataset" / "_metadata").unlink()
    pq.write_metadata(schema, bare / "dataset" / "_common_metadata")
    for name in ("hats.properties", "properties"):
        lines = (bare / name).read_text().splitlines()
        (bare / name).write_text("\n".join(line for line in lines if "col_healpix" not in line))
    for pixel in opened.pixels:
        rows, place = HatsCatalogue.open(str(bare)).read(pixel)
        same, wanted = opened.read(pixel)
        np.testing.assert_array_equal(rows.ids, same.ids)
        np.testing.assert_array_equal(place, wanted)
