"""Flux-conserving resampling of many spectra at once, with exact variances and masks.

A pixel holds the mean flux density between its edges, so an output pixel is the mean of the input pixels
weighted by the length of their overlap (Carnall 2017, arXiv:1705.05165). With o the overlaps and m the mask:

    flux_j = sum_i o_ij m_i flux_i / sum_i o_ij m_i
    var_j  = sum_i o_ij^2 m_i var_i / (sum_i o_ij m_i)^2

Masked pixels have no weight, so they never leak; an output pixel is masked when less than half of its width is
covered by unmasked input.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stores.grid import pixel_edges

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Float = NDArray[np.float64]
MIN_COVERAGE = 0.5
ROWS_AT_ONCE = 64  # keeps the working arrays of shifted rows inside the processor's cache
NEGLIGIBLE = 0.01  # share of a masked or missing neighbour that interpolation may leave out: a rounded wavelength


def resample(
    wavelength: Float, flux: Float, ivar: Float, target: Float, redshift: Float | None = None
) -> tuple[Float, Float]:
    """Resample `flux`, `ivar` (n, n_in) from pixels at `wavelength` (n_in,) to pixels at `target` (n_out,).

    redshift: (n,) shift of each spectrum that is undone first (wavelength / (1 + z)); None is no shift, where
    one cached sparse operator serves all rows. Returns flux and ivar (n, n_out); masked pixels are 0 in both.
    """
    low, high = pixel_edges(target)[[0, -1]]
    if redshift is not None:
        low, high = low * (1 + redshift.min(initial=0.0)), high * (1 + redshift.max(initial=0.0))
    needed = np.searchsorted(wavelength, (low, high))
    cut = slice(max(0, needed[0] - 2), max(needed[1] + 2, 2))
    if len(wavelength[cut]) < 2:  # no overlap at all
        return np.zeros((len(flux), len(target))), np.zeros((len(flux), len(target)))
    wavelength, flux, ivar = wavelength[cut], flux[:, cut], ivar[:, cut]
    operator = None
    if redshift is None or not np.any(redshift):
        operator = _operator(wavelength.tobytes(), target.tobytes())
    new_flux = np.empty((len(flux), len(target)))
    new_ivar = np.empty_like(new_flux)
    for start in range(0, len(flux), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        if redshift is None or operator is not None:
            assert operator is not None
            sums = _apply(*operator, flux[rows], ivar[rows])
        else:
            sums = _shifted(wavelength, flux[rows], ivar[rows], target, redshift[rows])
        new_flux[rows], new_ivar[rows] = _combine(*sums, target)
    return new_flux, new_ivar


def interpolate(
    wavelength: Float, flux: Float, ivar: Float, target: Float, redshift: Float | None = None
) -> tuple[Float, Float]:
    """The same as `resample` by linear interpolation in log wavelength, which does not conserve flux.

    For models that were trained on interpolated spectra. Variances are propagated as for independent pixels; an
    output pixel is masked where either of the two pixels around it is.
    """
    x = np.log(wavelength)
    shift = np.zeros(1) if redshift is None or not np.any(redshift) else np.log1p(redshift)
    at = np.log(target) + shift[:, None]  # (n or 1, n_out)
    after = np.clip(np.searchsorted(x, at), 1, len(x) - 1)
    share = (at - x[after - 1]) / (x[after] - x[after - 1])
    inside = (share > -NEGLIGIBLE) & (share < 1 + NEGLIGIBLE)
    share = np.clip(share, 0.0, 1.0)
    used = ivar > 0
    variance = np.divide(1.0, ivar, out=np.zeros(ivar.shape), where=used)
    value = np.where(used, flux, 0.0)
    good = np.broadcast_to(inside, (len(flux), len(target)))
    weight, total, spread = (np.zeros(good.shape) for _ in range(3))
    for place, part in ((after - 1, 1 - share), (after, share)):
        there = np.take_along_axis(used, place, axis=1)
        good = good & (there | (part < NEGLIGIBLE))
        part = part * there
        weight += part
        total += part * np.take_along_axis(value, place, axis=1)
        spread += part**2 * np.take_along_axis(variance, place, axis=1)
    good &= spread > 0
    new_flux = np.divide(total, weight, out=np.zeros_like(total), where=good)
    new_ivar = np.divide(weight**2, spread, out=np.zeros_like(total), where=good)
    return new_flux, new_ivar


@lru_cache(maxsize=32)
def _operator(wavelength: bytes, target: bytes) -> tuple[csr_array, csr_array]:
    """Overlap lengths (n_out, n_in) in Angstrom between two pixel grids, and their squares."""
    from scipy.sparse import csr_array

    edges_in = pixel_edges(np.frombuffer(wavelength))
    edges_out = pixel_edges(np.frombuffer(target))
    n_in, n_out = len(edges_in) - 1, len(edges_out) - 1
    first = np.clip(np.searchsorted(edges_in, edges_out[:-1], side="right") - 1, 0, n_in)
    last = np.clip(np.searchsorted(edges_in, edges_out[1:], side="left"), 0, n_in)
    count = np.maximum(last - first, 0)
    indptr = np.concatenate([[0], np.cumsum(count)])
    row = np.repeat(np.arange(n_out), count)
    column = np.arange(indptr[-1]) - np.repeat(indptr[:-1], count) + np.repeat(first, count)
    length = np.minimum(edges_in[column + 1], edges_out[row + 1]) - np.maximum(edges_in[column], edges_out[row])
    length = np.maximum(length, 0.0)
    shape = (n_out, n_in)
    return csr_array((length, column, indptr), shape=shape), csr_array((length**2, column, indptr), shape=shape)


def _apply(operator: csr_array, squared: csr_array, flux: Float, ivar: Float) -> tuple[Float, Float, Float]:
    """Covered length, flux integral and variance integral, each (n, n_out)."""
    used = ivar > 0
    variance = np.divide(1.0, ivar, out=np.zeros(ivar.shape), where=used)
    if used.all():
        covered = np.broadcast_to(operator.sum(axis=1), (len(flux), operator.shape[0]))
        return covered, (operator @ flux.T).T, (squared @ variance.T).T
    covered = (operator @ used.astype(np.float64).T).T
    return covered, (operator @ np.where(used, flux, 0.0).T).T, (squared @ variance.T).T


def _shifted(
    wavelength: Float, flux: Float, ivar: Float, target: Float, redshift: Float
) -> tuple[Float, Float, Float]:
    """The same as `_apply`, each row with output edges of its own: those of `target` seen at its redshift."""
    n, n_in = flux.shape
    edges_in = pixel_edges(wavelength)
    stretch = 1.0 + redshift[:, None]
    edges_out = pixel_edges(target) * stretch  # (n, n_out + 1)
    where = _pixel_of(edges_in, edges_out)
    first, span = where[:, :-1], int(np.diff(where, axis=1).max()) + 1
    used = ivar > 0
    # one sentinel pixel without weight stands for everything outside
    variance = np.zeros((n, n_in + 1))
    np.divide(1.0, ivar, out=variance[:, :n_in], where=used)
    usable = np.zeros((n, n_in + 1))
    usable[:, :n_in] = used
    value = np.zeros((n, n_in + 1))
    np.multiply(flux, used, out=value[:, :n_in])
    low = np.append(edges_in, np.inf)
    offset = np.arange(n)[:, None] * (n_in + 1)

    covered = np.zeros(first.shape)
    integral = np.zeros(first.shape)
    spread = np.zeros(first.shape)
    for k in range(span):
        pixel = first + k
        pixel = np.where((pixel < 0) | (pixel >= n_in), n_in, pixel)
        length = np.minimum(low[pixel + 1], edges_out[:, 1:]) - np.maximum(low[pixel], edges_out[:, :-1])
        np.maximum(length, 0.0, out=length)
        flat = pixel + offset
        covered += length * usable.ravel()[flat]
        integral += length * value.ravel()[flat]
        spread += length**2 * variance.ravel()[flat]
    # lengths were measured in the observed frame
    return covered / stretch, integral / stretch, spread / stretch**2


def _pixel_of(edges: Float, values: Float) -> NDArray[np.intp]:
    """The last edge not above each value, as searchsorted(edges, values, "right") - 1, by a table: much faster."""
    step = float(np.diff(edges).min())
    n_bins = int(np.ceil((edges[-1] - edges[0]) / step)) + 1
    if n_bins > 20 * len(edges):  # pixels too unlike for bins that hold one edge at most
        return np.searchsorted(edges, values.ravel(), side="right").reshape(values.shape) - 1
    first = np.searchsorted(edges, edges[0] + step * np.arange(n_bins), side="right") - 1
    place = first[np.clip(((values - edges[0]) / step).astype(np.intp), 0, n_bins - 1)]
    place += values >= np.append(edges, np.inf)[place + 1]
    place -= values < edges[place]  # rounding at the border of a bin
    return place


def _combine(covered: Float, integral: Float, spread: Float, target: Float) -> tuple[Float, Float]:
    """Means and inverse variances from integrals; too little covered pixels are masked."""
    width = np.diff(pixel_edges(target))
    good = (covered >= MIN_COVERAGE * width) & (spread > 0)
    flux = np.divide(integral, covered, out=np.zeros_like(integral), where=good)
    ivar = np.divide(covered**2, spread, out=np.zeros_like(integral), where=good)
    return flux, ivar
