"""The emulator: true to spectra it has not seen, smooth, within its range; its training gives the same again."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from stores.errors import InputError, ModelError, OptionError
from stores.simulate.emulator import LABELS, RESOLUTION, WEIGHTS, Emulator, read_weights, write_weights
from stores.simulate.train import Grid, TrainOptions, errors, train

GRID = Path(__file__).resolve().parents[2] / "shared" / "synthesis"
SUN = [5777.0, 4.44, 0.0, 0.0, 1.0]
STARS = np.array([SUN, [4600.0, 2.0, -1.5, 0.3, 1.6], [6300.0, 4.2, -2.5, 0.4, 1.4], [5400.0, 3.5, 0.2, 0.0, 1.1]])


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator.load()


def lines_near(emulator: Emulator, labels: list[float], centre: float, width: float = 1.0) -> float:
    """The lowest flux near a wavelength."""
    window = np.abs(emulator.wavelength - centre) < width
    return float(emulator.normalised(torch.tensor([labels]))[0, window].min())


def test_pixels_are_as_told(emulator: Emulator) -> None:
    steps = np.diff(np.log(emulator.wavelength))
    assert emulator.wavelength.dtype == np.float64
    assert emulator.wavelength[0] == pytest.approx(3822.0)
    assert emulator.wavelength[-1] == pytest.approx(7377.5, abs=0.1)
    assert steps == pytest.approx(1 / (2.5 * RESOLUTION), rel=1e-6)
    for spectrum in (emulator.normalised, emulator.log10_continuum, emulator.flux):
        assert spectrum(torch.tensor(STARS)).shape == (4, len(emulator.wavelength))


def test_weights_are_small_and_float32(emulator: Emulator) -> None:
    assert WEIGHTS.stat().st_size < 8e6
    assert emulator.flux(torch.tensor(STARS)).dtype == torch.float32
    assert not any(weight.requires_grad for weight in emulator.parameters())
    assert Emulator.load().double().flux(torch.tensor(STARS)).dtype == torch.float64


def test_spectra_are_those_of_stars(emulator: Emulator) -> None:
    """What is known without the grid: where lines are, and how they and the continuum follow the labels."""
    vacuum = {"H alpha": 6564.6, "H beta": 4862.7, "Mg b2": 5174.1, "Na D2": 5891.6, "Fe 5270": 5271.0}
    for centre in vacuum.values():
        assert lines_near(emulator, SUN, centre) < 0.65
    poor, hot = [*SUN[:2], -2.0, *SUN[3:]], [6700.0, *SUN[1:]]
    assert lines_near(emulator, poor, vacuum["Fe 5270"]) > 0.8
    assert lines_near(emulator, hot, vacuum["H beta"], 20) < lines_near(emulator, SUN, vacuum["H beta"], 20)
    enhanced = [*poor[:3], 0.4, 1.0]
    assert lines_near(emulator, enhanced, vacuum["Mg b2"]) < lines_near(emulator, poor, vacuum["Mg b2"]) - 0.02
    # the Sun's continuum at 5000 A, Neckel & Labs (1984): pi times an intensity of 4.0e6 x limb darkening of 0.8
    at = np.abs(emulator.wavelength - 5000).argmin()
    assert 10 ** float(emulator.log10_continuum(torch.tensor([SUN]))[0, at]) == pytest.approx(1.0e7, rel=0.1)
    covered = torch.tensor(STARS)
    np.testing.assert_allclose(
        emulator.flux(covered), emulator.normalised(covered) * 10 ** emulator.log10_continuum(covered), rtol=1e-5
    )


def test_derivatives_are_those_of_finite_differences() -> None:
    exact = Emulator.load().double()
    labels = torch.tensor(STARS)
    jacobian = exact.jacobian(labels)
    assert jacobian.shape == (4, len(exact.wavelength), 5)
    for column, step in enumerate((0.5, 5e-4, 5e-4, 5e-4, 5e-4)):
        move = step * torch.eye(5, dtype=torch.float64)[column]
        difference = (exact.flux(labels + move) - exact.flux(labels - move)) / (2 * step)
        largest = jacobian[..., column].abs().amax(dim=1, keepdim=True)
        np.testing.assert_allclose(difference / largest, jacobian[..., column] / largest, atol=1e-5)
    # backward mode agrees with forward mode
    labels.requires_grad_(True)
    (gradient,) = torch.autograd.grad(exact.flux(labels).sum(), labels)
    np.testing.assert_allclose(gradient, jacobian.sum(dim=1), rtol=1e-9)
    single = Emulator.load().jacobian(torch.tensor(STARS))
    assert float((single - jacobian).abs().amax() / jacobian.abs().amax()) < 1e-4


def test_labels_out_of_range_are_told(emulator: Emulator) -> None:
    emulator.check(STARS)
    emulator.check(np.stack([emulator.low, emulator.high]))
    emulator.check(np.stack([emulator.low, emulator.high]).astype(np.float32))
    sentence = r"^row 1: teff = 7001 lies outside the emulator's range, 4000 to 7000 K; leave such stars out\.$"
    with pytest.raises(InputError, match=sentence):
        emulator.check([SUN, [7001.0, *SUN[1:]]])
    with pytest.raises(InputError, match=r"row 0: feh = -4 lies outside .* -3\.5 to 0\.5 dex"):
        emulator.check([[*SUN[:2], -4.0, *SUN[3:]]])
    with pytest.raises(InputError, match="row 0: vmic = nan"):
        emulator.check([[*SUN[:4], np.nan]])
    with pytest.raises(InputError, match=r"shape \(5,\), not \(n, 5\): teff, logg"):
        emulator.check(SUN)


def test_inside_knows_where_the_grid_has_stars(emulator: Emulator) -> None:
    assert emulator.inside(STARS).all()
    outside = np.array(
        [
            [7001.0, 4.2, 0.0, 0.0, 1.5],
            [6800.0, 1.0, -1.0, 0.2, 2.0],  # in the box, but no such star in the grid
            [4100.0, 3.6, 0.0, 0.0, 1.0],
            [*SUN[:4], 1.6],  # microturbulence far from that of such stars
            [*SUN[:4], np.nan],
        ]
    )
    assert not emulator.inside(outside).any()
    np.testing.assert_array_equal(emulator.inside(np.concatenate([outside, STARS])), [False] * 5 + [True] * 4)
    assert emulator.inside(np.empty((0, 5))).shape == (0,)


@pytest.mark.skipif(not GRID.is_dir(), reason="the grid of synthetic spectra is not beside the repository")
def test_held_out_spectra_are_reproduced(emulator: Emulator) -> None:
    grid = Grid.read(GRID)
    rows = grid.split(emulator.details["recipe"]["seed"])
    assert len(np.unique(np.concatenate(list(rows.values())))) == len(grid.labels)
    assert emulator.inside(grid.labels).mean() > 0.985
    measured = errors(emulator, grid, rows["test"])
    for regime, told in emulator.details["errors"]["test"].items():
        assert measured[regime] == pytest.approx(told, rel=1e-2)
        assert measured[regime]["flux_median"] <= 0.0005
        assert measured[regime]["flux_95"] <= 0.003
        assert measured[regime]["continuum_median"] <= 0.002


def test_the_card_says_what_the_weights_say(emulator: Emulator) -> None:
    card = WEIGHTS.with_suffix(".md").read_text()
    for regime, found in emulator.details["errors"]["test"].items():
        row = re.search(rf"^\| {re.escape(regime)} +\|(.+)\|$", card, flags=re.MULTILINE)
        assert row is not None, regime
        numbers = [float(cell) for cell in row.group(1).replace("%", "").split("|")]
        continuum = [100 * found["continuum_median"], 100 * found["continuum_95"]]
        told = [found["spectra"], found["flux_median"], found["flux_95"], *continuum]
        assert numbers == pytest.approx(told, rel=0.06)
    assert emulator.details["checksum"] in card
    for name, low, high in zip(LABELS, emulator.low, emulator.high, strict=True):
        assert re.search(rf"^\| {name} +\| {low:g} +\| {high:g} +\|", card, flags=re.MULTILINE), name


@pytest.fixture(scope="module")
def made_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid in the files' true form: 80 stars with one line whose depth and width follow the labels."""
    folder = tmp_path_factory.mktemp("grid")
    random = np.random.default_rng(5)
    wavelength, nodes = np.geomspace(4990, 5010, 60), np.linspace(4985, 5015, 8)
    np.savez(folder / "axes.npz", wavelength_vacuum=wavelength, continuum_wavelength_vacuum=nodes)
    labels = random.uniform([4000, 3.0, -2, -0.2, 0.4], [7000, 4.9, 0.5, 0.6, 3.2], (80, 5)).astype(np.float32)
    strength = 0.5 + 0.1 * labels[:, 2:3] + 0.1 * labels[:, 3:4]
    depth = strength * np.exp(-0.5 * ((wavelength - 5000) / (1 + labels[:, 4:])) ** 2)
    level = 7 + 4 * np.log10(labels[:, :1] / 5777) - 2 * np.log10(nodes / 5000)
    np.savez(
        folder / "spectra_00000.npz",
        labels=labels,
        depth_delta=np.diff(np.round(2048 * depth).astype(np.int32), axis=1, prepend=0).astype(np.int16),
        log10_continuum_delta=np.diff(np.round(1e4 * level).astype(np.int32), axis=1, prepend=0),
    )
    return folder


