"""heads-train: what is kept apart stays apart, what was made is told, and what cannot work is one sentence."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_made import TARGETS, make_features, make_labels, make_sample, make_truth
from safetensors import SafetensorError
from stores_made import BIG_ID, make_embeddings, make_spectra

from heads import Head, InputStores, Sample, TrainOptions, adapt_head
from heads.adapters import load_adapters
from heads.bundle import Bundle, load_head
from heads.fit import FitOptions
from heads.ranges import tell_outside
from heads.score import scores
from heads.sources import Source, open_all, parts
from heads.train import HeadTrainOptions, main, plain, train
from stores import Labels, SpectraBridgeError
from stores.errors import InputError, ModelError, OptionError, StoreError
from stores.labelling import LabelOptions, label

N, TRAIN = 80, 64  # spectra, of which the last are in the part `test`
WILD = {"feh": 9.0, "teff": 9e4}
STRATEGIES = [name for name, strategy in load_adapters().items() if not strategy.encodes]  # of embeddings


def make_survey(
    folder: Path, name: str, first: int = 0, *, seed: int = 0, sky: int = 0, test: slice = slice(TRAIN, N)
) -> dict[str, Path]:
    """An embedding store of N stars with ids from BIG_ID + first on, and their labels.

    seed: of labels and noise; sky: of the positions, so that stores with the same sky are of the same stars
    """
    truth = make_truth(N, seed)
    ids = BIG_ID + first + np.arange(N)
    vectors = make_features(truth, seed)
    store = make_embeddings(folder / f"{name}.zarr", N, vectors=vectors, ids=ids, seed=sky)
    save_labels(folder / f"{name}.parquet", ids, truth, test)
    return {"store": store.path, "labels": folder / f"{name}.parquet"}


def save_labels(path: Path, ids: Any, truth: dict[str, Any], test: slice | None) -> Path:
    split = np.zeros(len(ids), dtype=np.int64)
    split[slice(0, 0) if test is None else test] = 1
    replace(make_labels(ids, truth), split=split, parts=("train", "test")).save(path)
    return path


def changed_labels(survey: dict[str, Path], rows: Any, folder: Path, values: dict[str, float] = WILD) -> Path:
    """Another table with other labels for some rows."""
    labels = Labels.load(survey["labels"])
    changed = {name: value.copy() for name, value in labels.values.items()}
    for name, value in values.items():
        changed[name][rows] = value
    path = folder / f"changed-{survey['labels'].name}"
    replace(labels, values=changed).save(path)
    return path


def options(out: Path, *surveys: dict[str, Path], **more: Any) -> HeadTrainOptions:
    given: dict[str, Any] = {
        "input": "embedding",
        "embeddings": tuple(survey["store"] for survey in surveys),
        "labels": tuple(str(survey["labels"]) for survey in surveys),
        "targets": ",".join(TARGETS),
        "seeds": 2,
        "epochs": 3,
        "out": out,
    }
    return HeadTrainOptions(**(given | more))


def made(out: Path, *surveys: dict[str, Path], **more: Any) -> Head:
    assert train(options(out, *surveys, **more)) == 0
    head = load_head(out)
    assert isinstance(head, Head)
    return head


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Path]:
    return make_survey(folder, "one")


@pytest.fixture(scope="module")
def other(folder: Path) -> dict[str, Path]:
    """Other spectra of the same stars, of which others are in the part `test`."""
    return make_survey(folder, "other", 1000, seed=5, test=slice(0, 10))


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> dict[str, Path]:
    """Spectra of other stars."""
    return make_survey(folder, "elsewhere", 2000, seed=7, sky=1)


@pytest.fixture(scope="module")
def base(folder: Path, one: dict[str, Path]) -> Path:
    made(folder / "base", one)
    return folder / "base"


def adapted(base: Path, **more: Any) -> dict[str, Any]:
    """Options that take a head to another survey."""
    return {"input": None, "targets": None, "epochs": None, "base": base, **more}


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


# -- to another survey -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy(
    name: str, base: Path, elsewhere: dict[str, Path], one: dict[str, Path], tmp_path: Path
) -> None:
    replay = {"replay_embeddings": (one["store"],), "replay_labels": (str(one["labels"]),)}
    replayed = replay if name == "anchored" else {}
    head = made(tmp_path / "head", elsewhere, **adapted(base, adapter=name, epochs=3.0), **replayed)
    source = Head.from_pretrained(base)
    sources = open_all("embedding", (), [elsewhere["store"]], [str(elsewhere["labels"])])
    old = open_all("embedding", (), [one["store"]], [str(one["labels"])]) if replayed else []
    found = parts(sources, TARGETS, replay=old)
    wanted = adapt_head(source, found.training, name, TrainOptions(seeds=2, epochs=3.0), replay=found.replay)
    assert head.fingerprint == wanted.head.fingerprint
    assert (head.targets, head.identity) == (source.targets, source.identity)
    assert head.about["base"]["fingerprint"] == source.fingerprint
    assert head.about["base"]["about"]["spectra"] == TRAIN
    assert "history" not in head.about["base"]["about"]
    assert head.about["options"]["adapter"] == name
    assert head.about["test"] == plain(scores(head, found.test))
    assert head.about["weights"] == {"trained": wanted.trained, "total": wanted.total}
    assert len(head.about["replay"]) == len(old)
    assert (tmp_path / "head" / "curves.png").exists() == (name not in ("zero_shot", "kriging"))


def test_auto_picks_for_each_label(
    base: Path, elsewhere: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(options(tmp_path / "head", elsewhere, **adapted(base, adapter="auto", epochs=2.0))) == 0
    bundle = load_head(tmp_path / "head")
    assert isinstance(bundle, Bundle)
    said = capsys.readouterr()
    picked = bundle.about["picked"]
    assert picked == bundle.of
    assert set(picked) == set(TARGETS)
    assert set(picked.values()) <= set(STRATEGIES)
    assert set(bundle.about["held_out_error"]) == set(STRATEGIES)
    assert said.out.count("*") == len(TARGETS)
    assert f"picked: {', '.join(f'{label} by {name}' for label, name in picked.items())}." in said.err
    assert bundle.about["test"]["feh"]["all"]["n"] == N - TRAIN
    assert bundle.about["options"]["adapter"] == "auto"
    assert bundle.about["base"]["fingerprint"] == Head.from_pretrained(base).fingerprint
    for name, part in bundle.heads.items():
        drawn = tmp_path / "head" / "parts" / name / "curves.png"
        assert drawn.exists() == bool(part.about["history"]["step"])


def test_auto_does_not_look_at_the_stars_kept_apart(base: Path, elsewhere: dict[str, Path], tmp_path: Path) -> None:
    wild = {**elsewhere, "labels": changed_labels(elsewhere, slice(TRAIN, N), tmp_path)}
    found = []
    for number, survey in enumerate((elsewhere, wild)):
        train(options(tmp_path / str(number), survey, **adapted(base, adapter="auto", epochs=1.0)))
        found.append(load_head(tmp_path / str(number)))
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].about["held_out_error"] == found[1].about["held_out_error"]
    assert found[0].about["test"] != found[1].about["test"]


def test_replay_is_read_only_where_it_is_of_use(
    base: Path, elsewhere: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay = {"replay_embeddings": (elsewhere["store"],), "replay_labels": ("nowhere.parquet",)}
    made(tmp_path / "head", elsewhere, **adapted(base, adapter="kriging"), **replay)
    assert "note: the strategy 'kriging' replays no stars" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"'nowhere\.parquet' does not exist"):
        train(options(tmp_path / "other", elsewhere, **adapted(base, adapter="anchored"), **replay))


def test_a_base_that_knows_a_fingerprint_only_is_completed(
    base: Path, elsewhere: dict[str, Path], tmp_path: Path
) -> None:
    """Heads of earlier versions keep no more of the preparation of their spectra."""
    old = Head.from_pretrained(base)
    whole = old.identity["preprocessing"]
    old.identity = {**old.identity, "preprocessing": whole["fingerprint"]}
    old.save_pretrained(tmp_path / "old")
    head = made(tmp_path / "head", elsewhere, **adapted(tmp_path / "old", adapter="zero_shot"))
    assert head.identity["preprocessing"] == whole


# -- labels that the base does not know, or that are not there ----------------------------------------------


def bare_labels(survey: dict[str, Path], folder: Path, *, column: bool = False) -> dict[str, Path]:
    """The same survey without the label teff, or with a column of it that is empty."""
    labels = Labels.load(survey["labels"])
    truth = {"feh": labels.values["feh"], **({"teff": np.full(N, np.nan)} if column else {})}
    return {**survey, "labels": save_labels(folder / "bare.parquet", labels.id, truth, slice(TRAIN, N))}


def test_labels_beyond_those_of_the_base_are_told_and_left_out(
    base: Path, elsewhere: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low, high = Head.from_pretrained(base).label_range[1]
    labels = Labels.load(elsewhere["labels"])
    values = {name: np.clip(value, -2.5, 1e5) for name, value in labels.values.items()}
    values["teff"] = np.clip(values["teff"], low, high)
    replace(labels, values=values).save(tmp_path / "tame.parquet")
    tame = {**elsewhere, "labels": tmp_path / "tame.parquet"}
    before = made(tmp_path / "before", tame, **adapted(base, adapter="full", epochs=1.0))
    assert before.about["outside_base"] == {}
    assert "warning" not in capsys.readouterr().err
    values["teff"][:7] = 12000.0
    values["teff"][[7, TRAIN]] = high + 0.01 * (high - low), 2e4  # hardly beyond; kept apart
    values["feh"][8:10] = -6.0
    replace(labels, values=values).save(tmp_path / "hot.parquet")
    survey = {**elsewhere, "labels": tmp_path / "hot.parquet"}
    wild = made(tmp_path / "wild", survey, **adapted(base, adapter="full", epochs=1.0))
    said = capsys.readouterr().err
    assert (
        f"warning: 7 of {TRAIN} labels teff ({values['teff'][:TRAIN].min():.0f} to 12000 K) are outside {low:.0f} to "
        f"{high:.0f} K, where '{base}' learned; if they are not wanted, --teff-range {low:.0f} {high:.0f} leaves them "
        "out.\n"
    ) in said
    assert f"warning: 2 of {TRAIN} labels feh (-6.00 to " in said
    [option] = [word.rstrip(".") for word in said.split() if word.startswith("feh=")]
    assert wild.about["outside_base"] == {"feh": 2, "teff": 7}
    for strategy, warned in (("zero_shot", True), ("auto", True), ("scratch", False)):
        train(options(tmp_path / strategy, survey, **adapted(base, adapter=strategy, epochs=1.0)))
        assert ("warning: 7 of" in capsys.readouterr().err) == warned
    more: dict[str, Any] = {"teff_range": (low - 100, high + 100), "ranges": (option,)}
    kept = made(tmp_path / "kept", survey, **adapted(base, adapter="full", epochs=1.0), **more)
    assert "warning" not in capsys.readouterr().err
    assert kept.about["spectra"] == TRAIN - 9
    assert kept.about["options"]["ranges"] == [option]


@pytest.mark.parametrize(
    ("stars", "beyond", "warned"), [(4, 0.05, False), (4, 0.15, True), (6, 0.05, True), (100, 0.01, False)]
)
def test_labels_hardly_beyond_the_base_are_warned_of_if_many(
    stars: int, beyond: float, warned: bool, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than a twentieth of the stars, or beyond by more than a tenth of the range."""
    head = Head.from_pretrained(base)
    low, high = head.label_range[1]
    y = np.column_stack([np.full(100, head.label_range[0].mean()), np.full(100, (low + high) / 2)])
    y[:stars, 1] = low - beyond * (high - low)
    found = tell_outside(head, "base", replace(make_sample(100), y=y))
    assert found == ({} if beyond < 0.02 else {"teff": stars})
    assert (f"warning: {stars} of 100 labels teff" in capsys.readouterr().err) == warned


