"""A Model in ``simulate``: one labelled run like any other, and what a store keeps of functions."""

import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import saddlescope as sc
from saddlescope.engines.jax import programs
from saddlescope.engines.jax.ensemble import Ensemble
from saddlescope.engines.jax.layout import Layout
from support import waves

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 3))
DATA = sc.Examples(X, X @ RNG.normal(size=(3, 2)), label_noise=0.5)


def init(key):
    return jax.tree.map(lambda leaf: 0.3 * leaf, waves(key, {"w1": (6, 3), "w2": (2, 6)}))


def apply(params, x):
    return jax.nn.relu(x @ params["w1"].T) @ params["w2"].T


MODEL = sc.Model(apply, init)
PROBLEM = sc.Problem(MODEL, DATA)
SGD = sc.SGD(lr=2e-2, batch_size=8)
PLAN = sc.Plan(steps=40, trajectories=5, saves=4, seed=3, keep="weights")


@pytest.fixture(scope="module")
def run():
    return sc.simulate(PROBLEM, SGD, PLAN)


def initial(member: int) -> dict[str, np.ndarray]:
    """Initial weights of a member of the ensemble of seed 3: its key is folded from seed, purpose and member."""
    with jax.enable_x64(True):
        key = jax.random.key(0)
        for number in (3, 0, 0, member, 0):  # seed and its upper bits, purpose, member and its upper bits
            key = jax.random.fold_in(key, number)
        return {name: np.asarray(leaf) for name, leaf in init(key).items()}


def test_a_run_has_its_dims_and_its_loss(run):
    assert dict(run.w1.sizes) == {"trajectory": 5, "time": 5, "w1_0": 6, "w1_1": 3}
    w1, w2 = run.w1.values, run.w2.values
    hidden = np.maximum(np.einsum("ntij,sj->ntsi", w1, DATA.X), 0)
    outputs = np.einsum("ntki,ntsi->ntsk", w2, hidden)
    loss = 0.5 * ((outputs - DATA.Y) ** 2).sum(axis=3).mean(axis=2) + 0.5 * 2 * 0.5**2
    np.testing.assert_allclose(run.loss.values, loss, rtol=1e-12)
    assert run.attrs["engine"] == "jax" and run.attrs["complete"] == 1
    assert (run.status == 0).all()


def test_initial_weights_are_those_of_init(run):
    for member in (0, 4):
        np.testing.assert_allclose(run.w1.values[member, 0], initial(member)["w1"], rtol=1e-15)


@pytest.mark.parametrize("chunk, devices", [(2, 1), (2, 2), (3, 2), (16, 1)])
def test_bits_do_not_depend_on_chunks_or_devices(run, chunk, devices):
    if len(jax.devices()) < devices:
        pytest.skip("JAX had started with one device")
    engine = Ensemble(PROBLEM, SGD, PLAN)
    engine.arrange(Layout(PLAN.count, jax.devices()[:devices], chunk))
    state = engine.advance(engine.init(), PLAN.steps)
    np.testing.assert_array_equal(state.weights[0], run.w1.values[:, -1])


def test_bits_do_not_depend_on_members_or_saves(run):
    alone = sc.simulate(PROBLEM, SGD, sc.Plan(steps=40, members=[3], saves=7, seed=3, keep="weights"))
    np.testing.assert_array_equal(alone.w1.values[0, -1], run.w1.values[3, -1])


def test_one_compilation_for_any_saves():
    programs._KEPT.clear()
    for seed, steps in ((3, (1, 2, 5, 30, 31, 40)), (4, (17, 40, 90))):
        engine = Ensemble(PROBLEM, SGD, sc.Plan(steps=90, trajectories=5, seed=seed))
        state = engine.init()
        for step in steps:
            state = engine.advance(state, step)
        assert engine.compilations == 1


def test_extended_is_the_same_run(run):
    longer = sc.Plan(steps=60, trajectories=5, saves=6, seed=3, keep="weights")
    extended, whole = sc.simulate(run, plan=longer), sc.simulate(PROBLEM, SGD, longer)
    np.testing.assert_array_equal(extended.w1.values, whole.w1.values)
    np.testing.assert_array_equal(extended.loss.values, whole.loss.values)


def test_continued_by_another_method_starts_at_the_last_weights(run):
    plan = sc.Plan(steps=4, trajectories=5, saves=2, seed=3, keep="weights")
    on = sc.simulate(run, sc.GD(lr=1e-2), plan)
    np.testing.assert_array_equal(on.w1.values[:, 0], run.w1.values[:, -1])


def test_statistics_by_default_and_trajectories_agree(run):
    plan = sc.Plan(steps=40, trajectories=5, saves=4, seed=3)
    kept = sc.simulate(PROBLEM, SGD, plan)
    np.testing.assert_allclose(kept.loss.sel(statistic="mean"), run.loss.mean("trajectory"), rtol=1e-13)


def test_single_precision_is_near_double(run):
    plan = sc.Plan(steps=40, trajectories=5, saves=4, seed=3, keep="weights", dtype="float32")
    start = sc.simulate(PROBLEM, SGD, plan)
    assert np.isfinite(start.loss).all() and start.loss.dtype == np.float64
    assert jax.numpy.zeros(1).dtype == np.float32  # 64-bit numbers did not leak


