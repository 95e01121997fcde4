"""Tables with nested spectra: which columns there are, and a partition's rows as prepared spectra.

A spectrum is a column of lists, or of structs of lists, that belong together row by row, such as the `spectrum` of
flux, ivar, lambda, mask, lsf_sigma that the Multimodal Universe publishes, or lists in columns of their own. What may
differ from row to row, the wavelengths too, does. Names are those of stores.surveys.table, with these beside them:

    id          object_id
    wavelength  lambda, wave, lam: Angstrom; what is not above 0 is no pixel
    lsf_sigma   Gaussian width of the line-spread function in pixels
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, OptionError
from stores.flags import Flag
from stores.grid import Grid
from stores.listing import repeated_ids
from stores.prepare import Preparation, prepare
from stores.spectra import spectra_values
from stores.spectrum import Float, SpectrumBatch, as_id
from stores.store import Array
from stores.surveys import ReadOptions
from stores.surveys.columns import Source
from stores.surveys.table import ERROR, FLUX, ID, IVAR, MASK, REDSHIFT, RV, spectra_of
from stores.task import unreadable
from stores.velocities import WARNINGS, Velocities

if TYPE_CHECKING:
    import pandas
    import pyarrow

# of a row, and of each pixel: what a column may be called
ROW_NAMES: dict[str, tuple[str, ...]] = {
    "id": (*ID, "object_id"),
    "ra": ("ra", "target_ra", "raj2000"),
    "dec": ("dec", "target_dec", "dej2000"),
    "rv": RV,
    "redshift": REDSHIFT,
    "warning": WARNINGS,
}
PIXEL_NAMES: dict[str, tuple[str, ...]] = {
    "flux": FLUX,
    "ivar": IVAR,
    "error": ERROR,
    "mask": MASK,
    "wavelength": ("wavelength", "lambda", "wave", "lam"),
    "loglam": ("loglam",),
    "lsf_sigma": ("lsf_sigma",),
}
ROLES = (*ROW_NAMES, *PIXEL_NAMES)
# what stores.surveys.table calls what has another name here
TABLE_NAMES = {"redshift": "z", "warning": "zwarn"}
BYTES_ID = re.compile(r"b'\s*([+-]?\d+)\s*'")  # bytes that were printed on the way to a table


def parse_names(given: Iterable[str]) -> dict[str, str]:
    """Columns by role, from words such as id=SOURCE or flux=spectrum.f. Raises OptionError."""
    named = {}
    for word in given:
        role, _, name = word.partition("=")
        if role not in ROLES or not name:
            raise OptionError(f"--columns {word} is not ROLE=NAME with a role of {', '.join(ROLES)}.")
        named[role] = name
    return named


@dataclass(frozen=True)
class Columns:
    """Where a table has what: role -> column, with a dot before the field of a struct."""

    of: Mapping[str, str]

    @classmethod
    def find(cls, schema: pyarrow.Schema, named: Mapping[str, str], where: str) -> Columns:
        """The columns of a table, as `named` or known by their names.

        where: the table, in the words of an error

        Raises InputError if what is needed is not there.
        """
        rows = {field.name: field.type for field in schema}
        pixels = {name: kind for field in schema for name, kind in _lists(field)}
        found = {}
        for role, name in named.items():
            if name not in (pixels if role in PIXEL_NAMES else rows):
                kind = "of lists " if role in PIXEL_NAMES else ""
                raise InputError(f"{where} has no column {kind}'{name}', named with --columns; check the name.")
        flux = named.get("flux") or _first(pixels, FLUX)
        if flux is not None:
            group = flux.rpartition(".")[0]
            beside = [name for name in pixels if name.rpartition(".")[0] == group]
            found = {role: _first(beside, names) for role, names in PIXEL_NAMES.items()}
        found |= {role: _first(rows, names) for role, names in ROW_NAMES.items()}
        columns = cls({role: name for role, name in {**found, "flux": flux, **named}.items() if name})
        columns._refuse_lacking(where)
        columns._refuse_types(rows, where)
        return columns

    def _refuse_lacking(self, where: str) -> None:
        lacks = "id" if "id" not in self.of else "flux" if "flux" not in self.of else ""
        if not lacks and not {"wavelength", "loglam"} & set(self.of):
            lacks = "wavelength"
        if lacks:
            known = ROW_NAMES[lacks] if lacks in ROW_NAMES else PIXEL_NAMES[lacks]
            kind = "of lists " if lacks in PIXEL_NAMES else ""
            more = "; an index on the sky (_healpix_29) is no id" if lacks == "id" else ""
            raise InputError(
                f"{where} has no column {kind}named {', '.join(known)}{more}; name the one that has the {lacks} with "
                f"--columns {lacks}=NAME."
            )

    def _refuse_types(self, rows: Mapping[str, Any], where: str) -> None:
        import pyarrow.types as types

        kind = rows[self.of["id"]]
        if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
            raise InputError(
                f"{where} has ids of type {kind} in its column '{self.of['id']}', and only integers keep all 64 bits; "
                "name another column with --columns id=NAME."
            )

    @property
    def to_load(self) -> list[str]:
        """The columns that are used."""
        return list(dict.fromkeys(self.of.values()))


@dataclass(frozen=True)
class Rows:
    """The rows of a partition, to be prepared.

    frame: what lsdb or pandas has read; ids: (n,) int64; repeated: (n,) True where an earlier row has the same id
    """

    frame: pandas.DataFrame
    columns: Columns
    ids: NDArray[np.int64]
    repeated: NDArray[np.bool_]

    @classmethod
    def of(cls, frame: pandas.DataFrame, columns: Columns) -> Rows:
        """Of a frame; raises InputError for ids that are none."""
        ids = _ids(_arrow(frame, columns.of["id"]))
        return cls(frame, columns, ids, repeated_ids(ids))

    def __len__(self) -> int:
        return len(self.ids)

    def prepare(
        self,
        rows: slice,
        grid: Grid,
        preparation: Preparation,
        options: ReadOptions,
        velocities: Velocities | None,
    ) -> dict[str, Array]:
        """The columns of a spectra store for some rows; what cannot be read is masked, and flagged UNREADABLE."""
        order: list[NDArray[np.intp]] = []
        batches: list[SpectrumBatch] = []
        for places, batch in self._batches(rows, grid, options):
            if velocities is not None:
                velocities.give(batch)
            batch.flag(self.repeated[rows][places], Flag.DUPLICATE_ID)
            order.append(places)
            batches.append(batch)
        values = spectra_values(prepare(batches, grid, preparation))
        back = np.argsort(np.concatenate(order))
        return {name: value[back] for name, value in values.items()}

    def _batches(
        self, rows: slice, grid: Grid, options: ReadOptions
    ) -> Iterator[tuple[NDArray[np.intp], SpectrumBatch]]:
        """The rows, in batches of the same wavelengths each, and which ones they are among the rows."""
        row, pixel = {}, {}
        for role, name in self.columns.of.items():
            if role in PIXEL_NAMES:
                pixel[role] = _split(_arrow(self.frame, name, rows))
            elif role != "id":
                row[role] = _numbers(_arrow(self.frame, name, rows), name)
        n = len(self.ids[rows])
        groups: dict[bytes, list[int]] = {}
        for i in range(n):
            spectrum = [values[i] for values in pixel.values()]
            whole = all(len(one) == len(spectrum[0]) for one in spectrum)
            axis = pixel["wavelength" if "wavelength" in pixel else "loglam"][i]
            groups.setdefault(axis.tobytes() if whole else b"", []).append(i)
        for key, members in groups.items():
            places = np.array(members)
            own = {role: values[places] for role, values in row.items()}
            own["id"] = self.ids[rows][places]
            if key:
                try:
                    stacked = {role: np.stack([values[i] for i in members]) for role, values in pixel.items()}
                    yield places, _spectra({**own, **stacked}, options)
                    continue
                except InputError:
                    pass  # wavelengths that do not rise, or two pixels: nothing to prepare
            batch = unreadable(own["id"], grid)
            batch.ra, batch.dec = own.get("ra", batch.ra), own.get("dec", batch.dec)
            if np.isfinite(batch.ra + batch.dec).all():
                batch.flags &= np.uint32(~Flag.NO_COORDINATES & 0xFFFFFFFF)
            yield places, batch


def _spectra(columns: dict[str, Array], options: ReadOptions) -> SpectrumBatch:
    """Spectra of the same wavelengths, as a table has them."""
    axis = "wavelength" if "wavelength" in columns else "loglam"
    used = np.isfinite(columns[axis][0]) & (columns[axis][0] > 0)
    columns = {role: values if values.ndim == 1 else values[:, used] for role, values in columns.items()}
    sigma = columns.pop("lsf_sigma", None)
    table = {TABLE_NAMES.get(role, role): values for role, values in columns.items()}
    batch = spectra_of(Source(list(table), lambda name, rows: table[name][rows], {}), options)
    arm = batch.arms[0]
    # a width that is none says nothing of any
    if sigma is not None and np.all(sigma > 0) and np.all(np.isfinite(sigma)):
        arm.sigma = sigma * np.gradient(arm.wavelength)
    return batch


# -- Arrow -------------------------------------------------------------------------------------------------


def _lists(field: pyarrow.Field) -> Iterator[tuple[str, Any]]:
    """Names and types of the lists in a column: itself, or the fields of a struct of lists, or list of structs."""
    import pyarrow.types as types

    kind = field.type
    if types.is_struct(kind):
        yield from ((f"{field.name}.{one.name}", one.type) for one in kind if _is_list(one.type))
    elif _is_list(kind) and types.is_struct(kind.value_type):
        yield from ((f"{field.name}.{one.name}", one.type) for one in kind.value_type if not _is_list(one.type))
    elif _is_list(kind):
        yield field.name, kind


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _first(names: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    """The first of the wanted names that is there, in any case, whatever struct it is in."""
    held: dict[str, str] = {}
    # of several spectra a row the one that is called so
    for name in sorted(names, key=lambda name: not name.lower().startswith("spectrum.")):
        held.setdefault(name.rpartition(".")[2].lower(), name)
    return next((held[name] for name in wanted if name in held), None)


def _arrow(frame: pandas.DataFrame, name: str, rows: slice = slice(None)) -> pyarrow.Array:
    """Some rows of a column as one Arrow array; of a field of structs, as lists."""
    import pyarrow as pa
    import pyarrow.types as types

    # a name of a column may have a dot of its own
    top, field = (name, "") if name in frame.columns else name.rsplit(".", 1)
    array = pa.array(frame[top].array[rows], from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if field and types.is_struct(array.type):
        array = array.flatten()[array.type.get_field_index(field)]
    elif field:
        inner = array.values.field(field)
        offsets = pa.array(np.asarray(array.offsets), pa.int64())
        array = pa.LargeListArray.from_arrays(offsets, inner, mask=array.is_null())
    if types.is_fixed_size_list(array.type):
        array = array.cast(pa.large_list(array.type.value_type))
    return array


def _split(array: pyarrow.Array) -> list[Float]:
    """The values of each row (n_pix,), none where there is nothing."""
    import pyarrow as pa

    offsets = np.asarray(array.offsets)
    if len(array) == 0:
        return []
    inner = array.values.slice(offsets[0], offsets[-1] - offsets[0]).cast(pa.float64(), safe=False)
    values = inner.to_numpy(zero_copy_only=False)
    offsets = offsets - offsets[0]
    missing = np.asarray(array.is_null())
    return [values[offsets[i] : offsets[i] if missing[i] else offsets[i + 1]] for i in range(len(array))]


def _numbers(array: pyarrow.Array, name: str) -> Float:
    """(n,) float64, NaN where there is none."""
    import pyarrow as pa

    try:
        return np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(f"column {name} does not hold one number in every row.") from None


def _ids(array: pyarrow.Array) -> NDArray[np.int64]:
    if array.null_count:
        raise InputError("a row has no id.")
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind in "iu":
        return as_id(values) if len(values) else np.zeros(0, dtype=np.int64)
    plain = [BYTES_ID.sub(r"\1", str(value)) for value in values]
    return as_id(np.array(plain, dtype=object)) if plain else np.zeros(0, dtype=np.int64)
