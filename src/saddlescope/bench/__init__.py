"""``saddlescope bench``: the same work by this package and by every installed peer, measured side by side."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from saddlescope.bench import curves, limits, report
from saddlescope.bench.arms import OURS, PEERS, Entry, Race, installed, run
from saddlescope.bench.targets import TARGETS, ratio
from saddlescope.bench.work import WORKS, Work

ROUNDS, QUICK_ROUNDS = 5, 3


def bench(
    names: Sequence[str] = (),
    repeats: int | None = None,
    quick: bool = False,
    out: str | Path = "bench",
    works: Mapping[str, Work] = WORKS,
) -> int:
    """Run the works and write ``bench.json``, ``bench.md`` and ``w3.svg``.

    Returns 1 if a contestant simulates a different distribution, else 0. Peers that are not installed are skipped and
    listed. Raises ValueError for an unknown work.
    """
    chosen = _chosen(names, works)
    repeats = repeats or (QUICK_ROUNDS if quick else ROUNDS)
    folder, console = Path(out), Console()
    folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "machine": limits.machine(),
        "quick": quick,
        "repeats": repeats,
        "missing": sorted(peer for peer in PEERS if not installed(peer)),
        "limits": {},
        "works": {},
        "memory": [],
        "curves": None,
        "targets": [],
    }
    if record["missing"]:
        console.print(f"not installed: {', '.join(record['missing'])} (pip install 'saddlescope\\[bench]')")
    with console.status("starting") as status:
        for name, work in chosen.items():
            races = [race for race in work.races if race.quick or not quick]
            record["works"][name] = {"title": work.title, "races": {}}
            for race in races:
                outcome = _outcome(race, repeats, 0.1 if quick else 0.4, status.update)
                record["works"][name]["races"][race.name] = outcome
                title = f"{name} {work.title}: {race.name}"
                console.print(report.table(title, report.ARMS, report.arm_rows(outcome["arms"])))
                for note in (*outcome["wrong"], *outcome["notes"]):
                    console.print(note, markup=False)
                report.write(folder, record)
        if "W1" in chosen:
            record["memory"] = limits.memory()
        if "W3" in chosen:
            n, rounds = (10_000, 1) if quick else (20_000, repeats)
            record["curves"] = curves.measure(n, rounds, quick, status.update)
            curves.draw(record["curves"], folder / "w3.svg")
    every_round = [
        each for work in record["works"].values() for race in work["races"].values() for each in race["limits"]
    ]
    record["limits"] = limits.summary(every_round)
    record["targets"] = [target.judge(record) for target in TARGETS if target.work in chosen]
    report.write(folder, record)
    console.print(report.table("Limits of this machine", report.LIMITS, report.limit_rows(record)))
    console.print(report.table("Targets", report.TARGETS, report.target_rows(record)))
    console.print(f"written to {folder / 'bench.md'}", markup=False)
    wrong = [race["wrong"] for work in record["works"].values() for race in work["races"].values()]
    return int(any(wrong))


def _chosen(names: Sequence[str], works: Mapping[str, Work]) -> dict[str, Work]:
    """The named works in their own order, all if none is named."""
    for name in names:
        if name not in works:
            raise ValueError(f"WORK must be among {', '.join(works)}, got {name!r}; leave it out for all of them")
    return {name: works[name] for name in works if name in names or not names}


def _outcome(race: Race, repeats: int, seconds: float, say: Any) -> dict[str, Any]:
    """Run a race, with the limits of the machine measured in every round."""
    found: list[limits.Rates] = []
    entries, notes, wrong = run(race, repeats, seconds, say, lambda: found.append(limits.rates()))
    arms = {entry.arm.name: _facts(entry) for entry in entries}
    for arm in arms.values():
        arm["ratio"] = ratio(arm, arms[OURS])
    return {"arms": arms, "notes": notes, "wrong": wrong, "limits": found}


def _facts(entry: Entry) -> dict[str, Any]:
    """An entry as it appears in bench.json."""
    arm, each = entry.arm, 1e9 / (entry.steps * entry.arm.trajectories)
    options = {key: value for key, value in entry.choice.items() if key != "setting"}
    return {
        "name": arm.name,
        "peer": arm.peer,
        "processes": arm.processes,
        "options": options,
        "trajectories": arm.trajectories,
        "steps": entry.steps,
        "seconds": entry.seconds,
        "nanoseconds": each * statistics.median(entry.seconds),
        "spread": [each * min(entry.seconds), each * max(entry.seconds)],
        "compile_seconds": entry.compile_seconds,
        "memory": entry.memory,
        "work_memory": entry.work_memory,
        "law": entry.law,
    }
