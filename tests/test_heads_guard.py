"""Stars beyond the temperatures of a head: what tells them, who teaches it, and what becomes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_made import IDENTITY, SMALL, TARGETS, make_sample
from numpy.typing import NDArray

from heads.guard import FEWEST, MARGIN, Border, Guard
from heads.head import Head
from heads.sample import Sample
from heads.training import adapt_head, train_head
from stores.errors import ModelError
from stores.flags import Flag

LOW, HIGH = 4800.0, 6000.0
NONE = np.zeros(0, dtype=np.int64)


def folded(sample: Sample) -> Sample:
    """Features in which stars that are too hot look like some that are not, but for one small number."""
    values, valid = sample.blocks["embedding"]
    teff = sample.y[:, TARGETS.index("teff")]
    told = np.where(teff > HIGH, 2 * HIGH - teff, teff)
    made = values.copy()
    made[:, 0] = (told - 5500) / 500
    made[:, 1] = 0.3 * (teff > HIGH)
    made[:, 2:] = 0.1 * values[:, 2:]
    return replace(sample, blocks={"embedding": (made, valid)})


def shared_out(sample: Sample) -> tuple[Sample, Border]:
    teff = sample.y[:, TARGETS.index("teff")]
    within = (teff > LOW) & (teff < HIGH)
    beyond = sample.take(np.flatnonzero(~within))
    beyond = replace(beyond, y=beyond.y[:, [TARGETS.index("teff")]], targets=("teff",))
    return sample.take(np.flatnonzero(within)), Border(LOW, HIGH, teff[within], beyond, beyond.take(NONE))


@pytest.fixture(scope="module")
def taught() -> tuple[Head, Sample]:
    """A head of stars in a range of temperatures with a guard, and other stars of all temperatures."""
    sample, border = shared_out(folded(make_sample(900, seed=4)))
    head = train_head(sample, IDENTITY, SMALL).head
    return replace(head, guard=Guard.of(sample, border, head.scalings, 0)), folded(make_sample(400, seed=5))


def flagged(head: Head, sample: Sample) -> NDArray[np.bool_]:
    return np.asarray((head.predict_sample(sample).flags & Flag.OUTSIDE_LABELS) > 0)


def test_hot_stars_are_flagged_that_nothing_else_tells(taught: tuple[Head, Sample]) -> None:
    head, sample = taught
    teff = sample.y[:, TARGETS.index("teff")]
    hot, usual = teff > HIGH + 150, (teff > LOW + 100) & (teff < HIGH - 100)
    assert hot.sum() > 20
    assert flagged(replace(head, guard=None), sample)[hot].mean() < 0.3
    assert flagged(head, sample)[hot].mean() > 0.95
    assert flagged(head, sample)[usual].mean() < 0.02
    assert flagged(head, sample)[teff < LOW - 150].mean() > 0.95


def test_values_do_not_depend_on_the_guard(taught: tuple[Head, Sample]) -> None:
    head, sample = taught
    with_guard, without = (one.predict_sample(sample) for one in (head, replace(head, guard=None)))
    for name in TARGETS:
        np.testing.assert_array_equal(with_guard.value[name], without.value[name])
        np.testing.assert_array_equal(with_guard.low90[name], without.low90[name])


def test_it_reads_temperatures(taught: tuple[Head, Sample]) -> None:
    head, sample = taught
    assert head.guard is not None
    x = head.scalings["embedding"](*sample.blocks["embedding"])
    error = head.guard.teff(x) - sample.y[:, TARGETS.index("teff")]
    assert np.median(np.abs(error)) < 100
    teff, margin = head.guard.teff(x), MARGIN * (HIGH - LOW)
    np.testing.assert_array_equal(head.guard.beyond(x), (teff < LOW - margin) | (teff > HIGH + margin))


def test_it_is_kept_with_the_head(taught: tuple[Head, Sample], tmp_path: Path) -> None:
    head, sample = taught
    head.save_pretrained(tmp_path / "head")
    again = Head.from_pretrained(tmp_path / "head")
    np.testing.assert_array_equal(again.predict_sample(sample).flags, head.predict_sample(sample).flags)
    assert again.fingerprint == head.fingerprint != replace(head, guard=None).fingerprint
    weights = next((tmp_path / "head" / "guard").iterdir())
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match=f"guard/{weights.name} was changed"):
        Head.from_pretrained(tmp_path / "head")


def test_its_ends_cannot_be_moved_unnoticed(taught: tuple[Head, Sample], tmp_path: Path) -> None:
    taught[0].save_pretrained(tmp_path / "head")
    path = tmp_path / "head" / "head.json"
    told: dict[str, Any] = json.loads(path.read_text())
    told["guard"]["numbers"][3] = 90_000.0
    path.write_text(json.dumps(told))
    with pytest.raises(ModelError, match="was changed after it was written"):
        Head.from_pretrained(tmp_path / "head")


def test_an_adapted_head_keeps_it_and_lets_pass_what_it_learned(taught: tuple[Head, Sample]) -> None:
    head, sample = taught
    assert head.guard is not None
    within, _ = shared_out(sample)
    heir = adapt_head(head, within, "zero_shot", SMALL).head
    assert heir.guard is not None
    np.testing.assert_array_equal(heir.guard.numbers, head.guard.numbers)
    wider = adapt_head(head, sample, "zero_shot", SMALL).head
    assert wider.guard is not None
    teff = sample.y[:, TARGETS.index("teff")]
    assert (wider.guard.low, wider.guard.high) == (teff.min(), teff.max())


def test_a_few_stars_teach_nothing() -> None:
    _, border = shared_out(make_sample(200))
    few = replace(border, beyond=border.beyond.take(np.arange(FEWEST - 1)))
    assert border.teaches
    assert not few.teaches
    twice = np.repeat(np.arange(FEWEST - 1), 2)
    assert not replace(border, beyond=border.beyond.take(twice)).teaches  # stars count, not spectra


def test_the_stars_that_another_survey_leaves_out_teach_it_too(taught: tuple[Head, Sample]) -> None:
    """In this survey hot stars look otherwise than in the first."""
    head, _ = taught
    assert head.guard is not None

    def seen_by_another(seed: int) -> Sample:
        sample = folded(make_sample(300, seed=seed))
        values, valid = sample.blocks["embedding"]
        moved = values.copy()
        moved[:, 1], moved[:, 2] = 0.0, values[:, 2] + values[:, 1]  # what tells them stands in another place
        return replace(sample, blocks={"embedding": (moved, valid)})

    before = head.fingerprint
    guard = head.guard.taught(*shared_out(seen_by_another(6)), head.scalings, 0)
    heir, others = replace(head, guard=guard), seen_by_another(7)
    hot = others.y[:, TARGETS.index("teff")] > HIGH + 150
    assert flagged(head, others)[hot].mean() < 0.5
    assert flagged(heir, others)[hot].mean() > 0.9
    usual = np.abs(others.y[:, TARGETS.index("teff")] - 5400) < 400
    assert flagged(heir, others)[usual].mean() < 0.03
    assert head.fingerprint == before  # the base is as it was
