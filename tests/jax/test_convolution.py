"""Convolutions as products, against `lax.conv_general_dilated` in double precision."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.extend.core import jaxprs_in_params

import saddlescope as sc
from saddlescope.engines.jax.convolution import of_model, products

UNOPTIMISED = True
CASES = {
    "plain": {"x": (3, 8, 8, 2), "w": (3, 3, 2, 5)},
    "no padding": {"x": (3, 8, 8, 2), "w": (3, 2, 2, 5), "padding": "VALID"},
    "strides": {"x": (2, 9, 7, 3), "w": (3, 3, 3, 4), "window_strides": (2, 3)},
    "uneven padding": {"x": (2, 7, 5, 2), "w": (3, 2, 2, 3), "padding": ((2, 0), (1, 3)), "window_strides": (2, 1)},
    "negative padding": {"x": (2, 9, 9, 1), "w": (3, 3, 1, 3), "padding": ((-1, -2), (0, -1))},
    "dilated kernel": {"x": (2, 9, 9, 2), "w": (3, 3, 2, 3), "rhs_dilation": (2, 3)},
    "dilated input": {"x": (2, 5, 4, 2), "w": (3, 3, 2, 3), "padding": ((1, 2), (2, 1)), "lhs_dilation": (2, 3)},
    "all at once": {
        "x": (2, 6, 7, 4),
        "w": (2, 3, 2, 6),
        "padding": ((3, 1), (2, 2)),
        "window_strides": (2, 1),
        "lhs_dilation": (1, 2),
        "rhs_dilation": (2, 1),
        "feature_group_count": 2,
    },
    "one by one": {"x": (4, 3, 3, 2), "w": (1, 1, 2, 3), "window_strides": (2, 2)},
    "window of the whole input": {"x": (3, 4, 4, 2), "w": (4, 4, 2, 3), "padding": "VALID"},
    "one feature, one output": {"x": (1, 5, 5, 1), "w": (3, 3, 1, 1)},
    "groups": {"x": (2, 6, 6, 6), "w": (3, 3, 2, 9), "feature_group_count": 3},
    "depthwise": {"x": (2, 6, 6, 4), "w": (3, 3, 1, 4), "feature_group_count": 4},
    "features first": {"x": (2, 3, 6, 5), "w": (4, 3, 3, 2), "layout": ("NCHW", "OIHW", "NCHW")},
    "mixed layout": {"x": (6, 2, 5, 3), "w": (3, 4, 2, 3), "layout": ("HNWC", "WOHI", "CWHN")},
    "one dimension": {"x": (3, 9, 2), "w": (4, 2, 3), "layout": ("NWC", "WIO", "NWC"), "window_strides": (2,)},
    "three dimensions": {
        "x": (1, 4, 3, 5, 2),
        "w": (2, 2, 3, 2, 2),
        "layout": ("NDHWC", "DHWIO", "NDHWC"),
        "window_strides": (1, 2, 1),
    },
    "no dimension": {"x": (3, 4), "w": (4, 2), "padding": (), "layout": ("NC", "IO", "NC"), "window_strides": ()},
}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def random(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.standard_normal(shape)) for shape in shapes)


def conv(x, w, layout=("NHWC", "HWIO", "NHWC"), window_strides=(1, 1), padding="SAME", **rest):
    return lax.conv_general_dilated(x, w, window_strides, padding, dimension_numbers=layout, **rest)


def names(function, *args):
    """Names of all primitives of a function, at any depth."""

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            yield eqn.primitive.name
            for inner in jaxprs_in_params(eqn.params):
                yield from walk(inner)

    return set(walk(jax.make_jaxpr(function)(*args).jaxpr))


def close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), a, b)


@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives(case):
    """Value, forward and reverse derivatives, of members with different kernels."""
    settings = dict(CASES[case])
    shapes = settings.pop("x"), settings.pop("w")

    def plain(x, w):
        return conv(x, w, **settings)

    def everything(f):
        def of(x, w, dx, dw, dy):
            y, transpose = jax.vjp(f, x, w)
            return y, jax.jvp(f, (x, w), (dx, dw))[1], transpose(dy)

        return jax.vmap(of, (None, 0, None, None, None))

    x, dx, dw, w = random(1, shapes[0], *shapes, (2, *shapes[1]))
    args = x, w, dx, dw, *random(2, jax.eval_shape(plain, x, w[0]).shape)
    functions = everything(products(plain)), everything(plain)
    close(*jax.jit(lambda *args: tuple(f(*args) for f in functions))(*args))
    assert not any("conv_general" in name for name in names(functions[0], *args))
    assert products(plain)(x, w[0]).shape == plain(x, w[0]).shape


def nested(x, w):
    """A convolution inside each of the primitives that hold functions."""
    x = jax.jit(lambda x: conv(x, w))(x)
    x = jax.checkpoint(lambda x: jnp.tanh(conv(x, w)))(x)
    x = lax.scan(lambda x, _: (jnp.sin(conv(x, w)), x.sum()), x, None, length=2)[0]
    x = lax.cond(x.sum() > 0, lambda x: conv(x, w), lambda x: 2 * x, x)
    x = lax.fori_loop(0, 2, lambda _, x: jnp.cos(conv(x, w)), x)
    return jax.nn.relu(jax.vmap(lambda x: conv(x[None], w)[0])(x))


def test_inside_other_primitives():
    """jit, remat, scan, cond, a loop, vmap."""
    x, w = random(3, (2, 5, 5, 3), (3, 3, 3, 3))
    w = w / 5

    def value(f):
        return jax.jit(jax.value_and_grad(lambda x, w: (f(x, w) ** 2).sum(), (0, 1)))

    close(value(products(nested))(x, w), value(nested)(x, w))
    assert "conv_general_dilated" in names(nested, x, w)
    assert "conv_general_dilated" not in names(jax.grad(lambda w: products(nested)(x, w).sum()), w)


def test_custom_derivatives_keep_their_rule():
    """A rule that is not the derivative stays in force."""

    @jax.custom_vjp
    def f(x, w):
        return conv(x, w)

    f.defvjp(lambda x, w: (f(x, w), x), lambda x, dy: (7 * x, jnp.ones((3, 3, 2, 2))))

    @jax.custom_jvp
    def g(x, w):
        return conv(x, w)

    g.defjvp(lambda primals, tangents: (g(*primals), 5 * tangents[0]))
    x, w = random(4, (2, 5, 5, 2), (3, 3, 2, 2))
    close(products(f)(x, w), f(x, w))
    close(jax.grad(lambda x: products(f)(x, w).sum())(x), 7 * x)
    close(jax.jvp(products(g), (x, w), (x, w)), (g(x, w), 5 * x))
    assert "conv_general_dilated" not in names(products(f), x, w) | names(products(g), x, w)


def test_pytrees_and_types():
    """Trees in and out; float32 stays float32, and a wider result that was asked for stays."""

    def apply(params, x):
        y = lax.conv(x, params["w"], (1, 1), "SAME", preferred_element_type=params["b"].dtype)
        return {"y": y + params["b"][:, None, None], "x": x}

    x, w, b = random(5, (2, 3, 4, 4), (4, 3, 3, 3), (4,))
    for dtype in (np.float32, np.float64):
        params = {"w": w.astype(np.float32), "b": b.astype(dtype)}
        got, plain = (f(params, x.astype(np.float32)) for f in (products(apply), apply))
        assert {k: v.dtype for k, v in got.items()} == {k: v.dtype for k, v in plain.items()}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, plain)


def test_what_is_left_as_it_is():
    """No convolution, a large window, a grouped batch: the same jaxpr."""
    dense, large, grouped = (
        lambda x, w: jnp.tanh(x @ w),
        lambda x, w: conv(x, w),
        lambda x, w: conv(x, w, batch_group_count=2),
    )
    for f, shapes in (
        (dense, ((3, 4), (4, 2))),
        (large, ((2, 12, 12, 1), (8, 8, 1, 2))),
        (grouped, ((2, 5, 5, 3), (3, 3, 3, 4))),
    ):
        args = random(6, *shapes)
        assert str(jax.make_jaxpr(products(f))(*args)) == str(jax.make_jaxpr(f)(*args))


@pytest.mark.parametrize("library", ["equinox", "flax"])
def test_networks_of_libraries(library):
    """Layers of equinox and flax, gradients of members with different weights."""
    (x,) = random(7, (4, 6, 6, 2))
    if library == "equinox":
        eqx = pytest.importorskip("equinox")
        net = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(6, 4, 3, padding=1, key=jax.random.key(0)),
                eqx.nn.Lambda(jax.nn.gelu),
                eqx.nn.ConvTranspose2d(4, 2, 3, stride=2, key=jax.random.key(1)),
                eqx.nn.Conv2d(2, 4, 3, groups=2, dilation=2, key=jax.random.key(2)),
            ]
        )
        params, static = eqx.partition(net, eqx.is_inexact_array)

        def apply(params, x):
            return jax.vmap(eqx.combine(params, static))(x)
    else:
        nnx = pytest.importorskip("flax.nnx")
        net = nnx.Sequential(
            nnx.Conv(2, 4, (3, 3), rngs=nnx.Rngs(0)),
            jax.nn.relu,
            nnx.Conv(4, 4, (3, 3), strides=2, feature_group_count=2, padding="CIRCULAR", rngs=nnx.Rngs(1)),
            nnx.ConvTranspose(4, 3, (2, 2), strides=(2, 2), rngs=nnx.Rngs(2)),
        )
        graph, params = nnx.split(net)

        def apply(params, x):
            return nnx.merge(graph, params)(x)

    def gradients(f):
        members = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
        return jax.jit(jax.vmap(jax.grad(lambda p: jnp.sin(f(p, x)).sum())))(members)

    close(gradients(products(apply)), gradients(apply))
    assert "conv_general_dilated" in names(apply, params, x)
    assert "conv_general_dilated" not in names(products(apply), params, x)


def test_model():
    """The engine's model: the same losses, without convolutions; the reader's model stays."""
    model = sc.Model(
        lambda params, x: conv(x, params["w"]).mean((1, 2)), lambda key: {"w": jax.random.normal(key, (3, 3, 1, 2))}
    )
    x, y = random(8, (5, 6, 6, 1), (5, 2))
    params, changed = model.init(jax.random.key(0)), of_model(model)
    close(changed.losses(params, x, y), model.losses(params, x, y))
    assert "conv_general_dilated" in names(model.losses, params, x, y)
    assert "conv_general_dilated" not in names(changed.losses, params, x, y)
