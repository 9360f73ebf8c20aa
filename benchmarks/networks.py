"""Time of ensembles of a Model beside other ways to train them: ``python benchmarks/networks.py [works …]``.

All arms of a work stay alive in one process and run in turns; a row is the median of the ratios within rounds, with
the lowest and the highest. An arm is ``seconds(steps)``: the time of these steps of all members, results in NumPy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

import saddlescope as sc
from saddlescope import _jax
from saddlescope.engines.jax.ensemble import Ensemble

Arm = Callable[[int], float]

SAMPLES, BATCH, LR = 1000, 32, 1e-3
SAVES, RUN = 50, 20_000
"""Looks, and the steps of the run in which they are taken."""
TARGETS = {  # work: (arms of the ratio, floor, reach)
    "dense": [("naive", "ours", 2.5, 3.3), ("torch", "ours", 2.5, 3.0)],
    "one core": [("naive", "ours", 1.0, 1.1)],
    "convnet": [("naive", "ours", 2.0, 3.0)],
    "langevin": [("langevin", "gradient descent", 1.15, 1.05)],
    "precision": [("float64", "float32", 2.2, 2.0)],
    "saves": [("values", "steps", 0.1, 0.05), ("values and modes", "steps", 0.1, 0.05)],
}


def dense(samples: int = SAMPLES) -> sc.Problem:
    """ReLU 20 → 200 → 20 on random data."""
    jax, rng = _jax.load(), np.random.default_rng(0)

    def apply(params, x):
        return jax.nn.relu(x @ params["w1"].T) @ params["w2"].T

    def init(key):
        one, two = jax.random.split(key)
        return {"w1": jax.random.normal(one, (200, 20)) / 6, "w2": jax.random.normal(two, (20, 200)) / 20}

    return sc.Problem(sc.Model(apply, init), sc.Examples(*rng.normal(size=(2, samples, 20))))


def convnet(channels: tuple[int, int] = (8, 16)) -> sc.Problem:
    """Two convolutions of 3 × 3, a mean over 2 × 2, a dense layer: random images of 8 × 8 in ten classes."""
    jax, rng = _jax.load(), np.random.default_rng(0)
    sizes = {"c1": (3, 3, 1, channels[0]), "c2": (3, 3, *channels), "w": (16 * channels[1], 10)}

    def apply(params, x):
        for name in ("c1", "c2"):
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.nn.relu(jax.lax.conv_general_dilated(x, params[name], (1, 1), "SAME", dimension_numbers=layout))
        x = x.reshape(len(x), 4, 2, 4, 2, -1).mean((2, 4))
        return x.reshape(len(x), -1) @ params["w"]

    def init(key):
        keys = dict(zip(sizes, jax.random.split(key, 3), strict=True))
        return {
            name: jax.random.normal(keys[name], shape) / np.prod(shape[:-1]) ** 0.5 for name, shape in sizes.items()
        }

    data = sc.Examples(rng.normal(size=(SAMPLES, 8, 8, 1)), rng.integers(0, 10, SAMPLES))
    return sc.Problem(sc.Model(apply, init, "cross_entropy"), data)


# --- arms


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def ours(problem: sc.Problem, members: int, method=None, **options) -> Arm:
    """The engine of `simulate`."""
    plan = sc.Plan(10**9, members, **{"dtype": "float32", **options})
    engine = Ensemble(problem, method or sc.SGD(LR, BATCH), plan)
    state = engine.init()
    return lambda steps: timed(lambda: engine.advance(state, steps))


def naive(problem: sc.Problem, members: int) -> Arm:
    """``jit(vmap(scan(grad)))`` of SGD on the reader's functions."""
    jax = _jax.load()
    model, x, y = problem.network, *map(jax.numpy.asarray, (problem.data.X, problem.data.Y))
    x = x.astype("float32")
    y = y.astype("float32") if y.dtype.kind == "f" else y

    def member(params, key, steps):
        def step(number, params):
            index = jax.random.randint(jax.random.fold_in(key, number), (BATCH,), 0, len(x))
            gradient = jax.grad(lambda params: model.losses(params, x[index], y[index]).mean())(params)
            return jax.tree.map(lambda w, g: w - LR * g, params, gradient)

        return jax.lax.fori_loop(0, steps, step, params)

    run = jax.jit(jax.vmap(member, (0, 0, None)))
    keys = jax.random.split(jax.random.key(0), members)
    params = jax.vmap(model.init)(keys)
    return lambda steps: timed(lambda: jax.tree.map(np.asarray, run(params, keys, steps)))


