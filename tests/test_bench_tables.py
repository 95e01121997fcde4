"""Tables in Markdown: the numbers of results.parquet, in the order of the study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from results_made import make_results

from benchmarks.results import Results
from benchmarks.tables import TablesOptions, tables
from stores.errors import InputError, OptionError

LABELS, ADAPTERS, SIZES = ("teff", "feh"), ("scratch", "zero_shot", "full"), (0, 100)


@pytest.fixture(scope="module")
def results() -> Results:
    return make_results(stars=60, labels=LABELS, adapters=ADAPTERS, sizes=SIZES)


@pytest.fixture(scope="module")
def folder(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("runs") / "bench"
    results.save(found)
    return found


def printed(capsys: pytest.CaptureFixture[str], options: TablesOptions) -> list[list[str]]:
    """Cells by line."""
    capsys.readouterr()
    assert tables(options) == 0
    lines = capsys.readouterr().out.replace("\\|", "/").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_cells_are_the_results(folder: Path, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    head, rule, *lines = printed(capsys, TablesOptions(folder=folder))
    assert head == ["", "", "stars", "Teff rich", "Teff poor", "[Fe/H] rich", "[Fe/H] poor"]
    assert set(rule) == {"---"}
    assert len({len(line) for line in (head, rule, *lines)}) == 1
    row = results.scores.where(input="fused", strategy="full", size=100, label="feh", regime="metal_poor").rows()[0]
    cell = next(line for line in lines if line[:3] == ["fused", "`full`", "100"])[6]
    assert cell.strip("*") != ""
    assert cell.replace("*", "") == f"{row['sigma']:.3f} ({row['sigma_low']:.3f}-{row['sigma_high']:.3f})"
    assert ["fused", "`full`", "0"] not in [line[:3] for line in lines]
    assert [line[2] for line in lines if line[1] == "`zero_shot`"] == ["0", "0", "0"]
    assert [line[:3] for line in lines[:3]] == [
        ["pipeline", "`SP`", "0"],
        ["pipeline", "`RVSpecfit`", "0"],
        ["baseline", "`ridge_pca64`", "0"],
    ]
    heads = [line[0] for line in lines if line[0] not in ("pipeline", "baseline")]
    assert list(dict.fromkeys(heads)) == ["spectra", "embedding", "fused"]


def test_marks_are_those_of_the_results(
    folder: Path, results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = results.scores.rows()
    for row in rows:
        row["best"] = (row["input"], row["strategy"]) == ("fused", "full")
        row["tied"] = row["best"] or row["input"] == "embedding"
    replace(results, scores=type(results.scores).of_rows(rows)).save(tmp_path)
    options = TablesOptions(folder=tmp_path, labels="feh", regimes="metal_rich", measures="sigma", size=100)
    cells = {tuple(line[:3]): line[3] for line in printed(capsys, options)[2:]}
    assert cells["fused", "`full`", "100"].startswith("**0.")
    assert cells["embedding", "`full`", "100"].startswith("*0.")
    assert cells["spectra", "`full`", "100"].startswith("0.")
    assert cells["baseline", "`knn`", "100"].startswith("0.")


def test_numbers_of_stars_stand_across(folder: Path, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    options = TablesOptions(
        folder=folder,
        by="size",
        labels="teff",
        inputs="spectra",
        adapters="zero_shot,scratch",
        measures="median,cover90",
    )
    head, _, *lines = printed(capsys, options)
    assert head == ["Teff, rich / poor", "", "0", "100"]
    assert [line[:2] for line in lines if line[0] == "spectra"] == [
        ["spectra", "`zero_shot`"],
        ["spectra", "`scratch`"],
    ]
    assert lines[-2][2] != "-"
    assert lines[-2][3] == "-"  # learns nothing from the target
    scratch = lines[-1]
    assert scratch[2] == "-"
    row = results.scores.where(input="spectra", strategy="scratch", size=100, label="teff", regime="metal_rich")
    told = f"{row['median'][0]:+.0f} ({100 * row['cover90'][0]:.0f} %)"
    assert scratch[3].replace("*", "").startswith(told + " / ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "mass"}, "--labels names 'mass'; there are teff, feh"),
        ({"regimes": "rich"}, "--regimes names 'rich'; there are metal_rich, metal_poor"),
        ({"measures": "mean"}, "--measures names 'mean'"),
        ({"inputs": ","}, "--inputs names nothing"),
        ({"size": 7}, "--size 7 is none of 0, 100"),
    ],
)
def test_what_is_not_there_is_told(options: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(OptionError, match=message):
        tables(TablesOptions(folder=folder, **options))  # type: ignore[arg-type]


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results"):
        tables(TablesOptions(folder=tmp_path))
