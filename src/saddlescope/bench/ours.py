"""saddlescope itself as a contestant."""

from __future__ import annotations

from itertools import count
from typing import Any

from saddlescope.bench.arms import CORES, Advance
from saddlescope.bench.settings import Network, Scalar, Table
from saddlescope.data import Dataset, GaussianData
from saddlescope.engines.native import Native
from saddlescope.init import Given
from saddlescope.methods import SGD, Langevin, Method
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory.mode.sde import ModeSDE


def langevin(setting: Network, trajectories: int, seed: int, block: int, **plan: Any) -> Advance:
    """Langevin steps with full gradient noise."""
    return _engine(setting, _problem(setting), Langevin(setting.lr, setting.batch_size), trajectories, seed, plan)


def sgd(setting: Network, trajectories: int, seed: int, block: int, **plan: Any) -> Advance:
    """Online SGD, exact in distribution."""
    return _engine(setting, _problem(setting), SGD(setting.lr, setting.batch_size), trajectories, seed, plan)


def label_noise(setting: Table, trajectories: int, seed: int, block: int, **plan: Any) -> Advance:
    """SGD on all samples at once, with fresh label noise at every step."""
    data = Dataset(setting.x, setting.y, label_noise=setting.label_noise)
    problem = Problem(DeepLinear((5, 10, 2)), data, Given(setting.start))
    return _engine(setting, problem, SGD(setting.lr, sampling="full"), trajectories, seed, plan)


def mode(setting: Scalar, trajectories: int, seed: int, block: int, threads: int = CORES) -> Advance:
    """Euler–Maruyama in the weight with a fixed step."""
    sde, seeds = _mode(setting), count(1000 * seed)
    fixed: dict[str, Any] = {"dt": setting.dt, "dtype": "float32"}

    def advance(steps: int) -> Any:
        times = [steps * setting.dt]
        return sde.simulate(setting.strength, times, trajectories, next(seeds), threads=threads, **fixed)[:, 0]

    return advance


def mode_controlled(setting: Scalar, trajectories: int, seed: int, block: int, tol: float) -> Advance:
    """The scheme of weak order 2 with a locally controlled step."""
    sde, seeds = _mode(setting), count(1000 * seed)

    def advance(steps: int) -> Any:
        return sde.simulate(setting.strength, [steps * setting.dt], trajectories, next(seeds), tol=tol)[:, 0]

    return advance


def _mode(setting: Scalar) -> ModeSDE:
    return ModeSDE(setting.depth, setting.target, setting.label_noise, temperature=setting.temperature)


def _problem(setting: Network) -> Problem:
    data = GaussianData(setting.teacher, label_noise=setting.label_noise)
    return Problem(DeepLinear((setting.width,) * 4), data, Given(setting.start))


def _engine(
    setting: Network | Table, problem: Problem, method: Method, trajectories: int, seed: int, options: dict[str, Any]
) -> Advance:
    """The compiled engine without saves: the steps alone, like the peers, unless the options request events."""
    seeds, options = count(1000 * seed), {"dtype": "float32", "threads": CORES, "events": (), **options}

    def advance(steps: int) -> Any:
        native = Native(problem, method, Plan(steps, trajectories, seed=next(seeds), **options))
        return setting.excess_loss(native.weights(native.advance(native.init(), steps)))

    return advance
