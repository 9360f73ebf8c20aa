"""Loss, accuracy and spectra of Models: the observables of DeepLinear and NumPy are the oracles."""

import numpy as np
import pytest
from jax import numpy as jnp

import saddlescope as sc
from saddlescope import observables, observe
from saddlescope.engines.jax.ensemble import Ensemble
from saddlescope.observe import rank, values
from support import waves

UNOPTIMISED = True
RNG = np.random.default_rng(0)
X, M = RNG.normal(size=(30, 3)), RNG.normal(size=(3, 2))
DATA = sc.Dataset(X, X @ M + RNG.normal(size=(30, 2)), label_noise=0.5).split(test=10)
SHAPES = {"w1": (6, 3), "w2": (2, 6)}


def init(key):
    return waves(key, SHAPES)


def hidden(params, x):
    return x @ params["w1"].T


LINEAR = sc.Model(lambda params, x: hidden(params, x) @ params["w2"].T, init, features=hidden)


def seen(model, data, observations, method=None, steps=0, trajectories=3):
    """Observed values and weights of an ensemble after some steps, in double precision."""
    plan = sc.Plan(steps=max(steps, 1), trajectories=trajectories, observe=observations, dtype="float64")
    engine = Ensemble(sc.Problem(model, data), method or sc.SGD(lr=0.05, batch_size=4), plan)
    state = engine.init()
    state = engine.advance(state, steps) if steps else state
    return engine.observe(state), engine.weights(state)


@pytest.fixture(scope="module")
def linear():
    """All observations of the linear Model after three steps."""
    observations = [
        observe.TestLoss(),
        observe.SingularValues("w1"),
        observe.SingularValues("w2"),
        observe.EffectiveRank("w1"),
        observe.LogDet("w1", "w2"),
        observe.FeatureRank(),
    ]
    return seen(LINEAR, DATA, observations, steps=3)


def test_a_linear_model_shows_what_deep_linear_shows(linear):
    found, weights = linear
    network = sc.DeepLinear((3, 6, 2))
    layers = observables.layer_singular_values(network, weights)
    assert np.allclose(found["singular_values_w1"], layers[:, 0], rtol=1e-13, atol=0)
    assert np.allclose(found["singular_values_w2"], layers[:, 1, :2], rtol=1e-13, atol=0)
    assert np.allclose(found["effective_rank_w1"], observables.rank_of(layers[:, 0]), rtol=1e-13, atol=0)
    assert np.allclose(found["log_det_w1_w2"], network.log_det(weights)[:, 0], rtol=1e-12, atol=1e-13)
    assert np.allclose(found["test_loss"], observables.held_out_loss(DATA, weights), rtol=1e-13, atol=0)


def test_feature_rank_is_that_of_centred_features(linear):
    found, (w1, _) = linear
    features = np.einsum("ni,mhi->mnh", DATA.X, w1)
    centred = np.stack([np.linalg.svd(one - one.mean(axis=0), compute_uv=False) for one in features])
    raw = np.linalg.svd(features, compute_uv=False)
    assert np.allclose(found["feature_rank"], observables.rank_of(centred), rtol=1e-10)
    assert not np.allclose(found["feature_rank"], observables.rank_of(raw), rtol=1e-4)


def test_rows_of_a_kernel():
    kernel = RNG.normal(size=(3, 3, 4, 8))
    model = sc.Model(lambda params, x: x @ params["conv"].sum((0, 1)), lambda key: {"conv": jnp.asarray(kernel)})
    data = sc.Examples(RNG.normal(size=(5, 4)), RNG.normal(size=(5, 8)))
    observations = [observe.EffectiveRank("conv", axis=-1), observe.SingularValues("conv", axis=(2, 3))]
    found, _ = seen(model, data, observations, trajectories=2)
    rows = np.moveaxis(kernel, 3, 0).reshape(8, -1)
    by_hand = observables.rank_of(np.linalg.svd(rows, compute_uv=False)[None])
    assert np.allclose(found["effective_rank_conv"], by_hand, rtol=1e-6)  # the kernel itself is given in float32
    assert found["singular_values_conv"].shape == (2, 9)
    assert np.allclose(
        found["singular_values_conv"][0], np.linalg.svd(kernel.reshape(9, 32), compute_uv=False), rtol=1e-6
    )


