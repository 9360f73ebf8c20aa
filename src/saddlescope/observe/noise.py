"""Noise rates of observables of any network: modes of the outputs, a leaf of the weights, functions of the params.

A step changes an observable m(θ) by ``−η ∇m·g``, g the mean gradient of a batch of B samples. The noise of m is the
variance of this per unit of time η, at temperature T = η/B:

    T (share · Var_i[∇m·g_i] + mean_i Var[∇m·g_i | i])

g_i is the gradient of sample i in the mean over fresh labels; ``share`` is the fraction of the sampling variance that
remains, ``(n − B)/(n − 1)`` without replacement and 0 for full batches. The second term is the noise of fresh labels.
All rates are exact: sums over all n samples, in blocks. Costs are in full-batch gradients over the same n samples.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import prod
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from saddlescope import _jax
from saddlescope._arrays import Array, Floats
from saddlescope._functions import StoredFunction
from saddlescope._numbers import shown
from saddlescope._parts import Count, Function, OptionalMatrix, frozen
from saddlescope.data import Dataset
from saddlescope.data import base as _base
from saddlescope.observe.base import Coordinate, Observation, Sight, Variable

Number = Annotated[Count, Field(ge=1)]
_LEFT = "use one direction a column, or leave left and right out"


# --- products of outputs and inputs


@frozen
class Modes(Observation):
    """``mode_strength``, ``m_α = u_αᵀ Ê[f xᵀ] v_α``, and ``mode_noise``, its noise rate (mode,).

    f are the outputs and x the inputs, each flattened; for a linear network on white inputs m_α is ``u_αᵀPv_α``. The
    coordinate ``target`` is ``u_αᵀ Ê[y xᵀ] v_α``. Directions are the first ``count`` singular vectors (None: all) of
    the linear least-squares teacher of (X, Y), those of ``Dataset.modes``, classes as 0 and 1 or probabilities; or the
    columns of ``left`` (outputs, k) and ``right`` (inputs, k). Where strengths of the teacher repeat, their directions
    are arbitrary among them. Cost: about one full-batch gradient a mode for dense networks.
    Raises ValueError for left without right or of other sizes than the outputs and inputs, or count with them.
    Source: Corlouer et al. 2026, arXiv 2604.06366, for linear networks.

    >>> Modes(count=2)
    Modes(count=2)
    """

    count: Number | None = Field(default=None, description="use a number of modes such as 4, or leave it out for all")
    left: OptionalMatrix = Field(default=None, description=_LEFT)
    right: OptionalMatrix = Field(default=None, description=_LEFT)

    def __post_init__(self) -> None:
        _check_pair(self.left, self.right)
        if self.count is not None and self.left is not None:
            raise ValueError(f"count must be left out with left and right, got {self.count}; give fewer columns")

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for directions that do not fit outputs and inputs, or labels unlike outputs."""
        if model.stored:
            return
        outputs = _outputs(model, data)
        if self.left is not None and self.right is not None:
            _check_rows("left", self.left, prod(outputs), "outputs")
            _check_rows("right", self.right, _inputs(data), "inputs")
            return
        labels = _labels(model, data).shape[1:]
        if labels[:-1] != outputs[:-1] or labels[-1:] > outputs[-1:]:
            raise ValueError(
                f"Modes needs labels of the shape of the outputs, {outputs}, got {labels}; give left and right"
            )

    def _directions(self, model: Any, data: Any) -> tuple[Floats, Floats]:
        """u (labels, k) and v (inputs, k)."""
        if self.left is not None and self.right is not None:
            return self.left, self.right
        modes = _linear(model, data)
        return modes.left[:, : self.count], modes.right[:, : self.count]

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """Strength and noise."""
        return {
            "mode_strength": Variable(("mode",), "y·x", "mode strength", "u_αᵀÊ[f xᵀ]v_α"),
            "mode_noise": Variable(
                ("mode",), "(y·x)²/time", "mode noise", "variance rate of u_αᵀÊ[f xᵀ]v_α under minibatch noise at T"
            ),
        }

    def sizes(self, model: Any, data: Any) -> Mapping[str, int]:
        """Number of modes."""
        if self.left is not None:
            return {"mode": self.left.shape[1]}
        most = min(prod(_labels(model, data).shape[1:]), _inputs(data))
        return {"mode": most if self.count is None else min(self.count, most)}

    def coordinates(self, model: Any, data: Any) -> Mapping[str, Coordinate]:
        """``target``, where labels have the size of the directions."""
        (left, right), labels = self._directions(model, data), _flat(_labels(model, data))
        if labels.shape[1] != len(left):
            return {}
        target = np.einsum("na,na->a", labels @ left, _flat(data.X) @ right) / len(labels)
        return {"target": (("mode",), target, {"units": "y·x", "long_name": "target strength"})}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """Of one member."""
        from saddlescope.observe import _noise

        left, right = self._directions(sight.model, sight.step.data)
        if self.left is None:  # a class that no sample has is an output without a label
            labels, outputs = _labels(sight.model, sight.step.data).shape[1:], sight.outputs.shape[1:]
            missing = [(0, output - label) for output, label in zip(outputs, labels, strict=True)]
            left = np.pad(left.reshape(*labels, -1), [*missing, (0, 0)]).reshape(prod(outputs), -1)
        strength, noise = _noise.products(sight, left, right)
        return {"mode_strength": strength, "mode_noise": noise}


