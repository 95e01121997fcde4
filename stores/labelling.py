"""stores-labels: label catalogues -> labels of the spectra in a store, split into parts by star.

    stores-labels desi.zarr --catalogue apogee:allStar.fits saga:saga.tsv pastel:pastel.tsv --bridge mwsall.fits \\
        --sample apogee-metal-poor --out labels.parquet
    stores-labels lamost.zarr --catalogue lasp:dr10_v2.0_LRS_stellar.fits.gz --out labels.parquet
    stores-labels miles.zarr --catalogue table:labels.csv --columns feh=fe_h id=number --out labels.parquet

Catalogues stand in order of priority: each label is taken from the first that has it. What every cut took, how the
spectra were matched and how many labels there are is printed. docs/labels.md has the catalogues, cuts and samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from stores.command import run_command, say
from stores.errors import InputError, OptionError
from stores.location import Location

if TYPE_CHECKING:
    from stores.catalogue import Catalogue
    from stores.labels import Labels
    from stores.match import Match
    from stores.store import Store

# catalogues as (name, kind, file), column names, cuts turned off, fractions of the parts
Checked = tuple[list[tuple[str, str, Path]], dict[str, str], dict[str, list[str]], dict[str, float]]
PARTS = ("train=0.8", "valid=0.1", "test=0.1")


@dataclass(kw_only=True)
class LabelOptions:
    """Find labels for the spectra of a store in catalogues, and split them by star."""

    path: tyro.conf.Positional[Location]
    """The store, of spectra or of embeddings."""
    catalogue: tuple[str, ...]
    """KIND:FILE or NAME=KIND:FILE, in order of priority; kinds are those of docs/labels.md."""
    out: Path
    """The labels to write, .parquet."""
    sample: Literal["plain", "apogee-metal-poor"] = "plain"
    """Which catalogue speaks for which stars: all for all, or APOGEE for [Fe/H] >= -2 and all others below."""
    bridge: tuple[Path, ...] = ()
    """Files that give Gaia ids or proper motions of spectra by their id: mwsall, or any table."""
    by: tuple[Literal["id", "gaia", "position"], ...] = ("id", "gaia", "position")
    """Ways to match that are allowed."""
    radius: float = 1.0
    """Of matches by position, arcsec."""
    epoch: float = 2016.0
    """Of the store's positions, Julian year."""
    columns: tuple[str, ...] = ()
    """Columns of catalogues of the kind `table`: feh=FE_H id=OBSID sigma_feh=FE_H_ERR."""
    catalogue_epoch: float | None = None
    """Of positions in catalogues that do not say, Julian year."""
    keep_all: bool = False
    """Make no quality cuts."""
    off: tuple[str, ...] = ()
    """Cuts that are not made: apogee.snr saga.discordant."""
    parts: tuple[str, ...] = field(default=PARTS)
    """Parts of the split and their fractions of the stars."""
    seed: int = 0
    """Of the split."""
    overwrite: bool = False
    """Replace a file of that name."""


def label(options: LabelOptions) -> int:
    """Write the labels; returns the exit status."""
    from stores.store import open_store

    if options.out.suffix != ".parquet":
        raise OptionError(f"'{options.out}' does not end in .parquet; labels are written as that only.")
    if options.out.exists() and not options.overwrite:
        raise OptionError(f"'{options.out}' exists; choose another --out or add --overwrite.")
    checked = _checked(options)
    store = open_store(options.path)
    labels = label_store(store, options, checked)
    labels.save(options.out)
    for entry in labels.notes["catalogues"]:
        if "sample" in entry:
            print(f"{entry['catalogue']}: {entry['sample'][1]} spectra without {entry['sample'][0]}")
    print(f"\n{labels.summary()}")
    say(f"'{options.out}': labels of {len(labels)} of {len(store)} spectra, {', '.join(labels.names)}.")
    return 0


def label_store(store: Store, options: LabelOptions, checked: Checked | None = None) -> Labels:
    """Labels of a store's spectra from catalogues, as options ask; their path, out and overwrite do not matter.

    What cuts took and how the spectra were matched is printed.
    """
    from stores.combine import SAMPLES, combine
    from stores.match import Spectra, match
    from stores.provenance import file_checksum
    from stores.split import split

    specs, columns, off, fractions = checked or _checked(options)
    catalogues = []
    for name, kind, path in specs:
        say(f"reading {kind} '{path}' ...")
        catalogues.append((name, path, _read(kind, path, off, columns if kind == "table" else {}, options)))
    bridges = [_bridge(path) for path in options.bridge]
    bridges += [held for _, _, held in catalogues if held.id is not None and held.gaia is not None]
    spectra = Spectra.of(store, bridges, options.epoch)
    matches = [match(held, spectra, options.radius, options.by, name=name) for name, _, held in catalogues]
    print(told(catalogues, matches))
    labels = split(combine(matches, spectra, SAMPLES[options.sample]), fractions, options.seed)
    files = [{"catalogue": name, "file": path.name, "sha256": file_checksum(path)} for name, path, _ in catalogues]
    files += [{"bridge": path.name, "sha256": file_checksum(path)} for path in options.bridge]
    about: dict[str, Any] = {"store": store.path.name, "store_fingerprint": store.fingerprint, "files": files}
    about |= {"radius": options.radius, "by": list(options.by), "columns": columns}
    about["cuts_off"] = "all" if options.keep_all else off
    return _noted(labels, about)


