"""Ranks and their bounds by brute force; the determinant of linear layers against nets trained by SGD."""

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


def spectra(gen, size, count=200):
    """Sorted spectra of many kinds: flat, powers, exponentials, plateaus, sparse."""
    u = torch.rand(count, size, generator=gen, dtype=F64)
    i = torch.arange(1, size + 1, dtype=F64)
    kinds = [
        u, u**8, u.log().neg(), i**-2 * (1 + 0.1 * u), 0.3**i * (1 + u), (u > 0.5) + 1e-3 * u, (u > 0.8) * u,
        torch.ones_like(u), 1 + 20.0 * (i == 1) + 0 * u,
    ]  # fmt: skip
    return torch.cat(kinds).sort(1, descending=True).values


# --- effective rank


def test_effective_rank_is_that_of_the_package(gen):
    s = spectra(gen, 7)
    assert torch.allclose(rank.effective_rank(s), torch.from_numpy(rank_of(s.numpy())), rtol=1e-12)
    assert rank.effective_rank(torch.zeros(3)) == 0


@pytest.mark.parametrize("size", [2, 3, 6, 25])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_bounds_hold_for_every_spectrum(gen, size, k):
    s = spectra(gen, size)
    s = s[s[:, 0] > 0]
    k = min(k, size)
    low, high = rank.effective_rank_bounds(s[:, :k], s.norm(dim=1), size)
    true = rank.effective_rank(s)
    assert (low <= true * (1 + 1e-9)).all()
    assert (true <= high * (1 + 1e-9)).all()
    if k == size:
        assert torch.allclose(low, true) and torch.allclose(high, true)


@pytest.mark.parametrize(("size", "k"), [(6, 1), (6, 3), (40, 8)])
def test_bounds_are_attained(gen, size, k):
    """Both bounds are effective ranks of spectra with the same k values and the same norm."""
    for s in spectra(gen, size)[::40]:
        known, rest = s[:k], s[k:].square().sum()
        if known[-1] == 0:
            continue
        equal = (rest / (size - k)).sqrt().expand(size - k)
        packed, left = [], float(rest)
        for _ in range(size - k):
            packed.append(min(float(known[-1]), left**0.5))
            left = max(left - packed[-1] ** 2, 0)
        low, high = rank.effective_rank_bounds(known, s.norm(), size)
        assert torch.allclose(low, rank.effective_rank(torch.cat([known, torch.tensor(packed, dtype=F64)])), rtol=1e-5)
        assert torch.allclose(high, rank.effective_rank(torch.cat([known, equal])), rtol=1e-5)


def test_no_spectrum_with_the_same_numbers_is_outside(gen):
    """A search: random remaining values under all three constraints, biased towards their extremes."""
    for known, size in ((torch.tensor([1.0], dtype=F64), 4), (torch.tensor([5.0, 1.0], dtype=F64), 5)):
        shape, kinds = (20000, size - len(known)), torch.tensor([0.1, 0.5, 1, 3, 20], dtype=F64)
        x = torch.rand(shape, generator=gen, dtype=F64) ** kinds[torch.randint(5, (20000, 1), generator=gen)]
        x = torch.where(torch.rand(shape, generator=gen) < 0.2, known[-1], x)
        true = rank.effective_rank(torch.cat([known.expand(len(x), -1), x], 1))
        norm = (known.square().sum() + x.square().sum(1)).sqrt()
        low, high = rank.effective_rank_bounds(known.expand(len(x), -1), norm, size)
        assert (low <= true * (1 + 1e-9)).all() and (true <= high * (1 + 1e-9)).all()
        assert float((true / low).min()) < 1.01 and float((high / true).min()) < 1.01  # the search comes close to both


def test_without_the_cap_the_lower_bound_would_be_wrong():
    """Packing the rest into one value, as if it could exceed s_k, is no spectrum with these leading values."""
    s = torch.ones(10, dtype=F64)
    low, _ = rank.effective_rank_bounds(s[:1], s.norm(), 10)
    assert torch.allclose(low, torch.tensor(10.0, dtype=F64), rtol=1e-6)
    assert rank.effective_rank(torch.tensor([1.0, 3.0])) < 2


def test_bounds_allow_for_unconverged_directions(gen):
    """Directions after a drift: too small by up to their residual, the bounds still hold."""
    for _ in range(20):
        s = 0.5 ** torch.arange(30, dtype=F64)
        U, V = (torch.linalg.qr(torch.randn(size, 30, generator=gen, dtype=F64)).Q for size in (40, 50))
        W = (U * s) @ V.mT
        found = leading(W, 6)
        low, high = rank.effective_rank_bounds(found.s, rank.frobenius(W), 30, found.residual)
        assert low <= rank.effective_rank(s) <= high


def test_zero_and_not_finite():
    zero = torch.zeros(4)
    assert [float(x) for x in rank.effective_rank_bounds(zero, zero.norm(), 9)] == [0, 0]
    assert rank.stable_rank(zero, zero.norm()) == 0
    nan = torch.full((4,), torch.nan)
    assert all(torch.isnan(x) for x in (*rank.effective_rank_bounds(nan, nan[0], 9), rank.stable_rank(nan, nan[0])))


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
        true = rank.effective_rank(s)
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
