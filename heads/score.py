"""How good predictions are: scatter, offset and coverage by label and [Fe/H] regime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from heads.calibration import RICH, Float

if TYPE_CHECKING:
    from heads.head import Prediction
    from heads.sample import Sample

LEAST = 5  # stars of a regime that numbers are given for
REGIMES = ("all", "rich", "poor")


def scores(head: Any, sample: Sample) -> dict[str, dict[str, dict[str, float]]]:
    """By label and regime ([Fe/H] above -1 or not): n, r2, sigma (3-sigma clipped), biweight, median, cover90."""
    found = head.predict_sample(sample)
    return {target: _by_regime(sample, found, target) for target in head.targets if target in sample.targets}


def _by_regime(sample: Sample, found: Prediction, target: str) -> dict[str, dict[str, float]]:
    y = sample.y[:, sample.targets.index(target)]
    feh = sample.y[:, sample.targets.index("feh")] if "feh" in sample.targets else np.full(len(y), np.nan)
    known = np.isfinite(y) & np.isfinite(found.value[target])
    chosen = {"all": known, "rich": known & (feh > RICH), "poor": known & (feh <= RICH)}
    inside = (y >= found.low90[target]) & (y <= found.high90[target])
    return {
        name: {**measures(y[rows], found.value[target][rows]), "cover90": float(inside[rows].mean())}
        for name, rows in chosen.items()
        if np.count_nonzero(rows) >= LEAST
    }


def measures(y: Float, value: Float) -> dict[str, float]:
    """n, R^2, clipped standard deviation, Tukey biweight scale and median of value - y."""
    from astropy.stats import biweight_scale, sigma_clip

    error = value - y
    spread = float(np.sum((y - y.mean()) ** 2))
    return {
        "n": float(len(y)),
        "r2": 1 - float(np.sum(error**2)) / spread if spread else float("nan"),
        "sigma": float(np.std(sigma_clip(error, sigma=3, masked=False))),
        "biweight": float(biweight_scale(error, c=6.0)),
        "median": float(np.median(error)),
    }


def score_table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Scores as aligned text."""
    lines = [f"{'stars kept apart':<18}{'n':>6}{'R2':>8}{'sigma':>9}{'biweight':>10}{'median':>9}{'in 90 %':>9}"]
    for target, regimes in found.items():
        for regime, one in regimes.items():
            digits = 0 if target == "teff" else 3
            numbers = "".join(f"{one[name]:>{width}.{digits}f}" for name, width in (("sigma", 9), ("biweight", 10)))
            lines.append(
                f"{target + ' ' + regime:<18}{one['n']:>6.0f}{one['r2']:>8.3f}{numbers}"
                f"{one['median']:>+9.{digits}f}{one['cover90']:>9.0%}"
            )
    return "\n".join(lines)
