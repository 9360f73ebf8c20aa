"""Networks of the reader's own, attacked: data that change under one model, odd leaves and labels, fingerprints."""

import functools
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import saddlescope as sc
from saddlescope._functions import described

UNOPTIMISED = True


def linear(params, x):
    return x @ params["w"].T


def init(key):
    return {"w": 0.5 * jax.random.normal(key, (2, 3))}


RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 3))
Y = RNG.standard_normal((8, 2))


def test_modes_are_those_of_their_own_data():
    """One model on two data sets of the same size: the directions are those of each."""
    model = sc.Model(linear, init)
    plan = sc.Plan(steps=1, trajectories=2, observe=[sc.observe.Modes()], dtype="float64", keep="weights")
    for targets in (X @ RNG.standard_normal((3, 2)), X @ RNG.standard_normal((3, 2))):
        run = sc.simulate(sc.Problem(model, sc.Examples(X, targets)), sc.GD(lr=0.05), plan)
        modes = sc.Dataset(X, targets).modes
        product = run["w"].values[0, -1] @ (X.T @ X) / len(X)
        expected = np.einsum("ia,ij,ja->a", modes.left, product, modes.right)
        assert run.mode_strength.values[0, -1] == pytest.approx(expected, rel=1e-12)


def test_leaves_without_entries_and_python_numbers():
    """A leaf of size 0 and a float in place of an array are leaves like others."""

    def apply(params, x):
        return params["s"] * (x @ params["w"].T)

    model = sc.Model(apply, lambda key: {"w": jnp.ones((2, 3)), "none": jnp.zeros((0, 4)), "s": 2.0})
    plan = sc.Plan(steps=1, trajectories=3, dtype="float64", keep="weights")
    run = sc.simulate(sc.Problem(model, sc.Examples(X, Y)), sc.GD(lr=0.1), plan)
    error = 2 * X @ np.ones((3, 2)) - Y
    assert run["s"].values[2, 1] == pytest.approx(2 - 0.1 * (error * (X @ np.ones((3, 2)))).sum() / len(X), rel=1e-12)
    assert run["w"].values[2, 1] == pytest.approx(1 - 0.1 * 2 * error.T @ X / len(X), rel=1e-12)
    assert run["none"].shape == (3, 2, 0, 4)


@pytest.mark.parametrize(
    ("outputs", "labels", "words"),
    [
        (lambda x: x, [0, 1, 3, 0, 1, 2, 0, 1], "a logit for each of the 4 classes of Y, got 3"),
        (lambda x: x[:, 0], [0, 1, 1, 0, 1, 1, 0, 1], "logits with a last axis of classes"),
        (lambda x: x, [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0], "logits with a last axis of classes"),
        (lambda x: x, [[2, 1, 0]] * 8, "one axis more than Y of classes"),
    ],
)
def test_classes_without_a_logit_are_refused(outputs, labels, words):
    """The cross entropy of such labels would be NaN, or over the wrong axis."""
    model = sc.Model(lambda p, x: p["a"] * outputs(x), lambda key: {"a": jnp.ones(())}, loss="cross_entropy")
    with pytest.raises(ValueError, match=words):
        sc.Problem(model, sc.Examples(X, labels))


class Net:
    """A callable that says nothing of itself."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, params, x):
        return self.scale * x

    def apply(self, params, x):
        return self.scale * x


def scaled(factor):
    def decorate(function):
        @functools.wraps(function)
        def wrapped(params, x):
            return factor * function(params, x)

        return wrapped

    return decorate


def of(table):
    return lambda params, x: table["a"][0] * x


LONG = np.arange(2000.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Net(2.0), Net(3.0)),
        (Net(2.0).apply, Net(3.0).apply),
        (scaled(2.0)(linear), scaled(3.0)(linear)),
        (jax.vmap(linear, in_axes=(None, 0)), jax.vmap(linear, in_axes=(None, 1))),
        (of({"a": LONG}), of({"a": np.where(LONG == 1000, 7.0, LONG)})),
        (of({"a": linear}), of({"a": init})),
        (lambda p, x: x.reshape(-1, 1, 28), lambda p, x: x.reshape(-1, 12, 8)),
    ],
)
def test_fingerprints_tell_functions_apart(one, other):
    """A store of one function is not resumed with the other."""
    assert described(one) != described(other)
    assert described(one) == described(one)


def test_fingerprints_do_not_depend_on_the_process():
    """Constants in a set have another order in every process."""
    text = """
from saddlescope._functions import described
print(described(lambda p, x: x in {"alpha", "beta", "gamma", "delta"}))
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", text], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1


FACTOR = 1.0


def test_a_global_may_change_after_many_programs(monkeypatch):
    """The programs that are kept do not ask for the fingerprint of a model again."""
    from saddlescope.engines.jax import kept, programs

    def apply(params, x):
        return FACTOR * linear(params, x)

    monkeypatch.setattr(programs, "_KEPT", [])
    monkeypatch.setattr(kept, "MOST", 1)
    problem = sc.Problem(sc.Model(apply, init), sc.Examples(X, Y))
    for factor in (1.0, 2.0):
        monkeypatch.setattr(sys.modules[__name__], "FACTOR", factor)
        sc.simulate(problem, sc.GD(lr=0.1 * factor), sc.Plan(steps=1, trajectories=2))
    assert len(programs._KEPT) == 1


def test_an_attribute_is_no_global(monkeypatch):
    """``x.T`` does not depend on a temperature T beside it; a run in memory can be continued after T has changed."""
    before = described(linear)
    monkeypatch.setattr(sys.modules[__name__], "T", 0.1, raising=False)
    assert described(linear) == before
