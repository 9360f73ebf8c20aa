"""Ensembles that differ in numbers alone share their programs; values are those of programs compiled for one alone."""

from dataclasses import replace
from itertools import product

import jax
import numpy as np
import pytest

import saddlescope as sc
from saddlescope.engines.jax import cache, programs
from saddlescope.engines.jax.ensemble import Ensemble
from saddlescope.engines.jax.numbers_of_models import form_of
from saddlescope.observe import Balance, Modes, NoiseRate
from support import waves

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 2))
DATA = sc.Examples(X, Y, label_noise=0.5, X_test=X[:3], Y_test=Y[:3])


def init(key):
    return jax.tree.map(lambda leaf: 0.5 * leaf, waves(key, {"w1": (4, 3), "w2": (2, 4)}))


def apply(params, x):
    return jax.nn.relu(x @ params["w1"].T) @ params["w2"].T


def square(params):
    return (params["w1"] ** 2).sum()


MODEL = sc.Model(apply, init)
PAIR = sc.Pair(lower=("w1", 0), upper=("w2", 1))
SEEN = (NoiseRate("square", square), Modes(count=1), Balance(PAIR), sc.observe.TestLoss())
POINTS = [(0.1, 0.02, 0.5, 1e-2), (0.05, 0.02, 0.5, 1e-2), (0.1, 0.04, 0.2, 1e-2), (0.07, 0.01, 0.9, 0.3)]
"""η, T, σ, γ; the last differs from the first in all."""

KINDS = {
    "langevin": lambda lr, T, decay: sc.Langevin(lr, temperature=T, dt=lr / 2, weight_decay=decay),
    "order 2": lambda lr, T, decay: sc.Langevin(lr, temperature=T, order=2, noise="isotropic", weight_decay=decay),
    "samples": lambda lr, T, decay: sc.Langevin(lr, temperature=T, samples=12, weight_decay=decay),
    "momentum": lambda lr, T, decay: sc.SGD(lr, 4, sampling="shuffle", momentum=1 - 5 * T, weight_decay=decay),
    "schedule": lambda lr, T, decay: sc.SGD(lr, 4, weight_decay=decay, schedule=sc.schedules.Step(2, 1 - 5 * T)),
    "adam": lambda lr, T, decay: sc.Adam(lr, 4, betas=(1 - 5 * T, 1 - T), eps=T, weight_decay=decay),
    "adamw": lambda lr, T, decay: sc.AdamW(lr, 4, betas=(1 - 5 * T, 1 - T), weight_decay=decay),
    "flow": lambda lr, T, decay: sc.GradientFlow(lr, weight_decay=decay),
}
CASES = [*product(KINDS, ["float64"]), ("langevin", "float32"), ("adam", "float32")]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    for module in (programs, cache):
        monkeypatch.setattr(module, "_KEPT", [])


def made(method, data=DATA, dtype="float64", seen=SEEN) -> Ensemble:
    return Ensemble(sc.Problem(MODEL, data), method, sc.Plan(steps=6, trajectories=3, observe=seen, dtype=dtype))


def at(point, kind, dtype="float64") -> Ensemble:
    lr, temperature, noise, decay = point
    return made(KINDS[kind](lr, temperature, decay), replace(DATA, label_noise=noise), dtype)


def found(engine: Ensemble) -> dict[str, np.ndarray]:
    """Leaves and observables after six steps, in two pieces."""
    state = engine.advance(engine.advance(engine.init(), 2), 6)
    return engine.observe(state) | {f"leaf {at}": leaf for at, leaf in enumerate(engine.weights(state))}


def compiled(engine: Ensemble) -> list[int]:
    """How often each program was compiled."""
    kept = engine._programs
    used = kept.flow._compiled if engine.step.continuous else kept.walk
    return [program._cache_size() for program in (kept.start, used, kept.see)]


@pytest.mark.parametrize("kind, dtype", CASES)
def test_numbers_share_one_program_to_the_bit(monkeypatch, kind, dtype):
    """Each number changes the values, and each program is compiled once; a point alone has the same values."""
    shared = [found(at(point, kind, dtype)) for point in POINTS]
    assert len(programs._KEPT) == len(cache._KEPT) + (kind == "flow") == 1
    assert compiled(at(POINTS[0], kind, dtype)) == [1, 1, 1]
    for values in shared[1:]:
        assert np.isfinite(values["loss"]).all() and (values["loss"] != shared[0]["loss"]).all()
    monkeypatch.setattr(programs, "_KEPT", [])
    alone = found(at(POINTS[-1], kind, dtype))
    assert alone.keys() == shared[-1].keys()
    for name, values in alone.items():
        np.testing.assert_array_equal(values, shared[-1][name], err_msg=name)


