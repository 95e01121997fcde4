"""heads-predict: a head, and survey files or stores -> a catalogue of stellar parameters.

    heads-predict --survey lamost spectra/ --head lamost-head --out lamost-parameters.parquet
    heads-predict --head feh-head --embeddings desi-embeddings.zarr --out desi-parameters.parquet
    heads-predict --head fused-head --store lamost.zarr --embeddings lamost-embeddings.zarr --out lamost.fits
    heads-predict --hats desi-hats --head desi-head --out desi-parameters      (a HATS catalogue, and another one)
    heads-predict --head lamost-head --out sample.parquet       (a built-in sample)

Files are prepared, and embedded where the head needs it, exactly as the spectra that it learned from; run the same
command again to go on after an interruption. Files that cannot be used are reported, and the rest goes on (exit
status 3).

A row a spectrum: id, ra, dec, snr; for each label X its value X, calibrated X_sigma, bounds X_16 and X_84 of the
central 68 per cent, X_05 and X_95 of 90 per cent; flags. Where a spectrum has no valid pixel the parameters are NaN.
Any number of rows runs through constant memory (as .ecsv they are held). docs/heads.md tells what the numbers mean.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from stores.atomic import remove_rest
from stores.column import ROW_COLUMNS, Column
from stores.command import run_command, say
from stores.errors import InputError, OptionError
from stores.flags import count_flags, flag_table
from stores.ingest import InputOptions
from stores.location import Location, Url
from stores.marker import METADATA
from stores.place import place_at
from stores.processes import reach
from stores.progress import progress
from stores.provenance import provenance
from stores.sample import SURVEYS, check_sampled
from stores.tables import WRITERS, TableForm, refuse_out, write_table

if TYPE_CHECKING:
    from heads.bundle import Bundle
    from heads.head import Head, Prediction
    from stores.store import Array, Store

NAMES = {
    "teff": "effective temperature",
    "logg": "log10 of the surface gravity in cm/s2",
    "feh": "[Fe/H]",
    "alphafe": "[alpha/Fe]",
    "vmic": "microturbulence",
}
# suffix, what of a Prediction, what it is
KINDS = (
    ("", "value", ""),
    ("_sigma", "sigma", ", one calibrated sigma"),
    ("_16", "low", ", lower bound of the central 68 per cent"),
    ("_84", "high", ", upper bound of the central 68 per cent"),
    ("_05", "low90", ", lower bound of the central 90 per cent"),
    ("_95", "high90", ", upper bound of the central 90 per cent"),
)
STORE_KEYS = {"spectra": "STORE", "embeddings": "EMBED"}  # of a FITS header
SPECTRUM = ("ra", "dec", "snr")  # what is taken over from the store
ROWS_TOGETHER = 8_192  # rows that are written at once; more take more memory until they are

Part = dict[str, "Array"]


@dataclass(kw_only=True)
class PredictOptions(InputOptions):
    """Write a catalogue of the parameters that a head reads from spectra: survey files, or stores."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Survey files, folders, or @LIST with a path a line; without them and without stores, a built-in sample."""
    head: Path | None = None
    """The head: a folder, or the name of a built-in one; if not given, the built-in one named after the survey."""
    out: Path
    """The catalogue to write: .parquet, .fits, .ecsv or .csv; with --hats, a folder."""
    hats: str | None = None
    """A HATS catalogue of spectra, a folder or a URL, read through LSDB; the parameters become another one."""
    columns: tuple[str, ...] = ()
    """Columns of --hats whose names are not known, as ROLE=NAME, such as id=SOURCE flux=spectrum.f."""
    store: Location | None = None
    """The store of spectra, a path or a URL, for heads that read spectra."""
    embeddings: Location | None = None
    """The store of embeddings, for heads that read embeddings; with --store, its rows are joined by id."""
    model: str | None = None
    """Where the model lies that embeds files, or encodes spectra, for the head, if not where it lay then."""
    keep_work: bool = False
    """Keep the stores that are made of files, in .NAME.work beside the catalogue."""
    overwrite: bool = False
    """Replace a file of that name."""

    @property
    def from_stores(self) -> bool:
        """Whether the spectra come from stores and not from files."""
        return self.store is not None or self.embeddings is not None

    def check(self) -> None:
        """Refuse values and inputs that cannot work, before anything heavy is loaded."""
        if self.hats is not None:
            self._check_hats(self.hats)
            return
        refuse_out(self.out, overwrite=self.overwrite)
        super().check()
        if self.columns:
            raise OptionError("--columns names columns of a HATS catalogue; add --hats.")
        of_files = ("rv", "medium", "at_rest") + (("survey", "keep_work") if self.from_stores else ())
        of_files += ("model",) if self.embeddings else ()
        given = [name.replace("_", "-") for name in of_files if getattr(self, name)]
        if self.from_stores and self.files:
            raise OptionError("give files or stores: --store and --embeddings take no files beside them.")
        if self.from_stores and given:
            raise OptionError(f"--{given[0]} works with files; stores are taken as they are.")
        if self.from_stores:
            return
        if not self.files and given:
            raise OptionError(f"--{given[0]} works with files, and none were given.")
        if not self.files:
            check_sampled(self.survey or SURVEYS[0])
            return
        if store := next((name for name in self.files if place_at(name).has(METADATA)), None):
            raise OptionError(f"'{store}' is a store; name it with --store or --embeddings.")
        if not any(Path(name.removeprefix("@")).exists() for name in self.files):
            raise InputError(f"'{self.files[0]}' does not exist; check the path.")
        if self.survey is None:
            raise OptionError("files need a reader: add --survey, for instance --survey desi.")
        if self.rv is not None and not self.rv.exists():
            raise InputError(f"'{self.rv}' does not exist; check the path.")

    def _check_hats(self, hats: str) -> None:
        """The same where spectra come from a HATS catalogue."""
        from stores.hats import refuse_uninstalled, told_of
        from stores.nested import parse_names

        super().check()
        others = ("files", "store", "embeddings", "keep_work", "limit")
        if given := [name.replace("_", "-") for name in others if getattr(self, name)]:
            what = "files" if given == ["files"] else f"--{given[0]}"
            raise OptionError(f"{what} and --hats do not go together; leave one of them out.")
        if self.head is None and self.survey is None:
            raise OptionError("--hats needs a head: add --head, or --survey for the built-in one of that survey.")
        parse_names(self.columns)
        if self.out.suffix.lower() in WRITERS:
            raise OptionError(
                f"'{self.out}' is the name of a table; with --hats --out is a folder, such as parameters."
            )
        told = told_of(self.out)
        if self.out.exists() and not told:
            raise OptionError(f"'{self.out}' exists and is no catalogue of parameters; choose another --out.")
        # one that lacks partitions may be gone on with
        if self.out.exists() and not self.overwrite and not told.get("failed"):
            raise OptionError(f"'{self.out}' exists; choose another --out or add --overwrite.")
        if "://" in hats and ("@" in hats.partition("://")[2] or "?" in hats):
            raise OptionError("the URL of --hats has a @ or ? in it, and what follows may be a secret; leave it out.")
        if "://" not in hats and not Path(hats).exists():
            raise InputError(f"'{hats}' does not exist; check the path.")
        if "://" not in hats and Path(hats).resolve() in (self.out.resolve(), *self.out.resolve().parents):
            raise OptionError(f"'{self.out}' lies in the catalogue that is read; choose another --out.")
        if self.rv is not None and not self.rv.exists():
            raise InputError(f"'{self.rv}' does not exist; check the path.")
        refuse_uninstalled()


