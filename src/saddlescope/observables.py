"""What is measured on an ensemble: one table, and the functions of the end-to-end map P.

``weights`` are the layers, first to last, each (n, n_l, n_{l−1}) for n trajectories, which lead every result. What
depends on the layers themselves is special to each network and stands in ``networks/``. Weights that are not finite
give NaN.

To add an observable, add an entry to ``OBSERVABLES``: both engines, runs, stores and statistics read it there. One
that is ``extra`` is computed only for a plan that asks for it by ``observe``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from saddlescope._arrays import Array, Floats, Layers, Weights
from saddlescope._numbers import as_numbers, hint, shown
from saddlescope.data import Data
from saddlescope.data.base import into_modes
from saddlescope.data.dataset import CHUNK
from saddlescope.networks import Network
from saddlescope.networks.deep_linear import end_to_end, narrow_interfaces
from saddlescope.networks.model import is_model
from saddlescope.observe.base import Variable as Variable
from saddlescope.problem import Problem

THRESHOLDS = (0.5, 0.9)
"""Fractions θ of s* whose first passage is a learning time; a mode counts as learned at the last."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What an observable is computed from: n sets of weights of a network on data, at temperature T.

    ``share`` is the fraction of the sampling variance that remains, less than 1 where a data set is drawn without
    replacement; ``decay`` is the weight decay γ.
    """

    network: Network
    data: Data
    weights: Layers
    temperature: float
    share: float = 1.0
    decay: float = 0.0

    @cached_property
    def maps(self) -> tuple[Array]:
        """P (n, dy, dx), as a network of one layer."""
        return (self.network.end_to_end(self.weights),)

    @cached_property
    def singular_values(self) -> Floats:
        """Singular values of P (n, m)."""
        return singular_values(self.maps)

    @cached_property
    def noises(self) -> tuple[Floats, Floats]:
        """Noise on every mode (n, m), and of every layer along a mode (n, L, m)."""
        return self.network.noises(self.data, self.temperature, self.weights, self.share)

    @cached_property
    def in_modes(self) -> Array:
        """P in the teacher's basis (n, dy, dx), which shows ``u_αᵀPv_β``."""
        left, right = self.data.bases
        return np.asarray(left.T @ self.maps[0] @ right)

    @cached_property
    def drift(self) -> Floats:
        """``‖∇𝓛 + γθ‖`` over all weights (n,)."""
        gradients = self.network.pull_back(self.weights, (self.maps[0] - self.data.teacher) @ self.data.sigma)
        slopes = (g + self.decay * w for g, w in zip(gradients, self.weights, strict=True))
        return np.sqrt(sum((slope**2).sum(axis=(1, 2)) for slope in slopes))

    @cached_property
    def diffusion(self) -> Floats:
        """``√(T Tr C)`` over all weights (n,), C the covariance of one sample's gradient."""
        layers, root = into_modes(self.data, self.weights), self.data.root
        error = self.in_modes - self.data.teacher_in_modes
        trace = self.network.gradient_trace(self.data, layers, error @ root, root, self.share)
        return np.sqrt(self.temperature * trace[:, 0, 0])


@dataclass(frozen=True)
class Observable(Variable):
    """A variable with a time axis, and the function that computes it."""

    of: Callable[[Sight], Floats] = field(kw_only=True)
    extra: bool = field(default=False, kw_only=True)
    missing: Callable[[Problem], str] = field(default=lambda problem: "", kw_only=True)
    """What a problem lacks for it, as the end of an error sentence; "" where it can be observed."""
    why_nan: Callable[[Problem], str] = field(default=lambda problem: "", kw_only=True)
    """Where it is NaN for a problem, and why, as a sentence; "" where it is not."""


SIZES: dict[str, Callable[[Network, Data], int]] = {
    "mode": lambda network, data: min(data.dim_in, data.dim_out),
    "rank": lambda network, data: min(data.dim_in, data.dim_out),
    "layer": lambda network, data: network.depth,
    "interface": lambda network, data: network.depth - 1,
    "input_mode": lambda network, data: min(data.dim_in, data.dim_out),
    "layer_rank": lambda network, data: max(map(min, network.matrices)),
}
"""Length of every dim of an observable."""

