"""The comparison of embeddings as one figure: scatter relative to the first model's, and shares found again."""

from __future__ import annotations

from pathlib import Path

from benchmarks.embeddings.probes import Scores
from stores.atomic import replacing

NAMES = {
    "teff": "Teff",
    "logg": "log g",
    "feh": "[Fe/H]",
    "feh_rich": "[Fe/H] > -1",
    "feh_poor": "[Fe/H] <= -1",
    "alphafe": "[alpha/Fe]",
}


def draw(results: dict[str, dict[str, Scores]], path: Path) -> None:
    """Write the figure; results by model, experiment and label."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    models = list(results)
    first = results[models[0]]
    cells = [(name, label) for name, scores in first.items() for label in NAMES if label in scores]
    ranked = [name for name, scores in first.items() if "rank" in scores]
    size = (10, 1.5 + 0.26 * len(cells))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(3, 1.2), layout="constrained")
    markers = "osD^vP*X"
    for number, model in enumerate(models):
        ratio = [results[model][name][label]["sigma"] / first[name][label]["sigma"] for name, label in cells]
        left.plot(ratio, range(len(cells)), markers[number % len(markers)], label=model, alpha=0.8)
        shares = [results[model][name]["rank"]["first"] for name in ranked]
        right.plot(shares, range(len(ranked)), markers[number % len(markers)], alpha=0.8)
    left.axvline(1, color="0.7", zorder=0)
    left.set_xscale("log")
    ticks = [
        tick for tick in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5) if left.get_xlim()[0] < tick < left.get_xlim()[1]
    ]
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_xticks([], minor=True)
    left.set_yticks(range(len(cells)), [f"{name}: {NAMES[label]}" for name, label in cells])
    left.set_xlabel(f"scatter of a ridge regression, relative to {models[0]}")
    right.set_yticks(range(len(ranked)), ranked)
    right.set_xlim(-0.03, 1.03)
    right.set_xlabel("share at rank 1")
    for axes in (left, right):
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(models), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)
