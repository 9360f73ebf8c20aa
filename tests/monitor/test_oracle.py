"""Every number of a record against the gradients of all samples, formed by brute force."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from oracle import compared, contributions, errors, expected, plainly  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402

DOUBLE, SINGLE = 1e-13, 5e-6
N = 6


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def normal(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def tokens(*shape: int) -> Any:
    return torch.randint(0, 10, shape, generator=torch.Generator().manual_seed(1))


def loss(model: Any, x: Any) -> Any:
    """A smooth loss whose gradients differ from sample to sample."""
    out = model(x)
    size = (1 + x.to(out.dtype).reshape(len(x), -1)[:, :1]).reshape(-1, *(1,) * (out.dim() - 1))
    return (out.sin() * size).square().reshape(len(x), -1).mean(1).mean()


class LlamaRMSNorm(nn.Module):
    """As in models of language: normalised in single precision or better, scaled in the type of the input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)
        self.variance_epsilon = 1e-6

    def forward(self, h: Any) -> Any:
        wide = h.to(torch.promote_types(h.dtype, torch.float32))
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.variance_epsilon)).to(h)


class Looked(nn.Module):
    """A parameter that is looked up by a function, with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Parameter(torch.randn(10, 5)), nn.Linear(5, 3)

    def forward(self, ids: Any) -> Any:
        return self.head(nn.functional.embedding(ids, self.table, padding_idx=2))


def conv1d_of_gpt() -> nn.Module:
    Conv1D = pytest.importorskip("transformers.pytorch_utils").Conv1D
    return nn.Sequential(Conv1D(6, 5), nn.GELU(), Conv1D(2, 6))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


LAYERS = {
    "linear": (mlp, normal(N, 5)),
    "linear, no bias": (lambda: nn.Sequential(nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 3)), normal(N, 5)),
    "linear, 3-D, formed": (mlp, normal(N, 40, 5)),
    "linear, 3-D, Gram": (lambda: nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 20)), normal(N, 4, 20)),
    "linear, 4-D": (mlp, normal(N, 4, 3, 5)),
    "linear, changed in place": (
        lambda: nn.Sequential(nn.Linear(5, 7), nn.ELU(inplace=True), nn.Linear(7, 6), nn.LeakyReLU(inplace=True)),
        normal(N, 4, 5),
    ),
    "embedding": (lambda: nn.Sequential(nn.Embedding(10, 5), nn.Linear(5, 3)), tokens(N, 8)),
    "embedding, padding": (lambda: nn.Sequential(nn.Embedding(10, 5, padding_idx=2), nn.Tanh()), tokens(N, 8)),
    "embedding, raw with padding": (lambda: Looked(), tokens(N, 8)),
    "embedding, one id": (lambda: nn.Sequential(nn.Embedding(10, 5), nn.Linear(5, 3)), tokens(N)),
    "embedding, 3-D": (lambda: nn.Sequential(nn.Embedding(10, 5), nn.Linear(5, 3)), tokens(N, 3, 2)),
    "LayerNorm": (
        lambda: nn.Sequential(
            *(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.LayerNorm([4, 6]), nn.Linear(6, 4)),
            *(nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 5), nn.LayerNorm(5, bias=False)),
        ),
        normal(N, 4, 5),
    ),
    "RMSNorm": (
        lambda: nn.Sequential(
            *(nn.Linear(5, 6), nn.RMSNorm(6), nn.Tanh(), nn.RMSNorm([4, 6], eps=1e-3), LlamaRMSNorm(6)),
            *(nn.RMSNorm(6, elementwise_affine=False), nn.Linear(6, 2)),
        ),
        normal(N, 4, 5),
    ),
    "GroupNorm": (
        lambda: nn.Sequential(
            *(nn.Conv1d(3, 6, 3), nn.GroupNorm(2, 6), nn.Tanh(), nn.Conv1d(6, 4, 1), nn.GroupNorm(2, 4, affine=False)),
        ),
        normal(N, 3, 9),
    ),
    "GroupNorm, 2-D": (lambda: nn.Sequential(nn.Linear(5, 6), nn.GroupNorm(2, 6), nn.Linear(6, 2)), normal(N, 5)),
    "Conv1D of GPT": (conv1d_of_gpt, normal(N, 4, 5)),
    "Conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, padding_mode="circular"),
            *(nn.Tanh(), nn.Conv1d(6, 6, 3, padding="same", groups=6, bias=False)),
        ),
        normal(N, 4, 11),
    ),
    "Conv2d": (
        lambda: nn.Sequential(
            *(nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), nn.Tanh()),
            *(nn.Conv2d(6, 6, 3, padding="same", dilation=2, padding_mode="reflect"), nn.Tanh()),
            *(nn.Conv2d(6, 3, (2, 3), padding="valid", padding_mode="replicate"), nn.Tanh()),
            nn.Conv2d(3, 3, (3, 4), padding="same", bias=False),
        ),
        normal(5, 4, 9, 8),
    ),
    "Conv3d": (
        lambda: nn.Sequential(
            *(nn.Conv3d(2, 4, (3, 2, 1), stride=(2, 1, 1), padding=(1, 0, 2)), nn.Tanh()),
            nn.Conv3d(4, 8, 2, groups=4, dilation=(1, 2, 1)),
        ),
        normal(5, 2, 5, 6, 4),
    ),
    "channels last": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 3, stride=2)).to(
            memory_format=torch.channels_last
        ),
        normal(5, 3, 8, 8).to(memory_format=torch.channels_last),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, dtype):
    make, x = LAYERS[name]
    x = x.to(dtype) if x.is_floating_point() else x
    found = compared(make().to(dtype), loss, [x])
    assert found.worst < (DOUBLE if dtype == torch.float64 else SINGLE), found.errors
    assert not any(found.status.values()) and not found.messages


# --- one parameter, several uses


class Tied(nn.Module):
    """A head that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix, self.head = nn.Embedding(10, 5), nn.Linear(5, 5), nn.Linear(5, 10, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Any) -> Any:
        return self.head(self.mix(self.embedding(ids)).tanh())


