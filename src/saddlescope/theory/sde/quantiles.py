"""The law of a scalar SDE carried by its quantiles: for noise of any size, where no end of the domain holds mass.

Let z be the probit of the distribution function, ``F = Φ(z)``, and Q(z, t) the quantile there. With the density
``p = φ(z)/Q_z`` the Fokker–Planck equation says that a quantile moves with the probability current over the density:

    Q_t = a − (b²p)_y/(2p) = a + (b²/2Q_z)(z + Q_zz/Q_z − (log b²)_z)                     (a, b at y = Q)

A normal law is a straight line in z, so Q is smooth however narrow the law is. Linearised, the equation advects
outwards at both ends of z: it needs no condition there. Nodes y = m + d carry m, the noiseless path of the middle,
apart from the distances d, so that only those are stepped: by differences of order 4 in z and the Rosenbrock method
RODAS of order 4. All is done on several meshes, each with steps and a first time of its own; the difference of two is
about the error of the coarser.
Source: for the quantile equation Toscani & Carrillo 2004 (Wasserstein metric and large-time asymptotics of nonlinear
diffusion equations); for RODAS Hairer & Wanner 1996, Solving Ordinary Differential Equations II, section VI.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BPoly, CubicHermiteSpline, PchipInterpolator
from scipy.linalg import lapack
from scipy.special import ndtr, ndtri

from saddlescope._numbers import as_numbers
from saddlescope.theory._checks import Unresolved, steady
from saddlescope.theory.sde._piecewise import NODES, TO_INTEGRAL, increasing_root, integrals, nodes, weighted_integral
from saddlescope.theory.sde.laws import Coordinate, Floats, Function, Moments, finite

if TYPE_CHECKING:
    from saddlescope.theory.sde.diffusion1d import Diffusion1D

_HALF = 2
"""Neighbours on each side that a difference takes; at the ends it takes as many from one side."""
_REACH = 7.5
"""Probit of the outermost nodes."""
_REACH_OF_PPF = 5.5
"""The same for a start whose upper quantiles 1 − q are rounded."""
_CELLS = (64, 128, 256, 512)
_MOST_STEPS, _MOST_WORK = 1200, 200_000
"""Steps at the most, and steps times cells."""
_FLOOR = 1e-8
"""Added to every estimate of an error."""
_FINEST = 1e-6
"""Width of cells in z that are not cut to follow a jump between two places."""
_CURVED, _UNEVEN, _SMOOTH = 1.0, 2.5, 1.0
"""What a change of log Q_z by 1 weighs beside a step of 1 in z; how many times the mean a cell may weigh before nodes
move; the change of log Q_z from cell to cell up to which differences are of order 4."""

# RODAS
_GAMMA = 0.25
_A = np.array(
    [
        [0.0, 0, 0, 0, 0],
        [1.544, 0, 0, 0, 0],
        [0.9466785280815826, 0.2557011698983284, 0, 0, 0],
        [3.314825187068521, 2.896124015972201, 0.9986419139977817, 0, 0],
        [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 0],
        [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 1.0],
    ]
)
_C = np.array(
    [
        [0.0, 0, 0, 0, 0],
        [-5.6688, 0, 0, 0, 0],
        [-2.430093356833875, -0.2063599157091915, 0, 0, 0],
        [-0.1073529058151375, -9.594562251023355, -20.47028614809616, 0, 0],
        [7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160, 0],
        [8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054],
    ]
)
_FRACTIONS = np.array([0.0, 0.386, 0.21, 0.63, 1.0, 1.0])
_TO_NODES = legendre.legvander(NODES, len(NODES)) @ TO_INTEGRAL
_AT_STAGES = legendre.legvander(2 * _FRACTIONS - 1, len(NODES))
_AT_STAGES[0] = 0.0  # no rounding where the step begins
_TIMEWISE = np.array([0.25, -0.1043, 0.1035, -0.0362, 0.0, 0.0])


class Start(Protocol):
    """A law to start from; its upper quantiles are exact where it has ``isf``."""

    def cdf(self, x: ArrayLike) -> Floats: ...
    def ppf(self, q: ArrayLike) -> Floats: ...


@dataclass(frozen=True)
class Mesh:
    """Probits z (n), and for each the nodes (``columns``) and weights (n, 5) of the first two derivatives by z.

    ``smooth`` are weights of order 4, ``rough`` those of the next neighbours only (at the ends a straight line), whose
    first derivative is positive whatever the quantiles.
    """

    z: Floats
    columns: NDArray[np.intp]
    smooth: Floats
    rough: Floats

    @cached_property
    def worth(self) -> Floats:
        """How much a deviation in z counts: as the distribution function feels it, and a little more in the tails."""
        return np.maximum(np.exp(-(self.z**2) / 2), 1e-3)

    def weights(self, d: Floats) -> tuple[Floats, Floats]:
        """Those of order 4 where quantiles d are smooth on the mesh."""
        bends = np.abs(np.diff(np.log(np.diff(d) / np.diff(self.z)), prepend=np.nan, append=np.nan))
        worst = np.fmax(bends, np.fmax(np.append(bends[1:], 0.0), np.append(0.0, bends[:-1])))
        first, second = np.where((worst < _SMOOTH)[:, None], self.smooth, self.rough)
        return first, second


def mesh(z: Floats) -> Mesh:
    """Differences on any increasing nodes."""
    n, width = len(z), 2 * _HALF + 1
    columns = np.clip(np.arange(n) - _HALF, 0, n - width)[:, None] + np.arange(width)
    smooth, rough = _weights(z[columns] - z[:, None]), np.zeros((2, n, width))
    inner = np.arange(1, n - 1)
    near = inner[:, None] + np.array([-1, 0, 1])
    rough[:, inner[:, None], near - columns[1:-1, :1]] = _weights(z[near] - z[1:-1, None])
    rough[0, 0, :2] = rough[0, -1, -2:] = [-1.0, 1.0]
    rough[0, [0, -1]] /= np.array([[z[1] - z[0]], [z[-1] - z[-2]]])
    smooth[:, [0, 1, -2, -1]] = rough[:, [0, 1, -2, -1]]
    return Mesh(z, columns, smooth, rough)


def _weights(away: Floats) -> Floats:
    """Weights of the first two derivatives (2, …, n) at 0 of what is known at these places (…, n)."""
    count = away.shape[-1]
    scale = np.abs(away).max(axis=-1, keepdims=True)
    powers = (away / scale)[..., None, :] ** np.arange(count)[:, None]
    wanted = np.zeros((count, 2))
    wanted[1, 0], wanted[2, 1] = 1.0, 2.0
    weights = np.linalg.solve(powers, np.broadcast_to(wanted, (*away.shape, 2)))
    return np.stack([weights[..., 0] / scale, weights[..., 1] / scale**2])


@dataclass(frozen=True)
class Parts:
    """The equation at some nodes: drift and log b² (in y), derivatives of Q by z, and what multiplies b²/2Q_z."""

    drift: Floats
    log_noise2: Floats
    q1: Floats
    q2: Floats
    bracket: Floats

    @property
    def diffusing(self) -> Floats:
        """b²/2Q_z."""
        return np.exp(self.log_noise2) / (2 * self.q1)


def parts(sde: Diffusion1D, mesh: Mesh, weights: tuple[Floats, Floats], middle: float, d: Floats) -> Parts:
    """All that moves the nodes y = middle + d."""
    drift, log_noise2 = _functions(sde, middle + d)
    near = d[mesh.columns] - d[:, None]
    q1, q2 = ((w * near).sum(axis=1) for w in weights)
    bend = (weights[0] * (log_noise2[mesh.columns] - log_noise2[:, None])).sum(axis=1)
    return Parts(drift, log_noise2, q1, q2, mesh.z + q2 / q1 - bend)


def jacobian(
    sde: Diffusion1D, mesh: Mesh, weights: tuple[Floats, Floats], middle: float, d: Floats, at: Parts
) -> tuple[Floats, Floats]:
    """Derivatives of the velocity by the nodes of ``columns`` (n, 5), and by a shift of all nodes (n)."""
    pull, grow = _derivatives(sde, middle + d, at.q1)
    f = at.diffusing[:, None]
    by_q1, by_q2 = -(at.bracket + at.q2 / at.q1) / at.q1, 1 / at.q1
    rows = f * (weights[0] * (by_q1[:, None] - grow[mesh.columns]) + weights[1] * by_q2[:, None])
    here = pull + f[:, 0] * at.bracket * grow
    rows[np.arange(len(d)), np.arange(len(d)) - mesh.columns[:, 0]] += here
    return rows, here - f[:, 0] * (weights[0] * grow[mesh.columns]).sum(axis=1)


def _functions(sde: Diffusion1D, y: Floats) -> tuple[Floats, Floats]:
    """Drift and log b² in y."""
    x, to = sde.coordinate.to_x(y), sde.coordinate
    shrink = np.exp(-to.log_slope(y))
    noise = sde.diffusion(x) * shrink
    return sde.drift(x) * shrink - to.bend(y) * noise**2 / 2, 2 * np.log(noise)


def _derivatives(sde: Diffusion1D, y: Floats, width: ArrayLike) -> tuple[Floats, Floats]:
    """Those of drift and log b² by y, as seen over a hundredth of a width."""
    step = np.maximum(0.01 * np.asarray(width), 1e-5 * np.abs(y))
    drift, log_noise2 = _functions(sde, np.stack([y - step, y + step]))
    return (drift[1] - drift[0]) / (2 * step), (log_noise2[1] - log_noise2[0]) / (2 * step)


@dataclass(frozen=True)
class State:
    """Nodes y = ``middle`` + ``d`` at a time."""

    time: float
    middle: float
    d: Floats


def stepped(sde: Diffusion1D, mesh: Mesh, state: State, h: float) -> tuple[State, float]:
    """A step of RODAS, and its error in units of z; infinite where the nodes would cross."""
    middle = state.middle + float(np.interp(0.0, mesh.z, state.d))
    d = state.d - (middle - state.middle)
    weights = mesh.weights(d)
    at = parts(sde, mesh, weights, middle, d)
    path = noiseless(sde, middle, h) if _narrow(at.drift, mesh.z) else None
    moved, speed = path if path is not None else (np.zeros(6), np.zeros(6))
    rows, shift = jacobian(sde, mesh, weights, middle, d, at)
    # In the frame of m the equation depends on time: its derivative is that by a shift of all nodes, less m's.
    pull = _derivatives(sde, np.array(middle), np.interp(0.0, mesh.z, at.q1))[0]
    timewise = speed[0] * (shift - pull)
    factors = _factors(mesh, rows, 1 / (_GAMMA * h))
    u = np.zeros((6, len(d)))
    for i in range(6):
        here = d + _A[i] @ u[:5]
        now = at if i == 0 else parts(sde, mesh, weights, middle + moved[i], here)
        if not (now.q1 > 0).all():
            return state, np.inf
        velocity = now.drift - speed[i] + now.diffusing * now.bracket
        u[i] = _solved(factors, velocity + _C[i] @ u[:5] / h + _TIMEWISE[i] * h * timewise)
    new = middle + moved[5]
    after = here + u[5] + ((middle - new) + moved[5])  # what m loses by rounding goes into d
    if not (np.isfinite(after).all() and (np.diff(after) > 0).all()):
        return state, np.inf
    return State(state.time + h, new, after), float((np.abs(u[5] / at.q1) * mesh.worth).max())


def _narrow(drift: Floats, z: Floats) -> bool:
    """Whether the law moves as a whole."""
    middle = np.abs(z) < 5.5
    mean = np.interp(0.0, z, drift)
    return bool(np.abs(drift[middle] - mean).max() < 0.5 * abs(mean))


def noiseless(sde: Diffusion1D, start: float, h: float) -> tuple[Floats, Floats] | None:
    """Displacements and velocities of y' = a(y) at the stages of a step, by collocation; None where that fails."""
    place, integral = np.zeros(len(NODES)), h / 2 * _TO_NODES
    rounding = 4e-16 * abs(start)
    for _ in range(10):
        y = start + place
        step = 1e-6 * np.abs(place).max() + 1e-7 * abs(start)
        drift = _functions(sde, np.stack([y, y - step, y + step]))[0]
        pull = (drift[2] - drift[1]) / (2 * step) if step else np.zeros_like(place)
        change = np.linalg.solve(np.eye(len(NODES)) - integral * pull, integral @ drift[0] - place)
        place = place + change
        if not np.isfinite(place).all():
            return None
        if np.abs(change).max() <= 4e-16 * np.abs(place).max() + rounding:
            coefficients = TO_INTEGRAL @ drift[0] * h / 2
            if np.abs(coefficients[-3:]).max() > 1e-13 * np.abs(coefficients).max():
                return None
            moved = _AT_STAGES @ coefficients
            return moved, _functions(sde, start + moved)[0]
    return None


