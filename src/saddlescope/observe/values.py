"""Loss and accuracy of a Model on samples that it was trained on, and on those held out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from saddlescope import _jax
from saddlescope._parts import frozen
from saddlescope.observe.base import CHUNK, Observation, Sight, Variable

_HELD_OUT = "needs samples held out, X_test and Y_test; use data.split(test=100)"


@frozen
class TestLoss(Observation):
    """``test_loss``: the mean loss over the samples held out, with ``½ dy δ²`` of fresh label noise as in ``loss``.

    Raises ValueError for data without samples held out.

    >>> TestLoss()
    TestLoss()
    """

    __test__ = False  # not a test of pytest

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for data without samples held out."""
        if data.test_samples is None:
            raise ValueError(f"TestLoss {_HELD_OUT}")

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """The test loss."""
        units = "y²" if model.loss == "squared" else "1"
        return {"test_loss": Variable((), units, "test loss", "mean loss over the samples held out")}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """The test loss of one member."""
        model, table = sight.model, sight.table

        def one(sample: tuple[Any, Any]) -> Any:
            x, y = sample
            return model.losses(sight.params, x[None], y[None])[0]

        losses = _jax.load().lax.map(one, (table.x_test, table.y_test), batch_size=CHUNK)
        noisy = model.loss == "squared" and table.label_noise is not None
        noise = 0.5 * math.prod(table.y.shape[1:]) * table.label_noise**2 if noisy else 0.0
        return {"test_loss": losses.mean() + noise}


@frozen
class Accuracy(Observation):
    """``accuracy``: the fraction of training samples whose largest output is that of their class.

    With samples held out also ``test_accuracy``. Classes are whole numbers, or the largest entry of the label where
    labels are probabilities or one number a class. Of sequences of classes, every entry counts.
    Raises ValueError for outputs that are not one number a class.

    >>> Accuracy()
    Accuracy()
    """

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError for outputs that are not one number a class."""
        if model.stored:
            return
        jax = _jax.load()
        x = jax.ShapeDtypeStruct((2, *data.X.shape[1:]), data.X.dtype)
        outputs = _jax.shape_of(model.apply, _jax.shape_of(model.init, jax.random.key(0)), x).shape
        labels = (2, *data.Y.shape[1:])
        whole = data.Y.dtype.kind == "i" and outputs[:-1] == labels
        if not (len(outputs) > 1 and outputs[-1] > 1 and (whole or outputs == labels)):
            raise ValueError(
                f"Accuracy needs outputs with a last axis of classes, got outputs {outputs[1:]} for labels "
                f"{labels[1:]} of a sample; use classes as whole numbers, or leave it out"
            )

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """Accuracy on the training samples, and on those held out."""
        found = {
            "accuracy": Variable((), "1", "accuracy", "fraction of training samples whose largest output is right")
        }
        if data.test_samples is not None:
            found["test_accuracy"] = Variable(
                (), "1", "test accuracy", "fraction of the samples held out whose largest output is right"
            )
        return found

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """The accuracies of one member."""
        model, table = sight.model, sight.table
        found = {"accuracy": correct(sight.outputs, table.y).mean()}
        if table.x_test is not None:

            def one(sample: tuple[Any, Any]) -> Any:
                x, y = sample
                return correct(model.apply(sight.params, x[None]), y[None]).mean()

            found["test_accuracy"] = _jax.load().lax.map(one, (table.x_test, table.y_test), batch_size=CHUNK).mean()
        return found


def correct(outputs: Any, y: Any) -> Any:
    """1 where the largest output is that of the class, 0 where not, NaN where outputs are not finite."""
    jnp = _jax.load().numpy
    classes = y if y.ndim < outputs.ndim else y.argmax(axis=-1)
    right = (outputs.argmax(axis=-1) == classes).astype(outputs.dtype)
    return jnp.where(jnp.isfinite(outputs).all(axis=-1), right, jnp.nan)
