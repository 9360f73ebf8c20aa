"""Predicted balance: exact where every step is sampled, within its error elsewhere, refused where it must be."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

from saddlescope.monitor import Watch  # noqa: E402
from saddlescope.monitor.balance import Balance  # noqa: E402
from saddlescope.monitor.capture import Capture  # noqa: E402
from saddlescope.monitor.forecast import constants  # noqa: E402
from saddlescope.monitor.record import Values  # noqa: E402
from saddlescope.monitor.rules import Rule  # noqa: E402
from saddlescope.monitor.sample import Sample, Scale, pooled  # noqa: E402
from saddlescope.monitor.schedule import schedule  # noqa: E402
from saddlescope.monitor.sites import layout, shared  # noqa: E402

INPUTS, OUTPUTS = 10, 3


def mlp(act: nn.Module | None = None, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(INPUTS, 32), act or nn.ReLU(), nn.Linear(32, OUTPUTS)).double()


def teacher() -> Callable[[torch.Tensor], torch.Tensor]:
    torch.manual_seed(9)
    net = nn.Sequential(nn.Linear(INPUTS, 16), nn.Tanh(), nn.Linear(16, OUTPUTS)).double()
    return lambda x: 2 * net(x).detach()


class Training:
    """A network that learns a noisy teacher from fresh samples, with its balance measured on some steps."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        batch: int = 8,
        samples: int | None = None,
        **options: Any,
    ) -> None:
        self.model, self.optimizer, self.batch, self.samples = model, optimizer, batch, samples
        self.balance = Balance(model, **options)
        self.balance.follow(optimizer)
        self.layout = layout(model, self.balance.ledger.heads)
        self.generator = torch.Generator().manual_seed(batch)
        self.teacher = teacher()
        self.step = 0
        self.records: list[tuple[int, Values]] = []
        self.last: Sample | None = None

    def run(self, steps: int, due: Callable[[int], bool], each: Callable[[int], None] = lambda step: None) -> None:
        for _ in range(steps):
            capture = None
            if due(self.step):
                self.balance.begin()
                uses, scaled = shared(self.layout.taps), self.balance.ledger.layout.parameters
                capture = Capture(self.model, self.layout, {}, self.samples, uses, scaled=scaled)
                capture.open()
            self.optimizer.zero_grad()
            x = torch.randn(self.batch, INPUTS, generator=self.generator, dtype=torch.float64)
            noise = torch.randn(self.batch, OUTPUTS, generator=self.generator, dtype=torch.float64)
            (self.model(x) - self.teacher(x) - 0.5 * noise).square().sum(1).mean().backward()
            if capture is not None:
                self.last = pooled(
                    self.step, self.layout.sites, capture.finish(), {}, Scale(), "", self.balance.per_sample
                )
                self.records.append((self.step, self.balance.measure(self.last)))
            each(self.step)
            self.optimizer.step()
            self.step += 1

    def of(self, variable: str, pair: str = "0~2") -> list[float]:
        return [float(values[variable][pair]) for _, values in self.records if pair in values.get(variable, {})]


def sgd(model: nn.Module, **constants: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.01, **constants})


EXACT_RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.05},
    "heavy ball": {"momentum": 0.8},
    "heavy ball, decay": {"momentum": 0.8, "weight_decay": 0.05},
}


@pytest.mark.parametrize("rule", EXACT_RULES)
def test_with_every_step_sampled_the_prediction_is_exact(rule: str) -> None:
    """The law with its parts is then the identity of the step."""
    model = mlp()
    training = Training(model, sgd(model, **EXACT_RULES[rule]))
    training.run(200, schedule(1))
    measured, predicted = training.of("imbalance"), training.of("imbalance_predicted")
    assert abs(measured[-1] - measured[0]) > 0.01
    assert max(abs(a - b) for a, b in zip(measured, predicted, strict=True)) < 1e-12
    identity = training.of("imbalance_identity")
    assert max(abs(a - b) for a, b in zip(measured, identity, strict=True)) < 1e-12
    assert not any(training.of("balance_jump")[1:])


