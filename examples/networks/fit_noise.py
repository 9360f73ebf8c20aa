"""Temperature and label noise from observed learning curves, by the derivatives of the run.

Means, squares and products of the mode strengths at six saves are fitted by those of a run of the same problem, by
Gauss–Newton with its derivatives by log T and log σ and the covariance of what is seen. Writes fit_noise.png.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import saddlescope as sc


def setting(temperature, label_noise):
    data = sc.GaussianData([[1.5, 0.0], [0.0, 0.8]], label_noise=label_noise)
    problem = sc.Problem(sc.DeepLinear((2, 2, 2)), data, sc.init.Balanced(scale=0.3))
    return problem, sc.Langevin(lr=0.02, temperature=temperature)


def moments(strength):
    """Of every member (members, moments): strengths after step 0, their products at the same and neighbouring saves."""
    s = strength[:, 1:]
    return jax.numpy.concatenate([a.reshape(len(s), -1) for a in (s, s * s, s[:, 1:] * s[:, :-1])], axis=1)


@jax.jit
def fitted(logs):
    T, sigma = jax.numpy.exp(logs)
    mean = moments(run(temperature=T, label_noise=sigma)["mode_strength"]).mean(axis=0)
    return mean, mean


truth, start = np.array([0.03, 0.7]), np.array([0.1, 0.2])
curves = sc.simulate(*setting(*truth), sc.Plan(steps=300, saves=6, trajectories=1000, keep="trajectories", seed=1))
seen = np.asarray(moments(curves.mode_strength.values), float)
run = sc.differentiable(*setting(*start), sc.Plan(steps=300, saves=6, trajectories=4000, seed=2, dtype="float32"))
derivative, weight, path = jax.jit(jax.jacfwd(fitted, has_aux=True)), np.linalg.inv(np.cov(seen.T)), [start]
for _ in range(8):
    slope, mean = derivative(np.log(path[-1]).astype("float32"))
    information = np.asarray(slope.T @ weight @ slope, float)
    move = np.linalg.solve(information, slope.T @ weight @ (seen.mean(axis=0) - mean))
    path.append(path[-1] * np.exp(np.clip(move, -0.7, 0.7)))
error = path[-1] * np.sqrt(np.diag(np.linalg.inv(information)) * (1 / len(seen) + 1 / run.plan.count))
for name, value, off, true in zip("Tσ", path[-1], error, truth, strict=True):
    print(f"{name} = {value:.4f} ± {off:.4f} (standard error), truth {true}")

plt.loglog(*np.transpose(path), ".-", label="steps of the fit")
plt.errorbar(*path[-1], *error[::-1], fmt="o", label="estimate")
plt.plot(*truth, "k+", markersize=14, label="truth")
plt.gca().set(xlabel="temperature T", ylabel="label noise σ")
plt.legend()
plt.savefig("fit_noise.png")
