"""Ranks and their bounds by brute force; the determinant of linear layers against nets trained by SGD."""

import numpy as np
import pytest
import torch
from torch import nn

from saddlescope.monitor import rank
from saddlescope.monitor.directions import leading
from saddlescope.monitor.sites import layout
from saddlescope.monitor.uses import Outer
from saddlescope.observables import rank_of
from saddlescope.theory.network import determinant

F64 = torch.float64


@pytest.fixture
def gen():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def spectra(rng, size, count=200):
    """Sorted spectra of many kinds: flat, powers, exponentials, plateaus, sparse."""
    u, i = rng.random((count, size)), np.arange(1.0, size + 1)
    kinds = [
        *(u, u**8, -np.log(u), i**-2 * (1 + 0.1 * u), 0.3**i * (1 + u), (u > 0.5) + 1e-3 * u),
        *((u > 0.8) * u + 1e-9 * (i == 1), np.ones_like(u), 1 + 20.0 * (i == 1) + 0 * u),
    ]
    return -np.sort(-np.concatenate(kinds), axis=1)


# --- effective rank


def test_effective_rank_is_that_of_the_package(rng):
    s = spectra(rng, 7)
    assert np.allclose(rank.effective_rank(s), rank_of(s), rtol=1e-12)
    assert rank.effective_rank(np.zeros(3)) == 0


@pytest.mark.parametrize("size", [2, 3, 6, 25])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_bounds_hold_for_every_spectrum(rng, size, k):
    s, k = spectra(rng, size), min(k, size)
    low, high = rank.effective_rank_bounds(s[:, :k], np.linalg.norm(s, axis=1), size)
    true = rank.effective_rank(s)
    assert (low <= true * (1 + 1e-9)).all()
    assert (true <= high * (1 + 1e-9)).all()
    if k == size:
        assert np.allclose(low, true) and np.allclose(high, true)


@pytest.mark.parametrize(("size", "k"), [(6, 1), (6, 3), (40, 8)])
def test_bounds_are_attained(rng, size, k):
    """Both bounds are effective ranks of spectra with the same k values and the same norm."""
    for s in spectra(rng, size)[::40]:
        known, rest = s[:k], (s[k:] ** 2).sum()
        equal, packed = np.full(size - k, (rest / (size - k)) ** 0.5), np.zeros(size - k)
        for i in range(size - k):
            packed[i] = min(known[-1], max(rest - (packed**2).sum(), 0) ** 0.5)
        found = rank.effective_rank_bounds(known, np.linalg.norm(s), size)
        for bound, more in zip(found, (packed, equal), strict=True):
            assert np.isclose(bound, rank.effective_rank(np.concatenate([known, more])), rtol=1e-5)


@pytest.mark.parametrize(("known", "size"), [([1.0], 4), ([5.0, 1.0], 5)])
def test_no_spectrum_with_the_same_numbers_is_outside(rng, known, size):
    """A search: random remaining values under all three constraints, often at their extremes."""
    shape = (20000, size - len(known))
    x = known[-1] * rng.random(shape) ** rng.choice([0.1, 0.5, 1, 3, 20], size=(20000, 1))
    x = np.where(rng.random(shape) < 0.2, known[-1], x)
    s = np.concatenate([np.broadcast_to(known, (20000, len(known))), x], axis=1)
    true = rank.effective_rank(s)
    low, high = rank.effective_rank_bounds(s[:, : len(known)], np.linalg.norm(s, axis=1), size)
    assert (low <= true * (1 + 1e-9)).all() and (true <= high * (1 + 1e-9)).all()
    assert (true / low).min() < 1.01 and (high / true).min() < 1.01  # it comes close to both


def test_bounds_use_that_no_value_exceeds_the_last_known():
    """Ten equal values, one of them known: without that limit the rest could be one value, and the rank below 2."""
    low, _ = rank.effective_rank_bounds([1.0], 10**0.5, 10)
    assert np.isclose(low, 10)
    assert rank.effective_rank([1.0, 3.0]) < 2


def test_bounds_allow_for_unconverged_directions(gen):
    for _ in range(20):
        s = 0.5 ** torch.arange(30, dtype=F64)
        U, V = (torch.linalg.qr(torch.randn(size, 30, generator=gen, dtype=F64)).Q for size in (40, 50))
        W = (U * s) @ V.mT
        found = leading(W, 6)
        low, high = rank.effective_rank_bounds(found.s, rank.frobenius(W), 30, found.residual)
        assert low <= rank.effective_rank(s) <= high


