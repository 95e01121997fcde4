"""stores-info says what a store is, finished or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from stores_made import FAILED, GRID, PREPARATION, make_embeddings, make_spectra

from stores.errors import StoreError
from stores.info import InfoOptions, describe, info


def lines(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What stores-info prints, by its first column."""
    assert info(InfoOptions(path=path)) == 0
    pairs = (line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines())
    return {pair[0]: pair[-1].strip() for pair in pairs}


def test_numbers_are_those_of_the_store(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr", empty=(5, 70))
    found = describe(store)
    assert (found["kind"], found["rows"], found["rows_written"]) == ("spectra", 150, 150)
    assert found["shards"] == {"done": 3, "total": 3}
    assert found["complete"] is True
    assert found["grid"]["angstrom"] == [GRID.wavelength[0], GRID.wavelength[-1]]
    assert found["grid"]["n_pix"] == 96
    counts = {flag["name"]: flag["rows"] for flag in found["flags"]}
    assert counts == {"NO_VALID_PIXELS": 2, "MOSTLY_MASKED": 2, "LOW_SNR": 2, "NO_COORDINATES": 1}
    assert found["flags"][0]["reason"] == "no usable pixel on the grid"
    snr = np.delete(store.read("snr"), [5, 70])
    assert found["snr"]["0.5"] == pytest.approx(float(np.median(snr)))
    assert found["snr"]["0.95"] == pytest.approx(float(np.quantile(snr, 0.95)))
    assert found["sources"] == {"files": 3, "bytes": 3000}
    assert found["failed"] == FAILED
    assert found["bytes_on_disk"] == sum(f.stat().st_size for f in store.path.rglob("*") if f.is_file())


def test_json_holds_all_attributes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    assert info(InfoOptions(path=store.path, json=True)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["attributes"] == store.attributes
    assert found == json.loads(json.dumps(describe(store)))


def test_files_are_a_table_with_a_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    assert info(InfoOptions(path=store.path, files=True)) == 0
    header, *rows = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header == ["bytes", "sha256", "rows", "file"]
    assert rows == [["1000", "-", str(n), f"made-{i}.fits"] for i, n in enumerate((64, 64, 22))]


def test_text_names_what_matters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_spectra(tmp_path / "a.zarr", empty=(5,))
    said = lines(store.path, capsys)
    assert said["state"] == f"complete, 3 of 3 shards, fingerprint {store.fingerprint}"
    assert said["survey"] == "made"
    assert said["grid"] == "3.65:3.669:0.0002, 4466.84-4666.59 A (vacuum), 96 pixels"
    assert f"fingerprint {PREPARATION.attributes(GRID)['fingerprint']}" in said["preprocessing"]
    assert said["NO_VALID_PIXELS"] == "1: no usable pixel on the grid"
    assert said["failed files"] == "1"
    assert "'lost.fits' holds no object spectra." in said
    assert said["source files"] == "3 (3 kB)"
    assert "model" not in said


def test_an_embedding_store_names_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(make_embeddings(tmp_path / "e.zarr").path, capsys)
    assert said["model"] == "name m1, fingerprint f00d"
    assert said["flagged"] == "none"


@pytest.mark.parametrize("shards", [0, 1])
def test_an_unfinished_store_says_so(shards: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_spectra(tmp_path / "a.zarr", shards=shards)
    said = lines(store.path, capsys)
    assert said["state"].startswith(f"NOT FINISHED, {shards} of 3 shards")
    assert said["rows"] == f"150 spectra, {64 * shards} of them written"
    assert said["source files"].startswith(f"{shards} ")


def test_a_damaged_store_is_one_sentence(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "a.zarr")
    (store.path / "snr/zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"column 'snr' cannot be opened .* run stores-verify on it\.$"):
        info(InfoOptions(path=store.path))
