"""Arms of a race: each one or more worker processes, run in turns so that all see the same machine."""

from __future__ import annotations

import importlib
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Arm:
    """``module.function(trajectories, seed, **options)`` in each of ``processes``, each on a core of its own.

    The trajectories are shared out over the processes; ``steps`` sets how long one timed run takes.
    """

    name: str
    module: str
    function: str
    steps: int
    trajectories: int
    options: dict[str, Any] = field(default_factory=dict)
    processes: int = 1


@dataclass
class Times:
    """Seconds of the first run (set-up and compilation included) and of each later one."""

    arm: Arm
    first: float
    seconds: list[float] = field(default_factory=list)

    @property
    def nanoseconds(self) -> float:
        """Median time of one step of one trajectory."""
        return 1e9 * statistics.median(self.seconds) / (self.arm.steps * self.arm.trajectories)

    @property
    def compile_seconds(self) -> float:
        """What the first run took beyond a later one."""
        return max(0.0, self.first - statistics.median(self.seconds))


def ratio(slow: Times, fast: Times) -> tuple[float, float, float]:
    """Median, lowest and highest ratio of times per trajectory-step over the rounds."""
    work = (fast.arm.steps * fast.arm.trajectories) / (slow.arm.steps * slow.arm.trajectories)
    rounds = [work * s / f for s, f in zip(slow.seconds, fast.seconds, strict=True)]
    return statistics.median(rounds), min(rounds), max(rounds)


class Runner:
    """An arm with its processes alive."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        context = get_context("spawn")
        self.pipes: list[Connection] = []
        for index in range(arm.processes):
            ours, theirs = context.Pipe()
            context.Process(target=_work, args=(theirs, arm, index), daemon=True).start()
            self.pipes.append(ours)
        for pipe in self.pipes:
            _answer(pipe)

    def run(self, steps: int) -> tuple[float, np.ndarray]:
        """Wall-clock seconds until the last process is done, and the final losses."""
        begin = time.perf_counter()
        for pipe in self.pipes:
            pipe.send(steps)
        losses = [_answer(pipe) for pipe in self.pipes]
        return time.perf_counter() - begin, np.concatenate(losses)

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)


def _answer(pipe: Connection) -> np.ndarray:
    answer = pipe.recv()
    if isinstance(answer, str):
        sys.exit(answer)
    return answer


def _work(pipe: Connection, arm: Arm, index: int) -> None:
    if arm.processes > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    try:
        module = importlib.import_module(arm.module)
        prepare = getattr(module, arm.function)
        advance = prepare(arm.trajectories // arm.processes, 1000 + index, **arm.options)
    except ImportError as error:
        pipe.send(f"{arm.name}: {error}; install the peers with: pip install 'saddlescope[bench]'")
        return
    pipe.send(np.empty(0))
    while (steps := pipe.recv()) is not None:
        pipe.send(advance(steps))


@contextmanager
def runners(arms: Sequence[Arm]) -> Iterator[list[Runner]]:
    """The arms with their processes, ended afterwards."""
    alive = [Runner(arm) for arm in arms]
    try:
        yield alive
    finally:
        for runner in alive:
            runner.close()


def race(arms: Sequence[Arm], rounds: int) -> list[Times]:
    """Time every arm once per round, in alternating order."""
    with runners(arms) as alive:
        times = [Times(runner.arm, runner.run(runner.arm.steps)[0]) for runner in alive]
        pairs = list(zip(alive, times, strict=True))
        for index in range(rounds):
            for runner, entry in pairs if index % 2 == 0 else pairs[::-1]:
                entry.seconds.append(runner.run(runner.arm.steps)[0])
    return times


def same_law(arms: Sequence[Arm], steps: int) -> dict[str, dict[str, float]]:
    """Mean and spread of the loss after ``steps`` in every arm; exits when an arm differs from the first.

    An arm's mean and its spread about the first arm's mean are compared with the first's, in standard errors;
    the false alarm level of 5 is 6e-7.
    """
    with runners(arms) as alive:
        losses = [runner.run(steps)[1] for runner in alive]
    report = {}
    for arm, loss in zip(arms, losses, strict=True):
        z = [_z(loss, losses[0]), _z(_squares(loss, losses[0]), _squares(losses[0], losses[0]))]
        report[arm.name] = {"mean": float(loss.mean()), "std": float(loss.std()), "z": z}
        if max(map(abs, z)) > 5 and arm is not arms[0]:
            sys.exit(f"{arm.name} does not simulate the law of {arms[0].name}: z = {z}")
    return report


def _squares(loss: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return (loss - reference.mean()) ** 2


def _z(a: np.ndarray, b: np.ndarray) -> float:
    return float((a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b)))
