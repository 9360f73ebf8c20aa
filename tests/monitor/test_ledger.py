"""The account of every optimizer step: exact for SGD in all its forms, wrong or refused without the symmetry."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

from saddlescope.monitor.ledger import Ledger  # noqa: E402
from saddlescope.monitor.pairs import Pair, declared, find  # noqa: E402
from saddlescope.monitor.rules import Rule, State, advanced  # noqa: E402

EXACT = 1e-12
FORMS: dict[str, dict[str, object]] = {
    "plain": {},
    "decay": {"weight_decay": 0.02},
    "momentum": {"momentum": 0.9},
    "momentum, decay": {"momentum": 0.9, "weight_decay": 0.02},
    "dampening": {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.02},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02},
    "maximize": {"momentum": 0.9, "nesterov": True, "maximize": True, "weight_decay": 0.02},
    "foreach": {"momentum": 0.9, "foreach": True},
    "fused": {"momentum": 0.9, "weight_decay": 0.02, "fused": True},
}


class Block(nn.Module):
    """Attention and a ReLU layer: pairs of heads and of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x, x, x)[0]
        return self.head((x + self.mlp(x)).mean(1))


def block(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    model = Block().to(dtype)
    nn.init.normal_(model.attention.in_proj_bias, std=0.1)
    return model


def mlp(act: nn.Module) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(5, 7), act, nn.Linear(7, 3)).double()


def certain(model: nn.Module) -> list[Pair]:
    """The pairs without the candidate across the residual connection, which is none."""
    return [pair for pair in find(model) if pair.certain]


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    each: Callable[[int], None] = lambda step: None,
    seed: int = 0,
) -> None:
    """Steps on fresh batches; ``each`` acts between backward and step."""
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 3, 6) if isinstance(model, Block) else (4, 5)
    dtype = next(model.parameters()).dtype
    for step in range(steps):
        optimizer.zero_grad()
        x = torch.randn(shape, generator=generator, dtype=dtype)
        out = model(x)
        sign = -1 if optimizer.param_groups[0].get("maximize") else 1
        (sign * (out - x.flatten(1)[:, : out.shape[1]].cos()).square().mean()).backward()
        each(step)
        optimizer.step()


def gap(ledger: Ledger) -> float:
    """The largest difference of account and measurement, relative to how far the imbalance has come."""
    values = ledger.values()
    assert values["imbalance_identity"]
    return max(
        float((values["imbalance"][name] - account).abs() / (1 + account.abs()))
        for name, account in values["imbalance_identity"].items()
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_account_is_exact(form: str) -> None:
    """To rounding, with clipping and a learning rate that changes."""
    model = block()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **FORMS[form])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + 0.01 * step) + 0.1 * (step % 3))
    ledger = Ledger(model, certain(model))
    start = {name: float(value) for name, value in ledger.values()["imbalance"].items()}
    assert len(start) == 5
    ledger.attach(optimizer)

    def each(step: int) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        if step:
            schedule.step()

    train(model, optimizer, 1000 if form in ("plain", "nesterov") else 100, each)
    assert gap(ledger) < EXACT
    assert ledger.uncovered == {}
    moved = ledger.values()["imbalance"]
    assert max(abs(float(moved[name]) - start[name]) for name in start) > 1e-3


@pytest.mark.parametrize("wrong", [{"momentum": 0.89}, {"weight_decay": 0.021}, {"nesterov": False}, {"lr": 0.101}])
def test_an_account_by_another_rule_is_wrong(wrong: dict[str, object]) -> None:
    """The control: with a constant that is slightly off, the account leaves the measurement."""
    model = block()
    rule = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02, "nesterov": True}
    ledger = Ledger(model, certain(model))
    optimizer = torch.optim.SGD(model.parameters(), **rule)
    ledger.attach(optimizer)
    (account,) = ledger._accounts
    train(model, optimizer, 1)
    type(account).rule, kept = property(lambda self: Rule(**{**rule, **wrong})), type(account).rule
    try:
        train(model, optimizer, 100)
    finally:
        type(account).rule = kept
    assert gap(ledger) > 1e-5


