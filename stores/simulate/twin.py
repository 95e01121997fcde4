"""A survey's twin on disk: files in the survey's format, catalogues and truth, or a store of prepared spectra.

Work goes in groups of at most a few hundred stars, each with a file of its truth that says that it is done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.command import say
from stores.errors import OptionError, StoreError
from stores.grid import Grid
from stores.prepare import Preparation, prepare
from stores.processes import in_processes
from stores.progress import progress
from stores.provenance import fingerprint, provenance
from stores.simulate.instrument import Instrument
from stores.simulate.layouts import BLOCK, Cards, get_layout
from stores.simulate.observe import Fates, observe
from stores.simulate.truth import Parts, truth_table

if TYPE_CHECKING:
    import pyarrow

    from stores.simulate.emulator import Emulator
    from stores.simulate.population import Stars

ARM_SNR = ("snr_b", "snr_r")


@dataclass(frozen=True)
class Twin:
    """A population as an instrument sees it.

    job: all that decides the values, as JSON holds it; workers: processes, which decide nothing
    """

    instrument: Instrument
    seed: int
    stars: Stars
    fates: Fates
    job: dict[str, Any]
    workers: int = 1

    def write_files(self, out: Path, *, catalogues: bool) -> None:
        """Spectra, catalogues and truth in a folder; an unfinished one is finished. Raises OptionError."""
        about = {**self.job, "catalogues": catalogues}
        _claim(out, about)
        parts = Parts(out / "truth.parquet")
        if not parts.whole.is_file():
            groups = get_layout(self.instrument.layout).groups(self.stars)
            missing = [number for number in range(len(groups)) if not parts.done(number)]
            tasks = (
                (out, number, groups[number].place, *self._part(groups[number].rows), _cards(self.job))
                for number in missing
            )
            work = in_processes(_write_group, tasks, self.workers)
            done = len(groups) - len(missing)
            for _ in progress(work, "observing", unit="block", total=len(groups), done=done):
                pass
            if catalogues:
                self._write_catalogues(out / "catalogues", parts, len(groups))
            parts.merge(len(groups), {**about, **provenance()})
        size = sum(path.stat().st_size for path in (out / "spectra").iterdir()) / 1e6
        say(f"'{out}': {len(self.stars)} stars as {self.instrument.name} sees them, {size:.0f} MB of spectra.")

    def _write_catalogues(self, folder: Path, parts: Parts, count: int) -> None:
        """Label catalogues that hold these stars."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from stores.simulate.catalogues import write_apogee, write_mwsall, write_pastel, write_saga

        folder.mkdir(exist_ok=True)
        stars, feh, cards = self.stars, self.stars.labels[:, 2], _cards(self.job)
        # chosen: high-resolution surveys reach less deep, compilations hold bright or metal-poor stars
        samples = (
            ("allStar-twin.fits", write_apogee, (stars.gmag < 16.5) & (feh > -2.5)),
            ("saga-twin.tsv", write_saga, feh < -2.0),
            ("pastel-twin.tsv", write_pastel, stars.gmag < 15.0),
        )
        for name, write, rows in samples:
            if rows.any():
                write(folder / name, stars.take(rows), self.seed, cards=cards)
            else:
                say(f"note: none of the stars belongs into {name}, so it is not written.")
        if self.instrument.layout == "desi_coadd":
            arms = {arm.name for arm in self.instrument.arms}
            held = [name for name, arm in zip(ARM_SNR, "BR", strict=True) if arm in arms]
            if not held:
                say("note: without an arm B or R there is no catalogue of the Milky Way Survey.")
                return
            columns = ["id", *held]
            truth = pa.concat_tables([pq.read_table(parts.path(number), columns=columns) for number in range(count)])
            ids = get_layout(self.instrument.layout).ids(stars, self.seed)
            by_id = np.argsort(truth["id"].to_numpy())
            row = by_id[np.searchsorted(truth["id"].to_numpy()[by_id], ids)]
            blue, red = (truth[name if name in held else held[0]].to_numpy()[row] for name in ARM_SNR)
            # the emulator ends before the Z arm begins: R's S/N stands for it
            snr = np.stack([blue, red, red], axis=1)
            write_mwsall(folder / "mwsall-pix-twin.fits", ids, stars, self.seed, snr=snr, cards=cards)

    def _part(self, rows: NDArray[np.int64] | slice) -> tuple[Instrument, int, Stars, Fates]:
        """What another process needs to observe some of the stars."""
        return self.instrument, self.seed, self.stars.take(rows), self.fates.take(rows)

    def write_store(self, path: Path, grid: Grid, preparation: Preparation) -> None:
        """A store of prepared spectra, and its truth beside it; an unfinished one is finished. Raises StoreError."""
        from stores.ingest import unfinished
        from stores.spectra import SpectraStore, spectra_columns, spectra_details
        from stores.store import shard_rows_for

        n, name = len(self.stars), self.instrument.name
        details = spectra_details(grid, name, preparation)
        job = {"survey": name, "grid": str(grid), "preprocessing": details["preprocessing"], "simulation": self.job}
        store = SpectraStore.create(path, spectra_columns(grid), n, job, shard_rows=shard_rows_for(n), details=details)
        parts = _store_truth(path)
        missing = unfinished(store)
        tasks = ((path, shard, *self._part(store.rows(shard)), grid, preparation) for shard in missing)
        work = in_processes(_write_shard, tasks, self.workers)
        for _ in progress(work, "observing", unit="shard", total=store.n_shards, done=store.n_shards - len(missing)):
            pass
        if all(parts.done(number) for number in range(store.n_shards)):
            parts.merge(store.n_shards, {**self.job, **provenance()})
        elif not parts.tells(self.job):
            raise StoreError(
                f"'{parts.whole}', the truth of '{path}', is missing or that of another simulation; delete the store "
                "and simulate it again."
            )
        if not store.complete:
            store.finish()
        say(f"'{path}': {n} spectra as {name} sees them; '{parts.whole}' holds the truth.")


