"""heads-bench: spectra or embeddings, which strategy, how many target stars, for which stars: compared by one command.

    heads-bench                                         # quick: small twins of LAMOST and DESI with known truth
    heads-bench --regime metal_poor --suite twins       # the full study of twins
    heads-bench --suite real --data ../shared/data      # LAMOST to MILES, real stars
    heads-bench --source lamost.zarr --source-labels lamost.parquet --target desi.zarr --target-labels desi.parquet

OUT/report.html is the page to read; results.parquet, results.json, predictions.parquet and figures/ lie beside it.
What is computed is kept in OUT: a run that was killed goes on when the same command is run again, and one that is done
says so. docs/benchmarks.md says what is measured, and how.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stores.command import run_command, say
from stores.errors import OptionError
from stores.provenance import fingerprint, provenance

if TYPE_CHECKING:
    from benchmarks.cell import Cell, Laboratory, Settings
    from benchmarks.regime import Regime
    from benchmarks.results import Results
    from benchmarks.study import Study

INPUTS = ("spectra", "embedding", "fused")
STRATEGIES = ("scratch", "zero_shot", "residual", "kriging", "lora", "full", "anchored", "auto")
BASELINES = ("ridge_pca64", "knn", "payne")
LABELS = "teff,logg,feh,alphafe"
STUDY_SIZES = (0, 100, 200, 500, 1000, 2069)
KEPT_TO_TEST = 0.3  # share of a user's target stars


@dataclass(frozen=True)
class Scale:
    """How large a suite is.

    sizes: target stars to learn from; draws: splits of the target's stars; tested: stars of a split at the most
    source: labelled stars of the source (of `real`: simulated spectra beside the real ones)
    landscape: steps a side of loss landscapes; epochs: over the source's stars, if not the strategy's own number
    """

    sizes: tuple[int, ...]
    adapters: tuple[str, ...]
    source: int
    tested: int
    draws: int = 1
    landscape: int = 15
    epochs: float | None = None


SCALES = {
    "quick": Scale((0, 100), ("zero_shot", "residual", "kriging", "anchored"), 800, 250, landscape=9),
    "twins": Scale((0, 100, 300, 1000), STRATEGIES, 2000, 1000),
    "real": Scale((0, 50, 100, 200), STRATEGIES, 8000, 1_000_000, draws=3, epochs=10),
    "own": Scale(STUDY_SIZES, STRATEGIES, 0, 1_000_000),
}


@dataclass(kw_only=True)
class BenchOptions:
    """Compare heads on spectra, embeddings and both, strategy by strategy, for kinds of stars."""

    regime: tuple[str, ...] = ("all",)
    """metal_rich, metal_poor, very_metal_poor, all, or kinds of your own: 'cool=teff < 5000 and feh > -1'."""
    labels: str = LABELS
    """Labels to give, separated by commas."""
    inputs: str = ",".join(INPUTS)
    """spectra, embedding, fused."""
    adapters: str | None = None
    """Strategies, if not those of the suite; auto picks one for each label."""
    baselines: str = ",".join(BASELINES)
    """Classical methods to compare with; none for none."""
    sizes: str | None = None
    """Target stars to learn from, such as 0,100,200,500; 0 is the head of the source as it is."""
    seeds: int = 5
    """Members of every head, trained together."""
    draws: int | None = None
    """Random splits of the target's stars into those learned from and those tested."""
    suite: Literal["quick", "twins", "real"] = "quick"
    """Built-in twins, small or at full size, or LAMOST to MILES of --data."""
    data: Path = Path("../shared/data")
    """Folder of real data for --suite real: lamost/ and miles/ in it."""
    source: tuple[Path, ...] = ()
    """Spectra stores of your own to learn from, in place of a suite."""
    source_labels: tuple[Path, ...] = ()
    """Their labels, tables of stores-labels."""
    target: Path | None = None
    """Spectra store of the survey to go to."""
    target_labels: Path | None = None
    """Its labels."""
    model: str = "tiny-views"
    """Model that embeds the spectra."""
    out: Path = Path("bench")
    """Folder of results, and of all that is made on the way."""
    jobs: int = 0
    """Processes, each with one thread; 0 takes all cores. Results do not depend on it."""
    replicates: int = 300
    """Bootstrap replicates of stars and seeds."""
    resume: bool = False
    """Only go on with what is in --out; without it that is done too, but a new folder is begun where there is none."""
    record: bool = False
    """Add a line to the leaderboard of the repository."""

    def check(self) -> list[Regime]:
        """The regimes; refuses what cannot work before anything heavy is loaded."""
        from benchmarks.regime import Regime

        own = (self.source, self.source_labels, self.target, self.target_labels)
        if any(own) and not all(own):
            raise OptionError("--source, --source-labels, --target and --target-labels go together; give all four.")
        if len(self.source) != len(self.source_labels):
            raise OptionError("--source-labels needs a table for each --source, in the same order.")
        for path in (*self.source, *self.source_labels, self.target, self.target_labels):
            if path is not None and not path.exists():
                raise OptionError(f"'{path}' does not exist; check the path.")
        for name, least in (("seeds", 1), ("replicates", 50), ("jobs", 0)):
            if getattr(self, name) < least:
                raise OptionError(f"--{name} {getattr(self, name)} must be {least} or more.")
        if self.draws is not None and self.draws < 1:
            raise OptionError(f"--draws {self.draws} must be 1 or more.")
        _among("--inputs", _names(self.inputs), INPUTS)
        _among("--baselines", _names(self.baselines), (*BASELINES, "none"))
        if not _names(self.labels):
            raise OptionError("--labels names no label; name some, such as feh,teff.")
        _ = self.scale
        if self.out.is_file():
            raise OptionError(f"'{self.out}' is a file; name a folder with --out.")
        begun = (self.out / "study").is_dir()
        if self.resume and not begun:
            raise OptionError(f"'{self.out}' holds nothing to go on with; leave --resume out.")
        if not begun and self.out.is_dir() and any(self.out.iterdir()):
            raise OptionError(f"'{self.out}' holds other files; choose another --out.")
        found = [one for text in self.regime for one in Regime.parse(text)]
        return list({one.name: one for one in found}.values())

    @property
    def kind(self) -> str:
        """The suite, or `own`."""
        return "own" if self.target is not None else self.suite

    @property
    def scale(self) -> Scale:
        """That of the suite, with what the options say otherwise."""
        scale = SCALES[self.kind]
        if self.sizes is not None:
            try:
                sizes = tuple(sorted({int(text) for text in _names(self.sizes)}))
            except ValueError:
                raise OptionError(f"--sizes {self.sizes} are no numbers such as 0,100,200.") from None
            if not sizes or sizes[0] < 0 or any(0 < size < 10 for size in sizes):
                raise OptionError(f"--sizes {self.sizes} must be 0, or 10 and more stars, such as 0,100,200.")
            scale = replace(scale, sizes=sizes)
        if self.adapters is not None:
            from heads.adapters import load_adapters

            known = [name for name, strategy in load_adapters().items() if not strategy.encodes]
            _among("--adapters", _names(self.adapters), (*known, "auto"))
            scale = replace(scale, adapters=_names(self.adapters))
        return scale if self.draws is None else replace(scale, draws=self.draws)