def test_what_an_adapted_head_keeps_is_told(
    base: Path, elsewhere: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeps = "note: an adapted head keeps the members of its base and their layers; {} is not used.\n"
    given: dict[str, Any] = {"widths": (5,), "seeds": 7}
    head = made(tmp_path / "kept", elsewhere, **adapted(base, adapter="zero_shot"), **given)
    said = capsys.readouterr().err
    assert keeps.format("--seeds") in said
    assert keeps.format("--widths") in said
    assert len(head.members) == len(Head.from_pretrained(base).members)
    usual: dict[str, Any] = {"widths": (1024, 512, 64), "seeds": 5}
    made(tmp_path / "usual", elsewhere, **adapted(base, adapter="zero_shot"), **usual)
    assert "keeps the members" not in capsys.readouterr().err
    made(tmp_path / "anew", elsewhere, **adapted(base, adapter="scratch"), **(given | {"seeds": 2}))
    assert "keeps the members" not in capsys.readouterr().err


@pytest.mark.parametrize("beyond", ["unknown", "unusable"])
def test_stars_outside_a_range_may_be_of_no_use(beyond: str, tmp_path: Path) -> None:
    """A temperature that is not known lies neither inside nor beyond, and a spectrum may be empty."""
    truth = {name: value.copy() for name, value in make_truth(30).items()}
    truth["teff"] = np.clip(truth["teff"], 4600.0, 6400.0)
    truth["teff"][4] = np.nan if beyond == "unknown" else 9000.0
    empty = (4,) if beyond == "unusable" else ()
    store = make_spectra(tmp_path / "s.zarr", 30, empty=empty).path
    ids = BIG_ID + np.arange(30)
    labels = save_labels(tmp_path / "l.parquet", ids, truth, None)
    found = parts(open_all("spectra", [store], (), [str(labels)]), TARGETS, teff_range=(4500.0, 6500.0))
    assert set(ids) - set(found.training.id.tolist()) == {ids[4]}
    assert found.border is not None
    assert len(found.border.beyond) == 0


def test_stars_without_a_label_are_in_every_range_of_it(one: dict[str, Path], tmp_path: Path) -> None:
    labels = Labels.load(one["labels"])
    values = {name: column.copy() for name, column in labels.values.items()}
    source = {name: column.copy() for name, column in labels.source.items()}
    values["teff"][:10], source["teff"][:10] = np.nan, -1
    replace(labels, values=values, source=source).save(tmp_path / "some.parquet")
    sources = open_all("embedding", (), [one["store"]], [str(tmp_path / "some.parquet")])
    chosen = parts(sources, ("feh",), ranges={"teff": (5200.0, 5800.0), "feh": (-2.0, 9.0)})
    teff, feh = values["teff"], values["feh"]
    inside = (np.isnan(teff) | ((teff >= 5200) & (teff <= 5800))) & (feh >= -2)
    assert chosen.training.id.tolist() == labels.id[:TRAIN][inside[:TRAIN]].tolist()
    assert chosen.test.id.tolist() == labels.id[TRAIN:][inside[TRAIN:]].tolist()
    assert 0 < inside[:10].sum() < 10


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("name", [*STRATEGIES, "auto"])
def test_a_label_that_is_not_there_stays_that_of_the_base(
    name: str,
    column: bool,
    base: Path,
    elsewhere: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bare = bare_labels(elsewhere, tmp_path, column=column)
    assert train(options(tmp_path / "head", bare, **adapted(base, adapter=name, epochs=3.0))) == 0
    said = capsys.readouterr().err
    assert (
        f"note: none of the stars to learn from has a label teff; the head gives it as '{base}' does, with its "
        "uncertainties.\n"
    ) in said
    head, before = load_head(tmp_path / "head"), Head.from_pretrained(base)
    assert set(head.targets) == set(before.targets)
    found, old = (one.predict(embeddings=elsewhere["store"]) for one in (head, before))
    for what in ("value", "sigma", "low90", "high"):
        np.testing.assert_array_equal(getattr(found, what)["teff"], getattr(old, what)["teff"])
    if name not in ("zero_shot", "auto"):
        assert isinstance(head, Bundle)
        assert head.of == {"feh": name, "teff": "zero_shot"}
    # what there are labels of is judged by them
    assert not np.array_equal(found.sigma["feh"], old.sigma["feh"])
    assert [target for target, measured in head.about["test"].items() if measured] == ["feh"]


def test_a_part_flags_only_the_labels_that_it_gives(base: Path, elsewhere: dict[str, Path], tmp_path: Path) -> None:
    """What becomes of teff in the part that has not seen any is in no catalogue, and no reason for a flag."""
    bare = bare_labels(elsewhere, tmp_path)
    train(options(tmp_path / "head", bare, **adapted(base, adapter="full", epochs=1.0)))
    head = load_head(tmp_path / "head")
    assert isinstance(head, Bundle)
    low, high = Head.from_pretrained(base).label_range.T
    for name, own in (("full", 0), ("zero_shot", 1)):
        far = np.array([high + (high - low)])
        assert head.heads[name].outside(far).tolist() == [[own == 0, own == 1]]


def test_without_iron_a_head_is_adapted_too(base: Path, elsewhere: dict[str, Path], tmp_path: Path) -> None:
    labels = Labels.load(elsewhere["labels"])
    truth = {"teff": labels.values["teff"]}
    bare = {**elsewhere, "labels": save_labels(tmp_path / "teff.parquet", labels.id, truth, slice(TRAIN, N))}
    assert train(options(tmp_path / "head", bare, **adapted(base, adapter="auto", epochs=1.0))) == 0
    head = load_head(tmp_path / "head")
    assert isinstance(head, Bundle)
    assert head.of["feh"] == "zero_shot"


def test_usual_targets_are_those_that_there_are(
    one: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = made(tmp_path / "head", one, targets=None)
    assert head.targets == ("teff", "feh")
    assert "note: the labels have no logg or alphafe; the head is for teff, feh.\n" in capsys.readouterr().err
    empty = bare_labels(one, tmp_path, column=True)
    assert made(tmp_path / "feh", empty, targets=None).targets == ("feh",)
    refused(options(tmp_path / "asked", one, targets="teff,logg"), OptionError, "has no label 'logg'")
    labels = Labels.load(one["labels"])
    save_labels(tmp_path / "age.parquet", labels.id, {"age": labels.values["teff"]}, None)
    unusual = {**one, "labels": tmp_path / "age.parquet"}
    refused(options(tmp_path / "none", unusual, targets=None), OptionError, "has no label 'teff' (it has age)")


# -- what is of no use -------------------------------------------------------------------------------------


def test_stores_that_the_head_does_not_read_are_told(
    base: Path, elsewhere: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spectra = make_spectra(tmp_path / "s.zarr", N, ids=BIG_ID + 2000 + np.arange(N)).path
    replay = {"replay_store": (spectra,), "replay_embeddings": (elsewhere["store"],), "replay_labels": ("x",)}
    made(tmp_path / "head", elsewhere, store=(spectra,), **adapted(base, adapter="zero_shot"), **replay)
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if "is not used" in line] == [
        f"note: the head reads the input embedding; {flag} is not used." for flag in ("--store", "--replay-store")
    ]
    made(tmp_path / "new", elsewhere, store=(spectra,), input="spectra", epochs=1)
    assert "note: the head reads the input spectra; --embeddings is not used.\n" in capsys.readouterr().err
    made(tmp_path / "both", elsewhere, store=(spectra,), input="fused", epochs=1)
    assert "is not used" not in capsys.readouterr().err


def test_a_strategy_without_stars_to_replay_says_so(
    base: Path, elsewhere: dict[str, Path], one: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "note: the strategy 'anchored' replays stars of the source survey, and --replay-labels names none"
    replay = {"replay_embeddings": (one["store"],), "replay_labels": (str(one["labels"]),)}
    calls: list[tuple[str, dict[str, Any], bool]] = [
        ("anchored", {}, True),
        ("anchored", replay, False),
        ("auto", {}, True),
        ("kriging", {}, False),
    ]
    for name, more, told in calls:
        given = adapted(base, adapter=name, epochs=1.0, overwrite=True)
        assert train(options(tmp_path / "head", elsewhere, **given, **more)) == 0
        assert (words in capsys.readouterr().err) == told


# -- what cannot work --------------------------------------------------------------------------------------


def refused(given: HeadTrainOptions, kind: type[SpectraBridgeError], *words: str) -> None:
    """Nothing is trained or written, and one sentence is said."""
    before = sorted(given.out.parent.iterdir()) if given.out.parent.is_dir() else []

    def trained(*args: Any, **more: Any) -> None:
        raise AssertionError("something was trained")

    with pytest.MonkeyPatch.context() as patch:
        for place in ("heads.fit.fit", "heads.adapters.scratch.fit"):
            patch.setattr(place, trained)
        with pytest.raises(kind) as caught:
            train(given)
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1
    assert sentence.endswith(".")
    for word in words:
        assert word in sentence
    if given.out.parent.is_dir():
        assert sorted(given.out.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"targets": ","}, OptionError, ("--targets ',' must name some labels",)),
        ({"targets": "feh,feh"}, OptionError, ("--targets 'feh,feh'", "each once")),
        ({"targets": "feh,vsini"}, OptionError, ("one.parquet' has no label 'vsini' (it has feh, teff)",)),
        ({"adapter": "kriging"}, OptionError, ("--adapter and --base go together",)),
        ({"embeddings": ()}, OptionError, ("name the stores with --store, --embeddings or both",)),
        ({"store": (Path("a"), Path("b"))}, OptionError, ("as many of the one as of the other",)),
        ({"labels": ()}, OptionError, ("--labels names 0 tables for 1 store;",)),
        ({"labels": ("a", "b")}, OptionError, ("--labels names 2 tables for 1 store;",)),
        ({"labels": ("gone.parquet",)}, InputError, ("'gone.parquet' does not exist",)),
        ({"labels": ("nothing:gone.csv",)}, OptionError, ("nothing",)),
        ({"labels": ("table:gone.csv",)}, InputError, ("'gone.csv' does not exist",)),
        ({"embeddings": (Path("gone.zarr"),)}, OptionError, ("'gone.zarr' does not exist",)),
        ({"input": "light"}, OptionError, ("input 'light' is unknown; known ones are spectra, embedding, fused",)),
        ({"input": "fused"}, OptionError, ("needs a store of spectra; name it with --store",)),
        ({"shares": (1.0, 2.0)}, OptionError, ("--shares needs a number above 0 for each of the 1 stores",)),
        ({"shares": (0.0,)}, OptionError, ("--shares",)),
        ({"shares": (float("nan"),)}, OptionError, ("--shares",)),
        ({"calibrate_on": (Path("two.zarr"),)}, OptionError, ("--calibrate-on 'two.zarr' is none of the stores",)),
        ({"teff_range": (6000.0, 5000.0)}, OptionError, ("--teff-range 6000 5000 must rise",)),
        ({"teff_range": (1.0, 2.0)}, InputError, ("--teff-range; widen it",)),
        (
            {"teff_range": (5490.0, 5510.0)},
            InputError,
            ("labelled stars are too few to learn from; 10 are the least",),
        ),
        ({"seeds": 0}, OptionError, ("--seeds 0 must be 1 or more.",)),
        ({"seeds": -1}, OptionError, ("--seeds -1 must be 1 or more.",)),
        ({"seed": -1}, OptionError, ("--seed -1 must be 0 or more.",)),
        ({"balance": 2.0}, OptionError, ("balance 2 must lie between 0 and 1",)),
        ({"epochs": 0.0}, OptionError, ("--epochs 0 must be a number above 0.",)),
        ({"epochs": float("nan")}, OptionError, ("--epochs nan must be a number above 0.",)),
        ({"epochs": float("inf")}, OptionError, ("--epochs inf must be a number above 0.",)),
        ({"learning_rate": -1.0}, OptionError, ("--learning-rate -1 must be a number above 0.",)),
        ({"batch_size": 1}, OptionError, ("--batch-size 1 must be 2 or more.",)),
        ({"ranges": ("feh",)}, OptionError, ("--ranges feh is not LABEL=LOW:HIGH",)),
        ({"ranges": ("feh=1:0",)}, OptionError, ("--ranges feh=1:0 is not LABEL=LOW:HIGH with LOW below HIGH",)),
        ({"ranges": ("teff=4000:7500",)}, OptionError, ("name the range of teff with --teff-range",)),
        ({"ranges": ("feh=0:1", "feh=0:2")}, OptionError, ("--ranges names 'feh' twice",)),
        ({"ranges": ("vsini=0:1",)}, OptionError, ("has no label 'vsini' (it has feh, teff)",)),
        ({"ranges": ("feh=7:8",)}, InputError, ("no star of", "in those --ranges; widen them")),
        ({"replay_labels": ("a",)}, OptionError, ("--replay-labels is for taking a --base to another survey",)),
        ({"out": Path(".")}, OptionError, ("names no folder of its own",)),
    ],
)
def test_options_that_cannot_work_are_refused(
    changes: dict[str, Any],
    kind: type[SpectraBridgeError],
    words: tuple[str, ...],
    one: dict[str, Path],
    tmp_path: Path,
) -> None:
    refused(replace(options(tmp_path / "head", one), **changes), kind, *words)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"adapter": "magic"}, OptionError, ("--adapter 'magic' is unknown; known ones are auto, scratch,",)),
        (
            {"adapter": "krigin"},
            OptionError,
            ("'krigin' is unknown (perhaps you meant kriging); known ones are auto",),
        ),
        ({"base": Path("gone")}, ModelError, ("'gone' holds no head",)),
        ({"targets": "feh,vsini"}, OptionError, ("base' gives feh, teff; leave --targets out",)),
        ({"targets": "feh"}, OptionError, ("base' gives feh, teff; leave --targets out",)),
        ({"input": "spectra"}, OptionError, ("base' reads the input embedding, not spectra",)),
        ({"replay_labels": ("a",)}, OptionError, ("--replay-store, --replay-embeddings or both",)),
        ({"replay_embeddings": (Path("a"),)}, OptionError, ("--replay-labels names 0 tables for 1 store;",)),
        (
            {"replay_embeddings": (Path("a"),), "replay_labels": ("a",)},
            OptionError,
            ("'a' does not exist; check the path",),
        ),
    ],
)
def test_adaptations_that_cannot_work_are_refused(
    changes: dict[str, Any],
    kind: type[SpectraBridgeError],
    words: tuple[str, ...],
    base: Path,
    elsewhere: dict[str, Path],
    tmp_path: Path,
) -> None:
    refused(options(tmp_path / "head", elsewhere, **(adapted(base, adapter="residual") | changes)), kind, *words)