@pytest.mark.parametrize("act", [nn.GELU(), nn.Tanh(), nn.SiLU()])
def test_the_account_of_a_false_pair_is_wrong(act: nn.Module) -> None:
    model = mlp(act)
    ledger = Ledger(model, declared(model, [("0", "2")]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ledger.attach(optimizer)
    train(model, optimizer, 100)
    assert gap(ledger) > 1e-3


def test_the_recursion_follows_the_definition() -> None:
    """Q and C of two numbers u, w with gradients that obey u·g_u = w·g_w, step by step."""
    generator = torch.Generator().manual_seed(5)
    u, w, m = 1.3, -0.7, (0.0, 0.0)
    state = State(*(torch.tensor([x], dtype=torch.float64) for x in (u * u - w * w, 0.0, 1.0)))
    for step in range(20):
        rule = Rule(0.1 + 0.01 * step, 0.8, 0.0, 0.05, nesterov=step % 2 == 0)
        a = float(torch.randn(1, generator=generator))
        g = (a * w, a * u)
        h = (g[0] + 0.05 * u, g[1] + 0.05 * w)
        m = (0.8 * m[0] + h[0], 0.8 * m[1] + h[1])
        s = (h[0] + 0.8 * m[0], h[1] + 0.8 * m[1]) if rule.nesterov else m
        u, w = u - rule.lr * s[0], w - rule.lr * s[1]
        sums = [torch.tensor([x[0] * y[0] - x[1] * y[1]]).double() for x, y in ((g, g), (g, m), (m, m))]
        state = advanced(state, rule, *sums)
        assert abs(float(state.imbalance) - (u * u - w * w)) < 1e-6
        assert abs(float(state.mixed) - (u * m[0] - w * m[1])) < 1e-6


def test_single_precision() -> None:
    """The account is that of exact weights; those of training are rounded in every step."""
    model = block(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    train(model, optimizer, 300)
    assert gap(ledger) < 2e-6


def test_attached_in_the_middle_with_momentum() -> None:
    model = block()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    train(model, optimizer, 20)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    train(model, optimizer, 50)
    assert gap(ledger) < EXACT


def test_momentum_switched_on_off_and_on() -> None:
    model = block()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    for momentum in (0.9, 0.0, 0.5, 0.0, 0.9):
        optimizer.param_groups[0]["momentum"] = momentum
        train(model, optimizer, 10)
        assert gap(ledger) < EXACT


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_state_continues_to_the_last_bit(momentum: float) -> None:
    def setup() -> tuple[nn.Module, torch.optim.Optimizer, Ledger]:
        model = block()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
        ledger = Ledger(model, certain(model))
        ledger.attach(optimizer)
        return model, optimizer, ledger

    model, optimizer, ledger = setup()
    train(model, optimizer, 10)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), ledger.state_dict()))
    train(model, optimizer, 10, seed=1)
    other, other_optimizer, other_ledger = setup()
    train(other, other_optimizer, 3)
    for one, state in zip((other, other_optimizer, other_ledger), saved, strict=True):
        one.load_state_dict(state)
    train(other, other_optimizer, 10, seed=1)
    assert other_ledger.identity() == ledger.identity()
    assert gap(ledger) < EXACT


def test_parameters_without_gradient() -> None:
    """A pair that does not take part rests; one that takes part by half has no account from then on."""
    model = block()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.02)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)

    def rest(step: int) -> None:
        if step % 3 == 1:
            for p in model.mlp.parameters():
                p.grad = None

    train(model, optimizer, 30, rest)
    assert gap(ledger) < EXACT and ledger.uncovered == {}

    def half(step: int) -> None:
        model.mlp[2].weight.grad = None

    train(model, optimizer, 2, half)
    assert list(ledger.uncovered) == ["mlp.0~mlp.2"]
    assert "mlp.2.weight had no gradient" in ledger.uncovered["mlp.0~mlp.2"]
    assert len(ledger.identity()) == 4 and gap(ledger) < EXACT
    assert len(ledger.values()["imbalance"]) == 5


@pytest.mark.parametrize("fused", [False, True])
def test_a_grad_scaler_and_its_skipped_steps(fused: bool) -> None:
    """Gradients are unscaled before they count, and a step with an overflow is not taken."""
    model = block()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.02, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        optimizer.zero_grad()
        x = torch.randn(4, 3, 6, generator=generator, dtype=torch.float64)
        scaler.scale((model(x) - 1).square().mean()).backward()
        if step in (5, 6):
            model.mlp[0].weight.grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
    assert gap(ledger) < EXACT