def test_parts_against_gradients_of_every_sample() -> None:
    """Noise and gradient part from ``torch.func``, and the error of the trace from single samples."""
    model = mlp()
    training = Training(model, sgd(model, weight_decay=0.05), batch=12)
    kept: list[dict[str, torch.Tensor]] = []

    def record(step: int) -> None:
        kept.append({name: p.detach().clone() for name, p in model.named_parameters()})

    training.run(1, schedule(1), record)
    generator = torch.Generator().manual_seed(12)
    x = torch.randn(12, INPUTS, generator=generator, dtype=torch.float64)
    y = teacher()(x) + 0.5 * torch.randn(12, OUTPUTS, generator=generator, dtype=torch.float64)

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (torch.func.functional_call(model, weights, (x[None],))[0] - y).square().sum()

    G = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(kept[0], x, y)
    noise = gradient = decay = torch.zeros(())
    for name, sign in (("0.weight", 1), ("0.bias", 1), ("2.weight", -1)):
        g = G[name].flatten(1)
        trace = g.var(0).sum()
        noise = noise + sign * trace / 12
        gradient = gradient + sign * (g.mean(0).square().sum() - trace / 12)
        decay = decay + sign * kept[0][name].square().sum()
    assert training.of("balance_noise") == pytest.approx([float(noise) * 1e-4], rel=1e-12)
    assert training.of("balance_gradient") == pytest.approx([float(gradient) * 1e-4], rel=1e-10)
    assert training.of("balance_decay") == pytest.approx([float(decay) * ((1 - 5e-4) ** 2 - 1)], rel=1e-10)
    d = sum(
        sign * G[name].flatten(1).square().sum(1) for name, sign in (("0.weight", 1), ("0.bias", 1), ("2.weight", -1))
    )
    assert training.last is not None
    assert float(training.last.sums["0~2"].mean_stderr[0]) == pytest.approx(float(d.std() / 12**0.5), rel=1e-12)


