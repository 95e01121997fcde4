"""python -m benchmarks.embeddings --data FOLDER --out DIR [--models NAME ...]"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.embeddings.probes import Features, Fit, Scores, across, partner_ranks, repeat_ranks, within
from benchmarks.embeddings.samples import Sample, Workshop
from stores.atomic import replacing
from stores.command import run_command, say
from stores.errors import OptionError
from stores.provenance import array_digest, provenance

Float = NDArray[np.float64]

SNRS = (20.0, 50.0)
PIXELS = "pixels"  # as the name of a model: the flux of every pixel
TRAINED_SHARE = 0.7  # of the twin stars, seen by LAMOST, that the ridge is fitted to; DESI sees the others
COLUMNS = ("teff", "logg", "feh", "feh_rich", "feh_poor", "alphafe")


@dataclass(kw_only=True)
class EmbeddingsOptions:
    """Compare embeddings by what a ridge reads from them and by how well they find stars again."""

    data: Path
    """Folder of real data: lamost/fits, lamost/labels.csv, miles/fits, lamost_formats/dr8_repeats, ..."""
    out: Path
    """Folder for results and for the stores of the samples, which are made once."""
    models: tuple[str, ...] = ("pca64", "untrained", "tiny-views")
    """Models by name or folder; pixels: the spectra themselves; pcaN; untrained: the last one with random weights."""
    stars: int = 10_000
    """Stars that both twins see."""
    seed: int = 0
    """Seed of folds and of untrained weights."""


@dataclass(frozen=True)
class Samples:
    """All spectra of the comparison."""

    lamost: Sample
    miles: Sample
    repeats: Sample
    source: Sample  # the LAMOST twin at the survey's own S/N
    twins: dict[tuple[str, float], Sample]  # by survey and S/N


def compare(options: EmbeddingsOptions) -> int:
    """Measure every model, write table, JSON and figure; returns the exit status."""
    from embed.load import load_model

    named = [name for name in options.models if not name.startswith("pca") and name not in (PIXELS, "untrained")]
    if not named:
        raise OptionError("--models names no model that is trained; name one to compare with.")
    if options.stars < 100:
        raise OptionError(f"--stars {options.stars} must be 100 or more.")
    reference = load_model(named[-1])
    for name in named:
        if load_model(name).preparation_fingerprint != reference.preparation_fingerprint:
            raise OptionError(f"model '{name}' was trained on other spectra than '{named[-1]}'; compare them apart.")
    options.out.mkdir(parents=True, exist_ok=True)
    shop = Workshop(options.out, options.data, reference.grid, reference.preparation)
    samples = _samples(shop, options.stars)
    results = {}
    for name in options.models:
        say(f"measuring {name} ...")
        results[name] = measure(_fit(name, named[-1], shop, options.seed), samples, options.seed)
    made = {**provenance(), "seed": options.seed, "stars": options.stars, "results": results}
    text = table(results)
    with replacing(options.out / "embeddings.json") as path:
        path.write_text(json.dumps(made, indent=1) + "\n")
    with replacing(options.out / "embeddings.md") as path:
        path.write_text(text)
    from benchmarks.embeddings.figure import draw

    draw(results, options.out / "embeddings.png")
    print(text)
    return 0


def measure(fit: Fit, samples: Samples, seed: int) -> dict[str, Scores]:
    """Scores of every experiment."""
    found: dict[str, Scores] = {
        "lamost": within(samples.lamost, fit, seed),
        "lamost -> miles": across(samples.lamost, samples.miles, fit),
    }
    n = len(samples.source)
    order = np.random.default_rng(seed).permutation(n)
    trained, tested = np.split(order, [round(TRAINED_SHARE * n)])
    source = samples.source.take(trained)
    for snr in SNRS:
        target = samples.twins["desi", snr].take(tested)
        found[f"twins, S/N {snr:g}"] = across(source, target, fit)
    features = fit(samples.source)
    for snr in SNRS:
        ranks = partner_ranks(*(features(samples.twins[survey, snr]) for survey in ("lamost", "desi")))
        found[f"partner, S/N {snr:g}"] = {"rank": _summary(ranks)}
    features = fit(samples.lamost)
    ranks = repeat_ranks(features(samples.repeats), samples.repeats.star, features(samples.lamost))
    found["repeats"] = {"rank": _summary(ranks)}
    return found


def table(results: dict[str, dict[str, Scores]]) -> str:
    """Sigma after clipping, with R2 and the median offset, as Markdown; best sigma of each column in bold."""
    lines = []
    experiments = list(next(iter(results.values())))
    for experiment in (name for name in experiments if "rank" not in next(iter(results.values()))[name]):
        columns = [name for name in COLUMNS if name in next(iter(results.values()))[experiment]]
        lines += [f"**{experiment}**: sigma (R2; median)", "", "| | " + " | ".join(columns) + " |"]
        lines.append("|---" * (len(columns) + 1) + "|")
        best = {name: min(result[experiment][name]["sigma"] for result in results.values()) for name in columns}
        for model, result in results.items():
            cells = [_cell(name, result[experiment][name], best[name]) for name in columns]
            lines.append(f"| {model} | " + " | ".join(cells) + " |")
        lines.append("")
    ranked = [name for name in experiments if "rank" in next(iter(results.values()))[name]]
    lines += ["**the same star again**: share at rank 1 (median rank)", "", "| | " + " | ".join(ranked) + " |"]
    lines.append("|---" * (len(ranked) + 1) + "|")
    for model, result in results.items():
        ranks = [result[name]["rank"] for name in ranked]
        lines.append(f"| {model} | " + " | ".join(f"{r['first']:.1%} ({r['median']:.0f})" for r in ranks) + " |")
    return "\n".join(lines) + "\n"


def _cell(label: str, score: dict[str, float], best: float) -> str:
    digits = 0 if label == "teff" else 3
    sigma = f"{score['sigma']:.{digits}f}"
    sigma = f"**{sigma}**" if score["sigma"] == best else sigma
    return f"{sigma} ({score['r2']:.2f}; {score['median']:+.{digits}f})"


def _summary(ranks: NDArray[np.int64]) -> dict[str, float]:
    return {"n": float(len(ranks)), "first": float(np.mean(ranks == 1)), "median": float(np.median(ranks))}


def _samples(shop: Workshop, stars: int) -> Samples:
    twins = {(survey, snr): shop.twin(survey, stars, snr) for survey in ("lamost", "desi") for snr in SNRS}
    return Samples(shop.lamost(), shop.miles(), shop.repeats(), shop.twin("lamost", stars), twins)


def _fit(name: str, reference: str, shop: Workshop, seed: int) -> Fit:
    """Features of a model, the same whatever they are fitted to; principal components are learned."""
    if name == PIXELS:
        return lambda sample: lambda other: other.flux.astype(np.float64)
    if name.startswith("pca") and name[3:].isdigit():
        return lambda sample: _components(sample, int(name[3:]))
    from embed.load import load_model
    from embed.probe import forget
    from embed.run import Embedder

    model = load_model(reference if name == "untrained" else name)
    if name == "untrained":
        forget(model.model, seed)
    embedder = Embedder(model, shop.grid.start, "cpu", 256)
    # kept beside the stores: a comparison with one more model embeds for that one only
    folder = (
        shop.folder
        / "vectors"
        / (f"untrained-{seed}-{model.fingerprint}" if name == "untrained" else model.fingerprint)
    )
    folder.mkdir(parents=True, exist_ok=True)

    def features(sample: Sample) -> Float:
        path = folder / f"{sample.name}-{array_digest(sample.flux, sample.ivar)}.npy"
        if not path.is_file():
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, embedder(sample.flux, sample.ivar).astype(np.float32))
        return np.load(path).astype(np.float64)

    return lambda sample: features


def _components(sample: Sample, count: int) -> Features:
    flux: Any = sample.flux.astype(np.float64)
    mean = flux.mean(axis=0)
    values, vectors = np.linalg.eigh((flux - mean).T @ (flux - mean))
    axes = vectors[:, np.argsort(values)[::-1][:count]]
    return lambda other: (other.flux - mean) @ axes


def main() -> None:
    """Entry point of python -m benchmarks.embeddings."""
    run_command(EmbeddingsOptions, compare, "benchmarks.embeddings")


if __name__ == "__main__":
    main()
