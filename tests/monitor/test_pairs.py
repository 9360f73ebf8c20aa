"""Rescaling pairs: every kind found by structure, Euler's identity and finite rescaling as its oracle, false pairs."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

from saddlescope.monitor import structure, symmetry  # noqa: E402
from saddlescope.monitor.pairs import Pair, Part, declared, find  # noqa: E402
from saddlescope.monitor.uses import Heads  # noqa: E402

CPU = torch.device("cpu")


class Custom(nn.Module):
    """Layers as attributes; the order and the activation are known to ``forward`` only."""

    def __init__(self, act: object) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3)
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 3)
        self.act = act if isinstance(act, nn.Module) else None
        self.f = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.f(self.conv1(x)), 2)
        x = F.adaptive_avg_pool2d(self.f(self.conv2(x)), 1).flatten(1)
        return self.fc2(self.f(self.fc1(x)))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Adapted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(6, 5).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(6, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 5, bias=False)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.lora_B["default"](self.lora_A["default"](x))


def prepared(model: nn.Module, *shape: int) -> torch.Tensor:
    """The loss of a model in double precision, its weights moved off their start."""
    model.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model(torch.randn(shape, generator=generator, dtype=torch.float64)).pow(3).mean()


def euler(model: nn.Module, found: tuple[Pair, ...]) -> dict[str, float]:
    weights = dict(model.named_parameters())
    layout = symmetry.layout(found, structure.heads(model), CPU)
    defects = symmetry.symmetry_defect(layout, weights, {name: weights[name].grad for name in layout.parameters})
    return dict(zip((pair.name for pair in found), defects.tolist(), strict=True))


def mlp(act: nn.Module, *between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 9), act, *between, nn.Linear(9, 3))


MODELS = {
    "relu": (lambda: mlp(nn.ReLU()), (7, 6), ["0~2"]),
    "leaky": (lambda: mlp(nn.LeakyReLU(), nn.Identity()), (7, 6), ["0~3"]),
    "linear": (lambda: nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3)), (7, 6), ["0~1"]),
    "norm": (lambda: nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 3)), (7, 6), ["0~1"]),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 2)),
        (4, 1, 6, 6),
        ["1~3"],
    ),
    "conv": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.AvgPool2d(2)),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        (4, 1, 8, 8),
        ["0.0~0.3", "0.3~2"],
    ),
    "custom": (lambda: Custom(F.relu), (4, 1, 10, 10), ["conv1~conv2", "conv2~fc1", "fc1~fc2"]),
    "gated": (Gated, (5, 6), ["up_proj~down_proj"]),
    "lora": (Adapted, (5, 6), ["lora_A.default~lora_B.default"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_pairs_are_found_and_hold(name: str) -> None:
    """Euler's identity to rounding, and the same loss after a finite rescaling, undone to the last bit."""
    make, shape, names = MODELS[name]
    torch.manual_seed(0)
    model = make()
    found = find(model)
    assert [pair.name for pair in found] == names
    prepared(model, *shape).backward()
    assert max(euler(model, found).values()) < 1e-15

    x = torch.randn(shape, dtype=torch.float64)
    before = {key: value.clone() for key, value in model.named_parameters()}
    out = model(x)
    for pair in found:
        with symmetry.rescaled(model, pair, 1.7):
            assert not all(torch.equal(before[key], value) for key, value in model.named_parameters())
            torch.testing.assert_close(model(x), out, rtol=1e-12, atol=1e-12)
        assert all(torch.equal(before[key], value) for key, value in model.named_parameters())


def test_rescaling_one_head() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(12, 3, 16, dropout=0.0, batch_first=True).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    out = model(x)
    found, heads = find(model), structure.heads(model)
    assert [pair.name for pair in found if not pair.certain] == ["linear1~linear2"]
    for pair in found:
        with symmetry.rescaled(model, pair, 0.3, heads):
            torch.testing.assert_close(model(x), out, rtol=1e-12, atol=1e-12)
    swapped = Pair("wrong", found[0].u, found[2].w, "qk")
    with symmetry.rescaled(model, swapped, 0.3, heads):
        assert not torch.allclose(model(x), out, rtol=1e-6)


