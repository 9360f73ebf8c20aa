"""Layouts and results with values that only their index, and a version, determine."""

from __future__ import annotations

import numpy as np

from saddlescope.sweeps.layout import DIVERGED, DONE, RAISED, Array, Layout, Result

MESSAGE = "ValueError: lr must be positive, σ = −1"


def layout(shape=(7, 40), curve=5, identity="lr = [0.1]\nseed = 1", attrs=None):
    """A sweep over two axes, one of text, with a further coordinate, a number and a curve of every run."""
    coords = {
        "lr": (("lr",), np.geomspace(1e-3, 1.0, shape[0]), {"units": "1"}),
        "width": (("width",), np.array([f"({n}, {n})" for n in range(shape[1])], object), {}),
        "seed": (("width",), np.arange(shape[1]), {"definition": "zipped with width"}),
        "save": (("save",), np.arange(curve), {}),
    }
    arrays = {"loss": Array(attrs={"definition": "the loss"}), "mode_strength": Array(("save",), (curve,))}
    return Layout(("lr", "width"), shape, coords, arrays, identity, {"toml": "lr = 1", "version": "0", **(attrs or {})})


def result(index, layout, version=0):
    """The result of a run: every seventh diverged, every eleventh raised."""
    rng = np.random.default_rng([index, version])
    status = RAISED if index % 11 == 0 else DIVERGED if index % 7 == 0 else DONE
    values = tuple(rng.normal(size=own.shape) for own in layout.arrays.values())
    if status == RAISED:
        values = tuple(np.full_like(one, np.nan) for one in values)
    return Result(index, status, MESSAGE if status == RAISED else "", values, index / 1024)


def filled(store, layout, indices, every=50, version=0):
    """Put these runs and commit now and then."""
    for count, index in enumerate(indices, 1):
        store.put(result(index, layout, version))
        if count % every == 0:
            store.commit()
    store.commit()
    return store
