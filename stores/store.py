"""What spectra and embedding stores share: a Zarr v3 group written by whole shards.

    X.zarr/            attributes under the key `spectrabridge`, see docs/stores.md
      flux, ivar, ...  arrays of n rows; a shard is `shard_rows` rows of every array
      shards/00000     the marker of a finished shard: row count, digest, source files, faults

A shard is the unit of work and has one writer. Its marker is written after its data, `complete` after all
markers: what is not marked does not count, so a run that is killed at any moment can be run again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from stores.errors import StoreError
from stores.flags import Flag, flag_table
from stores.provenance import array_digest, fingerprint, provenance

if TYPE_CHECKING:
    import zarr  # imported late: commands answer --help without it

FORMAT = 1
KEY = "spectrabridge"
CHUNK_ROWS = 64  # rows that are read together: small enough for random rows
SHARD_ROWS = 4096  # rows in a file: large enough for object stores, small enough to lose

Array = NDArray[Any]


@dataclass(frozen=True)
class Column:
    """One array of a store: (n,) or, with a width, (n, width)."""

    dtype: str
    unit: str
    description: str
    width: int | None = None


ROW_COLUMNS: dict[str, Column] = {
    "id": Column("int64", "", "the survey's identifier of the spectrum"),
    "ra": Column("float64", "deg", "right ascension, ICRS; NaN if the file has none"),
    "dec": Column("float64", "deg", "declination, ICRS; NaN if the file has none"),
    "snr": Column("float32", "", "median signal-to-noise ratio per grid pixel"),
    "flags": Column("uint32", "", "quality bitmask, see the attribute flag_bits"),
}


def shard_rows_for(n: int, workers: int = 1) -> int:
    """Rows a shard for a job of n rows: smaller for small jobs, so that they too are shared and resumed."""
    share = -(-n // (4 * max(workers, 1)))
    return int(min(SHARD_ROWS, max(256, -(-share // CHUNK_ROWS) * CHUNK_ROWS)))


class Store:
    """A store on disk; `open` one, or `create` one for a job and fill its shards."""

    KIND: ClassVar[str]

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group

    # -- opening and creating ----------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path, *, unfinished: bool = False) -> Self:
        """Open a store of this kind; refuses one that is unfinished unless told otherwise."""
        store = cls(Path(path), _open_group(Path(path)))
        kind = store.attributes.get("kind")
        if kind != cls.KIND:
            raise StoreError(f"'{path}' is a store of {kind}, not of {cls.KIND}.")
        if store.attributes.get("format") != FORMAT:
            raise StoreError(
                f"'{path}' has format version {store.attributes.get('format')}, and this version of "
                f"spectrabridge reads version {FORMAT}; write it again."
            )
        if not (store.complete or unfinished):
            done = sum(1 for _ in store.finished_shards())
            raise StoreError(
                f"'{path}' is not finished ({done} of {store.n_shards} shards); run the command that wrote it "
                "again to finish it."
            )
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

        path = Path(path)
        if path.exists() or path.is_symlink():
            store = cls.open(path, unfinished=True)
            store._refuse_other_job(job)
            return store
        building = path.with_name(f"{path.name}.building-{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.open_group(building, mode="w", zarr_format=3)
            for name, column in columns.items():
                _create_array(group, name, column, n, shard_rows)
            group.create_group("shards")
            group.attrs[KEY] = {
                "format": FORMAT,
                "kind": cls.KIND,
                "rows": n,
                "shard_rows": shard_rows,
                **details,
                "job": dict(job),
                "job_fingerprint": fingerprint(dict(job)),
                "flag_bits": flag_table(),
                **provenance(),
                "complete": False,
            }
            building.rename(path)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return cls(path, _open_group(path))

    def _refuse_other_job(self, job: Mapping[str, Any]) -> None:
        mine = self.attributes["job"]
        for name, value in job.items():
            if mine.get(name) != value:
                shown = f": its {name} is {mine.get(name)!r}, not {value!r}" if _short(value) else f" ({name} differs)"
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
        return sorted(name for name, _ in self._group.arrays())

    # -- rows and shards ---------------------------------------------------------------------------------

    def rows(self, shard: int) -> slice:
        """The rows of a shard."""
        start = shard * self.shard_rows
        return slice(start, min(start + self.shard_rows, len(self)))

    def array(self, name: str) -> zarr.Array[Any]:
        """A column as it lies on disk, to be sliced."""
        array: Any = self._group[name]
        return array

    def read(self, name: str, rows: slice | NDArray[np.integer[Any]] = slice(None)) -> Array:
        """A column's values for a slice of rows, or for chosen rows in their order."""
        array = self.array(name)
        if isinstance(rows, slice):
            return np.asarray(array[rows])
        return np.asarray(array.oindex[rows] if array.ndim == 1 else array.oindex[rows, :])

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
        return (shard for shard in range(self.n_shards) if _marker(shard) in self._group)

    def marker(self, shard: int) -> dict[str, Any]:
        """The record of a finished shard: rows, digest, sources, failed."""
        record: Any = self._group[_marker(shard)].attrs[KEY]
        return dict(record)

    def write_shard(self, shard: int, values: Mapping[str, Array], record: Mapping[str, Any]) -> None:
        """Write all columns of a shard, then its marker; `values` holds every column, (rows,) or (rows, width)."""
        rows = self.rows(shard)
        n = rows.stop - rows.start
        for name in sorted(values):
            array = self.array(name)
            value = np.ascontiguousarray(values[name], dtype=array.dtype)
            if value.shape != (n, *array.shape[1:]):
                raise ValueError(f"{name} of shard {shard} has shape {value.shape}, not {(n, *array.shape[1:])}")
            array[rows] = value
        marker = {"rows": n, "digest": self._digest(shard), **record}
        self._group.create_group(_marker(shard), attributes={KEY: marker}, overwrite=True)

    def _digest(self, shard: int) -> str:
        # of what is on disk, so that a write that went wrong is found at once by whoever verifies
        return array_digest(*(self.read(name, self.rows(shard)) for name in self.columns))

    def finish(self, **more: Any) -> None:
        """Declare the store complete, once every shard is marked."""
        missing = self.n_shards - sum(1 for _ in self.finished_shards())
        if missing:
            raise StoreError(f"'{self.path}' still lacks {missing} of {self.n_shards} shards; run the command again.")
        digests = [self.marker(shard)["digest"] for shard in range(self.n_shards)]
        whole = fingerprint([self.attributes["job_fingerprint"], *digests])
        self._group.attrs[KEY] = {**self.attributes, **more, "fingerprint": whole, "complete": True}

    # -- checking ----------------------------------------------------------------------------------------

    def verify(self) -> Iterator[tuple[int, list[str]]]:
        """Read every shard; yields (shard, faults as sentences), at last (-1, faults of the whole)."""
        digests = []
        for shard in range(self.n_shards):
            if _marker(shard) not in self._group:
                yield shard, [f"shard {shard} is not written"]
                continue
            marker = self.marker(shard)
            digests.append(marker["digest"])
            try:
                values = {name: self.read(name, self.rows(shard)) for name in self.columns}
            except Exception as error:  # zarr and its codecs raise many kinds for damaged bytes
                yield shard, [f"shard {shard} cannot be read ({str(error).splitlines()[0]})"]
                continue
            faults = list(self.check(values))
            if marker["rows"] != len(values["id"]):
                faults.append(f"holds {len(values['id'])} rows where its marker says {marker['rows']}")
            if array_digest(*(values[name] for name in self.columns)) != marker["digest"]:
                faults.append("its values are not those that were written (digest differs)")
            yield shard, [f"shard {shard}: {fault}" for fault in faults]
        yield -1, list(self._check_whole(digests))

    def check(self, values: Mapping[str, Array]) -> Iterator[str]:
        """Faults in the values of one shard, as parts of sentences; subclasses add their own."""
        located = (values["flags"] & np.uint32(Flag.NO_COORDINATES)) == 0
        if not np.all(np.isfinite(values["ra"][located]) & np.isfinite(values["dec"][located])):
            yield "ra or dec is not finite where the flags promise a position"
        if not np.all(np.isfinite(values["snr"])):
            yield "snr is not finite"

    def _check_whole(self, digests: list[str]) -> Iterator[str]:
        attributes = self.attributes
        if not attributes["complete"]:
            yield "the store is not marked complete"
        if fingerprint(attributes["job"]) != attributes["job_fingerprint"]:
            yield "the job in the attributes does not have the fingerprint that stands beside it"
        expected = fingerprint([attributes["job_fingerprint"], *digests])
        if attributes["complete"] and attributes["fingerprint"] != expected:
            yield "the store's fingerprint is not that of its shards"
        flags, ids = self.read("flags"), self.read("id")
        own = ids[(flags & np.uint32(Flag.DUPLICATE_ID)) == 0]
        if len(np.unique(own)) != len(own):
            yield "an id occurs twice without the flag DUPLICATE_ID"


