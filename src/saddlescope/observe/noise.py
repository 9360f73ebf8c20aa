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
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from saddlescope import _jax
from saddlescope._arrays import Array, Floats
from saddlescope._numbers import shown
from saddlescope._parts import Count, OptionalMatrix, frozen
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
    are arbitrary among them.
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
        """Raise ValueError for directions that do not fit outputs and inputs, or labels without linear teacher."""
        outputs = int(np.prod(_outputs(model, data)))
        if self.left is not None and self.right is not None:
            _check_rows("left", self.left, outputs, "outputs")
            _check_rows("right", self.right, _inputs(data), "inputs")
        elif not isinstance(data, Dataset) and _labels(model, data) is None:
            raise ValueError(
                f"Modes needs labels of the shape of the outputs, or classes, got {data.Y.shape[1:]} for "
                f"{_outputs(model, data)}; give left and right"
            )

    def _directions(self, model: Any, data: Any) -> tuple[Floats, Floats]:
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
        most = min(int(np.prod(_outputs(model, data))), _inputs(data))
        return {"mode": most if self.count is None else min(self.count, most)}

    def coordinates(self, model: Any, data: Any) -> Mapping[str, Coordinate]:
        """``target``, where labels have the size of the outputs."""
        labels = data.Y if isinstance(data, Dataset) else _labels(model, data)
        if labels is None:
            return {}
        left, right = self._directions(model, data)
        target = np.einsum("ia,ia->a", labels @ left, _flat(data.X) @ right) / len(labels)
        return {"target": (("mode",), target, {"units": "y·x", "long_name": "target strength"})}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """Of one member."""
        from saddlescope.observe import _noise

        strength, noise = _noise.products(sight, *self._directions(sight.model, sight.step.data))
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
        outputs, inputs = int(np.prod(_outputs(model, data))), _inputs(data)
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

        data = sight.step.data
        left, right = self.directions(int(np.prod(_outputs(sight.model, data))), _inputs(data))
        strength, noise = _noise.products(sight, left, right)
        return {"random_strength": strength, "random_noise": noise}


# --- any observable


def _function(value: Any) -> Any:
    if not callable(value):
        raise TypeError(f"function must be a function of params, or of (params, x, y), got {shown(value)}")
    return value


def _name(value: Any) -> Any:
    if isinstance(value, str) and not value.isidentifier():
        raise ValueError(f'name must be letters, digits and "_", got {shown(value)}; use a name such as "norm"')
    return value


