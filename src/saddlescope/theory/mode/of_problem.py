"""The SDE of one mode of a problem under a method."""

from __future__ import annotations

import numpy as np

from saddlescope._numbers import shown
from saddlescope.data import Data
from saddlescope.methods import METHODS, Method
from saddlescope.problem import Problem
from saddlescope.theory._checks import steady
from saddlescope.theory.mode.sde import ModeSDE


@steady
def mode_sde(problem: Problem, method: Method, mode: int) -> ModeSDE:
    """The SDE of one mode of a problem under a method, exact for aligned balanced weights and aligned noise.

    The input covariance must be white or diagonal in the teacher's right singular vectors; with variance λ there
    β₁ = λ, β₂ = λs*, α₁ = 2λ², α₂ = 2λ²s*, α₃ = 2λ²s*² + λσ². A data set has the moments of its samples, and
    they must be drawn with replacement. T and γ are the method's (no noise: T = 0).
    A ``Diagonal`` network of width d is one mode, s = v: exact where all chains are equal and balanced, and at two
    layers where each chain is balanced and all have the same sign. Then time and T run c = d^{2/L−1} times as fast,
    which is what β's multiplied by c and α's by c² say.
    Raises ValueError for other networks and covariances, a mode that the data or the widths do not have, isotropic
    noise, momentum, a schedule or order 2, and TypeError for arguments of another kind.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

    >>> import saddlescope as sc
    >>> data = sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5)
    >>> problem = sc.Problem(sc.DeepLinear((2, 3, 2)), data, sc.init.Balanced(scale=0.1))
    >>> sde = mode_sde(problem, sc.SGD(lr=0.01, batch_size=2), mode=1)
    >>> sde.depth, sde.target, sde.temperature
    (2, 1.0, 0.005)
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be such as Problem(network, data, init), got {shown(problem)}")
    if not isinstance(method, METHODS):
        raise TypeError(f"method must be such as SGD(lr=1e-3, batch_size=16), got {shown(method)}")
    _check(problem, method, mode)
    data, strengths = problem.data, problem.data.modes.strengths
    depth, T, decay = problem.network.depth, method.temperature, method.weight_decay
    speed = problem.network.speed
    if speed == 1 and data.gaussian and data.sigma_in_modes[mode, mode] == 1:
        return ModeSDE(depth, float(strengths[mode]), data.label_noise, temperature=T, weight_decay=decay)
    a1, a2, a3, b1, b2 = data.mode_moments(mode)
    moments = (speed**2 * a1, speed**2 * a2, speed**2 * a3, speed * b1, speed * b2)
    return ModeSDE(depth, moments=moments, temperature=T, weight_decay=decay)


def _check(problem: Problem, method: Method, mode: int) -> None:
    """Raise ValueError where the mode has no closed SDE."""
    data, strengths = problem.data, problem.data.modes.strengths
    if not problem.network.mode_sde:
        raise ValueError(
            f"the modes of a {type(problem.network).__name__} network have no closed SDE; use a DeepLinear network"
        )
    reachable = min(len(strengths), *problem.network.widths)
    if not 0 <= mode < reachable:
        raise ValueError(f"mode must be 0 to {reachable - 1} for this teacher and these widths, got {mode}")
    if method.models_alone:
        raise ValueError(f"one mode has a closed SDE under SGD and Langevin, got {method!r}; use one of them")
    if method.source == "isotropic":
        raise ValueError('one mode has a closed SDE only under noise="gradient" or "aligned", got "isotropic"')
    if method.momentum:
        raise ValueError(
            f"the SDE of a mode is that without momentum, got momentum = {method.momentum:g}; for small lr it is that "
            f"of lr = {method.lr * method.pace:g} and the same batch_size without momentum"
        )
    if method.schedule is not None:
        raise ValueError(
            f"the SDE of a mode has one temperature, but that of {type(method).__name__} follows a schedule; "
            "leave schedule out"
        )
    if method.order == 2:
        raise ValueError("the SDE of a mode is that of order = 1, got order = 2; leave order out")
    if not data.diagonal_in_modes:
        raise ValueError(
            "the inputs are correlated across the modes, so that no mode has a closed SDE (Dataset.whiten removes the "
            "correlations); whiten them, or make their covariance diagonal in the teacher's right singular vectors"
        )
    if data.samples and not _is_fresh(method, data):
        raise ValueError(
            "the noise of the method is not that of independent samples, so that no mode has a closed SDE; "
            'use sampling = "replacement", or label_noise = 0 for full batches'
        )
    if data.sigma_in_modes[mode, mode] <= 1e-12 * np.abs(data.sigma_in_modes).max():
        raise ValueError(f"inputs have no variance along mode {mode}, so that it never grows; choose another mode")


def _is_fresh(method: Method, data: Data) -> bool:
    """Whether the noise of a method is that of independent samples, or none."""
    if method.full_batch:
        return data.label_noise == 0
    return method.sampling == "replacement"