@pytest.mark.parametrize(
    ("batch", "lr", "rule"),
    [
        (4, 0.02, {}),
        (32, 0.05, {}),
        (256, 0.1, {}),
        (32, 0.05, {"momentum": 0.9}),
        (32, 0.05, {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_predicted_against_measured(batch: int, lr: float, rule: dict[str, Any]) -> None:
    """Of 1500 steps, 46 are sampled: within its error, and the control, no change, is outside."""
    model = mlp(seed=1)
    optimizer = sgd(model, lr=lr * (1 - rule.get("momentum", 0)), **rule)
    training = Training(model, optimizer, batch, 16)
    training.run(1501, schedule("log+50"))
    measured, predicted = training.of("imbalance"), training.of("imbalance_predicted")
    error = training.of("imbalance_predicted_stderr")[-1]
    assert abs(measured[-1] - predicted[-1]) < 3 * error
    assert abs(measured[-1] - measured[0]) > 3 * error
    assert not any(flag == 1 for flag in training.of("balance_jump"))


@pytest.mark.parametrize(("lr", "momentum"), [(0.3, 0.0), (0.1, 0.0), (0.03, 0.9)])
def test_decay_between_records_is_exact(lr: float, momentum: float) -> None:
    """Weights shrink to 0 in few records: a straight line of the decay is wrong by 0.06 or more."""
    model = mlp(seed=1)
    optimizer = sgd(model, lr=lr, weight_decay=0.05, momentum=momentum)
    watch = Watch(model, "log+50", optimizer=optimizer)
    generator = torch.Generator().manual_seed(3)
    for _ in range(401):
        optimizer.zero_grad()
        x = torch.randn(32, INPUTS, generator=generator, dtype=torch.float64)
        with watch.step():
            (0.05 * (model(x) - x[:, :3]).square().sum(1).mean()).backward()
        optimizer.step()
    training = watch.to_xarray()
    error = training.imbalance_predicted_stderr[1:]
    off = abs(training.imbalance_predicted - training.imbalance)[1:]
    assert bool((off < 3 * error).all())
    assert float(off[-1, 0]) < 0.02
    decayed = training.balance_decay.interp(step=range(401)).cumsum("step").isel(step=-1)
    assert abs(float(decayed[0] - (training.imbalance[-1] - training.imbalance[0])[0])) > 0.04  # the straight line


def test_gains_of_momentum() -> None:
    """Noise alone: the level that independent gradients build up, times the gain of the level, is the gain of noise."""
    heavy = constants(Rule(0.1, 0.9, 0.2))
    assert heavy.level * heavy.share == pytest.approx(heavy.noise, rel=1e-12)
    assert heavy.noise == pytest.approx((0.1 * 0.8 / 0.1) ** 2)
    for μ in (0.5, 0.9):  # Nesterov: second moments of the recursion for gradients of unit variance
        C, V, η = 0.0, 0.0, 0.1
        for _ in range(2000):
            V = μ**2 * V + 1
            gm = 1.0
            change = -2 * η * μ * (μ * C) + η**2 * (1 + 2 * μ * gm + μ**2 * V)
            C = μ * C - η * (gm + μ * V)
        assert change == pytest.approx(constants(Rule(η, μ, nesterov=True)).noise, rel=1e-9)


def test_an_excursion_between_records_is_a_jump() -> None:
    model = mlp()
    optimizer = sgd(model, lr=0.01)
    training = Training(model, optimizer, 16, 16)

    def excursion(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 1.0 if step == 523 else 0.01

    training.run(800, schedule("log+50"), excursion)
    flagged = [step for step, values in training.records if float(values["balance_jump"]["0~2"]) == 1]
    assert flagged == [step for step, _ in training.records if step > 523][:1]


def test_candidates_are_used_after_three_records_and_false_ones_dropped() -> None:
    class Hidden(nn.Module):
        def __init__(self, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two, self.act = nn.Linear(INPUTS, 8), nn.Linear(8, OUTPUTS), act

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.act(self.one(x)))

    for act, true in ((F.relu, True), (F.gelu, False)):
        model = Hidden(act).double()
        training = Training(model, sgd(model))
        training.run(6, schedule(1))
        steps = [step for step, values in training.records if "one~two" in values.get("imbalance", {})]
        assert steps == ([2, 3, 4, 5] if true else [])
        assert len(training.balance.ledger.pairs) == true
        assert training.balance.refused == {}
        if true:
            identity = training.records[-1][1]["imbalance_identity"]["one~two"]
            assert float(identity) == pytest.approx(training.of("imbalance", "one~two")[-1], rel=1e-12)


@pytest.mark.parametrize("act", [nn.GELU(), nn.Tanh()])
def test_a_declared_pair_that_is_none_is_refused(act: nn.Module) -> None:
    model = mlp(act)
    training = Training(model, sgd(model), given=[("0", "2")])
    training.run(5, schedule(1))
    assert all("imbalance" not in values for _, values in training.records)
    assert "u·g_u differs from w·g_w" in training.balance.refused["0~2"]


def test_other_optimizers_have_imbalance_and_symmetry_only() -> None:
    model = mlp()
    training = Training(model, torch.optim.AdamW(model.parameters(), lr=0.01))
    training.run(5, schedule(1))
    assert set(training.records[-1][1]) == {"imbalance", "symmetry"}
    assert "AdamW" in training.balance.ledger.uncovered["0~2"]


def test_a_record_that_sees_nothing_is_passed_over() -> None:
    """No gradient in one record, a gradient that is not finite in another: the forecast goes on."""
    model = mlp()
    training = Training(model, sgd(model), 64)
    training.run(20, schedule(5))
    seen = training.last
    assert seen is not None
    not_finite = {
        name: replace(one, gradient_norm2=torch.full_like(one.gradient_norm2, torch.nan))
        for name, one in seen.seen.items()
    }
    for broken in (Sample(21, 0, {}, None, {}), Sample(22, 64, not_finite, None, {})):
        values = training.balance.measure(broken)
        assert values["imbalance"]["0~2"].isfinite() and values["imbalance_predicted"]["0~2"].isfinite()
        assert values["symmetry"]["0~2"].isnan() and values["balance_noise"]["0~2"].isnan()
    training.step = 25
    training.run(6, schedule(5))
    assert abs(training.of("imbalance_predicted")[-1] - training.of("imbalance")[-1]) < 0.2
    assert training.of("imbalance_predicted_stderr")[-1] < 0.2


def test_the_state_continues() -> None:
    def setup() -> Training:
        model = mlp()
        return Training(model, sgd(model, momentum=0.9, weight_decay=0.01))

    whole, first, second = setup(), setup(), setup()
    whole.run(30, schedule(3))
    first.run(16, schedule(3))
    second.run(2, schedule(1))
    for one, other in (
        (second.model, first.model),
        (second.optimizer, first.optimizer),
        (second.balance, first.balance),
    ):
        one.load_state_dict(copy.deepcopy(other.state_dict()))
    second.generator.set_state(first.generator.get_state())
    second.step, second.records = first.step, []
    second.run(14, schedule(3))
    assert [step for step, _ in second.records] == [18, 21, 24, 27]
    for variable, by_pair in second.records[-1][1].items():
        torch.testing.assert_close(by_pair, whole.records[-1][1][variable], rtol=0, atol=0, equal_nan=True)


def test_pairs_of_heads_are_predicted() -> None:
    """Queries and keys, values and output of each head, through the squares of single heads."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.num_heads = 2
            self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(INPUTS, INPUTS) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.stack([x, x.flip(1), x.cos()], 1)
            q, k, v = (
                part(x).unflatten(2, (2, -1)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
            )
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return self.o_proj(mixed).mean(1)[:, :OUTPUTS]

    model = Attention().double()
    training = Training(model, sgd(model, lr=0.05), 16)
    training.run(100, schedule(1))
    values = training.records[-1][1]
    assert sorted(values["imbalance"]) == ["ov.0", "ov.1", "qk.0", "qk.1"]
    for pair in values["imbalance"]:
        assert values["balance_noise"][pair].isfinite() and float(values["balance_noise"][pair]) != 0
        torch.testing.assert_close(
            values["imbalance_predicted"][pair], values["imbalance"][pair], rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize(
    ("clip", "momentum", "predicted"), [(None, 0.0, True), (1e3, 0.0, True), (0.2, 0.0, False), (0.2, 0.9, True)]
)
def test_no_prediction_where_the_step_uses_other_gradients(clip, momentum, predicted):
    """Under momentum the buffer says what was used; without it nothing does."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    update = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)
    watch = Watch(net, schedule=2, optimizer=update)
    for _ in range(9):
        update.zero_grad()
        with watch.step():
            net(torch.randn(16, 6)).square().sum(1).mean().backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        update.step()
    training = watch.to_xarray()
    assert bool(training.imbalance_predicted[-1].notnull().all()) == predicted
    change = (training.imbalance_identity - training.imbalance)[1:]
    assert abs(change).max() < 1e-4
    assert bool(training.balance_noise[-1].notnull().all()) == (predicted and clip != 0.2)
    state, reason = {name: row for name, *row in watch.coverage().rows}["0~2"]
    assert (state == "predicted") == predicted
    assert ("clipping" in reason) == (clip == 0.2)
    assert ("predicted" in watch.summary()["balance"].split("as predicted")[-1]) == predicted


def test_the_optimizer_may_step_inside_of_the_watched_step():
    def predicted(inside):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        update = torch.optim.SGD(net.parameters(), lr=0.1)
        watch = Watch(net, schedule=2, optimizer=update)
        for _ in range(9):
            update.zero_grad()
            with watch.step():
                net(torch.randn(16, 6)).square().sum(1).mean().backward()
                if inside:
                    update.step()
            if not inside:
                update.step()
        return watch.to_xarray().imbalance_predicted.values

    assert (predicted(True)[1:] == predicted(False)[1:]).all()


def test_rounding_of_weights_is_in_the_error_of_the_prediction():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).bfloat16()
    update = torch.optim.SGD(net.parameters(), lr=0.01)
    watch = Watch(net, schedule=5, optimizer=update)
    for _ in range(100):
        update.zero_grad()
        with watch.step():
            net(torch.randn(16, 6).bfloat16()).square().sum(1).mean().backward()
        update.step()
    training = watch.to_xarray().isel(pair=0)
    rounding = abs(training.imbalance_identity - training.imbalance)[1:]
    assert rounding.max() > 1e-3
    assert (training.imbalance_predicted_stderr[1:] >= rounding * (1 - 1e-6)).all()
