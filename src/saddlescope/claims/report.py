"""The report on claims: one page that needs nothing but itself, and the same facts as JSON.

The page is a view of the record that report.json holds; nothing here knows how a claim is tested.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from html import escape
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from saddlescope._files import replace
from saddlescope.plots import columns

Record = Mapping[str, Any]

LONG = 20_000
"""Longer TOMLs (embedded data) are linked, not inlined."""


def write(folder: str | Path, record: Record) -> None:
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
    """Write a file as a whole, in UTF-8."""
    replace(file, text.encode())


def machine() -> str:
    """What the numbers were computed on, in words."""
    cores = os.cpu_count() or 1
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    return f"{platform.system()} {platform.machine()}, {cores} cores, {versions}"


def measured(number: Record) -> str:
    """A value with its interval.

    >>> measured({"value": 0.5, "interval": [0.48, 0.52]})
    '0.500 [0.480, 0.520]'
    """
    low, high = number["interval"]
    value, digits = number["value"], _digits(number["value"], low, high)
    if low == high == value:
        return _format(value, digits)
    return f"{_format(value, digits)} [{_format(low, digits)}, {_format(high, digits)}]"


def predicted(number: Record) -> str:
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


def catches(number: Record) -> str:
    """The smallest wrong effect that a number catches: in words where it was measured, and what it would refute.

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
    """Decimals that show the interval with two digits."""
    ends = [end for end in (low, high, value) if end is not None and np.isfinite(end)]
    width = (max(ends) - min(ends)) or max(map(abs, ends)) if ends else 1.0
    return int(np.clip(1 - np.floor(np.log10(width)), 0, 6)) if width > 0 else 3


def _format(value: float | None, digits: int) -> str:
    if value is None:
        return "?"
    return f"{value:.3g}" if abs(value) >= 1e5 else f"{value:.{digits}f}"


def page(record: Record) -> str:
    """The whole report as one HTML text."""
    claims = record["claims"]
    papers = [(paper, list(group)) for paper, group in itertools.groupby(claims, key=itemgetter("paper"))]
    seconds = sum(claim["seconds"] for claim in claims)
    form = "quick form" if record["quick"] else "full form"
    return _PAGE.format(
        style=_STYLE,
        banner=_QUICK if record["quick"] else "",
        counts=_counts(claims),
        about=escape(f"saddlescope {record['version']}, {form}, {seconds:.0f} s of computing on {record['machine']}"),
        groups="".join(_group(paper, group) for paper, group in papers),
        papers="".join(_paper(paper, group, record["quick"]) for paper, group in papers),
    )


def _counts(claims: Sequence[Record]) -> str:
    found = [claim["verdict"] for claim in claims]
    verdicts = ("confirmed", "refuted", "inconclusive")
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in verdicts if verdict in found)


def _group(paper: str, claims: Sequence[Record]) -> str:
    """The rows of a paper in the table on top."""
    head = f'<tr class="paper"><th colspan="6">{_text(paper)}: {_counts(claims)}</th></tr>\n'
    return f"<tbody>\n{head}{''.join(map(_row, claims))}</tbody>\n"


def _row(claim: Record) -> str:
    head = claim["numbers"][0]
    cells = (
        ("claim", f'<a href="#{_anchor(claim)}">{_text(claim["title"])}</a>'),
        ("verdict", _badge(claim["verdict"])),
        ("effect", _text(head["name"])),
        ("measured", f'<span class="n">{escape(measured(head))}</span>'),
        ("predicted", f'<span class="n">{escape(predicted(head))}</span>'),
        ("time", f'<span class="n">{claim["seconds"]:.1f}&nbsp;s</span>'),
    )
    return "<tr>" + "".join(f'<td class="{name}">{cell}</td>' for name, cell in cells) + "</tr>\n"


def _paper(paper: str, claims: Sequence[Record], quick: bool) -> str:
    return f'<h2 class="paper">{_text(paper)}</h2>\n' + "".join(_section(claim, quick) for claim in claims)


