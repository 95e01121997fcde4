"""Stars with features and labels, joined by id: what heads are trained and tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.inputs import Block, InputStores
from heads.scaling import Float, Scaling
from stores.errors import InputError, OptionError
from stores.flags import Flag
from stores.labels import Labels
from stores.stars import same_stars

UNUSABLE = Flag.NO_VALID_PIXELS | Flag.MOSTLY_MASKED | Flag.UNREADABLE | Flag.DUPLICATE_ID | Flag.NOT_A_STAR
SMOOTHING = 0.15  # dex, of the density of [Fe/H] that stars are balanced by
LARGEST_WEIGHT = 20.0  # of a rare star against the mean
_COLUMNS = ("id", "star", "y", "ra", "dec", "worth", "calibrates")  # one entry a spectrum


@dataclass(frozen=True)
class Sample:
    """Features and labels of n spectra.

    id, star: (n,) int64; blocks: name -> values and validity (n, d); y: (n, k), NaN where a label is unknown
    targets: names of the k labels
    ra, dec: (n,) deg, NaN where unknown; worth: (n,), how much a spectrum counts in training
    calibrates: (n,) bool, whether a spectrum sets uncertainties when it is held out
    """

    id: NDArray[np.int64]
    star: NDArray[np.int64]
    blocks: Mapping[str, Block]
    y: Float
    targets: tuple[str, ...]
    ra: Float
    dec: Float
    worth: Float
    calibrates: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.id)

    @classmethod
    def join(
        cls,
        stores: InputStores,
        labels: Labels,
        targets: tuple[str, ...],
        among: NDArray[np.bool_] | None = None,
    ) -> Sample:
        """Usable rows of the stores with at least one of the labels, in the order of ids.

        among: the rows of the labels that are wanted, all without

        Raises OptionError for a label that there is not, InputError if no row of the store has one.
        """
        for target in targets:
            if target not in labels.values:
                raise OptionError(f"there is no label '{target}' in the labels; there are {', '.join(labels.names)}.")
        y = np.stack([labels.values[target] for target in targets], axis=1)
        y = np.where(np.isfinite(y), y, np.nan)
        rows = stores.rows_of(labels.id)
        known = np.isfinite(y).any(axis=1)
        if among is not None:
            known &= among
        found = known & (rows >= 0)
        if not found.any():
            raise _stranger(stores, labels, labels.id[known])
        flags = stores.main.read("flags")
        found[found] = (flags[rows[found]] & np.uint32(UNUSABLE)) == 0
        if not found.any():
            raise InputError(f"no labelled spectrum of '{stores.main.path}' is usable; see stores-info on its flags.")
        own = rows[found]
        ra, dec = (stores.main.read(name, own) for name in ("ra", "dec"))
        worth, calibrates = np.ones(len(own)), np.ones(len(own), dtype=bool)
        return cls(
            labels.id[found], labels.star[found], stores.read(own), y[found], targets, ra, dec, worth, calibrates
        )

    @classmethod
    def empty(cls, stores: InputStores, targets: tuple[str, ...]) -> Sample:
        """No row of the stores."""
        no_id, none = np.zeros(0, dtype=np.int64), np.zeros(0)
        blocks, y = stores.read(no_id), np.zeros((0, len(targets)))
        return cls(no_id, no_id, blocks, y, targets, none, none, none, none.astype(bool))

    @classmethod
    def concatenated(cls, parts: Sequence[Sample], shares: Sequence[float] | None = None) -> Sample:
        """Several samples as one; stars within 3 arcsec of each other are one across samples.

        shares: of the weight in training that each sample has as a whole; all spectra count alike without
        """
        if len(parts) == 1:
            return parts[0]
        blocks = {
            name: tuple(np.concatenate([part.blocks[name][i] for part in parts]) for i in range(2))
            for name in parts[0].blocks
        }
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("id", "y", "ra", "dec", "calibrates")
        }
        worth = np.concatenate([part.worth for part in parts])
        if shares is not None:
            total = len(worth) / sum(shares)
            worth = np.concatenate(
                [part.worth * share * total / part.worth.sum() for part, share in zip(parts, shares, strict=True)]
            )
        star = merged_stars(parts)
        return cls(star=star, blocks=blocks, targets=parts[0].targets, worth=worth, **joined)  # type: ignore[arg-type]

    def take(self, rows: NDArray[Any]) -> Sample:
        """Only these rows."""
        blocks = {name: (values[rows], valid[rows]) for name, (values, valid) in self.blocks.items()}
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Sample(blocks=blocks, targets=self.targets, **columns)

    @property
    def known_targets(self) -> tuple[str, ...]:
        """Labels that one of these rows has."""
        return tuple(name for name, column in zip(self.targets, self.y.T, strict=True) if np.isfinite(column).any())

    def only(self, targets: tuple[str, ...]) -> Sample:
        """The same rows with these labels alone."""
        # as it lies in memory for all labels: sums over it depend on that in their last bits
        y = np.ascontiguousarray(self.y[:, [self.targets.index(target) for target in targets]])
        return replace(self, y=y, targets=targets)

    def scalings(self) -> dict[str, Scaling]:
        """Standardisation of each block, learned from these rows."""
        return {name: Scaling.of(values, valid) for name, (values, valid) in self.blocks.items()}

    def label_scaling(self) -> Scaling:
        """Standardisation of the labels, from those that are known. Raises InputError where too few are."""
        for target, column in zip(self.targets, self.y.T, strict=True):
            known = column[np.isfinite(column)]
            if len(known) < 2 or np.ptp(known) == 0:
                raise InputError(f"{len(known)} spectra have a label {target}, or all the same; none can be learned.")
        return Scaling.of(self.y, np.isfinite(self.y))

    def folds(self, count: int, seed: int) -> NDArray[np.int64]:
        """A fold (n,) of 0..count-1 for each spectrum, the same for all of a star, alike in [Fe/H]."""
        star, first = np.unique(self.star, return_index=True)
        random = np.random.default_rng(seed)
        key = self.y[first, self.targets.index("feh") if "feh" in self.targets else 0]
        # neighbours in the label go to different folds; ties and unknown ones fall at random
        order = np.lexsort((random.random(len(star)), key))
        fold = np.empty(len(star), dtype=np.int64)
        for start in range(0, len(star), count):
            block = order[start : start + count]
            fold[block] = random.permutation(count)[: len(block)]
        return fold[np.searchsorted(star, self.star)]

    def weights(self, balance: float) -> NDArray[np.float32]:
        """Weights (n,) of mean 1: worth times density of [Fe/H] to the power -balance, so that rare stars count.

        After Yang et al. (2021, arXiv:2102.09554), with the density smoothed as labels are uncertain.
        """
        if balance == 0 or "feh" not in self.targets:
            return (self.worth / self.worth.mean()).astype(np.float32)
        feh = self.y[:, self.targets.index("feh")]
        known = np.isfinite(feh)
        if not known.any():
            return self.weights(0)
        edges = np.arange(-6.0, 2.0, 0.05)
        counts = np.histogram(feh[known], edges, weights=self.worth[known])[0]
        reach = np.arange(-20, 21) * 0.05
        kernel = np.exp(-0.5 * (reach / SMOOTHING) ** 2)
        density = np.convolve(counts, kernel / kernel.sum(), mode="same")
        bins = np.clip(np.digitize(feh, edges) - 1, 0, len(density) - 1)
        weight = np.where(known, np.maximum(density[bins], 1e-3) ** -balance, np.nan)
        weight = np.where(known, np.minimum(weight / np.nanmean(weight), LARGEST_WEIGHT), 1.0)
        weight = weight * self.worth
        return (weight / weight.mean()).astype(np.float32)


def _stranger(stores: InputStores, labels: Labels, ids: NDArray[np.int64]) -> InputError:
    """What to say where no spectrum with labels is in all of the stores: which of them is of other spectra."""
    alien = [store for store in stores.stores.values() if not (store.find(ids) >= 0).any()]
    told = {store.path: f"'{store.path}' (survey {store.attributes['survey']})" for store in stores.stores.values()}
    if len(alien) == 1 and len(told) == 2:
        [own] = set(told) - {alien[0].path}
        return InputError(
            f"{told[alien[0].path]} has none of the {len(ids)} labelled ids, but {told[own]} has; name a store and "
            "embeddings of the same spectra."
        )
    theirs = f"; the labels are of '{labels.notes['store']}'" if "store" in labels.notes else ""
    return InputError(
        f"none of the {len(ids)} labelled ids is in {' and '.join(told.values())}{theirs}; check that labels and "
        "store are of the same survey."
    )


def merged_stars(parts: Sequence[Sample], names: Sequence[NDArray[np.int64]] = ()) -> NDArray[np.int64]:
    """Numbers (n,) of the stars of all rows of samples: those that a sample, a position or a name says are one.

    names: each (n,), what else tells stars; 0 where unknown
    """
    ra, dec = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ra", "dec"))
    keys, start = list(names), 0
    for part in parts:
        key = np.zeros(len(ra), dtype=np.int64)
        key[start : start + len(part)] = np.unique(part.star, return_inverse=True)[1] + 1
        keys.append(key)
        start += len(part)
    return same_stars(ra, dec, keys)


def features(blocks: Mapping[str, Block], scalings: Mapping[str, Scaling]) -> NDArray[np.float32]:
    """Standardised features (n, sum of d) of blocks, in the order of the scalings; spectra to encode as they are."""
    if "spectrum" in blocks:
        return blocks["spectrum"][0]
    return np.concatenate([scaling(*blocks[name]) for name, scaling in scalings.items()], axis=1)
