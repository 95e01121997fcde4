"""What heads learn from: blocks of features of the rows of a store, and inputs, which name one or several of them.

A new input is a line in INPUTS; a new block a function that gives (values, valid) of rows of a store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stores.embeddings import EmbeddingStore
from stores.errors import OptionError, StoreError
from stores.spectra import SpectraStore
from stores.store import Array, Store

Rows = slice | NDArray[np.int64]
Block = tuple[NDArray[np.float32], NDArray[np.bool_]]


class Readable(Protocol):
    """What rows are read from: a store, or what is held in memory."""

    def read(self, name: str, rows: Any = ...) -> Array: ...


class Given(Protocol):
    """What parameters are read from: blocks of features by row, and `main`, which has ids, flags and the like."""

    @property
    def main(self) -> Readable: ...

    def __len__(self) -> int: ...

    def read(self, rows: Rows) -> dict[str, Block]: ...


def pixels(store: Readable, rows: Rows) -> Block:
    """Flux (n, n_pix) and where it is valid: where ivar is positive."""
    return store.read("flux", rows), store.read("ivar", rows) > 0


def vectors(store: Readable, rows: Rows) -> Block:
    """Embeddings (n, d), valid where the spectrum was not empty."""
    values = store.read("embedding", rows).astype(np.float32)
    return values, np.broadcast_to(np.any(values != 0, axis=1, keepdims=True), values.shape)


def spectrum(store: Readable, rows: Rows) -> Block:
    """Flux and then ivar (n, 2 n_pix) as they are, for networks that encode them (heads.encoder)."""
    values = np.concatenate([store.read("flux", rows), store.read("ivar", rows)], axis=1)
    return values, np.broadcast_to(np.True_, values.shape)


@dataclass(frozen=True)
class BlockKind:
    """Where a block comes from: the kind of store, and what reads it."""

    store: str
    read: Callable[[Readable, Rows], Block]


BLOCKS = {
    "pixels": BlockKind("spectra", pixels),
    "embedding": BlockKind("embeddings", vectors),
    "spectrum": BlockKind("spectra", spectrum),
}
INPUTS: dict[str, tuple[str, ...]] = {
    "spectra": ("pixels",),
    "embedding": ("embedding",),
    "fused": ("pixels", "embedding"),
    "encoded": ("spectrum",),
}


FLAGS = {"spectra": "--store", "embeddings": "--embeddings"}


def unread(name: str, given: Mapping[str, object]) -> list[str]:
    """Kinds of stores that were given and that an input does not read."""
    read = {BLOCKS[block].store for block in INPUTS.get(name, ())}
    return [kind for kind, what in given.items() if what and read and kind not in read]


@dataclass(frozen=True)
class InputStores:
    """The stores of an input, by kind; rows are those of the first, joined with the other by id.

    Raises OptionError where a store is lacking, StoreError where the stores are of different spectra.
    """

    name: str
    stores: Mapping[str, Store]
    # rows of the stores that lie in another order, by the row of the main one: looked up once, for all parts
    _partners: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        name: str,
        spectra: str | Path | None = None,
        embeddings: str | Path | None = None,
        model: str | None = None,
    ) -> InputStores:
        """Open what the input needs; stores that it does not need are not looked at.

        model: that embeds, for errors that tell how
        """
        if name not in INPUTS:
            raise OptionError(f"input '{name}' is unknown; known ones are {', '.join(INPUTS)}.")
        paths = {"spectra": spectra, "embeddings": embeddings}
        kinds: dict[str, type[Store]] = {"spectra": SpectraStore, "embeddings": EmbeddingStore}
        stores: dict[str, Store] = {}
        for block in INPUTS[name]:
            kind = BLOCKS[block].store
            path = paths[kind]
            if path is None:
                how = ""
                if kind == "embeddings" and spectra is not None:
                    with_model = "" if model is None else f" --model {model}"
                    how = f" (`embed-spectra {spectra}{with_model} --out EMBEDDINGS.zarr` makes it)"
                raise OptionError(f"input '{name}' needs a store of {kind}; name it with {FLAGS[kind]}{how}.")
            stores[kind] = kinds[kind].open(path)
        found = cls(name, stores)
        found._check_kin()
        return found

    def _check_kin(self) -> None:
        """Spectra and embeddings must be of the same preparation."""
        if len(self.stores) < 2:
            return
        one, other = self.stores.values()
        mine, theirs = (store.attributes["preprocessing"]["fingerprint"] for store in (one, other))
        if mine != theirs:
            raise StoreError(
                f"'{other.path}' and '{one.path}' were prepared differently ({theirs} and {mine}); embed the store "
                "itself."
            )

    @property
    def main(self) -> Store:
        """The store whose rows are asked for."""
        return next(iter(self.stores.values()))

    def __len__(self) -> int:
        return len(self.main)

    @property
    def ids(self) -> NDArray[np.int64]:
        return self.main.read("id")

    @property
    def identity(self) -> dict[str, Any]:
        """What a head remembers of its input: grid, preparation and model."""
        attributes = self.main.attributes
        found = {"input": self.name, **{name: attributes[name] for name in ("grid", "preprocessing")}}
        if "embeddings" in self.stores:
            found["model"] = self.stores["embeddings"].attributes["model"]
        return found

    def refuse_unlike(self, identity: Mapping[str, Any], whose: str = "the head learned from") -> None:
        """Raise StoreError if a head that learned from `identity` cannot read these stores.

        whose: identity that is, in the words of the error
        """
        mine = self.identity
        for name, value in identity.items():
            if name == "model" and "embeddings" not in self.stores:
                continue  # the head itself has it
            theirs, own = _deciding(value), _deciding(mine.get(name))
            if theirs != own:
                store = self.stores["embeddings"] if name == "model" else self.main
                raise StoreError(
                    f"'{store.path}' has {name} {_shown(own)}, and {whose} {name} {_shown(theirs)}; make the store as "
                    "that one was made."
                )

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows (n,) of the main store, -1 where any of the stores lacks the id."""
        rows = self.main.find(ids)
        for store in list(self.stores.values())[1:]:
            rows = np.where(store.find(ids) >= 0, rows, -1)
        return rows

    def read(self, rows: Rows) -> dict[str, Block]:
        """Each block's values and validity (n, d) of rows of the main store."""
        found: dict[str, Block] = {}
        for block in INPUTS[self.name]:
            kind = BLOCKS[block]
            own = rows if self.stores[kind.store] is self.main else self._partner_rows(kind.store, rows)
            found[block] = kind.read(self.stores[kind.store], own)
        return found

    def _partner_rows(self, kind: str, rows: Rows) -> Rows:
        """The other store's rows with the ids of these; often they are the same ones."""
        store = self.stores[kind]
        if kind not in self._partners:
            ids = self.main.read("id", rows)
            start = rows.indices(len(self))[0] if isinstance(rows, slice) else 0
            if isinstance(rows, slice) and start + len(ids) <= len(store):
                same = slice(start, start + len(ids))
                if np.array_equal(store.read("id", same), ids):
                    return same
            self._partners[kind] = store.find(self.ids)
        found = self._partners[kind][rows]
        if np.any(found < 0):
            lacking = self.main.read("id", rows)[found < 0][0]
            raise StoreError(f"'{store.path}' has no row with id {lacking} of '{self.main.path}'; embed that store.")
        return found


@dataclass(frozen=True)
class InputArrays:
    """The same of rows in memory, with what their stores would have: columns (n,) or (n, width) by name."""

    name: str
    columns: Mapping[str, Array]

    @property
    def main(self) -> HeldRows:
        return HeldRows(self.columns)

    def __len__(self) -> int:
        return len(self.columns["id"])

    def read(self, rows: Rows) -> dict[str, Block]:
        """As of InputStores."""
        return {block: BLOCKS[block].read(self.main, rows) for block in INPUTS[self.name]}


@dataclass(frozen=True)
class HeldRows:
    """Columns in memory that are read as those of a store."""

    columns: Mapping[str, Array]

    def read(self, name: str, rows: Rows = slice(None)) -> Array:
        return self.columns[name][rows]


def _deciding(value: Any) -> Any:
    """What two of a kind have to share: the fingerprint, if there is one, as the same weights may lie elsewhere."""
    return value.get("fingerprint", value) if isinstance(value, Mapping) else value


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name", value.get("fingerprint", dict(value))))
    return str(value)
