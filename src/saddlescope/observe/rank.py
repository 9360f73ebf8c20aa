"""Spectra of a Model: singular values and effective rank of leaves and of hidden features, and the log determinant.

A leaf is read as a matrix with one row a unit: ``axis`` names the axis that counts its rows (0 by default; −1 for
kernels whose outputs come last, as those of Flax and of convolutions HWIO), all other axes are its columns. For a leaf
with two axes the singular values do not depend on it. A matrix that is not finite gives NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from saddlescope import _jax
from saddlescope._parts import frozen
from saddlescope.networks.rescaling import Member, Side, entries
from saddlescope.observe.base import Observation, Sight, Variable

_LEAF = 'use the name of a leaf of the model, such as "w1"'
_AXIS = "use the axis that counts the rows: 0, or -1 for kernels whose outputs come last"

Axes = Annotated[tuple[int, ...], BeforeValidator(lambda value: (value,) if isinstance(value, int) else value)]


class _OfLeaf(Observation):
    """What the observations of one leaf share."""

    leaf: str
    axis: tuple[int, ...]

    @property
    def member(self) -> Member:
        """The leaf with the axes of its rows."""
        return (self.leaf, self.axis)

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for a leaf that the model does not have, or that is no matrix."""
        self._shape(model)

    def _shape(self, model: Any) -> tuple[int, int]:
        """Rows and columns of the leaf."""
        shape = tuple(model.leaves[model.place(self.leaf)].shape)
        _check_axes(type(self).__name__, self.leaf, self.axis, shape)
        rows = prod(shape[axis] for axis in self.axis)
        return rows, prod(shape) // max(rows, 1)


@frozen
class SingularValues(_OfLeaf):
    """``singular_values_LEAF``: the singular values of a leaf, largest first, with the dim ``rank_LEAF``.

    ``axis`` counts the rows of the matrix, all other axes of the leaf are its columns.
    Raises ValueError for an unknown leaf, or one with less than two axes.

    >>> SingularValues("w1")
    SingularValues(leaf='w1')
    """

    leaf: str = Field(description=_LEAF)
    axis: Axes = Field(default=(0,), description=_AXIS)

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """The singular values."""
        leaf = self.leaf
        return {
            f"singular_values_{leaf}": Variable(
                (f"rank_{leaf}",), "weight", f"singular value of {leaf}", "largest first"
            )
        }

    def sizes(self, model: Any, data: Any) -> Mapping[str, int]:
        """The smaller side of the matrix."""
        return {f"rank_{self.leaf}": min(self._shape(model))}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """The singular values of one member."""
        return {f"singular_values_{self.leaf}": singular_values(_matrix(sight, self.member))}


@frozen
class EffectiveRank(_OfLeaf):
    """``effective_rank_LEAF``: ``exp(−Σ p_i log p_i)``, p the singular values of a leaf over their sum; 0 for zeros.

    ``axis`` counts the rows of the matrix, all other axes of the leaf are its columns.
    Raises ValueError for an unknown leaf, or one with less than two axes.
    Source: Roy & Vetterli 2007, EUSIPCO, definition 2.

    >>> EffectiveRank("conv", axis=-1)
    EffectiveRank(leaf='conv', axis=(-1,))
    """

    leaf: str = Field(description=_LEAF)
    axis: Axes = Field(default=(0,), description=_AXIS)

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """The effective rank."""
        what = "exponential of the spectral entropy"
        return {f"effective_rank_{self.leaf}": Variable((), "1", f"effective rank of {self.leaf}", what)}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """The effective rank of one member."""
        return {f"effective_rank_{self.leaf}": effective_rank(singular_values(_matrix(sight, self.member)))}


def _side(axis: int) -> BeforeValidator:
    """The members of a side; a name alone has its units on this axis."""
    return BeforeValidator(lambda value: (value, axis) if isinstance(value, str) else value)


