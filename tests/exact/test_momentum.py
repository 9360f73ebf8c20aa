"""The heavy ball ``p ← μp − ηg``, ``θ ← θ + p``: its steps, what they keep exactly, and that μ = 0 is none of it."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.engines.reference import Reference
from saddlescope.networks import diagonal
from saddlescope.schedules import Step, Warmup
from saddlescope.simulation import estimate
from saddlescope.theory import heavy_ball
from support import ENGINES, PROBLEMS, dataset, engine_class, largest

MU, LR, DECAY = 0.8, 0.02, 0.3
DATA = dataset(12, 4, 3)
CHAINS = sc.Problem(sc.Diagonal(3, 4), sc.GaussianData([[1.5]], [[0.7]], 0.4), sc.init.Gaussian(scale=0.7))
SAMPLES = sc.Problem(sc.DeepLinear((4, 6, 3)), DATA, sc.init.Gaussian(scale=0.4))
CASES = {
    "gd": (PROBLEMS["coloured"], sc.GD(LR, momentum=MU)),
    "sgd 2": (PROBLEMS["deep"], sc.SGD(LR, 2, momentum=MU)),
    "sgd 64, decay": (PROBLEMS["rank 2"], sc.SGD(LR, 64, momentum=MU, weight_decay=DECAY)),
    "samples, one by one": (SAMPLES, sc.SGD(LR, 1, momentum=MU)),
    "samples without replacement": (SAMPLES, sc.SGD(LR, 5, "without", momentum=MU, weight_decay=DECAY)),
    "epochs": (SAMPLES, sc.SGD(LR, 5, "shuffle", momentum=MU)),
    "full batches": (SAMPLES, sc.SGD(LR, sampling="full", momentum=MU)),
    "gd on samples": (SAMPLES, sc.GD(LR, momentum=MU, weight_decay=DECAY)),
    "chains": (CHAINS, sc.SGD(LR, 2, momentum=MU, weight_decay=DECAY)),
    "chains, warm-up": (CHAINS, sc.SGD(LR, 3, momentum=MU, schedule=Warmup(7))),
    "steps": (PROBLEMS["wide"], sc.SGD(LR, 4, momentum=MU, weight_decay=DECAY, schedule=Step(4, 0.5))),
}


@pytest.fixture(params=ENGINES)
def engine(request):
    return engine_class(request.param)


def neighbours(state, problem):
    """Balances of every pair of neighbouring layers; of a diagonal network of every chain."""
    layers, velocity = state.weights, state.velocity
    if isinstance(problem.network, sc.Diagonal):
        layers, velocity = ([one[:, :, :, None] for one in both] for both in (layers, velocity))
    pairs = zip(layers[:-1], layers[1:], velocity[:-1], velocity[1:], strict=True)
    return [heavy_ball.balance(*pair) for pair in pairs]


def worst(engine, problem, method, momentum=MU, decay=None, steps=15):
    """Largest error of the identity of a step, of Q and of C, in units of the largest weight's square."""
    run = engine(problem, method, sc.Plan(steps=steps, trajectories=4, seed=5))
    state, errors = run.init(), []
    for step in range(steps):
        after = run.advance(state, step + 1)
        lr, unit = float(method.lr_at(step)), largest(after.weights).max()
        decay_used = method.weight_decay if decay is None else decay
        for old, new in zip(neighbours(state, problem), neighbours(after, problem), strict=True):
            q, c = heavy_ball.step(old, new.velocity, momentum, lr, decay_used)
            errors += [np.abs(q - new.weights).max() / unit, np.abs(c - new.mixed).max() / unit]
        state = after
    return max(errors)


@pytest.mark.parametrize("name", CASES)
def test_the_identity_of_a_step_is_exact(engine, name):
    assert worst(engine, *CASES[name]) < 1e-14


@pytest.mark.parametrize("name", ["sgd 2", "gd on samples", "chains"])
def test_near_rivals_are_not(engine, name):
    """No momentum in the identity, another one, or no weight decay."""
    problem, method = CASES[name]
    assert worst(engine, problem, method, momentum=0.0) > 1e-5
    assert worst(engine, problem, method, momentum=MU + 0.01) > 1e-7
    if method.weight_decay:
        assert worst(engine, problem, method, decay=0.0) > 1e-6


