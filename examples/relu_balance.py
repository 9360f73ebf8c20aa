"""Which layer of a ReLU pair is larger: the ratio of squared norms under SGD, and where noise balances.

Writes relu_balance.png. The gallery page "Which layer of a ReLU pair is larger" explains it.
"""

import numpy as np
from matplotlib.figure import Figure

import saddlescope as sc

LR = 0.005

rng = np.random.default_rng(0)
x = rng.standard_normal((1000, 8))
y = np.maximum(x @ rng.standard_normal((8, 2)) / 2, 0) + 2.0 * rng.standard_normal((1000, 2))


def gradients(u, w, samples=slice(None)):
    """Of ½|u relu(w x) − y|², per sample: those of u (n, 2, 8), of w (n, 8, 8)."""
    before = x[samples] @ w.T
    hidden = np.maximum(before, 0)
    error = hidden @ u.T - y[samples]
    back = (error @ u) * (before > 0)
    return error[:, :, None] * hidden[:, None], back[:, :, None] * x[samples, None]


w, u = 0.6 * rng.standard_normal((8, 8)), 0.3 * rng.standard_normal((2, 8))
seen = []
for step in range(40_000):
    if step % 200 == 0:
        seen.append(sc.theory.Balance.of(u, w, *gradients(u, w), temperature=LR))
    g_u, g_w = gradients(u, w, rng.integers(len(x), size=1))
    u, w = u - LR * g_u[0], w - LR * g_w[0]

measured = np.array([np.sum(one.u**2) / np.sum(one.w**2) for one in seen])
predicted = np.array([one.ratio for one in seen])
blocks = (measured / predicted)[100:].reshape(10, -1).mean(axis=1)
print(f"|u|²/|w|²: measured {measured[100:].mean():.3f}, predicted {predicted[100:].mean():.3f}")
print(f"measured / predicted: {blocks.mean():.3f} ± {blocks.std(ddof=1) / len(blocks) ** 0.5:.3f}")

figure = Figure(figsize=(5.6, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="time", ylabel="ratio of squared norms", yscale="log")
axes.plot(LR * 200 * np.arange(200), np.transpose([measured, predicted]), label=["measured", "predicted"])
axes.legend()
figure.savefig("relu_balance.png")
