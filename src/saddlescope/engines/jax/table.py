"""The samples of a data set on the device, in the precision of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from saddlescope.data import Dataset, Examples

Array = Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["x", "y", "mean_y", "x_test", "y_test", "label_noise"],
    meta_fields=["labels"],
)
@dataclass(frozen=True, eq=False)
class Table:
    """Inputs ``x`` (n, …) and labels ``y`` (n, …), labels ``mean_y`` of the mean loss, samples held out (or None).

    ``label_noise`` δ is the standard deviation of fresh noise on float labels, None without; ``labels`` is how classes
    are drawn.
    """

    x: Array
    y: Array
    mean_y: Array
    x_test: Array | None
    y_test: Array | None
    label_noise: Array | None
    labels: Any

    @classmethod
    def of(cls, data: Dataset | Examples, dtype: str) -> Table:
        """The samples of a data set: floats in this type, whole numbers in 32 bits."""

        def put(values: Any) -> Array:
            kind = np.dtype(dtype if values.dtype.kind == "f" else np.int32)
            most = float(np.finfo(kind).max) if kind.kind == "f" else float(np.iinfo(kind).max)
            if np.abs(values).max(initial=0) > most:
                raise ValueError(
                    f"X and Y must hold numbers of at most {most:.3g} for {kind}, got {np.abs(values).max():.3g}; "
                    'rescale them, or use dtype = "float64"'
                )
            return jax.numpy.asarray(values, kind)

        mean = data.targets_mean if isinstance(data, Examples) else data.Y
        x_test, y_test = (None, None) if data.test_samples is None else map(put, data.test_samples)
        labels = getattr(data, "labels", None)
        noise = np.asarray(data.label_noise, dtype) if data.label_noise > 0 else None
        return cls(put(data.X), put(data.Y), put(mean), x_test, y_test, noise, labels)

    @property
    def samples(self) -> int:
        """Number of training samples n."""
        return len(self.x)
