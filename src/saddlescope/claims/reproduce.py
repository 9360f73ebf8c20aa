"""The command that tests claims: select them by name, run and judge each, write one report.

A claim is stored in the report's folder as soon as it is judged, so an interrupted command resumes after it. A claim
that needs a package that is not installed is not run: the report says which, and it does not count as refuted.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import math
import queue
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from matplotlib.axes import Axes
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from saddlescope import claims as registry
from saddlescope import plots
from saddlescope._files import in_words, place, sole
from saddlescope._numbers import hint
from saddlescope.claims import report
from saddlescope.claims._symbols import typeset
from saddlescope.claims.claim import Claim, Evidence, Number, judge
from saddlescope.sweeps.executors import Executor, connected
from saddlescope.sweeps.loop import LOOK_SECONDS
from saddlescope.sweeps.work import sentence

KEPT = ".saddlescope-judged"
"""Folder inside a report that holds the claims judged so far, until the report is written."""

TEXTS = ("title", "statement", "why", "proved", "unknown", "source", "method", "control", "caption")
"""The texts of a claim in report.json, by their names there and in ``Claim``."""

Outcome = dict[str, Any]
"""A judged claim as it appears in report.json."""

_COLOURS = {"confirmed": "green", "refuted": "red", "inconclusive": "yellow", report.NOT_RUN: "dim"}


def select(names: Sequence[str] = ()) -> dict[str, Claim]:
    """Claims by name, ``claim`` or ``paper/claim``; a paper selects all of its claims, no name selects every claim.

    Raises ValueError for a name that is neither a paper nor a claim.

    >>> list(select(["noise-peak"]))
    ['saddle-to-saddle/noise-peak']
    """
    every = {f"{paper}/{claim.name}": claim for paper, claims in registry.PAPERS.items() for claim in claims}
    known = {*registry.PAPERS, *every, *(claim.name for claim in every.values())}
    for name in names:
        if name not in known:
            close = hint(name, sorted(known), cutoff=0.5)
            raise ValueError(f"there is no claim {name!r}{close}; list them with 'saddlescope claims'")
    chosen = set(names)
    return {
        full: claim for full, claim in every.items() if not names or chosen & {full, claim.name, full.split("/")[0]}
    }


def reproduce(
    names: Sequence[str] = (),
    quick: bool = False,
    out: str | Path = "report",
    progress: bool = True,
    client: Any = None,
) -> int:
    """Run these claims; write ``index.html``, ``report.json``, figures and TOML of the runs into the folder ``out``.

    Each claim is kept in ``out`` as soon as it is judged, so that the same call resumes an interrupted report. An
    earlier report there is replaced; nothing else is touched. ``client`` judges the claims, as that of ``sweep``
    executes runs; by default this process does, one claim after another. Returns 0 if no claim was refuted, else 1.
    Raises ValueError for a name that does not exist, and for an ``out`` that is a file or holds another page, and
    RuntimeError where a worker is lost.
    """
    claims, folder = select(names), place(out, "out")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, got the file {str(folder)!r}; give another path")
    if (folder / "index.html").exists() and not (folder / "report.json").exists():
        raise ValueError(f"out {str(folder)!r} holds an index.html that is not a report; give another folder")
    resume = "run the same again to resume after the last finished claim"
    with sole(folder, "out"), in_words(folder, "out", resume):
        for needed in ("figures", KEPT):
            (folder / needed).mkdir(parents=True, exist_ok=True)
        found = _outcomes(claims, quick, folder, progress, client)
        outcomes = [found[name] for name in claims]
        about = {
            "version": importlib.metadata.version("saddlescope"),
            "quick": quick,
            "machine": report.machine(),
        }
        report.write(folder, {**about, "claims": outcomes})
        _discard(folder, claims)
    if progress:
        _print(outcomes, folder)
    return int(any(outcome["verdict"] == "refuted" for outcome in outcomes))


def _outcomes(claims: dict[str, Claim], quick: bool, folder: Path, progress: bool, client: Any) -> dict[str, Outcome]:
    """Every claim judged, or read back if an interrupted attempt already judged it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console, found = Console(stderr=True, quiet=not progress), dict[str, Outcome]()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("claims", total=len(claims))

        def show(name: str, outcome: Outcome) -> None:
            found[name] = outcome
            line = f"{outcome['verdict']:>12}  {escape(claims[name].title)}  ({outcome['seconds']:.0f} s)"
            console.print(line, soft_wrap=True, highlight=False)
            bar.advance(task)

        todo = []
        for name, claim in claims.items():
            kept = _read(_kept(folder, name), _identity(name, claim, quick))
            if kept is not None:
                show(name, kept)
            elif claim.lacking:
                show(name, _identity(name, claim, quick) | _not_run(claim))
            else:
                todo.append(name)
        with connected(client, Judging(quick)) as executor:

            def announce(name: str) -> None:
                bar.update(task, description=escape(claims[name].title))

            for name, (found_there, figure) in _answers(executor, todo, announce):
                outcome = _identity(name, claims[name], quick) | found_there
                (folder / found_there["figure"]["pdf"]).write_bytes(figure)
                report.write_text(_kept(folder, name), json.dumps(outcome))
                show(name, outcome)
    return found


def _answers(
    executor: Executor, names: Sequence[str], announce: Callable[[str], None]
) -> Iterator[tuple[str, tuple[Outcome, bytes]]]:
    """What workers answer, in the order in which they do."""
    answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    waiting = 0
    for name in names:
        announce(name)
        executor.submit(judged, name).add_done_callback(lambda done, name=name: answers.put((name, done)))
        waiting += 1
        if executor.runs_here:
            waiting -= 1
            yield _answer(*answers.get(), here=True)
    while waiting:
        try:
            answer = answers.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            if executor.lost:
                raise RuntimeError(f"the workers were lost ({executor.lost}); run the same again to resume") from None
            continue
        waiting -= 1
        yield _answer(*answer, here=False)


