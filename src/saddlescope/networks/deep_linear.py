"""Deep linear networks ``x → W_L … W_1 x``: their shape, and all that is special to them.

Everything is built from the end-to-end map ``P = W_L … W_1``, its error ``Δ = P − M``, and the products left and right
of a layer, ``W_{>l} = W_L … W_{l+1}`` and ``W_{<l} = W_{l−1} … W_1``.
Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from saddlescope._arrays import Array, Floats, Layers, Weights, transposed
from saddlescope._parts import frozen
from saddlescope.data import Data, Dataset, is_finite
from saddlescope.data.dataset import CHUNK
from saddlescope.kernel.streams import Streams
from saddlescope.networks.base import NetworkType, Width

# --- the map, and its gradient pulled back through the layers


def end_to_end(weights: Weights) -> Array:
    """``P = W_L … W_1`` (n, dy, dx).

    >>> float(end_to_end([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)])[0, 0, 0])
    6.0
    """
    product = weights[0]
    for layer in weights[1:]:
        product = layer @ product
    return product


def surroundings(weights: Weights) -> tuple[list[Array], list[Array]]:
    """``W_{>l}`` (n, dy, n_l) and ``W_{<l}`` (n, n_{l−1}, dx) of every layer l, first to last.

    >>> above, below = surroundings([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)])
    >>> [float(m[0, 0, 0]) for m in above], [float(m[0, 0, 0]) for m in below]
    ([3.0, 1.0], [1.0, 2.0])
    """
    count, dim_out, dim_in = len(weights[0]), weights[-1].shape[1], weights[0].shape[2]
    above, below = _identity(count, dim_out, weights[0].dtype), _identity(count, dim_in, weights[0].dtype)
    aboves, belows = [above], [below]
    for layer in reversed(weights[1:]):
        aboves.insert(0, aboves[0] @ layer)
    for layer in weights[:-1]:
        belows.append(layer @ belows[-1])
    return aboves, belows


def pull_back(weights: Weights, gradient: Array) -> Layers:
    """``W_{>l}ᵀ Ḡ W_{<l}ᵀ`` of every layer l, from the gradient Ḡ (n, dy, dx) of the map.

    >>> [float(g[0, 0, 0]) for g in pull_back([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)], np.ones((1, 1, 1)))]
    [3.0, 2.0]
    """
    above, below = surroundings(weights)
    return tuple(transposed(a) @ gradient @ transposed(b) for a, b in zip(above, below, strict=True))


# --- what gradient flow conserves


def balance(weights: Weights) -> list[Array]:
    """``Q_l = W_{l+1}ᵀW_{l+1} − W_lW_lᵀ`` (n, n_l, n_l) of every interface l = 1 … L−1.

    Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120; conserved by gradient flow.

    >>> [float(q[0, 0, 0]) for q in balance([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)])]
    [5.0]
    """
    return [transposed(upper) @ upper - lower @ transposed(lower) for lower, upper in itertools.pairwise(weights)]


def imbalance(weights: Weights) -> Floats:
    """``‖W_{l+1}ᵀW_{l+1} − W_lW_lᵀ‖_F`` (n, L−1).

    >>> imbalance([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)])
    array([[5.]])
    """
    return _columns(len(weights[0]), [np.linalg.norm(q, axis=(1, 2)) for q in balance(weights)])


def imbalance_trace(weights: Weights) -> Floats:
    """``‖W_{l+1}‖_F² − ‖W_l‖_F²``, with its sign (n, L−1).

    >>> imbalance_trace([np.full((1, 1, 1), 3.0), np.full((1, 1, 1), 2.0)])
    array([[-5.]])
    """
    return _columns(len(weights[0]), [np.trace(q, axis1=1, axis2=2) for q in balance(weights)])


def log_det(weights: Weights) -> Floats:
    """``log det ΘᵀΘ``, ``Θ = [W_l, W_{l+1}ᵀ]`` (n, L−1); NaN where n_l is below n_{l−1} + n_{l+1}.

    Source: Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133.

    >>> log_det([np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]) / np.log(4)
    array([[1.]])
    """
    # Apart from theory/network/determinant.py on purpose: see there.
    values = []
    for lower, upper in itertools.pairwise(weights):
        theta = np.concatenate([lower, transposed(upper)], axis=2)
        if theta.shape[1] < theta.shape[2]:
            values.append(np.full(len(theta), np.nan))
        else:
            triangle = np.linalg.qr(theta, mode="r")
            values.append(2 * np.log(np.abs(np.diagonal(triangle, axis1=1, axis2=2))).sum(axis=1))
    return _columns(len(weights[0]), values)


def narrow_interfaces(network: NetworkType) -> str:
    """Why ``log det ΘᵀΘ`` is NaN: the interfaces l whose width n_l is below n_{l−1} + n_{l+1}; "" without any.

    >>> narrow_interfaces(DeepLinear((2, 5, 3, 1)))
    'NaN at interface 2: width 3 is below 5 + 1; it needs a width of 6 or more'
    """
    if network.matrices != network.shapes:
        return "NaN at every interface: the determinant is that of dense layers"
    needs = [below + above for (_, below), (above, _) in itertools.pairwise(network.matrices)]
    narrow = [
        f"interface {l}: width {width} is below {below} + {need - below}; it needs a width of {need} or more"
        for l, ((width, below), need) in enumerate(zip(network.matrices, needs, strict=False), start=1)
        if width < need
    ]
    more = f" and {len(narrow) - 3} more" if len(narrow) > 3 else ""
    return f"NaN at {', at '.join(narrow[:3])}{more}" if narrow else ""


# --- gradient noise, from the closed form of Cov[G]


def mode_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """Noise on a mode, end to end: ``T Var[u_αᵀ(Σ_l W_{>l}W_{>l}ᵀ G W_{<l}ᵀW_{<l})v_α]`` (n, m).

    The variance rate of ``u_αᵀPv_α`` under minibatch noise at T = η/B, for any method; in units of strength² per
    time. ``share`` is the fraction of the sampling variance that remains; label noise is always complete.
    Source: Corlouer et al. 2026, arXiv 2604.06366, covariance of the per-sample gradient.

    >>> from saddlescope import GaussianData
    >>> mode_noise(GaussianData([[2.0]], label_noise=1.0), 0.1, [np.ones((1, 1, 1))])  # T (2(s − s*)² + σ²)
    array([[0.3]])
    """
    return noises(data, temperature, weights, share)[0]


def layer_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """``T Var[pᵀ ∂W_l q]``, p and q the directions of ``W_{>l}ᵀu_α`` and ``W_{<l}v_α`` (n, L, m).

    In units of weight² per time. NaN where a direction vanishes.
    Source: Corlouer et al. 2026, arXiv 2604.06366, covariance of the per-sample gradient.

    >>> from saddlescope import GaussianData
    >>> layer_noise(GaussianData([[2.0]], label_noise=1.0), 0.1, [np.ones((1, 1, 1))])
    array([[[0.3]]])
    """
    return noises(data, temperature, weights, share)[1]


def noises(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> tuple[Floats, Floats]:
    """``mode_noise`` and ``layer_noise``, both from one covariance."""
    covariance, squares = _layer_covariance(data, weights, share)
    variance = np.diagonal(covariance, axis1=2, axis2=3)
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = np.swapaxes(variance / squares, 1, 2)
    return temperature * covariance.sum(axis=(2, 3)), temperature * alone


def gradient_trace(data: Data, weights: Weights, error: Array, root: Array, share: float = 1.0) -> Array:
    """Trace of the covariance of one sample's gradient of all weights (n, 1, 1), in the teacher's basis.

    ``Tr C = Σ_l Tr(W_{>l}ᵀ N W_{>l}) Tr(W_{<l} Σ W_{<l}ᵀ) + ‖W_{>l}ᵀ ΔΣ W_{<l}ᵀ‖²``, ``N = ΔΣΔᵀ + σ²I``, from
    ``E = ΔR`` (n, dy, r) and R (dx, r) with ``Σ = RRᵀ``. Over the samples of a data set, where ``share`` of it remains:

        Tr C = Σ_l share (mean_i ‖W_{>l}ᵀ(Δx_i − r_i)‖² ‖W_{<l}x_i‖² − ‖W_{>l}ᵀ ΔΣ W_{<l}ᵀ‖²) + δ² ‖W_{>l}‖² ‖W_{<l}R‖²

    >>> from saddlescope import GaussianData
    >>> data, one = GaussianData([[2.0]], label_noise=1.0), np.ones((1, 1, 1))
    >>> float(gradient_trace(data, [one], one - 2.0, np.ones((1, 1)))[0, 0, 0])  # 2(s − s*)² + σ²
    3.0
    """
    trace: Any = 0.0
    for above, below in zip(*surroundings(weights), strict=True):
        seen, labels = below @ root, data.label_noise**2 * _square(above)
        pulled = transposed(above) @ error
        mean = _square(pulled @ transposed(seen))
        if is_finite(data):
            trace = trace + share * (_second_moment(data, above, pulled, seen) - mean) + labels * _square(seen)
        else:
            trace = trace + (_square(pulled) + labels) * _square(seen) + mean
    return np.maximum(trace, 0.0)  # where all samples have the same gradient, rounding can be negative


def _second_moment(data: Dataset, above: Array, pulled: Array, seen: Array) -> Array:
    """``mean_i ‖W_{>l}ᵀ(Δx_i − r_i)‖² ‖W_{<l}x_i‖²`` (n, 1, 1), from ``W_{>l}ᵀΔR`` and ``W_{<l}R``."""
    total: Any = 0.0
    for first in range(0, data.samples, CHUNK):
        part = slice(first, first + CHUNK)
        inputs, residuals = (rows[part].T.astype(pulled.dtype) for rows in (data.whitened, data.in_modes[1]))
        errors = pulled @ inputs - transposed(above) @ residuals
        total = total + np.sum((errors**2).sum(axis=1) * ((seen @ inputs) ** 2).sum(axis=1), axis=1)
    return np.asarray(total)[:, None, None] / data.samples


def _layer_covariance(data: Data, weights: Weights, share: float) -> tuple[Floats, Floats]:
    """Cov over layers l, k of ``p_lᵀGq_l`` (n, m, L, L), and ``‖W_{>l}ᵀu‖² ‖W_{<l}v‖²`` (n, m, L).

    ``p_l = W_{>l}W_{>l}ᵀu``, ``q_l = W_{<l}ᵀW_{<l}v``.
    """
    modes, error = data.modes, end_to_end(weights) - data.teacher
    above, below = surroundings(weights)
    p = _per_mode([a @ (transposed(a) @ modes.left) for a in above])
    q = _per_mode([transposed(b) @ (b @ modes.right) for b in below])
    covariance = data.gradient_covariance(error[:, None], p, q, share)
    squares = np.einsum("nali,ia->nal", p, modes.left) * np.einsum("nalj,ja->nal", q, modes.right)
    return covariance, squares


def _per_mode(vectors: list[Array]) -> Floats:
    """L arrays (n, d, m) as one (n, m, L, d)."""
    return np.stack(vectors, axis=1).transpose(0, 3, 1, 2)


# --- initial weights


def balanced(network: DeepLinear, scale: float, aligned: bool, data: Data, source: Streams, count: int) -> Layers:
    """``W_l = scale · R_{l+1} R_lᵀ``; ``R_1 = V`` and ``R_{L+1} = U`` of the teacher if aligned, else random."""
    rank = min(network.widths)
    frames = [np.broadcast_to(np.eye(width, rank), (count, width, rank)) for width in network.widths]
    if aligned:
        frames[0] = np.broadcast_to(data.modes.right[:, :rank], frames[0].shape)
        frames[-1] = np.broadcast_to(data.modes.left[:, :rank], frames[-1].shape)
    else:
        frames[0], frames[-1] = _haar(source, frames[0].shape), _haar(source, frames[-1].shape)
    return tuple(scale * top @ transposed(bottom) for bottom, top in itertools.pairwise(frames))


def _haar(source: Streams, shape: tuple[int, ...]) -> Floats:
    """Random orthonormal columns, uniformly distributed."""
    q, r = np.linalg.qr(source.normals(shape[1] * shape[2]).reshape(shape))
    return np.asarray(q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :])


def _square(matrices: Array) -> Array:
    """``‖·‖_F²`` (n, 1, 1)."""
    return np.asarray((matrices**2).sum(axis=(1, 2), keepdims=True))


def _identity(count: int, size: int, dtype: np.dtype) -> Array:
    return np.broadcast_to(np.eye(size, dtype=dtype), (count, size, size))


def _columns(count: int, values: list[Array]) -> Floats:
    return np.stack(values, axis=1) if values else np.empty((count, 0))


# --- the network


@frozen
class DeepLinear:
    """Deep linear network ``x -> W_L … W_1 x`` with layers ``W_l`` of shape ``(widths[l], widths[l-1])``.

    Raises ValueError for fewer than two widths or a width below 1.
    Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120, eq. 1.

    >>> DeepLinear((8, 16, 6)).shapes
    ((16, 8), (6, 16))
    """

    widths: Annotated[tuple[Width, ...], Field(min_length=2, max_length=2**16 + 1)] = Field(
        description="give the widths from input to output, such as (8, 16, 6)"
    )

    @property
    def depth(self) -> int:
        """Number of layers L."""
        return len(self.widths) - 1

    @property
    def dim_in(self) -> int:
        """Input dimension dx."""
        return self.widths[0]

    @property
    def dim_out(self) -> int:
        """Output dimension dy."""
        return self.widths[-1]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths between input and output."""
        return self.widths[1:-1]

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape of every layer, first to last."""
        return tuple((rows, columns) for columns, rows in zip(self.widths, self.widths[1:], strict=False))

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """The layers themselves."""
        return self.shapes

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(rows * columns for rows, columns in self.shapes)

    citation = "saxe2013"
    kernel = "deep_linear"
    scalar = False
    directions = True
    mode_sde = True
    chains = 1
    speed = 1.0

    def check(self, data: Data) -> None:
        """Raise ValueError for data whose inputs and labels do not fit the widths."""
        if data.moments_alone:
            raise ValueError("network must be Diagonal(depth, width) for data given by Moments; use it or other data")
        if (self.dim_in, self.dim_out) != (data.dim_in, data.dim_out):
            raise ValueError(
                f"widths {self.widths} map {self.dim_in} inputs to {self.dim_out} outputs, but the teacher maps "
                f"{data.dim_in} to {data.dim_out}; make the first width {data.dim_in} and the last {data.dim_out}"
            )

    def layer_dims(self, layer: int) -> tuple[str, str]:
        """Units above and below layer l."""
        return f"unit{layer}", f"unit{layer - 1}"

    def kernel_arguments(self, data: Data, share: float) -> dict[str, Any]:
        """None: the shapes are enough."""
        return {}

    end_to_end = staticmethod(end_to_end)
    pull_back = staticmethod(pull_back)
    gradient_trace = staticmethod(gradient_trace)
    imbalance = staticmethod(imbalance)
    imbalance_trace = staticmethod(imbalance_trace)
    log_det = staticmethod(log_det)
    noises = staticmethod(noises)
    balanced = balanced