OBSERVABLES = {
    "loss": Observable((), "y²", "loss", "population loss ½E‖Px − y‖²", of=lambda s: loss(s.data, s.maps)),
    "excess_loss": Observable(
        (), "y²", "excess loss", "loss above that of the teacher, ½Tr(ΔΣΔᵀ)", of=lambda s: excess_loss(s.data, s.maps)
    ),
    "mode_strength": Observable(
        ("mode",), "y/x", "mode strength", "u_αᵀPv_α", of=lambda s: mode_strength(s.data, s.maps)
    ),
    "singular_values": Observable(
        ("rank",), "y/x", "singular value", "singular values of P", of=lambda s: s.singular_values
    ),
    "alignment": Observable(
        ("mode",), "1", "alignment", "u_αᵀPv_α/√(‖Pv_α‖‖Pᵀu_α‖)", of=lambda s: alignment(s.data, s.maps)
    ),
    "imbalance": Observable(
        ("interface",),
        "weight²",
        "imbalance",
        "‖W_{l+1}ᵀW_{l+1} − W_lW_lᵀ‖_F",
        of=lambda s: s.network.imbalance(s.weights),
    ),
    "imbalance_trace": Observable(
        ("interface",),
        "weight²",
        "trace of the imbalance",
        "Tr(W_{l+1}ᵀW_{l+1} − W_lW_lᵀ)",
        of=lambda s: s.network.imbalance_trace(s.weights),
    ),
    "log_det": Observable(
        ("interface",),
        "1",
        "log determinant",
        "log det ΘᵀΘ, Θ = [W_l, W_{l+1}ᵀ]",
        of=lambda s: s.network.log_det(s.weights),
        why_nan=lambda problem: narrow_interfaces(problem.network),
    ),
    "mode_noise": Observable(
        ("mode",),
        "(y/x)²/time",
        "mode noise",
        "variance rate of u_αᵀPv_α under minibatch noise at T",
        of=lambda s: s.noises[0],
    ),
    "layer_noise": Observable(
        ("layer", "mode"),
        "weight²/time",
        "layer noise",
        "variance rate of W_l along W_{>l}ᵀu_α and W_{<l}v_α under minibatch noise at T",
        of=lambda s: s.noises[1],
    ),
    "effective_rank": Observable(
        (), "1", "effective rank", "exponential of the spectral entropy of P", of=lambda s: rank_of(s.singular_values)
    ),
    "learned_modes": Observable(
        (),
        "1",
        "learned modes",
        f"number of modes at {THRESHOLDS[-1]} s* or beyond",
        of=lambda s: learned_modes(s.data, s.maps),
    ),
    "mode_matrix": Observable(
        ("mode", "input_mode"),
        "y/x",
        "mode matrix",
        "u_αᵀPv_β, α along mode and β along input_mode",
        of=lambda s: s.in_modes[:, : len(s.data.modes.strengths), : len(s.data.modes.strengths)],
        extra=True,
    ),
    "drift_norm": Observable(
        (), "weight/time", "norm of the drift", "‖∇𝓛 + γθ‖ over all weights", of=lambda s: s.drift, extra=True
    ),
    "diffusion_norm": Observable(
        (),
        "weight/√time",
        "norm of the diffusion",
        "√(T Tr C) over all weights, C the covariance of one sample's gradient",
        of=lambda s: s.diffusion,
        extra=True,
    ),
    "noise_to_drift": Observable(
        (),
        "√time",
        "diffusion over drift",
        "√(T Tr C) / ‖∇𝓛 + γθ‖",
        of=lambda s: s.diffusion / s.drift,
        extra=True,
    ),
    "layer_singular_values": Observable(
        ("layer", "layer_rank"),
        "weight",
        "singular value of a layer",
        "singular values of W_l, largest first; NaN beyond the smaller side of a layer",
        of=lambda s: layer_singular_values(s.network, s.weights),
        extra=True,
    ),
    "test_loss": Observable(
        (),
        "y²",
        "test loss",
        "½mean‖Px_i − y_i‖² + ½dy δ² over the test samples",
        of=lambda s: held_out_loss(s.data, s.maps),
        extra=True,
        missing=lambda problem: "" if problem.data.test_samples else "a Dataset with a test split; use Dataset.split",
    ),
}
"""In the order in which runs show them."""

STANDARD = tuple(name for name, observable in OBSERVABLES.items() if not observable.extra)
"""What every run observes."""


