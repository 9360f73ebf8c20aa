"""The trace of the gradient covariance, per parameter, per attention head and of the whole model.

    trace = (mean_i ‖G_i‖² − ‖ḡ‖²) N/(N − 1)

is unbiased for ``Tr Cov[G]``; the mean may be over fewer samples than the N of the batch. ``‖ḡ‖² − trace/N`` is
unbiased for the square of the true gradient, and may be negative in one record. The noise scale is the ratio of their
sums over a window of records (``intervals``), never that of one record.
"""

from __future__ import annotations

from saddlescope.monitor._torch import Tensor
from saddlescope.monitor.moments import Moments, trace
from saddlescope.monitor.record import Values, merged
from saddlescope.monitor.sample import Sample, Seen


def measure(sample: Sample) -> Values:
    """Traces and squared gradients of parameters, heads and the whole model, with standard errors."""
    parts, norms = [], []
    for name, seen in sample.seen.items():
        if (norm2 := seen.gradient_norm2) is not None:
            parts.append(_one(name, seen, norm2, sample.batch_size))
            norms += [norm2.sum()] if seen.squares is not None else []
    if sample.total is not None:
        parts.append(_whole(sample.total, sum(norms), sample.batch_size))
    return merged(*parts)


def _one(name: str, seen: Seen, norm2: Tensor, batch_size: int) -> Values:
    found: Values = {"gradient_norm2": {name: norm2.sum()}}
    if seen.squares is None:
        return found
    by_head = trace(seen.squares, norm2, batch_size)
    if seen.whole is None:
        return found | {"trace": {name: by_head.value[0]}, "trace_stderr": {name: by_head.stderr[0]}}
    whole = trace(seen.whole, norm2.sum(), batch_size)
    return found | {
        "trace": {name: whole.value[0]},
        "trace_stderr": {name: whole.stderr[0]},
        "head_trace": {name: by_head.value},
        "head_trace_stderr": {name: by_head.stderr},
        "head_gradient_norm2": {name: norm2},
    }


def _whole(total: Moments, gradient_norm2: Tensor, batch_size: int) -> Values:
    found = trace(total, gradient_norm2, batch_size)
    return {
        "total_trace": {"": found.value[0]},
        "total_trace_stderr": {"": found.stderr[0]},
        "total_gradient_norm2": {"": found.gradient_norm2[0]},
    }
