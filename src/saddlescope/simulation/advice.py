"""Warnings about a run, before it starts and at its end: each with its number, once in a process, and stops nothing.

Python shows a warning once for each line of code, but forgets that it did so whenever any library enters
``warnings.catch_warnings``. So ``give`` remembers which advice was given on which problem, method and plan, whatever
the seed and the numbers in the sentence: a loop over seeds warns once, another problem again. A filter of the user that
matches decides alone: "always" shows and "error" raises every warning, and ``pytest.warns`` sees all. Every process has
its own memory; ``forget`` clears it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from saddlescope import observables, theory
from saddlescope._warnings import caller, without_numbers
from saddlescope.data import Dataset
from saddlescope.data.base import LARGEST
from saddlescope.engines.protocol import Engine
from saddlescope.engines.state import State, weights
from saddlescope.engines.step import decode
from saddlescope.methods import GD, SGD, GradientFlow, Langevin, Method
from saddlescope.networks.model import is_model
from saddlescope.observables import THRESHOLDS
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import divergence, status

SMALL = 0.1
"""What counts as ≪ 1."""

UNEQUAL = 10
"""Ratio of the root mean squares of columns beyond which a data set should be standardised."""

RARE = 20
"""Nats below its maximum at which a density counts as 0."""

SMALLEST_UPDATE = 1e-6
"""Median relative update of a weight below which rounding in float32, 6e-8, is a noticeable part of it."""


_given: set[tuple[str, ...]] = set()


def give(sentences: Collection[str], problem: Problem, method: Method, plan: Plan) -> None:
    """Warn of these sentences, unless the same advice was given in this process before."""
    if not sentences:
        return
    run = repr(problem), repr(method), repr(replace(plan, seed=0, threads=None))
    keys = {sentence: (without_numbers(sentence), *run) for sentence in sentences}
    module, level = caller()
    new = [sentence for sentence in sentences if keys[sentence] not in _given or _filtered(sentence, module)]
    for sentence in new:
        warnings.warn(sentence, stacklevel=level)
        if not _filtered(sentence, module):
            _given.add(keys[sentence])


def forget() -> None:
    """Give all advice again."""
    _given.clear()


def _filtered(sentence: str, module: str) -> bool:
    """Whether a filter of the user says what happens to this warning."""
    return any(
        issubclass(UserWarning, category) and _fits(text, sentence) and _fits(where, module)
        for _, text, category, where, _ in warnings.filters
    )


def _fits(pattern: Any, text: str) -> bool:
    return pattern is None or bool(pattern.match(text) if hasattr(pattern, "match") else pattern == text)


def before(problem: Problem, method: Method, plan: Plan, engine: Engine, state: State) -> None:
    """Warn of what is likely to go wrong in a run that starts at this state."""
    with np.errstate(all="ignore"):
        sentences = list(on_run(problem, method, plan, engine, state))
    give(sentences, problem, method, plan)


def after(problem: Problem, method: Method, plan: Plan, state: State) -> None:
    """Warn of what went wrong in a run that ended at this state."""
    with np.errstate(all="ignore"):
        sentences = list(on_end(problem, method, plan, state))
    give(sentences, problem, method, plan)


def on_run(problem: Problem, method: Method, plan: Plan, engine: Engine, state: State) -> Iterator[str]:
    """Sentences on what is likely to go wrong in a run that starts at this state."""
    yield from _on_schedule(method, plan, state)
    if is_model(problem.network):
        return
    yield from _on_stability(problem, method)
    yield from _on_temperature(problem, method, plan)
    yield from _on_horizon(problem, method, plan, state)
    if plan.dtype == "float32":
        yield from _on_float32(engine, state)


def on_end(problem: Problem, method: Method, plan: Plan, state: State) -> Iterator[str]:
    """Sentences on what went wrong in a run that ended at this state."""
    if lost := divergence(status(problem, state)):
        left = (status(problem, state) == 0).any()
        what = "statistics are of all others, a biased sample" if left else "no trajectory is left for statistics"
        yield f"diverged: {lost}; {what}; {against_divergence(problem, method)}"
    if not is_model(problem.network):
        yield from _on_absorption(problem, method, plan, state)


def against_divergence(problem: Problem, method: Method) -> str:
    """What to change where trajectories diverge."""
    if is_model(problem.network):
        fix = "" if np.isinf(method.batch) else ", or raise batch_size"
        return f"lower {method.step_argument} = {method.time_step:.3g}{fix}, or check the loss for NaN at the start"
    if method.source == "flow":
        return "lower the scale of the initial weights: the flow is too stiff"
    name, edge, without_noise = method.step_argument, theory.stability_edge(problem, method), _edge(problem, method)
    if method.time_step > edge:
        is_at, beyond = _apart(method.time_step, edge)
        return f"lower {name} = {is_at} below the stability edge {beyond}{_or_standardise(problem)}"
    stable = f" (stable without noise below {without_noise:.3g})" if np.isfinite(without_noise) else ""
    return f"lower {name} = {method.time_step:.3g}{stable}, or raise batch_size{_or_standardise(problem)}"


def _or_standardise(problem: Problem) -> str:
    """The usual remedy for a data set whose columns are large or on different scales; empty for other data."""
    data = problem.data
    if not isinstance(data, Dataset):
        return ""
    sizes = np.concatenate([np.linalg.norm(columns, axis=0) for columns in (data.X, data.Y)]) / np.sqrt(data.samples)
    least, most = sizes[sizes > 0].min(), sizes.max()
    if most <= UNEQUAL * min(least, 1.0):
        return ""
    least, most = (f"{float(f'{size:.2g}'):,g}" for size in (least, most))
    return f", or use Dataset.standardise(): the columns have root mean squares from {least} to {most}"


def _on_absorption(problem: Problem, method: Method, plan: Plan, state: State) -> Iterator[str]:
    """Modes of L ≥ 3 layers that were learned and then moved to near 0, which only too long a step can do.

    Near 0 the exact density falls like ``exp(−2β₂²t/(Tα₃))``, with the plateau time ``t = s^{−(L−2)/L}/((L−2)β₂)`` that
    a path spends there. A mode counts as stuck where this exponent exceeds RARE nats and t exceeds the time of the run.
    """
    depth = problem.network.depth
    if depth < 3 or not method.diffusive or method.source == "isotropic":
        return
    if "learning_time" not in plan.events or problem.network.chains > 1:
        return
    maps = problem.network.end_to_end(weights(decode(problem, method, plan), state))
    strengths = observables.mode_strength(problem.data, [maps])
    elapsed, temperature = float(method.time(state.step)), method.temperature
    for mode, target in _modes(problem):
        _, _, alpha3, _, beta2 = problem.data.mode_moments(mode)
        learned = np.isfinite(state.learned[:, 0, mode]) & (state.status == 0)
        s = strengths[learned, mode]
        with np.errstate(divide="ignore"):
            plateau = np.where(s > 0, np.maximum(s, 0.0) ** (2 / depth - 1) / ((depth - 2) * beta2), np.inf)
        stuck = (plateau > elapsed) & (2 * beta2**2 * plateau > RARE * temperature * alpha3)
        if stuck.any():
            yield (
                f"mode {mode} (s* = {target:.3g}) sticks at 0 in {int(stuck.sum()):,} of {state.trajectories:,} "
                f"trajectories that had learned it: a step moved it where the exact law has no mass; lower "
                f"{method.step_argument} = {method.time_step:.3g}, or use theory.mode_sde(…).simulate"
            )


def _on_schedule(method: Method, plan: Plan, state: State) -> Iterator[str]:
    """Steps at which the schedule has reached 0."""
    stops = math.inf if method.schedule is None else method.schedule.stops
    if stops < plan.steps:
        fix = f"use steps = {stops:,}, a schedule of more steps, or one with a floor"
        if state.step:
            fix = "continue the run by a method with another schedule, or by one without"
        yield f"lr is 0 from step {stops:,} of {plan.steps:,} on: nothing changes after it; {fix}"


def _on_stability(problem: Problem, method: Method) -> Iterator[str]:
    """Of the largest learning rate: ``time_step`` is the longest step under a schedule."""
    name, step, edge = method.step_argument, method.time_step, theory.stability_edge(problem, method)
    if method.source == "flow" or step <= edge:
        return
    without_noise = _edge(problem, method)
    if step > without_noise:
        is_at, beyond = _apart(step, without_noise)
        yield (
            f"{name} = {is_at} is beyond the stability edge {beyond}, "
            f"so the strongest mode oscillates or diverges; lower {name}{_or_standardise(problem)}"
        )
        return
    is_at, beyond = _apart(step, edge)
    yield (
        f"{name} = {is_at} is beyond the stability edge {beyond} of batches of {method.batch:,}, above which their "
        f"noise grows next to the teacher until trajectories diverge; lower {name} or raise batch_size"
    )


def _edge(problem: Problem, method: Method) -> float:
    """The stability edge without noise."""
    if method.source == "sgd":
        method = GD(method.lr, weight_decay=method.weight_decay, momentum=method.momentum)
    return theory.stability_edge(problem, method)


def _apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers to as many digits as tell them apart, three at least.

    >>> _apart(0.11904, 0.119), _apart(2.0, 1.0)
    (('0.11904', '0.119'), ('2', '1'))
    """
    texts = [(f"{one:.{digits}g}", f"{other:.{digits}g}") for digits in range(3, 18)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[-1])


