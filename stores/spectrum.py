"""SpectrumBatch: the one typed thing that survey readers give and everything else takes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stores.errors import InputError
from stores.flags import Flag

Float = NDArray[np.float64]
NO_VELOCITY = -9999.0  # km/s; this or less is how tables say that they have none
HUGE = 1e100  # squares and inverses of what lies below are finite


@dataclass
class Arm:
    """Spectra of one arm of a spectrograph, all on the same pixels.

    wavelength: (n_pix,), vacuum Angstrom, strictly increasing
    flux: (n, n_pix), any linear unit (the same for all arms of a batch)
    ivar: (n, n_pix), 1 / flux**2; 0 marks a pixel that must not be used
    sigma: Gaussian width of the line-spread function in Angstrom, (n_pix,) or (n, n_pix); None if unknown
    """

    wavelength: Float
    flux: Float
    ivar: Float
    sigma: Float | None = None

    def __post_init__(self) -> None:
        self.wavelength = np.asarray(self.wavelength, dtype=np.float64)
        self.flux = np.atleast_2d(np.asarray(self.flux, dtype=np.float64))
        self.ivar = np.atleast_2d(np.asarray(self.ivar, dtype=np.float64))
        if self.wavelength.ndim != 1 or len(self.wavelength) < 2:
            raise InputError(f"wavelength has shape {self.wavelength.shape}, not one axis of 2 or more pixels.")
        if not (np.all(np.isfinite(self.wavelength)) and np.all(np.diff(self.wavelength) > 0)):
            raise InputError("wavelength does not rise strictly from pixel to pixel.")
        if self.wavelength[0] <= 0:
            raise InputError("wavelength is not positive.")
        if self.flux.shape != self.ivar.shape or self.flux.shape[1] != len(self.wavelength):
            raise InputError(
                f"flux {self.flux.shape}, ivar {self.ivar.shape} and wavelength {self.wavelength.shape} "
                "do not fit together."
            )
        if self.sigma is not None:
            self.sigma = np.asarray(self.sigma, dtype=np.float64)
            if self.sigma.shape not in (self.wavelength.shape, self.flux.shape):
                raise InputError(f"line-spread widths {self.sigma.shape} do not fit flux {self.flux.shape}.")

    def window(self, low: float, high: float) -> Arm:
        """The pixels that reach into [low, high] Angstrom and one more on either side (at least two)."""
        first, last = np.searchsorted(self.wavelength, (low, high))
        first = int(np.clip(first - 2, 0, len(self.wavelength) - 2))
        cut = slice(first, max(int(last) + 2, first + 2))
        sigma = None if self.sigma is None else self.sigma[..., cut]
        return Arm(self.wavelength[cut], self.flux[:, cut], self.ivar[:, cut], sigma)

    def mask_bad_values(self) -> NDArray[np.bool_]:
        """Mask NaN, (nearly) infinite values and negative ivar; (n,) True where a pixel in use was bad."""
        bad = ~(np.abs(self.flux) < HUGE) | ~((self.ivar >= 0) & (self.ivar < HUGE))
        bad |= (self.ivar > 0) & (self.ivar < 1 / HUGE)
        if not bad.any():
            return np.zeros(len(self.flux), dtype=bool)
        # a NaN under ivar == 0 is a mask like any other
        found: NDArray[np.bool_] = np.any(bad & (self.ivar != 0), axis=1)
        # not in place: the arrays may be the caller's own, or read-only
        self.flux = np.where(bad, 0.0, self.flux)
        self.ivar = np.where(bad, 0.0, self.ivar)
        return found


@dataclass
class SpectrumBatch:
    """`n` spectra with their metadata; no NaN in flux, ivar or rv.

    id: (n,) int64, the survey's own identifier
    ra, dec: (n,) deg, ICRS; NaN (and a flag) if the file has no position
    rv: (n,) km/s, heliocentric; what preparation shifts by, so 0 (and a flag) if missing
    flags: (n,) uint32, see `stores.flags`
    snr: (n,) median signal-to-noise ratio per pixel; filled by preparation
    """

    arms: Sequence[Arm]
    id: NDArray[np.int64]
    ra: Float
    dec: Float
    rv: Float
    flags: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, dtype=np.uint32))
    snr: Float | None = None

    MAX_RV = 2000.0  # km/s; the fastest star known moves at about 1700

    def __post_init__(self) -> None:
        self.id = as_id(self.id)
        n = len(self.id)
        if not self.arms:
            raise InputError("a spectrum needs at least one arm.")
        self.flags = np.zeros(n, np.uint32) if len(self.flags) == 0 else np.asarray(self.flags, np.uint32).copy()
        for name in ("ra", "dec", "rv"):
            setattr(self, name, np.array(np.broadcast_to(getattr(self, name), (n,)), dtype=np.float64))
        for arm in self.arms:
            if len(arm.flux) != n:
                raise InputError(f"{n} ids but {len(arm.flux)} spectra.")
            self.flag(arm.mask_bad_values(), Flag.BAD_VALUES)
        self.flag(~(np.isfinite(self.ra) & np.isfinite(self.dec)), Flag.NO_COORDINATES)
        self.set_rv(self.rv)

    def set_rv(self, rv: Float) -> None:
        """Set radial velocities (n,), km/s; NaN or -9999 is missing, and missing or absurd ones become 0, flagged."""
        missing = np.isnan(rv) | (rv <= NO_VELOCITY)
        absurd = ~missing & (np.abs(np.where(missing, 0.0, rv)) > self.MAX_RV)
        self.flags &= np.uint32(~(Flag.RV_MISSING | Flag.RV_ABSURD) & 0xFFFFFFFF)
        self.flag(missing, Flag.RV_MISSING)
        self.flag(absurd, Flag.RV_ABSURD)
        self.rv = np.where(missing | absurd, 0.0, rv)

    def flag(self, rows: NDArray[np.bool_], flag: Flag) -> None:
        """Set a flag on the rows where `rows` (n,) is True."""
        self.flags[rows] |= np.uint32(flag)

    def __len__(self) -> int:
        return len(self.id)

    def _only_arm(self) -> Arm:
        if len(self.arms) != 1:
            raise InputError(f"this batch has {len(self.arms)} arms; prepare it onto a grid first.")
        return self.arms[0]

    @property
    def wavelength(self) -> Float:
        return self._only_arm().wavelength

    @property
    def flux(self) -> Float:
        return self._only_arm().flux

    @property
    def ivar(self) -> Float:
        return self._only_arm().ivar

    def take(self, rows: slice | NDArray[np.intp]) -> SpectrumBatch:
        """The chosen rows, as a batch of their own."""
        arms = []
        for arm in self.arms:
            sigma = arm.sigma if arm.sigma is None or arm.sigma.ndim == 1 else arm.sigma[rows]
            arms.append(Arm(arm.wavelength, arm.flux[rows], arm.ivar[rows], sigma))
        snr = None if self.snr is None else self.snr[rows]
        part = SpectrumBatch(arms, self.id[rows], self.ra[rows], self.dec[rows], self.rv[rows], snr=snr)
        part.flags = self.flags[rows].copy()
        return part


def as_id(values: ArrayLike) -> NDArray[np.int64]:
    """Survey ids as int64; refuses what would not survive the trip (floats, ids beyond 2**63 - 1, text)."""
    array = np.atleast_1d(np.asarray(values))
    if array.dtype.kind == "i":
        return array.astype(np.int64)
    if array.dtype.kind == "u":
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise InputError(f"id {int(array.max())} is beyond 2**63 - 1 and does not fit a 64-bit integer.")
        return array.astype(np.int64)
    if array.dtype.kind in "SUO":
        return np.array([_one_id(value) for value in array.ravel()], dtype=np.int64)
    raise InputError(f"ids are of type {array.dtype}; only integers keep all 64 bits.")


def _one_id(value: object) -> int:
    if isinstance(value, int | np.integer | str | bytes) and not isinstance(value, bool):
        with suppress(ValueError):
            number = int(value)
            if abs(number) < 2**63:
                return number
    raise InputError(f"id '{value!s}' is not a 64-bit integer.")