def bench(options: BenchOptions) -> int:
    """Compute what is not there yet, and write results, figures and the report; returns the exit status."""
    regimes = options.check()
    from benchmarks.cell import Settings

    jobs = options.jobs or len(os.sched_getaffinity(0))
    study, scale = _study(options, options.scale, jobs)
    settings = Settings(
        seeds=options.seeds,
        landscape=scale.landscape,
        landscape_size=max(scale.sizes),
        source_epochs=scale.epochs,
    )
    cells = list(_cells(study, scale, options))
    asked = fingerprint(
        [study.fingerprint, repr(settings), repr(cells), repr(regimes), options.replicates, provenance()["version"]]
    )
    if _done(options.out, asked):
        say(f"'{options.out}' holds these very results; nothing is left to do. Read '{options.out / 'report.html'}'.")
        return 0
    _run(options.out, settings, study.fingerprint, cells, jobs)
    results = _results(options, study, scale, settings, cells, regimes, asked)
    results.save(options.out)
    _show(results, options.out)
    if options.record:
        from benchmarks.leaderboard import record

        record(results)
    for regime in regimes:
        print(f"{regime.name} ({regime.expression}): {results.about['sentences'][regime.name]}\n")
    if options.kind == "real":
        from benchmarks.suites import OBTAIN

        print(OBTAIN)
    say(f"'{options.out / 'report.html'}': all tables and figures.")
    return 0


