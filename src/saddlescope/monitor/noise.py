"""The trace of the gradient covariance, per parameter, per attention head and of the whole model.

    trace = (mean_i ‖G_i‖² − ‖ḡ‖²) N/(N − 1)

is unbiased for ``Tr Cov[G]``; the mean may be over fewer samples than the N of the batch. ``‖ḡ‖² − trace/N`` is
unbiased for the square of the true gradient, and may be negative in one record. The noise scale is the ratio of their
sums over a window of records (``intervals``), never that of one record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.intervals import noise_scale
from saddlescope.monitor.moments import Moments, Trace, trace
from saddlescope.monitor.record import Values
from saddlescope.monitor.sample import Sample


def measure(sample: Sample) -> Values:
    """Traces and squared gradients of parameters, heads and the whole model, with standard errors."""
    norms = {name: one.gradient_norm2 for name, one in sample.seen.items() if one.gradient_norm2 is not None}
    squares = {name: squares for name in norms if (squares := sample.seen[name].squares) is not None}
    heads = {name: one for name, one in squares.items() if len(one) > 1}
    found: Values = {"gradient_norm2": {name: norm2.sum() for name, norm2 in norms.items()}}
    if squares and sample.total is not None:
        wholes = squares | {name: one for name in heads if (one := sample.seen[name].whole) is not None}
        norms |= {name: norms[name].sum(0, keepdim=True) for name in heads}
        norms[""] = torch.stack([norms[name].sum() for name in squares]).sum(0, keepdim=True)
        together = _traces(wholes | {"": sample.total}, norms, sample.batch_size)
        whole = together.pop("")
        found |= {
            "trace": {name: one.value[0] for name, one in together.items()},
            "trace_stderr": {name: one.stderr[0] for name, one in together.items()},
            "total_trace": {"": whole.value[0]},
            "total_trace_stderr": {"": whole.stderr[0]},
            "total_gradient_norm2": {"": whole.gradient_norm2[0]},
        }
    if heads:
        by_head = {name: norm2 for name in heads if (norm2 := sample.seen[name].gradient_norm2) is not None}
        split = _traces(heads, by_head, sample.batch_size)
        found |= {
            "head_trace": {name: one.value for name, one in split.items()},
            "head_trace_stderr": {name: one.stderr for name, one in split.items()},
            "head_gradient_norm2": by_head,
        }
    return found


def scale(totals: deque[tuple[Tensor, Tensor]], now: Values) -> Values:
    """The noise scale over the last records, trace and squared gradient of each in ``totals``; ``now`` is added."""
    if "total_trace" not in now:
        return {}
    totals.append((now["total_trace"][""], now["total_gradient_norm2"][""]))
    found = noise_scale(*(torch.stack(list(values)) for values in zip(*totals, strict=True)))
    names = ("noise_scale", "noise_scale_low", "noise_scale_high")
    return {name: {"": value} for name, value in zip(names, found, strict=True)}


def _traces(squares: Mapping[str, Moments], norms: Mapping[str, Tensor], batch_size: int) -> dict[str, Trace]:
    """The traces of several parameters, computed together."""
    found = trace(Moments.joined(list(squares.values())), torch.cat([norms[name] for name in squares]), batch_size)
    sizes = [len(one) for one in squares.values()]
    parts = (field.split(sizes) for field in found.fields)
    return dict(zip(squares, (Trace(*fields) for fields in zip(*parts, strict=True)), strict=True))