@cache
def shared_emulator() -> Emulator:
    """The emulator, once a process."""
    from stores.simulate.emulator import Emulator

    return Emulator.load()


def _claim(out: Path, about: dict[str, Any]) -> None:
    """Make the folder for a job, or refuse one that holds another."""
    config = out / "config.json"
    if config.is_file():
        try:
            theirs = json.loads(config.read_text())
        except ValueError:
            raise OptionError(f"'{config}' is damaged; delete '{out}' or choose another --out.") from None
        for name, value in about.items():
            if theirs.get(name) != value:
                raise OptionError(
                    f"'{out}' holds a simulation with another {name}; choose another --out or delete it."
                )
    elif out.is_dir() and any(out.iterdir()):
        raise OptionError(f"'{out}' is not empty and holds no simulation; choose another --out.")
    (out / "spectra").mkdir(parents=True, exist_ok=True)
    if not config.is_file():
        with replacing(config) as path:
            path.write_text(json.dumps({**about, **provenance()}, indent=2) + "\n")


def _cards(job: dict[str, Any]) -> Cards:
    """What the header of every file says of its origin."""
    return {
        "SIMULATD": True,
        "SIMVERS": str(job["version"]),
        "SIMCOMIT": str(provenance()["commit"]),
        "SIMSEED": int(job["seed"]),
        "SIMCONF": fingerprint(job),
    }


def _write_group(
    out: Path,
    number: int,
    place: tuple[int, ...],
    instrument: Instrument,
    seed: int,
    stars: Stars,
    fates: Fates,
    cards: Cards,
) -> None:
    emulator = shared_emulator()
    observation = observe(stars, instrument, emulator, seed, fates=fates)
    get_layout(instrument.layout).write(observation, place, out / "spectra", cards)
    Parts(out / "truth.parquet").write(number, truth_table(observation, emulator))


def _write_shard(
    path: Path,
    shard: int,
    instrument: Instrument,
    seed: int,
    stars: Stars,
    fates: Fates,
    grid: Grid,
    preparation: Preparation,
) -> None:
    from stores.spectra import SpectraStore

    columns, truth = seen_and_prepared(instrument, seed, stars, fates, grid, preparation)
    # before the shard's marker: a finished shard always has its truth
    _store_truth(path).write(shard, truth)
    SpectraStore.open(path, unfinished=True).write_shard(shard, columns, {})


def seen_and_prepared(
    instrument: Instrument, seed: int, stars: Stars, fates: Fates, grid: Grid, preparation: Preparation
) -> tuple[dict[str, NDArray[Any]], pyarrow.Table]:
    """Columns of a spectra store with the stars as an instrument sees them, and their truth without bounds."""
    import pyarrow as pa

    from stores.spectra import spectra_values

    values, truth = [], []
    for start in range(0, len(stars), BLOCK):
        rows = slice(start, start + BLOCK)
        observation = observe(stars.take(rows), instrument, shared_emulator(), seed, fates=fates.take(rows))
        batch = get_layout(instrument.layout).batch(observation)
        values.append(spectra_values(prepare([batch], grid, preparation)))
        truth.append(truth_table(observation))
    columns = {name: np.concatenate([part[name] for part in values]) for name in values[0]}
    return columns, pa.concat_tables(truth)


def _store_truth(path: Path) -> Parts:
    return Parts(path.with_name(f"{path.stem}.truth.parquet"))
