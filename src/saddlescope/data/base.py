"""What all data share: the best linear map and its modes, the covariance of the inputs, moments, label noise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from saddlescope import _show
from saddlescope._arrays import Array, Floats, Layers
from saddlescope._parts import Real

if TYPE_CHECKING:
    import xarray as xr

ModeMoments = tuple[float, float, float, float, float]
"""``α₁ = Var[x²], α₂ = Cov[x², xy], α₃ = Var[xy], β₁ = E[x²], β₂ = E[xy]`` of one input and one label."""

LARGEST = 1e150
"""Largest number that is squared."""

LabelNoise = Annotated[Real, Field(ge=0, le=LARGEST)]

ROUNDING = 1e-13
"""Relative size below which a number counts as zero."""


CHEAP = 2e6
"""Multiplications that a text may cost."""


@dataclass(frozen=True, repr=False)
class Modes(_show.Shown):
    """Singular modes of the teacher, ``M = U diag(s*) Vᵀ``, strongest first, min(dx, dy) of them.

    ``left`` U (dy, m), ``strengths`` s* (m,), ``right`` V (dx, m); ``blocks`` groups equal singular values.
    """

    left: Floats
    strengths: Floats
    right: Floats
    blocks: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, repr=False)
class GradientNoise(_show.Shown):
    """``g(s) = alpha (s − center)² + floor``, the variance of one sample's gradient at strength s.

    >>> GradientNoise(2.0, 1.0, 0.25)(np.array([0.0, 1.0]))
    array([2.25, 0.25])
    """

    alpha: float
    center: float
    floor: float

    def __call__(self, strength: Array) -> Array:
        """g; shape of ``strength``."""
        return self.alpha * (strength - self.center) ** 2 + self.floor

    def about(self, strength: float) -> GradientNoise:
        """The same as a function of the distance from this strength.

        >>> GradientNoise(2.0, 1.0, 0.25).about(1.0)
        GradientNoise(alpha=2.0, center=0.0, floor=0.25)
        """
        return replace(self, center=self.center - strength)


class Data:
    """What all data share: the linear map that fits them best, ``teacher`` M (dy, dx), the covariance of the inputs,
    ``sigma`` Σ (dx, dx), and the standard deviation of fresh label noise, ``label_noise``.
    """

    teacher: Floats
    sigma: Floats
    label_noise: float
    samples: int = 0
    """Number of given samples n; 0 where samples are always fresh."""
    gaussian = False
    """Whether inputs and label noise are Gaussian, determined by their covariances."""
    inputs: tuple[str, ...] | None = None
    """Names of the inputs."""
    targets: tuple[str, ...] | None = None
    """Names of the outputs."""
    moments_alone = False
    """Whether only moments of one input and one label are known, which do not determine the distribution of a batch."""

    @property
    def fresh_labels(self) -> bool:
        """Whether labels are noisy anew at every use."""
        return self.label_noise > 0

    @property
    def test_samples(self) -> tuple[Floats, Floats] | None:
        """Inputs and labels of samples that are held out; None without any."""
        return None

    @property
    def dim_in(self) -> int:
        """Input dimension dx."""
        return int(self.teacher.shape[1])

    @property
    def dim_out(self) -> int:
        """Output dimension dy."""
        return int(self.teacher.shape[0])

    @cached_property
    def white(self) -> bool:
        """Whether Σ is the identity."""
        return bool(np.array_equal(self.sigma, np.eye(self.dim_in)))

    @cached_property
    def modes(self) -> Modes:
        """Singular modes of the teacher, signs such that the largest entry of each right vector is positive."""
        left, strengths, rows = np.linalg.svd(self.teacher, full_matrices=False)
        top = np.abs(rows).argmax(axis=1)
        signs = np.sign(rows[np.arange(len(rows)), top])
        found = modes_of(left * signs, strengths, (rows * signs[:, None]).T)
        learned = int((found.strengths > 0).sum())
        if learned == len(rows) or self.white:
            return found
        return replace(
            found, right=_decoupled(_complete(found.right), found.strengths[:learned], self.sigma)[:, : len(rows)]
        )

    @property
    def loadings(self) -> xr.Dataset:
        """What every mode is made of: ``input_loading`` V, ``output_loading`` U, and s* as the coordinate ``target``.

        Inputs and outputs are labelled by their names, or numbered.

        >>> from saddlescope import Dataset
        >>> data = Dataset([[1.0, 0.0], [0.0, 1.0]], [[2.0], [0.0]], inputs=["age", "bmi"], targets=["sugar"])
        >>> float(data.loadings.input_loading.sel(mode=0, input="age"))
        1.0
        """
        import xarray as xr  # slow to import

        def labels(names: tuple[str, ...] | None, count: int) -> Array:
            return np.arange(count) if names is None else np.array(names, object)

        modes = self.modes
        loading = {"long_name": "loading"}
        return xr.Dataset(
            {
                "input_loading": (("mode", "input"), modes.right.T.copy(), loading | {"definition": "v_α"}),
                "output_loading": (("mode", "output"), modes.left.T.copy(), loading | {"definition": "u_α"}),
            },
            {
                "mode": np.arange(len(modes.strengths)),
                "target": ("mode", modes.strengths.copy(), {"units": "y/x", "long_name": "target strength"}),
                "input": labels(self.inputs, self.dim_in),
                "output": labels(self.targets, self.dim_out),
            },
        )

    @property
    def _strengths_shown(self) -> str:
        """The first s*, unless they are not known and would take long to compute."""
        if "modes" in vars(self):
            return _show.numbers(self.modes.strengths)
        teacher = self._teacher_if_cheap
        if teacher is None:
            return "not computed yet"
        strengths = np.linalg.svd(teacher, compute_uv=False)
        return _show.numbers(np.where(strengths > ROUNDING * strengths.max(), strengths, 0.0))

    @property
    def _teacher_if_cheap(self) -> Floats | None:
        """The teacher if its singular values are computed at once."""
        return self.teacher if self.teacher.size * min(self.teacher.shape) <= CHEAP else None

    @cached_property
    def bases(self) -> tuple[Floats, Floats]:
        """Orthogonal matrices (dy, dy) and (dx, dx) whose first columns are U and V: the teacher's basis."""
        right = _complete(self.modes.right)
        if not self.white:
            right = _decoupled(right, self.modes.strengths, self.sigma)
        return _complete(self.modes.left), right

    @cached_property
    def teacher_in_modes(self) -> Floats:
        """The teacher in its basis, ``diag(s*)`` (dy, dx)."""
        teacher = np.zeros((self.dim_out, self.dim_in))
        np.fill_diagonal(teacher, self.modes.strengths)
        return teacher

    @cached_property
    def sigma_in_modes(self) -> Floats:
        """Input covariance in the teacher's basis, VᵀΣV (dx, dx)."""
        right = self.bases[1]
        return np.eye(self.dim_in) if self.white else right.T @ self.sigma @ right

    @cached_property
    def root(self) -> Floats:
        """R (dx, r) with ``R Rᵀ = VᵀΣV``, r the rank of Σ; diagonal whenever VᵀΣV is. Inputs may differ in size."""
        sizes, felt = self.sizes_in_modes, self.sizes_in_modes > 0
        if self.diagonal_in_modes:
            return np.diag(sizes)[:, felt]
        sigma, direct = self.sigma_in_modes, _half(self.sigma_in_modes)
        half = sizes[felt, None] * _half(sigma[np.ix_(felt, felt)] / sizes[felt, None] / sizes[felt])
        root = np.zeros((self.dim_in, half.shape[1]))
        root[felt] = half
        return direct if direct.shape == root.shape else root  # of inputs that differ much in size it loses the small

    @cached_property
    def diagonal_in_modes(self) -> bool:
        """Whether Σ is diagonal in the teacher's right singular vectors, so that modes decouple."""
        strengths, sizes = self.modes.strengths, self.sizes_in_modes
        return not _felt(self.sigma_in_modes, sizes, self._rounding_in_modes, strengths).any()

    @cached_property
    def sizes_in_modes(self) -> Floats:
        """Root mean square of the inputs along every right singular vector (dx,); 0 where it is rounding."""
        variances = np.diag(self.sigma_in_modes)
        return np.sqrt(np.where(variances > np.diag(self._rounding_in_modes), variances, 0.0))

    @cached_property
    def _rounding_in_modes(self) -> Floats:
        """What rounding may leave of VᵀΣV where it is 0 (dx, dx)."""
        return np.zeros_like(self.sigma) if self.white else _rounding(self.bases[1], self.sigma)

    def excess_loss(self, maps: Floats) -> Floats:
        """``½ Tr(ΔΣΔᵀ)`` of maps P (n, dy, dx), ``Δ = P − M`` (n,)."""
        error = maps - self.teacher
        return np.asarray(0.5 * (error @ self.sigma * error).sum(axis=(1, 2)))

    @property
    def least_loss(self) -> float:
        """Population loss of the teacher itself, which no linear map falls below."""
        return 0.5 * self.dim_out * self.label_noise**2

    def mode_moments(self, mode: int) -> ModeMoments:
        """(α₁, α₂, α₃, β₁, β₂) of ``x = v_αᵀx`` and ``y = u_αᵀy``, all that the SDE of an aligned mode sees."""
        raise NotImplementedError

    def gradient_noise(self, share: float = 1.0) -> GradientNoise:
        """Variance of one sample's gradient of one input and one label, at the strength of their only mode.

        ``share`` of the sampling variance and all of the fresh label noise.

        >>> from saddlescope import GaussianData
        >>> GaussianData([[1.0]], label_noise=0.5).gradient_noise()
        GradientNoise(alpha=2.0, center=1.0, floor=0.25)
        """
        alpha, center, floor, label = self._noise_vertex
        return GradientNoise(share * alpha, center, share * max(floor - label, 0.0) + label)

    @cached_property
    def _noise_vertex(self) -> tuple[float, float, float, float]:
        """α₁, where g is least, its value there, and the part of fresh label noise in it."""
        moments = self.mode_moments(0)
        return moments[0], *noise_vertex(moments), self.label_noise**2 * float(self.sigma[0, 0])

    def gradient_covariance(self, error: Floats, p: Floats, q: Floats, share: float = 1.0) -> Floats:
        """Covariance over l, k of ``p_lᵀ G q_l`` (…, L, L), G the gradient of the map on one sample.

        ``error`` Δ (…, dy, dx), ``p`` (…, L, dy), ``q`` (…, L, dx). Of what the choice of samples adds, a ``share``.
        """
        raise NotImplementedError