def test_a_base_of_several_heads_is_refused(base: Path, elsewhere: dict[str, Path], tmp_path: Path) -> None:
    head = Head.from_pretrained(base)
    Bundle({"a": head}, dict.fromkeys(TARGETS, "a")).save_pretrained(tmp_path / "bundle")
    given = options(tmp_path / "head", elsewhere, **adapted(tmp_path / "bundle", adapter="auto"))
    refused(given, OptionError, "bundle' joins several heads; start from a single one")


def test_a_base_that_was_adapted_is_refused(base: Path, elsewhere: dict[str, Path], tmp_path: Path) -> None:
    made(tmp_path / "once", elsewhere, **adapted(base, adapter="kriging"))
    given = options(tmp_path / "twice", elsewhere, **adapted(tmp_path / "once", adapter="lora"))
    refused(given, OptionError, "once' was adapted by 'kriging' already")


def test_labels_with_none_of_the_base_are_refused(base: Path, elsewhere: dict[str, Path], tmp_path: Path) -> None:
    logg = {"logg": np.linspace(1.0, 4.0, N)}
    save_labels(tmp_path / "logg.parquet", BIG_ID + 2000 + np.arange(N), logg, None)
    survey = {**elsewhere, "labels": tmp_path / "logg.parquet"}
    given = options(tmp_path / "head", survey, **adapted(base, adapter="full"))
    refused(given, OptionError, "logg.parquet' has no label 'feh' (it has logg)")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_no_numbers_are_unknown(value: float, one: dict[str, Path], tmp_path: Path) -> None:
    labels = Labels.load(one["labels"])
    values = {name: column.copy() for name, column in labels.values.items()}
    source = {name: column.copy() for name, column in labels.source.items()}
    values["teff"][:10], source["teff"][:10] = value, -1
    replace(labels, values=values, source=source).save(tmp_path / "l.parquet")
    head = made(tmp_path / "head", {**one, "labels": tmp_path / "l.parquet"})
    assert head.about["labelled"] == {"feh": TRAIN, "teff": TRAIN - 10}
    assert np.isfinite(head.label_range).all()


