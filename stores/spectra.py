"""SpectraStore: prepared spectra at rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.column import ROW_COLUMNS, Column
from stores.flags import Flag
from stores.grid import Grid
from stores.prepare import Preparation
from stores.spectrum import SpectrumBatch
from stores.store import Array, Store


def spectra_columns(grid: Grid) -> dict[str, Column]:
    """The arrays of a spectra store on a grid."""
    return {
        "flux": Column("float32", "", "flux divided by its continuum; 1 where masked", grid.n_pix),
        "ivar": Column("float32", "", "inverse variance of flux; 0 marks a masked pixel", grid.n_pix),
        **ROW_COLUMNS,
        "rv": Column("float32", "km/s", "radial velocity that was taken out; 0 if missing, see flags"),
    }


def spectra_values(batch: SpectrumBatch) -> dict[str, Array]:
    """The columns of a spectra store from a prepared batch."""
    assert batch.snr is not None
    row_values = {name: getattr(batch, name) for name in ("id", "ra", "dec", "rv", "snr", "flags")}
    return {"flux": batch.flux, "ivar": batch.ivar, **row_values}


class SpectraStore(Store):
    """flux, ivar (n, n_pix) on one grid, and id, ra, dec, rv, snr, flags (n,)."""

    KIND = "spectra"

    @property
    def grid(self) -> Grid:
        return Grid(**self.attributes["grid"])

    @property
    def survey(self) -> str:
        return str(self.attributes["survey"])

    @property
    def preparation(self) -> Preparation:
        return Preparation.from_attributes(self.attributes["preprocessing"])

    @property
    def preparation_fingerprint(self) -> str:
        return str(self.attributes["preprocessing"]["fingerprint"])

    def check(self, values: Mapping[str, Array]) -> Iterator[str]:
        yield from super().check(values)
        flux, ivar, flags = values["flux"], values["ivar"], values["flags"]
        if not np.all(np.isfinite(flux)):
            yield "flux is not finite"
        if not np.all(np.isfinite(ivar)) or np.any(ivar < 0):
            yield "ivar is negative or not finite"
        if not np.all(np.isfinite(values["rv"])):
            yield "rv is not finite"
        empty: NDArray[np.bool_] = ~np.any(ivar > 0, axis=1)
        if np.any(empty & ((flags & np.uint32(Flag.NO_VALID_PIXELS)) == 0)):
            yield "a spectrum has no valid pixel and no flag that says so"


def spectra_details(grid: Grid, survey: str, preparation: Preparation) -> dict[str, Any]:
    """The attributes that every store made from spectra carries."""
    return {
        "grid": {"start": grid.start, "n_pix": grid.n_pix, "step": grid.step},
        "survey": survey,
        "preprocessing": preparation.attributes(grid),
    }
