"""Arguments of theory: numbers and functions of users are checked; NumPy's error handling is fixed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from saddlescope._arrays import Floats
from saddlescope._numbers import as_number, as_numbers, as_whole, shown

T = TypeVar("T")

_FIXES = {
    "temperature": "T = lr / batch_size",
    "lr": "use 0 to leave out the effect of discrete steps",
    "weight_decay": "use 0 for no weight decay",
    "label_noise": "it is the standard deviation of the labels' noise",
}


class Unresolved(ValueError):
    """A scheme does not reach the required accuracy of a law within its bounds on work, but the error ``reached``."""

    def __init__(self, reason: str, reached: float = np.inf) -> None:
        super().__init__(reason)
        self.reached = float(reached)


def not_negative(**numbers: float) -> None:
    """Raise ValueError, naming the argument, for a negative, infinite or NaN value; TypeError for a non-number.

    >>> not_negative(temperature=-0.1)
    Traceback (most recent call last):
    ValueError: temperature must be finite and not negative, got -0.1; T = lr / batch_size
    """
    for name, given in numbers.items():
        value = as_number(given, name)
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(
                f"{name} must be finite and not negative, got {value:g}; {_FIXES.get(name, 'check its sign')}"
            )


def check_noise(temperature: float, lr: float = 0.0, share: float = 1.0) -> None:
    """Raise ValueError for a negative temperature or learning rate, or a share of the noise outside [0, 1]."""
    not_negative(temperature=temperature, lr=lr)
    if not 0 <= as_number(share, "share") <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share:g}; 1 is sampling with replacement, 0 full batches")


@dataclass(frozen=True)
class Given:
    """A function of x that a user gave, called ``name`` in messages: an array to a float array of its shape.

    It is called with a copy of x in one dimension; a constant holds for every x. Its overflow is not reported.
    Raises TypeError where it does not return real numbers, ValueError where their shape does not fit.

    >>> Given(lambda x: 1, "diffusion")([0.0, 2.0])
    array([1., 1.])
    >>> Given(lambda x: x[1:], "drift")([0.0, 1.0, 2.0])
    Traceback (most recent call last):
    ValueError: drift must return an array of the shape of x, (3,), or one number, got shape (2,)
    """

    function: Callable[..., Any]
    name: str

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"{self.name} must be a function of x such as lambda x: -x, got {shown(self.function)}")

    def __call__(self, x: ArrayLike) -> Floats:
        at = np.array(x, float)
        try:
            with np.errstate(all="ignore"):
                found = self.function(at.ravel())
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"{self.name} must map an array of x to an array; use NumPy's functions, or np.vectorize: {error}"
            ) from error
        if type(found) is np.ndarray and found.dtype == float and found.shape == (at.size,):
            return found.reshape(at.shape).copy()
        values = np.asarray(found)
        if values.dtype.kind not in "biuf" or isinstance(found, np.ma.MaskedArray):
            raise TypeError(f"{self.name} must return real numbers, got {type(found).__name__} of {values.dtype}")
        if values.shape not in ((at.size,), ()):
            raise ValueError(
                f"{self.name} must return an array of the shape of x, {(at.size,)}, or one number, "
                f"got shape {values.shape}"
            )
        return np.array(np.broadcast_to(values, (at.size,)), float).reshape(at.shape)


def given(function: Callable[..., Any], name: str) -> Given:
    """``Given(function, name)``, or the function itself if it is a ``Given`` already."""
    return function if isinstance(function, Given) else Given(function, name)


def finite(function: Callable[..., Any], at: Floats) -> Floats:
    """Values of a user's ``function`` at places where a law has its mass; raises ValueError where they are not finite.

    >>> finite(np.log, np.array([0.0]))
    Traceback (most recent call last):
    ValueError: function must be finite where the law has its mass, got -inf
    """
    values = given(function, "function")(at)
    if not np.isfinite(values).all():
        raise ValueError(f"function must be finite where the law has its mass, got {values[~np.isfinite(values)][0]}")
    return values


def probabilities(cdf: Callable[..., Any], name: str) -> Callable[[ArrayLike], Floats]:
    """A user's distribution function, called ``name`` in messages, with a check that its values are probabilities.

    >>> probabilities(lambda x: 2 * x, "law.cdf")(0.75)
    Traceback (most recent call last):
    ValueError: law.cdf must return probabilities from 0 to 1, got [1.5]
    """
    function = given(cdf, name)

    def checked(x: ArrayLike) -> Floats:
        shares = function(x)
        if not ((shares >= -1e-9) & (shares <= 1 + 1e-9)).all():
            raise ValueError(f"{name} must return probabilities from 0 to 1, got {shown(shares.ravel().tolist())}")
        return np.clip(shares, 0.0, 1.0)

    return checked


_computing: ContextVar[bool] = ContextVar("computing", default=False)


@contextmanager
def _usual() -> Iterator[None]:
    """NumPy's default error handling inside the block."""
    token = _computing.set(True)
    try:
        with np.errstate(divide="warn", over="warn", invalid="warn", under="ignore"):
            yield
    finally:
        _computing.reset(token)