class Repeated(nn.Module):
    """A layer, its norm and a convolution that are used several times in a forward pass."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.layer, self.norm, self.conv = times, nn.Linear(5, 5), nn.LayerNorm(5), nn.Conv1d(4, 4, 1)

    def forward(self, x: Any) -> Any:
        for _ in range(self.times):
            x = x + self.conv(self.norm(self.layer(x)).tanh())
        return x


def double(model: Any, ids: Any) -> Any:
    """The model called twice for one loss."""
    return (loss(model, ids) + loss(model, ids.flip(1))) / 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("make", "x", "of"),
    [
        (Tied, tokens(N, 8), loss),
        (lambda: Repeated(2), normal(N, 4, 5), loss),
        (lambda: Repeated(3), normal(N, 4, 5), loss),
        (mlp, normal(N, 4, 5), double),
        (Tied, tokens(N, 8), double),
    ],
    ids=["tied", "twice", "three times", "siamese", "tied siamese"],
)
def test_several_uses(make, x, of, dtype):
    found = compared(make().to(dtype), of, [x.to(dtype) if x.is_floating_point() else x])
    assert found.worst < (DOUBLE if dtype == torch.float64 else SINGLE), found.errors
    assert not any(found.status.values()) and not found.messages


def test_heads():
    heads = {"0.weight": 3, "0.bias": 3, "2.weight": (4, "columns"), "4.weight": (5, "rows")}
    for x in (normal(N, 5), normal(N, 3, 5), normal(N, 40, 5)):
        model = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 10)).double()
        found = compared(model, loss, [x], heads=heads)
        assert found.worst < DOUBLE, found.errors
        assert len(found.watch.records[0].values["head_trace"]) == 4


def test_heads_of_shared_and_other_layers():
    found = compared(Tied().double(), loss, [tokens(N, 8)], heads={"embedding.weight": (5, "columns")})
    assert found.worst < DOUBLE, found.errors
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.Conv2d(6, 4, 2)).double()
    found = compared(model, loss, [normal(N, 4, 6, 6)], heads={"0.weight": 3, "2.weight": (2, "columns"), "2.bias": 2})
    assert found.worst < DOUBLE, found.errors


# --- how the loss is made


def micro_batches(sizes: tuple[int, ...]) -> list[Any]:
    return list(normal(sum(sizes), 3, 5).split(list(sizes)))


@pytest.mark.parametrize("sizes", [(4, 4), (5, 3, 1), (2, 7)])
@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize("one_context", [True, False])
def test_micro_batches(sizes, divided, one_context):
    """Micro-batches in one context or in several, of equal and of different size."""

    def train(watch, model, of, batches):
        def passes():
            for i, batch in enumerate(batches):
                (of(model, batch) / (len(batches) if divided else 1)).backward()
                yield i

        if one_context:
            with watch.step():
                list(passes())
            return
        for i, batch in enumerate(batches):
            with watch.step(complete=i == len(batches) - 1):
                (of(model, batch) / (len(batches) if divided else 1)).backward()

    found = compared(mlp().double(), loss, micro_batches(sizes), train, divided)
    assert found.worst < DOUBLE, found.errors
    assert found.watch.records[0].batch_size == sum(sizes)
    assert not any(found.status.values())


def test_micro_batches_whose_forward_passes_come_first():
    def train(watch, model, of, batches):
        with watch.step():
            losses = [of(model, batch) / len(batches) for batch in batches]
            for each in losses:
                each.backward()

    found = compared(Tied().double(), loss, list(tokens(8, 5).split(4)), train)
    assert found.worst < DOUBLE, found.errors


def test_two_losses_on_the_same_samples():
    """Two backward passes through one forward pass hold the same samples; treated as further samples, they fail."""
    x = normal(N, 4, 5)

    def train(watch, model, of, batches):
        with watch.step():
            out = model(batches[0])
            out.sin().square().mean().backward(retain_graph=True)
            out.cos().mean().backward()

    def both(model, x):
        out = model(x)
        return out.sin().square().mean() + out.cos().mean()

    model = mlp().double()
    watch = Watch(model, schedule=1, samples=None)
    for _ in range(2):  # that the parameters are used again is known from the first sampled step on
        train(watch, model, None, [x])
        model.zero_grad()
    wanted = expected(watch, contributions(model, both, [x], False))
    assert [record.batch_size for record in watch.records] == [N, N]
    assert max(errors(watch.records[1].values, wanted).values()) < DOUBLE
    first = watch.records[0].values
    assert "trace" not in first
    assert (first["mode_variance"]["0.weight"] - wanted["mode_variance"]["0.weight"]).abs().max() < 1e-12


def test_gradient_left_by_earlier_steps():
    model = mlp().double()
    loss(model, normal(3, 4, 5)).backward()
    assert compared(model, loss, [normal(N, 4, 5)]).worst < DOUBLE


def test_sum_and_scaled_losses():
    x = normal(N, 4, 5)

    def summed(watch, model, of, batches):
        with watch.step():
            (of(model, batches[0]) * len(batches[0])).backward()

    assert compared(mlp().double(), loss, [x], summed, reduction="sum").worst < DOUBLE
    assert compared(mlp().double(), loss, [x], summed).worst > 1  # the same loss declared as a mean

    def scaled(watch, model, of, batches):
        with watch.step():
            (of(model, batches[0]) * 1024).backward()

    assert compared(mlp().double(), loss, [x], scaled, loss_scale=1024.0).worst < DOUBLE

    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=1)

    def with_scaler(watch, model, of, batches):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with watch.step():  # the scale grows inside
            scaler.scale(of(model, batches[0])).backward()
            scaler.step(optimizer)
            scaler.update()

    assert compared(mlp().double(), loss, [x], with_scaler, loss_scale=scaler).worst < DOUBLE
    assert scaler.get_scale() == 512.0


@pytest.mark.parametrize("x", [normal(12, 5), normal(12, 3, 5), normal(12, 40, 5)])
def test_squares_of_some_samples(x):
    found = compared(mlp().double(), loss, [x], samples=4, kept=slice(4))
    assert found.worst < DOUBLE, found.errors


def test_squares_of_some_samples_are_unbiased():
    """The mean over all choices of the samples is the value of all, with micro-batches of different size too."""
    x, sizes = normal(7, 3, 5), (5, 2)
    model, found = mlp().double(), {"some": [], "all": []}
    for turn in range(5):
        parts = list(x.split(list(sizes)))
        parts[0] = parts[0].roll(turn, 0)
        for name, samples in (("some", 2), ("all", None)):
            watch = Watch(model, schedule=1, samples=samples)
            plainly(watch, model, loss, parts)
            model.zero_grad()
            found[name].append(watch.records[0].values["total_trace"][""])
    some, whole = (torch.stack(found[name]).mean() for name in ("some", "all"))
    assert abs(some / whole - 1) < 1e-12


# --- precision and memory


class Checkpointed(nn.Module):
    """Blocks that are recomputed in the backward pass, ``nested`` ones inside others; the weight of one is shared."""

    def __init__(self, reentrant: bool | None, nested: bool = False, shared: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 5)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.LayerNorm(6)) for _ in range(3))
        if shared:
            self.blocks[2][0].weight = self.blocks[0][0].weight
        self.reentrant, self.nested = reentrant, nested

    def _run(self, function: Any, x: Any) -> Any:
        return function(x) if self.reentrant is None else checkpoint(function, x, use_reentrant=self.reentrant)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        if self.nested:
            first, second, third = self.blocks
            x = self._run(lambda x: self._run(second, first(x)), x)
            return self.last(self._run(third, x))
        for block in self.blocks:
            x = self._run(block, x)
        return self.last(x)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("batches", [1, 2])
def test_checkpointing(reentrant, nested, shared, batches):
    made = []
    for kind in (reentrant, None):
        torch.manual_seed(0)
        made.append(Checkpointed(kind, nested, shared).double())
    parts = list(normal(N, 4, 5).chunk(batches))
    found = compared(made[0], loss, parts, brute=(made[1], loss))
    if found.status and any(found.status.values()):
        raise AssertionError((found.status, found.messages))
    assert found.worst < DOUBLE, found.errors


class AllCheckpointed(nn.Module):
    """One network called twice, both times recomputed: no layer is seen outside a backward pass inside another."""

    def __init__(self, wrapped: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.wrapped = mlp(), wrapped

    def forward(self, x: Any) -> Any:
        for step in (self.inner, lambda y: self.inner(y @ torch.ones(3, 5).to(y))):
            x = checkpoint(step, x.requires_grad_(), use_reentrant=True) if self.wrapped else step(x)
        return x


def test_everything_checkpointed_reentrant():
    made = [AllCheckpointed(wrapped).double() for wrapped in (True, False)]
    found = compared(made[0], loss, [normal(N, 4, 5)], brute=(made[1], loss))
    assert found.worst < DOUBLE, found.errors


def test_autocast_and_half_precision():
    x = normal(64, 8, 16)

    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), LlamaRMSNorm(32), nn.Linear(32, 8))

    def mixed(m, x):
        with torch.autocast("cpu", torch.bfloat16):
            return loss(m, x)

    found = compared(model(), mixed, [x.float()], brute=(model().double(), lambda m, x: loss(m, x.double())))
    rounded = 4e-2  # that of a mean gradient smaller than those of its samples
    assert found.errors.pop("gradient_norm2") < rounded
    assert found.worst < 2e-2, found.errors
    assert not any(found.status.values())
    pure = model().bfloat16()
    exact = model().bfloat16().double()
    found = compared(pure, loss, [x.bfloat16()], brute=(exact, lambda m, x: loss(m, x.double())))
    assert found.errors.pop("gradient_norm2") < rounded
    assert found.worst < 2e-2, found.errors
    assert not any(found.status.values())


# --- parameters that are not trained


def test_frozen_and_unused_parameters():
    class Some(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.frozen, self.unused = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(3, 3)
            self.last = nn.Linear(4, 3)
            self.frozen.requires_grad_(False)
            self.last.weight.requires_grad_(False)

        def forward(self, x: Any) -> Any:
            return self.last(self.frozen(self.used(x)).tanh())

    model = Some().double()
    model.unused.requires_grad_(False)
    found = compared(model, loss, [normal(N, 3, 5)])
    assert found.worst < DOUBLE, found.errors
    assert set(found.watch.records[0].values["trace"]) == {"used.weight", "used.bias", "last.bias"}
    model.unused.requires_grad_(True)
    watch = found.watch
    with pytest.warns(UserWarning, match="unused.weight, unused.bias at step 1: no gradient arrived"), watch.step():
        loss(model, normal(N, 3, 5)).backward()
    assert "unused.weight" not in watch.records[1].values["trace"]


# --- any small network


KINDS = ("linear", "layer norm", "rms norm", "convolution", "residual", "tanh", "again", "flatten", "group norm")


class Stack(nn.Module):
    """Layers one after the other on (N, T, width); "again" repeats the first layer that keeps the width."""

    def __init__(self, kinds: list[str], widths: list[int], T: int) -> None:
        super().__init__()
        torch.manual_seed(len(kinds))
        self.kinds, self.layers, width = kinds, nn.ModuleList(), widths[0]
        for kind, new in zip(kinds, widths[1:], strict=True):
            made: dict[str, Callable[[], nn.Module]] = {
                "linear": partial(nn.Linear, width, new, bias=new % 2 == 0),
                "layer norm": partial(nn.LayerNorm, [T, width] if new % 2 else width),
                "rms norm": partial(nn.RMSNorm, width, eps=0.1),
                "convolution": partial(
                    nn.Conv1d, width, 2 * new, new % 3 + 1, padding="same", groups=1 + (width % 2 == 0)
                ),
                "residual": partial(nn.Linear, width, width),
                "group norm": partial(nn.GroupNorm, T, T),
                "flatten": partial(nn.Linear, width, new),
            }
            self.layers.append(made.get(kind, nn.Tanh)())
            width = {"linear": new, "flatten": new, "convolution": 2 * new}.get(kind, width)

    def forward(self, x: Any) -> Any:
        same = None
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            if kind == "convolution":
                x = layer(x.mT).mT
            elif kind == "residual":
                same, x = layer, x + layer(x)
            elif kind == "flatten":
                x = layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
            elif kind == "again":
                x = same(x) if same is not None and same.in_features == x.shape[-1] else x
            else:
                x = layer(x)
        return x


@settings(max_examples=25)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    widths=st.lists(st.integers(3, 6), min_size=6, max_size=6),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3).filter(lambda sizes: sum(sizes) > 1),
    T=st.integers(2, 5),
    divided=st.booleans(),
)
def test_any_network(kinds, widths, sizes, T, divided):
    model = Stack(["linear", *kinds], [4, *widths[: len(kinds) + 1]], T).double()
    batches = list(normal(sum(sizes), T, 4).split(sizes))

    def train(watch, model, of, batches):
        with watch.step():
            for each in batches:
                (of(model, each) / (len(batches) if divided else 1)).backward()

    found = compared(model, loss, batches, train, divided)
    assert found.worst < 1e-12, found.errors
    assert not any(found.status.values()), (found.status, found.messages)
