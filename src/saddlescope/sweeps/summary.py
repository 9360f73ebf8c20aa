"""What a sweep has done, in a few lines."""

from __future__ import annotations

import numpy as np
import xarray as xr

from saddlescope.runs.swept import RECORD
from saddlescope.sweeps.layout import DIVERGED, DONE, PENDING, RAISED

SHOWN = 3
"""Most errors that are listed."""


def summary(sweep: xr.Dataset) -> str:
    """Axes, what is kept, how many runs have which status, and the errors of those that raised.

    >>> sweep = xr.Dataset({"loss": ("lr", [0.5, np.nan]), "status": ("lr", [1, 0]), "message": ("lr", ["", ""])})
    >>> print(summary(sweep))
    axes lr (2); kept loss
    2 runs: 1 done, 1 pending
    """
    status, kept = sweep["status"], [str(name) for name in sweep.data_vars if name not in RECORD]
    counts = {
        name: int((status == number).sum())
        for name, number in (("done", DONE), ("diverged", DIVERGED), ("raised", RAISED), ("pending", PENDING))
    }
    axes = " × ".join(f"{dim} ({size:,})" for dim, size in status.sizes.items())
    found = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    lines = [f"axes {axes}; kept {', '.join(kept)}", f"{status.size:,} runs: {found}"]
    if counts["raised"]:
        messages, times = np.unique(sweep["message"].values[status.values == RAISED].astype(str), return_counts=True)
        order = np.argsort(-times, kind="stable")
        lines += [f"{times[k]:,} raised {messages[k]}" for k in order[:SHOWN]]
        if len(order) > SHOWN:
            lines.append(f"and {len(order) - SHOWN:,} other errors, in message")
    return "\n".join(lines)
