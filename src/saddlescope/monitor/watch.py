"""``Watch``: noise, balance and rank of a model while it trains.

On sampled steps hooks read what passes through the layers (``capture``); sums over samples (``sample``) become the
values of each quantity (``modes``, ``noise``, ``rank``, ``balance``), and these a record. On other steps nothing is
attached to the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from saddlescope import _warnings
from saddlescope.monitor import modes, noise
from saddlescope.monitor._torch import nn
from saddlescope.monitor.capture import CHECK, NO_CROSS, NO_GRADIENT, NOT_FINITE, NOT_RECORDED, Capture, shared
from saddlescope.monitor.directions import Directions, leading
from saddlescope.monitor.record import Record, Values, merged
from saddlescope.monitor.sample import Sample, Scale, pooled
from saddlescope.monitor.settings import checked_heads, checked_model, settings
from saddlescope.monitor.sites import fingerprint, layout, unwrapped

NOTHING = contextlib.nullcontext()
"""The context of a step that is not sampled."""

ADVICE = {
    CHECK: "the projections of its samples do not sum to its gradient: something else adds to the gradient (a penalty "
    "in the loss, a use outside the layer's forward); its variances are not those of the samples",
    NO_GRADIENT: "it had no gradient in a sampled step; call backward inside watch.step(), or freeze what is not used",
    NOT_FINITE: "its gradient is not finite; look at the learning rate and at the loss scale",
    NOT_RECORDED: "its layer was not seen; if the training step is compiled, use watch.probe(loss_fn, batch)",
    NO_CROSS: "it is used several times in one backward pass; its trace is left out until the next record",
}
"""What a flag of the status means to the user, as the end of a sentence."""


class Watch:
    """Noise, balance and rank of a model in training.

    ``with watch.step():`` around the forward and backward passes of one optimizer step. On the steps of ``schedule``
    it takes a record; on others it costs about a microsecond. Modules, parameters, gradients and random numbers are
    left as they are: training is bit-identical with and without.

    schedule: "log+N" (dense at the start, then every N steps), a number of steps, or a function of the step.
    quantities: "standard" (all), "weights" (ranks alone: no data, no hooks) or names among "modes", "noise",
    "balance", "rank".
    samples: number of samples whose gradient norms are taken; None for all. modes: singular pairs of every weight.
    reduction, loss_scale: the loss that is differentiated is the "mean" or "sum" over samples, times this factor; a
    GradScaler is read.
    heads: numbers of heads by name of the parameter, where they are not found.
    stance: for compiled models: "probe" leaves them to ``probe``, "eager" runs sampled steps uncompiled.
    strict: raise where the monitor would warn.
    Raises TypeError or ValueError for wrong arguments.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    >>> watch = Watch(model, schedule=1)
    >>> with watch.step():
    ...     model(torch.ones(8, 3)).square().mean().backward()
    >>> [record.step for record in watch.records]
    [0]
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: str | int | Callable[[int], bool] = "log+50",
        quantities: str | tuple[str, ...] = "standard",
        samples: int | None = 16,
        modes: int = 8,
        *,
        reduction: str = "mean",
        loss_scale: Any = 1.0,
        heads: Mapping[str, Any] | None = None,
        stance: str | None = None,
        strict: bool = False,
    ) -> None:
        self._wrapped = checked_model(model)
        self.model = unwrapped(model)
        self._set = settings(schedule, quantities, samples, modes, reduction, loss_scale, strict, stance)
        self._heads = checked_heads(heads, self.model)
        self._layout = layout(self.model, self._heads)
        self._shared = shared(self._layout.taps)
        self._controls: dict[str, Any] = {}
        self._bases: dict[str, Any] = {}
        self._step = 0
        self._open: Capture | None = None
        self._directions: dict[str, Directions] = {}
        self._warned: set[tuple[str, int]] = set()
        self.records: list[Record] = []

    # --- one step

    def step(self, complete: bool = True) -> contextlib.AbstractContextManager[Any]:
        """A context around the forward and backward passes of one optimizer step, or of one micro-batch of it.

        With ``complete=False`` further micro-batches of the same step follow.
        """
        if self._open is None and not self._set.due(self._step):
            self._step += complete
            return NOTHING
        return _Sampled(self, complete)

    def begin(self) -> None:
        """Start to sample this step, if it is to be sampled; callbacks use it where a context does not fit."""
        if self._open is None and self._set.due(self._step):
            self._open = self._capture()
        if self._open is not None and not self._open.open_hooks:
            self._open.open()

    def end(self, complete: bool = True) -> Record | None:
        """End the micro-batch or, if it completes the step, the step; the record if one was taken."""
        capture, record = self._open, None
        if capture is not None:
            capture.close()
        if not complete:
            return None
        if capture is not None:
            self._open = None
            record = self._record(self._sample(capture))
        self._step += 1
        return record

    def abort(self) -> None:
        """Drop the sample of this step and remove all hooks."""
        if self._open is not None:
            self._open.close()
            self._open = None

    # --- what a step is made of

    def _capture(self) -> Capture:
        """A capture of the next step, with directions of the weights as they are now."""
        if fingerprint(self.model) != self._layout.fingerprint:
            self._layout = layout(self.model, self._heads)
            self._shared |= shared(self._layout.taps)
        needs = self._set.quantities
        self._directions = self._leading() if needs & {"modes", "rank"} else {}
        frames = {}
        if "modes" in needs:
            frames = {name: modes.frame(one, self._control(name, one)) for name, one in self._directions.items()}
        return Capture(self.model, self._layout, frames, self._set.squares, self._shared)

    def _leading(self) -> dict[str, Directions]:
        found = {}
        for name, site in self._layout.sites.items():
            if site.shape is not None:
                W = site.parameter.detach().reshape(site.shape)
                found[name] = leading(W, self._set.modes, self._bases.get(name))
                self._bases[name] = found[name].basis
        return found

    def _control(self, name: str, directions: Directions) -> Any:
        U, V = directions.U, directions.V
        known = self._controls.get(name)
        if known is None or known[0].shape != U.shape or known[1].shape != V.shape:
            shape = (len(U), len(V))
            known = self._controls[name] = modes.random_pairs(shape, U.shape[1], U, seed=len(self._controls))
        return known

    def _sample(self, capture: Capture) -> Sample:
        layout, group = self._layout, self._group
        raws = capture.finish()
        if group is not None:  # by now gradients are means over ranks
            for name, site in layout.sites.items():
                capture.take(name, site.parameter.grad)
        refused = f"{layout.batch_norm} is a batch norm that trains: it couples samples" if layout.batch_norm else ""
        return pooled(
            self._step,
            layout.sites,
            raws,
            self._directions if "modes" in self._set.quantities else {},
            Scale(self._set.reduction, self._set.scale()),
            refused if self._set.needs_data else None,
            group=group,
        )

    @property
    def _group(self) -> Any:
        """The process group of a distributed model."""
        return getattr(self._wrapped, "process_group", None)

    def _record(self, sample: Sample) -> Record:
        parts: list[Values] = []
        if self._directions:
            parts.append(modes.strengths(self._directions))
        if "modes" in self._set.quantities:
            parts.append(modes.measure(sample))
        if "noise" in self._set.quantities:
            parts.append(noise.measure(sample))
        self._speak(sample)
        record = Record(self._step, sample.batch_size, None, merged(*parts))
        self.records.append(record)
        return record

    # --- what is said

    def _speak(self, sample: Sample) -> None:
        """Warn of every flag of every weight once, or raise if strict."""
        for name, seen in sample.seen.items():
            for flag, advice in ADVICE.items():
                if seen.status & flag and (name, flag) not in self._warned:
                    self._warned.add((name, flag))
                    self._say(f"{name} at step {sample.step}: {advice}")

    def _say(self, message: str) -> None:
        if self._set.strict:
            raise RuntimeError(message)
        _warnings.warn(f"monitor: {message}")


class _Sampled(contextlib.AbstractContextManager[Any]):
    """The context of a sampled step; a step that raises leaves no hook behind."""

    def __init__(self, watch: Watch, complete: bool) -> None:
        self._watch, self._complete = watch, complete

    def __enter__(self) -> None:
        self._watch.begin()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._watch.end(self._complete)
        else:
            self._watch.abort()
