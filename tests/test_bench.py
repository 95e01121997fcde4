"""heads-bench: stars shared out, cells computed once, results that say where they come from."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_made import SEEDS, TRAINING, make_side
from heads_made import TARGETS, make_labels, make_truth
from stores_made import make_ids

import benchmarks.bench as command
from benchmarks import baselines, figures, summary
from benchmarks.bench import bench
from benchmarks.cell import HEAD, PIPELINE, Cell, Laboratory, Outcome, Settings
from benchmarks.leaderboard import record
from benchmarks.limits import LimitsOptions, limits, shared
from benchmarks.regime import Regime
from benchmarks.request import BenchOptions, Scale
from benchmarks.results import Results, Table
from benchmarks.study import Stage, Study
from benchmarks.suites import Workshop
from benchmarks.summary import sentences
from benchmarks.task import Predicted
from embed.load import describe_model
from heads import adapters
from stores.errors import InputError, OptionError, SpectraBridgeError

SCALE = Scale((0, 40), ("zero_shot", "kriging"), 0, 1000, landscape=3)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two surveys whose labels differ by 0.3 dex, and a pipeline that knows most of the target's stars."""
    folder = tmp_path_factory.mktemp("surveys")
    source, target = make_side(folder, "source", 1, 0.0), make_side(folder, "target", 2, 0.3)
    pipeline = folder / "pipeline.parquet"
    make_labels(make_ids(120), {"feh": make_truth(150, 2)["feh"][:120] + 0.5}).save(pipeline)
    return Study("own", (source,), target, TARGETS, 40, 1000, pipelines={"SP": pipeline})


@pytest.fixture(scope="module")
def stage(study: Study) -> Stage:
    return Stage.open(study)


