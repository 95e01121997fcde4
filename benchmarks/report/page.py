"""Page: the report as one file of HTML."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from benchmarks.report import sections
from benchmarks.report.glossary import MEASURES, condition, label_name, listed
from benchmarks.report.payload import csv_link, script_json
from benchmarks.results import Results
from stores.atomic import replacing

MOST_BYTES = 10_000_000
HEIGHT = 480  # of a figure that does not say, pixels
BUTTONS = 24  # pixels above it, as in figures.js
SCRIPTS = ("elements.js", "compare.js", "scores.js", "figures.js", "page.js")
MAKES_CODE = re.compile(
    r'"type":"(scatter(polar)?gl|splom|parcoords)"'
)  # drawings for which plotly.js writes programs
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
TOO_LARGE = "This figure holds too many points for this page; its files show it."


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the page.

    name: for links to it, unique
    title, caption: text that may hold <sub> and <sup>
    plot: {"data": [...], "layout": {...}} as plotly.js takes it; the page gives it its colours and fonts
    png, pdf: paths of its files, relative to the page; None where there is none
    """

    name: str
    title: str
    caption: str
    plot: Mapping[str, Any]
    png: str | PurePath | None = None
    pdf: str | PurePath | None = None


def write_report(results: Results, figures: Sequence[ReportFigure], path: Path) -> None:
    """Write the page, whole or not at all. The same results and figures give the same bytes.

    Figures that would make it larger than MOST_BYTES are shown by links to their files, the largest first.
    Raises ValueError for two figures of one name.
    """
    names = [figure.name for figure in figures]
    if len(set(names)) < len(names):
        raise ValueError(f"two figures have one name: {sorted(names)}")
    plots: list[str | None] = [script_json(figure.plot) for figure in figures]
    page = _page(results, figures, plots)
    while len(page) > MOST_BYTES and any(plots):
        largest = max(range(len(plots)), key=lambda number: len(plots[number] or ""))
        plots[largest] = None
        page = _page(results, figures, plots)
    with replacing(path) as temporary:
        temporary.write_bytes(page)


def _page(results: Results, figures: Sequence[ReportFigure], plots: Sequence[str | None]) -> bytes:
    from plotly.offline import get_plotlyjs

    about = results.about
    theme, script = _part("theme.js"), _script("\n".join(_part(name) for name in SCRIPTS))
    plotly = _script(get_plotlyjs())
    allowed = [_hash(text) for text in (theme, script, plotly)]
    if any(MAKES_CODE.search(plot or "") for plot in plots):
        allowed.append("'unsafe-eval'")
    page = _filled(
        _part("page.html"),
        {
            "policy": POLICY.format(scripts=" ".join(allowed)),
            "title": escape(sections.title(about)),
            "style": _part("page.css"),
            "theme": theme,
            "suite": escape(str(about.get("suite", ""))),
            "introduction": sections.introduction(about),
            "answers": sections.answers(results),
            "compared": sections.compared(results),
            "csv": csv_link(results.scores),
            "figures_list": "\n".join(
                f'<li><a href="#{_anchor(figure)}">{sections.marked(figure.title)}</a></li>' for figure in figures
            ),
            "figures": "\n".join(_figure(figure, plot) for figure, plot in zip(figures, plots, strict=True)),
            "settings": sections.settings(about),
            "command": escape(str(about.get("command", ""))),
            "glossary": sections.glossary(),
            "methods": sections.methods(results),
            "results": script_json(_results(results)),
            "script": script,
            "plotly": plotly,
        },
    )
    return page.encode("utf-8", "backslashreplace")  # names of files may be no text


def _results(results: Results) -> dict[str, Any]:
    from benchmarks.cell import ZERO_SHOT

    about, columns = results.about, dict(results.scores.columns)
    return {
        **{name: about.get(name, []) for name in ("labels", "inputs", "adapters", "sizes")},
        "untuned": [ZERO_SHOT],
        "regimes": {
            name: {"title": sections.spoken(name), "condition": condition(str(definition))}
            for name, definition in about.get("regimes", {}).items()
        },
        "units": about.get("units", {}),
        "titles": {label: label_name(label) for label in about.get("labels", [])},
        "measures": [asdict(measure) for measure in MEASURES if measure.name in columns],
        "columns": listed(columns),
        "scores": columns,
    }


def _figure(figure: ReportFigure, plot: str | None) -> str:
    anchor, title = _anchor(figure), sections.marked(figure.title)
    height = int((figure.plot.get("layout") or {}).get("height") or HEIGHT) + BUTTONS
    links = "".join(
        f' <a href="{escape(quote(PurePath(path).as_posix()))}">{kind}</a>'
        for kind, path in (("PNG", figure.png), ("PDF", figure.pdf))
        if path is not None
    )
    files_of = f'<span class="files">Files:{links}</span>' if links else ""
    if plot is None:
        body = f'<p class="muted">{TOO_LARGE}</p>'
    else:
        body = (
            f'<div class="box" role="group" aria-labelledby="{anchor}-title"><div class="plot" '
            f'data-name="{escape(figure.name)}" style="min-height:{height}px"></div></div>'
            f'<script type="application/json">{plot}</script>'
        )
    return (
        f'<figure id="{anchor}"><h3 id="{anchor}-title">{title}</h3>{body}'
        f"<figcaption>{sections.marked(figure.caption)} {files_of}</figcaption></figure>"
    )


def _anchor(figure: ReportFigure) -> str:
    return "figure-" + quote(figure.name, safe="")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with {{name}} replaced, once: what is put in is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found.group(1)], template)


def _part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """Code that cannot end its own element, with the line ends that a browser sees, for the hash of it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"<(?=/script|!--)", r"\\x3c", text, flags=re.IGNORECASE)


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