def _section(claim: Record, quick: bool) -> str:
    return _SECTION.format(
        anchor=_anchor(claim),
        title=_text(claim["title"]),
        badge=_badge(claim["verdict"]),
        reason=_text(claim["reason"]),
        statement=_text(claim["statement"]),
        source=_text(claim["source"]),
        method=_text(claim["method"]),
        control=_text(claim["control"]),
        figure=_figure(claim),
        numbers=_numbers(claim["numbers"], "must be inside"),
        controls=_numbers(claim["controls"], "must be outside"),
        rivals=_rivals(claim["rivals"]),
        command=escape(f"saddlescope reproduce {claim['name']}{' --quick' if quick else ''}"),
        runs=_runs(claim["runs"]),
    )


def _runs(runs: Sequence[Record]) -> str:
    """The TOML of every run, in the page unless it carries a data set."""
    if not runs:
        return ""
    shown = "".join(
        f"<details><summary>{_text(run['name'])}</summary>"
        f'<p><a href="{_beside(run["file"])}">{_beside(run["file"])}</a></p>'
        + (f"<pre>{escape(run['toml'])}</pre>" if len(run["toml"]) <= LONG else "<p>with its data set</p>")
        + "</details>"
        for run in runs
    )
    return f"<p>Each run as TOML, for <code>saddlescope run FILE.toml -o RUN.zarr</code>:</p>\n{shown}"


def _text(words: str) -> str:
    """Words of a claim as HTML: ``^(…)`` is raised, ``_{…}`` and an index after ``_`` lowered.

    >>> _text("s_α^(2κ) < T_c")
    's<sub>α</sub><sup>2κ</sup> &lt; T<sub>c</sub>'
    """
    raised = re.sub(r"\^\(([^()]*)\)", r"<sup>\1</sup>", escape(words))
    return re.sub(r"_(?:\{([^{}]*)\}|([ij]{2}|xx|[A-Za-z0-9α-ω])(?![a-z0-9α-ω]))", r"<sub>\1\2</sub>", raised)


def _anchor(claim: Record) -> str:
    return escape(claim["name"].replace("/", "-"))


def _badge(verdict: str) -> str:
    """A verdict in its colour. Raises ValueError for words that are none: a record on disk may hold anything."""
    if verdict not in ("confirmed", "refuted", "inconclusive"):
        raise ValueError(f"verdict must be confirmed, refuted or inconclusive, got {verdict!r:.80}")
    return f'<span class="badge {verdict}">{verdict}</span>'


def _beside(file: str) -> str:
    """The path of a file of the report, for a link. Raises ValueError for what leads elsewhere.

    >>> _beside("runs/noise-peak-1.toml")
    'runs/noise-peak-1.toml'
    >>> _beside("javascript:alert(1)")
    Traceback (most recent call last):
    ValueError: a file of the report must lie in figures or runs, got 'javascript:alert(1)'
    """
    if not re.fullmatch(r"(figures|runs)/\w[\w.-]*", file):
        raise ValueError(f"a file of the report must lie in figures or runs, got {file!r:.80}")
    return file


def _figure(claim: Record) -> str:
    """The panels one by one, so that they stand side by side where there is room."""
    figure, caption = claim["figure"], claim["caption"]
    panels = "".join(f'<img src="{_embedded(svg)}" alt="">' for svg in figure["panels"])
    across = f"panels across-{columns(len(figure['panels']))}"
    return (
        f'<div class="{across}" role="img" aria-label="{escape(caption)}">{panels}</div>'
        f'<figcaption>{_text(caption)} <a href="{_beside(figure["pdf"])}">PDF</a></figcaption>'
    )


