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

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.request import BEGUN, KEPT_TO_TEST, SCALES, BenchOptions, Scale, names
from stores.atomic import replacing
from stores.command import run_command, say
from stores.errors import InputError, ModelError, OptionError
from stores.provenance import fingerprint, provenance

if TYPE_CHECKING:
    from benchmarks.cell import Cell, Laboratory, Settings
    from benchmarks.regime import Regime
    from benchmarks.results import Results
    from benchmarks.study import Study


def bench(options: BenchOptions) -> int:
    """Compute what is not there yet, and write results, figures and the report; returns the exit status."""
    regimes = options.check()
    jobs = options.jobs or len(os.sched_getaffinity(0))
    with _remembered(options.out, options.settings(regimes)):
        results, there = _compared(options, regimes, jobs)
    if there:
        say(f"'{options.out}' holds these very results; nothing is left to do. Read '{options.out / 'report.html'}'.")
    else:
        results.save(options.out)
        _show(results, options.out, jobs)
        for regime in regimes:
            print(f"{regime.name} ({regime.expression}): {results.about['sentences'][regime.name]}\n")
        if options.kind == "real":
            from benchmarks.suites import OBTAIN

            print(OBTAIN)
        say(f"'{options.out / 'report.html'}': all tables and figures.")
    if options.record:
        from benchmarks.leaderboard import record

        say(record(results))
    return 0


def _compared(options: BenchOptions, regimes: list[Regime], jobs: int) -> tuple[Results, bool]:
    """The results, and whether they were there already."""
    from benchmarks.cell import Settings
    from benchmarks.code import ALL, digest

    study, scale = _study(options, options.scale, jobs)
    settings = Settings(
        seeds=options.seeds,
        landscape=scale.landscape,
        landscape_size=max(scale.sizes),
        source_epochs=scale.epochs,
    )
    cells = list(_cells(study, scale, options))
    own = study.fingerprint
    told = study.pipeline_fingerprints
    asked = fingerprint([own, told, repr(settings), repr(cells), repr(regimes), options.replicates, digest(ALL)])
    results = _done(options.out, asked)
    if results is not None:
        return results, True
    if options.reported(regimes):
        say(f"'{options.out}' holds results of other data or another version; they are replaced.")
    _run(options.out, settings, own, cells, jobs)
    return _results(options, study, scale, settings, cells, regimes, asked), False


@contextmanager
def _remembered(out: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Note in the folder what is being done there, before any of it is.

    A call that comes to nothing, or cannot work with these data, leaves the note as it was, and no empty folder.
    """
    note = out / BEGUN
    before = note.read_text() if note.is_file() else None
    text = json.dumps(settings, indent=1) + "\n"
    note.parent.mkdir(parents=True, exist_ok=True)
    if text != before:
        _write(note, text)
    try:
        yield
    except BaseException as error:
        if isinstance(error, InputError | ModelError | OptionError) or list(note.parent.iterdir()) == [note]:
            if before is None:
                note.unlink(missing_ok=True)
            elif text != before:
                _write(note, before)
        for folder in (note.parent, out):
            with suppress(OSError):
                folder.rmdir()
        raise


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def _study(options: BenchOptions, scale: Scale, jobs: int) -> tuple[Study, Scale]:
    """The study in the folder, made where it is not there, and the scale with the sizes that it allows."""
    from benchmarks.suites import Workshop, simulated
    from embed.load import describe_model, load_model

    folder = options.out / "study"
    folder.mkdir(parents=True, exist_ok=True)
    model = describe_model(options.model) or load_model(options.model)
    shop = Workshop(folder, options.targets, model, jobs)
    pool = max(scale.sizes)
    match options.kind:
        case "own":
            assert options.target is not None
            assert options.target_labels is not None
            target = (options.target, options.target_labels)
            sizes = scale.sizes if options.sizes else _affordable(target[1], scale.sizes)
            scale = replace(scale, sizes=sizes)
            sources = list(zip(options.source, options.source_labels, strict=True))
            study = shop.own(sources, target, max(sizes), scale.tested, options.tables)
        case "real":
            study = shop.real(options.data, pool, scale.tested, scale.source)
        case name:
            usual = max(SCALES[name].sizes)
            if pool > usual and not (folder / f"desi-twin-{simulated(pool + scale.tested)}.zarr").exists():
                say(
                    f"note: to learn from {pool:,} target stars (--sizes), {simulated(pool + scale.tested):,} are "
                    f"simulated in place of {simulated(usual + scale.tested):,}: not all of them have labels."
                )
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
        for name in names(options.baselines):
            if name != "none":
                # the fit of pixels learns next to nothing from labels, and takes long
                sizes = {0, max(scale.sizes)} & set(scale.sizes) if name == "payne" else set(scale.sizes)
                yield from (Cell(BASELINE, "", name, size, draw) for size in sorted(sizes))
        for size in scale.sizes:
            for strategy in scale.adapters if size else (ZERO_SHOT,):
                # trying all of them costs as much as all of them
                if strategy != AUTO or size == max(scale.sizes):
                    yield from (Cell(HEAD, name, strategy, size, draw) for name in names(options.inputs))


def _done(out: Path, asked: str) -> Results | None:
    """The results in a folder, if they are what is asked for."""
    from benchmarks.results import Results

    try:
        found = Results.load(out)
    except InputError:
        return None
    return found if found.about.get("asked") == asked and (out / "report.html").is_file() else None


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
    tested = summary.stars(stage, scale.draws, regimes)
    about: dict[str, Any] = {
        "suite": options.kind,
        "labels": list(targets),
        "regimes": {regime.name: regime.expression for regime in regimes},
        "inputs": list(names(options.inputs)),
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
        "fingerprints": {side.name: side.fingerprints for side in (*study.sources, study.target)}
        | {name: {"labels": found} for name, found in study.pipeline_fingerprints.items()},
        "settings": {"replicates": options.replicates, "landscape": settings.landscape, "pool": study.pool},
        "sentences": summary.sentences(scores, regimes, first, study.truth is not None),
        "asked": asked,
        "options": options.settings(regimes),
        **provenance(),
    }
    return Results(
        about,
        scores,
        summary.predictions(stage, outcomes),
        tested,
        summary.landscapes(stage, outcomes, regimes),
    )


def _show(results: Results, out: Path, jobs: int) -> None:
    """Figures and the page."""
    from benchmarks.figures import figures, plotly_json, save_pictures
    from benchmarks.report import ReportFigure, write_report
    from stores.processes import in_processes
    from stores.progress import progress

    drawn = figures(results)
    work = in_processes(save_pictures, (([one], out / "figures") for one in drawn), jobs)
    for _ in progress(work, "figures", unit="figure", total=len(drawn)):
        pass
    shown = [
        ReportFigure(
            one.name, one.title, one.caption, plotly_json(one), f"figures/{one.name}.png", f"figures/{one.name}.pdf"
        )
        for one in drawn
    ]
    write_report(results, shown, out / "report.html")


def main() -> None:
    """Entry point of heads-bench."""
    run_command(BenchOptions, bench, "heads-bench")


if __name__ == "__main__":
    main()
