"""Nested spectra: which columns of a table hold them, and what is made of rows that differ or have faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stores import Flag, Grid, Preparation
from stores.errors import InputError
from stores.nested import Columns, Rows, parse_names
from stores.surveys import ReadOptions

pd = pytest.importorskip("pandas")

LRS = Grid.parse("lrs")
AXIS = np.arange(3900.0, 5700.0)
LIST = pa.list_(pa.float32())


def schema(**kinds: Any) -> Any:
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def test_columns_are_found_by_their_names() -> None:
    fields = [pa.field(name, LIST) for name in ("flux", "ivar", "lambda", "mask", "lsf_sigma")]
    whole = schema(other=pa.struct(fields), spectrum=pa.struct(fields), Z=pa.float32(), ZWARN=pa.bool_())
    whole = whole.append(pa.field("object_id", pa.large_string()))
    found = Columns.find(whole, {}, "it").of
    assert found == {
        "flux": "spectrum.flux",
        "ivar": "spectrum.ivar",
        "wavelength": "spectrum.lambda",
        "mask": "spectrum.mask",
        "lsf_sigma": "spectrum.lsf_sigma",
        "redshift": "Z",
        "warning": "ZWARN",
        "id": "object_id",
    }
    item = pa.struct([pa.field("flux", pa.float32()), pa.field("wave", pa.float32())])
    nested = schema(TARGETID=pa.int64(), s=pa.large_list(item), error=LIST)
    assert Columns.find(nested, {}, "it").of == {"flux": "s.flux", "wavelength": "s.wave", "id": "TARGETID"}
    named = parse_names(["wavelength=x", "flux=counts", "id=n"])
    flat = schema(n=pa.int32(), counts=LIST, x=LIST, err=LIST)
    assert Columns.find(flat, named, "it").of == {"flux": "counts", "wavelength": "x", "error": "err", "id": "n"}


def test_columns_that_lack_are_told() -> None:
    good = {"id": pa.int64(), "flux": LIST, "wavelength": LIST}
    lacks = {
        "id": r"it has no column named id, .*object_id; an index on the sky \(_healpix_29\) is no id; .*--columns id=",
        "flux": r"it has no column of lists named flux; name the one that has the flux with --columns flux=NAME",
        "wavelength": "no column of lists named wavelength, lambda, wave, lam; name",
    }
    for name, sentence in lacks.items():
        rest = {role: kind for role, kind in good.items() if role != name}
        with pytest.raises(InputError, match=sentence):
            Columns.find(schema(_healpix_29=pa.int64(), **rest), {}, "it")
    with pytest.raises(InputError, match="it has ids of type double in its column 'id', and only integers keep"):
        Columns.find(schema(**{**good, "id": pa.float64()}), {}, "it")
    with pytest.raises(InputError, match="it has no column of lists 'id', named with --columns; check the name"):
        Columns.find(schema(**good), {"flux": "id"}, "it")


def frame(**columns: Any) -> Any:
    return pd.DataFrame(
        {name: pd.Series(pd.arrays.ArrowExtensionArray(pa.array(one))) for name, one in columns.items()}
    )


def prepared(columns: Any, options: ReadOptions = ReadOptions(), velocities: Any = None) -> dict[str, Any]:
    found = Columns.find(pa.Table.from_pandas(columns, preserve_index=False).schema, {}, "it")
    rows = Rows.of(columns, found)
    return rows.prepare(slice(0, len(rows)), LRS, Preparation(), options, velocities)


def test_each_row_has_its_own_wavelengths_and_faults() -> None:
    axes = [AXIS, AXIS[100:], AXIS, AXIS[::-1], None, AXIS, np.append(AXIS, -1.0)]
    flux = [None if axis is None else np.full(len(axis), 2.0) for axis in axes]
    flux[5] = np.full(7, 2.0)
    ivar = [None if axis is None else np.full(len(axis), 4.0) for axis in axes]
    ids = ["5", "b' 4'", "5", "3", "2", "1", str(2**62 + 1)]
    rv = [0.0, 1.0, None, 0.0, 0.0, 0.0, 0.0]
    found = prepared(frame(object_id=ids, flux=flux, ivar=ivar, wavelength=axes, rv=rv, ra=[1.0] * 7, dec=[2.0] * 7))
    assert found["id"].tolist() == [5, 4, 5, 3, 2, 1, 2**62 + 1]
    unread = (found["flags"] & np.uint32(Flag.UNREADABLE)) != 0
    assert unread.tolist() == [False, False, False, True, True, True, False]
    assert np.all(found["ivar"][unread] == 0)
    assert found["ra"].tolist() == [1.0] * 7
    missing = (found["flags"] & np.uint32(Flag.RV_MISSING)) != 0
    assert missing[~unread].tolist() == [False, False, True, False]
    assert np.flatnonzero(found["flags"] & np.uint32(Flag.DUPLICATE_ID)).tolist() == [2]
    np.testing.assert_allclose(found["flux"][~unread], 1.0, atol=1e-6)
    for name in ("flux", "ivar"):
        np.testing.assert_array_equal(found[name][0], found[name][6])


def test_redshifts_warnings_and_media_count() -> None:
    flux = np.ones(len(AXIS))
    flux[900:905] = 0.2
    lists = {"flux": [flux] * 2, "ivar": [flux] * 2, "wavelength": [AXIS] * 2}
    mask = np.arange(len(AXIS)) > 1500
    found = prepared(frame(id=[1, 2], z=[1e-4, 1e-4], zwarn=[False, True], mask=[mask, mask], **lists))
    assert not found["ivar"][:, LRS.wavelength > 5402].any()
    assert found["ivar"][:, LRS.wavelength < 5398].all()
    np.testing.assert_allclose(found["rv"], [29.979, 0], atol=1e-3)
    assert (found["flags"] & np.uint32(Flag.SURVEY_WARNING) != 0).tolist() == [False, True]
    air = prepared(frame(id=[1, 2], **lists), ReadOptions(medium="air", at_rest=True))
    rest = prepared(frame(id=[1, 2], **lists), ReadOptions(at_rest=True))
    assert not (rest["flags"] & np.uint32(Flag.RV_MISSING)).any()
    place = [np.average(np.arange(LRS.n_pix), weights=np.clip(0.8 - one["flux"][0], 0, None)) for one in (air, rest)]
    assert place[0] - place[1] == pytest.approx(np.log10(1 + 1.34 / 4802) / LRS.step, abs=0.05)


def test_ids_that_are_none_are_refused() -> None:
    lists = {"flux": [AXIS], "ivar": [AXIS], "wavelength": [AXIS]}
    with pytest.raises(InputError, match=r"id 'J12\+34' is not a 64-bit integer"):
        prepared(frame(object_id=["J12+34"], **lists))
    with pytest.raises(InputError, match="a row has no id"):
        prepared(frame(object_id=pa.array([None], pa.int64()), **lists))


def test_widths_in_pixels_become_angstrom() -> None:
    lists = {"flux": [AXIS], "ivar": [AXIS], "wavelength": [AXIS], "lsf_sigma": [np.full(len(AXIS), 1.5)]}
    columns = frame(id=[1], **lists)
    found = Columns.find(pa.Table.from_pandas(columns, preserve_index=False).schema, {}, "it")
    (_, batch), *_ = Rows.of(columns, found)._batches(slice(0, 1), LRS, ReadOptions())
    np.testing.assert_allclose(batch.arms[0].sigma, 1.5)
