"""Classical methods: the payne reaches what noise allows, ridge and neighbours learn, and none reads test labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import benchmarks.baselines
from benchmarks.baselines import BASELINES, baseline, get_baseline, load_baselines
from benchmarks.baselines.correction import Correction
from benchmarks.baselines.descent import descend
from benchmarks.baselines.fitter import Fitter
from benchmarks.baselines.held import Held, excess
from benchmarks.baselines.renderer import EXTRA, PARAMETERS, VELOCITY, Renderer
from benchmarks.baselines.spread import LineSpread
from benchmarks.baselines.starts import Starts
from benchmarks.baselines.survey import model_errors, typical_width
from benchmarks.task import Predicted, Task
from heads.inputs import pixels
from heads.sample import Sample
from stores.errors import InputError, OptionError
from stores.grid import Grid
from stores.prepare import Preparation, prepare
from stores.simulate.emulator import LABELS
from stores.simulate.instrument import FWHM, Instrument
from stores.simulate.layouts import get_layout
from stores.simulate.observe import Fates, Observation, observe
from stores.simulate.population import Stars, draw
from stores.simulate.truth import fisher_matrices
from stores.simulate.twin import Twin, shared_emulator
from stores.spectra import SpectraStore

Float = np.ndarray[Any, np.dtype[np.float64]]

GRID, PREPARATION = Grid.parse("lrs"), Preparation()
TARGETS = LABELS[:4]
SEED, SNR = 5, 50.0
N_SOURCE, N_TARGET, N_TUNING = 200, 76, 34


def faultless(survey: str, snr: float = SNR) -> Instrument:
    """An instrument at one S/N, none of whose objects are mislabelled or lost."""
    instrument = Instrument.load(survey)
    noise = replace(instrument.noise, snr_range=(snr - 0.5, snr + 0.5))
    faults = replace(instrument.faults, mislabelled=0.0, unusable=0.0, missing_arm=0.0)
    return replace(instrument, noise=noise, faults=faults)


@dataclass(frozen=True)
class Seen:
    """Stars as an instrument sees them, in a store, row by row."""

    store: SpectraStore
    stars: Stars
    instrument: Instrument
    observation: Observation

    def sample(self, rows: slice | Float, y: Float | None = None) -> Sample:
        """Rows with their true labels, or others; the embedding is a few broad averages of the flux."""
        picked = np.arange(len(self.stars))[rows]
        block = pixels(self.store, picked)
        patches = block[0][:, :1456].reshape(len(picked), 56, 26).mean(axis=2)
        return Sample(
            id=self.store.read("id", picked),
            star=picked,
            blocks={"pixels": block, "embedding": (patches, np.ones(patches.shape, dtype=bool))},
            y=self.stars.labels[picked, : len(TARGETS)] if y is None else y,
            targets=TARGETS,
            ra=self.stars.ra[picked],
            dec=self.stars.dec[picked],
            worth=np.ones(len(picked)),
            calibrates=np.ones(len(picked), dtype=bool),
        )


def make_seen(path: Path, survey: str, stars: Stars) -> Seen:
    """A twin's store of these stars."""
    instrument = faultless(survey)
    fates = Fates.draw(stars, instrument, SEED)
    job = {"instrument": json.loads(json.dumps(instrument.settings)), "n": len(stars)}
    Twin(instrument, SEED, stars, fates, job).write_store(path, GRID, PREPARATION)
    observation = observe(stars, instrument, shared_emulator(), SEED, fates=fates)
    return Seen(SpectraStore.open(path), stars, instrument, observation)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    stars = draw(N_TARGET, SEED, shared_emulator())
    return make_seen(tmp_path_factory.mktemp("target") / "desi.zarr", "desi", stars)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    stars = draw(N_SOURCE, SEED + 1, shared_emulator())
    return make_seen(tmp_path_factory.mktemp("source") / "lamost.zarr", "lamost", stars)


