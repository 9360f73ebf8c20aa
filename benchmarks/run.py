"""The speed of saddlescope, as ratios measured in one run: ``python benchmarks/run.py`` (or ``make bench``).

First all contestants must simulate the same law; then they run in turns, round after round, and the medians
are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from arms import Arm, Times, race, ratio, same_law
from workload import CHECK_STEPS, TRAJECTORIES

OURS = Arm("saddlescope", "ours", "engine", 20_000, TRAJECTORIES)
JAX = Arm("JAX vmap + scan", "peer_jax", "vmap_scan", 250, TRAJECTORIES)
JAX_LAST = Arm("JAX trajectories last, 2 processes", "peer_jax", "trajectories_last", 800, TRAJECTORIES, {}, 2)
TORCH = Arm("PyTorch, 2 processes", "peer_torch", "bmm", 1500, TRAJECTORIES, {"chunk": 256}, 2)
TORCH_ONE = replace(TORCH, name="PyTorch, one process", options={"chunk": TRAJECTORIES, "threads": 2}, processes=1)
CHUNKS = (32, 64, 128, 256, 512)

DOUBLE = replace(OURS, name="float64", steps=10_000, options={"dtype": "float64"})
ONE_THREAD = replace(OURS, name="one thread", steps=10_000, options={"threads": 1})
SGD_16 = replace(OURS, name="SGD, B = 16", steps=10_000, options={"sgd_batch": 16})
SGD_4096 = replace(OURS, name="SGD, B = 4096", steps=10_000, options={"sgd_batch": 4096})
SAVES_1 = Arm("50,000 steps, 1 save", "ours", "simulate", 50_000, TRAJECTORIES, {"saves": 1})
SAVES_200 = Arm("50,000 steps, 200 saves", "ours", "simulate", 50_000, TRAJECTORIES, {"saves": 200})

# What, the two arms whose times are divided, and the bound that the ratio should meet.
QUESTIONS = [
    ("JAX vmap + scan / saddlescope", JAX, OURS, ">=", 30.0),
    ("PyTorch, 2 processes / saddlescope", TORCH, OURS, ">=", 6.0),
    ("float64 / float32", DOUBLE, OURS, "<=", 1 / 0.45),
    ("SGD, B = 4096 / B = 16", SGD_4096, SGD_16, "<=", 1.15),
    ("one thread / two threads", ONE_THREAD, OURS, ">=", 1.8),
    ("200 saves / 1 save", SAVES_200, SAVES_1, "<=", 1.3),
]


def best_chunk(rounds: int = 3) -> int:
    """The chunk size at which PyTorch is fastest here."""
    arms = [replace(TORCH, options={"chunk": chunk}) for chunk in CHUNKS]
    return int(min(race(arms, rounds), key=lambda times: times.nanoseconds).arm.options["chunk"])


def answers(times: dict[str, Times]) -> dict[str, dict[str, Any]]:
    """The ratio of every question, with its lowest and highest round and whether it meets the bound."""
    table = {}
    for what, slow, fast, sign, bound in QUESTIONS:
        median, low, high = ratio(times[slow.name], times[fast.name])
        met = median >= bound if sign == ">=" else median <= bound
        entry = {"median": median, "low": low, "high": high, "bound": f"{sign} {bound:.3g}", "met": met}
        table[what] = entry
    return table


def machine() -> dict[str, Any]:
    """What the numbers are measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("saddlescope", "numpy", "jax", "torch")},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the speed of saddlescope against its peers.")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of every arm (default 7)")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("results.json"))
    options = parser.parse_args()

    facts = machine()
    print(f"{facts['processor']}, {facts['cores']} cores, load {facts['load']:.2f}; {facts['versions']}")
    chunk = best_chunk()
    print(f"PyTorch is fastest in chunks of {chunk} trajectories")
    contest = [OURS, replace(TORCH, options={"chunk": chunk}), TORCH_ONE, JAX, JAX_LAST]

    print(f"\nThe same law? Excess loss after {CHECK_STEPS} steps, and z of its mean and spread")
    law = same_law(contest, CHECK_STEPS)
    for name, e in law.items():
        print(f"  {name:36} {e['mean']:.4f} ± {e['std']:.4f}   z = {e['z'][0]:+.1f}, {e['z'][1]:+.1f}")

    own = [DOUBLE, ONE_THREAD, SGD_16, SGD_4096, SAVES_1, SAVES_200]
    times = {entry.arm.name: entry for entry in race([*contest, *own], options.rounds)}
    print(f"\nNanoseconds per step and trajectory (median of {options.rounds}), and what the first run added")
    for name, t in times.items():
        print(f"  {name:36} {t.nanoseconds:9.1f}   {t.compile_seconds:6.2f} s")

    table = answers(times)
    print("\nRatios of times: median [lowest, highest] round")
    for what, e in table.items():
        verdict = "met" if e["met"] else "NOT MET"
        print(f"  {what:36} {e['median']:7.2f} [{e['low']:.2f}, {e['high']:.2f}]   {e['bound']}: {verdict}")

    arms = {name: {"ns": t.nanoseconds, "compile_s": t.compile_seconds, "s": t.seconds} for name, t in times.items()}
    result = {"machine": facts, "chunk": chunk, "law": law, "arms": arms, "ratios": table}
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nWritten to {options.output}")


if __name__ == "__main__":
    main()
