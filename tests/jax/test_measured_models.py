"""``measured`` gives the numbers of ``simulate`` for Models too, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from jax import numpy as jnp

import saddlescope as sc
from measuring import both, differing
from saddlescope import observe
from support import waves

UNOPTIMISED = True
RNG = np.random.default_rng(0)
EXAMPLES = sc.Examples(RNG.normal(size=(20, 3)), RNG.normal(size=(20, 2)))
MODEL = sc.Model(
    lambda params, x: jnp.tanh(x @ params["w1"].T) @ params["w2"].T,
    lambda key: waves(key, {"w1": (4, 3), "w2": (2, 4)}),
)
PLAN = sc.Plan(steps=20, trajectories=3, saves=10, observe=(observe.SingularValues("w1"),))


@pytest.mark.parametrize(
    ("method", "plan"),
    [
        (sc.SGD(0.05, 4), PLAN),
        (sc.SGD(0.05, 4), replace(PLAN, keep="weights", save_at=(3, 7), trajectories=1, members=(5, 1))),
        (sc.GD(1e3), PLAN),
        (sc.GradientFlow(0.05), replace(PLAN, keep="trajectories")),
    ],
    ids=["statistics", "weights", "diverges", "flow"],
)
def test_the_numbers_and_warnings_of_simulate(method, plan):
    run, found, *heard = both(sc.Problem(MODEL, EXAMPLES), method, plan)
    assert differing(run, found) == [] and heard[0] == heard[1]