def options(folder: Path, out: Path, seed: int = 1, epochs: int = 60) -> TrainOptions:
    sizes = {"components": 6, "width": 32, "batch_size": 16, "learning_rate": 1e-2}
    return TrainOptions(grid_folder=folder, out=out, epochs=epochs, seed=seed, **sizes)  # type: ignore[arg-type]


def test_training_learns_and_gives_the_same_again(made_grid: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        assert train(options(made_grid, path, seed)) == 0
    tensors, details = zip(*(read_weights(path) for path in paths), strict=True)
    assert details[0]["checksum"] == details[1]["checksum"] != details[2]["checksum"]
    assert details[0]["spectra"] == {"test": 8, "validation": 4, "training": 68}
    assert details[0]["errors"]["test"]["all"]["flux_median"] < 0.01  # lines are 0.2-0.6 deep
    assert set(details[0]["sources"]) == {"axes.npz", "spectra_00000.npz"}
    assert {"version", "commit", "command", "created", "recipe"} <= set(details[0])
    assert tensors[0]["basis"].dtype == torch.float16
    made = Emulator.load(paths[0])
    assert len(made.wavelength) == 60
    held_out = Grid.read(made_grid).split(1)["test"]
    trained_on = torch.from_numpy(Grid.read(made_grid).labels[held_out, :2])
    assert not any((made.stars == star).all(axis=1).any() for star in trained_on.double().numpy())


def test_unusable_weights_are_told(made_grid: Path, tmp_path: Path) -> None:
    path = tmp_path / "emulator.safetensors"
    with pytest.raises(ModelError, match="does not exist"):
        Emulator.load(path)
    path.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        Emulator.load(path)
    train(options(made_grid, path, epochs=1))
    tensors, details = read_weights(path)
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 64
    path.write_bytes(whole)
    with pytest.raises(ModelError, match="damaged"):
        Emulator.load(path)
    del tensors["mean"]
    write_weights(path, tensors, details)
    with pytest.raises(ModelError, match="not a whole emulator"):
        Emulator.load(path)
    write_weights(path, tensors, {**details, "kind": "classifier"})
    with pytest.raises(ModelError, match="does not hold an emulator"):
        Emulator.load(path)


def test_wrong_calls_of_the_training_are_told(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=r"has no axes\.npz"):
        train(TrainOptions(grid_folder=tmp_path, out=out))
    (tmp_path / "axes.npz").write_bytes(b"not an archive")
    (tmp_path / "spectra_00000.npz").touch()
    with pytest.raises(InputError, match=r"axes\.npz' is no file of the synthetic grid"):
        train(TrainOptions(grid_folder=tmp_path, out=out))
    nowhere = {"out": tmp_path / "none" / "a.safetensors"}
    for wrong in (nowhere, {"out": tmp_path / "a.pt"}, {"out": out, "epochs": 0}, {"out": out, "seed": -1}):
        with pytest.raises(OptionError):
            TrainOptions(grid_folder=tmp_path, **wrong)


def test_a_part_of_the_emulator_is_the_emulator_there(emulator: Emulator) -> None:
    part = emulator.between(4000.0, 5000.0)
    inside = (emulator.wavelength >= 4000) & (emulator.wavelength <= 5000)
    np.testing.assert_array_equal(part.wavelength, emulator.wavelength[inside])
    labels = torch.tensor(STARS, dtype=torch.float32)
    torch.testing.assert_close(
        part.flux(labels), emulator.flux(labels)[:, torch.from_numpy(inside)], rtol=1e-5, atol=0
    )
    whole = emulator.jacobian(labels)[:, torch.from_numpy(inside)]
    torch.testing.assert_close(part.jacobian(labels), whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))
