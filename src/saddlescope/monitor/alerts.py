"""Conditions on the records of a watch, and what happens when one becomes true.

    watch.when(falls_below("effective_rank_high", 0.5), "stop")
    watch.when(lambda now: now["noise_scale"] > 4096, "log")
    watch.when(lambda now, start: now["trace"]["fc.weight"] > 10 * start["trace"]["fc.weight"], print)

A condition is a function of the record, ``now``, and if it takes two arguments of each number where it was first
finite, ``start``. Both are read as ``now[variable]`` where there is one number per step, ``now[variable][key]`` where
there is one for each weight, parameter or pair, and ``now[variable][key][i]`` for modes, controls and heads. It returns
True or False, or the numbers that make it true by name. It fires when it becomes true, or when a further number makes
it true, and again only after it was false.
"""

from __future__ import annotations

import inspect
import linecache
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count
from typing import Any, NoReturn

from saddlescope._numbers import as_number, hint, shown
from saddlescope._warnings import warn
from saddlescope.monitor.naming import Number, Numbers, named, on_host
from saddlescope.monitor.record import Record
from saddlescope.monitor.variables import VARIABLES

PATIENCE = 10
"""Records without the numbers of a condition after which one warning says so."""

LISTED = 5
"""Numbers in the message of an alert."""

SOURCE = 120
"""Most letters of a line of a program in it."""


@dataclass(frozen=True)
class Alert:
    """A condition that became true: at which step, and by which numbers, with what they were at the start."""

    step: int
    condition: str
    numbers: Mapping[str, float]
    start: Mapping[str, float]
    source: str = ""
    """The line of the program that holds the condition, of a lambda."""

    @property
    def message(self) -> str:
        """One line.

        >>> Alert(7, "noise_scale above 10", {"noise/noise_scale": 12.0}, {"noise/noise_scale": 3.0}).message
        'step 7: noise_scale above 10: noise/noise_scale = 12 (start 3)'
        """
        listed = [
            f"{name} = {x:.4g}" + (f" (start {self.start[name]:.4g})" if name in self.start else "")
            for name, x in list(self.numbers.items())[:LISTED]
        ]
        more = len(self.numbers) - len(listed)
        where = self.condition + (f" ({self.source})" if self.source else "")
        return f"step {self.step}: {where}: {', '.join(listed)}" + (f" and {more} more" if more else "")


Condition = Callable[..., bool | Mapping[str, float]]
Action = str | Callable[[Alert], object]


class _Missing(Exception):
    """A number of a condition is not in this record, so that the condition is not judged."""


Keys = dict[str, set[str]]
"""Variable → every key that was ever recorded."""


class View:
    """The numbers of a record, as ``now["noise_scale"]`` or ``now["trace"]["fc.weight"]``; it notes what was read."""

    def __init__(self, numbers: Numbers, known: Keys) -> None:
        self._numbers, self._known = numbers, known
        self.read: dict[str, float] = {}

    def __getitem__(self, variable: str) -> Any:
        """A number, or the numbers of the variable by weight, parameter or pair."""
        if variable not in VARIABLES:
            raise KeyError(f"no variable {shown(variable)}{_which(variable)}")
        by_key = ByKey(self, variable)
        return by_key[""] if VARIABLES[variable].dims == ("step",) else by_key

    def number(self, variable: str, key: str = "") -> Number:
        """The same as ``now[variable]`` or ``now[variable][key]``, as of a record."""
        found = self[variable]
        return found[key] if isinstance(found, ByKey) else found

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f'a condition reads numbers as now["noise_scale"] or now["trace"]["fc.weight"], got now.{name}'
        )


class ByKey(Mapping[str, Number]):
    """The numbers of a variable, by the name of a weight, parameter or pair."""

    def __init__(self, view: View, variable: str) -> None:
        self._view, self._variable = view, variable
        self._here = view._numbers.get(variable, {})

    def __getitem__(self, key: str) -> Number:
        if key not in self._here:
            known = self._view._known.get(self._variable, ())
            if key in known or not known:
                raise _Missing(f"{self._variable} of {key}" if key else self._variable)
            raise KeyError(f"{self._variable} has no {shown(key)}; it has {', '.join(sorted(known)):.400}")
        value = self._here[key]
        self._view.read.update(named({self._variable: {key: value}}))
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._here)

    def __len__(self) -> int:
        return len(self._here)

    def _many(self, *_: object) -> NoReturn:
        key = next(iter(self), "fc.weight")
        raise TypeError(
            f"{self._variable} has a number for every {VARIABLES[self._variable].dims[1]}: write "
            f'now["{self._variable}"]["{key}"], or a ready condition such as below("{self._variable}", limit)'
        )

    __lt__ = __le__ = __gt__ = __ge__ = __float__ = _many
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _many


