"""Scores, curves and the choice of strategies: numbers checked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from heads_made import SMALL, make_sample

from heads import Head, train_head
from heads.auto import choose
from heads.bundle import Bundle
from heads.curves import curves, draw
from heads.fit import History
from heads.sample import Sample
from heads.score import LEAST, measures, score_table, scores
from heads.training import Outcome

# -- scores ------------------------------------------------------------------------------------------------


def test_measures_by_hand() -> None:
    y = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    found = measures(y, y + np.array([0.1, -0.1, 0.1, -0.1, 0.2]))
    assert found["n"] == 5
    assert found["r2"] == pytest.approx(1 - 0.08 / 10)  # squares: 4 * 0.01 + 0.04, and 4 + 1 + 0 + 1 + 4
    assert found["median"] == pytest.approx(0.1)
    assert found["sigma"] == pytest.approx(np.sqrt(0.08 / 5 - 0.04**2))  # of the mean 0.04


def test_outliers_do_not_count_in_sigma_but_in_r2() -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=500)
    error = 0.1 * random.normal(size=500)
    wild = error.copy()
    wild[:5] = 50.0
    one, other = measures(y, y + error), measures(y, y + wild)
    assert one["sigma"] == pytest.approx(0.1, rel=0.1)
    assert other["sigma"] == pytest.approx(one["sigma"], rel=0.1)
    assert other["biweight"] == pytest.approx(one["biweight"], rel=0.1)
    assert one["biweight"] == pytest.approx(0.1, rel=0.1)
    assert (one["r2"] > 0.98, other["r2"] < -10) == (True, True)


def test_labels_that_are_all_the_same_have_no_r2() -> None:
    found = measures(np.ones(6), np.ones(6) + np.arange(6))
    assert np.isnan(found["r2"])
    assert found["median"] == 2.5


class Said:
    """A head that says what it was told to."""

    targets = ("feh", "teff")

    def __init__(self, value: Any, low: Any, high: Any) -> None:
        named = {"value": value, "low90": low, "high90": high}
        self.found = SimpleNamespace(**{name: dict.fromkeys(self.targets, one) for name, one in named.items()})

    def predict_sample(self, sample: Sample) -> Any:
        return self.found


def test_regimes_and_coverage_by_hand() -> None:
    """Six metal-rich stars and four metal-poor ones, which are too few for numbers of their own."""
    feh = np.array([0.1, 0.0, -0.1, -0.5, -0.9, -1.0, -1.5, -2.0, -2.5, np.nan, 0.2])
    sample = replace(make_sample(11), y=np.stack([feh, np.where(np.isnan(feh), 5000.0, 6000.0)], axis=1))
    value = np.where(np.isnan(feh), 0.0, feh) + 0.1
    value[10] = np.nan  # a spectrum without a valid pixel
    low, high = np.full(11, -0.55), np.full(11, 5.0)
    found = scores(Said(value, low, high), sample)
    assert LEAST == 5
    assert set(found["feh"]) == {"all", "rich"}  # 0.1 to -0.9; -1 is metal-poor
    assert (found["feh"]["all"]["n"], found["feh"]["rich"]["n"]) == (9, 5)
    assert found["feh"]["rich"]["cover90"] == pytest.approx(4 / 5)  # all but -0.9 lie above -0.55
    assert found["feh"]["all"]["cover90"] == pytest.approx(4 / 9)
    assert found["feh"]["all"]["median"] == pytest.approx(0.1)
    assert (found["teff"]["all"]["n"], found["teff"]["all"]["cover90"]) == (10, 0.0)
    table = score_table(found).splitlines()
    assert len(table) == 1 + 2 + 2
    assert table[1].split()[:4] == ["feh", "all", "9", f"{found['feh']['all']['r2']:.3f}"]
    assert table[2].split()[-2:] == ["+0.100", "80%"]
    assert len({len(line) for line in table}) == 1
    few = scores(Said(value[:4], low[:4], high[:4]), sample.take(np.arange(4)))
    assert few == {"feh": {}, "teff": {}}


# -- curves ------------------------------------------------------------------------------------------------


def test_curves_show_the_losses_and_what_was_kept(tmp_path: Path) -> None:
    history = History(
        step=[10, 20, 30],
        training=[[3.0, 4.0], [2.0, 2.5], [1.0, 1.5]],
        held_out=[[3.5, 4.5], [2.5, 2.0], [2.6, 2.2]],
        best=[20, 0],  # the second member was best before the first step
    )
    [axes] = curves(history).axes
    lines: list[tuple[list[float], list[float]]] = [
        (np.ravel(line.get_xdata()).tolist(), np.ravel(line.get_ydata()).tolist()) for line in axes.lines
    ]
    step = [10, 20, 30]
    assert lines == [
        (step, [3.0, 2.0, 1.0]),
        (step, [4.0, 2.5, 1.5]),
        (step, [3.5, 2.5, 2.6]),
        (step, [4.5, 2.0, 2.2]),
        ([20], [2.5]),
    ]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training", "held out"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "negative log-likelihood")
    draw(history, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


# -- the choice among strategies ---------------------------------------------------------------------------

RICH, POOR = 60, 40


@pytest.fixture(scope="module")
def head() -> Head:
    return train_head(make_sample(30), {"input": "embedding"}, SMALL).head


@pytest.fixture(scope="module")
def stars() -> Sample:
    """60 metal-rich stars, then 40 metal-poor ones."""
    n = RICH + POOR
    y = np.stack([np.where(np.arange(n) < RICH, -0.2, -2.0), np.full(n, 5500.0)], axis=1)
    return replace(make_sample(n), y=y)


def outcome(head: Head, stars: Sample, rich: Any, poor: Any) -> Outcome:
    """Errors of [Fe/H], with a little scatter, in either regime; those of Teff are a thousand times as large."""
    random = np.random.default_rng(3)
    error = np.concatenate([np.broadcast_to(rich, RICH), np.broadcast_to(poor, POOR)])
    error = error * random.uniform(0.9, 1.1, len(error)) * random.choice([-1, 1], len(error))
    value = stars.y + np.stack([error, 1000 * error], axis=1)
    seen = np.ones(len(error), dtype=bool)
    return Outcome(head, History(best=[0]), seen, value, np.ones_like(value), 3, 7)


def picked(head: Head, stars: Sample, **errors: tuple[Any, Any]) -> dict[str, str]:
    return choose(stars, {name: outcome(head, stars, *pair) for name, pair in errors.items()}).picked


def test_a_strategy_that_is_better_wins(head: Head, stars: Sample) -> None:
    found = picked(head, stars, zero_shot=(0.2, 0.2), kriging=(0.1, 0.1), full=(0.15, 0.15))
    assert found == {"feh": "kriging", "teff": "kriging"}
    assert picked(head, stars, zero_shot=(0.2, 0.2), kriging=(0.15, 0.15), full=(0.1, 0.1))["feh"] == "full"


def test_the_most_careful_one_stays_where_nothing_helps(head: Head, stars: Sample) -> None:
    found = picked(head, stars, zero_shot=(0.1, 0.1), kriging=(0.1, 0.1), full=(0.2, 0.2))
    assert set(found.values()) == {"zero_shot"}


@pytest.mark.parametrize(("errors", "wins"), [(1.5, True), (0.5, False)])
def test_better_means_by_more_than_the_standard_error(errors: float, wins: bool, head: Head, stars: Sample) -> None:
    """Gains of two regimes that scatter by 0.04 around their means, so that the standard error is known."""
    scatter = np.where(np.arange(RICH + POOR) % 2 == 0, 0.04, -0.04)
    standard = 0.5 * np.sqrt(0.04**2 / RICH + 0.04**2 / POOR)
    base = replace(outcome(head, stars, 0, 0), value=stars.y + 0.2)
    gain = errors * standard + scatter
    other = replace(base, value=stars.y + 0.2 - gain[:, None])
    found = choose(stars, {"zero_shot": base, "kriging": other})
    assert found.picked["feh"] == ("kriging" if wins else "zero_shot")
    assert found.errors["kriging"]["feh"] == pytest.approx(0.2 - errors * standard)


def test_what_harms_metal_poor_stars_is_not_taken(head: Head, stars: Sample) -> None:
    """Though it is better on the average of both regimes."""
    errors = {"zero_shot": (0.3, 0.10), "full": (0.05, 0.12)}
    assert picked(head, stars, **errors)["feh"] == "zero_shot"
    assert picked(head, stars, **(errors | {"full": (0.05, 0.10)}))["feh"] == "full"


def test_metal_poor_stars_count_as_much_as_the_more_numerous_ones(head: Head, stars: Sample) -> None:
    found = choose(stars, {"zero_shot": outcome(head, stars, 0.1, 0.3)})
    assert found.errors["zero_shot"]["feh"] == pytest.approx(0.2, rel=0.02)  # 0.18 if stars counted alike


def test_a_few_wild_stars_do_not_decide(head: Head, stars: Sample) -> None:
    wild = np.full(RICH, 0.1)
    wild[:2] = 100.0
    assert picked(head, stars, zero_shot=(0.2, 0.2), kriging=(wild, 0.1))["feh"] == "kriging"


def test_each_label_has_its_own_strategy_and_the_table_marks_it(head: Head, stars: Sample) -> None:
    one, other = outcome(head, stars, 0.2, 0.2), outcome(head, stars, 0.1, 0.1)
    mixed = other.value.copy()
    mixed[:, 1] = stars.y[:, 1] + 500.0
    found = choose(stars, {"zero_shot": one, "kriging": replace(other, value=mixed)})
    assert found.picked == {"feh": "kriging", "teff": "zero_shot"}
    rows = {line.split()[0]: line.split()[1:] for line in found.table().splitlines()[1:]}
    assert [cell.endswith("*") for cell in rows["zero_shot"]] == [False, True]
    assert [cell.endswith("*") for cell in rows["kriging"]] == [True, False]
    assert float(rows["kriging"][0].rstrip("*")) == pytest.approx(0.1, abs=0.002)
    assert float(rows["zero_shot"][1].rstrip("*")) == pytest.approx(200, abs=4)
    assert isinstance(found.head, Bundle)
    assert found.head.of == found.picked
    assert found.head.heads["kriging"].about["weights"] == {"trained": 3, "total": 7}
    assert found.head.about["picked"] == found.picked


def test_stars_that_some_strategy_had_seen_do_not_count(head: Head, stars: Sample) -> None:
    """Their prediction is NaN; without any left, the most careful strategy stays."""
    one, other = outcome(head, stars, 0.1, 0.1), outcome(head, stars, 0.3, 0.3)
    value = other.value.copy()
    value[:20] = np.nan
    wild = one.value.copy()
    wild[:20] = 1e6
    found = choose(stars, {"zero_shot": replace(one, value=wild), "full": replace(other, value=value)})
    assert found.errors["zero_shot"]["feh"] == pytest.approx(0.1, rel=0.02)
    none = choose(stars, {"zero_shot": one, "full": replace(other, value=np.full_like(value, np.nan))})
    assert set(none.picked.values()) == {"zero_shot"}
    assert np.isnan(none.errors["full"]["feh"])
