"""How DESI identifies targets and describes them: bricks, TARGETID and the columns of its tables.

Columns and their types are those of the iron production (DR1); https://desidatamodel.readthedocs.io.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BRICK_SIZE = 0.25  # deg
OBJECT_BITS, BRICK_BITS, RELEASE_BITS = 22, 20, 16
MOCK, SKY = np.int64(1) << 58, np.int64(1) << 59  # bits of TARGETID
RELEASE = 9010  # of the Legacy Surveys' imaging
MWS_ANY, SKY_TARGET = np.int64(1) << 61, np.int64(1) << 32  # of DESI_TARGET
MWS_BROAD_MAIN_BLUE = 1 | 1 << 8  # of MWS_TARGET

FIBERMAP = """TARGETID K, COADD_FIBERSTATUS J, TARGET_RA D, TARGET_DEC D, PMRA E, PMDEC E, REF_EPOCH E, FA_TARGET K,
FA_TYPE B, OBJTYPE 3A, SUBPRIORITY D, OBSCONDITIONS J, RELEASE I, BRICKNAME 8A, BRICKID J, BRICK_OBJID J,
MORPHTYPE 4A, EBV E, FLUX_G E, FLUX_R E, FLUX_Z E, FLUX_W1 E, FLUX_W2 E, FLUX_IVAR_G E, FLUX_IVAR_R E, FLUX_IVAR_Z E,
FLUX_IVAR_W1 E, FLUX_IVAR_W2 E, FIBERFLUX_G E, FIBERFLUX_R E, FIBERFLUX_Z E, FIBERTOTFLUX_G E, FIBERTOTFLUX_R E,
FIBERTOTFLUX_Z E, MASKBITS I, SERSIC E, SHAPE_R E, SHAPE_E1 E, SHAPE_E2 E, REF_ID K, REF_CAT 2A,
GAIA_PHOT_G_MEAN_MAG E, GAIA_PHOT_BP_MEAN_MAG E, GAIA_PHOT_RP_MEAN_MAG E, PARALLAX E, PHOTSYS 1A, PRIORITY_INIT K,
NUMOBS_INIT K, DESI_TARGET K, BGS_TARGET K, MWS_TARGET K, SCND_TARGET K, PLATE_RA D, PLATE_DEC D, COADD_NUMEXP I,
COADD_EXPTIME E, COADD_NUMNIGHT I, COADD_NUMTILE I, MEAN_DELTA_X E, RMS_DELTA_X E, MEAN_DELTA_Y E, RMS_DELTA_Y E,
MEAN_FIBER_RA D, STD_FIBER_RA E, MEAN_FIBER_DEC D, STD_FIBER_DEC E, MEAN_PSF_TO_FIBER_SPECFLUX E"""
EXP_FIBERMAP = """TARGETID K, PRIORITY J, SUBPRIORITY D, NIGHT J, EXPID J, MJD D, TILEID J, EXPTIME D, PETAL_LOC I,
DEVICE_LOC J, LOCATION K, FIBER J, FIBERSTATUS J, FIBERASSIGN_X E, FIBERASSIGN_Y E, LAMBDA_REF E, PLATE_RA D,
PLATE_DEC D, NUM_ITER K, FIBER_X D, FIBER_Y D, DELTA_X D, DELTA_Y D, FIBER_RA D, FIBER_DEC D,
PSF_TO_FIBER_SPECFLUX D"""
REDSHIFTS = """TARGETID K, Z D, ZERR D, ZWARN K, CHI2 D, COEFF 10D, NPIXELS K, SPECTYPE 6A, SUBTYPE 20A, NCOEFF K,
DELTACHI2 D"""
TSNR2_KINDS = ("GPBDARK", "ELG", "GPBBRIGHT", "LYA", "BGS", "GPBBACKUP", "QSO", "LRG")
TSNR2 = "TARGETID K, " + ", ".join(f"TSNR2_{kind}{arm} E" for arm in ("_B", "_R", "_Z", "") for kind in TSNR2_KINDS)
SCORES = (
    "TARGETID K, "
    + ", ".join(
        f"{what}_{arm} E" for arm in "BRZ" for what in ("INTEG_COADD_FLUX", "MEDIAN_COADD_FLUX", "MEDIAN_COADD_SNR")
    )
    + TSNR2.removeprefix("TARGETID K")
)


def bricks(ra: Float, dec: Float) -> tuple[Int, list[str]]:
    """Numbers and names (n,) of the Legacy Surveys' bricks that positions (n,) in deg lie in.

    Rows of declination BRICK_SIZE high, the poles in the middle of the first and last, each cut into an even number
    of bricks no wider than that.
    """
    n_rows = round(180 / BRICK_SIZE) + 1
    centre = -90 + BRICK_SIZE * np.arange(n_rows)
    widest = np.cos(np.radians(np.abs(centre) - BRICK_SIZE / 2))
    columns = (2 * np.ceil(360 / BRICK_SIZE * widest / 2)).astype(np.int64)
    columns[[0, -1]] = 1
    before = np.concatenate([[0], np.cumsum(columns)])
    row = np.floor((dec + 90) / BRICK_SIZE + 0.5).astype(np.int64)
    column = np.floor(ra % 360 / 360 * columns[row]).astype(np.int64)
    middle = (column + 0.5) * 360 / columns[row]
    names = [
        # cut to tenths of a degree after rounding away the noise of binary fractions
        f"{int(round(a * 1e4) // 1000):04d}{'m' if d < 0 else 'p'}{int(round(abs(d) * 1e4) // 1000):03d}"
        for a, d in zip(middle, centre[row], strict=True)
    ]
    return before[row] + column + 1, names


def target_ids(brick: Int, number: Int, *, sky: bool = False) -> Int:
    """TARGETID (n,): object number, brick, release, and the bit that marks mocks (and sky positions)."""
    base = MOCK | (SKY if sky else 0) | np.int64(RELEASE) << (OBJECT_BITS + BRICK_BITS)
    ids: Int = base | brick << OBJECT_BITS | number % (1 << OBJECT_BITS)
    return ids
