"""Results: what a comparison found, as tables that are written, read and drawn.

results.json          settings, versions, data, sentences
results.parquet       a row for each method, size, label and regime
predictions.parquet   a row for each method, size, draw, label and tested star
stars.parquet         the tested stars
landscapes.parquet    losses around the weights of heads, where they were asked for
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.errors import InputError

ABOUT = "results.json"
METHOD = ("group", "input", "strategy")  # the columns that name a method
WHAT = {  # methods that are no heads, in a few words
    "SP": "DESI's fit of stellar parameters",
    "RVSpecfit": "DESI's fit of velocities, with stellar parameters",
    "LASP": "LAMOST's own pipeline",
    "ridge_pca64": "a ridge on principal components",
    "knn": "nearest neighbours among embeddings",
    "payne": "a fit of synthetic spectra",
}


def explained(name: str) -> str:
    """A method with what it is in a few words, where that is known: payne (a fit of synthetic spectra)."""
    return f"{name} ({WHAT[name]})" if name in WHAT else name


@dataclass(frozen=True)
class Table:
    """Columns (n,) by name: numbers, booleans, or text."""

    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def where(self, **values: Any) -> Table:
        """The rows whose columns have these values: where(label="feh", size=100)."""
        chosen = np.ones(len(self), dtype=bool)
        for name, value in values.items():
            chosen &= self.columns[name] == value
        return self.take(chosen)

    def take(self, rows: NDArray[Any]) -> Table:
        """Only these rows."""
        return Table({name: column[rows] for name, column in self.columns.items()})

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each row."""
        names = list(self.columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*self.columns.values(), strict=True)]

    @classmethod
    def of_rows(cls, rows: list[dict[str, Any]]) -> Table:
        """The opposite of `rows`; all need the same names."""
        names = rows[0] if rows else ()
        return cls({name: np.array([row[name] for row in rows]) for name in names})

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write as Parquet with `about` in its metadata, whole or not at all."""
        table = pa.table({name: pa.array(column) for name, column in self.columns.items()})
        table = table.replace_schema_metadata({"spectrabridge": json.dumps(about)})
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read what `save` wrote. Raises InputError for what is no Parquet file."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid):
            raise InputError(f"'{path}' cannot be read as Parquet; run heads-bench again.") from None
        return cls({name: _plain(table[name].to_numpy()) for name in table.column_names})


@dataclass(frozen=True)
class Results:
    """All of a comparison's folder: about (results.json) and the tables, landscapes only where there are some."""

    about: dict[str, Any]
    scores: Table
    predictions: Table
    stars: Table
    landscapes: Table | None = None

    def save(self, folder: Path) -> None:
        """Write all files, results.json last, which says that the rest is there."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"results": self.scores, "predictions": self.predictions, "stars": self.stars}
        if self.landscapes is not None:
            tables["landscapes"] = self.landscapes
        made: dict[str, Any] = {name: self.about.get(name) for name in ("version", "commit", "command", "created")}
        for name, table in tables.items():
            table.save(folder / f"{name}.parquet", made)
        with replacing(folder / ABOUT) as temporary:
            temporary.write_text(json.dumps(self.about, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read a folder. Raises InputError where there are no results."""
        try:
            about = json.loads((folder / ABOUT).read_text())
        except FileNotFoundError:
            raise InputError(f"'{folder}' holds no results; run heads-bench --out {folder} first.") from None
        except ValueError:
            raise InputError(f"'{folder / ABOUT}' is not valid JSON; run heads-bench again.") from None
        scores, said, stars = (Table.load(folder / f"{name}.parquet") for name in ("results", "predictions", "stars"))
        landscapes = folder / "landscapes.parquet"
        return cls(about, scores, said, stars, Table.load(landscapes) if landscapes.is_file() else None)


def _plain(column: NDArray[Any]) -> NDArray[Any]:
    """Text as numpy's own strings, which compare element by element."""
    return column.astype(str) if column.dtype == object else column
