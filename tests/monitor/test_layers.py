"""Rows that are not samples are refused, however many there are; layers that are not supported are named."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from oracle import compared  # noqa: E402
from torch import nn  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402

N = 8


def record(model: Any, x: Any) -> tuple[Any, list[str]]:
    """A record of one step, and what was said."""
    watch = Watch(model, 1, samples=None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with watch.step():
            model(x).square().mean().backward()
    return watch.records[0].values, [str(one.message) for one in said]


def test_embedding_with_gradients_by_frequency_is_refused():
    model = nn.Sequential(nn.Embedding(10, 6, scale_grad_by_freq=True), nn.Linear(6, 3))
    values, said = record(model, torch.randint(0, 10, (N, 4)))
    assert set(values["trace"]) == {"1.weight", "1.bias"}
    assert "couples samples" in said[0]


class Between(nn.Module):
    """A linear layer, a change of the dims, then further layers."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.change, self.first, self.norm = change, nn.Linear(6, 6), nn.LayerNorm(6)
        self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        x = self.change(self.first(x))
        return self.third(torch.relu(self.norm(self.second(x)))).reshape(len(x), -1)


CHANGES: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "flattened": (lambda h: h.reshape(-1, 6), True),
    "windows": (lambda h: h.reshape(-1, 1, 6), True),
    "there and back": (lambda h: h.transpose(0, 1).tanh().transpose(0, 1), True),
    "other dims exchanged": (lambda h: h.permute(0, 2, 1).contiguous().permute(0, 2, 1), True),
    "one position of each": (lambda h: h[torch.arange(len(h)), [-1] * len(h)], True),
    "first position": (lambda h: h[:, 0], True),
    "transposed": (lambda h: h.transpose(0, 1), False),
    "permuted": (lambda h: h.permute(1, 0, 2).contiguous(), False),
    "transposed and flattened": (lambda h: h.transpose(0, 1).reshape(-1, 6), False),
    "in another order": (lambda h: h.reshape(-1, 6)[torch.randperm(h[..., 0].numel())], False),
    "routed, as many as samples": (lambda h: h.reshape(-1, 6)[torch.randperm(h[..., 0].numel())[:N]], False),
    "routed, twice as many": (lambda h: h.reshape(-1, 6)[torch.randperm(h[..., 0].numel())[: 2 * N]], False),
    "selected": (lambda h: h.reshape(-1, 6).index_select(0, torch.arange(N) * 3), False),
}


@pytest.mark.parametrize("T", [4, N, 2 * N])
@pytest.mark.parametrize("change", CHANGES)
def test_rows_are_samples_or_refused(change, T):
    function, right = CHANGES[change]
    values, said = record(Between(function), torch.randn(N, T, 6))
    later = {name for name in values["trace"] if not name.startswith("first")}
    assert set(values["trace"]) >= {"first.weight", "first.bias"}
    assert bool(later) == right, (later, said)
    assert bool(said) != right
    if not right:
        assert "second.weight" in said[0]
        assert set(values["mode_variance"]) == {"first.weight"}


@pytest.mark.parametrize("change", [name for name, (_, right) in CHANGES.items() if right])
def test_accepted_rows_are_right(change):
    def loss(model: Any, x: Any) -> Any:
        out = model(x).reshape(len(x), -1)
        return (out.sin() * (1 + x[:, 0, :1])).square().mean(1).mean()

    torch.manual_seed(0)
    found = compared(Between(CHANGES[change][0]).double(), loss, [torch.randn(N, N, 6).double()])
    assert found.worst < 1e-12, found.errors


class Encoder(nn.Module):
    """Attention that takes the batch first or second, in a model that is given it first or second."""

    def __init__(self, first: bool, turn: bool) -> None:
        super().__init__()
        self.turn, self.input, self.output = turn, nn.Linear(6, 8), nn.Linear(8, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=first)

    def forward(self, x: Any) -> Any:
        x = self.input(x)
        x = self.layer(x.transpose(0, 1)).transpose(0, 1) if self.turn else self.layer(x)
        return self.output(x)


@pytest.mark.parametrize("T", [5, N, 2 * N])
def test_sequence_first_models_are_refused(T):
    values, said = record(Encoder(first=False, turn=False), torch.randn(T, N, 6))
    assert not values.get("trace")
    assert not values.get("mode_variance")
    assert "batch_first=True" in said[0]
    values, _ = record(Encoder(first=False, turn=True), torch.randn(N, T, 6))
    assert not any("linear" in name or "norm" in name for name in values.get("trace", {}))
    values, said = record(Encoder(first=True, turn=False), torch.randn(N, T, 6))
    assert {"layer.linear1.weight", "layer.norm2.bias", "input.weight"} <= set(values["trace"])
    assert not said


def test_an_input_changed_in_place_is_refused():
    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            x = self.first(x)
            with torch.autocast("cpu", torch.bfloat16):  # the layer works on a copy, so autograd allows the change
                y = self.second(x)
            x.mul_(2.0)
            return x + y

    values, said = record(Changed(), torch.randn(N, 6))
    assert set(values["trace"]) == {"first.weight", "first.bias"}
    assert "second.weight" in said[0]
    assert "in place" in said[0]