def into_modes(data: Data, weights: Layers) -> Layers:
    """Weights in the teacher's basis: ``W_1 V`` first, ``Uᵀ W_L`` last."""
    left, right = data.bases
    first = (weights[0] @ right, *weights[1:])
    return (*first[:-1], _turned(left.T, first[-1]))


def out_of_modes(data: Data, weights: Layers) -> tuple[Floats, ...]:
    """Weights in the original basis, float64."""
    left, right = data.bases
    layers = tuple(np.asarray(layer, np.float64) for layer in weights)
    with np.errstate(over="ignore", invalid="ignore"):  # of a trajectory that is about to diverge
        first = (layers[0] @ right.T, *layers[1:])
        return (*first[:-1], _turned(left, first[-1]))


def _turned(basis: Floats, layer: Floats) -> Floats:
    """``basis @ layer``; in one dimension a sign, for a layer of any shape."""
    return basis @ layer if basis.size > 1 else basis * layer


def data_bytes(data: Data) -> int:
    """Bytes that data take once they are used: bases, covariance and its roots, and samples in each of them."""
    return size_in_bytes(data.dim_in, data.dim_out, data.samples)


def size_in_bytes(dim_in: int, dim_out: int, samples: int = 0) -> int:
    """Bytes of data of these dimensions, counted before they are made."""
    return 8 * (8 * dim_in**2 + 4 * dim_out**2 + 6 * samples * (dim_in + dim_out))


