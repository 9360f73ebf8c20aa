"""How large a step may be next to the teacher: stability of gradient descent, and of SGD in mean square."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize

from saddlescope._arrays import Floats
from saddlescope._numbers import shown
from saddlescope.methods import Method, Rule
from saddlescope.problem import Problem
from saddlescope.theory._checks import steady


@steady
def stability_edge(problem: Problem, method: Method) -> float:
    """Learning rate (dt of Langevin) above which the strongest mode does not settle at the teacher.

    The lr of ``method`` itself matters only at order 2. Without noise, next to balanced weights that have learned the
    teacher,

        η = 2 (1 + μ) / (L s*₁^{2κ} λ_max + γ),   κ = 1 − 1/L,

    with the strongest s*₁, λ_max the largest eigenvalue of Σ, μ ``momentum``, γ ``weight_decay``; for order 2 of
    Langevin divided by ``1 + lr/η``, since its drift is steeper.
    For SGD of batch size B on Gaussian inputs whose variances λ_j are along the modes, μ = 0, the edge is that of the
    mean square: E‖P − M‖² grows at η above the root of

        Σ_j (η a_j²/B) / (2b_j − η (b_j² + a_j²/B)) = 1,  b_j = a_j + γ,  a_j = λ_j Σ_l s*₁^{2(L−l)/L} s*_j^{2(l−1)/L},

    a sum over all inputs j, with s*_j = 0 (0⁰ = 1) beyond the modes; every input lowers it. Just above it rare
    trajectories make large excursions, soon all diverge. In other cases (momentum, data sets, inputs correlated across
    modes, Langevin) the value is that without noise, and noise of small batches lowers it, often severalfold.
    For a diagonal network it is that of equal chains. Infinite for gradient flow, for a zero teacher where L ≥ 2 and
    γ = 0, and where it is not known (no ``mode_sde``, Adam).
    Raises TypeError for arguments of another kind.
    Source: derived here, by linearising about the teacher; tests/unit/test_stability.py.

    >>> from saddlescope import GD, SGD, DeepLinear, GaussianData, init
    >>> data = GaussianData.from_spectrum([2.0, 1.0], dim_in=8, dim_out=2)
    >>> problem = Problem(DeepLinear((8, 4, 2)), data, init.Balanced(scale=0.1))
    >>> stability_edge(problem, GD(lr=0.1)), stability_edge(problem, GD(lr=0.1, momentum=0.5))
    (0.5, 0.75)
    >>> round(stability_edge(problem, SGD(lr=0.1, batch_size=4)), 3)
    0.243
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be such as Problem(network, data, init), got {shown(problem)}")
    if not isinstance(method, Rule):
        raise TypeError(f"method must be such as SGD(lr=1e-3, batch_size=16), got {shown(method)}")
    if method.source == "flow" or method.models_alone or not problem.network.mode_sde:
        return math.inf
    data, decay = problem.data, method.weight_decay
    noisy = method.source == "sgd" and not method.full_batch and not method.momentum
    if noisy and data.gaussian and data.diagonal_in_modes:
        return _in_mean_square(_curvatures(problem), decay, method.batch)
    depth, strongest = problem.network.depth, float(data.modes.strengths[0])
    curvature = depth * strongest ** (2 - 2 / depth) * float(np.linalg.eigvalsh(data.sigma)[-1])
    curvature = curvature * problem.network.speed + decay
    edge = 2 * (1 + method.momentum) / curvature if curvature > 0 else math.inf
    return edge / (1 + method.lr / edge) if method.order == 2 else edge


def _curvatures(problem: Problem) -> Floats:
    """``a_j`` (dx,): how fast the error of the strongest output direction falls along every input direction."""
    data, depth = problem.data, problem.network.depth
    strengths = np.zeros(data.dim_in)
    strengths[: len(data.modes.strengths)] = data.modes.strengths
    layers = np.arange(depth)[:, None]
    with np.errstate(over="ignore"):
        speed = (strengths[0] ** (2 - 2 * (layers + 1) / depth) * strengths ** (2 * layers / depth)).sum(axis=0)
    return np.asarray(problem.network.speed * speed * data.sizes_in_modes**2)


def _in_mean_square(curvatures: Floats, decay: float, batch: float) -> float:
    """The root of the sum over inputs, below the first pole of its terms."""
    a = curvatures[curvatures > 0]
    if not a.size:
        return 2 / decay if decay else math.inf
    if not np.isfinite(a).all():
        return 0.0
    b = a + decay
    noise = (a / b) ** 2 / batch
    with np.errstate(over="ignore"):
        pole = float((2 / (b * (1 + noise))).min())

    def excess(share: float) -> float:
        x = share * pole * b
        return float((x * noise / (2 - x * (1 + noise))).sum()) - 1

    highest = 1 - 1e-12
    if pole == math.inf or excess(highest) < 0:
        return pole
    return float(pole * optimize.brentq(excess, 0.0, highest))
