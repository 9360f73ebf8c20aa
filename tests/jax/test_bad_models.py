"""What a Model, its data and its plan must not be: one sentence each, with the fix."""

import builtins

import jax
import numpy as np
import pytest

import saddlescope as sc
from saddlescope import _jax
from saddlescope.engines.jax.ensemble import Ensemble
from support import waves

UNOPTIMISED = True
X, Y = np.arange(12.0).reshape(6, 2), np.ones((6, 3))
DATA = sc.Examples(X, Y)


def init(key):
    return waves(key, {"w": (3, 2)})


def apply(params, x):
    return x @ params["w"].T


MODEL = sc.Model(apply, init)


def of_batch_norm(rngs):
    from flax import nnx

    return nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs))


def of_dropout(rngs):
    from flax import nnx

    return nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))


def of_stateful_equinox(key):
    import equinox as eqx

    return eqx.nn.Sequential([eqx.nn.Linear(2, 3, key=key), eqx.nn.BatchNorm(3, "batch", mode="batch")])


CASES = {
    "apply is not a function": (lambda: sc.Model(3, init), TypeError, "apply must be a function, got 3"),
    "an unknown loss": (lambda: sc.Model(apply, init, "hinge"), ValueError, "cross_entropy"),
    "whole parameters": (
        lambda: sc.Model(apply, lambda key: {"w": np.ones((3, 2), np.int32)}),
        TypeError,
        "floating arrays, got int32 in 'w'",
    ),
    "no parameters": (lambda: sc.Model(apply, lambda key: {}), ValueError, "got none"),
    "an init that fails": (lambda: sc.Model(apply, lambda key: key.nothing), ValueError, "init(key) raised Attr"),
    "outputs of another shape": (
        lambda: sc.Problem(sc.Model(lambda p, x: x, init), DATA),
        ValueError,
        "must return the shape of Y for the squared loss, (2, 3), got (2, 2)",
    ),
    "outputs without samples": (
        lambda: sc.Problem(sc.Model(lambda p, x: p["w"], init), DATA),
        ValueError,
        "a row for each sample, got the shape (3, 2)",
    ),
    "several outputs": (lambda: sc.Problem(sc.Model(lambda p, x: (x, x), init), DATA), ValueError, "got tuple"),
    "an apply that fails": (
        lambda: sc.Problem(sc.Model(lambda p, x: x @ p["w"], init), DATA),
        ValueError,
        "apply(params, x) raised TypeError",
    ),
    "a loss of the batch": (
        lambda: sc.Problem(sc.Model(apply, init, lambda f, y: ((f - y) ** 2).mean()), DATA),
        ValueError,
        "one number a sample, shape (2,), got (); do not take the mean",
    ),
    "logits that do not fit": (
        lambda: sc.Problem(sc.Model(apply, init, "cross_entropy"), sc.Examples(X, np.ones((6, 4)))),
        ValueError,
        "logits with a last axis of classes",
    ),
    "label noise for a cross entropy": (
        lambda: sc.Problem(sc.Model(apply, init, "cross_entropy"), sc.Examples(X, Y / 3, label_noise=0.1)),
        ValueError,
        "label_noise is for the squared loss",
    ),
    "flipped labels for a squared loss": (
        lambda: sc.Problem(MODEL, sc.Examples(X, [0, 1, 2, 0, 1, 2], labels=sc.labels.Flips(0.1))),
        ValueError,
        'labels.Flips is for loss = "cross_entropy"',
    ),
    "Gaussian data": (lambda: sc.Problem(MODEL, sc.GaussianData(np.ones((3, 2)))), TypeError, "data must be Examples"),
    "an init beside the model's": (
        lambda: sc.Problem(MODEL, DATA, sc.init.Gaussian(scale=0.1)),
        ValueError,
        "init must be left out for a Model",
    ),
    "Examples for a linear network": (
        lambda: sc.Problem(sc.DeepLinear((2, 3)), DATA, sc.init.Gaussian(scale=0.1)),
        TypeError,
        "got Examples; use Dataset(X, Y)",
    ),
    "aligned noise": (
        lambda: sc.simulate(sc.Problem(MODEL, DATA), sc.Langevin(0.1, 2, noise="aligned"), sc.Plan(steps=1)),
        ValueError,
        "a Model does not have; use noise",
    ),
    "the compiled engine": (
        lambda: sc.simulate(sc.Problem(MODEL, DATA), sc.GD(0.1), sc.Plan(steps=1), engine="native"),
        ValueError,
        'engine must be "auto" or "jax" for a Model',
    ),
    "a name to observe": (
        lambda: sc.simulate(sc.Problem(MODEL, DATA), sc.GD(0.1), sc.Plan(steps=1, observe=["test_loss"])),
        TypeError,
        "observe must list parts such as observe.Accuracy()",
    ),
    "a part observed of a linear network": (
        lambda: sc.simulate(
            sc.Problem(sc.DeepLinear((2, 3)), sc.Dataset(X, Y), sc.init.Gaussian(scale=0.1)),
            sc.GD(0.1),
            sc.Plan(steps=1, observe=[sc.observe.TestLoss()]),
        ),
        TypeError,
        "observe must list names for a linear network",
    ),
    "BatchNorm of Flax": (lambda: sc.Model.from_nnx(of_batch_norm), ValueError, "leave out BatchNorm and Dropout"),
    "Dropout of Flax": (lambda: sc.Model.from_nnx(of_dropout), ValueError, "leave out BatchNorm and Dropout"),
    "state of Equinox": (lambda: sc.Model.from_equinox(of_stateful_equinox), ValueError, "module without state"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_model_is_refused_in_one_sentence(name):
    call, kind, words = CASES[name]
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert words in message and "\n" not in message and len(message) < 500


def test_nan_at_the_first_step_is_a_status():
    data = sc.Examples(X, 1e30 * Y)
    with pytest.warns(UserWarning, match="diverged: 2 of 2 trajectories, the first at step 1"):
        run = sc.simulate(sc.Problem(MODEL, data), sc.GD(lr=1e9), sc.Plan(steps=3, trajectories=2, dtype="float32"))
    assert (run.status == 1).all()


def test_a_full_device_keeps_finished_blocks(tmp_path, monkeypatch):
    path, advance = tmp_path / "run.zarr", Ensemble.advance

    def full(self, state, until, normals=None):
        if state.step >= 4:
            from saddlescope.engines.jax.ensemble import _in_words

            with _in_words():
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        return advance(self, state, min(until, 4))

    plan = sc.Plan(steps=8, trajectories=2, saves=4)
    monkeypatch.setattr(Ensemble, "advance", full)
    with pytest.raises(MemoryError, match=r"halve trajectories, .* the store holds the run up to step 4"):
        sc.simulate(sc.Problem(MODEL, DATA), sc.GD(lr=1e-3), plan, out=path)
    monkeypatch.undo()
    run = sc.simulate(sc.Problem(MODEL, DATA), sc.GD(lr=1e-3), plan, out=path)
    whole = sc.simulate(sc.Problem(MODEL, DATA), sc.GD(lr=1e-3), plan)
    np.testing.assert_array_equal(run.loss.values, whole.loss.values)


def test_without_jax_there_is_a_sentence(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **named):
        if name == "jax":
            raise ImportError(name)
        return real(name, *arguments, **named)

    _jax.load.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'saddlescope\[jax\]'"):
        sc.Model(apply, init)


def test_arrays_that_a_model_closes_over_are_not_rounded():
    inside, outside = (np.random.default_rng(seed).normal(size=(3, 2)) for seed in (5, 6))
    models = [
        sc.Model(lambda p, x: p["s"] * (x @ jax.numpy.asarray(inside).T), lambda key: {"s": jax.numpy.ones(())}),
        sc.Model(lambda p, x: p["s"] * (x @ outside.T), lambda key: {"s": jax.numpy.ones(())}),
    ]
    for model, constant in zip(models, (inside, outside), strict=True):
        run = sc.simulate(sc.Problem(model, DATA), sc.GD(lr=1e-3), sc.Plan(steps=1, trajectories=2))
        expected = 0.5 * ((X @ constant.T - Y) ** 2).sum(axis=1).mean()
        np.testing.assert_allclose(run.loss.sel(statistic="mean")[0], expected, rtol=1e-14)


def test_constants_of_another_precision_are_refused_in_words():
    wave = np.random.default_rng(7).normal(size=(3, 2))
    model = sc.Model(lambda p, x: p["s"] * (x @ jax.numpy.sin(wave).T), lambda key: {"s": jax.numpy.ones(())})
    with pytest.raises(ValueError, match=r"convert it in apply by jnp.asarray\(array, x.dtype\)"):
        sc.simulate(sc.Problem(model, DATA), sc.GD(lr=1e-3), sc.Plan(steps=1, trajectories=2, dtype="float32"))
