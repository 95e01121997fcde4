"""heads-predict from survey files: killed at any moment, it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from intake_made import ROOT, assert_same, by_hand, from_files, read

from heads.predict import predict
from stores import EmbeddingStore, SpectraStore
from stores.errors import OptionError
from stores.lock import writing

# -- killed ------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import heads.head, heads.predict, stores.column, stores.ingest, stores.spectra, stores.embeddings

stores.column.CHUNK_ROWS = 8
stores.ingest.shard_rows_for = lambda n: 8
heads.head.ROWS_AT_ONCE = 8
places = {
    "preparing": (stores.spectra.SpectraStore, "write_shard"),
    "embedding": (stores.embeddings.EmbeddingStore, "write_shard"),
    "predicting": (heads.predict, "catalogue_part"),
}
holder, name = places[sys.argv.pop(1)]
whole, calls = getattr(holder, name), []

def killed(*given):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given)

setattr(holder, name, killed)
heads.predict.main()
"""


@pytest.mark.parametrize("stage", ["preparing", "embedding", "predicting"])
def test_killed_it_goes_on_to_the_same_catalogue(
    stage: str,
    made: dict[str, Path],
    stores: dict[str, Path],
    model: Path,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = by_hand("fused", made, stores, tmp_path / "wanted.parquet")
    out = tmp_path / "out" / "c.parquet"
    given = from_files("fused", made, model, files, out)
    words = [
        stage,
        "--survey",
        "lamost",
        str(files),
        "--head",
        str(given.head),
        "--model",
        str(model),
        "--out",
        str(out),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, env=environment, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(path.name for path in out.parent.iterdir()) == [".c.parquet.lock", ".c.parquet.work"]
    monkeypatch.setattr("stores.column.CHUNK_ROWS", 8)
    written: list[str] = []
    for kind in (SpectraStore, EmbeddingStore):
        write = kind.write_shard

        def counted(store: Any, shard: int, *values: Any, write: Any = write) -> None:
            written.append(f"{store.path.name} {shard}")
            write(store, shard, *values)

        monkeypatch.setattr(kind, "write_shard", counted)
    with writing(out):  # as the command does
        assert predict(given) == 0
    left = {"preparing": [1, 2], "embedding": [], "predicting": []}[stage]
    assert [shard for shard in written if shard.startswith("spectra")] == [f"spectra.zarr {i}" for i in left]
    left = {"preparing": [0, 1, 2], "embedding": [1, 2], "predicting": []}[stage]
    assert [shard for shard in written if shard.startswith("emb")] == [f"embeddings.zarr {i}" for i in left]
    assert_same(out, wanted)
    assert [path.name for path in out.parent.iterdir()] == ["c.parquet"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_while_it_clears_up_it_blocks_nothing(
    overwrite: bool, made: dict[str, Path], files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.parquet"
    given = from_files("spectra", made, model, files, out, limit=5)

    def killed(folder: Path, **more: Any) -> None:
        if (lost := folder / "spectra.zarr" / "flux" / "zarr.json").exists():
            lost.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stores.atomic.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            predict(given)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.parquet.work.rest", "c.parquet"]
    first = read(out)
    if overwrite:
        assert predict(replace(given, overwrite=True)) == 0
        np.testing.assert_array_equal(read(out)["feh"], first["feh"])
    else:
        with pytest.raises(OptionError, match=r"c\.parquet' exists"):
            predict(given)
    assert [path.name for path in tmp_path.iterdir()] == ["c.parquet"]


@pytest.mark.parametrize("lost", ["flux/c/0/0", "shards/00000/zarr.json", "zarr.json"])
def test_work_that_is_damaged_is_begun_anew(
    lost: str,
    made: dict[str, Path],
    files: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "c.parquet"
    given = from_files("spectra", made, model, files, out, limit=5, keep_work=True)
    assert predict(given) == 0
    first = read(out)
    (tmp_path / ".c.parquet.work" / "spectra.zarr" / lost).unlink()
    capsys.readouterr()
    assert predict(replace(given, overwrite=True)) == 0
    said = capsys.readouterr().err
    assert "spectra.zarr' is damaged: " in said
    assert f"{lost} is missing; the work is begun anew.\n" in said
    np.testing.assert_array_equal(read(out)["feh"], first["feh"])
    assert SpectraStore.open(tmp_path / ".c.parquet.work" / "spectra.zarr").complete
