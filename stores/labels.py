"""Labels: what is known of the stars behind the spectra of a store, where from, and who trains on whom.

    labels = Labels.load("labels.parquet")
    rows = store.find(labels.id)                     # joined by id, never by position
    train = labels.take(labels.in_part("train"))
    train.values["feh"], train.sigmas["feh"]         # (n,), NaN where unknown

docs/labels.md tells how they are made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.catalogue import UNITS
from stores.errors import InputError, OptionError
from stores.provenance import array_digest, provenance
from stores.spectrum import Float, as_id

KEY = "spectrabridge"  # of the metadata
FORMAT = 1
NONE = -1  # of source and split
RESERVED = ("id", "star", "split")
# [Fe/H] from, and up to but not including
REGIMES = {"rich": (-1.0, np.inf), "poor": (-2.0, -1.0), "very poor": (-np.inf, -2.0)}
UNKNOWN = len(REGIMES)


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of `n` spectra, a row a spectrum, sorted by id.

    id: (n,) int64, the survey's identifier of the spectrum, unique
    star: (n,) int64, the number of its star; spectra of one star share it
    values: label -> (n,) float64, NaN where unknown; teff in K, logg, feh, alphafe in dex
    sigmas: label -> (n,) float64, one-sigma errors as the catalogues give them, NaN where unknown
    source: label -> (n,) int64, index into `sources`, -1 where the label is unknown
    sources: names of the catalogues
    split: (n,) int64, index into `parts`, the same for all spectra of a star; -1 where in none
    parts: names such as 'train', empty if not split
    notes: how all this was made, as JSON can hold it

    Raises InputError for columns that do not fit, ids that repeat, and a star that is in two parts.
    """

    id: NDArray[np.int64]
    star: NDArray[np.int64]
    values: Mapping[str, Float]
    sigmas: Mapping[str, Float]
    source: Mapping[str, NDArray[np.int64]]
    sources: tuple[str, ...]
    split: NDArray[np.int64] | None = None
    parts: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids, star = as_id(self.id), as_id(self.star)
        n = len(ids)
        split = np.full(n, NONE, dtype=np.int64) if self.split is None else as_id(self.split)
        if not set(self.values) == set(self.sigmas) == set(self.source):
            raise InputError("labels need the same names in values, sigmas and source.")
        if taken := [name for name in self.values if name in RESERVED or name.startswith(("sigma_", "source_"))]:
            raise InputError(f"'{taken[0]}' cannot be the name of a label; choose another.")
        columns = [star, split, *self.values.values(), *self.sigmas.values(), *self.source.values()]
        if any(np.shape(column) != (n,) for column in columns):
            raise InputError(f"columns of labels do not have the {n} rows of the ids.")
        order = np.argsort(ids, kind="stable")
        ids, star, split = ids[order], star[order], split[order]
        if n and (ids[1:] == ids[:-1]).any():
            raise InputError(f"id {ids[1:][ids[1:] == ids[:-1]][0]} has two rows of labels; keep one.")
        if leak := _in_two(star, split):
            raise InputError(f"star {leak[0]} is in two parts of the split; split by star, not by spectrum.")
        kept: dict[str, Any] = {"id": ids, "star": star, "split": split}
        kept["sources"], kept["parts"] = tuple(self.sources), tuple(self.parts)
        for name, dtype in (("values", np.float64), ("sigmas", np.float64), ("source", np.int64)):
            held = getattr(self, name)
            kept[name] = {label: np.asarray(held[label], dtype=dtype)[order] for label in self.values}
        for label, value in kept["values"].items():
            known, origin = np.isfinite(value), kept["source"][label]
            if np.any(known != (origin >= 0)) or np.any(origin >= len(self.sources)):
                raise InputError(f"values and sources of the label '{label}' do not fit together.")
        if np.any(split >= len(self.parts)) or np.any(split < NONE):
            raise InputError(f"a row is in a part that is not one of {', '.join(self.parts) or 'none'}.")
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.id)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels there are."""
        return tuple(self.values)

    def known(self, *labels: str) -> NDArray[np.bool_]:
        """(n,) True where all of these labels are known."""
        for label in labels:
            if label not in self.values:
                raise OptionError(f"there is no label '{label}'; there are {', '.join(self.names)}.")
        return np.all([np.isfinite(self.values[label]) for label in labels], axis=0)

    def in_part(self, part: str) -> NDArray[np.bool_]:
        """(n,) True where the spectrum is in this part of the split."""
        if part not in self.parts:
            raise OptionError(f"there is no part '{part}'; there are {', '.join(self.parts) or 'none: split first'}.")
        return np.asarray(self.split == self.parts.index(part))

    def regime(self) -> NDArray[np.int64]:
        """(n,) the [Fe/H] regime of each spectrum, an index into REGIMES; UNKNOWN without [Fe/H]."""
        return regime(self.values["feh"] if "feh" in self.values else np.full(len(self), np.nan))

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_] | slice) -> Labels:
        """Only these rows; they are sorted by id again."""
        assert self.split is not None
        columns: dict[str, Any] = {
            name: {label: column[rows] for label, column in getattr(self, name).items()}
            for name in ("values", "sigmas", "source")
        }
        return replace(self, id=self.id[rows], star=self.star[rows], split=self.split[rows], **columns)

    @property
    def fingerprint(self) -> str:
        """A hash of all values, sources and parts; not of the notes."""
        assert self.split is not None
        names = np.frombuffer(json.dumps([self.names, self.sources, self.parts]).encode(), dtype=np.uint8)
        columns = [column for held in (self.values, self.sigmas, self.source) for column in held.values()]
        return array_digest(names, self.id, self.star, self.split, *columns)

    # -- at rest -----------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write one Parquet table: id, star, split, and for each label X the columns X, sigma_X, source_X."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self.split is not None
        about = "number of the star; spectra of one star share it"
        columns = [
            ("id", pa.array(self.id), "", "the survey's identifier of the spectrum"),
            ("star", pa.array(self.star), "", about),
            ("split", _words(self.split, self.parts), "", "part of the split"),
        ]
        for label in self.names:
            unit = UNITS.get(label, "")
            columns += [
                (label, pa.array(self.values[label], from_pandas=True), unit, ""),
                (f"sigma_{label}", pa.array(self.sigmas[label], from_pandas=True), unit, "one sigma"),
                (f"source_{label}", _words(self.source[label], self.sources), "", "catalogue that gave the label"),
            ]
        metadata = {
            "kind": "labels",
            "format": FORMAT,
            "labels": self.names,
            "sources": self.sources,
            "parts": self.parts,
            "notes": self.notes,
            "fingerprint": self.fingerprint,
            **provenance(),
        }
        fields = [
            pa.field(name, array.type, metadata={"unit": unit, "description": what})
            for name, array, unit, what in columns
        ]
        schema = pa.schema(fields, metadata={KEY: json.dumps(metadata)})
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(path)) as temporary:
            pq.write_table(pa.table([array for _, array, _, _ in columns], schema=schema), temporary)

    @classmethod
    def load(cls, path: str | Path) -> Labels:
        """Read what `save` wrote; raises InputError if it is missing, damaged, changed or something else."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not Path(path).is_file():
            raise InputError(f"'{path}' does not exist; make labels with stores-labels.")
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            if Path(path).suffix != ".parquet":
                raise InputError(f"'{path}' is no table of stores-labels; {_of_another_kind(path)}.") from None
            raise InputError(f"'{path}' is damaged or no Parquet table; make it again.") from error
        try:
            about = json.loads((table.schema.metadata or {})[KEY.encode()])
            assert about["kind"] == "labels"
        except (KeyError, ValueError, TypeError, AssertionError):
            raise InputError(f"'{path}' holds no labels of stores-labels; {_of_another_kind(path)}.") from None
        if about["format"] != FORMAT:
            raise InputError(
                f"'{path}' has format version {about['format']}, and this version of spectrabridge reads "
                f"version {FORMAT}; make it again."
            )
        sources, parts, names = (tuple(about[name]) for name in ("sources", "parts", "labels"))
        try:
            labels = cls(
                id=table["id"].to_numpy(),
                star=table["star"].to_numpy(),
                values={label: _floats(table[label]) for label in names},
                sigmas={label: _floats(table[f"sigma_{label}"]) for label in names},
                source={label: _numbers(table[f"source_{label}"], sources) for label in names},
                sources=sources,
                split=_numbers(table["split"], parts),
                parts=parts,
                notes=about["notes"],
            )
        except KeyError as error:
            raise InputError(f"'{path}' lacks {error}; make it again with stores-labels.") from None
        except InputError as error:
            raise InputError(f"'{path}': {error}") from None
        if labels.fingerprint != about["fingerprint"]:
            raise InputError(f"'{path}' was changed after it was written; make it again with stores-labels.")
        return labels

    # -- for people --------------------------------------------------------------------------------------

    def summary(self) -> str:
        """Spectra and stars with each label, by regime and source, and the parts of the split, as text."""
        where = self.regime()
        lines = [f"{len(self)} spectra of {len(np.unique(self.star))} stars"]
        head = ("label", "source", *REGIMES, "no [Fe/H]", "all")
        rows: list[tuple[str, ...]] = []
        for label in self.names:
            for number, name in enumerate(self.sources):
                own = self.source[label] == number
                if own.any():
                    rows.append((label, name, *_counts(where[own])))
        lines += ["", "spectra with a label, by [Fe/H] (rich -1 and above, very poor below -2)", *_table(head, rows)]
        if self.parts:
            assert self.split is not None
            first = np.unique(self.star, return_index=True)[1]  # a row of each star
            rows = []
            for number, name in enumerate(self.parts):
                own = self.split == number
                star = star_regimes(self)[own[first]]
                rows.append((name, str(int(own.sum())), *_counts(star)))
            lines += ["", "parts: spectra, and stars by [Fe/H]", *_table(("part", "spectra", *head[2:]), rows)]
        return "\n".join(lines)


