"""Surveys that the tests of classical methods share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from baselines_made import N_SOURCE, N_TARGET, SEED, Seen, make_seen

from stores.simulate.population import draw
from stores.simulate.twin import shared_emulator


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    stars = draw(N_TARGET, SEED, shared_emulator())
    return make_seen(tmp_path_factory.mktemp("target") / "desi.zarr", "desi", stars)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    stars = draw(N_SOURCE, SEED + 1, shared_emulator())
    return make_seen(tmp_path_factory.mktemp("source") / "lamost.zarr", "lamost", stars)


@pytest.fixture(scope="module", autouse=True)
def few_looked_at() -> Iterator[None]:
    """Model errors from as few spectra as tell them pixel by pixel: quicker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.baselines.survey.LOOKED_AT", 30)
        yield