def predict(options: PredictOptions) -> int:
    """Write the catalogue; returns the exit status."""
    from heads.intake import Need, discard, take_in, work_folder

    if options.out.name:
        remove_rest(work_folder(options.out))
    options.check()
    reach(options.scheduler)
    if options.hats is not None:
        from heads.hats import predict_hats

        return predict_hats(options)
    from heads.bundle import load_head
    from heads.library import find_head, head_of_survey

    folder = head_of_survey(_survey(options)) if options.head is None else find_head(options.head)
    head = load_head(folder, options.model)
    if options.from_stores:
        _write(options, head, folder, options.store, options.embeddings, options.out)
        return 0
    need, work = Need.of(head.identity, folder), work_folder(options.out)
    taken = take_in(options, options.files, need, need.check_model(options.model), work)
    # in the work folder first: a run that is killed leaves nothing anywhere else
    whole = work / options.out.name
    _write(options, head, folder, taken.stores["spectra"], taken.stores.get("embeddings"), whole, taken.about)
    os.replace(whole, options.out)
    if not options.keep_work:
        discard(work)
    return taken.status


def _survey(options: PredictOptions) -> str:
    """The survey whose built-in head is taken where none is named."""
    from stores.store import open_store

    path = options.store or options.embeddings
    named = options.survey or SURVEYS[0] if path is None else str(open_store(path).attributes["survey"])
    return named.removesuffix(" (simulated)")


