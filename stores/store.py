"""What spectra and embedding stores share: a Zarr v3 group written by whole shards.

    X.zarr/            attributes under the key `spectrabridge`, see docs/stores.md
      flux, ivar, ...  arrays of n rows; a shard is `shard_rows` rows of every array
      shards/00000     the marker of a finished shard: row count, digest, checksums, source files, faults

A shard is the unit of work and has one writer. Its marker is written after its data, `complete` after all
markers: what is not marked does not count, so a run that is killed at any moment can be run again.

Every byte has a checksum above it: data files in their shard's marker, markers and column metadata in the
attributes, the attributes in one of their own. `verify` walks down from there.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from stores.column import CHUNK_ROWS, Column, create_array
from stores.errors import PlaceError, StoreError
from stores.flags import Flag, flag_table
from stores.location import Url, location
from stores.marker import KEY, METADATA, lacking, marker_file, marker_path, parse_marker
from stores.place import Place, place_at
from stores.provenance import array_digest, fingerprint, provenance

if TYPE_CHECKING:
    import zarr  # imported late: commands answer --help without it

    from stores.embeddings import EmbeddingStore
    from stores.spectra import SpectraStore

FORMAT = 1
SHARD_ROWS = 1024  # rows in a file: large enough for object stores, small enough to lose

# attributes without which a store cannot be used
NEEDED = {
    "rows": int,
    "shard_rows": int,
    "columns": list,
    "job": dict,
    "job_fingerprint": str,
    "complete": bool,
}

Array = NDArray[Any]


def shard_rows_for(n: int, workers: int = 1) -> int:
    """Rows a shard for a job of n rows: smaller for small jobs, so that they too are shared and resumed."""
    share = -(-n // (4 * max(workers, 1)))
    return int(min(SHARD_ROWS, max(256, -(-share // CHUNK_ROWS) * CHUNK_ROWS)))


class Store:
    """A store on disk or in object storage; `open` one, or `create` one for a job and fill its shards.

    path: a Path, or a Url; place: what lies there
    """

    KIND: ClassVar[str]

    def __init__(self, path: str | Path) -> None:
        self.path: Path | Url = location(path)
        self.place = place_at(self.path)
        self._group = _open_group(self.path, self.place)
        self._arrays: dict[str, zarr.Array[Any]] = {}  # opening one reads its metadata

    # -- opening and creating ----------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path, *, unfinished: bool = False) -> Self:
        """Open a store of this kind; refuses one that is unfinished unless told otherwise."""
        store = cls(path)
        kind = store.attributes.get("kind")
        if kind != cls.KIND:
            raise StoreError(f"'{path}' is a store of {kind}, not of {cls.KIND}; name a store of {cls.KIND}.")
        if store.attributes.get("format") != FORMAT:
            raise StoreError(
                f"'{path}' has format version {store.attributes.get('format')}, and this version of "
                f"spectrabridge reads version {FORMAT}; write it again."
            )
        lacks = lacking(store.attributes, NEEDED)
        if lacks or store.shard_rows < 1:
            raise StoreError(
                f"'{path}' is damaged: its attributes lack a usable {lacks or 'shard_rows'}; copy or write it again."
            )
        if not (store.complete or unfinished):
            done = sum(1 for _ in store.finished_shards())
            raise StoreError(
                f"'{path}' is not finished ({done} of {store.n_shards} shards); run the command that wrote "
                "it again to finish it."
            )
        if not unfinished:
            from stores.soundness import refuse_missing_files

            refuse_missing_files(store)
        return store

    @classmethod
    def create(
        cls,
        path: str | Path,
        columns: Mapping[str, Column],
        n: int,
        job: Mapping[str, Any],
        *,
        shard_rows: int,
        details: Mapping[str, Any],
    ) -> Self:
        """A store of n rows for a job, or the unfinished or finished one that the same job has left there.

        job: all that decides the content; a store of another job is refused.
        details: attributes that do not.
        """
        import zarr

        place = place_at(path)
        if place.taken():
            store = cls.open(path, unfinished=True)
            # what it has beyond this job makes it another one, too
            more = set(store.attributes["job"]) - set(job)
            store.refuse_other_job({**job, **dict.fromkeys(sorted(more))})
            if store.complete:
                from stores.soundness import refuse_missing_files, refuse_missing_markers

                refuse_missing_markers(store)
                refuse_missing_files(store)
            return store
        try:
            with place.building() as building:
                group = zarr.open_group(building, mode="w", zarr_format=3)
                for name, column in columns.items():
                    create_array(group, name, column, n, shard_rows)
                group.create_group("shards")
                group.attrs[KEY] = {
                    "format": FORMAT,
                    "kind": cls.KIND,
                    "rows": n,
                    "shard_rows": shard_rows,
                    "columns": sorted(columns),
                    **details,
                    "job": dict(job),
                    "job_fingerprint": fingerprint(dict(job)),
                    "flag_bits": flag_table(),
                    **provenance(),
                    "complete": False,
                }
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            if not place.exists():
                reason = (error.strerror or str(error)).lower()
                raise StoreError(f"'{path}' cannot be created ({reason}); choose another --out.") from None
            return cls.create(path, columns, n, job, shard_rows=shard_rows, details=details)  # someone was faster
        return cls(path)

    def refuse_other_job(self, job: Mapping[str, Any]) -> None:
        """Raise a StoreError if this store was made for another job."""
        mine = self.attributes["job"]
        for name, value in job.items():
            if mine.get(name) != value:
                shown = f" ({name} differs)"
                if _short(value):
                    shown = f" ({name}: {mine.get(name)!r} there, {value!r} here)"
                raise StoreError(
                    f"'{self.path}' exists and belongs to another job{shown}; choose another --out or delete it."
                )

    # -- what it is --------------------------------------------------------------------------------------

    @property
    def attributes(self) -> dict[str, Any]:
        """Everything under the key `spectrabridge`."""
        attributes: Any = self._group.attrs[KEY]
        return dict(attributes)

    @property
    def complete(self) -> bool:
        return bool(self.attributes["complete"])

    @property
    def fingerprint(self) -> str:
        """A hash of the job and of all values; known once the store is complete."""
        return str(self.attributes["fingerprint"])

    @property
    def shard_rows(self) -> int:
        return int(self.attributes["shard_rows"])

    @property
    def n_shards(self) -> int:
        return -(-len(self) // self.shard_rows)

    def __len__(self) -> int:
        return int(self.attributes["rows"])

    @property
    def columns(self) -> list[str]:
        return [str(name) for name in self.attributes["columns"]]

    # -- rows and shards ---------------------------------------------------------------------------------

    def rows(self, shard: int) -> slice:
        """The rows of a shard."""
        start = shard * self.shard_rows
        return slice(start, min(start + self.shard_rows, len(self)))

    def array(self, name: str) -> zarr.Array[Any]:
        """A column as it lies on disk, to be sliced."""
        if name in self._arrays:
            return self._arrays[name]
        if name not in self.columns:
            raise StoreError(f"'{self.path}' has no column '{name}'; it has {', '.join(self.columns)}.")
        try:
            array: Any = self._group[name]
        except PlaceError:
            raise
        except Exception as error:  # zarr raises many kinds for damaged metadata
            raise self._damaged(f"column '{name}' cannot be opened", error) from None
        self._arrays[name] = array
        return self._arrays[name]

    def _damaged(self, what: str, error: Exception) -> StoreError:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return StoreError(f"'{self.path}' is damaged: {what} ({reason}); run stores-verify on it.")

    def read(self, name: str, rows: slice | NDArray[np.integer[Any]] = slice(None)) -> Array:
        """A column's values for a slice of rows, or for chosen rows in their order."""
        array: Any = self.array(name)
        try:
            if isinstance(rows, slice):
                return np.asarray(array[rows])
            return np.asarray(array.oindex[rows] if array.ndim == 1 else array.oindex[rows, :])
        except (IndexError, PlaceError):
            raise  # a row that does not exist is the caller's mistake
        except Exception as error:  # zarr and its codecs raise many kinds for damaged bytes
            raise self._damaged(f"column '{name}' cannot be read", error) from None

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers (n,) of ids (n,), -1 where there is none; an id's first row where it occurs twice."""
        unique = np.flatnonzero((self.read("flags") & np.uint32(Flag.DUPLICATE_ID)) == 0)
        own = self.read("id")[unique]
        order = np.argsort(own, kind="stable")
        place = np.clip(np.searchsorted(own[order], ids), 0, max(len(own) - 1, 0))
        if len(own) == 0:
            return np.full(len(ids), -1)
        row = unique[order[place]]
        return np.where(own[order[place]] == ids, row, -1)

    def finished_shards(self) -> Iterator[int]:
        """Shards whose marker is written."""
        return (shard for shard, _ in self.markers())

    def markers(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Finished shards and their markers."""
        for shard, text in enumerate(self.place.read(map(marker_file, range(self.n_shards)))):
            try:
                marker = self._marker(shard, text)
            except StoreError:  # missing, or cut short by a crash of the machine: the shard is made again
                continue
            yield shard, marker

    def marker(self, shard: int) -> dict[str, Any]:
        """The record of a finished shard: rows, digest, files, sources, failed."""
        return self._marker(shard, next(self.place.read([marker_file(shard)])))

    def _marker(self, shard: int, text: bytes | None) -> dict[str, Any]:
        if text is None:
            if self.complete:
                raise StoreError(
                    f"'{self.path}' is damaged: the marker of shard {shard} is missing; run stores-verify on it."
                )
            raise StoreError(f"'{self.path}': shard {shard} is not written; run the command that wrote it again.")
        try:
            record = parse_marker(text)
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"the marker of shard {shard} cannot be read", error) from None
        if lacks := lacking(record):
            raise StoreError(f"'{self.path}' is damaged: the marker of shard {shard} lacks {lacks}.")
        return record

    def sources(self) -> Iterator[dict[str, Any]]:
        """The files that the rows of finished shards came from, in order: file, size, sha256, rows."""
        last: dict[str, Any] = {}
        for _, marker in self.markers():
            for entry in marker["sources"]:
                if entry["file"] == last.get("file"):  # goes on from the shard before
                    last["rows"] += entry["rows"]
                    last["sha256"] = last["sha256"] or entry["sha256"]
                    continue
                if last:
                    yield last
                last = dict(entry)
        if last:
            yield last

    def source_totals(self) -> dict[str, int]:
        """How many files the rows came from, and their bytes."""
        sizes = Counter({"files": 0, "bytes": 0})
        for source in self.sources():
            sizes.update(files=1, bytes=source["size"])
        return dict(sizes)

    def write_shard(self, shard: int, values: Mapping[str, Array], record: Mapping[str, Any]) -> None:
        """Write all columns of a shard, (rows,) or (rows, width), then its marker."""
        rows = self.rows(shard)
        n = rows.stop - rows.start
        if set(values) != set(self.columns):
            raise ValueError(f"shard {shard} has columns {sorted(values)}, not {self.columns}")
        written = []
        for name in self.columns:
            # chunks that equal the fill value are data too, and must have their file
            array = self.array(name).with_config({"write_empty_chunks": True})
            value = np.ascontiguousarray(values[name], dtype=array.dtype)
            if value.shape != (n, *array.shape[1:]):
                raise ValueError(f"{name} of shard {shard} has shape {value.shape}, not {(n, *array.shape[1:])}")
            array[rows] = value
            written.append(value)
        files = {file: self.place.written(file) for file in self.files(shard)}
        own = {"rows": n, "digest": array_digest(*written), "files": files}
        marker = {"sources": [], "failed": [], **record, **own}
        self._group.create_group(marker_path(shard), attributes={KEY: marker}, overwrite=True)

    def file(self, name: str, shard: int) -> str:
        """The file with a column's values of a shard, relative to the store."""
        return f"{name}/c/{shard}" if self.array(name).ndim == 1 else f"{name}/c/{shard}/0"

    def files(self, shard: int) -> list[str]:
        """All files of a shard, relative to the store."""
        return [self.file(name, shard) for name in self.columns]

    def finish(self, failed: Iterable[Mapping[str, str]] = ()) -> None:
        """Declare the store complete, once every shard is marked.

        failed: inputs that gave no rows at all, {file, reason}; those that failed in a shard are in its marker
        """
        missing = self.n_shards - sum(1 for _ in self.finished_shards())
        if missing:
            raise StoreError(f"'{self.path}' still lacks {missing} of {self.n_shards} shards; run the command again.")
        from stores.duplicates import prefer_readable

        prefer_readable(self)
        attributes = {
            **self.attributes,
            "sources": self.source_totals(),  # their names stay in the markers: a survey has millions of them
            "failed": self.failures(failed),
            "fingerprint": self.fingerprint_of_shards(),
            "complete": True,
        }
        attributes["metadata"] = self.metadata_checksums()
        self._group.attrs[KEY] = {**attributes, "checksum": attributes_checksum(attributes)}

    def failures(self, failed: Iterable[Mapping[str, str]] = ()) -> list[dict[str, str]]:
        """Inputs that could not be used, {file, reason}: those given, and those of the finished shards."""
        reasons = {entry["file"]: entry["reason"] for entry in (*self.attributes.get("failed", []), *failed)}
        for _, marker in self.markers():
            reasons.update((entry["file"], entry["reason"]) for entry in marker["failed"])
        return [{"file": file, "reason": reason} for file, reason in reasons.items()]

    def fingerprint_of_shards(self) -> str:
        """The fingerprint that the markers add up to."""
        texts = self.place.read(map(marker_file, range(self.n_shards)))
        digests = [self._marker(shard, text)["digest"] for shard, text in enumerate(texts)]
        return fingerprint([self.attributes["job_fingerprint"], *digests])

    def metadata_checksums(self) -> dict[str, str]:
        """Checksums of the zarr.json files below the root: of each column, and of all markers together."""
        columns = [f"{name}/{METADATA}" for name in self.columns]
        markers = [f"shards/{METADATA}", *map(marker_file, range(self.n_shards))]
        return {
            **dict(zip(self.columns, self.place.checksums(columns), strict=True)),
            "shards": fingerprint(list(self.place.checksums(markers))),
        }

    # -- checking ----------------------------------------------------------------------------------------

    def verify(self) -> Iterator[tuple[int, list[str]]]:
        """Read everything; yields (shard, faults without full stop), at last (-1, faults of the whole)."""
        from stores.soundness import faults_of

        return faults_of(self)

    def check(self, values: Mapping[str, Array]) -> Iterator[str]:
        """Faults in the values of one shard, as parts of sentences; subclasses add their own."""
        located = (values["flags"] & np.uint32(Flag.NO_COORDINATES)) == 0
        if not np.all(np.isfinite(values["ra"][located]) & np.isfinite(values["dec"][located])):
            yield "ra or dec is not finite where the flags promise a position"
        if not np.all(np.isfinite(values["snr"])):
            yield "snr is not finite"


def store_kind(path: str | Path) -> str:
    """Which kind of store lies at `path`."""
    attributes: Any = _open_group(location(path), place_at(path)).attrs[KEY]
    return str(attributes.get("kind"))


def open_store(path: str | Path, *, unfinished: bool = False) -> SpectraStore | EmbeddingStore:
    """Open a store of whichever kind lies at `path`."""
    from stores.embeddings import EmbeddingStore
    from stores.spectra import SpectraStore

    kind = store_kind(path)
    if kind == SpectraStore.KIND:
        return SpectraStore.open(path, unfinished=unfinished)
    if kind == EmbeddingStore.KIND:
        return EmbeddingStore.open(path, unfinished=unfinished)
    raise StoreError(f"'{path}' is a store of {kind!r}, which this version of spectrabridge does not know.")


def _open_group(path: Path | Url, place: Place) -> zarr.Group:
    import zarr

    try:
        group = zarr.open_group(place.zarr(), mode="r+", zarr_format=3)
        attributes = dict(group.attrs)
    except PlaceError:
        raise
    except Exception as error:  # zarr raises many kinds for what is no group, or a damaged one
        if not place.exists():
            raise StoreError(f"'{path}' does not exist; check the path.") from None
        if place.exists("id") and place.exists("shards"):
            reason = "is missing"
            if place.has(METADATA):
                reason = f"cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})"
            raise StoreError(f"'{path}' is damaged: its zarr.json {reason}; copy or write it again.") from None
        raise StoreError(f"'{path}' is not a spectrabridge store; choose another path.") from None
    if not isinstance(attributes.get(KEY), dict):
        raise StoreError(f"'{path}' is a Zarr group but not a spectrabridge store; choose another path.")
    return group


def attributes_checksum(attributes: Mapping[str, Any]) -> str:
    """A hash of a store's attributes, to stand among them as `checksum`."""
    return fingerprint({name: value for name, value in attributes.items() if name != "checksum"})


def _short(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None) and len(str(value)) < 80