def _embedded(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _numbers(numbers: Sequence[Record], wanted: str) -> str:
    """The table of measured numbers; what a number catches is a column where it has a region to be inside."""
    verdicts = {"confirmed": "inside", "refuted": "outside", "inconclusive": "unclear", None: "shown"}
    power = wanted == "must be inside"
    rows = "".join(
        f'<tr><td data-label="Number"><span>{_text(number["name"])}{_notes(number)}</span></td>'
        f'<td data-label="Measured"><span class="n">{escape(measured(number))}</span></td>'
        f'<td data-label="Region"><span class="n">{escape(predicted(number))}{_MOVED * number["moved"]}</span></td>'
        + (f'<td data-label="Catches"><span>{escape(catches(number))}</span></td>' if power else "")
        + f'<td data-label="Result">{verdicts[number["verdict"]]}</td></tr>'
        for number in numbers
    )
    return (
        '<table class="numbers"><thead><tr><th>Number</th><th>Measured [interval]</th>'
        f"<th>Region ({wanted})</th>{'<th>Smallest wrong effect caught</th>' * power}<th>Result</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _notes(number: Record) -> str:
    """The chance that an interval misses the truth, where it is above 1e-6."""
    return f" (misses with {number['miss']:.1g})" if number["miss"] > 1.001e-6 else ""


def _rivals(rivals: Sequence[Record]) -> str:
    """Wrong theories, with the number that decides on each: the one that refutes it, else the first."""
    if not rivals:
        return ""
    found = {"confirmed": "would be confirmed", "refuted": "refuted", "inconclusive": "not confirmed"}
    rows = []
    for rival in rivals:
        judged = [number for number in rival["numbers"] if number["verdict"] is not None] or rival["numbers"]
        decides = next((number for number in judged if number["verdict"] == "refuted"), judged[0])
        rows.append(
            f'<tr><td data-label="Theory"><span>{_text(rival["theory"])}</span></td>'
            f'<td data-label="Number"><span>{_text(decides["name"])}</span></td>'
            f'<td data-label="Measured"><span class="n">{escape(measured(decides))}</span></td>'
            f'<td data-label="Region"><span class="n">{escape(predicted(decides))}</span></td>'
            f'<td data-label="Verdict">{found[rival["verdict"]]}</td></tr>'
        )
    return (
        "<h4>Rival theories</h4>\n<p>The nearest wrong theories, judged by the same rule: none may be confirmed.</p>\n"
        '<table class="numbers"><thead><tr><th>Theory</th><th>Number that decides</th><th>Measured [interval]</th>'
        f"<th>Its region</th><th>Verdict</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


_MOVED = '<abbr title="set or moved after a first look at the result">*</abbr>'

_QUICK = """<p class="banner"><strong>quick: coarser.</strong> Small ensembles, wider regions and farther rivals than in
the full form. For results to cite, run <code>saddlescope reproduce</code> without <code>--quick</code>.</p>
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>saddlescope: claims checked</title>
<style>{style}</style>
</head>
<body>
<main id="top">
<header>
<h1>Claims on the noise of SGD, checked</h1>
<p class="counts">{counts}</p>
{banner}</header>
<table class="summary">
<thead><tr><th>Claim</th><th>Verdict</th><th>Effect</th><th>Measured [interval]</th><th>Predicted</th>
<th>Time</th></tr></thead>
{groups}</table>
<p class="rule">Every interval misses the truth with probability at most 10⁻⁶, or with the probability beside its
number. A number whose interval lies inside the predicted region confirms, outside it refutes, across its edge decides
nothing. Regions were set before the run, except those marked * . A claim is confirmed when all its numbers are; it is
inconclusive when a negative control is not refuted, when a rival theory would be confirmed as well, or when more than
0.1 % of a run's trajectories diverged. Beside each number stands the smallest wrong effect that it catches: parameters
at which it is no longer confirmed, where that was measured, and true values that it would refute.
Loss ½‖Px − y‖², temperature T = learning rate / batch size, time = learning rate × step, Itô noise.
The TOML of every run is in the folder runs, all numbers are in report.json.</p>
{papers}
<footer>{about}</footer>
</main>
</body>
</html>
"""

_SECTION = """<section id="{anchor}">
<h3>{title} {badge}</h3>
<p class="statement">{statement}</p>
<p class="source">{source}</p>
<figure>{figure}</figure>
<p class="reason">Why {badge}: {reason}.</p>
{numbers}
<h4>How it was computed</h4>
<p>{method}</p>
<h4>Negative control</h4>
<p>{control}</p>
{controls}
{rivals}
<h4>Run it again</h4>
<p><code>{command}</code></p>
<div class="screen">
{runs}
<p><a href="#top">↑ all claims</a></p>
</div>
</section>
"""

_STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --grey: #5f6772; --line: #e1e4e8; --soft: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.45rem; line-height: 1.3; margin: 2.6rem 0 0; }
h3 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .5rem; }
h4 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .4rem 0; max-width: 50rem; }
a { color: #0b5cad; }
.counts { font-size: 1.05rem; color: var(--grey); margin-bottom: 1rem; }
.rule, .source, .reason, figcaption, footer { color: var(--grey); font-size: .9rem; }
.rule { margin: 1rem 0 0; }
.statement { font-size: 1.05rem; }
.banner { color: #6b4a00; background: #fdeec9; padding: .5rem .8rem; border-radius: .4rem; }
abbr { text-decoration: none; cursor: help; }
section { border-top: 1px solid var(--line); margin-top: 1.6rem; padding-top: 1.4rem; }
h2 + section { margin-top: .8rem; }
footer { border-top: 1px solid var(--line); margin-top: 2.2rem; padding-top: .8rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .7rem .5rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--grey); font-weight: 600; font-size: .82rem; }
.summary { line-height: 1.35; }
.summary td { padding-top: .35rem; padding-bottom: .35rem; }
.summary .paper th { color: var(--ink); font-size: .93rem; padding-top: 1rem; }
.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
.numbers { margin-top: .6rem; }
.badge { display: inline-block; padding: .05rem .55rem; border-radius: 1rem; vertical-align: .1em;
  font-size: .8rem; font-weight: 600; white-space: nowrap; }
.confirmed { color: #0a5c36; background: #d8f3e3; }
.refuted { color: #8c1d18; background: #fbdedc; }
.inconclusive { color: #6b4a00; background: #fdeec9; }
.shown { color: var(--grey); background: var(--soft); }
figure { margin: 1rem 0; }
.panels { display: grid; }
.panels img { width: 100%; height: auto; display: block; }
.across-2 { grid-template-columns: repeat(2, 1fr); }
.across-3 { grid-template-columns: repeat(3, 1fr); }
details { margin: .3rem 0; }
summary { cursor: pointer; }
sup, sub { line-height: 0; }
code { overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .8rem; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media screen and (max-width: 52rem) {
  .panels { grid-template-columns: repeat(2, 1fr); }
}
@media screen and (max-width: 40rem) {
  .panels { grid-template-columns: 1fr; }
  thead { display: none; }
  tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  td { display: flex; gap: .8rem; padding: .12rem 0; border: 0; }
  .numbers td::before { content: attr(data-label); flex: 0 0 5.5rem; color: var(--grey); font-size: .85rem; }
  .summary tr { display: grid; grid-template-columns: 1fr auto; gap: .1rem .8rem; }
  .summary .paper, .summary .paper th { display: block; border: 0; padding-bottom: 0; }
  .summary td { display: block; padding: 0; }
  .effect { grid-column: 1 / 3; }
  .effect, .predicted { color: var(--grey); font-size: .88rem; }
  .predicted { grid-row: 4; }
  .time { grid-row: 3; grid-column: 2; justify-self: end; color: var(--grey); font-size: .88rem; }
  .predicted::before { content: "predicted"; margin-right: .5rem; }
  .n { white-space: normal; }
}
@media print {
  html { font-size: 9pt; }
  body { font-size: 1rem; line-height: 1.4; }
  th, td { padding: .2rem .6rem .2rem 0; }
  main { max-width: none; padding: 0; }
  p { max-width: none; }
  h2 { break-before: page; }
  section { margin-top: 1.6rem; padding-top: 1rem; }
  h3, .statement, .source { break-after: avoid; }
  .across-2 { width: 54%; }
  .panels, tr, h2, h3, h4 { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
  .screen { display: none; }
  .badge { border: 1px solid currentColor; }
}
"""
