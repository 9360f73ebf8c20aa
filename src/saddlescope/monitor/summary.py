"""What a watched training has shown, in sentences with numbers and errors.

Rates and noise are means over the last ``RECENT`` records, whose sampling errors are independent; ± is one standard
error. Words such as "balances" are used beyond two of them only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import shown
from saddlescope.monitor.coverage import NO_PAIR, PREDICTED, Coverage, listed
from saddlescope.monitor.variables import MEANINGS, Status
from saddlescope.monitor.words import labels, rounded, short, span, within
from saddlescope.runs.training import is_training

RECENT = 20
"""Number of records over which the present state is averaged."""

CERTAIN = 2.0
"""Standard errors beyond which a sign, or a difference, is taken as real."""

PAIRS = 12
"""Most lines after the first of a topic that is shown beside others."""


@dataclass(frozen=True, repr=False)
class Summary(_show.Shown):
    """A title, and rows of a topic with its text; ``summary["rank"]`` is the text of one, without any limit."""

    title: str
    rows: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        width = max(len(topic) for topic, _ in self.rows)
        lines = wrap(self.title, _show.WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        for topic, line in self._lines():
            for text in wrap(line, _show.WIDTH - width - 4, subsequent_indent="  ", break_on_hyphens=False):
                lines.append(f"  {topic:<{width}}  {text}")
                topic = ""
        return "\n".join([*lines, f'  one row: watch.summary()["{self.rows[-1][0]}"]'])

    def _repr_html_(self) -> str:
        foot = f"± is one standard error; numbers of the last {RECENT} records"
        return _show.html(self.title, self._lines(), foot=foot)

    def _lines(self) -> list[tuple[str, str]]:
        """Lines with their topic, the second and later ones of a topic without it; long topics end early."""
        found = []
        for topic, text in self.rows:
            first, *lines = text.splitlines() or [""]
            if (more := len(lines) - PAIRS) > 0:
                lines[PAIRS:] = [f'and {more:,} more: print(watch.summary()["{topic}"]), or watch.to_xarray()']
            found += [(topic, first), *(("", line) for line in lines)]
        return found

    def __getitem__(self, topic: str) -> str:
        if topic not in (known := dict(self.rows)):
            raise KeyError(f"topic must be one of {', '.join(known)}, got {shown(topic)}")
        return known[topic]


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
      noise     total trace 3; largest: fc 100% (3.0 ± 0.4)
      one row: watch.summary()["noise"]
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
    return listed([f"{name} in {int(n):,} of {len(holds):,} records" for name, n in counts if n], 2)


def balance(training: xr.Dataset) -> str:
    """How many pairs noise balances and starves, and a line for every pair."""
    found, dropped = _pairs(training), _dropped(training)
    if not found and not dropped:
        if "balance" not in training.attrs["quantities"].split(", "):
            return ""
        return (
            "no pair of weights was found that can be rescaled without a change of the loss, and confirmed by gradients"
        )
    counts = [
        f"{words} {n:,}" for verdict, words in WORDS.items() if (n := sum(pair.verdict == verdict for pair in found))
    ]
    parts = [f"of {len(found):,} pair{'s' * (len(found) != 1)}, noise {', '.join(counts)}"] if counts else []
    errors = [pair.off for pair in found if pair.off is not None]
    reasons = {pair.why for pair in found}
    shared = reasons.pop() if len(reasons) == 1 else ""
    if errors:
        right = sum(off <= CERTAIN for off in errors)
        parts.append(f"changes as predicted, within two errors, in {right:,} of {len(errors):,}")
    if shared:
        parts.append(f"no prediction: {shared}")
    told = [pair.line(shared) for pair in sorted(found, key=lambda pair: pair.doubt)]
    lost = [f"{short(name)}: not used as a pair: {why}" for name, why in dropped.items()]
    return "\n".join(
        [f"{'; '.join(parts or ['no pair is used'])}. Imbalance is ‖first part‖² − ‖second‖²:", *told, *lost]
    )


WORDS = {"balances": "balances", "starves": "starves a part of", "": "is not told from 0 in"}
"""What noise does to pairs, by the verdict on one."""


@dataclass(frozen=True)
class _Pair:
    """What the records say of a pair."""

    name: str
    imbalance: float
    change: float
    """From the first record to the last with a number."""
    rate: tuple[float, float]
    expected: tuple[float, float]
    """Change as predicted. Of both, the value and its standard error."""
    why: str
    """Why there is no prediction, "" if there is one."""
    note: str = ""
    """What the coverage says of it."""

    @property
    def doubt(self) -> float:
        """Errors by the rate, which is in doubt where this is large."""
        rate, error = self.rate
        return np.inf if self.why or not abs(rate) > 0 else error / abs(rate)

    @property
    def verdict(self) -> str | None:
        """Whether noise "balances" or "starves" the pair, "" where that is not certain, None where it is not known."""
        if self.why or np.isnan(self.rate).any():
            return None
        sign = self.rate[0] * self.imbalance
        return "" if self.doubt >= 1 / CERTAIN or not sign else "balances" if sign < 0 else "starves"

    @property
    def off(self) -> float | None:
        """Errors between the change and its prediction."""
        expected, error = self.expected
        known = not self.why and np.isfinite([self.change, expected]).all() and error > 0
        return abs(self.change - expected) / error if known else None

    def line(self, shared: str) -> str:
        """All of it; without the reason if it is shared by all pairs."""
        parts = []
        if self.verdict is not None:
            starved = f"starves the {'second' if self.imbalance > 0 else 'first'} part"
            words = {"balances": "noise balances it", "starves": f"noise {starved}", "": "noise not told from 0"}
            parts.append(f"{words[self.verdict]}, {within(*self.rate, '+')} per step")
        parts.append(f"last imbalance {self.imbalance:.3g}, changed by {self.change:+.3g}")
        if self.off is not None:
            parts[-1] += f", predicted {within(*self.expected, '+')}"
            parts[-1] += f" (off by {self.off:.2g} errors)" if self.off > CERTAIN else ""
        elif self.why and self.why != shared:
            parts.append(f"no prediction: {self.why}")
        if self.note and not self.why:
            parts.append(self.note)
        return f"{self.name}: {'; '.join(parts)}"


def _pairs(training: xr.Dataset) -> list[_Pair]:
    """Every pair with a number."""
    if "imbalance" not in training or not training["imbalance"].size:
        return []
    nothing = np.full(training.sizes["pair"], np.nan)
    rate, expected = (nothing, nothing), (nothing, nothing)
    start, end = ends(training["imbalance"])
    if {"balance_noise", "balance_stderr"} <= set(training):
        known = np.isfinite(training["balance_noise"].values[-1])
        mean, error = _recent(training, "balance_noise", "balance_stderr")
        rate = np.where(known, mean, np.nan), np.where(known, error, np.nan)
    if {"imbalance_predicted", "imbalance_predicted_stderr"} <= set(training):
        predicted, error = (ends(training[f"imbalance_predicted{part}"])[1] for part in ("", "_stderr"))
        expected = predicted - start, error
    names = _names(training["imbalance"])
    return [
        _Pair(
            name, end[i], end[i] - start[i], (rate[0][i], rate[1][i]), (expected[0][i], expected[1][i]),
            _why(one := training.isel(pair=i)), _said(one)[1],
        )
        for i, name in enumerate(names)
    ]  # fmt: skip


def _said(pair: xr.Dataset) -> tuple[str, str]:
    """State and reason of a pair in the coverage."""
    rows = {name: (state, why) for name, state, why in Coverage.from_text(pair.attrs["coverage"]).pairs}
    return rows.get(str(pair["pair"].item()), ("", ""))


def _why(pair: xr.Dataset) -> str:
    """Why the last record has no prediction for a pair; "" if it has."""
    (state, said), imbalance = _said(pair), pair["imbalance"].values
    if state == PREDICTED and said:
        return ""
    if not np.isfinite(imbalance[-1]) and state != NO_PAIR:
        lost = len(imbalance) - np.isfinite(imbalance)[::-1].argmax() if np.isfinite(imbalance).any() else 0
        return f"no finite number since step {pair['step'].values[lost]:,}"
    if pair["batch_size"].values[-1] == 1:
        return "a batch of one sample does not show its noise"
    if said:
        return said
    names = {"balance_noise", "imbalance_predicted"} & set(pair)
    if len(names) == 2 and all(np.isfinite(pair[name].values[-1]) for name in names):
        return ""
    if np.isnan(pair["lr"]).all() and not ("imbalance_identity" in pair and pair["imbalance_identity"].notnull().any()):
        return "no step of an optimizer was seen; pass it as Watch(optimizer=…)"
    flags = pair["status"].values[-1].ravel() if "status" in pair else []
    why = {str(flag.name).lower().replace("_", " ") for flag in Status if any(one & flag for one in flags)}
    return "not seen per sample at the last record" + (f" ({', '.join(sorted(why))})" if why else "")


def _dropped(training: xr.Dataset) -> dict[str, str]:
    """Pairs without a number, with the reason."""
    known = {str(name) for name in training["pair"].values} if "pair" in training.coords else set()
    rows = Coverage.from_text(training.attrs["coverage"]).of(NO_PAIR)
    return {name: why for name, _, why in rows if name not in known}


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
        return f"at least {rounded(low)} samples (95 %), since the signal is not told from 0{meaning}"
    interval = f"from {rounded(low)} to {rounded(high)}" if np.isfinite(high) else f"at least {rounded(low)}"
    return f"{rounded(value)} samples (95 %: {interval}){meaning}"


def noise(training: xr.Dataset) -> str:
    """The noisiest parameters with their part of the total trace, and the noisiest heads."""
    if not {"trace", "trace_stderr"} <= set(training) or not training["trace"].size:
        return ""
    (trace, error), names = _recent(training, "trace", "trace_stderr"), _names(training["trace"])
    total = float(np.nansum(trace))
    if not np.isfinite(trace).any():
        alone = training["batch_size"].values.max() == 1
        return "not measured: " + ("a batch of one sample has no variance" if alone else "see alarms and coverage")
    whole = "total_trace" in training and "total_trace_stderr" in training
    sums = _recent(training, "total_trace", "total_trace_stderr") if whole else (total, np.nan)
    parts = [f" {part:.0%}" if total > 0 and (part := value / total) < 1.5 else "" for value in trace]
    said = [f"{names[i]}{parts[i]} ({within(trace[i], error[i])})" for i in order(-trace)[:3]]
    said += _largest(training, "head_trace", "head", 1)
    return f"total trace {within(float(sums[0]), float(sums[1]))}; largest: {', '.join(said)}"


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
            f", {rounded(float(f'{values[row, place] / control[row]:.2g}'))} × a random direction"
            if control[row] > 0
            else ""
        )
        said.append(f"{dim} {place} of {names[row]} ({within(values[row, place], error[row, place])}{beside})")
    return said


def rank(training: xr.Dataset) -> str:
    """Weights whose effective rank is certainly below what it was, and the fall of log determinants."""
    parts = []
    if {"effective_rank_low", "effective_rank_high"} <= set(training):
        low, high = ends(training["effective_rank_low"]), ends(training["effective_rank_high"])
        names, left = _names(training["effective_rank_low"]), high[1] / low[0]
        was, now = ([span(*both) for both in zip(low[i], high[i], strict=True)] for i in (0, 1))
        lost = [i for i in order(left) if float(f"{high[1][i]:.3g}") < float(f"{low[0][i]:.3g}")]
        listing = listed([f"{names[i]} {was[i]} → {now[i]}" for i in lost], 2)
        if training.sizes["step"] > 1:
            whole = int(np.isfinite(left).sum())
            parts = [f"effective rank lost in {len(lost)} of {whole} weight{'s' * (whole != 1)}"]
            parts[0] += f": {listing}" if lost else ""
        else:
            parts = [f"effective rank: {listed([f'{names[i]} {now[i]}' for i in order(high[1])])}"]
    if "log_det" in training and training.sizes["step"] > 1:
        start, end = ends(training["log_det"])
        for i in order(end - start)[:1]:
            parts.append(f"log det of {_names(training['log_det'])[i]} changed by {end[i] - start[i]:+.3g}")
    return "; ".join(parts)


TOPICS: dict[str, Callable[[xr.Dataset], str]] = {
    "alarms": alarms,
    "balance": balance,
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
    return labels([str(name) for name in variable[variable.dims[1]].values])
