"""Temperatures, times and other properties of methods."""

import pytest

from saddlescope import GD, SGD, GradientFlow, Langevin
from saddlescope.schedules import Cosine


def test_temperature_is_learning_rate_over_batch_size():
    assert SGD(0.1, 4).temperature == 0.025
    assert Langevin(0.1, 0.5).temperature == 0.2
    assert GD(0.1).temperature == GradientFlow(0.1).temperature == 0.0


def test_time_of_a_step():
    assert (
        GD(0.1).time_step == SGD(0.1, 4).time_step == GradientFlow(0.1).time_step == Langevin(0.1, 4).time_step == 0.1
    )
    assert Langevin(0.1, 4, dt=0.01).time_step == 0.01
    assert Langevin(0.1, 4, dt=0.01).temperature == 0.025, "the step of integration is not the temperature"


def test_isotropic_noise_keeps_nothing():
    assert Langevin(0.1, 4, noise="isotropic").keeps == ()
    assert "balance identity" in Langevin(0.1, 4).keeps
    assert "balance conserved" in GradientFlow().keeps


def test_what_decay_and_order_keep():
    assert GradientFlow(weight_decay=0.1).keeps == ("balance decays", "determinant decays")
    assert GD(0.1, weight_decay=0.1).keeps == SGD(0.1, 4, schedule=Cosine(10)).keeps == Langevin(0.1, 4).keeps
    assert Langevin(0.1, 4, order=2).keeps == ()


def test_methods_are_shown_without_their_defaults():
    shown = "SGD(lr=0.1, batch_size=4, weight_decay=0.2, schedule=Cosine(steps=10))"
    assert repr(SGD(0.1, 4, weight_decay=0.2, schedule=Cosine(10))) == shown
    assert repr(GradientFlow()) == "GradientFlow()" and repr(GD(1e-3)) == "GD(lr=0.001)"


@pytest.mark.parametrize(
    ("make", "kind", "name"),
    [
        (lambda: GD(0), ValueError, "lr"),
        (lambda: GD(float("nan")), ValueError, "lr"),
        (lambda: GD("fast"), TypeError, "lr"),
        (lambda: SGD(0.1, 0), ValueError, "batch_size"),
        (lambda: SGD(0.1, 2.5), TypeError, "batch_size"),
        (lambda: SGD(0.1), TypeError, "batch_size"),
        (lambda: Langevin(0.1, 0.0), ValueError, "batch_size"),
        (lambda: Langevin(0.1, 4, noise="white"), ValueError, "noise"),
        (lambda: Langevin(0.1, 4, dt=0), ValueError, "dt"),
        (lambda: SGD(0.1, 4, nesterov=True), TypeError, "nesterov"),
        (lambda: Langevin(0.1, 4, momentum=0.9), TypeError, "momentum"),
        (lambda: SGD(0.1, 4, momentum=1.0), ValueError, "momentum"),
    ],
)
def test_wrong_arguments_are_named(make, kind, name):
    with pytest.raises(kind, match=name):
        make()
