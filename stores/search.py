"""stores-search: the nearest neighbours of a spectrum among embeddings, by cosine similarity.

    stores-search desi-emb.zarr --id 39633345008634465
    stores-search desi-emb.zarr --spectrum spec-55859-F5902.fits.gz --survey lamost -k 20 --json
    stores-search desi-emb.zarr --id 39633345008634465 --index IVF1024,Flat

A spectrum from a file is prepared and embedded exactly as the store was made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from stores.command import PARTIAL, run_command, say
from stores.embedders import Embedder, find_embedder
from stores.errors import InputError, OptionError
from stores.location import Location

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stores.embeddings import EmbeddingStore
    from stores.index import Index


@dataclass(kw_only=True)
class SearchOptions:
    """Find the spectra whose embeddings are most like that of one spectrum."""

    embeddings: tyro.conf.Positional[Location]
    """The embedding store to search in."""
    id: int | None = None
    """A spectrum of the store, by its survey id."""
    spectrum: Path | None = None
    """A survey file; every spectrum in it is embedded and searched."""
    survey: str | None = None
    """Reader of that file; the survey of the store if not given."""
    medium: Literal["air", "vacuum"] | None = None
    """Medium of that file's wavelengths, where it does not say."""
    at_rest: bool = False
    """That file's spectra are in the rest frame already."""
    rv: Path | None = None
    """Catalogue of radial velocities for that file's spectra, joined by id."""
    model: str | None = None
    """Where the model that made the store lies, if not where it lay then."""
    k: Annotated[int, tyro.conf.arg(aliases=("-k",))] = 10
    """How many neighbours."""
    index: str = "Flat"
    """faiss factory string: Flat is exact; IVF1024,Flat or HNSW32,Flat are faster on millions."""
    json: bool = False
    """Print JSON instead of a table."""


def search(options: SearchOptions) -> int:
    """Print the neighbours; returns the exit status."""
    from stores.embeddings import EmbeddingStore
    from stores.index import Index

    if options.at_rest and options.rv is not None:
        raise OptionError("--at-rest and --rv contradict each other; leave one of them out.")
    if (options.id is None) == (options.spectrum is None):
        raise OptionError("name what to search for: --id or --spectrum, one of them.")
    if options.k < 1:
        raise OptionError(f"-k {options.k} must be 1 or more.")
    store = EmbeddingStore.open(options.embeddings)
    status = 0
    if options.id is not None:
        vectors = _own_vector(store, options.id)[None]
        ids = _array([options.id])
    else:
        ids, vectors, status = _embedded(store, options)
    index = Index.open(store, options.index)
    if index.recall is not None:
        say(f"index {options.index} is approximate: recall@10 {index.recall:.3f} against exact search.")
    near = neighbours(store, index, vectors, options.k, but=options.id)
    found = [{"query": int(i), "neighbours": records} for i, records in zip(ids, near, strict=True)]
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _print_table(found)
    return status


def neighbours(
    store: EmbeddingStore, index: Index, vectors: NDArray[np.float32], k: int, but: int | None = None
) -> list[list[dict[str, Any]]]:
    """The k nearest of a store to each of `vectors` (n, d), best first; `but` is an id to leave out."""
    from stores.flags import Flag

    all_ids, all_similarities = index.search(vectors, k + (but is not None))
    rows = store.find(all_ids.ravel()).reshape(all_ids.shape)
    columns = {name: store.read(name) for name in ("ra", "dec", "snr", "flags")}
    results = []
    for ids, similarities, places in zip(all_ids, all_similarities, rows, strict=True):
        records: list[dict[str, Any]] = []
        for i, similarity, row in zip(ids, similarities, places, strict=True):
            if i < 0 or i == but or len(records) == k:
                continue
            record: dict[str, Any] = {"rank": len(records) + 1, "id": int(i), "similarity": float(similarity)}
            record |= {name: _number(columns[name][row]) for name in ("ra", "dec", "snr")}
            record["flags"] = [flag.name for flag in Flag if int(columns["flags"][row]) & flag]
            records.append(record)
        results.append(records)
    return results


def _own_vector(store: EmbeddingStore, wanted: int) -> NDArray[np.float32]:
    import numpy as np

    from stores.flags import Flag

    limits = np.iinfo(np.int64)
    row = int(store.find(_array([wanted]))[0]) if limits.min <= wanted <= limits.max else -1
    if row < 0:
        raise InputError(f"'{store.path}' has no spectrum with id {wanted}; check the id.")
    one = slice(row, row + 1)
    if store.read("flags", one)[0] & np.uint32(Flag.NO_VALID_PIXELS):
        raise InputError(f"spectrum {wanted} of '{store.path}' has no valid pixel and so no neighbours.")
    return np.asarray(store.read("embedding", one)[0], dtype=np.float32)


def _embedded(store: EmbeddingStore, options: SearchOptions) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Ids (n,) and vectors (n, d) of the spectra in the file, and the exit status: some may be empty."""
    from stores.index import to_unit
    from stores.surveys import ReadOptions, get_survey
    from stores.velocities import Velocities

    assert options.spectrum is not None
    if not options.spectrum.is_file():
        raise InputError(f"'{options.spectrum}' does not exist or is no file; check the path.")
    survey = options.survey or str(store.attributes["survey"])
    if options.medium is not None:
        get_survey(survey).refuse_medium(options.medium)
    read = ReadOptions(medium=options.medium, at_rest=options.at_rest)
    velocities = None if options.rv is None else Velocities.read(options.rv)
    if velocities is None and store.attributes["job"].get("velocities") is not None:
        say("note: the store's velocities came from a catalogue; give it with --rv for this file too.")
    embedder: Embedder = find_embedder()
    ids, vectors = embedder(options.spectrum, survey, store, options.model, read, velocities)
    _, usable = to_unit(vectors)
    if not usable.any():
        raise InputError(f"'{options.spectrum}' has no spectrum with valid pixels on the grid of the store.")
    for lost in ids[~usable]:
        say(f"spectrum {lost} of '{options.spectrum}' has no valid pixel and is left out.")
    return ids[usable], vectors[usable], 0 if usable.all() else PARTIAL


def _print_table(found: Sequence[dict[str, Any]]) -> None:
    for result in found:
        if len(found) > 1:
            print(f"# neighbours of {result['query']}")
        print(f"{'rank':>4}  {'id':>19}  {'cosine':>8}  {'ra':>10}  {'dec':>10}  {'snr':>7}  flags")
        for row in result["neighbours"]:
            ra, dec, snr = (float("nan") if row[name] is None else row[name] for name in ("ra", "dec", "snr"))
            line = f"{row['rank']:>4}  {row['id']:>19}  {row['similarity']:>8.5f}  {ra:>10.5f}  {dec:>10.5f}  "
            print(f"{line}{snr:>7.1f}  {','.join(row['flags']) or '-'}")


def _array(values: Sequence[Any]) -> NDArray[np.int64]:
    import numpy as np

    return np.asarray(values, dtype=np.int64)


def _number(value: Any) -> float | None:
    """A float for JSON, which knows no NaN."""
    return float(value) if value == value else None


def main() -> None:
    """Entry point of stores-search."""
    run_command(SearchOptions, search, "stores-search")


if __name__ == "__main__":
    main()
