"""embed-probe: how much a ridge regression can read about the stars from embeddings.

    embed-probe lamost.zarr table.zarr --labels labels.csv --target feh --models tiny-views untrained pca64

For each model: embeddings of all labelled spectra, five-fold cross-validation split by star, R^2 and the scatter
of the residuals after 3-sigma clipping. `untrained` is the same transformer with random weights and `pcaN` the
first N principal components of the spectra (fitted on each training fold): what a model has to beat.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from stores.command import run_command, say
from stores.errors import InputError, OptionError
from stores.flags import Flag
from stores.id_table import IdTable
from stores.spectra import SpectraStore
from stores.stars import same_stars

Float = NDArray[np.float64]
PENALTIES = 10.0 ** np.arange(-2, 7)
UNUSABLE = Flag.NO_VALID_PIXELS | Flag.MOSTLY_MASKED | Flag.UNREADABLE
ID_NAMES = ("id", "obsid", "targetid")


@dataclass(kw_only=True)
class ProbeOptions:
    """Probe embeddings with a ridge regression, cross-validated by star."""

    stores: tyro.conf.Positional[tuple[str, ...]]
    """Spectra stores of one grid and preparation."""
    labels: tuple[Path, ...]
    """Tables (FITS, CSV, ECSV or Parquet) with an id column (id, obsid or targetid) and the target column."""
    target: str = "feh"
    """Column of the label."""
    models: tuple[str, ...] = ("tiny-views", "untrained", "pca64")
    """Models by name or folder; `untrained`, and `pcaN` for N principal components."""
    teff_range: tuple[float, float] = (4000.0, 7500.0)
    """Only stars whose teff column lies in this range, K."""
    folds: int = 5
    """Folds of the cross-validation."""
    seed: int = 0
    """Seed of the folds and of the untrained weights."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Labelled:
    """Spectra with a label: flux, ivar (n, n_pix), label (n,) and the star (n,) each belongs to."""

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    label: Float
    star: NDArray[np.int64]
    start: float


def probe(options: ProbeOptions) -> int:
    """Print the scores of every model; returns the exit status."""
    from embed.batches import open_stores

    if options.folds < 2 or options.seed < 0:
        raise OptionError("--folds must be 2 or more and --seed 0 or more.")
    if not options.stores:
        raise OptionError("no spectra store was named; make one with stores-ingest.")
    low, high = options.teff_range
    if not low < high:
        raise OptionError(f"--teff-range {low:g} {high:g} holds no star; give the lower end first.")
    stores = open_stores(options.stores)
    data = _labelled(stores, options)
    fold = folds_by_star(data.star, options.folds, options.seed)
    _refuse_components(options.models, data.flux, fold)
    rows = []
    for name in options.models:
        say(f"probing {name} ...")
        features = _features(name, data, stores, options)
        predicted = cross_validate(features, data.label, fold)
        rows.append({"model": name, **scores(data.label, predicted)})
    result = {
        "target": options.target,
        "spectra": len(data.label),
        "stars": len(np.unique(data.star)),
        "rows": rows,
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return 0
    print(f"{options.target}: {result['spectra']} spectra of {result['stars']} stars, {options.folds} folds by star")
    print(f"{'model':<28}{'R2':>8}{'sigma':>8}{'median':>8}")
    for row in rows:
        print(f"{row['model']:<28}{row['r2']:>8.3f}{row['sigma']:>8.3f}{row['median']:>+8.3f}")
    return 0


def cross_validate(
    features: Callable[[NDArray[np.bool_]], Float] | Float, label: Float, fold: NDArray[np.int64]
) -> Float:
    """Predictions (n,), each from a ridge fitted to the other folds.

    features: (n, d), or a function that gives them from the mask (n,) of the training rows
    """
    predicted = np.empty(len(label))
    for number in np.unique(fold):
        training = fold != number
        x = features(training) if callable(features) else features
        predicted[~training] = ridge(x[training], label[training], x[~training])
    return predicted


@dataclass(frozen=True)
class Ridge:
    """A ridge regression on standardised features: mean, scatter, weights (d,), level.

    left_out: (n,), what it would have predicted of each spectrum that it was fitted to without that one
    """

    mean: Float
    scatter: Float
    weights: Float
    level: float
    left_out: Float

    @classmethod
    def fit(cls, x: Float, y: Float, worth: Float | None = None) -> Ridge:
        """Fitted to features (n, d) and labels (n,), its penalty chosen by leave-one-out error (closed form).

        worth: (n,), above 0, how much each spectrum counts in the fit and in that error; alike without
        """
        worth = np.ones(len(y)) if worth is None else worth / worth.mean()
        mean, level = np.average(x, axis=0, weights=worth), float(np.average(y, weights=worth))
        scatter = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=worth))
        scatter = np.where(scatter > 1e-12 * np.abs(mean).max(), scatter, np.inf)
        root = np.sqrt(worth)
        u, s, vt = np.linalg.svd((x - mean) / scatter * root[:, None], full_matrices=False)
        projected = u.T @ (root * (y - level))
        best, weights, left_out = np.inf, np.zeros(x.shape[1]), y
        for penalty in PENALTIES:
            shrink = s**2 / (s**2 + penalty)
            residual = root * (y - level) - u @ (shrink * projected)
            leverage = (u**2) @ shrink + worth / len(y)
            residual = residual / np.maximum(1 - leverage, 1e-8)  # fewer spectra than features come close to 0
            error = float(np.mean(residual**2))
            if error < best:
                best, weights = error, vt.T @ (s / (s**2 + penalty) * projected)
                left_out = y - residual / root
        return cls(mean, scatter, weights, level, left_out)

    def __call__(self, x: Float) -> Float:
        """Predictions (n,) of features (n, d)."""
        prediction: Float = (x - self.mean) / self.scatter @ self.weights + self.level
        return prediction


