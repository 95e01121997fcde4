"""The built-in sample, for commands called without files: stars as a survey would see them, simulated on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stores.errors import OptionError
from stores.grid import Grid
from stores.prepare import Preparation
from stores.spectra import SpectraStore, spectra_columns, spectra_details
from stores.store import Array, shard_rows_for

SAMPLE_STARS = 500
SAMPLE_SEED = 7
SURVEYS = ("lamost", "desi")  # the first where none is asked for


def check_sampled(survey: str) -> None:
    """Refuse a survey without a sample."""
    if survey not in SURVEYS:
        raise OptionError(
            f"survey '{survey}' has no built-in sample; name files, or use --survey {' or '.join(SURVEYS)}."
        )


@dataclass(frozen=True)
class BuiltInSample:
    """Prepared spectra of simulated stars; the same ones for every survey."""

    survey: str
    grid: Grid
    preparation: Preparation
    stars: int = SAMPLE_STARS

    def __post_init__(self) -> None:
        check_sampled(self.survey)

    def __len__(self) -> int:
        return self.stars

    @property
    def details(self) -> dict[str, Any]:
        """What a store says of it."""
        return spectra_details(self.grid, f"{self.survey} (simulated)", self.preparation)

    @property
    def job(self) -> dict[str, Any]:
        """What decides its content, for a store to remember."""
        from stores.simulate.twin import shared_emulator

        return {
            "survey": self.survey,
            "grid": str(self.grid),
            "preprocessing": self.preparation.attributes(self.grid),
            "sample": {"stars": self.stars, "seed": SAMPLE_SEED, "emulator": shared_emulator().details["checksum"]},
        }

    def make(self, rows: slice) -> dict[str, Array]:
        """The columns of a spectra store for some of its rows."""
        from stores.simulate.instrument import Instrument
        from stores.simulate.observe import Fates
        from stores.simulate.population import draw
        from stores.simulate.twin import seen_and_prepared, shared_emulator

        instrument = Instrument.load(self.survey)
        stars = draw(SAMPLE_STARS, SAMPLE_SEED, shared_emulator())
        fates = Fates.draw(stars, instrument, SAMPLE_SEED)
        columns, _ = seen_and_prepared(
            instrument, SAMPLE_SEED, stars.take(rows), fates.take(rows), self.grid, self.preparation
        )
        return columns

    def write(self, path: Path) -> SpectraStore:
        """It as a spectra store, whatever of it was there before."""
        store = SpectraStore.create(
            path,
            spectra_columns(self.grid),
            len(self),
            self.job,
            shard_rows=shard_rows_for(len(self)),
            details=self.details,
        )
        finished = set(store.finished_shards())
        for shard in range(store.n_shards):
            if shard not in finished:
                store.write_shard(shard, self.make(store.rows(shard)), {})
        if not store.complete:
            store.finish()
        return SpectraStore.open(path)
