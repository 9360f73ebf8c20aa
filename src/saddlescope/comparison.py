"""Simulation against theory: the difference, the part of it that chance explains, and a verdict.

Distributions are compared by their distribution functions, on independent trajectories. Second moments are not
tested, since the stationary laws have power-law tails, for which such tests are not valid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import special

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import as_numbers, as_whole, shown
from saddlescope.observables import THRESHOLDS
from saddlescope.plan import Plan
from saddlescope.runs.selection import Selection, selected
from saddlescope.theory._checks import probabilities
from saddlescope.theory.sde.laws import BaseLaw

FALSE_ALARM = 1e-6
"""Probability that a comparison says "differs" although both sides have the same distribution."""


@runtime_checkable
class HasCDF(Protocol):
    """A distribution, with the names of ``scipy.stats``."""

    def cdf(self, x: Any) -> Any:
        """Probability of values up to x."""
        ...

    def mean(self) -> Any:
        """Expected value."""
        ...


NUMBERS = ("simulated", "expected", "difference", "stderr", "bound")
HEAD = ("", "simulated", "expected", "difference", "std. error", "bound", "verdict")
_FOOT = "bound: exceeded by chance in one of 10⁶ comparisons; the mean is not judged, since tails are heavy"
_LIMIT = (
    "point masses of the law: a run may only approach them with time, which no difference within 0.5 s* refutes; "
    "compare with the law at the run's time, mode.evolve(start, [time])"
)
_LOST = "diverged trajectories may lie anywhere: rows differ beyond bound + their fraction, agree below bound − that"


@dataclass(frozen=True)
class Row:
    """One compared quantity; ``bound`` is the difference that chance exceeds in one of 10⁶ comparisons."""

    quantity: str
    simulated: float
    expected: float
    difference: float
    stderr: float
    bound: float
    verdict: str


@dataclass(frozen=True, repr=False)
class Comparison:
    """Rows of compared quantities, the number of trajectories, the fraction that diverged, notes on the verdict."""

    rows: tuple[Row, ...]
    trajectories: int
    diverged: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """ "differs" if a row does, else "inconclusive" if a row is, else "agrees"."""
        found = {row.verdict for row in self.rows}
        return next((verdict for verdict in ("differs", "inconclusive") if verdict in found), "agrees")

    @property
    def table(self) -> Any:
        """The rows as a ``pandas.DataFrame``, with all digits."""
        columns = {name: ("quantity", [asdict(row)[name] for row in self.rows]) for name in asdict(self.rows[0])}
        return xr.Dataset(columns).set_coords("quantity").to_dataframe()

    def __repr__(self) -> str:
        return "\n".join([self._headline, *_show.grid(HEAD, self._cells), _FOOT, *self.notes])

    def _repr_html_(self) -> str:
        return _show.html(self._headline, self._cells, HEAD, "; ".join([_FOOT, *self.notes]))

    @property
    def _headline(self) -> str:
        lost = f" ({self.diverged:.2%} diverged)" if self.diverged else ""
        plural = "y" if self.trajectories == 1 else "ies"
        return f"{self.verdict}: {self.trajectories:,} trajector{plural}{lost}"

    @property
    def _cells(self) -> list[list[str]]:
        """The rows with three significant digits; probabilities far below what a run can show are 0."""

        def shown(row: Row, name: str) -> str:
            x = getattr(row, name)
            return _show.number(0.0 if abs(x) < 1e-12 and row.quantity != "mean" else x, 3)

        return [[row.quantity, *(shown(row, name) for name in NUMBERS), row.verdict] for row in self.rows]


def compare(run: xr.Dataset, law: HasCDF | xr.Dataset, mode: int = 0, step: int | None = None) -> Comparison:
    """Compare the strengths of a mode over the trajectories of a run with a law, or with another run.

    Of a Model these are the strengths of its observed modes, or without modes its loss, at saves of every trajectory.
    ``law`` is any object with ``cdf`` and ``mean``, such as ``theory.mode_sde(…).stationary()`` or a frozen
    distribution of ``scipy.stats``. Strengths are compared at the last save or at ``step``, which may be any save of a
    run that keeps trajectories, and only the last step of a run that keeps statistics. If ``isel`` or ``sel`` has
    selected trajectories, only these are compared.
    The verdict rests on the Kolmogorov distance (bound of Dvoretzky, Kiefer & Wolfowitz, Massart 1990, Ann. Probab.
    18(3)) and on the fractions of trajectories up to 0.5 s* and 0.9 s* (binomial); together they raise a false alarm
    with probability at most 1e-6. The mean is shown but has no verdict, since tails are heavy.
    Diverged trajectories may lie anywhere: with a fraction ℓ of them, a row "differs" where the difference exceeds
    bound + ℓ, "agrees" up to bound − ℓ, and is "inconclusive" between. A point mass of the law, such as that at 0 above
    T_c, is one that a run may only approach with time: what it can explain of the distance within 0.5 s* of it is
    "inconclusive", never "agrees"; compare there with the law at the run's time, ``mode.evolve(start, [time])``.
    The distance between two laws is ``law.distance(other)``.
    Raises TypeError or ValueError naming the argument at fault.

    >>> from scipy.stats import norm
    >>> from saddlescope import SGD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> data = GaussianData([[1.0]], label_noise=1.0)
    >>> problem = Problem(DeepLinear((1, 1)), data, init.Given([[[1.0]]]))
    >>> plan = Plan(steps=1, trajectories=500)
    >>> run = simulate(problem, SGD(lr=1e-3, batch_size=1), plan, engine="reference")
    >>> compare(run, norm(0, 1)).verdict
    'differs'
    """
    mode, step = as_whole(mode, "mode"), None if step is None else as_whole(step, "step")
    if isinstance(run, HasCDF) and not isinstance(run, xr.Dataset):
        raise TypeError(
            f"run must be a Dataset of simulate, got {shown(run)}; use compare(run, law) with the run first, "
            "or law.distance(other) for the distance between two laws"
        )
    given = selected(run)
    samples, diverged = strengths(given, mode, step)
    target = float(given.targets[mode])
    points = {f"fraction up to {theta} s*": theta * target for theta in THRESHOLDS} if target > 0 else {}
    level = FALSE_ALARM / (1 + len(points))
    limit = False
    times = ""
    if isinstance(law, xr.Dataset):
        other = selected(law)
        others, lost = strengths(other, mode, step)
        times = _other_time(given, other, step)
        rows = _with_run(samples, others, FALSE_ALARM, diverged + lost)
        diverged = max(diverged, lost)
    elif isinstance(law, HasCDF):
        cdf = probabilities(law.cdf, "law.cdf")
        near = THRESHOLDS[0] * (target or float(given.targets[0]))
        held = point_mass_near(law, samples, near)
        rows = [
            _largest_difference(samples, cdf, level, diverged, held),
            *(_fraction(samples, cdf, *point, level, diverged) for point in points.items()),
        ]
        limit = rows[0].verdict != "agrees" and bool(held.any())
        rows.append(_mean(samples, float(np.asarray(law.mean())), 0.0))
    else:
        raise TypeError(
            f"law must have cdf and mean, as a frozen scipy.stats distribution, or be a run, got {shown(law)}"
        )
    notes = [note for note, holds in ((_LIMIT, limit), (_LOST, diverged > 0), (times, times)) if holds]
    return Comparison(tuple(rows), len(samples), diverged, tuple(notes))


def point_mass_near(law: Any, samples: Floats, near: float) -> Floats:
    """Probability of the point masses of a law that are at most ``near`` from each sample; 0 for laws without.

    >>> from saddlescope.theory import Atoms
    >>> point_mass_near(Atoms([0.0, 1.0], [0.25, 0.75]), np.array([0.1, 0.5, 0.9]), 0.2)
    array([0.25, 0.  , 0.75])
    """
    held = np.zeros(len(samples))
    for at, probability in law.point_masses() if isinstance(law, BaseLaw) else ():
        held[np.abs(samples - at) <= near] += probability
    return held


def strengths(given: Selection, mode: int, step: int | None) -> tuple[Floats, float]:
    """Strength of a mode in every selected trajectory that has not diverged, and the fraction that has."""
    plan, state, steps = given.plan, given.state, given.run["step"].values
    count = len(given.targets)
    if not 0 <= mode < count:
        raise ValueError(f"mode must be from 0 to {count - 1}, got {shown(mode)}; modes are counted from the strongest")
    step = _last(plan, state.step, steps) if step is None else step
    if step == state.step:
        values = given.strengths[:, mode]
    elif plan.keep == "statistics":
        raise ValueError(
            f"step must be {state.step}, the last of a run that keeps statistics, got {step}; "
            'use keep="trajectories" to compare at other steps'
        )
    elif step in steps:
        values = _saved(given, mode, step)
    else:
        raise ValueError(f"step must be one of the saves of the run, got {shown(step)}; see run.step")
    alive = (given.status == 0) | (given.status > step)
    if not alive.any():
        raise ValueError("run has no trajectory to compare: all have diverged; lower lr")
    return values[alive], float(1 - alive.mean())


def _other_time(one: Selection, other: Selection, step: int | None) -> str:
    """A note where two runs are compared at times that differ by more than half of the longest step."""
    both = (one, other)
    steps = [_last(run.plan, run.state.step, run.run["step"].values) if step is None else step for run in both]
    times = [float(run.method.time(at)) * run.method.pace for run, at in zip(both, steps, strict=True)]
    longest = max(run.method.time_step * run.method.pace for run in both)
    if abs(times[0] - times[1]) <= (0.5 + 1e-6) * longest:
        return ""
    meant = ", with momentum lr · step / (1 − momentum)" if any(run.method.momentum for run in both) else ""
    first, second = (f"{time:.4g} (step {at:,})" for time, at in zip(times, steps, strict=True))
    return f"the times differ{meant}: {first} and {second}"


def _saved(given: Selection, mode: int, step: int) -> Floats:
    name, at = given.compared, given.run["step"].values == step
    found = given.variable(name)
    if found is not None and "mode" not in found.dims and name == "loss":
        return np.asarray(found.values[:, at][:, 0])
    if found is None or "mode" not in found.coords or mode not in found["mode"]:
        raise ValueError(f"run must have {name} of mode {mode} to compare it at step {step}; keep both")
    return np.asarray(found.values[:, at, found["mode"].values == mode][:, 0])


def _last(plan: Plan, reached: int, saves: NDArray[np.int64]) -> int:
    """The last save, if the run still has its trajectories there."""
    if not len(saves):
        raise ValueError(f"run has no save to compare, it stopped at step {reached}; finish it")
    last = int(saves[-1])
    if plan.keep != "statistics" or last == reached:
        return last
    if reached < plan.steps:
        raise ValueError(
            f"the run stopped between saves (last save {last:,}, now at {reached:,}); "
            "finish it, or use keep='trajectories'"
        )
    raise ValueError(
        f"the run keeps statistics and its last save {last:,} is not its last step; give step={reached}, "
        "or use keep='trajectories'"
    )


def _verdict(largest: float, bound: float, lost: float) -> str:
    """Of a largest difference, when ``lost`` of it may be due to diverged trajectories."""
    if largest > bound + lost:
        return "differs"
    return "agrees" if largest + lost <= bound else "inconclusive"


def _largest_difference(
    samples: Floats, cdf: Callable[[ArrayLike], Floats], level: float, lost: float = 0.0, held: ArrayLike = 0.0
) -> Row:
    """The Kolmogorov distance ``sup |F_n − F|``, on both sides of every step of ``F_n``; F may have steps too.

    Its bound is that of Dvoretzky, Kiefer and Wolfowitz with Massart's constant, ``√(ln(2/level) / 2n)``. ``held`` is
    the probability of point masses near each sample (in any order), up to which a difference there says nothing.
    """
    order, n = np.argsort(samples), len(samples)
    ordered, held = samples[order], np.broadcast_to(held, samples.shape)[order]
    found = gaps(ordered, cdf)
    largest = float(found.max())
    at = float(cdf(ordered[found.argmax()]))
    bound = math.sqrt(math.log(2 / level) / (2 * n))
    stderr = math.sqrt(max(at * (1 - at), 0.0) / n)
    verdict = _verdict(largest, bound, lost)
    if verdict == "differs" and _verdict(float((found - held).max()), bound, lost) != "differs":
        verdict = "inconclusive"
    return Row("largest CDF difference", largest, 0.0, largest, stderr, bound, verdict)


def gaps(ordered: Floats, cdf: Callable[[Floats], ArrayLike]) -> Floats:
    """``|F_n − F|`` on the worse side of the step of ``F_n`` at each sample, in increasing order; F may have steps too.

    >>> gaps(np.array([0.25, 0.5]), lambda x: x)
    array([0.25, 0.5 ])
    """
    n = len(ordered)
    at, before = (np.asarray(cdf(x), np.float64) for x in (ordered, np.nextafter(ordered, -np.inf)))
    return np.maximum(np.arange(1, n + 1) / n - at, before - np.arange(n) / n)


def _fraction(
    samples: Floats, cdf: Callable[[ArrayLike], Floats], quantity: str, at: float, level: float, lost: float = 0.0
) -> Row:
    """Fraction of trajectories up to a strength, against the binomial distribution of all, the ``lost`` included."""
    missing = round(len(samples) * lost / (1 - lost))
    n, p = len(samples) + missing, float(cdf(at))
    found = int((samples <= at).sum())
    counts = np.arange(n + 1)
    low = int((special.bdtr(counts, n, p) <= level / 2).sum())
    high = int((special.bdtrc(counts, n, p) > level / 2).sum())
    bound = max(p - low / n, high / n - p)
    share, stderr = found / len(samples), math.sqrt(p * (1 - p) / n)
    verdict = "inconclusive"
    if low <= found and found + missing <= high:
        verdict = "agrees"
    elif found > high or found + missing < low:
        verdict = "differs"
    return Row(quantity, share, p, share - p, stderr, bound, verdict)


def _mean(samples: Floats, expected: float, variance: float) -> Row:
    stderr = math.sqrt(samples.var(ddof=1) / len(samples) + variance) if len(samples) > 1 else math.nan
    mean = float(samples.mean())
    return Row("mean", mean, expected, mean - expected, stderr, math.nan, "not judged")


def _with_run(samples: Floats, others: Floats, level: float, lost: float = 0.0) -> list[Row]:
    """Two samples, with the bound of Wei & Dudley 2012, Stat. Probab. Lett. 82(3), and their constant e."""
    n, m = len(samples), len(others)
    largest = cdf_difference(samples, others)
    bound = math.sqrt((1 - math.log(level)) / 2 * (n + m) / (n * m))
    stderr = math.sqrt(0.25 * (n + m) / (n * m))
    row = Row("largest CDF difference", largest, 0.0, largest, stderr, bound, _verdict(largest, bound, lost))
    return [row, _mean(samples, float(others.mean()), others.var(ddof=1) / m if m > 1 else math.nan)]


def cdf_difference(one: ArrayLike, other: ArrayLike) -> float:
    """Largest difference between the distribution functions of two samples (Kolmogorov distance).

    >>> cdf_difference([1.0, 2.0], [2.0, 3.0])
    0.5
    """
    a, b = np.sort(as_numbers(one, "one")), np.sort(as_numbers(other, "other"))
    points = np.concatenate([a, b])
    shares = [np.searchsorted(sample, points, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())