def _checked(options: LabelOptions) -> Checked:
    """Catalogues, columns, cuts turned off and fractions; refuses what cannot work before any file is read."""
    from stores import match, split

    match.check(options.radius, options.by, options.epoch)
    fractions = {name: _fraction(name, share) for name, share in _pairs("--parts", options.parts).items()}
    split.check(fractions, options.seed)
    specs = [_spec(text) for text in options.catalogue]
    if not specs:
        raise OptionError("no catalogue was given; name one or more with --catalogue KIND:FILE.")
    columns = _pairs("--columns", options.columns)
    if columns and not any(kind == "table" for _, kind, _ in specs):
        raise OptionError("--columns is for catalogues of the kind 'table', and there is none.")
    return specs, columns, _off(options, [kind for _, kind, _ in specs]), fractions


def told(catalogues: Sequence[tuple[str, Path, Catalogue]], matches: Sequence[Match]) -> str:
    """What the cuts took and how the spectra were matched, as text."""
    from stores.match import FATES

    lines = []
    for name, path, held in catalogues:
        lines.append(f"{name}: {len(held)} rows of '{path.name}' are left; each must have, or is changed where not:")
        lines += [f"  {cut.rows:>9}  {cut.sentence}" for cut in held.cuts] or ["          -  no cuts"]
    width = max(len(match.name) for match in matches)
    lines += ["", "spectra, by how they were matched", "  ".join([" " * width, *FATES])]
    for match in matches:
        counts = [str(count).rjust(len(fate)) for fate, count in match.counts.items()]
        lines.append("  ".join([match.name.ljust(width), *counts]))
    median = "a label is their median, its sigma at least their scatter"
    lines += [
        f"{match.name}: {match.several} spectra have several rows; {median}" for match in matches if match.several
    ]
    return "\n".join(lines)


def _noted(labels: Labels, about: dict[str, Any]) -> Labels:
    from dataclasses import replace

    return replace(labels, notes={**about, **labels.notes})


def _read(
    kind: str, path: Path, off: dict[str, list[str]], columns: dict[str, str], options: LabelOptions
) -> Catalogue:
    from stores.catalogues import ALL, read_catalogue

    without = [ALL] if options.keep_all else off.get(kind, [])
    return read_catalogue(kind, path, off=without, columns=columns, epoch=options.catalogue_epoch)


def _bridge(path: Path) -> Catalogue:
    """Any table with ids of spectra and Gaia ids or proper motions, or a mwsall file, without cuts."""
    from stores.catalogues import ALL, CatalogueOptions, get_catalogue
    from stores.catalogues.columns import has_hdu

    kind = "desi_rvs" if has_hdu(path, "RVTAB") else "table"
    held = get_catalogue(kind).read(path, CatalogueOptions(off=frozenset({ALL})))
    if held.id is None or (held.gaia is None and not any(held.pmra == held.pmra)):
        raise InputError(
            f"'{path}' has no ids of spectra with Gaia ids or proper motions, as a --bridge needs; name another file."
        )
    return held


def _spec(text: str) -> tuple[str, str, Path]:
    """Name, kind and file of KIND:FILE or NAME=KIND:FILE."""
    from stores.catalogues import get_catalogue, load_catalogues

    head, colon, path = text.partition(":")
    name, equals, kind = head.partition("=")
    if not (colon and path and name and (kind or not equals)):
        mine = f"table:{text}" if Path(text).exists() else "table:FILE"
        raise OptionError(
            f"--catalogue {text} is neither KIND:FILE nor NAME=KIND:FILE; kinds are "
            f"{', '.join(sorted(load_catalogues()))}, and a table of your own is {mine}."
        )
    kind = get_catalogue(kind or name).name
    return name, kind, Path(path).expanduser()  # no shell expands ~ behind a colon


def _off(options: LabelOptions, kinds: list[str]) -> dict[str, list[str]]:
    """The cuts that are turned off, by kind of catalogue."""
    off: dict[str, list[str]] = {}
    for text in options.off:
        kind, _, cut = text.partition(".")
        if kind not in kinds or not cut:
            raise OptionError(f"--off {text} is not KIND.CUT of a catalogue that is read ({', '.join(kinds)}).")
        off.setdefault(kind, []).append(cut)
    return off


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise OptionError(f"{option} {text} is not NAME=VALUE.")
        if name in pairs:
            raise OptionError(f"{option} names '{name}' twice.")
        pairs[name] = value
    return pairs


def _fraction(name: str, share: str) -> float:
    try:
        return float(share)
    except ValueError:
        raise OptionError(f"--parts {name}={share} is not a fraction.") from None


def main() -> None:
    """Entry point of stores-labels."""
    run_command(LabelOptions, label, "stores-labels", go_on="run the same command again")


if __name__ == "__main__":
    main()
