"""Sections: the parts of the page that are text, as escaped HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from benchmarks.report.glossary import MEASURES, TERMS, condition
from benchmarks.results import Results, explained

APART = ("sentences", "command", "units", "regimes", "options", "asked")  # settings that have a place of their own
HEAD = (
    "A head is a network that reads labels from pixels (spectra), from what a pre-trained model makes of them "
    "(embedding), or from both (fused); a strategy takes it from the one survey to the other."
)
GROUPS = {"pipeline": "the survey's own pipeline", "baseline": "classical methods", "head": "heads"}
HEADINGS = {
    "suite": "Suite",
    "source": "Source survey",
    "target": "Target survey",
    "reference": "Judged by",
    "labels": "Labels",
    "inputs": "Inputs",
    "adapters": "Strategies",
    "sizes": "Target stars to learn from",
    "draws": "Draws of these stars",
    "seeds": "Seeds",
    "model": "Embedding model",
    "created": "Made",
    "version": "spectrabridge",
    "commit": "Commit",
    "versions": "Versions",
    "fingerprints": "Fingerprints",
    "settings": "Settings",
}


def title(about: Mapping[str, Any]) -> str:
    """What was compared, as text: source and target."""
    return f"From {_survey(about, 'source')} to {_survey(about, 'target')}"


def introduction(about: Mapping[str, Any]) -> str:
    """What the page is about, in a sentence."""
    source, target = (about.get(name) or {} for name in ("source", "target"))
    tested = "tested stars" if target.get("tested") is None else f"{target['tested']:,} tested stars"
    return escape(
        f"What heads trained on {_stars(source.get('stars'))} of {_survey(about, 'source')} say of "
        f"{tested} of {_survey(about, 'target')}, and what other methods say of the same stars. "
        f"Judged by {about.get('reference', 'reference labels')}. {HEAD}"
    )


def answers(results: Results) -> str:
    """A card for each regime: the sentence, and how many stars it rests on."""
    cards = []
    for name, definition in results.about.get("regimes", {}).items():
        sentence = results.about.get("sentences", {}).get(name) or "Nothing can be said of this regime."
        counts = results.scores.where(regime=name)["n"].tolist() if len(results.scores) else []
        cards.append(
            f'<li class="card"><h3>{escape(spoken(name))} '
            f'<span class="condition">{escape(condition(str(definition)))}</span></h3>'
            f'{_sentence(sentence)}<p class="muted">{_tested(counts)}</p></li>'
        )
    return "\n".join(cards)


def compared(results: Results) -> str:
    """What was compared with what, as a sentence."""
    scores, parts = results.scores, []
    for group, words in GROUPS.items():
        rows = scores.where(group=group) if len(scores) else scores
        if not len(rows):
            continue
        strategies = _words(map(explained, dict.fromkeys(rows["strategy"].tolist())))
        inputs = [name for name in dict.fromkeys(rows["input"].tolist()) if name]
        read = f" that read {_words(inputs, 'or')}" if inputs else ""
        parts.append(f"{words}{read}: {strategies}")
    sizes = _words((f"{size:,}" for size in results.about.get("sizes", [])), "or")
    learned = f", which learned from {sizes} stars of the target" if sizes else ""
    return escape("Compared: " + "; ".join(parts) + learned + ".") if parts else "Nothing was compared."


def settings(about: Mapping[str, Any]) -> str:
    """All that is known of how it was made, but for what stands elsewhere on the page."""
    names = [name for name in HEADINGS if name in about]
    names += [name for name in about if name not in HEADINGS and name not in APART]
    return "\n".join(f"<dt>{escape(HEADINGS.get(name, name))}</dt><dd>{_nested(about[name])}</dd>" for name in names)


def glossary() -> str:
    """Measures and terms."""
    terms = [(one.title, one.meaning) for one in MEASURES] + list(TERMS)
    return "\n".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in terms)


def methods(results: Results) -> str:
    """What the strategies of heads and the classical methods do, in their own words."""
    from benchmarks.baselines import load_baselines
    from benchmarks.cell import AUTO
    from heads.adapters import load_adapters

    told = {name: adapter.__doc__ for name, adapter in load_adapters().items()}
    told[AUTO] = "Try every strategy, and give each label the one that did best on stars it had not seen."
    told |= {name: method.__doc__ for name, method in load_baselines().items()}
    tried = results.scores["strategy"].tolist() if len(results.scores) else []
    return "\n".join(
        f"<dt><code>{escape(name)}</code></dt><dd>{escape(text.strip().splitlines()[0])}</dd>"
        for name in dict.fromkeys([*results.about.get("adapters", []), *tried])
        if (text := told.get(name))
    )


def spoken(name: str) -> str:
    """very_metal_poor as "Very metal-poor"."""
    return _capital(re.sub(r"\bmetal (rich|poor)\b", r"metal-\1", name.replace("_", " ")))


def marked(text: str) -> str:
    """Text escaped, but for <sub> and <sup>."""
    return re.sub(r"&lt;(/?su[bp])&gt;", r"<\1>", escape(text))


def _nested(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        rows = (f"<dt>{escape(str(name))}</dt><dd>{_nested(one)}</dd>" for name, one in value.items())
        return f'<dl class="nested">{"".join(rows)}</dl>'
    if isinstance(value, list | tuple):
        return ", ".join(_nested(one) for one in value) or "none"
    if value is None or value == {}:
        return "none"
    return escape(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))


def _survey(about: Mapping[str, Any], which: str) -> str:
    return str((about.get(which) or {}).get("name", f"the {which} survey"))


def _stars(number: int | None) -> str:
    return "stars" if number is None else f"{number:,} stars"


def _sentence(sentence: str) -> str:
    """What won, and smaller the rest, after the first stop or semicolon."""
    first, *rest = (_capital(part) for part in re.split(r"[;.]\s+", sentence, maxsplit=1))
    if not rest:
        return f'<p class="sentence">{marked(first)}</p>'
    return f'<p class="sentence">{marked(first)}. <span class="rest">{marked(rest[0])}</span></p>'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _tested(counts: list[float]) -> str:
    if not counts or not max(counts):
        return "No star was tested."
    low, high = int(min(counts)), int(max(counts))
    return f"{high:,} tested stars" if low == high else f"{low:,} to {high:,} tested stars, by label and method"


def _words(names: Iterable[str], last: str = "and") -> str:
    *most, end = [*names] or [""]
    return f"{', '.join(most)} {last} {end}" if most else end
