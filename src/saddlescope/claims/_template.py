"""The HTML and CSS of the report; ``report`` fills in the fields in braces."""

from __future__ import annotations

MOVED = '<abbr title="region set or changed after a first look at the result">*</abbr>'

QUICK = """<p class="banner" role="note"><strong>quick: coarser.</strong> Smaller ensembles, wider regions and more
distant rivals than in the full form. For results to cite, run <code>saddlescope reproduce</code> without
<code>--quick</code>.</p>
"""

RUNS = """<p>Each run as TOML, for <code>saddlescope run FILE.toml -o RUN.zarr</code>; where the network is a Model,
whose functions no file holds, as a record of its data, method and plan:</p>"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>saddlescope: {title}</title>
<style>{style}</style>
</head>
<body>
<main id="top">
<header>
<h1>Claims about the noise of SGD, tested by simulation</h1>
{banner}<p class="counts">{counts}</p>
</header>
<nav aria-label="Contents">
<ul class="contents">
<li><a href="#summary">All claims at a glance</a></li>
<li><a href="#rule">How a claim is judged</a></li>
{contents}</ul>
</nav>
<h2 id="summary">All claims at a glance</h2>
<table class="summary">
<thead><tr><th scope="col">Claim</th><th scope="col">Verdict</th><th scope="col">Effect</th>
<th scope="col">Measured [interval]</th><th scope="col">Predicted</th><th scope="col">Time</th></tr></thead>
{groups}</table>
<h2 id="rule">How a claim is judged</h2>
<p>Every measured number has an interval that misses the true value with probability at most 10⁻⁶, unless another
probability is stated. The number is confirmed if its interval lies inside the predicted region, refuted if outside, and
inconclusive if it crosses an edge. Regions were set before the run, except those marked * .</p>
<p>A claim is confirmed if all its numbers are. It is inconclusive if a negative control is not refuted, if a rival
theory would also be confirmed, or if more than 0.1 % of the trajectories of a run diverged. Next to each number is the
smallest error it catches: parameter values at which it is no longer confirmed, where measured, and true values that it
would refute.</p>
<p>Conventions: loss ½‖Px − y‖², temperature T = learning rate / batch size, time = learning rate × step, Itô stochastic
differential equations. The TOML of every run is in the folder runs; all numbers are in report.json.</p>
{papers}
<footer>{about}</footer>
</main>
</body>
</html>
"""

SECTION = """<section id="{anchor}" aria-labelledby="{anchor}-title">
<h3 id="{anchor}-title">{title} {badge} {quick}</h3>
<p class="statement">{statement}</p>
<div class="equations">{equations}</div>
<h4>Why it matters</h4>
<p>{why}</p>
{evidence}
<div class="pair">
<div>
<h4>What is proved</h4>
<p>{proved}</p>
</div>
<div>
<h4>What is not known</h4>
<p>{unknown}</p>
</div>
</div>
<h4>Method</h4>
<p>{method}</p>
<h4>Source</h4>
<p>{source}</p>
<h4>Reproduce</h4>
<p><code>{command}</code></p>
{runs}
{related}
<p class="up"><a href="#summary">↑ all claims</a></p>
</section>
"""

