"""What watching a training costs: ``python benchmarks/monitor.py [--tasks MLP …] [--rounds 30] [--peers]``.

One thread, processor time. Before every timed step the weights are those of one training that continues in between, so
that singular directions have moved as they do in use. Every sampled step is paired with a plain one right before or
after it; a ratio is the median over pairs, with its quartiles.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext

import torch
from monitor_models import TASKS, Batch, Task, loss
from monitor_peers import PEERS
from torch import nn
from torch.profiler import ProfilerActivity, profile

from saddlescope.monitor import Watch
from saddlescope.monitor.schedule import schedule

ARMS = {
    "modes": {"quantities": "modes"},
    "trace(16)": {"quantities": "noise"},
    "modes + trace(16)": {"quantities": ("modes", "noise")},
    "modes + trace(all)": {"quantities": ("modes", "noise"), "samples": None},
    "standard": {"quantities": "standard"},
}
MAIN, STEPS = "modes + trace(16)", 2000
Step = Callable[[Batch], None]


class Arm:
    """A copy of the model and one way to make a step of its training."""

    def __init__(self, model: nn.Module, lr: float, make: Callable[[nn.Module, torch.optim.Optimizer], Step]) -> None:
        self.model = copy.deepcopy(model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr)
        self._backward = make(self.model, self.optimizer)

    def load(self, model: nn.Module) -> None:
        with torch.no_grad():
            for own, other in zip(self.model.parameters(), model.parameters(), strict=True):
                own.copy_(other)

    def step(self, batch: Batch) -> float:
        """Milliseconds of one step."""
        begin = time.process_time()
        self.optimizer.zero_grad()
        self._backward(batch)
        self.optimizer.step()
        return 1e3 * (time.process_time() - begin)


def plain(model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
    return lambda batch: loss(model, batch).backward()


def watched(**settings: object) -> Callable[[nn.Module, torch.optim.Optimizer], Step]:
    def make(model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        watch = Watch(model, **{"schedule": 1, "optimizer": optimizer, **settings})

        def step(batch: Batch) -> None:
            watch.records.clear()
            with watch.step():
                loss(model, batch).backward()

        return step

    return make


def race(task: Task, makers: dict[str, Callable], rounds: int) -> tuple[dict[str, list[float]], list[float]]:
    """Ratios of every arm to the plain step beside it, and the milliseconds of plain steps."""
    torch.manual_seed(0)
    model = task.model()
    training, base = Arm(model, task.lr, plain), Arm(model, task.lr, plain)
    arms = {name: Arm(model, task.lr, make) for name, make in makers.items()}
    ratios: dict[str, list[float]] = {name: [] for name in arms}
    took: list[float] = []
    for number in range(-2, rounds):
        for _ in range(task.between):
            training.step(task.batches(task.batch_size))
        for name, arm in arms.items():
            batch, both = task.batches(task.batch_size), [arm, base]
            times = {}
            for one in both if number % 2 else reversed(both):
                one.load(training.model)
                times[one] = one.step(batch)
            if number >= 0:
                ratios[name].append(times[arm] / times[base])
                took.append(times[base])
    return ratios, took


def over_training(task: Task, steps: int = STEPS, block: int = 50) -> float:
    """Processor time of a watched training over that of a plain one, in blocks that take turns."""
    torch.manual_seed(0)
    model = task.model()
    settings = {**ARMS[MAIN], "schedule": "log+50"}
    both = {"plain": Arm(model, task.lr, plain), "watched": Arm(model, task.lr, watched(**settings))}
    total = dict.fromkeys(both, 0.0)
    batches = [task.batches(task.batch_size) for _ in range(block)]
    for begin in range(0, steps, block):
        for name in both if begin // block % 2 else reversed(both):
            total[name] += sum(both[name].step(batch) for batch in batches)
    return total["watched"] / total["plain"]


def not_sampled(task: Task, calls: int = 20_000) -> tuple[float, float]:
    """Microseconds of ``with watch.step(): pass`` where no sample is due, and of the optimizer's account per step."""
    torch.manual_seed(0)
    model = task.model()
    optimizer, other = (torch.optim.SGD(model.parameters(), task.lr) for _ in range(2))
    watch = Watch(model, schedule=lambda step: False, optimizer=optimizer)

    def each(context: Callable[[], object]) -> float:
        begin = time.process_time_ns()
        for _ in range(calls):
            with context():
                pass
        return (time.process_time_ns() - begin) / calls / 1e3

    step = statistics.median(each(watch.step) for _ in range(9))
    loss(model, task.batches(2)).backward()

    def ours(one: torch.optim.Optimizer) -> float:
        begin = time.process_time_ns()
        one.step()
        return (time.process_time_ns() - begin) / 1e3

    account = statistics.median(ours(optimizer) - ours(other) for _ in range(301))
    return step, account


