"""Time of trajectories in lanes and one by one: ``python benchmarks/routes.py [--widths …]``.

Langevin steps on three square layers, float32 by default. Both routes run in turns and are bit-identical; the last
column compares the kernel's own choice (cpp/routes.hpp) with the better one.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import saddlescope as sc
from saddlescope.engines.native import Native

WIDTHS = (2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512)
ROUTES = ("lanes", "one by one", "auto")


def arm(width: int, trajectories: int, threads: int, dtype: str, route: str):
    """``seconds(steps)`` of one route."""
    data = sc.GaussianData(np.diag(np.linspace(1.0, 0.2, width)), label_noise=0.5)
    problem = sc.Problem(sc.DeepLinear((width,) * 4), data, sc.init.Gaussian(scale=0.3 / np.sqrt(width)))
    plan = sc.Plan(10**9, trajectories, dtype=dtype, threads=threads)
    engine = Native(problem, sc.Langevin(1e-4, 1), plan, route=route)
    state = engine.init()

    def seconds(steps: int) -> float:
        begin = time.perf_counter()
        engine.advance(state, steps)
        return time.perf_counter() - begin

    return seconds


def measure(width: int, trajectories: int, threads: int, dtype: str, rounds: int) -> dict[str, float]:
    """Median microseconds per step and trajectory of every route."""
    steps = max(8, int(1e9 / (trajectories * (14 * width**3 + 3000))))
    arms = {route: arm(width, trajectories, threads, dtype, route) for route in ROUTES}
    for seconds in arms.values():
        seconds(1)
    times: dict[str, list[float]] = {route: [] for route in arms}
    for _ in range(rounds):
        for route, seconds in arms.items():
            times[route].append(1e6 * seconds(steps) / (steps * trajectories))
    return {route: statistics.median(values) for route, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure both routes of the kernel.")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--trajectories", type=int, nargs="+", default=(16, 64, 1024))
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.dtype}, microseconds per step and trajectory")
    print("trajectories  threads  width      lanes  one by one  ratio  chosen / best")
    for trajectories in options.trajectories:
        for threads in options.threads:
            for width in options.widths:
                took = measure(width, trajectories, threads, options.dtype, options.rounds)
                lanes, alone, auto = (took[route] for route in ROUTES)
                print(
                    f"{trajectories:12} {threads:8} {width:6} {lanes:10.2f} {alone:11.2f} {alone / lanes:6.2f}"
                    f" {auto / min(lanes, alone):14.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