def test_plot_compare_and_weights(run):
    assert isinstance(sc.plot(run), Figure)
    assert sc.compare(run, run).verdict == "agrees"
    np.testing.assert_array_equal(run.saddlescope.weights().w2.values, run.w2.values[:, -1])


# --- stores

SCRIPT = """
import jax, numpy as np, saddlescope as sc
X = np.random.default_rng(0).normal(size=(48, 3))
def init(key):
    return {"w": SCALE * jax.numpy.cos(jax.random.key_data(key)[-1] % 1000 + jax.numpy.arange(6.0)).reshape(2, 3)}
def apply(params, x):
    return jax.nn.relu(x @ params["w"].T)
problem = sc.Problem(sc.Model(apply, init), sc.Examples(X, X[:, :2]))
plan = sc.Plan(steps=30, trajectories=4, saves=3, keep="weights")
"""


def elsewhere(code: str, scale: float = 0.1) -> subprocess.CompletedProcess[str]:
    """The code after SCRIPT, in another process."""
    script = SCRIPT.replace("SCALE", str(scale)) + textwrap.dedent(code)
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)


def test_a_store_is_read_without_the_functions(tmp_path):
    store = str(tmp_path / "run.zarr")
    made = elsewhere(f"sc.simulate(problem, sc.SGD(lr=0.1, batch_size=4), plan, out={store!r})")
    assert made.returncode == 0, made.stderr
    run = sc.load(store)
    assert run.w.shape == (4, 4, 2, 3) and isinstance(sc.plot(run), Figure)
    problem, _, plan = sc.read(store)
    assert plan.steps == 30 and problem.network.leaves[0].name == "w" and "Model(apply=apply" in repr(problem)
    with pytest.raises(ValueError, match="the function apply is not in the store"):
        sc.simulate(run, plan=sc.Plan(steps=60, trajectories=4, keep="weights"))
    longer = "plan = sc.Plan(steps=60, trajectories=4, saves=6, keep='weights')"
    again = f"""
    {longer}
    run = sc.simulate(sc.load({store!r}), plan=plan, out={store!r})
    whole = sc.simulate(problem, sc.SGD(lr=0.1, batch_size=4), plan)
    print(np.array_equal(run.w.values, whole.w.values))
    """
    extended = elsewhere(again)
    assert extended.stdout.strip() == "True", extended.stderr


def test_a_run_killed_midway_is_resumed_by_the_same_call_alone(tmp_path):
    store = str(tmp_path / "run.zarr")
    killed = f"""
    from saddlescope.simulation import loop
    from saddlescope.engines.jax.ensemble import Ensemble
    loop.FIRST_SECONDS = loop.COMMIT_SHARE = loop.COMMIT_COSTS = 0.0
    advance, loop.BLOCK_SECONDS = Ensemble.advance, 1e-9
    def dies(self, state, until, normals=None):
        if state.step >= 12:
            import os; os._exit(9)
        return advance(self, state, until)
    Ensemble.advance = dies
    sc.simulate(problem, sc.SGD(lr=0.1, batch_size=4), plan, out={store!r})
    """
    assert elsewhere(killed).returncode == 9
    assert sc.load(store).attrs["complete"] == 0
    again = f"""
    run = sc.simulate(problem, sc.SGD(lr=0.1, batch_size=4), plan, out={store!r})
    whole = sc.simulate(problem, sc.SGD(lr=0.1, batch_size=4), plan)
    print(np.array_equal(run.w.values, whole.w.values))
    """
    other = elsewhere(again, scale=0.2)
    assert "holds an unfinished run of other settings" in other.stderr
    resumed = elsewhere(again)
    assert resumed.stdout.strip() == "True", resumed.stderr


# --- other frameworks


def test_equinox_and_flax_walk_like_plain_functions():
    import equinox as eqx
    from flax import nnx

    def weights(key):
        return waves(key, {"w": (2, 3)})["w"]

    def of_equinox(key):
        linear = eqx.nn.Linear(3, 2, use_bias=False, key=key)
        return eqx.tree_at(lambda layer: layer.weight, linear, weights(key))

    class Linear(nnx.Module):
        def __init__(self, rngs):
            self.w = nnx.Param(weights(rngs.params.key.get_value() if hasattr(rngs.params, "key") else rngs.params()))

        def __call__(self, x):
            return x @ self.w[...].T

    models = [
        sc.Model(lambda params, x: x @ params["weight"].T, lambda key: {"weight": weights(key)}),
        sc.Model.from_equinox(of_equinox),
        sc.Model.from_nnx(Linear),
    ]
    plan = sc.Plan(steps=10, trajectories=3, saves=2, keep="weights")
    data = sc.Examples(X, X[:, :2])
    runs = [sc.simulate(sc.Problem(model, data), sc.SGD(lr=0.1, batch_size=4), plan) for model in models]
    for run, model in zip(runs[1:], models[1:], strict=True):
        np.testing.assert_allclose(run[model.leaves[0].name].values, runs[0].weight.values, rtol=1e-12)
