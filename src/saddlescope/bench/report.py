"""The record of a benchmark as JSON, Markdown and terminal tables, independent of how it was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from saddlescope._files import replace
from saddlescope.bench.targets import Fact

Row = Sequence[str]

ARMS = ("contestant", "ns", "spread", "× ours", "rounds", "compile s", "memory MB", "of that, its work")
TARGETS = ("work", "ours against", "floor", "reach", "measured", "rounds", "")


def write(folder: Path, record: Fact) -> None:
    """Write ``bench.json`` and ``bench.md`` into an existing folder."""
    replace(folder / "bench.json", (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    replace(folder / "bench.md", markdown(record).encode())


def arm_rows(arms: Mapping[str, Any]) -> list[Row]:
    """A row for each contestant of a race: nanoseconds per trajectory and step, ratio to ours, compilation, memory."""
    return [
        (
            name,
            _number(arm["nanoseconds"]),
            _interval(arm["spread"]),
            _number(arm["ratio"][0]),
            _interval(arm["ratio"][1:]),
            f"{arm['compile_seconds']:.1f}",
            f"{arm['memory'] / 1e6:.0f}",
            f"{arm['work_memory'] / 1e6:.0f}",
        )
        for name, arm in arms.items()
    ]


def target_rows(record: Fact) -> list[Row]:
    """A row for each target: floor, reach, measured."""
    rows: list[Row] = []
    for t in record["targets"]:
        sign, found = "≤" if t["at_most"] else "≥", t["measured"]
        measured = (_number(found[0]), _interval(found[1:])) if found else ("–", "–")
        bounds = ("–" if t[name] is None else f"{sign} {t[name]:g}" for name in ("floor", "reach"))
        rows.append((t["work"], t["what"], *bounds, *measured, t["verdict"]))
    return rows


def limit_rows(record: Fact) -> list[Row]:
    """Peak rates of the machine for each type: median of all rounds, lowest and highest."""
    return [
        (
            dtype,
            *(
                f"{_number(limit[name][0] / unit)} {_interval([end / unit for end in limit[name][1:]])}"
                for name, unit in (("gflops_one_thread", 1.0), ("gflops", 1.0), ("normals_per_second", 1e9))
            ),
        )
        for dtype, limit in record["limits"].items()
    ]


def table(title: str, head: Row, rows: Iterable[Row]) -> Table:
    """A table for the terminal."""
    drawn = Table(title=title, title_justify="left", box=None)
    for index, name in enumerate(head):
        drawn.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def markdown(record: Fact) -> str:
    """The whole record as a Markdown document."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    parts = [
        "# Benchmark\n",
        f"{machine['processor']}, {machine['cores']} cores, {machine['instruction_set']}, load {machine['load']:.1f} "
        f"at the start. Python {machine['python']}, {versions}.\n",
        f"Medians of {record['repeats']} interleaved rounds{', short form' if record['quick'] else ''}; ns is "
        "nanoseconds per trajectory and step, a ratio is the median over rounds of the ratio within each round, and "
        "brackets give the lowest and the highest round. Compilation in the first run is listed separately. Memory is "
        "the total peak of the processes.\n",
        *([f"Not installed and not measured: {', '.join(record['missing'])}."] if record["missing"] else []),
        "\n## Targets\n",
        _markdown(TARGETS, target_rows(record)),
        "\n## Limits of this machine\n",
        _markdown(LIMITS, limit_rows(record)),
    ]
    for name, work in record["works"].items():
        parts.append(f"\n## {name} · {work['title']}\n")
        for race, outcome in work["races"].items():
            parts += [f"### {race}\n", _markdown(ARMS, arm_rows(outcome["arms"])), ""]
            parts += [f"- {note}" for note in (*outcome["wrong"], *outcome["notes"])]
            parts.append(_laws(outcome["arms"]))
    if record["memory"]:
        parts += ["\n## Memory of the engine, W1\n", _markdown(MEMORY, memory_rows(record))]
    if record["curves"]:
        parts += ["\n## W3, distance from the stationary distribution against time\n", _curves(record["curves"])]
    return "\n".join(parts) + "\n"


LIMITS = ("type", "multiply-add GFLOP/s, one thread", "all cores", "10⁹ normals per second, one core")
MEMORY = ("trajectories", "steps", "MB")


def memory_rows(record: Fact) -> list[Row]:
    """Memory of an ensemble."""
    return [(f"{m['trajectories']:,}", f"{m['steps']:,}", f"{m['bytes'] / 1e6:.1f}") for m in record["memory"]]


def _laws(arms: Mapping[str, Any]) -> str:
    """The distribution that all contestants agree on."""
    checked = {name: arm["law"] for name, arm in arms.items() if "mean" in arm["law"]}
    if not checked:
        return ""
    first, worst = next(iter(checked.values())), max(max(map(abs, law["z"])) for law in checked.values())
    return (
        f"\nDistribution after {first['steps']} steps: {first['mean']:.4g} ± {first['std']:.2g}; mean and standard "
        f"deviation of the others within {worst:.1f} standard errors.\n"
    )


def _curves(curves: Fact) -> str:
    head = ("scheme", "T", "step or tolerance", "µs per trajectory", "distance")
    rows = [
        (
            p["scheme"],
            f"{p['temperature']:g}",
            next(f"{key} = {p[key]:g}" for key in ("dt", "tol", "rtol") if key in p),
            _number(p["microseconds"]),
            f"{p['distance']:.4f}",
        )
        for p in curves["points"]
    ]
    verdict = {True: "yes", False: "no", None: "no peer"}[curves["dominates"]]
    return (
        f"![W3](w3.svg)\n\nOurs is as fast and as accurate as every point of a peer: {verdict}. Ensembles of "
        f"{curves['trajectories']:,} trajectories to t = {curves['horizon']:g}; distance is the Kolmogorov "
        f"distance. {'; '.join(curves['notes'])}\n\n{_markdown(head, rows)}"
    )


def _markdown(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _interval(ends: Sequence[float]) -> str:
    return f"[{_number(ends[0])}, {_number(ends[1])}]"


def _number(value: float) -> str:
    """Three significant digits, and all digits before the decimal point.

    >>> _number(0.02345), _number(7.126), _number(434012.3)
    ('0.0235', '7.13', '434,012')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
