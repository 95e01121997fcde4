"""Tables of a comparison for a page of text, as Markdown, so that numbers in documents are printed by a command.

    python -m benchmarks.tables bench-real                          # strategies down; labels and regimes across
    python -m benchmarks.tables bench-twins --by size --labels feh  # target stars across, from 0 on

A cell has sigma after 3-sigma clipping and its 95 per cent interval, or the measures that are asked for. Bold is a
head that is significantly better than all others of the same label, regime and size; italic one that no other is
significantly better than.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.request import names
from benchmarks.results import METHOD, Results, Table
from stores.command import run_command
from stores.errors import OptionError

NAMES = {"teff": "Teff", "logg": "log g", "feh": "[Fe/H]", "alphafe": "[α/Fe]"}
WORDS = {"metal_rich": "rich", "metal_poor": "poor", "very_metal_poor": "very poor"}
MEASURES = ("sigma", "interval", "median", "cover90", "bound_ratio", "r2", "n")
GROUPS = ("pipeline", "baseline", "head")
NONE = "-"
UNTUNED = "zero_shot"


@dataclass(kw_only=True)
class TablesOptions:
    """Print what a comparison found as a table in Markdown."""

    folder: tyro.conf.Positional[Path]
    """Results of heads-bench."""
    by: Literal["label", "size"] = "label"
    """What columns are: labels and regimes, at one number of target stars; or numbers of target stars."""
    labels: str | None = None
    """Labels, separated by commas; all without."""
    regimes: str | None = None
    """Regimes; all without."""
    inputs: str | None = None
    """spectra, embedding, fused; pipelines and classical methods stand in all tables."""
    adapters: str | None = None
    """Strategies of heads; all without."""
    size: int | None = None
    """Target stars learned from, for --by label; the largest number without."""
    measures: str = "sigma,interval"
    """What a cell shows: sigma, interval, median, cover90, bound_ratio, r2, n."""


@dataclass(frozen=True)
class Chosen:
    """What a table is of: names of labels, regimes, inputs, strategies, and measures; all from results.json."""

    labels: tuple[str, ...]
    regimes: tuple[str, ...]
    inputs: tuple[str, ...]
    adapters: tuple[str, ...]
    measures: tuple[str, ...]

    @classmethod
    def of(cls, options: TablesOptions, about: dict[str, Any]) -> Chosen:
        """Raises OptionError for a name that is not in the results."""
        found = []
        for name in ("labels", "regimes", "inputs", "adapters", "measures"):
            there = MEASURES if name == "measures" else tuple(about[name])
            text = getattr(options, name)
            asked = there if text is None else names(text)
            if unknown := [one for one in asked if one not in there]:
                raise OptionError(f"--{name} names '{unknown[0]}'; there are {', '.join(there)}.")
            if not asked:
                raise OptionError(f"--{name} names nothing; name some of {', '.join(there)}, or leave it out.")
            found.append(asked)
        return cls(*found)


def tables(options: TablesOptions) -> int:
    """Print a table; returns the exit status."""
    found = Results.load(options.folder)
    chosen = Chosen.of(options, found.about)
    if options.by == "size":
        print("\n\n".join(by_size(found, chosen, label) for label in chosen.labels))
        return 0
    size = max(found.about["sizes"]) if options.size is None else options.size
    if size not in found.about["sizes"]:
        raise OptionError(f"--size {size} is none of {', '.join(map(str, found.about['sizes']))}.")
    print(by_label(found, chosen, size))
    return 0


def by_label(found: Results, chosen: Chosen, size: int) -> str:
    """Methods down, labels and regimes across; methods that learn nothing from the target stand with what they say."""
    columns = [(label, regime) for label in chosen.labels for regime in chosen.regimes]
    lines = _head(["", "", "stars", *(f"{_name(label)} {WORDS.get(regime, regime)}" for label, regime in columns)])
    for method in _methods(found, chosen):
        own = found.scores.where(**dict(zip(METHOD, method, strict=True)))
        for one in sorted({*_sizes(own)} & {0, size}):
            cells = [
                _cell(own.where(size=one, label=label, regime=regime), chosen.measures) for label, regime in columns
            ]
            lines.append(_line([method[1] or method[0], f"`{method[2]}`", str(one), *cells]))
    return "\n".join(lines)


def by_size(found: Results, chosen: Chosen, label: str) -> str:
    """Methods down, numbers of target stars across, and in each cell the regimes in order, parted by a bar."""
    sizes = sorted(found.about["sizes"])
    regimes = " \\| ".join(WORDS.get(regime, regime) for regime in chosen.regimes)
    lines = _head([f"{_name(label)}, {regimes}", "", *(f"{size:,}" for size in sizes)])
    for method in _methods(found, chosen):
        own = found.scores.where(**dict(zip(METHOD, method, strict=True)), label=label)
        cells = [
            " \\| ".join(_cell(own.where(size=size, regime=regime), chosen.measures) for regime in chosen.regimes)
            if size in _sizes(own)
            else NONE
            for size in sizes
        ]
        lines.append(_line([method[1] or method[0], f"`{method[2]}`", *cells]))
    return "\n".join(lines)


def _methods(found: Results, chosen: Chosen) -> list[tuple[str, str, str]]:
    """Group, input and strategy, in the order of results.json, pipelines and classical methods first."""
    there = dict.fromkeys(zip(*(found.scores[name].tolist() for name in METHOD), strict=True))
    wanted = [
        (group, given, strategy)
        for group, given, strategy in there
        if group != "head" or (given in chosen.inputs and strategy in chosen.adapters)
    ]

    def place(method: tuple[str, str, str]) -> tuple[int, int, int]:
        group, given, strategy = method
        if group != "head":
            return GROUPS.index(group), 0, list(there).index(method)
        return GROUPS.index(group), chosen.inputs.index(given), chosen.adapters.index(strategy)

    return sorted(wanted, key=place)


def _sizes(own: Table) -> list[int]:
    """Of one method; of what learns nothing from the target, and is repeated beside every size, the least."""
    found: list[int] = own["size"].tolist()
    return [min(found)] if found and own["strategy"][0] == UNTUNED else found


def _cell(rows: Table, measures: tuple[str, ...]) -> str:
    """A cell of one row of results, or of none."""
    if not len(rows):
        return NONE
    row = rows.rows()[0]
    first, *others = [text for name in measures if (text := _told(row, name))] or [NONE]
    mark = "**" if row["best"] else "*" if row["tied"] and row["group"] == "head" else ""
    return f"{mark}{first}{mark}" + (f" ({'; '.join(others)})" if others else "")


def _told(row: dict[str, Any], name: str) -> str:
    """A measure in words; empty where it is unknown."""
    digits = 0 if row["label"] == "teff" else 3
    if name == "interval":
        return f"{row['sigma_low']:.{digits}f}-{row['sigma_high']:.{digits}f}"
    value = row[name]
    if value != value:
        return ""
    match name:
        case "cover90":
            return f"{100 * value:.0f} %"
        case "bound_ratio":
            return f"{value:.1f} times"
        case "r2":
            return f"{value:.2f}"
        case "n":
            return f"{value:.0f}"
        case "median":
            return f"{value:+.{digits}f}"
    return f"{value:.{digits}f}"


def _name(label: str) -> str:
    return NAMES.get(label, label)


def _head(titles: list[str]) -> list[str]:
    return [_line(titles), _line(["---"] * len(titles))]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Entry point of python -m benchmarks.tables."""
    run_command(TablesOptions, tables, "benchmarks.tables")


if __name__ == "__main__":
    main()