def _factors(mesh: Mesh, rows: Floats, diagonal: float) -> tuple[Floats, NDArray[np.int32]]:
    """LU factors of ``diagonal − J`` in bands."""
    n, w = len(mesh.z), 2 * _HALF
    band = np.zeros((3 * w + 1, n))
    i = np.broadcast_to(np.arange(n)[:, None], mesh.columns.shape)
    band[2 * w + i - mesh.columns, mesh.columns] = -rows
    band[2 * w] += diagonal
    lu, pivots, _ = lapack.dgbtrf(band, w, w)
    return lu, pivots


def _solved(factors: tuple[Floats, NDArray[np.int32]], right: Floats) -> Floats:
    w = 2 * _HALF
    return np.asarray(lapack.dgbtrs(factors[0], w, w, right, factors[1])[0])


def remeshed(mesh_: Mesh, state: State) -> tuple[Mesh, State]:
    """Nodes where log Q_z varies, if those there are fit badly."""
    z, d = mesh_.z, state.d
    first, second = ((w * (d[mesh_.columns] - d[:, None])).sum(axis=1) for w in mesh_.weights(d))
    matters = np.exp(-(((z[1:] + z[:-1]) / 2) ** 2) / 16) * np.minimum(np.diff(z) / _FINEST, 1.0)
    weights = np.diff(z) + _CURVED * matters * np.abs(np.diff(np.log(first)))
    if weights.max() < _UNEVEN * weights.mean():
        return mesh_, state
    density = np.log(weights / np.diff(z))
    for _ in range(4):
        density = np.convolve(np.pad(density, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    share = np.concatenate([[0.0], np.cumsum(np.exp(density) * np.diff(z))])
    new = np.interp(np.linspace(0, share[-1], len(z)), share, z)
    new[[0, -1]] = z[[0, -1]]
    after = BPoly.from_derivatives(z, np.stack([d, first, second], axis=1))(new)
    if not (np.diff(after) > 0).all():
        after = PchipInterpolator(z, d)(new)
    return mesh(new), replace(state, d=after)


def march(sde: Diffusion1D, mesh: Mesh, state: State, times: Floats, tol: float) -> Iterator[tuple[Mesh, State]]:
    """Mesh and state at ``times``, with steps of error ``tol`` each."""
    h, steps = state.time / 4 if state.time else times[0] / 100, 0
    most = min(_MOST_STEPS, _MOST_WORK // len(mesh.z)) + 4 * len(times)
    for goal in times:
        while state.time < goal:
            steps += 1
            left = goal - state.time
            taken = left if h >= left else min(h, left / 2) if 2 * h > left else h
            after, error = stepped(sde, mesh, state, taken)
            factor = float(np.clip(0.8 * (tol / max(error, 1e-300)) ** 0.25, 0.1, 4.0))
            if error <= tol:
                state = replace(after, time=goal) if taken == left else after
                h = taken * factor if taken >= h else max(h, taken * factor)
                mesh, state = remeshed(mesh, state)
            else:
                h = taken * min(factor, 0.5)
            if steps > most or h < 1e-14 * goal:
                raise Unresolved(f"{steps} steps bring the quantiles to t = {state.time:.6g} only, of {times[-1]:g}")
        yield mesh, state


def _local(sde: Diffusion1D, y: float) -> tuple[Floats, Floats]:
    """Drift and noise at y, each with two derivatives by y."""
    step = 1e-4 * max(sde.scale if np.isinf([sde.lower, sde.upper]).all() else 1.0, abs(y))
    drift, log_noise2 = _functions(sde, y + step * np.array([-1.0, 0.0, 1.0]))
    noise = np.exp(log_noise2 / 2)
    return tuple(  # type: ignore[return-value]
        np.array([v[1], (v[2] - v[0]) / (2 * step), (v[2] - 2 * v[1] + v[0]) / step**2]) for v in (drift, noise)
    )


def from_point(sde: Diffusion1D, mesh: Mesh, y: float, first: float, share: float) -> State:
    """The law a short time after it was the point y: normal to leading order, with the skewness of b."""
    (a, a1, a2), (b, b1, b2) = _local(sde, y)
    rate = abs(a1) + b1 * b1 + abs(b * b2) + abs(a * b1 / b) + abs(a2 * b) ** (2 / 3) + abs(a2 * a) ** 0.5
    time = share * min(first, 1 / rate if rate > 0 else np.inf)
    found = noiseless(sde, y, time)
    moved = found[0][-1] if found is not None else a * time
    noise = float(np.exp(_functions(sde, np.array([y + moved / 2]))[1][0] / 2))
    width = noise * np.sqrt(time) * (1 + a1 * time / 2)
    return State(time, y + moved, width * mesh.z + b * b1 / 2 * time * (mesh.z**2 - 1))


def from_law(sde: Diffusion1D, mesh: Mesh, law: Start) -> State:
    """The quantiles of a law."""
    y = sde.coordinate.to_y(_quantiles(law, mesh.z))
    middle = float(np.interp(0.0, mesh.z, y))
    return State(0.0, middle, y - middle)


def _quantiles(law: Start, z: Floats) -> Floats:
    upper = law.isf(ndtr(-z)) if hasattr(law, "isf") else law.ppf(ndtr(z))
    return np.where(z < 0, law.ppf(ndtr(z)), upper)


@steady
@dataclass(frozen=True, repr=False)
class QuantileLaw(Moments):
    """The law of x at a time, by its quantiles y = ``middle`` + ``d`` at probits z; within ``error`` in its cdf.

    ``slopes`` are the derivatives of d by z. Nothing has been ``absorbed`` at the ends.
    """

    z: Floats
    middle: float
    d: Floats
    slopes: Floats
    error: float
    coordinate: Coordinate

    absorbed = (0.0, 0.0)

    @cached_property
    def _quantile(self) -> CubicHermiteSpline:
        """d over z, monotone; beyond its ends it is continued as a straight line."""
        secant = np.diff(self.d) / np.diff(self.z)
        steepest = 3 * np.minimum(np.append(secant[:1], secant), np.append(secant, secant[-1:]))
        return CubicHermiteSpline(self.z, self.d, np.clip(self.slopes, 0, steepest))

    def _at(self, z: Floats) -> Floats:
        """d at z."""
        inside = np.clip(z, self.z[0], self.z[-1])
        return np.asarray(self._quantile(inside) + (z - inside) * self._quantile(inside, 1))

    def _probit(self, away: Floats) -> Floats:
        """z at d."""
        cell = np.clip(np.searchsorted(self.d, away) - 1, 0, len(self.d) - 2)
        inside = np.clip(away, self.d[0], self.d[-1])
        z = increasing_root(
            lambda v: self._quantile(v) - inside, lambda v: self._quantile(v, 1), self.z[cell], self.z[cell + 1]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(away == inside, z, z + (away - inside) / self._quantile(z, 1)))

    def probit(self, x: ArrayLike) -> Floats:
        """The z with ``cdf(x) = Φ(z)``, which resolves probabilities however close to 0 or 1."""
        x = as_numbers(x, "x")
        return np.where(np.isnan(x), np.nan, self._probit(self.coordinate.inverse(x) - self.middle))

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        return np.asarray(ndtr(self.probit(x)))

    def sf(self, x: ArrayLike) -> Floats:
        """Probability of values above x."""
        return np.asarray(ndtr(-self.probit(x)))

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the x with ``cdf(x) = q``; nan outside 0 ≤ q ≤ 1."""
        return self._of_probit(ndtri(as_numbers(q, "q")))

    def isf(self, q: ArrayLike) -> Floats:
        """The x with ``sf(x) = q``; nan outside 0 ≤ q ≤ 1."""
        return self._of_probit(-ndtri(as_numbers(q, "q")))

    def _of_probit(self, z: Floats) -> Floats:
        low, high = self.coordinate.domain
        x = self.coordinate.to_x(self.middle + self._at(np.where(np.isfinite(z), z, 0.0)))
        return np.select([np.isnan(z), z == -np.inf, z == np.inf], [np.nan, low, high], x)

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``pdf``."""
        x, (low, high) = as_numbers(x, "x"), self.coordinate.domain
        inside = (x > low) & (x < high)
        y = self.coordinate.to_y(np.where(inside, x, float(self.coordinate.to_x(np.array(self.middle)))))
        z = self._probit(y - self.middle)
        slope = self._quantile(np.clip(z, self.z[0], self.z[-1]), 1)
        log_p = -(z**2) / 2 - np.log(np.sqrt(2 * np.pi) * slope) - self.coordinate.log_slope(y)
        return np.where(inside, log_p, np.where(np.isnan(x), np.nan, -np.inf))

    def pdf(self, x: ArrayLike) -> Floats:
        """Density."""
        return np.asarray(np.exp(self.logpdf(x)))

    def expect(self, function: Function) -> float:
        """``E[function(x)]`` to 1e-8 of ``E|function(x)|``, jumps allowed, but for the 1e-13 beyond the last quantiles.

        Raises ValueError where the function is not finite, or has too many jumps.
        """
        return weighted_integral(lambda z: finite(function, self._x(z)), _normal_density, self.z) / self._held

    def moment(self, order: int) -> float:
        """``E[xᵏ]``, but for the 1e-13 beyond the last quantiles."""
        return self._smooth(lambda x: x**order)

    def var(self) -> float:
        """``E[(x − E[x])²]``, but for the 1e-13 beyond the last quantiles."""
        mean = self.mean()
        return self._smooth(lambda x: (x - mean) ** 2)

    def _smooth(self, function: Function) -> float:
        """``E[function(x)]`` for what is smooth between nodes."""
        z = nodes(self.z)
        return float(integrals(function(self._x(z)) * _normal_density(z), self.z).sum()) / self._held

    @property
    def _held(self) -> float:
        """Probability between the last nodes."""
        return float(ndtr(self.z[-1]) - ndtr(self.z[0]))

    def _x(self, z: Floats) -> Floats:
        """x at a z between the last nodes."""
        return self.coordinate.to_x(self.middle + self._quantile(z))

    def transformed(self, to_x: Function, to_y: Function, log_slope: Function) -> QuantileLaw:
        """The law of ``to_x(x)`` for an increasing function, given with its inverse and the log of its derivative."""
        return replace(self, coordinate=self.coordinate.then(to_x, to_y, log_slope))


def evolve(sde: Diffusion1D, start: float | Start, times: Floats, tol: float) -> list[QuantileLaw]:
    """The laws at increasing ``times`` from a point or a law, on meshes of twice as many nodes until two agree to tol.

    ``error`` is the largest difference of the last two, which is about that of the coarser. Raises Unresolved when they
    do not agree within the bounds on nodes and steps.
    """
    sde = replace(sde, tails="exponential")  # on the whole line x itself, in which more laws are straight lines
    before: list[QuantileLaw] = []
    for level, cells in enumerate(_CELLS):
        laws = list(_run(sde, start, times, cells, 2e-5 / 4**level, 1e-3 / 4**level))
        if before:
            errors = np.maximum.accumulate([_distance(*pair) for pair in zip(before, laws, strict=True)])
            if errors[-1] <= tol:
                return [replace(law, error=float(error)) for law, error in zip(laws, errors, strict=True)]
        before = laws
    raise Unresolved(f"the quantiles on {cells // 2} and {cells} cells differ by {errors[-1]:.1e} in the cdf")


def _run(
    sde: Diffusion1D, start: float | Start, times: Floats, cells: int, tol: float, share: float
) -> Iterator[QuantileLaw]:
    """Laws on one mesh, with steps of error ``tol`` and a first time of this share of the shortest."""
    reach = _REACH if isinstance(start, float) or hasattr(start, "isf") else _REACH_OF_PPF
    at = mesh(np.linspace(-reach, reach, cells + 1))
    if isinstance(start, float):
        state = from_point(sde, at, float(sde.coordinate.to_y(np.asarray(start))), float(times[0]), share)
    else:
        state = from_law(sde, at, start)
    for used, now in march(sde, at, state, times, tol):
        slopes = parts(sde, used, used.weights(now.d), now.middle, now.d).q1
        yield QuantileLaw(used.z, now.middle, now.d, slopes, 0.0, sde.coordinate)


def _distance(coarse: QuantileLaw, fine: QuantileLaw) -> float:
    """Largest difference of the distribution functions, and what rounding of y adds."""
    z = np.concatenate([coarse.z[:-1] + k / 4 * np.diff(coarse.z) for k in range(4)])
    differ = np.abs(ndtr(fine._probit(coarse._at(z) + (coarse.middle - fine.middle))) - ndtr(z)).max()
    rounding = 30 * np.finfo(float).eps * abs(fine.middle) * (np.exp(-(fine.z**2) / 2) / fine.slopes).max()
    return float(differ + rounding) + _FLOOR


def _normal_density(z: Floats) -> Floats:
    return np.asarray(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))
