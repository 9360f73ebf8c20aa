"""Rows that look like those of samples and are none: of weights, of recurrent layers, of packed sequences."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from oracle import compared  # noqa: E402
from torch import nn  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402

N, T = 8, 5
functional = nn.functional


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def loss(model: Any, batch: Any) -> Any:
    x, y = batch
    return functional.cross_entropy(model(x), y)


def data(*shape: int) -> tuple[Any, Any]:
    return torch.randn(N, *shape, dtype=torch.float64), torch.randint(3, (N,))


class Composed(nn.Module):
    """A weight that is made of other weights before it meets the data."""

    def __init__(self, how: str, outputs: int) -> None:
        super().__init__()
        self.how, self.head = how, nn.Linear(outputs, 3)
        self.A, self.B = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(outputs, 4))
        self.W, self.scale = nn.Parameter(torch.randn(outputs, 6)), nn.Parameter(torch.rand(6))
        self.B.requires_grad_(how != "frozen")

    def forward(self, x: Any) -> Any:
        weight = self.W * (2.0 * self.scale).exp() if self.how == "scale" else self.B @ self.A
        return self.head(functional.linear(x, weight).tanh())


@pytest.mark.parametrize("outputs", [N, 2 * N])
@pytest.mark.parametrize("how", ["scale", "product", "frozen"])
def test_rows_of_weights_are_refused(how, outputs):
    model, batch = Composed(how, outputs).double(), data(6)
    watch = Watch(model, 1, samples=None)
    with pytest.warns(UserWarning, match="meets other weights"), watch.step():
        loss(model, batch).backward()
    assert set(watch.records[0].values["trace"]) == {"head.weight", "head.bias"}


class Recurrent(nn.Module):
    """A recurrent layer that is given data, which have no graph."""

    def __init__(self, kind: type[nn.RNNBase], first: bool) -> None:
        super().__init__()
        self.first, self.layer, self.head = first, kind(6, 4, batch_first=first), nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        out = self.layer(x if self.first else functional.dropout(x.transpose(0, 1), 0.0))[0]
        return self.head(out[:, -1] if self.first else out[-1])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_agree_with_brute_force(kind, first):
    found = compared(Recurrent(kind, first).double(), loss, [data(T, 6)])
    assert not any(found.status.values())
    assert set(found.watch.records[0].values["trace"]) == set(dict(found.watch.model.named_parameters()))
    assert found.worst < 1e-12


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(9, 6), nn.GRU(6, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, ids: Any) -> Any:
        lengths = torch.tensor([1, 2, 3, 3, 3, 2, 1, 1])  # 2N rows in all
        return self.head(self.layer(pack(self.embedding(ids), lengths))[1][-1])


def pack(x: Any, lengths: Any) -> Any:
    return nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)


def test_packed_sequences_are_refused():
    model = Packed().double()
    watch = Watch(model, 1, samples=None)
    with pytest.warns(UserWarning, match="packed sequence"), watch.step():
        loss(model, (torch.randint(9, (N, 3)), torch.randint(3, (N,)))).backward()
    assert set(watch.records[0].values["trace"]) == {"embedding.weight", "head.weight", "head.bias"}


class Keywords(nn.Module):
    """Attention that is called by keywords, with the batch second."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.attention = nn.Linear(6, 8), nn.MultiheadAttention(8, 2)

    def forward(self, x: Any) -> Any:
        x = self.input(x)
        return self.attention(query=x, key=x, value=x, need_weights=False)[0].mean(0)[:, :3]


def test_attention_by_keywords_is_refused_with_the_batch_second():
    model = Keywords().double()
    watch = Watch(model, 1, samples=None)
    with pytest.warns(UserWarning, match="batch_first=True"), watch.step():
        loss(model, (torch.randn(T, N, 6, dtype=torch.float64), torch.randint(3, (N,)))).backward()
    assert not watch.records[0].values.get("trace")


class Turned(nn.Module):
    """Dimensions exchanged by two permutations in a row."""

    def __init__(self, back: bool) -> None:
        super().__init__()
        self.back, self.first, self.second = back, nn.Linear(6, N), nn.Linear(N, 3)

    def forward(self, x: Any) -> Any:
        x = self.first(x).permute(2, 1, 0).permute(*((2, 1, 0) if self.back else (1, 2, 0)))
        return self.second(x).tanh().mean(1 if self.back else 0)


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.filterwarnings("ignore:monitor")
def test_permutations_in_a_row(back):
    model, x = Turned(back).double(), torch.randn(N, N, 6, dtype=torch.float64)
    watch = Watch(model, 1, samples=None)
    with watch.step():
        model(x).square().mean().backward()
    assert int(watch.records[0].values["status"]["second.weight"]) == (0 if back else 16)


class PositionsInFront(nn.Module):
    """A bias and a scale where rows are positions × samples."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat, self.head = flat, nn.Linear(6, 3)
        self.W, self.b, self.g = (nn.Parameter(torch.randn(*shape)) for shape in ((6, 6), (6,), (6,)))

    def forward(self, x: Any) -> Any:
        x = torch.tanh(x @ self.W).transpose(0, 1)
        x = ((x.reshape(-1, 6) if self.flat else x) + self.b) * self.g
        return self.head(x.reshape(-1, N, 6).transpose(0, 1).tanh().mean(1))


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("length", [T, N, 2 * N])
def test_positions_are_not_taken_for_samples_by_a_bias(length, flat):
    model = PositionsInFront(flat).double()
    watch = Watch(model, 1, samples=None)
    with pytest.warns(UserWarning, match="positions|meets a gradient"), watch.step():
        loss(model, data(length, 6)).backward()
    assert set(watch.records[0].values["trace"]) == {"W", "head.weight", "head.bias"}
