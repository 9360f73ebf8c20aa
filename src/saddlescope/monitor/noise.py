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
from saddlescope.monitor.moments import Table, trace
from saddlescope.monitor.record import Values
from saddlescope.monitor.sample import Sample


def measure(sample: Sample) -> Values:
    """Traces and squared gradients of parameters, heads and the whole model, with standard errors."""
    norms = {name: one.gradient_norm2 for name, one in sample.seen.items() if one.gradient_norm2 is not None}
    found: Values = {"gradient_norm2": {name: _whole(norm2) for name, norm2 in norms.items()}}
    for table in sample.squares:
        estimates = trace(table.moments, _norms(table, norms), sample.batch_size)
        values, stderrs, gradients, _ = (table.split(field) for field in estimates.fields)
        several = {name for name, kind in table.sizes if kind == "whole"}
        for (name, kind), value in values.items():
            prefix = "total_" if kind == "total" else "head_" if kind == "squares" and name in several else ""
            one = slice(None) if prefix == "head_" else 0
            found.setdefault(f"{prefix}trace", {})[name] = value[one]
            found.setdefault(f"{prefix}trace_stderr", {})[name] = stderrs[name, kind][one]
            if prefix == "head_" and name in norms:
                found.setdefault("head_gradient_norm2", {})[name] = norms[name]
            if prefix == "total_":
                found["total_gradient_norm2"] = {"": gradients[name, kind][0]}
    return found


def scale(totals: deque[tuple[Tensor, Tensor]], now: Values) -> Values:
    """The noise scale over the last records, trace and squared gradient of each in ``totals``; ``now`` is added."""
    if "total_trace" not in now:
        return {}
    totals.append((now["total_trace"][""], now["total_gradient_norm2"][""]))
    found = noise_scale(*(torch.stack(list(values)) for values in zip(*totals, strict=True)))
    names = ("noise_scale", "noise_scale_low", "noise_scale_high")
    return {name: {"": value} for name, value in zip(names, found, strict=True)}


def _norms(table: Table, norms: Mapping[str, Tensor]) -> Tensor:
    """``‖ḡ‖²`` for every column of a table, NaN where the gradient was not seen."""
    nothing = torch.full((1,), torch.nan, dtype=torch.float64, device=table.moments.mean.device)
    squares = {
        name: norms.get(name, nothing.expand(size)) for (name, kind), size in table.sizes.items() if kind == "squares"
    }
    column = {
        "squares": lambda name: squares[name],
        "whole": lambda name: _whole(squares[name]).reshape(1),
        "total": lambda _: torch.cat(list(squares.values())).sum().reshape(1),
    }
    return torch.cat([column[kind](name) for name, kind in table.sizes])


def _whole(values: Tensor) -> Tensor:
    """The sum over heads."""
    return values[0] if values.shape[0] == 1 else values.sum()