@pytest.fixture(scope="module")
def done(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison."""
    out = tmp_path_factory.mktemp("runs") / "bench"
    assert run(study, out, pictures=True) == 0
    return out


def run(study: Study, out: Path, pictures: bool = False, **options: object) -> int:
    """heads-bench on a study that is there already."""

    def prepared(options: BenchOptions, scale: Scale, jobs: int) -> tuple[Study, Scale]:
        (options.out / "study").mkdir(parents=True, exist_ok=True)
        study.save(options.out / "study")
        return study, SCALE

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "_study", prepared)
        if not pictures:  # they take longest
            patch.setattr(figures, "save_pictures", lambda *_: [])
        patch.setattr(Settings, "training", TRAINING)
        patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        given = {"labels": ",".join(TARGETS), "inputs": "embedding", "baselines": "none", "seeds": SEEDS, **options}
        return bench(BenchOptions(out=out, jobs=1, replicates=60, **given))  # type: ignore[arg-type]


def test_a_study_is_read_as_it_was_written(study: Study, tmp_path: Path) -> None:
    study = replace(study, teff_range=(4000.0, 7000.0))
    study.save(tmp_path)
    assert Study.load(tmp_path) == study
    assert Study.load(tmp_path).fingerprint == study.fingerprint


def test_the_fingerprint_is_that_of_the_content(study: Study, tmp_path: Path) -> None:
    assert replace(study, pool=50).fingerprint != study.fingerprint
    labels = tmp_path / "other.parquet"
    make_labels(make_ids(150), make_truth(150, 7)).save(labels)
    assert replace(study, target=replace(study.target, labels=labels)).fingerprint != study.fingerprint


def test_stars_to_learn_from_and_to_test_are_shared_out_strictly(stage: Stage) -> None:
    small, large, test = stage.tuning(20, 0), stage.tuning(40, 0), stage.test(0)
    assert len(small) == 20
    assert len(large) == 40
    assert set(small.id) < set(large.id)
    assert not set(large.id) & set(test.id)
    assert len(test) == len(stage.target) - 40
    assert np.isnan(test.y).all()
    assert (np.diff(test.id) > 0).all()
    assert set(stage.test(1).id) != set(test.id)
    assert set(stage.test(0).id) == set(Stage.open(stage.study).test(0).id)


def test_a_star_of_the_target_is_no_star_of_the_source(study: Study) -> None:
    whole = len(Stage.open(study).source)
    with pytest.raises(InputError, match="are stars of the target"):
        Stage.open(replace(study, sources=(study.target,)))
    both = Stage.open(replace(study, sources=(study.sources[0], study.target)))
    assert len(both.source) == whole


def test_too_few_stars_to_test_are_refused(study: Study) -> None:
    with pytest.raises(InputError, match="smaller --sizes"):
        Stage.open(replace(study, pool=140))


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path) -> None:
    values = np.arange(12, dtype=float).reshape(4, 3)
    predicted = Predicted(values, values + 1, values - 1, values + 2, values[None])
    Outcome(np.arange(4), predicted, 1.5, 7, np.ones((2, 2, 4), dtype=np.float32)).save(tmp_path / "a.npz")
    found = Outcome.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.predicted.low90, values - 1)
    assert (found.seconds, found.trained, found.landscape.shape) == (1.5, 7, (2, 2, 4))


def test_every_cell_has_a_key_of_its_own() -> None:
    cell, settings = Cell(HEAD, "fused", "lora", 100, 0), Settings()
    others = [replace(cell, size=200), replace(cell, draw=1), replace(cell, strategy="full"), cell]
    keys = {one.key("study", settings) for one in others} | {cell.key("other", settings)}
    assert len(keys | {cell.key("study", Settings(seeds=3))}) == 6


def test_the_pipeline_is_joined_by_id(study: Study, done: Path) -> None:
    hands = Laboratory(done, Settings(SEEDS, 3, 40))
    found = Outcome.load(hands.path(Cell(PIPELINE, "", "SP", 0, 0), study.fingerprint))
    truth = dict(zip(make_ids(150)[:120].tolist(), make_truth(150, 2)["feh"][:120].tolist(), strict=True))
    expected = [truth.get(one, np.nan) + 0.5 for one in found.id.tolist()]
    np.testing.assert_allclose(found.predicted.value[:, 0], expected)
    assert np.isnan(found.predicted.value[:, 1]).all()


def test_another_table_of_a_pipeline_is_another_cell_of_it_alone(study: Study, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    shutil.copytree(done, out)
    table = tmp_path / "sp.parquet"
    make_labels(make_ids(120), {"feh": make_truth(150, 2)["feh"][:120] + 0.1}).save(table)
    before = {path.name for path in (out / "cells").iterdir()}
    assert run(replace(study, pipelines={"SP": table}), out) == 0
    assert len({path.name for path in (out / "cells").iterdir()} - before) == 1
    offsets = [Results.load(one).scores.where(group=PIPELINE, label="feh")["median"] for one in (done, out)]
    np.testing.assert_allclose(offsets[0] - offsets[1], 0.4)


def test_results_say_what_was_found(study: Study, done: Path) -> None:
    found = Results.load(done)
    assert found.about["regimes"]["metal_poor"] == "feh <= -1"
    assert found.about["commit"] is not None
    whole = found.scores.where(group="head", label="feh", regime="metal_rich")
    untuned, tuned = (whole.where(size=size, strategy=name) for size, name in ((0, "zero_shot"), (40, "kriging")))
    assert untuned["median"][0] == pytest.approx(-0.3, abs=0.12)
    assert abs(tuned["median"][0]) < 0.15
    assert (
        set(found.predictions["id"].tolist()) == set(found.stars["id"].tolist()) == set(Stage.open(study).test(0).id)
    )
    pipeline = found.scores.where(group="pipeline", label="feh", regime="metal_poor")
    assert pipeline["median"][0] == pytest.approx(0.2)  # 0.5 above what the embeddings hold, the labels 0.3
    one = found.predictions.where(group="head", strategy="kriging", label="feh")
    poor = one.take(one["reference"] <= -1)
    score = found.scores.where(strategy="kriging", label="feh", regime="metal_poor")
    assert score["median"][0] == pytest.approx(np.median(poor["value"] - poor["reference"]), abs=1e-6)
    assert score["n"][0] == len(poor)


def test_sentences_name_the_best(done: Path) -> None:
    found = Results.load(done)
    for regime, sentence in found.about["sentences"].items():
        rows = found.scores.where(group="head", label="feh", regime=regime, size=40).rows()
        best = min(rows, key=lambda row: row["sigma"])
        leads = "wins" if best["best"] else "leads, but not significantly"
        assert sentence.startswith(
            f"{best['input']} + {best['strategy']} {leads}: it reads [Fe/H] of {best['n']} stars"
        )
        assert f"{best['sigma']:.3f}" in sentence
        assert ("having learned from 40 target stars" in sentence) == (best["strategy"] != "zero_shot")


def test_what_is_better_than_any_head_is_said_to_be() -> None:
    row = {"group": "head", "input": "fused", "strategy": "zero_shot", "size": 0, "n": 9, "sigma": 0.1, "best": True}
    row |= {"sigma_low": 0.09, "sigma_high": 0.12, "median": 0.0, "tied": True, "label": "feh", "regime": "r"}
    for sigma, told in (
        (0.05, "payne (a fit of synthetic spectra) has 0.050, less than any head"),
        (0.2, "payne (a fit of synthetic spectra) has 0.200, no less than the best head"),
    ):
        other = row | {"group": "baseline", "input": "", "strategy": "payne", "sigma": sigma, "best": False}
        said = sentences(Table.of_rows([row, other]), [Regime("r", "feh < 0")], "feh")["r"]
        assert told in said
        assert "fused + zero_shot wins: " in said
        assert "Every other head is significantly worse." in said
        assert "simulated" not in said
        said = sentences(Table.of_rows([row, other]), [Regime("r", "feh < 0")], "feh", simulated=True)["r"]
        assert f"{told} here; it fits the very model that simulated these stars" in said


def test_what_fewer_stars_give_and_what_is_as_good_is_said() -> None:
    row = {"group": "head", "n": 9, "best": False, "sigma_low": 0.09, "sigma_high": 0.12, "median": 0.01}
    row |= {"label": "feh", "regime": "r"}
    rows = [
        row | {"input": name, "strategy": strategy, "size": size, "sigma": sigma, "tied": tied}
        for name, strategy, size, sigma, tied in (
            ("fused", "full", 100, 0.1, True),
            ("fused", "lora", 100, 0.11, True),
            ("spectra", "full", 100, 0.2, False),
            ("spectra", "zero_shot", 100, 0.3, False),
            ("spectra", "lora", 50, 0.4, True),
            ("fused", "lora", 50, 0.15, True),
        )
    ]
    said = sentences(Table.of_rows(rows), [Regime("r", "feh < 0")], "feh")["r"]
    assert said.startswith(
        "fused + full leads, but not significantly: it reads [Fe/H] of 9 stars with sigma 0.100 dex"
    )
    assert "Others that no head significantly beats: fused + lora 0.110." in said
    assert (
        "The best from spectra is full with 0.200, significantly worse; without any target star has 0.300, from"
        in said
    )
    assert "Fewer target stars: 50 give 0.150 (fused + lora)." in said


def test_a_regime_without_stars_is_said_to_have_none(study: Study, done: Path) -> None:
    assert run(study, done, regime=("none=feh > 5",), overwrite=True) == 0
    assert Results.load(done).about["sentences"]["none"].startswith("Fewer than 5 tested stars")
    assert run(study, done, overwrite=True) == 0  # as the other tests find it


def test_landscapes_have_the_head_in_their_middle(done: Path) -> None:
    landscapes = Results.load(done).landscapes
    assert landscapes is not None
    one = landscapes.where(strategy="zero_shot", regime="metal_poor")
    assert len(one) == 9
    middle = one.where(a=0.0, b=0.0)["loss"][0]
    assert middle == one["loss"].min()
    assert one["loss"].max() > 2 * middle


def test_a_second_run_does_nothing(study: Study, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (done / "report.html").touch()
    before = {
        path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file() and path.name != "study.json"
    }
    assert run(study, done) == 0
    assert "nothing is left to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_was_killed_goes_on_to_the_same_results(study: Study, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    calls = []
    original = Laboratory.run

    def killed(self: Laboratory, cell: Cell, study: str) -> None:
        calls.append(cell)
        if len(calls) == 4:
            raise KeyboardInterrupt
        original(self, cell, study)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Laboratory, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            run(study, out)
    kept = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert len(kept) == 3
    assert run(study, out, resume=True) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    one, other = Results.load(out), Results.load(done)
    for name in ("sigma", "median", "cover90", "sigma_low"):
        np.testing.assert_array_equal(one.scores[name], other.scores[name])
    np.testing.assert_array_equal(one.predictions["value"], other.predictions["value"])


def test_other_regimes_need_no_new_cells(study: Study, done: Path, tmp_path: Path) -> None:
    cells = {path: path.stat().st_mtime_ns for path in (done / "cells").iterdir()}
    assert run(study, done, regime=("metal_poor", "warm=teff > 5500"), overwrite=True) == 0
    assert set(Results.load(done).scores["regime"].tolist()) == {"metal_poor", "warm"}
    assert {path: path.stat().st_mtime_ns for path in (done / "cells").iterdir()} == cells
    assert run(study, done, overwrite=True) == 0  # as the other tests find it


def test_results_of_other_settings_are_not_replaced_unasked(study: Study, done: Path, tmp_path: Path) -> None:
    report = (done / "report.html").read_bytes()
    with pytest.raises(OptionError, match=r"very_metal_poor, now warm=teff > 5500\)"):
        run(study, done, regime=("warm=teff > 5500",))
    with pytest.raises(OptionError, match=r"\(--seeds 2, now 3\); choose another --out, .* --overwrite"):
        run(study, done, seeds=3)
    about = json.loads((done / "results.json").read_text())
    old = tmp_path / "old"
    (old / "study").mkdir(parents=True)
    (old / "results.json").write_text(json.dumps({name: about[name] for name in about if name != "options"}))
    with pytest.raises(OptionError, match=r"other settings \(version 0.1.0 does not say which\)"):
        run(study, old)
    assert (done / "report.html").read_bytes() == report


def interrupted(study: Study, out: Path, **options: object) -> None:
    """A run that ends before its first cell."""

    def killed(self: Laboratory, *_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Laboratory, "run", killed)
        patch.setattr(Laboratory, "make_base", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            run(study, out, **options)  # type: ignore[arg-type]


def asked_of(out: Path, **options: object) -> BenchOptions:
    """What `run` asks for."""
    given = {"labels": ",".join(TARGETS), "inputs": "embedding", "baselines": "none", "seeds": SEEDS, **options}
    return BenchOptions(out=out, replicates=60, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("resume", [False, True])
def test_what_was_begun_with_other_settings_is_not_gone_on_with(study: Study, tmp_path: Path, resume: bool) -> None:
    out = tmp_path / "bench"
    interrupted(study, out)
    asked_of(out, resume=resume).check()
    with pytest.raises(OptionError, match=r"begun with .* settings \(--seeds 2, now 9\); give those .* --overwrite"):
        asked_of(out, seeds=9, resume=resume).check()
    asked_of(out, seeds=9, resume=resume, overwrite=True).check()
    interrupted(study, out, seeds=9, overwrite=True)
    asked_of(out, seeds=9, resume=resume).check()  # the folder is that of the run that is done now
    with pytest.raises(OptionError, match=r"begun with other settings \(--seeds 9, now 2\)"):
        asked_of(out, resume=resume).check()


def test_a_report_may_be_of_the_run_before(study: Study, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    shutil.copytree(done, out)
    interrupted(study, out, overwrite=True, seeds=3)
    with pytest.raises(OptionError, match=r"begun with other settings \(--seeds 3, now 2\)"):
        asked_of(out).check()
    asked_of(out, seeds=3, resume=True).check()
    asked_of(out, seeds=3).check()
    kept = {path.name for path in (done / "cells").iterdir()}
    assert kept <= {path.name for path in (out / "cells").iterdir()}


def test_settings_that_cannot_work_are_not_kept_in_mind(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    interrupted(study, out)
    with pytest.raises(SpectraBridgeError):
        bench(asked_of(out, model="no-such-model", overwrite=True))
    asked_of(out).check()


def test_a_regime_may_ask_for_a_label_that_is_not_given(study: Study, done: Path, tmp_path: Path) -> None:
    stage = Stage.open(replace(study, targets=("teff",)))
    assert TARGETS[0] == "feh"
    whole = Stage.open(study)
    np.testing.assert_array_equal(stage.columns(["feh"])["feh"], whole.reference[:, 0])
    rows = stage.split(0)[1]
    poor = Regime("poor", "feh <= -1")
    shown = summary.stars(stage, 1, [poor])
    assert shown["feh"].tolist() == whole.reference[rows, 0].tolist()
    value = stage.reference[rows]
    said = summary.Tested(rows, value, value - 1, value + 1, value[None], 0.0, 0)
    table = summary.score(stage, {("head", "fused", "full", 0): said}, [poor], 50)
    assert table["label"].tolist() == ["teff"]
    assert table["n"].tolist() == [np.count_nonzero(whole.reference[rows, 0] <= -1)]
    with pytest.raises(OptionError, match="asks for 'mass'"):
        summary.score(stage, {}, [Regime("heavy", "mass > 1")], 50)


def test_methods_of_other_packages_are_known_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Point:
        def load(self) -> None:
            baselines.baseline("constant")(lambda task: None)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(baselines, "BASELINES", dict(baselines.BASELINES))
    monkeypatch.setattr(baselines, "entry_points", lambda group: [Point()] if group.endswith(".baselines") else [])
    BenchOptions(out=tmp_path / "bench", baselines="knn,constant").check()
    with pytest.raises(OptionError, match=r"names 'magic'; known are ridge_pca64, .*constant, none"):
        BenchOptions(out=tmp_path / "bench", baselines="magic").check()


def test_strategies_of_other_packages_are_known_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(adapters.ADAPTERS, "mine", adapters.load_adapters()["kriging"])
    scale = BenchOptions(out=tmp_path / "bench", adapters="zero_shot,mine").scale
    assert scale.adapters == ("zero_shot", "mine")


def test_a_call_that_comes_to_nothing_leaves_no_folder(tmp_path: Path) -> None:
    for options in (
        {"suite": "real", "data": tmp_path / "none"},
        {"model": "no-such-model"},
        {"labels": "feh,mass"},
        {"regime": ("heavy=mass > 1",)},
        {
            "sizes": "10",
            "source": (tmp_path,),
            "source_labels": (tmp_path,),
            "target": tmp_path,
            "target_labels": tmp_path,
        },
    ):
        out = tmp_path / "runs" / "bench"
        with pytest.raises(SpectraBridgeError):
            bench(BenchOptions(out=out, **options))  # type: ignore[arg-type]
        assert not out.exists(), options


def test_what_is_recorded_is_told(done: Path, tmp_path: Path) -> None:
    found, board = Results.load(done), tmp_path / "board.jsonl"
    found = replace(found, about={**found.about, "commit": "abcdef0123456789"})
    told = record(found, board)
    assert told.startswith(f"'{board}', line 1: suite {found.about['suite']} at commit abcdef012345, the best head of")
    assert "has this run" in record(found, board)
    assert len(board.read_text().splitlines()) == 1
    with pytest.raises(OptionError, match="needs a git checkout"):
        record(replace(found, about={**found.about, "commit": None}), board)


def test_a_run_of_changed_code_is_not_recorded(done: Path, tmp_path: Path) -> None:
    found = Results.load(done)
    board = tmp_path / "board.jsonl"
    with pytest.raises(OptionError, match="commit first"):
        record(replace(found, about={**found.about, "commit": "abc+changes"}), board)
    record(replace(found, about={**found.about, "commit": "abc"}), board)
    line = json.loads(board.read_text())
    best = line["best"]["feh"]["metal_poor"]
    rows = found.scores.where(group="head", label="feh", regime="metal_poor", size=40)
    assert best["sigma"] == pytest.approx(rows["sigma"].min(), abs=1e-4)
    assert line["commit"] == "abc"
    assert line["settings"]["seeds"] == found.about["options"]["seeds"]
    assert str(done) not in board.read_text()  # which means nothing elsewhere


def test_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    table = Table.of_rows(
        [{"name": "a", "n": 1, "x": np.nan, "best": True}, {"name": "b", "n": 2, "x": 1.5, "best": False}]
    )
    table.save(tmp_path / "t.parquet", {"version": "0"})
    found = Table.load(tmp_path / "t.parquet")
    assert found.where(name="b").rows() == [{"name": "b", "n": 2, "x": 1.5, "best": False}]
    assert np.isnan(found["x"][0])
    with pytest.raises(InputError, match="no results"):
        Results.load(tmp_path)


def test_what_errors_share_is_told_from_what_is_their_own(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(2)
    common = 0.3 * random.normal(size=4000)
    errors = np.stack([common + 0.1 * random.normal(size=4000), common + 0.4 * random.normal(size=4000)])
    errors[:, :20] += 30
    scatter, found, low, high = shared(errors, 0)
    np.testing.assert_allclose(scatter, [0.316, 0.5], rtol=0.05)
    assert low < found < high
    assert found == pytest.approx(0.3, rel=0.05)
    assert shared(random.normal(size=(2, 400)), 0)[1] < 0.4
    assert limits(LimitsOptions(folder=done, one="embedding:zero_shot", other="embedding:kriging")) == 0
    printed = capsys.readouterr().out
    assert "feh      metal_poor" in printed
    with pytest.raises(InputError, match="no predictions of 'fused:zero_shot'"):
        limits(LimitsOptions(folder=done))


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    model = describe_model("tiny-views")
    assert model is not None
    with pytest.raises(InputError, match=r"lamost/fits' does not exist; .* --data"):
        Workshop(tmp_path, TARGETS, model).real(tmp_path / "data", 10, 10, 10)


@pytest.mark.slow
def test_real_stars_are_made_ready(tmp_path: Path) -> None:
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (data / "miles" / "fits").is_dir():
        pytest.skip(f"the real data are not at hand ({data})")
    model = describe_model("tiny-views")
    assert model is not None
    labels = ("teff", "logg", "feh", "alphafe")
    stage = Stage.open(Workshop(tmp_path, labels, model).real(data, 100, 1000, 40))
    assert len(stage.source) > 1200
    assert len(stage.tuning(100, 0)) == 100
    assert 200 < len(stage.test(0)) < 400
    assert np.isfinite(stage.reference[:, 2]).mean() > 0.99
    # the simulated spectra count as much as all the real ones
    simulated = np.isfinite(stage.source.y[:, 3])
    assert stage.source.worth[simulated].sum() == pytest.approx(stage.source.worth[~simulated].sum(), rel=1e-6)


@pytest.mark.slow
def test_twins_have_truth_bounds_and_pipelines(tmp_path: Path) -> None:
    model = describe_model("tiny-views")
    assert model is not None
    labels = ("teff", "logg", "feh", "alphafe")
    study = Workshop(tmp_path, labels, model).twins("quick", 60, 20, 40)
    stage = Stage.open(study)
    error = stage.target.y - stage.reference
    assert 0.01 < np.nanstd(error[:, 2]) < 0.2  # labels have errors, the truth has none
    assert (stage.bounds > 0).all()
    assert 0.002 < np.median(stage.bounds[:, 2]) < 0.1
    assert set(study.pipelines) == {"SP", "RVSpecfit"}
    again = Workshop(tmp_path, labels, model).twins("quick", 60, 20, 40)
    assert again.fingerprint == study.fingerprint