def test_kinds_do_not_share():
    """A number that is 0, another sampling, batch, order, noise, dtype, and a schedule have programs of their own."""
    sgd, langevin = sc.SGD(0.1, 4), sc.Langevin(0.1, 4)
    zeros = [
        made(sc.SGD(0.1, 4, momentum=momentum, weight_decay=decay), replace(DATA, label_noise=noise))
        for momentum, decay, noise in product((0.0, 0.5), (0.0, 0.1), (0.0, 0.3))
    ]
    methods = [
        replace(sgd, batch_size=5),
        replace(sgd, sampling="without"),
        replace(sgd, schedule=sc.schedules.Cosine(9)),
        sc.Adam(0.1, 4),
        sc.AdamW(0.1, 4, weight_decay=0.0),
        sc.GD(0.1),
        langevin,
        replace(langevin, order=2),
        replace(langevin, noise="isotropic"),
        replace(langevin, samples=6),
        sc.GradientFlow(0.1),
    ]
    others = [made(sgd, dtype="float32"), made(sgd, seen=SEEN[:1])]
    engines = [*zeros, *map(made, methods), *others]
    assert len({id(engine._programs) for engine in engines}) == len(engines)


def test_zeros_are_no_arguments():
    """A program at 0 has no operation of that number."""
    leaves = tuple(np.zeros(leaf.shape) for leaf in MODEL.leaves)

    def products(method):
        engine = made(method, seen=())
        with jax.enable_x64(True):
            words = jax.random.key_data(jax.random.key(0))

            def moved(table, numbers):
                member = engine._programs.member(table, numbers)
                return member.moved((leaves, member.begun(leaves)[0], (), 0), words, 0, 1.0)

            return str(jax.make_jaxpr(moved)(engine.table, engine._numbers)).count(" mul ")

    for kind in ({"weight_decay": 0.1}, {"momentum": 0.1}):
        assert products(sc.SGD(0.1, 4, **kind)) == len(leaves) + products(sc.SGD(0.1, 4))


def test_data_that_differ_in_label_noise_alone_share():
    """Other samples, held-out samples or kinds of data do not, even with equal label noise."""
    first = made(sc.SGD(0.1, 4))
    assert made(sc.SGD(0.2, 4), replace(DATA, label_noise=0.1))._programs is first._programs
    assert made(sc.SGD(0.1, 4), sc.Examples(X.copy(), Y, 0.5, None, X[:3], Y[:3]))._programs is first._programs
    moved = X.copy()
    moved[3, 1] += 1e-9
    for other in (
        replace(DATA, X=moved),
        replace(DATA, Y=Y + 1.0),
        replace(DATA, X_test=X[1:4]),
        replace(DATA, X=X[:11], Y=Y[:11]),
        sc.Dataset(X, Y, 0.5, X[:3], Y[:3]),
    ):
        assert made(sc.SGD(0.1, 4), other)._programs is not first._programs


def test_observations_see_the_numbers_of_their_run():
    """Noise rates are proportional to T, the balance follows its identity with the run's own η and γ."""
    hot, cold = (made(sc.Langevin(0.1, temperature=T, dt=0.02)) for T in (0.03, 0.01))
    assert hot._programs is cold._programs
    warm, cool = (engine.observe(engine.init()) for engine in (hot, cold))
    for name in ("square_noise", "mode_noise", "balance_noise"):
        np.testing.assert_allclose(warm[name], 3 * cool[name], rtol=1e-13)
    np.testing.assert_allclose(warm["balance_gradient"], cool["balance_gradient"], rtol=1e-13)
    for lr, decay in ((0.02, 0.1), (0.05, 0.4)):
        values = found(made(sc.SGD(lr, 4, weight_decay=decay)))
        np.testing.assert_allclose(values["imbalance"], values["imbalance_identity"], rtol=1e-12)
    assert len(programs._KEPT) == 2


def test_a_form_holds_no_number():
    step = made(sc.Langevin(0.1, 4, weight_decay=0.2)).step
    form = form_of(step)
    assert (form.lr, form.dt, form.temperature, form.decay, form.momentum) == (np.inf,) * 4 + (0,)
    assert (form.method.lr, form.method.batch_size, form.data.label_noise) == (np.inf,) * 3
    assert form.data.X is step.data.X and step.method.lr == 0.1
