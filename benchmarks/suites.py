"""Suites: studies that are made on the spot, of twins with known truth or of real stars. What is there is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bounds import covariances
from benchmarks.study import Side, Study
from stores.atomic import replacing
from stores.command import say
from stores.errors import InputError
from stores.grid import Grid
from stores.location import Url
from stores.provenance import array_digest
from stores.store import open_store

if TYPE_CHECKING:
    from embed.load import ModelDescription
    from stores.simulate.twin import Twin

TEFF_RANGE = (4000.0, 7500.0)  # K
# samples for this purpose are chosen to hold metal-poor stars
FRACTIONS = {"thin": 0.35, "thick": 0.25, "halo": 0.2, "metal_poor": 0.2}
GMAG = (14.0, 16.5)
SOURCE_SEED, TARGET_SEED, REAL_SEED = 21, 22, 12  # other stars each
APOGEE_FROM, SAGA_TO = -2.5, -2.0  # [Fe/H] above and below which the catalogues of twins have stars
LABELLED = 0.55  # share of the stars that have labels in the catalogues and a temperature in the range, at the least

OBTAIN = """For the study itself the surveys' own files are needed, all of them public:
  LAMOST DR10 spectra, the catalogue of its pipeline LASP    https://www.lamost.org/dr10
  DESI DR1 healpix coadds, and the mwsall catalogues         https://data.desi.lbl.gov/doc/releases/dr1
  APOGEE DR17 allStar                                        https://www.sdss4.org/dr17/irspec
  SAGA                                                       http://sagadatabase.jp
  PASTEL                                                     VizieR, B/pastel
