"""A head as a user has it: predictions, flags, and a folder that is whole, unchanged, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_made import SMALL, TARGETS, WIDTH, make_head, make_sample, make_stores
from stores_made import BIG_ID

import heads
import heads.head
from heads import Head, Prediction, adapt_head, train_head
from heads.bundle import Bundle, load_head
from heads.novelty import NEIGHBOURS, Novelty
from stores import Flag
from stores.errors import ModelError, OptionError, StoreError

N, EMPTY = 150, 7


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("stores"), N, empty=(EMPTY,))


@pytest.fixture(scope="module")
def head(paths: dict[str, Path]) -> Head:
    return make_head("embedding", paths)


@pytest.fixture(scope="module")
def adapted() -> dict[str, Head]:
    """Heads that hold all kinds of files, by strategy."""
    base = train_head(make_sample(80), {"input": "embedding"}, SMALL).head
    return {
        name: adapt_head(base, make_sample(40, seed=3), name, SMALL).head for name in ("lora", "kriging", "residual")
    }


def x_of(n: int = 50) -> Any:
    return np.random.default_rng(0).normal(size=(n, WIDTH)).astype(np.float32)


# -- predictions -------------------------------------------------------------------------------------------


def test_predictions_are_of_the_rows_asked_for(
    head: Head, paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = head.predict(embeddings=paths["embeddings"])
    assert isinstance(every, Prediction)
    assert len(every) == N
    assert every.id.tolist() == [BIG_ID + i for i in range(N)]
    assert every.members["feh"].shape == (2, N)
    monkeypatch.setattr(heads.head, "ROWS_AT_ONCE", 20)
    for rows in (slice(None), slice(30, 75), np.array([100, 3, 3, 149]), np.arange(N)[::-1]):
        some = head.predict(embeddings=paths["embeddings"], rows=rows)
        np.testing.assert_array_equal(some.id, every.id[rows])
        np.testing.assert_array_equal(some.flags, every.flags[rows])
        for name in ("value", "sigma", "low", "high", "low90", "high90"):
            for target in TARGETS:
                found, wanted = getattr(some, name)[target], getattr(every, name)[target][rows]
                np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(some.members["teff"], every.members["teff"][:, rows], rtol=1e-5)
    assert len(head.predict(embeddings=paths["embeddings"], rows=slice(0, 0))) == 0


def test_parts_do_not_grow_with_the_rows(head: Head, paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads.head, "ROWS_AT_ONCE", 40)
    stores = heads.InputStores.open("embedding", None, paths["embeddings"])
    assert [len(part) for part in head.parts(stores)] == [40, 40, 40, 30]


def test_the_value_is_the_mean_of_the_members(head: Head, paths: dict[str, Path]) -> None:
    found = head.predict(embeddings=paths["embeddings"])
    for target in TARGETS:
        np.testing.assert_allclose(found.value[target], found.members[target].mean(axis=0), rtol=1e-12)
        usable = np.arange(N) != EMPTY
        assert (found.sigma[target][usable] > 0).all()
        for low, high in (("low90", "low"), ("low", "high"), ("high", "high90")):
            assert (getattr(found, low)[target][usable] <= getattr(found, high)[target][usable]).all()


def test_a_spectrum_without_pixels_has_no_parameters(head: Head, paths: dict[str, Path]) -> None:
    found = head.predict(embeddings=paths["embeddings"])
    assert found.flags[EMPTY] & Flag.NO_VALID_PIXELS
    for name in ("value", "sigma", "low", "high", "low90", "high90", "members"):
        for target in TARGETS:
            missing = np.isnan(getattr(found, name)[target])
            assert missing[..., EMPTY].all()
            assert missing.sum() == missing[..., EMPTY].size


def test_heads_are_in_the_units_of_the_labels(head: Head) -> None:
    found = head.predict_features(x_of(), np.arange(50), np.zeros(50, np.uint32))
    assert 3500 < np.median(found.value["teff"]) < 7500
    assert -4 < np.median(found.value["feh"]) < 1


def test_stores_that_are_not_as_the_heads_are_refused(head: Head, paths: dict[str, Path]) -> None:
    with pytest.raises(OptionError, match="needs a store of embeddings"):
        head.predict(paths["spectra"])
    other = replace(head, identity={**head.identity, "preprocessing": "beef"})
    with pytest.raises(StoreError, match=r"has preprocessing .*, and the head learned from preprocessing beef"):
        other.predict(embeddings=paths["embeddings"])


# -- flags -------------------------------------------------------------------------------------------------


def test_spectra_unlike_all_are_flagged_and_few_others() -> None:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(5, 40))

    def made(n: int) -> Any:
        return (random.normal(size=(n, 5)) @ mixing + 0.1 * random.normal(size=(n, 40))).astype(np.float32)

    novelty = Novelty.of(made(5000), 0)
    fresh, far = made(10_000), made(200) + 12.0
    assert 0.003 < novelty.unlike(fresh).mean() < 0.025  # about one per cent
    assert novelty.unlike(far).all()
    assert novelty.unlike(8 * random.normal(size=(200, 40)).astype(np.float32)).all()


def test_distances_are_to_the_nearest_neighbours() -> None:
    random = np.random.default_rng(1)
    x, asked = (random.normal(size=(n, 6)).astype(np.float32) for n in (60, 9))
    novelty = Novelty.of(x, 0)
    every = np.sqrt(((asked[:, None] - x[None]) ** 2).sum(axis=2))  # 6 axes turn the space only
    np.testing.assert_allclose(novelty.distance(asked), np.sort(every, axis=1)[:, :NEIGHBOURS].mean(axis=1), rtol=1e-3)


def test_flags_are_added_to_those_of_the_spectra(head: Head) -> None:
    low = np.full((1, WIDTH), 8.0, np.float32)
    flags = np.array([int(Flag.LOW_SNR)], np.uint32)
    found = head.predict_features(low, np.array([1]), flags)
    assert found.flags[0] & Flag.LOW_SNR
    assert found.flags[0] & Flag.OUT_OF_DISTRIBUTION
    assert flags[0] == Flag.LOW_SNR


def test_values_beyond_the_labels_are_flagged(head: Head) -> None:
    x = x_of()
    found = head.predict_features(x, np.arange(50), np.zeros(50, np.uint32))
    edge = np.sort(found.value["feh"])[40]
    ranges = np.array([[-10.0, edge + 1e-9], [0.0, 1e5]])
    ranges[0, 0] = edge - 100.0  # a margin of 0.02 of the range lies beyond it
    margin = 0.02 * 100
    beyond = found.value["feh"] > edge + 1e-9 + margin
    flags = replace(head, label_range=ranges).predict_features(x, found.id, np.zeros(50, np.uint32)).flags
    np.testing.assert_array_equal((flags & Flag.OUTSIDE_LABELS) > 0, beyond)
    narrow = np.array([[edge - 1e-3, edge + 1e-3], [0.0, 1e5]])
    flags = replace(head, label_range=narrow).predict_features(x, found.id, np.zeros(50, np.uint32)).flags
    np.testing.assert_array_equal((flags & Flag.OUTSIDE_LABELS) > 0, np.abs(found.value["feh"] - edge) > 1.04e-3)


def test_an_adapted_head_knows_the_stars_of_the_target() -> None:
    """Stars of the target that lie apart from those of the source are unlike to the base, and not to its heir."""
    source, target = make_sample(200), make_sample(200, seed=3)
    values, valid = target.blocks["embedding"]
    target = replace(target, blocks={"embedding": (values + 6.0, valid)}, y=target.y + np.array([1.0, 0.0]))
    base = train_head(source, {"input": "embedding"}, SMALL).head
    heir = adapt_head(base, target, "zero_shot", SMALL).head
    x = base.scalings["embedding"](*target.blocks["embedding"])
    assert base.novelty.unlike(x).mean() > 0.9
    assert heir.novelty.unlike(x).mean() < 0.05
    assert heir.novelty.unlike(base.scalings["embedding"](*source.blocks["embedding"])).mean() < 0.05
    assert heir.label_range[0, 0] == base.label_range[0, 0]
    assert heir.label_range[0, 1] == target.y[:, 0].max()


# -- the folder --------------------------------------------------------------------------------------------


def test_a_head_comes_back_to_the_bit(head: Head, tmp_path: Path) -> None:
    head.save_pretrained(tmp_path / "a" / "head")
    back = Head.from_pretrained(tmp_path / "a" / "head")
    assert back.fingerprint == head.fingerprint
    assert (back.targets, back.identity, back.about) == (head.targets, head.identity, head.about)
    one, other = (each.predict_features(x_of(), np.arange(50), np.zeros(50, np.uint32)) for each in (head, back))
    np.testing.assert_array_equal(one.flags, other.flags)
    for name in ("value", "sigma", "low", "high", "low90", "high90", "members"):
        for target in TARGETS:
            np.testing.assert_array_equal(getattr(one, name)[target], getattr(other, name)[target])
    told = json.loads((tmp_path / "a" / "head" / "head.json").read_text())
    assert {"version", "commit", "command", "created", "about", "fingerprint"} <= set(told)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["head"]


def test_nothing_is_a_pickle(adapted: dict[str, Head], tmp_path: Path) -> None:
    for name, one in adapted.items():
        one.save_pretrained(tmp_path / name)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
        assert not any(path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04") for path in files)


FINGERPRINTED: dict[str, Callable[[Head], Head]] = {
    "targets": lambda one: replace(one, targets=("feh", "logg")),
    "identity": lambda one: replace(one, identity={**one.identity, "preprocessing": "beef"}),
    "calibration": lambda one: replace(one, calibration=replace(one.calibration, factor=one.calibration.factor * 2)),
    "label_range": lambda one: replace(one, label_range=one.label_range + 1),
    "threshold": lambda one: replace(one, novelty=replace(one.novelty, threshold=1.0)),
    "references": lambda one: replace(one, novelty=replace(one.novelty, references=one.novelty.references + 1)),
    "label_scaling": lambda one: replace(
        one, label_scaling=replace(one.label_scaling, mean=one.label_scaling.mean + 1)
    ),
    "members": lambda one: replace(one, members=one.members[::-1]),
}


@pytest.mark.parametrize("what", list(FINGERPRINTED))
def test_whatever_decides_predictions_and_flags_is_in_the_fingerprint(what: str, head: Head) -> None:
    assert FINGERPRINTED[what](head).fingerprint != head.fingerprint
    assert replace(head, about={"other": 1}).fingerprint == head.fingerprint


def refused(folder: Path) -> str:
    """The one sentence that is said of a folder."""
    with pytest.raises(ModelError) as caught:
        Head.from_pretrained(folder)
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1
    assert sentence.endswith(".")
    assert str(folder) in sentence
    return sentence


@pytest.mark.parametrize("name", ["lora", "kriging", "residual"])
def test_every_file_that_is_gone_cut_or_changed_is_one_sentence(
    name: str, adapted: dict[str, Head], tmp_path: Path
) -> None:
    adapted[name].save_pretrained(tmp_path / "head")
    files = sorted(path for path in (tmp_path / "head").rglob("*") if path.is_file())
    assert len(files) >= 6
    for number, file in enumerate(files):
        for fault in ("gone", "cut", "changed"):
            folder = tmp_path / f"{number}-{fault}"
            shutil.copytree(tmp_path / "head", folder)
            broken = folder / file.relative_to(tmp_path / "head")
            content = broken.read_bytes()
            if fault == "gone":
                broken.unlink()
            elif fault == "cut":
                broken.write_bytes(content[: len(content) // 2])
            elif file.name == "head.json":
                told = json.loads(content)
                broken.write_text(json.dumps({**told, "novelty_threshold": 1e9}))
            else:
                broken.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            sentence = refused(folder)
            if file.name != "head.json":
                assert str(file.relative_to(tmp_path / "head")) in sentence
                assert ("is missing" if fault == "gone" else "was changed after it was written") in sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no head"),
        ("[]", "holds no head of format 1"),
        ('{"kind": "model"}', "holds no head of format 1"),
        ('{"kind": "bundle"}', "holds a head for each label, not one for all; read it by heads.load_head"),
        ('{"kind": "head", "format": 99}', "holds no head of format 1"),
        ('{"kind": "head", "format": 1}', "is damaged"),
    ],
)
def test_a_folder_of_something_else_is_one_sentence(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "head.json").write_text(content)
    assert sentence in refused(tmp_path)
    assert "holds no head and is none of the built-in ones (lamost)" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no head (no readable head.json); make one with heads-train" in refused(tmp_path / "empty")


def test_a_name_is_the_folder_that_is_there_or_the_head_inside_the_package(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inside = Head.from_pretrained("lamost")
    assert {"teff", "logg", "feh", "alphafe"} == set(inside.targets)
    (tmp_path / "lamost").mkdir()  # of spectra, say
    assert load_head("lamost").fingerprint == inside.fingerprint
    head.save_pretrained("lamost")
    assert Head.from_pretrained("lamost").fingerprint == load_head("lamost").fingerprint == head.fingerprint


@pytest.mark.parametrize(
    "lost", ["targets", "network", "members", "blocks", "calibration", "novelty_threshold", "files"]
)
@pytest.mark.parametrize("value", [None, "nonsense", -1, []])
def test_whatever_head_json_lacks_is_one_sentence(lost: str, value: Any, head: Head, tmp_path: Path) -> None:
    head.save_pretrained(tmp_path / "head")
    told = json.loads((tmp_path / "head" / "head.json").read_text())
    (tmp_path / "head" / "head.json").write_text(json.dumps({**told, lost: value}))
    refused(tmp_path / "head")


def test_a_head_that_fails_to_be_written_leaves_the_old_one(
    adapted: dict[str, Head], head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any one of its files, or between the renames."""
    import safetensors.numpy
    import safetensors.torch

    head.save_pretrained(tmp_path / "head")
    writes: list[int] = []

    def dying(at: int, whole: Any) -> Any:
        def write(*given: Any, **named: Any) -> Any:
            writes.append(1)
            if len(writes) > at:
                raise KeyboardInterrupt
            return whole(*given, **named)

        return write

    for at in range(8):
        writes.clear()
        with monkeypatch.context() as patch:
            patch.setattr(safetensors.torch, "save_file", dying(at, safetensors.torch.save_file))
            patch.setattr(safetensors.numpy, "save_file", dying(at, safetensors.numpy.save_file))
            patch.setattr(Path, "write_text", dying(at, Path.write_text))
            patch.setattr(Path, "rename", dying(at, Path.rename) if at < 7 else dying_once(Path.rename))
            with pytest.raises(KeyboardInterrupt):
                adapted["residual"].save_pretrained(tmp_path / "head")
        assert Head.from_pretrained(tmp_path / "head").fingerprint == head.fingerprint
        assert [path.name for path in tmp_path.iterdir()] == ["head"]
    adapted["residual"].save_pretrained(tmp_path / "head")
    assert Head.from_pretrained(tmp_path / "head").adapter == "residual"
    assert [path.name for path in tmp_path.iterdir()] == ["head"]


