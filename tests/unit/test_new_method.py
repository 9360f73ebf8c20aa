"""A method is added to the reference engine in one file: its class, and the source of its gradient."""

from typing import Annotated, ClassVar

import numpy as np
import pytest
from pydantic import Field

import saddlescope as sc
from saddlescope._parts import Real, frozen
from saddlescope.engines import reference
from saddlescope.engines.reference import Now, Reference
from saddlescope.methods import GD, Rule
from support import PROBLEMS


@frozen
class ClippedGD(Rule):
    """Gradient descent on the map's gradient, clipped to a Frobenius norm of at most ``bound``."""

    lr: Annotated[Real, Field(gt=0)]
    bound: Annotated[Real, Field(gt=0)]

    source: ClassVar[str] = "clipped"


def clipped(engine: Reference, now: Now):
    """``Ḡ min(1, bound / ‖Ḡ‖_F)``."""
    gradient = now.error @ engine.root.T
    norm = np.linalg.norm(gradient, axis=(1, 2), keepdims=True)
    return gradient * np.minimum(1.0, engine.step.method.bound / norm)


@pytest.fixture(autouse=True)
def _added(monkeypatch):
    monkeypatch.setitem(reference.SOURCES, "clipped", clipped)


BOUND = 0.5


def run(method):
    return sc.simulate(PROBLEMS["coloured"], method, sc.Plan(steps=60, trajectories=3, saves=6), engine="reference")


def test_the_new_method_runs_and_is_described():
    made = run(ClippedGD(lr=0.05, bound=BOUND))
    assert 'type = "ClippedGD"' in made.attrs["toml"] and made.attrs["complete"] == 1
    loss = made.loss.sel(statistic="mean").values
    assert (np.diff(loss) < 0).all()


def test_its_steps_are_those_of_its_formula():
    """Where the gradient is within the bound it is gradient descent, elsewhere it moves less."""
    engine, plain = (Reference(PROBLEMS["wide"], m, sc.Plan(steps=1)) for m in (ClippedGD(0.05, BOUND), GD(0.05)))
    state = engine.init()
    moved, full = (e.advance(state, 1).weights[0] - state.weights[0] for e in (engine, plain))
    ratio = moved / full
    assert np.ptp(ratio) < 1e-9 and 0 < ratio.mean() < 1
    near = engine.advance(engine.init(), 400)
    once = [e.advance(near, 401).weights[0] for e in (engine, plain)]
    np.testing.assert_array_equal(*once)


def test_an_unknown_source_is_refused_by_the_compiled_engine():
    with pytest.raises(ValueError, match="clipped"):
        sc.simulate(PROBLEMS["wide"], ClippedGD(0.05, BOUND), sc.Plan(steps=1), engine="native")