EVIDENCE = """<figure>{figure}</figure>
<h4>Numbers</h4>
<p>Why {badge}: {reason}.</p>
{numbers}
<h4>Negative controls</h4>
<p>{control}</p>
{controls}
{rivals}"""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --grey: #5b636e; --line: #e1e4e8; --soft: #f6f7f9;
  --shade: #9aa3ae; --link: #0b5cad; --good: #0a5c36; --good-soft: #d8f3e3; --bad: #8c1d18; --bad-soft: #fbdedc;
  --open: #6b4a00; --open-soft: #fdeec9; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --paper: #15181c; --grey: #a4acb7; --line: #323840; --soft: #1e2227; --link: #82bbf8;
    --shade: #77818d; --good: #93e3b6; --good-soft: #123d27; --bad: #ffb8b1; --bad-soft: #521b18;
    --open: #f6d484; --open-soft: #453407; }
  .panels img { filter: invert(.92) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { scroll-padding-top: .5rem; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.45rem; line-height: 1.3; margin: 2.4rem 0 .4rem; }
h3 { font-size: 1.2rem; line-height: 1.35; margin: 0 0 .5rem; }
h4 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .4rem 0; max-width: 50rem; }
ul { margin: .4rem 0; padding-left: 1.3rem; }
a { color: var(--link); }
.counts { font-size: 1.05rem; color: var(--grey); margin-bottom: 1rem; }
figcaption, footer { color: var(--grey); font-size: .9rem; }
.statement { font-size: 1.05rem; }
.equations { margin: .8rem 0; max-width: 62rem; }
.equation { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem 1.6rem; overflow-x: auto;
  padding: .3rem 0 .3rem 1rem; border-left: 3px solid var(--line);
  background: linear-gradient(to left, var(--paper) 50%, transparent) right / 3rem calc(100% + 2px) no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 1.2rem calc(100% - 2px) no-repeat scroll; }
math { font-family: "STIX Two Math", "Latin Modern Math", "Cambria Math", math, serif; font-size: 1.1rem;
  text-align: left; }
math[display="block"] { width: max-content; margin: 0; }
.banner { color: var(--open); background: var(--open-soft); border: 2px solid currentColor; padding: .6rem .9rem;
  border-radius: .4rem; max-width: none; font-size: 1.05rem; }
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
  font-size: .8rem; font-weight: 600; white-space: nowrap; border: 1px solid currentColor; }
.confirmed { color: var(--good); background: var(--good-soft); }
.refuted { color: var(--bad); background: var(--bad-soft); border-style: double; border-width: 3px; }
.inconclusive { color: var(--open); background: var(--open-soft); border-style: dashed; }
.not-run { color: var(--grey); background: none; }
.quick { color: var(--open); background: none; border-style: dotted; }
figure { margin: 1.2rem 0; display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); column-gap: 0; }
.panels { display: grid; grid-template-columns: subgrid; align-items: start; }
.panels img { width: 100%; height: auto; display: block; }
.across-1 { grid-column: span 1; }
.across-2 { grid-column: span 2; }
.across-3, .across-3 + figcaption { grid-column: 1 / -1; }
.across-1 + figcaption { grid-column: 2 / -1; padding-left: 1rem; }
.across-2 + figcaption { padding-left: 1rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; column-gap: 2rem; }
details { display: inline-block; vertical-align: top; max-width: 100%; margin-left: .6rem; }
.runs li { margin: .2rem 0; }
summary { cursor: pointer; }
sup, sub { line-height: 0; }
code { overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .8rem; font-size: .8rem; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media screen and (max-width: 62rem) {
  figure { grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
  .panels, figure figcaption { grid-column: 1 / -1; padding-left: 0; }
}
@media screen and (max-width: 40rem) {
  .pair { grid-template-columns: 1fr; }
  .equation { padding-left: .6rem; }
  math { font-size: .9rem; }
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
@page { size: A4; margin: 15mm 14mm 16mm;
  @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; } }
@media print {
  :root { color-scheme: light; }
  html { font-size: 9pt; }
  body { font-size: 1rem; line-height: 1.4; }
  th, td { padding: .2rem .6rem .2rem 0; }
  main { max-width: none; padding: 0; }
  p { max-width: none; }
  h2.paper { break-before: page; }
  section { margin-top: 1.6rem; padding-top: 1rem; }
  h2, h3, h4, .statement { break-after: avoid; }
  h2, h3, h4, tr, figure, .equation, .numbers, .pair > div, .banner { break-inside: avoid; }
  thead { display: table-header-group; }
  .equation { overflow: visible; background: none; }
  p:has(+ .numbers) { break-after: avoid; }
  .badge, .banner { print-color-adjust: exact; }
  figcaption a::after { content: ": " attr(href); }
  details, .up { display: none; }
}
"""

QUICK_STYLE = """
@page { @top-center { content: "quick: coarser – not for citing"; font: bold 9pt sans-serif; color: #6b4a00; } }
"""