def _study(options: BenchOptions, scale: Scale, jobs: int) -> tuple[Study, Scale]:
    """The study in the folder, made where it is not there, and the scale with the sizes that it allows."""
    from benchmarks.suites import Workshop
    from embed.load import describe_model, load_model

    folder = options.out / "study"
    folder.mkdir(parents=True, exist_ok=True)
    model = describe_model(options.model) or load_model(options.model)
    shop = Workshop(folder, _names(options.labels), model, jobs)
    pool = max(scale.sizes)
    match options.kind:
        case "own":
            assert options.target is not None
            assert options.target_labels is not None
            target = (options.target, options.target_labels)
            sizes = scale.sizes if options.sizes else _affordable(target[1], scale.sizes)
            scale = replace(scale, sizes=sizes)
            sources = list(zip(options.source, options.source_labels, strict=True))
            study = shop.own(sources, target, max(sizes), scale.tested)
        case "real":
            study = shop.real(options.data, pool, scale.tested, scale.source)
        case name:
            study = shop.twins(name, scale.source, pool, scale.tested)
    study.save(folder)
    return study, scale


def _affordable(labels: Path, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes that leave stars to test."""
    import numpy as np

    from stores.labels import Labels

    most = (1 - KEPT_TO_TEST) * len(np.unique(Labels.load(labels).star))
    return tuple(size for size in sizes if size <= most)


def _cells(study: Study, scale: Scale, options: BenchOptions) -> Iterator[Cell]:
    """All cells of a comparison."""
    from benchmarks.cell import AUTO, BASELINE, HEAD, PIPELINE, ZERO_SHOT, Cell

    for draw in range(scale.draws):
        for name in study.pipelines:
            yield Cell(PIPELINE, "", name, 0, draw)
        for name in _names(options.baselines):
            if name != "none":
                # the fit of pixels learns next to nothing from labels, and takes long
                sizes = {0, max(scale.sizes)} & set(scale.sizes) if name == "payne" else set(scale.sizes)
                yield from (Cell(BASELINE, "", name, size, draw) for size in sorted(sizes))
        for size in scale.sizes:
            for strategy in scale.adapters if size else (ZERO_SHOT,):
                # trying all of them costs as much as all of them
                if strategy != AUTO or size == max(scale.sizes):
                    yield from (Cell(HEAD, name, strategy, size, draw) for name in _names(options.inputs))


def _done(out: Path, asked: str) -> bool:
    from benchmarks.results import Results
    from stores.errors import InputError

    try:
        return (out / "report.html").is_file() and Results.load(out).about.get("asked") == asked
    except InputError:
        return False


def _run(out: Path, settings: Settings, study: str, cells: list[Cell], jobs: int) -> None:
    """Train the heads of the source, then compute the cells that are not there."""
    from benchmarks.cell import HEAD
    from stores.processes import in_processes
    from stores.progress import progress

    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come; more would change results with --jobs
    hands = _laboratory(out, settings)
    inputs = dict.fromkeys(cell.input for cell in cells if cell.group == HEAD)
    bases = [name for name in inputs if not hands.base_path(name, study).exists()]
    work = in_processes(_make_base, ((out, settings, study, name) for name in reversed(bases)), min(jobs, 3))
    for _ in progress(work, "heads of the source", unit="head", total=len(inputs), done=len(inputs) - len(bases)):
        pass
    missing = [cell for cell in cells if not hands.path(cell, study).exists()]
    work = in_processes(_run_cell, ((out, settings, study, cell) for cell in missing), jobs)
    for _ in progress(work, "cells", unit="cell", total=len(cells), done=len(cells) - len(missing)):
        pass


@cache
def _laboratory(out: Path, settings: Settings) -> Laboratory:
    """One a process."""
    from benchmarks.cell import Laboratory

    return Laboratory(out, settings)


def _make_base(out: Path, settings: Settings, study: str, name: str) -> None:
    _one_thread()
    _laboratory(out, settings).make_base(name, study)


def _run_cell(out: Path, settings: Settings, study: str, cell: Cell) -> None:
    _one_thread()
    _laboratory(out, settings).run(cell, study)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _results(
    options: BenchOptions,
    study: Study,
    scale: Scale,
    settings: Settings,
    cells: list[Cell],
    regimes: list[Regime],
    asked: str,
) -> Results:
    """All outcomes as tables, with where they come from."""
    from importlib.metadata import version

    from benchmarks import summary
    from benchmarks.cell import Outcome
    from benchmarks.results import Results
    from stores.catalogue import UNITS

    hands = _laboratory(options.out, settings)
    stage = hands.stage
    own = study.fingerprint  # reads the stores: once
    outcomes = {cell: Outcome.load(hands.path(cell, own)) for cell in cells}
    scores = summary.score(stage, summary.tested(stage, outcomes), regimes, options.replicates)
    targets = study.targets
    first = "feh" if "feh" in targets else targets[0]
    tested = summary.stars(stage, scale.draws)
    about: dict[str, Any] = {
        "suite": options.kind,
        "labels": list(targets),
        "regimes": {regime.name: regime.expression for regime in regimes},
        "inputs": list(_names(options.inputs)),
        "adapters": list(scale.adapters),
        "sizes": list(scale.sizes),
        "draws": scale.draws,
        "seeds": options.seeds,
        "source": {"name": " + ".join(side.name for side in study.sources), "stars": len(stage.source)},
        "target": {"name": study.target.name, "stars": len(stage.target), "tested": len(tested)},
        "reference": "true labels" if study.truth is not None else "labels of the catalogues",
        "units": {target: UNITS.get(target, "") for target in targets},
        "versions": {name: version(name) for name in ("numpy", "torch", "transformers", "peft", "faiss-cpu")},
        "model": options.model,
        "fingerprints": {side.name: side.fingerprints for side in (*study.sources, study.target)},
        "settings": {"replicates": options.replicates, "landscape": settings.landscape, "pool": study.pool},
        "sentences": summary.sentences(scores, regimes, first),
        "asked": asked,
        **provenance(),
    }
    return Results(
        about,
        scores,
        summary.predictions(stage, outcomes),
        tested,
        summary.landscapes(stage, outcomes, regimes),
    )


def _show(results: Results, out: Path) -> None:
    """Figures and the page."""
    from benchmarks.figures import figures, plotly_json, save_pictures
    from benchmarks.report import ReportFigure, write_report

    drawn = figures(results)
    save_pictures(drawn, out / "figures")
    shown = [
        ReportFigure(
            one.name, one.title, one.caption, plotly_json(one), f"figures/{one.name}.png", f"figures/{one.name}.pdf"
        )
        for one in drawn
    ]
    write_report(results, shown, out / "report.html")


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _among(option: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise OptionError(f"{option} names '{unknown[0] if unknown else ''}'; known are {', '.join(known)}.")


def main() -> None:
    """Entry point of heads-bench."""
    run_command(BenchOptions, bench, "heads-bench")


if __name__ == "__main__":
    main()
