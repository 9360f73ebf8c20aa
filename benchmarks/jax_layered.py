"""Langevin steps in JAX beside the compiled kernel: ``python benchmarks/jax_layered.py [--rounds …] [--cores …]``.

Three 10 × 10 layers in float32 (W1 of ``saddlescope bench``). ``engine="jax"``, the compiled engine and the idiomatic
``vmap(scan)`` take turns; nanoseconds a trajectory and step are medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import saddlescope as sc
from saddlescope.bench import settings
from saddlescope.engines import make_engine


def engine_arm(setting, name: str, trajectories: int, steps: int, threads: int):
    """A function that advances the ensemble by these steps, from the same start every time."""
    problem = sc.Problem(
        sc.DeepLinear((setting.width,) * 4),
        sc.GaussianData(setting.teacher, label_noise=setting.label_noise),
        sc.init.Given(setting.start),
    )
    plan = sc.Plan(steps, trajectories, dtype="float32", threads=threads, events=())
    engine = make_engine(name, problem, sc.Langevin(setting.lr, setting.batch_size), plan)
    state = engine.init()
    return lambda: engine.advance(state, steps)


def measure(arms, trajectories: int, rounds: int) -> dict[str, float]:
    """Median nanoseconds a trajectory and step of every arm, in interleaved rounds after one that compiles."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for again in range(rounds + 1):
        for name, (steps, advance) in arms.items():
            begin = time.perf_counter()
            advance()
            if again:
                found[name].append((time.perf_counter() - begin) / trajectories / steps * 1e9)
    return {name: statistics.median(each) for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--trajectories", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    setting = settings.network(10, 16)
    arms = {
        name: (given.steps, engine_arm(setting, name, given.trajectories, given.steps, given.cores))
        for name in ("jax", "native")
    }
    from saddlescope.bench.peers import jax as peer  # after the engine has told JAX how many devices there are

    few = max(1, given.steps // 10)
    scanned = peer.langevin(setting, given.trajectories, 0, few, "vmap")
    arms["vmap(scan)"] = few, lambda: scanned(few)
    found = measure(arms, given.trajectories, given.rounds)
    for name, nanoseconds in found.items():
        print(f"{name:12} {nanoseconds:8.0f} ns   {nanoseconds / found['native']:6.1f} × native")


if __name__ == "__main__":
    main()
