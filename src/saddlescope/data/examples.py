"""Given samples of any shape, for any network: images, token ids, vectors, classes."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BeforeValidator, Field, ValidationInfo

from saddlescope import _show
from saddlescope._arrays import Array
from saddlescope._numbers import as_samples
from saddlescope._parts import frozen
from saddlescope.data.base import LabelNoise
from saddlescope.data.samples import held_out
from saddlescope.labels import Fresh, Labels

ROUNDING = 1e-6
"""Largest distance from 1 of a sum of probabilities."""


def _samples(value: Any, info: ValidationInfo) -> Array | None:
    return None if value is None else as_samples(value, str(info.field_name))


Samples = Annotated[np.ndarray, BeforeValidator(_samples)]
OptionalSamples = Annotated[np.ndarray | None, BeforeValidator(_samples)]


@frozen
class Examples:
    """n given samples ``(x_i, y_i)`` of any shape, for a ``Model``.

    ``X`` (n, …) and ``Y`` (n, …), one sample an entry of the first axis: floats are kept as float64, whole numbers, as
    of token ids and classes, as int64. ``Y`` of classes is (n,), 0 … K − 1; of their probabilities (n, K), floats.
    ``label_noise`` δ ≥ 0: every use of a float label adds fresh noise ``N(0, δ² I)``. ``labels``, a part of
    ``saddlescope.labels``, draws or smooths the classes. ``X_test`` and ``Y_test``: samples held out (see ``split``).
    Raises TypeError for booleans, text and objects, ValueError for NaN, empty data, X and Y of different length,
    classes below 0, probabilities that do not sum to 1, label_noise on classes, or labels on anything but classes or
    probabilities.

    >>> data = Examples(np.zeros((3, 8, 8)), [0, 2, 1])
    >>> data.samples, data.classes, data.X.dtype, data.Y.dtype
    (3, 3, dtype('float64'), dtype('int64'))
    """

    X: Samples = Field(description="use inputs (n, …), one sample an entry of the first axis")
    Y: Samples = Field(description="use labels (n, …), or classes (n,)")
    label_noise: LabelNoise = Field(default=0.0, description="use 0 for labels as they are")
    labels: Labels = Field(default=None, description="leave it out, or use labels.Fresh(), Flips(p) or Smoothing(eps)")
    X_test: OptionalSamples = None
    Y_test: OptionalSamples = None

    inputs: ClassVar[None] = None
    targets: ClassVar[None] = None
    gaussian: ClassVar[bool] = False
    moments_alone: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _same_length("X", self.X, "Y", self.Y)
        self._check_test()
        for name in ("Y", "Y_test"):
            values = getattr(self, name)
            if values is not None and self.whole_labels and values.min() < 0:
                raise ValueError(
                    f"{name} must be classes 0 … K − 1 where it holds whole numbers, got {values.min()}; number the "
                    "classes from 0, or give floats for regression"
                )
        if self.label_noise and self.whole_labels:
            raise ValueError(
                f"label_noise is Gaussian noise on float labels, got {self.label_noise:g} with classes; use "
                "labels = labels.Flips(p), or give Y as floats"
            )
        if self.labels is not None:
            self._check_labels()

    @property
    def fresh_labels(self) -> bool:
        """Whether labels are noisy anew at every use."""
        return self.label_noise > 0 or (self.labels is not None and self.labels.random)

    def _check_test(self) -> None:
        if (self.X_test is None) != (self.Y_test is None):
            raise ValueError("X_test and Y_test must be given together; give both or neither")
        if self.X_test is None or self.Y_test is None:
            return
        _same_length("X_test", self.X_test, "Y_test", self.Y_test)
        for name in ("X", "Y"):
            train, test = getattr(self, name), getattr(self, f"{name}_test")
            if train.dtype == np.float64 and test.dtype != np.float64:
                test = test.astype(np.float64)
                test.flags.writeable = False
                object.__setattr__(self, f"{name}_test", test)
            if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
                raise ValueError(
                    f"{name}_test must hold samples of the shape and kind of those of {name}, "
                    f"got {_kind(test)} for {_kind(train)}; convert it"
                )

    def _check_labels(self) -> None:
        kind = f"labels.{type(self.labels).__name__}"
        if self.label_noise:
            raise ValueError(
                f"label_noise and {kind} must not both be given: one is for regression, the other for classes; "
                "give one of them"
            )
        for name in ("Y", "Y_test"):
            values = getattr(self, name)
            if values is None:
                continue
            if not (values.ndim == 1 if self.whole_labels else values.ndim == 2):
                raise ValueError(
                    f"{kind} needs {name} of classes (n,), whole numbers, or of probabilities (n, K), got "
                    f"{_kind(values)} for {len(values):,} samples; leave labels out, or convert {name}"
                )
            if not self.whole_labels and (wrong := _not_probabilities(values)).any():
                raise ValueError(
                    f"{kind} needs rows of {name} that are probabilities, at least 0 and with the sum 1, got "
                    f"{_show.value(values[wrong][0])}; divide each row by its sum"
                )
        if isinstance(self.labels, Fresh) and self.whole_labels:
            raise ValueError(
                "labels.Fresh draws classes from probabilities Y (n, K), got classes; use labels.Flips(p), or give "
                "probabilities"
            )
        if self.classes < 2:
            raise ValueError(f"{kind} needs at least two classes, got {self.classes}; leave labels out")

    def split(self, test: int, seed: int = 0) -> Self:
        """The same data with ``test`` of the samples, chosen at random, held out.

        Raises ValueError when no sample would be left, or some are held out already.

        >>> data = Examples(np.zeros((5, 2)), [0, 1, 1, 0, 1]).split(test=2)
        >>> data.samples, len(data.X_test)
        (3, 2)
        """
        held, kept = held_out(self, test, seed)
        return replace(self, X=self.X[kept], Y=self.Y[kept], X_test=self.X[held], Y_test=self.Y[held])

    @property
    def samples(self) -> int:
        """Number of samples n."""
        return len(self.X)

    @property
    def test_samples(self) -> tuple[Array, Array] | None:
        """X_test and Y_test; None where no samples are held out."""
        return None if self.X_test is None or self.Y_test is None else (self.X_test, self.Y_test)

    @property
    def whole_labels(self) -> bool:
        """Whether labels are whole numbers, such as classes."""
        return self.Y.dtype.kind == "i"

    @property
    def classes(self) -> int:
        """Number of classes K: the columns of probabilities, or the largest class and 1; 0 for float labels alone.

        >>> Examples([[0.5], [1.5]], [[0.2, 0.8], [1.0, 0.0]], labels=Fresh()).classes
        2
        """
        if self.whole_labels:
            return 1 + max(int(values.max()) for values in (self.Y, self.Y_test) if values is not None)
        return int(self.Y.shape[1]) if self.labels is not None else 0

    @cached_property
    def targets_mean(self) -> Array:
        """Labels of the mean loss (n, …): the soft labels q (n, K) under ``labels``, otherwise Y.

        >>> from saddlescope.labels import Smoothing
        >>> Examples([[0.5], [1.5]], [0, 1], labels=Smoothing(0.2)).targets_mean
        array([[0.9, 0.1],
               [0.1, 0.9]])
        """
        if self.labels is None:
            return self.Y
        own = np.eye(self.classes)[self.Y] if self.whole_labels else self.Y / self.Y.sum(axis=1, keepdims=True)
        return np.asarray(self.labels.soft(own))

    def _facts(self) -> _show.Rows:
        held = [] if self.X_test is None else [("held_out", f"{len(self.X_test):,}")]
        random = [] if self.labels is None else [("labels", _show.value(self.labels))]
        noise = [] if self.whole_labels or random else [("label_noise", _show.number(self.label_noise))]
        return [
            ("samples", f"{self.samples:,}"),
            *held,
            ("x", _kind(self.X)),
            ("y", f"{self.classes:,} classes" if self.whole_labels and self.Y.ndim == 1 else _kind(self.Y)),
            *noise,
            *random,
        ]


def _same_length(name: str, x: Array, other: str, y: Array) -> None:
    if len(x) != len(y):
        raise ValueError(
            f"{name} and {other} must have one entry for each sample, got {len(x)} and {len(y)}; drop those without a "
            "partner"
        )


def _not_probabilities(rows: Array) -> Array:
    """Which rows are none."""
    return np.asarray((rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1) > ROUNDING))


def _kind(values: Array) -> str:
    """What one sample is."""
    numbers = "whole number" if values.dtype.kind == "i" else "float"
    return f"{_show.shape(values.shape[1:])} {numbers}s" if values.ndim > 1 else f"a {numbers}"
