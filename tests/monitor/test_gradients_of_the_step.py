"""Predictions are of the gradients that the optimizer uses, or refused; hooks at the optimizer never stop training."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402
from saddlescope.monitor.account import Account  # noqa: E402

N = 8


def mlp() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3)).double()


def batches(steps: int) -> Any:
    return torch.randn(steps, N, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def trained(
    watch: Any,
    optimizer: Any,
    steps: int = 6,
    scale: float = 1.0,
    undone: float = 1.0,
    zero: bool = True,
    parts: int = 1,
) -> list[str]:
    """Train on ``scale`` times the loss, with a step after every ``parts`` batches; what was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for i, x in enumerate(batches(steps)):
            if zero and i % parts == 0:
                optimizer.zero_grad()
            with watch.step():
                losses = (watch.model(x) - x[:, :3].cos()).square().sum(1)
                ((losses.sum() if watch._set.reduction == "sum" else losses.mean()) * scale).backward()
            if undone != 1:
                for parameter in watch.model.parameters():
                    parameter.grad /= undone
            if (i + 1) % parts == 0:
                optimizer.step()
    return [str(one.message) for one in said if "monitor" in str(one.message)]


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_a_sum_is_a_mean_with_a_larger_learning_rate(momentum: float) -> None:
    found = []
    for reduction, lr in (("mean", 0.01 * N), ("sum", 0.01)):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
        watch = Watch(model, 1, samples=None, optimizer=optimizer, reduction=reduction)
        assert not trained(watch, optimizer)
        found.append(watch.to_xarray())
    mean, summed = found
    compared = [name for name in mean.data_vars if name.startswith(("balance_", "imbalance")) or "log_det" in name]
    assert {"balance_noise", "balance_gradient", "imbalance_predicted", "imbalance_predicted_stderr"} <= set(compared)
    for name in compared:
        torch.testing.assert_close(
            torch.tensor(summed[name].values), torch.tensor(mean[name].values), rtol=1e-9, atol=1e-12, equal_nan=True
        )
    assert abs(mean.imbalance - mean.imbalance[0]).max() > 1e-3
    assert abs(summed.imbalance_predicted - summed.imbalance).max() < 1e-12


@pytest.mark.parametrize("scale", [256.0, 0.25])
def test_a_loss_scale_is_undone_or_refused(scale: float) -> None:
    for undone in (scale, 1.0):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3 / scale * undone)
        watch = Watch(model, 1, optimizer=optimizer, loss_scale=scale)
        told = trained(watch, optimizer, scale=scale, undone=undone)
        predicted = bool(watch.to_xarray().imbalance_predicted[-1].notnull().all())
        assert predicted == (undone == scale)
        assert bool(told) == (undone != scale and scale > 1)
        assert ("loss_scale" in watch.summary()["balance"]) != predicted


def test_gradients_that_were_not_set_to_zero() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    watch = Watch(model, 1, optimizer=optimizer)
    told = trained(watch, optimizer, zero=False)
    assert len(told) == 1
    assert "zero_grad" in told[0]
    assert "no prediction: a step used larger gradients" in watch.summary()["balance"]
    with pytest.raises(RuntimeError, match="zero_grad"):
        trained(Watch(model, 1, optimizer=optimizer, strict=True), optimizer, zero=False)


def test_micro_batches_that_are_not_declared() -> None:
    for parts, every in ((1, 1), (4, 1), (3, 8)):
        model = mlp()
        watch = Watch(model, every)
        told = trained(watch, torch.optim.SGD(model.parameters(), lr=1e-3), 30, parts=parts)
        stalled = [one for one in told if "watch.step(complete=False)" in one]
        assert len(stalled) == (parts > 1)
        if parts == 4:
            assert "made no step between two records that are 1 watched steps apart" in stalled[0]


def test_infinite_gradients_are_no_missing_step() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    watch = Watch(model, 1, optimizer=optimizer)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for x in batches(6):
            skipped = len(watch.records) == 2
            optimizer.zero_grad()
            with watch.step():
                ((watch.model(x) * (float("inf") if skipped else 1.0)).square().mean()).backward()
            if not skipped:
                optimizer.step()
    assert not [one for one in said if "complete=" in str(one.message)]


def test_without_an_optimizer_the_summary_says_so() -> None:
    model = mlp()
    watch = Watch(model, 1)
    for x in batches(3):
        with watch.step():
            model(x).square().mean().backward()
    assert "no prediction: no step of an optimizer was seen" in watch.summary()["balance"]


@pytest.mark.parametrize("place", ["advance", "differing"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_fault_at_the_optimizer_does_not_stop_training(monkeypatch: Any, place: str, strict: bool) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    watch = Watch(model, 100, optimizer=optimizer, strict=strict)
    trained(watch, optimizer, 2)

    def fails(*args: Any) -> None:
        raise RuntimeError("of the account itself")

    monkeypatch.setattr(Account, place, fails)
    if strict:
        with pytest.raises(RuntimeError, match="of the account itself"):
            trained(watch, optimizer)
        return
    told = trained(watch, optimizer)
    assert len(told) == 1
    assert "balance is not accounted for from now on" in told[0]
    reasons = {why for *_, why in watch.coverage().rows}
    assert "the account raised RuntimeError: of the account itself" in reasons
