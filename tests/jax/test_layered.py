"""engine="jax" for networks that have a kernel: the reference's trajectories, to rounding."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.engines.jax.layered import Layered
from saddlescope.engines.reference import Reference
from saddlescope.schedules import Cosine, Warmup
from support import covariance, dataset, problem

LR, N, STEPS = 0.05, 21, 12
START = sc.init.Gaussian(scale=0.4)
WIDE, COLOURED = problem((3, 4, 2)), problem((3, 4, 2), sigma=covariance(3))
EQUAL, DEEP = problem((2, 3, 3, 2), spectrum=[1.0, 1.0]), problem((2, 3, 3, 3, 2))
DATA = sc.Problem(sc.DeepLinear((3, 4, 2)), dataset(17, 3, 2), START)
FEW = sc.Problem(sc.DeepLinear((9, 3, 1)), dataset(15, 9, 1), START)
CHAINS = sc.Problem(sc.Diagonal(3, 2), sc.GaussianData([[-1.2]], [[0.7]], 0.3), START)

CASES = {
    "batch below the rank": (COLOURED, sc.SGD(LR / 2, 2, weight_decay=0.2, schedule=Cosine(9))),
    "batch of the rank": (WIDE, sc.SGD(LR / 4, 3, momentum=0.6, weight_decay=0.2)),
    "gradient": (COLOURED, sc.Langevin(LR, 2.5, dt=LR / 3, order=2, weight_decay=0.3, schedule=Warmup(6))),
    "aligned": (EQUAL, sc.Langevin(LR, 4, "aligned")),
    "isotropic": (DEEP, sc.Langevin(LR, 4, "isotropic")),
    "replacement": (DATA, sc.SGD(0.01, 19)),
    "without": (DATA, sc.SGD(0.01, 5, "without")),
    "shuffle": (DATA, sc.SGD(0.01, 4, "shuffle", momentum=0.6)),
    "full": (DATA, sc.SGD(0.01, sampling="full")),
    "gradient of samples": (FEW, sc.Langevin(0.01, 2.5)),
    "gradient by a factor": (DATA, sc.Langevin(0.01, 2.5)),
    "isotropic on samples": (DATA, sc.Langevin(0.01, 2.5, "isotropic")),
    "chains": (CHAINS, sc.Langevin(LR, 4)),
    "isotropic chains": (CHAINS, sc.Langevin(LR, 4, "isotropic", order=2)),
}
WITH_PEAKS = ("gradient", "full", "isotropic chains")


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


def test_batches_above_the_rank_in_single_precision():
    plan = sc.Plan(steps=STEPS, trajectories=N, dtype="float32")
    (reference, a), (run, b) = ends(WIDE, sc.SGD(LR, 64), plan)
    np.testing.assert_array_equal(b.words, a.words)
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5)


def test_given_normals():
    method, plan = sc.Langevin(LR, 4), sc.Plan(steps=3, trajectories=N)
    normals = np.random.default_rng(3).standard_normal((N, 3, Layered(WIDE, method, plan).normals_per_step))
    (reference, a), (run, b) = ends(WIDE, method, plan, normals)
    np.testing.assert_array_equal(b.words, a.words)
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-11, atol=1e-13)


def test_divergence_shows_at_the_same_step():
    (reference, a), (run, b) = ends(WIDE, sc.GD(40.0), sc.Plan(steps=20, trajectories=N))
    assert (a.status > 0).any()
    np.testing.assert_array_equal(b.status, a.status)
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


INVARIANT = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
import saddlescope as sc
from saddlescope.engines.jax.layered import Layered
from saddlescope.engines.state import State
from support import problem

def run(method, stops=(20,), threads=2, chunk=None, **options):
    plan = sc.Plan(steps=20, seed=6, dtype="float32", threads=threads, **(options or {"trajectories": 67}))
    engine = Layered(problem((3, 4, 2)), method, plan, chunk)
    assert len(engine.devices) == threads
    state = engine.init()
    for stop in stops:
        state = State.from_bytes(engine.advance(state, stop).to_bytes())
    return engine, state

engine, whole = run(sc.SGD(0.05, 16))
assert engine._program._cache_size() == 1
run(sc.SGD(0.02, 16), stops=(5, 20))
engine, cut = run(sc.SGD(0.05, 16), stops=(1, 2, 13, 20))
assert cut.to_bytes() == whole.to_bytes(), "cuts"
print("programs", engine._program._cache_size())
assert run(sc.SGD(0.05, 16), threads=1, chunk=32)[1].to_bytes() == whole.to_bytes(), "chunks and devices"
few = run(sc.SGD(0.05, 16), members=[40, 3])[1]
for a, b in zip(whole.weights, few.weights, strict=True):
    np.testing.assert_array_equal(a[[40, 3]], b)
"""


def test_cuts_chunks_devices_and_members_change_no_bit():
    """In a process with two devices; a program serves every way to cut a run, and other learning rates."""
    path = os.pathsep.join([str(pathlib.Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", INVARIANT], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["programs", "1"]


def test_gradient_flow_and_accumulated_strengths_are_refused():
    with pytest.raises(ValueError, match='takes the steps of GD, SGD and Langevin, got GradientFlow; use engine="nat'):
        sc.simulate(DATA, sc.GradientFlow(LR), sc.Plan(steps=3), engine="jax")
    with pytest.raises(ValueError, match='does not accumulate mode strengths; leave accumulate out or use engine="na'):
        plan = sc.Plan(steps=3, accumulate=sc.Accumulate(low=0, high=3))
        sc.simulate(DATA, sc.GD(LR), plan, engine="jax")