@frozen
class RandomDirections(Observation):
    """``random_strength`` and ``random_noise`` (direction,): as ``Modes``, along random orthonormal directions.

    The control of what holds for modes alone. Directions are uniform, the same for all members, set by ``seed``.
    Raises ValueError for more directions than inputs or outputs. Cost: as ``Modes``.

    >>> left, right = RandomDirections(count=2, seed=1).directions(3, 5)
    >>> left.shape, bool(np.allclose(right.T @ right, np.eye(2)))
    ((3, 2), True)
    """

    count: Number = Field(default=4, description="use a number of directions such as 4")
    seed: Annotated[Count, Field(ge=0, lt=2**63)] = Field(default=0, description="use a whole number of at least 0")

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for more directions than inputs or outputs."""
        if model.stored:
            return
        outputs, inputs = prod(_outputs(model, data)), _inputs(data)
        if self.count > min(outputs, inputs):
            raise ValueError(
                f"count must be at most the smaller of {outputs} outputs and {inputs} inputs, got {self.count}"
            )

    def directions(self, outputs: int, inputs: int) -> tuple[Floats, Floats]:
        """u (outputs, count) and v (inputs, count), each with orthonormal columns."""
        source = np.random.default_rng(np.random.SeedSequence(self.seed))
        return tuple(np.linalg.qr(source.standard_normal((size, self.count)))[0] for size in (outputs, inputs))  # type: ignore[return-value]

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """Strength and noise."""
        dims = ("direction",)
        return {
            "random_strength": Variable(dims, "y·x", "strength of a random direction", "uᵀÊ[f xᵀ]v, u and v random"),
            "random_noise": Variable(
                dims, "(y·x)²/time", "noise of a random direction", "variance rate of random_strength at T"
            ),
        }

    def sizes(self, model: Any, data: Any) -> Mapping[str, int]:
        """Number of directions."""
        return {"direction": self.count}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """Of one member."""
        from saddlescope.observe import _noise

        left, right = self.directions(prod(sight.outputs.shape[1:]), _inputs(sight.step.data))
        strength, noise = _noise.products(sight, left, right)
        return {"random_strength": strength, "random_noise": noise}


# --- any observable


def _name(value: Any) -> Any:
    if isinstance(value, str) and not value.isidentifier():
        raise ValueError(f'name must be letters, digits and "_", got {shown(value)}; use a name such as "norm"')
    return value


@frozen
class NoiseRate(Observation):
    """``NAME``, an observable m(θ), and ``NAME_noise``, its noise rate, for a scalar or a vector m.

    ``function``: a JAX function (params) -> m, or (params, x, y) -> m of all n training samples (n, …). A vector of
    k ``entries`` has a noise rate for each, on the dim ``entry_NAME``. Cost: the gradient of m and one forward
    derivative for each entry, half to one full-batch gradient.
    Raises TypeError for something that is not a function, ValueError for a name that no variable can have, or an
    observable that is not a float or a vector of as many floats as ``entries``.

    >>> NoiseRate("norm", lambda params: (params["w1"] ** 2).sum()).name
    'norm'
    """

    name: Annotated[str, BeforeValidator(_name)] = Field(description='use a name such as "norm"')
    function: Function = Field(description="use a function of params, or of (params, x, y)")
    entries: Number | None = Field(default=None, description="leave it out for a scalar, or use the length of a vector")

    def _called(self, params: Any, x: Any, y: Any) -> Any:
        wanted = [p for p in inspect.signature(self.function).parameters.values() if p.default is p.empty]
        return self.function(*(params, x, y)[: 1 if len(wanted) < 2 else 3])

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for an observable of another shape than ``entries`` says, or that is not of floats."""
        if model.stored or isinstance(self.function, StoredFunction):
            return
        jax = _jax.load()
        x, y = (_struct(values, len(data.X)) for values in (data.X, data.Y))
        with _jax.precision("float32"):
            found = _jax.shape_of(self._called, _jax.shape_of(model.init, jax.random.key(0)), x, y)
        shape = getattr(found, "shape", None)
        if shape != self._shape or found.dtype.kind != "f":
            fix = f"give entries = {shape[0]}" if shape is not None and len(shape) == 1 else "return one float"
            raise ValueError(
                f"function of NoiseRate({self.name!r}) must return floats of shape {self._shape}, got {found}; {fix}"
            )

    @property
    def _shape(self) -> tuple[int, ...]:
        return () if self.entries is None else (self.entries,)

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """The observable and its noise."""
        dims = (f"entry_{self.name}",) * len(self._shape)
        noise = f"variance rate of {self.name} under minibatch noise at T"
        return {
            self.name: Variable(dims, "", self.name, "m(θ)"),
            f"{self.name}_noise": Variable(dims, "", f"noise of {self.name}", noise),
        }

    def sizes(self, model: Any, data: Any) -> Mapping[str, int]:
        """Length of a vector."""
        return {f"entry_{self.name}": length for length in self._shape}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """Of one member."""
        from saddlescope.observe import _noise

        table = sight.table
        value, noise = _noise.observed(sight, lambda params: self._called(params, table.x, table.y))
        return {self.name: value, f"{self.name}_noise": noise}


