"""HATS catalogues: tables cut into partitions by place on the sky, read through LSDB; and such a catalogue written.

    catalogue = HatsCatalogue.open("desi-hats")
    for pixel in catalogue.pixels:                      # (order, number)
        rows = catalogue.read(pixel)                    # spectra as they are, to be prepared
        write_partition(out, pixel, form, part)         # atomic: what is there is whole
    finish(out, "parameters", form, pixels, most)       # properties last: a folder without is no catalogue

What is written has the layout of https://www.ivoa.net/documents/Notes/HATS/ and opens in LSDB; each Parquet file of it
has units, descriptions and provenance of its own, as all tables have (stores.tables).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stores.column import Column
from stores.errors import InputError, OptionError
from stores.nested import Columns, Rows
from stores.provenance import header_text
from stores.tables import TableForm, arrow_schema, write_table

if TYPE_CHECKING:
    from stores.store import Array

INDEX = "_healpix_29"  # where a row lies on the sky: what a partition is sorted by
INDEX_COLUMN = Column("int64", "", "HEALPix index of order 29, nested")
TOLD = "spectrabridge.json"  # in a catalogue that was written: where it comes from, and which partitions failed
Pixel = tuple[int, int]  # order and number of a partition


def refuse_uninstalled() -> None:
    """Raise OptionError where LSDB is not installed."""
    if find_spec("lsdb") is None:
        raise OptionError("HATS catalogues need LSDB, which is not installed; run pip install 'spectrabridge[hats]'.")


def shown(pixel: Pixel) -> str:
    """A partition's name, as its folder and file have it."""
    return f"Norder={pixel[0]}/Npix={pixel[1]}"


@dataclass(frozen=True)
class HatsCatalogue:
    """A catalogue of spectra, small enough to send to another process, which opens it again.

    path: a folder, or a URL that LSDB reads; columns: where it has what; pixels: its partitions
    made: when, and how many rows it has, as a catalogue that was made anew may have another of these
    """

    path: str
    columns: Columns
    pixels: tuple[Pixel, ...]
    made: str

    @classmethod
    def open(cls, path: str, named: Mapping[str, str] | None = None) -> HatsCatalogue:
        """Open a catalogue, or the main one of a collection.

        named: columns by role, where stores.nested does not know their names

        Raises InputError for what is none, or has not the columns that are needed.
        """
        refuse_uninstalled()
        _opened.cache_clear()  # it may have changed
        if "://" not in path:
            path = str(Path(path).absolute())  # for processes that are at home in other folders
        catalogue = _opened(path, None)
        info = catalogue.hc_structure.catalog_info
        if str(getattr(info.catalog_type, "value", info.catalog_type)) not in ("object", "source"):
            raise InputError(f"'{path}' is a HATS catalogue of type {info.catalog_type}; name one of spectra.")
        own = {"ra": info.ra_column, "dec": info.dec_column}
        given = {role: name for role, name in own.items() if name} | dict(named or {})
        columns = Columns.find(catalogue.hc_structure.schema, given, f"the HATS catalogue '{path}'")
        pixels = tuple((int(pixel.order), int(pixel.pixel)) for pixel in catalogue.get_healpix_pixels())
        if not pixels:
            raise InputError(f"the HATS catalogue '{path}' has no partitions; check the path.")
        made = f"{getattr(info, 'hats_creation_date', '')}, {info.total_rows} rows"
        return cls(path, columns, pixels, made)

    def read(self, pixel: Pixel) -> tuple[Rows, NDArray[np.int64]]:
        """The rows of a partition, and their indices on the sky (n,). Raises InputError if it cannot be read."""
        import dask

        whole = _opened(self.path, tuple(self.columns.to_load))
        try:
            # within a worker of a cluster, too
            with _deprecations_ignored(), dask.config.set(scheduler="synchronous"):
                frame = whole.get_partition(*pixel).compute(progress_bar=False)
        # files, networks and formats fail with nearly every type of exception
        except Exception as error:
            raise InputError(f"it cannot be read ({_reason(error)}).") from error
        rows = Rows.of(frame, self.columns)
        if frame.index.name == INDEX:
            return rows, frame.index.to_numpy(dtype=np.int64)
        from hats.pixel_math.spatial_index import compute_spatial_index

        place = (frame[self.columns.of[name]].to_numpy(dtype=np.float64) for name in ("ra", "dec"))
        return rows, np.asarray(compute_spatial_index(*place), dtype=np.int64)


