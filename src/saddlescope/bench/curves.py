"""W3, error against time: distance of each scheme from the stationary distribution, for several step sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saddlescope.bench.arms import CORES, OURS, Arm, Failure, Runner, Values, installed
from saddlescope.bench.settings import Scalar, scalar
from saddlescope.bench.work import PROCESSES
from saddlescope.theory.mode.sde import ModeSDE
from saddlescope.theory.sde.laws import Law

TEMPERATURES = (0.03, 0.3)
HORIZON = 10.0
"""Time after which the exact distribution is stationary to the accuracy of these ensembles."""
PATIENCE = 30.0
"""Seconds for one run; a slower scheme is abandoned."""
STEPS = (0.1, 0.05, 0.01, 0.005, 0.001)
TOLERANCES = (1.0, 0.3, 0.1, 0.03)


@dataclass(frozen=True)
class Scheme:
    """An arm with one point per step size or tolerance, at each temperature."""

    arm: Arm
    option: str
    values: tuple[float, ...]

    def choices(self, temperature: float, quick: bool) -> Iterable[tuple[float, dict[str, Any], int]]:
        """Step or tolerance, options, and the number of steps to the horizon."""
        for value in self.values[1:-1] if quick else self.values:
            fixed = self.option == "dt"
            dt = value if fixed else HORIZON / self.arm.block
            setting = start(scalar(temperature, dt))
            yield value, {"setting": setting, **({} if fixed else {self.option: value})}, round(HORIZON / dt)


def schemes(n: int) -> tuple[Scheme, ...]:
    """Fixed and controlled steps, ours and the peers'."""
    chunk = {"chunk": 8_000}
    return (
        Scheme(Arm("saddlescope, controlled step", OURS, "mode_controlled", n, block=1), "tol", TOLERANCES),
        Scheme(Arm("saddlescope, fixed step", OURS, "mode", n), "dt", STEPS),
        Scheme(Arm(f"PyTorch, fixed step, {PROCESSES}", "torch", "mode", n, (chunk,), CORES), "dt", STEPS),
        Scheme(Arm(f"JAX, fixed step, {PROCESSES}", "jax", "mode", n, ({},), CORES), "dt", STEPS),
        Scheme(Arm("Numba, fixed step", "numba", "mode", n, ({"threads": CORES},)), "dt", STEPS),
        Scheme(Arm("diffrax, fixed step", "diffrax", "mode", n, ({"layout": "together"},)), "dt", STEPS[:4]),
        Scheme(
            Arm("diffrax, controlled step", "diffrax", "mode_controlled", n // 20, block=1), "rtol", (0.1, 0.03, 0.01)
        ),
    )


def start(setting: Scalar) -> Scalar:
    """All trajectories from s*, near the bulk of the distribution."""
    return Scalar(**{**vars(setting), "strength": setting.target})


def exact(temperature: float) -> Law:
    """The stationary distribution."""
    setting = scalar(temperature)
    return ModeSDE(setting.depth, setting.target, setting.label_noise, temperature=temperature).stationary()


def distance(strengths: Values, temperature: float) -> float:
    """Kolmogorov distance between an ensemble and the exact stationary distribution.

    >>> distance(np.full(10, 1e9), temperature=0.03)
    1.0
    """
    ordered = np.sort(np.where(np.isfinite(strengths), strengths, np.inf))
    expected, steps = exact(temperature).cdf(np.clip(ordered, 0, None)), np.arange(len(ordered) + 1) / len(ordered)
    return float(max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max()))


