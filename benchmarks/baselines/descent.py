"""Least squares for many small problems at once: Levenberg-Marquardt within bounds.

After Marquardt (1963, SIAM J. 11, 431): the diagonal of J^T J is scaled up by a damping that falls when a step lowers
the cost and rises when it does not. Steps are cut at the bounds, and a parameter that lies at one and would leave
stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
# residuals (m, n) and their derivatives (m, p, n) of some of the problems (m,) at parameters (m, p)
Model = Callable[[NDArray[np.int64], Float], tuple[Float, Float]]

DAMPING = 1e-2  # at the start, and at the least
EASIER, HARDER = 0.2, 5.0
HARDEST = 1e8  # a damping at which no step helps any more


@dataclass(frozen=True)
class Descent:
    """parameters (m, p); cost (m,), sum of squares; normal (m, p, p), J^T J there; steps (m,), evaluations."""

    parameters: Float
    cost: Float
    normal: Float
    steps: NDArray[np.int64]


def descend(model: Model, start: Float, low: Float, high: Float, *, most: int = 30, enough: float = 0.01) -> Descent:
    """Minimise the sum of squares of residuals from `start` (m, p) within low, high (p,).

    most: evaluations of the model for each problem; enough: a problem is solved when a step lowers its cost by less
    Parameters should be of order 1.
    """
    m = len(start)
    x = np.clip(start, low, high)
    every = np.arange(m)
    residual, jacobian = model(every, x)
    cost, gradient, normal = _summed(residual, jacobian)
    damping, steps = np.full(m, DAMPING), np.ones(m, dtype=np.int64)
    open_ = np.isfinite(cost)
    while open_.any():
        own = np.flatnonzero(open_)
        g, a = gradient[own], normal[own]
        leaving = ((x[own] <= low) & (g > 0)) | ((x[own] >= high) & (g < 0))
        step = _steps(a, g, damping[own], leaving)
        there = np.clip(x[own] + step, low, high)
        residual, jacobian = model(own, there)
        new_cost, new_gradient, new_normal = _summed(residual, jacobian)
        steps[own] += 1
        better = new_cost < cost[own]  # False for NaN
        gain = np.where(better, cost[own] - new_cost, np.inf)
        moved = own[better]
        x[moved], cost[moved] = there[better], new_cost[better]
        gradient[moved], normal[moved] = new_gradient[better], new_normal[better]
        still = np.all(there == x[own], axis=1) & ~better  # nowhere to go
        done = (gain < enough) & (damping[own] <= 1.0)  # a heavily damped step gains little anywhere
        damping[own] = np.where(better, np.maximum(damping[own] * EASIER, 1e-6), damping[own] * HARDER)
        done |= still | (damping[own] > HARDEST) | (steps[own] >= most)
        # a refused step that promised next to nothing: rounding decides
        promised = np.abs(np.einsum("mp,mp->m", g, step))
        done |= ~better & (promised < enough)
        open_[own[done]] = False
    return Descent(x, cost, normal, steps)


def _summed(residual: Float, jacobian: Float) -> tuple[Float, Float, Float]:
    """Cost (m,), half its gradient (m, p), and J^T J (m, p, p)."""
    cost = np.einsum("mn,mn->m", residual, residual)
    gradient = np.matmul(jacobian, residual[:, :, None])[:, :, 0]
    return cost, gradient, np.matmul(jacobian, jacobian.transpose(0, 2, 1))


def _steps(normal: Float, gradient: Float, damping: Float, held: NDArray[np.bool_]) -> Float:
    """Damped Gauss-Newton steps (m, p); parameters that are held do not move."""
    free = ~held
    a = normal * (free[:, :, None] & free[:, None, :])
    diagonal = np.einsum("mpp->mp", a)  # a view
    scale = np.maximum(diagonal.copy(), 1e-12 * np.maximum(diagonal.max(axis=1, keepdims=True), 1e-300))
    diagonal += damping[:, None] * scale
    diagonal[held] = 1.0
    step: Float = np.linalg.solve(a, np.where(free, -gradient, 0.0)[:, :, None])[:, :, 0].astype(np.float64)
    return step
