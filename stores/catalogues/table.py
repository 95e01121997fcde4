"""Any table of labels: FITS (plain or gzip), Parquet, ECSV, CSV or tab-separated.

Columns are found by usual names, or are named: `{"feh": "FE_H", "id": "OBSID", "sigma_feh": "FE_H_ERR"}`. Whatever is
named and is none of NAMES is a label of its own: `{"cfe": "C_FE"}`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores.catalogue import Catalogue
from stores.catalogues import CatalogueOptions, catalogue
from stores.catalogues.columns import Columns, load_columns
from stores.errors import InputError, OptionError

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
    return Catalogue(
        "table",
        {label: table.numbers(*names) for label, names in labels.items()},
        {label: table.numbers(*names) for label, names in sigmas.items()},
        id=_ids(table, "id", named),
        gaia=_ids(table, "gaia", named),
        ra=table.degrees(*of("ra", NAMES["ra"]), hours=True),
        dec=table.degrees(*of("dec", NAMES["dec"])),
        pmra=table.numbers(*of("pmra", NAMES["pmra"])),
        pmdec=table.numbers(*of("pmdec", NAMES["pmdec"])),
        epoch=epoch,
    )


def _ids(table: Columns, meaning: str, named: dict[str, str]) -> NDArray[np.int64] | None:
    if meaning in named:
        return table.ids(named[meaning])
    try:
        return table.ids(*NAMES[meaning])
    except InputError:  # a column `id` of names is none of ids
        return None


def _error_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(form.format(name) for name in names for form in ERRORS)


def _wanted(named: dict[str, str], names: list[str]) -> list[str]:
    usual = [name for group in (*NAMES.values(), *LABELS.values()) for name in group]
    usual += _error_names(tuple(name for group in LABELS.values() for name in group))
    usual += _error_names(tuple(named.values()))
    return [*usual, *named.values()]
