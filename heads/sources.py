"""Sources: stores with labels, and which of their stars are learned from and which are kept apart.

Stars of the part `test` of any source are learned from in none: not by their id, nor by their position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heads.guard import Border
from heads.inputs import InputStores
from heads.sample import UNUSABLE, Sample, merged_stars
from stores.catalogue import SENSIBLE, UNITS
from stores.errors import InputError, OptionError
from stores.labels import NONE, Labels
from stores.location import Url

if TYPE_CHECKING:
    from heads.calibration import Float
    from heads.ranges import Ranges

TEST = "test"


@dataclass(frozen=True)
class Source:
    """Opened stores of the same spectra, and their labels.

    spec: the file of the labels as it was named, for errors
    """

    stores: InputStores
    labels: Labels
    spec: str

    @classmethod
    def open(cls, stores: InputStores, spec: str) -> Source:
        """spec: a table of stores-labels, or KIND:FILE, which is matched and split as stores-labels does."""
        if Path(spec).exists() or ":" not in spec:
            return cls(stores, Labels.load(spec), spec)
        from stores.labelling import LabelOptions, label_store

        options = LabelOptions(path=stores.main.path, catalogue=(spec,), out=Path("labels.parquet"))
        return cls(stores, label_store(stores.main, options), spec)

    @property
    def about(self) -> dict[str, Any]:
        """What a head remembers of it, as JSON holds it."""
        stores = {
            kind: {"path": str(one.path), "fingerprint": one.fingerprint, "survey": one.attributes["survey"]}
            for kind, one in self.stores.stores.items()
        }
        return {"stores": stores, "labels": {"file": self.spec, "fingerprint": self.labels.fingerprint}}

    def sample(
        self,
        targets: tuple[str, ...],
        teff_range: tuple[float, float] | None = None,
        ranges: Ranges | None = None,
        *,
        may_lack: bool = False,
    ) -> Sample:
        """The usable stars that have a label.

        teff_range: in which their teff has to lie, K; ranges: in which other labels have to, where they are known
        may_lack: no star need be in those

        A label that these stars lack altogether is unknown for all of them. Raises OptionError if they lack all, or
        teff where it is asked for, InputError for numbers that cannot be, or without any star.
        """
        own = self.labels.values
        lacking = [target for target in targets if target not in own]
        if len(lacking) == len(targets) or (teff_range is not None and "teff" not in own):
            raise self.lacks(lacking[0] if lacking else "teff")
        for target in set(targets) - set(lacking):
            self._refuse_absurd(target, own[target])
        unknown = {target: np.full(len(self.labels), np.nan) for target in lacking}
        nowhere = {target: np.full(len(self.labels), NONE) for target in lacking}
        labels = replace(
            self.labels,
            values={**own, **unknown},
            sigmas={**self.labels.sigmas, **unknown},
            source={**self.labels.source, **nowhere},
        )
        if teff_range is None and not ranges:
            return Sample.join(self.stores, labels, targets)
        chosen = np.ones(len(self.labels), dtype=bool) if teff_range is None else self._within(teff_range)
        for label, (low, high) in (ranges or {}).items():
            if label in own:
                chosen &= ~((own[label] < low) | (own[label] > high))
        sample = self._those(labels, targets, chosen)
        if not (len(sample) or may_lack):
            raise self.out_of_range(teff_range, ranges)
        return sample

    def beyond(self, teff_range: tuple[float, float]) -> Sample:
        """The usable stars outside a range of teff (K), with the label teff; there may be none."""
        return self._those(self.labels, ("teff",), ~self._within(teff_range))

    def _those(self, labels: Labels, targets: tuple[str, ...], chosen: NDArray[np.bool_]) -> Sample:
        """As Sample.join, of some rows of the labels; none of them may be in the store."""
        rows = self.stores.rows_of(labels.id)
        there = rows >= 0
        there[there] = (self.stores.main.read("flags")[rows[there]] & np.uint32(UNUSABLE)) == 0
        known = np.any([np.isfinite(labels.values[target]) for target in targets], axis=0)
        if there.any() and not (chosen & known & there).any():
            return Sample.empty(self.stores, targets)
        return Sample.join(self.stores, labels, targets, chosen if there.any() else None)

    def out_of_range(self, teff_range: tuple[float, float] | None, ranges: Ranges | None) -> InputError:
        """What to say if no star is in the ranges that were asked for."""
        if not ranges:
            return InputError(f"no star of '{self.spec}' has a teff in that --teff-range; widen it.")
        more = "" if teff_range is None else " and that --teff-range"
        return InputError(f"no star of '{self.spec}' has its labels in those --ranges{more}; widen them.")

    def teff_of(self, sample: Sample) -> Float:
        """The label teff (n,) of rows of its sample, K."""
        return self.labels.values["teff"][np.searchsorted(self.labels.id, sample.id)]

    def _within(self, teff_range: tuple[float, float]) -> NDArray[np.bool_]:
        teff = self.labels.values["teff"]
        return np.asarray((teff > teff_range[0]) & (teff < teff_range[1]))

    def lacks(self, target: str) -> OptionError:
        """What to say of a label that there is not."""
        shown = ", ".join(self.labels.names) or "none"
        return OptionError(f"'{self.spec}' has no label '{target}' (it has {shown}); check --targets and --ranges.")

    def _refuse_absurd(self, target: str, value: Float) -> None:
        low, high = SENSIBLE.get(target, (-np.inf, np.inf))
        wrong = np.flatnonzero(np.isfinite(value) & ~((value > low) & (value <= high)))
        if len(wrong):
            row, unit = wrong[0], UNITS.get(target, "")
            raise InputError(
                f"'{self.spec}' has {len(wrong)} numbers that cannot be a {target}, such as {value[row]:g} {unit} of "
                f"id {self.labels.id[row]}; leave unknown labels empty."
            )

    def apart(self, sample: Sample) -> NDArray[np.bool_]:
        """(n,) True for the rows of its sample that are in the part `test`."""
        if TEST not in self.labels.parts:
            return np.zeros(len(sample), dtype=bool)
        return np.isin(sample.id, self.labels.id[self.labels.in_part(TEST)])


@dataclass(frozen=True)
class Parts:
    """Stars to learn from; those kept apart; those of the source survey, to be replayed, if any were asked for.

    border: what teaches where a range of temperatures ends, if there is one
    """

    training: Sample
    test: Sample
    replay: Sample | None = None
    border: Border | None = None


def open_all(
    name: str,
    spectra: Sequence[Path | Url],
    embeddings: Sequence[Path | Url],
    labels: Sequence[str],
    identity: Mapping[str, Any] | None = None,
) -> list[Source]:
    """Sources for an input, as many as there are labels; all alike, and as a base head's stores if there is one.

    Raises StoreError for stores that are not alike.
    """
    opened: list[InputStores] = []
    for number in range(len(labels)):
        stores = InputStores.open(
            name, spectra[number] if spectra else None, embeddings[number] if embeddings else None
        )
        if identity is not None:
            stores.refuse_unlike(identity)
        elif opened:
            stores.refuse_unlike(opened[0].identity, f"'{opened[0].main.path}'")
        opened.append(stores)
    return [Source.open(stores, spec) for stores, spec in zip(opened, labels, strict=True)]


def labelled(sources: Sequence[Source], targets: Sequence[str]) -> tuple[str, ...]:
    """Those of the targets that the labels of a source know."""
    return tuple(
        target
        for target in targets
        if any(np.isfinite(source.labels.values.get(target, np.nan)).any() for source in sources)
    )


def parts(
    sources: Sequence[Source],
    targets: tuple[str, ...],
    *,
    replay: Sequence[Source] = (),
    shares: Sequence[float] | None = None,
    calibrate: Sequence[bool] | None = None,
    teff_range: tuple[float, float] | None = None,
    ranges: Ranges | None = None,
    partial: bool = False,
) -> Parts:
    """The stars of sources, shared out.

    teff_range, ranges: see Source.sample; partial: a label that no source has is unknown, as long as there are others

    replay: sources of another survey; their own stars of the part `test` are not learned from either
    shares: see Sample.concatenated; calibrate: which of the sources set uncertainties, all without
    teff_range: K, of the stars that are learned from; a source may be there for others alone

    Raises InputError where none of those is learned from, OptionError for a label that no source has.
    """
    for target in (*(() if partial else targets), *(ranges or {})):
        if not any(target in source.labels.values for source in sources):
            raise sources[0].lacks(target)
    joined = [("own", source, source.sample(targets, teff_range, ranges, may_lack=True)) for source in sources]
    if not any(len(sample) for _, _, sample in joined):
        raise sources[0].out_of_range(teff_range, ranges)
    joined += [("replayed", source, source.sample(targets, teff_range, ranges)) for source in replay]
    if teff_range is not None:
        joined += [("beyond", source, source.beyond(teff_range)) for source in sources]
    all_sources, samples = [source for _, source, _ in joined], [sample for _, _, sample in joined]
    apart = [source.apart(sample) for source, sample in zip(all_sources, samples, strict=True)]
    star = star_numbers(all_sources, samples)
    learned = np.split(
        ~np.isin(star, star[np.concatenate(apart)]), np.cumsum([len(sample) for sample in samples])[:-1]
    )
    kinds = [kind for kind, _, _ in joined]

    def taken(kind: str, rows: Sequence[NDArray[np.bool_]]) -> list[Sample]:
        return [samples[i].take(np.flatnonzero(rows[i])) for i in range(len(samples)) if kinds[i] == kind]

    learn = taken("own", learned)
    own = [
        replace(sample, calibrates=np.full(len(sample), chosen))
        for sample, chosen in zip(learn, calibrate or [True] * len(sources), strict=True)
    ]
    training = Sample.concatenated(own, shares)
    if len(training) and not training.calibrates.any():
        raise InputError("no star of the stores of --calibrate-on is learned from; name others, or leave it out.")
    border = None
    if teff_range is not None:
        teff = np.concatenate([source.teff_of(sample) for source, sample in zip(sources, learn, strict=True)])
        beyond, away = (Sample.concatenated(taken("beyond", rows)) for rows in (learned, apart))
        border = Border(*teff_range, teff, beyond, away)
    replayed = Sample.concatenated(taken("replayed", learned)) if replay else None
    return Parts(training, Sample.concatenated(taken("own", apart)), replayed, border)


def star_numbers(sources: Sequence[Source], samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Numbers (n,) of the stars of all rows: by position, by what the labels say, and by id within a survey."""
    survey = np.repeat(
        np.unique([source.stores.main.attributes["survey"] for source in sources], return_inverse=True)[1],
        [len(sample) for sample in samples],
    )
    ids = np.concatenate([sample.id for sample in samples])
    spectrum = np.unique(np.stack([survey, ids]), axis=1, return_inverse=True)[1].ravel()
    return merged_stars(samples, [spectrum + 1])
