"""Labels -> synthetic spectrum: a differentiable emulator of the grid of synthetic stellar spectra.

A network turns five labels into coefficients of principal components of the normalised spectrum (the idea of
The Payne, Ting et al. 2019, ApJ 879, 69), a second one into those of log10 of the continuum. Range, errors and
known faults stand in data/emulator.md; `python -m stores.simulate.train` makes the weights.

    emulator = Emulator.load()
    flux = emulator.flux(torch.tensor([[5777.0, 4.44, 0.0, 0.0, 1.0]]))  # (1, n_pix), vacuum, at rest
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from stores.errors import InputError, ModelError
from stores.provenance import array_digest
from stores.simulate.loci import microturbulence

LABELS = ("teff", "logg", "feh", "alphafe", "vmic")
UNITS = ("K", "dex", "dex", "dex", "km/s")
RESOLUTION = 6000.0  # lambda / FWHM of the Gaussian line-spread function
WEIGHTS = Path(__file__).parent / "data" / "emulator.safetensors"
NEIGHBOURS = 3  # a lone star of the grid makes no region
SCALE = (100.0, 0.15)  # K and dex that count as one unit of distance between stars of the grid
VMIC_SCATTER = 0.35  # km/s by which stars of the grid may differ from the mean microturbulence
ROUNDING = 1e-6  # labels may have been float32
LN10 = float(np.log(10.0))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums depend on the number of threads, and simulations must not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Emulator(nn.Module):
    """The spectrum of a star as a smooth function of its labels (`LABELS`: K, dex (log cgs), dex, dex, km/s).

    Computes in the type of its weights: float32 as loaded, float64 after `.double()`.

    wavelength: (n_pix,) vacuum Angstrom, constant step in ln lambda; pixels are samples, not means over bins
    details: what is known of the weights: range of labels, errors on held-out spectra, training, provenance
    """

    centre: Tensor  # (5,) and half_range (5,): the range of labels
    half_range: Tensor
    mean: Tensor  # (n_pix,) and basis (k, n_pix) of the normalised spectrum
    basis: Tensor
    continuum_mean: Tensor  # (n_pix,) and continuum_basis (k, n_pix) of log10 of the continuum
    continuum_basis: Tensor

    def __init__(self, tensors: dict[str, Tensor], details: dict[str, Any]) -> None:
        super().__init__()
        self.details = details
        self.wavelength: NDArray[np.float64] = tensors["wavelength"].double().numpy()
        self.low, self.high = np.array([details["range"][name] for name in LABELS], dtype=np.float64).T
        self.lines, self.continuum = (_filled(name, tensors) for name in ("lines", "continuum"))
        nodes = tensors["continuum_wavelength"].double().numpy()
        at_pixels = [np.interp(self.wavelength, nodes, row) for row in tensors["continuum_basis"].double().numpy()]
        mean = np.interp(self.wavelength, nodes, tensors["continuum_mean"].double().numpy())
        self.register_buffer("centre", torch.tensor((self.low + self.high) / 2, dtype=torch.float32))
        self.register_buffer("half_range", torch.tensor((self.high - self.low) / 2, dtype=torch.float32))
        self.register_buffer("mean", tensors["mean"].float())
        self.register_buffer("basis", tensors["basis"].float())
        self.register_buffer("continuum_mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("continuum_basis", torch.tensor(np.array(at_pixels), dtype=torch.float32))
        self.stars: NDArray[np.float64] = tensors["stars"].double().numpy()  # Teff and log g (n, 2) of the grid
        self.reach = float(details["reach"])
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def load(cls, path: Path | None = None) -> Emulator:
        """The emulator of a weights' file, the built-in one by default. Raises ModelError for an unusable file."""
        path = path or WEIGHTS
        tensors, details = read_weights(path)
        try:
            return cls(tensors, details)
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"'{path}' is not a whole emulator ({error}); train it again.") from None

    def normalised(self, labels: Tensor) -> Tensor:
        """F / F_continuum (n, n_pix) of labels (n, 5)."""
        return torch.addmm(self.mean, self.lines(self._scaled(labels)), self.basis)

    def log10_continuum(self, labels: Tensor) -> Tensor:
        """log10 of the continuum (n, n_pix), surface flux in erg s^-1 cm^-2 A^-1, of labels (n, 5)."""
        return torch.addmm(self.continuum_mean, self.continuum(self._scaled(labels)), self.continuum_basis)

    def flux(self, labels: Tensor) -> Tensor:
        """Surface flux (n, n_pix), erg s^-1 cm^-2 A^-1, of labels (n, 5)."""
        return self.normalised(labels) * torch.exp(LN10 * self.log10_continuum(labels))

    def jacobian(self, labels: Tensor) -> Tensor:
        """d flux / d label (n, n_pix, 5), per K, dex, dex, dex, km/s, of labels (n, 5): exact, by the chain rule.

        Takes 0.2 MB a star in float32: give large samples in batches.
        """
        x = self._scaled(labels)
        lines, line_slopes = _with_slopes(self.lines, x)
        level, level_slopes = _with_slopes(self.continuum, x)
        normalised = torch.addmm(self.mean, lines, self.basis)
        continuum = torch.exp(LN10 * torch.addmm(self.continuum_mean, level, self.continuum_basis))
        # (n, 5, n_pix) until the end: matrix products and sums run along pixels
        slopes = line_slopes @ self.basis + LN10 * normalised[:, None] * (level_slopes @ self.continuum_basis)
        slopes *= continuum[:, None]
        slopes /= self.half_range[:, None]
        return slopes.transpose(1, 2)

    def between(self, low: float, high: float) -> Emulator:
        """This emulator with its pixels from `low` to `high` Angstrom only: as much less to compute."""
        part = deepcopy(self)
        inside = (self.wavelength >= low) & (self.wavelength <= high)
        part.wavelength = self.wavelength[inside]
        for name in ("mean", "basis", "continuum_mean", "continuum_basis"):
            setattr(part, name, getattr(self, name)[..., torch.from_numpy(inside)].contiguous())
        return part

    def check(self, labels: ArrayLike) -> None:
        """Raise InputError if a label of labels (n, 5) is not a number within the emulator's range."""
        values = _table(labels)
        bad = ~self._in_box(values)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise InputError(
                f"row {row}: {LABELS[column]} = {values[row, column]:g} lies outside the emulator's range, "
                f"{self.low[column]:g} to {self.high[column]:g} {UNITS[column]}; leave such stars out."
            )

    def inside(self, labels: ArrayLike) -> NDArray[np.bool_]:
        """Whether labels (n, 5) lie in the range, and (Teff, log g) and vmic where the grid has stars, (n,).

        A star is where the grid has stars if its third-nearest one is no farther than `reach`, and its
        microturbulence within `VMIC_SCATTER` of the mean one at its Teff and log g. Elsewhere the emulator guesses.
        """
        from scipy.spatial import cKDTree

        values = _table(labels)
        good = np.all(self._in_box(values), axis=1)
        teff, logg, _, _, vmic = values[good].T
        distance, _ = cKDTree(self.stars / SCALE).query(values[good, :2] / SCALE, k=[NEIGHBOURS])
        usual = np.abs(vmic - microturbulence(teff, logg)) <= VMIC_SCATTER + ROUNDING
        good[good] = usual & (distance[:, 0] <= self.reach)
        return good

    def _in_box(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        rounding = ROUNDING * (self.high - self.low)
        return (values >= self.low - rounding) & (values <= self.high + rounding)

    def _scaled(self, labels: Tensor) -> Tensor:
        """Labels from -1 to 1 over the range."""
        return (labels.to(self.centre.dtype) - self.centre) / self.half_range


def network(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, with SiLU between: smooth, so that derivatives are too."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        if i:
            layers[f"activation{i}"] = nn.SiLU()
        layers[str(i)] = nn.Linear(n_in, n_out)
    return nn.Sequential(layers)


def _with_slopes(layers: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output (n, k) of a network at x (n, m), and its derivatives (n, m, k)."""
    slopes = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            slopes = slopes @ layer.weight.T
        else:
            gate = torch.sigmoid(x)  # SiLU is x * gate
            slopes = slopes * (gate * (1 + x * (1 - gate)))[:, None]
        x = layer(x)
    return x, slopes


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and details of a weights' file, checked against its checksum. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"'{path}' does not exist; name weights made by python -m stores.simulate.train.")
    try:
        with safe_open(path, framework="pt") as file:
            details = json.loads((file.metadata() or {}).get("spectrabridge", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError):
        raise ModelError(f"'{path}' is not a readable safetensors file; copy it again.") from None
    if details.get("kind") != "emulator":
        raise ModelError(f"'{path}' does not hold an emulator; name weights made by python -m stores.simulate.train.")
    if details.get("checksum") != _checksum(tensors):
        raise ModelError(f"'{path}' is damaged: its values do not have its checksum; copy it again.")
    return tensors, details


def write_weights(path: Path, tensors: dict[str, Tensor], details: dict[str, Any]) -> None:
    """Write a weights' file: the tensors that Emulator takes, and their details with a checksum."""
    from safetensors.torch import save_file

    from stores.atomic import replacing

    details = {"kind": "emulator", **details, "checksum": _checksum(tensors)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"spectrabridge": json.dumps(details)})


def _checksum(tensors: dict[str, Tensor]) -> str:
    return array_digest(*(tensors[name].numpy() for name in sorted(tensors)))


def _filled(name: str, tensors: dict[str, Tensor]) -> nn.Sequential:
    """The network of this name with its weights."""
    weights = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    shapes = [weights[f"{i}.weight"].shape for i in range(len(weights) // 2)]
    filled = network([len(LABELS), *(int(shape[0]) for shape in shapes)])
    filled.load_state_dict(weights)
    return filled


def _table(labels: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(labels, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(LABELS):
        raise InputError(f"labels have shape {values.shape}, not (n, {len(LABELS)}): {', '.join(LABELS)}.")
    return values
