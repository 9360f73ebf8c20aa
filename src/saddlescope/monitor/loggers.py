"""Where the numbers of a watch go while training runs: TensorBoard, Weights & Biases, trackio, a file, or memory.

    watch = Watch(model, loggers=[TensorBoard("logs"), JSONL("numbers.jsonl", which="all")])

A logger has two methods, ``log(step, numbers)`` and ``close()``, so that any other is written in a few lines. Its
attribute ``which`` says what it gets: "compact" (the default) is what a person wants on a dashboard, "all" is every
number of the record, and names of variables select those. Names are ``group/variable/key/index`` (``naming``).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from saddlescope._files import place
from saddlescope._numbers import hint, shown
from saddlescope._warnings import warn
from saddlescope.monitor._torch import torch
from saddlescope.monitor.naming import GROUPS, Numbers, named, on_host
from saddlescope.monitor.record import Record
from saddlescope.monitor.variables import VARIABLES

Which = str | Iterable[str]
"""What a logger gets: "compact", "all", or names of variables."""

COMPACT = (
    *("total_trace", "noise_scale", "noise_scale_low", "noise_scale_high"),
    *("effective_rank_low", "effective_rank_high"),
    *("imbalance", "imbalance_predicted", "balance_noise", "balance_gradient", "balance_jump"),
)
"""Variables of the compact selection; ``check/worst`` and ``check/flagged`` come with them."""


class Logger(Protocol):
    """Takes numbers by name: all of one step at once."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of a step."""
        ...

    def close(self) -> None:
        """Finish what was begun; a later ``log`` may open it again."""
        ...


def selected(numbers: Numbers, which: Which = "compact") -> dict[str, float]:
    """The numbers that a logger gets, by name.

    ``check/worst`` is the largest self-check of all weights, ``check/flagged`` the number of weights whose status is
    not 0.

    >>> selected({"total_trace": {"": 2.0}, "trace": {"fc": 2.0}, "status": {"fc": 8.0, "out": 0.0}})
    {'noise/total_trace': 2.0, 'check/flagged': 1.0}
    >>> selected({"total_trace": {"": 2.0}, "trace": {"fc": 2.0}}, which=["trace"])
    {'noise/trace/fc': 2.0}
    """
    if which == "all":
        return dict(named(numbers))
    variables = COMPACT if which == "compact" else tuple(which)
    chosen = dict(named({variable: numbers[variable] for variable in variables if variable in numbers}))
    return chosen | _alarms(numbers) if which == "compact" else chosen


def _alarms(numbers: Numbers) -> dict[str, float]:
    """The self-check and the status of all weights, in two numbers."""
    checks = [x for x in numbers.get("check", {}).values() if isinstance(x, float) and not math.isnan(x)]
    found = {"check/worst": max(checks)} if checks else {}
    if "status" in numbers:
        found["check/flagged"] = float(sum(map(bool, numbers["status"].values())))
    return found


class Outlets:
    """The loggers of a watch. One that raises never stops training: the first error warns, the next are passed over.

    Under torch.distributed the process of rank 0 alone logs.
    """

    def __init__(self, loggers: Logger | Iterable[Logger], strict: bool = False) -> None:
        """One logger or several. Raises TypeError for what has no ``log``; with ``strict`` their errors are raised."""
        self._loggers, self._strict = _several(loggers), strict
        self._warned: set[int] = set()

    def record(self, record: Record) -> None:
        """Give a record to all loggers."""
        if self._loggers and _first_process():
            numbers = on_host(record.values)
            for logger in self._loggers:
                chosen = selected(numbers, getattr(logger, "which", "compact"))
                self._guarded(logger, partial(logger.log, record.step, chosen))

    def event(self, step: int, numbers: Mapping[str, float]) -> None:
        """Give numbers that belong to no record, such as an alert, to all loggers."""
        for logger in self._loggers if _first_process() else ():
            self._guarded(logger, partial(logger.log, step, numbers))

    def close(self) -> None:
        """Close all loggers."""
        for logger in self._loggers:
            self._guarded(logger, logger.close)

    def _guarded(self, logger: Logger, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            if self._strict:
                raise
            if id(logger) not in self._warned:
                self._warned.add(id(logger))
                warn(
                    f"the logger {type(logger).__name__} raised {type(error).__name__}: "
                    f"{' '.join(str(error).split()):.200}; training goes on, further errors of it are not shown"
                )


def _several(loggers: Any) -> tuple[Logger, ...]:
    """One logger or several, checked."""
    given = tuple(loggers) if isinstance(loggers, Iterable) and not isinstance(loggers, str) else (loggers,)
    for one in given:
        if isinstance(one, (str, os.PathLike)):
            path = os.fspath(one)
            raise TypeError(f"loggers must be loggers, got the path {path!r}; write loggers=JSONL({path!r})")
        if isinstance(one, type) or not all(callable(getattr(one, name, None)) for name in ("log", "close")):
            raise TypeError(
                f"loggers must have the methods log(step, numbers) and close(), got {shown(one)}; "
                "saddlescope.monitor.loggers has JSONL, TensorBoard, WandB, Trackio and InMemory"
            )
    return given


def _first_process() -> bool:
    dist = torch.distributed
    return not (dist.is_available() and dist.is_initialized() and dist.get_rank())


class InMemory:
    """Keeps ``(step, numbers)`` in the list ``rows``.

    >>> kept = InMemory()
    >>> kept.log(3, {"noise/total_trace": 2.0})
    >>> kept.rows
    [(3, {'noise/total_trace': 2.0})]
    """

    def __init__(self, which: Which = "compact") -> None:
        self.which = _checked(which)
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a row."""
        self.rows.append((step, dict(numbers)))

    def close(self) -> None:
        """Nothing to close."""


class JSONL:
    """Appends one line of JSON per step to a file, which is closed after every line.

    NaN and infinity become null, which every reader takes for a missing number; the status of the weight says which.
    Raises OSError where the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], which: Which = "compact") -> None:
        self.path, self.which = place(path, "path"), _checked(which)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a line."""
        row: dict[str, float | None] = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | row, allow_nan=False, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Nothing to close."""


