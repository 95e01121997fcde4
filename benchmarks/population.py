"""The figure of the simulated Galaxy in the docs: what stars there are, and how bright their spectra.

python -m benchmarks.population --out docs/population.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stores.atomic import replacing
from stores.command import run_command
from stores.errors import OptionError

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00")  # of the components; told apart by colour-blind eyes too
SURVEYS = ("lamost", "desi")
OBSERVED = 600  # stars, for signal-to-noise ratios


@dataclass(kw_only=True)
class PopulationOptions:
    """Draw the simulated Galaxy."""

    out: Path = Path("population.png")
    """The picture, .png."""
    n: int = 6000
    """Stars."""
    seed: int = 1
    """Of the stars."""


def draw_population(options: PopulationOptions) -> int:
    """Write the figure; returns the exit status."""
    if options.n < 100:
        raise OptionError(f"--n {options.n} must be 100 or more.")
    if options.out.suffix != ".png":
        raise OptionError(f"'{options.out}' does not end in .png; the figure is written as that only.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from stores.simulate.instrument import Instrument
    from stores.simulate.observe import observe
    from stores.simulate.population import COMPONENTS, draw
    from stores.simulate.twin import shared_emulator

    emulator = shared_emulator()
    stars = draw(options.n, options.seed, emulator)
    teff, logg, feh, alphafe = stars.labels[:, :4].T
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    abundances, kiel, metals, snr = figure.subplots(2, 2).flat
    order = np.random.default_rng(0).permutation(len(stars))  # so that no component lies on top
    colour = np.array(COLOURS)[stars.component[order]]
    abundances.scatter(feh[order], alphafe[order], s=3, c=colour, alpha=0.6, linewidths=0)
    abundances.set(xlabel="[Fe/H] (dex)", ylabel="[α/Fe] (dex)", title="thin and thick disc, halo, metal-poor tail")
    kiel.scatter(teff[order], logg[order], s=3, c=colour, alpha=0.6, linewidths=0)
    kiel.set(xlabel="Teff (K)", ylabel="log g (dex)", title="dwarfs, turn-off, subgiants, giants, horizontal branch")
    kiel.invert_xaxis()
    kiel.invert_yaxis()
    edges = np.arange(-3.5, 0.8, 0.1)
    for number, (name, shade) in enumerate(zip(COMPONENTS, COLOURS, strict=True)):
        own = feh[stars.component == number]
        metals.hist(
            own, edges, histtype="step", color=shade, linewidth=1.8, label=f"{name.replace('_', '-')} ({len(own)})"
        )
    metals.set(xlabel="[Fe/H] (dex)", ylabel="stars", yscale="log", title="metallicities")
    metals.legend(frameon=False)
    edges = np.logspace(0.5, 2.7, 45)
    for survey, style in zip(SURVEYS, ("-", "--"), strict=True):
        seen = observe(stars.take(slice(OBSERVED)), Instrument.load(survey), emulator, options.seed)
        snr.hist(seen.snr, edges, histtype="step", color="black", linestyle=style, linewidth=1.5, label=survey)
    snr.set(xlabel="S/N per pixel", ylabel="stars", xscale="log", title="signal-to-noise ratios")
    snr.legend(frameon=False)
    with replacing(options.out) as path:
        figure.set_canvas(FigureCanvasAgg(figure))
        figure.savefig(path, dpi=110)
    return 0


def main() -> None:
    """Entry point of python -m benchmarks.population."""
    run_command(PopulationOptions, draw_population, "benchmarks.population")


if __name__ == "__main__":
    main()
