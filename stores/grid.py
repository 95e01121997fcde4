"""Wavelength grids: constant steps in log10 of the vacuum wavelength in Angstrom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stores.errors import OptionError

SPEED_OF_LIGHT = 299_792.458  # km/s


@dataclass(frozen=True)
class Grid:
    """`n_pix` pixels with centres log10(wavelength / A) = start + step * i."""

    start: float
    n_pix: int
    step: float = 1e-4

    @classmethod
    def parse(cls, text: str) -> Grid:
        """A grid by name (`lrs`, `optical`) or as START:STOP:STEP in log10 A, both ends included."""
        if text in GRIDS:
            return GRIDS[text]
        try:
            start, stop, step = (float(part) for part in text.split(":"))
        except ValueError:
            known = ", ".join(GRIDS)
            raise OptionError(
                f"grid '{text}' is neither a known one ({known}) nor START:STOP:STEP in log10 of Angstrom, "
                "for instance 3.602:3.7481:0.0001."
            ) from None
        if not (2.0 < start < stop < 6.0 and 1e-6 <= step <= (stop - start) / 20):
            raise OptionError(
                f"grid '{text}' must rise from START to STOP, between 2 and 6 in log10 of Angstrom, "
                "in at least 20 steps."
            )
        return cls(start, round((stop - start) / step) + 1, step)

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Pixel centres (n_pix,), vacuum Angstrom."""
        return np.power(10.0, self.start + self.step * np.arange(self.n_pix), dtype=np.float64)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Pixel edges (n_pix + 1,), vacuum Angstrom."""
        return pixel_edges(self.wavelength)

    @property
    def kms(self) -> float:
        """Width of a pixel in km/s."""
        return SPEED_OF_LIGHT * float(np.log(10.0)) * self.step

    def extended(self, low: float, high: float) -> tuple[Grid, slice]:
        """This grid grown to cover [low, high] Angstrom too, and where the grid itself lies in it."""
        stop = self.start + self.step * (self.n_pix - 1)
        before = max(0, int(np.ceil((self.start - np.log10(low)) / self.step)))
        after = max(0, int(np.ceil((np.log10(high) - stop) / self.step)))
        grown = Grid(self.start - before * self.step, self.n_pix + before + after, self.step)
        return grown, slice(before, before + self.n_pix)

    def __str__(self) -> str:
        for name, grid in GRIDS.items():
            if grid == self:
                return name
        return f"{self.start:.10g}:{self.start + self.step * (self.n_pix - 1):.10g}:{self.step:.10g}"


def pixel_edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges (n_pix + 1,) halfway between centres (n_pix,); the outermost pixels are symmetric."""
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


# `lrs` is the grid of SpecCLIP (arXiv 2507.01939); `optical` spans LAMOST's two arms on the same lattice.
GRIDS: dict[str, Grid] = {"lrs": Grid(3.602, 1462), "optical": Grid(3.5682, 3909)}
