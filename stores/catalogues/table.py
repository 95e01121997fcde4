"""Any table of labels: FITS (plain or gzip), Parquet, ECSV, CSV or tab-separated.

Columns are found by usual names, or are named: `{"feh": "FE_H", "id": "OBSID", "sigma_feh": "FE_H_ERR"}`. Whatever is
named and is none of NAMES is a label of its own: `{"cfe": "C_FE"}`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores.catalogue import Catalogue, Cut
from stores.catalogues import CatalogueOptions, catalogue
from stores.catalogues.columns import Columns, load_columns
from stores.errors import InputError, OptionError
from stores.spectrum import as_id

# what a column stands for -> its usual names
NAMES = {
    "id": ("id", "obsid", "targetid", "spec_id", "specobjid"),
    "gaia": ("gaia_source_id", "gaiaedr3_source_id", "gaia_dr3_source_id", "gaia", "source_id"),
    "ra": ("ra", "_raj2000", "raj2000", "radeg", "target_ra"),
    "dec": ("dec", "_dej2000", "dej2000", "decdeg", "dedeg", "target_dec"),
    "pmra": ("pmra",),
    "pmdec": ("pmdec", "pmde"),
    "epoch": ("epoch", "ref_epoch"),
}
LABELS = {
    "teff": ("teff", "t_eff"),
    "logg": ("logg", "log_g", "log g"),
    "feh": ("feh", "fe_h", "[fe/h]", "fe/h"),
    "alphafe": ("alphafe", "alpha_fe", "afe", "a_fe", "[alpha/fe]"),
    "vmic": ("vmic",),
}
ERRORS = ("sigma_{}", "e_{}", "{}_err", "{}_error")


@catalogue("table")
def read(path: Path, options: CatalogueOptions) -> Catalogue:
    """Any table with labels and an id, a Gaia id or a position, by usual names or those given."""
    named = {meaning.lower(): name for meaning, name in options.columns.items()}
    table = load_columns(path, lambda names: _wanted(named, names))
    for meaning, name in named.items():
        if table.find(name) is None:
            shown = ", ".join(table.names[:12])
            raise OptionError(f"'{path}' has no column '{name}' for {meaning}; it has {shown}.")

    def of(meaning: str, usual: tuple[str, ...]) -> tuple[str, ...]:
        return (named[meaning],) if meaning in named else usual

    others = [meaning for meaning in named if meaning not in NAMES and not meaning.startswith("sigma_")]
    labels = {label: of(label, LABELS.get(label, ())) for label in (*LABELS, *others)}
    labels = {label: names for label, names in labels.items() if table.find(*names) is not None}
    sigmas = {label: of(f"sigma_{label}", _error_names(names)) for label, names in labels.items()}
    epoch = table.numbers(*of("epoch", NAMES["epoch"]))
    if options.epoch is not None:
        epoch = np.where(np.isfinite(epoch), epoch, options.epoch)
    cuts = [
        Cut(f"a number as {label}, unlike '{texts[0]}': taken as unknown", len(texts))
        for label, names in (labels | {f"sigma of {label}": names for label, names in sigmas.items()}).items()
        if (texts := table.texts(*names))
    ]
    ra, dec = table.degrees(*of("ra", NAMES["ra"]), hours=True), table.degrees(*of("dec", NAMES["dec"]))
    ids = {meaning: _ids(table, meaning, of(meaning, NAMES[meaning])) for meaning in ("id", "gaia")}
    for meaning, (found, texts) in ids.items():
        elsewhere = np.isfinite(ra).any() or any(other is not None for other, _ in ids.values())
        if texts and found is None and (meaning in named or not elsewhere):
            raise InputError(
                f"'{path}': {meaning} '{texts[0]}' is not a 64-bit integer, and neither is any other; name the right "
                f"column with stores-labels --columns {meaning}=NAME."
            )
        if texts:
            cuts.append(Cut(f"an integer as {meaning}, unlike '{texts[0]}': not matched by it", len(texts)))
    return Catalogue(
        "table",
        {label: table.numbers(*names) for label, names in labels.items()},
        {label: table.numbers(*names) for label, names in sigmas.items()},
        id=ids["id"][0],
        gaia=ids["gaia"][0],
        ra=ra,
        dec=dec,
        pmra=table.numbers(*of("pmra", NAMES["pmra"])),
        pmdec=table.numbers(*of("pmdec", NAMES["pmdec"])),
        epoch=epoch,
        cuts=tuple(cuts),
    )


def _ids(table: Columns, meaning: str, names: tuple[str, ...]) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Ids (n,), 0 where there is none, or None if no row has one; and what stands in place of some.

    A column `id` of names is none of ids, and such a table is matched otherwise.
    """
    values = table.find(*names)
    if values is None or values.dtype.kind in "iu":
        return table.ids(*names), []
    ids = np.zeros(table.n, dtype=np.int64)
    texts = []
    for row, word in enumerate(table.words(*names).tolist()):
        if word.lower() in ("", "nan"):
            continue
        try:
            ids[row] = max(as_id([word])[0], 0)
        except InputError:
            texts.append(word)
    return (ids if ids.any() else None), texts


def _error_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(form.format(name) for name in names for form in ERRORS)


def _wanted(named: dict[str, str], names: list[str]) -> list[str]:
    usual = [name for group in (*NAMES.values(), *LABELS.values()) for name in group]
    usual += _error_names(tuple(name for group in LABELS.values() for name in group))
    usual += _error_names(tuple(named.values()))
    return [*usual, *named.values()]