# --- a leaf


@frozen
class LayerNoise(Observation):
    """``layer_noise_LEAF``, the noise rate of ``p_αᵀ W q_α`` of a leaf W (direction_LEAF,), and traces of the noise.

    p_α and q_α are the first ``count`` singular vectors of W as it is at the save, or the columns of ``left`` (rows, k)
    and ``right`` (columns, k). ``axis`` counts the rows of the matrix, all other axes of the leaf are its columns.
    ``leaf`` may list several leaves. With ``trace``, ``noise_trace_LEAF`` and ``noise_trace`` are T times the trace of
    the covariance of the gradient of the leaf and of all params: the variance that noise adds per unit of time.
    Cost in full-batch gradients: about 0.5 a direction; with ``trace`` about 6, with fresh labels 6 (1 + outputs).
    Raises ValueError for a leaf that the model lacks, left without right, or directions of another size than the leaf.

    >>> LayerNoise("w1", count=2, trace=False)
    LayerNoise(leaf=('w1',), count=2, trace=False)
    """

    leaf: Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)] = (
        Field(min_length=1, description='use the name of a leaf such as "w1", or a list of names')
    )
    count: Number = Field(default=4, description="use a number of directions such as 4")
    left: OptionalMatrix = Field(default=None, description=_LEFT)
    right: OptionalMatrix = Field(default=None, description=_LEFT)
    axis: Count = Field(default=0, description="use 0, or -1 for kernels whose outputs come last")
    trace: bool = Field(default=True, description="use False to leave the traces out")

    def __post_init__(self) -> None:
        _check_pair(self.left, self.right)
        if self.left is not None and len(self.leaf) > 1:
            raise ValueError(f"left and right are for one leaf, got leaf = {list(self.leaf)}; give a part for each")
        if len(set(self.leaf)) < len(self.leaf):
            raise ValueError(f"leaf must hold distinct names, got {list(self.leaf)}")

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for an unknown leaf, an axis that it lacks, or directions of another size."""
        for leaf in self.leaf:
            shape = model.leaves[model.place(leaf)].shape
            if not -len(shape) <= self.axis < len(shape):
                raise ValueError(f"axis must be one of the {len(shape)} axes of {leaf} {shape}, got {self.axis}")
            rows, columns = self._sides(model, leaf)
            if self.left is not None and self.right is not None:
                _check_rows("left", self.left, rows, "rows of the leaf")
                _check_rows("right", self.right, columns, "columns of the leaf")

    def _sides(self, model: Any, leaf: str) -> tuple[int, int]:
        shape = model.leaves[model.place(leaf)].shape
        return shape[self.axis], int(np.prod(shape)) // shape[self.axis]

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """Noise along directions, and the traces."""
        units, trace, found = "weight²/time", "T Tr C, C the covariance of the gradient of", {}
        for leaf in self.leaf:
            what = f"variance rate of p_αᵀWq_α, W = {leaf}, under minibatch noise at T"
            found[f"layer_noise_{leaf}"] = Variable((f"direction_{leaf}",), units, f"noise of {leaf}", what)
            if self.trace:
                found[f"noise_trace_{leaf}"] = Variable((), units, f"noise of all of {leaf}", f"{trace} {leaf}")
        if self.trace:
            found["noise_trace"] = Variable((), units, "noise of all weights", f"{trace} all weights")
        return found

    def sizes(self, model: Any, data: Any) -> Mapping[str, int]:
        """Number of directions of every leaf."""
        if self.left is not None:
            return {f"direction_{self.leaf[0]}": self.left.shape[1]}
        return {f"direction_{leaf}": min(self.count, *self._sides(model, leaf)) for leaf in self.leaf}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """Of one member."""
        from saddlescope.observe import _noise

        def directions(leaf: str) -> tuple[Any, Any]:
            if self.left is not None and self.right is not None:
                return self.left, self.right
            return _noise.singular_directions(sight.model.leaf(sight.params, leaf), self.axis, self.count)

        pairs = {leaf: directions(leaf) for leaf in self.leaf}
        along, of_leaf, of_all = _noise.layers(sight, pairs, self.axis, self.trace)
        found = {f"layer_noise_{leaf}": noise for leaf, noise in along.items()}
        if self.trace:
            found |= {f"noise_trace_{leaf}": noise for leaf, noise in of_leaf.items()} | {"noise_trace": of_all}
        return found


# --- sizes, and the linear teacher


def _check_pair(left: Array | None, right: Array | None) -> None:
    if (left is None) != (right is None):
        raise ValueError("left and right must be given together; give both or neither")
    if left is not None and right is not None and left.shape[1] != right.shape[1]:
        raise ValueError(
            f"left and right must have one column for each direction, got {left.shape[1]} and {right.shape[1]}; "
            "drop those without a partner"
        )


def _check_rows(name: str, directions: Array, wanted: int, what: str) -> None:
    if len(directions) != wanted:
        raise ValueError(f"{name} must have a row for each of the {wanted} {what}, got {len(directions)}")


def _struct(values: Array, length: int) -> Any:
    jax = _jax.load()
    kind = np.float64 if values.dtype.kind == "f" else np.int32
    return jax.ShapeDtypeStruct((length, *values.shape[1:]), kind)


def _outputs(model: Any, data: Any) -> tuple[int, ...]:
    """Shape of the output for one sample."""
    jax = _jax.load()
    with _jax.precision("float32"):
        params = _jax.shape_of(model.init, jax.random.key(0))
        return tuple(_jax.shape_of(model.apply, params, _struct(data.X, 2)).shape[1:])


def _inputs(data: Any) -> int:
    return prod(data.X.shape[1:])


def _flat(values: Array) -> Floats:
    return np.asarray(values.reshape(len(values), -1), np.float64)


def _labels(model: Any, data: Any) -> Array:
    """Labels (n, …) that outputs are compared with, classes as 0 and 1 along a last axis."""
    labels = data.Y if isinstance(data, Dataset) else data.targets_mean
    if labels.dtype.kind == "i" and model.loss != "squared":
        return np.asarray(labels[..., None] == np.arange(data.classes), np.float64)
    return np.asarray(labels, np.float64)


def _linear(model: Any, data: Any) -> _base.Modes:
    """Modes of the linear least-squares teacher; kept with the data."""
    if isinstance(data, Dataset):
        return data.modes
    if "_linear_modes" not in vars(data):
        vars(data)["_linear_modes"] = Dataset(_flat(data.X), _flat(_labels(model, data))).modes
    return vars(data)["_linear_modes"]