def noise_vertex(moments: ModeMoments) -> tuple[float, float]:
    """Where ``g(s) = α₁s² − 2α₂s + α₃`` is least and its value there, both free of cancellation: (center, floor).

    >>> noise_vertex((2.0, 2.0, 2.25, 1.0, 1.0))
    (1.0, 0.25)
    """
    alpha1, alpha2, alpha3, beta1, beta2 = moments
    if alpha1 == 0:
        return 0.0, alpha3
    center, floor, end = alpha2 / alpha1, alpha3 - alpha2**2 / alpha1, beta2 / beta1
    if floor > 1e-14 * alpha3:
        return center, floor
    return (end if abs(center - end) <= 1e-7 * abs(end) else center), 0.0


def modes_of(left: Floats, strengths: Floats, right: Floats) -> Modes:
    """Modes from a singular value decomposition; a strength at the level of rounding is 0: it has no learning time."""
    strengths = np.where(strengths > ROUNDING * strengths.max(), strengths, 0.0)
    return Modes(left, strengths, right, _blocks(strengths))


def _half(matrix: Floats) -> Floats:
    """H with ``H Hᵀ`` the matrix, a column for each eigenvalue that is more than rounding."""
    values, vectors = np.linalg.eigh(matrix)
    keep = values > 1e-12 * max(values.max(), 0.0)
    return np.asarray(vectors[:, keep] * np.sqrt(values[keep]))


