"""Head: from rows of stores to stellar parameters with uncertainties and flags.

    from heads import Head
    head = Head.from_pretrained("feh-head")
    found = head.predict("lamost.zarr", embeddings="lamost-embeddings.zarr")
    found.id, found.value["feh"], found.sigma["feh"], found.flags

A folder holds head.json (what it is, learned from what, how calibrated), members/N/model.safetensors, for heads that
were adapted and not merged members/N/adapter/, guard/ and scaling.safetensors. Nothing in it is a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from heads.calibration import Calibration, Float
from heads.encoder import ENCODED, source_features, with_encoders
from heads.ensemble import Ensemble
from heads.folder import HEAD, checksums, fault, filling
from heads.guard import Guard
from heads.inputs import Given, InputStores, Rows
from heads.network import HeadNetwork, NetworkOptions, load_network, save_network
from heads.novelty import Novelty
from heads.sample import Sample, features
from heads.scaling import Scaling
from stores.errors import ModelError
from stores.flags import Flag
from stores.provenance import array_digest, provenance

FORMAT = 1
GUARD = "guard"  # the folder of its weights
ROWS_AT_ONCE = 1024
OUTSIDE_MARGIN = 0.02  # of the range of the training labels, that a value may lie beyond it


@dataclass(frozen=True)
class Prediction:
    """Parameters of n spectra; each value, sigma, low, high is (n,) by label, in its unit.

    low, high: bounds of the central 68 per cent; low90, high90: of 90 per cent; sigma: calibrated
    flags: those of the spectrum and of the head; members: (seeds, n) values of each member
    """

    id: NDArray[np.int64]
    value: Mapping[str, Float]
    sigma: Mapping[str, Float]
    low: Mapping[str, Float]
    high: Mapping[str, Float]
    low90: Mapping[str, Float]
    high90: Mapping[str, Float]
    flags: NDArray[np.uint32]
    members: Mapping[str, Float]

    def __len__(self) -> int:
        return len(self.id)

    @classmethod
    def concatenated(cls, parts: Sequence[Prediction]) -> Prediction:
        """Rows of several, one after the other."""
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in ("id", "flags")
        }
        for name in ("value", "sigma", "low", "high", "low90", "high90", "members"):
            joined[name] = {
                label: np.concatenate([getattr(part, name)[label] for part in parts], axis=-1)
                for label in getattr(parts[0], name)
            }
        return cls(**joined)


@dataclass
class Head:
    """An ensemble of networks with all that turns rows of stores into calibrated parameters.

    members: networks, or networks wrapped by the strategy `adapter`
    identity: what the stores have to be (InputStores.identity); targets: names of the labels
    scalings: of each block; label_scaling: of the labels; label_range: (k, 2), of the training stars
    guard: what tells stars beyond the temperatures it is made for, if it was trained on a range of them
    about: how it was made, as JSON holds it
    """

    members: list[nn.Module]
    network: NetworkOptions
    identity: dict[str, Any]
    targets: tuple[str, ...]
    scalings: dict[str, Scaling]
    label_scaling: Scaling
    label_range: Float
    calibration: Calibration
    novelty: Novelty
    guard: Guard | None = None
    adapter: str | None = None
    about: dict[str, Any] = field(default_factory=dict)

    # -- predictions -------------------------------------------------------------------------------------

    def predict(
        self, spectra: str | Path | None = None, embeddings: str | Path | None = None, rows: Rows = slice(None)
    ) -> Prediction:
        """Parameters of rows of stores; of several ones it takes what its input needs.

        Raises StoreError for stores that are not as those it learned from, OptionError if one is lacking.
        """
        stores = InputStores.open(self.identity["input"], spectra, embeddings)
        stores.refuse_unlike(self.identity)
        return Prediction.concatenated(list(self.parts(stores, rows)))

    def parts(self, stores: Given, rows: Rows = slice(None)) -> Iterator[Prediction]:
        """The same part by part, so that memory does not grow with the rows; at least one part."""
        chosen = np.arange(len(stores))[rows] if isinstance(rows, slice) else rows
        ensemble = Ensemble(self.members)
        for start in range(0, max(len(chosen), 1), ROWS_AT_ONCE):
            some = chosen[start : start + ROWS_AT_ONCE]
            span: Rows = some
            if len(some) and np.array_equal(some, np.arange(some[0], some[0] + len(some))):
                span = slice(int(some[0]), int(some[0]) + len(some))  # read in one go
            x = features(stores.read(span), self.scalings)
            ids, flags = stores.main.read("id", span), stores.main.read("flags", span)
            yield self.predict_features(x, ids, flags, ensemble)

    def predict_sample(self, sample: Sample) -> Prediction:
        """Parameters of the spectra of a sample, in its order; flags of the head only."""
        flags = np.zeros(len(sample), dtype=np.uint32)
        return self.predict_features(features(sample.blocks, self.scalings), sample.id, flags)

    def predict_features(
        self,
        x: NDArray[np.float32],
        ids: NDArray[np.int64],
        flags: NDArray[np.uint32],
        ensemble: Ensemble | None = None,
    ) -> Prediction:
        """Parameters from standardised features (n, d)."""
        members, sigmas = self.raw(x, ensemble)
        value, sigma = mixture(members, sigmas)
        flags = flags | self._flags(x, value)
        empty = (flags & np.uint32(Flag.NO_VALID_PIXELS | Flag.UNREADABLE)) != 0
        value, members = (np.where(empty[:, None], np.nan, values) for values in (value, members))
        bounds = [
            self.calibration.sigma(value, sigma),
            *self.calibration.interval(value, sigma, 0.16),
            *self.calibration.interval(value, sigma, 0.05),
        ]
        bounds = [np.where(empty[:, None], np.nan, bound) for bound in bounds]

        def by_label(values: Float) -> dict[str, Float]:
            return {target: values[..., i] for i, target in enumerate(self.targets)}

        named = dict(zip(("sigma", "low", "high", "low90", "high90"), map(by_label, bounds), strict=True))
        return Prediction(ids, by_label(value), **named, flags=flags, members=by_label(members))

    def raw(self, x: NDArray[np.float32], ensemble: Ensemble | None = None) -> tuple[Float, Float]:
        """Value and uncalibrated sigma (seeds, n, k) of each member, in the labels' units."""
        outputs = (ensemble or Ensemble(self.members)).predict(torch.from_numpy(x)).double().numpy()
        scatter = self.label_scaling.scatter
        return self.label_scaling.mean + outputs[..., 0] * scatter, np.exp(outputs[..., 1]) * scatter

    def _flags(self, x: NDArray[np.float32], value: Float) -> NDArray[np.uint32]:
        flags = np.zeros(len(x), dtype=np.uint32)
        if len(x) == 0:
            return flags
        known = source_features(self.members, x)
        flags[self.novelty.unlike(known)] |= np.uint32(Flag.OUT_OF_DISTRIBUTION)
        outside = self.outside(value).any(axis=1)
        if self.guard is not None:
            outside |= self.guard.beyond(known)
        flags[outside] |= np.uint32(Flag.OUTSIDE_LABELS)
        return flags

    def outside(self, value: Float) -> NDArray[np.bool_]:
        """(n, k) True for values or labels (n, k) beyond those of the stars that the head learned from."""
        low, high = self.label_range.T
        margin = OUTSIDE_MARGIN * (high - low)
        return np.asarray((value < low - margin) | (value > high + margin))

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides predictions and flags, and which stores are read."""
        tensors = [value.numpy() for member in self.members for value in member.state_dict().values()]
        scalings = [part for one in (*self.scalings.values(), self.label_scaling) for part in (one.mean, one.scatter)]
        rest: list[Any] = [self.label_range, self.novelty.axes, self.novelty.references]
        rest += [] if self.guard is None else self.guard.tensors()
        told = [self.calibration.as_json(), self.targets, self.novelty.threshold, self.identity, self.adapter]
        text = np.frombuffer(json.dumps(told, sort_keys=True).encode(), dtype=np.uint8)
        return array_digest(text, *tensors, *scalings, *rest)

    # -- at rest -----------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the head to a folder, whole or not at all; one that holds a head is replaced.

        Raises OptionError for a folder that holds something else.
        """
        with filling(folder) as building:
            self.write(building)

    def write(self, folder: Path) -> None:
        """Write the head's files to an empty folder."""
        from safetensors.numpy import save_file as save_arrays

        from heads.adapters import get_adapter

        for number, member in enumerate(self.members):
            own = folder / "members" / str(number)
            own.mkdir(parents=True)
            network = plain(member)
            save_network(network, own / "model.safetensors")
            if self.adapter is not None:
                get_adapter(self.adapter).save(member, own / "adapter")
        if self.guard is not None:
            self.guard.save(folder / GUARD)
        arrays = {
            "label/mean": self.label_scaling.mean,
            "label/scatter": self.label_scaling.scatter,
            "label/range": self.label_range,
            "novelty/axes": self.novelty.axes,
            "novelty/references": self.novelty.references,
        }
        for name, scaling in self.scalings.items():
            arrays |= {f"block/{name}/mean": scaling.mean, f"block/{name}/scatter": scaling.scatter}
        save_arrays(
            {name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / "scaling.safetensors"
        )
        told = {**self._json(), "files": checksums(folder)}
        (folder / HEAD).write_text(json.dumps(told, indent=1) + "\n")

    def _json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": "head",
            "targets": self.targets,
            "identity": self.identity,
            "network": self.network.as_json(),
            "blocks": list(self.scalings),
            "members": len(self.members),
            "adapter": self.adapter,
            "calibration": self.calibration.as_json(),
            "novelty_threshold": self.novelty.threshold,
            "guard": None if self.guard is None else self.guard.as_json(),
            "fingerprint": self.fingerprint,
            "about": self.about,
            **provenance(),
        }

    @classmethod
    def from_pretrained(cls, folder: str | Path, model: str | None = None) -> Head:
        """Read a head; raises ModelError if the folder holds none or is damaged.

        folder: or the name of a head inside the package
        model: where the one that it encodes spectra by lies, if not where its name says
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file as load_arrays

        from heads.adapters import get_adapter
        from heads.library import find_head

        folder = find_head(folder)
        try:
            told = json.loads((folder / HEAD).read_text())
        except (OSError, ValueError):
            raise ModelError(f"'{folder}' holds no head (no readable {HEAD}); make one with heads-train.") from None
        if isinstance(told, dict) and told.get("kind") == "bundle":
            raise ModelError(f"'{folder}' holds a head for each label, not one for all; read it by heads.load_head.")
        if not isinstance(told, dict) or told.get("kind") != "head" or told.get("format") != FORMAT:
            raise ModelError(f"'{folder}' holds no head of format {FORMAT}; make it again with heads-train.")
        try:
            if lost := fault(folder, told["files"]):
                raise ModelError(f"the head in '{folder}' is damaged ({lost}); copy or make it again.")
            arrays = load_arrays(folder / "scaling.safetensors")
            network = NetworkOptions.from_json(told["network"])
            scalings = {
                name: Scaling(arrays[f"block/{name}/mean"], arrays[f"block/{name}/scatter"]) for name in told["blocks"]
            }
            folders = [folder / "members" / str(number) for number in range(told["members"])]
            members: list[nn.Module] = [load_network(network, own / "model.safetensors") for own in folders]
            if told["identity"]["input"] == ENCODED:
                members = with_encoders(members, scalings, told["identity"], model)
            if told["adapter"] is not None:
                load = get_adapter(told["adapter"]).load
                members = [load(member, own / "adapter") for member, own in zip(members, folders, strict=True)]  # type: ignore[arg-type]
            head = cls(
                members=[member.eval() for member in members],
                network=network,
                identity=told["identity"],
                targets=tuple(told["targets"]),
                scalings=scalings,
                label_scaling=Scaling(arrays["label/mean"], arrays["label/scatter"]),
                label_range=arrays["label/range"],
                calibration=Calibration.from_json(told["calibration"]),
                novelty=Novelty(arrays["novelty/axes"], arrays["novelty/references"], told["novelty_threshold"]),
                # heads of earlier versions have none
                guard=None if told.get("guard") is None else Guard.load(folder / GUARD, told["guard"]),
                adapter=told["adapter"],
                about=told["about"],
            )
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"the head in '{folder}' is damaged ({reason}); copy or make it again.") from None
        if head.fingerprint != told["fingerprint"]:
            raise ModelError(f"the head in '{folder}' was changed after it was written; copy or make it again.")
        return head


def mixture(values: Float, sigmas: Float) -> tuple[Float, Float]:
    """Mean and sigma (n, k) of the equal mixture of members (seeds, n, k)."""
    sigma: Float = np.sqrt((sigmas**2).mean(axis=0) + values.var(axis=0))
    return values.mean(axis=0), sigma


def plain(member: nn.Module) -> HeadNetwork:
    """The network inside a member, whatever a strategy wrapped around it."""
    return next(module for module in member.modules() if isinstance(module, HeadNetwork))