def _on_temperature(problem: Problem, method: Method, plan: Plan) -> Iterator[str]:
    """For two layers: deeper networks have no phase transition. Isotropic noise has another stationary law.

    Under a schedule the last temperature counts, which is the lowest after the warm-up.
    """
    if problem.network.depth != 2 or not _has_gradient_noise(method):
        return
    temperature = float(method.temperature_at(plan.steps)) * method.pace
    hot, wide, plain = {}, {}, _plain(method)
    for mode, target in _modes(problem):
        critical = theory.mode_sde(problem, plain, mode).critical_temperature
        ratio = target * critical * method.batch
        if temperature > critical:
            hot[mode] = critical
        if temperature > critical and method.source == "sgd" and ratio > SMALL:
            wide[mode] = ratio
    over = " / (1 − momentum)" if method.momentum else ""
    if hot:
        yield (
            f"T = lr / batch_size{over} = {temperature:.3g} is above T_c = {_span(hot, '.3g')} of "
            f"{_named(problem, hot)}, whose noise drives {_it(hot)} to 0; raise batch_size or lower lr"
        )
    if wide:
        yield (
            f"T_c of {_named(problem, wide)} holds for Langevin, for SGD only where s* T_c batch_size ≪ 1, "
            f"but it is {_span(wide, '.3g')}: SGD may still learn {_it(wide)}; use Langevin to see the transition"
        )


