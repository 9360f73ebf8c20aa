"""Update rules of a Model, against optax."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import saddlescope as sc
from saddlescope import _jax
from saddlescope.engines.jax import rules
from saddlescope.engines.jax.numbers_of_models import Numbers
from saddlescope.engines.step import decode
from saddlescope.schedules import Cosine, Warmup
from support import waves

UNOPTIMISED = True
STEPS = 40
SCHEDULE = Warmup(5, Cosine(30, 0.1))


@pytest.fixture(autouse=True)
def _double():
    with _jax.precision("float64"):
        yield


def init(key):
    leaves = waves(key, {"v": (3, 2), "w": (4,)})
    return {"v": leaves["v"], "w": [leaves["w"], jnp.ones(())]}


def apply(params, x):
    return x * params["w"][1]


MODEL = sc.Model(apply, init)
PROBLEM = sc.Problem(MODEL, sc.Examples(np.ones((4, 1)), np.zeros((4, 1))))


def chain(*parts):
    return lambda lr: optax.chain(*parts, optax.scale_by_learning_rate(lr))


DECAY = optax.add_decayed_weights
RULES = {
    "gd": (sc.GD(0.1), chain(optax.identity())),
    "sgd, decay": (sc.SGD(0.1, 2, weight_decay=0.3), chain(DECAY(0.3))),
    "heavy ball, decay": (sc.SGD(0.1, 2, weight_decay=0.3, momentum=0.8), None),
    "adam": (sc.Adam(0.1, 2), optax.adam),
    "adam, decay": (
        sc.Adam(0.1, 2, betas=(0.7, 0.95), eps=1e-3, weight_decay=0.3),
        chain(DECAY(0.3), optax.scale_by_adam(0.7, 0.95, 1e-3)),
    ),
    "adamw": (sc.AdamW(0.1, 2, weight_decay=0.3), lambda lr: optax.adamw(lr, weight_decay=0.3)),
    "adam, no memory": (sc.Adam(0.1, 2, betas=(0.0, 0.0)), lambda lr: optax.adam(lr, 0.0, 0.0)),
}


def gradients(dtype="float64"):
    """A gradient of every step, like the params."""
    rng, params = np.random.default_rng(1), MODEL.init(jax.random.key(0))
    draw = lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), dtype)  # noqa: E731
    return [jax.tree.map(draw, params) for _ in range(STEPS)]


def ours(method, dtype="float64", start=None):
    """Leaves after every step."""
    step = decode(PROBLEM, method, sc.Plan(steps=STEPS, dtype=dtype))
    rule, params = (
        rules.rule(method, Numbers.of(step)),
        jax.tree.map(lambda leaf: leaf.astype(dtype), MODEL.init(jax.random.key(0))),
    )
    state, path = rule.start(params), []
    assert isinstance(state, tuple) and all(isinstance(leaf, jax.Array) for leaf in state)
    update = jax.jit(rule.update)
    for number, gradient in enumerate(gradients(dtype)):
        params, state = update(params, gradient, state, jnp.int32(number), jnp.asarray(step.factor(number), dtype))
        path.append(jax.tree.leaves(params))
    return path


def theirs(make, rate):
    """The same by optax."""
    optimizer, params = make(rate), MODEL.init(jax.random.key(0))
    state, path, update = optimizer.init(params), [], jax.jit(optimizer.update)
    for gradient in gradients():
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(jax.tree.leaves(params))
    return path


def apart(first, second) -> float:
    return max(
        float(jnp.abs(a - b).max()) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)
    )


def schedule_of(method):
    if method.schedule is None:
        return method.lr
    table = jnp.asarray(method.lr * method.schedule.at(np.arange(STEPS)))
    return lambda count: table[count]


def heavy_ball(rate):
    """The heavy ball with the lr inside the velocity: gradients are scaled first, then traced."""
    scaled = optax.scale_by_learning_rate(rate)
    return optax.chain(DECAY(0.3), scaled, optax.trace(0.8))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("schedule", [None, SCHEDULE], ids=["constant", "schedule"])
def test_rules_are_those_of_optax(name, schedule):
    method, make = RULES[name]
    method = replace(method, schedule=schedule)
    assert apart(ours(method), theirs(make or heavy_ball, schedule_of(method))) < 1e-13


def test_weight_decay_inside_and_apart_differ():
    inside, decoupled = (
        ours(method) for method in (sc.Adam(0.1, 2, weight_decay=0.3), sc.AdamW(0.1, 2, weight_decay=0.3))
    )
    assert apart(inside, decoupled) > 1e-2
    assert apart(ours(sc.Adam(0.1, 2)), ours(sc.AdamW(0.1, 2, weight_decay=0.0))) == 0


@pytest.mark.parametrize("name", ["adam", "adamw", "heavy ball, decay"])
def test_single_precision_follows_double(name):
    single, double = ours(RULES[name][0], "float32"), ours(RULES[name][0])
    assert all(leaf.dtype == jnp.float32 for leaf in single[-1])
    assert apart([[a.astype("float64") for a in x] for x in single], double) < 2e-5


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate():
    """``m̂/√v̂`` is the sign of the first gradient; in single precision too, where ``1 − 0.999`` cancels."""
    for dtype, tolerance in (("float64", 1e-13), ("float32", 3e-7)):
        first = ours(sc.Adam(0.1, 2, eps=1e-30), dtype)[0]
        start = jax.tree.leaves(MODEL.init(jax.random.key(0)))
        sign = [jnp.sign(g) for g in jax.tree.leaves(gradients(dtype)[0])]
        for a, b, g in zip(first, start, sign, strict=True):
            assert jnp.abs((a - b) + 0.1 * g).max() < 10 * tolerance