@lru_cache(maxsize=2)
def _opened(path: str, columns: tuple[str, ...] | None) -> Any:
    """The catalogue as LSDB has it, with some columns only; opened once a process."""
    import lsdb

    try:
        with _deprecations_ignored():
            return lsdb.open_catalog(path, columns=None if columns is None else list(columns))
    # files, networks and formats fail with nearly every type of exception
    except Exception as error:
        raise InputError(
            f"'{path}' cannot be opened as a HATS catalogue ({_reason(error)}); check the path."
        ) from error


@contextmanager
def _deprecations_ignored() -> Iterator[None]:
    """Hear nothing of what LSDB and the packages below it do not yet do as they should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


# -- writing -----------------------------------------------------------------------------------------------


def partition_file(out: Path, pixel: Pixel) -> Path:
    """Where a partition lies in a catalogue, as HATS has it."""
    order, number = pixel
    return out / "dataset" / f"Norder={order}" / f"Dir={number // 10_000 * 10_000}" / f"Npix={number}.parquet"


def write_partition(out: Path, pixel: Pixel, form: TableForm, part: Mapping[str, Array]) -> None:
    """Write the rows of a partition, whole or not at all.

    form: of the catalogue, whatever its number of rows; part: its columns and INDEX (n,)
    """
    columns = {INDEX: INDEX_COLUMN, **form.columns}
    write_table(
        partition_file(out, pixel), replace(form, columns=columns, rows=len(part[INDEX])), [sorted_by_place(part)]
    )


def sorted_by_place(part: Mapping[str, Array]) -> dict[str, Array]:
    """The rows in the order of their indices, in which LSDB looks for them."""
    order = np.argsort(part[INDEX], kind="stable")
    return {name: values[order] for name, values in part.items()}


def partitions(out: Path, pixels: tuple[Pixel, ...]) -> Iterator[tuple[Pixel, Any]]:
    """Those of the partitions that are written, with their Arrow tables."""
    import pyarrow.parquet as pq

    for pixel in pixels:
        if (path := partition_file(out, pixel)).exists():
            # not as a dataset, which would make columns of the folders' names
            with pq.ParquetFile(path) as file:
                yield pixel, file.read()


def finish(out: Path, name: str, form: TableForm, pixels: list[Pixel], most: int) -> None:
    """Make a catalogue of the partitions that are written: metadata, and its properties last.

    name: what it is called; form: with all its rows; pixels: of the partitions; most: rows in one of them
    """
    import pyarrow.parquet as pq
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.pixel_math import HealpixPixel

    for left in (out / "dataset").rglob(".*.partial.parquet"):  # of workers that were killed
        left.unlink()
    write_parquet_metadata(out, create_per_partition_stats=True)
    # what hats takes from one of the partitions, of all of them
    schema = arrow_schema(replace(form, columns={INDEX: INDEX_COLUMN, **form.columns}))
    pq.write_metadata(schema, out / "dataset" / "_common_metadata")
    info = PartitionInfo([HealpixPixel(*pixel) for pixel in pixels])
    info.write_to_file(out / "partition_info.csv")
    told = form.about
    properties = {
        "catalog_name": name,
        "catalog_type": "object",
        "total_rows": form.rows,
        "ra_column": "ra",
        "dec_column": "dec",
        "healpix_column": INDEX,
        "healpix_order": 29,
        "npix_suffix": ".parquet",
        "hats_max_rows": most,
        "hats_order": info.get_highest_order(),
        "moc_sky_fraction": float(f"{info.calculate_fractional_coverage():.5g}"),
        "hats_builder": f"spectrabridge {told['version']}",
        "hats_creation_date": told["created"],
        "hats_version": "v1.0",
        **{key: header_text(str(value)) for key, value in told.get("properties", {}).items()},
    }
    TableProperties.model_validate(properties).to_properties_file(out)


def told_of(folder: Path) -> dict[str, Any]:
    """What a catalogue that was written says of itself; empty where there is none."""
    return json_of(folder / TOLD) if (folder / "hats.properties").is_file() else {}


def json_of(path: Path) -> dict[str, Any]:
    """An object in a JSON file; empty if there is none that can be read."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