def test_bounds_allow_for_single_precision(rng):
    s = spectra(rng, 30)
    low, high = rank.effective_rank_bounds(s[:, :4].astype("f4"), np.linalg.norm(s, axis=1).astype("f4"), 30)
    true = rank.effective_rank(s)
    assert (low <= true * (1 + 1e-6)).all() and (true <= high * (1 + 1e-6)).all()


def test_zero_and_not_finite():
    zero, nan = np.zeros(4), np.full(4, np.nan)
    assert [float(x) for x in rank.effective_rank_bounds(zero, 0.0, 9)] == [0, 0]
    assert rank.stable_rank(zero, 0.0) == 0
    assert all(np.isnan(x) for x in (*rank.effective_rank_bounds(nan, nan[0], 9), rank.stable_rank(nan, nan[0])))


def test_measure_of_a_model(gen):
    model = nn.Sequential(
        nn.Linear(3, 20, bias=False), nn.Linear(20, 4), nn.ReLU(), nn.Unflatten(1, (4, 1)), nn.Conv1d(4, 6, 1)
    ).double()
    sites = layout(model, {}).sites
    matrices = {name: site.parameter.flatten(1) for name, site in sites.items() if site.shape}
    found = rank.measure(sites, {name: leading(W, 3) for name, W in matrices.items()}, rank.interfaces(model))
    assert set(found["frobenius"]) == {"0.weight", "1.weight", "4.weight"}
    for name, W in matrices.items():
        s = torch.linalg.svdvals(W.detach())
        true = float(rank.effective_rank(s))
        assert torch.allclose(found["frobenius"][name], s.norm())
        assert torch.allclose(found["stable_rank"][name], s.square().sum() / s[0] ** 2, rtol=1e-3)
        assert found["effective_rank_low"][name] <= true * (1 + 1e-9)
        assert true <= found["effective_rank_high"][name] * (1 + 1e-9)
    assert torch.allclose(found["effective_rank_low"]["0.weight"], found["effective_rank_high"]["0.weight"])
    assert set(found["log_det"]) == {"0~1"}
    assert not any(value.requires_grad for values in found.values() for value in values.values())
    assert "log_det" not in rank.measure(sites, {})


# --- the determinant


def pair(gen, n0=3, h=9, n2=2, scale=0.6):
    net = nn.Sequential(nn.Linear(n0, h, bias=False), nn.Linear(h, n2, bias=False)).double()
    for layer in net:
        layer.weight.data = scale * torch.randn(layer.weight.shape, generator=gen, dtype=F64)
    return net


def backward(net, x, y):
    """Gradients of the mean of ½‖f(x) − y‖² over samples (N, T, n), and the use of the product by every sample."""
    net.zero_grad()
    out = net(x)
    out.retain_grad()
    (0.5 * (out - y).square().sum() / len(x)).backward()
    return Outer(x, len(x) * out.grad)


def step(net, lr, decay=0.0):
    for p in net.parameters():
        p.data = p.data - lr * (p.grad + decay * p.data)


def measured(net):
    return rank.log_det(net[0].weight, net[1].weight)


def test_log_det_is_that_of_theory(gen):
    net = pair(gen)
    theory = determinant.log_det([layer.weight.detach().numpy()[None] for layer in net])
    assert abs(float(measured(net)) - theory[0]) < 1e-12
    exact = torch.linalg.slogdet(rank.neighbours(net[0].weight, net[1].weight).mT @ rank.neighbours(*[
        layer.weight for layer in net
    ])).logabsdet  # fmt: skip
    assert torch.allclose(measured(net), exact)


