"""Noise in the labels lowers the rank of a ReLU layer; gradient descent without it does not.

The network is two plain JAX functions. Writes plain_jax.png. The page "Your own network" explains it.
"""

import jax
import numpy as np
from matplotlib.figure import Figure

import saddlescope as sc


def init(key):
    one, two = jax.random.split(key)
    return {"w1": jax.random.normal(one, (10, 5)) / 5**0.5, "w2": jax.random.normal(two, (2, 10)) / 10**0.5}


def apply(params, x):
    return jax.nn.relu(x @ params["w1"].T) @ params["w2"].T


X = np.random.default_rng(0).normal(size=(20, 5))
model, Y = sc.Model(apply, init), X[:, :2] * [1.0, 1.5]
plan = sc.Plan(steps=4_000, trajectories=8, saves=40, observe=[sc.observe.EffectiveRank("w1")])

figure = Figure(figsize=(5.6, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="time", ylabel="effective rank of W₁")
for noise in (0.0, 2.0):
    problem = sc.Problem(model, sc.Examples(X, Y, label_noise=noise))
    run = sc.simulate(problem, sc.GD(lr=0.1), plan)
    rank = run.effective_rank_w1.sel(statistic="mean")
    axes.plot(run.time, rank, label=f"label noise {noise:g}")
    print(f"label noise {noise:g}: effective rank {float(rank[0]):.2f} at the start, {float(rank[-1]):.2f} at the end")
axes.legend()
figure.savefig("plain_jax.png")
