"""The law of balance: identities of single steps, of C₁ and C₂, and derived quantities."""

from __future__ import annotations

import numpy as np
import pytest

from saddlescope.claims import _networks as networks
from saddlescope.theory import Balance, balance_step, rescaling_symmetry

SYMMETRIC = {"linear": networks.linear, "relu": networks.relu, "attention": networks.attention()}
BROKEN = {"tanh": networks.tanh, "query bias": networks.attention(0.5)}
T, GAMMA = 0.05, 0.3


def drawn(name, samples=40, seed=0):
    """u, w, x, y for a network of this name."""
    rng = np.random.default_rng(seed)
    heads = name in ("attention", "query bias")
    weights = [(5, 3), (5, 3)] if heads else [(4, 3), (3, 6)]
    data = [(samples, 7, 5), (samples, 7, 5)] if heads else [(samples, 6), (samples, 4)]
    return [rng.standard_normal(shape) for shape in weights + data]


def losses(name, u, w, x, y):
    if name in ("attention", "query bias"):
        scores = np.exp((x @ u + 0.5 * (name == "query bias")) @ (x @ w).swapaxes(1, 2) / 3**0.5)
        output = scores / scores.sum(axis=2, keepdims=True) @ x
    else:
        act = {"linear": lambda z: z, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[name]
        output = act(x @ w.T) @ u.T
    return ((output - y) ** 2).reshape(len(x), -1).sum(axis=1) / 2


@pytest.mark.parametrize("name", [*SYMMETRIC, *BROKEN])
def test_gradients_are_those_of_the_loss(name):
    u, w, x, y = drawn(name)
    g_u, g_w = (SYMMETRIC | BROKEN)[name](u, w, x, y)
    along_u, along_w = drawn(name, seed=1)[:2]
    h = 1e-6
    slope = losses(name, u + h * along_u, w + h * along_w, x, y) - losses(name, u - h * along_u, w - h * along_w, x, y)
    expected = (g_u * along_u).sum(axis=(1, 2)) + (g_w * along_w).sum(axis=(1, 2))
    np.testing.assert_allclose(slope / (2 * h), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, GAMMA])
@pytest.mark.parametrize("name", [*SYMMETRIC, *BROKEN])
def test_step(name, decay):
    u, w, x, y = drawn(name)
    g_u, g_w = (g.mean(axis=0) for g in (SYMMETRIC | BROKEN)[name](u, w, x, y))
    lr = 0.01
    after = [(1 - lr * decay) * a - lr * g for a, g in ((u, g_u), (w, g_w))]
    found = balance_step(*(a.ravel() for a in (u, w, g_u, g_w)), lr, decay)
    error = abs(found - ((after[0] ** 2).sum() - (after[1] ** 2).sum()))
    assert error < 1e-14 * (u**2).sum() if name in SYMMETRIC else error > 1e-3


@pytest.mark.parametrize("name", SYMMETRIC)
def test_only_the_right_pairs_are_symmetric(name):
    u, w, x, y = drawn(name)
    assert rescaling_symmetry(lambda u, w: SYMMETRIC[name](u, w, x, y), u, w).verdict == "symmetric"
    mirrored = rescaling_symmetry(lambda u, w: SYMMETRIC[name](u, w, x, y), u, w, scales=(-1,)).verdict
    assert mirrored == ("broken" if name == "relu" else "symmetric")


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pairs_are_found(name):
    u, w, x, y = drawn(name)
    assert rescaling_symmetry(lambda u, w: BROKEN[name](u, w, x, y), u, w).verdict == "broken"


def unit(samples=60, m=3, n=5, seed=0):
    """A ReLU unit: u, w, its gradients, and A."""
    rng = np.random.default_rng(seed)
    u, w, x, y = (rng.standard_normal(shape) for shape in (m, n, (samples, n), (samples, m)))
    u, w = 0.3 * u, 2.0 * w
    g_u, g_w = networks.relu(u[:, None], w[None], x, y)
    back = (np.maximum(x @ w, 0)[:, None] * u - y) * (x @ w > 0)[:, None]
    return u, w, g_u[:, :, 0], g_w[:, 0], x[:, :, None] * back[:, None, :]


def test_noise_matrices_are_those_of_the_smallest_product_gradient():
    u, w, g_u, g_w, _ = unit()
    u2, w2, s = u @ u, w @ w, g_u @ u
    a = [
        np.outer(w, p) / w2 + np.outer(q, u) / u2 - r * np.outer(w, u) / (u2 * w2)
        for p, q, r in zip(g_u, g_w, s, strict=True)
    ]
    system = np.vstack([np.kron(w, np.eye(3)), np.kron(np.eye(5), u)])
    for matrix, p, q in zip(a, g_u, g_w, strict=True):
        np.testing.assert_allclose(matrix.ravel(), np.linalg.lstsq(system, np.concatenate([p, q]))[0], atol=1e-12)
    found, expected = Balance.of(u, w, g_u, g_w, T), Balance.of_product(u, w, np.array(a), T)
    np.testing.assert_allclose(found.C1, expected.C1, atol=1e-12)
    np.testing.assert_allclose(found.C2, expected.C2, atol=1e-12)