@frozen
class NoiseRate(Observation):
    """``NAME``, an observable m(θ), and ``NAME_noise``, its noise rate, for a scalar or a vector m.

    ``function``: a JAX function (params) -> m, or (params, x, y) -> m of all n training samples (n, …). Each entry of a
    vector has a noise rate, on the dim ``entry_NAME``.
    Raises TypeError for something that is not a function, ValueError for a name that no variable can have, or an
    observable that is not a float or a vector of floats.

    >>> NoiseRate("norm", lambda params: (params["w1"] ** 2).sum()).name
    'norm'
    """

    name: Annotated[str, BeforeValidator(_name)] = Field(description='use a name such as "norm"')
    function: Annotated[Any, BeforeValidator(_function)] = Field(
        description="use a function of params, or of (params, x, y)"
    )

    def _called(self, params: Any, x: Any, y: Any) -> Any:
        wanted = [p for p in inspect.signature(self.function).parameters.values() if p.default is p.empty]
        return self.function(*(params, x, y)[: 1 if len(wanted) < 2 else 3])

    def _shape(self, model: Any, data: Any) -> tuple[int, ...]:
        jax = _jax.load()
        x, y = (_struct(values, len(data.X)) for values in (data.X, data.Y))
        found = jax.eval_shape(self._called, jax.eval_shape(model.init, jax.random.key(0)), x, y)
        if len(getattr(found, "shape", (0, 0))) > 1 or found.dtype.kind != "f":
            raise ValueError(
                f"function of NoiseRate({self.name!r}) must return a float or a vector of floats, got {found}; "
                "reshape it, or take one entry"
            )
        return tuple(found.shape)

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for an observable that is not a float or a vector of floats."""
        self._shape(model, data)

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """The observable and its noise."""
        dims = (f"entry_{self.name}",) * len(self._shape(model, data))
        noise = f"variance rate of {self.name} under minibatch noise at T"
        return {
            self.name: Variable(dims, "", self.name, "m(θ)"),
            f"{self.name}_noise": Variable(dims, "", f"noise of {self.name}", noise),
        }

    def sizes(self, model: Any, data: Any) -> Mapping[str, int]:
        """Length of a vector."""
        return {f"entry_{self.name}": length for length in self._shape(model, data)}

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
    and ``right`` (columns, k). A leaf with more than two axes is the matrix of its first axis and all others together.
    With ``trace``, ``noise_trace_LEAF`` and ``noise_trace`` are T times the trace of the covariance of the gradient of
    the leaf and of all params: the variance that a step adds, per unit of time..
    Raises ValueError for a leaf that the model lacks, left without right, or directions of another size than the leaf.

    >>> LayerNoise("w1", count=2, trace=False)
    LayerNoise(leaf='w1', count=2, trace=False)
    """

    leaf: str = Field(description='use the name of a leaf such as "w1"')
    count: Number = Field(default=4, description="use a number of directions such as 4")
    left: OptionalMatrix = Field(default=None, description=_LEFT)
    right: OptionalMatrix = Field(default=None, description=_LEFT)
    trace: bool = Field(default=True, description="use False to leave the traces out")

    def __post_init__(self) -> None:
        _check_pair(self.left, self.right)

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for an unknown leaf, or directions of another size."""
        rows, columns = self._matrix(model)
        if self.left is not None and self.right is not None:
            _check_rows("left", self.left, rows, "rows of the leaf")
            _check_rows("right", self.right, columns, "columns of the leaf")

    def _matrix(self, model: Any) -> tuple[int, int]:
        shape = model.leaves[model.place(self.leaf)].shape
        return (shape[0] if shape else 1), int(np.prod(shape[1:]))

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """Noise along directions, and the traces."""
        leaf, units = self.leaf, "weight²/time"
        found = {
            f"layer_noise_{leaf}": Variable(
                (f"direction_{leaf}",), units, f"noise of {leaf}", f"variance rate of p_αᵀWq_α, W = {leaf}, at T"
            )
        }
        if self.trace:
            of_all = "T Tr C, C the covariance of the gradient"
            found[f"noise_trace_{leaf}"] = Variable((), units, f"noise of all of {leaf}", f"{of_all} of {leaf}")
            found["noise_trace"] = Variable((), units, "noise of all weights", f"{of_all} of all weights")
        return found

    def sizes(self, model: Any, data: Any) -> Mapping[str, int]:
        """Number of directions."""
        most = min(self.count, *self._matrix(model)) if self.left is None else self.left.shape[1]
        return {f"direction_{self.leaf}": most}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """Of one member."""
        from saddlescope.observe import _noise

        if self.left is not None and self.right is not None:
            directions = self.left, self.right
        else:
            directions = _noise.singular_directions(sight.model.leaf(sight.params, self.leaf), self.count)
        along, *traces = _noise.layer(sight, self.leaf, *directions, self.trace)
        names = (f"noise_trace_{self.leaf}", "noise_trace") if self.trace else ()
        return {f"layer_noise_{self.leaf}": along} | dict(zip(names, traces, strict=False))


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
    kind = np.float32 if values.dtype.kind == "f" else np.int32
    return jax.ShapeDtypeStruct((length, *values.shape[1:]), kind)


def _outputs(model: Any, data: Any) -> tuple[int, ...]:
    """Shape of the output for one sample."""
    jax = _jax.load()
    params = jax.eval_shape(model.init, jax.random.key(0))
    return tuple(jax.eval_shape(model.apply, params, _struct(data.X, 2)).shape[1:])


def _inputs(data: Any) -> int:
    return int(np.prod(data.X.shape[1:]))


def _flat(values: Array) -> Floats:
    return np.asarray(values.reshape(len(values), -1), np.float64)


def _labels(model: Any, data: Any) -> Floats | None:
    """Labels of Examples as rows of the size of the outputs, classes as 0 and 1; None where they have no such form."""
    labels, shape = data.targets_mean, _outputs(model, data)
    if labels.dtype.kind == "i" and labels.shape[1:] == shape[:-1]:
        labels = labels[..., None] == np.arange(shape[-1])
    return _flat(labels) if labels.shape[1:] == shape else None


def _linear(model: Any, data: Any) -> _base.Modes:
    """Modes of the linear least-squares teacher; kept with the data."""
    if isinstance(data, Dataset):
        return data.modes
    labels = _labels(model, data)
    assert labels is not None  # checked
    known = vars(data).setdefault("_linear_modes", {})
    if labels.shape[1] not in known:
        known[labels.shape[1]] = Dataset(_flat(data.X), labels).modes
    return known[labels.shape[1]]
