"""Small survey files in their true formats: `write_*` fills in what is not given and returns the path."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BIG_ID = 2**62 + 1
ARMS = {"B": (4000.0, 4160.0), "R": (5760.0, 5920.0), "Z": (7520.0, 7680.0)}


def write_desi_coadd(
    path: Path,
    n: int = 5,
    ids: ArrayLike | None = None,
    seed: int = 0,
    arms: dict[str, tuple[float, float]] | None = None,
    objtype: list[str] | None = None,
    status: ArrayLike | None = None,
    flux: ArrayLike | None = None,
    ivar: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    sigma: float = 0.7,
    z: ArrayLike | None = None,
    zwarn: ArrayLike | None = None,
    spectype: list[str] | None = None,
    redrock: bool = True,
    drop: tuple[str, ...] = (),
) -> Path:
    """A coadd or spectra file of `n` rows and its redrock file beside it, whose rows stand in another order.

    arms: first and last wavelength of each; flux, ivar, mask: broadcast to (n, n_pix) in every arm; sigma:
    width of the resolution matrix in Angstrom; drop: names of HDUs to leave out.
    """
    rng = np.random.default_rng(seed)
    row_ids = np.asarray(39627866878511337 + np.arange(n) if ids is None else ids, dtype=np.int64)
    n = len(row_ids)
    status_name = "FIBERSTATUS" if path.name.startswith("spectra") else "COADD_FIBERSTATUS"
    kinds = np.array(["TGT"] * n if objtype is None else objtype)
    fibermap = [
        fits.Column("TARGETID", "K", array=row_ids),
        fits.Column("TARGET_RA", "D", array=216.0 + 0.01 * np.arange(n)),
        fits.Column("TARGET_DEC", "D", array=1.0 + 0.01 * np.arange(n)),
        fits.Column("OBJTYPE", "3A", array=kinds),
        fits.Column(status_name, "J", array=np.zeros(n, np.int32) if status is None else np.asarray(status)),
    ]
    hdus: list[Any] = []
    for name, (low, high) in (ARMS if arms is None else arms).items():
        wavelength = np.arange(low, high + 0.4, 0.8)
        shape = (n, len(wavelength))
        noise = 10.0 + rng.normal(size=shape)
        offset = np.arange(5, -6, -1)[:, None]
        profile = np.exp(-0.5 * (offset * 0.8 / sigma) ** 2)
        profile = profile / profile.sum()
        bits = np.broadcast_to(0 if mask is None else np.asarray(mask), shape).astype(np.int32)
        hdus += [
            fits.ImageHDU(np.broadcast_to(profile, (n, 11, shape[1])).astype("f4"), name=f"{name}_RESOLUTION"),
            fits.ImageHDU(bits, name=f"{name}_MASK"),
            fits.ImageHDU(wavelength, name=f"{name}_WAVELENGTH"),
            fits.ImageHDU(_full(flux, noise).astype("f4"), name=f"{name}_FLUX"),
            fits.ImageHDU(_full(ivar, np.ones(shape)).astype("f4"), name=f"{name}_IVAR"),
        ]
    hdus.append(fits.BinTableHDU.from_columns(fibermap, name="FIBERMAP"))
    _write(path, [fits.PrimaryHDU(), *(hdu for hdu in hdus if hdu.name not in drop)])
    if redrock:
        known, first = np.unique(row_ids, return_index=True)
        order = rng.permutation(len(known))
        shifts = 1e-4 * (1.0 + first) if z is None else np.asarray(z, dtype=float)[first]
        warn = np.zeros(len(known), int) if zwarn is None else np.asarray(zwarn)[first]
        types = np.array(["STAR"] * n if spectype is None else spectype)[first]
        table = fits.BinTableHDU.from_columns(
            [
                fits.Column("TARGETID", "K", array=known[order]),
                fits.Column("Z", "D", array=shifts[order]),
                fits.Column("ZWARN", "K", array=warn[order]),
                fits.Column("SPECTYPE", "6A", array=types[order]),
            ],
            name="REDSHIFTS",
        )
        _write(path.with_name("redrock-" + path.name.split("-", 1)[1]), [fits.PrimaryHDU(), table])
    return path


def write_lamost(
    path: Path,
    layout: str = "table",
    obsid: int | None = 101017,
    z: float = 1e-4,
    flux: ArrayLike | None = None,
    ivar: ArrayLike | None = None,
    andmask: ArrayLike | None = None,
    wavelength: ArrayLike | None = None,
    n_pix: int = 400,
    seed: int = 0,
    drop: tuple[str, ...] = (),
    **header: Any,
) -> Path:
    """A LAMOST file of layout `table` (DR8 on), `image` or `pilot`; `header` replaces or adds keywords."""
    rng = np.random.default_rng(seed)
    grid = 10.0 ** (3.602 + 1e-4 * np.arange(n_pix))
    primary = fits.PrimaryHDU()
    values = {"LMJD": 55862, "PLANID": "B6212", "SPID": 6, "FIBERID": 5, "RA": 99.5, "DEC": 27.25, "Z": z}
    values |= {"COEFF0": 3.602, "COEFF1": 1e-4, "CLASS": "STAR"} | header
    if obsid is not None:
        values["OBSID"] = obsid
    rows = {
        "FLUX": _full(flux, 300.0 + rng.normal(size=n_pix)),
        "IVAR": _full(ivar, np.ones(n_pix)),
        "WAVELENGTH": _full(wavelength, grid if layout != "pilot" else np.ones(n_pix)),
        "ANDMASK": _full(andmask, np.zeros(n_pix)),
        "ORMASK": np.ones(n_pix),
    }
    rows = {name: row for name, row in rows.items() if name not in drop}
    hdus: list[Any] = [primary]
    if layout == "table":
        columns = [fits.Column(name, f"{n_pix}E", array=row[None]) for name, row in rows.items()]
        hdus.append(fits.BinTableHDU.from_columns(columns, name="COADD"))
    else:
        primary.data = np.stack(list(rows.values())).astype("f4")
    primary.header.update(values)
    return _write(path, hdus)


def write_sdss(
    path: Path,
    plate: int = 266,
    mjd: int = 51602,
    fibre: int = 31,
    z: float = 1e-4,
    zwarning: int = 0,
    kind: str = "STAR",
    flux: ArrayLike | None = None,
    ivar: ArrayLike | None = None,
    loglam: ArrayLike | None = None,
    and_mask: ArrayLike | None = None,
    wdisp: ArrayLike | None = None,
    n_pix: int = 400,
    drop: tuple[str, ...] = (),
) -> Path:
    """An SDSS spec file; `drop` leaves out columns or HDUs by name."""
    columns = {
        "flux": ("E", _full(flux, 20.0 + np.sin(np.arange(n_pix)))),
        "loglam": ("E", _full(loglam, 3.602 + 1e-4 * np.arange(n_pix))),
        "ivar": ("E", _full(ivar, np.ones(n_pix))),
        "and_mask": ("J", _full(and_mask, np.zeros(n_pix)).astype(np.int32)),
        "wdisp": ("E", _full(wdisp, np.full(n_pix, 1.2))),
    }
    primary = fits.PrimaryHDU()
    if "ids" not in drop:
        primary.header.update({"PLATEID": plate, "MJD": mjd, "FIBERID": fibre, "RA": 1.0, "DEC": 2.0})
    coadd = [fits.Column(name, code, array=row) for name, (code, row) in columns.items() if name not in drop]
    about = [
        fits.Column("PLUG_RA", "D", array=[147.25]),
        fits.Column("PLUG_DEC", "D", array=[-0.5]),
        fits.Column("Z", "E", array=[z]),
        fits.Column("ZWARNING", "J", array=[zwarning]),
        fits.Column("CLASS", "6A", array=[kind]),
    ]
    hdus = [
        fits.BinTableHDU.from_columns(coadd, name="COADD"),
        fits.BinTableHDU.from_columns(about, name="SPECOBJ"),
    ]
    return _write(path, [primary, *(hdu for hdu in hdus if hdu.name not in drop)])


def write_fits1d(
    path: Path,
    flux: ArrayLike | None = None,
    n_pix: int = 400,
    start: float = 4000.0,
    step: float = 0.9,
    extra: dict[str, ArrayLike] | None = None,
    seed: int = 0,
    **header: Any,
) -> Path:
    """A one-dimensional image; `extra` are further image HDUs by name, a header keyword None is left out."""
    noise = 1.0 + 0.01 * np.random.default_rng(seed).normal(size=n_pix)
    primary = fits.PrimaryHDU(noise if flux is None else np.asarray(flux, dtype=float))
    values = {"CRVAL1": start, "CDELT1": step, "CRPIX1": 1} | header
    for key, value in values.items():
        if value is not None:
            primary.header[key.replace("_", "-") if key == "DC_FLAG" else key] = value
    images = [fits.ImageHDU(np.asarray(data, dtype=float), name=name) for name, data in (extra or {}).items()]
    return _write(path, [primary, *images])


def write_table(
    path: Path,
    n: int = 5,
    n_pix: int = 50,
    ids: ArrayLike | None = None,
    columns: dict[str, Any] | None = None,
    wavelength: ArrayLike | None = None,
    row_group: int = 2,
    seed: int = 0,
) -> Path:
    """A table of spectra in the format of the path's suffix: .fits, .fits.gz, .ecsv or .parquet.

    columns: replaces or adds columns; None leaves one out. wavelength: in an HDU or the metadata.
    """
    rng = np.random.default_rng(seed)
    held: dict[str, Any] = {
        "obsid": np.asarray(100 + np.arange(n) if ids is None else ids, dtype=np.int64),
        "ra": 10.0 + np.arange(n),
        "dec": 20.0 + np.arange(n),
        "rv": 5.0 * np.arange(n),
        "flux": 10.0 + rng.normal(size=(n, n_pix)),
        "ivar": np.ones((n, n_pix)),
    }
    held = {name: value for name, value in (held | (columns or {})).items() if value is not None}
    axis = np.asarray(4000.0 + np.arange(n_pix) if wavelength is None else wavelength, dtype=float)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = {name: pa.array(list(value) if np.ndim(value) > 1 else value) for name, value in held.items()}
        table = pa.table(arrays).replace_schema_metadata({"wavelength": json.dumps(axis.tolist())})
        pq.write_table(table, path, row_group_size=row_group)
    elif path.suffix == ".ecsv":
        Table(held, meta={"wavelength": axis.tolist()}).write(path, format="ascii.ecsv", overwrite=True)
    else:
        spectra = fits.BinTableHDU(Table(held), name="SPECTRA")
        _write(path, [fits.PrimaryHDU(), spectra, fits.ImageHDU(axis, name="WAVELENGTH")])
    return path


def compress(path: Path) -> Path:
    """The same file, gzipped beside it."""
    packed = path.with_name(path.name + ".gz")
    with open(path, "rb") as plain, gzip.open(packed, "wb") as out:
        shutil.copyfileobj(plain, out)
    return packed


def truncate(path: Path, length: int, name: str = "") -> Path:
    """The first `length` bytes of a file, in its place or beside it under `name`."""
    cut = path.with_name(name) if name else path
    cut.write_bytes(path.read_bytes()[:length])
    return cut


def _full(values: ArrayLike | None, default: NDArray[Any]) -> NDArray[Any]:
    return default if values is None else np.array(np.broadcast_to(np.asarray(values, dtype=float), default.shape))


def _write(path: Path, hdus: list[Any]) -> Path:
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path
