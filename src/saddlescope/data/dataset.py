"""Finite data sets: given samples, reused in every epoch, with optional fresh label noise."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Self, TypeGuard

import numpy as np
from pydantic import BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import ArgsKwargs

from saddlescope import _show
from saddlescope._arrays import Floats, transposed
from saddlescope._memory import require
from saddlescope._numbers import shown
from saddlescope._parts import Matrix, OptionalMatrix, frozen
from saddlescope._warnings import warn
from saddlescope.data.base import CHEAP, Data, LabelNoise, ModeMoments, data_bytes
from saddlescope.data.columns import Fit, fit, polar, standardised
from saddlescope.data.samples import as_names, columns_chosen, from_table, held_out, is_table, read_samples

SMALLEST, LARGEST = 1e-152, 1e152
"""Range of sizes of inputs, labels and noise in which squares neither underflow nor overflow."""

CHUNK = 256
"""Samples processed together, so that memory does not grow with their number."""

NORMAL = 16
"""Cost of a normal in multiply-adds, measured on the compiled engine."""


def _names(value: Any, info: ValidationInfo) -> tuple[str, ...] | None:
    return None if value is None else as_names(value, str(info.field_name))


Names = Annotated[tuple[str, ...] | None, BeforeValidator(_names)]


@frozen
class Dataset(Data):
    """n given samples ``(x_i, y_i)``; every use of a label adds fresh noise ``N(0, δ² I)``.

    ``X`` (n, dx) and ``Y`` (n, dy), one sample a row; ``label_noise`` δ ≥ 0; ``X_test`` and ``Y_test``, samples held
    out for the observable "test_loss" (see ``split``); ``inputs`` and ``targets``, names of the columns of X and Y,
    taken from DataFrames and DataArrays that have names. The teacher is the least-squares map
    ``M = S_yx S_xx⁺`` and Σ is ``S_xx = XᵀX/n`` (uncentred, as in the loss): see ``standardise``.
    Raises ValueError for X and Y of different length, a name that is among inputs and targets, inputs that are all
    zero, NaN, or empty data.
    Source: Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133, section 2 (label noise added at every step).

    >>> data = Dataset([[1.0, 0.0], [0.0, 1.0]], [[2.0], [0.0]], label_noise=0.5)
    >>> data.modes.strengths, data.residuals.ravel()
    (array([2.]), array([0., 0.]))
    """

    X: Matrix
    Y: Matrix
    label_noise: LabelNoise = Field(default=0.0, description="use 0 for labels as they are")
    X_test: OptionalMatrix = None
    Y_test: OptionalMatrix = None
    inputs: Names = Field(default=None, kw_only=True, description='use names such as ["age", "bmi"]')
    targets: Names = Field(default=None, kw_only=True, description='use names such as ["y"]')

    @model_validator(mode="before")
    @classmethod
    def _of_tables(cls, given: Any) -> Any:
        """The arguments with matrices in place of tables, whose names become inputs and targets."""
        if not isinstance(given, ArgsKwargs):  # data of another kind, which the next check refuses
            return given
        arguments: dict[str, Any] = dict(given.kwargs or {})
        if "Y" not in arguments and is_table(arguments.get("X")):
            raise TypeError(f"Dataset needs Y, the labels, beside X; {columns_chosen(arguments['X'], arguments)}")
        for key in ("inputs", "targets"):
            if arguments.get(key) is not None:
                arguments[key] = as_names(arguments[key], key)
        for name, key in (("X", "inputs"), ("Y", "targets"), ("X_test", "inputs"), ("Y_test", "targets")):
            if name not in arguments:
                continue
            arguments[name], found = from_table(arguments[name], name)
            known = arguments.get(key)
            if found is not None and known not in (None, found):
                raise ValueError(
                    f"{name} must have the columns {shown(known)}, got {shown(found)}; select or rename its columns"
                )
            if found is not None:
                arguments[key] = found
        return ArgsKwargs((), arguments)

    def __post_init__(self) -> None:
        if len(self.X) != len(self.Y):
            raise ValueError(
                f"X and Y must have one row for each sample, got {len(self.X)} and {len(self.Y)} rows; "
                "drop the rows without a partner"
            )
        require(
            data_bytes(self), f"a data set with X {self.X.shape} and Y {self.Y.shape}", "leave out inputs or samples"
        )
        for name in ("X", "Y", "X_test", "Y_test"):
            values = getattr(self, name)
            sizes = np.zeros(1) if values is None else np.abs(values).max(axis=0)
            if (sizes > LARGEST).any() or ((sizes < SMALLEST) & (sizes > 0)).any():
                raise ValueError(
                    f"{name} must have columns between {SMALLEST} and {LARGEST} in size, got one of "
                    f"{sizes[(sizes > LARGEST) | ((sizes < SMALLEST) & (sizes > 0))][0]:.3g}; choose another unit"
                )
        for name, key in (("X", "inputs"), ("Y", "targets")):
            names, width = getattr(self, key), getattr(self, name).shape[1]
            if names is not None and len(names) != width:
                raise ValueError(
                    f"{key} must name the {width} columns of {name}, got {len(names)} names; complete them"
                )
        if both := [name for name in self.inputs or () if name in (self.targets or ())]:
            raise ValueError(
                f"inputs and targets must have no column in common, got {both[0]!r} in both; leave it out of one of "
                "them, or rename it if inputs are to be learned from themselves"
            )
        self._check_test()
        if not self.X.any():
            raise ValueError("X must not be all zero: nothing can be learned from it; give inputs")

    def _check_test(self) -> None:
        if (self.X_test is None) != (self.Y_test is None):
            raise ValueError("X_test and Y_test must be given together; give both or neither")
        if self.X_test is None or self.Y_test is None:
            return
        wanted = (len(self.X_test), self.dim_in), (len(self.X_test), self.dim_out)
        if (self.X_test.shape, self.Y_test.shape) != wanted:
            raise ValueError(
                f"X_test and Y_test must have one row for each sample, {self.dim_in} inputs and {self.dim_out} labels "
                f"as X and Y have, got {self.X_test.shape} and {self.Y_test.shape}; drop or add columns"
            )

    def split(self, test: int, seed: int = 0) -> Self:
        """The data set with ``test`` of its samples, chosen at random, held out.

        Raises ValueError when no sample would be left, or some are held out already.

        >>> data = Dataset([[1.0], [2.0], [3.0]], [[1.0], [2.0], [3.0]]).split(test=1)
        >>> data.samples, len(data.X_test)
        (2, 1)
        """
        held, kept = held_out(self, test, seed)
        return replace(self, X=self.X[kept], Y=self.Y[kept], X_test=self.X[held], Y_test=self.Y[held])

    def standardise(self) -> Self:
        """The data set with inputs and targets centred and scaled to unit variance, ``(x − mean) / √mean(x − mean)²``.

        Mean and variance are those of the training samples, for the test samples too. ``label_noise`` stays as it is,
        now in units of the standardised targets.
        Raises ValueError naming a column that is constant.

        >>> data = Dataset([[1.0], [2.0], [3.0], [4.0]], [[0.0], [0.0], [1.0], [1.0]]).standardise()
        >>> data.Y.ravel(), data.sigma
        (array([-1., -1.,  1.,  1.]), array([[1.]]))
        """
        x, x_test = standardised("X", self.inputs, self.X, self.X_test)
        y, y_test = standardised("Y", self.targets, self.Y, self.Y_test)
        return replace(self, X=x, Y=y, X_test=x_test, Y_test=y_test)

    def whiten(self) -> Self:
        """The data set with uncorrelated inputs of size 1, ``x ← S_xx^{−1/2} x``, so that every mode has a closed SDE.

        Of all whitened inputs these are closest to the given ones; each keeps its name. S_xx is that of the training
        samples, for the test samples too. Inputs that are linear combinations of others up to rounding remain so.

        >>> data = Dataset([[2.0, 1.0], [1.0, 2.0], [0.0, -3.0]], [[1.0], [2.0], [3.0]]).whiten()
        >>> bool(np.allclose(data.sigma, np.eye(2)))
        True
        """
        axes = polar(self._fit.root)
        test = None if self.X_test is None else np.linalg.lstsq(self._fit.root, self.X_test.T, rcond=None)[0].T
        return replace(self, X=self._fit.whitened @ axes.T, X_test=None if test is None else np.asarray(test @ axes.T))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        label_noise: float = 0.0,
        *,
        inputs: Sequence[str] | str | None = None,
        targets: Sequence[str] | str | None = None,
        standardise: bool = False,
        whiten: bool = False,
        test: int | None = None,
        seed: int = 0,
    ) -> Self:
        """The samples in a file: a ``.csv`` or ``.tsv`` with a header, or an ``.npz`` with arrays X and Y.

        ``inputs`` and ``targets`` name the columns, in this order; with ``targets`` alone all other columns that have a
        name are inputs. The data set keeps these names. Without both, columns of a table whose names begin with x are
        inputs, those with y are labels, no others are allowed, and no names are kept. An ``.npz`` may hold the names
        of its columns as arrays ``inputs`` and ``targets``. Tables are separated by commas, semicolons or tabs.
        ``test`` samples are held out by ``split(test, seed)``, then ``standardise`` centres and scales all samples by
        the training samples, then ``whiten`` removes the correlations of the inputs. A table ``[data]`` of a run file
        has the same keys.
        Raises FileNotFoundError for no file, ValueError for one that holds something else, with the row and column of
        values that are missing or not numeric, or needs more memory than there is.

        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "patients.csv")
        >>> _ = path.write_text("id,age,bmi,sugar\\n1,59,32.1,151\\n2,48,21.6,75\\n3,72,30.5,141\\n")
        >>> data = Dataset.load(path, inputs=["age", "bmi"], targets=["sugar"], standardise=True)
        >>> data.inputs, data.X.shape, data.loadings.input_loading.sel(mode=0, input="bmi").item() > 0
        (('age', 'bmi'), (3, 2), True)
        """
        for name, wanted in (("standardise", standardise), ("whiten", whiten)):
            if not isinstance(wanted, (bool, np.bool_)):
                raise TypeError(f"{name} must be True or False, got {shown(wanted)}")
        if test is None and seed != 0:
            raise TypeError("seed is for a test split; add test = a number of samples to hold out, or leave it out")
        found = read_samples(path, inputs, targets)
        data = cls(found.X, found.Y, label_noise, inputs=found.inputs, targets=found.targets)
        data = data if test is None else data.split(test, seed)
        data = data.standardise() if standardise else data
        return data.whiten() if whiten else data

    def _facts(self) -> _show.Rows:
        held = [] if self.X_test is None else [("held_out", f"{len(self.X_test):,}")]
        return [
            ("samples", f"{self.samples:,}"),
            *held,
            ("dx", str(self.dim_in)),
            ("dy", str(self.dim_out)),
            ("s*", self._strengths_shown),
            ("label_noise", _show.number(self.label_noise)),
            *[
                (name, _show.value(names))
                for name in ("inputs", "targets")
                if (names := getattr(self, name)) is not None
            ],
        ]

    @property
    def _teacher_if_cheap(self) -> Floats | None:
        known = "_fit" in vars(self)
        cost = self.X.size * min(self.X.shape) * (not known) + self.dim_in * self.dim_out * min(
            self.dim_in, self.dim_out
        )
        return self._fit.teacher if cost <= CHEAP else None

    @property
    def test_samples(self) -> tuple[Floats, Floats] | None:
        """X_test and Y_test; None where no samples are held out."""
        return None if self.X_test is None or self.Y_test is None else (self.X_test, self.Y_test)

    @property
    def samples(self) -> int:  # type: ignore[override]
        """Number of samples n."""
        return len(self.X)

    @property
    def dim_in(self) -> int:
        """Input dimension dx."""
        return int(self.X.shape[1])

    @property
    def dim_out(self) -> int:
        """Output dimension dy."""
        return int(self.Y.shape[1])

    @cached_property
    def _fit(self) -> Fit:
        return fit(self.X, self.Y)

    @cached_property
    def sigma(self) -> Floats:  # type: ignore[override]
        """Second moment of the inputs, ``S_xx = XᵀX/n`` (dx, dx)."""
        return self.X.T @ self.X / self.samples

    @cached_property
    def teacher(self) -> Floats:  # type: ignore[override]
        """Least-squares map ``M = S_yx S_xx⁺`` (dy, dx).

        Warns where inputs are linear combinations of each other up to rounding.
        """
        count = min(self.samples, int(self.X.any(axis=0).sum()))
        if self._fit.rank < count and self._fit.rank < (count := min(count, len(np.unique(self.X, axis=0)))):
            warn(
                f"the inputs X have rank {self._fit.rank} of {count} up to rounding: many maps fit the labels best, "
                "the teacher is the smallest; drop inputs that repeat others"
            )
        return self._fit.teacher

    @cached_property
    def residuals(self) -> Floats:
        """``y_i − M x_i`` (n, dy), 0 where the labels are linear in the inputs up to rounding."""
        return self._fit.residuals

    @property
    def least_loss(self) -> float:
        """Loss of the least-squares map, ``½ mean‖y_i − M x_i‖² + ½ dy δ²``."""
        return 0.5 * float((self.residuals**2).sum()) / self.samples + super().least_loss

    def excess_loss(self, maps: Floats) -> Floats:
        """``½ mean‖P x_i − M x_i‖²`` of maps P (n, dy, dx), without the cancellation in P − M (n,)."""
        return np.asarray(0.5 * ((maps @ self._fit.root - self._fit.fitted) ** 2).sum(axis=(1, 2)))

    @property
    def _apart(self) -> bool:
        """Whether inputs along the right singular vectors are uncorrelated."""
        return self.diagonal_in_modes and int((self.sizes_in_modes > 0).sum()) == self._fit.rank

    @cached_property
    def root(self) -> Floats:
        """R (dx, r) with ``x_i = R c_i`` in the teacher's basis and ``mean(c cᵀ) = I``; diagonal whenever VᵀΣV is."""
        sizes = self.sizes_in_modes
        return np.diag(sizes)[:, sizes > 0] if self._apart else self.bases[1].T @ self._fit.root

    @cached_property
    def whitened(self) -> Floats:
        """c_i of ``x_i = R c_i`` (n, r)."""
        sizes = self.sizes_in_modes
        return self.in_modes[0][:, sizes > 0] / sizes[sizes > 0] if self._apart else self._fit.whitened

    @cached_property
    def in_modes(self) -> tuple[Floats, Floats]:
        """Inputs (n, dx) and residuals (n, dy) in the teacher's basis."""
        left, right = self.bases
        return self.X @ right, self.residuals @ left

    @cached_property
    def noise_factor(self) -> Floats | None:
        """F (q, k) with ``F Fᵀ = Cov z``, ``z = (lower triangle of ccᵀ, row by row; r cᵀ, row by row)``.

        c are the whitened inputs, r the residuals in the teacher's basis; without residuals the second part is left
        out. None where drawing the noise of every sample is cheaper.

        >>> Dataset([[1.0], [2.0], [3.0]], [[1.0], [2.0], [3.0]]).noise_factor.shape
        (1, 1)
        """
        inputs, residuals = self.whitened, self.in_modes[1]
        n, r = inputs.shape
        with_residuals = bool(residuals.any())
        q = r * (r + 1) // 2 + (self.dim_out * r if with_residuals else 0)
        k = min(q, n - 1)
        if k * (q + NORMAL) > n * (2 * self.dim_out * r + NORMAL):
            return None
        rows, columns = np.tril_indices(r)
        moments = [inputs[:, rows] * inputs[:, columns]]
        if with_residuals:
            moments.append(np.einsum("ni,nj->nij", residuals, inputs).reshape(n, -1))
        z = np.concatenate(moments, axis=1)
        triangle = np.linalg.qr((z - z.mean(axis=0)) / np.sqrt(n), mode="r")
        _, deviations, axes = np.linalg.svd(triangle, full_matrices=False)
        kept = deviations > 1e-12 * deviations[0]
        kept[0] = True  # also where nothing varies
        return np.asarray(axes[kept].T * deviations[kept])

    def mode_moments(self, mode: int) -> ModeMoments:
        """(α₁, α₂, α₃, β₁, β₂) of ``x = v_αᵀx_i`` and ``y = u_αᵀ(y_i + δξ)``."""
        x, y = self.X @ self.modes.right[:, mode], self.Y @ self.modes.left[:, mode]
        square, product = x * x, x * y
        noise = self.label_noise**2 * square.mean()
        with np.errstate(over="ignore", invalid="ignore"):
            moments = square.var(), np.mean((square - square.mean()) * product), product.var() + noise
        alpha1, alpha2, alpha3, beta1, beta2 = (float(value) for value in (*moments, square.mean(), product.mean()))
        return alpha1, alpha2, alpha3, beta1, beta2

    def gradient_covariance(self, error: Floats, p: Floats, q: Floats, share: float = 1.0) -> Floats:
        """Covariance over l, k of ``p_lᵀ G q_l`` (…, L, L): ``share`` times that over the samples, and all label noise.

        ``G_i = (Δx_i − r_i − δξ)x_iᵀ``; ``error`` Δ (…, dy, dx), ``p`` (…, L, dy), ``q`` (…, L, dx).
        """
        noise = self.label_noise**2 * (p @ transposed(p)) * (q @ self.sigma @ transposed(q))
        if not share:
            return noise
        mean = ((p @ (error @ self.sigma)) * q).sum(axis=-1, keepdims=True)
        square = np.zeros_like(noise)
        for first in range(0, self.samples, CHUNK):
            part = slice(first, first + CHUNK)
            pulled = p @ error @ self.X[part].T - p @ self.residuals[part].T
            centred = pulled * (q @ self.X[part].T) - mean
            square += centred @ transposed(centred)
        return share * square / self.samples + noise


def is_finite(data: Data) -> TypeGuard[Dataset]:
    """Whether the data are given samples."""
    return isinstance(data, Dataset)
