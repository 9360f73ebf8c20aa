"""engine="jax" for networks that have a kernel: the reference's trajectories, to rounding."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.engines.jax.layered import Layered
from saddlescope.engines.reference import Reference
from saddlescope.schedules import Cosine, Warmup
from support import PROBLEMS, dataset

LR, N, STEPS = 0.05, 21, 12
DATA = sc.Problem(sc.DeepLinear((3, 6, 2)), dataset(17, 3, 2), sc.init.Gaussian(scale=0.4))
FEW = sc.Problem(sc.DeepLinear((9, 5, 1)), dataset(15, 9, 1), sc.init.Gaussian(scale=0.4))
CHAINS = sc.Problem(sc.Diagonal(3, 2), sc.GaussianData([[-1.2]], [[0.7]], 0.3), sc.init.Gaussian(scale=0.6))
CHAINS_ON_DATA = sc.Problem(sc.Diagonal(2, 3), dataset(9, 1, 1), sc.init.Gaussian(scale=0.6))

CASES = {
    "batch below the rank": (PROBLEMS["coloured"], sc.SGD(LR / 2, 2, weight_decay=0.2, schedule=Cosine(9))),
    "batch of the rank": (PROBLEMS["wide"], sc.SGD(LR / 4, 3, momentum=0.6, weight_decay=0.2)),
    "batch above the rank": (PROBLEMS["repeated"], sc.SGD(LR, 64)),
    "gradient": (PROBLEMS["coloured"], sc.Langevin(LR, 2.5, dt=LR / 3, order=2, weight_decay=0.3, schedule=Warmup(6))),
    "aligned": (PROBLEMS["repeated"], sc.Langevin(LR, 4, "aligned")),
    "isotropic": (PROBLEMS["wide"], sc.Langevin(LR, 4, "isotropic")),
    "replacement": (DATA, sc.SGD(0.01, 19)),
    "without": (DATA, sc.SGD(0.01, 5, "without")),
    "shuffle": (DATA, sc.SGD(0.01, 4, "shuffle", momentum=0.6)),
    "full": (DATA, sc.SGD(0.01, sampling="full")),
    "gradient of samples": (FEW, sc.Langevin(0.01, 2.5)),
    "gradient by a factor": (DATA, sc.Langevin(0.01, 2.5)),
    "isotropic on samples": (DATA, sc.Langevin(0.01, 2.5, "isotropic")),
    "chains": (CHAINS, sc.Langevin(LR, 4, order=2)),
    "isotropic chains": (CHAINS, sc.Langevin(LR, 4, "isotropic")),
    "chains on samples": (CHAINS_ON_DATA, sc.SGD(LR, 3)),
}
WITH_PEAKS = ("gradient", "without", "isotropic chains")


def ends(problem, method, plan, normals=None):
    """The reference and the engine in JAX, each with its end."""
    for engine in (Reference, Layered):
        run = engine(problem, method, plan)
        yield run, run.advance(run.init(), plan.steps, normals)


@pytest.mark.parametrize("case", CASES)
def test_paths_events_and_observables(case):
    events = ("learning_time", "noise_peak") if case in WITH_PEAKS else ("learning_time",)
    plan = sc.Plan(steps=STEPS, trajectories=N, seed=4, events=events)
    (reference, a), (run, b) = ends(*CASES[case], plan)
    for name in ("words", "order", "status", "learned"):
        np.testing.assert_array_equal(getattr(b, name), getattr(a, name), name)
    np.testing.assert_allclose(b.peak, a.peak, rtol=1e-8, atol=1e-15)
    for x, y in zip((*reference.weights(a), *a.velocity), (*run.weights(b), *b.velocity), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-12)
    observed, expected = run.observe(b), reference.observe(a)
    assert observed.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(observed[key], value, rtol=1e-7, atol=1e-9, err_msg=key)


def test_gradient_flow_and_accumulated_strengths_are_refused():
    with pytest.raises(ValueError, match='takes the steps of GD, SGD and Langevin, got GradientFlow; use engine="nat'):
        sc.simulate(DATA, sc.GradientFlow(LR), sc.Plan(steps=3), engine="jax")
    with pytest.raises(ValueError, match='does not accumulate mode strengths; leave accumulate out or use engine="na'):
        plan = sc.Plan(steps=3, accumulate=sc.Accumulate(low=0, high=3))
        sc.simulate(DATA, sc.GD(LR), plan, engine="jax")
