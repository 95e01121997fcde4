"""From stores and labels to standardised features: by id, never by position; what is masked has no say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores_made
from heads_made import TARGETS, make_features, make_labels, make_sample, make_stores, make_truth
from stores_made import BIG_ID, GRID, PREPARATION, make_embeddings, make_ids, make_spectra

from heads import InputStores, Sample
from heads.inputs import INPUTS
from heads.sample import UNUSABLE, features
from heads.scaling import LIMIT, Scaling
from stores import Flag, Preparation
from stores.errors import InputError, OptionError, StoreError
from stores.store import Store

# -- standardisation ---------------------------------------------------------------------------------------


def test_columns_get_mean_zero_and_scatter_one() -> None:
    values = np.random.default_rng(0).normal([1e4, -3, 0], [1e-1, 5, 1e-3], size=(3000, 3)).astype(np.float32)
    valid = np.ones(values.shape, dtype=bool)
    scaling = Scaling.of(values, valid)
    np.testing.assert_allclose(scaling.mean, values.astype(float).mean(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(scaling.scatter, values.astype(float).std(axis=0), rtol=1e-6)
    scaled = scaling(values, valid)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-3)


@pytest.mark.parametrize("nonsense", [1e30, np.nan, np.inf])
def test_masked_values_have_no_influence(nonsense: float) -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(2500, 4)).astype(np.float32)  # more than are taken at once
    valid = random.random(values.shape) < 0.8
    valid[:1100, 2] = False  # a whole part without a valid value
    wild = np.where(valid, values, np.float32(nonsense))
    one, other = Scaling.of(values, valid), Scaling.of(wild, valid)
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.scatter, other.scatter)
    np.testing.assert_array_equal(one(values, valid), other(wild, valid))
    assert (one(values, valid)[~valid] == 0).all()


def test_columns_that_are_constant_or_unknown_stay_finite() -> None:
    values = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    values[:, 0] = 7.0
    valid = np.ones(values.shape, dtype=bool)
    valid[:, 1] = False
    scaling = Scaling.of(values, valid)
    assert (scaling.mean[:2].tolist(), scaling.scatter[:2].tolist()) == ([7.0, 0.0], [1.0, 1.0])
    assert (scaling(values, valid)[:, :2] == 0).all()


def test_defects_are_clipped() -> None:
    scaling = Scaling(np.zeros(1), np.ones(1))
    assert scaling(np.array([[1e9], [-1e9], [np.inf]])).ravel().tolist() == [LIMIT, -LIMIT, LIMIT]


def test_features_are_in_the_order_of_the_scalings() -> None:
    values, valid = np.array([[2.0]], dtype=np.float32), np.ones((1, 1), dtype=bool)
    blocks = {"b": (values, valid), "a": (10 * values, valid)}
    scalings = {"a": Scaling(np.zeros(1), np.full(1, 10.0)), "b": Scaling(np.ones(1), np.ones(1))}
    assert features(blocks, scalings).tolist() == [[2.0, 1.0]]


# -- joining -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(INPUTS))
def test_stars_are_joined_by_id_whatever_the_order(name: str, tmp_path: Path) -> None:
    n = 150
    order = np.random.default_rng(3).permutation(n)
    paths = make_stores(tmp_path, n, order=order)
    ids = make_ids(n)
    assert ids[0] == BIG_ID == 2**62 + 1
    chosen = np.random.default_rng(4).permutation(n)[:90]
    stores = InputStores.open(name, paths["spectra"], paths["embeddings"])
    truth = make_truth(n)
    sample = Sample.join(stores, make_labels(ids[chosen], {k: v[chosen] for k, v in truth.items()}), TARGETS)
    assert sample.id.tolist() == sorted(ids[chosen].tolist())
    place = sample.id - BIG_ID
    np.testing.assert_array_equal(sample.y[:, 0], truth["feh"][place])
    if "embedding" in sample.blocks:
        np.testing.assert_array_equal(sample.blocks["embedding"][0], make_features(truth)[place])
    if "pixels" in sample.blocks:
        flux, valid = sample.blocks["pixels"]
        spectra = stores.stores["spectra"]
        np.testing.assert_array_equal(flux, spectra.read("flux")[place])
        np.testing.assert_array_equal(valid, spectra.read("ivar")[place] > 0)
        assert not valid.all()
    if "spectrum" in sample.blocks:
        spectra = stores.stores["spectra"]
        whole = np.concatenate([spectra.read(column)[place] for column in ("flux", "ivar")], axis=1)
        np.testing.assert_array_equal(sample.blocks["spectrum"][0], whole)
    assert set(sample.blocks) == set(INPUTS[name])


def test_fused_reads_parts_of_stores_in_other_orders(tmp_path: Path) -> None:
    order = np.random.default_rng(5).permutation(150)
    paths = make_stores(tmp_path, 150, order=order)
    stores = InputStores.open("fused", paths["spectra"], paths["embeddings"])
    wanted = make_features(make_truth(150))
    for rows in (slice(0, 150), slice(100, 150), slice(20, 21), np.array([7, 3, 149])):
        np.testing.assert_array_equal(stores.read(rows)["embedding"][0], wanted[rows])
        np.testing.assert_array_equal(stores.read(rows)["pixels"][0], stores.main.read("flux")[rows])


def test_the_other_order_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_stores(tmp_path, 150, order=np.arange(150)[::-1])
    stores = InputStores.open("fused", paths["spectra"], paths["embeddings"])
    reads: list[Any] = []
    read = Store.read

    def watched(store: Store, name: str, rows: Any = slice(None)) -> Any:
        if name == "id" and isinstance(rows, slice) and rows == slice(None):
            reads.append(rows)
        return read(store, name, rows)

    monkeypatch.setattr(Store, "read", watched)
    for start in range(0, 150, 10):
        stores.read(slice(start, start + 10))
    assert len(reads) == 2  # those of either store


def test_a_spectrum_without_embedding_is_named(tmp_path: Path) -> None:
    spectra = make_spectra(tmp_path / "s.zarr", 150)
    embeddings = make_embeddings(tmp_path / "e.zarr", 149)
    stores = InputStores.open("fused", spectra.path, embeddings.path)
    with pytest.raises(StoreError, match=rf"has no row with id {BIG_ID + 149} of .*; embed that store"):
        stores.read(slice(100, 150))
    rows = stores.rows_of(make_ids(150))
    assert rows.tolist() == [*range(149), -1]


def test_duplicated_ids_are_joined_to_their_first_row(tmp_path: Path) -> None:
    ids = make_ids(150)
    ids[9] = ids[2]
    vectors = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
    store = make_embeddings(tmp_path / "e.zarr", 150, ids=ids, vectors=vectors)
    stores = InputStores.open("embedding", embeddings=store.path)
    sample = Sample.join(stores, make_labels(make_ids(150)[:9], make_truth(9)), TARGETS)
    assert len(sample) == 9
    np.testing.assert_array_equal(sample.blocks["embedding"][0], vectors[:9])


def test_what_is_not_usable_or_not_known_is_left_out(tmp_path: Path) -> None:
    paths = make_stores(tmp_path, 150, empty=(4, 5))
    truth = make_truth(150)
    truth["feh"][[0, 1]] = np.nan
    truth["teff"][[1, 2]] = np.nan
    stores = InputStores.open("embedding", None, paths["embeddings"])
    foreign = np.array([1, 2, 3])
    ids = np.concatenate([make_ids(150), foreign])
    wide = {name: np.concatenate([value, np.zeros(3)]) for name, value in truth.items()}
    sample = Sample.join(stores, make_labels(ids, wide), TARGETS)
    assert (sample.id - BIG_ID).tolist() == [i for i in range(150) if i not in (1, 4, 5)]
    assert np.isnan(sample.y).sum() == 2
    assert Sample.join(stores, make_labels(ids, wide), ("feh",)).id[0] == BIG_ID + 2
    assert UNUSABLE & Flag.DUPLICATE_ID
    assert not UNUSABLE & Flag.LOW_SNR


def test_joins_that_give_nothing_are_one_sentence(tmp_path: Path) -> None:
    paths = make_stores(tmp_path, 10, empty=(0, 1))
    stores = InputStores.open("embedding", None, paths["embeddings"])
    labels = make_labels(make_ids(10), make_truth(10))
    with pytest.raises(OptionError, match="there is no label 'age' in the labels; there are feh, teff"):
        Sample.join(stores, labels, ("age",))
    with pytest.raises(InputError, match=r"none of the 10 labelled ids is in .*; check that labels and store are of"):
        Sample.join(stores, replace(labels, id=np.arange(10)), TARGETS)
    with pytest.raises(InputError, match=r"no labelled spectrum of .* is usable"):
        Sample.join(stores, labels.take(np.array([0, 1])), TARGETS)


@pytest.mark.parametrize("alien", ["spectra", "embeddings"])
def test_stores_of_other_spectra_than_the_labels_are_told_from_each_other(alien: str, tmp_path: Path) -> None:
    ids = {"spectra": make_ids(12), "embeddings": make_ids(12), alien: make_ids(12) + 500}
    spectra = make_spectra(tmp_path / "s.zarr", 12, ids=ids["spectra"]).path
    embeddings = make_embeddings(tmp_path / "e.zarr", 12, ids=ids["embeddings"]).path
    labels = replace(make_labels(make_ids(12), make_truth(12)), notes={"store": "labelled.zarr"})
    other, own = ("s.zarr", "e.zarr") if alien == "spectra" else ("e.zarr", "s.zarr")
    with pytest.raises(InputError) as caught:
        Sample.join(InputStores.open("fused", spectra, embeddings), labels, TARGETS)
    assert str(caught.value) == (
        f"'{tmp_path / other}' (survey made) has none of the 12 labelled ids, but '{tmp_path / own}' (survey made) "
        "has; name a store and embeddings of the same spectra."
    )
    both = replace(labels, id=labels.id + 1000)
    with pytest.raises(InputError, match=r"s\.zarr' .* and '.*e\.zarr' .*; the labels are of 'labelled\.zarr'; check"):
        Sample.join(InputStores.open("fused", spectra, embeddings), both, TARGETS)


# -- which stores ------------------------------------------------------------------------------------------


def test_stores_of_other_preparations_are_not_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spectra = make_spectra(tmp_path / "s.zarr", 20)
    monkeypatch.setattr(stores_made, "PREPARATION", Preparation(continuum="none", resolving_power=1500.0))
    embeddings = make_embeddings(tmp_path / "e.zarr", 20)
    with pytest.raises(StoreError, match=r"e\.zarr' and '.*s\.zarr' were prepared differently .*; embed the store"):
        InputStores.open("fused", spectra.path, embeddings.path)


def test_what_is_needed_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="input 'images' is unknown; known ones are spectra, embedding, fused"):
        InputStores.open("images")
    with pytest.raises(OptionError, match="input 'spectra' needs a store of spectra; name it with --store"):
        InputStores.open("spectra", embeddings=tmp_path)
    spectra = make_spectra(tmp_path / "s.zarr", 20)
    with pytest.raises(OptionError, match="input 'fused' needs a store of embeddings; name it with --embeddings"):
        InputStores.open("fused", spectra.path)
    with pytest.raises(StoreError, match="is a store of spectra, not of embeddings"):
        InputStores.open("embedding", embeddings=spectra.path)
    # what is not needed is not looked at
    assert len(InputStores.open("spectra", spectra.path, tmp_path / "nothing.zarr")) == 20


def test_stores_know_what_they_are_and_refuse_others(tmp_path: Path) -> None:
    paths = make_stores(tmp_path, 20)
    stores = InputStores.open("fused", paths["spectra"], paths["embeddings"])
    identity = stores.identity
    assert identity["preprocessing"] == PREPARATION.attributes(GRID)
    assert identity["model"]["fingerprint"] == "f00d"
    stores.refuse_unlike(identity)
    # as heads of earlier versions have it
    stores.refuse_unlike({**identity, "preprocessing": identity["preprocessing"]["fingerprint"]})
    # the same weights under another name are the same
    stores.refuse_unlike({**identity, "model": {"name": "elsewhere", "fingerprint": "f00d"}})
    for name, other in (
        ("model", {"name": "m1", "fingerprint": "beef"}),
        ("preprocessing", "beef"),
        ("grid", {**identity["grid"], "n_pix": 95}),
        ("input", "spectra"),
    ):
        with pytest.raises(StoreError, match=f"has {name} .* and the head learned from {name} ") as caught:
            stores.refuse_unlike({**identity, name: other})
        assert ("e.zarr" if name == "model" else "s.zarr") in str(caught.value)


# -- folds and weights -------------------------------------------------------------------------------------


def with_stars(n: int = 400, spectra: int = 3) -> Sample:
    """A sample in which every star has several spectra of like labels."""
    sample = make_sample(n)
    star = np.random.default_rng(0).permutation(n) // spectra
    feh = np.random.default_rng(1).uniform(-3, 0.4, n)[star]
    return replace(sample, star=star, y=np.stack([feh, sample.y[:, 1]], axis=1))


@pytest.mark.parametrize("count", [2, 5, 7])
def test_no_star_is_in_two_folds_and_folds_are_alike(count: int) -> None:
    sample = with_stars()
    fold = sample.folds(count, seed=0)
    assert set(fold.tolist()) == set(range(count))
    for star in np.unique(sample.star):
        assert len(set(fold[sample.star == star].tolist())) == 1
    stars, first = np.unique(sample.star, return_index=True)
    sizes = np.bincount(fold[first])
    assert sizes.max() - sizes.min() <= 1
    medians = [np.median(sample.y[first][fold[first] == one, 0]) for one in range(count)]
    assert np.ptp(medians) < 0.15  # of a range of 3.4; at random it would be 0.5
    np.testing.assert_array_equal(fold, sample.folds(count, seed=0))
    assert (fold != sample.folds(count, seed=1)).any()
    assert len(stars) == 134


def test_folds_do_not_depend_on_the_order_of_spectra() -> None:
    sample = with_stars(60)
    sample = replace(sample, y=sample.y[:, :1], targets=("feh",))
    order = np.random.default_rng(2).permutation(60)
    np.testing.assert_array_equal(sample.folds(5, 0)[order], sample.take(order).folds(5, 0))


def test_stars_without_iron_are_shared_out_too() -> None:
    sample = make_sample(100)
    y = sample.y.copy()
    y[::2, 0] = np.nan
    fold = replace(sample, y=y).folds(5, 0)
    assert np.bincount(fold).tolist() == [20] * 5
    assert np.bincount(fold[::2]).min() >= 8


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
def test_weights_have_mean_one_and_favour_rare_stars(balance: float) -> None:
    sample = make_sample(500)
    feh = np.where(np.arange(500) < 25, -2.5, np.random.default_rng(0).normal(0, 0.1, 500))
    sample = replace(sample, y=np.stack([feh, sample.y[:, 1]], axis=1))
    weight = sample.weights(balance)
    assert weight.dtype == np.float32
    assert weight.mean() == pytest.approx(1.0, abs=1e-5)
    assert (weight > 0).all()
    ratio = weight[:25].mean() / weight[25:].mean()
    assert ratio == pytest.approx(1.0) if balance == 0 else ratio > 1.5
    if balance:
        assert ratio > make_ratio(sample, balance / 2)


def make_ratio(sample: Sample, balance: float) -> float:
    weight = sample.weights(balance)
    return float(weight[:25].mean() / weight[25:].mean())


def test_stars_without_iron_have_a_usual_weight() -> None:
    sample = make_sample(100)
    y = sample.y.copy()
    y[:30, 0] = np.nan
    weight = replace(sample, y=y).weights(0.5)
    assert np.ptp(weight[:30]) == 0
    assert weight[0] == pytest.approx(1.0, abs=0.2)
    assert (replace(sample, targets=("logg", "teff")).weights(1.0) == 1).all()


def test_labels_that_cannot_be_learned_are_one_sentence() -> None:
    sample = make_sample(20)
    with pytest.raises(InputError, match="20 spectra have a label teff, or all the same; none can be learned"):
        replace(sample, y=np.stack([sample.y[:, 0], np.full(20, 5000.0)], axis=1)).label_scaling()
    y = sample.y.copy()
    y[1:, 0] = np.nan
    with pytest.raises(InputError, match="1 spectra have a label feh"):
        replace(sample, y=y).label_scaling()


# -- several samples ---------------------------------------------------------------------------------------


def test_samples_are_put_together_with_stars_of_their_own() -> None:
    one, other = make_sample(30), make_sample(20, seed=1)
    one = replace(one, star=np.arange(30) // 2)
    other = replace(other, ra=other.ra.copy(), dec=other.dec.copy())
    other.ra[4], other.dec[4] = one.ra[7], one.dec[7] + 1 / 3600  # the same star, seen by two surveys
    joined = Sample.concatenated([one, other])
    assert len(joined) == 50
    assert joined.id.tolist() == [*one.id, *other.id]
    np.testing.assert_array_equal(joined.y, np.concatenate([one.y, other.y]))
    np.testing.assert_array_equal(joined.blocks["embedding"][0][30:], other.blocks["embedding"][0])
    same = joined.star[:, None] == joined.star
    wanted = np.zeros((50, 50), dtype=bool)
    wanted[:30, :30] = one.star[:, None] == one.star
    wanted[30:, 30:] = other.star[:, None] == other.star
    for row in (6, 7):  # of star 3 of the first
        wanted[row, 34] = wanted[34, row] = True
    np.testing.assert_array_equal(same, wanted)


def test_shares_are_of_the_weight_as_a_whole() -> None:
    joined = Sample.concatenated([make_sample(30), make_sample(120, seed=1)], shares=[3.0, 1.0])
    weight = joined.weights(0.0)
    assert weight.mean() == pytest.approx(1.0, abs=1e-6)
    assert weight[:30].sum() == pytest.approx(3 * weight[30:].sum(), rel=1e-5)
    assert np.ptp(weight[:30]) == pytest.approx(0.0, abs=1e-6)
    assert Sample.concatenated([make_sample(30), make_sample(120, seed=1)]).weights(0.0).tolist() == [1.0] * 150
    part = joined.take(np.arange(20, 40))
    assert part.worth.tolist() == joined.worth[20:40].tolist()
