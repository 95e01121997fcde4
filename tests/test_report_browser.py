"""The page of a comparison in a browser: tables, figures, keys, colours and narrow screens, all without a network.

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver), and says so where there are none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results_made import make_results

from benchmarks.report import ReportFigure, write_report
from benchmarks.results import Results

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install '.[test]'")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
ADAPTERS = ("scratch", "zero_shot", "kriging", "full")
STAR = 2**62 + 1  # no number of JavaScript
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="there is no Chromium with a driver here: apt-get install chromium chromium-driver",
)


class Browser:
    """A page, and what tests ask of it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self) -> None:
        self.look()
        self.driver.get(self.address)

    def look(self, *, width: int = 1300, dark: bool = False) -> None:
        """Give the window a width and the system a colour scheme."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, code: str, *values: Any) -> Any:
        return self.driver.execute_script(code, *values)

    def wait(self, condition: str, *values: Any) -> Any:
        return WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(condition, *values))

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        code = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent.trim())"
        found: list[str] = self.run(code, selector)
        return found

    def choose(self, selector: str, text: str) -> None:
        Select(self.one(selector)).select_by_visible_text(text)

    def column(self, name: str) -> list[str]:
        """Cells of the table of all numbers."""
        number = self.run(
            "return [...document.querySelectorAll('#scores-table thead th')]"
            ".findIndex((one) => one.dataset.column === arguments[0]) + 1",
            name,
        )
        return self.texts(f"#scores-table tbody tr > :nth-child({number})")

    def figure(self, name: str) -> Any:
        """A figure's plot, scrolled to and drawn."""
        plot = self.one(f"#figure-{name} .plot")
        self.run("arguments[0].scrollIntoView({ behavior: 'instant', block: 'center' })", plot)
        self.wait("return Boolean(arguments[0].querySelector('.xy .trace, .gl-container canvas'))", plot)
        return plot

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """Addresses that were asked for, but for what stands in the page itself."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in asked if not address.startswith(("data:", "blob:"))]


@pytest.fixture(scope="module")
def results() -> Results:
    return make_results(stars=60, sizes=(0, 100), labels=("teff", "logg", "feh"), adapters=ADAPTERS)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.getuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def tables(results: Results, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page without figures, nor the time to load what draws them."""
    path: Path = tmp_path_factory.mktemp("report") / "tables.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plotly.offline.get_plotlyjs", lambda: "")
        write_report(results, (), path)
    return path.as_uri()


