"""An instrument and its survey, as one TOML file describes them: arms, pixels, line spread, noise, errors and faults.

The built-in ones lie in `instruments/`; `Instrument.load` also takes the path of a file of your own, in the same
words (docs/adding-an-instrument.md). Tables of [wavelength, value] pairs are interpolated linearly.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, OptionError

Float = NDArray[np.float64]
Pairs = tuple[tuple[float, float], ...]

FOLDER = Path(__file__).parent / "instruments"
FWHM = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))  # of a Gaussian of sigma = 1


@dataclass(frozen=True)
class ArmDesign:
    """One arm of the spectrograph. Wavelengths in vacuum Angstrom; exactly one of fwhm and resolving_power."""

    name: str
    start: float
    stop: float
    step: float
    """Angstrom, or dex of the wavelength with lattice = log10."""
    throughput: Pairs
    """Relative: only its shape counts."""
    lattice: Literal["linear", "log10"] = "linear"
    """Pixels at start + i step, or at 10**(i step) within start and stop."""
    fwhm: Pairs = ()
    """Full width at half maximum of the line-spread function before pixels average it, Angstrom."""
    resolving_power: Pairs = ()
    """The same as lambda / FWHM."""

    @property
    def pixels(self) -> Float:
        """Pixel centres (n_pix,), vacuum Angstrom."""
        if self.lattice == "linear":
            return np.round(self.start + self.step * np.arange(round((self.stop - self.start) / self.step) + 1), 6)
        first, last = (round(float(np.log10(end)) / self.step) for end in (self.start, self.stop))
        return np.power(10.0, self.step * np.arange(first, last + 1), dtype=np.float64)

    def sigma(self, wavelength: Float) -> Float:
        """Gaussian width of the line-spread function (n_pix,), Angstrom."""
        if self.fwhm:
            return interpolated(self.fwhm, wavelength) / FWHM
        return wavelength / interpolated(self.resolving_power, wavelength) / FWHM


@dataclass(frozen=True)
class Noise:
    """Signal-to-noise ratio per pixel at `wavelength`, and what it consists of."""

    wavelength: float
    gmag: float
    snr: float
    """Of a star of magnitude gmag in typical conditions."""
    snr_range: tuple[float, float]
    """No spectrum is worse or better: shorter exposures are left out, longer ones not made."""
    scatter: float
    """Of ln(exposure), from seeing, clouds, fibre positions."""
    sky_gmag: float
    """A star as bright as the sky's continuum in a fibre."""
    read_noise: float
    """Electrons per pixel."""


@dataclass(frozen=True)
class FluxErrors:
    """Errors of the flux calibration."""

    shape: float
    """Standard deviation of the relative error across an arm."""
    order: int
    """Highest Legendre polynomial of that error."""
    grey: float
    """Standard deviation of ln of the factor that all pixels share: fibre losses, or an arbitrary flux unit."""


@dataclass(frozen=True)
class Velocities:
    """Errors of measured radial velocities, km/s: sqrt(floor**2 + (at_snr_10 * 10 / snr)**2)."""

    floor: float
    at_snr_10: float


@dataclass(frozen=True)
class Sky:
    """Emission lines of the night sky."""

    residual: float
    """Standard deviation of what is left of a line after sky subtraction, as a share of the line."""
    lines: Pairs
    """Vacuum wavelength and strength: equivalent width over the sky's continuum, Angstrom."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong, as shares of pixels or of objects."""

    cosmic_rays: float
    cosmic_rays_missed: float
    """Share of the cosmic rays that no mask marks."""
    dead_pixels: float
    missing_arm: float
    mislabelled: float
    """Objects with the spectrum of another star, or classified as no star, half each."""
    unusable: float
    """Objects whose fibre saw only sky."""


