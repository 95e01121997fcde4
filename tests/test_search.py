"""stores-search and Index: the neighbours are those that brute force finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores_made import BIG_ID, WIDTH, make_embeddings, make_ids, make_vectors

import stores.embedders
import stores.search
from stores import EmbeddingStore
from stores.embedders import find_embedder
from stores.errors import InputError, ModelError, OptionError, StoreError
from stores.index import Index, exact_neighbours, index_path, to_unit
from stores.search import SearchOptions, search
from stores.surveys import ReadOptions


def brute_force(store: EmbeddingStore, queries: Any, k: int) -> tuple[Any, Any]:
    """Ids and similarities (n, k) in float64, over the rows without flags."""
    good = store.read("flags") == 0
    vectors = store.read("embedding")[good].astype(np.float64)
    queries = np.asarray(queries, np.float64)
    cosine = (queries @ vectors.T) / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(vectors, axis=1))
    order = np.argsort(-cosine, axis=1)[:, :k]
    return store.read("id")[good][order], np.take_along_axis(cosine, order, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = make_ids(150)
    ids[100] = ids[3]  # flagged DUPLICATE_ID
    return make_embeddings(tmp_path_factory.mktemp("made") / "e.zarr", ids=ids, empty=(7,)).path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore.open(shutil.copytree(made, tmp_path / "e.zarr"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exact_search_is_brute_force(dtype: str, tmp_path: Path) -> None:
    store = make_embeddings(tmp_path / "e.zarr", 400, dtype=dtype)
    queries = make_vectors(30, seed=5)
    ids, similarity = Index.open(store).search(queries, 12)
    wanted, cosine = brute_force(store, queries, 12)
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, wanted)
    np.testing.assert_allclose(similarity, cosine, atol=1e-6)
    assert (np.diff(similarity, axis=1) <= 0).all()


def test_lengths_do_not_matter(store: EmbeddingStore) -> None:
    index = Index.open(store)
    queries = make_vectors(5, seed=5)
    ids, similarity = index.search(queries, 5)
    for scale in (1e-20, 1e15):
        scaled_ids, scaled = index.search(queries * np.float32(scale), 5)
        np.testing.assert_array_equal(scaled_ids, ids)
        np.testing.assert_allclose(scaled, similarity, atol=1e-6)


def test_ids_keep_64_bits_and_flagged_rows_are_left_out(store: EmbeddingStore) -> None:
    index = Index.open(store)
    assert len(index) == 148
    ids, similarity = index.search(store.read("embedding", slice(0, 1)), 1000)
    assert ids.shape == (1, 148)
    assert ids[0, 0] == 2**62 + 1
    assert similarity[0, 0] == pytest.approx(1, abs=1e-6)
    assert BIG_ID + 7 not in ids
    assert len(np.unique(ids)) == 148
    # under the repeated id lies the first row, not the second
    own, _ = index.search(store.read("embedding", np.array([3, 100])), 1)
    assert own[0, 0] == BIG_ID + 3
    assert own[1, 0] != BIG_ID + 3


def test_vectors_that_fit_no_index_are_refused(store: EmbeddingStore) -> None:
    index = Index.open(store)
    with pytest.raises(OptionError, match=f"vectors have 3 numbers, and the index is of {WIDTH}"):
        index.search(np.ones((2, 3), np.float32))
    for bad in (0.0, np.nan, np.inf):
        vectors = make_vectors(3)
        vectors[1] = bad
        with pytest.raises(InputError, match="vector 1 is all zeros or not finite"):
            index.search(vectors)
    with pytest.raises(OptionError, match="k = 0 must be 1 or more"):
        index.search(make_vectors(1), 0)


def test_index_is_kept_and_used_again(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = make_vectors(5, seed=5)
    built = Index.open(store).search(queries, 5)
    path = index_path(store, "Flat")
    assert path == store.path.with_name("e.zarr.flat.faiss")
    record = json.loads(path.with_name("e.zarr.flat.faiss.json").read_text())
    assert (record["fingerprint"], record["factory"], record["rows"]) == (store.fingerprint, "Flat", 148)
    monkeypatch.setattr(Index, "_build", lambda *given: pytest.fail("built again"))
    read = Index.open(store).search(queries, 5)
    np.testing.assert_array_equal(read[0], built[0])
    np.testing.assert_array_equal(read[1], built[1])
    assert capsys.readouterr().err == ""


def test_index_of_other_embeddings_is_built_again(
    store: EmbeddingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Index.open(store)
    shutil.rmtree(store.path)
    other = make_embeddings(store.path, seed=3)
    queries = make_vectors(5, seed=5)
    ids, _ = Index.open(other).search(queries, 5)
    assert "is of other embeddings than the store holds now; building it again." in capsys.readouterr().err
    np.testing.assert_array_equal(ids, brute_force(other, queries, 5)[0])
    Index.open(other)
    assert capsys.readouterr().err == ""


def test_index_of_another_factory_is_built_again(store: EmbeddingStore, capsys: pytest.CaptureFixture[str]) -> None:
    Index.open(store, "Flat")
    beside = store.path.with_name("e.zarr.flat.faiss.json")
    beside.write_text(beside.read_text().replace('"Flat"', '"PQ8"'))
    assert Index.open(store).recall is None
    assert "is of another factory (PQ8); building it again." in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["byte", "cut", "no json", "json", "no index"])
def test_damaged_index_is_built_again(damage: str, store: EmbeddingStore, capsys: pytest.CaptureFixture[str]) -> None:
    queries = make_vectors(5, seed=5)
    Index.open(store)
    path = index_path(store, "Flat")
    beside = path.with_name(f"{path.name}.json")
    content = bytearray(path.read_bytes())
    if damage == "byte":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "no json":
        beside.unlink()
    elif damage == "json":
        beside.write_text("{")
    else:
        path.unlink()
    ids, _ = Index.open(store).search(queries, 5)
    assert "damaged" in capsys.readouterr().err
    np.testing.assert_array_equal(ids, brute_force(store, queries, 5)[0])
    Index.open(store)
    assert capsys.readouterr().err == ""


def test_index_that_cannot_be_kept_still_works(store: EmbeddingStore, capsys: pytest.CaptureFixture[str]) -> None:
    index_path(store, "Flat").mkdir()
    queries = make_vectors(5, seed=5)
    ids, _ = Index.open(store).search(queries, 5)
    assert "the index is not kept" in capsys.readouterr().err
    np.testing.assert_array_equal(ids, brute_force(store, queries, 5)[0])


@pytest.mark.parametrize("factory", ["IVF8,Flat", "HNSW16,Flat", "SQ8"])
def test_approximate_indexes_find_nearly_all_and_say_so(factory: str, tmp_path: Path) -> None:
    store = make_embeddings(tmp_path / "e.zarr", 600)
    index = Index.open(store, factory)
    assert index.recall is not None
    queries, truth = exact_neighbours(store, 200, 10)
    found, similarity = index.search(queries, 10)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)])
    assert index.recall == pytest.approx(recall)
    assert recall > 0.9
    # inner products of unit vectors, best first
    assert (similarity[:, 0] > 0.97).all()
    assert Index.open(store, factory).recall == index.recall


def test_recall_is_low_where_an_index_is_bad(tmp_path: Path) -> None:
    store = make_embeddings(tmp_path / "e.zarr", 600)
    index = Index.open(store, "PQ1x1")  # one bit a vector
    assert index.recall is not None
    assert index.recall < 0.5


def test_exact_neighbours_are_brute_force(store: EmbeddingStore) -> None:
    queries, truth = exact_neighbours(store, 40, 10)
    assert queries.shape == (40, WIDTH)
    wanted, _ = brute_force(store, queries, 10)
    np.testing.assert_array_equal(np.sort(truth, axis=1), np.sort(wanted, axis=1))


def test_factories_that_cannot_work_are_refused(store: EmbeddingStore) -> None:
    with pytest.raises(OptionError, match="'Nonsense' is not a faiss factory string for vectors of 24"):
        Index.open(store, "Nonsense")
    with pytest.raises(OptionError, match=r"'IVF256,Flat' cannot be trained on 148 vectors"):
        Index.open(store, "IVF256,Flat")


def test_a_store_with_nothing_to_find_is_refused(tmp_path: Path) -> None:
    store = make_embeddings(tmp_path / "e.zarr", 5, empty=tuple(range(5)))
    with pytest.raises(StoreError, match="holds no embedding of a spectrum with valid pixels"):
        Index.open(store)


def test_unit_vectors_of_half_precision() -> None:
    unit, usable = to_unit(np.array([[60000, 60000], [1e-7, 0], [0, 0]], dtype=np.float16))
    np.testing.assert_allclose(unit, [[0.5**0.5, 0.5**0.5], [1, 0], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(usable, [True, True, False])


def test_search_by_id_prints_neighbours_without_itself(
    store: EmbeddingStore, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SearchOptions(embeddings=store.path, id=BIG_ID + 20, k=5, json=True)
    assert search(options) == 0
    (result,) = json.loads(capsys.readouterr().out)
    wanted, cosine = brute_force(store, store.read("embedding", slice(20, 21)), 6)
    assert wanted[0, 0] == BIG_ID + 20
    assert result["query"] == BIG_ID + 20
    assert [row["id"] for row in result["neighbours"]] == wanted[0, 1:].tolist()
    np.testing.assert_allclose([row["similarity"] for row in result["neighbours"]], cosine[0, 1:], atol=1e-6)
    assert [row["rank"] for row in result["neighbours"]] == [1, 2, 3, 4, 5]
    rows = store.find(wanted[0, 1:])
    for name in ("ra", "dec", "snr"):
        assert [row[name] for row in result["neighbours"]] == store.read(name, rows).tolist()

    assert search(SearchOptions(embeddings=store.path, id=BIG_ID + 20, k=5)) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[0] == ["rank", "id", "cosine", "ra", "dec", "snr", "flags"]
    assert [int(line[1]) for line in table[1:]] == wanted[0, 1:].tolist()


def test_search_says_the_recall_of_an_approximate_index(
    store: EmbeddingStore, capsys: pytest.CaptureFixture[str]
) -> None:
    search(SearchOptions(embeddings=store.path, id=BIG_ID, index="HNSW16,Flat"))
    assert "index HNSW16,Flat is approximate: recall@10 " in capsys.readouterr().err


def test_flags_and_missing_positions_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stores import Flag

    store = make_embeddings(tmp_path / "e.zarr", 3)
    for name, value in (("ra", np.nan), ("flags", int(Flag.LOW_SNR | Flag.RV_MISSING))):
        store.array(name)[1] = value
    search(SearchOptions(embeddings=store.path, id=BIG_ID, json=True))
    (result,) = json.loads(capsys.readouterr().out)
    row = next(row for row in result["neighbours"] if row["id"] == BIG_ID + 1)
    assert row["ra"] is None
    assert row["flags"] == ["RV_MISSING", "LOW_SNR"]
    search(SearchOptions(embeddings=store.path, id=BIG_ID))
    assert "RV_MISSING,LOW_SNR" in capsys.readouterr().out


@pytest.mark.parametrize("wanted", [4, -1, 2**62, 2**63, 2**200])
def test_an_unknown_id_is_a_sentence(wanted: int, store: EmbeddingStore) -> None:
    with pytest.raises(InputError, match=rf"e\.zarr' has no spectrum with id {wanted}; check the id\."):
        search(SearchOptions(embeddings=store.path, id=wanted))


def test_calls_that_cannot_work_are_refused(store: EmbeddingStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no valid pixel and so no neighbours"):
        search(SearchOptions(embeddings=store.path, id=BIG_ID + 7))
    for given in ({}, {"id": BIG_ID, "spectrum": tmp_path}):
        with pytest.raises(OptionError, match="--id or --spectrum, one of them"):
            search(SearchOptions(embeddings=store.path, **given))
    with pytest.raises(OptionError, match="-k 0 must be 1 or more"):
        search(SearchOptions(embeddings=store.path, id=BIG_ID, k=0))
    with pytest.raises(InputError, match=r"none\.fits' does not exist"):
        search(SearchOptions(embeddings=store.path, spectrum=tmp_path / "none.fits"))
    (tmp_path / "spec.fits").touch()
    with pytest.raises(OptionError, match="wavelengths of lamost files are in vacuum; leave --medium air out"):
        search(SearchOptions(embeddings=store.path, spectrum=tmp_path / "spec.fits", survey="lamost", medium="air"))


def test_every_spectrum_of_a_file_is_searched(
    store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "two.fits"
    file.write_text("")
    vectors = np.concatenate([make_vectors(2, seed=5), np.zeros((1, WIDTH), np.float32)])
    calls = []

    def embedder(*given: Any) -> Any:
        calls.append(given)
        return np.array([11, 12, 13]), vectors

    monkeypatch.setattr(stores.search, "find_embedder", lambda: embedder)
    options = SearchOptions(
        embeddings=store.path,
        spectrum=file,
        survey="table",
        model="m",
        medium="air",
        at_rest=True,
        k=4,
        json=True,
    )
    assert search(options) == 3  # one of them has no valid pixel
    ((path, survey, given, model, read, velocities),) = calls
    assert (path, survey, given.path, model) == (file, "table", store.path, "m")
    assert read == ReadOptions(medium="air", at_rest=True)
    assert velocities is None
    said = capsys.readouterr()
    assert "spectrum 13 of " in said.err
    results = json.loads(said.out)
    assert [result["query"] for result in results] == [11, 12]
    wanted, _ = brute_force(store, vectors[:2], 4)
    assert [[row["id"] for row in result["neighbours"]] for result in results] == wanted.tolist()

    options = SearchOptions(embeddings=store.path, spectrum=file)
    search(options)
    assert calls[1][1] == "made"  # the survey of the store
    assert "# neighbours of 11\n" in capsys.readouterr().out


def test_the_embedder_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint, EntryPoints

    def known(*points: EntryPoint) -> None:
        monkeypatch.setattr(stores.embedders, "entry_points", lambda **want: EntryPoints(points).select(**want))

    group = "spectrabridge.embedders"
    known(EntryPoint("store", "json:loads", group), EntryPoint("default", "json:dumps", group))
    assert find_embedder() is json.dumps
    assert find_embedder("store") is json.loads
    known(EntryPoint("default", "no_such_module:embed", group))
    with pytest.raises(ModelError, match=r"'no_such_module:embed' cannot be loaded"):
        find_embedder()
    known()
    with pytest.raises(ModelError, match="nothing here can embed spectra"):
        find_embedder()


def test_the_command_line(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for given, status, rows in ((BIG_ID, 0, 4), (4, 2, 0)):
        monkeypatch.setattr("sys.argv", ["stores-search", str(store.path), "--id", str(given), "-k", "3"])
        with pytest.raises(SystemExit) as ended:
            stores.search.main()
        assert ended.value.code == status
        said = capsys.readouterr()
        assert len(said.out.splitlines()) == rows
        assert said.err.startswith("stores-search: '") == (status == 2)