def measure(n: int, repeats: int, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Every scheme at every temperature: time per trajectory (median, without the first run) and distance."""
    points: list[dict[str, Any]] = []
    notes: list[str] = []
    for scheme in schemes(n):
        if scheme.arm.peer != OURS and not installed(scheme.arm.peer):
            continue
        say(f"error–time curves: {scheme.arm.name}")
        runner, where = Runner(scheme.arm, None), scheme.arm.name
        try:
            runner.start()
            runner.check()
            for temperature in TEMPERATURES:
                for value, options, steps in scheme.choices(temperature, quick):
                    where = f"{scheme.arm.name}, T = {temperature:g}, {scheme.option} = {value:g}"
                    runner.choice = {**scheme.arm.choices[0], **options}
                    runner.run(steps, PATIENCE)
                    runs = [runner.run(steps, PATIENCE) for _ in range(repeats)]
                    points.append(_point(scheme, temperature, value, runs))
        except Failure as failure:
            notes.append(f"{where}: {failure}")
        finally:
            runner.close()
    facts = {"trajectories": n, "horizon": HORIZON, "points": points, "notes": notes}
    return {**facts, "dominates": dominates(points)}


def _point(scheme: Scheme, temperature: float, value: float, runs: list[tuple[float, Values]]) -> dict[str, Any]:
    return {
        "scheme": scheme.arm.name,
        "peer": scheme.arm.peer,
        "temperature": temperature,
        scheme.option: value,
        "trajectories": scheme.arm.trajectories,
        "microseconds": 1e6 * float(np.median([seconds for seconds, _ in runs])) / scheme.arm.trajectories,
        "distance": distance(np.concatenate([values for _, values in runs]), temperature),
        "noise": 0.87 / (len(runs) * scheme.arm.trajectories) ** 0.5,
    }


def dominates(points: list[dict[str, Any]]) -> bool | None:
    """Whether for every point of a peer one of ours is as fast and as accurate; None without peers.

    Distances below twice the mean sampling error of the exact distribution (0.87/√n) count as zero.

    >>> point = {"temperature": 0.3, "noise": 0.001}
    >>> fast = {**point, "peer": "saddlescope", "microseconds": 1.0, "distance": 0.0011}
    >>> dominates([fast, {**point, "peer": "jax", "microseconds": 2.0, "distance": 0.001}])
    True
    >>> dominates([fast, {**point, "peer": "jax", "microseconds": 0.5, "distance": 0.1}])
    False
    """
    ours = [p for p in points if p["peer"] == OURS]
    peers = [p for p in points if p["peer"] != OURS]
    if not peers:
        return None
    return all(any(_beats(mine, theirs) for mine in ours) for theirs in peers)


def _beats(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    same = mine["temperature"] == theirs["temperature"]
    return same and mine["microseconds"] <= theirs["microseconds"] and _error(mine) <= _error(theirs)


def _error(point: dict[str, Any]) -> float:
    return float(point["distance"]) if point["distance"] > 2 * point["noise"] else 0.0


def draw(curves: dict[str, Any], path: Path) -> None:
    """One panel per temperature: Kolmogorov distance against time per trajectory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, len(TEMPERATURES), sharey=True)
    names = list(dict.fromkeys(p["scheme"] for p in curves["points"]))
    for panel, temperature in zip(panels, TEMPERATURES, strict=True):
        for index, name in enumerate(names):
            some = [p for p in curves["points"] if (p["scheme"], p["temperature"]) == (name, temperature)]
            some.sort(key=lambda p: p["microseconds"])
            ours = bool(some) and some[0]["peer"] == OURS
            style = {"linewidth": 2.5, "marker": "o"} if ours else {"linewidth": 1, "marker": "s", "markersize": 4}
            x, y = ([p[key] for p in some] for key in ("microseconds", "distance"))
            panel.loglog(x, y, label=name, color=f"C{index}", **style)
        noise = max((p["noise"] for p in curves["points"] if p["peer"] == OURS), default=0.0)
        panel.axhspan(1e-4, 2 * noise, color="0.9", label="sampling noise")
        panel.set(title=f"T = {temperature}", xlabel="microseconds per trajectory", ylim=(noise / 2, 1))
    panels[0].set_ylabel("Kolmogorov distance to the stationary distribution")
    panels[-1].legend(fontsize=7)
    figure.savefig(path)
