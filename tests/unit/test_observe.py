"""Observables that a plan asks for: only then computed, on every engine, in memory and in stores."""

import functools

import numpy as np
import pytest

import saddlescope as sc
from saddlescope import DeepLinear, GaussianData, Problem, init
from saddlescope.engines.reference import Reference
from saddlescope.init import draw
from saddlescope.observables import OBSERVABLES, STANDARD, Observable, held_out_loss
from support import PROBLEMS, dataset

TRACE = Observable((), "y/x", "trace", "Tr P", of=lambda seen: np.trace(seen.maps[0], axis1=1, axis2=2), extra=True)
METHOD = sc.SGD(lr=0.05, batch_size=4)


@pytest.fixture
def _trace(monkeypatch):
    monkeypatch.setitem(OBSERVABLES, "trace", TRACE)


@pytest.mark.usefixtures("_trace")
@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_new_observable_is_one_entry_in_the_table(engine, tmp_path):
    """It is saved with its statistics, stored, read, and extended."""
    plan = sc.Plan(steps=20, trajectories=5, saves=4, observe=("trace",))
    run = sc.simulate(PROBLEMS["wide"], METHOD, plan, engine=engine, out=tmp_path / "run.zarr")
    assert run.trace.dims == ("statistic", "time") and run.trace.attrs["definition"] == "Tr P"
    longer = sc.simulate(run, plan=sc.Plan(steps=40, trajectories=5, saves=4, observe=("trace",)), engine=engine)
    assert longer.trace.sizes["time"] == 7
    kept = sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(20, 5, 4, keep="weights", observe=("trace",)), engine=engine)
    for time in range(5):
        maps = kept.W2.values[:, time] @ kept.W1.values[:, time]
        np.testing.assert_allclose(kept.trace[:, time], np.trace(maps, axis1=1, axis2=2), atol=1e-12)


@pytest.mark.usefixtures("_trace")
def test_what_is_not_asked_for_is_not_computed(monkeypatch):
    def refuse(seen):
        raise AssertionError

    monkeypatch.setitem(OBSERVABLES, "trace", Observable((), "1", "trace", of=refuse, extra=True))
    run = sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2))
    assert "trace" not in run and set(STANDARD) <= set(run)
    with pytest.raises(AssertionError):
        sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2, observe=("trace",)))


def test_a_standard_name_is_there_once():
    engine = Reference(PROBLEMS["wide"], METHOD, sc.Plan(steps=2, observe=("loss",)))
    assert engine.step.observed == STANDARD


def test_the_order_of_names_does_not_matter():
    one, other = (sc.Plan(2, observe=names) for names in (("drift_norm", "mode_matrix"), ["mode_matrix", "drift_norm"]))
    assert one == other and Reference(PROBLEMS["wide"], METHOD, one).step.observed[-2:] == ("mode_matrix", "drift_norm")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"observe = 'los' is unknown; allowed: "):
        sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2, observe=("los",)))


def test_the_extension_of_a_run_observes_the_same():
    run = sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2))
    with pytest.raises(ValueError, match=r"plan\.observe must be that of the run"):
        sc.simulate(run, plan=sc.Plan(steps=4, observe=("loss",)))


# --- the extra observables against their definitions

EXTRA = tuple(name for name, observable in OBSERVABLES.items() if observable.extra)
HELD_OUT = Problem(DeepLinear((4, 5, 3)), dataset(40, 4, 3).split(10), init.Gaussian(scale=0.4))
ASKED = {
    "wide": (PROBLEMS["wide"], EXTRA[:-1]),
    "coloured": (PROBLEMS["coloured"], EXTRA[:-1]),
    "held out": (HELD_OUT, EXTRA),
    "diagonal": (
        Problem(sc.Diagonal(3, 2), GaussianData([[1.5]], [[0.7]], 0.4), init.Gaussian(scale=0.7)),
        EXTRA[:-1],
    ),
}


def observed(name, engine, method=METHOD):
    """A run with all extra observables, and its weights."""
    problem, names = ASKED[name]
    return sc.simulate(problem, method, sc.Plan(12, 3, 3, keep="weights", observe=names), engine=engine)


def layers(run, time):
    """The layers as matrices; of a diagonal network the hidden layers have their weights on the diagonal."""
    found = [run[f"W{l}"].values[:, time] for l in run.layer.values]
    if run.W1.dims[-1] != "input":
        return found
    diagonal = [np.einsum("nj,jk->njk", layer[:, :, 0], np.eye(layer.shape[1])) for layer in found]
    return [diagonal[0].sum(axis=2, keepdims=True), *diagonal[1:-1], diagonal[-1].sum(axis=1, keepdims=True)]


@pytest.mark.parametrize("name", ASKED)
def test_both_engines_observe_the_same(name):
    native, reference = (observed(name, engine) for engine in ("native", "reference"))
    for extra in ASKED[name][1]:
        np.testing.assert_allclose(native[extra], reference[extra], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ASKED)
