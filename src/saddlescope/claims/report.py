"""The report on claims: one self-contained HTML page, and the same data as JSON.

The page shows the record in report.json; nothing here depends on how a claim is tested.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import platform
import re
from collections.abc import Container, Mapping, Sequence
from html import escape
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from saddlescope._files import replace
from saddlescope.claims._mathml import line
from saddlescope.claims._symbols import html
from saddlescope.claims._template import EVIDENCE, MOVED, PAGE, QUICK, QUICK_STYLE, RUNS, SECTION, STYLE
from saddlescope.plots import columns

Json = Mapping[str, Any]
"""An object of report.json."""

NOT_RUN = "not run"
"""In place of a verdict where the package that a claim needs is not installed."""

MARKS = {"confirmed": "✓", "refuted": "✗", "inconclusive": "?", NOT_RUN: "–"}
"""A mark beside each verdict, so that none depends on its colour alone."""

FOUND = {"confirmed": "inside", "refuted": "outside", "inconclusive": "unclear", None: "shown"}
"""Where the interval of a number lies, by its verdict; None for a number that is not judged."""

RIVALS = {"confirmed": "would be confirmed", "refuted": "refuted", "inconclusive": "not confirmed"}
"""What the verdict on a rival theory means."""

LONG = 20_000
"""Longer TOMLs (embedded data) are linked, not inlined."""


def write(folder: str | Path, record: Json) -> None:
    """Write ``index.html``, ``report.json`` and the TOML of every run into an existing folder.

    ``record`` holds "version", "quick", "machine" and "claims"; a claim's figures are in the page, not in the
    JSON.
    """
    folder = Path(folder)
    (folder / "runs").mkdir(exist_ok=True)
    for claim in record["claims"]:
        for run in claim["runs"]:
            write_text(folder / run["file"], run["toml"])
    claims = [{**claim, "figure": claim["figure"]["pdf"]} for claim in record["claims"]]
    form = "quick: coarser" if record["quick"] else "full"
    about = {**record, "form": form, "claims": claims}
    write_text(folder / "report.json", json.dumps(about, indent=2, ensure_ascii=False))
    write_text(folder / "index.html", page(record))


def write_text(file: Path, text: str) -> None:
    """Write a file atomically, in UTF-8."""
    replace(file, text.encode())


def machine() -> str:
    """The machine and versions that computed the numbers, as text."""
    cores = os.cpu_count() or 1
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    return f"{platform.system()} {platform.machine()}, {cores} cores, {versions}"


def measured(number: Json) -> str:
    """A value with its interval.

    >>> measured({"value": 0.5, "interval": [0.48, 0.52]})
    '0.500 [0.480, 0.520]'
    """
    low, high = number["interval"]
    value, digits = number["value"], _digits(number["value"], low, high)
    if low == high == value:
        return _format(value, digits)
    return f"{_format(value, digits)} [{_format(low, digits)}, {_format(high, digits)}]"


def predicted(number: Json) -> str:
    """The region a number must lie in.

    >>> predicted({"region": [0.95, None]}), predicted({"region": [0.9, 1.1]}), predicted({"region": None})
    ('≥ 0.95', '0.9 … 1.1', '–')
    """
    if number["region"] is None:
        return "–"
    low, high = number["region"]
    if high is None:
        return f"≥ {low:.4g}"
    if low is None or low == 0:
        return f"≤ {high:.4g}"
    return f"{low:.4g} … {high:.4g}"


def catches(number: Json) -> str:
    """The smallest error that a number catches: as measured (``catches``), and the true values it would refute.

    >>> law = {"value": 0.004, "interval": [0.0, 0.008], "region": [0.0, 0.015], "refutes_from": [None, 0.019]}
    >>> catches(law | {"catches": "T × 0.96, T × 1.05"})
    'T × 0.96, T × 1.05; refutes from 0.0190'
    """
    if number["region"] is None:
        return "–"
    digits = _digits(number["value"], *number["interval"])
    ends = ", ".join(_format(end, digits) for end in number["refutes_from"] if end is not None)
    return "; ".join(part for part in (number["catches"], ends and f"refutes from {ends}") if part) or "–"


def _digits(value: float | None, low: float | None, high: float | None) -> int:
    """Decimals that show the width of the interval to two digits."""
    ends = [end for end in (low, high, value) if end is not None and np.isfinite(end)]
    width = (max(ends) - min(ends)) or max(map(abs, ends)) if ends else 1.0
    return int(np.clip(1 - np.floor(np.log10(width)), 0, 6)) if width > 0 else 3


def _format(value: float | None, digits: int) -> str:
    if value is None:
        return "?"
    return f"{value:.3g}" if abs(value) >= 1e5 else f"{value:.{digits}f}"


def page(record: Json) -> str:
    """The whole report as one HTML document."""
    claims, quick = record["claims"], record["quick"]
    papers = [(paper, list(group)) for paper, group in itertools.groupby(claims, key=itemgetter("paper"))]
    seconds = sum(claim["seconds"] for claim in claims)
    form = "quick form" if quick else "full form"
    shown = {claim["name"] for claim in claims}
    return PAGE.format(
        title="claims tested (quick: coarser)" if quick else "claims tested",
        style=STYLE + QUICK_STYLE * quick,
        banner=QUICK * quick,
        counts=_counts(claims),
        contents="".join(_content(place, paper, group) for place, (paper, group) in enumerate(papers, start=1)),
        groups="".join(_group(place, paper, group) for place, (paper, group) in enumerate(papers, start=1)),
        papers="".join(
            _paper(place, paper, group, quick, shown) for place, (paper, group) in enumerate(papers, start=1)
        ),
        about=escape(f"saddlescope {record['version']}, {form}, {seconds:.0f} s of computing on {record['machine']}"),
    )


def _counts(claims: Sequence[Json]) -> str:
    found = [claim["verdict"] for claim in claims]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in MARKS if verdict in found)


def _content(place: int, paper: str, claims: Sequence[Json]) -> str:
    """A paper in the table of contents."""
    return f'<li><a href="#paper-{place}">{html(paper)}</a>: {_counts(claims)}</li>\n'


def _group(place: int, paper: str, claims: Sequence[Json]) -> str:
    """The rows of a paper in the summary table."""
    link = f'<a href="#paper-{place}">{html(paper)}</a>: {_counts(claims)}'
    head = f'<tr class="paper"><th colspan="6" scope="rowgroup">{link}</th></tr>\n'
    return f"<tbody>\n{head}{''.join(map(_row, claims))}</tbody>\n"


def _row(claim: Json) -> str:
    head = next(iter(claim["numbers"]), None)
    cells = (
        ("claim", f'<a href="#{_anchor(claim["name"])}">{html(claim["title"])}</a>'),
        ("verdict", _badge(claim["verdict"])),
        ("effect", html(head["name"] if head else claim["reason"])),
        ("measured", f'<span class="n">{_numerals(measured(head)) if head else "–"}</span>'),
        ("predicted", f'<span class="n">{_numerals(predicted(head)) if head else "–"}</span>'),
        ("time", f'<span class="n">{claim["seconds"]:.1f}&nbsp;s</span>'),
    )
    return "<tr>" + "".join(f'<td class="{name}">{cell}</td>' for name, cell in cells) + "</tr>\n"


def _paper(place: int, paper: str, claims: Sequence[Json], quick: bool, shown: Container[str]) -> str:
    sections = "".join(_section(claim, quick, shown) for claim in claims)
    return f'<h2 class="paper" id="paper-{place}">{html(paper)}</h2>\n{sections}'


def _section(claim: Json, quick: bool, shown: Container[str]) -> str:
    """One claim; ``shown`` are the names of the claims on the page, to which others can link."""
    texts = ("title", "statement", "why", "proved", "unknown", "method")
    return SECTION.format(
        **{name: html(claim[name]) for name in texts},
        anchor=_anchor(claim["name"]),
        badge=_badge(claim["verdict"]),
        quick='<span class="badge quick">quick: coarser</span>' * quick,
        equations="".join(_equation(tex, claim["name"]) for tex in claim["equations"]),
        source=_source(claim["source"]),
        evidence=_evidence(claim),
        command=escape(f"saddlescope reproduce {claim['name']}{' --quick' if quick else ''}"),
        runs=_runs(claim["runs"]),
        related=_related(claim["related"], shown),
    )


def _evidence(claim: Json) -> str:
    """Figure, numbers, controls and rivals of a claim; the reason where it was not run."""
    if claim["verdict"] == NOT_RUN:
        return f"<p>Not run: {html(claim['reason'])}.</p>"
    return EVIDENCE.format(
        badge=_badge(claim["verdict"]),
        reason=html(claim["reason"]),
        figure=_figure(claim),
        numbers=_numbers(claim["numbers"], "must be inside"),
        control=html(claim["control"]),
        controls=_numbers(claim["controls"], "must be outside"),
        rivals=_rivals(claim["rivals"]),
    )


def _equation(tex: str, name: str) -> str:
    return f'<div class="equation">{line(tex, f"claim {name!r}")}</div>\n'


def _source(source: str) -> str:
    """A source with links to arXiv.

    >>> _source("arXiv 2604.06366")
    '<a href="https://arxiv.org/abs/2604.06366">arXiv 2604.06366</a>'
    """
    return re.sub(r"arXiv (\d{4}\.\d{5})", r'<a href="https://arxiv.org/abs/\1">\g<0></a>', html(source))


def _related(related: Sequence[Json], shown: Container[str]) -> str:
    """Related claims, as links if they are on the page."""
    if not related:
        return ""
    titles = [
        f'<a href="#{_anchor(other["name"])}">{html(other["title"])}</a>'
        if other["name"] in shown
        else f"{html(other['title'])} (<code>{escape(other['name'])}</code>)"
        for other in related
    ]
    return f"<h4>Related claims</h4>\n<ul>{''.join(f'<li>{title}</li>' for title in titles)}</ul>"


def _runs(runs: Sequence[Json]) -> str:
    """The TOML of every run, inlined unless it embeds a data set."""
    if not runs:
        return ""
    items = "".join(
        f'<li>{html(run["name"])}: <a href="{_beside(run["file"])}">{_beside(run["file"])}</a>{_toml(run["toml"])}</li>'
        for run in runs
    )
    return f'{RUNS}\n<ul class="runs">{items}</ul>'


def _toml(toml: str) -> str:
    if len(toml) > LONG:
        return " (includes its data set)"
    return f"<details><summary>TOML</summary><pre>{escape(toml)}</pre></details>"


def _numerals(words: str) -> str:
    """Numbers with minus signs in place of hyphens.

    >>> _numerals("-0.5 [-0.6, -1e-7] of T_c")
    '−0.5 [−0.6, −1e-7] of T<sub>c</sub>'
    """
    return html(re.sub(r"(?<!\w)-(?=\d)", "−", words))


def _anchor(name: str) -> str:
    return escape(name.replace("/", "-"))


def _badge(verdict: str) -> str:
    """A verdict, with a mark and a colour. Raises ValueError for any other word: a record may hold anything."""
    if verdict not in MARKS:
        raise ValueError(f"verdict must be confirmed, refuted, inconclusive or not run, got {verdict!r:.80}")
    kind = verdict.replace(" ", "-")
    return f'<span class="badge {kind}"><span aria-hidden="true">{MARKS[verdict]}</span> {verdict}</span>'


def _beside(file: str) -> str:
    """The path of a file of the report, for a link. Raises ValueError for any other target.

    >>> _beside("runs/noise-peak-1.toml")
    'runs/noise-peak-1.toml'
    >>> _beside("javascript:alert(1)")
    Traceback (most recent call last):
    ValueError: a file of the report must lie in figures or runs, got 'javascript:alert(1)'
    """
    if not re.fullmatch(r"(figures|runs)/\w[\w.-]*", file):
        raise ValueError(f"a file of the report must lie in figures or runs, got {file!r:.80}")
    return file


def _figure(claim: Json) -> str:
    """The panels as separate images, side by side where the page is wide enough."""
    figure, caption = claim["figure"], claim["caption"]
    panels = "".join(f'<img src="{_embedded(svg)}" alt="">' for svg in figure["panels"])
    across = f"panels across-{columns(len(figure['panels']))}"
    return (
        f'<div class="{across}" role="img" aria-label="{escape(caption)}">{panels}</div>'
        f'<figcaption>{html(caption)} <a href="{_beside(figure["pdf"])}">PDF</a></figcaption>'
    )


def _embedded(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _numbers(numbers: Sequence[Json], wanted: str) -> str:
    """The table of measured numbers, with a column of what each catches unless they are controls."""
    power = wanted == "must be inside"
    rows = "".join(
        f'<tr><td data-label="Number"><span>{html(number["name"] + _notes(number))}</span></td>'
        f'<td data-label="Measured"><span class="n">{_numerals(measured(number))}</span></td>'
        f'<td data-label="Region"><span class="n">{_numerals(predicted(number))}{MOVED * number["moved"]}</span></td>'
        + (f'<td data-label="Catches"><span>{_numerals(catches(number))}</span></td>' if power else "")
        + f'<td data-label="Result">{FOUND[number["verdict"]]}</td></tr>'
        for number in numbers
    )
    return (
        '<table class="numbers"><thead><tr><th>Number</th><th>Measured [interval]</th>'
        f"<th>Region ({wanted})</th>{'<th>Smallest error caught</th>' * power}<th>Result</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _notes(number: Json) -> str:
    """The probability that an interval misses the true value, if above 1e-6."""
    if number["miss"] <= 1.001e-6:
        return ""
    digit, exponent = f"{number['miss']:.0e}".split("e-")
    return f" (miss probability {digit} × 10^(−{int(exponent)}))"


def _rivals(rivals: Sequence[Json]) -> str:
    """The rival theories, each with the number that decides it: the one that refutes it, else the first."""
    if not rivals:
        return ""
    rows = []
    for rival in rivals:
        judged = [number for number in rival["numbers"] if number["verdict"] is not None] or rival["numbers"]
        decides = next((number for number in judged if number["verdict"] == "refuted"), judged[0])
        rows.append(
            f'<tr><td data-label="Theory"><span>{html(rival["theory"])}</span></td>'
            f'<td data-label="Number"><span>{html(decides["name"])}</span></td>'
            f'<td data-label="Measured"><span class="n">{_numerals(measured(decides))}</span></td>'
            f'<td data-label="Region"><span class="n">{_numerals(predicted(decides))}</span></td>'
            f'<td data-label="Verdict">{RIVALS[rival["verdict"]]}</td></tr>'
        )
    return (
        "<h4>Rival theories</h4>\n<p>The nearest wrong theories, judged by the same rule; none may be confirmed.</p>\n"
        '<table class="numbers"><thead><tr><th>Theory</th><th>Deciding number</th><th>Measured [interval]</th>'
        f"<th>Its region</th><th>Verdict</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
