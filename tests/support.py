"""Problems, methods and engines shared by the tests, and tests of distributions at a stated false-alarm level."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
from scipy import stats

import saddlescope as sc
from saddlescope.schedules import Cosine, Step, Warmup

FALSE_ALARM = 1e-6
"""Probability that a correct program fails a test of a distribution."""

ENGINES = [
    name for name in ("reference", "native") if importlib.util.find_spec(f"saddlescope.engines.{name}") is not None
]


def engine_class(name: str):
    return getattr(importlib.import_module(f"saddlescope.engines.{name}"), name.capitalize())


def covariance(dim: int, rank: int | None = None, seed: int = 1) -> np.ndarray:
    """A covariance of this rank, not aligned with the axes."""
    root = np.random.default_rng(seed).standard_normal((dim, rank or dim)) / np.sqrt(dim) + np.eye(dim, rank or dim)
    sigma = root @ root.T
    return (sigma + sigma.T) / 2


def problem(widths, spectrum=None, scale=0.4, noise=0.5, sigma=None, init=None) -> sc.Problem:
    m = min(widths[0], widths[-1])
    spectrum = 2.0 * 0.6 ** np.arange(m) if spectrum is None else spectrum
    data = sc.GaussianData.from_spectrum(spectrum, widths[0], widths[-1], noise, sigma, seed=3)
    return sc.Problem(sc.DeepLinear(widths), data, init or sc.init.Gaussian(scale=scale))


def dataset(n, dim_in, dim_out, spread=0.5, label_noise=0.3, rank=None, seed=2) -> sc.Dataset:
    """n skewed samples, inputs of this rank, labels a linear map plus skewed residuals of this spread."""
    rng = np.random.default_rng(seed)
    x = rng.exponential(size=(n, rank or dim_in)) - 0.5
    x = x @ (np.eye(rank or dim_in, dim_in) + 0.3 * rng.standard_normal((rank or dim_in, dim_in)))
    y = x @ rng.standard_normal((dim_in, dim_out)) + spread * (rng.exponential(size=(n, dim_out)) - 1)
    return sc.Dataset(x, y, label_noise)


def whitened(n, dim_in, dim_out, label_noise=0.3) -> sc.Dataset:
    """Samples with S_xx = I, so that modes decouple; far from Gaussian."""
    data = dataset(n, dim_in, dim_out, label_noise=label_noise)
    return sc.Dataset(np.linalg.qr(data.X)[0] * n**0.5, data.Y, label_noise)


PROBLEMS = {
    "wide": problem((3, 7, 4)),
    "deep": problem((4, 8, 8, 5, 3), scale=0.25),
    "bottleneck": problem((4, 2, 5, 3)),
    "thin": problem((1, 1, 1)),
    "regression": problem((4, 3)),
    "coloured": problem((4, 11, 6, 3), sigma=covariance(4), scale=0.2),
    "rank 2": problem((4, 8, 3), sigma=covariance(4, rank=2)),
    "rank 1, no noise": problem((3, 7, 4), sigma=covariance(3, rank=1), noise=0.0),
    "noiseless": problem((3, 6, 6, 3), noise=0.0),
    "repeated": problem((4, 9, 4), spectrum=[2.0, 1.0, 1.0, 0.0]),
}

LR = 0.05
CONSTANT = {
    "gd": sc.GD(LR),
    "sgd 1": sc.SGD(LR, 1),
    "sgd 2": sc.SGD(LR, 2),
    "sgd 3": sc.SGD(LR, 3),
    "sgd 64": sc.SGD(LR, 64),
    "gradient": sc.Langevin(LR, 4),
    "gradient, dt": sc.Langevin(LR, 2.5, dt=LR / 3),
    "aligned": sc.Langevin(LR, 4, noise="aligned"),
    "isotropic": sc.Langevin(LR, 4, noise="isotropic"),
    "isotropic, dt": sc.Langevin(LR, 4, noise="isotropic", dt=LR / 3),
    "flow": sc.GradientFlow(LR),
}
"""A constant learning rate, no weight decay, order 1."""

METHODS = CONSTANT | {
    "gd, decay, warm-up": sc.GD(LR, weight_decay=0.3, schedule=Warmup(8)),
    "sgd 2, decay, steps": sc.SGD(LR, 2, weight_decay=0.2, schedule=Step(5, 0.5)),
    "sgd 64, decay, cosine": sc.SGD(LR, 64, weight_decay=0.2, schedule=Cosine(12)),
    "gradient, order 2": sc.Langevin(LR, 4, order=2),
    "gradient, order 2, decay": sc.Langevin(
        LR, 2.5, dt=LR / 3, order=2, weight_decay=0.3, schedule=Warmup(4, Cosine(9, 0.2))
    ),
    "aligned, order 2, steps": sc.Langevin(LR, 4, "aligned", order=2, schedule=Step(3, 0.7)),
    "gradient, decay": sc.Langevin(LR, 4, dt=LR / 3, weight_decay=0.3, schedule=Warmup(6)),
    "isotropic, order 2, decay": sc.Langevin(LR, 4, "isotropic", order=2, weight_decay=0.3, schedule=Cosine(20)),
    "gd, momentum": sc.GD(LR / 4, momentum=0.7),
    "sgd 2, momentum, decay, steps": sc.SGD(LR / 4, 2, momentum=0.6, weight_decay=0.2, schedule=Step(5, 0.5)),
    "sgd 64, momentum": sc.SGD(LR / 4, 64, momentum=0.8),
    "flow, decay": sc.GradientFlow(LR, weight_decay=0.2),
}
DISCRETE = [name for name, method in METHODS.items() if not isinstance(method, sc.GradientFlow)]


def runs(problem: sc.Problem, method) -> bool:
    """Whether the method can run on the problem."""
    return getattr(method, "noise", None) != "aligned" or problem.data.diagonal_in_modes


def pairs(problems=PROBLEMS, methods=METHODS):
    """Parameters for every problem with every method that can run on it."""
    return [(p, m) for p in problems for m in methods if runs(PROBLEMS[p], METHODS[m])]


def largest(layers) -> np.ndarray:
    """``max_l ‖W_l‖_F²`` of every trajectory."""
    return np.max([np.sum(np.asarray(layer) ** 2, axis=(1, 2)) for layer in layers], axis=0)


# --- distributions


def follows(sample: np.ndarray, law, tests: int = 1) -> bool:
    """Kolmogorov–Smirnov: whether the sample is consistent with the law, at FALSE_ALARM over ``tests`` tests."""
    return stats.kstest(np.ravel(sample), law.cdf).pvalue > FALSE_ALARM / tests


def alike(first: np.ndarray, second: np.ndarray, tests: int = 1) -> bool:
    """Whether two samples are consistent with one distribution."""
    return stats.ks_2samp(first, second, method="asymp").pvalue > FALSE_ALARM / tests


def has_mean(sample: np.ndarray, mean) -> bool:
    """Whether the mean of every column is consistent with this one, at FALSE_ALARM over all columns."""
    sample = np.reshape(sample, (len(sample), -1))
    error = sample.std(axis=0, ddof=1) / np.sqrt(len(sample))
    bound = stats.norm.isf(FALSE_ALARM / 2 / sample.shape[1])
    return bool((np.abs(sample.mean(axis=0) - np.ravel(mean)) <= bound * error + 1e-12).all())


def has_covariance(sample: np.ndarray, mean, covariance) -> bool:
    """Whether every entry of the covariance about this mean is consistent, at FALSE_ALARM over all entries."""
    centred = np.reshape(sample, (len(sample), -1)) - np.ravel(mean)
    rows, columns = np.tril_indices(centred.shape[1])
    return has_mean(centred[:, rows] * centred[:, columns], np.asarray(covariance)[rows, columns])


# --- slow references


def gradient_covariance(data: sc.GaussianData, error: np.ndarray) -> np.ndarray:
    """``Cov[G_ij, G_kl]`` of one sample as a (dy dx, dy dx) matrix, index by index."""
    drift, spread = error @ data.sigma, error @ data.sigma @ error.T
    dy, dx = error.shape
    out = np.zeros((dy, dx, dy, dx))
    for i, j, k, l in np.ndindex(out.shape):
        out[i, j, k, l] = spread[i, k] * data.sigma[j, l] + drift[i, l] * drift[k, j]
        out[i, j, k, l] += data.label_noise**2 * (i == k) * data.sigma[j, l]
    return out.reshape(dy * dx, dy * dx)


def batch_gradients(data: sc.GaussianData, error: np.ndarray, batch: int, count: int, seed: int) -> np.ndarray:
    """``Ḡ`` (count, dy, dx) of explicitly drawn batches."""
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(data.sigma)
    x = rng.standard_normal((count, batch, data.dim_in)) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    noise = data.label_noise * rng.standard_normal((count, batch, data.dim_out))
    return np.einsum("nbi,nbj->nij", x @ error.T - noise, x) / batch


def on_save(recording, patch=setattr) -> None:
    """``recording(engine, plan, state)`` records the saves of runs in place of ``record``."""
    for name in ("simulate", "loop"):
        patch(importlib.import_module(f"saddlescope.simulation.{name}"), "record", recording)


# --- models


def waves(key, shapes) -> dict:
    """Weights of a Model ``√2 sin(a k²)``, a by the key: as spread as normal ones, and compiled in no time."""
    import jax
    from jax import numpy as jnp

    a = 1.3 + 0.001 * (jax.random.key_data(key)[-1] % 10_000)
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    starts = np.cumsum([1, *sizes.values()])
    return {
        name: 2**0.5 * jnp.sin(a * jnp.arange(start, start + size) ** 2).reshape(shapes[name])
        for start, (name, size) in zip(starts, sizes.items(), strict=False)
    }