def _complete(columns: Floats) -> Floats:
    if columns.shape[0] == columns.shape[1]:
        return columns.copy()
    full = np.linalg.qr(columns, mode="complete")[0]
    full[:, : columns.shape[1]] = columns
    return full


def _rounding(basis: Floats, sigma: Floats) -> Floats:
    """What rounding may leave of ``basisᵀ Σ basis`` where it is 0."""
    return np.asarray(8 * np.finfo(float).eps * (np.abs(basis).T @ np.abs(sigma) @ np.abs(basis)))


def _felt(covariance: Floats, sizes: Floats, rounding: Floats, strengths: Floats) -> NDArray[np.bool_]:
    """Which entries off the diagonal are more than rounding, of the covariance of inputs of these sizes.

    A right vector is known up to rounding; that of a weak mode less well, by the ratio of the largest strength to its.
    """
    doubt = np.full(len(sizes), 16.0)
    known = strengths > 0
    doubt[: len(strengths)][known] *= strengths.max(initial=0.0) / strengths[known]
    small = np.maximum(1e-12 * sizes[:, None] * sizes, rounding * np.maximum(doubt[:, None], doubt))
    return (np.abs(covariance) > small) & ~np.eye(len(sizes), dtype=bool)


def _decoupled(basis: Floats, strengths: Floats, sigma: Floats) -> Floats:
    """The basis with the columns that no strength determines along the axes of Σ among them.

    Unchanged where Σ couples them to the columns of ``strengths``, so that no choice makes it diagonal, or already is
    diagonal.
    """
    inside, first = basis.T @ sigma @ basis, len(strengths)
    felt = _felt(inside, np.sqrt(np.maximum(np.diag(inside), 0.0)), _rounding(basis, sigma), strengths)
    if felt[:first, first:].any() or not felt[first:, first:].any():
        return basis
    axes = np.linalg.eigh(inside[first:, first:])[1][:, ::-1]
    return np.column_stack([basis[:, :first], basis[:, first:] @ axes])


def _blocks(strengths: Floats) -> tuple[tuple[int, ...], ...]:
    same = np.abs(np.diff(strengths)) <= 1e-9 * np.abs(strengths).max(initial=0.0)
    starts = [0, *(np.flatnonzero(~same) + 1), len(strengths)]
    return tuple(tuple(range(a, b)) for a, b in itertools.pairwise(starts))
