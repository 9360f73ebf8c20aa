"""A network of the reader's own: plain JAX functions of parameters in any arrangement of arrays.

``apply(params, x)`` maps inputs x (B, …) to outputs (B, …), ``init(key)`` draws params, a pytree of floating arrays,
and ``loss(outputs, y)`` gives one number a sample (B,). What is trained is its mean over the samples of a data set.
JAX is imported when a Model is made.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeGuard

import numpy as np
from pydantic import BeforeValidator, Field

from saddlescope import _jax, _show
from saddlescope._functions import StoredFunction, described, name_of
from saddlescope._numbers import shown
from saddlescope._parts import Function, frozen
from saddlescope.data import Dataset, Examples

if TYPE_CHECKING:
    from saddlescope.networks.rescaling import Pair

LOSSES = ("squared", "cross_entropy")

Params = Any
"""A pytree of floating arrays."""

_LIVE: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""Models of this process, by the table that a store keeps of them."""


@dataclass(frozen=True)
class Leaf:
    """One array of the parameters: its name and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of its entries."""
        return int(np.prod(self.shape, dtype=np.int64))


def _loss(value: Any) -> Any:
    if not callable(value) and value not in LOSSES:
        raise ValueError(
            f'loss must be "squared", "cross_entropy" or a function (outputs, y) -> (B,), got {shown(value)}'
        )
    return value


