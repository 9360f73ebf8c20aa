"""Training with a watch ends with the same bits as without: weights, gradients, optimizer and random generators."""

from __future__ import annotations

import contextlib
import copy
import gc
import random
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402

STEPS = 10


class Model(nn.Module):
    """Tokens to tokens: embedding, attention-like mixing, norm, in-place ReLU, dropout; parts by name."""

    def __init__(self, *parts: str) -> None:
        super().__init__()
        self.parts = parts
        self.embedding, self.up, self.down = nn.Embedding(11, 8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.norm, self.dropout, self.head = nn.LayerNorm(8), nn.Dropout(0.2), nn.Linear(8, 11, bias=False)
        self.relu, self.bn, self.conv = nn.ReLU(inplace=True), nn.BatchNorm1d(8), nn.Conv1d(8, 8, 3, padding=1)
        if "tied" in parts:
            self.head.weight = self.embedding.weight
        if "frozen" in parts:
            self.up.requires_grad_(False)
        if "batch norm" not in parts:
            self.bn = nn.Identity()

    def block(self, x: Any) -> Any:
        x = x + self.down(self.dropout(self.relu(self.up(self.norm(x)))))
        return x + self.bn(self.conv(x.mT)).mT

    def forward(self, ids: Any) -> Any:
        x = self.embedding(ids)
        for part, reentrant in (("reentrant", True), ("not reentrant", False)):
            if part in self.parts:
                return self.head(checkpoint(self.block, x, use_reentrant=reentrant))
        return self.head(self.block(x))


def loss(model: Any, ids: Any) -> Any:
    return nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.roll(1, 1).flatten())


Pass = Callable[[Any, Any], None]
"""The passes of one step, on a model and tokens (8, 6)."""


def plain(model: Any, ids: Any) -> None:
    loss(model, ids).backward()


def with_autocast(model: Any, ids: Any) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(model, ids)
    value.backward()


def accumulated(model: Any, ids: Any) -> None:
    for part in ids.split(3):
        (loss(model, part) / 3).backward()


def clipped(model: Any, ids: Any) -> None:
    loss(model, ids).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def with_create_graph(model: Any, ids: Any) -> None:
    loss(model, ids).backward(create_graph=True)


def with_penalty(model: Any, ids: Any) -> None:
    """A penalty on a gradient, so that the backward pass runs twice."""
    x = model.embedding(ids)
    out = model.head(model.block(x))
    (g,) = torch.autograd.grad(out.square().mean(), x, create_graph=True)
    (nn.functional.cross_entropy(out.flatten(0, 1), ids.flatten()) + g.square().sum()).backward()


def retained(model: Any, ids: Any) -> None:
    value = loss(model, ids)
    value.backward(retain_graph=True)
    (2 * value).backward()


def sgd(model: Any) -> Any:
    return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)


def adam(**options: Any) -> Callable[[Any], Any]:
    return lambda model: torch.optim.AdamW(model.parameters(), 1e-2, **options)


CASES: dict[str, tuple[tuple[str, ...], Pass, Callable[[Any], Any], bool]] = {
    "single precision": ((), plain, sgd, True),
    "autocast": ((), with_autocast, sgd, True),
    "accumulation": ((), accumulated, sgd, True),
    "clipping": ((), clipped, sgd, True),
    "tied": (("tied",), plain, sgd, True),
    "tied, accumulation, autocast": (("tied",), lambda m, x: [with_autocast(m, p) for p in x.split(4)], sgd, True),
    "reentrant checkpointing": (("reentrant", "tied"), plain, sgd, True),
    "other checkpointing": (("not reentrant", "tied"), plain, sgd, True),
    "frozen": (("frozen",), plain, sgd, True),
    "batch norm": (("batch norm",), plain, sgd, True),
    "gradients set to zero": ((), plain, sgd, False),
    "gradients of gradients": ((), with_create_graph, sgd, True),
    "penalty on a gradient": ((), with_penalty, sgd, True),
    "retained graph": ((), retained, sgd, True),
    "fused": ((), plain, adam(fused=True), True),
    "foreach": ((), plain, adam(foreach=True, amsgrad=True), True),
}


def state(model: Any, optimizer: Any) -> dict[str, Any]:
    """Everything that training depends on or leaves behind."""
    return {
        "weights": dict(model.state_dict()),
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "optimizer": optimizer.state_dict(),
        "generators": [torch.get_rng_state(), random.getstate(), np.random.get_state()],  # noqa: NPY002
    }


