"""Two processes that train one model give the record of one process on the whole batch."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402

if not torch.distributed.is_available():
    pytest.skip("torch without torch.distributed", allow_module_level=True)

RANKS = 2
HEADS = {"first.weight": 2}


class Model(nn.Module):
    """Layers of several kinds, and one that only some samples use."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.first, self.norm = nn.Embedding(10, 6), nn.Linear(6, 8), nn.LayerNorm(8)
        self.head, self.other = nn.Linear(8, 6), nn.Linear(6, 6)

    def forward(self, ids: Any, other: bool = False) -> Any:
        x = self.head(self.norm(self.first(self.embedding(ids)).tanh()))
        return self.other(x) if other else x


def model() -> Any:
    torch.manual_seed(0)
    return Model().double()


def tokens() -> Any:
    return torch.randint(0, 10, (12, 5), generator=torch.Generator().manual_seed(1))


def loss(model: Any, ids: Any, **how: Any) -> Any:
    size = (1.0 + ids.double()[:, :1]).unsqueeze(1)
    return (model(ids, **how).sin() * size).square().flatten(1).mean(1).mean()


def run(case: str, rank: int) -> Any:
    """What one rank does in a case: its record."""
    size = {"equal": (6, 6), "unequal": (8, 4), "unequal, some squares": (8, 4)}.get(case, (6, 6))
    ids = tokens().split(list(size))[rank]
    inner = model()
    wrapped = nn.parallel.DistributedDataParallel(inner, find_unused_parameters=case == "unused")
    watch = Watch(wrapped, 1, samples=2 if case == "unequal, some squares" else None, heads=HEADS)
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
    if case == "micro-batches":
        for i, part in enumerate(ids.split(3)):
            with watch.step(complete=i == 1), wrapped.no_sync() if i == 0 else contextlib.nullcontext():
                (loss(wrapped, part, other=True) / 2).backward()
    elif case == "clipped inside":
        with watch.step():
            loss(wrapped, ids, other=True).backward()
            nn.utils.clip_grad_norm_(wrapped.parameters(), 1e-3)
            optimizer.step()
            optimizer.zero_grad()
    elif case == "probe":
        watch.probe(lambda model, ids: loss(model, ids, other=True), ids)
    else:
        with watch.step():
            loss(wrapped, ids, other=case != "unused" or rank == 0).backward()
    return watch.records[0]


def trained(rank: int, watched: bool) -> Any:
    """Weights, gradients and generator after some steps."""
    inner = model()
    wrapped = nn.parallel.DistributedDataParallel(inner, gradient_as_bucket_view=True)
    watch = Watch(wrapped, 2, heads=HEADS) if watched else None
    optimizer = torch.optim.AdamW(wrapped.parameters(), 0.01)
    for step in range(5):
        ids = tokens().roll(step, 0).split(6)[rank]
        with watch.step() if watch else contextlib.nullcontext():
            loss(wrapped, ids, other=True).backward()
        nn.utils.clip_grad_norm_(wrapped.parameters(), 0.5)
        optimizer.step()
        gradients = [p.grad.clone() for p in inner.parameters()]
        optimizer.zero_grad()
    return [*inner.state_dict().values(), *gradients, torch.get_rng_state()]


