"""The parts of the claim on critical batch sizes."""

import numpy as np
import pytest

from saddlescope.claims.saddle_to_saddle import critical_batch
from saddlescope.claims.tools import aligned, learning_times, network, run
from saddlescope.methods import GD
from saddlescope.plan import Plan


def test_interpolated_times_are_within_half_a_step_of_those_of_a_run():
    problem = network(2, 4, critical_batch.TARGETS, aligned(2, critical_batch.START), 1.0)
    dataset = run(problem, GD(lr=critical_batch.LR), Plan(steps=500, trajectories=1, saves=1))
    found = [critical_batch.descent_time(target) for target in critical_batch.TARGETS]
    assert found == pytest.approx(learning_times(dataset)[0], abs=critical_batch.LR / 2 + 1e-9)


def exact(noise):
    """Samples that are delayed as predicted at the rounded batch size, without sampling error."""
    samples = []
    for mode, size in enumerate(critical_batch.predicted(noise)):
        batch, free = round(size), critical_batch.descent_time(critical_batch.TARGETS[mode])
        lost = size / batch * critical_batch.SLOW_DOWN / (1 + critical_batch.SLOW_DOWN)
        times = free / (1 - lost) + 1e-3 * np.linspace(-1, 1, 1001)
        samples.append(critical_batch.Sample(mode, noise, batch, times, free))
    return samples


@pytest.mark.parametrize("noise", critical_batch.NOISES)
def test_measured_sizes_are_those_of_the_theory_and_of_no_rival(noise):
    samples = exact(noise)
    for sample, expected in zip(samples, critical_batch.predicted(noise), strict=True):
        assert sample.critical.value == pytest.approx(expected, rel=1e-6)
    assert critical_batch._number(samples, critical_batch.predicted, noise, quick=False).verdict == "confirmed"
    for name, theory in critical_batch._wrong(quick=False).items():
        same = noise == 0 and name == "without label noise"
        assert (critical_batch._number(samples, theory, noise, quick=False).verdict == "confirmed") == same, name