def observed(problem: Problem, extra: Sequence[object]) -> tuple[str, ...]:
    """Names of what a run observes: the standard observables and these.

    Raises ValueError for a name that is unknown, or an observable that the problem does not have.

    >>> from saddlescope import DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> observed(problem, ["loss"]) == STANDARD
    True
    """
    if is_model(problem.network):
        return ()
    for name in extra:
        if not isinstance(name, str):
            raise TypeError(f"observe must list names for a linear network, got {name!r:.60}; parts are for a Model")
        if name not in OBSERVABLES:
            names = [known for known, observable in OBSERVABLES.items() if observable.extra]
            close = hint(name, OBSERVABLES)
            raise ValueError(f"observe = {shown(name)} is unknown; allowed: {', '.join(names)}{close}")
        if lacking := OBSERVABLES[name].missing(problem):
            raise ValueError(f'observe = "{name}" needs {lacking}')
    return (*STANDARD, *(name for name in OBSERVABLES if name in extra and name not in STANDARD))


def observe(
    problem: Problem,
    temperature: float,
    weights: Weights,
    share: float = 1.0,
    names: Sequence[str] = STANDARD,
    decay: float = 0.0,
) -> dict[str, Floats]:
    """The named observables of every trajectory at temperature T, leading axis n.

    ``share`` of the sampling variance remains (less than 1 where a data set is drawn without replacement); ``decay`` is
    the weight decay γ.

    >>> from saddlescope import DeepLinear, GaussianData, init
    >>> data = GaussianData([[2.0, 0.0], [0.0, 1.0]])
    >>> problem = Problem(DeepLinear((2, 2, 2)), data, init.Balanced(scale=0.1))
    >>> observe(problem, 0.1, init.draw(problem.init, problem.network, data, 0, [0]))["mode_strength"]
    array([[0.01, 0.01]])
    """
    layers = tuple(as_numbers(layer, f"weights[{index}]") for index, layer in enumerate(weights))
    seen = Sight(problem.network, problem.data, layers, temperature, share, decay)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return {name: OBSERVABLES[name].of(seen) for name in names}


# --- the map and its error


def loss(data: Data, weights: Weights) -> Floats:
    """Population loss ``𝓛 = ½ Tr(ΔΣΔᵀ) + ½ dy σ²`` (n,), with the ½; of a data set ``½ mean‖Px_i − y_i‖² + ½ dy δ²``.

    >>> from saddlescope import GaussianData
    >>> float(loss(GaussianData([[2.0]], label_noise=1.0), [np.ones((1, 1, 1))])[0])
    1.0
    """
    return excess_loss(data, weights) + data.least_loss


def excess_loss(data: Data, weights: Weights) -> Floats:
    """Population loss above that of the teacher, ``½ Tr(ΔΣΔᵀ)`` (n,).

    >>> from saddlescope import GaussianData
    >>> float(excess_loss(GaussianData([[2.0]], label_noise=1.0), [np.ones((1, 1, 1))])[0])
    0.5
    """
    maps = end_to_end(weights)
    return data.excess_loss(maps.astype(np.result_type(maps, np.float64)))


def held_out_loss(data: Data, weights: Weights) -> Floats:
    """``½ mean‖Px_i − y_i‖² + ½ dy δ²`` over the test samples of a data set (n,).

    >>> from saddlescope import Dataset
    >>> data = Dataset([[1.0]], [[2.0]], X_test=[[1.0], [3.0]], Y_test=[[2.0], [4.0]])
    >>> held_out_loss(data, [np.full((1, 1, 1), 2.0)])
    array([1.])
    """
    if data.test_samples is None:
        raise ValueError("data must be a Dataset with a test split; use Dataset.split")
    (inputs, labels), maps, square = data.test_samples, end_to_end(weights), np.zeros(len(weights[0]))
    for first in range(0, len(inputs), CHUNK):
        part = slice(first, first + CHUNK)
        square += ((maps @ inputs[part].T - labels[part].T) ** 2).sum(axis=(1, 2))
    return 0.5 * square / len(inputs) + 0.5 * data.dim_out * data.label_noise**2


# --- modes and spectrum


def mode_strength(data: Data, weights: Weights) -> Floats:
    """``u_αᵀ P v_α`` (n, m); where singular values repeat, their block's ``‖U_bᵀ P V_b‖_F / √m_b``.

    Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120, section 1.2.

    >>> from saddlescope import GaussianData
    >>> mode_strength(GaussianData([[2.0, 0.0], [0.0, 1.0]]), [np.array([[[0.5, 0.3], [0.1, 0.2]]])])
    array([[0.5, 0.2]])
    """
    modes = data.modes
    return block_strength(modes.left.T @ end_to_end(weights) @ modes.right, modes.blocks)