class TensorBoard:
    """Scalars into a ``SummaryWriter`` that you have, or into a folder.

    A given writer is flushed by ``close``; one that was opened for a folder is closed.
    """

    def __init__(self, to: Any, which: Which = "compact") -> None:
        """Raises TypeError for what is neither a writer nor a path."""
        self.which = _checked(which)
        if not hasattr(to, "add_scalar") and not isinstance(to, (str, os.PathLike)):
            raise TypeError(f"to must be a SummaryWriter or the path of a folder, got {shown(to)}")
        self._writer = to if hasattr(to, "add_scalar") else None
        self._folder = None if self._writer is not None else place(to, "to")
        if self._folder is not None:
            _needs("tensorboard", "TensorBoard")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add one scalar per number."""
        if self._writer is None:
            self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(self._folder))
        for name, x in numbers.items():
            self._writer.add_scalar(name, x, step)

    def close(self) -> None:
        """Flush a given writer, close an own one."""
        if self._writer is not None and self._folder is None:
            self._writer.flush()
        elif self._writer is not None:
            self._writer.close()
            self._writer = None


class _Run:
    """Rows of a run: the given one, the one that is active, or a new one, which ``close`` finishes."""

    package = ""

    def __init__(self, run: Any = None, *, project: str = "saddlescope", which: Which = "compact") -> None:
        """Raises ImportError where the package is missing, before training starts."""
        self.which, self._given, self._project = _checked(which), run, project
        self._run: Any = None
        self._ours = False
        if run is None:
            _needs(self.package, type(self).__name__)

    def close(self) -> None:
        """Finish a run that was opened here."""
        if self._ours:
            self._run.finish()
        self._run, self._ours = None, False

    def _opened(self) -> Any:
        """The run, opened when it is first used."""
        if self._run is None:
            module = importlib.import_module(self.package) if self._given is None else None
            self._run = self._given if module is None else self._active(module)
            self._ours = self._run is None
            if self._ours:
                self._run = self._new(module)
            self._begin(self._run)
        return self._run

    def _active(self, module: Any) -> Any:
        raise NotImplementedError

    def _new(self, module: Any) -> Any:
        raise NotImplementedError

    def _begin(self, run: Any) -> None:
        """Prepare a run for the numbers."""


class WandB(_Run):
    """Rows of a Weights & Biases run: the given or active one, or a new one in offline mode, which connects to nothing.

    The step is the number ``monitor/step``, which is the horizontal axis of the numbers of the watch: your own calls of
    ``run.log`` keep their steps.
    """

    package = "wandb"

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add a row."""
        self._opened().log({"monitor/step": step, **numbers})

    def _active(self, module: Any) -> Any:
        return module.run

    def _new(self, module: Any) -> Any:
        return module.init(mode="offline", project=self._project)

    def _begin(self, run: Any) -> None:
        run.define_metric("monitor/step", hidden=True)
        for group in (*GROUPS, "check", "alert"):
            run.define_metric(f"{group}/*", step_metric="monitor/step")


class Trackio(_Run):
    """Rows of a trackio run: the given or active one, or a new one on this machine.

    A new run follows the variables of trackio: TRACKIO_DIR, and TRACKIO_SPACE_ID, which sends it to a Space.
    """

    package = "trackio"

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add a row."""
        self._opened().log(dict(numbers), step=step)

    def _active(self, module: Any) -> Any:
        return module.context_vars.current_run.get()

    def _new(self, module: Any) -> Any:
        return module.init(self._project, embed=False, auto_log_cpu=False, auto_log_gpu=False)


def _needs(package: str, logger: str) -> None:
    """Refuse a logger whose package is missing, without importing it."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{logger} needs the package {package}: pip install {package}")


def _checked(which: Which) -> Which:
    """A selection whose names exist."""
    if isinstance(which, str) and which in ("compact", "all"):
        return which
    if not isinstance(which, Iterable):
        raise TypeError(f'which must be "compact", "all" or names of variables, got {shown(which)}')
    names = (which,) if isinstance(which, str) else tuple(which)
    unknown = [name for name in names if name not in VARIABLES]
    if unknown:
        close = hint(unknown[0], ("compact", "all", *VARIABLES)) or "; watch.to_xarray() has the names of all variables"
        raise ValueError(f'which must be "compact", "all" or names of variables, got {shown(unknown[0])}{close}')
    return names
