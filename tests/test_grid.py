"""Grids: the named ones are where the documentation says, and others can be given."""

from __future__ import annotations

import numpy as np
import pytest

from stores import Grid
from stores.errors import OptionError
from stores.grid import GRIDS, SPEED_OF_LIGHT, pixel_edges


def test_lrs_is_the_grid_of_specclip() -> None:
    grid = Grid.parse("lrs")
    assert grid.n_pix == len(grid.wavelength) == 1462
    np.testing.assert_allclose(grid.wavelength[[0, -1]], [3999.45, 5598.87], atol=0.005)
    np.testing.assert_allclose(np.diff(np.log10(grid.wavelength)), 1e-4, rtol=1e-9)
    assert grid.kms == pytest.approx(69.03, abs=0.005)
    assert grid.kms == pytest.approx(SPEED_OF_LIGHT * np.log(grid.wavelength[1] / grid.wavelength[0]))


def test_optical_spans_both_arms_on_the_same_lattice() -> None:
    optical, lrs = Grid.parse("optical"), Grid.parse("lrs")
    assert optical.wavelength[0] == pytest.approx(3700, abs=0.5)
    assert optical.wavelength[-1] == pytest.approx(9100, abs=1.5)
    offset = (lrs.start - optical.start) / optical.step
    assert offset == pytest.approx(round(offset), abs=1e-9)
    inside = slice(round(offset), round(offset) + lrs.n_pix)
    np.testing.assert_allclose(optical.wavelength[inside], lrs.wavelength, rtol=1e-13)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_written_as_it_is_parsed(name: str) -> None:
    assert str(Grid.parse(name)) == name
    grid = GRIDS[name]
    spelled = f"{grid.start}:{grid.start + grid.step * (grid.n_pix - 1):.4f}:{grid.step}"
    assert Grid.parse(spelled) == grid


def test_a_grid_by_numbers_includes_both_ends() -> None:
    grid = Grid.parse("3.6:3.7:0.0005")
    assert (grid.start, grid.n_pix, grid.step) == (3.6, 201, 0.0005)
    np.testing.assert_allclose(grid.wavelength[[0, -1]], [10**3.6, 10**3.7])
    assert Grid.parse(str(grid)) == grid
    assert Grid.parse("3.65:3.67:0.001").n_pix == 21


@pytest.mark.parametrize("text", ["", "LRS", "3.6:3.7", "3.6:3.7:a", "3.6:3.7:1e-4:5"])
def test_an_unknown_grid_names_the_known_ones(text: str) -> None:
    with pytest.raises(OptionError, match=rf"^grid '{text}' is neither a known one \(lrs, optical\) nor START:"):
        Grid.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "3.7:3.6:1e-4",
        "1.9:3.7:1e-4",
        "3.6:6.1:1e-4",
        "3.6:3.7:0",
        "3.6:3.7:-1e-4",
        "3.6:3.7:0.01",
        "3.6:3.7:1e-7",
        "nan:3.7:1e-4",
        "3.6:nan:1e-4",
        "3.6:3.7:nan",
        "3.6:inf:1e-4",
    ],
)
def test_numbers_that_make_no_grid_are_one_sentence(text: str) -> None:
    with pytest.raises(OptionError, match=rf"^grid '{text}' must rise from START to STOP.*at least 20 steps\.$"):
        Grid.parse(text)


def test_edges_lie_halfway_and_the_ends_are_symmetric() -> None:
    centres = np.array([1.0, 2.0, 4.0, 5.0])
    np.testing.assert_array_equal(pixel_edges(centres), [0.5, 1.5, 3.0, 4.5, 5.5])
    grid = Grid(3.6, 50, 1e-3)
    assert grid.edges.shape == (51,)
    assert np.all(grid.edges[:-1] < grid.wavelength)
    assert np.all(grid.wavelength < grid.edges[1:])


def test_extended_covers_and_keeps_the_lattice() -> None:
    grid = Grid.parse("lrs")
    grown, inside = grid.extended(3700.0, 6000.0)
    assert grown.wavelength[0] <= 3700.0 < grown.wavelength[1]
    assert grown.wavelength[-2] < 6000.0 <= grown.wavelength[-1]
    assert grown.step == grid.step
    np.testing.assert_allclose(grown.wavelength[inside], grid.wavelength, rtol=1e-13)
    assert len(grown.wavelength[inside]) == grid.n_pix


def test_extended_never_shrinks() -> None:
    grid = Grid.parse("lrs")
    same, inside = grid.extended(4500.0, 4600.0)
    assert same == grid
    assert inside == slice(0, grid.n_pix)
    one_side, inside = grid.extended(3900.0, 4100.0)
    assert inside.stop == one_side.n_pix
    assert inside.start > 0
