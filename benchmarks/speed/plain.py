"""python -m benchmarks.speed.plain FOLDER OUT.npy

What one would write to embed LAMOST files with SpecCLIP (arXiv:2507.01939), without this package: file after file
astropy's reading, wavelengths from the file, SpecCLIP's continuum as its public code computes it (polynomials over
Angstrom, fitted again and again), interpolation onto its 1,462 pixels, and its transformer in float32 by PyTorch. The
weights are random, which takes as long. Velocities, noise and masks are not looked at, as there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray
from scipy.interpolate import interp1d
from scipy.signal import medfilt, savgol_filter
from torch import Tensor, nn

Float = NDArray[np.floating[Any]]

TOKENS, WIDTH, LAYERS, HEADS = 146, 768, 6, 6  # SpecCLIP's encoder of LAMOST spectra
LENGTH, STRIDE = 20, 10  # pixels of its tokens
GRID = 3.602 + 1e-4 * np.arange(1462)  # log10 of Angstrom
BALMER = ((4030.0, 4160.0), (4270.0, 4410.0), (4800.0, 4940.0))
BATCH = 64


class PlainEncoder(nn.Module):
    """Flux (B, 1462) -> embeddings (B, 768)."""

    def __init__(self, layers: int = LAYERS) -> None:
        super().__init__()
        self.embed = nn.Linear(1 + LENGTH, WIDTH)
        self.position = nn.Parameter(torch.zeros(TOKENS, WIDTH))
        self.layers = plain_layers(layers)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, flux: Tensor) -> Tensor:
        scatter, mean = torch.std_mean(flux, dim=1, keepdim=True)
        slices = ((flux - mean) / scatter).unfold(1, LENGTH, STRIDE)  # (B, 145, 20)
        first = nn.functional.pad(scatter.log10()[:, None], (0, LENGTH))
        tokens = torch.cat([first, nn.functional.pad(slices, (1, 0))], dim=1)
        embedding: Tensor = self.norm(self.layers(self.embed(tokens) + self.position)).mean(dim=1)
        return embedding


def plain_layers(layers: int) -> nn.Module:
    """Pre-norm layers as torch has them, its fused kernels for inference included."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()


def embed_files(files: Sequence[Path], out: Path, encoder: nn.Module) -> Any:
    """Embed files, write an array of embeddings (n, 768) in their order, and give it."""
    flux = np.stack([prepared(path) for path in files]).astype(np.float32)
    with torch.inference_mode():
        parts = [encoder(torch.from_numpy(flux[i : i + BATCH])) for i in range(0, len(flux), BATCH)]
    embedding = torch.cat(parts).numpy()
    np.save(out, embedding)
    return embedding


def prepared(path: Path) -> Float:
    """Flux (1462,) over its continuum."""
    with fits.open(path) as hdus:
        if hdus[0].data is None:
            table = hdus[1].data
            wavelength, flux = (np.asarray(table[name][0], dtype=np.float64) for name in ("WAVELENGTH", "FLUX"))
        else:
            header = hdus[0].header
            flux = np.asarray(hdus[0].data[0], dtype=np.float64)
            wavelength = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(len(flux)))
    normalised = flux / continuum(wavelength, flux)
    interpolated: Float = interp1d(np.log10(wavelength), normalised, kind="linear")(GRID)
    return interpolated


def continuum(wavelength: Float, flux: Float) -> Float:
    """Upper envelope (n_pix,) of a spectrum (n_pix,)."""
    smooth = medfilt(flux, 7)
    blue, red = (wavelength >= 3700) & (wavelength <= 5700), wavelength > 6100
    found = smooth.copy()
    found[blue] = _blue(wavelength[blue], smooth[blue])
    found[red] = _red(wavelength[red], savgol_filter(smooth[red], 3, 2, mode="nearest"))
    found[found <= 0] = 1.0
    return found


def _blue(x: Float, y: Float) -> Float:
    first = np.polyval(np.polyfit(x, savgol_filter(y, 3, 2, mode="nearest"), 5), x)
    if x[np.argmax(first)] < 4500:
        y = y.copy()
        for window in BALMER:
            inside = (x >= window[0]) & (x <= window[1])
            ends = [y[np.abs(x - end) <= 10].max() for end in window]
            y[inside] = np.interp(x[inside], window, ends)
    for _ in range(10):
        y = np.maximum(y, np.polyval(np.polyfit(x, y, 5), x))
    fit: Float = np.polyval(np.polyfit(x, y, 5), x)
    return fit


def _red(x: Float, y: Float) -> Float:
    for _ in range(9):
        fit: Float = np.polyval(np.polyfit(x, y, 4), x)
        y = np.where((y < fit) | (y > fit + 3 * np.std(y - fit)), fit, y)
    return fit


if __name__ == "__main__":
    embed_files(sorted(Path(sys.argv[1]).rglob("*.fits*")), Path(sys.argv[2]), PlainEncoder().eval())
