"""Spectra with labels that embeddings are compared on: real LAMOST and MILES stars, and stars seen by both twins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import Grid
from stores.id_table import IdTable
from stores.prepare import Preparation
from stores.provenance import array_digest
from stores.spectra import SpectraStore

if TYPE_CHECKING:
    from stores.simulate.instrument import Instrument
    from stores.simulate.observe import Fates
    from stores.simulate.population import Stars

Float = NDArray[np.float64]

ID_NAMES = ("obsid", "id")
LABELS = ("teff", "logg", "feh", "alphafe")
TEFF_RANGE = (4000.0, 7500.0)  # K, of all stars here
UNUSABLE = Flag.NO_VALID_PIXELS | Flag.MOSTLY_MASKED | Flag.UNREADABLE
TWIN_SEED = 2026


@dataclass(frozen=True)
class Sample:
    """Prepared spectra, flux and ivar (n, n_pix), with labels (n,) each, NaN where unknown, and their stars (n,)."""

    name: str
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    labels: Mapping[str, Float]
    star: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.flux)

    def take(self, rows: NDArray[Any]) -> Sample:
        """Only these rows."""
        labels = {name: values[rows] for name, values in self.labels.items()}
        return Sample(self.name, self.flux[rows], self.ivar[rows], labels, self.star[rows])


@dataclass(frozen=True)
class Workshop:
    """Where stores of samples are kept, and how their spectra are prepared.

    data: folder laid out as the project's real data (lamost/fits, lamost/labels.csv, miles/fits, ...)
    """

    folder: Path
    data: Path
    grid: Grid
    preparation: Preparation

    def lamost(self) -> Sample:
        """Real LAMOST spectra with LASP's labels."""
        from stores.stars import same_stars

        table = self.data / "lamost" / "lamost_dr10_table.fits.gz"
        stores = [
            self._ingested("lamost-files", "lamost", self.data / "lamost" / "fits"),
            self._ingested("lamost-table", "table", table),
        ]
        labels = [_labels(self.data / "lamost" / "labels.csv"), _labels(table)]
        parts = [_joined("lamost", store, table) for store, table in zip(stores, labels, strict=True)]
        sample = _concatenated(parts)
        ra, dec = (np.concatenate([store.read(name) for store in stores]) for name in ("ra", "dec"))
        kept = np.concatenate([_kept(store, table) for store, table in zip(stores, labels, strict=True)])
        return replace(sample, star=same_stars(ra[kept], dec[kept]))

    def miles(self) -> Sample:
        """Real stars of the MILES library with literature labels."""
        folder = self.data / "miles"
        store = self._ingested("miles", "fits1d", folder / "fits", medium="air", at_rest=True)
        return _joined("miles", store, _labels(folder / "labels.csv"))

    def repeats(self) -> Sample:
        """Real LAMOST stars observed more than once; `star` tells which."""
        folder = self.data / "lamost_formats" / "dr8_repeats"
        store = self._ingested("repeats", "lamost", folder)
        groups = IdTable.read(folder / "groups.csv", ID_NAMES, ("group",))
        group = dict(zip(groups.ids.tolist(), groups.columns["group"].tolist(), strict=True))
        ids = store.read("id")
        known = np.array([int(one) in group for one in ids]) & _usable(store)
        star = np.array([group.get(int(one), -1) for one in ids])
        return Sample("repeats", store.read("flux"), store.read("ivar"), {}, star).take(known)

    def twin(self, survey: str, n: int, snr: float | None = None) -> Sample:
        """The same simulated stars as `survey` sees them, with their true labels.

        snr: per pixel of the survey, the same for all; as the survey has it if None
        """
        from stores.simulate.twin import Twin, shared_emulator

        instrument, stars, fates = seen_by(survey, n, snr)
        emulator = shared_emulator()
        settings = json.loads(json.dumps(instrument.settings))
        drawn = array_digest(*(getattr(stars, field.name) for field in fields(stars)))
        job = {"instrument": settings, "stars": drawn, "seed": TWIN_SEED, "emulator": emulator.details["checksum"]}
        name = f"{survey}-twin-{n}" + ("" if snr is None else f"-snr{snr:g}")
        path = self.folder / f"{name}.zarr"
        Twin(instrument, TWIN_SEED, stars, fates, job).write_store(path, self.grid, self.preparation)
        store = SpectraStore.open(path)
        labels = {label: stars.labels[:, i] for i, label in enumerate(LABELS)}
        return Sample(name, store.read("flux"), store.read("ivar"), labels, np.arange(n))

    def _ingested(self, name: str, survey: str, files: Path, **more: Any) -> SpectraStore:
        from stores.ingest import IngestOptions, ingest

        if not files.exists():
            raise InputError(f"'{files}' does not exist; name the folder of the real data with --data.")
        path = self.folder / f"{name}.zarr"
        ingest(
            IngestOptions(
                survey=survey,
                files=(str(files),),
                out=path,
                grid=str(self.grid),
                preparation=self.preparation,
                **more,
            )
        )
        return SpectraStore.open(path)


