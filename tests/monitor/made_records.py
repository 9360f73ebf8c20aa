"""Records as a training leaves them, made from formulas: signals that decay, noise that peaks, a pair that balances."""

import math

import torch

from saddlescope.monitor.coverage import NOT_RECORDED, SKIPPED, WATCHED, Coverage
from saddlescope.monitor.record import Record
from saddlescope.monitor.schedule import schedule

LAST = 5000


def steps(last=LAST):
    sampled = schedule("log+50")
    return [step for step in range(last + 1) if sampled(step)]


def weights(count):
    """Names of weights, the first of them the noisiest."""
    return [f"blocks.{index // 4}.{('q', 'k', 'v', 'out')[index % 4]}.weight" for index in range(count)]


def record(step, names=("fc1.weight", "fc2.weight"), modes=4, heads=0, batch=32, lr=0.05):
    """One record of everything that the monitor knows."""
    generator = torch.Generator().manual_seed(step)
    values = {}

    def drawn(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def put(variable, key, value):
        values.setdefault(variable, {})[key] = torch.as_tensor(value, dtype=torch.float64)

    time = step / LAST
    for place, name in enumerate(names):
        k = modes - place % 2
        learned = torch.sigmoid(12 * (time - torch.linspace(0.1, 0.9, k)).to(torch.float64))
        noise = (4 * learned * (1 - learned) + 0.05) / (1 + place)
        put("mode_strength", name, torch.linspace(3, 1, k) * learned + 0.05)
        put("mode_signal", name, -learned * (1 - learned) + 0.05 * (drawn(k) - 0.5))
        put("mode_signal_stderr", name, (noise / batch).sqrt())
        put("mode_variance", name, noise * (0.9 + 0.2 * drawn(k)))
        put("mode_variance_stderr", name, 0.1 * noise)
        put("mode_block", name, torch.arange(k))
        put("mode_residual", name, 1e-4 * drawn(k))
        put("control_signal", name, 0.1 * (drawn(4) - 0.5))
        put("control_signal_stderr", name, torch.full((4,), 0.05))
        put("control_variance", name, noise.mean() * (0.05 + 0.1 * drawn(4)))
        put("control_variance_stderr", name, 0.02 * noise.mean() * torch.ones(4))
        put("check", name, 1e-7 * drawn())
        values.setdefault("status", {})[name] = torch.tensor(0)
        put("trace", name, 50 * noise.sum())
        put("trace_stderr", name, 3 * noise.sum())
        put("gradient_norm2", name, 2 * noise.sum())
        put("frobenius", name, 3 + time)
        put("stable_rank", name, 8 - 4 * time)
        put("effective_rank_low", name, 40 - 20 * time / (1 + place))
        put("effective_rank_high", name, 44 - 20 * time / (1 + place))
        if heads:
            put("head_trace", name, drawn(heads))
            put("head_trace_stderr", name, 0.1 * torch.ones(heads))
            put("head_gradient_norm2", name, 0.1 * drawn(heads))
    for place, pair in enumerate(f"{one}~{two}" for one, two in zip(names[::2], names[1::2], strict=False)):
        imbalance = (2 + place) * (math.exp(-3 * time) if place % 3 < 2 else 1 + time)
        rate = -3 * imbalance / LAST if place % 3 < 2 else (2 + place) / LAST
        put("imbalance", pair, imbalance)
        put("imbalance_identity", pair, imbalance)
        put("balance_noise", pair, 0.6 * rate)
        put("balance_gradient", pair, 0.3 * rate)
        put("balance_decay", pair, 0.1 * rate)
        put("balance_stderr", pair, 0.1 * abs(rate))
        put("imbalance_predicted", pair, imbalance * (1 + 0.05 * time))
        put("imbalance_predicted_stderr", pair, 0.06 * time)
        put("symmetry", pair, 1e-7 * drawn())
        put("balance_jump", pair, 0)
    total = values["trace"].values()
    signal = 0.02 * sum(total) * (0.8 + 0.4 * drawn())
    put("total_trace", "", sum(total))
    put("total_trace_stderr", "", 0.05 * sum(total))
    put("total_gradient_norm2", "", signal)
    put("noise_scale", "", 50 * (1 + time))
    put("noise_scale_low", "", 40 * (1 + time))
    put("noise_scale_high", "", 65 * (1 + time))
    return Record(step, batch, lr, values)


def records(last=LAST, **options):
    return [record(step, **options) for step in steps(last)]


COVERAGE = Coverage(
    (
        ("fc1.weight", WATCHED, ""),
        ("fc2.weight", WATCHED, ""),
        ("bn.weight", SKIPPED, "BatchNorm couples samples"),
        ("bn.bias", SKIPPED, "BatchNorm couples samples"),
        ("out_proj.weight", NOT_RECORDED, "its hook did not fire"),
    )
)
