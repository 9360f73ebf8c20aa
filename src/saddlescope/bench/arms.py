"""A race: arms, each of one or more worker processes, that run in turns so that all see the same machine."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from saddlescope._arrays import Floats
from saddlescope._threads import available

OURS = "saddlescope"
PEERS = ("torch", "jax", "numpy", "numba", "diffrax", "torchsde")
AVAILABLE = available()
CORES = next(count for count in (16, 8, 4, 2, 1) if count <= AVAILABLE)
"""Cores that all contestants use; a power of two divides ensembles evenly."""

BOUND = 5.0
"""Standard errors by which equal distributions may differ (false-alarm level 6e-7)."""

Values = Floats
Advance = Callable[[int], Values]


@dataclass(frozen=True)
class Arm:
    """A contestant in one arrangement: ``function`` of the module of ``peer``, in ``processes``.

    ``function(setting, trajectories, seed, block, **options)`` prepares an ensemble and returns a function that runs it
    from its start for a number of steps, a multiple of ``block``, with new noise at every call; it returns one number
    per trajectory. The trajectories are divided among the processes, one core each. Of the ``choices`` of options
    (which may contain another setting) the fastest is raced.
    """

    name: str
    peer: str
    function: str
    trajectories: int
    choices: tuple[dict[str, Any], ...] = ({},)
    processes: int = 1
    block: int = 100
    check: tuple[int, int] | None = None
    """Steps and members of its distribution check; those of the race if None, no check with 0 members."""

    @property
    def module(self) -> str:
        return "saddlescope.bench.ours" if self.peer == OURS else f"saddlescope.bench.peers.{self.peer}"


@dataclass(frozen=True)
class Race:
    """Arms on one ``setting``, ours first; ``check``: steps and members after which distributions are compared."""

    name: str
    setting: Any
    arms: tuple[Arm, ...]
    check: tuple[int, int]
    quick: bool = False


@dataclass
class Entry:
    """Result of one arm: seconds of every round, compilation time, memory, and its distribution."""

    arm: Arm
    choice: dict[str, Any]
    steps: int
    compile_seconds: float
    law: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    memory: int = 0
    """Peak resident memory of its processes together, in bytes."""
    work_memory: int = 0
    """The part of it that exceeds the memory after importing the contestant."""


class Failure(RuntimeError):
    """An arm could not run; the message says why."""


def installed(peer: str) -> bool:
    """Whether a contestant can be imported."""
    return find_spec(peer) is not None


def run(
    race: Race,
    repeats: int,
    seconds: float,
    say: Callable[[str], None],
    each_round: Callable[[], None] = lambda: None,
) -> tuple[list[Entry], list[str], list[str]]:
    """Time every arm ``repeats`` times, in alternating order, if its distribution agrees with that of the first.

    ``each_round`` is called in every round, in the position of the last arm.

    Returns the entries of the arms that ran, notes on those that did not, and notes on wrong distributions.
    """
    arms = [arm for arm in race.arms if arm.peer == OURS or installed(arm.peer)]
    notes, wrong, ready = [], [], []
    runners = [Runner(arm, race.setting) for arm in arms]
    try:
        for runner in runners:
            say(f"{race.name}: importing {runner.arm.name}")
            runner.start()  # all of them, before any is timed
        for runner in runners:
            say(f"{race.name}: {runner.arm.name}, best arrangement and distribution check")
            try:
                runner.check()
                runner.choose(seconds / 8)
                law = _law(runner, runners[0], race)
                if max(map(abs, law["z"])) > BOUND:
                    wrong.append(
                        f"{runner.arm.name} has a different distribution: z = {law['z'][0]:+.1f}, {law['z'][1]:+.1f}"
                    )
                    continue
                runner.settle(seconds)
            except Failure as failure:
                if runner.arm.peer == OURS:
                    raise
                notes.append(f"{runner.arm.name} did not run: {failure}")
                continue
            ready.append((runner, Entry(runner.arm, runner.choice, runner.steps, runner.compile_seconds, law)))
        for index in range(repeats):
            say(f"{race.name}: round {index + 1} of {repeats}")
            forward = index % 2 == 0
            if not forward:
                each_round()
            for runner, entry in ready if forward else ready[::-1]:
                entry.seconds.append(runner.time())
            if forward:
                each_round()
        for runner, entry in ready:
            entry.memory, entry.work_memory = runner.memory, runner.work_memory
    finally:
        for runner in runners:
            runner.close()
    return [entry for _, entry in ready], notes, wrong


def _law(runner: Runner, reference: Runner, race: Race) -> dict[str, Any]:
    """Mean and standard deviation of an arm's values after the check, and their distances from the first arm's."""
    steps, members = runner.arm.check or race.check
    if not members:
        return {"z": [0.0, 0.0]}
    expected = reference.values(steps, members)
    values = expected if runner is reference else runner.values(steps, members)
    z = [0.0, 0.0] if runner is reference else distances(values, expected)
    kept = values[np.isfinite(values)]  # fixed steps can diverge
    facts = {"mean": float(kept.mean()), "std": float(kept.std()), "lost": len(values) - len(kept), "z": z}
    return {"steps": steps, "members": len(values), **facts}


def distances(values: Values, expected: Values) -> list[float]:
    """Differences of the means, and of the mean squares about the expected mean, in standard errors (Welch).

    Non-finite values are dropped; if they exceed 1 %, the distance is infinite.

    >>> rng = np.random.default_rng(0)
    >>> same, wider = rng.normal(size=(2, 4000)), rng.normal(scale=1.2, size=4000)
    >>> max(map(abs, distances(*same))) < 5 < max(map(abs, distances(wider, same[0])))
    True
    """
    if not np.isfinite(values).mean() > 0.99:
        return [math.inf, math.inf]
    values, expected = (a[np.isfinite(a)] for a in (values, expected))
    center = expected.mean()
    pairs = (values, expected), ((values - center) ** 2, (expected - center) ** 2)
    return [_normal(stats.ttest_ind(a, b, equal_var=False)) for a, b in pairs]


def _normal(test: Any) -> float:
    """The z-score with the two-sided p-value and the sign of a test."""
    return float(np.sign(test.statistic) * stats.norm.isf(max(test.pvalue, 1e-300) / 2))


class Runner:
    """An arm with its running processes."""

    def __init__(self, arm: Arm, setting: Any) -> None:
        self.arm, self.choice, self.steps = arm, arm.choices[0], arm.block
        self._sent: dict[str, Any] | None = None
        self.compile_seconds, self.memory, self.work_memory = 0.0, 0, 0
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # products are small; cores are assigned here
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.pipes: list[Connection] = []
        self.processes = []
        for index in range(arm.processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, arm, setting, index), daemon=True)
            process.start()
            self.processes.append(process)
            theirs.close()
            self.pipes.append(ours)

    def run(self, steps: int, patience: float | None = None) -> tuple[float, Values]:
        """Wall-clock seconds until the last process is done, and the values of all trajectories.

        Raises Failure if a process takes more than ``patience`` seconds; the runner is then unusable.
        """
        begin = time.perf_counter()
        changed, self._sent = self.choice is not self._sent, self.choice
        for pipe in self.pipes:
            pipe.send((self.choice if changed else None, steps))
        answers = [_answer(pipe, patience) for pipe in self.pipes]
        seconds = time.perf_counter() - begin
        self.memory, self.work_memory = (sum(answer[k] for answer in answers) for k in (1, 2))
        return seconds, np.concatenate([answer[0] for answer in answers])

    def start(self) -> None:
        """Wait until every process has imported the contestant, or failed to."""
        for pipe in self.pipes:
            pipe.poll(None)

    def check(self) -> None:
        """Raise Failure if the contestant could not be imported."""
        for pipe in self.pipes:
            _answer(pipe)

    def time(self) -> float:
        """Seconds of ``steps`` steps: a run with one more block minus a run of that block, which cancels set-up."""
        block = self.arm.block
        return max(1e-9, self.run(block + self.steps)[0] - self.run(block)[0])

    def choose(self, seconds: float) -> None:
        """Select the fastest choice of options; its first run measures compilation."""
        tried = []
        for choice in self.arm.choices:
            self.choice, self.steps = choice, self.arm.block
            first, second = (self.run(self.arm.block)[0] for _ in range(2))
            took = self.settle(seconds) if len(self.arm.choices) > 1 else 0.0
            tried.append((took, choice, max(0.0, first - second)))
        _, self.choice, self.compile_seconds = min(tried, key=lambda entry: entry[0])

    def settle(self, seconds: float) -> float:
        """Set the number of steps so that they take about ``seconds``; returns seconds per step."""
        for _ in range(12):
            took = min(self.time() for _ in range(2))
            shortest = took > seconds and self.steps == self.arm.block
            if shortest or 0.7 * seconds <= took <= 1.5 * seconds:
                break
            # Repeat even if the run was too long: the machine may have been busy.
            self.steps = self._blocks(self.steps * min(16.0, max(1 / 16, seconds / took)))
        return took / self.steps

    def _blocks(self, steps: float) -> int:
        """``steps`` rounded up to whole blocks."""
        return self.arm.block * math.ceil(steps / self.arm.block)

    def values(self, steps: int, members: int) -> Values:
        """Values of at least ``members`` independent trajectories after ``steps``."""
        return np.concatenate([self.run(steps)[1] for _ in range(math.ceil(members / self.arm.trajectories))])

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
            pipe.close()
        for process in self.processes:
            process.join(1)
            process.kill()


def _answer(pipe: Connection, patience: float | None = None) -> Any:
    if not pipe.poll(patience):
        raise Failure(f"it took longer than {patience:g} s")
    try:
        answer = pipe.recv()
    except EOFError:
        raise Failure("its process ended, possibly out of memory") from None
    if isinstance(answer, str):
        raise Failure(answer)
    return answer


def _work(pipe: Connection, arm: Arm, setting: Any, index: int) -> None:
    """Main loop of a worker: import the contestant, then run what is requested."""
    if arm.processes > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    try:
        prepare, imported = getattr(importlib.import_module(arm.module), arm.function), _memory("VmRSS")
        pipe.send(None)
        share = {"trajectories": arm.trajectories // arm.processes, "seed": 1000 + index, "block": arm.block}
        advance: Any = None
        while (order := pipe.recv()) is not None:
            options, steps = order
            if options is not None:
                advance = None  # free the old ensemble before the new one is allocated
                if "chunk" in options:
                    options["chunk"] = min(options["chunk"], share["trajectories"])
                advance = prepare(**{"setting": setting, **share, **options})
            values = np.asarray(advance(steps), np.float64)
            peak = _memory("VmHWM")
            pipe.send((values, peak, peak - imported))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass
    except Exception as error:  # an error of a peer is reported, and its arm skipped
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])


def _memory(field: str) -> int:
    """Resident memory of this process, bytes: at its peak ("VmHWM") or now ("VmRSS"); elsewhere than on Linux the peak.

    On Linux getrusage would include the memory of the process that started this one.
    """
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return 1024 * int(fields[field].split()[0])
    except (OSError, KeyError):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
