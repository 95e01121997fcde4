"""Heads that encode spectra say what they said of embeddings; what is adapted of a model is honest and comes back."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from heads_made import QUICK, SMALL, TARGETS, make_labels, make_sample
from models_made import make_spectra, make_store, save_model
from torch import nn

import heads.encoder
import heads.fit
from embed.encoder import load_encoder
from embed.run import EmbedOptions, embed
from heads import Head, InputStores, Sample, adapt_head, train_head
from heads.adapters import ADAPTERS
from heads.auto import adapt_auto
from heads.encoder import EncodedNetwork, encoding, source_features
from heads.inputs import spectrum
from heads.predict import PredictOptions, predict
from heads.sample import features
from heads.train import HeadTrainOptions, train
from stores import EmbeddingStore, Labels, SpectraStore
from stores.errors import ModelError, OptionError, SpectraBridgeError, StoreError

N, TRAIN = 90, 70


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoder")


@pytest.fixture(scope="module")
def model(folder: Path) -> str:
    """Where a model lies, which its name alone does not say."""
    return str(save_model(folder / "models" / "m"))


@pytest.fixture(scope="module")
def spectra(folder: Path) -> Path:
    return make_store(folder / "s.zarr", N, poor=(5,)).path


@pytest.fixture(scope="module")
def embeddings(folder: Path, spectra: Path, model: str) -> Path:
    assert embed(EmbedOptions(inputs=(str(spectra),), model=model, out=folder / "e.zarr"), quiet=True) == 0
    return folder / "e.zarr"


@pytest.fixture(scope="module")
def labels(folder: Path, spectra: Path) -> Path:
    """What the depth of the line tells; the last stars are kept apart."""
    store = SpectraStore.open(spectra)
    depth = 1 - store.read("flux")[:, 95:106].mean(axis=1)
    truth = {"feh": -3 + 3.5 * depth, "teff": 4500 + 2000 * depth}
    split = (np.arange(N) >= TRAIN).astype(np.int64)
    made = replace(make_labels(store.read("id"), truth), split=split, parts=("train", "test"))
    made.save(folder / "labels.parquet")
    return folder / "labels.parquet"


@pytest.fixture(scope="module")
def bases(spectra: Path, embeddings: Path, labels: Path, folder: Path) -> dict[str, Path]:
    """A head for each input."""
    for name in ("spectra", "embedding", "fused"):
        stores = InputStores.open(name, spectra, embeddings)
        sample = Sample.join(stores, Labels.load(labels), TARGETS)
        train_head(sample, stores.identity, SMALL).head.save_pretrained(folder / name)
    return {name: folder / name for name in ("spectra", "embedding", "fused")}


@pytest.fixture(scope="module")
def sample(spectra: Path, labels: Path) -> Sample:
    """Stars whose labels are others than those that the heads learned."""
    made = Sample.join(InputStores.open("encoded", spectra), Labels.load(labels), TARGETS)
    return replace(made, y=made.y + np.array([1.0, -1000.0]))


@pytest.fixture(scope="module")
def adapted(bases: dict[str, Path], sample: Sample, model: str) -> dict[str, Any]:
    made = {}
    for name in ("embedding", "fused"):
        base = encoding(Head.from_pretrained(bases[name]), model)
        made[name] = adapt_head(base, sample, "lora_encoder", replace(SMALL, fit=replace(QUICK, checks=2)))
    return made


# -- as before ---------------------------------------------------------------------------------------------


def test_the_embeddings_are_those_of_the_store(spectra: Path, embeddings: Path, model: str) -> None:
    """To the last bit that a store keeps."""
    source, store = SpectraStore.open(spectra), EmbeddingStore.open(embeddings)
    encoder = load_encoder(model, store.attributes["model"]["fingerprint"], source.grid.start)
    x = torch.from_numpy(np.stack([source.read("flux"), source.read("ivar")]))
    x[1, 7] = 0
    with torch.no_grad():
        found = torch.cat([encoder(*part) for part in x.split(store.shard_rows, dim=1)]).numpy()
    wanted = store.read("embedding")
    rest = np.arange(N) != 7
    assert wanted.dtype == np.float16
    np.testing.assert_array_equal(found[rest].astype(np.float16), wanted[rest])
    assert not found[7].any()


@pytest.mark.parametrize("name", ["embedding", "fused"])
def test_a_head_says_the_same_of_spectra(
    name: str, bases: dict[str, Path], spectra: Path, embeddings: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Head.from_pretrained(bases[name])
    head = encoding(base, model)
    assert encoding(head) is head
    assert head.identity == {**base.identity, "input": "encoded"}
    monkeypatch.setattr(heads.encoder, "ROWS_AT_ONCE", 32)
    found, wanted = head.predict(spectra), base.predict(spectra, embeddings)
    np.testing.assert_array_equal(found.id, wanted.id)
    np.testing.assert_array_equal(found.flags, wanted.flags)
    for target in TARGETS:
        off = np.abs(found.value[target] - wanted.value[target]) / wanted.sigma[target]
        assert off.max() < 0.02, "more than what float16 loses"
        assert off.max() > 0
    stores = InputStores.open(name, spectra, embeddings)
    x = source_features(head.members, spectrum(SpectraStore.open(spectra), slice(None))[0])
    np.testing.assert_allclose(x, features(stores.read(slice(None)), base.scalings), atol=0.02)


def test_spectra_without_pixels_have_features_of_zero(bases: dict[str, Path], model: str) -> None:
    head = encoding(Head.from_pretrained(bases["fused"]), model)
    batch = make_spectra(4)
    x = torch.from_numpy(np.concatenate([batch.flux, batch.ivar], axis=1).astype(np.float32))
    x[2, batch.flux.shape[1] :] = 0
    member = head.members[0]
    assert isinstance(member, EncodedNetwork)
    found = member.features(x)
    assert not found[2].any()
    assert found[[0, 1, 3]].any(dim=1).all()


# -- adapted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["embedding", "fused"])
def test_it_learns_in_the_transformer_too(name: str, adapted: dict[str, Any]) -> None:
    outcome = adapted[name]
    assert min(outcome.history.best) > 0  # of stars that were not seen it knows more than at first
    assert outcome.seen_by_none.sum() == outcome.head.calibration.count[0, 0] > 20
    changed = [key for key, value in outcome.head.members[0].named_parameters() if "lora_B" in key and value.any()]
    within = {key.split(".lora_B")[0].split("base_model.model.")[1] for key in changed}
    layers = {f"model.blocks.{i}.{layer}" for i in (0, 1) for layer in ("qkv", "out", "up", "down")}
    assert {key for key in within if "block" in key} == layers
    assert within - layers  # of the head


def test_every_member_has_a_transformer_that_has_not_seen_its_fold(
    bases: dict[str, Path], sample: Sample, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels of the stars that it is judged by do not move it; which state is kept they may choose: off here."""
    monkeypatch.setattr(heads.fit._Judge, "settle", lambda judge: judge.step)
    base = encoding(Head.from_pretrained(bases["embedding"]), model)
    options = replace(SMALL, fit=replace(QUICK, least_steps=2, most_steps=2, checks=1))
    fold = sample.folds(5, options.seed)
    wild = replace(sample, y=np.where((fold == 0)[:, None], sample.y * [1, 1.5], sample.y))
    one, other = (adapt_head(base, stars, "lora_encoder", options).head.members for stars in (sample, wild))
    assert same(one[0].encoder, other[0].encoder)
    assert not same(one[1].encoder, other[1].encoder)  # it saw them
    assert not same(one[0].encoder, one[1].encoder)


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("name", ["embedding", "fused"])
def test_it_comes_back_to_the_bit_and_reads_a_store_in_parts(
    name: str, adapted: dict[str, Any], spectra: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = adapted[name].head
    head.save_pretrained(tmp_path / "head")
    back = Head.from_pretrained(tmp_path / "head", model)
    assert (back.fingerprint, back.adapter) == (head.fingerprint, "lora_encoder")
    found, wanted = back.predict(spectra), head.predict(spectra)
    for target in TARGETS:
        np.testing.assert_array_equal(found.members[target], wanted.members[target])
        np.testing.assert_array_equal(found.low90[target], wanted.low90[target])
    np.testing.assert_array_equal(found.flags, wanted.flags)
    rows: list[int] = []
    forward = EncodedNetwork.features

    def counted(network: EncodedNetwork, x: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        return forward(network, x)

    monkeypatch.setattr(EncodedNetwork, "features", counted)
    monkeypatch.setattr("heads.head.ROWS_AT_ONCE", 40)
    out = tmp_path / "c.parquet"
    assert predict(PredictOptions(head=tmp_path / "head", store=spectra, model=model, out=out)) == 0
    assert rows == [40] * 6 + [10] * 3  # two members, and the model as it was
    table = pq.read_table(out)
    np.testing.assert_allclose(table["teff"].to_numpy(), wanted.value["teff"], rtol=1e-5)  # other batches


def test_novelty_is_told_by_the_model_as_it_was(
    adapted: dict[str, Any], bases: dict[str, Path], spectra: Path, sample: Sample
) -> None:
    """Of the stars of the source survey no more is kept than where they lie among its embeddings."""
    head, base = adapted["embedding"].head, Head.from_pretrained(bases["embedding"])
    x = spectrum(SpectraStore.open(spectra), slice(None))[0]
    before = head.raw(x)[0]
    old = source_features(head.members, x)
    np.testing.assert_array_equal(head.raw(x)[0], before)  # the updates are on again
    with torch.no_grad():
        new = head.members[0].features(torch.from_numpy(x)).numpy()
    assert np.abs(old - new).max() > 0.1
    known, places = len(base.novelty.references), source_features(head.members, sample.blocks["spectrum"][0])
    np.testing.assert_array_equal(head.novelty.references[:known], base.novelty.references)
    np.testing.assert_allclose(head.novelty.references[known:], places @ base.novelty.axes, rtol=1e-4, atol=1e-4)


def test_both_parts_are_in_the_format_of_peft(adapted: dict[str, Any], model: str, tmp_path: Path) -> None:
    from peft import PeftModel

    head = adapted["embedding"].head
    head.save_pretrained(tmp_path / "head")
    own = tmp_path / "head" / "members" / "1" / "adapter"
    assert sorted(path.name for path in own.iterdir()) == ["encoder", "head"]
    for part in own.iterdir():
        config = json.loads((part / "adapter_config.json").read_text())
        assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 8, 16)
        assert (part / "adapter_model.safetensors").is_file()
    identity = head.identity
    plain = load_encoder(model, identity["model"]["fingerprint"], identity["grid"]["start"])
    loaded: Any = PeftModel.from_pretrained(plain, str(own / "encoder")).eval()
    batch = make_spectra(8, seed=3)
    flux, ivar = (torch.from_numpy(values.astype(np.float32)) for values in (batch.flux, batch.ivar))
    with torch.no_grad():
        assert torch.equal(loaded(flux, ivar), head.members[1].encoder(flux, ivar))


def test_it_merges(adapted: dict[str, Any], spectra: Path) -> None:
    member: Any = copy.deepcopy(adapted["fused"].head.members[0])
    x = torch.from_numpy(spectrum(SpectraStore.open(spectra), slice(0, 20))[0])
    with torch.no_grad():
        wanted = member(x)
        merged = ADAPTERS["lora_encoder"].merge(member)
        assert merged is not None
        torch.testing.assert_close(merged(x), wanted, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name for name, _ in merged.named_parameters())


# -- the command -------------------------------------------------------------------------------------------


def options(out: Path, base: Path, spectra: Path, labels: Path, model: str | None, **more: Any) -> HeadTrainOptions:
    given: dict[str, Any] = {"store": (spectra,), "labels": (str(labels),), "base": base, "epochs": 1.0, "out": out}
    return HeadTrainOptions(**(given | {"adapter": "lora_encoder", "model": model} | more))


def test_the_command_takes_spectra_and_tells_what_was_trained(
    bases: dict[str, Path],
    spectra: Path,
    embeddings: Path,
    labels: Path,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = options(tmp_path / "head", bases["embedding"], spectra, labels, model, embeddings=(embeddings,))
    assert train(given) == 0
    said = capsys.readouterr()
    head = Head.from_pretrained(tmp_path / "head", model)
    weights = head.about["weights"]
    member: nn.Module = head.members[0]
    assert weights["total"] == sum(value.numel() for value in member.parameters())
    assert weights["trained"] == sum(value.numel() for key, value in member.named_parameters() if "lora_" in key)
    assert f"{weights['trained']:,} of {weights['total']:,} weights of a member trained" in said.err
    assert f"{TRAIN - 1} spectra of {TRAIN - 1} stars to learn from, {N - TRAIN} kept apart." in said.err
    assert head.about["test"]["feh"]["all"]["n"] == N - TRAIN
    assert "feh all" in said.out
    [source] = head.about["sources"]
    assert set(source["stores"]) == {"spectra"}
    assert head.about["base"]["fingerprint"] == Head.from_pretrained(bases["embedding"]).fingerprint
    assert (tmp_path / "head" / "curves.png").is_file()


def refused(given: HeadTrainOptions, kind: type[SpectraBridgeError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        train(given)
    one_sentence(str(caught.value), *words)
    assert not given.out.exists()


def one_sentence(said: str, *words: str) -> None:
    assert len(said.splitlines()) == 1
    assert said.endswith(".")
    for word in words:
        assert word in said


@pytest.fixture
def given(tmp_path: Path, bases: dict[str, Path], spectra: Path, labels: Path, model: str) -> Iterator[Any]:
    return options(tmp_path / "head", bases["embedding"], spectra, labels, model)


def test_a_model_that_is_not_there_is_told(given: HeadTrainOptions, adapted: dict[str, Any], tmp_path: Path) -> None:
    words = ("the head needs its model: ", "name where it lies with --model")
    refused(replace(given, model=None), ModelError, "model 'm' is unknown", *words)
    other = str(save_model(tmp_path / "m", 1))
    refused(replace(given, model=other), ModelError, "has other weights", *words)
    adapted["embedding"].head.save_pretrained(tmp_path / "adapted")
    for place in (None, other):
        out = tmp_path / "c.parquet"
        with pytest.raises(ModelError) as caught:
            predict(PredictOptions(head=tmp_path / "adapted", store=given.store[0], model=place, out=out))
        one_sentence(str(caught.value), *words)
        assert not out.exists()


@pytest.mark.parametrize("what", ["grid", "preprocessing"])
def test_a_store_that_is_not_as_the_models_is_told(
    what: str, given: HeadTrainOptions, adapted: dict[str, Any], model: str, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "s.zarr", 8)
    attributes = store._group.attrs
    whole: Any = attributes["spectrabridge"]
    other = {"n_pix": 7} if what == "grid" else {"fingerprint": "beef"}
    attributes["spectrabridge"] = {**whole, what: {**whole[what], **other}}
    words = (f"s.zarr' has {what} ", f"and the head learned from {what} ", "make the store as that one was made")
    refused(replace(given, store=(store.path,)), StoreError, *words)
    adapted["embedding"].head.save_pretrained(tmp_path / "adapted")
    with pytest.raises(StoreError) as caught:
        Head.from_pretrained(tmp_path / "adapted", model).predict(store.path)
    one_sentence(str(caught.value), *words)


def test_what_it_cannot_adapt_is_told(given: HeadTrainOptions, bases: dict[str, Path], embeddings: Path) -> None:
    words = ("reads the input spectra has no model behind it", "start from one that reads embedding or fused")
    refused(replace(given, base=bases["spectra"]), OptionError, *words)
    refused(replace(given, store=(), embeddings=(embeddings,)), OptionError, "needs a store of spectra; name it with")
    refused(
        replace(given, adapter="lora"), OptionError, "'lora' does not adapt the model of a head; leave --model out"
    )
    refused(replace(given, adapter="auto"), OptionError, "'auto' does not adapt the model")
    new = replace(given, adapter=None, base=None, model=None, input="encoded", targets="feh,teff")
    refused(new, OptionError, "a new head cannot read the input encoded")
    refused(replace(new, model="m"), OptionError, "--model says where the model of a --base lies; leave it out")
    with pytest.raises(OptionError, match="'lora_encoder' learns from spectra; join the sample from stores of the"):
        adapt_head(
            encoding(Head.from_pretrained(bases["embedding"]), given.model), make_sample(), "lora_encoder", SMALL
        )


def test_labels_that_lack_one_of_the_base_are_refused(given: HeadTrainOptions, tmp_path: Path) -> None:
    whole = Labels.load(given.labels[0])
    feh = {"feh": whole.values["feh"]}
    replace(make_labels(whole.id, feh), split=whole.split, parts=whole.parts).save(tmp_path / "feh.parquet")
    bare = replace(given, labels=(str(tmp_path / "feh.parquet"),))
    refused(bare, OptionError, "'lora_encoder' needs stars with every label of", "none has teff; add labels of it, or")


def test_auto_leaves_it_out(bases: dict[str, Path], embeddings: Path, labels: Path) -> None:
    base = Head.from_pretrained(bases["embedding"])
    stars = Sample.join(InputStores.open("embedding", embeddings=embeddings), Labels.load(labels), TARGETS)
    tried = set(adapt_auto(base, stars, replace(SMALL, fit=replace(QUICK, least_steps=1, most_steps=1))).errors)
    assert tried == set(ADAPTERS) - {"lora_encoder"}