def _write(
    options: PredictOptions,
    head: Head | Bundle,
    folder: Path,
    spectra: Path | Url | None,
    embeddings: Path | Url | None,
    out: Path,
    taken: Mapping[str, Any] | None = None,
) -> None:
    """Write the catalogue of stores to `out`, and say what is in it.

    taken: where the stores are from, if they were made of files
    """
    from heads.head import ROWS_AT_ONCE
    from heads.inputs import FLAGS, InputStores, unread
    from heads.portion import Reader, portions, portions_by_workers

    name = head.identity["input"]
    if taken is None:
        for kind in unread(name, {"spectra": spectra, "embeddings": embeddings}):
            say(f"note: the head reads the input {name}; {FLAGS[kind]} is not used.")
    model = options.model or (head.identity.get("model") or {}).get("name")
    stores = InputStores.open(name, spectra, embeddings, model)
    stores.refuse_unlike(head.identity)
    n = len(stores) if options.limit is None else min(options.limit, len(stores))
    summary = Summary(head.targets)
    form = catalogue_form(head, folder, stores.stores, n, taken)
    if options.workers > 1 or options.scheduler is not None:
        reader = Reader.of(head, folder, stores, options.model)
        found = portions_by_workers(reader, n, options.workers, options.scheduler)
    else:
        found = portions(head, stores, 0, n)
    found = progress(found, "predicting", unit="part", total=-(-n // ROWS_AT_ONCE))
    write_table(out, form, summary.watch(together(catalogue_part(*portion) for portion in found)))
    say(f"'{options.out}': {summary}")


def catalogue_part(found: Prediction, spectrum: Mapping[str, Array]) -> Part:
    """The catalogue's columns of some predictions, with ra, dec, snr of their spectra."""
    part: Part = {"id": found.id, **{name: spectrum[name] for name in SPECTRUM}}
    for target in found.value:
        part |= {target + suffix: getattr(found, what)[target] for suffix, what, _ in KINDS}
    return {**part, "flags": found.flags}


def together(parts: Iterable[Part], rows: int = ROWS_TOGETHER) -> Iterator[Part]:
    """The same rows in parts of at least so many: few row groups make a table quick to read."""
    waiting: list[Part] = []
    for part in parts:
        waiting.append(part)
        if sum(len(one["id"]) for one in waiting) >= rows:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Part]) -> Part:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# -- what the catalogue says of itself ---------------------------------------------------------------------


def catalogue_columns(targets: Iterable[str]) -> dict[str, Column]:
    """The columns of a catalogue of these labels, with units and descriptions."""
    from stores.catalogue import UNITS

    columns = {name: ROW_COLUMNS[name] for name in ("id", *SPECTRUM)}
    for target in targets:
        for suffix, _, what in KINDS:
            columns[target + suffix] = Column("float32", UNITS.get(target, ""), NAMES.get(target, target) + what)
    return {
        **columns,
        "flags": Column("uint32", "", "quality bitmask of spectrum and parameters; the file tells its bits"),
    }