def store_kind(path: str | Path) -> str:
    """Which kind of store lies at `path`."""
    attributes: Any = _open_group(Path(path)).attrs[KEY]
    return str(attributes["kind"])


def _open_group(path: Path) -> zarr.Group:
    import zarr

    if not path.exists():
        raise StoreError(f"'{path}' does not exist; check the path.")
    try:
        group = zarr.open_group(path, mode="r+", zarr_format=3)
    except (FileNotFoundError, KeyError, ValueError, NotADirectoryError):
        raise StoreError(f"'{path}' is not a spectrabridge store; choose another path.") from None
    if KEY not in group.attrs:
        raise StoreError(f"'{path}' is a Zarr group but not a spectrabridge store; choose another path.")
    return group


def _create_array(group: zarr.Group, name: str, column: Column, n: int, shard_rows: int) -> None:
    attributes = {"unit": column.unit, "description": column.description}
    kind = np.dtype(column.dtype).kind
    # rows that were never written must not look like data
    fill: Any = np.nan if kind == "f" else (-1 if kind == "i" else 0xFFFFFFFF)
    common: dict[str, Any] = {"dtype": column.dtype, "fill_value": fill, "attributes": attributes}
    common["config"] = {"write_empty_chunks": True}  # all-equal chunks are data too, and looking costs time
    if column.width is None:
        # compression saves some 10 % of spectra and costs most of the speed: none
        group.create_array(name, shape=(n,), chunks=(shard_rows,), compressors=None, **common)
    else:
        group.create_array(
            name,
            shape=(n, column.width),
            chunks=(CHUNK_ROWS, column.width),
            shards=(shard_rows, column.width),
            compressors=None,
            **common,
        )


def _marker(shard: int) -> str:
    return f"shards/{shard:05d}"


def _short(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None) and len(str(value)) < 80