@pytest.fixture(scope="module", autouse=True)
def few_looked_at() -> Iterator[None]:
    """Model errors from as few spectra as tell them pixel by pixel: quicker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.baselines.survey.LOOKED_AT", 30)
        yield


def make_task(source: Seen, target: Seen, tuning: int, shift: Float | float = 0.0, **changes: Any) -> Task:
    """Source and target, whose labels are all shifted; the first rows of the target are those to learn from."""
    test = target.sample(slice(N_TUNING, None))
    blind = replace(test, y=np.full_like(test.y, np.nan))
    own = target.sample(slice(0, tuning))
    task = Task(source.sample(slice(None)), replace(own, y=own.y + shift), blind, target.store, 0)
    return replace(task, **changes)


def truth(target: Seen) -> Float:
    return target.stars.labels[N_TUNING:, : len(TARGETS)]


def width(error: Float) -> Float:
    """Half the central 68 per cent of columns."""
    low, high = np.quantile(error, [0.1587, 0.8413], axis=0)
    return (high - low) / 2


def check(found: Predicted, n: int) -> None:
    assert found.value.shape == found.sigma.shape == found.low90.shape == found.high90.shape == (n, len(TARGETS))
    assert found.members.shape == (1, n, len(TARGETS))
    np.testing.assert_array_equal(found.members[0], found.value)
    known = np.isfinite(found.value)
    assert np.all(found.sigma[known] > 0)
    assert np.all(found.low90[known] < found.high90[known])


# -- the payne -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spread() -> LineSpread:
    return LineSpread.of(faultless("desi"), GRID, PREPARATION)


@pytest.fixture(scope="module")
def renderer(spread: LineSpread) -> Renderer:
    return Renderer(shared_emulator(), GRID, PREPARATION, spread)


@pytest.fixture(scope="module")
def starts(renderer: Renderer, spread: LineSpread) -> Starts:
    return Starts(renderer, spread.extra)


@pytest.fixture(scope="module")
def noiseless(target: Seen) -> tuple[Float, Float]:
    """Prepared flux and ivar of a few stars without noise."""
    few = target.stars.take(np.arange(12))
    fates = Fates.draw(few, target.instrument, SEED)
    seen = observe(few, target.instrument, shared_emulator(), SEED, fates=fates, noise=False)
    batch = prepare([get_layout(target.instrument.layout).batch(seen)], GRID, PREPARATION)
    return batch.flux, batch.ivar


def parameters_of(target: Seen, rows: slice, spread: LineSpread) -> Float:
    seen = target.observation
    found = np.zeros((len(seen.rv[rows]), PARAMETERS))
    found[:, :VELOCITY] = target.stars.labels[rows]
    found[:, VELOCITY], found[:, EXTRA] = target.stars.rv[rows] - seen.rv[rows], spread.extra
    return found


def test_the_model_is_what_preparation_makes_of_a_star(
    target: Seen, renderer: Renderer, spread: LineSpread, noiseless: tuple[Float, Float]
) -> None:
    flux, ivar = noiseless
    at = parameters_of(target, slice(0, 12), spread)
    model = renderer.flux(at, renderer.weights(ivar, at))
    off = np.where(ivar > 0, model - flux, 0.0)
    # what is left is where DESI's pixels fall among those of the grid; noise at S/N 50 is 0.02
    assert np.sqrt(np.mean(off**2)) < 0.004
    assert abs(off.mean()) < 2e-4


def test_slopes_are_those_of_the_prepared_model(renderer: Renderer, spread: LineSpread) -> None:
    at = np.array([[5500.0, 4.2, -0.4, 0.1, 1.1, 12.0, spread.extra], [4600.0, 2.2, -1.7, 0.3, 1.6, -30.0, 100.0]])
    ivar = np.full((2, GRID.n_pix), 100.0)
    ivar[:, 400:420] = 0
    weight = renderer.weights(ivar, at)
    flux, slopes = renderer.slopes(at, weight)
    np.testing.assert_allclose(flux, renderer.flux(at, weight), atol=1e-6)
    for i, step in enumerate((20.0, 0.02, 0.02, 0.02, 0.02, 2.0, 100.0)):
        above, below = at.copy(), at.copy()
        above[:, i] += step
        below[:, i] -= step
        slope = (renderer.flux(above, weight) - renderer.flux(below, weight)) / (2 * step)
        np.testing.assert_allclose(slopes[:, i], slope, atol=2e-3 * np.abs(slope).max())


def test_labels_come_back_without_noise(
    target: Seen, renderer: Renderer, spread: LineSpread, starts: Starts, noiseless: tuple[Float, Float]
) -> None:
    found = Fitter(renderer, spread, np.zeros(GRID.n_pix), starts)(*noiseless)
    error = found.parameters[:, :4] - target.stars.labels[:12, :4]
    assert np.all(np.abs(error) < (15.0, 0.08, 0.04, 0.02))
    assert np.all(np.median(np.abs(error), axis=0) < (6.0, 0.02, 0.01, 0.005))
    assert np.all(found.reduced < 0.1)  # the ivar is that of S/N 50


def test_the_payne_is_as_good_as_noise_allows(source: Seen, target: Seen) -> None:
    found = get_baseline("payne")(make_task(source, target, 0))
    check(found, N_TARGET - N_TUNING)
    rows = np.arange(N_TUNING, N_TARGET)
    matrices = fisher_matrices(target.observation, shared_emulator(), (GRID.wavelength[0], GRID.wavelength[-1]))
    bound = np.sqrt(np.einsum("npp->np", np.linalg.inv(matrices)))[rows, :4]
    ratio = np.median(found.sigma / bound, axis=0)
    assert np.all((ratio > 0.8) & (ratio < 1.5))
    error = np.quantile(np.abs(found.value - truth(target)) / bound, 0.683, axis=0)
    assert np.all((error > 0.6) & (error < 1.6))
    inside = np.mean((truth(target) > found.low90) & (truth(target) < found.high90))
    assert 0.8 < inside < 0.97


def test_tuning_stars_shift_the_payne(source: Seen, target: Seen) -> None:
    shift = np.array([150.0, 0.3, -0.2, 0.1])
    without, found = (get_baseline("payne")(make_task(source, target, n, shift)) for n in (N_TUNING - 25, N_TUNING))
    np.testing.assert_array_equal(
        without.value, get_baseline("payne")(make_task(source, target, 0)).value
    )  # fewer than 20 stars correct nothing
    np.testing.assert_allclose(np.median(found.value - without.value, axis=0), shift, atol=0.1, rtol=0.1)
    wanted = truth(target) + shift
    inside = np.mean((wanted > found.low90) & (wanted < found.high90), axis=0)
    assert np.all(inside > 0.75)


def test_a_star_without_pixels_is_nan_and_stars_do_not_see_each_other(
    target: Seen, renderer: Renderer, spread: LineSpread, starts: Starts
) -> None:
    flux, ivar = (target.store.read(name, slice(0, 3)).astype(float) for name in ("flux", "ivar"))
    ivar[1] = 0
    fitter = Fitter(renderer, spread, np.zeros(GRID.n_pix), starts)
    found = fitter(flux, ivar)
    assert np.isnan(found.parameters[1]).all()
    assert np.isnan(found.sigma[1]).all()
    alone = fitter(flux[2:], ivar[2:])
    np.testing.assert_allclose(alone.parameters[0], found.parameters[2], rtol=1e-3, atol=1e-3)
    assert fitter(flux[:0], ivar[:0]).parameters.shape == (0, PARAMETERS)


def test_a_defect_of_a_spectrum_is_left_out(
    target: Seen, renderer: Renderer, spread: LineSpread, starts: Starts
) -> None:
    flux, ivar = (target.store.read(name, slice(0, 2)).astype(float) for name in ("flux", "ivar"))
    fitter = Fitter(renderer, spread, np.zeros(GRID.n_pix), starts)
    before = fitter(flux, ivar)
    flux[:, 700:703] += 1.0
    after = fitter(flux, ivar)
    assert np.isnan(after.residual[:, 700:703]).all()
    assert np.all(np.abs(after.parameters - before.parameters)[:, :4] < before.sigma[:, :4])


def test_an_unknown_line_spread_is_found(target: Seen, spread: LineSpread) -> None:
    unknown = LineSpread.unknown(GRID)
    wide = Fitter(Renderer(shared_emulator(), GRID, PREPARATION, unknown), unknown, np.full(GRID.n_pix, 0.01))
    flux, ivar = (target.store.read(name, slice(0, 16)).astype(float) for name in ("flux", "ivar"))
    found = typical_width(wide(flux, ivar), wide, GRID)
    middle = float(np.median(GRID.wavelength))
    least = 299792.458 / middle * spread.least[GRID.n_pix // 2]
    assert found == pytest.approx(np.hypot(least, np.sqrt(spread.extra)), rel=0.06)
    about = LineSpread.about(found, GRID)
    typical = np.hypot(299792.458 / middle * np.interp(middle, GRID.wavelength, about.least), np.sqrt(about.extra))
    assert typical == pytest.approx(found, rel=0.01)
    assert about.least[0] == pytest.approx(about.least[-1])


def test_the_line_spread_of_an_instrument_is_its_own() -> None:
    instrument = replace(faultless("desi"), fibre_scatter=0.0)
    found = LineSpread.of(instrument, GRID, PREPARATION)
    np.testing.assert_allclose(found.least, 1.8 / FWHM, rtol=1e-9)
    degraded = LineSpread.of(instrument, GRID, Preparation(resolving_power=1000))
    np.testing.assert_allclose(degraded.least, GRID.wavelength / 1000 / FWHM, rtol=1e-6)


@pytest.mark.parametrize("options", [{"continuum": "none"}, {"continuum": "specclip"}, {"frame": "observed"}])
def test_spectra_that_cannot_be_fitted_are_refused(options: dict[str, Any], spread: LineSpread) -> None:
    with pytest.raises(InputError, match="--frame rest --continuum smooth"):
        Renderer(shared_emulator(), GRID, Preparation(**options), spread)


def test_spectra_too_sharp_are_refused(spread: LineSpread) -> None:
    sharp = replace(spread, least=spread.least / 4)
    with pytest.raises(InputError, match="too sharp"):
        Renderer(shared_emulator(), GRID, PREPARATION, sharp)


def test_an_unknown_star_and_an_unknown_label(source: Seen, target: Seen) -> None:
    task = make_task(source, target, 0)
    stranger = replace(task.test, id=task.test.id + 10**15)
    with pytest.raises(InputError, match="has no row with id"):
        get_baseline("payne")(replace(task, test=stranger))
    other = replace(task.test, targets=("teff", "logg", "feh", "li"))
    found = get_baseline("payne")(replace(task, test=other))
    assert np.isnan(found.value[:, 3]).all()
    assert np.isfinite(found.value[:, :3]).all()


def test_errors_of_the_model_are_what_exceeds_the_noise() -> None:
    random = np.random.default_rng(0)
    noise = random.uniform(0.005, 0.02, (300, 60))
    wrong = np.where(np.arange(60) < 30, 0.03, 0.0)
    residual = noise * random.normal(size=noise.shape) + wrong * random.normal(size=noise.shape)
    residual[0] = np.nan
    found = model_errors(residual, noise**-2)
    np.testing.assert_allclose(found[1:29], 0.03, rtol=0.25)
    assert found[32:].max() < 0.006
    few = model_errors(residual[:20, :30], noise[:20, :30] ** -2)
    np.testing.assert_allclose(few, 0.03, rtol=0.2)
    assert np.ptp(few) == 0


# -- ridge and neighbours --------------------------------------------------------------------------------

LEARNERS = ("ridge_pca64", "knn")


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_beat_the_scatter_of_the_labels(name: str, source: Seen, target: Seen) -> None:
    found = get_baseline(name)(make_task(source, target, 0))
    check(found, N_TARGET - N_TUNING)
    better = width(found.value - truth(target)) / width(truth(target))
    assert np.all(better[[0, 2]] < 0.5)
    assert np.all(better < 0.95)


@pytest.mark.parametrize("name", LEARNERS)
def test_tuning_stars_tell_an_offset(name: str, source: Seen, target: Seen) -> None:
    shift = np.array([300.0, 0.5, -0.4, 0.15])
    wanted = truth(target) + shift
    without, found = (get_baseline(name)(make_task(source, target, n, shift)) for n in (0, N_TUNING))
    off, less = (np.abs(np.median(one.value - wanted, axis=0)) for one in (without, found))
    assert np.all(less < 0.4 * off)
    inside = np.mean((wanted > found.low90) & (wanted < found.high90), axis=0)
    assert np.all(inside > 0.75)
    assert np.all(inside > np.mean((wanted > without.low90) & (wanted < without.high90), axis=0) - 0.05)


@pytest.mark.parametrize("name", LEARNERS)
def test_labels_may_be_lacking(name: str, source: Seen, target: Seen) -> None:
    task = make_task(source, target, N_TUNING)
    y = task.source.y.copy()
    y[::3, 0] = np.nan
    y[:, 1] = np.nan  # the target's stars alone know it
    tuning = task.tuning.y.copy()
    y[:, 3], tuning[:, 3] = np.nan, np.nan  # nobody does
    tuning[::2, 2] = np.nan
    task = replace(task, source=replace(task.source, y=y), tuning=replace(task.tuning, y=tuning))
    found = get_baseline(name)(task)
    assert np.isnan(found.value[:, 3]).all()
    better = width(found.value - truth(target))[:3] / width(truth(target))[:3]
    assert np.all(better < (0.5, 0.95, 0.6))


@pytest.mark.parametrize("name", LEARNERS)
def test_worth_counts(name: str, source: Seen, target: Seen) -> None:
    """Stars of next to no worth, with labels of another scale, change next to nothing."""
    clean = make_task(source, target, 0)
    odd = replace(clean.source, y=clean.source.y + 5 * width(clean.source.y), worth=np.full(N_SOURCE, 1e-9))
    odd = replace(odd, star=odd.star + 10**6)
    both = {
        field: np.concatenate([getattr(clean.source, field), getattr(odd, field)])
        for field in ("id", "star", "y", "ra", "dec", "worth", "calibrates")
    }
    blocks = {
        block: tuple(np.concatenate([one.blocks[block][i] for one in (clean.source, odd)]) for i in (0, 1))
        for block in odd.blocks
    }
    task = replace(clean, source=Sample(blocks=blocks, targets=TARGETS, **both))  # type: ignore[arg-type]
    moved = np.median(get_baseline(name)(task).value - get_baseline(name)(clean).value, axis=0)
    assert np.all(np.abs(moved) < 0.3 * width(clean.source.y))


@pytest.mark.parametrize("name", LEARNERS)
def test_only_stars_that_calibrate_set_uncertainties(name: str, source: Seen, target: Seen) -> None:
    task = make_task(source, target, 0)
    wrong = np.arange(N_SOURCE) % 2 == 0
    y = task.source.y + wrong[:, None] * np.random.default_rng(0).normal(size=(N_SOURCE, 1)) * (900.0, 1.0, 1.0, 0.3)
    y[~wrong, 3] = np.nan  # of this label nobody else knows anything
    told, untold = (
        get_baseline(name)(replace(task, source=replace(task.source, y=y, calibrates=calibrates)))
        for calibrates in (~wrong, np.ones(N_SOURCE, dtype=bool))
    )
    smaller = np.median(told.sigma, axis=0) / np.median(untold.sigma, axis=0)
    assert np.all(smaller[:3] < 0.9)
    assert smaller[3] == pytest.approx(1.0)


@pytest.mark.parametrize("name", [*LEARNERS, "payne"])
def test_no_method_reads_the_labels_of_the_test(name: str, source: Seen, target: Seen) -> None:
    task = make_task(source, target, N_TUNING)
    told = replace(task, test=replace(task.test, y=truth(target) * 2))
    one, other = (get_baseline(name)(each) for each in (task, told))
    for field in ("value", "sigma", "low90", "high90"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_spectrum_without_features_is_nan_and_a_source_is_needed(name: str, source: Seen, target: Seen) -> None:
    task = make_task(source, target, 0)
    blocks = {block: (values, valid.copy()) for block, (values, valid) in task.test.blocks.items()}
    for _, valid in blocks.values():
        valid[0] = False
    found = get_baseline(name)(replace(task, test=replace(task.test, blocks=blocks)))
    assert np.isnan(found.value[0]).all()
    assert np.isnan(found.sigma[0]).all()
    assert np.isfinite(found.value[1:]).all()
    with pytest.raises(OptionError, match="source survey"):
        get_baseline(name)(replace(task, source=task.source.take(np.arange(0))))


def test_a_star_is_not_its_own_neighbour(source: Seen, target: Seen) -> None:
    """Every spectrum twice under one star: leave-one-out errors stay those of other stars."""
    task = make_task(source, target, 0)
    once = get_baseline("knn")(task)
    twice = get_baseline("knn")(replace(task, source=task.source.take(np.tile(np.arange(N_SOURCE), 2))))
    assert np.all(np.median(once.sigma, axis=0) > 0.1 * width(truth(target)))
    assert np.all(np.median(twice.sigma, axis=0) > 0.6 * np.median(once.sigma, axis=0))


# -- what they are made of -------------------------------------------------------------------------------


def test_descent_stays_within_bounds_and_finds_the_least() -> None:
    from scipy.optimize import lsq_linear

    random = np.random.default_rng(1)
    a, b = random.normal(size=(8, 30, 4)), random.normal(size=(8, 30)) * 3

    def model(rows: Any, x: Float) -> tuple[Float, Float]:
        return np.einsum("mnp,mp->mn", a[rows], x) - b[rows], a[rows].transpose(0, 2, 1)

    low, high = np.full(4, -0.3), np.full(4, 0.3)
    found = descend(model, np.zeros((8, 4)), low, high, enough=1e-12)
    for i in range(8):
        best = lsq_linear(a[i], b[i], (-0.3, 0.3), tol=1e-12)
        np.testing.assert_allclose(found.parameters[i], best.x, atol=1e-4)
        assert found.cost[i] == pytest.approx(2 * best.cost, rel=1e-6)


def test_descent_finds_a_minimum_that_is_not_linear() -> None:
    t = np.linspace(0, 3, 40)
    true = np.array([[1.0, 0.7], [0.4, 2.0]])
    y = true[:, :1] * np.exp(-true[:, 1:] * t)

    def model(rows: Any, x: Float) -> tuple[Float, Float]:
        wave = np.exp(-x[:, 1:] * t)
        return x[:, :1] * wave - y[rows], np.stack([wave, -x[:, :1] * t * wave], axis=1)

    found = descend(model, np.ones((2, 2)) * 1.5, np.zeros(2), np.full(2, 5.0), enough=1e-14)
    np.testing.assert_allclose(found.parameters, true, atol=1e-5)


@pytest.mark.parametrize("columns", [None, (), (2,), (0, 1, 2)])
def test_a_correction_is_as_simple_as_it_can_be(columns: tuple[int, ...] | None) -> None:
    random = np.random.default_rng(2)
    terms = np.column_stack([random.normal(5500, 500, 150), random.normal(4, 0.5, 150), random.normal(-1, 0.7, 150)])
    value = random.normal(size=150)
    wrong = np.zeros(150) if columns is None else np.full(150, 0.5)
    for column in columns or ():
        wrong = wrong + 0.4 * (terms[:, column] - terms[:, column].mean()) / terms[:, column].std()
    y = value + wrong + 0.1 * random.normal(size=150)
    y[::15] += 4.0  # outliers
    correction, held = Correction.chosen(value, terms, y, np.arange(150) % 10)
    assert correction.columns == columns
    np.testing.assert_allclose(correction(value, terms), value + wrong, atol=0.15)
    good = np.arange(150) % 15 != 0
    assert width((held - y)[good]) == pytest.approx(0.1, rel=0.3)


def test_held_out_stars_are_the_targets_where_there_are_enough() -> None:
    random = np.random.default_rng(3)
    ours = Held(random.normal(size=(300, 2)), np.zeros((300, 2)), np.ones((300, 2)))
    y = 5 * random.normal(size=(60, 2))
    y[10:, 1] = np.nan
    theirs = Held(y, np.zeros((60, 2)), np.ones((60, 2)))
    found = Held.chosen(ours, theirs).judge(("teff", "logg"), np.zeros((1, 2)), np.ones((1, 2)))
    np.testing.assert_allclose(found.sigma[0], (5.0, 1.0), rtol=0.3)
    np.testing.assert_allclose(found.high90[0] - found.low90[0], (2 * 1.645 * 5, 2 * 1.645), rtol=0.35)


def test_without_held_out_stars_a_sigma_is_that_of_a_normal_number() -> None:
    nobody = Held(*(np.empty((0, 1)) for _ in range(3)))
    found = nobody.judge(("teff",), np.array([[5000.0]]), np.array([[10.0]]))
    assert found.sigma[0, 0] == 10
    assert found.high90[0, 0] == pytest.approx(5016.45, abs=0.01)


def test_excess_is_what_noise_does_not_explain() -> None:
    random = np.random.default_rng(4)
    noise = np.full((2000, 3), 0.1)
    error = np.hypot(0.1, [0.0, 0.2, 1.0]) * random.normal(size=(2000, 3))
    error[:100, 1] = np.nan
    error[::50] *= 30  # a median is not moved
    np.testing.assert_allclose(excess(error, noise), (0.0, 0.2, 1.0), atol=0.05)
    assert np.all(excess(np.full((4, 2), np.nan), np.ones((4, 2))) == 0)


def test_the_registry_names_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(load_baselines()) >= {"ridge_pca64", "knn", "payne"}
    assert all(method.__doc__ for method in BASELINES.values())
    with pytest.raises(OptionError, match="ridge_pca64, knn, payne"):
        get_baseline("oracle")
    module = ModuleType("another_package")
    monkeypatch.setitem(__import__("sys").modules, "another_package", module)
    points = [EntryPoint("mean", "another_package", "spectrabridge.baselines")]
    monkeypatch.setattr(benchmarks.baselines, "entry_points", lambda **want: EntryPoints(points).select(**want))
    monkeypatch.setattr(benchmarks.baselines, "BASELINES", dict(BASELINES))

    @baseline("mean")
    def mean(task: Task) -> Predicted:
        raise NotImplementedError

    assert get_baseline("mean") is mean
    assert "mean" not in BASELINES


def test_the_example_of_the_docs_works(source: Seen, target: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "baselines.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[-1]
    monkeypatch.setattr(benchmarks.baselines, "BASELINES", dict(BASELINES))
    exec(compile(code, "baselines.md", "exec"), {})
    found = get_baseline("mean")(make_task(source, target, 0))
    check(found, N_TARGET - N_TUNING)
    np.testing.assert_allclose(found.value[0], source.stars.labels[:, :4].mean(axis=0), rtol=1e-5)


def test_every_baseline_is_documented() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "baselines.md").read_text()
    for name in load_baselines():
        assert f"| `{name}` |" in page
