"""Tables of spectra, as the reader `table` takes them: the layout for instruments without a format of their own.

table-00000.fits   HDU SPECTRA: ID, RA, DEC, RV, FLUX, IVAR; HDU WAVELENGTH: vacuum Angstrom
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.simulate.layouts import Cards, Group, blocks, fits_blocks, layout, only_arm
from stores.simulate.observe import Observation, ObservedArm
from stores.simulate.population import Stars
from stores.spectrum import SpectrumBatch
from stores.surveys.width import from_resolving_power


@layout("table")
class Table:
    """One FITS table a block; an object's id is that of its star."""

    @staticmethod
    def ids(stars: Stars, seed: int) -> NDArray[np.int64]:
        return stars.id

    @staticmethod
    def groups(stars: Stars) -> list[Group]:
        return blocks(len(stars))

    @staticmethod
    def write(observation: Observation, place: tuple[int, ...], folder: Path, cards: Cards) -> None:
        arm = only_arm(observation)
        n, n_pix, stars = len(observation), len(arm.wavelength), observation.stars
        start = {**cards, "RESPOWER": _resolving_power(arm), "BUNIT": "1e-17 erg/s/cm2/Angstrom"}
        columns = f"ID K, RA D, DEC D, RV D, FLUX {n_pix}E, IVAR {n_pix}E"
        values = {"ID": observation.id, "RA": stars.ra, "DEC": stars.dec, "RV": _velocity(observation)}
        blocks = [
            fits_blocks.primary(fits_blocks.card(*one) for one in start.items()),
            fits_blocks.table("SPECTRA", columns, n, {**values, "FLUX": arm.flux, "IVAR": arm.ivar}),
            fits_blocks.image("WAVELENGTH", arm.wavelength, "Angstrom"),
        ]
        with replacing(folder / f"table-{place[0]:05d}.fits") as path:
            path.write_bytes(b"".join(blocks))

    @staticmethod
    def batch(observation: Observation) -> SpectrumBatch:
        arm = only_arm(observation)
        sigma = from_resolving_power(arm.wavelength, _resolving_power(arm))
        arms = [arm.read(arm.wavelength, sigma)]
        stars = observation.stars
        return SpectrumBatch(arms, observation.id, stars.ra, stars.dec, _velocity(observation))


def _velocity(observation: Observation) -> NDArray[np.float64]:
    return np.where(observation.fates.unusable, np.nan, observation.rv)


def _resolving_power(arm: ObservedArm) -> float:
    """The typical fibre's, at the middle pixel: the reader `table` knows but one."""
    middle = len(arm.wavelength) // 2
    return round(float(arm.wavelength[middle] / arm.sigma[middle] / 2.354820045), 1)