Prepare them with stores-ingest and stores-labels (docs/labels.md), then run
  heads-bench --source lamost.zarr --source-labels lamost.parquet --target desi.zarr --target-labels desi.parquet"""


@dataclass(frozen=True)
class RealFiles:
    """Files of the suite of real stars: spectra of LAMOST, a table of more, MILES, and catalogues of both."""

    lamost: Path
    lasp: Path
    table: Path
    miles: Path
    literature: Path

    @classmethod
    def of(cls, data: Path) -> RealFiles:
        """data: folder with lamost/ and miles/. Raises InputError for one that is not there."""
        lamost, miles = data / "lamost", data / "miles"
        found = cls(
            lamost=lamost / "fits",
            lasp=lamost / "labels.csv",
            table=lamost / "lamost_dr10_table.fits.gz",
            miles=miles / "fits",
            literature=miles / "labels.csv",
        )
        for path in vars(found).values():
            if not path.exists():
                raise InputError(
                    f"'{path}' does not exist; name the folder that holds lamost/ and miles/ with --data."
                )
        return found


@dataclass(frozen=True)
class Workshop:
    """Where the stores of a study are made, and how.

    folder: of all that is made; targets: labels; model: that embeds; workers: processes, which decide nothing
    """

    folder: Path
    targets: tuple[str, ...]
    model: ModelDescription
    workers: int = 1

    def twins(self, name: str, source: int, pool: int, tested: int) -> Study:
        """The twins of LAMOST and DESI, with labels as catalogues give them and the truth to be held against.

        source, pool, tested: labelled stars of the source, of the target to learn from, and of the target to be tested
        """
        lamost, seen = self._twin("lamost", simulated(source), SOURCE_SEED)
        _write_catalogues(lamost, seen)
        desi, seen = self._twin("desi", simulated(pool + tested), TARGET_SEED)
        _write_catalogues(desi, seen)
        _write_bounds(desi, seen, self.model.grid)
        mwsall = desi.with_suffix(".mwsall.fits")
        _write_pipelines(mwsall, desi, seen)
        pipelines = {
            shown: self._labels(f"{desi.stem}-{kind}", desi, [f"{kind}:{mwsall}"])
            for shown, kind in (("SP", "desi_sp"), ("RVSpecfit", "desi_rvs"))
        }
        return Study(
            name=name,
            sources=(self._side("LAMOST twin", lamost, self._twin_labels(lamost)),),
            target=self._side("DESI twin", desi, self._twin_labels(desi)),
            targets=self.targets,
            pool=pool,
            tested=tested,
            teff_range=TEFF_RANGE,
            truth=desi.with_suffix(".bounds.parquet"),
            pipelines=pipelines,
        )

    def real(self, data: Path, pool: int, tested: int, simulated: int) -> Study:
        """LAMOST's spectra with LASP's labels, beside simulated ones that count as much, to stars of MILES.

        data: folder with lamost/ and miles/; simulated: how many spectra
        """
        files = RealFiles.of(data)
        stores = [
            self._ingested("lamost", "lamost", files.lamost),
            self._ingested("lamost-table", "table", files.table),
            self._ingested("miles", "fits1d", files.miles, medium="air", at_rest=True),
        ]
        twin, _ = self._twin("lamost", simulated, REAL_SEED, fractions=None, gmag=(14.0, 18.5))
        counts = [len(open_store(store)) for store in stores[:2]]
        sources = [
            self._side(name, store, self._labels(store.stem, store, [f"lasp:{catalogue}"]), count / (2 * sum(counts)))
            for name, store, catalogue, count in zip(
                ("LAMOST", "LAMOST table"), stores[:2], (files.lasp, files.table), counts, strict=True
            )
        ]
        true = self._labels("lamost-twin", twin, [f"table:{_truth_of(twin)}"])
        return Study(
            name="real",
            sources=(*sources, self._side("LAMOST twin", twin, true, 0.5)),
            target=self._side("MILES", stores[2], self._labels("miles", stores[2], [f"table:{files.literature}"])),
            targets=self.targets,
            pool=pool,
            tested=tested,
            teff_range=TEFF_RANGE,
        )

    def own(
        self,
        sources: Sequence[tuple[Path | Url, Path]],
        target: tuple[Path | Url, Path],
        pool: int,
        tested: int,
        pipelines: Mapping[str, Path],
    ) -> Study:
        """Spectra stores of the user, each with its labels, and labels of the target as pipelines give them."""
        return Study(
            name="own",
            sources=tuple(self._side(store.stem, store, labels) for store, labels in sources),
            target=self._side(target[0].stem, *target),
            targets=self.targets,
            pool=pool,
            tested=tested,
            pipelines=pipelines,
        )

    def _side(self, name: str, store: Path | Url, labels: Path, share: float = 1.0) -> Side:
        """A survey's stores; its spectra are embedded."""
        from embed.run import embed_store

        out = self.folder / f"{store.stem}-{self.model.name}.zarr"
        embed_store(store, out, self.model.name)
        return Side(name, store, out, labels, share)

    def _twin(
        self,
        survey: str,
        n: int,
        seed: int,
        fractions: dict[str, float] | None = FRACTIONS,
        gmag: tuple[float, float] = GMAG,
    ) -> tuple[Path, Twin]:
        """The store of a twin, its truth beside it."""
        from stores.simulate.instrument import Instrument
        from stores.simulate.observe import Fates
        from stores.simulate.population import FRACTIONS as GALAXY
        from stores.simulate.population import draw
        from stores.simulate.twin import Twin, shared_emulator

        instrument = Instrument.load(survey)
        # an object that is another star than it is said to be has no truth to be tested against
        instrument = replace(instrument, faults=replace(instrument.faults, mislabelled=0.0, unusable=0.0))
        emulator = shared_emulator()
        stars = draw(n, seed, emulator, gmag=gmag, fractions=fractions or GALAXY)
        settings = json.loads(json.dumps(instrument.settings))
        drawn = array_digest(*(getattr(stars, field.name) for field in fields(stars)))
        job = {"instrument": settings, "stars": drawn, "seed": seed, "emulator": emulator.details["checksum"]}
        path = self.folder / f"{survey}-twin-{n}.zarr"
        twin = Twin(instrument, seed, stars, Fates.draw(stars, instrument, seed), job, self.workers)
        twin.write_store(path, self.model.grid, self.model.preparation)
        return path, twin

    def _twin_labels(self, store: Path) -> Path:
        """APOGEE's labels, and SAGA's for the stars that are too metal-poor for it."""
        catalogues = [f"apogee:{store.with_suffix('.allStar.fits')}", f"saga:{store.with_suffix('.saga.tsv')}"]
        return self._labels(store.stem, store, catalogues, sample="apogee-metal-poor")

    def _labels(self, name: str, store: Path, catalogues: list[str], **more: Any) -> Path:
        """A table of labels of a store's spectra."""
        from stores.labelling import LabelOptions, label_store

        path = self.folder / f"{name}.labels.parquet"
        if not path.exists():
            options = LabelOptions(path=store, catalogue=tuple(catalogues), out=path, **more)
            # how many rows were matched, cut by cut, fills a screen: for who asks
            with path.with_suffix(".log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
                labels = label_store(open_store(store), options)
            labels.save(path)
        return path

    def _ingested(self, name: str, survey: str, files: Path, **more: Any) -> Path:
        from stores.ingest import IngestOptions, ingest

        path = self.folder / f"{name}.zarr"
        grid: Grid = self.model.grid
        ingest(
            IngestOptions(
                survey=survey,
                files=(str(files),),
                out=path,
                grid=str(grid),
                preparation=self.model.preparation,
                workers=self.workers,
                **more,
            )
        )
        return path


def simulated(labelled: int) -> int:
    """How many stars of a twin are simulated, so that so many are labelled."""
    return round(labelled / LABELLED)


def _truth_of(store: Path) -> Path:
    return store.with_suffix(".truth.parquet")


def _write_catalogues(store: Path, twin: Twin) -> None:
    """What APOGEE and SAGA have of the stars of a twin's store, beside it."""
    from stores.simulate.catalogues import write_apogee, write_saga

    feh = twin.stars.labels[:, 2]
    for suffix, write, rows in (
        (".allStar.fits", write_apogee, feh > APOGEE_FROM),
        (".saga.tsv", write_saga, feh < SAGA_TO),
    ):
        path = store.with_suffix(suffix)
        if not path.exists():
            if not rows.any():
                raise InputError(
                    f"none of {len(rows)} simulated stars belongs into {path.name}; ask for larger --sizes."
                )
            write(path, twin.stars.take(np.flatnonzero(rows)), twin.seed)


def _write_pipelines(path: Path, store: Path, twin: Twin) -> None:
    """What DESI's own pipelines would say of the stars of its twin."""
    from stores.simulate.catalogues import write_mwsall

    if path.exists():
        return
    spectra = open_store(store)
    snr = spectra.read("snr").astype(np.float64)
    write_mwsall(path, spectra.read("id"), twin.stars, twin.seed, snr=np.repeat(snr[:, None], 3, axis=1))
    say(f"'{path}': what DESI's pipelines would say of these stars.")


def _write_bounds(store: Path, twin: Twin, grid: Grid) -> None:
    """The truth of a twin's stars beside its store, with the Cramer-Rao bounds of what the grid holds of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from stores.simulate.emulator import LABELS

    path = store.with_suffix(".bounds.parquet")
    if path.exists():
        return
    seen = (float(grid.wavelength[0]), float(grid.wavelength[-1]))
    limits = covariances(twin.instrument, twin.stars, twin.fates, twin.seed, seen)
    sigma = np.sqrt(np.diagonal(limits, axis1=1, axis2=2))
    columns: dict[str, Any] = {"id": open_store(store).read("id")}
    for i, label in enumerate(LABELS):
        columns |= {label: twin.stars.labels[:, i], f"sigma_{label}": sigma[:, i]}
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