def regime(feh: Float) -> NDArray[np.int64]:
    """(n,) index into REGIMES of [Fe/H] (n,); UNKNOWN where it is NaN."""
    number = np.full(len(feh), UNKNOWN, dtype=np.int64)
    for i, (low, high) in enumerate(REGIMES.values()):
        number[(feh >= low) & (feh < high)] = i
    return number


def star_regimes(labels: Labels) -> NDArray[np.int64]:
    """(stars,) the regime of each star, in the order of its number, by the median [Fe/H] of its spectra."""
    stars, index = np.unique(labels.star, return_inverse=True)
    feh = labels.values["feh"] if "feh" in labels.values else np.full(len(labels), np.nan)
    known = np.flatnonzero(np.isfinite(feh))
    order = known[np.lexsort((feh[known], index[known]))]
    starts = np.searchsorted(index[order], np.arange(len(stars) + 1))
    median = np.full(len(stars), np.nan)
    has = np.flatnonzero(np.diff(starts) > 0)
    low, high = (starts[has] + starts[has + 1] - 1) // 2, (starts[has] + starts[has + 1]) // 2
    median[has] = (feh[order][low] + feh[order][high]) / 2
    return regime(median)


def _in_two(star: NDArray[np.int64], split: NDArray[np.int64]) -> list[int]:
    """A star that is in two parts, if any."""
    order = np.lexsort((split, star))
    star, split = star[order], split[order]
    return star[1:][(star[1:] == star[:-1]) & (split[1:] != split[:-1])][:1].tolist()


def _counts(where: NDArray[np.int64]) -> list[str]:
    return [str(count) for count in (*np.bincount(where, minlength=UNKNOWN + 1), len(where))]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Aligned columns: the first two left, the others right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.ljust(w) if i < 1 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _words(numbers: NDArray[np.int64], names: tuple[str, ...]) -> Any:
    """Names by their number, null for -1."""
    import pyarrow as pa

    missing = numbers < 0
    where = pa.array(np.where(missing, 0, numbers).astype(np.int32), mask=missing)
    return pa.DictionaryArray.from_arrays(where, pa.array(names or ("",), type=pa.string()))


def _numbers(column: Any, names: tuple[str, ...]) -> NDArray[np.int64]:
    """The inverse of `_words`."""
    place = {name: number for number, name in enumerate(names)}
    return np.array([NONE if word is None else place[word] for word in column.to_pylist()], dtype=np.int64)


def _floats(column: Any) -> Float:
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _of_another_kind(path: str | Path) -> str:
    return f"make labels with stores-labels, or name a table of another kind with its kind, such as table:{path}"