def block_strength(core: Array, blocks: Sequence[tuple[int, ...]]) -> Array:
    """Mode strengths (n, m) from the map in the teacher's basis (n, ≥ m, ≥ m).

    >>> block_strength(np.array([[[0.0, 1.0], [1.0, 0.0]]]), [(0, 1)])
    array([[1., 1.]])
    """
    count = sum(len(block) for block in blocks)
    strengths = np.diagonal(core, axis1=1, axis2=2)[:, :count].copy()
    for block in blocks:
        if len(block) > 1:
            first, last = block[0], block[-1] + 1
            square = (core[:, first:last, first:last] ** 2).sum(axis=(1, 2))
            strengths[:, first:last] = np.sqrt(square / len(block))[:, None]
    return strengths


def alignment(data: Data, weights: Weights) -> Floats:
    """``u_αᵀPv_α / √(‖Pv_α‖ ‖Pᵀu_α‖)`` (n, m) in [−1, 1]: 1 when u_α, v_α are singular vectors of P.

    >>> from saddlescope import GaussianData
    >>> alignment(GaussianData([[2.0, 0.0], [0.0, 1.0]]), [np.array([[[0.5, 0.0], [0.0, -0.2]]])])
    array([[ 1., -1.]])
    """
    modes, product = data.modes, end_to_end(weights)
    right, left = product @ modes.right, modes.left.T @ product
    strength = np.einsum("ia,nia->na", modes.left, right)
    return np.asarray(strength / np.sqrt(np.linalg.norm(right, axis=1) * np.linalg.norm(left, axis=2)))


def singular_values(weights: Weights) -> Floats:
    """Singular values of P (n, min(dx, dy)), largest first.

    >>> singular_values([np.array([[[0.0, 3.0], [1.0, 0.0]]])])
    array([[3., 1.]])
    """
    product = end_to_end(weights)
    finite = np.isfinite(product).all(axis=(1, 2))
    values = np.full((len(product), min(product.shape[1:])), np.nan)
    values[finite] = np.linalg.svd(product[finite], compute_uv=False)
    return values


def effective_rank(weights: Weights) -> Floats:
    """``exp(−Σ p_i log p_i)``, p the singular values of P over their sum (n,); 0 for P = 0.

    Source: Roy & Vetterli 2007, EUSIPCO, definition 2.

    >>> effective_rank([np.eye(3)[None]])
    array([3.])
    """
    return rank_of(singular_values(weights))


def rank_of(values: Floats) -> Floats:
    """Effective rank (n,) of matrices with these singular values (n, m).

    >>> rank_of(np.array([[2.0, 2.0, 0.0]]))
    array([2.])
    """
    # Apart from theory/network/determinant.py on purpose: see there.
    total = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, total, out=np.zeros_like(values), where=total != 0)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    return np.where(total[:, 0] == 0, 0.0, np.exp(entropy))


def learned_modes(data: Data, weights: Weights) -> Floats:
    """Number of modes with ``u_αᵀPv_α ≥ 0.9 s*_α``, among those with s* > 0 (n,).

    >>> from saddlescope import GaussianData
    >>> learned_modes(GaussianData([[2.0, 0.0], [0.0, 1.0]]), [np.array([[[1.9, 0.0], [0.0, 0.5]]])])
    array([1.])
    """
    strengths, target = mode_strength(data, weights), data.modes.strengths
    learned = ((strengths >= THRESHOLDS[-1] * target) & (target > 0)).sum(axis=1)
    return np.where(np.isfinite(strengths).all(axis=1), learned, np.nan)


def layer_singular_values(network: Network, weights: Weights) -> Floats:
    """Singular values of every layer, largest first (n, L, k); NaN beyond the smaller side of a layer.

    The matrix of a layer of a diagonal network has its weights on the diagonal.

    >>> from saddlescope import DeepLinear
    >>> layer_singular_values(DeepLinear((1, 2, 1)), [np.array([[[3.0], [4.0]]]), np.array([[[1.0, 0.0]]])])
    array([[[5.],
            [1.]]])
    """
    sides = [min(shape) for shape in network.matrices]
    values = np.full((len(weights[0]), network.depth, max(sides)), np.nan)
    for l, (layer, side) in enumerate(zip(weights, sides, strict=True)):
        if network.matrices[l] != network.shapes[l]:  # a diagonal matrix
            values[:, l, :side] = -np.sort(-np.abs(layer[:, :, 0]), axis=1)
        else:
            finite = np.isfinite(layer).all(axis=(1, 2))
            values[finite, l, :side] = np.linalg.svd(layer[finite], compute_uv=False)
    return values