def _named(problem: Problem, modes: Collection[int]) -> str:
    """The first four modes, with their s*."""
    named = [f"{mode} (s* = {problem.data.modes.strengths[mode]:.3g})" for mode in list(modes)[:4]]
    return f"mode{'s' * (len(modes) > 1)} {', '.join(named)}{', …' * (len(modes) > 4)}"


def _span(found: Mapping[int, float], form: str) -> str:
    """The smallest and the largest of a value of each mode."""
    least, most = (format(end, form) for end in (min(found.values()), max(found.values())))
    return least if least == most else f"{least} to {most}"


def _it(modes: Collection[int]) -> str:
    return "it" if len(modes) == 1 else "them"


def _modes(problem: Problem) -> Iterator[tuple[int, float]]:
    """Modes, with their s*, that obey a scalar SDE: within the widths, with inputs that decouple them and see them."""
    data = problem.data
    if problem.network.mode_sde and data.diagonal_in_modes:
        for mode, target in enumerate(data.modes.strengths[: min(problem.network.widths)]):
            countable = 0 < target < LARGEST**0.5 and np.isfinite(data.mode_moments(mode)).all()
            if countable and data.sigma_in_modes[mode, mode] > 0:
                yield mode, float(target)


def _has_gradient_noise(method: Method) -> bool:
    fresh = method.source == "sgd" and method.sampling == "replacement"
    return fresh or (method.diffusive and method.source != "isotropic")


