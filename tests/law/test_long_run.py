"""Long runs of small ensembles, interrupted and resumed, accumulate the distribution of the exact discrete process.

Linear regression in one dimension, ``δ ← (1 − dt)δ + √(T dt (2δ² + σ²)) n``, has in closed form the mean 0, the
variance ``Tσ² / (2 − dt − 2T)`` and the autocorrelation ``(1 − dt)^k``.
"""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats

import saddlescope as sc
from saddlescope.runfile import run_to_toml
from support import FALSE_ALARM

TARGET, NOISE, DT, TEMPERATURE = 1.5, 0.7, 0.1, 0.05
PROBLEM = sc.Problem(sc.DeepLinear((1, 1)), sc.GaussianData([[TARGET]], label_noise=NOISE), sc.init.Balanced(scale=1.0))
METHOD = sc.Langevin(lr=DT, batch_size=DT / TEMPERATURE)
VARIANCE = TEMPERATURE * NOISE**2 / (2 - DT - 2 * TEMPERATURE)
COUNTED = sc.Accumulate(low=TARGET - 2.0, high=TARGET + 2.0, bins=4000, start=1000)


@pytest.fixture(scope="module", params=[10**6, pytest.param(10**8, marks=pytest.mark.soak)])
def run(request, tmp_path_factory):
    """A run that was interrupted once and resumed."""
    folder = tmp_path_factory.mktemp("long")
    plan = sc.Plan(steps=request.param, trajectories=8, saves=10, seed=3, accumulate=COUNTED)
    (folder / "run.toml").write_text(run_to_toml(PROBLEM, METHOD, plan))
    command = [sys.executable, "-m", "saddlescope", "run", str(folder / "run.toml"), "-o", str(folder / "run.zarr")]
    first = subprocess.Popen(command)
    while not (folder / "run.zarr").exists() and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    first.wait()
    if not sc.load(folder / "run.zarr").attrs["complete"]:
        subprocess.run(command, check=True)
    return sc.load(folder / "run.zarr")


def test_the_clock_is_exact(run):
    assert run.attrs["complete"]
    np.testing.assert_array_equal(run.step.values, np.linspace(0, int(run.step[-1]), 11))
    np.testing.assert_array_equal(run.time.values, DT * run.step.values)
    assert float(run.samples[0]) == 8 * (int(run.step[-1]) - COUNTED.start)


def test_effective_samples(run):
    expected = float(run.samples[0]) * DT / (2 - DT)
    assert float(run.effective_samples[0]) == pytest.approx(expected, rel=0.1)


def test_mean_and_variance(run):
    """Means of bins are off by less than a bin's width squared; error bars use the effective sample size."""
    count = run.histogram.values[0]
    centre = np.nan_to_num(0.5 * (run.bin_low + run.bin_high).values, posinf=0.0, neginf=0.0)
    assert count[0] == count[-1] == 0
    mean = np.average(centre, weights=count)
    variance = np.average((centre - TARGET) ** 2, weights=count)
    fourth = np.average((centre - TARGET) ** 4, weights=count)
    effective, bound = float(run.effective_samples[0]), stats.norm.isf(FALSE_ALARM / 4)
    assert abs(mean - TARGET) < bound * np.sqrt(VARIANCE / effective)
    assert abs(variance - VARIANCE) < bound * np.sqrt((fourth - VARIANCE**2) / effective)
    assert abs(variance - VARIANCE * 1.02) > bound * np.sqrt((fourth - VARIANCE**2) / effective)  # 2 % would be seen


def test_autocorrelation(run):
    lags = run.lag.values[:16]
    error = 4 / np.sqrt(float(run.effective_samples[0]))
    np.testing.assert_allclose(run.autocorrelation.values[0, :16], (1 - DT) ** lags, atol=error)