def test_log_det_where_it_is_not_defined(gen):
    assert torch.isnan(rank.log_det(torch.zeros(3, 2), torch.zeros(2, 3)))
    assert rank.log_det(torch.zeros(4, 2), torch.ones(2, 4)) == -torch.inf
    assert torch.isnan(rank.log_det(torch.full((4, 2), torch.nan), torch.ones(2, 4)))
    assert torch.isnan(rank.log_det_step(torch.full((4, 2), torch.nan), 0.1))
    with pytest.raises(ValueError, match=r"lower and upper must be \(h, n_0\) and \(n_2, h\), got"):
        rank.log_det(torch.zeros(3, 2), torch.zeros(2, 4))


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_every_step_changes_log_det_by_the_identity(gen, decay):
    """To rounding, for single samples and sequences, whatever the loss."""
    net, lr = pair(gen), 0.05
    for _ in range(50):
        x, y = (torch.randn(4, 5, size, generator=gen, dtype=F64) for size in (3, 2))
        use, before = backward(net, x, y), measured(net)
        J = use.formed().mean(0)
        step(net, lr, decay)
        assert abs(float(measured(net) - before - rank.log_det_step(J, lr, decay))) < 1e-12
        theory = determinant.log_det_step(J.numpy()[None], lr, decay)
        assert abs(float(rank.log_det_step(J, lr, decay)) - theory[0]) < 1e-12


def test_a_bias_between_the_layers_breaks_the_identity(gen):
    net = pair(gen)
    net[0].bias = nn.Parameter(torch.ones(9, dtype=F64))
    assert rank.interfaces(net) == {}
    x, y = (torch.randn(4, 1, size, generator=gen, dtype=F64) for size in (3, 2))
    use, before = backward(net, x, y), measured(net)
    step(net, 0.05)
    assert abs(float(measured(net) - before - rank.log_det_step(use.formed().mean(0), 0.05))) > 1e-4


def test_both_parts_are_unbiased(gen):
    """Over many batches at fixed weights: the parts are those of many samples, and their errors cover the scatter."""
    net, lr, batch = pair(gen), 0.1, 16
    teacher = torch.randn(2, 3, generator=gen, dtype=F64)

    def draw(n):
        x = torch.randn(n, 1, 3, generator=gen, dtype=F64)
        use = backward(net, x, x @ teacher.T + torch.randn(n, 1, 2, generator=gen, dtype=F64))
        return use.squares()[:, 0], use.formed().mean(0), use.formed()

    _, mean, formed = draw(400_000)
    noise = -2 * lr**2 * formed.flatten(1).var(0).sum() / batch
    gradient = -2 * lr**2 * mean.square().sum()
    found = [
        rank.log_det_change(squares, J.square().sum(), lr, batch)
        for squares, J, _ in (draw(batch) for _ in range(1500))
    ]
    for name, true in (("noise", noise), ("gradient", gradient)):
        values = torch.stack([getattr(one, name) for one in found])
        stderrs = torch.stack([getattr(one, f"{name}_stderr") for one in found])
        assert abs(float(values.mean() - true)) < 4 * float(values.std()) / 1500**0.5 + 0.01 * abs(float(true))
        assert 0.7 < float(stderrs.square().mean().sqrt() / values.std()) < 2.5
    total = torch.stack([one.total for one in found])
    exact = torch.stack([-2 * lr**2 * draw(batch)[1].square().sum() for _ in range(1500)])
    assert torch.allclose(total.mean(), exact.mean(), rtol=0.08)


@pytest.mark.parametrize(("lr", "batch", "steps"), [(0.01, 4, 3000), (0.03, 16, 3000)])
def test_prediction_for_a_net_trained_with_label_noise(gen, lr, batch, steps):
    """From samples every 5 steps, within its error; the noise alone or the gradient alone would miss."""
    net, every = pair(gen), 5
    teacher = torch.randn(2, 3, generator=gen, dtype=F64)
    start, changes = float(measured(net)), []
    for t in range(steps):
        x = torch.randn(batch, 1, 3, generator=gen, dtype=F64)
        y = x @ teacher.T + torch.randn(batch, 1, 2, generator=gen, dtype=F64)
        use = backward(net, x, y)
        if t % every == 0 or t < 200:  # dense while the net still learns
            mean2 = use.formed().mean(0).square().sum()
            changes.append((1 if t < 200 else every, rank.log_det_change(use.squares()[:, 0], mean2, lr, batch)))
        step(net, lr)

    def sums(part):
        return sum(count * float(getattr(one, part)) for count, one in changes)

    def error(part):
        return sum((count * float(getattr(one, part))) ** 2 for count, one in changes) ** 0.5

    change = float(measured(net)) - start
    bars = (error("gradient_stderr") ** 2 * (1 + 1 / every)) ** 0.5
    assert abs(change - sums("total")) < 4 * bars
    assert bars < 0.15 * abs(change)
    assert abs(change - sums("gradient")) > 4 * bars  # noise left out
    assert abs(change - batch * sums("noise")) > 4 * bars  # noise of single samples, as if B = 1
