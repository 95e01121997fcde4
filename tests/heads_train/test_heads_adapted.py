"""heads-train --base: heads that are taken to another survey, and labels that are not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_made import TARGETS, make_sample, make_truth
from stores_made import BIG_ID, make_spectra
from training_made import (
    STRATEGIES,
    TRAIN,
    N,
    adapted,
    changed_labels,
    made,
    options,
    refused,
    save_labels,
)

from heads import Head, TrainOptions, adapt_head
from heads.bundle import Bundle, load_head
from heads.ranges import tell_outside
from heads.score import scores
from heads.sources import open_all, parts
from heads.train import plain, train
from stores import Labels
from stores.errors import InputError, OptionError

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
