"""Whether a store is what was written: every byte has a checksum above it, and this walks down from there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stores.errors import PlaceError, StoreError
from stores.flags import Flag
from stores.marker import marker_file
from stores.provenance import array_digest, fingerprint
from stores.store import Store, attributes_checksum


def faults_of(store: Store) -> Iterator[tuple[int, list[str]]]:
    """Read everything; yields (shard, faults without full stop), at last (-1, faults of the whole)."""
    shape = _told(store, _check_shape(store))
    if shape:  # without it there is no telling what a shard is
        yield -1, [*_told(store, _check_attributes(store)), *shape]
        return
    for shard in range(store.n_shards):
        yield shard, [f"shard {shard}: {fault}" for fault in _told(store, _check_shard(store, shard))]
    yield -1, [*_told(store, _check_attributes(store)), *_told(store, _check_whole(store))]


def refuse_missing_files(store: Store) -> None:
    """Raise StoreError if a data file is not there: Zarr reads a missing one as fill values without a word."""
    files = (store.file(name, shard) for name in store.columns for shard in range(store.n_shards))
    if file := store.place.lacking(files):
        raise StoreError(f"'{store.path}' is damaged: {file} is missing; run stores-verify on it.")


def refuse_missing_markers(store: Store) -> None:
    """Raise StoreError if a shard of a finished store has lost its marker."""
    if marker := store.place.lacking(map(marker_file, range(store.n_shards))):
        raise StoreError(
            f"'{store.path}' is damaged: {marker} is missing; copy it again from where it is sound, or delete it "
            "and run the command again."
        )


def _told(store: Store, faults: Iterator[str]) -> list[str]:
    """The faults; what keeps the check from going on is one of them."""
    told = []
    try:
        for fault in faults:
            told.append(fault)
    except PlaceError:
        raise  # storage out of reach says nothing of what lies there
    except StoreError as error:
        told.append(str(error).removeprefix(f"'{store.path}'").removesuffix("; run stores-verify on it."))
        told[-1] = told[-1].removeprefix(" is damaged").removeprefix(": ").removesuffix(".")
    except Exception as error:  # damage reaches numpy and zarr in every form
        told.append(f"cannot be checked any further ({(str(error) or type(error).__name__).splitlines()[0]})")
    return told


def _check_shape(store: Store) -> Iterator[str]:
    for name in store.columns:
        array = store.array(name)
        shards = array.chunks if array.shards is None else array.shards
        found, wanted = (array.shape[0], shards[0]), (len(store), store.shard_rows)
        if found != wanted:
            yield f"{name} has {found[0]} rows in files of {found[1]}, not {wanted[0]} in {wanted[1]}"


def _check_shard(store: Store, shard: int) -> Iterator[str]:
    if not store.place.has(marker_file(shard)):
        if store.complete:  # else that the store is not finished says it all
            yield "its marker is missing"
        return
    marker = store.marker(shard)
    faults = []
    files = store.files(shard)
    for file, checksum in zip(files, store.place.checksums(files), strict=True):
        if not checksum:
            faults.append(f"{file} is missing")
        elif checksum != marker["files"].get(file):
            faults.append(f"{file} was changed or damaged after it was written")
    if faults:
        yield from faults
        return
    values = {name: store.read(name, store.rows(shard)) for name in store.columns}
    yield from store.check(values)
    if marker["rows"] != len(values["id"]):
        yield f"holds {len(values['id'])} rows where its marker says {marker['rows']}"
    if array_digest(*(values[name] for name in store.columns)) != marker["digest"]:
        yield "its values are not those that were written (digest differs)"


def _check_attributes(store: Store) -> Iterator[str]:
    attributes = store.attributes
    if not attributes["complete"]:
        done = sum(1 for _ in store.finished_shards())
        yield f"the store is not finished ({done} of {store.n_shards} shards)"
    elif attributes.get("checksum") != attributes_checksum(attributes):
        yield "the attributes are not those that were written (zarr.json was edited or damaged)"
    if fingerprint(attributes["job"]) != attributes["job_fingerprint"]:
        yield "the job in the attributes does not have the fingerprint that stands beside it"


def _check_whole(store: Store) -> Iterator[str]:
    attributes = store.attributes
    if attributes["complete"]:
        written, found = attributes["metadata"], store.metadata_checksums()
        for name in found:
            if written.get(name) != found[name]:
                file = f"{name}/zarr.json" if name != "shards" else "a zarr.json in shards"
                yield f"{file} was changed, damaged or lost after it was written"
        if store.fingerprint_of_shards() != attributes["fingerprint"]:
            yield "the store's fingerprint is not that of its shards"
    flags, ids = store.read("flags"), store.read("id")
    own = ids[(flags & np.uint32(Flag.DUPLICATE_ID)) == 0]
    if attributes["complete"] and len(np.unique(own)) != len(own):
        yield "an id occurs twice without the flag DUPLICATE_ID"
