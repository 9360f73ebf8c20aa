"""The HTML and CSS of the report; ``report`` fills in the fields in braces."""

from __future__ import annotations

MOVED = '<abbr title="region set or changed after a first look at the result">*</abbr>'

QUICK = """<p class="banner"><strong>quick: coarser.</strong> Smaller ensembles, wider regions and more distant rivals
than in the full form. For results to cite, run <code>saddlescope reproduce</code> without <code>--quick</code>.</p>
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>saddlescope: claims tested</title>
<style>{style}</style>
</head>
<body>
<main id="top">
<header>
<h1>Claims about the noise of SGD, tested by simulation</h1>
<p class="counts">{counts}</p>
{banner}</header>
<table class="summary">
<thead><tr><th>Claim</th><th>Verdict</th><th>Effect</th><th>Measured [interval]</th><th>Predicted</th>
<th>Time</th></tr></thead>
{groups}</table>
<p class="rule">Every interval misses the true value with probability at most 10⁻⁶, unless another probability is
stated. A number is confirmed if its interval lies inside the predicted region, refuted if outside, and inconclusive if
it crosses an edge. Regions were set before the run, except those marked * . A claim is confirmed if all its numbers
are; it is inconclusive if a negative control is not refuted, if a rival theory would also be confirmed, or if more than
0.1 % of a run's trajectories diverged. Next to each number is the smallest error it catches: parameter values at which
it is no longer confirmed, where measured, and true values that it would refute.
Loss ½‖Px − y‖², temperature T = learning rate / batch size, time = learning rate × step, Itô convention.
The TOML of every run is in the folder runs; all numbers are in report.json.</p>
{papers}
<footer>{about}</footer>
</main>
</body>
</html>
"""

SECTION = """<section id="{anchor}">
<h3>{title} {badge}</h3>
<p class="statement">{statement}</p>
<p class="source">{source}</p>
<figure>{figure}</figure>
<p class="reason">Why {badge}: {reason}.</p>
{numbers}
<h4>Method</h4>
<p>{method}</p>
<h4>Negative control</h4>
<p>{control}</p>
{controls}
{rivals}
<h4>Reproduce</h4>
<p><code>{command}</code></p>
<div class="screen">
{runs}
<p><a href="#top">↑ all claims</a></p>
</div>
</section>
"""

STYLE = """
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
