"""What few stars of a kind among those learned from cost: heads trained again on so many, tested on the same stars.

    python -m benchmarks.share bench-twins --share 0.03                     # metal-poor stars 3 per cent of them
    python -m benchmarks.share bench-twins --share 0.03 --inputs embedding

The folder is one of heads-bench, whose stores, labels and tested stars are taken; nothing is written. Intervals are
95 per cent of bootstrap draws of the tested stars, and so are those of the differences between inputs, over the same
draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.cell import Laboratory, Settings
from benchmarks.measures import LEAST, Bootstrap, clipped_scatter, resampled
from benchmarks.regime import REGIMES, Regime
from benchmarks.request import INPUTS, names
from benchmarks.study import STUDY, Stage, only
from heads.sample import Sample
from stores.command import run_command, say
from stores.errors import InputError, OptionError

Float = NDArray[np.float64]
REPLICATES = 600


@dataclass(kw_only=True)
class ShareOptions:
    """Train heads on a sample in which few stars are of one kind, and test them on the stars of the study."""

    folder: tyro.conf.Positional[Path]
    """A folder of heads-bench; nothing is written there."""
    share: float | None = None
    """Of the stars of that kind among those learned from, source and target; without it all stars are learned from."""
    regime: str = "metal_poor"
    """The kind of stars, a name of docs/benchmarks.md or one of your own as NAME=EXPRESSION."""
    inputs: str = "spectra,embedding"
    """spectra, embedding, fused; the others are compared with the first."""
    label: str = "feh"
    """The label whose scatter is printed."""
    strategy: str = "anchored"
    """How heads are taken to the target."""
    size: int = 300
    """Spectra of the target to learn from."""
    seeds: int = 3
    """Members of every head."""


def share(options: ShareOptions) -> int:
    """Print a line for each regime, method and input; returns the exit status."""
    regime = _checked(options)
    laboratory = Laboratory(options.folder, Settings(seeds=options.seeds))
    stage = laboratory.stage
    source, tuning = samples(stage, regime, options.share, options.size)
    label = stage.study.targets.index(options.label)
    reference = stage.reference[stage.split(0)[1]][:, label]
    poor = [int(regime.of(_columns(sample)).sum()) for sample in (source, tuning)]
    print(
        f"{regime.name} stars: {poor[0]} of {len(source)} of the source, {poor[1]} of {len(tuning)} of the target; "
        f"{options.seeds} members"
    )
    found: dict[str, dict[str, Float]] = {}
    for name in names(options.inputs):
        say(f"heads from {name}")
        found[name] = dict(_predicted(stage, name, source, tuning, options, label))
    columns = {name: values[stage.split(0)[1]] for name, values in stage.columns(("feh",)).items()}
    for about, expression in REGIMES.items():
        kind = Regime(about, expression)
        rows = kind.of(columns) & np.isfinite(reference)
        if rows.sum() < LEAST:
            continue
        bootstrap = Bootstrap.of(np.arange(int(rows.sum())), REPLICATES, 0)
        for method in next(iter(found.values())):
            first: Float | None = None
            for name, values in found.items():
                said = values[method][:, rows].mean(axis=0)
                replicates = resampled(reference[rows], said[None, None], bootstrap)[0][0]
                print(_line(about, method, name, said - reference[rows], replicates, first))
                first = replicates if first is None else first
    return 0


def samples(stage: Stage, regime: Regime, part: float | None, size: int) -> tuple[Sample, Sample]:
    """Stars of the source, and `size` spectra of the target, of which `part` are of a kind; all without a part.

    Raises OptionError if too few are left.
    """
    if part is None:
        source, tuning = stage.source, stage.tuning(size, 0)
    else:
        source = thinned(stage.source, regime, part, 0)
        tuning = thinned(stage.target.take(stage.split(0)[0]), regime, part, 1)
        tuning = tuning.take(np.random.default_rng(6).permutation(len(tuning))[:size])
    if len(tuning) < size:
        raise OptionError(f"--size {size}: {len(tuning)} spectra of the target are left; ask for fewer.")
    return source, tuning


def thinned(sample: Sample, regime: Regime, part: float, seed: int) -> Sample:
    """The sample with so few of its spectra of one kind, drawn at random, that they are `part` of what is left."""
    kind = regime.of(_columns(sample))
    others = np.flatnonzero(~kind)
    wanted = round(part * len(others) / (1 - part))
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(kind))[:wanted]
    return sample.take(np.sort(np.concatenate([others, drawn])))


def _predicted(
    stage: Stage, name: str, source: Sample, tuning: Sample, options: ShareOptions, label: int
) -> Iterator[tuple[str, Float]]:
    """What the head of the source and the adapted one say of the tested stars: (m, n) each."""
    from heads.training import adapt_head, train_head

    training = Settings(seeds=options.seeds).training
    own, test = only(source, name), only(stage.test(0), name)
    target = stage.study.targets[label]
    base = train_head(own, stage.study.target.identity(name), training).head
    yield "zero_shot", base.predict_sample(test).members[target]
    adapted = adapt_head(base, only(tuning, name), options.strategy, training, replay=own).head
    yield options.strategy, adapted.predict_sample(test).members[target]


def _checked(options: ShareOptions) -> Regime:
    """The kind of stars. Raises InputError or OptionError for what cannot work."""
    if not (options.folder / "study" / STUDY).is_file():
        raise InputError(f"'{options.folder}' holds no study; run heads-bench --out {options.folder} first.")
    if options.share is not None and not 0 <= options.share < 1:
        raise OptionError(f"--share {options.share} must be 0 or more and less than 1, such as 0.03.")
    for least, name in ((1, "seeds"), (10, "size")):
        if getattr(options, name) < least:
            raise OptionError(f"--{name} {getattr(options, name)} must be {least} or more.")
    given = names(options.inputs)
    if not given or set(given) - set(INPUTS):
        raise OptionError(f"--inputs {options.inputs or 'nothing'}: name some of {', '.join(INPUTS)}.")
    targets = Laboratory(options.folder, Settings()).study.targets
    if options.label not in targets:
        raise OptionError(f"--label '{options.label}' is none of {', '.join(targets)}.")
    found = Regime.parse(options.regime)
    if len(found) != 1:
        raise OptionError("--regime all is no one kind of stars; name one.")
    return found[0]


def _columns(sample: Sample) -> dict[str, Float]:
    return {target: sample.y[:, i] for i, target in enumerate(sample.targets)}


def _line(regime: str, method: str, name: str, error: Float, replicates: Float, first: Float | None) -> str:
    """Of one method and input: scatter, interval, offset, and the difference to the first input."""
    low, high = np.quantile(replicates, (0.025, 0.975))
    sigma, median = clipped_scatter(error[None])[0], np.median(error)
    text = (
        f"{regime:<17}{method:<11}{name:<11}{len(error):>5}  {sigma:.3f} ({low:.3f}-{high:.3f})  median {median:+.3f}"
    )
    if first is None:
        return text
    below, above = np.quantile(replicates - first, (0.025, 0.975))
    return f"{text}  difference {below:+.3f} to {above:+.3f}"


def main() -> None:
    """Entry point of python -m benchmarks.share."""
    run_command(ShareOptions, share, "benchmarks.share")


if __name__ == "__main__":
    main()
