"""Catalogues of the literature: several measurements are one row a star, robustly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from catalogues_made import JINABASE, LABELS, bright, poor, real, sigma

from stores.catalogue import Catalogue, Cut
from stores.catalogues import read_catalogue
from stores.catalogues.literature import median_and_scatter
from stores.simulate.population import Stars

# -- the literature -----------------------------------------------------------------------------------------


def test_the_median_of_papers_is_robust_and_unordered() -> None:
    random = np.random.default_rng(0)
    star = np.repeat(np.arange(4000), 3)
    values = random.normal(size=len(star))
    median, scatter = median_and_scatter(values, star, 4001)
    np.testing.assert_allclose(median[:4000], np.median(values.reshape(-1, 3), axis=1))
    assert np.isnan(median[4000])
    assert scatter[:4000].mean() == pytest.approx(1, abs=0.05)  # of three values, and not too small
    order = random.permutation(len(star))
    again = median_and_scatter(values[order], star[order], 4001)
    np.testing.assert_array_equal(again[0], median)
    np.testing.assert_allclose(again[1], scatter)
    pairs = median_and_scatter(values[:8000], np.repeat(np.arange(4000), 2), 4000)[1]
    assert pairs.mean() == pytest.approx(1, abs=0.05)
    alone = median_and_scatter(np.array([3.0, np.nan]), np.array([0, 0]), 1)
    assert (alone[0][0], alone[1][0]) == (3.0, 0.0)
    assert median_and_scatter(np.full(7, -2.1), np.zeros(7, int), 1)[1][0] == 0.0
    with_outlier = median_and_scatter(np.array([0.0, 0.1, -0.1, 0.05, 50.0]), np.zeros(5, int), 1)
    assert with_outlier[0][0] == pytest.approx(0.05)


def test_saga_is_one_row_a_star(folder: Path, stars: Stars) -> None:
    read = read_catalogue("saga", folder / "saga.tsv")
    few = poor(stars)
    assert len(read) == len(few) - read.cuts[1].rows
    lines = (folder / "saga.tsv").read_text().splitlines()
    assert read.cuts[0].rows == sum(not line.startswith(("#", "Object")) for line in lines) - len(few)
    np.testing.assert_array_equal(read.epoch, 2000.0)
    star = nearest(read, few, 2000.0)
    assert len(np.unique(star)) == len(read)
    for i, (label, noise) in enumerate(zip(LABELS, (90, 0.19, 0.12, 0.08), strict=True)):
        residual = read.values[label] - few.labels[star, i]
        assert sigma(residual) == pytest.approx(noise, rel=0.35)
        assert np.isfinite(read.values[label]).mean() > 0.85
    pull = (read.values["feh"] - few.labels[star, 2]) / read.sigmas["feh"]
    assert 0.7 < sigma(pull) < 1.8  # errors of papers know nothing of their offsets
    assert (np.isfinite(read.values["alphafe"]) < 1).any()


def test_pastel_is_one_row_a_star(folder: Path, stars: Stars) -> None:
    read = read_catalogue("pastel", folder / "pastel.tsv")
    few = bright(stars)
    assert len(read) == len(few)
    np.testing.assert_array_equal(read.epoch, 2000.0)
    star = nearest(read, few, 2000.0)
    assert len(np.unique(star)) == len(read)
    known = np.isfinite(read.values["feh"])
    assert 0.5 < known.mean() < 0.9
    assert np.isfinite(read.values["teff"]).all()
    assert sigma(read.values["feh"] - few.labels[star, 2]) == pytest.approx(0.07, rel=0.3)
    assert set(read.labels) == {"teff", "logg", "feh"}


def nearest(read: Catalogue, stars: Stars, epoch: float) -> np.ndarray:
    """The star that each row is at; all rows lie on one."""
    from stores.stars import directions

    gap = np.linalg.norm(
        directions(read.ra, read.dec)[:, None] - directions(*stars.at(epoch))[None, :],
        axis=2,
    )
    assert np.degrees(gap.min(axis=1)).max() * 3600 < 0.01
    return gap.argmin(axis=1)


def test_saga_in_other_words(tmp_path: Path) -> None:
    lines = [
        "Object\tReference\tRA\tDecl.\tTeff\tlog g\t[Fe/H]\t[Mg/Fe]",
        "CS22892-052\tA\t22 17 01.66\t-16 39 27.1\t4700\t1.5\t\u22123.0\t0.3",
        "cs22892-052\tB\t22 17 01.66\t-16 39 27.1\t4800\t1.3\t-3.1\t<0.5",
        "HE0107-5240\tC\t01:09:29.16\t-52:24:34.2\t5100\t2.2\t-5.3\t",
        "HE0107-5240\tD\t01:09:29.16\t-52:24:34.2\t5100\t2.2\t-3.0\t",
        "Zero\tD\t00 00 04.0\t-00 30 00.0\t---\t\t-2.0\t0.1",
    ]
    (tmp_path / "saga.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = read_catalogue("saga", tmp_path / "saga.tsv")
    assert len(read) == 2  # one is discordant
    assert read.cuts[:2] == (
        Cut("several measurements of a star are one row", 2),
        Cut("measurements of [Fe/H] scatter by no more than 0.5 dex", 1),
    )
    where = np.argsort(read.values["feh"])
    np.testing.assert_allclose(read.values["feh"][where], [-3.05, -2.0])
    np.testing.assert_allclose(read.values["alphafe"][where], [0.3, 0.1])
    np.testing.assert_allclose(read.sigmas["feh"][where], [0.1 * np.sqrt(np.pi) / 2, np.nan])
    np.testing.assert_allclose(read.values["teff"][where], [4750, np.nan])
    np.testing.assert_allclose(read.ra[where], [15 * (22 + 17 / 60 + 1.66 / 3600), 4 / 240])
    np.testing.assert_allclose(read.dec[where], [-(16 + 39 / 60 + 27.1 / 3600), -0.5])
    assert len(read_catalogue("saga", tmp_path / "saga.tsv", off=["discordant"])) == 3


def test_pastel_as_fits_and_with_semicolons(tmp_path: Path) -> None:
    Table(
        {
            "ID": ["HD 1", "HD 1", "HD 2"],
            "_RA": [1.0, 1.0, 2.0],
            "_DE": [1.0, 1.0, 2.0],
            "Teff": [5000, 5100, 6000],
            "logg": [4.0, 4.2, np.nan],
            "__Fe_H_": [-1.0, -1.2, np.nan],
            "e__Fe_H_": [0.3, 0.5, np.nan],
        }
    ).write(tmp_path / "pastel.fits")
    text = "#VizieR\n\n_RA;_DE;ID;Teff;logg;[Fe/H];e_[Fe/H]\ndeg;deg; ;K; ; ;\n---;---;---;---;---;---;---\n"
    text += "1;1;HD 1;5000;4.0;-1.0;0.3\n1;1;HD  1;5100;4.2;-1.2;0.5\n2;2;HD 2;6000; ; ; \n"
    (tmp_path / "pastel.tsv").write_text(text)
    for name in ("pastel.fits", "pastel.tsv"):
        read = read_catalogue("pastel", tmp_path / name)
        np.testing.assert_allclose(read.values["feh"], [-1.1, np.nan])
        np.testing.assert_allclose(read.sigmas["feh"], [0.4, np.nan])  # larger than their scatter of 0.18
        np.testing.assert_allclose(read.values["teff"], [5050, 6000])
        np.testing.assert_allclose(read.ra, [1, 2])


def test_positions_that_disagree_are_unknown(tmp_path: Path) -> None:
    lines = [
        "Object\tRAdeg\tDECdeg\t[Fe/H]",
        "A\t10\t10\t-1",
        "A\t11\t10\t-1",
        "B\t20\t10\t-1",
        "B\t20\t10\t-1",
        "B\t29\t9\t-1",
    ]
    (tmp_path / "saga.tsv").write_text("\n".join(lines))
    read = read_catalogue("saga", tmp_path / "saga.tsv")
    np.testing.assert_allclose(read.ra, [np.nan, 20.0])
    assert read.cuts[1] == Cut("positions of a star disagree: taken as unknown", 1)


@real
def test_the_real_jinabase() -> None:
    read = read_catalogue("jinabase", JINABASE)
    assert [cut.rows for cut in read.cuts] == [2725, 40, 27]
    assert len(read) == 5037
    at = np.hypot((read.ra - 210.632701) * np.cos(np.radians(9.686)), read.dec - 9.686093) * 3600 < 5  # HD 122563
    assert at.sum() == 1
    star = int(np.flatnonzero(at)[0])
    assert read.values["feh"][star] == pytest.approx(-2.75, abs=0.1)
    assert read.values["teff"][star] == pytest.approx(4560, abs=80)
    assert read.values["alphafe"][star] == pytest.approx(0.45, abs=0.15)
    assert 0.03 < read.sigmas["feh"][star] < 0.2
    metal_poor = read.values["feh"] < -1.5
    assert np.nanmedian(read.values["alphafe"][metal_poor]) == pytest.approx(0.35, abs=0.08)
    assert (read.dec < 0).sum() > 2000
    assert np.nanmin(read.values["feh"]) > -8