def test_groups_of_parameters() -> None:
    """Equal constants in several groups are one account; when they part, it ends with the reason."""
    model = mlp(nn.ReLU())
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1]}, {"params": [model[0].bias, model[2].bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    train(model, optimizer, 10)
    assert gap(ledger) < EXACT
    optimizer.param_groups[1]["weight_decay"] = 0.1
    train(model, optimizer, 1)
    assert ledger.uncovered == {"0~2": "weight_decay differs between its weights: 0 and 0.1"}


def test_a_group_added_later_and_a_pair_in_two_optimizers() -> None:
    model = mlp(nn.ReLU())
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    optimizer.add_param_group({"params": list(model[2].parameters())})
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    train(model, optimizer, 5)
    assert gap(ledger) < EXACT
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    apart = Ledger(model, certain(model))
    apart.attach(first)
    assert apart.uncovered == {"0~2": "2.weight is not in the optimizer of the rest of the pair"}


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.Adam, torch.optim.RMSprop])
def test_other_optimizers_are_measured_only(make: type[torch.optim.Optimizer]) -> None:
    model = mlp(nn.ReLU())
    optimizer = make(model.parameters(), lr=0.01)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    train(model, optimizer, 5)
    values = ledger.values()
    assert list(values["imbalance"]) == ["0~2"] and values["imbalance_identity"] == {}
    assert make.__name__ in ledger.uncovered["0~2"]


def test_a_subclass_of_sgd_with_its_own_step_has_no_account() -> None:
    class Same(torch.optim.SGD):
        pass

    class Other(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            super().step(closure)

    for make, count in ((Same, 1), (Other, 0)):
        model = mlp(nn.ReLU())
        ledger = Ledger(model, certain(model))
        optimizer = make(model.parameters(), lr=0.1)
        ledger.attach(optimizer)
        assert len(ledger.identity()) == count


def test_the_largest_change() -> None:
    model = mlp(nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    before: list[float] = []

    def each(step: int) -> None:
        before.append(float(ledger.values()["imbalance"]["0~2"]))
        optimizer.param_groups[0]["lr"] = 0.2 if step == 70 else 0.01

    train(model, optimizer, 100, each)
    before.append(float(ledger.values()["imbalance"]["0~2"]))
    value, ago = ledger.largest(clear=True)["0~2"]
    assert float(value) == pytest.approx(before[71] - before[70], rel=1e-9) and int(ago) == 29
    train(model, optimizer, 1, each)
    value, ago = ledger.largest()["0~2"]
    assert float(value) == pytest.approx(float(ledger.values()["imbalance"]["0~2"]) - before[100], rel=1e-9)
    assert int(ago) == 0


def test_hooks_go_and_keep_nothing_alive() -> None:
    model = mlp(nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    ledger.attach(optimizer)
    assert len(optimizer._optimizer_step_post_hooks) == 1
    ledger.detach()
    assert not optimizer._optimizer_step_post_hooks and not optimizer._optimizer_step_pre_hooks
    ledger.attach(optimizer)
    train(model, optimizer, 5)
    gone = weakref.ref(ledger)
    del ledger
    gc.collect()
    assert gone() is None
    train(model, optimizer, 2)

    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    optimizer_gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert optimizer_gone() is None
    assert ledger.values()["imbalance_identity"] == {}


def test_attach_wants_an_optimizer() -> None:
    model = mlp(nn.ReLU())
    with pytest.raises(TypeError, match=r"optimizer must be a torch\.optim\.Optimizer, got int"):
        Ledger(model, certain(model)).attach(3)


def test_pairs_that_are_dropped() -> None:
    model = block()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    ledger = Ledger(model, certain(model))
    ledger.attach(optimizer)
    train(model, optimizer, 10)
    ledger.keep(["attention.qk.0", "mlp.0~mlp.2"])
    train(model, optimizer, 10)
    assert [pair.name for pair in ledger.pairs] == ["attention.qk.0", "mlp.0~mlp.2"]
    assert len(ledger.identity()) == 2 and gap(ledger) < EXACT