def ridge(x: Float, y: Float, x_new: Float) -> Float:
    """Predictions (m,) of features (m, d) by a ridge fitted to features (n, d) and labels (n,)."""
    return Ridge.fit(x, y)(x_new)


def scores(label: Float, predicted: Float) -> dict[str, float]:
    """R^2, clipped standard deviation (3 sigma, astropy) and median of the residuals."""
    from astropy.stats import sigma_clip

    residual = predicted - label
    kept = sigma_clip(residual, sigma=3, masked=False)
    r2 = 1 - float(np.sum(residual**2) / np.sum((label - label.mean()) ** 2))
    return {"r2": r2, "sigma": float(np.std(kept)), "median": float(np.median(residual))}


def _features(
    name: str, data: Labelled, stores: list[SpectraStore], options: ProbeOptions
) -> Callable[[NDArray[np.bool_]], Float] | Float:
    count = _components(name)
    if count is not None:
        return lambda training: _principal_components(data.flux.astype(np.float64), training, count)
    from embed.load import load_model
    from embed.run import Embedder, check_preparation

    if name == "untrained":
        reference = next((m for m in options.models if m != name and not m.startswith("pca")), "tiny-views")
        model = load_model(reference)
        forget(model.model, options.seed)
    else:
        model = load_model(name)
    for store in stores:
        check_preparation(store, model)
    return Embedder(model, data.start, "cpu", 256)(data.flux, data.ivar).astype(np.float64)


def forget(model: Any, seed: int) -> None:
    """Give a model new random weights, as those that pre-training starts from."""
    from transformers import set_seed

    set_seed(seed)
    for module in model.modules():
        model._init_weights(module)


def _components(name: str) -> int | None:
    """N of pcaN; None for other models."""
    return int(name[3:]) if name.startswith("pca") and name[3:].isdecimal() else None


def _refuse_components(models: tuple[str, ...], flux: NDArray[np.float32], fold: NDArray[np.int64]) -> None:
    """Raise an OptionError for more principal components than the spectra of every training have."""
    training = len(fold) - int(np.bincount(fold).max())
    most = min(training - 1, flux.shape[1])  # about their mean, n spectra span n - 1 dimensions
    for name in models:
        count = _components(name)
        if count is not None and not 1 <= count <= most:
            raise OptionError(f"--models {name}: {training} spectra to learn from allow pca1 to pca{most}; name one.")


def _principal_components(flux: Float, training: NDArray[np.bool_], count: int) -> Float:
    mean = flux[training].mean(axis=0)
    axes = np.linalg.svd(flux[training] - mean, full_matrices=False)[2][:count]
    projected: Float = (flux - mean) @ axes.T
    return projected


def _labelled(stores: list[SpectraStore], options: ProbeOptions) -> Labelled:
    """Join stores and labels by id."""
    labels: dict[int, float] = {}
    for path in options.labels:
        target = options.target.lower()
        table = IdTable.read(path, ID_NAMES, (target, "teff"))
        value = table.numbers(target)
        if table.first("teff"):
            teff = table.numbers("teff")
            value[~((teff > options.teff_range[0]) & (teff < options.teff_range[1]))] = np.nan
        known = np.isfinite(value) & (value > -9)
        labels.update(zip(table.ids[known].tolist(), value[known].tolist(), strict=True))
    wanted = np.array(sorted(labels), dtype=np.int64)
    flux, ivar, label, ra, dec = [], [], [], [], []
    for store in stores:
        rows = store.find(wanted)
        rows = np.sort(rows[rows >= 0])
        rows = rows[(store.read("flags")[rows] & np.uint32(UNUSABLE)) == 0]
        flux.append(store.read("flux", rows))
        ivar.append(store.read("ivar", rows))
        label.append(np.array([labels[int(one)] for one in store.read("id")[rows]]))
        ra.append(store.read("ra")[rows])
        dec.append(store.read("dec")[rows])
    if sum(map(len, label)) < 10 * options.folds:
        raise InputError(
            f"{sum(map(len, label))} spectra of the stores have a label, too few to probe; check the ids."
        )
    star = same_stars(np.concatenate(ra), np.concatenate(dec))
    if star.max() + 1 < 2 * options.folds:
        raise InputError(f"the labelled spectra are of {star.max() + 1} stars, too few for {options.folds} folds.")
    start = stores[0].grid.start
    return Labelled(np.concatenate(flux), np.concatenate(ivar), np.concatenate(label), star, start)


def folds_by_star(star: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold (n,) for each spectrum, the same for all spectra of a star."""
    number = np.random.default_rng(seed).permutation(int(star.max()) + 1) % folds
    return np.asarray(number[star], dtype=np.int64)


def main() -> None:
    """Entry point of embed-probe."""
    run_command(ProbeOptions, probe, "embed-probe")


if __name__ == "__main__":
    main()