def test_accuracy_by_hand():
    classes = RNG.integers(0, 2, 30)
    data = sc.Examples(X, classes).split(test=10)
    model = sc.Model(LINEAR.apply, init, "cross_entropy")
    found, weights = seen(model, data, [observe.Accuracy(), observe.TestLoss()])

    def outputs(x):
        return np.einsum("mkh,mhi,ni->mnk", weights[1], weights[0], x)

    assert np.allclose(found["accuracy"], (outputs(data.X).argmax(2) == data.Y).mean(1), rtol=1e-14)
    assert np.allclose(found["test_accuracy"], (outputs(data.X_test).argmax(2) == data.Y_test).mean(1), rtol=1e-14)
    logits = outputs(data.X_test)
    chosen = np.take_along_axis(logits, data.Y_test[None, :, None], 2)[..., 0]
    by_hand = (np.log(np.exp(logits).sum(2)) - chosen).mean(1)
    assert np.allclose(found["test_loss"], by_hand, rtol=1e-12)


def test_classes_as_vectors_and_nan():
    outputs = jnp.array([[1.0, 2.0], [3.0, 0.0], [jnp.nan, 0.0]])
    right = values.correct(outputs, jnp.array([[0.1, 0.9], [0.2, 0.8], [1.0, 0.0]]))
    assert np.array_equal(right, [1.0, 0.0, np.nan], equal_nan=True)


def test_collapsed_and_lost_weights():
    zero, lost = jnp.zeros((3, 2)), jnp.full((3, 2), jnp.nan)
    assert float(rank.effective_rank(rank.singular_values(zero))) == 0.0
    assert np.isnan(rank.singular_values(lost)).all() and np.isnan(rank.effective_rank(rank.singular_values(lost)))
    data = sc.Examples(X, X @ M)
    kinds = [
        observe.SingularValues("w1"),
        observe.LogDet("w1", "w2"),
        observe.EffectiveRank("w2"),
        observe.FeatureRank(),
    ]
    far, _ = seen(LINEAR, data, kinds, sc.GD(lr=1e6), steps=30, trajectories=2)
    assert all(np.isnan(one).all() for one in far.values())
    nothing = sc.Model(LINEAR.apply, lambda key: {n: jnp.zeros(s) for n, s in SHAPES.items()}, features=hidden)
    found, _ = seen(nothing, data, kinds, trajectories=2)
    assert (found["log_det_w1_w2"] == -np.inf).all() and (found["effective_rank_w2"] == 0).all()
    assert (found["singular_values_w1"] == 0).all() and (found["feature_rank"] == 0).all()


def test_a_narrow_layer_has_no_determinant():
    one = observe.LogDet(lower=("w1", 0), upper=("w2", 1))
    narrow = {"w1": (4, 3), "w2": (2, 4)}
    model = sc.Model(LINEAR.apply, lambda key: {name: jnp.ones(shape) for name, shape in narrow.items()})
    assert one.variables(model, DATA)["log_det_w1_w2"].note == "4 units are fewer than the 5 columns of Θ"
    assert one.variables(LINEAR, DATA)["log_det_w1_w2"].note == ""
    found, _ = seen(model, DATA, [one], trajectories=2)
    assert np.isnan(found["log_det_w1_w2"]).all()


@pytest.mark.parametrize(
    ("observation", "data", "sentence"),
    [
        (observe.TestLoss(), sc.Examples(X, X @ M), "TestLoss needs samples held out"),
        (observe.Accuracy(), sc.Examples(X, X @ M[:, :1]), "Accuracy needs outputs with a last axis of classes"),
        (observe.SingularValues("w3"), DATA, "leaf must be one of 'w1', 'w2', got 'w3'"),
        (observe.EffectiveRank("w1", axis=2), DATA, r"EffectiveRank needs an axis of w1 \(6, 3\), got \(2,\)"),
        (observe.LogDet("w2", "w1"), DATA, "LogDet needs sides that count the same units, got w2: 2, w1: 3"),
    ],
)
def test_what_cannot_be_observed(observation, data, sentence):
    with pytest.raises(ValueError, match=sentence):
        observation.check(LINEAR, data)


def test_features_are_asked_for():
    with pytest.raises(ValueError, match="FeatureRank needs the features of the Model"):
        observe.FeatureRank().check(sc.Model(LINEAR.apply, init), DATA)


def test_plans_are_read_again_from_a_store(tmp_path):
    observations = [observe.LogDet("w1", "w2"), observe.EffectiveRank("w1", axis=(1,)), observe.TestLoss()]
    plan = sc.Plan(steps=2, trajectories=2, observe=observations)
    sc.simulate(sc.Problem(LINEAR, DATA), sc.GD(lr=0.01), plan, out=tmp_path / "run.zarr")
    assert sc.read(tmp_path / "run.zarr")[2] == plan
