"""Data the networks are trained on: what all data share, and a linear teacher with Gaussian inputs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from saddlescope._memory import require
from saddlescope._numbers import as_vector, as_whole
from saddlescope._parts import Matrix, OptionalMatrix, Real, frozen

Floats = NDArray[np.float64]

ModeMoments = tuple[float, float, float, float, float]
"""``α₁ = Var[x²], α₂ = Cov[x², xy], α₃ = Var[xy], β₁ = E[x²], β₂ = E[xy]`` of one input and one label."""

LARGEST = 1e150
"""Largest size of what is squared."""

LabelNoise = Annotated[Real, Field(ge=0, le=LARGEST)]

ROUNDING = 1e-13
"""Relative size of what is zero up to rounding."""


@dataclass(frozen=True)
class Modes:
    """Singular modes of the teacher, ``M = U diag(s*) Vᵀ``, strongest first, min(dx, dy) of them.

    ``left`` U (dy, m), ``strengths`` s* (m,), ``right`` V (dx, m); ``blocks`` groups equal singular values.
    """

    left: Floats
    strengths: Floats
    right: Floats
    blocks: tuple[tuple[int, ...], ...]


class Data:
    """What all data share: the linear map that fits them best, ``teacher`` M (dy, dx), the covariance of the inputs,
    ``sigma`` Σ (dx, dx), and the deviation of fresh label noise, ``label_noise``.
    """

    teacher: Floats
    sigma: Floats
    label_noise: float

    @property
    def dim_in(self) -> int:
        """Input dimension dx."""
        return int(self.teacher.shape[1])

    @property
    def dim_out(self) -> int:
        """Output dimension dy."""
        return int(self.teacher.shape[0])

    @property
    def white(self) -> bool:
        """Whether Σ is the identity."""
        return bool(np.array_equal(self.sigma, np.eye(self.dim_in)))

    @cached_property
    def modes(self) -> Modes:
        """Singular modes of the teacher, signs such that the largest entry of each right vector is positive."""
        left, strengths, rows = np.linalg.svd(self.teacher, full_matrices=False)
        top = np.abs(rows).argmax(axis=1)
        signs = np.sign(rows[np.arange(len(rows)), top])
        return _modes(left * signs, strengths, (rows * signs[:, None]).T)

    @cached_property
    def bases(self) -> tuple[Floats, Floats]:
        """Orthogonal matrices (dy, dy) and (dx, dx) whose first columns are U and V: the teacher's basis."""
        return _complete(self.modes.left), _complete(self.modes.right)

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
        sigma, sizes = self.sigma_in_modes, self.sizes_in_modes
        small = np.abs(sigma) <= np.maximum(1e-12 * sizes[:, None] * sizes, self._rounding_in_modes)
        return bool((small | np.eye(len(sigma), dtype=bool)).all())

    @cached_property
    def sizes_in_modes(self) -> Floats:
        """Root mean square of the inputs along every right singular vector (dx,); 0 where it is rounding."""
        variances = np.diag(self.sigma_in_modes)
        return np.sqrt(np.where(variances > np.diag(self._rounding_in_modes), variances, 0.0))

    @cached_property
    def _rounding_in_modes(self) -> Floats:
        """What rounding may leave of VᵀΣV where it is 0 (dx, dx)."""
        right = np.abs(self.bases[1])
        return np.zeros_like(right) if self.white else 8 * np.finfo(float).eps * (right.T @ np.abs(self.sigma) @ right)

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

    def gradient_covariance(self, error: Floats, p: Floats, q: Floats, share: float = 1.0) -> Floats:
        """Covariance over l, k of ``p_lᵀ G q_l`` (…, L, L), G the gradient of the map on one sample.

        ``error`` Δ (…, dy, dx), ``p`` (…, L, dy), ``q`` (…, L, dx). Of what the choice of samples adds, a ``share``.
        """
        raise NotImplementedError