@pytest.mark.parametrize("act", [nn.GELU(), nn.Tanh(), nn.SiLU(), nn.Sigmoid(), nn.Softmax(-1)])
def test_other_activations_form_no_pair(act: nn.Module) -> None:
    """Not found where they are seen; refused by the gradients where they are hidden or declared."""
    model = mlp(act)
    assert find(model) == ()
    told = declared(model, [("0", "2")])
    prepared(model, 7, 6).backward()
    assert euler(model, told)["0~2"] > 1e-5
    hidden = Custom(act)
    candidates = find(hidden)
    assert candidates and not any(pair.certain for pair in candidates)
    prepared(hidden, 4, 1, 10, 10).backward()
    assert min(euler(hidden, candidates).values()) > 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_tolerance_separates_true_pairs_from_false(dtype: torch.dtype) -> None:
    """All batches of a true pair pass, nearly none of a false one: in bfloat16 the two are close."""
    for act, true in ((nn.ReLU(), True), (nn.GELU(), False)):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(32, 64), act, nn.Linear(64, 64), act, nn.Linear(64, 5)).to(dtype)
        weights = dict(model.named_parameters())
        layout = symmetry.layout(declared(model, [("0", "2"), ("2", "4")]), {}, CPU)
        passed = []
        for _ in range(10):
            model.zero_grad()
            x, y = torch.randn(48, 32, dtype=dtype), torch.randint(0, 5, (48,))
            F.cross_entropy(model(x), y).backward()
            found = symmetry.symmetry_defect(layout, weights, {name: weights[name].grad for name in weights})
            passed.append(found < symmetry.tolerance(layout, weights, torch.finfo(dtype).eps))
        share = torch.stack(passed).double().mean(0)
        assert share.min() == 1 if true else share.max() < 0.4


def test_a_penalty_in_the_loss_breaks_the_symmetry() -> None:
    model = mlp(nn.ReLU())
    loss = prepared(model, 7, 6)
    (loss + 0.1 * model[0].weight.square().sum()).backward()
    assert euler(model, find(model))["0~2"] > 1e-4


def test_a_batch_without_gradients_says_nothing() -> None:
    """LoRA starts with B = 0: then u·g_u = w·g_w = 0 whatever the model is."""
    model = Adapted().double()
    nn.init.zeros_(model.lora_B["default"].weight)
    model(torch.randn(5, 6, dtype=torch.float64)).pow(3).mean().backward()
    assert math.isnan(euler(model, find(model))["lora_A.default~lora_B.default"])


def test_a_key_bias_has_zero_gradient_and_leaves_the_pair_alone() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(12, 3, batch_first=True).double()
    nn.init.normal_(model.in_proj_bias)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    model(x, x, x)[0].pow(3).mean().backward()
    assert model.in_proj_bias.grad[12:24].abs().max() < 1e-16
    assert max(euler(model, find(model)).values()) < 1e-15


def test_frozen_and_shared_weights_form_no_pair() -> None:
    model = mlp(nn.ReLU())
    model[2].weight.requires_grad_(False)
    assert find(model) == ()
    layer = nn.Linear(4, 4)
    assert find(nn.Sequential(layer, nn.ReLU(), layer)) == ()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([("0", "9")], ValueError, "'9'"),
        ([("0", "2.wieght")], ValueError, "did you mean '2.weight'"),
        ([("0", "1")], ValueError, "a module without a weight"),
        ([("0", "1", "2")], TypeError, "two names or a Pair"),
        ("0", TypeError, "must be a list of pairs"),
        ([3], TypeError, "two names or a Pair"),
        ([Pair("x", (Part("0.w"),), (Part("2.weight"),), "declared")], ValueError, "'0.w'"),
    ],
)
def test_wrong_declarations(given: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        declared(mlp(nn.ReLU()), given)


def test_declared_sides_of_several_parameters() -> None:
    model = mlp(nn.ReLU())
    (pair,) = declared(model, [(("0.weight", "0.bias"), "2")])
    assert pair.u == (Part("0.weight"), Part("0.bias")) and pair.w == (Part("2.weight"),)
    with pytest.raises(ValueError, match=r"names head 3 of '0\.weight', which has 2"):
        wrong = Pair("x", (Part("0.weight", 3),), (Part("2.weight"),), "declared")
        symmetry.layout([wrong], {"0.weight": Heads(2, "rows")}, CPU)
