"""Gaussian inputs and a linear teacher: fresh samples at every step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from saddlescope import _show
from saddlescope._arrays import Floats, transposed
from saddlescope._memory import require
from saddlescope._numbers import as_vector, as_whole
from saddlescope._parts import Matrix, OptionalMatrix, frozen
from saddlescope.data.base import LARGEST, Data, GradientNoise, LabelNoise, ModeMoments, Modes, modes_of, size_in_bytes


@frozen
class GaussianData(Data):
    """``x ~ N(0, Σ)``, ``y = M x + ξ``, ``ξ ~ N(0, σ² I)``: fresh samples at every step.

    ``teacher`` M (dy, dx); ``covariance`` Σ (dx, dx), positive semi-definite, identity if None; ``label_noise`` σ ≥ 0;
    ``left`` (dy, m) and ``right`` (dx, m) fix the teacher's singular vectors (else its SVD, signs such that
    the largest entry of each right vector is positive).
    Raises ValueError for a Σ that is not symmetric positive semi-definite or shapes that do not match.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 2.

    >>> GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5).modes.strengths
    array([2., 1.])
    """

    teacher: Matrix
    covariance: OptionalMatrix = None
    label_noise: LabelNoise = Field(default=0.0, description="use 0 for noiseless labels")
    left: OptionalMatrix = None
    right: OptionalMatrix = None

    gaussian = True

    def __post_init__(self) -> None:
        rows, columns = self.teacher.shape
        for name, values in (("teacher", self.teacher), ("covariance", self.covariance)):
            if values is not None and np.abs(values).max() > LARGEST:
                raise ValueError(
                    f"{name} must have entries up to {LARGEST} in size, got {np.abs(values).max():.3g}; change its unit"
                )
        require(size_in_bytes(columns, rows), f"teacher of shape ({rows}, {columns})", "make it smaller")
        _check_covariance(self.covariance, self.dim_in)
        if (self.left is None) != (self.right is None):
            raise ValueError("left and right must be given together; give both bases or neither")
        if self.left is not None and self.right is not None:
            _check_bases(self.teacher, self.left, self.right)

    def _facts(self) -> _show.Rows:
        white = self.covariance is None or self.white
        return [
            ("dx", str(self.dim_in)),
            ("dy", str(self.dim_out)),
            ("covariance", "white" if white else f"not white, trace {_show.number(float(np.trace(self.sigma)))}"),
            ("s*", self._strengths_shown),
            ("label_noise", _show.number(self.label_noise)),
        ]

    @property
    def _strengths_shown(self) -> str:
        if self.left is None or self.right is None:
            return super()._strengths_shown
        left, right = self.left[:, :7], self.right[:, :7]
        return _show.numbers(modes_of(left, (left * (self.teacher @ right)).sum(axis=0), right).strengths)

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
        require(size_in_bytes(dim_in, dim_out), f"data of dim_in = {dim_in} and dim_out = {dim_out}", "lower them")
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
        return modes_of(self.left, np.einsum("ia,ij,ja->a", self.left, self.teacher, self.right), self.right)

    def mode_moments(self, mode: int) -> ModeMoments:
        """With variance λ along v_α: ``α₁ = 2λ², α₂ = 2λ²s*, α₃ = 2λ²s*² + λσ², β₁ = λ, β₂ = λs*``."""
        target, variance = float(self.modes.strengths[mode]), float(self.sigma_in_modes[mode, mode])
        fourth = 2 * variance * variance  # a product overflows to infinity, a power to an exception
        noise = variance * self.label_noise**2
        return fourth, fourth * target, fourth * target * target + noise, variance, variance * target

    def gradient_noise(self, share: float = 1.0) -> GradientNoise:
        """``g(s) = 2λ²(s − s*)² + λσ²``; samples are always fresh, so that ``share`` is 1."""
        label = self.label_noise**2 * float(self.sigma[0, 0])
        return GradientNoise(self.mode_moments(0)[0], float(self.modes.strengths[0]), label)

    def gradient_covariance(self, error: Floats, p: Floats, q: Floats, share: float = 1.0) -> Floats:
        """Covariance over l, k of ``p_lᵀ G q_l``: ``(p_lᵀNp_k)(q_lᵀΣq_k) + (p_lᵀΔΣq_k)(p_kᵀΔΣq_l)`` (…, L, L).

        ``N = ΔΣΔᵀ + σ²I``. ``error`` Δ (…, dy, dx), ``p`` (…, L, dy), ``q`` (…, L, dx); samples are always fresh, so
        that ``share`` is 1.
        Source: Corlouer et al. 2026, arXiv 2604.06366, covariance of the per-sample gradient.
        """
        drift = error @ self.sigma
        spread = drift @ transposed(error) + self.label_noise**2 * np.eye(self.dim_out)
        cross = p @ drift @ transposed(q)
        return np.asarray(
            share * ((p @ spread @ transposed(p)) * (q @ self.sigma @ transposed(q)) + cross * transposed(cross))
        )


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> Floats:
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return np.asarray(q * np.sign(np.diag(r)))


def _check_covariance(covariance: Any, dim_in: int) -> None:
    if covariance is None:
        return
    if covariance.shape != (dim_in, dim_in):
        raise ValueError(
            f"covariance must have shape ({dim_in}, {dim_in}) for the teacher's {dim_in} inputs, got {covariance.shape}"
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
