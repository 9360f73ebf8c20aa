"""Trainings that the monitor cannot follow, or that are wrong: a warning with the remedy, and training goes on."""

from __future__ import annotations

import contextlib
import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402

N = 8


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def batch(n: int = N) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 5, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def loss(model: Any, n: int = N, reduction: str = "mean") -> Any:
    x, y = batch(n)
    return functional.cross_entropy(model(x), y, reduction=reduction)


def plain(watch: Any, model: Any) -> None:
    with watch.step():
        loss(model).backward()


def summed(watch: Any, model: Any) -> None:
    with watch.step():
        loss(model, reduction="sum").backward()


def scaled(watch: Any, model: Any) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with watch.step():
        scaler.scale(loss(model)).backward()


def unscaled_weight(watch: Any, model: Any) -> None:
    """A penalty on a weight in the loss belongs to no sample."""
    with watch.step():
        (loss(model) + 0.1 * model[0].weight.square().sum()).backward()


def no_backward(watch: Any, model: Any) -> None:
    with watch.step():
        loss(model)


def backward_outside(watch: Any, model: Any) -> None:
    with watch.step():
        value = loss(model)
    value.backward()


def without_gradients(watch: Any, model: Any) -> None:
    with watch.step(), torch.no_grad():
        loss(model)
    loss(model).backward()


def in_inference_mode(watch: Any, model: Any) -> None:
    with watch.step(), torch.inference_mode():
        loss(model)
    loss(model).backward()


def everything_in_no_grad(watch: Any, model: Any) -> None:
    with torch.no_grad(), watch.step():
        loss(model)
    loss(model).backward()


def not_finite(watch: Any, model: Any) -> None:
    with watch.step():
        (loss(model) * float("nan")).backward()
    model.zero_grad()
    loss(model).backward()


def empty(watch: Any, model: Any) -> None:
    with watch.step():
        functional.cross_entropy(model(torch.zeros(0, 5)), torch.zeros(0, dtype=torch.long)).backward()
    model.zero_grad()
    loss(model).backward()


def one_sample(watch: Any, model: Any) -> None:
    with watch.step():
        loss(model, 1).backward()


def outside_forward(watch: Any, model: Any) -> None:
    """The weight is used in another place than its layer."""
    x, y = batch()
    with watch.step():
        out = functional.linear(functional.linear(x, model[0].weight).tanh(), model[2].weight) + model(x)
        functional.cross_entropy(out, y).backward()


def by_function(watch: Any, model: Any) -> None:
    """Batch norm as a function."""
    x, y = batch()
    with watch.step():
        h = functional.batch_norm(model[0](x), None, None, training=True)
        functional.cross_entropy(model[2](h), y).backward()


def replaced(watch: Any, model: Any) -> None:
    plain(watch, model)
    model[2] = nn.Linear(6, 3)
    model[0].weight = nn.Parameter(torch.randn(6, 5))
    plain(watch, model)


def reshaped(watch: Any, model: Any) -> None:
    plain(watch, model)
    model[0], model[2] = nn.Linear(5, 9), nn.Linear(9, 3)
    plain(watch, model)


def unfrozen(watch: Any, model: Any) -> None:
    model[0].requires_grad_(False)
    plain(watch, model)
    model[0].requires_grad_(True)
    plain(watch, model)


def frozen_all(watch: Any, model: Any) -> None:
    plain(watch, model)
    model.requires_grad_(False)
    with watch.step():
        loss(model)
    model.requires_grad_(True)
    loss(model).backward()


def nested(watch: Any, model: Any) -> None:
    with watch.step(), watch.step():
        loss(model).backward()


def two_watches(watch: Any, model: Any) -> None:
    other = Watch(model, 1)
    with watch.step(), other.step():
        loss(model).backward()
    one, two = watch.records[-1].values, other.records[-1].values
    assert torch.equal(one["mode_variance"]["0.weight"], two["mode_variance"]["0.weight"])


def copied(watch: Any, model: Any) -> None:
    with watch.step():
        loss(copy.deepcopy(model)).backward()
        loss(pickle.loads(pickle.dumps(model))).backward()
        loss(model).backward()


def other_model(watch: Any, model: Any) -> None:
    """The loss is of a copy, as after ``model = torch.compile(copy)``: nothing reaches the watched one."""
    with watch.step():
        loss(copy.deepcopy(model)).backward()


def gradients_only(watch: Any, model: Any) -> None:
    with watch.step():
        torch.autograd.grad(loss(model), list(model.parameters()))


def sparse() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(10, 6, sparse=True), nn.Flatten(), nn.Linear(12, 3))


def of_tokens(watch: Any, model: Any) -> None:
    ids = torch.randint(0, 10, (N, 2), generator=torch.Generator().manual_seed(1))
    with watch.step():
        functional.cross_entropy(model(ids), batch()[1]).backward()


