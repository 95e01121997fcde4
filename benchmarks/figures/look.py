"""Look: a colour for each strategy, a symbol and a dash for each input, and names as the field writes them."""

from __future__ import annotations

import re

from benchmarks.figures.figure import Dash

# Okabe & Ito 2008, told apart by the colour-blind; no black and no yellow, which a black or white page swallows
STRATEGIES = {
    "zero_shot": "#808080",
    "scratch": "#cc79a7",
    "residual": "#56b4e9",
    "kriging": "#0072b2",
    "lora": "#009e73",
    "full": "#e69f00",
    "anchored": "#d55e00",
    "auto": "#a07be0",
    "SP": "#8c6d46",
    "RVSpecfit": "#b39b6d",
    "LASP": "#a0522d",
    "ridge_pca64": "#8c8c2f",
    "knn": "#5b8c85",
    "payne": "#7a6fac",
}
SPARE = ("#aa4499", "#44aa99", "#999933", "#cc6677", "#6699cc", "#bb8844")  # for strategies of other packages
REGIMES = ("#6699cc", "#bb5566", "#ddaa33", "#999999")  # regimes in order; no strategy's colours
INPUTS: dict[str, tuple[str, Dash]] = {
    "spectra": ("circle", "solid"),
    "embedding": ("square", "dash"),
    "fused": ("triangle", "dashdot"),
}
GROUPS: dict[str, tuple[str, Dash]] = {"pipeline": ("cross", "dot"), "baseline": ("star", "dot")}
# stops at equal distances; the middle of the second is seen on white and on black
SCALES = {
    "sequential": (
        *("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c"),
        *("#28ae80", "#5ec962", "#addc30", "#fde725"),
    ),
    "diverging": ("#2166ac", "#4393c3", "#92c5de", "#c8c8c8", "#f4a582", "#d6604d", "#b2182b"),
}
NAMES = {"teff": "T<sub>eff</sub>", "logg": "log g", "feh": "[Fe/H]", "alphafe": "[α/Fe]", "snr": "S/N"}


def colour(strategy: str) -> str:
    """The same for the same name, always."""
    return STRATEGIES.get(strategy) or SPARE[sum(strategy.encode()) % len(SPARE)]


def symbol_and_dash(group: str, given: str) -> tuple[str, Dash]:
    """Of an input; of a group that has none."""
    return INPUTS.get(given) or GROUPS.get(group) or ("diamond", "dash")


def name(label: str) -> str:
    """A label's name: [Fe/H]."""
    return NAMES.get(label, label)


def axis(label: str, units: dict[str, str], what: str = "") -> str:
    """A label's name with its unit: [Fe/H] (dex)."""
    unit = "" if label == "logg" else units.get(label, "")
    text = f"{what} {name(label)}".strip()
    return f"{text} ({unit})" if unit else text


def plain(word: str) -> str:
    """A word of the results as prose: metal_rich is metal-rich."""
    return word.replace("_", "-")


def condition(text: str) -> str:
    """A condition as the field writes it: feh <= -1 is [Fe/H] ≤ −1."""
    text = re.sub(r"[A-Za-z]\w*", lambda found: name(found.group()), text)
    text = text.replace("<=", "≤").replace(">=", "≥")
    return re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)


def number(value: float, label: str, sign: bool = False) -> str:
    """A value with as many digits as its label deserves."""
    digits = 0 if label == "teff" else 3
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
