"""What is asked of heads-bench: refused where it cannot work, told where it costs, kept in mind by its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heads_made import TARGETS, make_features, make_labels, make_truth
from storage import Storage, serving
from stores_made import make_embeddings, make_ids, make_spectra

import benchmarks.bench as command
from benchmarks.bench import bench
from benchmarks.request import BenchOptions
from benchmarks.study import Side, Study
from benchmarks.suites import Workshop
from stores.errors import OptionError
from stores.location import Url, refuse_urls


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with serving(tmp_path_factory.mktemp("storage")) as running:
        yield running


def test_settings_are_noted_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "bench"

    def making(options: BenchOptions, *_: object) -> None:
        (options.out / "study" / "half.zarr").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_study", making)
    with pytest.raises(KeyboardInterrupt):
        bench(BenchOptions(out=out))
    with pytest.raises(OptionError, match=r"begun with other settings \(--seeds 5, now 9\)"):
        BenchOptions(out=out, seeds=9).check()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Options of two surveys of one's own; no star of the source has a known alphafe."""
    folder = tmp_path_factory.mktemp("own")
    truth, ids = make_truth(30, 1), make_ids(30)
    tables = {"source": {**truth, "alphafe": np.full(30, np.nan)}, "target": {**truth, "alphafe": truth["feh"]}}
    for name, labels in tables.items():
        (folder / f"{name}.zarr").mkdir()
        make_labels(ids, labels).save(folder / f"{name}.parquet")
    source = {"source": (folder / "source.zarr",), "source_labels": (folder / "source.parquet",)}
    return {**source, "target": folder / "target.zarr", "target_labels": folder / "target.parquet"}


def test_labels_are_those_that_both_surveys_have(
    own: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = BenchOptions(out=tmp_path / "bench", **own)  # type: ignore[arg-type]
    regimes = asked.check()
    usual = tuple(label for label in ("teff", "logg", "feh") if label in TARGETS)
    assert asked.targets == tuple(asked.settings(regimes)["labels"]) == usual
    told = capsys.readouterr().err
    assert "do not both have" in told
    assert f"alphafe; compared: {', '.join(usual)}." in told
    with pytest.raises(OptionError, match=r"--labels names 'alphafe', and '.*source.parquet' has "):
        replace(asked, labels="alphafe").check()
    assert replace(asked, labels="feh").settings(regimes)["labels"] == ["feh"]
    replace(asked, labels="feh").check()
    assert capsys.readouterr().err == ""
    assert BenchOptions().targets == ("teff", "logg", "feh", "alphafe")


def test_surveys_without_a_common_label_are_told_so(own: dict[str, object], tmp_path: Path) -> None:
    table = tmp_path / "mass.parquet"
    make_labels(make_ids(30), {"mass": make_truth(30, 1)["feh"] + 9}).save(table)
    with pytest.raises(OptionError, match=r"share none of the labels teff, .*--labels"):
        BenchOptions(out=tmp_path / "bench", **{**own, "source_labels": (table,)}).check()  # type: ignore[arg-type]


def test_pipelines_say_something_of_the_targets_stars(own: dict[str, object], tmp_path: Path) -> None:
    truth, ids = make_truth(30, 1), make_ids(30)
    for name, rows, labels in (
        ("SP", ids[:3], {"feh": truth["feh"][:3]}),
        ("other", ids + 1000, truth),
        ("mass", ids, {"mass": truth["feh"]}),
        ("none", ids, {"feh": np.full(30, np.nan)}),
    ):
        make_labels(rows, labels).save(tmp_path / f"{name}.parquet")
    table = tmp_path / "SP.parquet"
    asked = BenchOptions(out=tmp_path / "bench", pipelines=(f"SP = {table}",), **own)  # type: ignore[arg-type]
    assert asked.settings(asked.check())["pipelines"] == {"SP": str(table)}
    for name in ("other", "mass", "none"):
        text = f"{name}={tmp_path / name}.parquet"
        with pytest.raises(OptionError, match=rf"--pipelines {name}: .*{name}.parquet' says nothing of .*feh"):
            replace(asked, pipelines=(f"SP={table}", text)).check()
    with pytest.raises(OptionError, match="are of surveys of your own"):
        BenchOptions(out=tmp_path / "bench", pipelines=(f"SP={table}",)).check()


def test_a_folder_belongs_to_its_pipelines(own: dict[str, object], tmp_path: Path) -> None:
    table = tmp_path / "SP.parquet"
    make_labels(make_ids(30), make_truth(30, 1)).save(table)
    asked = BenchOptions(out=tmp_path / "bench", **own)  # type: ignore[arg-type]
    (asked.out / "study").mkdir(parents=True)
    (asked.out / "study" / "request.json").write_text(json.dumps(asked.settings(asked.check())))
    asked.check()
    with pytest.raises(OptionError, match=r"--pipelines none, now SP=.*SP.parquet"):
        replace(asked, pipelines=(f"SP={table}",)).check()


@pytest.mark.parametrize(("sizes", "fits"), [("0,10", True), ("11", False), ("0,2069", False)])
def test_stars_are_left_to_test(sizes: str, fits: bool, own: dict[str, object], tmp_path: Path) -> None:
    asked = BenchOptions(out=tmp_path / "bench", sizes=sizes, **own)  # type: ignore[arg-type]
    if fits:
        asked.check()
    else:
        with pytest.raises(OptionError, match=r"target.parquet' has 30 stars, .* 20 are tested; ask for smaller"):
            asked.check()


def test_stores_may_lie_in_object_storage(own: dict[str, object], tmp_path: Path, storage: Storage) -> None:
    url = storage.new("target.zarr")
    asked = BenchOptions(out=tmp_path / "bench", **{**own, "target": url})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=f"'{url}' does not exist"):
        asked.check()
    ids, truth = make_ids(30), make_truth(30, 1)
    make_spectra(url, 30, ids=ids)
    assert asked.settings(asked.check())["target"] == url
    vectors = make_embeddings(tmp_path / "e.zarr", 30, vectors=make_features(truth), ids=ids)
    side = Side("target", url, vectors.path, tmp_path / "target.parquet")
    make_labels(ids, truth).save(side.labels)
    study = Study("own", (side,), side, TARGETS, 10, 20)
    study.save(tmp_path)
    read = Study.load(tmp_path)
    assert read == study
    assert isinstance(read.target.spectra, Url)
    local = make_spectra(tmp_path / "target.zarr", 30, ids=ids)
    assert read.fingerprint == replace(study, sources=(replace(side, spectra=local.path),)).fingerprint
    assert read.target.open().sample(TARGETS).blocks["pixels"][0].shape[0] == 30