def worker(rank: int, folder: str, cases: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME=os.environ.get("GLOO_SOCKET_IFNAME", "lo"))
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    found = {case: run(case, rank) for case in cases}
    same = [torch.equal(*both) for both in zip(trained(rank, False), trained(rank, True), strict=True)]
    torch.save(same, f"{folder}/same{rank}.pt")
    torch.save({case: (one.batch_size, one.values) for case, one in found.items()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


CASES = ["equal", "unequal", "unequal, some squares", "micro-batches", "clipped inside", "probe", "unused"]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Any:
    """Records of all cases, by rank."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(worker, (str(folder), CASES), RANKS)
    assert all(all(torch.load(folder / f"same{rank}.pt")) for rank in range(RANKS)), "training is not bit-identical"
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


def alone(weights: Any = None, **how: Any) -> Any:
    """The record of one process; ``weights`` multiply the losses of samples."""
    watch, ids = Watch(model(), 1, samples=None, heads=HEADS), tokens()
    with watch.step():
        size = (1.0 + ids.double()[:, :1]).unsqueeze(1)
        each = (watch.model(ids, **how).sin() * size).square().flatten(1).mean(1)
        (each if weights is None else each * weights).mean().backward()
    return watch.records[0]


def assert_same(got: Any, wanted: Any, but: tuple[str, ...] = ()) -> None:
    batch_size, values = got
    assert batch_size == wanted.batch_size
    assert set(values) == set(wanted.values)
    for variable in set(values) - {"check", "status", *but}:
        assert set(values[variable]) == set(wanted.values[variable])
        for name, value in wanted.values[variable].items():
            if torch.allclose(values[variable][name], value, rtol=1e-10, atol=0.0, equal_nan=True):
                continue
            scale = wanted.values["trace"].get(name, torch.tensor(1.0)).double().sqrt()
            away = (values[variable][name] - value).abs().max() / torch.maximum(
                value.abs().max().double(), 1e-3 * scale
            )
            assert away < 1e-10, (variable, name, away)


@pytest.mark.parametrize("case", ["equal", "micro-batches", "clipped inside", "probe"])
def test_ranks_give_the_record_of_one_process(found, case):
    for rank in range(RANKS):
        assert_same(found[rank][case], alone(other=True))


def test_ranks_of_different_size_weigh_as_their_means_do(found):
    """The mean over ranks of local means gives a sample of a small rank a larger weight; the record says so."""
    weights = torch.tensor([12 / (2 * 8)] * 8 + [12 / (2 * 4)] * 4, dtype=torch.float64)
    wanted = alone(weights, other=True)
    for rank in range(RANKS):
        assert_same(found[rank]["unequal"], wanted)
    with pytest.raises(AssertionError):
        assert_same(found[0]["unequal"], alone(other=True))


def test_some_squares_of_ranks_of_different_size(found):
    """Two squares of each rank: their mean weighs a rank as its samples do."""
    G2 = []
    for i, ids in enumerate(tokens()):
        one = model()
        weight = 12 / (2 * (8 if i < 8 else 4))
        (weight * loss(one, ids.unsqueeze(0), other=True)).backward()
        G2.append(one.first.weight.grad.square().sum())
    values = found[0]["unequal, some squares"][1]
    mean = (8 * (G2[0] + G2[1]) / 2 + 4 * (G2[8] + G2[9]) / 2) / 12
    wanted = (mean - values["gradient_norm2"]["first.weight"]) * 12 / 11
    assert abs(values["trace"]["first.weight"] / wanted - 1) < 1e-10


def test_a_parameter_unused_on_one_rank_has_zeros_there(found):
    """Half of the samples do not pass through a layer: their gradients are 0, not missing."""

    class Half(Model):
        def forward(self, ids: Any) -> Any:
            x = super().forward(ids)
            return torch.cat([self.other(x[:6]), x[6:]])

    torch.manual_seed(0)
    half = Half().double()
    grads = []
    for i in range(12):
        half.zero_grad()
        out = half(tokens())
        size = (1.0 + tokens().double()[:, :1]).unsqueeze(1)
        each = (out.sin() * size).square().flatten(1).mean(1)
        each[i].backward()
        grads.append(half.other.weight.grad.clone())
    G = torch.stack(grads)
    for rank in range(RANKS):
        batch_size, values = found[rank]["unused"]
        assert batch_size == 12
        norm2 = G.mean(0).square().sum()
        trace = (G.square().sum((1, 2)).mean() - norm2) * 12 / 11
        assert abs(values["gradient_norm2"]["other.weight"] / norm2 - 1) < 1e-10
        assert abs(values["trace"]["other.weight"] / trace - 1) < 1e-10
        assert values["mode_variance"]["other.weight"].shape == (6,)
        assert int(values["status"]["other.weight"]) == 0


def test_both_ranks_keep_the_same_record(found):
    for case in CASES:
        one, other = (found[rank][case][1] for rank in range(RANKS))
        for variable in set(one) - {"check"}:
            for name in one[variable]:
                same = one[variable][name] == other[variable][name]
                assert (same | one[variable][name].isnan()).all(), (case, variable, name)


def test_self_checks_of_ranks_pass(found):
    for case in CASES:
        for rank in range(RANKS):
            assert not any(int(status) for status in found[rank][case][1]["status"].values()), case
