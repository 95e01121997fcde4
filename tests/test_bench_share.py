"""Heads trained again on samples in which few stars are of one kind."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bench_made import SEEDS, TRAINING, make_side
from heads_made import TARGETS, make_sample

from benchmarks.cell import Settings
from benchmarks.regime import Regime
from benchmarks.share import ShareOptions, samples, share, thinned
from benchmarks.study import Stage, Study
from stores.errors import InputError, OptionError

POOR = Regime("metal_poor", "feh <= -1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study as heads-bench leaves it: 60 of the target's 150 stars may be learned from."""
    found = tmp_path_factory.mktemp("bench")
    (found / "study").mkdir()
    source, target = (make_side(found, name, seed, 0.0) for name, seed in (("source", 1), ("target", 2)))
    Study("own", (source,), target, TARGETS, 60, 1000).save(found / "study")
    return found


@pytest.mark.parametrize("part", [0.0, 0.1, 0.3, 0.9])
def test_so_many_are_left(part: float) -> None:
    sample = make_sample(200)
    poor = sample.y[:, 0] <= -1
    left = thinned(sample, POOR, part, 0)
    kept = left.y[:, 0] <= -1
    assert np.array_equal(left.id[~kept], sample.id[~poor])
    most = min(poor.sum(), round(part * (~poor).sum() / (1 - part)))
    assert kept.sum() == most
    assert (np.diff(left.id) > 0).all()
    assert np.array_equal(thinned(sample, POOR, part, 0).id, left.id)
    if 0 < most < poor.sum():
        assert not np.array_equal(thinned(sample, POOR, part, 1).id, left.id)


def test_stars_learned_from_are_thinned_and_not_those_tested(folder: Path) -> None:
    stage = Stage.open(Study.load(folder / "study"))
    whole, few = samples(stage, POOR, None, 20), samples(stage, POOR, 0.1, 20)
    assert np.array_equal(whole[0].id, stage.source.id)
    assert np.array_equal(whole[1].id, stage.tuning(20, 0).id)
    assert np.mean(few[0].y[:, 0] <= -1) == pytest.approx(0.1, abs=0.01)
    assert set(few[1].id) <= set(stage.target.id[stage.split(0)[0]])
    assert len(few[1]) == 20
    with pytest.raises(OptionError, match=r"--size 60: \d+ spectra of the target are left"):
        samples(stage, POOR, 0.1, 60)


def test_a_line_for_each_kind_and_input(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "training", TRAINING)
    options = ShareOptions(
        folder=folder, share=0.05, inputs="embedding,spectra", strategy="kriging", size=20, seeds=SEEDS
    )
    assert share(options) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert re.match(r"metal_poor stars: \d of \d+ of the source, \d of 20 of the target; 2 members", first)
    kinds = ["metal_rich", "metal_poor", "very_metal_poor"]
    methods = [(method, name) for method in ("zero_shot", "kriging") for name in ("embedding", "spectra")]
    assert [tuple(line.split()[:3]) for line in lines] == [(kind, *method) for kind in kinds for method in methods]
    assert ["difference" in line for line in lines] == [False, True] * 6
    for line in lines:
        found = re.search(r" (\d\.\d+) \((\d\.\d+)-(\d\.\d+)\)  median [+-]", line)
        assert found
        sigma, low, high = map(float, found.groups())
        assert 0.8 * low <= sigma <= 1.2 * high
    told = [re.search(r"difference (\S+) to (\S+)", line) for line in lines[1::2]]
    # the labels stand in the embeddings, and the pixels are noise
    assert all(one is not None and float(one[1]) > 0 for one in told[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.0}, "--share 1.0"),
        ({"share": -0.1}, "--share -0.1"),
        ({"inputs": "pixels"}, "--inputs pixels"),
        ({"inputs": ","}, "--inputs ,"),
        ({"label": "mass"}, "--label 'mass' is none of feh, teff"),
        ({"regime": "all"}, "--regime all"),
        ({"seeds": 0}, "--seeds 0"),
        ({"size": 5}, "--size 5"),
    ],
)
def test_mistakes_are_told(options: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(OptionError, match=message):
        share(ShareOptions(folder=folder, **options))  # type: ignore[arg-type]


def test_a_folder_without_a_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        share(ShareOptions(folder=tmp_path))