def train(case: str, watched: bool, wrap: Callable[[Any], Any] = lambda model: model, **options: Any) -> Any:
    parts, passes, optimizer_of, to_none = CASES[case]
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    model = Model(*parts)
    wrapped = wrap(model)
    optimizer = optimizer_of(model)
    watch = Watch(wrapped, schedule=lambda step: step != 2, samples=3, **options) if watched else None
    for _ in range(STEPS):
        ids = torch.randint(0, 11, (8, 6))
        with watch.step() if watch else contextlib.nullcontext():
            passes(wrapped, ids)
        optimizer.step()
        last = state(model, optimizer)
        last["gradients"] = {n: None if g is None else g.detach().clone() for n, g in last["gradients"].items()}
        optimizer.zero_grad(set_to_none=to_none)
    if watch:
        assert len(watch.records) == STEPS - 1
        if case == "accumulation":
            assert watch.records[0].batch_size == 8
    return last


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested states differ in any bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, np.ndarray):
        return [] if np.array_equal(one, other) else [where]
    if isinstance(one, dict):
        return [d for key in {*one, *other} for d in differences(one.get(key), other.get(key), f"{where}.{key}")]
    if isinstance(one, list | tuple) and len(one) < 100:
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{where}[{i}]")]
    return [] if one == other else [where]


@pytest.mark.parametrize("case", CASES)
def test_training_is_bit_identical(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without, watched = train(case, False), train(case, True)
    assert not differences(without, watched)


def test_compiled_training_with_probe_is_bit_identical():
    """A compiled model with dropout and a batch norm whose buffers move; the probe runs beside it."""

    def run(probed: bool) -> dict[str, Any]:
        torch.manual_seed(3)
        torch.compiler.reset()
        model = Model("batch norm", "tied")
        compiled = torch.compile(model, backend="aot_eager")
        optimizer = sgd(model)
        watch = Watch(compiled, schedule=2, samples=3)
        for _ in range(4):
            ids = torch.randint(0, 11, (8, 6))
            if probed:
                watch.probe(loss, ids)
            plain(compiled, ids)
            optimizer.step()
            last = state(model, optimizer)
            optimizer.zero_grad(set_to_none=False)
        assert len(watch.records) == (2 if probed else 0)
        assert not hooks(model)
        return last

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without, probed = run(False), run(True)
    assert not differences(without, probed)


def test_a_generator_that_is_used_is_noticed():
    """The comparison itself: one number drawn from a generator must be found."""
    without = train("single precision", False)
    torch.rand(1)
    assert differences(without["generators"], [torch.get_rng_state(), *without["generators"][1:]])


# --- what is left behind


def hooks(model: Any) -> list[str]:
    """Hooks on modules and parameters."""
    found = []
    for name, module in model.named_modules():
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        found += [f"{name}.{kind}" for kind in kinds if getattr(module, kind)]
    for name, p in model.named_parameters():
        found += [f"{name}.{kind}" for kind in ("_backward_hooks", "_post_accumulate_grad_hooks") if getattr(p, kind)]
    return found


class Broken(RuntimeError):
    """Raised by a training step."""


@pytest.mark.parametrize("where", ["before", "forward", "backward", "after", "second micro-batch"])
@pytest.mark.parametrize("part", ["", "reentrant", "not reentrant"])
def test_an_exception_leaves_nothing_behind(where, part):
    torch.manual_seed(0)
    model, ids, alive = Model(part, "tied"), torch.randint(0, 11, (8, 6)), []
    watch = Watch(model, schedule=1, samples=None)

    def fail(*_: Any) -> None:
        raise Broken

    def remember(_module: Any, args: Any, out: Any) -> None:
        alive.extend(weakref.ref(one) for one in (args[0], out))

    def step(broken: bool) -> None:
        if where == "before" and broken:
            fail()
        if where == "forward" and broken:
            handle = model.down.register_forward_pre_hook(fail)
        value = loss(model, ids)
        if where == "backward" and broken:
            model.norm.weight.register_hook(fail)
        value.backward()
        if where == "after" and broken:
            fail()
        if where == "forward" and broken:
            handle.remove()

    remembering = model.up.register_forward_hook(remember)
    if where == "second micro-batch":
        with watch.step(complete=False):
            step(False)
    with pytest.raises(Broken), watch.step():
        step(True)
        if where == "second micro-batch":
            fail()
    remembering.remove()
    model.down._forward_pre_hooks.clear()
    model.norm.weight._backward_hooks = None
    assert not hooks(model)
    model.zero_grad()
    gc.collect()
    assert not [ref for ref in alive if ref() is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with watch.step():
            step(False)
    assert not hooks(model)
    assert len(watch.records) == 1
    assert watch.records[0].batch_size == 8


def test_nothing_is_kept_alive_after_a_step():
    model, alive = Model(), []
    watch = Watch(model, schedule=1)
    model.up.register_forward_hook(lambda _m, args, out: alive.extend(map(weakref.ref, (args[0], out))))
    for _ in range(2):
        with watch.step():
            loss(model, torch.randint(0, 11, (8, 6))).backward()
        gc.collect()
        assert not [ref for ref in alive if ref() is not None]


def test_a_copy_made_inside_a_step_has_no_working_hook():
    """Averaged weights are often copies made in the loop; a copy neither fails nor is watched."""
    import io
    import pickle

    model, ids = Model("tied"), torch.randint(0, 11, (8, 6))
    watch = Watch(model, schedule=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with watch.step():
            loss(model, ids).backward()
            copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
            torch.save(model, io.BytesIO())
            for one in copies:
                loss(one, ids[:3]).backward()
        for one in copies:
            loss(one, ids).backward()
    assert watch.records[0].batch_size == 8
    assert not hooks(model)