@frozen
class LogDet(Observation):
    """``log_det_LOWER_UPPER``: ``log det ΘᵀΘ``, ``Θ = [W_l, W_{l+1}ᵀ]``, of the weights into and out of units.

    ``lower`` and ``upper`` are sides as in ``Pair``: ("w1", 0) is a leaf with the axis that counts the units; a name
    alone has them on axis 0 below and on axis 1 above, as ``x → W_2 W_1 x`` has. NaN where there are fewer units than
    columns of Θ: the determinant is 0 there at all times. Gradient flow conserves it in a linear network.
    Raises ValueError for an unknown leaf, or sides that count different units.
    Source: Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133.

    >>> LogDet("w1", "w2").name
    'log_det_w1_w2'
    """

    lower: Annotated[Side, _side(0)] = Field(description='use ("w1", 0)')
    upper: Annotated[Side, _side(1)] = Field(description='use ("w2", 1)')

    @property
    def name(self) -> str:
        """Its variable."""
        return "_".join(["log_det", *(member[0] for member in (*self.lower, *self.upper))])

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for sides that do not fit."""
        self._shape(model)

    def _shape(self, model: Any) -> tuple[int, int]:
        """Units, and columns of Θ."""
        counts, columns = {}, 0
        for member in (*self.lower, *self.upper):
            name, axes, *read = member
            whole = tuple(model.leaves[model.place(name)].shape)
            shape = tuple(read[0]) if read else whole
            _check_axes("LogDet", name, axes, shape, least=1)
            counts[name] = prod(shape[axis] for axis in axes)
            columns += prod(shape) // max(counts[name], 1)
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
            raise ValueError(f'LogDet needs sides that count the same units, got {listed}; use ("w1", 0) and ("w2", 1)')
        return next(iter(counts.values())), columns

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """The log determinant."""
        units, columns = self._shape(model)
        narrow = f"{units} units are fewer than the {columns} columns of Θ" if units < columns else ""
        what = "log det ΘᵀΘ, Θ = [W_l, W_{l+1}ᵀ]"
        return {self.name: Variable((), "1", "log determinant", what, narrow)}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """The log determinant of one member."""
        jnp = _jax.load().numpy
        theta = jnp.concatenate([_matrix(sight, member) for member in (*self.lower, *self.upper)], axis=1)
        if theta.shape[0] < theta.shape[1]:
            return {self.name: jnp.full((), jnp.nan, theta.dtype)}
        finite = jnp.isfinite(theta).all()
        triangle = _jax.one_by_one(lambda matrix: jnp.linalg.qr(matrix, mode="r"))(jnp.where(finite, theta, 0.0))
        return {self.name: jnp.where(finite, 2 * jnp.log(jnp.abs(jnp.diagonal(triangle))).sum(), jnp.nan)}


@frozen
class FeatureRank(Observation):
    """``feature_rank``: the effective rank of the hidden features of all training inputs, less their mean.

    The features are ``model.features(params, x)``, one row a sample; other axes are taken together.
    Raises ValueError for a Model without ``features``.

    >>> FeatureRank()
    FeatureRank()
    """

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for a Model without features."""
        if model.features is None:
            raise ValueError("FeatureRank needs the features of the Model; use Model(…, features=function(params, x))")

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """The rank."""
        what = "exponential of the spectral entropy of the centred features of all training inputs"
        return {"feature_rank": Variable((), "1", "feature rank", what)}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """The rank of one member."""
        features = sight.model.features(sight.params, sight.table.x).reshape(len(sight.table.x), -1)
        return {"feature_rank": effective_rank(singular_values(features - features.mean(axis=0)))}


# --- of one matrix


def singular_values(matrix: Any) -> Any:
    """Singular values, largest first; NaN for a matrix that is not finite."""
    jnp = _jax.load().numpy
    finite = jnp.isfinite(matrix).all()
    decompose = _jax.one_by_one(lambda matrix: jnp.linalg.svd(matrix, compute_uv=False))
    return jnp.where(finite, decompose(jnp.where(finite, matrix, 0.0)), jnp.nan)


def effective_rank(values: Any) -> Any:
    """``exp(−Σ p_i log p_i)`` of singular values; 0 if all are 0."""
    jnp = _jax.load().numpy
    total = values.sum()
    shares = values / jnp.where(total == 0, 1.0, total)
    entropy = -(shares * jnp.log(jnp.where(shares > 0, shares, 1.0))).sum()
    return jnp.where(total == 0, 0.0, jnp.exp(entropy))


def _matrix(sight: Sight, member: Member) -> Any:
    return entries(member, sight.model.leaf(sight.params, member[0]))


def _check_axes(what: str, leaf: str, axes: tuple[int, ...], shape: tuple[int, ...], least: int = 2) -> None:
    """Raise ValueError for a leaf with too few axes, or axes that it does not have."""
    if len(shape) < least:
        raise ValueError(f"{what} needs a leaf with {least} axes or more, got {leaf} {shape}; choose another leaf")
    if not axes or not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise ValueError(f"{what} needs an axis of {leaf} {shape}, got {axes}; {_AXIS}")
