"""Radial velocities from a catalogue, joined to spectra by id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.provenance import array_digest
from stores.spectrum import Float, as_id

ID_NAMES = ("targetid", "id", "obsid", "source_id")
VELOCITY_NAMES = ("vrad", "rv", "radial_velocity")


@dataclass(frozen=True)
class Velocities:
    """ids (n,) int64, sorted and unique, and rv (n,) km/s; NaN where the catalogue has none."""

    ids: NDArray[np.int64]
    rv: Float

    @classmethod
    def read(cls, path: Path) -> Velocities:
        """From DESI's mwsall or rvtab files (HDU RVTAB: TARGETID, VRAD), or a table with ids and velocities.

        Rows with the same id keep the first finite value.
        """
        from astropy.io.registry import IORegistryError
        from astropy.table import Table

        try:
            if path.suffix == ".parquet":
                table = _read_parquet(path)
            else:
                table = Table.read(path) if path.suffix in (".csv", ".ecsv") else _read_fits(path)
        except FileNotFoundError:
            raise InputError(f"'{path}' does not exist; check the path.") from None
        except (OSError, ValueError, KeyError, IORegistryError) as error:
            raise InputError(f"'{path}' cannot be read as a table of velocities ({error}).") from None
        columns = {name.lower(): name for name in table.colnames}
        id_name = next((columns[name] for name in ID_NAMES if name in columns), None)
        rv_name = next((columns[name] for name in VELOCITY_NAMES if name in columns), None)
        if id_name is None or rv_name is None:
            raise InputError(
                f"'{path}' has no column of ids ({', '.join(ID_NAMES)}) or of velocities "
                f"({', '.join(VELOCITY_NAMES)}); it has {', '.join(table.colnames[:12])}."
            )
        named = ~np.ma.getmaskarray(table[id_name])  # rows without an id are nobody's
        try:
            rv = np.ma.filled(np.ma.asarray(table[rv_name]).astype(np.float64), np.nan)[named]
        except ValueError:
            raise InputError(f"'{path}': column {rv_name} does not hold numbers.") from None
        ids = as_id(np.ma.getdata(table[id_name])[named])
        order = np.lexsort((~np.isfinite(rv), ids))  # stable: finite values first within an id
        ids, rv = ids[order], rv[order]
        first = np.ones(len(ids), dtype=bool)
        first[1:] = ids[1:] != ids[:-1]
        return cls(ids[first], rv[first])

    @property
    def fingerprint(self) -> str:
        return array_digest(self.ids, self.rv)

    def of(self, ids: NDArray[np.int64]) -> Velocities:
        """Only the entries of these ids."""
        wanted = np.unique(ids)
        place = np.searchsorted(self.ids, wanted)
        place = place[place < len(self.ids)]
        keep = place[self.ids[place] == wanted[: len(place)]]  # both are sorted
        return Velocities(self.ids[keep], self.rv[keep])

    def lookup(self, ids: NDArray[np.int64], default: Float) -> Float:
        """rv (n,) of ids (n,); the default's value where the catalogue has none."""
        if len(self.ids) == 0:
            return default
        place = np.clip(np.searchsorted(self.ids, ids), 0, len(self.ids) - 1)
        known = (self.ids[place] == ids) & np.isfinite(self.rv[place])
        return np.where(known, self.rv[place], default)


def _read_fits(path: Path):  # type: ignore[no-untyped-def]
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus]
        chosen: str | int | None = next((name for name in ("RVTAB", "REDSHIFTS") if name in names), None)
        if chosen is None:
            chosen = next((i for i, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU)), None)
        if chosen is None:
            raise ValueError("no table in it")
        hdu = hdus[chosen]
        return Table({name: np.array(hdu.data[name]) for name in hdu.columns.names if hdu.data[name].ndim == 1})


def _read_parquet(path: Path):  # type: ignore[no-untyped-def]
    import pyarrow as pa
    import pyarrow.parquet as pq
    from astropy.table import Table

    columns = {}
    read = pq.read_table(path)
    for name, column in zip(read.column_names, read.columns, strict=True):
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            # a null would turn 64-bit ids into floats
            values = column.fill_null(0).to_numpy()
            columns[name] = np.ma.MaskedArray(values, mask=column.is_null().to_numpy())
    return Table(columns)