@pytest.mark.parametrize("problem", [PROBLEMS["coloured"], PROBLEMS["regression"], SAMPLES], ids=["3", "1", "data"])
def test_steps_are_those_of_the_formula(engine, problem):
    """Gradient descent with momentum, written out from the gradient that a step of plain gradient descent shows."""
    noiseless = problem.data
    if noiseless.samples:
        noiseless = sc.Dataset(noiseless.X, noiseless.Y)
    problem = sc.Problem(problem.network, noiseless, problem.init)
    run = engine(problem, sc.GD(LR, momentum=MU, weight_decay=DECAY), sc.Plan(steps=12, trajectories=2))
    plain = Reference(problem, sc.GD(1.0, weight_decay=DECAY), sc.Plan(steps=12, trajectories=2))
    state = plain.init()
    weights, velocity = state.weights, [np.zeros_like(layer) for layer in state.weights]
    for _ in range(12):
        moved = plain.advance(with_weights(state, weights), 1).weights
        gradients = [w - m for w, m in zip(weights, moved, strict=True)]
        velocity = [MU * p - LR * g for p, g in zip(velocity, gradients, strict=True)]
        weights = tuple(w + p for w, p in zip(weights, velocity, strict=True))
    end = run.advance(run.init(), 12)
    for got, expected in zip(end.weights, weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-13)
    for got, expected in zip(end.velocity, velocity, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-13)


def with_weights(state, weights):
    return type(state)(**{**vars(state), "weights": weights})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_momentum_is_no_momentum(engine, dtype):
    plan = sc.Plan(steps=20, trajectories=5, dtype=dtype)
    for problem, method in (
        (PROBLEMS["deep"], sc.SGD(LR, 2)),
        (SAMPLES, sc.SGD(LR, 3, "shuffle")),
        (CHAINS, sc.GD(LR)),
    ):
        bare, zero = (engine(problem, one, plan) for one in (method, with_momentum(method, 0.0)))
        first, second = (run.advance(run.init(), 20) for run in (bare, zero))
        assert not second.velocity and first.to_bytes() == second.to_bytes()


def with_momentum(method, momentum):
    return type(method)(**{**vars(method), "momentum": momentum})


def test_another_method_starts_at_rest():
    """Also the same method with another momentum, which continues a run at its last weights."""
    run = sc.simulate(PROBLEMS["wide"], sc.SGD(LR, 4, momentum=MU), sc.Plan(steps=20, keep="weights"))
    still = sc.simulate(run, sc.GD(LR, momentum=0.5), sc.Plan(steps=1, keep="weights"))
    plain = sc.simulate(run, sc.GD(LR), sc.Plan(steps=1, keep="weights"))
    np.testing.assert_allclose(still.W1, plain.W1, rtol=1e-12)


def test_a_checkpoint_with_velocity_is_as_large_as_it_was_counted():
    problem, method = CASES["epochs"]
    plan = sc.Plan(steps=4, trajectories=6)
    state = Reference(problem, method, plan).init()
    arrays = [*state.weights, *state.velocity, *(v for v in vars(state).values() if isinstance(v, np.ndarray))]
    assert estimate.size(problem, method, plan).checkpoint == sum(array.nbytes for array in arrays)


def test_a_mode_has_no_sde_with_momentum_but_the_sentence_says_which_is_near():
    with pytest.raises(
        ValueError, match=r"momentum = 0.8; for small lr it is that of lr = 0.1 and the same batch_size"
    ):
        sc.theory.mode_sde(PROBLEMS["wide"], sc.SGD(0.02, 4, momentum=MU), 0)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, np.nan])
def test_wrong_values_are_refused(momentum):
    with pytest.raises(ValueError, match="momentum"):
        sc.SGD(0.1, 4, momentum=momentum)


def test_the_chains_of_a_diagonal_network_are_pairs():
    """The end-to-end map of the layers that ``neighbours`` sees is that of the network."""
    state = Reference(*CASES["chains"], sc.Plan(steps=1)).init()
    assert diagonal.end_to_end(state.weights).shape == (1, 1, 1) and len(neighbours(state, CHAINS)) == 2
