"""saddlescope on the same workload, through its public names."""

from collections.abc import Callable
from typing import Any

import numpy as np

import saddlescope as sc
from saddlescope.engines.native import Native
from workload import BATCH_SIZE, LABEL_NOISE, LR, TEACHER, WEIGHTS, WIDTHS

PROBLEM = sc.Problem(sc.DeepLinear(WIDTHS), sc.GaussianData(TEACHER, label_noise=LABEL_NOISE), sc.init.Given(WEIGHTS))
LANGEVIN = sc.Langevin(LR, BATCH_SIZE, noise="gradient")


def engine(
    trajectories: int, seed: int, threads: int = 2, dtype: str = "float32", sgd_batch: int | None = None
) -> Callable[[int], np.ndarray]:
    """The compiled engine without saves: Langevin, or exact SGD with ``sgd_batch`` samples a step."""
    method = LANGEVIN if sgd_batch is None else sc.SGD(LR, sgd_batch)

    def advance(steps: int) -> np.ndarray:
        plan: Any = sc.Plan(steps, trajectories, seed=seed, dtype=dtype, threads=threads)
        native = Native(PROBLEM, method, plan)
        return native.observe(native.advance(native.init(), steps))["excess_loss"]

    return advance


def simulate(trajectories: int, seed: int, saves: int, threads: int = 2) -> Callable[[int], np.ndarray]:
    """A whole run with the default observables, statistics and dtype."""

    def advance(steps: int) -> np.ndarray:
        plan = sc.Plan(steps, trajectories, saves=saves, seed=seed, threads=threads)
        run = sc.simulate(PROBLEM, LANGEVIN, plan, progress=False)
        return run.excess_loss.sel(statistic="mean").values[-1:]

    return advance