def catalogue_form(
    head: Head | Bundle, folder: Path, stores: Mapping[str, Store], n: int, taken: Mapping[str, Any] | None = None
) -> TableForm:
    """What a catalogue of n rows is and where it comes from.

    folder: where the head lies; stores: what was read, by kind; taken: what the stores were made of, if of files
    """
    from heads.head import Head

    wrote = provenance()
    adapter = head.adapter if isinstance(head, Head) else head.of
    told = {name: value for name, value in head.about.items() if name != "history"}
    head_about = {"path": str(folder), "fingerprint": head.fingerprint, "adapter": adapter, "about": told}
    sources = {
        kind: {
            "path": str(store.path),
            "fingerprint": store.fingerprint,
            **{name: store.attributes.get(name) for name in ("survey", "grid", "preprocessing", "model")},
        }
        for kind, store in stores.items()
    }
    cards: list[tuple[str, Any, str]] = [
        ("ORIGIN", f"spectrabridge {wrote['version']}", "what wrote the catalogue"),
        ("COMMIT", wrote["commit"], "of that code"),
        ("DATE", wrote["created"], "when the catalogue was begun (UTC)"),
        ("COMMAND", wrote["command"], "that wrote the catalogue"),
        ("HEAD", folder.name, ""),
        ("HEADFP", head.fingerprint, "fingerprint of the head"),
        ("HEADINFO", json.dumps({"adapter": adapter, **told}), "how the head was made"),
    ]
    for kind, store in stores.items():
        key = STORE_KEYS[kind]
        cards += [(key, store.path.name, f"store of {kind}"), (f"{key}FP", store.fingerprint, "its fingerprint")]
    if taken is not None:
        cards += [("SURVEY", taken["survey"], "of the files"), ("NFAILED", len(taken["failed"]), "files of no use")]
    return TableForm(
        name="parameters",
        columns=catalogue_columns(head.targets),
        rows=n,
        about={
            "kind": "parameters",
            "targets": list(head.targets),
            "head": head_about,
            "stores": sources,
            "flag_bits": flag_table(),
            **({} if taken is None else {"files": taken}),
            **wrote,
        },
        extension="PARAMETERS",
        cards=cards,
        comments=[f"flags bit {entry['bit']}: {entry['name']}, {entry['reason']}" for entry in flag_table()],
    )


class Summary:
    """Counts rows, flags and sigmas of parts as they pass; memory does not grow with the rows."""

    def __init__(self, targets: Iterable[str]) -> None:
        self.rows = 0
        self.flags: Counter[str] = Counter()
        # log10 of sigma in bins of 0.001: a median good to a quarter of a per cent
        self.edges = np.linspace(-7.0, 7.0, 14_001)
        self.counts = {target: np.zeros(len(self.edges) - 1, dtype=np.int64) for target in targets}

    def watch(self, parts: Iterable[Part]) -> Iterator[Part]:
        """The parts, counted."""
        for part in parts:
            self.rows += len(part["id"])
            self.flags.update(count_flags(part["flags"]))
            for target, counts in self.counts.items():
                sigma = part[f"{target}_sigma"]
                counts += np.histogram(np.log10(sigma[sigma > 0]), self.edges)[0]
            yield part

    def median_sigma(self, target: str) -> float:
        """Of all rows with parameters; NaN if there are none."""
        sums = np.cumsum(self.counts[target])
        if sums[-1] == 0:
            return np.nan
        place = int(np.searchsorted(sums, (sums[-1] + 1) // 2))
        return float(10 ** ((self.edges[place] + self.edges[place + 1]) / 2))

    def __str__(self) -> str:
        from stores.catalogue import UNITS

        sigmas = (f"{name} {self.median_sigma(name):.3g} {UNITS.get(name, '')}".rstrip() for name in self.counts)
        flagged = ", ".join(f"{name} {count}" for name, count in self.flags.most_common()) or "none"
        return f"{self.rows} rows.\nmedian sigma: {', '.join(sigmas)}\nflagged: {flagged}"


def main() -> None:
    """Entry point of heads-predict."""
    run_command(PredictOptions, predict, "heads-predict", go_on="run the same command again")


if __name__ == "__main__":
    main()
