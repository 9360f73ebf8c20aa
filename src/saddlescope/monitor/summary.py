"""What a watched training has shown, in sentences with numbers and errors.

Rates and noise are means over the last ``RECENT`` records, whose sampling errors are independent; ± is one standard
error. Words such as "balances" are used beyond two of them only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import shown
from saddlescope.monitor.coverage import Coverage, listed
from saddlescope.monitor.variables import MEANINGS, Status
from saddlescope.runs.training import is_training

RECENT = 20
"""Number of records over which the present state is averaged."""

CERTAIN = 2.0
"""Standard errors beyond which a sign, or a difference, is taken as real."""

LINES, NAME = 18, 33
"""Most lines of a summary as text, most columns of a name in it."""


@dataclass(frozen=True, repr=False)
class Summary(_show.Shown):
    """A title, and rows of a topic with its sentence."""

    title: str
    rows: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return _show.text(self.title, self.rows, LINES)

    def _repr_html_(self) -> str:
        return _show.html(self.title, self.rows, foot="± is one standard error; numbers of the last 20 records")

    def __getitem__(self, topic: str) -> str:
        return dict(self.rows)[topic]


def summary(training: xr.Dataset) -> Summary:
    """The summary of what a monitor recorded.

    Topics that nothing was recorded for are left out; what is watched, recorded and skipped is always there.
    Raises TypeError for anything but the dataset of a monitor.

    >>> import torch
    >>> from saddlescope.monitor.record import Record
    >>> from saddlescope.monitor.results import to_dataset
    >>> values = {"trace": {"fc": torch.tensor(3.0)}, "trace_stderr": {"fc": torch.tensor(0.4)}}
    >>> summary(to_dataset([Record(0, 32, 0.1, values)], quantities=["noise"]))
    Training watched at 1 step, 0 to 0, batch size 32: noise
      coverage  nothing to record
      alarms    none
      noise     of the total trace of 3: fc 100% (3 ± 0.4)
    """
    if not is_training(training):
        raise TypeError(f"training must be the dataset of a monitor, from to_xarray or load, got {shown(training)}")
    rows = [("coverage", Coverage.from_text(training.attrs["coverage"]).sentence)]
    if training.sizes["step"]:
        training = training.sortby("step")
        rows += [(name, text) for name, of in TOPICS.items() if (text := of(training))]
    return Summary(title(training), tuple(rows))


def title(training: xr.Dataset) -> str:
    """When it was watched, and what."""
    steps = training["step"].values
    if not len(steps):
        return "Training watched, nothing recorded yet"
    at = f"{len(steps):,} step{'s' * (len(steps) > 1)}, {steps[0]:,} to {steps[-1]:,}"
    batch = sorted({*training["batch_size"].values.tolist()})
    sizes = f"{batch[0]:,}" + (f" to {batch[-1]:,}" if len(batch) > 1 else "")
    counts = [f"{n:,} {dim}{'s' * (n != 1)}" for dim in ("weight", "pair") if (n := training.sizes.get(dim, 0))]
    return f"Training watched at {at}, batch size {sizes}: {', '.join([*counts, training.attrs['quantities']])}"


# --- topics


def alarms(training: xr.Dataset) -> str:
    """Flags of weights and jumps of pairs, each with how often and where."""
    found = []
    for flag in Status if "status" in training else ():
        if names := _where(training["status"], (training["status"].values & flag) != 0):
            found.append(f"{str(flag.name).lower().replace('_', ' ')}: {names}; {MEANINGS[flag]}")
    if "balance_jump" in training and (names := _where(training["balance_jump"], training["balance_jump"].values == 1)):
        found.append(f"change of balance that samples do not explain: {names}")
    worst = float(training["check"].max()) if "check" in training and training["check"].size else np.nan
    none = "none" if np.isnan(worst) else f"none; samples add up to the gradient within {worst:.1g}"
    return ". ".join(found) or none


def _where(variable: xr.DataArray, holds: np.ndarray) -> str:
    """The names for which something holds, with the number of records; "" where there are none."""
    counts = zip(_names(variable), holds.sum(axis=0), strict=True)
    return listed([f"{short(name)} in {int(n):,} of {len(holds):,} records" for name, n in counts if n], 2)


def balance(training: xr.Dataset) -> str:
    """Which pairs noise balances, which part it starves, and for which it does not tell."""
    if not {"balance_noise", "balance_stderr", "imbalance"} <= set(training):
        return ""
    (rate, error), (_, imbalance) = _recent(training, "balance_noise", "balance_stderr"), ends(training["imbalance"])
    groups: dict[str, list[str]] = {"balances": [], "starves": [], "leaves undecided": []}
    names = _names(training["imbalance"])
    for i in order(-np.abs(rate) / error):
        numbers = f"{short(names[i])}: {rate[i]:+.2g} ± {error[i]:.1g} a step at {imbalance[i]:.3g}"
        if abs(rate[i]) <= CERTAIN * error[i]:
            groups["leaves undecided"].append(short(names[i]))
        elif rate[i] * imbalance[i] < 0:
            groups["balances"].append(numbers)
        else:
            groups["starves"].append(f"the {'second' if imbalance[i] > 0 else 'first'} part of {numbers}")
    parts = [f"{word} {len(names)} ({listed(names, 1)})" for word, names in groups.items() if names]
    return f"noise {', '.join(parts)}" if parts else ""


def prediction(training: xr.Dataset) -> str:
    """The change of the imbalance, measured and, where the optimizer is covered, predicted."""
    if "imbalance" not in training or not training["imbalance"].size:
        return ""
    (start, end), names = ends(training["imbalance"]), _names(training["imbalance"])
    measured = end - start
    largest = order(-np.abs(measured))[:1]
    if not {"imbalance_predicted", "imbalance_predicted_stderr"} <= set(training):
        said = [f"{short(names[i])}: measured {measured[i]:+.3g}" for i in largest]
        return f"the change of imbalance is not predicted under this optimizer; {'; '.join(said)}"
    expected, error = ends(training["imbalance_predicted"])[1] - start, ends(training["imbalance_predicted_stderr"])[1]
    known = np.isfinite(measured) & np.isfinite(expected) & (error > 0)
    off = np.where(known, np.abs(measured - expected), np.nan) / np.where(known, error, 1)
    said = [
        f"{short(names[i])}: measured {measured[i]:+.3g}, predicted {expected[i]:+.3g} ± {error[i]:.1g}"
        for i in dict.fromkeys((*largest, *order(-off)[:1]))
        if known[i]
    ]
    agree = f"change of imbalance as predicted, within two errors, in {(off <= CERTAIN).sum()} of {known.sum()} pairs"
    return "; ".join([agree, *said]) if known.any() else ""


def noise_scale(training: xr.Dataset) -> str:
    """The noise scale with its interval, beside the batch size."""
    if "noise_scale" not in training or not training["noise_scale"].notnull().any():
        return ""
    names = ("noise_scale", "noise_scale_low", "noise_scale_high")
    value, low, high = (float(ends(training[name])[1]) if name in training else np.nan for name in names)
    batch, meaning = int(training["batch_size"][-1]), ""
    if batch < low:
        meaning = f"; the gradient of a batch of {batch:,} is mostly noise"
    elif batch > high:
        meaning = f"; the gradient of a batch of {batch:,} is mostly signal"
    if not 0 < value < np.inf:
        return f"at least {_rounded(low)} samples (95 %), since the signal is not told from 0{meaning}"
    interval = f"from {_rounded(low)} to {_rounded(high)}" if np.isfinite(high) else f"at least {_rounded(low)}"
    return f"{_rounded(value)} samples (95 %: {interval}){meaning}"


def noise(training: xr.Dataset) -> str:
    """The noisiest parameters with their part of the total trace, and the noisiest heads."""
    if not {"trace", "trace_stderr"} <= set(training) or not training["trace"].size:
        return ""
    (trace, error), names = _recent(training, "trace", "trace_stderr"), _names(training["trace"])
    total = np.nansum(trace)
    said = [f"{short(names[i])} {trace[i] / total:.0%} ({trace[i]:.3g} ± {error[i]:.1g})" for i in order(-trace)[:3]]
    return f"of the total trace of {total:.3g}: {', '.join([*said, *_largest(training, 'head_trace', 'head', 1)])}"


def modes(training: xr.Dataset) -> str:
    """The noisiest modes, beside random directions of the same weight."""
    said = _largest(training, "mode_variance", "mode", 2)
    return f"noisiest: {', '.join(said)}" if said else ""


def _largest(training: xr.Dataset, name: str, dim: str, most: int) -> list[str]:
    """The largest recent values of a variable (step, weight, dim), in words."""
    if not {name, f"{name}_stderr"} <= set(training):
        return []
    (values, error), names = _recent(training, name, f"{name}_stderr"), _names(training[name])
    control = np.full(len(values), np.nan)
    if dim == "mode" and "control_variance" in training:
        known = training["control_variance"].sel(weight=training[name]["weight"])
        control = _mean(known.values[-RECENT:], (0, 2))
    said = []
    for flat in order(-values.ravel())[:most]:
        row, place = divmod(flat, values.shape[1])
        beside = (
            f", {_rounded(float(f'{values[row, place] / control[row]:.2g}'))} × a random direction"
            if control[row] > 0
            else ""
        )
        numbers = f"{values[row, place]:.3g} ± {error[row, place]:.1g}{beside}"
        said.append(f"{dim} {place} of {short(names[row])} ({numbers})")
    return said


def rank(training: xr.Dataset) -> str:
    """Weights whose effective rank is certainly below what it was, and the fall of log determinants."""
    parts = []
    if {"effective_rank_low", "effective_rank_high"} <= set(training):
        low, high = ends(training["effective_rank_low"]), ends(training["effective_rank_high"])
        names, left = _names(training["effective_rank_low"]), high[1] / low[0]
        lost = [
            f"{short(names[i])} {_span(low[0][i], high[0][i])} → {_span(low[1][i], high[1][i])}"
            for i in order(left)
            if left[i] < 1
        ]
        where = f": {listed(lost, 2)}" if lost else ""
        parts = [f"effective rank lost in {len(lost)} of {np.isfinite(left).sum()} weights{where}"]
    if "log_det" in training:
        start, end = ends(training["log_det"])
        for i in order(end - start)[:1]:
            name = short(_names(training["log_det"])[i])
            parts.append(f"log det of {name} changed by {end[i] - start[i]:+.3g}")
    return "; ".join(parts)


TOPICS: dict[str, Callable[[xr.Dataset], str]] = {
    "alarms": alarms,
    "balance": balance,
    "prediction": prediction,
    "noise scale": noise_scale,
    "noise": noise,
    "modes": modes,
    "rank": rank,
}


# --- numbers and names


def _recent(training: xr.Dataset, name: str, stderr: str) -> tuple[Floats, Floats]:
    """Mean of the last records, and its standard error."""
    values, errors = training[name].values[-RECENT:], training[stderr].values[-RECENT:]
    with np.errstate(all="ignore"):
        return _mean(values, 0), np.sqrt(_mean(errors**2, 0) / np.isfinite(errors).sum(axis=0))


def _mean(values: Floats, axis: int | tuple[int, ...]) -> Floats:
    """The mean of what is known, NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(all="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=axis) / known.sum(axis=axis))


def ends(variable: xr.DataArray) -> tuple[Floats, Floats]:
    """The first and the last known numbers along the steps."""
    values = variable.values
    known = ~np.isnan(values)
    places = known.argmax(axis=0), len(known) - 1 - known[::-1].argmax(axis=0)
    first, last = (np.take_along_axis(values, np.asarray(place)[None], 0)[0] for place in places)
    return first, last


def order(values: ArrayLike) -> list[int]:
    """Places from the smallest value on, without those of NaN."""
    array = np.asarray(values)
    return [int(place) for place in np.argsort(array) if not np.isnan(array[place])]


def _names(variable: xr.DataArray) -> list[str]:
    return [str(name) for name in variable[variable.dims[1]].values]


def short(name: str, width: int = NAME) -> str:
    """The end of a long name, which says most, or of both names of a pair.

    >>> short("transformer.layers.11.self_attention.output_projection.weight")
    '…tention.output_projection.weight'
    >>> short("encoder.0.first_linear~encoder.0.second_linear", 24)
    '…rst_linear~…ond_linear'
    """
    if len(name) <= width:
        return name
    sides = name.split("~")
    left = width + 1 - len(sides)
    cuts = [left // len(sides)] * len(sides)
    return "~".join(side if len(side) <= cut else f"…{side[1 - cut :]}" for side, cut in zip(sides, cuts, strict=True))


def _span(low: float, high: float) -> str:
    one, other = f"{low:.3g}", f"{high:.3g}"
    return one if one == other else f"{one}–{other}"


def _rounded(x: float) -> str:
    return _show.MISSING if np.isnan(x) else f"{x:,.0f}" if 100 <= abs(x) < 1e6 else f"{x:.3g}"