def test_drift_ratio_and_rate_do_not_depend_on_which_product_gradient():
    u, w, g_u, g_w, A = unit()
    np.testing.assert_allclose(np.einsum("ska,k->sa", A, w), g_u, atol=1e-12)
    np.testing.assert_allclose(np.einsum("ska,a->sk", A, u), g_w, atol=1e-12)
    least, true = Balance.of(u, w, g_u, g_w, T, GAMMA), Balance.of_product(u, w, A, T, GAMMA)
    for name in ("drift", "ratio", "rate"):
        assert getattr(least, name) == pytest.approx(getattr(true, name), rel=1e-12)
    assert np.abs(least.C1 - true.C1).max() > 0.1
    spread = g_u.var(axis=0).sum() - g_w.var(axis=0).sum()
    assert true.drift == pytest.approx(T * spread - 2 * GAMMA * (u @ u - w @ w), rel=1e-12)


@pytest.mark.parametrize("decay", [0.0, GAMMA])
def test_noise_balances_at_the_ratio_and_returns_there_at_the_rate(decay):
    u, w, _, _, A = unit()
    ratio = Balance.of_product(u, w, A, T, decay).ratio

    def at(log_ratio):
        scale = (np.exp(log_ratio) / (u @ u / (w @ w))) ** 0.25
        return Balance.of_product(scale * u, w / scale, A, T, decay)

    there, away = at(np.log(ratio)), at(np.log(ratio) + 1e-5)
    assert there.drift == pytest.approx(0, abs=1e-14) and there.ratio == pytest.approx(ratio, rel=1e-12)
    assert there.drift_bounds[0] <= 0 <= there.drift_bounds[1]
    # the product of the norms held, d(‖u‖² − ‖w‖²) = ½(‖u‖² + ‖w‖²) d log(‖u‖²/‖w‖²)
    returns = away.drift / ((away.u @ away.u + away.w @ away.w) / 2)
    assert -returns / 1e-5 == pytest.approx(there.rate, rel=1e-4)


def test_bounds_hold_for_every_direction_and_are_reached():
    u, w, _, _, A = unit()
    balance = Balance.of_product(u, w, A, T, GAMMA)
    rng = np.random.default_rng(1)
    eigen = [np.linalg.eigh(C)[1] for C in (balance.C1, balance.C2)]
    turned = [(rng.standard_normal(3), rng.standard_normal(5)) for _ in range(300)]
    turned += [(eigen[0][:, -1], eigen[1][:, 0]), (eigen[0][:, 0], eigen[1][:, -1])]
    found = [Balance.of_product(a, b, A, T, GAMMA) for a, b in turned]
    low, high = balance.ratio_bounds
    ratios = np.array([each.ratio for each in found])
    assert low * (1 - 1e-12) <= ratios.min() and ratios.max() <= high * (1 + 1e-12)
    assert ratios[-2:] == pytest.approx([low, high], rel=1e-10)
    assert all(each.drift_bounds[0] - 1e-12 <= each.drift <= each.drift_bounds[1] + 1e-12 for each in found)


def test_scalars_decay_at_the_variance_of_the_slope():
    rng = np.random.default_rng(0)
    slope = rng.standard_normal(50)
    pair = Balance.of([2.0], [0.5], 0.5 * slope[:, None], 2.0 * slope[:, None], T, GAMMA)
    assert pair.rate == pytest.approx(T * slope.var() + 2 * GAMMA, rel=1e-12)
    assert pair.drift == pytest.approx(-pair.rate * pair.difference, rel=1e-12)
    assert pair.ratio == pytest.approx(1) and pair.ratio_bounds == pytest.approx((1, 1))


def test_linear_layers_balance_noise_and_not_norms():
    """Δ = 0: d(‖W₂‖² − ‖W₁‖²) = Tσ²(dy‖W₁‖² − dx‖W₂‖²)dt, on samples with exactly these moments."""
    dx, dy, noise = 6, 2, 0.7
    rng = np.random.default_rng(0)
    w1, w2 = rng.standard_normal((4, dx)), rng.standard_normal((dy, 4))
    signs = np.array([1.0, -1.0])
    x = np.repeat(dx**0.5 * np.eye(dx), 2 * dy, axis=0)
    label = noise * np.tile(np.kron(signs[:, None], dy**0.5 * np.eye(dy)), (dx, 1))
    layers = Balance.of(w2, w1, *networks.linear(w2, w1, x, x @ (w2 @ w1).T + label), T)
    assert layers.drift == pytest.approx(T * noise**2 * (dy * (w1**2).sum() - dx * (w2**2).sum()), rel=1e-12)
    assert layers.ratio == pytest.approx(dy / dx, rel=1e-12)
