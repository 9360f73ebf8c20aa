"""Rescaling pairs: the loss itself is the oracle, which must not change when the members of a pair are rescaled."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import saddlescope as sc
from saddlescope import _jax
from saddlescope.networks.rescaling import Pair, Pairs, check, find_pairs, form
from support import waves

UNOPTIMISED = True
RNG = np.random.default_rng(0)
VECTORS = sc.Examples(RNG.normal(size=(40, 5)), RNG.normal(size=(40, 3)))
IMAGES = sc.Examples(RNG.normal(size=(20, 8, 8, 1)), RNG.integers(0, 10, 20))
SEQUENCES = sc.Examples(RNG.normal(size=(30, 5, 8)), RNG.normal(size=(30, 2)))


def model_of(shapes, apply, loss="squared"):
    """A Model with these leaves: zero biases, gains of 1, other weights without pattern."""

    def init(key):
        start = {"b": jnp.zeros_like, "g": jnp.ones_like}
        return {name: start.get(name[0], lambda leaf: 0.4 * leaf)(leaf) for name, leaf in waves(key, shapes).items()}

    return sc.Model(apply, init, loss)


def layers(phi, widths=(5, 7, 6, 3), bias=True):
    shapes = {}
    for l in range(1, len(widths)):
        shapes |= {f"w{l}": (widths[l], widths[l - 1])} | ({f"b{l}": (widths[l],)} if bias else {})

    def apply(p, x):
        for l in range(1, len(widths)):
            x = (phi(x) if l > 1 else x) @ p[f"w{l}"].T + (p[f"b{l}"] if bias else 0)
        return x

    return model_of(shapes, apply)


def convolutions(phi):
    shapes = {"c1": (3, 3, 1, 4), "b1": (4,), "c2": (3, 3, 4, 6), "b2": (6,), "w": (2 * 2 * 6, 10), "bw": (10,)}

    def apply(p, x):
        for l in "12":
            dims = ("NHWC", "HWIO", "NHWC")
            x = phi(jax.lax.conv_general_dilated(x, p[f"c{l}"], (2, 2), "SAME", dimension_numbers=dims) + p[f"b{l}"])
        return x.reshape(len(x), -1) @ p["w"] + p["bw"]

    return model_of(shapes, apply, "cross_entropy")


def attention(d=8, h=2, k=3):
    """One layer with a LayerNorm before it, heads and their dimensions on axes of their own."""
    shapes = dict.fromkeys(("wq", "wk", "wv"), (d, h, k)) | {"wo": (h, k, d), "wout": (2, d)}
    shapes |= dict.fromkeys(("bq", "bk", "bv"), (h, k)) | {"gain": (d,), "bias": (d,)}

    def apply(p, x):
        z = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["gain"] + p["bias"]
        q, keys, v = (jnp.einsum("bid,dhk->bihk", z, p[f"w{name}"]) + p[f"b{name}"] for name in "qkv")
        seen = jax.nn.softmax(jnp.einsum("bihk,bjhk->bhij", q, keys) / k**0.5, -1)
        y = x + jnp.einsum("bhij,bjhk,hkd->bid", seen, v, p["wo"])
        return jax.nn.gelu(y).mean(1) @ p["wout"].T

    return model_of(shapes, apply)


def rescaled(params, row, unit, epsilon):
    """Params with unit j of every member A times ``e^{ε c_A}``."""
    params = {name: np.array(leaf) for name, leaf in params.items()}
    for (name, axes, *read), c in row:
        view = params[name].reshape(read[0] if read else params[name].shape)
        indices = np.unravel_index(unit, [view.shape[axis] for axis in axes]) if axes else ()
        where = [slice(None)] * view.ndim
        for axis, index in zip(axes, indices, strict=True):
            where[axis] = index
        view[tuple(where)] *= np.exp(epsilon * c)
    return params


def change(model, data, row, units):
    """Largest relative change of the losses when each of some units is rescaled by ε = 0.7 (a bias is not zero)."""
    with _jax.precision("float64"):
        params = {leaf.name: RNG.normal(size=leaf.shape) * 0.5 for leaf in model.leaves}
        losses = jax.jit(lambda p: model.losses(p, jnp.asarray(data.X[:8]), jnp.asarray(data.Y[:8])))
        before = losses(params)
        after = [losses(rescaled(params, row, unit, 0.7)) for unit in units]
        return max(float(abs(one / before - 1).max()) for one in after)


def sides(pairs):
    return {(pair.lower, pair.upper) for pair in pairs}


def test_relu_layers_with_biases():
    model = layers(jax.nn.relu)
    pairs = model.find_pairs(VECTORS)
    assert sides(pairs) == {
        ((("b1", (0,)), ("w1", (0,))), (("w2", (1,)),)),
        ((("b2", (0,)), ("w2", (0,))), (("w3", (1,)),)),
    }
    assert not pairs.scale_free and [pair.name for pair in pairs] == ["b1+w1~w2", "b2+w2~w3"]
    assert all(change(model, VECTORS, pair.members, range(6)) < 1e-13 for pair in pairs)


@pytest.mark.parametrize("phi", [jnp.tanh, jax.nn.gelu, lambda z: jax.nn.relu(z) + 1e-3 * jnp.sin(z)])
def test_without_symmetry_there_is_no_pair(phi):
    model = layers(phi)
    assert model.find_pairs(VECTORS) == () and not model.find_pairs(VECTORS).scale_free
    wrong = Pair(lower=(("b1", 0), ("w1", 0)), upper=("w2", 1))
    assert change(model, VECTORS, wrong.members, range(7)) > 1e-5
    with pytest.raises(ValueError, match=r"the pair b1\+w1~w2 must keep the loss .* differ by"):
        check(model, VECTORS, [wrong])


def test_a_bias_belongs_to_its_side():
    model = layers(jax.nn.relu)
    check(model, VECTORS, [Pair(lower=(("w1", 0), ("b1", 0)), upper=("w2", 1))])
    with pytest.raises(ValueError, match="the pair w1~w2 must keep the loss"):
        check(model, VECTORS, [Pair(lower=("w1", 0), upper=("w2", 1))])


def test_linear_layers_of_one_width():
    model = layers(lambda z: z, (5, 5, 5, 3), bias=False)
    assert sides(model.find_pairs(VECTORS)) == {
        ((("w1", (0,)),), (("w2", (1,)),)),
        ((("w2", (0,)),), (("w3", (1,)),)),
    }


def test_coefficients_of_a_squared_layer():
    model = layers(jnp.square, (5, 7, 3), bias=False)
    (pair,) = model.find_pairs(VECTORS)
    assert pair == Pair(lower=("w1", 0), upper=("w2", 1), coefficients=(1, 2))
    assert change(model, VECTORS, pair.members, range(7)) < 1e-13
    with pytest.raises(ValueError, match="the pair w1~w2 must keep the loss"):
        check(model, VECTORS, [Pair(lower=("w1", 0), upper=("w2", 1))])


def test_channels_with_biases_and_through_a_flatten():
    model = convolutions(jax.nn.relu)
    pairs = model.find_pairs(IMAGES)
    assert sides(pairs) == {
        ((("b1", (0,)), ("c1", (3,))), (("c2", (2,)),)),
        ((("b2", (0,)), ("c2", (3,))), (("w", (1,), (4, 6, 10)),)),
    }
    assert all(change(model, IMAGES, pair.members, range(4)) < 1e-12 for pair in pairs)
    assert find_pairs(convolutions(jax.nn.gelu), IMAGES) == ()


def test_attention_heads_gain_and_key_bias():
    model = attention()
    pairs = model.find_pairs(SEQUENCES)
    assert sides(pairs) == {
        ((("bq", (0, 1)), ("wq", (1, 2))), (("wk", (1, 2)),)),
        ((("bv", (0, 1)), ("wv", (1, 2))), (("wo", (0, 1)),)),
        ((("bias", (0,)), ("gain", (0,))), (("wk", (0,)), ("wq", (0,)), ("wv", (0,)))),
    }
    assert pairs.scale_free == ((("bk", (0, 1)),),)
    units = {pair.name: pair.units({leaf.name: leaf.shape for leaf in model.leaves}) for pair in pairs}
    assert sorted(units.values()) == [6, 6, 8]


def test_weights_before_a_normalisation_are_scale_free():
    def apply(p, x):
        z = x @ p["w1"].T + p["b1"]
        return jnp.tanh((z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True)) @ p["w2"].T

    model = model_of({"w1": (7, 5), "b1": (7,), "w2": (3, 7)}, apply)
    pairs = model.find_pairs(VECTORS)
    assert pairs == () and pairs.scale_free == ((("b1", ()), ("w1", ())),)
    assert repr(pairs) == "no rescaling pair\nscale-free: b1+w1"
    row = [(member, 1.0) for member in pairs.scale_free[0]]
    assert change(model, VECTORS, row, [0]) < 1e-12


def test_factors_of_one_product():
    def apply(p, x):
        return x @ (p["u"] * p["v"] * p["w"])

    shape = (5, 3)
    pairs = model_of(dict.fromkeys("uvw", shape), apply).find_pairs(VECTORS)
    assert sides(pairs) == {((("u", (0, 1)),), (("w", (0, 1)),)), ((("v", (0, 1)),), (("w", (0, 1)),))}


def test_form_is_the_sum_over_each_unit():
    array = RNG.normal(size=(2, 3, 4))
    assert np.array_equal(form(("a", (2, 0)), array), np.einsum("ijk->ki", array).ravel())
    assert np.allclose(form(("a", (-1,), (6, 2, 2)), array), array.reshape(6, 2, 2).sum(axis=(0, 1)))
    assert np.allclose(form(("a", ()), array), [array.sum()])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"lower": "w1", "upper": ("w2", 1)}, "a side of a Pair must be a leaf with an axis, got 'w1'"),
        ({"lower": ("w1", 0.5), "upper": ("w2", 1)}, "a side of a Pair must be a leaf with an axis"),
        ({"lower": (), "upper": ("w2", 1)}, "a side of a Pair must be a leaf with an axis"),
        ({"lower": ("w1", 0), "upper": ("w2", 1), "coefficients": (1,)}, "coefficients must be 2 numbers"),
        ({"lower": ("w1", 0), "upper": ("w2", 1), "coefficients": (1, -1)}, "coefficients must be greater than 0"),
    ],
)
def test_pairs_that_cannot_be_read(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Pair(**arguments)


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (Pair(("w9", 0), ("w2", 1)), "names the leaf 'w9', which the model does not have"),
        (Pair(("w1", 2), ("w2", 1)), r"must name distinct axes of w1 \(7, 5\), got \(2,\)"),
        (Pair(("w1", 1), ("w2", 1)), "must have as many units, got"),
        (Pair(("w1", 0), ("w2", 1, (5, 5))), r"must read w2 in a shape with as many entries as \(6, 7\)"),
    ],
)
def test_pairs_that_do_not_fit(pair, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(layers(jax.nn.relu), VECTORS, [pair])


def test_pairs_are_a_tuple_that_keeps_the_rest():
    import pickle

    pairs = Pairs([Pair(("w1", 0), ("w2", 1))], [(("b", (0,)),)])
    again = pickle.loads(pickle.dumps(pairs))
    assert again == pairs and again.scale_free == pairs.scale_free
    assert repr(pairs).splitlines()[-1] == "scale-free: b"
