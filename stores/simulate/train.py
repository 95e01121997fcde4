"""Train the emulator on the grid of synthetic spectra, and measure it on spectra that it has not seen.

    python -m stores.simulate.train GRID_FOLDER --out emulator.safetensors --seed 1

The seed decides which spectra are held out: a tenth for the test, which is looked at once, at the end, and a
twentieth for validation. All figures go into the file's metadata and are printed as JSON.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import tyro
from numpy.typing import NDArray

from stores.command import run_command, say
from stores.errors import InputError, OptionError
from stores.progress import progress
from stores.provenance import file_checksum, provenance

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stores.simulate.emulator import Emulator

TEST_SHARE, VALIDATION_SHARE = 0.10, 0.05
ROUNDING = (1.0, 0.01, 0.01, 0.01, 0.01)  # the range of labels is rounded outwards to these
REACHED = 99.0  # percentile of the grid's own distances between stars that still counts as filled
REGIMES = {
    "all": (-np.inf, np.inf),
    "feh > -1": (-1.0, np.inf),
    "-2 < feh <= -1": (-2.0, -1.0),
    "feh <= -2": (-np.inf, -2.0),
}
SMOOTH = 12  # principal components of the continuum
CLIP = 0.1  # largest norm of the gradient: without it, single steps undo hundreds of epochs
Float = NDArray[np.float32]


@dataclass(kw_only=True)
class TrainOptions:
    """Train the emulator of synthetic stellar spectra."""

    grid_folder: tyro.conf.Positional[Path]
    """Folder of axes.npz and spectra_*.npz."""
    out: Path
    """The weights' file to write, *.safetensors."""
    components: int = 120
    """Principal components of the normalised spectra."""
    width: int = 256
    """Units of each of three hidden layers."""
    epochs: int = 1000
    """Passes over the training spectra."""
    batch_size: int = 128
    """Spectra a step."""
    learning_rate: float = 5e-3
    """Peak learning rate, after a short warm-up and before the cosine decay to nothing."""
    seed: int = 1
    """Seed of the split, the weights and the order."""

    def __post_init__(self) -> None:
        if min(self.components, self.width, self.epochs, self.batch_size) < 1:
            raise OptionError("--components, --width, --epochs and --batch-size must be 1 or more.")
        if self.seed < 0:
            raise OptionError(f"--seed {self.seed} must be 0 or more.")
        if self.out.suffix != ".safetensors":
            raise OptionError(f"'{self.out}' does not end in .safetensors; name the file so.")
        if not self.out.absolute().parent.is_dir():
            raise OptionError(f"the folder of '{self.out}' does not exist; make it first.")


@dataclass(frozen=True)
class Grid:
    """Synthetic spectra: labels (n, 5), flux (n, n_pix) over the continuum, log10 continuum (n, n_nodes)."""

    wavelength: NDArray[np.float64]
    nodes: NDArray[np.float64]
    labels: Float
    flux: Float
    log10_continuum: Float

    @classmethod
    def read(cls, folder: Path) -> Grid:
        """All spectra of a folder; raises InputError if there are none."""
        files = sorted(folder.glob("spectra_*.npz"))
        if not files or not (folder / "axes.npz").is_file():
            raise InputError(f"'{folder}' has no axes.npz and spectra_*.npz; name the folder of the synthetic grid.")
        wavelength, nodes = _arrays(folder / "axes.npz", "wavelength_vacuum", "continuum_wavelength_vacuum")
        parts: list[tuple[Any, Any, Any]] = []
        for path in progress(files, "reading the grid", unit="file"):
            labels, depth, level = _arrays(path, "labels", "depth_delta", "log10_continuum_delta")
            flux = 1 - np.cumsum(depth, axis=1, dtype=np.int32) / 2048
            level = np.cumsum(level, axis=1) / 10000
            parts.append((labels.astype("f4"), flux.astype("f4"), level.astype("f4")))
        return cls(wavelength, nodes, *(np.concatenate(some) for some in zip(*parts, strict=True)))

    def split(self, seed: int) -> dict[str, NDArray[np.int64]]:
        """Rows for training, validation and test, by the seed."""
        order = np.random.default_rng([seed, 0]).permutation(len(self.labels))
        test, validation = round(TEST_SHARE * len(order)), round(VALIDATION_SHARE * len(order))
        names = ("test", "validation", "training")
        return dict(zip(names, np.split(order, [test, test + validation]), strict=True))


