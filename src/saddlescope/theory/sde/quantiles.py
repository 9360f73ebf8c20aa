"""The law of a scalar SDE carried by its quantiles: for noise of any size, where no end of the domain holds mass.

Let z be the probit of the distribution function, ``F = Φ(z)``, and Q(z, t) the quantile there. With the density
``p = φ(z)/Q_z`` the Fokker–Planck equation says that a quantile moves with the probability current over the density:

    Q_t = a − (b²p)_y/(2p) = a + (b²/2Q_z)(z + Q_zz/Q_z − (log b²)_z)                     (a, b at y = Q)

A normal law is a straight line in z, so Q is smooth however narrow the law is. Linearised, the equation advects
outwards at both ends of z: it needs no condition there. Nodes y = m + d keep m, the noiseless path of the middle,
separate from the distances d, so that only the distances are stepped: by differences of order 4 in z and the Rosenbrock
method RODAS of order 4. Everything is computed on several meshes, each with different steps and a different first time;
the difference of two is about the error of the coarser.
Source: for the quantile equation Toscani & Carrillo 2004 (Wasserstein metric and large-time asymptotics of nonlinear
diffusion equations); for RODAS Hairer & Wanner 1996, Solving Ordinary Differential Equations II, section VI.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack
from scipy.special import ndtr

from saddlescope._arrays import Floats
from saddlescope.theory._checks import Unresolved
from saddlescope.theory.sde._piecewise import NODES, TO_INTEGRAL
from saddlescope.theory.sde.quantile_law import QuantileLaw
from saddlescope.theory.sde.quantile_mesh import HALF, Mesh, State, mesh, remeshed
from saddlescope.theory.sde.scale_speed import ScaleSpeed
from saddlescope.theory.sde.start import Start

_REACH = 7.5
"""Probit of the outermost nodes."""

_REACH_OF_PPF = 5.5
"""The same for a start whose upper quantiles 1 − q are rounded."""

_CELLS = (64, 128, 256, 512)

_MOST_STEPS, _MOST_WORK = 1200, 200_000
"""Steps at the most, and steps times cells."""

_FLOOR = 1e-8
"""Added to every estimate of an error."""


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


def evolve(sde: ScaleSpeed, start: float | Start, times: Floats, tol: float) -> list[QuantileLaw]:
    """The laws at increasing ``times`` from a point or a law, on meshes of twice as many nodes until two agree to tol.

    ``error`` is the largest difference of the last two, which is about that of the coarser. Raises Unresolved when they
    do not agree within the bounds on nodes and steps.
    """
    sde = sde.with_straight_tails()  # in which more laws are straight lines
    before: list[QuantileLaw] = []
    errors = np.array([np.inf])
    for level, cells in enumerate(_CELLS):
        try:
            laws = list(_run(sde, start, times, cells, 2e-5 / 4**level, 1e-3 / 4**level))
        except Unresolved as reason:
            raise Unresolved(str(reason), errors[-1]) from None
        if before:
            errors = np.maximum.accumulate([_distance(*pair) for pair in zip(before, laws, strict=True)])
            if errors[-1] <= tol:
                return [replace(law, error=float(error)) for law, error in zip(laws, errors, strict=True)]
        before = laws
    raise Unresolved(
        f"the quantiles on {cells // 2} and {cells} cells differ by {errors[-1]:.1e} in the cdf", errors[-1]
    )


def _run(
    sde: ScaleSpeed, start: float | Start, times: Floats, cells: int, tol: float, share: float
) -> Iterator[QuantileLaw]:
    """Laws on one mesh, with steps of error ``tol`` and a first time that is this ``share`` of the shortest scale."""
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
    differ = np.abs(ndtr(fine.probit_at(coarse.at_probit(z) + (coarse.middle - fine.middle))) - ndtr(z)).max()
    rounding = 30 * np.finfo(float).eps * abs(fine.middle) * (np.exp(-(fine.z**2) / 2) / fine.slopes).max()
    return float(differ + rounding) + _FLOOR


def from_point(sde: ScaleSpeed, mesh: Mesh, y: float, first: float, share: float) -> State:
    """The law a short time after the start at the point y: normal to leading order, with the skewness of b."""
    (a, a1, a2), (b, b1, b2) = _local(sde, y)
    rate = abs(a1) + b1 * b1 + abs(b * b2) + abs(a * b1 / b) + abs(a2 * b) ** (2 / 3) + abs(a2 * a) ** 0.5
    time = share * min(first, 1 / rate if rate > 0 else np.inf)
    found = noiseless(sde, y, time)
    moved = found[0][-1] if found is not None else a * time
    noise = float(np.exp(sde.drift_and_log_noise2(np.array([y + moved / 2]))[1][0] / 2))
    width = noise * np.sqrt(time) * (1 + a1 * time / 2)
    return State(time, y + moved, width * mesh.z + b * b1 / 2 * time * (mesh.z**2 - 1))


def _local(sde: ScaleSpeed, y: float) -> tuple[Floats, Floats]:
    """Drift and noise at y, each with two derivatives by y."""
    step = 1e-4 * max(sde.scale if np.isinf(sde.coordinate.domain).all() else 1.0, abs(y))
    drift, log_noise2 = sde.drift_and_log_noise2(y + step * np.array([-1.0, 0.0, 1.0]))
    noise = np.exp(log_noise2 / 2)
    return tuple(  # type: ignore[return-value]
        np.array([v[1], (v[2] - v[0]) / (2 * step), (v[2] - 2 * v[1] + v[0]) / step**2]) for v in (drift, noise)
    )


def from_law(sde: ScaleSpeed, mesh: Mesh, law: Start) -> State:
    """The quantiles of a law."""
    y = sde.coordinate.to_y(_quantiles(law, mesh.z))
    middle = float(np.interp(0.0, mesh.z, y))
    return State(0.0, middle, y - middle)


def _quantiles(law: Start, z: Floats) -> Floats:
    upper = law.isf(ndtr(-z)) if hasattr(law, "isf") else law.ppf(ndtr(z))
    return np.where(z < 0, law.ppf(ndtr(z)), upper)


def march(sde: ScaleSpeed, mesh: Mesh, state: State, times: Floats, tol: float) -> Iterator[tuple[Mesh, State]]:
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
                raise Unresolved(
                    f"{steps} steps on {len(mesh.z) - 1} cells bring the quantiles only to t = {state.time:.6g}"
                )
        yield mesh, state


def stepped(sde: ScaleSpeed, mesh: Mesh, state: State, h: float) -> tuple[State, float]:
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


def noiseless(sde: ScaleSpeed, start: float, h: float) -> tuple[Floats, Floats] | None:
    """Displacements and velocities of y' = a(y) at the stages of a step, by collocation; None where that fails."""
    place, integral = np.zeros(len(NODES)), h / 2 * _TO_NODES
    rounding = 4e-16 * abs(start)
    for _ in range(10):
        y = start + place
        step = 1e-6 * np.abs(place).max() + 1e-7 * abs(start)
        drift = sde.drift_and_log_noise2(np.stack([y, y - step, y + step]))[0]
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
            return moved, sde.drift_and_log_noise2(start + moved)[0]
    return None


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


