"""Preparation: the same numbers for a star whatever stands beside it, and never one that is not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stores import Arm, Flag, Grid, Preparation, SpectrumBatch, prepare
from stores.errors import InputError, OptionError
from stores.grid import SPEED_OF_LIGHT
from stores.prepare.resample import resample
from stores.prepare.resolution import line_width
from stores.spectra import spectra_values
from stores.spectrum import as_id

Float = NDArray[Any]

GRID = Grid(3.65, 300)  # 4467-4785 A
WAVELENGTH: Float = 4300.0 + 0.8 * np.arange(900)
ARMS: dict[str, Float] = {
    "B": 4300.0 + 0.8 * np.arange(400),
    "R": 4560.0 + 0.8 * np.arange(300),
    "Z": 4790.0 + 0.8 * np.arange(100),
}
PREPARATIONS = {
    "default": Preparation(),
    "observed": Preparation(frame="observed"),
    "none": Preparation(continuum="none"),
    "specclip": Preparation(continuum="specclip"),
    "linear": Preparation(continuum="specclip", resampling="linear"),
    "degraded": Preparation(resolving_power=1800),
    "much degraded": Preparation(resolving_power=300, continuum="none"),
}


def batch_of(flux: Any, ivar: Any = None, rv: Any = 0.0, wavelength: Float = WAVELENGTH) -> SpectrumBatch:
    flux = np.atleast_2d(np.asarray(flux, dtype=float))
    n = len(flux)
    ivar = np.ones_like(flux) if ivar is None else np.broadcast_to(ivar, flux.shape)
    sigma = line_width(wavelength, 4000)
    return SpectrumBatch([Arm(wavelength, flux, ivar, sigma)], np.arange(n), np.zeros(n), np.zeros(n), rv)


def three_arms(n: int = 1, seed: int = 0, rv: Any = 0.0) -> SpectrumBatch:
    """Spectra in three arms that overlap, each row with noise, masks, widths and a slope of its own."""
    random = np.random.default_rng(seed)
    arms = []
    slope = random.uniform(-1, 1, (n, 1))
    for wavelength in ARMS.values():
        shape = (n, len(wavelength))
        ivar = random.uniform(0.5, 2, shape) * random.uniform(0.1, 3, (n, 1))
        flux = 20 * (1 + slope * (wavelength / 4600 - 1)) + random.normal(size=shape) / np.sqrt(ivar)
        ivar[random.random(shape) < 0.03] = 0
        sigma = line_width(wavelength, 1) / random.uniform(2500, 5000, (n, 1))
        arms.append(Arm(wavelength, flux, ivar, sigma))
    return SpectrumBatch(arms, 100 + np.arange(n), np.arange(float(n)), np.zeros(n), rv)


# -- frames and arms -----------------------------------------------------------------------------------------


def line_centre(batch: SpectrumBatch, near: float) -> float:
    """Centre of the absorption line near a wavelength, from a parabola through log depth."""
    lowest = int(np.argmin(batch.flux[0]))
    depth = np.log(1.02 - batch.flux[0, lowest - 2 : lowest + 3])
    x = np.arange(-2.0, 3.0)
    a, b, _ = np.polyfit(x, depth, 2)
    centre = 10 ** (GRID.start + GRID.step * (lowest - b / (2 * a)))
    assert abs(centre - near) < 20
    return float(centre)


@pytest.mark.parametrize("rv", [-300.0, 0.0, 300.0])
def test_a_line_comes_to_its_rest_wavelength(rv: float) -> None:
    rest = 4600.0
    seen = rest * (1 + rv / SPEED_OF_LIGHT)
    flux = 10 * (1 - 0.5 * np.exp(-0.5 * ((WAVELENGTH - seen) / 2.5) ** 2))
    # a second row with another velocity, so that rows are shifted by their own
    batch = batch_of([flux, flux], rv=np.array([rv, 123.0]))
    tenth = 0.1 * GRID.kms / SPEED_OF_LIGHT * rest
    assert line_centre(prepare([batch], GRID, Preparation()), rest) == pytest.approx(rest, abs=tenth)
    observed = prepare([batch], GRID, Preparation(frame="observed"))
    assert line_centre(observed, seen) == pytest.approx(seen, abs=tenth)
    np.testing.assert_array_equal(observed.rv, [rv, 123.0])


def test_arms_are_joined_by_inverse_variance() -> None:
    flux = {"B": 10.0, "R": 16.0, "Z": 30.0}
    ivar = {"B": 2.0, "R": 1.0, "Z": 5.0}
    arms = [
        Arm(wavelength, np.full((2, len(wavelength)), flux[name]), np.full((2, len(wavelength)), ivar[name]))
        for name, wavelength in ARMS.items()
    ]
    batch = SpectrumBatch(arms, [1, 2], np.zeros(2), np.zeros(2), np.zeros(2))  # type: ignore[arg-type]
    grid = Grid(3.65, 400)
    ready = prepare([batch], grid, Preparation(continuum="none"))
    centre = grid.wavelength
    parts = {name: resample(arm.wavelength, arm.flux, arm.ivar, centre) for name, arm in zip("BRZ", arms, strict=True)}
    for name, low, high in (("B", 4470, 4555), ("R", 4625, 4785)):
        alone = (centre > low) & (centre < high)
        np.testing.assert_allclose(ready.flux[:, alone], flux[name], rtol=1e-12)
        np.testing.assert_allclose(ready.ivar[:, alone], parts[name][1][:, alone], rtol=1e-12)
    both = (centre > 4562) & (centre < 4617)
    weight = parts["B"][1][:, both] + parts["R"][1][:, both]
    np.testing.assert_allclose(ready.ivar[:, both], weight, rtol=1e-12)
    np.testing.assert_allclose(ready.flux[:, both], (2 * 10.0 + 1 * 16.0) / 3, rtol=0.03)
    expected = (10 * parts["B"][1] + 16 * parts["R"][1])[:, both] / weight
    np.testing.assert_allclose(ready.flux[:, both], expected, rtol=1e-12)
    assert not np.any(ready.flags & Flag.MISSING_ARM)


def test_a_missing_arm_is_flagged_and_the_others_stay() -> None:
    batch = three_arms(3)
    batch.arms[1].ivar[1] = 0
    batch.arms[1].flux[1] = 1e30
    ready = prepare([batch], GRID, Preparation())
    np.testing.assert_array_equal(ready.flags & Flag.MISSING_ARM, [0, Flag.MISSING_ARM, 0])
    without = SpectrumBatch([batch.arms[0], batch.arms[2]], batch.id, batch.ra, batch.dec, batch.rv)
    np.testing.assert_allclose(ready.flux[1], prepare([without], GRID, Preparation()).flux[1], rtol=1e-12)
    # an instrument with one arm has none that could be missing
    assert not prepare([batch_of(np.ones(900), 0.0)], GRID, Preparation()).flags[0] & Flag.MISSING_ARM


# -- what comes out ------------------------------------------------------------------------------------------


def test_flags_say_what_is_wrong() -> None:
    flux = np.full((6, 900), 10.0)
    ivar = np.ones_like(flux)
    ivar[1] = 0
    ivar[2, WAVELENGTH > 4600] = 0  # 40 % of the grid is left
    ivar[3] = 0.01  # S/N 1
    flux[4, WAVELENGTH > 4700] = -10
    ivar[5, ::50] = 0
    ready = prepare([batch_of(flux, ivar)], GRID, Preparation())
    empty = Flag.NO_VALID_PIXELS | Flag.MOSTLY_MASKED | Flag.LOW_SNR
    np.testing.assert_array_equal(ready.flags, [0, empty, Flag.MOSTLY_MASKED, Flag.LOW_SNR, Flag.BAD_CONTINUUM, 0])


def test_flags_of_the_reader_are_kept() -> None:
    batch = batch_of(np.full((3, 900), 10.0), rv=np.array([0.0, np.nan, 1e5]))
    batch.flag(np.array([True, False, False]), Flag.SURVEY_WARNING)
    ready = prepare([batch], GRID, Preparation())
    np.testing.assert_array_equal(ready.flags, [Flag.SURVEY_WARNING, Flag.RV_MISSING, Flag.RV_ABSURD])
    np.testing.assert_array_equal(ready.rv, 0)


@pytest.mark.parametrize("name", PREPARATIONS)
def test_masked_pixels_hold_the_promised_values(name: str) -> None:
    batch = three_arms(4)
    batch.arms[0].ivar[:, 230:260] = 0
    for arm in batch.arms:
        arm.ivar[3] = 0
    ready = prepare([batch], GRID, PREPARATIONS[name])
    masked = ready.ivar == 0
    assert masked[:3].any(axis=1).all()
    assert masked[3].all()
    assert not masked[:3].all(axis=1).any()
    assert np.all(ready.flux[masked] == (0.0 if PREPARATIONS[name].continuum == "none" else 1.0))
    assert np.all(ready.ivar[~masked] > 0)


def test_snr_is_the_median_of_the_grid_pixels() -> None:
    # on the grid's own pixels, so that errors stay what they are
    wavelength = GRID.extended(4300.0, 5000.0)[0].wavelength
    flux = np.full((2, len(wavelength)), 10.0)
    ivar = np.full_like(flux, 4.0)
    ivar[1, (wavelength > 4500) & (wavelength < 4600)] = 0
    ivar[:, wavelength > 4700] = 0.01
    ready = prepare([batch_of(flux, ivar, wavelength=wavelength)], GRID, Preparation())
    assert ready.snr is not None
    np.testing.assert_allclose(ready.snr, 20.0, rtol=1e-6)
    # normalisation does not change it
    raw = prepare([batch_of(flux, ivar, wavelength=wavelength)], GRID, Preparation(continuum="none"))
    np.testing.assert_allclose(ready.snr, raw.snr, rtol=1e-9)  # type: ignore[arg-type]


NASTY: dict[str, tuple[Any, Any]] = {
    "all zero": (0.0, 1.0),
    "all zero without ivar": (0.0, 0.0),
    "negative": (-5.0, 1.0),
    "huge": (1e30, 1e-60),
    "huge with small errors": (1e30, 1.0),
    "too huge": (1e200, 1.0),
    "tiny": (1e-17, 1e38),
    "tiny without noise": (1e-30, 1e90),
    "no float at all": (5e-324, 1.0),
    "ivar near zero": (1.0, 1e-320),
    "ivar near infinity": (1.0, 1e308),
    "nan": (np.nan, 1.0),
    "nan ivar": (1.0, np.nan),
    "inf": (np.inf, 1.0),
    "minus inf": (-np.inf, 1.0),
    "inf ivar": (1.0, np.inf),
    "negative ivar": (1.0, -1.0),
    "single pixel": (1.0, np.where(np.arange(900) == 400, 1.0, 0.0)),
    "two pixels far apart": (1.0, np.where(np.isin(np.arange(900), (300, 500)), 1.0, 0.0)),
    "single pixel of zero": (0.0, np.where(np.arange(900) == 400, 1.0, 0.0)),
    "alternating": (np.where(np.arange(900) % 2, 1e10, -1e10), 1.0),
    "spike alone": (np.where(np.arange(900) == 400, 1e30, 0.0), 1.0),
    "one nan": (np.where(np.arange(900) == 400, np.nan, 3.0), 1.0),
    "one huge": (np.where(np.arange(900) == 400, 1e35, 3.0), 1.0),
}


@pytest.mark.parametrize("name", PREPARATIONS)
def test_nothing_but_numbers_comes_out(name: str) -> None:
    flux = np.stack([np.broadcast_to(flux, 900) for flux, _ in NASTY.values()])
    ivar = np.stack([np.broadcast_to(ivar, 900) for _, ivar in NASTY.values()])
    good = np.full((1, 900), 10.0)
    batch = batch_of(np.concatenate([flux, good]), np.concatenate([ivar, good]), rv=50.0)
    ready = prepare([batch], GRID, PREPARATIONS[name])
    values = spectra_values(ready)
    for column, value in values.items():
        dtype = np.float32 if value.dtype.kind == "f" else value.dtype
        assert np.all(np.isfinite(value.astype(dtype))), column
    held = values["ivar"].astype(np.float32)
    assert np.all(held >= 0)
    np.testing.assert_array_equal(held > 0, ready.ivar > 0)
    empty = ~(ready.ivar > 0).any(axis=1)
    np.testing.assert_array_equal((ready.flags & Flag.NO_VALID_PIXELS) != 0, empty)
    # the good row stays what it is alone
    alone = prepare([batch_of(good, good, rv=50.0)], GRID, PREPARATIONS[name])
    np.testing.assert_allclose(ready.flux[-1], alone.flux[0], rtol=1e-12)
    flagged = {key for key, flag in zip(NASTY, ready.flags, strict=False) if flag & Flag.BAD_VALUES}
    assert flagged >= {"nan", "nan ivar", "inf", "minus inf", "inf ivar", "negative ivar", "one nan"}
    assert not flagged & {"all zero", "negative", "huge", "tiny", "alternating", "single pixel"}


def test_bad_values_flag_only_pixels_in_use() -> None:
    flux, ivar = np.full((2, 900), 10.0), np.ones((2, 900))
    flux[:, 400] = np.nan
    ivar[0, 400] = 0
    ready = prepare([batch_of(flux, ivar)], GRID, Preparation())
    np.testing.assert_array_equal(ready.flags, [0, Flag.BAD_VALUES])
    np.testing.assert_array_equal(ready.flux[0], ready.flux[1])


def test_no_rows_give_no_rows() -> None:
    for preparation in PREPARATIONS.values():
        ready = prepare([three_arms(3).take(slice(0, 0))], GRID, preparation)
        assert ready.flux.shape == (0, GRID.n_pix)
        assert len(ready) == len(ready.snr) == 0  # type: ignore[arg-type]


# -- independence --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PREPARATIONS)
def test_rows_do_not_depend_on_the_others(name: str) -> None:
    preparation = PREPARATIONS[name]
    n = 70
    rv = np.random.default_rng(1).uniform(-900, 900, n)
    rv[::6] = 0
    batch = three_arms(n, rv=rv)
    batch.arms[1].ivar[4] = 0
    batch.arms[0].flux[9, 250] = 1e5
    together = prepare([batch], GRID, preparation)
    singles = prepare([batch.take(slice(row, row + 1)) for row in range(n)], GRID, preparation)
    others = prepare([batch.take(slice(0, 3)), batch.take(slice(3, 40)), batch.take(slice(40, n))], GRID, preparation)
    for column, value in spectra_values(together).items():
        for other in (singles, others):
            np.testing.assert_allclose(spectra_values(other)[column], value, rtol=1e-11, atol=1e-12, err_msg=column)
    backwards = prepare([batch.take(np.arange(n)[::-1])], GRID, preparation)
    np.testing.assert_allclose(backwards.flux[::-1], together.flux, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", PREPARATIONS)
def test_the_same_twice_is_the_same_bitwise(name: str) -> None:
    rv = np.linspace(-100, 100, 8)
    once, again = (prepare([three_arms(8, rv=rv)], GRID, PREPARATIONS[name]) for _ in range(2))
    for column, value in spectra_values(once).items():
        np.testing.assert_array_equal(spectra_values(again)[column], value, err_msg=column)


def test_input_is_left_as_it_is() -> None:
    flux, ivar = np.full((2, 900), 10.0), np.ones((2, 900))
    flux[0, 5], ivar[1, 6] = np.nan, -1.0
    kept = flux.copy(), ivar.copy()
    for array in (flux, ivar):
        array.flags.writeable = False
    for preparation in PREPARATIONS.values():
        prepare([batch_of(flux, ivar, rv=100.0)], GRID, preparation)
    np.testing.assert_array_equal(flux, kept[0])
    np.testing.assert_array_equal(ivar, kept[1])


def test_a_coarse_grid_loses_nothing_at_its_ends() -> None:
    # pixels of 54 A: half of one is many input pixels
    grid = Grid(3.65, 5, 0.005)
    ready = prepare([batch_of(np.linspace(1, 2, 900))], grid, Preparation("observed", "none"))
    flux, ivar = resample(WAVELENGTH, np.linspace(1, 2, 900)[None], np.ones((1, 900)), grid.wavelength)
    np.testing.assert_allclose(ready.flux, flux, rtol=1e-12)
    np.testing.assert_allclose(ready.ivar, ivar, rtol=1e-12)


# -- options and fingerprints --------------------------------------------------------------------------------


def test_the_fingerprint_follows_every_option() -> None:
    prints = [preparation.attributes(GRID)["fingerprint"] for preparation in PREPARATIONS.values()]
    prints.append(Preparation(continuum_width=3000).attributes(GRID)["fingerprint"])
    prints.append(Preparation().attributes(Grid(3.65, 300, 2e-4))["fingerprint"])
    assert len(set(prints)) == len(prints)
    assert len(PREPARATIONS) + 2 == len(prints)


def test_the_fingerprint_does_not_follow_the_ends_of_the_grid() -> None:
    one, other = (Preparation().attributes(Grid.parse(name))["fingerprint"] for name in ("lrs", "optical"))
    assert one == other


@pytest.mark.parametrize("name", PREPARATIONS)
def test_a_preparation_is_read_back(name: str) -> None:
    preparation = PREPARATIONS[name]
    assert Preparation.from_attributes(preparation.attributes(GRID)) == preparation


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"continuum_width": 100.0}, r"continuum width 100 km/s must lie between 300 and 100000\."),
        ({"continuum_width": float("nan")}, "continuum width nan"),
        ({"resolving_power": 20.0}, r"resolving power 20 must lie between 50 and 500000\."),
        ({"resolving_power": float("nan")}, "resolving power nan"),
    ],
)
def test_options_that_cannot_work_are_one_sentence(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        Preparation(**options)  # type: ignore[arg-type]


# -- batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "sentence"),
    [
        (lambda: Arm(np.ones((2, 3)), np.ones(3), np.ones(3)), r"wavelength has shape \(2, 3\), not one axis"),
        (lambda: Arm(np.ones(1), np.ones(1), np.ones(1)), r"shape \(1,\), not one axis of 2 or more pixels"),
        (lambda: Arm(np.array([1.0, 3.0, 2.0]), np.ones(3), np.ones(3)), "does not rise strictly"),
        (lambda: Arm(np.full(3, 5.0), np.ones(3), np.ones(3)), "does not rise strictly"),
        (lambda: Arm(np.array([1.0, np.nan, 3.0]), np.ones(3), np.ones(3)), "does not rise strictly"),
        (lambda: Arm(np.array([1.0, 2.0, np.inf]), np.ones(3), np.ones(3)), "does not rise strictly"),
        (lambda: Arm(np.array([-1.0, 2.0, 3.0]), np.ones(3), np.ones(3)), "wavelength is not positive"),
        (lambda: Arm(np.arange(1.0, 4.0), np.ones((2, 4)), np.ones((2, 4))), r"flux \(2, 4\), ivar \(2, 4\)"),
        (lambda: Arm(np.arange(1.0, 4.0), np.ones((2, 3)), np.ones((1, 3))), "do not fit together"),
        (lambda: Arm(np.arange(1.0, 4.0), np.ones(3), np.ones(3), np.ones(2)), r"widths \(2,\) do not fit"),
    ],
)
def test_an_arm_that_does_not_fit_is_one_sentence(arm: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        arm()


def test_a_batch_that_does_not_fit_is_one_sentence() -> None:
    arm = Arm(np.arange(1.0, 4.0), np.ones((2, 3)), np.ones((2, 3)))
    nothing = np.zeros(3)
    with pytest.raises(InputError, match="3 ids but 2 spectra"):
        SpectrumBatch([arm], np.arange(3), nothing, nothing, nothing)
    with pytest.raises(InputError, match="at least one arm"):
        SpectrumBatch([], np.arange(3), nothing, nothing, nothing)
    with pytest.raises(InputError, match="has 3 arms; prepare it onto a grid first"):
        _ = three_arms().flux


@pytest.mark.parametrize(
    "values",
    [
        np.array([2**62 + 1], np.int64),
        np.array([2**62 + 1], np.uint64),
        np.array([2**62 + 1], object),
        np.array([str(2**62 + 1)]),
        np.array([str(2**62 + 1).encode()]),
        [2**62 + 1],
        2**62 + 1,
    ],
)
def test_ids_keep_all_64_bits(values: Any) -> None:
    ids = as_id(values)
    assert ids.dtype == np.int64
    assert ids.tolist() == [2**62 + 1]


def test_small_integers_of_any_type_are_ids() -> None:
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.dtype(">i8")):
        assert as_id(np.array([5, 100], dtype)).tolist() == [5, 100]
    assert as_id(np.array([-5, -(2**63) + 1])).tolist() == [-5, -(2**63) + 1]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.array([1.0, 2.0]), "ids are of type float64; only integers keep all 64 bits"),
        (np.array([1, 2], np.float32), "ids are of type float32"),
        (np.array([True]), "ids are of type bool"),
        (np.array([5, 2**63], np.uint64), "id 9223372036854775808 is beyond 2"),
        (np.array([5, 2**64], object), "id '18446744073709551616' is not a 64-bit integer"),
        (np.array([5, 1.5], object), r"id '1\.5' is not a 64-bit integer"),
        (np.array([5, 3.0], object), r"id '3\.0' is not a 64-bit integer"),
        (np.array([5, None], object), "id 'None' is not a 64-bit integer"),
        (np.array(["5", "J1234"]), "id 'J1234' is not a 64-bit integer"),
        (np.array(["5", ""]), "id '' is not a 64-bit integer"),
        (np.array(["5", "1.5"]), r"id '1\.5' is not a 64-bit integer"),
        (np.array(["5", str(2**63)]), "id '9223372036854775808' is not a 64-bit integer"),
    ],
)
def test_what_would_lose_bits_is_no_id(values: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        as_id(values)


def test_set_rv_replaces_the_flags_of_the_last_one() -> None:
    batch = batch_of(np.ones((3, 900)), rv=np.array([np.nan, 5000.0, 10.0]))
    np.testing.assert_array_equal(batch.flags, [Flag.RV_MISSING, Flag.RV_ABSURD, 0])
    batch.set_rv(np.array([7.0, np.nan, np.inf]))
    np.testing.assert_array_equal(batch.flags, [0, Flag.RV_MISSING, Flag.RV_ABSURD])
    np.testing.assert_array_equal(batch.rv, [7.0, 0.0, 0.0])


def test_take_keeps_everything_of_a_row() -> None:
    batch = three_arms(5, rv=np.array([1.0, 2.0, np.nan, 4.0, 5.0]))
    batch.flag(np.arange(5) == 3, Flag.NOT_A_STAR)
    part = batch.take(np.array([3, 2]))
    np.testing.assert_array_equal(part.id, batch.id[[3, 2]])
    np.testing.assert_array_equal(part.flags, [Flag.NOT_A_STAR, Flag.RV_MISSING])
    np.testing.assert_array_equal(part.rv, [4.0, 0.0])
    for mine, whole in zip(part.arms, batch.arms, strict=True):
        for name in ("flux", "ivar", "sigma"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(whole, name)[[3, 2]], err_msg=name)
    part.flag(np.array([True, True]), Flag.LOW_SNR)
    assert not np.any(batch.flags & Flag.LOW_SNR)
