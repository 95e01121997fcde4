"""Several heads as one, each for its own labels: what choosing a strategy for every label leads to.

A folder holds head.json, which says which part gives which label, and the parts, each a head.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heads.folder import HEAD, checksums, fault, filling
from heads.head import FORMAT, Head, Prediction
from heads.inputs import Given, InputStores, Rows
from stores.errors import ModelError
from stores.provenance import fingerprint, provenance

if TYPE_CHECKING:
    from heads.sample import Sample


@dataclass
class Bundle:
    """heads: parts by name; of: label -> name of the part that gives it; about: how it was made, as JSON."""

    heads: dict[str, Head]
    of: dict[str, str]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.of)

    @property
    def identity(self) -> dict[str, Any]:
        """What the stores have to be: the same for all parts."""
        return next(iter(self.heads.values())).identity

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides predictions."""
        return fingerprint({"of": self.of, "heads": {name: head.fingerprint for name, head in self.heads.items()}})

    def predict(
        self, spectra: str | Path | None = None, embeddings: str | Path | None = None, rows: Rows = slice(None)
    ) -> Prediction:
        """As `Head.predict`."""
        stores = InputStores.open(self.identity["input"], spectra, embeddings)
        stores.refuse_unlike(self.identity)
        return Prediction.concatenated(list(self.parts(stores, rows)))

    def parts(self, stores: Given, rows: Rows = slice(None)) -> Iterator[Prediction]:
        """As `Head.parts`."""
        for found in zip(*(head.parts(stores, rows) for head in self.heads.values()), strict=True):
            yield self._joined(dict(zip(self.heads, found, strict=True)))

    def predict_sample(self, sample: Sample) -> Prediction:
        """As `Head.predict_sample`."""
        return self._joined({name: head.predict_sample(sample) for name, head in self.heads.items()})

    def _joined(self, found: dict[str, Prediction]) -> Prediction:
        first = next(iter(found.values()))
        columns: dict[str, Any] = {
            name: {label: getattr(found[part], name)[label] for label, part in self.of.items()}
            for name in ("value", "sigma", "low", "high", "low90", "high90", "members")
        }
        flags = np.bitwise_or.reduce([one.flags for one in found.values()])
        return replace(first, flags=flags, **columns)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the parts and what they are for, whole or not at all; a head of that name is replaced.

        Raises OptionError for a folder that holds something else.
        """
        with filling(folder) as building:
            self.write(building)

    def write(self, folder: Path) -> None:
        """Write the parts and what they are for to an empty folder."""
        for name, head in self.heads.items():
            own = folder / "parts" / name
            own.mkdir(parents=True)
            head.write(own)
        told = {
            "format": FORMAT,
            "kind": "bundle",
            "of": self.of,
            "fingerprint": self.fingerprint,
            "about": self.about,
            "files": checksums(folder),
            **provenance(),
        }
        (folder / HEAD).write_text(json.dumps(told, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Bundle:
        """Read a bundle; raises ModelError if the folder holds none or is damaged."""
        told = read_json(Path(folder))
        try:
            # bundles of earlier versions know no checksums; their parts do
            if lost := fault(Path(folder), told.get("files", {})):
                raise ModelError(f"the heads in '{folder}' are damaged ({lost}); copy or make them again.")
            of = dict(told["of"])
            heads = {name: Head.from_pretrained(Path(folder) / "parts" / name) for name in dict.fromkeys(of.values())}
            bundle = cls(heads, of, told["about"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ModelError(f"the heads in '{folder}' are damaged (head.json); copy or make them again.") from None
        if bundle.fingerprint != told.get("fingerprint"):
            raise ModelError(f"the heads in '{folder}' were changed after they were written; copy or make them again.")
        return bundle


def read_json(folder: Path) -> dict[str, Any]:
    """head.json of a folder. Raises ModelError where there is none."""
    try:
        return dict(json.loads((folder / HEAD).read_text()))
    except (OSError, ValueError, TypeError):
        raise ModelError(f"'{folder}' holds no head (no readable head.json); make one with heads-train.") from None


def load_head(folder: str | Path, model: str | None = None) -> Head | Bundle:
    """The head, or the bundle of heads, in a folder. Raises ModelError if it holds neither.

    folder, model: as of Head.from_pretrained
    """
    from heads.library import find_head

    folder = find_head(folder)
    if read_json(folder).get("kind") == "bundle":
        return Bundle.from_pretrained(folder)
    return Head.from_pretrained(folder, model)