def graph_breaks(task: Task) -> int:
    """Graphs of a compiled watched model beyond the one of the model alone."""
    graphs = []
    for watching in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = task.model()
        compiled = torch.compile(model, backend="eager")
        watch = Watch(compiled, schedule=lambda step: False) if watching else None
        for _ in range(3):
            with watch.step() if watch else nullcontext():
                loss(compiled, task.batches(4)).backward()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    return graphs[1] - graphs[0]


def memory(task: Task, **settings: object) -> float:
    """Peak of tensor memory of a sampled step over that of a plain one, parameters and batch included."""
    peaks = []
    for make in (plain, watched(**settings)):
        torch.manual_seed(0)
        arm, batch = Arm(task.model(), task.lr, make), task.batches(task.batch_size)
        arm.step(batch)
        arm.optimizer.zero_grad()
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, nn.Parameter)]
        held = {one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            arm.step(batch)
        events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
        now = highest = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            now += event.nbytes()
            highest = max(highest, now)
        peaks.append(sum(held.values()) + highest)
        del arm, tensors, record
    return peaks[1] / peaks[0]


def shown(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:6.3f} [{low:.3f}, {high:.3f}]"


def cost(name: str, task: Task, rounds: int, peers: bool) -> None:
    """Print the table of one task."""
    makers: dict[str, Callable] = {arm: watched(**settings) for arm, settings in ARMS.items()}
    if peers:
        for peer, make in PEERS.items():
            try:
                make(task.model())(task.batches(2))
            except Exception as error:
                print(f"  {peer}: not run, {error}")
            else:
                makers[peer] = lambda model, optimizer, make=make: make(model)
    ratios, took = race(task, makers, rounds)
    due = schedule("log+50")
    samples = sum(due(step) for step in range(STEPS))
    print(f"{name}: plain step {statistics.median(took):.2f} ms, {samples} samples in {STEPS} steps")
    for arm, values in ratios.items():
        mean = (statistics.median(values) - 1) * samples / STEPS
        versus = "" if arm in ARMS else f", over ours with all samples {_over(values, ratios):.2f}"
        print(f"  {arm:26}{shown(values)}" + (f"  mean {100 * mean:.2f} %" if arm in ARMS else versus), flush=True)
    print(f"  memory of a sampled step, {MAIN}: {memory(task, **ARMS[MAIN]):.3f}")
    print(f"  memory of a sampled step, all samples: {memory(task, **ARMS['modes + trace(all)']):.3f}", flush=True)


def _over(values: list[float], ratios: dict[str, list[float]]) -> float:
    return statistics.median(a / b for a, b in zip(values, ratios["modes + trace(all)"], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--peers", action="store_true", help="with vmap(grad), Opacus and BackPACK")
    parser.add_argument("--training", action="store_true", help=f"measure {STEPS} steps of MLP and CNN")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in options.tasks:
        task = TASKS[name]
        step, account = not_sampled(task)
        print(f"{name}: step not sampled {step:.2f} µs, account at the optimizer {account:.0f} µs")
        print(f"  graphs of the compiled model that are due to the watch: {graph_breaks(task)}", flush=True)
        cost(name, task, options.rounds, options.peers)
        if options.training and name != "GPT":
            print(f"  {STEPS} steps of training, {MAIN}: {over_training(task):.4f}", flush=True)


if __name__ == "__main__":
    main()
