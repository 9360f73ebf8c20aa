"""Parameters that no supported layer owns, seen by the nodes of the graph, beside brute force."""

import pytest
import torch
from oracle import compared
from torch import nn

from saddlescope.monitor import Watch

N, T, WORDS, D, HEADS = 6, 5, 11, 8, 2


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def loss(model, batch):
    ids, labels = batch
    return nn.functional.cross_entropy(model(ids).flatten(0, -2), labels.flatten())


def tokens():
    return torch.randint(WORDS, (N, T)), torch.randint(WORDS, (N, T))


def raw(*shape):
    return nn.Parameter(0.3 * torch.randn(*shape, dtype=torch.float64))


class Einsums(nn.Module):
    """An attention block of raw parameters, as interpretability libraries write it."""

    def __init__(self):
        super().__init__()
        k = D // HEADS
        self.W_E, self.W_pos, self.W_U, self.b_U = raw(WORDS, D), raw(T, D), raw(D, WORDS), raw(WORDS)
        self.W_Q, self.W_K, self.W_V, self.W_O = (
            raw(HEADS, D, k),
            raw(HEADS, D, k),
            raw(HEADS, D, k),
            raw(HEADS, k, D),
        )
        self.b_Q, self.w = raw(HEADS, k), raw(D)

    def forward(self, ids):
        x = (self.W_E[ids] + self.W_pos) * self.w
        q = torch.einsum("bpd,hdk->bphk", x, self.W_Q) + self.b_Q
        k, v = (torch.einsum("bpd,hdk->bphk", x, W) for W in (self.W_K, self.W_V))
        pattern = torch.einsum("bqhk,bphk->bhqp", q, k).softmax(-1)
        z = torch.einsum("bhqp,bphk->bqhk", pattern, v)
        return (x + torch.einsum("bphk,hkd->bpd", z, self.W_O)) @ self.W_U + self.b_U


class PerHead(nn.Module):
    """Products with a batch of weights, a selected weight, and a transposed one."""

    def __init__(self):
        super().__init__()
        self.W_E, self.W, self.V = raw(WORDS, D), raw(HEADS, D, D), raw(WORDS, D)

    def forward(self, ids):
        x = self.W_E[ids]
        x = torch.einsum("bpd,hde->bphe", x, self.W).sum(2) + x @ self.W[1]
        return torch.tanh(x) @ self.V.T


class TorchAttention(nn.Module):
    def __init__(self, causal=False):
        super().__init__()
        self.embed, self.head = nn.Embedding(WORDS, D), nn.Linear(D, WORDS)
        self.attention = nn.MultiheadAttention(D, HEADS, batch_first=True)
        self.double()

    def forward(self, ids):
        x = self.embed(ids)
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.W, self.embed, self.head = raw(D, D), raw(WORDS, D), raw(WORDS, D)

    def forward(self, ids):
        x = self.embed[ids]
        for _ in range(3):
            x = torch.tanh(nn.functional.linear(x, self.W))
        return nn.functional.linear(x, self.head)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("model", [Einsums, PerHead, TorchAttention, Recurrent])
@pytest.mark.parametrize("parts", [1, 2])
def test_every_parameter_agrees_with_brute_force(model, parts):
    # The second record: a parameter that turns out to be used several times has its trace from then on.
    found = compared(model(), loss, [tokens() for _ in range(parts)])
    assert found.worst < 1e-12
    assert not any(found.status.values())
    assert not found.watch.coverage().of("skipped")


def test_heads_of_raw_parameters():
    k = D // HEADS
    heads = {"W_Q": (HEADS, "rows"), "W_O": (HEADS, "rows")}
    found = compared(Einsums(), loss, [tokens()], heads=heads)
    assert found.worst < 1e-12
    assert found.watch.records[0].values["head_trace"]["W_Q"].shape == (HEADS,)
    assert k == 4


class Unknown(nn.Module):
    """A recurrent layer, whose fused operation is not understood."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(WORDS, D), nn.LSTM(D, D, batch_first=True), nn.Linear(D, WORDS)

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0])


def test_what_is_not_understood_is_named():
    model = Unknown()
    watch = Watch(model, schedule=1)
    with watch.step():
        loss(model, tokens()).backward()
    skipped = {name: reason for name, _, reason in watch.coverage().of("skipped")}
    assert skipped.keys() >= {"rnn.weight_ih_l0", "rnn.bias_hh_l0"}
    assert "LSTM" in skipped["rnn.weight_ih_l0"]
    assert "embed.weight" in watch.records[0].values["trace"]


class Shuffled(nn.Module):
    """Rows of the matrix product are not samples × positions of this batch."""

    def __init__(self):
        super().__init__()
        self.W_E, self.W = raw(WORDS, D), raw(D, WORDS)

    def forward(self, ids):
        x = self.W_E[ids]
        return (x[:, :3].reshape(-1, D)[:16] @ self.W).unsqueeze(0)


def test_rows_that_are_not_samples_are_refused():
    model = Shuffled()
    watch = Watch(model, schedule=1)
    with watch.step():
        model(tokens()[0]).square().mean().backward()
    assert {name for name, *_ in watch.coverage().of("skipped")} == {"W"}
    assert "W" not in watch.records[0].values.get("trace", {})


class PositionsFirst(nn.Module):
    """Flattened rows that run over positions first: sums over samples would not show the difference."""

    def __init__(self):
        super().__init__()
        self.W_E, self.W = raw(WORDS, D), raw(D, WORDS)

    def forward(self, ids):
        x = self.W_E[ids].transpose(0, 1)
        return (x.reshape(-1, D) @ self.W).unflatten(0, (T, -1)).transpose(0, 1)


def test_rows_over_positions_first_are_not_mistaken_for_samples():
    assert compared(PositionsFirst(), loss, [tokens()]).worst < 1e-12


def test_a_vector_that_is_split_into_heads_has_a_status():
    model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 3))
    watch = Watch(model, schedule=1, heads={"0.weight": (2, "rows"), "0.bias": (2, "rows")})
    with watch.step():
        model(torch.randn(N, D)).square().mean().backward()
    assert (watch.to_xarray().status == 0).all()