@pytest.mark.parametrize("value", [-9999.0, 0.0, 1e6])
def test_absurd_labels_are_refused(value: float, one: dict[str, Path], tmp_path: Path) -> None:
    absurd = changed_labels(one, np.array([4, 7]), tmp_path, {"teff": value})
    given = options(tmp_path / "head", {**one, "labels": absurd})
    refused(given, InputError, f"2 numbers that cannot be a teff, such as {value:g} K of id {BIG_ID + 4}")
    assert train(replace(given, targets="feh")) == 0  # what is not asked for does not matter


def test_labels_of_another_survey_are_refused(
    one: dict[str, Path], elsewhere: dict[str, Path], tmp_path: Path
) -> None:
    given = options(tmp_path / "head", {**one, "labels": elsewhere["labels"]})
    words = (f"none of the {N} labelled ids is in", "one.zarr'", "of the same survey")
    refused(given, InputError, *words)
    refused(replace(given, teff_range=(4000.0, 7500.0), ranges=("feh=-3:0",)), InputError, *words)


def test_too_few_stars_are_refused(one: dict[str, Path], tmp_path: Path) -> None:
    labels = Labels.load(one["labels"])
    labels.take(np.arange(9)).save(tmp_path / "nine.parquet")
    given = options(tmp_path / "head", {**one, "labels": tmp_path / "nine.parquet"})
    refused(given, InputError, "9 labelled stars are too few to learn from; 10 are the least")
    labels.take(np.arange(TRAIN, N)).save(tmp_path / "test.parquet")
    given = options(tmp_path / "head", {**one, "labels": tmp_path / "test.parquet"})
    refused(given, InputError, "0 labelled stars are too few")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a1,-1,5000", "a2,-2,5100"], ("labels.csv': id 'a1' is not a 64-bit integer, and neither is any other",)),
        (["1,-1,5000", "2,-2,5100"], ("no spectrum of the store has a label from table",)),
        ([f"{BIG_ID},-1,5000", f"{BIG_ID},-2,5100"], ("too few",)),
        ([f"{BIG_ID},bad,5000"], ("labels.csv': column feh holds no numbers",)),
        ([f"{BIG_ID},-1"], ("labels.csv': row 1 has 2 fields, not 3",)),
        ([], ("labels.csv' has no rows",)),
    ],
)
def test_tables_that_do_not_do_are_refused(
    rows: list[str], words: tuple[str, ...], one: dict[str, Path], tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["id,feh,teff", *rows]) + "\n")
    refused(options(tmp_path / "head", one, labels=(f"table:{table}",)), InputError, *words)


