"""Convolutions as products, which stay fast when every member of an ensemble has its own kernel.

    y[o, n, p] = Σ_{k, c} w[o, k, c] · x[c, n, s·p + d·k]        p: output position, k: position in the window

is a matrix product of the kernel, (o, kc), and the patches of the input, (kc, np). Under ``jax.vmap`` over kernels it
becomes a batch of matrix products; ``lax.conv_general_dilated`` becomes a grouped convolution, which XLA runs slowly on
CPUs. Derivatives follow by the chain rule: those of the patches are shifted sums.

`products` traces a function, puts this product in the place of every convolution of its jaxpr (those inside jit, scan,
cond, remat and custom derivatives too), and evaluates the result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from itertools import product
from math import prod
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun, jaxprs_in_params

from saddlescope.networks.model import Model

LARGEST_WINDOW = 49  # positions: the patches are this much larger than the input


def products(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with its convolutions computed as products of patches and kernels.

    `function` takes and returns pytrees of arrays. Values and derivatives agree to rounding. What stays as it is: a
    function without convolutions, convolutions with windows of more than 49 positions or grouped batches, and rules of
    `jax.custom_jvp` and `jax.custom_vjp`.

    >>> import jax
    >>> def apply(w, x):
    ...     return jax.lax.conv(x, w, (1, 1), "SAME")
    >>> w, x = jax.numpy.ones((4, 1, 3, 3)), jax.numpy.ones((2, 1, 8, 8))
    >>> products(apply)(w, x).shape
    (2, 4, 8, 8)
    """

    @wraps(function)
    def with_products(*args: Any) -> Any:
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        if not convolves(traced.jaxpr):
            return function(*args)
        leaves = jaxpr_as_fun(rewritten(traced))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)

    return with_products


def of_model(model: Model) -> Model:
    """The same model, with products for convolutions in its functions of parameters and inputs."""
    functions = {"apply": model.apply, "features": model.features}
    changed = copy.copy(model)
    vars(changed).update({name: products(function) for name, function in functions.items() if function})
    return changed


def convolves(jaxpr: Jaxpr) -> bool:
    """Whether a jaxpr holds a convolution that `products` replaces, at any depth."""
    return any(_replaced(eqn) or any(map(convolves, jaxprs_in_params(eqn.params))) for eqn in jaxpr.eqns)


def rewritten(part: Any) -> Any:
    """A jaxpr, open or closed, or a tuple of them, with products for convolutions; anything else as it is."""
    if isinstance(part, tuple):
        return tuple(rewritten(p) for p in part) if any(isinstance(p, ClosedJaxpr | Jaxpr) for p in part) else part
    if isinstance(part, ClosedJaxpr):
        return part.replace(jaxpr=rewritten(part.jaxpr))
    if isinstance(part, Jaxpr) and convolves(part):
        return part.replace(eqns=[_rewritten_equation(eqn) for eqn in part.eqns])
    return part


def _rewritten_equation(eqn: JaxprEqn) -> JaxprEqn:
    """A convolution as the call of its product; any other equation with its inner jaxprs rewritten."""
    if _replaced(eqn):
        x, w = (jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars)
        call = jax.make_jaxpr(jax.jit(lambda x, w: _product(x, w, **eqn.params)))(x, w).eqns[0]
        return call.replace(invars=eqn.invars, outvars=eqn.outvars)
    return eqn.replace(params={name: rewritten(value) for name, value in eqn.params.items()})


def _replaced(eqn: JaxprEqn) -> bool:
    if eqn.primitive.name != "conv_general_dilated" or eqn.params["batch_group_count"] != 1:
        return False
    window = [eqn.invars[1].aval.shape[a] for a in eqn.params["dimension_numbers"].rhs_spec[2:]]
    return prod(window) <= LARGEST_WINDOW and eqn.outvars[0].aval.size > 0


def _product(
    x: jax.Array, w: jax.Array, dimension_numbers: Any, feature_group_count: int, **settings: Any
) -> jax.Array:
    """The convolution, from the parameters of its primitive; np, the long axis of the product, is last."""
    of_x, of_w, of_y = dimension_numbers
    x = x.transpose(of_x[1], of_x[0], *of_x[2:])
    w = w.transpose(of_w[0], *of_w[2:], of_w[1])
    outputs, *window, inputs = w.shape
    gaps = [(low, high, d - 1) for (low, high), d in zip(settings["padding"], settings["lhs_dilation"], strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *gaps])
    patches = _patches(x, window, settings["window_strides"], settings["rhs_dilation"])
    groups, positions = feature_group_count, patches[0].shape[1:]
    patches = [patch.reshape(groups, inputs, *positions) for patch in patches]
    y = lax.dot_general(
        w.reshape(groups, outputs // groups, -1),
        jnp.stack(patches, 1).reshape(groups, len(patches) * inputs, -1),
        (((2,), (1,)), ((0,), (0,))),
        precision=settings["precision"],
        preferred_element_type=settings["preferred_element_type"],
    ).reshape(outputs, *positions)
    axes = (of_y[1], of_y[0], *of_y[2:])
    return y.transpose([axes.index(a) for a in range(y.ndim)])


def _patches(x: jax.Array, window: list[int], strides: tuple[int, ...], dilation: tuple[int, ...]) -> list[jax.Array]:
    """x[c, n, s·p + d·k] as an array over c, n, p for each position k in the window."""
    found = []
    for position in product(*map(range, window)):
        start = [k * d for k, d in zip(position, dilation, strict=True)]
        left = [(size - 1 - k) * d for size, k, d in zip(window, position, dilation, strict=True)]
        stop = [size - rest for size, rest in zip(x.shape[2:], left, strict=True)]
        found.append(lax.slice(x, (0, 0, *start), (*x.shape[:2], *stop), (1, 1, *strides)))
    return found
