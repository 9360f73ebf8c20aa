"""``saddlescope info`` on stores of a Model: modes where they were observed, else the mean of every number."""

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope.cli import app

UNOPTIMISED = True


def apply(params, x):
    return x @ params["w"].T


def init(key):
    return {"w": jax.random.normal(key, (2, 2))}


X = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
PROBLEM = sc.Problem(sc.Model(apply, init), sc.Examples(X, X))


@pytest.mark.parametrize("keep", ["statistics", "trajectories"])
@pytest.mark.parametrize(
    ("observe", "shown"),
    [((), "loss"), ((sc.observe.EffectiveRank("w"),), "effective_rank_w"), ((sc.observe.Modes(),), "s*")],
)
def test_info(tmp_path, monkeypatch, keep, observe, shown):
    monkeypatch.chdir(tmp_path)
    plan = sc.Plan(steps=4, saves=2, trajectories=3, keep=keep, observe=observe)
    run = sc.simulate(PROBLEM, sc.GD(0.1), plan, out="run.zarr")
    done = CliRunner().invoke(app, ["info", "run.zarr"])
    assert done.exit_code == 0, done.output
    assert "complete, 4 of 4 steps" in done.output and shown in done.output and "mean at step 4" in done.output
    if shown == "loss":
        loss = run.loss.isel(time=-1)
        mean = loss.sel(statistic="mean") if keep == "statistics" else loss.mean()
        assert f"{float(mean):.4g}" in done.output
