"""Stars of the Galaxy with known labels: thin disc, thick disc, halo and a metal-poor tail.

    stars = draw(2000, seed=1, emulator=Emulator.load())
    stars.labels[:, 2]  # [Fe/H]

Every mean, scatter and source stands in docs/population.md. Stars are drawn in blocks of `BLOCK` that have seeds of
their own: star i of a seed is the same however many stars are drawn, and its labels are the same whatever the
magnitudes and the footprint. Everything is the truth: no value carries an error of measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stores.errors import InputError, OptionError
from stores.simulate.loci import HORIZONTAL_BRANCH, R_G, absolute_magnitude, dwarf_mass, microturbulence, place
from stores.spectrum import Float

COMPONENTS = ("thin", "thick", "halo", "metal_poor")
THIN, THICK, HALO, METAL_POOR = range(len(COMPONENTS))
FRACTIONS = {"thin": 0.48, "thick": 0.29, "halo": 0.18, "metal_poor": 0.05}
REALISTIC = {"thin": 0.42, "thick": 0.45, "halo": 0.126, "metal_poor": 0.004}
EPOCH = 2016.0  # of positions, as in Gaia DR3
BLOCK = 1024
SERIAL = np.int64(2**34)  # a star's id modulo this is its number in its population, from 1
ROUNDS = 200  # of drawing again what the emulator does not cover

# [Fe/H]: mean, scatter. [alpha/Fe]: plateau, [Fe/H] of the knee, slope above it, scatter
FEH = np.array([(-0.08, 0.20), (-0.55, 0.25), (-1.50, 0.40), (-2.0, 0.0)])
ALPHA = np.array(
    [(0.13, -0.7, -0.17, 0.025), (0.27, -0.5, -0.35, 0.030), (0.30, -0.6, -0.35, 0.050), (0.33, 0, 0, 0.08)]
)
ACCRETED = 0.7  # of the halo, with its own sequence
ACCRETED_FEH = (-1.17, 0.34)
ACCRETED_ALPHA = (0.30, -1.4, -0.25, 0.05)
TAIL = (-3.3, -2.0)  # [Fe/H] of the metal-poor tail, in which numbers grow tenfold a dex
# share of dwarfs, turn-off stars, subgiants, giants, horizontal branch
PHASE_SHARES = np.array(
    [
        (0.45, 0.25, 0.08, 0.15, 0.07),
        (0.30, 0.35, 0.12, 0.17, 0.06),
        (0.12, 0.38, 0.12, 0.28, 0.10),
        (0.10, 0.35, 0.15, 0.32, 0.08),
    ]
)
EVOLVED_MASS = np.array([1.15, 0.95, 0.82, 0.80])  # suns
BRANCH_MASS = 0.8  # of the evolved mass, after mass loss
YOUTH = (250.0, 200.0)  # K: turn-offs of the thin disc are hotter than old ones, mean and scatter
VMIC_SCATTER = 0.12  # km/s

SUN_RADIUS, ROTATION = 8.20, 232.8  # kpc and km/s, McMillan (2017)
SUN_MOTION = np.array([11.1, 12.24, 7.25])  # km/s, Schoenrich, Binney & Dehnen (2010)
DISPERSION = np.array([(35, 20, 16), (67, 38, 35), (160, 90, 90), (160, 90, 90)], dtype=float)  # U, V, W in km/s
DRIFT = np.array([-15.0, -46.0, -220.0, -220.0])  # km/s behind the rotation, both Bensby et al. (2003)
DISC_LENGTH, DISC_HEIGHT = np.array([2.6, 3.6]), np.array([0.3, 0.9])  # kpc, Juric et al. (2008)
HALO_SLOPE, HALO_FLATTENING = 2.8, 0.64  # Juric et al. (2008)
DUST_HEIGHT, DUST_RATE, DUST_SCATTER = 0.125, 0.7 / 3.1, 0.3  # kpc, E(B-V) a kpc, ln
DISTANCES = np.geomspace(0.01, 1000.0, 201)  # kpc, nodes of the distance law
KMS_PER_MASYR_KPC = 4.740470
# rows: directions of the Galactic x (to the centre), y (rotation), z axes in ICRS (ESA 1997)
GALACTIC = np.array(
    [
        (-0.0548755604, -0.8734370902, -0.4838350155),
        (0.4941094279, -0.4448296300, 0.7469822445),
        (-0.8676661490, -0.1980763734, 0.4559837762),
    ]
)


class Region(Protocol):
    """What `draw` needs of an emulator: to say which labels (n, 5) it covers, (n,)."""

    def inside(self, labels: ArrayLike) -> NDArray[np.bool_]: ...


@dataclass(frozen=True)
class Footprint:
    """The part of the sky that stars are spread over, evenly: declinations in deg, and |b| above `latitude` deg."""

    dec: tuple[float, float] = (-10.0, 90.0)
    latitude: float = 10.0

    def draw(self, n: int, random: np.random.Generator) -> tuple[Float, Float]:
        """ra and dec (n,) in deg."""
        low, high = np.sin(np.radians(self.dec))
        ra, dec, missing = np.empty(n), np.empty(n), np.arange(n)
        for _ in range(ROUNDS):
            ra[missing] = random.uniform(0.0, 360.0, len(missing))
            dec[missing] = np.degrees(np.arcsin(random.uniform(low, high, len(missing))))
            sin_b = direction(ra[missing], dec[missing]) @ GALACTIC[2]
            missing = missing[np.abs(sin_b) <= np.sin(np.radians(self.latitude))]
            if len(missing) == 0:
                return ra, dec
        raise OptionError(f"no sky is left between declinations {self.dec} with |b| > {self.latitude:g} deg.")


@dataclass(frozen=True)
class Stars:
    """Stars and all that is true of them; arrays of n rows.

    labels: (n, 5) float64: Teff K, log g dex (cgs), [Fe/H], [alpha/Fe] dex, microturbulence km/s
    component, phase: index into `COMPONENTS` and into `loci.PHASES`
    id: made up, unique, below 2^62; its lower part is the number of the star (`SERIAL`)
    ra, dec: deg, ICRS, epoch 2016.0; pmra (with cos dec), pmdec: mas/yr; parallax: mas; gmag: Gaia G with extinction;
    ebv: E(B-V) mag; rv: km/s, barycentric
    """

    labels: Float
    component: NDArray[np.uint8]
    phase: NDArray[np.uint8]
    id: NDArray[np.int64]
    ra: Float
    dec: Float
    pmra: Float
    pmdec: Float
    parallax: Float
    gmag: Float
    ebv: Float
    rv: Float

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Stars:
        """Only these rows, in this order."""
        return Stars(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def at(self, year: float) -> tuple[Float, Float]:
        """ra and dec (n,) in deg at an epoch in Julian years."""
        towards, east, north = frame(self.ra, self.dec)
        shift = np.radians((year - EPOCH) / 3.6e6)
        moved = towards + shift * (self.pmra[:, None] * east + self.pmdec[:, None] * north)
        x, y, z = moved.T
        return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def draw(
    n: int,
    seed: int,
    emulator: Region,
    *,
    gmag: tuple[float, float] = (12.0, 19.0),
    fractions: Mapping[str, float] = FRACTIONS,
    footprint: Footprint = Footprint(),
) -> Stars:
    """n stars that the emulator covers; those of a longer catalogue begin with those of a shorter one.

    gmag: range of G magnitudes
    fractions: share of stars a component; the default has more metal-poor stars than the sky, `REALISTIC` has not
    Raises OptionError for values that cannot work, InputError if the emulator covers too little.
    """
    if n < 1 or seed < 0:
        raise OptionError(f"{n} stars with seed {seed} cannot be drawn; give at least 1 star and a seed from 0.")
    if gmag[1] - gmag[0] < 0.5:
        raise OptionError(
            f"G magnitudes from {gmag[0]:g} to {gmag[1]:g} leave too little room; give at least 0.5 mag."
        )
    shares = np.array([fractions.get(name, 0.0) for name in COMPONENTS])
    if set(fractions) - set(COMPONENTS) or not (shares >= 0).all() or abs(shares.sum() - 1) > 0.01:
        raise OptionError(f"fractions {dict(fractions)} are not shares of {', '.join(COMPONENTS)} that add up to 1.")
    blocks = [_block(seed, number, emulator, gmag, shares, footprint) for number in range(-(-n // BLOCK))]
    whole = {field.name: np.concatenate([getattr(block, field.name) for block in blocks]) for field in fields(Stars)}
    return Stars(**whole).take(slice(n))


def _block(
    seed: int, number: int, emulator: Region, gmag: tuple[float, float], shares: Float, footprint: Footprint
) -> Stars:
    random = np.random.default_rng([seed, number, 0])
    component = _choose(np.broadcast_to(shares / shares.sum(), (BLOCK, len(shares))), random)
    phase = _choose(PHASE_SHARES[component], random)
    labels, magnitude = np.empty((BLOCK, 5)), np.empty(BLOCK)
    missing = np.arange(BLOCK)
    for _ in range(ROUNDS):
        labels[missing], magnitude[missing] = _labels(component[missing], phase[missing], random)
        missing = missing[~emulator.inside(labels[missing])]
        if len(missing) == 0:
            break
    else:
        raise InputError(
            f"the emulator does not cover {len(missing)} of {BLOCK} stars, whatever is drawn for them; train it on a "
            "grid that holds dwarfs to giants of 4000-7000 K and [Fe/H] -3.3 to 0.5."
        )
    random = np.random.default_rng([seed, number, 1])  # labels stay when the sky changes
    ra, dec = footprint.draw(BLOCK, random)
    towards = direction(ra, dec)
    distance, ebv, apparent = _distance(component, magnitude, towards @ GALACTIC.T, gmag, random)
    pmra, pmdec, rv = _motion(component, distance, ra, dec, random)
    # a cell on the sky in the upper bits, as Gaia has it, the row in the lower ones
    ring, turn = (2**13 * np.stack([towards[:, 2] + 1, ra / 360])).astype(np.int64)
    ids = (ring * 2**13 + turn) * SERIAL + number * BLOCK + np.arange(1, BLOCK + 1)
    return Stars(labels, component, phase, ids, ra, dec, pmra, pmdec, 1 / distance, apparent, ebv, rv)


def _choose(shares: Float, random: np.random.Generator) -> NDArray[np.uint8]:
    """One of the columns for every row of shares (n, k)."""
    place_in = random.random(len(shares))[:, None]
    return np.minimum((np.cumsum(shares, axis=1) < place_in).sum(axis=1), shares.shape[1] - 1).astype(np.uint8)


def _labels(
    component: NDArray[np.uint8], phase: NDArray[np.uint8], random: np.random.Generator
) -> tuple[Float, Float]:
    """labels (n, 5) and absolute magnitude (n,) of stars of a component in a phase."""
    n = len(component)
    accreted = (component == HALO) & (random.random(n) < ACCRETED)
    mean, scatter = np.where(accreted[:, None], ACCRETED_FEH, FEH[component]).T
    low, high = 10.0 ** np.array(TAIL)
    tail = np.log10(random.uniform(low, high, n))
    feh = np.where(component == METAL_POOR, tail, mean + scatter * random.normal(size=n))
    plateau, knee, slope, scatter = np.where(accreted[:, None], ACCRETED_ALPHA, ALPHA[component]).T
    alphafe = plateau + slope * np.maximum(feh - knee, 0) + scatter * random.normal(size=n)
    youth = np.where(component == THIN, random.normal(*YOUTH, n), 0.0)
    mass = EVOLVED_MASS[component] * np.where(phase == HORIZONTAL_BRANCH, BRANCH_MASS, 1.0)
    teff, logg = place(phase, feh, youth, mass, random)
    mass = np.where(phase == 0, dwarf_mass(teff, feh), mass)
    vmic = microturbulence(teff, logg) + VMIC_SCATTER * random.normal(size=n)
    return np.stack([teff, logg, feh, alphafe, vmic], axis=1), absolute_magnitude(teff, logg, mass)


def direction(ra: Float, dec: Float) -> Float:
    """Unit vectors (n, 3) in ICRS towards ra, dec (n,) in deg."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def frame(ra: Float, dec: Float) -> tuple[Float, Float, Float]:
    """Unit vectors (n, 3) in ICRS towards ra, dec (n,) in deg, and from there to the east and to the north."""
    towards = direction(ra, dec)
    east = np.stack([-np.sin(np.radians(ra)), np.cos(np.radians(ra)), np.zeros_like(ra)], axis=-1)
    return towards, east, np.cross(towards, east)


