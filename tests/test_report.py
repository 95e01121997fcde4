"""The page of a comparison, as text: all that was found is in it, and nothing of it can do harm."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results_made import make_results

from benchmarks.report import ReportFigure, page, write_report
from benchmarks.report.glossary import MEASURES, condition, label_name
from benchmarks.report.payload import plain, script_json
from benchmarks.report.sections import marked, spoken
from benchmarks.results import Results, Table

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{csv}}"


class Page(HTMLParser):
    """Elements with their attributes, the text people see, and what stands in scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.inside = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif not self.inside:
            self.words += data

    def of(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def results(self) -> dict[str, Any]:
        number = [one.get("id") for one in self.of("script")].index("results")
        found: dict[str, Any] = json.loads(self.scripts[number])
        return found

    @property
    def csv(self) -> list[dict[str, str]]:
        (link,) = [one["href"] for one in self.of("a") if one.get("download") == "results.csv"]
        text = base64.b64decode(link.partition("base64,")[2]).decode()
        return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def results() -> Results:
    return make_results(stars=60, sizes=(0, 100))


def figure(name: str = "one", n: int = 3, **changes: Any) -> ReportFigure:
    trace = {"type": "scatter", "x": np.linspace(0, 1, n), "y": np.linspace(0, 1, n), "text": np.arange(n) + 2**62}
    made = ReportFigure(name, "A title", "A caption.", {"data": [trace], "layout": {}}, f"figures/{name}.png")
    return replace(made, **changes)


def write(results: Results, folder: Path, *figures: ReportFigure) -> Page:
    write_report(results, figures, folder / "report.html")
    return Page(folder / "report.html")


def test_all_numbers_are_in_the_page_and_its_csv(results: Results, tmp_path: Path) -> None:
    found = write(results, tmp_path)
    shown = found.results
    assert [column["name"] for column in shown["columns"]][:4] == ["strategy", "input", "group", "size"]
    assert set(shown["scores"]) == set(results.scores.columns)
    for name, column in results.scores.columns.items():
        if column.dtype.kind != "f":
            assert shown["scores"][name] == column.tolist()
            continue
        np.testing.assert_allclose(np.array(shown["scores"][name], dtype=float), column, rtol=1e-5)
        read = [float(row[name] or "nan") for row in found.csv]
        np.testing.assert_array_equal(read, column)  # to the last digit
    assert [row["strategy"] for row in found.csv] == results.scores["strategy"].tolist()


def test_all_that_is_known_of_the_comparison_is_told(results: Results, tmp_path: Path) -> None:
    found = write(results, tmp_path, figure(pdf="figures/one.pdf"))
    words = " ".join(found.words.split())

    def leaves(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [leaf for one in value.values() for leaf in leaves(one)]
        return [leaf for one in value for leaf in leaves(one)] if isinstance(value, list) else [str(value)]

    about = {name: value for name, value in results.about.items() if name not in ("regimes", "units")}
    for leaf in leaves(about):
        assert leaf in words.replace(",", "") or leaf in words
    for text in (
        "[Fe/H] > −1",
        "[Fe/H] ≤ −1",
        "Metal-rich",
        "SP (DESI's fit of stellar parameters) and RVSpecfit (DESI's fit",
        "ridge_pca64 (a ridge on",
        "spectra, embedding",
    ):
        assert text in words
    for measure in MEASURES:
        assert measure.title in words
    assert "Correct the frozen head by a Gaussian process" in words
    assert "A ridge on 64 principal components" in words
    links = {one.get("href") for one in found.of("a")}
    assert links >= {"figures/one.png", "figures/one.pdf", "#figure-one", "results.parquet", "#glossary"}
    assert {one["id"] for _, one in found.elements if "id" in one} >= {"figure-one", "answer", "compare", "scores"}


def test_a_sentence_has_what_won_first_and_the_rest_smaller(results: Results, tmp_path: Path) -> None:
    said = {
        "metal_rich": "full is best by 0.02; the best of others is lora; so.",
        "metal_poor": "One. Next best: two.",
    }
    write_report(replace(results, about=results.about | {"sentences": said}), (), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert 'Full is best by 0.02. <span class="rest">The best of others is lora; so.</span></p>' in text
    assert 'One. <span class="rest">Next best: two.</span></p>' in text
    assert "Nothing can be said" not in text
    write_report(replace(results, about=results.about | {"sentences": {}}), (), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count("Nothing can be said of this regime.</p>") == 2
    assert spoken("very_metal_poor") == "Very metal-poor"
    assert condition("feh <= -1 and teff > 5000") == "[Fe/H] ≤ −1 and Teff > 5000"
    assert (label_name("teff"), label_name("mgfe")) == ("Teff", "mgfe")


def test_hostile_names_are_only_text(results: Results, tmp_path: Path) -> None:
    clean = write(results, tmp_path, figure())
    scores = dict(results.scores.columns)
    scores["strategy"] = np.where(scores["strategy"] == "full", HOSTILE, scores["strategy"])
    about = results.about | {
        "suite": HOSTILE,
        "labels": [*results.about["labels"], HOSTILE],
        "adapters": [*results.about["adapters"], HOSTILE],
        "source": {"name": HOSTILE, "stars": 3, HOSTILE: HOSTILE},
        "reference": HOSTILE,
        "command": HOSTILE,
        "regimes": {**results.about["regimes"], HOSTILE: HOSTILE},
        "sentences": {**results.about["sentences"], HOSTILE: HOSTILE},
    }
    plot = {"data": [{"type": "scatter", "name": HOSTILE}], "layout": {}}
    bad = figure(HOSTILE, title=HOSTILE, caption=HOSTILE, plot=plot, png="javascript:alert(1)", pdf=HOSTILE)
    found = write(replace(results, about=about, scores=Table(scores)), tmp_path, bad)
    assert len(found.of("script")) == len(clean.of("script"))
    assert not found.of("img")
    assert all(not name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert not any(one.get("href", "").startswith("javascript:") for one in found.of("a"))
    assert HOSTILE in found.results["scores"]["strategy"]
    assert HOSTILE in {row["strategy"] for row in found.csv}
    assert found.words.count(HOSTILE) >= 7
    for number, attributes in enumerate(found.of("script")):
        if attributes.get("type") == "application/json":
            json.loads(found.scripts[number])


def test_nothing_in_a_script_can_end_it() -> None:
    text = script_json({"</script >": "<!--<script>\u2028&amp;"})
    assert not set(text) & set("<>&")
    assert json.loads(text) == {"</script >": "<!--<script>\u2028&amp;"}


def test_file_names_that_are_no_text_are_written(results: Results, tmp_path: Path) -> None:
    about = results.about | {"command": "heads-bench --out \udce9t\udce9"}
    assert "\\udce9t" in write(replace(results, about=about), tmp_path).words


def test_subscripts_are_the_only_markup_of_texts() -> None:
    assert marked("T<sub>eff</sub> & R<sup>2</sup> <b>x</b>") == (
        "T<sub>eff</sub> &amp; R<sup>2</sup> &lt;b&gt;x&lt;/b&gt;"
    )


def test_nothing_is_asked_of_the_network_and_only_these_scripts_run(results: Results, tmp_path: Path) -> None:
    found = write(results, tmp_path, figure())
    for _, attributes in found.elements:
        assert "src" not in attributes
        assert not re.match(r"\w+:(?!text/csv|,)|//", attributes.get("href", ""))
    (policy,) = [one["content"] for one in found.of("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    code = [text for text, one in zip(found.scripts, found.of("script"), strict=True) if not one.get("type")]
    assert allowed == [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
    assert "plotly.js v" in code[-1][:100]
    plot = {"data": [{"type": "scattergl", "x": [1], "y": [1]}], "layout": {}}
    assert "unsafe-eval" in (tmp_path / "report.html").read_text()[:2000] or write(
        results, tmp_path, figure(plot=plot)
    ).of("meta")[1]["content"].count("'unsafe-eval'")


def test_the_same_results_give_the_same_bytes(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path, figure())
    first = (tmp_path / "report.html").read_bytes()
    write(make_results(stars=60, sizes=(0, 100)), tmp_path, figure())
    assert (tmp_path / "report.html").read_bytes() == first
    write(make_results(stars=60, sizes=(0, 100), seed=1), tmp_path, figure())
    assert (tmp_path / "report.html").read_bytes() != first
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_page_stays_small_by_leaving_out_the_largest_figures(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(results, tmp_path, figure())
    alone = (tmp_path / "report.html").stat().st_size
    assert alone < 6_000_000
    assert page.MOST_BYTES == 10_000_000
    monkeypatch.setattr(page, "MOST_BYTES", alone + 40_000)
    found = write(results, tmp_path, figure("small"), figure("huge", 20_000), figure("large", 4000))
    assert (tmp_path / "report.html").stat().st_size < page.MOST_BYTES
    assert [one["data-name"] for one in found.of("div") if "data-name" in one] == ["small"]
    assert found.words.count(page.TOO_LARGE) == 2
    assert "figures/huge.png" in {one.get("href") for one in found.of("a")}


def test_numbers_become_what_browsers_hold() -> None:
    values = {
        "ids": np.array([2**62 + 1, 5]),
        "floats": np.array([1.23456789, np.nan, np.inf, 0.1, 2.0], dtype=np.float64),
        "single": np.float32(0.1),
        "flags": np.array([True, False]),
        "none": None,
        "nested": [(1, -0.5)],
    }
    assert plain(values) == {
        "ids": [str(2**62 + 1), 5],
        "floats": [1.23457, None, None, 0.1, 2],
        "single": 0.1,
        "flags": [True, False],
        "none": None,
        "nested": [[1, -0.5]],
    }


def test_columns_that_are_new_are_shown_and_those_that_lack_are_not(results: Results, tmp_path: Path) -> None:
    scores = dict(results.scores.columns)
    del scores["bound_ratio"]
    scores["kurtosis"] = np.arange(len(results.scores))
    shown = write(replace(results, scores=Table(scores)), tmp_path).results
    names = [column["name"] for column in shown["columns"]]
    assert names[-1] == "kurtosis"
    assert "bound_ratio" not in names
    assert "bound_ratio" not in {measure["name"] for measure in shown["measures"]}


def test_results_without_rows_have_a_page(results: Results, tmp_path: Path) -> None:
    found = write(replace(results, scores=Table({})), tmp_path)
    assert "Nothing was compared." in found.words
    assert "No star was tested." in found.words
    assert found.csv == []


def test_figures_need_names_of_their_own(results: Results, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two figures have one name"):
        write(results, tmp_path, figure(), figure())
    assert not (tmp_path / "report.html").exists()


def test_the_example_of_the_docs_works(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text()
    (code,) = [one for one in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "write_report" in one]
    results.save(tmp_path / "bench")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "benchmarks.md", "exec"), {})
    assert "A figure of mine" in Page(tmp_path / "bench/report.html").words