@contextmanager
def quiet() -> Iterator[None]:
    """Theory without warnings of NumPy inside the block, for what is only shown."""
    token = _computing.set(True)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _computing.reset(token)


_PLAIN: dict[str, Callable[[Any, str], Any]] = {
    "float": as_number,
    "int": as_whole,
    "ArrayLike": as_numbers,
    "Floats": as_numbers,
}
"""How an argument with this annotation is converted."""

_EXAMPLES = {
    "ModeSDE": "ModeSDE(depth=2, target=1.0, temperature=0.1)",
    "Data": "GaussianData([[2.0, 0.0], [0.0, 1.0]])",
}


def _plain(function: Callable[..., Any], name: str, value: Any) -> Any:
    """A user's argument as plain numbers where its annotation says numbers, refused where it is of another class."""
    annotation = function.__annotations__.get(name, "")
    if value is None and annotation.endswith("| None"):
        return None
    annotation = annotation.removesuffix(" | None")
    if annotation in _PLAIN:
        return _PLAIN[annotation](value, name)
    if annotation in _EXAMPLES and not isinstance(value, function.__globals__[annotation]):
        raise TypeError(f"{name} must be such as {_EXAMPLES[annotation]}, got {shown(value)}")
    return value


def steady(target: T) -> T:
    """A function, or a class with all its public methods, whose arguments are checked and whose results are steady.

    Where a user calls it, arguments that are annotated as numbers become plain ones (``_numbers``), and those annotated
    as ``ModeSDE`` or ``Data`` must be that. It computes under NumPy's default error handling, so ``np.seterr`` of a
    user changes no result and raises no error. Calls from inside go straight through.

    >>> @steady
    ... def small(x: ArrayLike):
    ...     return np.exp(-x)
    >>> with np.errstate(all="raise"):
    ...     small([1e4])
    array([0.])
    >>> small("1")
    Traceback (most recent call last):
    TypeError: x must be an array of numbers, text is not allowed; convert it to numbers
    """
    if isinstance(target, type):
        for name, member in list(vars(target).items()):
            if name.startswith("_") and name not in ("__post_init__", "__call__"):
                continue
            if isinstance(member, functools.cached_property):
                member.func = steady(member.func)
            elif isinstance(member, property):
                setattr(target, name, property(steady(member.fget), doc=member.__doc__))
            elif isinstance(member, (classmethod, staticmethod)):
                setattr(target, name, type(member)(steady(member.__func__)))
            elif inspect.isfunction(member):
                setattr(target, name, steady(member))
        return target
    function: Any = target
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    computing, plain, usual = _computing.get, _plain, _usual

    def computed(*args: Any, **options: Any) -> Any:
        if computing():  # the error handling that theory has set stays
            return function(*args, **options)
        checked = (plain(function, name, value) for name, value in zip(names, args, strict=False))
        args = (*checked, *args[len(names) :])
        options = {name: plain(function, name, value) for name, value in options.items()}
        with usual():
            return function(*args, **options)

    # The globals are those of the function, by which doctest finds it.
    copy = FunctionType(computed.__code__, function.__globals__, function.__name__, None, computed.__closure__)
    wrapped: Any = functools.update_wrapper(copy, function)
    return cast(T, wrapped)