def density(component: NDArray[np.uint8], radius: Float, height: Float) -> Float:
    """Relative density of a component (n, 1) at cylindrical radius and height (n, m) in kpc; 1 at the Sun for all."""
    disc = np.minimum(component, THICK)
    in_disc = np.exp(-(radius - SUN_RADIUS) / DISC_LENGTH[disc] - np.abs(height) / DISC_HEIGHT[disc])
    in_halo = ((radius**2 + (height / HALO_FLATTENING) ** 2 + 0.1) / SUN_RADIUS**2) ** (-HALO_SLOPE / 2)
    return np.where(component <= THICK, in_disc, in_halo)


def reddening(distance: Float, sin_b: Float, clouds: Float) -> Float:
    """E(B-V) of an exponential sheet of dust; clouds is the ratio to the mean one."""
    sine = np.maximum(np.abs(sin_b), 1e-3)
    return clouds * DUST_RATE * DUST_HEIGHT / sine * -np.expm1(-distance * sine / DUST_HEIGHT)


def _distance(
    component: NDArray[np.uint8],
    magnitude: Float,
    towards: Float,
    gmag: tuple[float, float],
    random: np.random.Generator,
) -> tuple[Float, Float, Float]:
    """Distance (kpc), E(B-V) and G (n,) from the density along the line of sight, within the magnitudes.

    magnitude: (n,) absolute; towards: (n, 3) Galactic unit vectors
    """
    n, sin_b = len(component), towards[:, 2]
    clouds, u = np.exp(random.normal(0, DUST_SCATTER, n)), random.random((2, n))

    def apparent(distance: Float) -> tuple[Float, Float]:
        ebv = reddening(distance, sin_b, clouds)
        return ebv, magnitude + 5 * np.log10(distance) + 10 + R_G * ebv

    x, y, z = (DISTANCES * towards.T[:, :, None]).reshape(3, n, -1)
    law = density(component[:, None], np.hypot(x - SUN_RADIUS, y), z) * DISTANCES**3  # for nodes even in log d
    _, g = apparent(DISTANCES[:, None])
    visible = ((g >= gmag[0]) & (g <= gmag[1])).T
    share = np.where(visible[:, 1:] & visible[:, :-1], (law[:, 1:] + law[:, :-1]) / 2, 0.0)
    total = share.sum(axis=1)
    if not (total > 0).all():
        raise OptionError(f"some stars cannot have a G magnitude from {gmag[0]:g} to {gmag[1]:g}; widen the range.")
    below = np.cumsum(share, axis=1) / total[:, None]
    node = np.argmax(below > u[0][:, None], axis=1)
    distance = DISTANCES[node] * (DISTANCES[1] / DISTANCES[0]) ** u[1]
    ebv, g = apparent(distance)
    return distance, ebv, g


def _motion(
    component: NDArray[np.uint8], distance: Float, ra: Float, dec: Float, random: np.random.Generator
) -> tuple[Float, Float, Float]:
    """pmra, pmdec (mas/yr) and radial velocity (km/s) of stars with their component's mean motion and dispersions.

    The velocity ellipsoid is aligned with the cylinder's axes at the star's own place in the Galaxy.
    """
    towards, east, north = frame(ra, dec)
    x, y, _ = (distance[:, None] * towards @ GALACTIC.T).T
    x = x - SUN_RADIUS
    radius = np.hypot(x, y)
    u, v, w = (DISPERSION[component] * random.normal(size=(len(component), 3))).T
    v = v + ROTATION + DRIFT[component]
    velocity = np.stack([(-u * x + v * y) / radius, (-u * y - v * x) / radius, w], axis=1)
    velocity = (velocity - SUN_MOTION - (0.0, ROTATION, 0.0)) @ GALACTIC  # in ICRS, relative to the Sun
    along = [np.einsum("ij,ij->i", velocity, axis) for axis in (east, north, towards)]
    return along[0] / (KMS_PER_MASYR_KPC * distance), along[1] / (KMS_PER_MASYR_KPC * distance), along[2]