@dataclass(frozen=True)
class Crossing:
    """A ready condition: numbers of a variable on one side of a limit, given as it is or as a factor of their start."""

    variable: str
    side: str
    limit: float
    relative: bool
    keys: str

    def __str__(self) -> str:
        of = self.variable if self.keys == "*" else f"{self.variable} of {self.keys}"
        verb = {"below": "falls below", "above": "rises above"}[self.side] if self.relative else self.side
        return f"{of} {verb} {self.limit:g}" + (" of its start" if self.relative else "")

    def __call__(self, now: View, start: View) -> dict[str, float]:
        """The numbers beyond the limit, by name."""
        here, first = self._named(now), self._named(start)
        limits = {name: self.limit * first.get(name, math.nan) if self.relative else self.limit for name in here}
        return {
            name: x
            for name, x in here.items()
            if (x < limits[name] if self.side == "below" else x > limits[name])
            and (not self.relative or first[name] > 0)
        }

    def _named(self, view: View) -> dict[str, float]:
        by_key = view[self.variable]
        chosen = (
            {key: by_key[key] for key in by_key if fnmatchcase(key, self.keys)}
            if isinstance(by_key, Mapping)
            else {"": by_key}
        )
        if not chosen:
            raise _Missing(f"{self.variable} of {self.keys}")
        return dict(named({self.variable: chosen}))


def below(variable: str, limit: float, keys: str = "*") -> Crossing:
    """A number of the variable is below the limit; ``keys`` is a pattern of names such as ``"blocks.*.weight"``.

    Raises ValueError for an unknown variable, TypeError for a limit that is no number.

    >>> print(below("effective_rank_high", 2, "fc*"))
    effective_rank_high of fc* below 2
    """
    return _crossing(variable, "below", limit, False, keys)


def above(variable: str, limit: float, keys: str = "*") -> Crossing:
    """A number of the variable is above the limit.

    >>> print(above("noise_scale", 4096))
    noise_scale above 4096
    """
    return _crossing(variable, "above", limit, False, keys)


def falls_below(variable: str, factor: float, keys: str = "*") -> Crossing:
    """A number of the variable is below this factor of its start, which is its first finite number, if positive.

    >>> print(falls_below("effective_rank_high", 0.5))
    effective_rank_high falls below 0.5 of its start
    """
    return _crossing(variable, "below", factor, True, keys)


def rises_above(variable: str, factor: float, keys: str = "*") -> Crossing:
    """A number of the variable is above this factor of its start, which is its first finite number, if positive.

    >>> print(rises_above("total_trace", 10))
    total_trace rises above 10 of its start
    """
    return _crossing(variable, "above", factor, True, keys)


def flagged(keys: str = "*") -> Crossing:
    """The status of a weight is not 0: a failed self-check, a gradient that is not finite, a hook that did not fire.

    >>> print(flagged())
    status above 0
    """
    return above("status", 0, keys)


def _crossing(variable: str, side: str, limit: float, relative: bool, keys: str) -> Crossing:
    if variable not in VARIABLES:
        raise ValueError(f"variable must be a name in watch.to_xarray(), got {shown(variable)}{_which(variable)}")
    return Crossing(variable, side, as_number(limit, "factor" if relative else "limit"), relative, keys)


def _which(variable: Any) -> str:
    """What an unknown variable may have meant, as the end of a sentence."""
    return hint(variable, VARIABLES) or "; watch.to_xarray() has the names of all variables"


READY: Mapping[Any, str] = {
    **{make: f'{make.__name__}("effective_rank_high", 0.5)' for make in (below, above, falls_below, rises_above)},
    flagged: "flagged()",
}
"""What makes a condition, and is none itself: how it is called."""


@dataclass
class _Rule:
    """A condition with its action, and what makes it true at present."""

    condition: Condition
    action: Action
    name: str
    true: frozenset[str] = frozenset()
    missed: int = 0
    off: bool = False


