"""Catalogues of simulated stars that the tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from catalogues_made import bright, poor
from files import BIG_ID

from stores.simulate.catalogues import write_apogee, write_mwsall, write_pastel, write_saga
from stores.simulate.emulator import Emulator
from stores.simulate.population import Stars, draw


@pytest.fixture(scope="module")
def stars() -> Stars:
    return draw(3000, 21, Emulator.load())


@pytest.fixture(scope="module")
def folder(stars: Stars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogues")
    write_apogee(folder / "allStar.fits", stars, 1)
    write_mwsall(folder / "mwsall.fits", BIG_ID + np.arange(len(stars)), stars, 1)
    write_saga(folder / "saga.tsv", poor(stars), 1)
    write_pastel(folder / "pastel.tsv", bright(stars), 1)
    return folder
