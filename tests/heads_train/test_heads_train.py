"""heads-train: what is kept apart stays apart, and what was made is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_made import TARGETS, make_truth
from stores_made import BIG_ID, make_spectra
from training_made import (
    TRAIN,
    N,
    changed_labels,
    made,
    options,
    refused,
    save_labels,
)

from heads import Head, InputStores, Sample, TrainOptions
from heads.fit import FitOptions
from heads.score import scores
from heads.sources import Source, open_all, parts
from heads.train import main, plain
from stores import Labels
from stores.errors import InputError, OptionError
from stores.labelling import LabelOptions, label

# -- a new head --------------------------------------------------------------------------------------------


def test_a_head_is_trained_judged_and_told(
    one: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = made(tmp_path / "head", one, epochs=60)
    said = capsys.readouterr()
    assert f"{TRAIN} spectra of {TRAIN} stars to learn from, {N - TRAIN} kept apart." in said.err
    stores = InputStores.open("embedding", embeddings=one["store"])
    sample = Sample.join(stores, Labels.load(one["labels"]), TARGETS)
    measured = scores(head, sample.take(np.arange(TRAIN, N)))
    assert head.about["test"] == plain(measured)
    assert measured["feh"]["all"]["n"] == N - TRAIN
    assert measured["feh"]["all"]["r2"] > 0.8  # it has learned
    assert f"{measured['feh']['all']['sigma']:.3f}" in said.out
    assert (head.targets, head.identity) == (TARGETS, stores.identity)
    assert head.about["options"]["targets"] == "feh,teff"
    assert head.about["options"]["epochs"] == 60
    assert head.about["options"]["embeddings"] == [str(one["store"])]
    assert (head.about["spectra"], head.about["stars"]) == (TRAIN, TRAIN)
    assert head.about["labelled"] == {"feh": TRAIN, "teff": TRAIN}
    [source] = head.about["sources"]
    assert source["labels"]["fingerprint"] == Labels.load(one["labels"]).fingerprint
    assert source["stores"]["embeddings"]["fingerprint"] == stores.main.fingerprint
    weights = sum(value.numel() for value in head.members[0].parameters())
    assert head.about["weights"] == {"trained": weights, "total": weights}
    assert f"{weights:,} of {weights:,} weights" in said.err
    told = json.loads((tmp_path / "head" / "head.json").read_text())
    assert {"command", "commit", "version", "created"} <= set(told)
    assert (tmp_path / "head" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_bits(one: dict[str, Path], tmp_path: Path) -> None:
    first, again = (made(tmp_path / name, one) for name in ("first", "again"))
    assert first.fingerprint == again.fingerprint
    assert made(tmp_path / "head", one, seed=1).fingerprint != first.fingerprint


def test_an_older_head_is_replaced_on_demand(one: dict[str, Path], tmp_path: Path) -> None:
    first = made(tmp_path / "head", one)
    assert made(tmp_path / "head", one, seed=1, overwrite=True).fingerprint != first.fingerprint


def test_without_a_part_test_nothing_is_kept_apart(
    one: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = replace(Labels.load(one["labels"]), split=None, parts=())
    labels.save(tmp_path / "whole.parquet")
    head = made(tmp_path / "head", {**one, "labels": tmp_path / "whole.parquet"})
    assert (head.about["spectra"], head.about["test"]) == (N, {})
    said = capsys.readouterr()
    assert "none kept apart, as none is in a part 'test'" in said.err
    assert "stars kept apart" not in said.out


def test_labels_of_a_catalogue_are_those_of_stores_labels(one: dict[str, Path], tmp_path: Path) -> None:
    truth = make_truth(N)
    lines = [f"{BIG_ID + i},{truth['feh'][i]!r},{truth['teff'][i]!r}" for i in range(N)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["id,feh,teff", *(line.replace("np.float64(", "").replace(")", "") for line in lines)]))
    label(LabelOptions(path=one["store"], catalogue=(f"table:{table}",), out=tmp_path / "labels.parquet"))
    written = made(tmp_path / "written", {**one, "labels": tmp_path / "labels.parquet"})
    direct = made(tmp_path / "direct", one, labels=(f"table:{table}",))
    assert direct.fingerprint == written.fingerprint
    kept = int(Labels.load(tmp_path / "labels.parquet").in_part("test").sum())
    assert 5 <= kept < 12
    assert (direct.about["spectra"], direct.about["test"]["feh"]["all"]["n"]) == (N - kept, kept)


# -- what is kept apart ------------------------------------------------------------------------------------


def test_stars_kept_apart_are_never_trained_on(one: dict[str, Path], tmp_path: Path) -> None:
    plain_head = made(tmp_path / "plain", one)
    wild = changed_labels(one, slice(TRAIN, N), tmp_path)
    head = made(tmp_path / "wild", {**one, "labels": wild})
    assert head.fingerprint == plain_head.fingerprint
    assert head.about["test"] != plain_head.about["test"]
    seen = changed_labels(one, slice(TRAIN - 1, N), tmp_path)
    assert made(tmp_path / "seen", {**one, "labels": seen}).fingerprint != plain_head.fingerprint


def test_stars_kept_apart_in_one_store_are_not_trained_on_in_another(
    one: dict[str, Path], other: dict[str, Path], tmp_path: Path
) -> None:
    """Stars 64 to 79 are kept apart in one store, 0 to 9 in the other, and all are of the same sky."""
    both = made(tmp_path / "both", one, other)
    assert (both.about["spectra"], both.about["stars"]) == (2 * 54, 54)
    assert both.about["test"]["feh"]["all"]["n"] == 16 + 10
    twins = {"one": np.arange(10), "other": np.arange(TRAIN, N)}  # of the stars that the other store keeps apart
    wild = [
        {**survey, "labels": changed_labels(survey, twins[name], tmp_path)}
        for name, survey in (("one", one), ("other", other))
    ]
    assert made(tmp_path / "wild", *wild).fingerprint == both.fingerprint
    seen = {**other, "labels": changed_labels(other, np.array([TRAIN - 1]), tmp_path)}
    assert made(tmp_path / "seen", one, seen).fingerprint != both.fingerprint


def test_spectra_without_position_are_kept_apart_by_their_id(folder: Path, tmp_path: Path) -> None:
    """The same spectra in two stores of one survey."""
    paths = [make_spectra(tmp_path / f"{name}.zarr", 40).path for name in ("a", "b")]  # row 3 has no position
    ids, truth = BIG_ID + np.arange(40), make_truth(40)
    tables = [save_labels(tmp_path / "a.parquet", ids, truth, slice(0, 5))]
    tables += [save_labels(tmp_path / "b.parquet", ids, truth, None)]
    found = parts(open_all("spectra", paths, (), [str(table) for table in tables]), TARGETS)
    assert np.isnan(found.test.ra[3])
    assert found.test.id.tolist() == ids[:5].tolist()
    assert set(found.training.id.tolist()) == set(ids[5:].tolist())
    assert len(found.training) == 70


def test_replayed_stars_are_none_of_those_kept_apart(one: dict[str, Path], other: dict[str, Path]) -> None:
    target, source = (
        Source.open(InputStores.open("embedding", embeddings=survey["store"]), str(survey["labels"]))
        for survey in (one, other)
    )
    found = parts([target], TARGETS, replay=[source])
    assert found.replay is not None
    assert found.replay.id.tolist() == [BIG_ID + 1000 + i for i in range(10, TRAIN)]
    assert found.training.id.tolist() == [BIG_ID + i for i in range(10, TRAIN)]
    assert found.test.id.tolist() == [BIG_ID + i for i in range(TRAIN, N)]


def test_a_label_may_come_from_some_of_the_stores_only(
    one: dict[str, Path], elsewhere: dict[str, Path], tmp_path: Path
) -> None:
    feh = {"feh": make_truth(N, 7)["feh"]}
    save_labels(tmp_path / "feh.parquet", BIG_ID + 2000 + np.arange(N), feh, None)
    specs = [str(one["labels"]), str(tmp_path / "feh.parquet")]
    sources = open_all("embedding", (), [one["store"], elsewhere["store"]], specs)
    training = parts(sources, ("feh", "teff")).training
    known = np.isfinite(training.y)
    assert known[:, 0].all()
    assert known[:TRAIN, 1].all()
    assert not known[TRAIN:, 1].any()
    assert len(training) == TRAIN + N
    with pytest.raises(OptionError, match=r"has no label 'logg'"):
        parts(sources, ("feh", "logg"))


def test_stores_count_as_they_are_told_to(one: dict[str, Path], elsewhere: dict[str, Path], tmp_path: Path) -> None:
    surveys = (one, elsewhere)
    sources = open_all("embedding", (), [s["store"] for s in surveys], [str(s["labels"]) for s in surveys])
    worth = parts(sources, TARGETS, shares=(3.0, 1.0)).training.worth
    assert worth[:TRAIN].sum() == pytest.approx(3 * worth[TRAIN:].sum())
    assert worth.mean() == pytest.approx(1.0)
    assert set(parts(sources, TARGETS).training.worth.tolist()) == {1.0}
    alike, shared = (made(tmp_path / str(i), *surveys, shares=s) for i, s in enumerate(((), (3.0, 1.0))))
    assert alike.fingerprint != shared.fingerprint


def test_the_stars_of_some_stores_set_the_uncertainties(
    one: dict[str, Path],
    elsewhere: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    surveys = (one, elsewhere)
    every = made(tmp_path / "every", *surveys)
    assert "set the uncertainties" not in capsys.readouterr().err
    assert every.about["calibrated_on"] == [str(survey["store"]) for survey in surveys]
    # however its path is written
    monkeypatch.chdir(elsewhere["store"].parent)
    named = made(tmp_path / "named", *surveys, calibrate_on=(Path("elsewhere.zarr"),))
    assert f"\n{TRAIN} of the spectra to learn from set the uncertainties.\n" in capsys.readouterr().err
    assert named.about["calibrated_on"] == [str(elsewhere["store"])]
    assert named.about["options"]["calibrate_on"] == ["elsewhere.zarr"]
    told = json.loads((tmp_path / "named" / "head.json").read_text())["calibration"]["count"][0]
    sources = open_all("embedding", (), [s["store"] for s in surveys], [str(s["labels"]) for s in surveys])
    held = parts(sources, TARGETS).training.folds(5, 0) < 2  # each of two members does not see one of five folds
    assert every.calibration.count[0].tolist() == [held.sum()] * 2
    assert told == [held[TRAIN:].sum()] * 2
    # a label that those stars lack is told
    labels = Labels.load(elsewhere["labels"])
    truth = {"feh": labels.values["feh"], "teff": np.full(N, np.nan)}
    bare = save_labels(tmp_path / "bare.parquet", labels.id, truth, slice(TRAIN, N))
    sparse = {"store": elsewhere["store"], "labels": bare}
    made(tmp_path / "sparse", one, sparse, calibrate_on=(elsewhere["store"],))
    assert "note: none of those has a label teff; there all stars set them.\n" in capsys.readouterr().err


def test_stores_without_a_star_to_learn_from_cannot_calibrate(
    one: dict[str, Path], elsewhere: dict[str, Path], tmp_path: Path
) -> None:
    apart = Labels.load(elsewhere["labels"])
    replace(apart, split=np.ones(N, dtype=np.int64)).save(tmp_path / "apart.parquet")
    given = {"store": elsewhere["store"], "labels": tmp_path / "apart.parquet"}
    wrong = options(tmp_path / "head", one, given, calibrate_on=(elsewhere["store"],))
    refused(wrong, InputError, "no star of the stores of --calibrate-on is learned from")


def test_only_stars_of_a_range_of_temperatures(one: dict[str, Path], tmp_path: Path) -> None:
    teff = make_truth(N)["teff"]
    inside = (teff > 5000) & (teff < 5800)
    head = made(tmp_path / "head", one, teff_range=(5000.0, 5800.0), targets="feh")
    assert head.about["spectra"] == np.count_nonzero(inside[:TRAIN])
    assert head.about["test"]["feh"]["all"]["n"] == np.count_nonzero(inside[TRAIN:])


# -- how it is trained -------------------------------------------------------------------------------------


def test_what_is_not_asked_for_is_the_strategys_own() -> None:
    own = FitOptions(epochs=7, batch_size=32, learning_rate=2e-4, least_steps=100, most_steps=600, pull=5.0)
    assert TrainOptions().fit_of(own) == own
    assert TrainOptions(learning_rate=1e-5).fit_of(own) == replace(own, learning_rate=1e-5)
    assert TrainOptions(batch_size=8).fit_of(own) == replace(own, batch_size=8)
    asked = TrainOptions(epochs=2.0).fit_of(own)
    assert (asked.epochs, asked.pull, asked.batch_size) == (2.0, 5.0, 32)
    assert asked.steps(64) == 4  # as many passes as were asked for: 600 and 100 are bounds of its own number
    assert replace(asked, epochs=1000.0).steps(64) == 2000
    assert TrainOptions(fit=own, epochs=2.0).fit_of(FitOptions()) == asked


@pytest.mark.parametrize(
    ("changes", "steps"), [({"epochs": 4.0}, 4), ({"epochs": 4.0, "batch_size": 16}, 13), ({"epochs": 0.1}, 1)]
)
def test_epochs_and_batches_are_as_asked(
    changes: dict[str, Any], steps: int, one: dict[str, Path], tmp_path: Path
) -> None:
    """A member sees four fifths of 64 stars: 51 or 52."""
    head = made(tmp_path / "head", one, **changes)
    assert head.about["history"]["step"][-1] == steps
    assert len(head.about["history"]["training"][-1]) == 2


def test_the_learning_rate_is_as_asked(one: dict[str, Path], tmp_path: Path) -> None:
    slow, fast = (made(tmp_path / str(rate), one, learning_rate=rate) for rate in (1e-9, 1e-2))
    moved = [head.about["history"]["held_out"] for head in (slow, fast)]
    assert moved[0] != moved[1]
    # weights that hardly move lose to none of the states before them by much
    assert np.ptp([check[0] for check in moved[0]]) < np.ptp([check[0] for check in moved[1]])


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_takes_several_stores(
    one: dict[str, Path], elsewhere: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["heads-train", "--input", "embedding", "--targets", "feh, teff", "--out", str(tmp_path / "head")]
    words += ["--embeddings", str(one["store"]), str(elsewhere["store"]), "--shares", "2", "1", "--seeds", "2"]
    words += ["--labels", str(one["labels"]), str(elsewhere["labels"]), "--epochs", "2", "--batch-size", "32"]
    monkeypatch.setattr("sys.argv", [*words, "--learning-rate", "0.001"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    head = Head.from_pretrained(tmp_path / "head")
    assert (head.about["options"]["shares"], head.about["spectra"]) == ([2.0, 1.0], 2 * TRAIN)
    told = json.loads((tmp_path / "head" / "head.json").read_text())
    assert told["command"].startswith("heads-train --input embedding")
    asked = {"seeds": 2, "epochs": 2.0, "learning_rate": 1e-3, "batch_size": 32, "shares": (2.0, 1.0)}
    same = made(tmp_path / "same", one, elsewhere, **asked)
    assert same.fingerprint == head.fingerprint