def _answer(name: str, future: Any, here: bool) -> tuple[str, tuple[Outcome, bytes]]:
    """A claim and what was found."""
    try:
        return name, future.result()
    except Exception as error:
        if here:
            raise
        raise RuntimeError(f"{name} was not judged: {sentence(error)}; run the same again to resume") from error


@dataclass(frozen=True)
class Judging:
    """What a worker needs to judge claims."""

    quick: bool

    def elsewhere(self) -> Self:
        """The same in workers: runs of claims have the threads of their plans, which change no result."""
        return self


def judged(job: Judging, name: str) -> tuple[Outcome, bytes]:
    """A claim run and judged in this process, and its figure as PDF."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = _run(select([name])[name], job.quick, Path(folder), _stem(name))
        return outcome, (Path(folder) / outcome["figure"]["pdf"]).read_bytes()


def _identity(name: str, claim: Claim, quick: bool) -> dict[str, Any]:
    """What a claim says, in which form and version; an outcome kept on disk is used only if all of it is the same."""
    paper = name.split("/")[0]
    related = select(claim.related) if claim.related else {}
    return {
        "name": name,
        "paper": registry.SOURCES.get(paper, paper),
        "quick": quick,
        "version": importlib.metadata.version("saddlescope"),
        **{text: getattr(claim, text) for text in TEXTS},
        "equations": list(claim.equations),
        "related": [{"name": full, "title": other.title} for full, other in related.items()],
    }


def _stem(name: str) -> str:
    """The name of a claim as it appears in file names."""
    return name.replace("/", "-")


def _kept(folder: Path, name: str) -> Path:
    """Where a judged claim is kept until the report is written."""
    return folder / KEPT / f"{_stem(name)}.json"


def _discard(folder: Path, claims: Iterable[str]) -> None:
    """Remove the judged claims kept for resuming, and their folder if it is then empty."""
    for name in claims:
        _kept(folder, name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (folder / KEPT).rmdir()


def _read(path: Path, identity: dict[str, Any]) -> Outcome | None:
    """A judged claim kept by an earlier attempt in the same form and version, or None."""
    try:
        outcome: Outcome = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return outcome if isinstance(outcome, dict) and identity.items() <= outcome.items() else None


def _run(claim: Claim, quick: bool, folder: Path, stem: str) -> Outcome:
    """Run one claim, judge it and save its figure."""
    start = time.perf_counter()
    evidence = claim.experiment(quick)
    seconds = time.perf_counter() - start
    verdict, reason = judge(evidence)
    figure, pdf = plots.panels(partial(_draw, claim), evidence, claim.panels), f"figures/{stem}.pdf"
    (folder / pdf).parent.mkdir(exist_ok=True)
    plots.save(figure, folder / pdf)
    return {
        "verdict": verdict,
        "reason": reason,
        "seconds": round(seconds, 2),
        "numbers": [_number(number) for number in evidence.numbers],
        "controls": [_number(number) for number in evidence.controls],
        "rivals": [
            {
                "theory": rival.theory,
                "numbers": [_number(number) for number in rival.numbers],
                "verdict": rival.verdict,
            }
            for rival in evidence.rivals
        ],
        "runs": [
            {"name": run.name, "file": f"runs/{stem}-{place}.toml", "diverged": run.diverged, "toml": run.toml}
            for place, run in enumerate(evidence.runs, start=1)
        ],
        "figure": {"pdf": pdf, "panels": plots.to_svgs(figure)},
    }


def _not_run(claim: Claim) -> Outcome:
    """The outcome of a claim whose package is not installed: nothing was measured."""
    nothing: Outcome = {"numbers": [], "controls": [], "rivals": [], "runs": [], "figure": {"pdf": None, "panels": []}}
    return {"verdict": report.NOT_RUN, "reason": claim.lacking, "seconds": 0.0, **nothing}


def _draw(claim: Claim, axes: Sequence[Axes], evidence: Evidence) -> None:
    """The figure of a claim, with its symbols typeset."""
    claim.draw(axes, evidence)
    typeset(axes)


def _number(number: Number) -> dict[str, Any]:
    """A number as it appears in report.json."""
    interval = number.interval
    return {
        "name": number.name,
        "value": _finite(interval.value),
        "interval": [_finite(interval.low), _finite(interval.high)],
        "miss": interval.miss,
        "region": None if number.region is None else [_finite(end) for end in number.region],
        "moved": number.moved,
        "catches": number.catches,
        "refutes_from": None if number.refutes_from is None else [_finite(end) for end in number.refutes_from],
        "verdict": number.verdict,
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def _print(outcomes: Sequence[Outcome], folder: Path) -> None:
    """One table per paper, and the path of the report."""
    console = Console()
    if any(outcome["quick"] for outcome in outcomes):
        console.print("quick: coarser (small ensembles, wide regions; run without --quick for results to cite)")
    for paper, group in itertools.groupby(outcomes, key=itemgetter("paper")):
        table = Table("claim", "verdict", "measured", "predicted", "time", title=escape(paper), title_justify="left")
        for outcome in group:
            colour, head = _COLOURS[outcome["verdict"]], next(iter(outcome["numbers"]), None)
            table.add_row(
                escape(outcome["title"]),
                f"[{colour}]{outcome['verdict']}[/{colour}]",
                escape(f"{head['name']}: {report.measured(head)}" if head else outcome["reason"]),
                report.predicted(head) if head else "",
                f"{outcome['seconds']:.0f} s",
            )
        console.print(table)
    console.print(f"report: {folder / 'index.html'}", soft_wrap=True)