def test_ids_that_are_no_integers_or_stand_twice_are_refused(one: dict[str, Path], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(one["labels"])
    names = pa.array([f"star {i}" for i in range(N)])
    twice = pa.array([BIG_ID] * 2 + [BIG_ID + i for i in range(2, N)])
    for name, column, words in (
        ("text", names, "id 'star 0' is not a 64-bit integer"),
        ("twice", twice, f"id {BIG_ID} has two rows of labels"),
        ("float", pa.array(np.arange(N, dtype=float)), "ids are of type float64"),
    ):
        path = tmp_path / f"{name}.parquet"
        changed = table.set_column(0, "id", column).replace_schema_metadata(table.schema.metadata)
        pq.write_table(changed, path)
        refused(options(tmp_path / "head", one, labels=(str(path),)), InputError, f"{name}.parquet'", words)


def test_stores_that_are_not_alike_are_refused(one: dict[str, Path], base: Path, tmp_path: Path) -> None:
    from stores import EmbeddingStore

    other = make_survey(tmp_path, "alien", 3000)
    attributes = EmbeddingStore.open(other["store"])._group.attrs
    whole = dict(attributes["spectrabridge"])
    changes: dict[str, Any] = {
        "grid": {**whole["grid"], "n_pix": 7},
        "preprocessing": {**whole["preprocessing"], "fingerprint": "beef"},
        "model": {"name": "m2", "fingerprint": "beef"},
    }
    for name, value in changes.items():
        attributes["spectrabridge"] = {**whole, name: value}
        given = options(tmp_path / "head", one, other)
        refused(given, StoreError, f"alien.zarr' has {name}", "one.zarr'", "as that one was made")
        given = options(tmp_path / "head", other, **adapted(base, adapter="zero_shot"))
        refused(given, StoreError, f"alien.zarr' has {name}", "the head learned from")
        replay = {"replay_embeddings": (other["store"],), "replay_labels": (str(other["labels"]),)}
        given = options(tmp_path / "head", one, **adapted(base, adapter="anchored"), **replay)
        refused(given, StoreError, f"alien.zarr' has {name}", "the head learned from")


def test_an_out_that_cannot_be_is_refused_before_anything_is_trained(one: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    refused(options(tmp_path / "file", one, overwrite=True), OptionError, "file' is a file; name a folder")
    refused(options(tmp_path / "full", one), OptionError, "full' exists; choose another --out or add --overwrite")
    refused(options(tmp_path / "full", one, overwrite=True), OptionError, "full' exists and holds no head")
    refused(options(tmp_path / "file" / "head", one), OptionError, "file' is a file; choose another --out")
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("where", ["weights", "json", "curves"])
def test_a_full_disk_is_one_sentence_and_can_be_mended(
    where: str,
    one: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_room(*args: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def no_room_for_text(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_room_for_a_picture(canvas: Any, path: Path) -> None:
        no_room_for_text(path, "PNG")

    head = tmp_path / "head"
    words = ["heads-train", "--input", "embedding", "--targets", "feh", "--out", str(head), "--epochs", "1"]
    words += ["--embeddings", str(one["store"]), "--labels", str(one["labels"]), "--seeds", "1"]
    monkeypatch.setattr("sys.argv", words)
    with monkeypatch.context() as patch:
        if where == "weights":
            patch.setattr("safetensors.torch.save_file", no_room)
        elif where == "json":
            patch.setattr(Path, "write_text", no_room_for_text)
        else:
            patch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", no_room_for_a_picture)
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"heads-train: no space left on device ('{head}'); mend that and run the same command again."
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert (head / "curves.png").is_file()


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
