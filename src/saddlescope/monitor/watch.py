"""``Watch``: noise, balance and rank of a model while it trains.

On sampled steps hooks read what passes through the layers (``capture``); sums over samples (``sample``) become the
values of each quantity (``modes``, ``noise``, ``rank``, ``balance``), and these a record. On other steps nothing is
attached to the model.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import xarray as xr

from saddlescope._numbers import as_choice, as_whole
from saddlescope.monitor._torch import nn, torch
from saddlescope.monitor.alerts import Action, Alert, Alerts, Condition
from saddlescope.monitor.compiled import eager, first_samples, is_compiled
from saddlescope.monitor.coverage import Coverage
from saddlescope.monitor.discover import Search, learning_rate
from saddlescope.monitor.loggers import Logger, Outlets
from saddlescope.monitor.measure import Measurement
from saddlescope.monitor.probe import LossFunction, probe
from saddlescope.monitor.record import Record
from saddlescope.monitor.results import to_dataset
from saddlescope.monitor.settings import checked_heads, checked_model, checked_optimizer, settings
from saddlescope.monitor.sites import unwrapped
from saddlescope.monitor.state import VERSION, check, described
from saddlescope.monitor.summary import Summary, summary
from saddlescope.runs.training import save

NOTHING = contextlib.nullcontext()
"""The context of a step that is not sampled."""

COMPILED = (
    "the model is compiled, so that hooks cannot fire: call watch.probe(loss_fn, batch) before every step, or use "
    'Watch(…, stance="eager"); until then only weights are watched'
)

NESTED = "watch.step() inside another counts as one with it; use watch.step(complete=False) around each micro-batch"


class Watch:
    """Noise, balance and rank of a model in training.

    ``with watch.step():`` around the forward and backward passes of one optimizer step. On the steps of ``schedule``
    it takes a record; on others it costs about a microsecond, and balance a pass over the weights of its pairs in every
    step of SGD. Modules, parameters, gradients and random numbers are left as they are: training is bit-identical with
    and without.

    schedule: "log+N" (dense at the start, then every N steps), a number of steps, or a function of the step.
    quantities: "standard" (all), "weights" (ranks alone: no data, no hooks) or names among "modes", "noise",
    "balance", "rank".
    samples: number of samples whose gradient norms are taken; None for all. modes: singular pairs of every weight.
    optimizer: found at its first step if it is not given.
    pairs: rescaling pairs beyond those that are found, as pairs of names; heads: numbers of heads by parameter, where
    they are not found.
    reduction, loss_scale: the loss that is differentiated is the "mean" or "sum" over samples, times this factor; a
    GradScaler is read.
    group: process group whose ranks train on further samples; that of a DistributedDataParallel by default.
    loggers: one or several, where numbers go while training runs (``saddlescope.monitor.loggers``).
    stance: for compiled models: "probe" leaves them to ``probe``, "eager" runs sampled steps uncompiled,
    which may round differently from compiled ones.
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
        quantities: str | Iterable[str] = "standard",
        samples: int | None = 16,
        modes: int = 8,
        *,
        optimizer: Any = None,
        pairs: Iterable[Any] | None = None,
        heads: Mapping[str, Any] | None = None,
        reduction: str = "mean",
        loss_scale: Any = 1.0,
        group: Any = None,
        loggers: Logger | Iterable[Logger] = (),
        stance: str = "probe",
        strict: bool = False,
    ) -> None:
        self._wrapped = checked_model(model)
        self.model = unwrapped(model)
        self._set = settings(schedule, quantities, samples, modes, reduction, loss_scale, strict, stance)
        group = getattr(model, "process_group", None) if group is None else group
        self._measure = Measurement(self.model, self._set, checked_heads(heads, self.model), pairs, group)
        self._outlets = Outlets(loggers, strict)
        self._alerts = Alerts(self._outlets.event, strict)
        self._step = 0
        self._probed = self._inside = False
        self._sampling = False
        self._stance = contextlib.ExitStack()
        self._search: Search | None = None
        self.records: list[Record] = []
        """What was taken so far, one record per sampled step."""
        if optimizer is not None:
            self._found(checked_optimizer(optimizer, self.model))
        elif "balance" in self._set.quantities:
            self._search = Search(self.model.parameters(), self._found)

    # --- one step

    def step(self, complete: bool = True) -> contextlib.AbstractContextManager[Any]:
        """A context around the forward and backward passes of one optimizer step, or of one micro-batch of it.

        With ``complete=False`` further micro-batches of the same step follow. After ``probe`` it does nothing.
        """
        if self._probed or not (self._sampling or self._set.due(self._step)):
            self._step += complete and not self._probed
            self._probed &= not complete
            return NOTHING
        return _Sampled(self, complete)

    def begin(self, batch: Any = None) -> None:
        """Start or go on to sample this step, if it is to be sampled; for callbacks, where a context does not fit.

        The batch tells the number of samples where not the model but its submodules are called.
        """
        if self._probed or not (self._sampling or self._set.due(self._step)):
            return
        with self._spared():
            if not self._sampling:
                self._end_search()
                hooks = not (self._set.stance == "probe" and is_compiled(self._wrapped))
                if not hooks and self._set.needs_data:
                    self._measure.say("compiled", COMPILED)
                self._measure.start(hooks)
                self._sampling = True
            self._measure.attach(batch)
            if self._set.stance == "eager":
                self._stance.enter_context(eager())

    def end(self, complete: bool = True) -> Record | None:
        """End the micro-batch or, if it completes the step, the step; the record if one was taken."""
        self._stance.close()
        record = None
        if self._sampling:
            self._measure.detach()
            if complete:
                self._sampling = False
                with self._spared():
                    record = self._keep(*self._measure.finish(self._step))
        self._step += complete and not self._probed
        self._probed &= not complete
        return record

    def abort(self) -> None:
        """Drop the sample of this step and remove all hooks."""
        self._stance.close()
        self._measure.detach()
        self._sampling = False

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        """Training is spared what goes wrong inside: the record is dropped, and one warning says why; not if strict."""
        try:
            yield
        except Exception as error:
            if self._set.strict:
                raise
            self.abort()
            words = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
            self._measure.say(words, f"no record at step {self._step}, since it raised {words}")

    def probe(self, loss_fn: LossFunction, batch: Any) -> Record | None:
        """Record this step from a forward and backward pass beside training, on the first ``samples`` of the batch.

        ``loss_fn(model, batch)`` returns the loss that training differentiates. For compiled models: call it before
        every training step; on steps that are not sampled it only counts. Random generators, buffers and gradients are
        restored, and compiled code is not recompiled. Raises TypeError if the loss is not one number.
        """
        record = None
        if self._set.due(self._step):
            self._end_search()
            part, whole = first_samples(batch, self._set.samples)
            self._measure.start(hooks=True)
            try:
                measure = self._measure
                gradients = probe(self.model, measure.layout.sites, measure.capture, loss_fn, part, measure.hear)
            finally:
                self._measure.detach()
            with self._spared():
                record = self._keep(*self._measure.finish(self._step, gradients, whole))
        self._step, self._probed = self._step + 1, True
        return record

    def replay(
        self,
        checkpoints: Mapping[int, Any] | Iterable[Any],
        batch: Any,
        loss_fn: LossFunction,
        directions: str = "final",
    ) -> xr.Dataset:
        """What these quantities would have been at checkpoints of the model, on one batch; nothing is trained.

        ``checkpoints`` are state dicts of the model, or paths of them, by step or in order. With ``directions="final"``
        modes are those of the model as it is now, so that a mode can be followed back to where it began; with "own"
        those of each checkpoint. Raises TypeError or ValueError for anything else.
        """
        given = checkpoints if isinstance(checkpoints, Mapping) else dict(enumerate(checkpoints))
        fixed, has = as_choice(directions, "directions", "final", "own") == "final", self._set
        twin = Watch(
            copy.deepcopy(self.model), 1, has.quantities - {"balance"} or "modes", has.samples, has.modes,
            heads=self._measure.heads, reduction=has.reduction, loss_scale=has.loss_scale, strict=has.strict,
        )  # fmt: skip
        twin._measure.fixed = self._measure.leading() if fixed else {}
        for step, checkpoint in given.items():
            twin.model.load_state_dict(checkpoint if isinstance(checkpoint, Mapping) else torch.load(checkpoint, "cpu"))
            twin._step = as_whole(step, "step")
            twin.probe(loss_fn, batch)
        return twin.to_xarray()

    def _keep(self, batch_size: int, values: Mapping[str, Any]) -> Record:
        record = Record(self._step, batch_size, self._lr(), values)
        self.records.append(record)
        self._alerts.check(record)
        self._outlets.record(record)
        return record

    # --- the optimizer

    def _found(self, optimizer: Any) -> None:
        self._measure.follow(optimizer)
        if self.records and self.records[-1].lr is None:  # of the step that it makes now
            self.records[-1] = replace(self.records[-1], lr=self._lr())

    def _end_search(self) -> None:
        if self._search is not None and self._search.over:
            self._search.close()
            self._search = None

    def _lr(self) -> float | None:
        wanted = {id(site.parameter) for site in self._measure.layout.sites.values()}
        return None if self._measure.optimizer is None else learning_rate(self._measure.optimizer, wanted)

    # --- what it tells

    def to_xarray(self) -> xr.Dataset:
        """All records as one labelled dataset with the dim ``step``; see the attributes of each variable."""
        return to_dataset(
            self.records,
            quantities=sorted(self._set.quantities),
            schedule=self._set.schedule,
            reduction=self._set.reduction,
            loss_scale=self._set.scale(),
            coverage=self.coverage(),
        )

    def summary(self) -> Summary:
        """What was found, in sentences with numbers, and what is covered; a text at a prompt, a table in a notebook."""
        return summary(self.to_xarray())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the records to a Zarr store, which ``saddlescope.load`` and the command line read.

        An earlier one at this path is replaced. Raises FileExistsError if something else is there.
        """
        save(self.to_xarray(), path)

    def __repr__(self) -> str:
        return repr(self.summary())

    def coverage(self) -> Coverage:
        """What is watched, what was recorded, what is skipped, and why."""
        return Coverage(self._measure.coverage())

    def when(self, condition: Condition, action: Action, name: str | None = None) -> None:
        """Do something when a condition on the records becomes true.

        The condition is a function of the record, such as ``lambda now: now["noise_scale"] > 4096``, or a ready one,
        such as ``falls_below("effective_rank_high", 0.5)``. The record is read as ``now[variable]`` where there is one
        number per step, as ``now[variable][key]``, such as ``now["trace"]["fc.weight"]``, where there is one for each
        weight, parameter or pair, and as ``now[variable][key][i]`` for modes, controls and heads; a second argument
        has the numbers of the start. The action is a function of the ``Alert``, "log", or
        "stop", which sets ``should_stop``. Raises TypeError or ValueError for anything else.
        """
        self._alerts.when(condition, action, name)

    @property
    def alerts(self) -> list[Alert]:
        """The conditions that became true, in order."""
        return self._alerts.fired

    @property
    def should_stop(self) -> bool:
        """Whether an alert asked to stop the training; callbacks stop it, a plain loop has to look."""
        return self._alerts.should_stop

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs to go on with the same records: keep it with the model's."""
        return {
            "version": VERSION,
            "of": described(self.model, self._set),
            "step": self._step,
            "records": [vars(record) | {"values": _on_cpu(record.values)} for record in self.records],
            "alerts": self._alerts.state_dict(),
            **self._measure.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; the schedule, the number of samples and the optimizer may differ.

        Conditions are functions, which are not kept: add them again, before or after. Raises TypeError for anything but
        a dict, ValueError where parameters, quantities, modes or reduction differ, and for states of other versions.
        """
        check(state, self.state_dict())
        self.abort()
        self._step, self._probed = state["step"], False
        self.records = [Record(**one) for one in state["records"]]
        self._alerts.load_state_dict(state["alerts"])
        self._measure.load_state_dict(state)

    def close(self) -> None:
        """Remove everything from model and optimizer, and close the loggers; records stay."""
        self.abort()
        if self._search is not None:
            self._search.close()
            self._search = None
        self._measure.close()
        self._outlets.close()


def _on_cpu(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {variable: {key: value.detach().cpu() for key, value in one.items()} for variable, one in values.items()}


class _Sampled(contextlib.AbstractContextManager[Any]):
    """The context of a sampled step; a step that raises leaves no hook behind. One inside another does nothing."""

    def __init__(self, watch: Watch, complete: bool) -> None:
        self._watch, self._complete = watch, complete
        self._inner = False

    def __enter__(self) -> None:
        watch = self._watch
        self._inner = watch._inside
        if self._inner:
            watch._measure.say("nested", NESTED)
            return
        watch._inside = True
        watch.begin()
        self._listening = watch._measure.listening()
        self._listening.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._inner:
            return
        self._watch._inside = False
        self._listening.__exit__(None, None, None)
        if kind is None:
            self._watch.end(self._complete)
        else:
            self._watch.abort()
