"""stores-verify finds damage of any kind and tells it in sentences."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stores_made import make_batch, make_embeddings, make_spectra, make_vectors, write_spectra_shard

import stores.verify
from stores import SpectraStore
from stores.errors import SpectraBridgeError, StoreError
from stores.store import KEY
from stores.verify import VerifyOptions, verify

N_FILES = 3 * 8 + 8 + 1 + 3 + 1  # data, columns, shards, markers, root


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_spectra(tmp_path_factory.mktemp("sound") / "a.zarr").path


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "a.zarr"))


def told(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status of stores-verify, and all it says; errors become what a user sees."""
    try:
        status = verify(VerifyOptions(path=path))
    except SpectraBridgeError as error:
        return error.exit_status, str(error)
    return status, capsys.readouterr().out


def test_a_sound_store_is_told_in_one_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = told(store, capsys)
    assert status == 0
    fingerprint = SpectraStore.open(store).fingerprint
    assert text == f"'{store}' is sound: 150 spectra in 3 shards, fingerprint {fingerprint}.\n"


def test_a_byte_changed_in_any_file_is_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(file for file in store.rglob("*") if file.is_file())
    assert len(files) == N_FILES
    random = np.random.default_rng(0)
    for file in files:
        whole = file.read_bytes()
        # the last byte of the last shard lies in the padding behind the last row
        last = [len(whole) - 1] if "/c/2" in str(file) else []
        for place in (*last, int(random.integers(len(whole)))):
            changed = bytearray(whole)
            changed[place] ^= 1 << int(random.integers(8))
            file.write_bytes(changed)
            status, text = told(store, capsys)
            assert status in (1, 2), f"{file} at {place}: {text}"
            assert f"'{store}'" in text
            assert text.strip().endswith(".")
            assert "sound" not in text
        file.write_bytes(whole)
    assert told(store, capsys)[0] == 0


@pytest.mark.parametrize("how", ["deleted", "halved"])
def test_a_file_lost_or_cut_short_is_named(how: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change: Callable[[Path], object] = {
        "deleted": lambda file: file.unlink(),
        "halved": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    }[how]
    for file in sorted(file for file in store.rglob("*") if file.is_file()):
        whole = file.read_bytes()
        change(file)
        status, text = told(store, capsys)
        assert status == 1, f"{file}: {text}"
        name = str(file.relative_to(store))
        if "/c/" in name:
            shard = int(name.split("/")[2])
            what = "is missing" if how == "deleted" else "was changed or damaged after it was written"
            assert f"shard {shard}: {name} {what}." in text
        elif name.startswith("shards/0"):
            assert f"shard {int(name.split('/')[1])}" in text
        file.write_bytes(whole)


def test_a_deleted_marker_is_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(store / "shards/00001")
    status, text = told(store, capsys)
    assert status == 1
    assert "shard 1: its marker is missing." in text
    assert "is not written" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("survey", "other"),
        ("preprocessing", {"frame": "observed"}),
        ("created", "1999"),
        ("rows", 149),
        ("rows", 10**15),
        ("rows", "many"),
        ("shard_rows", 128),
        ("shard_rows", 0),
        ("columns", []),
        ("job", {}),
        ("fingerprint", "0"),
        ("metadata", {}),
        ("metadata", None),
        ("checksum", "0"),
        ("complete", False),
        ("kind", "embeddings"),
        ("kind", "galaxies"),
        ("extra", 1),
    ],
)
def test_an_edited_attribute_is_found(
    name: str, value: object, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"][KEY][name] = value
    (store / "zarr.json").write_text(json.dumps(document))
    status, text = told(store, capsys)
    assert status == 1
    assert text.startswith(f"'{store}'")
    if name in ("survey", "preprocessing", "created", "extra"):
        fault = "the attributes are not those that were written (zarr.json was edited or damaged)"
        assert text == f"'{store}': {fault}.\n"


def test_every_needed_attribute_that_is_gone_is_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((store / "zarr.json").read_text())
    for name in document["attributes"][KEY]:
        less = {key: value for key, value in document["attributes"][KEY].items() if key != name}
        (store / "zarr.json").write_text(json.dumps({**document, "attributes": {KEY: less}}))
        status, text = told(store, capsys)
        assert status == 1, name
        assert text.startswith(f"'{store}'")


def test_values_exchanged_together_with_their_checksums_are_found(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writable = SpectraStore.open(store)
    write_spectra_shard(writable, 1, make_batch(seed=9))
    status, text = told(store, capsys)
    assert status == 1
    assert "the store's fingerprint is not that of its shards." in text


def test_an_unfinished_store_is_no_sound_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_spectra(tmp_path / "a.zarr", shards=1).path
    status, text = told(path, capsys)
    assert status == 1
    assert text == f"'{path}': the store is not finished (1 of 3 shards).\n"
    flux = path / "flux/c/0/0"
    flux.write_bytes(flux.read_bytes()[:-9])
    assert "shard 0: flux/c/0/0 was changed" in told(path, capsys)[1]


def test_what_is_no_store_is_a_mistake_in_the_call(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("none", "folder"):
        with pytest.raises(StoreError) as caught:
            verify(VerifyOptions(path=tmp_path / name))
        assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("flux", np.nan, "flux is not finite"),
        ("ivar", -1.0, "ivar is negative or not finite"),
        ("rv", np.inf, "rv is not finite"),
        ("snr", np.nan, "snr is not finite"),
        ("dec", np.nan, "ra or dec is not finite where the flags promise a position"),
    ],
)
def test_values_that_cannot_be_right_are_found(
    column: str, value: float, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = make_batch()
    getattr(batch, column)[70] = value
    store = make_spectra(tmp_path / "a.zarr", shards=0)
    for shard in range(store.n_shards):
        write_spectra_shard(store, shard, batch)
    store.finish()
    assert f"shard 1: {fault}." in told(store.path, capsys)[1]


def test_unflagged_empty_and_repeated_spectra_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = make_batch(empty=(2,))
    batch.flags[2] = 0
    batch.id[80] = batch.id[1]
    store = make_spectra(tmp_path / "a.zarr", shards=0)
    for shard in range(store.n_shards):
        write_spectra_shard(store, shard, batch)
    store.finish()
    _, text = told(store.path, capsys)
    assert "shard 0: a spectrum has no valid pixel and no flag that says so." in text
    assert "an id occurs twice without the flag DUPLICATE_ID." in text


def test_meaningless_embeddings_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = np.tile(make_vectors(1), (150, 1))
    assert (
        "all embeddings are the same vector."
        in told(make_embeddings(tmp_path / "same.zarr", vectors=same).path, capsys)[1]
    )
    zero = make_vectors()
    zero[9] = 0
    assert (
        "shard 0: an embedding of a spectrum with valid pixels is all zeros."
        in told(make_embeddings(tmp_path / "zero.zarr", vectors=zero).path, capsys)[1]
    )
    wild = make_vectors()
    wild[149, 3] = np.nan
    assert (
        "shard 2: an embedding is not finite."
        in told(make_embeddings(tmp_path / "nan.zarr", vectors=wild).path, capsys)[1]
    )
    status, _ = told(make_embeddings(tmp_path / "sound.zarr", empty=(9,)).path, capsys)
    assert status == 0


def test_the_command_line(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stores-verify", str(store)])
    with pytest.raises(SystemExit) as ended:
        stores.verify.main()
    assert ended.value.code == 0
    (store / "id/c/0").unlink()
    with pytest.raises(SystemExit) as ended:
        stores.verify.main()
    assert ended.value.code == 1
