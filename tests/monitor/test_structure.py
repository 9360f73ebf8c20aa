"""Heads of attention, found by structure: each way to keep the projections, against Euler's identity of every head."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

from saddlescope.monitor import pairs, structure, symmetry  # noqa: E402
from saddlescope.monitor.uses import Heads  # noqa: E402

CPU = torch.device("cpu")


class Conv1D(nn.Module):
    """A linear map that keeps (in, out), as GPT-2 has it."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs) / 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Attention whose projections are kept as ``kind`` says."""

    def __init__(self, kind: str, n: int = 12, heads: int = 3, kv: int = 3) -> None:
        super().__init__()
        self.kind, self.num_heads, self.kv, self.size = kind, heads, kv, n // heads
        narrow = kv * self.size
        if kind == "separate":
            self.q_proj, self.k_proj, self.v_proj = nn.Linear(n, n), nn.Linear(n, narrow), nn.Linear(n, narrow)
            self.o_proj = nn.Linear(n, n)
        elif kind == "conv1d":
            self.c_attn, self.c_proj = Conv1D(n + 2 * narrow, n), Conv1D(n, n)
        elif kind in ("qkv", "query_key_value"):
            setattr(self, kind, nn.Linear(n, n + 2 * narrow))
            self.proj = nn.Linear(n, n)
        else:
            for role in "QKV":
                setattr(self, f"W_{role}", nn.Parameter(torch.randn(heads, n, self.size) / 3))
                setattr(self, f"b_{role}", nn.Parameter(torch.randn(heads, self.size) / 9))
            self.W_O = nn.Parameter(torch.randn(heads, self.size, n) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.projected(x)
        groups = self.num_heads // self.kv
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        if self.kind == "parameters":
            return torch.einsum("bhtd,hdn->btn", mixed, self.W_O)
        out = getattr(self, {"separate": "o_proj", "conv1d": "c_proj"}.get(self.kind, "proj"))
        return out(mixed.transpose(1, 2).flatten(2))

    def projected(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.kind == "parameters":
            weights = [(getattr(self, f"W_{role}"), getattr(self, f"b_{role}")) for role in "QKV"]
            return tuple(torch.einsum("btn,hnd->bhtd", x, W) + b[:, None] for W, b in weights)
        if self.kind == "separate":
            parts = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        elif self.kind == "query_key_value":
            whole = self.query_key_value(x).unflatten(2, (self.num_heads, 3, self.size))
            return tuple(part.transpose(1, 2) for part in whole.unbind(3))
        else:
            narrow = self.kv * self.size
            fused = self.c_attn if self.kind == "conv1d" else self.qkv
            parts = fused(x).split([self.num_heads * self.size, narrow, narrow], 2)
        return tuple(part.unflatten(2, (-1, self.size)).transpose(1, 2) for part in parts)


def defects(model: nn.Module, found: tuple[pairs.Pair, ...]) -> list[float]:
    """The defect of Euler's identity of every pair, on one batch."""
    model.double()
    x = torch.randn(5, 7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    out = model(x)
    (out[0] if isinstance(out, tuple) else out).pow(3).mean().backward()
    weights = dict(model.named_parameters())
    layout = symmetry.layout(found, structure.heads(model), CPU)
    return symmetry.symmetry_defect(layout, weights, {name: weights[name].grad for name in layout.parameters}).tolist()


@pytest.mark.parametrize(
    ("kind", "kv"),
    [
        ("separate", 3),
        ("separate", 1),
        ("conv1d", 3),
        ("qkv", 3),
        ("qkv", 1),
        ("query_key_value", 3),
        ("parameters", 3),
    ],
)
def test_every_head_is_found_and_can_be_rescaled(kind: str, kv: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Attention(kind, kv=kv))
    found = pairs.find(model)
    assert [pair.name for pair in found] == [f"0.{role}.{i}" for i in range(kv) for role in ("qk", "ov")]
    assert max(defects(model, found)) < 1e-15


def test_a_wrong_assignment_of_heads_is_refused() -> None:
    """The control: the same blocks read in the other order are no pairs."""
    torch.manual_seed(0)
    model = Attention("query_key_value")
    found = pairs.find(model)
    wrong = [pairs.Pair(p.name, p.u, q.w, p.kind) for p, q in zip(found, found[2:] + found[:2], strict=True)]
    assert min(defects(model, tuple(wrong))) > 1e-6


def test_heads_of_weights_and_biases() -> None:
    assert structure.heads(Attention("conv1d")) == {
        "c_attn.weight": Heads(9, "columns"),
        "c_attn.bias": Heads(9, "rows"),
        "c_proj.weight": Heads(3, "rows"),
    }
    assert structure.heads(nn.Sequential(Attention("separate", kv=1))) == {
        "0.q_proj.weight": Heads(3, "rows"),
        "0.q_proj.bias": Heads(3, "rows"),
        "0.k_proj.weight": Heads(1, "rows"),
        "0.k_proj.bias": Heads(1, "rows"),
        "0.v_proj.weight": Heads(1, "rows"),
        "0.v_proj.bias": Heads(1, "rows"),
        "0.o_proj.weight": Heads(3, "columns"),
    }


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 12, "vdim": 12, "bias": False}])
def test_multihead_attention(options: dict[str, object]) -> None:
    torch.manual_seed(0)

    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 3, batch_first=True, **options)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x)[0]

    model = Self()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    found = pairs.find(model)
    assert len(found) == 6
    assert max(defects(model, found)) < 1e-15


def test_a_norm_of_queries_leaves_no_pair_of_queries_and_keys() -> None:
    model = Attention("separate")
    model.q_norm = nn.LayerNorm(4)
    assert {pair.kind for pair in pairs.find(model)} == {"ov"}


def test_what_does_not_fit_is_no_attention() -> None:
    """Widths that the number of heads does not divide, or no number of heads."""
    model = Attention("separate")
    model.num_heads = 5
    assert structure.attentions(model) == ()
    del model.num_heads
    assert structure.attentions(model) == ()