def test_labels_are_tables_on_disk() -> None:
    with pytest.raises(OptionError, match="--target-labels takes a path on this machine"):
        refuse_urls(BenchOptions(target_labels=Path("s3://bucket/labels.parquet")))


@pytest.mark.parametrize(("sizes", "told"), [("5000", "9,545 are simulated in place of 636"), ("50", ""), (None, "")])
def test_how_many_stars_sizes_cost_is_told_beforehand(
    sizes: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object) -> None:
        assert told in capsys.readouterr().err
        raise InterruptedError

    monkeypatch.setattr(Workshop, "twins", none)
    options = BenchOptions(out=tmp_path / "bench", sizes=sizes)
    if not told:
        monkeypatch.setattr(command, "say", lambda sentence: pytest.fail(sentence))
    with pytest.raises(InterruptedError):
        bench(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regime": ("rich",)}, "--regime 'rich'"),
        ({"inputs": "pixels"}, "--inputs names 'pixels'"),
        ({"adapters": "magic"}, "--adapters names 'magic'"),
        ({"baselines": "magic"}, "--baselines names 'magic'"),
        ({"sizes": "0,few"}, "no numbers"),
        ({"sizes": "5"}, "10 and more"),
        ({"labels": ","}, "--labels names nothing"),
        ({"inputs": ""}, "--inputs names nothing"),
        ({"adapters": ""}, "--adapters names nothing"),
        ({"sizes": " , "}, "--sizes names nothing"),
        ({"regime": ()}, "--regime names no stars; name metal_rich, .* or all"),
        ({"seeds": 0}, "--seeds 0"),
        ({"draws": 0}, "--draws 0"),
        ({"target": Path("x.zarr")}, "go together"),
        ({"resume": True}, "nothing to go on with"),
        ({"pipelines": ("sp.parquet",)}, "'sp.parquet' is no NAME=TABLE"),
        ({"pipelines": ("=sp.parquet",)}, "'=sp.parquet' is no NAME=TABLE"),
        ({"pipelines": ("SP=a", "SP=b")}, "names SP twice"),
        ({"pipelines": ("SP=sp.parquet",)}, "'sp.parquet' does not exist"),
        ({"labels": "feh,mass"}, "--labels names 'mass', and the stars of the suite 'quick' have teff, logg"),
        ({"regime": ("heavy=mass > 1",)}, "the regime 'heavy' asks for 'mass'"),
    ],
)
def test_mistakes_are_told_beforehand(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=message):
        BenchOptions(out=tmp_path / "bench", **options).check()  # type: ignore[arg-type]


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OptionError, match="other files"):
        BenchOptions(out=tmp_path).check()