def parts(sde: ScaleSpeed, mesh: Mesh, weights: tuple[Floats, Floats], middle: float, d: Floats) -> Parts:
    """The terms of the equation at the nodes y = middle + d."""
    drift, log_noise2 = sde.drift_and_log_noise2(middle + d)
    near = d[mesh.columns] - d[:, None]
    q1, q2 = ((w * near).sum(axis=1) for w in weights)
    bend = (weights[0] * (log_noise2[mesh.columns] - log_noise2[:, None])).sum(axis=1)
    return Parts(drift, log_noise2, q1, q2, mesh.z + q2 / q1 - bend)


def jacobian(
    sde: ScaleSpeed, mesh: Mesh, weights: tuple[Floats, Floats], middle: float, d: Floats, at: Parts
) -> tuple[Floats, Floats]:
    """Derivatives of the velocity by the nodes of ``columns`` (n, 5), and by a shift of all nodes (n)."""
    pull, grow = _derivatives(sde, middle + d, at.q1)
    f = at.diffusing[:, None]
    by_q1, by_q2 = -(at.bracket + at.q2 / at.q1) / at.q1, 1 / at.q1
    rows = f * (weights[0] * (by_q1[:, None] - grow[mesh.columns]) + weights[1] * by_q2[:, None])
    here = pull + f[:, 0] * at.bracket * grow
    rows[np.arange(len(d)), np.arange(len(d)) - mesh.columns[:, 0]] += here
    return rows, here - f[:, 0] * (weights[0] * grow[mesh.columns]).sum(axis=1)


def _derivatives(sde: ScaleSpeed, y: Floats, width: ArrayLike) -> tuple[Floats, Floats]:
    """Derivatives of drift and log b² by y, over a hundredth of a width."""
    step = np.maximum(0.01 * np.asarray(width), 1e-5 * np.abs(y))
    drift, log_noise2 = sde.drift_and_log_noise2(np.stack([y - step, y + step]))
    return (drift[1] - drift[0]) / (2 * step), (log_noise2[1] - log_noise2[0]) / (2 * step)


def _factors(mesh: Mesh, rows: Floats, diagonal: float) -> tuple[Floats, NDArray[np.int32]]:
    """LU factors of ``diagonal − J`` in bands."""
    n, w = len(mesh.z), 2 * HALF
    band = np.zeros((3 * w + 1, n))
    i = np.broadcast_to(np.arange(n)[:, None], mesh.columns.shape)
    band[2 * w + i - mesh.columns, mesh.columns] = -rows
    band[2 * w] += diagonal
    lu, pivots, _ = lapack.dgbtrf(band, w, w)
    return lu, pivots


def _solved(factors: tuple[Floats, NDArray[np.int32]], right: Floats) -> Floats:
    w = 2 * HALF
    return np.asarray(lapack.dgbtrs(factors[0], w, w, right, factors[1])[0])