def test_the_mode_matrix_is_the_map_in_the_basis_of_the_teacher(name):
    run, modes = observed(name, "reference"), ASKED[name][0].data.modes
    maps = functools.reduce(lambda below, above: above @ below, layers(run, 2))
    np.testing.assert_allclose(run.mode_matrix[:, 2], modes.left.T @ maps @ modes.right, atol=1e-12)
    if len(set(modes.strengths)) == len(modes.strengths):
        diagonal = np.diagonal(run.mode_matrix[:, 2], axis1=1, axis2=2)
        np.testing.assert_allclose(run.mode_strength[:, 2], diagonal, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", ASKED)
def test_drift_is_the_slope_of_the_loss(name, decay):
    """In a short time gradient flow lowers loss + ½γ‖θ‖² by time · ‖drift‖²."""
    lr, problem = 1e-6, ASKED[name][0]
    run = sc.simulate(
        problem, sc.GradientFlow(lr, weight_decay=decay), sc.Plan(1, 3, 1, keep="weights", observe=("drift_norm",))
    )
    penalty = sum(0.5 * decay * (run[f"W{l}"].values ** 2).sum(axis=(2, 3)) for l in run.layer.values)
    total = run.loss.values + penalty
    np.testing.assert_allclose((total[:, 0] - total[:, 1]) / lr, run.drift_norm[:, 0] ** 2, rtol=1e-4)


@pytest.mark.parametrize("name", ASKED)
def test_diffusion_is_the_spread_of_a_step(name):
    """The trace of the covariance of a step of SGD, over many trajectories that start together, is dt² T Tr C / lr."""
    problem, lr, n = ASKED[name][0], 1e-2, 40_000
    weights = [layer[0] for layer in draw(problem.init, problem.network, problem.data, 0, [0])]
    start = Problem(problem.network, problem.data, init.Given(weights))
    run = sc.simulate(
        start,
        sc.SGD(lr, 2),
        sc.Plan(1, n, 1, keep="weights", observe=("diffusion_norm", "noise_to_drift", "drift_norm")),
    )
    spread = sum(run[f"W{l}"].values[:, 1].var(axis=0).sum() for l in run.layer.values)
    np.testing.assert_allclose(spread / lr, run.diffusion_norm[0, 0] ** 2, rtol=0.05)
    np.testing.assert_allclose(run.noise_to_drift, run.diffusion_norm / run.drift_norm)


@pytest.mark.parametrize("name", ASKED)
def test_singular_values_of_every_layer(name):
    run = observed(name, "native")
    for l, size in zip(run.layer.values, ASKED[name][0].network.matrices, strict=True):
        layer, found = run[f"W{l}"].values[:, -1], run.layer_singular_values[:, -1, l - 1].values
        matrix = [np.diag(one[:, 0]) for one in layer] if name == "diagonal" else layer
        np.testing.assert_allclose(found[:, : min(size)], np.linalg.svd(matrix, compute_uv=False), atol=1e-12)
        assert np.isnan(found[:, min(size) :]).all()


def test_the_loss_on_held_out_samples():
    run, data = observed("held out", "native"), HELD_OUT.data
    maps = run.W2.values[:, 1] @ run.W1.values[:, 1]
    errors = np.einsum("nij,kj->nki", maps, data.X_test) - data.Y_test
    expected = 0.5 * (errors**2).sum(axis=2).mean(axis=1) + 0.5 * 3 * data.label_noise**2
    np.testing.assert_allclose(run.test_loss[:, 1], expected)
    whole = dataset(40, 4, 3)
    together = np.concatenate([data.X, data.X_test])
    assert sorted(map(tuple, together)) == sorted(map(tuple, whole.X)) and len(data.X_test) == 10


@pytest.mark.parametrize("held", [255, 256, 257, 700])
def test_the_loss_on_many_held_out_samples(held):
    """Samples are processed 256 at a time, so that memory does not grow with their number."""
    data, maps = dataset(held + 5, 4, 3).split(held), np.random.default_rng(2).standard_normal((6, 3, 4))
    errors = np.einsum("nij,kj->nki", maps, data.X_test) - data.Y_test
    expected = 0.5 * (errors**2).sum(axis=2).mean(axis=1) + 0.5 * 3 * data.label_noise**2
    np.testing.assert_allclose(held_out_loss(data, [maps]), expected, rtol=1e-12)


def test_a_test_split_is_needed_for_its_loss():
    with pytest.raises(ValueError, match=r'"test_loss" needs a Dataset with a test split; use Dataset\.split'):
        sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(2, observe=("test_loss",)))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda d: d.split(0), "test must be at least 1 and less than the 40 samples, got 0; leave some"),
        (lambda d: d.split(40), "test must be at least 1 and less than the 40 samples, got 40; leave some"),
        (lambda d: d.split(4, seed=-1), "seed must be at least 0, got -1"),
        (lambda d: d.split(5).split(5), "split the whole data set"),
        (lambda d: sc.Dataset(d.X, d.Y, X_test=d.X), "given together"),
        (lambda d: sc.Dataset(d.X, d.Y, X_test=d.X, Y_test=d.X), "drop or add columns"),
        (lambda d: sc.Dataset(d.X, d.Y, X_test=1e200 * d.X, Y_test=d.Y), "X_test must have columns between"),
        (lambda d: sc.Dataset(d.X, d.Y, X_test=d.X, Y_test=1e200 * d.Y), "Y_test must have columns between"),
    ],
)
def test_wrong_splits_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make(dataset(40, 4, 3))


def test_a_split_data_set_comes_back_from_its_run(tmp_path):
    run = sc.simulate(HELD_OUT, METHOD, sc.Plan(4, observe=EXTRA), out=tmp_path / "run.zarr")
    assert sc.load(tmp_path / "run.zarr").identical(run)
    assert Problem.from_toml(HELD_OUT.to_toml()) == HELD_OUT