def dying_once(rename: Any) -> Any:
    """Of two renames, the second fails."""
    calls: list[Any] = []

    def second(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        renamed: Path = rename(path, target)
        return renamed

    return second


def test_a_folder_of_other_things_is_not_replaced(head: Head, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("thesis", "file"):
        with pytest.raises(OptionError, match=f"{name}' exists and holds no head; choose another folder"):
            head.save_pretrained(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == (tmp_path / "file").read_text() == "precious"
    with pytest.raises(OptionError, match="thesis' exists and holds no head"):
        Bundle({"one": head}, {"feh": "one"}).save_pretrained(tmp_path / "thesis")
    (tmp_path / "empty").mkdir()
    head.save_pretrained(tmp_path / "empty")
    assert Head.from_pretrained(tmp_path / "empty").fingerprint == head.fingerprint


@pytest.mark.parametrize(
    "content", ["[]", "{}", "7", '{"of": [], "about": {}}', '{"of": {"feh": "gone"}, "about": {}}']
)
def test_a_bundle_that_is_damaged_is_one_sentence(content: str, head: Head, tmp_path: Path) -> None:
    bundle = Bundle({"one": head, "other": head}, {"feh": "one", "teff": "other"}, {"picked": "by hand"})
    bundle.save_pretrained(tmp_path / "both")
    back = load_head(tmp_path / "both")
    assert isinstance(back, Bundle)
    assert (back.fingerprint, back.of, back.about) == (bundle.fingerprint, bundle.of, bundle.about)
    told = json.loads((tmp_path / "both" / "head.json").read_text())
    new = json.loads(content)
    (tmp_path / "both" / "head.json").write_text(json.dumps({**told, **new} if new and new != 7 else new))
    for read in (load_head, Bundle.from_pretrained):
        with pytest.raises(ModelError) as caught:
            read(tmp_path / "both")
        assert len(str(caught.value).splitlines()) == 1
        assert str(tmp_path / "both") in str(caught.value)


@pytest.mark.parametrize("name", ["head.json", "scaling.safetensors", "members/1/model.safetensors"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_damaged_part_of_a_bundle_is_named_with_the_bundle(
    name: str, gone: bool, head: Head, tmp_path: Path
) -> None:
    Bundle({"one": head, "other": head}, {"feh": "one", "teff": "other"}).save_pretrained(tmp_path / "both")
    broken = tmp_path / "both" / "parts" / "other" / name
    broken.unlink() if gone else broken.write_bytes(broken.read_bytes()[:-9])
    fault = "is missing" if gone else "was changed after it was written"
    with pytest.raises(ModelError) as caught:
        load_head(tmp_path / "both")
    assert str(caught.value) == (
        f"the heads in '{tmp_path / 'both'}' are damaged (parts/other/{name} {fault}); copy or make them again."
    )


# -- the package -------------------------------------------------------------------------------------------

NAMES = {
    "Adapter",
    "Head",
    "InputStores",
    "Prediction",
    "Sample",
    "TrainOptions",
    "adapt_head",
    "adapter",
    "load_head",
    "train_head",
}


def test_public_names_are_these() -> None:
    assert set(heads.__all__) == NAMES
    assert NAMES.issubset(dir(heads))
    for name in NAMES:
        assert getattr(heads, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'heads' has no attribute 'nothing'"):
        heads.nothing  # noqa: B018


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = ["zarr", "astropy", "scipy", "faiss", "pyarrow", "torch", "peft", "embed"]
    script = "import sys, heads, heads.adapters, heads.predict\n"
    script += f"found = [name for name in {heavy} if name in sys.modules]\nassert not found, found\n"
    subprocess.run([sys.executable, "-c", script], check=True)
