"""Which strategy for which label: chosen on the stars to learn from alone, by predictions that had not seen them.

Every strategy is judged by the mean absolute error of its held-out predictions, clipped at three times their scatter
and averaged over the [Fe/H] regimes that have stars enough, so that a few metal-poor stars count as much as many
metal-rich ones. In the order from the most to the least careful, a strategy has to be better than the one chosen so
far by its standard error, star by star, and must not be worse in any regime by as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.adapters import load_adapters
from heads.bundle import Bundle
from heads.calibration import RICH, Float
from heads.fit import Watch
from heads.head import Head
from heads.sample import Sample
from heads.training import Outcome, TrainOptions, adapt_head
from stores.errors import OptionError

CAREFUL = ("zero_shot", "kriging", "anchored", "residual", "lora", "full", "scratch")
LEAST = 10  # stars of a regime that it takes to count


@dataclass(frozen=True)
class Choice:
    """head: of the chosen strategies; picked: label -> strategy; errors: strategy -> label -> mean held-out error."""

    head: Bundle
    picked: dict[str, str]
    errors: dict[str, dict[str, float]]

    def table(self) -> str:
        """Held-out errors by strategy and label, the chosen ones marked."""
        labels = list(self.picked)
        lines = ["held-out error  " + "".join(f"{label:>12}" for label in labels)]
        for name, errors in self.errors.items():
            cells = []
            for label in labels:
                mark = "*" if self.picked[label] == name else " "
                cells.append(f"{errors.get(label, np.nan):>11.{0 if label == 'teff' else 3}f}{mark}")
            lines.append(f"{name:<16}" + "".join(cells))
        return "\n".join(lines)


def adapt_auto(
    base: Head,
    sample: Sample,
    options: TrainOptions,
    *,
    replay: Sample | None = None,
    watch: Callable[[str], Watch] | None = None,
    names: Sequence[str] | None = None,
) -> Choice:
    """Take a head to another survey, each label by the strategy that suits it. Raises as `adapt_head` does."""
    known = {name: one for name, one in load_adapters().items() if not one.encodes}
    order = [name for name in CAREFUL if name in known] + [name for name in known if name not in CAREFUL]
    names = order if names is None else sorted(names, key=order.index)
    if not names:
        raise OptionError("no strategy was named to choose from.")
    outcomes: dict[str, Outcome] = {}
    for name in names:
        show = {} if watch is None else {"watch": watch(name)}
        outcomes[name] = adapt_head(base, sample, name, options, replay=replay, **show)
    return choose(sample, outcomes)


def choose(sample: Sample, outcomes: dict[str, Outcome]) -> Choice:
    """The choice among outcomes, from the most to the least careful."""
    regimes = _regimes(sample)
    errors: dict[str, dict[str, float]] = {name: {} for name in outcomes}
    picked: dict[str, str] = {}
    for column, label in enumerate(sample.targets):
        # a head that is trained anew has no label that none of the stars has
        given = {name: one for name, one in outcomes.items() if label in one.head.targets}
        found = {name: one.value[:, one.head.targets.index(label)] for name, one in given.items()}
        loss = _losses(sample.y[:, column], found)
        for name, values in loss.items():
            errors[name][label] = _mean(values, regimes)[0]
        names = list(loss)
        best = names[0]
        for name in names[1:]:
            gain, error = _mean(loss[best] - loss[name], regimes)
            harmed = any(mean < -spread for mean, spread in _by_regime(loss[best] - loss[name], regimes))
            if gain > error and not harmed:
                best = name
        picked[label] = best
    return Choice(joined(outcomes, picked, {"held_out_error": errors}), picked, errors)


def joined(outcomes: dict[str, Outcome], picked: dict[str, str], about: dict[str, Any] | None = None) -> Bundle:
    """The heads of outcomes as one, each for the labels that it was picked for, and flagging those alone."""
    heads = {}
    for name in dict.fromkeys(picked.values()):
        head = outcomes[name].head
        given = np.array([picked.get(label) == name for label in head.targets])
        limits = np.where(given[:, None], head.label_range, np.nan)
        heads[name] = replace(head, label_range=limits, about={**head.about, **outcomes[name].told})
    return Bundle(heads, picked, {"picked": picked, **(about or {})})


def _regimes(sample: Sample) -> list[NDArray[np.bool_]]:
    """Metal-rich and metal-poor stars, or all where [Fe/H] is not known."""
    if "feh" not in sample.targets:
        return [np.ones(len(sample), dtype=bool)]
    feh = sample.y[:, sample.targets.index("feh")]
    return [feh > RICH, feh <= RICH]


def _losses(y: Float, values: dict[str, Float]) -> dict[str, Float]:
    """Absolute errors (n,) of each strategy, clipped; NaN where any of them has none."""
    error = {name: np.abs(value - y) for name, value in values.items()}
    known = np.logical_and.reduce([np.isfinite(one) for one in error.values()])
    together = np.concatenate([one[known] for one in error.values()]) if known.any() else np.zeros(1)
    limit = 3 * 1.4826 * float(np.median(together))
    return {name: np.where(known, np.minimum(one, limit), np.nan) for name, one in error.items()}


def _by_regime(values: Float, regimes: list[NDArray[np.bool_]]) -> list[tuple[float, float]]:
    """Mean and its standard error in every regime that has stars enough; of all, if none has."""
    parts = [values[chosen & np.isfinite(values)] for chosen in regimes]
    parts = [part for part in parts if len(part) >= LEAST] or [values[np.isfinite(values)]]
    return [
        (float(part.mean()), float(part.std() / np.sqrt(len(part)))) if len(part) > 1 else (float("nan"), np.inf)
        for part in parts
    ]


def _mean(values: Float, regimes: list[NDArray[np.bool_]]) -> tuple[float, float]:
    """Mean over regimes, and its standard error."""
    found = _by_regime(values, regimes)
    error = float(np.sqrt(sum(spread**2 for _, spread in found))) / len(found)
    return float(np.mean([mean for mean, _ in found])), error