@pytest.fixture(scope="module")
def figures(results: Results, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with figures."""
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    stars: dict[str, Any] = {"x": [1, 2, 3], "y": [1, 3, 2], "text": np.arange(3) + STAR, "mode": "markers"}
    stars |= {"type": "scatter", "hovertemplate": "%{text}<extra></extra>", "marker": {"size": 14}}
    line = {"x": [1, 3], "y": [1, 3], "mode": "lines", "line": {"color": "black"}, "hoverinfo": "skip"}
    half = {"xaxis": {"domain": [0, 0.45]}, "xaxis2": {"domain": [0.55, 1]}, "height": 300}
    one = {"type": "surface", "z": [[1, 2], [3, 5]]}
    surfaces = [one, one | {"scene": "scene2"}]
    two = {"scene": {"domain": {"x": [0, 0.45]}}, "scene2": {"domain": {"x": [0.55, 1]}}, "height": 300}
    drawings = [
        ReportFigure("stars", "Stars", "Each a star.", {"data": [stars, line], "layout": {}}),
        ReportFigure("panels", "Panels", "Two.", {"data": [stars, stars | {"xaxis": "x2"}], "layout": half}),
        ReportFigure("fast", "Fast", "By WebGL.", {"data": [stars | {"type": "scattergl"}], "layout": {}}),
        ReportFigure("surface", "Surface", "By WebGL.", {"data": surfaces, "layout": two}),
    ]
    write_report(results, drawings, path)
    return path.as_uri()


@pytest.fixture
def page(driver: Any, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """The page, opened; it must not complain nor ask for anything, whatever a test does to it."""
    address = request.getfixturevalue("figures" if "figure" in request.node.name else "tables")
    browser = Browser(driver, address)
    browser.complaints(), browser.requests()
    browser.open()
    yield browser
    assert browser.complaints() == []
    assert set(browser.requests()) == {address}


def number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace(",", "").removesuffix(" %"))


def contrast(page: Browser, element: Any) -> float:
    """Of text against what is behind it (WCAG 2.1)."""
    colours = page.run(
        """let one = arguments[0];
        const ink = getComputedStyle(one).color;
        const clear = () => /^rgba.*, 0[)]$/.test(getComputedStyle(one).backgroundColor);
        while (clear() && one.parentElement) one = one.parentElement;
        return [ink, getComputedStyle(one).backgroundColor];""",
        element,
    )
    lights = []
    for colour in colours:
        levels = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_a_header_sorts_its_column_both_ways(page: Browser, results: Results) -> None:
    page.one("#scores-more").click()
    again = results.scores.where(strategy="zero_shot", size=100)  # says what it said without any star
    assert len(again) > 0
    assert len(page.column("sigma")) == len(results.scores) - len(again)
    header = page.one("th[data-column=r2]")
    assert header.get_attribute("aria-sort") is None
    header.find_element(By.TAG_NAME, "button").click()
    values = [number(text) for text in page.column("r2")]
    assert values == sorted(values)
    assert len(set(values)) > 20
    assert header.get_attribute("aria-sort") == "ascending"
    header.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert [number(text) for text in page.column("r2")] == sorted(values, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"
    assert page.texts("#scores-status") == [f"{len(values)} of {len(values)} rows, sorted by R², descending."]
    page.one("th[data-column=strategy] button").click()
    names = page.column("strategy")
    assert names == sorted(names, key=str.lower)
    assert [page.run("return arguments[0].getAttribute('aria-sort')", header)] == [None]


def test_what_is_unknown_comes_last_whichever_way(page: Browser) -> None:
    page.one("#scores-more").click()
    for name in ("cover90", "cover90", "rank"):
        page.one(f"th[data-column={name}] button").click()
        known = [text != "–" for text in page.column(name)]
        assert 0 < sum(known) < len(known)
        assert known == sorted(known, reverse=True)


def test_the_long_table_filters(page: Browser, results: Results) -> None:
    page.choose("#scores-controls [name=label]", "[Fe/H]")
    page.choose("#scores-controls [name=group]", "head")
    page.choose("#scores-controls [name=size]", "100")
    page.choose("#scores-controls [name=regime]", "Metal-poor")
    expected = results.scores.where(label="feh", group="head", size=100, regime="metal_poor")
    expected = expected.take(expected["strategy"] != "zero_shot")
    assert page.column("strategy") == expected["strategy"].tolist()
    assert set(page.column("regime")) == {"Metal-poor"}
    np.testing.assert_allclose([number(text) for text in page.column("sigma")], expected["sigma"], atol=5e-4)
    page.one("#scores-reset").click()
    assert len(page.column("sigma")) == 100  # the first of all


def test_the_controls_change_the_comparison(page: Browser, results: Results) -> None:
    def cell(**where: Any) -> str:
        body, row, column = (where[name] for name in ("label", "input", "strategy"))
        return str(
            page.run(
                """const table = document.getElementById("compare-table");
                const body = [...table.tBodies].find((one) => one.textContent.startsWith(arguments[0]));
                const row = [...body.rows].find((one) => one.cells[0].textContent === arguments[1]);
                const names = [...table.tHead.rows[1].cells].map((one) => one.textContent);
                const back = names.length - names.indexOf(arguments[2]);
                return row.cells[row.cells.length - back].textContent;""",
                body,
                row,
                column,
            )
        )

    def told(name: str, size: int, measure: str) -> float:
        rows = results.scores.where(label="feh", regime=name, input="fused", strategy="full", size=size)
        return float(rows[measure][0])

    place = {"label": "[Fe/H]", "input": "fused", "strategy": "full"}
    learned = [name for name in ADAPTERS if name != "zero_shot"]
    assert page.texts("#compare-table thead tr:first-child th") == [
        "Input",
        "Head of the source",
        "Heads after 100 target stars",
    ]
    assert page.texts("#compare-table thead tr:last-child th") == ["zero_shot", *learned]
    before = cell(**place)
    assert before.startswith(f"{told('metal_rich', 100, 'sigma'):.3f}")
    assert f"{told('metal_rich', 100, 'sigma_low'):.3f}–{told('metal_rich', 100, 'sigma_high'):.3f}" in before
    page.choose("#compare-controls [name=regime]", "Metal-poor")
    assert cell(**place).startswith(f"{told('metal_poor', 100, 'sigma'):.3f}")
    page.choose("#compare-controls [name=measure]", "R²")
    assert cell(**place) == f"{told('metal_poor', 100, 'r2'):.3f}".replace("-", "\u2212")
    page.choose("#compare-controls [name=measure]", "Coverage")
    assert cell(**place) == f"{100 * told('metal_poor', 100, 'cover90'):.1f} %"
    page.choose("#compare-controls [name=size]", "0 stars")
    assert page.texts("#compare-table thead tr:last-child th") == ["zero_shot"]
    caption = page.texts("#compare-caption")[0]
    assert caption == "Coverage; metal-poor stars ([Fe/H] ≤ −1); 0 stars of the target learned from"
    assert len(page.texts("#compare-table tbody")) == 3
    page.one("#compare-controls input[value=teff]").click()
    assert [text.split()[0] for text in page.texts("#compare-table tbody th[scope=rowgroup]")] == [
        "log",
        "[Fe/H]",
    ]


def test_what_has_no_input_has_rows_of_its_own(page: Browser, results: Results) -> None:
    body = "#compare-table tbody:nth-of-type(3)"
    assert [" ".join(text.split()) for text in page.texts(f"{body} th[scope=row]")] == [
        *("spectra", "embedding", "fused"),
        *("none survey pipeline", "none baselines"),
    ]
    for row, group in ((5, "pipeline"), (6, "baseline")):
        scores = results.scores.where(group=group, label="feh", regime="metal_rich")
        expected = scores.take(scores["size"] == scores["size"].max())
        shown = f"{body} tr:nth-child({row}) .methods"
        assert page.texts(f"{shown} .name") == expected["strategy"].tolist()
        assert page.texts(f"{shown} .value") == [f"{sigma:.3f}" for sigma in expected["sigma"]]
    assert page.texts("#compare-table [rowspan]") == ["Input"]
    assert "differences between heads over the same stars, so a smaller σ need not" in page.texts("#compare-note")[0]
    for width in (390, 1300):  # each name is over its own number, within the box
        page.driver.set_window_size(width, 900)
        outside = page.run(
            """return [...document.querySelectorAll("#compare-table .methods > div")].filter((one) => {
                const box = (part) => one.querySelector(part).getBoundingClientRect();
                const [name, value] = [box(".name"), box(".value")];
                return value.top < name.bottom - 4 || value.left > name.right;
            }).length"""
        )
        assert outside == 0


def test_what_is_ahead_is_told_in_bold_and_in_words(page: Browser, results: Results) -> None:
    scores = results.scores.where(size=100, regime="metal_rich", group="head")
    ahead = [row for row in scores.rows() if row["best"] or row["best_of_row"]]
    assert ahead
    assert len(page.texts("#compare-table .won strong")) == len(ahead)
    stars = page.texts("#compare-table .won .mark")
    assert sum(text.startswith("★★ (significantly better than all") for text in stars) == sum(r["best"] for r in ahead)
    page.choose("#compare-controls [name=measure]", "Outliers")
    assert page.texts("#compare-table .won") == []


def test_pointing_at_a_point_of_a_figure_tells_the_star(page: Browser) -> None:
    plot = page.figure("stars")
    place = page.run(
        """const { xaxis, yaxis } = arguments[0]._fullLayout;
        const box = arguments[0].getBoundingClientRect();
        return [xaxis._offset + xaxis.l2p(2) - box.width / 2, yaxis._offset + yaxis.l2p(3) - box.height / 2];""",
        plot,
    )
    ActionChains(page.driver).move_to_element_with_offset(plot, *(round(one) for one in place)).perform()
    page.wait("return document.querySelector('#figure-stars .hoverlayer .hovertext')")
    assert page.texts("#figure-stars .hoverlayer .hovertext") == [str(STAR + 1)]


def test_figures_zoom(page: Browser) -> None:
    plot = page.figure("stars")
    before = page.run("return arguments[0]._fullLayout.xaxis.range", plot)
    ActionChains(page.driver).move_to_element(plot).click_and_hold().move_by_offset(120, 60).release().perform()
    page.wait(
        "const [a, b] = arguments[0]._fullLayout.xaxis.range; return b - a < 0.6 * arguments[1]",
        plot,
        before[1] - before[0],
    )


def test_figures_are_drawn_when_they_come_near(page: Browser) -> None:
    drawn = "return [...document.querySelectorAll('.plot')].map((one) => one.matches('.js-plotly-plot'))"
    assert page.run(drawn) == [False] * 4
    page.figure("stars")
    assert page.run(drawn)[0]
    for name in ("fast", "surface"):  # WebGL works under the page's policy
        page.figure(name)
        assert "WebGL is not supported" not in page.one(f"#figure-{name}").text


def test_a_narrow_page_with_figures_does_not_overflow(page: Browser) -> None:
    page.look(width=360)
    for name in ("stars", "panels"):
        page.figure(name)
    assert page.run("return document.documentElement.scrollWidth") == 360
    box = page.one("#compare .scroll")
    assert page.run("return arguments[0].scrollWidth > arguments[0].clientWidth && arguments[0].tabIndex === 0", box)
    inside = "const one = arguments[0]; return [one.scrollWidth, one.clientWidth, one.tabIndex]"
    whole, seen, _ = page.run(inside, page.one("#figure-stars .box"))
    assert whole <= seen
    page.wait("return document.querySelector('#figure-panels .box').tabIndex === 0")  # scrolls, by keys too


def test_panels_of_a_figure_have_room_for_their_words_on_a_narrow_page(page: Browser) -> None:
    page.look(width=390)
    width = "return arguments[0]._fullLayout.width"
    flat, solid = (page.run(width, page.figure(name)) for name in ("panels", "surface"))
    assert flat == 60 + 2 * 230
    assert solid == 60 + 2 * 320  # where a cube is higher than wide its titles are cut


def test_methods_without_input_are_in_sight_on_a_narrow_page(page: Browser) -> None:
    page.look(width=390)
    outside = """const box = document.querySelector("#compare .scroll");
        box.scrollLeft = arguments[0];
        const { left, right } = box.getBoundingClientRect();
        const stub = document.querySelector("#compare-table .without .stub").getBoundingClientRect().right;
        return [box.scrollLeft, [...document.querySelectorAll("#compare-table .methods > div")].filter((one) => {
            const own = one.getBoundingClientRect();
            return own.left < Math.max(left, stub) || own.right > right;
        }).length]"""
    assert page.run(outside, 0) == [0, 0]
    scrolled, lost = page.run(outside, 150)
    assert scrolled > 20  # there is more than is in sight
    assert lost == 0


def test_figures_are_drawn_as_wide_as_paper_for_printing(page: Browser) -> None:
    page.look(width=390)
    page.run("document.querySelector('.plot').scrollIntoView()")
    width = "const plot = document.querySelector('.plot'); return plot._fullLayout && plot._fullLayout.width"
    on_screen = page.wait(width)
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(width) == 980
    assert page.run("return document.querySelector('.plot').style.minWidth") == ""
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.wait(f"{width} < 980")
    assert page.run(width) == on_screen


@pytest.mark.parametrize("dark", [False, True])
def test_words_and_figures_can_be_read_in_both_colours(page: Browser, dark: bool) -> None:
    page.look(dark=dark)
    page.figure("stars")
    words = [
        "body",
        ".lead",
        ".sentence",
        ".muted",
        "a",
        "figcaption",
        "dt",
        "dd",
        "thead th",
        "td",
        ".range",
        "nav a",
        ".won strong",
    ]
    for selector in words:
        assert contrast(page, page.one(selector)) >= 4.5, selector
    ground = contrast(page, page.one("body"))
    assert page.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(21, 23, 27)" if dark else "rgb(252, 251, 249)"
    )
    assert ground > 10
    ink = "return getComputedStyle(document.querySelector('#figure-stars .xtick text')).fill"
    assert page.run(ink) == page.run("return getComputedStyle(document.body).color")


def test_colours_can_be_chosen_and_figures_follow(page: Browser) -> None:
    page.figure("stars")
    line = "return getComputedStyle(document.querySelectorAll('#figure-stars .js-line')[0]).stroke"
    assert page.run(line) == "rgb(0, 0, 0)"
    button = page.one("#theme")
    for words, expected in (("light", "rgb(0, 0, 0)"), ("dark", "rgb(230, 230, 230)"), ("system", "rgb(0, 0, 0)")):
        button.click()
        assert button.get_attribute("aria-label") == f"Colours: {words}"
        page.wait(
            f"return getComputedStyle(document.querySelectorAll('#figure-stars .js-line')[0]).stroke === '{expected}'"
        )


def test_keys_reach_everything(page: Browser) -> None:
    active: Callable[[], Any] = lambda: page.driver.switch_to.active_element  # noqa: E731
    page.one("body").send_keys(Keys.TAB)
    assert active().text == "Skip to the answer"
    assert page.run("return arguments[0].getBoundingClientRect().top >= 0", active())
    assert page.run("return getComputedStyle(arguments[0]).outlineStyle", active()) == "solid"
    active().send_keys(Keys.ENTER)
    assert active().get_attribute("id") == "main"
    page.run("window.reached = []; addEventListener('focusin', (event) => reached.push(event.target))")
    ActionChains(page.driver).send_keys(Keys.TAB * 60).perform()
    reached = page.run("return reached.map((one) => one.id || one.name || one.textContent)")
    assert {"regime", "size", "measure", "label", "group", "scores-more", "Download as CSV", "copy"} <= set(reached)
    assert {"Strategy", "σ"} <= set(reached)


def test_the_command_can_be_copied(page: Browser, results: Results) -> None:
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    page.one("#copy").click()
    page.wait("return document.getElementById('copied').textContent === 'Copied.'")
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    assert page.driver.execute_async_script(read) == results.about["command"]


def test_the_watch_notices_what_it_is_to_notice(driver: Any, tables: str) -> None:
    """That a page asks for nothing and does not complain is seen by the same eyes; its policy stops it besides.

    The last test, because what browsers tell of failures may come late.
    """
    browser = Browser(driver, tables)
    browser.open()
    assert browser.requests() == [tables]
    code = "const done = arguments[0]; fetch('http://127.0.0.1:9/x').then(() => done('sent'), () => done('refused'))"
    assert driver.execute_async_script(code) == "refused"
    assert any("Content Security Policy" in message for message in browser.complaints())
    driver.get("data:text/html,<img src='http://127.0.0.1:9/x'>")
    WebDriverWait(driver, 60).until(lambda _: browser.complaints())  # that it fails is told a while later
    assert "http://127.0.0.1:9/x" in browser.requests()
