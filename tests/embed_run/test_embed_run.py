"""embed-spectra: the right vectors in the right rows, whatever happens on the way."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from embedding_made import LRS, direct, options
from files import BIG_ID, truncate, write_lamost
from models_made import GRID, make_model, make_spectra, make_store

from embed.load import DEFAULT, built_in_models, describe_model, load_model
from embed.run import Embedder, EmbedOptions, embed, embed_file
from stores.embeddings import EmbeddingStore
from stores.errors import InputError, OptionError, SpectraBridgeError, StoreError
from stores.flags import Flag
from stores.prepare import Preparation, prepare
from stores.sample import SAMPLE_SEED, SAMPLE_STARS
from stores.simulate.simulate import SimulateOptions, simulate
from stores.spectra import SpectraStore
from stores.surveys import ReadOptions, get_survey
from stores.velocities import Velocities


def test_a_spectra_store_is_embedded(spectra: Path, model: Path, tmp_path: Path) -> None:
    assert embed(options(spectra, model, tmp_path / "e.zarr", batch_size=50)) == 0
    source, store = SpectraStore.open(spectra), EmbeddingStore.open(tmp_path / "e.zarr")
    np.testing.assert_allclose(store.read("embedding"), direct(spectra, model), rtol=1e-4, atol=1e-5)
    for name in ("id", "ra", "dec", "snr", "flags"):
        np.testing.assert_array_equal(store.read(name), source.read(name))
    assert store.attributes["preprocessing"] == source.attributes["preprocessing"]
    assert store.attributes["model"]["fingerprint"] == load_model(str(model)).fingerprint
    assert {"version", "commit", "command", "created", "grid", "survey"} <= store.attributes.keys()
    assert not [fault for _, faults in store.verify() for fault in faults]
    # half precision is the same to its own accuracy
    embed(options(spectra, model, tmp_path / "half.zarr", dtype="float16"))
    half = EmbeddingStore.open(tmp_path / "half.zarr").read("embedding")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, store.read("embedding"), rtol=2e-3, atol=2e-3)


def test_a_query_without_a_velocity_is_told(
    lrs_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known, lacking = (write_lamost(tmp_path / f"{z}.fits", obsid=BIG_ID, z=z) for z in (1e-4, -9999.0))
    embed(options(Path(), lrs_model, tmp_path / "e.zarr", inputs=(str(known),), survey="lamost"))
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    note = f"1 of 1 spectra in '{lacking}' have no velocity and stay in the observed frame"
    capsys.readouterr()
    embed_file(known, "lamost", store, str(lrs_model))
    assert "have no velocity" not in capsys.readouterr().err
    embed_file(lacking, "lamost", store, str(lrs_model))
    assert note in capsys.readouterr().err
    (tmp_path / "rv.csv").write_text(f"id,rv\n{BIG_ID},10\n")
    velocities = Velocities.read(tmp_path / "rv.csv")
    embed_file(lacking, "lamost", store, str(lrs_model), velocities=velocities)
    assert capsys.readouterr().err == f"velocities for 1 of 1 spectra come from '{velocities.path}'.\n"


def test_files_are_prepared_on_the_fly(lrs_model: Path, tmp_path: Path) -> None:
    files = [write_lamost(tmp_path / f"{i}.fits", obsid=BIG_ID + i, seed=i) for i in range(5)]
    truncate(write_lamost(tmp_path / "broken.fits"), 5000)
    names = (*map(str, files), str(tmp_path / "broken.fits"), str(tmp_path / "absent.fits"))
    status = embed(options(Path(), lrs_model, tmp_path / "e.zarr", inputs=names, survey="lamost"))
    store = EmbeddingStore.open(tmp_path / "e.zarr")
    assert status == 3
    assert store.read("id")[:5].tolist() == [BIG_ID + i for i in range(5)]
    failed = {Path(entry["file"]).name for entry in store.attributes["failed"]}
    assert failed == {"broken.fits", "absent.fits"}
    read = get_survey("lamost").read
    batch = prepare([read(path, ReadOptions()) for path in files], LRS, Preparation())
    expected = Embedder(load_model(str(lrs_model)), LRS.start, "cpu", 8)(batch.flux, batch.ivar)
    np.testing.assert_allclose(store.read("embedding")[:5], expected, rtol=1e-3, atol=1e-4)
    # and one file alone, as a search needs it
    ids, vectors = embed_file(files[2], "lamost", store, str(lrs_model))
    assert ids.tolist() == [BIG_ID + 2]
    np.testing.assert_allclose(vectors[0], expected[2], rtol=1e-3, atol=1e-4)


def test_nothing_usable_is_status_two(lrs_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("not a spectrum")
    with pytest.raises(SpectraBridgeError, match="none of 1 files can be used") as caught:
        embed(options(tmp_path / "text.fits", lrs_model, tmp_path / "e.zarr", survey="lamost"))
    assert caught.value.exit_status == 2
    assert not (tmp_path / "e.zarr").exists()


def test_without_a_usable_spectrum_no_store_is_left(lrs_model: Path, tmp_path: Path) -> None:
    masked = write_lamost(tmp_path / "masked.fits", ivar=0.0)
    chosen = options(masked, lrs_model, tmp_path / "e.zarr", survey="lamost")
    before = sorted(tmp_path.iterdir())
    for _ in range(2):  # the next call fails alike
        with pytest.raises(InputError, match=r"e\.zarr' is not written: not one spectrum has a usable pixel"):
            embed(chosen)
        assert sorted(tmp_path.iterdir()) == before


def test_interrupted_it_goes_on_without_doing_anything_twice(
    spectra: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(options(spectra, model, tmp_path / "whole.zarr"))
    written: list[int] = []
    write = EmbeddingStore.write_shard

    def stop_at_third(self: EmbeddingStore, shard: int, *rest: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        write(self, shard, *rest)  # type: ignore[arg-type]
        written.append(shard)

    monkeypatch.setattr(EmbeddingStore, "write_shard", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        embed(options(spectra, model, tmp_path / "parts.zarr"))
    with pytest.raises(StoreError, match=r"not finished \(2 of 5 shards\)"):
        EmbeddingStore.open(tmp_path / "parts.zarr")
    monkeypatch.setattr(
        EmbeddingStore, "write_shard", lambda self, shard, *rest: (written.append(shard), write(self, shard, *rest))
    )
    embed(options(spectra, model, tmp_path / "parts.zarr"))
    assert written == [0, 1, 2, 3, 4]
    whole, parts = EmbeddingStore.open(tmp_path / "whole.zarr"), EmbeddingStore.open(tmp_path / "parts.zarr")
    assert whole.fingerprint == parts.fingerprint
    embed(options(spectra, model, tmp_path / "parts.zarr"))
    assert len(written) == 5


def test_wavelengths_beyond_the_training_are_told(
    lrs_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(write_lamost(tmp_path / "a.fits"))
    embed(options(Path(), lrs_model, tmp_path / "wide.zarr", inputs=(name,), survey="lamost", grid="3.6:3.63:1e-4"))
    assert "was trained on 3999-5599 A and embeds 3981-4266 A" in capsys.readouterr().err
    embed(options(Path(), lrs_model, tmp_path / "part.zarr", inputs=(name,), survey="lamost", grid="3.602:3.63:1e-4"))
    assert "was trained on" not in capsys.readouterr().err


def test_a_description_is_that_of_the_loaded_model(model: Path) -> None:
    for name in (str(model), DEFAULT):
        described, loaded = describe_model(name), load_model(name)
        for field in fields(described):
            assert getattr(described, field.name) == getattr(loaded, field.name), field.name
        assert described.preparation == loaded.preparation
    assert describe_model("specclip:x.ckpt") is None
    assert describe_model("someone/model") is None


def test_the_default_name_tells_the_survey(
    model: Path, spectra: Path, lrs_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = EmbedOptions(model=str(lrs_model), limit=20, device="cpu")
    for change in ({"survey": "desi"}, {"survey": "lamost"}, {}):
        embed(replace(sample, **change))  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"desi-sample-lrs.zarr", "lamost-sample-lrs.zarr"}
    name = str(write_lamost(tmp_path / "a.fits"))
    embed(replace(sample, survey="lamost", inputs=(name,)))
    assert EmbeddingStore.open(tmp_path / "lamost-lrs.zarr").attributes["survey"] == "lamost"
    embed(EmbedOptions(inputs=(str(spectra),), model=str(model), device="cpu"))
    assert len(EmbeddingStore.open(tmp_path / "made-small.zarr")) == len(SpectraStore.open(spectra))


def test_meaningless_embeddings_are_not_written(spectra: Path, tmp_path: Path) -> None:
    network = make_model()
    with torch.no_grad():
        network.norm.weight.zero_()  # every spectrum becomes the same vector
        network.norm.bias.fill_(1.0)
    network.save_pretrained(tmp_path / "same")
    with pytest.raises(StoreError, match="all embeddings are the same vector"):
        embed(options(spectra, tmp_path / "same", tmp_path / "e.zarr"))
    with torch.no_grad():
        network.norm.bias.fill_(float("nan"))
    network.save_pretrained(tmp_path / "nan")
    with pytest.raises(StoreError, match="an embedding is not finite"):
        embed(options(spectra, tmp_path / "nan", tmp_path / "e2.zarr"))
    with pytest.raises(StoreError, match="not finished"):
        EmbeddingStore.open(tmp_path / "e2.zarr")


def test_a_last_shard_of_one_poor_spectrum_does_not_stop_the_job(model: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", n=2 * 64 + 1, poor=(128,))
    assert embed(options(store.path, model, tmp_path / "e.zarr")) == 0
    assert EmbeddingStore.open(tmp_path / "e.zarr").read("flags")[128] & Flag.MOSTLY_MASKED


@pytest.mark.parametrize("survey", ["desi", None])
def test_built_in_model_on_the_built_in_sample(
    survey: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert DEFAULT in built_in_models()
    out = tmp_path / "e.zarr"
    assert embed(EmbedOptions(survey=survey, out=out, limit=64, device="cpu")) == 0
    assert f"a built-in sample of 64 simulated {survey or 'lamost'} spectra" in capsys.readouterr().err
    store = EmbeddingStore.open(out)
    assert len(store) == 64
    assert store.attributes["survey"] == f"{survey or 'lamost'} (simulated)"
    assert store.model == DEFAULT
    usable = (store.read("flags") & np.uint32(Flag.NO_VALID_PIXELS)) == 0
    assert np.count_nonzero(usable) > 60
    # the rows are those that stores-simulate gives
    spectra = tmp_path / "s.zarr"
    simulate(
        SimulateOptions(survey=survey or "lamost", n=SAMPLE_STARS, seed=SAMPLE_SEED, store=spectra, gmag=(12, 19))
    )
    np.testing.assert_array_equal(SpectraStore.open(spectra).read("id")[:64], store.read("id"))


def test_other_surveys_have_no_sample(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--rv works with files, and none were given"):
        embed(EmbedOptions(survey="desi", rv=tmp_path / "rv.fits", out=tmp_path / "e.zarr", device="cpu"))
    with pytest.raises(OptionError, match="survey 'sdss' has no built-in sample; name files, or use --survey lamost"):
        embed(EmbedOptions(survey="sdss", out=tmp_path / "e.zarr", device="cpu"))


def test_batch_size_does_not_matter(model: Path) -> None:
    batch = make_spectra(30)
    loaded = load_model(str(model))
    one, many = (Embedder(loaded, GRID.start, "cpu", size)(batch.flux, batch.ivar) for size in (1, 30))
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-5)
