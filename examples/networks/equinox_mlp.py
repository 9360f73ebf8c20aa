"""The noise of SGD balances the two layers of an Equinox MLP that starts out of balance.

Writes equinox_mlp.png. The page "Your own network" explains it.
"""

import equinox as eqx
import numpy as np
from matplotlib.figure import Figure

import saddlescope as sc


def make(key):
    mlp = eqx.nn.MLP(in_size=4, out_size=2, width_size=16, depth=1, key=key)
    return eqx.tree_at(lambda mlp: mlp.layers[0].weight, mlp, replace_fn=lambda weight: 3 * weight)


rng = np.random.default_rng(0)
X = rng.normal(size=(64, 4))
data = sc.Examples(X, np.sin(X[:, :2]), label_noise=0.5)
model = sc.Model.from_equinox(make)
pairs = model.find_pairs(data)
print(pairs)

plan = sc.Plan(steps=4_000, trajectories=8, saves=40, keep="trajectories", observe=[sc.observe.Balance(pairs)])
run = sc.simulate(sc.Problem(model, data), sc.SGD(lr=0.05, batch_size=2), plan)
imbalance, identity = run.imbalance.isel(pair=0), run.imbalance_identity.isel(pair=0)
start, end = (float(imbalance.isel(time=n).mean()) for n in (0, -1))
print(f"imbalance {start:.1f} at the start, {end:.1f} at the end")
print(f"largest difference from its identity: {float(abs(imbalance - identity).max()):.1g}")

figure = Figure(figsize=(5.6, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="time", ylabel="‖upper‖² − ‖lower‖²")
axes.plot(run.time, imbalance.T, color="C0", lw=0.8)
axes.plot(run.time, identity.T, "k:", lw=0.8)
figure.savefig("equinox_mlp.png")
