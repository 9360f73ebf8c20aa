"""A run as a Dataset beside the same run as arrays."""

from __future__ import annotations

import warnings

import numpy as np

import saddlescope as sc
from saddlescope.simulation.measured import measured


def both(*run, **options):
    """The Dataset and the arrays of a run, each with its warnings."""
    found, heard = [], []
    for verb in (lambda: sc.simulate(*run, **options, progress=False), lambda: measured(*run, **options)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(verb())
        heard.append([(str(one.message), one.filename) for one in caught])
    return *found, *heard


def differing(run, found) -> list[str]:
    """Names of what is not the same to the last bit, in values, dims or kind."""
    names = [name for name in run.data_vars if name not in ("checkpoint", "data_X", "data_Y")]
    assert found.values.keys() == found.dims.keys() == {*names, "step", "time"}
    return [
        name
        for name, values in found.values.items()
        if run[name].dims != found.dims[name]
        or run[name].dtype != values.dtype
        or run[name].shape != values.shape
        or run[name].values.tobytes() != np.ascontiguousarray(values).tobytes()
    ]
