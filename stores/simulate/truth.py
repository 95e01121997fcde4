"""The truth of an observation: what each star is, what befell its spectrum, and what the spectrum can tell at best."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.simulate.bound import cramer_rao, label_information
from stores.simulate.lsf import doppler
from stores.simulate.observe import Bad, Mislabelled, Observation, through

if TYPE_CHECKING:
    import pyarrow

    from stores.simulate.emulator import Emulator

Float = NDArray[np.float64]

KEY = "spectrabridge"  # of the metadata
STARS_AT_ONCE = 32  # derivatives of the spectra of so many stars are held at a time
CONTINUUM_ORDER = 4  # of the polynomial that each arm's flux is multiplied with


def bounds(observation: Observation, emulator: Emulator) -> Float:
    """The Cramer-Rao bound (n, 5) on each label of the star that is seen, in the label's unit; inf where none.

    From the noise-free flux and errors of all pixels that have data, whether a mask hits them or not; the level and
    low orders of each arm's flux and the radial velocity are not known. See `stores.simulate.bound`.
    """
    parts = [cramer_rao(*arms, continuum_order=CONTINUUM_ORDER) for arms in _derivatives(observation, emulator)]
    return np.concatenate(parts)


def fisher_matrices(
    observation: Observation, emulator: Emulator, wavelengths: tuple[float, float] | None = None
) -> Float:
    """The Fisher matrices (n, 6, 6) behind the bounds: of the five labels and the velocity.

    wavelengths: Angstrom, in the observed frame, between which pixels count, if not all do
    """
    low, high = wavelengths or (0.0, np.inf)
    parts = []
    for flux, derivatives, ivar, pixels in _derivatives(observation, emulator):
        ivar = [
            np.where((wave >= low) & (wave <= high), weight, 0.0) for wave, weight in zip(pixels, ivar, strict=True)
        ]
        parts.append(label_information(flux, derivatives, ivar, pixels, continuum_order=CONTINUUM_ORDER)[1])
    return np.concatenate(parts)


def _derivatives(observation: Observation, emulator: Emulator) -> Iterator[tuple[list[Float], ...]]:
    """flux, derivatives, ivar and wavelength of the arms, for a few stars at a time."""
    for start in range(0, len(observation), STARS_AT_ONCE):
        yield _derivatives_of(observation, emulator, slice(start, start + STARS_AT_ONCE))


def _derivatives_of(observation: Observation, emulator: Emulator, rows: slice) -> tuple[list[Float], ...]:
    import torch

    from stores.simulate.emulator import one_thread

    seen = observation.fates.seen.take(rows)
    labels = torch.as_tensor(seen.labels, dtype=torch.float32)
    with one_thread():
        flux = emulator.flux(labels).numpy()
        slopes = emulator.jacobian(labels).permute(2, 0, 1).numpy()  # (5, n, n_in)
    level = 1 / np.median(flux, axis=1, keepdims=True)
    light = [doppler(values * level, seen.rv, emulator.wavelength) for values in (flux, *slopes)]
    fluxes, derivatives, ivars = [], [], []
    for design, arm in zip(observation.instrument.arms, observation.parts, strict=True):
        on_pixels = [
            through(design, one, emulator.wavelength, observation.width[rows], seen.ebv).astype(np.float64)
            for one in light
        ]
        usable = (arm.mask[rows] & Bad.NO_DATA == 0) & (on_pixels[0] > 0)
        snr = np.where(usable, arm.model[rows] / arm.error[rows], 0.0)
        fluxes.append(on_pixels[0])
        derivatives.append(np.stack(on_pixels[1:], axis=2))
        ivars.append((snr / np.where(usable, on_pixels[0], 1.0)) ** 2)
    pixels = [design.pixels for design in observation.instrument.arms]
    return fluxes, derivatives, ivars, pixels


def truth_table(observation: Observation, emulator: Emulator | None = None) -> pyarrow.Table:
    """A row for each spectrum; docs/simulation.md lists the columns. The bounds are there if an emulator is given."""
    import pyarrow as pa

    from stores.simulate.emulator import LABELS
    from stores.simulate.loci import PHASES
    from stores.simulate.population import COMPONENTS

    stars, fates = observation.stars, observation.fates
    sigma = {}
    if emulator is not None:
        sigma = dict(zip((f"sigma_{label}" for label in LABELS), bounds(observation, emulator).T, strict=True))
    arm_names = np.array([*(arm.name for arm in observation.instrument.arms), ""])  # -1, none, is the last
    columns: dict[str, Any] = {
        "id": observation.id,
        "star_id": stars.id,
        **{label: stars.labels[:, i] for i, label in enumerate(LABELS)},
        **sigma,
        "component": np.array(COMPONENTS)[stars.component],
        "phase": np.array(PHASES)[stars.phase],
        **{name: getattr(stars, name) for name in ("ra", "dec", "pmra", "pmdec", "parallax", "gmag", "ebv", "rv")},
        "rv_measured": observation.rv,
        "snr": observation.snr,
        "snr_5000": observation.snr_5000,
        **{f"snr_{arm.name.lower()}": _median_snr(observation, i) for i, arm in enumerate(observation.arms)},
        "mislabelled": np.array([kind.name.lower() for kind in Mislabelled])[fates.mislabelled],
        "seen_star_id": fates.seen.id,
        "unusable": fates.unusable,
        "missing_arm": arm_names[fates.missing_arm],
    }
    return pa.table(columns)


def _median_snr(observation: Observation, number: int) -> Float:
    """Noise-free S/N (n,) per pixel of one arm: the median over its pixels with data."""
    from stores.simulate.exposure import medians

    arm = observation.arms[number]
    ratio = np.where(arm.mask & Bad.NO_DATA, np.nan, arm.model / arm.error)
    return medians([arm.wavelength], [ratio], (0.0, np.inf))


class Parts:
    """Truth on its way: a file for each finished part of a run in a hidden folder beside where the whole will lie.

    A part is written after all else of its work, so its file says that the work is done.
    """

    def __init__(self, whole: Path) -> None:
        self.whole = whole
        self.folder = whole.with_name(f".{whole.stem}.parts")

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def done(self, number: int) -> bool:
        return self.path(number).is_file()

    def tells(self, about: Mapping[str, Any]) -> bool:
        """Whether the whole is there and says the same `about` itself."""
        import pyarrow.parquet as pq

        if not self.whole.is_file():
            return False
        told = json.loads((pq.read_schema(self.whole).metadata or {}).get(KEY.encode(), b"{}"))
        return all(told.get(name) == value for name, value in json.loads(json.dumps(about)).items())

    def write(self, number: int, table: pyarrow.Table) -> None:
        import pyarrow.parquet as pq

        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.path(number)) as path:
            pq.write_table(table, path)

    def merge(self, count: int, about: Mapping[str, Any]) -> None:
        """Write the whole from its parts, with `about` as JSON in the schema's metadata, and remove them."""
        import pyarrow.parquet as pq

        schema = pq.read_schema(self.path(0)).with_metadata({KEY: json.dumps(about)})
        with replacing(self.whole) as path, pq.ParquetWriter(path, schema) as writer:
            for number in range(count):
                writer.write_table(pq.read_table(self.path(number)).replace_schema_metadata(schema.metadata))
        shutil.rmtree(self.folder)