def seen_by(survey: str, n: int, snr: float | None = None) -> tuple[Instrument, Stars, Fates]:
    """The instrument, without faults of objects and at the S/N, the stars that all twins share, and their fates."""
    from stores.simulate.instrument import Instrument
    from stores.simulate.observe import Fates
    from stores.simulate.population import draw
    from stores.simulate.twin import shared_emulator

    instrument = Instrument.load(survey)
    if snr is not None:
        noise = replace(instrument.noise, snr_range=(snr - 0.5, snr + 0.5))
        instrument = replace(instrument, noise=noise)
    # a spectrum that is not of its star has no place in a question about the star
    faults = replace(instrument.faults, mislabelled=0.0, unusable=0.0, missing_arm=0.0)
    instrument = replace(instrument, faults=faults)
    stars = draw(n, TWIN_SEED, shared_emulator())
    return instrument, stars, Fates.draw(stars, instrument, TWIN_SEED)


def _labels(path: Path) -> dict[str, dict[int, float]]:
    """Labels by id, of stars within the range of Teff."""
    table = IdTable.read(path, ID_NAMES, LABELS)

    def numbers(name: str) -> Float:
        values = table.numbers(name)
        return np.where(values > -9, values, np.nan)

    ids, teff = table.ids.tolist(), numbers("teff")
    inside = (teff > TEFF_RANGE[0]) & (teff < TEFF_RANGE[1])
    found = {}
    for name in LABELS:
        if name in table.columns:
            values = np.where(inside, numbers(name), np.nan)
            found[name] = {one: value for one, value in zip(ids, values.tolist(), strict=True) if np.isfinite(value)}
    return found


def _usable(store: SpectraStore) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = (store.read("flags") & np.uint32(UNUSABLE | Flag.DUPLICATE_ID)) == 0
    return usable


def _kept(store: SpectraStore, labels: Mapping[str, Mapping[int, float]]) -> NDArray[np.bool_]:
    """(n,) True for usable spectra of stars with a known Teff and [Fe/H]."""
    known = np.array([int(one) in labels["teff"] and int(one) in labels["feh"] for one in store.read("id")])
    return known & _usable(store)


def _joined(name: str, store: SpectraStore, labels: Mapping[str, Mapping[int, float]]) -> Sample:
    ids = store.read("id").tolist()
    values = {label: np.array([known.get(one, np.nan) for one in ids]) for label, known in labels.items()}
    sample = Sample(name, store.read("flux"), store.read("ivar"), values, np.arange(len(ids)))
    return sample.take(_kept(store, labels))


def _concatenated(parts: list[Sample]) -> Sample:
    labels = {
        name: np.concatenate([part.labels.get(name, np.full(len(part), np.nan)) for part in parts])
        for name in set().union(*(part.labels for part in parts))
    }
    flux, ivar = (np.concatenate([getattr(part, name) for part in parts]) for name in ("flux", "ivar"))
    return Sample(parts[0].name, flux, ivar, labels, np.arange(len(flux)))