@frozen
class GaussianData(Data):
    """``x ~ N(0, Σ)``, ``y = M x + ξ``, ``ξ ~ N(0, σ² I)``: fresh samples at every step.

    ``teacher`` M (dy, dx); ``covariance`` Σ (dx, dx), positive semi-definite, identity if None; ``label_noise`` σ ≥ 0;
    ``left`` (dy, m) and ``right`` (dx, m) fix the teacher's singular vectors (else its SVD, signs such that
    the largest entry of each right vector is positive).
    Raises ValueError for a Σ that is not symmetric positive semi-definite or shapes that do not meet.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 2.

    >>> GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5).modes.strengths
    array([2., 1.])
    """

    teacher: Matrix
    covariance: OptionalMatrix = None
    label_noise: LabelNoise = Field(default=0.0, description="use 0 for noiseless labels")
    left: OptionalMatrix = None
    right: OptionalMatrix = None

    def __post_init__(self) -> None:
        rows, columns = self.teacher.shape
        for name, values in (("teacher", self.teacher), ("covariance", self.covariance)):
            if values is not None and np.abs(values).max() > LARGEST:
                raise ValueError(
                    f"{name} must have entries up to {LARGEST} in size, got {np.abs(values).max():.3g}; change its unit"
                )
        require(_bytes(columns, rows), f"teacher of shape ({rows}, {columns})", "make it smaller")
        _check_covariance(self.covariance, self.dim_in)
        if (self.left is None) != (self.right is None):
            raise ValueError("left and right must be given together; give both bases or neither")
        if self.left is not None and self.right is not None:
            _check_bases(self.teacher, self.left, self.right)

    @classmethod
    def from_spectrum(
        cls,
        spectrum: Sequence[float] | Floats,
        dim_in: int,
        dim_out: int,
        label_noise: float = 0.0,
        covariance: ArrayLike | None = None,
        seed: int = 0,
    ) -> Self:
        """Teacher with these singular values (missing ones are 0) and random orthogonal singular vectors.

        Raises ValueError when the spectrum is longer than min(dim_in, dim_out), negative, or not finite.

        >>> GaussianData.from_spectrum([4.0, 2.0], dim_in=3, dim_out=2, label_noise=0.5).modes.strengths
        array([4., 2.])
        """
        dim_in, dim_out, seed = as_whole(dim_in, "dim_in"), as_whole(dim_out, "dim_out"), as_whole(seed, "seed")
        require(_bytes(dim_in, dim_out), f"data of dim_in = {dim_in} and dim_out = {dim_out}", "lower them")
        for name, value, least in (("dim_in", dim_in, 1), ("dim_out", dim_out, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        count = min(dim_in, dim_out)
        if isinstance(spectrum, Sequence) and len(spectrum) > count:  # refused before it is read
            raise ValueError(
                f"spectrum must hold at most min(dim_in, dim_out) = {count} singular values, got {len(spectrum)}"
            )
        given = as_vector(spectrum, "spectrum")
        if len(given) > count or (given < 0).any():
            raise ValueError(
                f"spectrum must hold at most min(dim_in, dim_out) = {count} singular values, none negative, "
                f"got {given.tolist()}"
            )
        strengths = np.zeros(count)
        strengths[: len(given)] = np.sort(given)[::-1]
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        left, right = _orthonormal(rng, dim_out, count), _orthonormal(rng, dim_in, count)
        return cls((left * strengths) @ right.T, covariance, label_noise, left, right)  # type: ignore[arg-type]

    @property
    def sigma(self) -> Floats:  # type: ignore[override]
        """Input covariance Σ (dx, dx)."""
        return np.eye(self.dim_in) if self.covariance is None else self.covariance

    @cached_property
    def modes(self) -> Modes:
        """Singular modes of the teacher: those given, or those of its SVD."""
        if self.left is None or self.right is None:
            return super().modes
        return _modes(self.left, np.einsum("ia,ij,ja->a", self.left, self.teacher, self.right), self.right)

    def mode_moments(self, mode: int) -> ModeMoments:
        """With variance λ along v_α: ``α₁ = 2λ², α₂ = 2λ²s*, α₃ = 2λ²s*² + λσ², β₁ = λ, β₂ = λs*``."""
        target, variance = float(self.modes.strengths[mode]), float(self.sigma_in_modes[mode, mode])
        fourth = 2 * variance * variance  # a product overflows to infinity, a power to an exception
        noise = variance * self.label_noise**2
        return fourth, fourth * target, fourth * target * target + noise, variance, variance * target

    def gradient_covariance(self, error: Floats, p: Floats, q: Floats, share: float = 1.0) -> Floats:
        """Covariance over l, k of ``p_lᵀ G q_l``: ``(p_lᵀNp_k)(q_lᵀΣq_k) + (p_lᵀΔΣq_k)(p_kᵀΔΣq_l)`` (…, L, L).

        ``N = ΔΣΔᵀ + σ²I``. ``error`` Δ (…, dy, dx), ``p`` (…, L, dy), ``q`` (…, L, dx); samples are always fresh, so
        that ``share`` is 1.
        Source: Corlouer et al. 2026, arXiv 2604.06366, covariance of the per-sample gradient.
        """
        drift = error @ self.sigma
        spread = drift @ _t(error) + self.label_noise**2 * np.eye(self.dim_out)
        cross = p @ drift @ _t(q)
        return np.asarray(share * ((p @ spread @ _t(p)) * (q @ self.sigma @ _t(q)) + cross * _t(cross)))


def data_bytes(data: Data) -> int:
    """Bytes that data take once they are used: bases, covariance and its roots, and samples in each of them."""
    return _bytes(data.dim_in, data.dim_out, getattr(data, "samples", 0))


def _bytes(dim_in: int, dim_out: int, samples: int = 0) -> int:
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


def _t(matrices: Floats) -> Floats:
    return np.swapaxes(matrices, -1, -2)


def _modes(left: Floats, strengths: Floats, right: Floats) -> Modes:
    # A mode at the level of rounding is a mode that is not there: it has no learning time.
    strengths = np.where(strengths > ROUNDING * strengths.max(), strengths, 0.0)
    return Modes(left, strengths, right, _blocks(strengths))


def _half(matrix: Floats) -> Floats:
    """H with ``H Hᵀ`` the matrix, a column for each eigenvalue that is more than rounding."""
    values, vectors = np.linalg.eigh(matrix)
    keep = values > 1e-12 * max(values.max(), 0.0)
    return np.asarray(vectors[:, keep] * np.sqrt(values[keep]))


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> Floats:
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return np.asarray(q * np.sign(np.diag(r)))


def _complete(columns: Floats) -> Floats:
    full = np.linalg.qr(columns, mode="complete")[0]
    full[:, : columns.shape[1]] = columns
    return full


def _blocks(strengths: Floats) -> tuple[tuple[int, ...], ...]:
    same = np.abs(np.diff(strengths)) <= 1e-9 * np.abs(strengths).max(initial=0.0)
    starts = [0, *(np.flatnonzero(~same) + 1), len(strengths)]
    return tuple(tuple(range(a, b)) for a, b in itertools.pairwise(starts))


def _check_covariance(covariance: Any, dim_in: int) -> None:
    if covariance is None:
        return
    if covariance.shape != (dim_in, dim_in):
        raise ValueError(
            f"covariance must have shape ({dim_in}, {dim_in}) to meet the teacher's {dim_in} inputs, "
            f"got {covariance.shape}"
        )
    if np.abs(covariance - covariance.T).max() > 1e-12 * np.abs(covariance).max():
        raise ValueError("covariance must be symmetric; use (S + S.T) / 2 to symmetrise it")
    values = np.linalg.eigvalsh(covariance)
    if values[0] < -1e-12 * values[-1] or values[-1] <= 0:
        raise ValueError(
            f"covariance must be positive semi-definite and not zero, got the eigenvalue {values[0]:.3g}; "
            "check its signs or add a multiple of the identity"
        )


def _check_bases(teacher: Floats, left: Floats, right: Floats) -> None:
    count = min(teacher.shape)
    if left.shape != (teacher.shape[0], count) or right.shape != (teacher.shape[1], count):
        raise ValueError(
            f"left and right must have shapes ({teacher.shape[0]}, {count}) and ({teacher.shape[1]}, {count}), "
            f"got {left.shape} and {right.shape}"
        )
    scale = max(float(np.abs(teacher).max()), 1e-300)
    strengths = np.diag(left.T @ teacher @ right)
    for name, basis in (("left", left), ("right", right)):
        if np.abs(basis.T @ basis - np.eye(count)).max() > 1e-9:
            raise ValueError(f"{name} must have orthonormal columns; orthonormalise it with numpy.linalg.qr")
    if np.abs((left * strengths) @ right.T - teacher).max() > 1e-9 * scale or (np.diff(strengths) > 1e-9 * scale).any():
        raise ValueError(
            "left and right must be singular vectors of the teacher, strongest first; leave both out to use its SVD"
        )
    if strengths[-1] < -1e-9 * scale:
        raise ValueError("left and right must give non-negative strengths; flip the sign of one of the two vectors")
