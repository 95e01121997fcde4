"""heads-train: what cannot work is one sentence, before anything is trained."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_made import TARGETS
from safetensors import SafetensorError
from stores_made import BIG_ID
from training_made import (
    TRAIN,
    N,
    adapted,
    changed_labels,
    made,
    make_survey,
    options,
    refused,
    save_labels,
)

from heads import Head
from heads.bundle import Bundle
from heads.train import main, train
from stores import Labels, SpectraBridgeError
from stores.errors import InputError, ModelError, OptionError, StoreError

# -- what cannot work --------------------------------------------------------------------------------------


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