class Alerts:
    """The conditions of a watch, in the order in which they were added.

    A condition or an action that raises warns once and is then left out; with ``strict`` the error is raised.
    """

    def __init__(self, event: Callable[[int, Mapping[str, float]], None], strict: bool = False) -> None:
        """``event`` takes the step and the numbers of a logged alert."""
        self._event, self._strict = event, strict
        self.fired: list[Alert] = []
        self.should_stop = False
        self._rules: list[_Rule] = []
        self._start: Numbers = {}
        self._known: Keys = {}
        self._later: dict[str, list[str]] = {}

    def when(self, condition: Condition, action: Action, name: str | None = None) -> None:
        """Add a condition. The action is a function of the ``Alert``, "log" or "stop", which sets ``should_stop``.

        Raises TypeError for a condition or an action that is no function, ValueError for another word.
        """
        if not callable(condition):
            raise TypeError(
                f"condition must be a function of the record, got {shown(condition)}; "
                'write falls_below("effective_rank_high", 0.5) or lambda now: now["noise_scale"] > 100'
            )
        if called := READY.get(condition):
            got = called.partition("(")[0]
            raise TypeError(f"condition must be a ready condition with its arguments, got {got}; write {called}")
        if not callable(action) and action not in ("log", "stop"):
            kind = ValueError if isinstance(action, str) else TypeError
            raise kind(f'action must be "log", "stop" or a function of the alert, got {shown(action)}')
        taken, wanted = {rule.name for rule in self._rules}, name or _described(condition)
        numbered = (f"{wanted} ({i})" if i > 1 else wanted for i in count(1))
        free = next(name for name in numbered if name not in taken)
        self._rules.append(_Rule(condition, action, free, frozenset(self._later.pop(free, ()))))

    def check(self, record: Record) -> list[Alert]:
        """Judge all conditions on a record, act on those that became true, and return their alerts."""
        if not self._rules:
            return []
        numbers = on_host(record.values)
        for variable, by_key in numbers.items():
            self._known.setdefault(variable, set()).update(by_key)
            start = self._start.setdefault(variable, {})
            start |= {key: value for key, value in by_key.items() if key not in start and _finite(value)}
        alerts = [alert for rule in self._rules if (alert := self._judged(rule, record.step, numbers))]
        self.fired += alerts
        return alerts

    def _judged(self, rule: _Rule, step: int, numbers: Numbers) -> Alert | None:
        if rule.off:
            return None
        try:
            causes = _causes(rule.condition, View(numbers, self._known), View(self._start, self._known))
        except _Missing as missing:
            rule.missed += 1
            if rule.missed == PATIENCE:
                warn(f"the condition {rule.name} was not judged in {PATIENCE} records, which do not hold {missing}")
            return None
        except Exception as error:
            self._fails(rule, "condition", error)
            return None
        new, rule.true, rule.missed = causes.keys() - rule.true, frozenset(causes), 0
        if not new:
            return None
        found = {name: x for cause in causes if cause in new for name, x in causes[cause].items()}
        first = dict(named(self._start))
        known = {name: first[name] for name in found if name in first}
        alert = Alert(step, rule.name, found, known, _source(rule.condition))
        self._act(rule, alert)
        return alert

    def _act(self, rule: _Rule, alert: Alert) -> None:
        self.should_stop |= rule.action == "stop"
        try:
            if callable(rule.action):
                rule.action(alert)
            else:
                logging.getLogger("saddlescope").warning(alert.message)
                self._event(alert.step, {f"alert/{rule.name}": 1.0})
        except Exception as error:
            self._fails(rule, "action", error)

    def _fails(self, rule: _Rule, what: str, error: Exception) -> None:
        if self._strict:
            raise error
        rule.off = True
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        warn(
            f"the {what} of {rule.name!r} raised {type(error).__name__}: {' '.join(str(text).split()):.300}; "
            "training goes on without it"
        )

    def state_dict(self) -> dict[str, Any]:
        """The alerts, and what the conditions remember: numbers at the start, and which conditions are true."""
        return {
            "fired": [vars(alert) | {"numbers": {**alert.numbers}, "start": {**alert.start}} for alert in self.fired],
            "start": {variable: dict(by_key) for variable, by_key in self._start.items()},
            "true": self._later | {rule.name: sorted(rule.true) for rule in self._rules},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; conditions that are added later are matched by name."""
        self.fired = [Alert(**one) for one in state["fired"]]
        self._start = {variable: dict(by_key) for variable, by_key in state["start"].items()}
        self._known = {variable: set(by_key) for variable, by_key in self._start.items()}
        self._later = dict(state["true"])
        for rule in self._rules:
            rule.true = frozenset(self._later.pop(rule.name, ()))


def _causes(condition: Condition, now: View, start: View) -> dict[str, dict[str, float]]:
    """What makes a condition true, each with its numbers; empty where it is false.

    True has one cause, with the numbers that were read; of a mapping each entry is one.
    """
    result = condition(now, start) if _takes_two(condition) else condition(now)
    if isinstance(result, Mapping):
        return {name: {name: float(x)} for name, x in result.items()}
    return {"true": dict(now.read)} if result else {}


def _finite(value: Number) -> bool:
    return all(map(math.isfinite, value)) if isinstance(value, tuple) else math.isfinite(value)


def _takes_two(condition: Condition) -> bool:
    """Whether the function takes the start beside the record."""
    try:
        inspect.signature(condition).bind(None, None)
    except (TypeError, ValueError):  # ValueError: a built-in function without a signature
        return False
    return True


def _described(condition: Condition) -> str:
    """A name for a condition: its text, the name of the function, or the place of a lambda."""
    code, name = getattr(condition, "__code__", None), getattr(condition, "__name__", "")
    if not name:
        return str(condition)
    return name if name != "<lambda>" or code is None else f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"


def _source(condition: Condition) -> str:
    """The line of a program that holds a lambda, where it can be read."""
    code = getattr(condition, "__code__", None)
    if code is None or code.co_name != "<lambda>":
        return ""
    return linecache.getline(code.co_filename, code.co_firstlineno).strip()[:SOURCE]
