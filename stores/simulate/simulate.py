"""stores-simulate: a twin of a survey with known truth: spectra files in the survey's format, catalogues, the truth.

stores-simulate --survey desi --n 2000 --out desi-twin --seed 1
stores-simulate --survey lamost --n 2000 --out lamost-twin --seed 1        # the same stars, seen by LAMOST
stores-simulate --survey lamost --n 100000 --store lamost-twin.zarr        # prepared spectra, without files
stores-simulate --survey my-instrument.toml --n 500 --out my-twin          # docs/adding-an-instrument.md

DIR/spectra/...       files that stores-ingest and embed-spectra read like the survey's own
DIR/truth.parquet     labels, S/N, Cramer-Rao bounds and faults of every spectrum
DIR/catalogues/...    APOGEE, SAGA and PASTEL entries of the stars; for DESI its Milky Way Survey catalogue too
DIR/config.json       all options, the instrument, seed, version, commit

Run again, it goes on where it was killed. Values depend on seed and options, never on --workers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stores.command import run_command
from stores.errors import OptionError
from stores.grid import Grid
from stores.prepare import Preparation
from stores.provenance import package_version
from stores.simulate.instrument import Instrument


@dataclass(kw_only=True)
class SimulateOptions:
    """Simulate a survey's spectra of stars with known labels."""

    survey: str
    """Instrument: lamost, desi, or the path of a TOML file that describes one."""
    n: int
    """How many stars."""
    out: Path | None = None
    """Folder for files, catalogues and the truth; an unfinished one of the same options is finished."""
    store: Path | None = None
    """Spectra store to write, without going through files; its truth lies beside it, X.truth.parquet."""
    seed: int = 1
    """The same seed, number and magnitudes give the same stars whatever the survey."""
    gmag: tuple[float, float] = (14.0, 18.5)
    """Range of Gaia G magnitudes."""
    fractions: tuple[float, float, float, float] | None = None
    """Shares of thin disc, thick disc, halo and metal-poor tail, if not those of docs/population.md."""
    catalogues: bool = True
    """Write label catalogues of the stars."""
    workers: int = 1
    """Processes that simulate."""
    grid: str = "lrs"
    """Grid of the store: lrs, optical or START:STOP:STEP in log10 of Angstrom."""
    preparation: Annotated[Preparation, tyro.conf.arg(name="")] = Preparation()

    @property
    def outputs(self) -> tuple[Path | None, ...]:
        """What is written, and locked meanwhile."""
        return self.out, self.store

    def check(self) -> Instrument:
        """Refuse values that cannot work, before anything heavy is loaded; the instrument."""
        if self.out is None and self.store is None:
            raise OptionError("there is nothing to write: give --out DIR, --store X.zarr, or both.")
        for name, least in (("n", 1), ("seed", 0), ("workers", 1)):
            if getattr(self, name) < least:
                raise OptionError(f"--{name} {getattr(self, name)} must be {least} or more.")
        if self.seed >= 2**31:
            raise OptionError(f"--seed {self.seed} must be below {2**31}.")
        if self.store is not None and self.store.name in ("", ".."):
            raise OptionError(f"--store '{self.store}' names no store; give it a name of its own, such as twin.zarr.")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise OptionError(f"--out '{self.out}' is a file; name a folder.")
        Grid.parse(self.grid)
        return Instrument.load(self.survey)


def simulate(options: SimulateOptions) -> int:
    """Write what the options ask for; returns the exit status."""
    instrument = options.check()
    from stores.simulate.layouts import get_layout
    from stores.simulate.lsf import check_sharpness
    from stores.simulate.observe import Fates
    from stores.simulate.population import COMPONENTS, FRACTIONS, draw
    from stores.simulate.twin import Twin, shared_emulator

    get_layout(instrument.layout)
    emulator = shared_emulator()
    check_sharpness(instrument, emulator.wavelength)
    fractions = FRACTIONS if options.fractions is None else dict(zip(COMPONENTS, options.fractions, strict=True))
    stars = draw(options.n, options.seed, emulator, gmag=options.gmag, fractions=fractions)
    job = {
        "instrument": json.loads(json.dumps(instrument.settings)),
        "n": options.n,
        "seed": options.seed,
        "gmag": list(options.gmag),
        "fractions": fractions,
        "emulator": emulator.details["checksum"],
        "version": package_version(),
    }
    twin = Twin(instrument, options.seed, stars, Fates.draw(stars, instrument, options.seed), job, options.workers)
    if options.out is not None:
        twin.write_files(options.out, catalogues=options.catalogues)
    if options.store is not None:
        twin.write_store(options.store, Grid.parse(options.grid), options.preparation)
    return 0


def main() -> None:
    """Entry point of stores-simulate."""
    run_command(SimulateOptions, simulate, "stores-simulate")


if __name__ == "__main__":
    main()