def torch(problem: sc.Problem, members: int) -> Arm:
    """``torch.func``: ``vmap(grad)`` of the dense network, one step after another."""
    import torch

    x, y = (torch.tensor(values, dtype=torch.float32) for values in (problem.data.X, problem.data.Y))

    def loss(w1, w2, x, y):
        return 0.5 * ((torch.relu(x @ w1.T) @ w2.T - y) ** 2).sum() / BATCH

    gradients = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))

    def run(steps):
        w1, w2 = torch.randn(members, 200, 20) / 6, torch.randn(members, 20, 200) / 20
        for _ in range(steps):
            index = torch.randint(len(x), (members, BATCH))
            for w, g in zip((w1, w2), gradients(w1, w2, x[index], y[index]), strict=True):
                w -= LR * g

    return lambda steps: timed(lambda: run(steps))


def observed(problem: sc.Problem, members: int) -> Mapping[str, Arm]:
    """SAVES looks at an ensemble without and with modes, whatever the number of steps, and RUN steps of it."""
    values = [sc.observe.SingularValues("w1"), sc.observe.EffectiveRank("w1")]

    def made(seen: list[object]) -> tuple[Ensemble, object]:
        plan = sc.Plan(10**9, members, observe=seen, dtype="float32")
        engine = Ensemble(problem, sc.SGD(LR, BATCH), plan)
        return engine, engine.init()

    def looks(seen: list[object]) -> Arm:
        engine, state = made(seen)
        return lambda _: timed(lambda: [engine.observe(state) for _ in range(SAVES)])

    engine, state = made([])
    return {
        "values": looks(values),
        "values and modes": looks([*values, sc.observe.Modes(count=4)]),
        "steps": lambda steps: RUN / steps * timed(lambda: engine.advance(state, steps)),
    }


def arms(work: str) -> tuple[int, int, Mapping[str, Arm]]:
    """Members, steps of one turn, and the arms of a work."""
    if work == "dense":
        return 256, 40, {make.__name__: make(dense(), 256) for make in (ours, naive, torch)}
    if work == "one core":
        return 64, 200, {make.__name__: make(dense(), 64) for make in (ours, naive)}
    if work == "convnet":
        return 64, 3, {make.__name__: make(convnet(), 64) for make in (ours, naive)}
    if work == "langevin":
        few = dense(200)
        return 64, 50, {"langevin": ours(few, 64, sc.Langevin(LR, 1)), "gradient descent": ours(few, 64, sc.GD(LR))}
    if work == "precision":
        return 64, 100, {dtype: ours(dense(), 64, dtype=dtype) for dtype in ("float64", "float32")}
    return 64, 500, observed(dense(), 64)


def measure(work: str, rounds: int) -> None:
    """Print microseconds a member and step of every arm, and the ratios with their targets."""
    members, steps, racers = arms(work)
    for seconds in racers.values():
        seconds(2)
    times = {name: [] for name in racers}
    for _ in range(rounds):
        for name, seconds in racers.items():
            times[name].append(1e6 * seconds(steps) / (steps * members))
    for name, values in times.items():
        print(f"| {work}, {name} | {statistics.median(values):.1f} µs [{min(values):.1f}, {max(values):.1f}] | | |")
    for slow, fast, floor, reach in TARGETS[work]:
        ratios = [a / b for a, b in zip(times[slow], times[fast], strict=True)]
        numbers = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        print(f"| {work}, {slow} / {fast} | {numbers} | {floor} | {reach} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure ensembles of a Model.")
    parser.add_argument("works", nargs="*", default=list(TARGETS), help=", ".join(TARGETS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if len(options.works) == 1:
        if options.works == ["one core"]:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
        return measure(options.works[0], options.rounds)
    print("| work | measured | floor | reach |\n|---|---|---|---|", flush=True)
    for work in options.works:  # a process each: cores and devices are fixed when JAX starts
        subprocess.run([sys.executable, __file__, work, "--rounds", str(options.rounds)], check=True)
    return None


if __name__ == "__main__":
    main()