def _plain(method: Method) -> Method:
    """The method at its full learning rate, to leading order in lr."""
    if isinstance(method, GradientFlow):
        return method
    plain = method if method.schedule is None else replace(method, schedule=None)
    if isinstance(plain, Langevin):
        return replace(plain, order=1) if plain.order > 1 else plain
    return replace(plain, momentum=0.0) if isinstance(plain, (GD, SGD)) and plain.momentum else plain


def _on_horizon(problem: Problem, method: Method, plan: Plan, state: State) -> Iterator[str]:
    """Modes that gradient flow does not learn in time, even from the largest strength the initial weights can have."""
    narrowest = min(problem.network.widths)
    if (problem.data.modes.strengths[narrowest:] > 0).any():
        yield f"modes from {narrowest} on cannot be learned by widths as narrow as {narrowest}; widen the network"
    if problem.network.speed != 1:
        return  # its speed depends on how unequal the chains are
    steps, flow = plan.steps - state.step, GradientFlow(method.time_step)
    decaying = replace(flow, weight_decay=method.weight_decay) if method.weight_decay else flow
    left = float(method.time(plan.steps) - method.time(state.step)) * method.pace
    norms = [np.linalg.norm(layer[:16].astype(np.float64), 2, axis=(1, 2)).max() for layer in state.weights]
    with np.errstate(over="ignore"):
        start = float(np.float64(max(norms)) ** problem.network.depth)
    held, late = {}, {}
    for mode, target in _modes(problem):
        goal = THRESHOLDS[0] * target
        if not 0 < start < goal:
            continue
        rest = theory.mode_sde(problem, decaying, mode).fixed_point
        if rest < goal:
            held[mode] = max(rest, 0.0)
            continue
        needed = float(theory.mode_sde(problem, flow, mode).passage(start, goal)[0])
        if needed > left:
            late[mode] = needed / (method.time_step * method.pace)
    if held:
        yield (
            f"{_named(problem, held)} cannot be learned: weight_decay = {method.weight_decay:.3g} holds {_it(held)} "
            f"at {_span(held, '.3g')}; lower weight_decay"
        )
    if late:
        full = left / (method.time_step * method.pace)
        worth = "" if method.schedule is None else f", which the schedule makes worth {full:,.0f} at full lr"
        yield (
            f"{_named(problem, late)} cannot be learned in {steps:,} steps{worth}: gradient flow needs "
            f"{_span(late, ',.0f')} at least; raise steps or lr"
        )


def _on_float32(engine: Engine, state: State) -> Iterator[str]:
    """From the first step, over weights that are not zero up to rounding."""
    changes = []
    for new, old in zip(engine.advance(state, state.step + 1).weights, state.weights, strict=True):
        counted = np.abs(old) > 1e-6 * np.abs(old).max()
        changes.append(np.abs(new[counted].astype(np.float64) / old[counted] - 1))
    update = float(np.median(np.concatenate(changes))) if any(map(np.size, changes)) else np.inf
    if update < SMALLEST_UPDATE:
        size = f"{update:.2g}, below {SMALLEST_UPDATE:.0e}," if update > 0 else "less than float32 can show,"
        yield f'the median relative update of a weight is {size} so weights stop moving; use dtype = "float64"'
