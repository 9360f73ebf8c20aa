"""Parameters that are the same for all samples: embeddings of positions, class tokens, beside brute force."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from oracle import compared  # noqa: E402
from torch import nn  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402

N, WORDS, D = 6, 11, 8


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def raw(*shape: int) -> Any:
    return nn.Parameter(0.3 * torch.randn(*shape, dtype=torch.float64))


def loss(model: Any, batch: Any) -> Any:
    ids, labels = batch
    return nn.functional.cross_entropy(model(ids), labels)


def tokens(T: int) -> Any:
    return torch.randint(WORDS, (N, T)), torch.randint(3, (N,))


class Added(nn.Module):
    """Token and position embeddings, added."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.tok, self.head = how, nn.Embedding(WORDS, D), nn.Linear(D, 3)
        self.norm, self.drop, self.shift = nn.LayerNorm(D), nn.Dropout(0.0), nn.Embedding(2, D)
        if how.startswith("raw"):
            self.pos = raw(1, 16, D) if "batch" in how else raw(16, D)
        elif how != "relative":
            self.pos = nn.Embedding(16, D, padding_idx=1 if how == "padded" else None)
        else:
            self.pos = nn.Embedding(4, 2)
        self.double()

    def positions(self, T: int) -> Any:
        t = torch.arange(T)
        return {
            "module": lambda: self.pos(t),
            "padded": lambda: self.pos(t),
            "module in a batch of one": lambda: self.pos(t.unsqueeze(0)),
            "expanded": lambda: self.pos(t).unsqueeze(0).expand(N, -1, -1) if self.training else self.pos(t),
            "backwards": lambda: self.pos(t[None].flip(1)),
            "repeated": lambda: self.pos(t // 2)[None],
            "longer": lambda: self.pos(torch.arange(16))[:T],
            "sum of two": lambda: self.pos(t) + self.shift(t % 2),
            "raw slice": lambda: self.pos[:T],
            "raw slice in a batch": lambda: self.pos[:, :T],
            "raw index": lambda: self.pos[t],
            "raw function": lambda: nn.functional.embedding(t, self.pos),
        }[self.how]()

    def forward(self, ids: Any) -> Any:
        x, T = self.tok(ids), ids.shape[1]
        if self.how == "relative":
            t = torch.arange(T)
            bias = self.pos((t[:, None] - t).abs().clamp(max=3)).permute(2, 0, 1).unsqueeze(0)
            x = (((x @ x.mT).unsqueeze(1) + bias).softmax(-1) @ x.unsqueeze(1)).sum(1)
        else:
            x = self.drop(x + self.positions(T))
        return self.head(torch.tanh(self.norm(x)).mean(1))


HOWS = [
    "module", "padded", "module in a batch of one", "backwards", "repeated", "longer", "sum of two",
    "raw slice", "raw slice in a batch", "raw index", "raw function", "relative",
]  # fmt: skip


@pytest.mark.parametrize("T", [5, N])
@pytest.mark.parametrize("how", HOWS)
def test_positions_agree_with_brute_force(how, T):
    model = Added(how)
    model.shift.requires_grad_(how == "sum of two")
    found = compared(model, loss, [tokens(T), tokens(T)])
    assert not any(found.status.values()), found.messages
    assert not found.messages
    assert found.worst < 1e-12, found.errors
    assert "pos" in "".join(found.watch.records[0].values["trace"])


def test_dropout_after_the_sum():
    """With the same masks, the mean of the samples is the gradient."""
    model = Added("module")
    model.drop.p = 0.5
    watch = Watch(model, 1, samples=None)
    with watch.step():
        loss(model, tokens(5)).backward()
    values = watch.records[0].values
    assert float(values["check"]["pos.weight"]) < 1e-12
    assert float(values["trace"]["pos.weight"]) > 0


class ClassToken(nn.Module):
    """A vision transformer's first steps."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.input, self.head = how, nn.Linear(3, D), nn.Linear(D, 3)
        self.cls, self.pos = raw(1, 1, D), raw(1, 16, D)
        self.double()

    def forward(self, x: Any) -> Any:
        x = self.input(x)
        first = self.cls.repeat(len(x), 1, 1) if self.how == "repeat" else self.cls.expand(len(x), -1, -1)
        x = torch.cat([first, x], 1) + self.pos[:, : x.shape[1] + 1]
        return self.head((x @ x.mT).softmax(-1).matmul(x)[:, 0])


@pytest.mark.parametrize("T", [4, N - 1, N])
@pytest.mark.parametrize("how", ["expand", "repeat"])
def test_class_tokens_agree_with_brute_force(how, T):
    batch = torch.randn(N, T, 3, dtype=torch.float64), torch.randint(3, (N,))
    found = compared(ClassToken(how), loss, [batch])
    assert not found.messages
    assert found.worst < 1e-12, found.errors


class NotBroadcast(nn.Module):
    """Positions that are multiplied before they meet samples, or that are expanded to other positions."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.tok, self.pos, self.head = how, nn.Embedding(WORDS, D), nn.Embedding(16, D), nn.Linear(D, 3)
        self.first, self.mix = raw(D), nn.Linear(D, D)
        self.double()

    def forward(self, ids: Any) -> Any:
        T = ids.shape[1]
        x = self.tok(ids)
        if self.how == "mixed":
            x = x + self.mix(self.pos(torch.arange(T)))
        elif self.how == "multiplied":
            x = x + 2 * self.pos(torch.arange(T)).tanh()
        else:
            x = x + self.first.expand(T, D)
        return self.head(torch.tanh(x).mean(1))


@pytest.mark.parametrize("T", [5, N])
@pytest.mark.parametrize(("how", "name"), [("mixed", "pos.weight"), ("multiplied", "pos.weight")])
@pytest.mark.filterwarnings("ignore:monitor. mix")
def test_what_is_not_reached_is_skipped_without_alarm(how, name, T):
    model = NotBroadcast(how)
    model.first.requires_grad_(False)
    model.mix.requires_grad_(how == "mixed")
    watch = Watch(model, 1, samples=None, strict=how == "multiplied")
    with watch.step():
        loss(model, tokens(T)).backward()
    values = watch.records[0].values
    assert name not in values["trace"]
    assert int(values["status"][name]) == 0
    assert "BatchNorm" not in str(watch.coverage())
    assert name in {one for one, *_ in watch.coverage().of("skipped")}


def test_what_is_expanded_to_positions_is_refused():
    model = NotBroadcast("expanded")
    model.pos.requires_grad_(False)
    model.mix.requires_grad_(False)
    watch = Watch(model, 1, samples=None)
    with pytest.warns(UserWarning, match="not seen to be the samples"), watch.step():
        loss(model, tokens(N)).backward()
    assert "first" not in watch.records[0].values["trace"]


def test_gpt2_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=D, vocab_size=WORDS, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    model = transformers.GPT2LMHeadModel(config).double()

    def of_words(model: Any, batch: Any) -> Any:
        ids, _ = batch
        return nn.functional.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    found = compared(model, of_words, [tokens(N)])
    assert found.worst < 1e-11, found.errors
    assert not any(found.status.values())
    assert not found.watch.coverage().of("skipped")