class Wrong(nn.Linear):
    """A linear layer that does something else."""

    def forward(self, x: Any) -> Any:
        return super().forward(x) * 2


def of_wrong() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), Wrong(6, 3))


def with_lstm() -> Any:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x.unsqueeze(-1))[0][:, -1])

    return Last()


def with_batch_norm() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


def with_weight_norm() -> Any:
    torch.manual_seed(0)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 6))
    return nn.Sequential(normed, nn.Tanh(), nn.Linear(6, 3))


def compiled(watch: Any, model: Any) -> None:
    plain(watch, watch._wrapped)


def compiled_model() -> Any:
    torch.compiler.reset()
    return torch.compile(model(), backend="eager")


Train = Callable[[Any, Any], None]
CASES: dict[str, tuple[Callable[[], Any], Train, dict[str, Any], str]] = {
    "sum declared as mean": (model, summed, {}, r'looks like a sum .* use Watch\(…, reduction="sum"\)'),
    "mean declared as sum": (model, plain, {"reduction": "sum"}, "looks like a mean"),
    "loss scale not given": (model, scaled, {}, "multiplied by 256.*loss_scale=scaler"),
    "penalty in the loss": (model, unscaled_weight, {}, "0.weight.* at step 0: .*do not add up to the gradient"),
    "no backward": (model, no_backward, {}, "0.weight.* at step 0: no gradient arrived"),
    "backward outside": (model, backward_outside, {}, r"0.weight.* at step 0: .*inside watch.step\(\)"),
    "no_grad": (model, without_gradients, {}, "0.weight.* at step 0: no gradient arrived"),
    "inference mode": (model, in_inference_mode, {}, "0.weight.* at step 0: no gradient arrived"),
    "watched in no_grad": (model, everything_in_no_grad, {}, "0.weight.* at step 0: no gradient arrived"),
    "NaN": (model, not_finite, {}, "0.weight.* at step 0: a gradient or a weight was infinite or NaN"),
    "used outside its layer": (model, outside_forward, {}, "0.weight.* at step 0: .*do not add up"),
    "batch norm by function": (model, by_function, {}, "BatchNorm in training, which couples samples"),
    "batch norm": (with_batch_norm, plain, {}, "0.weight.*1 has a BatchNorm in training, which couples samples"),
    "recurrent layer": (with_lstm, plain, {}, "lstm.weight_ih_l0.*LSTM"),
    "weight norm": (with_weight_norm, plain, {}, "0.parametrizations.weight.original"),
    "another model": (model, other_model, {}, "0.weight.* at step 0: no gradient arrived"),
    "autograd.grad": (model, gradients_only, {}, "0.weight.* at step 0: no gradient arrived"),
    "frozen": (model, frozen_all, {}, ""),
    "compiled": (compiled_model, compiled, {}, r"compiled, so that hooks cannot fire: call watch.probe"),
    "nested": (model, nested, {}, r"watch.step\(\) inside another"),
    "empty batch": (model, empty, {}, "0.weight"),
    # and what is no fault
    "one sample": (model, one_sample, {}, ""),
    "parameters replaced": (model, replaced, {}, ""),
    "other shape": (model, reshaped, {}, ""),
    "unfrozen": (model, unfrozen, {}, ""),
    "two watches": (model, two_watches, {}, ""),
    "copied": (model, copied, {}, ""),
    "sparse embedding": (sparse, of_tokens, {}, ""),
    "own forward": (of_wrong, plain, {}, ""),
}