@dataclass(frozen=True)
class Instrument:
    """Everything that turns a star's flux into a survey's spectrum.

    layout: the writer of its files; joined: the arms share one lattice and are joined into one spectrum;
    fibre_scatter: relative scatter of the LSF's width between fibres, in FIBRE_CLASSES steps
    """

    name: str
    layout: str
    joined: bool
    fibre_scatter: float
    arms: tuple[ArmDesign, ...]
    noise: Noise
    flux_errors: FluxErrors
    velocities: Velocities
    sky: Sky
    faults: Faults

    @classmethod
    def load(cls, name: str) -> Instrument:
        """A built-in instrument by name, or one from a TOML file by path. Raises OptionError or InputError."""
        built_in = {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
        path = built_in.get(name, Path(name))
        if not path.is_file():
            known = ", ".join(built_in)
            raise OptionError(f"instrument '{name}' is neither a built-in one ({known}) nor a TOML file.")
        try:
            table = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"'{path}' is not a TOML file ({error}).") from None
        instrument: Instrument = _built(cls, table, str(path), "")
        instrument._check(str(path))
        return instrument

    @classmethod
    def from_settings(cls, settings: dict[str, Any], path: str) -> Instrument:
        """The instrument of `settings`, as JSON gave them back. Raises InputError that names `path`."""
        instrument: Instrument = _built(cls, settings, path, "")
        instrument._check(path)
        return instrument

    @property
    def settings(self) -> dict[str, Any]:
        """All values, as JSON holds them."""
        return asdict(self)

    def _check(self, path: str) -> None:
        def refuse(what: str) -> None:
            raise InputError(f"'{path}': {what}.")

        if not self.arms:
            refuse("an instrument needs at least one [[arms]]")
        for arm in self.arms:
            if bool(arm.fwhm) == bool(arm.resolving_power):
                refuse(f"arm {arm.name} needs either fwhm or resolving_power")
            if not (0 < arm.start < arm.stop and arm.step > 0 and len(arm.pixels) >= 20):
                refuse(f"arm {arm.name} must rise from start to stop in at least 20 steps")
            for table in (arm.fwhm, arm.resolving_power, arm.throughput):
                if table and (min(value for _, value in table) <= 0 or np.any(np.diff([x for x, _ in table]) <= 0)):
                    refuse(f"the tables of arm {arm.name} must have rising wavelengths and positive values")
            if not arm.throughput:
                refuse(f"arm {arm.name} needs a throughput")
        if len({arm.name for arm in self.arms}) < len(self.arms):
            refuse("two arms have the same name")
        if self.joined and {(arm.lattice, arm.step) for arm in self.arms} != {("log10", self.arms[0].step)}:
            refuse("arms that are joined need lattice = 'log10' and the same step")
        low, high = self.noise.snr_range
        if not (0 < low < high and self.noise.snr > 0 and self.noise.read_noise >= 0):
            refuse("snr_range must rise from above 0, snr be positive and read_noise not negative")
        for name, value in asdict(self.faults).items():
            if not 0 <= value < 1:
                refuse(f"{name} = {value:g} is not a share from 0 to 1")
        if not (0 <= self.fibre_scatter < 0.3 and 0 <= self.flux_errors.order <= 12):
            refuse("fibre_scatter must lie below 0.3 and the order of flux errors between 0 and 12")


def interpolated(pairs: Pairs, wavelength: Float) -> Float:
    """Values (n_pix,) of a table of [wavelength, value]; beyond its ends the last value holds."""
    x, y = np.array(pairs).T
    return np.interp(wavelength, x, y)


def _built(kind: type, table: Any, path: str, where: str) -> Any:
    """A dataclass from a TOML table; its fields' names and types are the format."""
    if not isinstance(table, dict):
        raise InputError(f"'{path}': {where.strip('.')} is not a table.")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for name in table:
        if name not in known:
            raise InputError(f"'{path}': {where}{name} is unknown; known there are {', '.join(known)}.")
    values = {}
    for name, field in known.items():
        if name in table:
            values[name] = _value(hints[name], table[name], path, f"{where}{name}")
        elif field.default is field.default_factory:  # both are MISSING
            raise InputError(f"'{path}': {where}{name} is missing.")
    return kind(**values)


def _value(kind: Any, value: Any, path: str, where: str) -> Any:
    """A TOML value as the type of its field."""
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
    elif get_origin(kind) is tuple and isinstance(value, list):
        inner = get_args(kind)
        if inner[-1] is Ellipsis:
            return tuple(_value(inner[0], item, path, f"{where}[{i}]") for i, item in enumerate(value))
        if len(inner) == len(value):
            return tuple(_value(one, item, path, where) for one, item in zip(inner, value, strict=True))
    elif hasattr(kind, "__dataclass_fields__"):
        return _built(kind, value, path, f"{where}.")
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and not isinstance(kind, UnionType) and type(value) is kind:
        return value
    raise InputError(f"'{path}': {where} = {value!r} is not of the type that belongs there.")
