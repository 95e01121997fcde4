"""The simulated Galaxy: its laws, its repeatability, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from stores.errors import InputError, OptionError
from stores.simulate import loci
from stores.simulate import population as galaxy
from stores.simulate.emulator import LABELS, Emulator
from stores.simulate.population import COMPONENTS, FRACTIONS, REALISTIC, Footprint, Stars, draw

HALO, METAL_POOR = 2, 3


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator.load()


@pytest.fixture(scope="module")
def stars(emulator: Emulator) -> Stars:
    return draw(30_000, 3, emulator)


def robust_sigma(values: np.ndarray) -> float:
    return float(np.diff(np.percentile(values, [15.865, 84.135]))[0] / 2)


def test_every_star_is_whole_and_covered(stars: Stars, emulator: Emulator) -> None:
    assert stars.labels.shape == (len(stars), len(LABELS))
    assert emulator.inside(stars.labels).all()
    for field in fields(Stars):
        values = getattr(stars, field.name)
        assert len(values) == 30_000
        assert np.isfinite(values).all(), field.name
    assert stars.id.dtype == np.int64
    assert len(np.unique(stars.id)) == len(stars)
    assert stars.id.min() > 0
    assert stars.id.max() < 2**62
    assert np.array_equal(stars.id % galaxy.SERIAL - 1, np.arange(len(stars)))
    assert (stars.id > 2**53).mean() > 0.9  # ids that a float64 would spoil, as the real ones


def test_shares_of_metal_poor_stars(stars: Stars) -> None:
    share = np.bincount(stars.component, minlength=4) / len(stars)
    assert share == pytest.approx([FRACTIONS[name] for name in COMPONENTS], abs=0.01)
    feh = stars.labels[:, 2]
    assert (feh <= -1).mean() == pytest.approx(0.20, abs=0.02)
    assert (feh <= -2).mean() == pytest.approx(0.06, abs=0.01)
    tail = feh[stars.component == METAL_POOR]
    assert tail.min() >= -3.3
    assert tail.max() <= -2.0
    # tenfold a dex: of those between -2 and -3, a share 10^-0.5 / (1 + 10^-0.5) lies below -2.5
    upper, lower = ((tail > -2.5).sum(), ((tail <= -2.5) & (tail > -3.0)).sum())
    assert lower / upper == pytest.approx(10**-0.5, rel=0.15)


def test_two_sequences_of_alpha_at_one_metallicity(stars: Stars) -> None:
    feh, alphafe = stars.labels[:, 2:4].T
    some = alphafe[(feh > -0.6) & (feh < -0.3) & (stars.component < HALO)]
    count, edges = np.histogram(some, np.arange(-0.05, 0.40, 0.025))
    middle = (edges[1:] + edges[:-1]) / 2
    low, high = (np.where(where, count, 0).argmax() for where in (middle < 0.15, middle >= 0.15))
    assert middle[high] - middle[low] > 0.12
    assert count[low:high].min() < 0.5 * min(count[low], count[high])


def test_components_lie_where_they_should(stars: Stars) -> None:
    feh, alphafe = stars.labels[:, 2:4].T
    medians = [np.median(feh[stars.component == c]) for c in range(4)]
    assert medians == pytest.approx([-0.08, -0.55, -1.27, -2.29], abs=0.05)
    plateau = (stars.component == 1) & (feh < -0.6)
    assert np.median(alphafe[plateau]) == pytest.approx(0.27, abs=0.01)
    # the accreted sequence falls below that of the old disc and halo beyond its knee
    halo = (stars.component == HALO) & (feh > -0.9) & (feh < -0.7)
    assert np.median(alphafe[halo]) < 0.22
    assert np.median(alphafe[stars.component == METAL_POOR]) == pytest.approx(0.33, abs=0.02)


def test_metal_poor_stars_are_hotter(stars: Stars) -> None:
    teff, logg, feh = stars.labels[:, :3].T
    giants = (stars.phase == loci.GIANT) & (np.abs(logg - 2.4) < 0.3)
    turnoff = stars.phase == loci.TURNOFF
    for chosen, difference in ((giants, 200.0), (turnoff & (stars.component > 0), 300.0)):
        rich, poor = (np.median(teff[chosen & some]) for some in ((feh > -0.7), (feh < -1.8)))
        assert poor - rich > difference
    assert (np.diff(loci.turnoff_teff(np.linspace(-3.3, 0.5, 20))) <= 0).all()


# Teff, log g, [Fe/H] of Gaia benchmark stars, Heiter et al. (2015) and Jofre et al. (2014)
@pytest.mark.parametrize(
    ("teff", "logg", "feh"),
    [(4587, 1.61, -2.64), (4286, 1.64, -0.52), (4496, 2.09, -0.33), (4858, 2.90, 0.13)],
    ids=["HD 122563", "Arcturus", "HD 107328", "beta Gem"],
)
def test_giants_pass_near_benchmark_stars(teff: float, logg: float, feh: float) -> None:
    assert loci.giant_teff(np.array([logg]), np.array([feh]))[0] == pytest.approx(teff, abs=110)


def test_the_sun_shines_as_it_should() -> None:
    one = np.ones(1)
    # M_G of the Sun is 4.66-4.68 (Casagrande & VandenBerg 2018; Andrae et al. 2018)
    assert loci.absolute_magnitude(5772.0 * one, 4.438 * one, one)[0] == pytest.approx(4.68, abs=0.02)
    assert loci.microturbulence(5500.0 * one, 4.0 * one)[0] == pytest.approx(0.998)
    assert loci.dwarf_mass(5772.0 * one, 0 * one)[0] == 1.0


def test_magnitudes_follow_from_distance_and_reddening(stars: Stars) -> None:
    assert stars.gmag.min() >= 12.0
    assert stars.gmag.max() <= 19.0
    teff, logg, feh = stars.labels[:, :3].T
    dwarf = stars.phase == loci.DWARF
    absolute = stars.gmag - 5 * np.log10(1 / stars.parallax) - 10 - loci.R_G * stars.ebv
    expected = loci.absolute_magnitude(teff, logg, loci.dwarf_mass(teff, feh))
    assert absolute[dwarf] == pytest.approx(expected[dwarf], abs=1e-9)
    # a luminosity of ten suns and more for giants, less than three for dwarfs
    assert np.percentile(absolute[stars.phase == loci.GIANT], 98) < 3.5
    assert absolute[dwarf].min() > 3.0


def test_dust_is_a_sheet() -> None:
    near, far = (galaxy.reddening(np.array([d]), np.array([0.5]), np.ones(1))[0] for d in (1e-3, 50.0))
    assert near == pytest.approx(1e-3 * 0.7 / 3.1, rel=0.01)
    assert far == pytest.approx(0.125 * 0.7 / 3.1 / 0.5, rel=1e-6)


def test_the_sky_is_filled_evenly(stars: Stars) -> None:
    from astropy.coordinates import SkyCoord

    sky = SkyCoord(stars.ra, stars.dec, unit="deg")
    assert np.abs(sky.galactic.b.deg).min() > 10 - 1e-4
    assert stars.dec.min() >= -10
    everywhere = Footprint(latitude=0.0).draw(30_000, np.random.default_rng(1))[1]
    assert np.sin(np.radians(everywhere)).mean() == pytest.approx((1 + np.sin(np.radians(-10))) / 2, abs=0.01)


def test_velocities_have_the_dispersions_of_their_components(stars: Stars) -> None:
    """Turned back by astropy: what is projected here must come out there, in Galactic axes at the Sun."""
    from astropy import units as u
    from astropy.coordinates import ICRS, Galactic, SkyCoord

    chosen = stars.take(1 / stars.parallax < 30.0)
    sky = SkyCoord(
        ra=chosen.ra * u.deg,
        dec=chosen.dec * u.deg,
        distance=1 / chosen.parallax * u.kpc,
        pm_ra_cosdec=chosen.pmra * u.mas / u.yr,
        pm_dec=chosen.pmdec * u.mas / u.yr,
        radial_velocity=chosen.rv * u.km / u.s,
        frame=ICRS,
    ).transform_to(Galactic())
    velocity = sky.velocity.d_xyz.to_value(u.km / u.s).T
    # to the rest frame of the Galaxy, then to the cylinder's axes at the star
    velocity = velocity + galaxy.SUN_MOTION + (0, galaxy.ROTATION, 0)
    x, y, _ = sky.cartesian.xyz.to_value(u.kpc)
    angle = np.arctan2(y, galaxy.SUN_RADIUS - x)
    inward = velocity[:, 0] * np.cos(angle) - velocity[:, 1] * np.sin(angle)
    around = velocity[:, 0] * np.sin(angle) + velocity[:, 1] * np.cos(angle)
    for component, name in enumerate(COMPONENTS[:3]):
        some = chosen.component == component
        measured = [robust_sigma(v[some]) for v in (inward, around, velocity[:, 2])]
        assert measured == pytest.approx(list(galaxy.DISPERSION[component]), rel=0.06), name
        assert np.mean(around[some]) - galaxy.ROTATION == pytest.approx(galaxy.DRIFT[component], abs=8.0), name


def test_positions_move_with_their_proper_motion(emulator: Emulator) -> None:
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    stars = draw(500, 5, emulator)
    ra, dec = stars.at(2000.0)
    then, now = SkyCoord(ra, dec, unit="deg"), SkyCoord(stars.ra, stars.dec, unit="deg")
    moved = then.spherical_offsets_to(now)
    assert moved[0].to_value(u.mas) == pytest.approx(16 * stars.pmra, abs=0.05)
    assert moved[1].to_value(u.mas) == pytest.approx(16 * stars.pmdec, abs=0.05)


def test_a_longer_catalogue_begins_with_the_shorter_one(emulator: Emulator) -> None:
    short, long = draw(700, 7, emulator), draw(2500, 7, emulator)
    for field in fields(Stars):
        assert np.array_equal(getattr(short, field.name), getattr(long, field.name)[:700]), field.name
    assert not np.array_equal(short.labels, draw(700, 8, emulator).labels)


def test_rows_are_taken_in_order(stars: Stars) -> None:
    rows = np.array([7, 2, 9])
    few = stars.take(rows)
    assert len(few) == 3
    for field in fields(Stars):
        assert np.array_equal(getattr(few, field.name), getattr(stars, field.name)[rows]), field.name
    assert len(stars.take(stars.component == HALO)) == (stars.component == HALO).sum()


@pytest.mark.slow
def test_a_hundred_thousand_stars_take_seconds(emulator: Emulator) -> None:
    begin = perf_counter()
    assert len(draw(100_000, 1, emulator)) == 100_000
    assert perf_counter() - begin < 10


def test_labels_do_not_depend_on_the_sky(emulator: Emulator) -> None:
    one = draw(300, 7, emulator)
    other = draw(300, 7, emulator, gmag=(10.0, 15.0), footprint=Footprint((0.0, 60.0), 30.0))
    assert np.array_equal(one.labels, other.labels)
    assert other.gmag.max() <= 15.0
    assert other.dec.min() >= 0.0


def test_realistic_fractions_follow_from_the_densities(emulator: Emulator) -> None:
    """Counts of stars of M_G = 5 along 3,000 directions, with the local shares of Juric et al. (2008)."""
    n, distance = 3000, galaxy.DISTANCES
    ra, dec = Footprint().draw(n, np.random.default_rng(1))
    x, y, z = (distance * (galaxy.direction(ra, dec) @ galaxy.GALACTIC.T).T[:, :, None]).reshape(3, n, -1)
    sin_b = (galaxy.direction(ra, dec) @ galaxy.GALACTIC[2])[:, None]
    gmag = 15 + 5 * np.log10(distance) + loci.R_G * galaxy.reddening(distance, sin_b, np.ones(1))
    visible = distance**3 * ((gmag > 12) & (gmag < 19))
    counts = [
        local * (galaxy.density(np.full((n, 1), c, dtype=np.uint8), np.hypot(x - 8.2, y), z) * visible).sum()
        for c, local in enumerate((1.0, 0.12, 0.005))
    ]
    expected = [REALISTIC["thin"], REALISTIC["thick"], REALISTIC["halo"] + REALISTIC["metal_poor"]]
    assert np.array(counts) / sum(counts) == pytest.approx(expected, abs=0.012)
    few = draw(5000, 1, emulator, fractions=REALISTIC)
    assert (few.labels[:, 2] <= -2).mean() < 0.02


PAGE = (Path(__file__).resolve().parents[1] / "docs" / "population.md").read_text()


def test_the_example_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(code.group(1), "population.md", "exec"), {})
    assert (tmp_path / "allStar.fits").is_file()


def test_the_mixture_is_documented() -> None:
    for number, name in enumerate(COMPONENTS):
        plateau, knee, slope, scatter = galaxy.ALPHA[number]
        mean, width = galaxy.FEH[number]
        low, high = galaxy.TAIL
        tail = name == "metal_poor"
        row = (
            f"| {name} | {FRACTIONS[name]:.2f} | {REALISTIC[name]:g} | "
            + (f"{low} to {high:.1f}, tenfold a dex | " if tail else f"{mean:.2f} ± {width:.2f} | ")
            + (f"{plateau:.2f} " if tail else f"{plateau:.2f} to [Fe/H] {knee:g}, then slope {slope:.2f}, ")
            + f"± {scatter:.3f} | {', '.join(f'{v:g}' for v in galaxy.DISPERSION[number])} | "
            + f"{galaxy.DRIFT[number]:g} |"
        )
        assert row in PAGE
    (mean, width), (plateau, knee, slope, scatter) = galaxy.ACCRETED_FEH, galaxy.ACCRETED_ALPHA
    accreted = f"| {mean} ± {width} | {plateau:.2f} to [Fe/H] {knee}, then slope {slope}, ± {scatter:.3f} |"
    assert accreted in PAGE
    assert f"({galaxy.ACCRETED} of it)" in PAGE


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 0}, "0 stars"),
        ({"seed": -1}, "seed -1"),
        ({"gmag": (15.0, 15.1)}, "too little room"),
        ({"gmag": (-40.0, -30.0)}, "widen the range"),
        ({"fractions": {"thin": 0.5}}, "add up to 1"),
        ({"fractions": {"bulge": 1.0}}, "thin, thick, halo, metal_poor"),
        ({"fractions": {"thin": 1.5, "halo": -0.5}}, "add up to 1"),
        ({"footprint": Footprint((-10, 10), 89.0)}, "no sky is left"),
    ],
)
def test_values_that_cannot_work_are_one_sentence(options: dict, sentence: str, emulator: Emulator) -> None:
    with pytest.raises(OptionError, match=sentence):
        draw(**({"n": 10, "seed": 1, "emulator": emulator} | options))


def test_an_emulator_that_covers_too_little_is_refused() -> None:
    class Dwarfs:
        def inside(self, labels: np.ndarray) -> np.ndarray:
            return labels[:, 1] > 4.2

    with pytest.raises(InputError, match=r"does not cover .* of 1024 stars"):
        draw(10, 1, Dwarfs())