def hooks(model: Any) -> list[str]:
    found = [
        name
        for name, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    ]
    return found + [name for name, p in model.named_parameters() if p._backward_hooks or p._post_accumulate_grad_hooks]


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_with_a_warning(case):
    make, train, options, message = CASES[case]
    model = make()
    watch = Watch(model, 1, samples=None, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(watch, watch.model)
    told = [str(one.message) for one in said if "monitor" in str(one.message)]
    assert not hooks(watch.model)
    assert torch.overrides._get_current_function_mode() is None
    assert len(watch.records) >= 1
    watch.to_xarray()
    watch.coverage()
    if not message:
        assert not told
        return
    import re

    assert any(re.search(message, one) for one in told), told
    before = len(watch.records)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        watch.model.zero_grad()
        train(watch, watch.model)
    assert len(watch.records) > before


@pytest.mark.parametrize("case", [case for case, (*_, message) in CASES.items() if message])
def test_strict_raises_and_leaves_no_hook(case):
    make, train, options, message = CASES[case]
    watch = Watch(make(), 1, samples=None, strict=True, **options)
    with pytest.raises(RuntimeError, match=message):
        for _ in range(2):
            train(watch, watch.model)
    assert not hooks(watch.model)
    assert torch.overrides._get_current_function_mode() is None


def test_values_are_withheld_where_samples_are_not_seen():
    """A refused parameter has ranks and strengths, but neither variance nor trace."""
    for make, train in ((with_batch_norm, plain), (model, by_function)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watch = Watch(make(), 1, samples=None)
            train(watch, watch.model)
        values = watch.records[0].values
        assert {"mode_strength", "mode_signal", "gradient_norm2"} <= set(values)
        assert not values.get("mode_variance")
        assert not values.get("trace")


def test_sparse_gradients_are_read_as_dense_ones():
    records = []
    for kind in (True, False):
        one = sparse()
        one[0].sparse = kind
        watch = Watch(one, 1, samples=None)
        of_tokens(watch, one)
        records.append(watch.records[0].values)
    for variable in ("trace", "mode_variance", "mode_signal"):
        for name, value in records[1][variable].items():
            assert torch.allclose(records[0][variable][name], value, rtol=1e-6), (variable, name)


def test_a_penalty_is_caught_in_half_precision_too():
    x, y = torch.randn(64, 5), torch.randint(0, 3, (64,))
    for penalty, failed in ((0.0, 0), (0.5, 1)):
        one = model()
        watch = Watch(one, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with watch.step():
                with torch.autocast("cpu", torch.bfloat16):
                    value = functional.cross_entropy(one(x), y)
                (value + penalty * one[0].weight.square().sum()).backward()
        assert int(watch.records[0].values["status"]["0.weight"]) == failed


def test_contexts_of_the_user_are_left_as_they_are():
    """``begin`` and ``end`` may lie in other contexts than each other; a step that raises ends its own."""
    one = model()
    watch = Watch(one, 1)
    with torch.device("cpu"):
        watch.begin()
    loss(one).backward()
    watch.end()
    with pytest.raises(ZeroDivisionError), watch.step():
        raise ZeroDivisionError
    assert torch.overrides._get_current_function_mode() is None


def test_a_parameter_without_shape_is_refused_at_the_start():
    with pytest.raises(ValueError, match="lazy"):
        Watch(nn.Sequential(nn.LazyLinear(3)))


@pytest.mark.parametrize("context", [contextlib.nullcontext, torch.no_grad, torch.inference_mode])
def test_a_watch_made_in_any_context_works_later(context):
    one = model()
    with context():
        watch = Watch(one, 1)
        watch.coverage()
    plain(watch, one)
    assert watch.records[0].batch_size == N


def test_a_fault_of_the_monitor_does_not_stop_training(monkeypatch):
    one, x = model(), torch.randn(8, 5)
    watch = Watch(one, schedule=1)

    def fails(*args):
        raise RuntimeError("of the monitor itself")

    monkeypatch.setattr(watch._measure, "_values", fails)
    with pytest.warns(UserWarning, match="no record at step 0, since it raised RuntimeError: of the monitor itself"):
        for _ in range(2):
            with watch.step():
                one(x).square().mean().backward()
    assert not watch.records
    assert watch._step == 2
    assert not hooks(one)
    monkeypatch.undo()
    with watch.step():
        one(x).square().mean().backward()
    assert [record.step for record in watch.records] == [2]


def told_of(watch: Any, train: Train, steps: int = 3) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(steps):
            watch.model.zero_grad()
            train(watch, watch.model)
    return [str(one.message) for one in said if "monitor" in str(one.message)]


def penalised(watch: Any, model: Any) -> None:
    with watch.step():
        (loss(model) + 0.1 * sum(p.square().sum() for p in model.parameters())).backward()


def test_one_warning_for_one_cause():
    for train, names, cause in (
        (no_backward, "0.weight, 0.bias, 2.weight and 1 more", "no gradient arrived: call backward"),
        (penalised, "0.weight, 0.bias, 2.weight and 1 more", "samples do not add up to the gradient"),
    ):
        (only,) = told_of(Watch(model(), 1, ["modes", "noise"]), train)
        assert only.startswith(f"monitor: {names} at step 0: {cause}")


def test_pairs_that_fail_together_are_told_together():
    relu = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    watch = Watch(relu, 1, "balance", optimizer=torch.optim.SGD(relu.parameters(), 0.1))
    told = [one for one in told_of(watch, penalised) if "pair" in one]
    assert len(told) == 1, told
    assert told[0].startswith("monitor: no rescaling pair: 0~2, 2~4: ")
    assert {state for _, state, _ in watch.coverage().pairs} == {"no pair"}


def test_weights_alone_need_no_gradient():
    """Of a compiled model without a probe, and where nothing else was asked for."""
    matrices = ["0.weight", "2.weight"]
    for make, train, quantities, reason in (
        (compiled_model, compiled, "standard", "only weights: the model is compiled; call watch.probe"),
        (model, plain, "weights", ""),
        (model, no_backward, "weights", ""),
    ):
        watch = Watch(make(), 1, quantities)
        told = told_of(watch, train)
        assert len(told) == (quantities == "standard")
        coverage = watch.coverage()
        assert [name for name, *_ in coverage.of("watched")] == matrices
        assert all(why.startswith(reason) and bool(why) == bool(reason) for *_, why in coverage.of("watched"))
        assert {why.split(",")[0] for *_, why in coverage.of("skipped")} == {"is a vector"}
        assert "backward" not in repr(coverage)


def test_pairs_are_no_parameters_in_the_coverage():
    relu = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    for make, headline, why in (
        (torch.optim.SGD, "4 of 4 parameters recorded; 1 of 1 pairs predicted", ""),
        (torch.optim.Adam, "4 of 4 parameters recorded; 0 of 1 pairs predicted", "Adam"),
        (None, "4 of 4 parameters recorded; 0 of 1 pairs predicted", "no step of an optimizer was seen"),
    ):
        watch = Watch(relu, 1, optimizer=make and make(relu.parameters(), lr=0.01))
        told_of(watch, plain)
        coverage = watch.coverage()
        assert coverage.headline == headline
        assert why in coverage.pairs[0][2]
        watch.close()


def test_a_pair_whose_samples_are_not_seen_says_why():
    for train, why in ((one_sample, "as in a batch of one"), (no_backward, "no gradient arrived")):
        relu = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
        watch = Watch(relu, 1, optimizer=torch.optim.SGD(relu.parameters(), 0.1))
        for each in (plain, train):
            told_of(watch, each, 1)
        ((_, state, said),) = watch.coverage().pairs
        assert (state, why in said) == ("not predicted", True), said


class Scaled(nn.Module):
    """A norm and a bias, which may be used besides their layers."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.twice, self.first, self.norm, self.last = twice, nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        x = self.norm(self.first(x).tanh())
        return self.last(x + self.norm.bias.exp() * x[:, :1] if self.twice else x)


def vectors(penalty: float = 0.0, twice: bool = False, parts: int = 1, steps: int = 2, **options: Any) -> Any:
    torch.manual_seed(0)
    one = Scaled(twice)
    watch = Watch(one, 1, samples=4, **options)
    for _ in range(steps):
        for i in range(parts):
            with watch.step(complete=i == parts - 1):
                ((loss(one) + penalty * one.norm.weight.abs().sum()) / parts).backward()
        one.zero_grad()
    return watch


def left_out(watch: Any) -> set[str]:
    return {name for name, _, why in watch.coverage().of("skipped") if "do not add up" in why}


def test_a_penalty_on_the_scales_of_a_norm_is_caught():
    with pytest.warns(UserWarning, match="norm.weight at step 0: samples do not add up"):
        watch = vectors(penalty=1e-2)
    assert left_out(watch) == {"norm.weight"}
    for record in watch.records:
        assert "norm.weight" not in record.values["trace"]
        rest = sum(float(one) for one in record.values["trace"].values())
        assert float(record.values["total_trace"][""]) == pytest.approx(rest)


def test_a_vector_used_besides_its_layer_is_caught():
    with pytest.warns(UserWarning, match="norm.bias at step 0: samples do not add up"):
        watch = vectors(twice=True)
    assert left_out(watch) == {"norm.bias"}
    assert not any("norm.bias" in record.values["trace"] for record in watch.records)


@pytest.mark.parametrize("parts", [1, 3])
def test_vectors_are_compared_once(parts, monkeypatch):
    from saddlescope.monitor.uses import Rows

    formed = []
    own = Rows.formed
    monkeypatch.setattr(Rows, "formed", lambda self: formed.append(1) or own(self))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch = vectors(parts=parts, steps=3)
    assert len(formed) == 4 * parts
    assert not any(int(one) for record in watch.records for one in record.values["status"].values())
    watch.model.first.weight.requires_grad_(False)
    with watch.step():
        loss(watch.model).backward()
    assert len(formed) == 4 * parts + 4


def test_vectors_are_compared_in_probes_and_half_precision():
    for penalty, failed in ((0.0, False), (0.5, True)):
        torch.manual_seed(0)
        one = Scaled()

        def value(model: Any, given: Any, penalty: float = penalty) -> Any:
            x, y = given
            with torch.autocast("cpu", torch.bfloat16):
                out = model(x)
            return functional.cross_entropy(out.float(), y) + penalty * model.norm.weight.abs().sum()

        watch = Watch(one, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watch.probe(value, batch(64))
            with watch.step():
                value(one, batch(64)).backward()
        assert left_out(watch) == ({"norm.weight"} if failed else set())
        assert all(("norm.weight" in record.values["trace"]) != failed for record in watch.records)
        assert watch.records