def train(options: TrainOptions) -> int:
    """Train, measure and write the emulator; returns the exit status."""
    import torch

    from stores.simulate.emulator import LABELS, Emulator, write_weights

    grid = Grid.read(options.grid_folder)
    rows = grid.split(options.seed)
    torch.manual_seed(options.seed)
    started = time.monotonic()
    mean, basis, coefficients = _components(grid.flux[rows["training"]], options.components)
    basis = basis.half()
    level_mean, level_basis, level_coefficients = _components(grid.log10_continuum[rows["training"]], SMOOTH)
    low, high = _range(grid.labels)
    scaled = torch.from_numpy((2 * (grid.labels - low) / (high - low) - 1).astype("f4"))
    x = scaled[rows["training"]]
    lines = _fit("lines", x, coefficients, basis.float().norm(dim=1), options)
    continuum = _fit("continuum", x, level_coefficients, level_basis.norm(dim=1), options)
    stars = grid.labels[rows["training"], :2]
    tensors = {
        "wavelength": torch.from_numpy(grid.wavelength),
        "continuum_wavelength": torch.from_numpy(grid.nodes),
        "stars": torch.from_numpy(stars),
        "mean": mean,
        "basis": basis,
        "continuum_mean": level_mean,
        "continuum_basis": level_basis,
        **{f"lines.{name}": value for name, value in lines.state_dict().items()},
        **{f"continuum.{name}": value for name, value in continuum.state_dict().items()},
    }
    details: dict[str, Any] = {
        "labels": LABELS,
        "range": {name: [a, b] for name, a, b in zip(LABELS, low.tolist(), high.tolist(), strict=True)},
        "reach": _reach(stars),
    }
    emulator = Emulator(tensors, details)
    recipe = {name: value for name, value in asdict(options).items() if name not in ("grid_folder", "out")}
    details |= {
        "spectra": {name: len(some) for name, some in rows.items()},
        "errors": {name: errors(emulator, grid, rows[name]) for name in ("validation", "test")},
        "test_stars_inside": float(emulator.inside(grid.labels[rows["test"]]).mean()),
        "seconds": round(time.monotonic() - started, 1),
        "threads": torch.get_num_threads(),
        "recipe": recipe,
        "sources": {path.name: file_checksum(path) for path in sorted(options.grid_folder.glob("*.npz"))},
        **provenance(),
    }
    write_weights(options.out, tensors, details)
    print(json.dumps(details, indent=1))
    say(f"'{options.out}': {options.out.stat().st_size / 1e6:.1f} MB.")
    return 0


def errors(emulator: Emulator, grid: Grid, rows: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of the errors of flux (absolute) and continuum (relative), by regime."""
    import torch

    labels = torch.from_numpy(grid.labels[rows])
    flux_error = np.abs(emulator.normalised(labels).numpy() - grid.flux[rows])
    level = np.stack([np.interp(emulator.wavelength, grid.nodes, row) for row in grid.log10_continuum[rows]])
    continuum_error = np.abs(10 ** (emulator.log10_continuum(labels).numpy() - level) - 1)
    feh = grid.labels[rows, 2]
    found: dict[str, dict[str, float]] = {}
    for name, (low, high) in REGIMES.items():
        some = (feh > low) & (feh <= high)
        if not some.any():
            continue
        found[name] = {"spectra": int(some.sum())}
        for what, error in (("flux", flux_error[some]), ("continuum", continuum_error[some])):
            found[name][f"{what}_median"] = float(np.median(error))
            found[name][f"{what}_95"] = float(np.percentile(error, 95))
    return found


def _arrays(path: Path, *names: str) -> list[NDArray[Any]]:
    """Arrays of an npz file by name."""
    try:
        with np.load(path) as file:
            return [file[name] for name in names]
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise InputError(f"'{path}' is no file of the synthetic grid ({error}); copy it again.") from None


def _components(values: Float, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (n_pix,) of values (rows, n_pix), principal components (n, n_pix) times their scatter, and the
    coefficients (rows, n), of unit scatter.
    """
    import torch

    mean = torch.from_numpy(values.mean(axis=0, dtype=np.float64).astype("f4"))
    centred = torch.from_numpy(values) - mean
    _, _, components = torch.svd_lowrank(centred, q=min(n + 20, *centred.shape), niter=4)
    coefficients = centred @ components[:, :n]
    scatter = coefficients.std(dim=0)
    scatter = scatter.clamp_min(1e-6 * float(scatter.max()))  # a small grid may have fewer than n
    return mean, (components[:, :n] * scatter).T.contiguous(), coefficients / scatter


def _fit(what: str, x: Tensor, y: Tensor, scatter: Tensor, options: TrainOptions) -> nn.Sequential:
    """A network from scaled labels x (n, 5) to coefficients y (n, k), whose errors count by their scatter in flux."""
    import torch

    from stores.simulate.emulator import network

    model = network([x.shape[1], *[options.width] * 3, y.shape[1]])
    # the square would be the error of flux, but leaves faint components untrained
    weight = scatter**1.5 / (scatter**1.5).sum()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=1e-3)
    steps = -(-len(x) // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.epochs * steps, pct_start=0.05
    )
    latest = [0.0]
    for _ in progress(range(options.epochs), what, unit="epoch", status=lambda: f"loss {latest[-1]:.2e}"):
        total = 0.0
        for some in torch.randperm(len(x)).split(options.batch_size):
            loss = (weight * (model(x[some]) - y[some]) ** 2).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) / steps
        latest.append(total)
    return model


def _range(labels: Float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest label of the grid, rounded outwards."""
    step = np.array(ROUNDING)
    low = np.floor(np.round(labels.min(axis=0) / step, 3)) * step
    high = np.ceil(np.round(labels.max(axis=0) / step, 3)) * step
    return np.round(low, 6), np.round(high, 6)


def _reach(stars: Float) -> float:
    """The distance to the third-nearest star that nearly all stars (n, 2) of the grid keep."""
    from scipy.spatial import cKDTree

    from stores.simulate.emulator import NEIGHBOURS, SCALE

    distance, _ = cKDTree(stars / SCALE).query(stars / SCALE, k=[NEIGHBOURS + 1])  # the nearest is the star itself
    return float(np.percentile(distance, REACHED))


def main() -> None:
    """Entry point of python -m stores.simulate.train."""
    run_command(TrainOptions, train, "stores.simulate.train")


if __name__ == "__main__":
    main()