@frozen
class Model:
    """A network given by JAX functions: ``apply(params, x)`` outputs of a batch, ``init(key)`` its initial parameters.

    ``loss``: "squared", ``½‖f − y‖²``, "cross_entropy" of logits f (B, K) with classes y (B,) or probabilities (B, K),
    or a function (outputs, y) that gives one number a sample (B,), whose mean over the samples is trained.
    ``features``, a function (params, x) that gives hidden features (B, h), is needed for ``observe.FeatureRank`` alone.
    Each array of the parameters is a leaf with a name: its keys joined by "_", such as "w1" or "layers_0_weight".
    The functions must be pure: the same arguments give the same result, no state is changed.
    Raises ImportError without JAX, TypeError or ValueError for parameters that are not floating arrays.

    >>> import jax
    >>> def init(key):
    ...     one, two = jax.random.split(key)
    ...     return {"w1": 0.1 * jax.random.normal(one, (16, 4)), "w2": 0.1 * jax.random.normal(two, (2, 16))}
    >>> def apply(params, x):
    ...     return jax.nn.relu(x @ params["w1"].T) @ params["w2"].T
    >>> model = Model(apply, init)
    >>> model.leaves
    (Leaf(name='w1', shape=(16, 4)), Leaf(name='w2', shape=(2, 16)))
    """

    apply: Function = Field(description="a function (params, x) -> outputs")
    init: Function = Field(description="a function key -> params")
    loss: Annotated[Any, BeforeValidator(_loss)] = Field(
        default="squared", description='use "squared", "cross_entropy" or a function'
    )
    features: Function | None = Field(
        default=None, kw_only=True, description="leave it out, or use a function (params, x) -> (B, h)"
    )
    name: str = Field(default="", kw_only=True, description="a name for figures and stores")

    kernel = ""
    scalar = False
    mode_sde = False

    def __post_init__(self) -> None:
        self.leaves  # noqa: B018  # refuses what init must not return
        _LIVE[repr(self._table())] = self

    # --- parameters

    @cached_property
    def _structure(self) -> tuple[tuple[Leaf, ...], Any]:
        jax = _jax.load()
        try:
            shapes = _jax.shape_of(self.init, jax.random.key(0))
        except Exception as error:
            raise ValueError(f"init(key) raised {_line(error)}; it must work with jax.random.key(0)") from None
        found, tree = jax.tree_util.tree_flatten_with_path(shapes)
        if not found:
            raise ValueError("init(key) must return a pytree of arrays, got none; return the parameters")
        names = ["_".join(map(_key, path)) or "params" for path, _ in found]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"init(key) must return arrays of different names, got {twice[0]!r} twice; rename one")
        for name, (_, leaf) in zip(names, found, strict=True):
            if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
                raise TypeError(
                    f"init(key) must return floating arrays, got {leaf.dtype} in {name!r}; "
                    "close over constants in apply instead"
                )
        return tuple(Leaf(name, tuple(leaf.shape)) for name, (_, leaf) in zip(names, found, strict=True)), tree

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The arrays of the parameters, in the order in which JAX flattens them."""
        return self._structure[0]

    @property
    def stored(self) -> bool:
        """Whether it was read from a store, so that its functions refuse to be called."""
        return isinstance(self.apply, StoredFunction)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(leaf.size for leaf in self.leaves)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of every leaf."""
        return tuple(leaf.shape for leaf in self.leaves)

    def flatten(self, params: Params) -> tuple[Any, ...]:
        """The leaves of parameters."""
        return tuple(_jax.load().tree.leaves(params))

    def unflatten(self, leaves: Sequence[Any]) -> Params:
        """The parameters with these leaves."""
        return _jax.load().tree.unflatten(self._structure[1], list(leaves))

    def place(self, leaf: str) -> int:
        """The place of a leaf in ``leaves``; ValueError for an unknown name."""
        names = [one.name for one in self.leaves]
        if leaf not in names:
            raise ValueError(f"leaf must be one of {', '.join(map(repr, names[:20]))}, got {shown(leaf)}")
        return names.index(leaf)

    def leaf(self, params: Params, name: str) -> Any:
        """One array of the parameters."""
        return self.flatten(params)[self.place(name)]

    def with_leaf(self, params: Params, name: str, value: Any) -> Params:
        """The parameters with another array in place of one."""
        leaves = list(self.flatten(params))
        leaves[self.place(name)] = value
        return self.unflatten(leaves)

    # --- loss

    def losses(self, params: Params, x: Any, y: Any) -> Any:
        """Loss of every sample (B,)."""
        return self.loss_of(self.apply(params, x), y)

    def loss_of(self, outputs: Any, y: Any) -> Any:
        """Loss of every sample (B,), from the outputs."""
        if callable(self.loss):
            return self.loss(outputs, y)
        jax = _jax.load()
        if self.loss == "squared":
            return 0.5 * ((outputs - y) ** 2).reshape(len(outputs), -1).sum(axis=1)
        log_p = jax.nn.log_softmax(outputs)
        if y.ndim == outputs.ndim:
            return -(y * log_p).reshape(len(outputs), -1).sum(axis=1)
        chosen = jax.numpy.take_along_axis(log_p, y[..., None], axis=-1)
        return -chosen.reshape(len(outputs), -1).sum(axis=1)

    def check(self, data: Any) -> None:
        """Raise TypeError or ValueError for data that the model cannot be trained on."""
        if not isinstance(data, (Dataset, Examples)):
            raise TypeError(
                f"data must be Examples(X, Y) or a Dataset for a Model, got {type(data).__name__}; draw samples from it"
            )
        self._check_labels(data)
        if self.stored:
            return
        jax, two = _jax.load(), 2
        x, y = (
            jax.ShapeDtypeStruct((two, *values.shape[1:]), np.float64 if values.dtype.kind == "f" else np.int32)
            for values in (data.X, data.targets_mean if isinstance(data, Examples) else data.Y)
        )
        params = _jax.shape_of(self.init, jax.random.key(0))
        outputs = self._traced(
            "apply(params, x)", lambda: _jax.shape_of(self.apply, params, x), f"x of shape {x.shape}"
        )
        if not hasattr(outputs, "shape") or outputs.shape[:1] != (two,):
            got = f"the shape {outputs.shape}" if hasattr(outputs, "shape") else type(outputs).__name__
            raise ValueError(
                f"apply(params, x) must return one array with a row for each sample, got {got} for x of shape "
                f"{x.shape}; map over samples with jax.vmap"
            )
        if self.loss == "squared" and outputs.shape != y.shape:
            raise ValueError(
                f"apply(params, x) must return the shape of Y for the squared loss, {y.shape}, got {outputs.shape}; "
                "change the last layer, or reshape Y"
            )
        if self.loss == "cross_entropy":
            self._check_classes(data, outputs.shape, y)
        losses = self._traced("loss(outputs, y)", lambda: _jax.shape_of(self.loss_of, outputs, y), f"{y.shape} labels")
        if getattr(losses, "shape", None) != (two,):
            raise ValueError(
                f"loss(outputs, y) must return one number a sample, shape ({two},), got "
                f"{getattr(losses, 'shape', type(losses).__name__)}; do not take the mean over the batch"
            )

    def _check_classes(self, data: Any, outputs: tuple[int, ...], y: Any) -> None:
        """Raise ValueError for outputs that are not one logit a class, in shape or number."""
        whole = y.dtype.kind == "i"
        if not ((whole and outputs[:-1] == y.shape) or (len(outputs) > 1 and outputs == y.shape)):
            raise ValueError(
                f"apply(params, x) must return logits with a last axis of classes for the cross entropy, got {outputs} "
                f"for {y.dtype} Y of shape {y.shape}; give classes as whole numbers or probabilities"
            )
        if outputs != y.shape and data.classes > outputs[-1]:
            raise ValueError(
                f"apply(params, x) must return a logit for each of the {data.classes} classes of Y, got {outputs[-1]}; "
                "widen the last layer, or number the classes from 0"
            )
        if whole and outputs == y.shape and not (data.Y.sum(axis=-1) == 1).all():
            raise ValueError(
                f"apply(params, x) must return one axis more than Y of classes for the cross entropy, got {outputs} "
                f"for Y of shape {y.shape}; add an axis of classes, or give probabilities as floats"
            )

    def _check_labels(self, data: Any) -> None:
        """Raise ValueError for random labels that the loss has no meaning for."""
        loss = self.loss if isinstance(self.loss, str) else name_of(self.loss)
        if data.label_noise > 0 and self.loss != "squared":
            raise ValueError(
                f"label_noise is for the squared loss, got {data.label_noise:g} with loss {loss!r}; use loss = "
                '"squared", or labels = labels.Flips(p) for classes'
            )
        if getattr(data, "labels", None) is not None and self.loss != "cross_entropy":
            raise ValueError(
                f'labels.{type(data.labels).__name__} is for loss = "cross_entropy", got {loss!r}; use that loss, or '
                "give the labels as they are"
            )

    def _traced(self, what: str, call: Callable[[], Any], given: str) -> Any:
        try:
            return call()
        except Exception as error:
            raise ValueError(
                f"{what} raised {_line(error)} for {given}; it must be a pure JAX function without state or random keys"
            ) from None

    # --- symmetries

    def find_pairs(self, data: Any, seed: int = 0, tol: float = 1e-7) -> tuple[Pair, ...]:
        """Rescaling symmetries between axes of the leaves, found from gradients at random weights."""
        from saddlescope.networks.rescaling import find_pairs

        return find_pairs(self, data, seed, tol)

    # --- other frameworks

    @classmethod
    def from_equinox(cls, make: Callable[[Any], Any], loss: Any = "squared", **options: Any) -> Self:
        """The Model of an Equinox module: ``make(key)`` returns one, which maps a single sample.

        >>> import equinox as eqx
        >>> Model.from_equinox(lambda key: eqx.nn.MLP(4, 2, 16, 1, key=key)).leaves[0]
        Leaf(name='layers_0_weight', shape=(16, 4))
        """
        import equinox as eqx

        jax = _jax.load()
        static = eqx.partition(make(jax.random.key(0)), eqx.is_inexact_array)[1]
        if any(isinstance(leaf, eqx.nn.StateIndex) for leaf in jax.tree.leaves(static, is_leaf=_is_state(eqx))):
            raise ValueError(
                "make(key) must return a module without state, got one with a StateIndex; leave BatchNorm out"
            )

        def apply(params: Params, x: Any) -> Any:
            return jax.vmap(eqx.combine(params, static))(x)

        def init(key: Any) -> Params:
            return eqx.filter(make(key), eqx.is_inexact_array)

        return cls(apply, init, loss, **options)

    @classmethod
    def from_nnx(cls, make: Callable[[Any], Any], loss: Any = "squared", **options: Any) -> Self:
        """The Model of a Flax module: ``make(rngs)`` returns an ``nnx.Module``, which maps a batch.

        >>> from flax import nnx
        >>> Model.from_nnx(lambda rngs: nnx.Linear(4, 2, rngs=rngs)).leaves
        (Leaf(name='bias', shape=(2,)), Leaf(name='kernel', shape=(4, 2)))
        """
        from flax import nnx

        graph, abstract, rest = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))), nnx.Param, ...)
        if state := sorted({type(variable).__name__ for variable in _variables(nnx, rest)}):
            raise ValueError(
                f"make(rngs) must return a module whose only variables are parameters, got {', '.join(state)}; "
                "leave out BatchNorm and Dropout"
            )

        def apply(params: Params, x: Any) -> Any:
            filled = abstract.copy() if hasattr(abstract, "copy") else abstract
            nnx.replace_by_pure_dict(filled, params)
            return nnx.merge(graph, filled, rest)(x)

        def init(key: Any) -> Params:
            return nnx.to_pure_dict(nnx.split(make(nnx.Rngs(key)), nnx.Param, ...)[1])

        return cls(apply, init, loss, **options)

    # --- as a part of a run

    def _table(self) -> dict[str, Any]:
        """What a store keeps: names and fingerprints of the functions, names and shapes of the leaves."""
        functions = {"apply": self.apply, "init": self.init, "loss": self.loss, "features": self.features}
        kept = {key: described(value) if callable(value) else value for key, value in functions.items() if value}
        leaves = {leaf.name: list(leaf.shape) for leaf in self.leaves}
        return {"type": "Model", **kept, "name": self.name, "leaves": leaves}

    @classmethod
    def _stored(cls, table: dict[str, Any]) -> Self:
        """The Model of a table: one of this process, or one whose functions refuse to be called."""
        if (live := _LIVE.get(repr(table))) is not None:
            return live
        model = object.__new__(cls)
        functions = {key: table.get(key) for key in ("apply", "init", "loss", "features")}
        fields = {
            key: text if text is None or text in LOSSES else StoredFunction(text) for key, text in functions.items()
        }
        leaves = tuple(Leaf(name, tuple(shape)) for name, shape in table["leaves"].items())
        vars(model).update(fields, name=table["name"], _structure=(leaves, None))
        return model

    def _facts(self) -> _show.Rows:
        loss = self.loss if isinstance(self.loss, str) else name_of(self.loss)
        named = [("name", repr(self.name))] if self.name else [("apply", name_of(self.apply))]
        leaves = [f"{leaf.name} {_show.shape(leaf.shape)}" if leaf.shape else leaf.name for leaf in self.leaves]
        listed = ", ".join(leaves if len(leaves) <= 6 else [*leaves[:3], "…", *leaves[-2:]])
        return [*named, ("loss", loss), ("leaves", f"[{listed}]")]


def is_model(network: object) -> TypeGuard[Model]:
    """Whether a network is a Model."""
    return isinstance(network, Model)


def _key(key: Any) -> str:
    """One step of a path in a pytree, as a name."""
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            return re.sub(r"\W", "_", str(getattr(key, attribute)))
    return re.sub(r"\W", "_", str(key))


def _line(error: Exception) -> str:
    """An error on one line."""
    return f"{type(error).__name__} ({' '.join(str(error).split()):.160})"


def _is_state(eqx: Any) -> Callable[[Any], bool]:
    return lambda leaf: isinstance(leaf, eqx.nn.StateIndex)


def _variables(nnx: Any, state: Any) -> list[Any]:
    """The variables of a Flax state."""
    return list(_jax.load().tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)))
