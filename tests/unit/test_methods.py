"""Temperatures, times and other properties of methods."""

from dataclasses import replace

import pytest

from saddlescope import (
    GD,
    SGD,
    Adam,
    AdamW,
    DeepLinear,
    GaussianData,
    GradientFlow,
    Langevin,
    Plan,
    Problem,
    init,
    simulate,
    theory,
)
from saddlescope._parts import to_table
from saddlescope._tables import from_table
from saddlescope.methods import METHODS
from saddlescope.runfile import run_from_toml, run_to_toml
from saddlescope.schedules import Cosine


def test_temperature_is_learning_rate_over_batch_size():
    assert SGD(0.1, 4).temperature == 0.025
    assert Langevin(0.1, 0.5).temperature == 0.2
    assert GD(0.1).temperature == GradientFlow(0.1).temperature == 0.0


@pytest.mark.parametrize("temperature", [0.1, 1 / 3, 1e-12, 7e5, 0.3])
def test_a_temperature_sets_the_batch_size(temperature):
    method = Langevin(1e-3, temperature=temperature, noise="aligned")
    assert method == Langevin(1e-3, 1e-3 / temperature, "aligned")
    assert method.temperature == pytest.approx(temperature, rel=3e-16, abs=0)
    assert replace(method, lr=2e-3).batch_size == method.batch_size
    assert replace(method, batch_size=None, temperature=2.0).temperature == 2.0


def test_a_temperature_in_a_run_file():
    problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    run = problem, Langevin(1e-3, temperature=1 / 3), Plan(steps=3)
    text = run_to_toml(*run)
    assert run_from_toml(text) == run and "temperature" not in text
    given = text.replace(f"batch_size = {run[1].batch_size}", f"temperature = {1 / 3}")
    assert given != text and run_from_toml(given) == run
    with pytest.raises(ValueError, match=r"\[method\] batch_size and temperature"):
        run_from_toml(text.replace("batch_size =", "temperature = 0.1\nbatch_size ="))


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
        (lambda: Langevin(0.1), TypeError, "batch_size.*or temperature = 0.1"),
        (
            lambda: Langevin(0.1, temperature=0),
            ValueError,
            r"temperature must be .*above 0.*use GradientFlow\(lr\) or GD",
        ),
        (lambda: Langevin(0.1, temperature=-1), ValueError, "temperature must be finite and above 0, got -1"),
        (lambda: Langevin(0.1, temperature=float("nan")), ValueError, "temperature must be finite"),
        (lambda: Langevin(0.1, temperature=True), TypeError, "temperature must be a number"),
        (lambda: Langevin(0.1, 4, temperature=0.1), ValueError, "batch_size and temperature .* give one"),
        (lambda: Langevin(-1, temperature=0.1), ValueError, "lr must be greater than 0, got -1"),
        (lambda: Langevin("fast", temperature=0.1), TypeError, "lr must be a number"),
        (lambda: Langevin(temperature=0.1), TypeError, "needs the argument 'lr'"),
        (lambda: Langevin(1e300, temperature=1e-300), ValueError, "lr / temperature is a number"),
        (lambda: Langevin(0.1, T=0.1), TypeError, "did you mean 'temperature'"),
        (lambda: Langevin(0.1, temprature=0.1), TypeError, "did you mean 'temperature'"),
        (lambda: SGD(0.1, 4, nesterov=True), TypeError, "nesterov"),
        (lambda: Langevin(0.1, 4, momentum=0.9), TypeError, r"lr and temperature 1 / \(1 − momentum\) = 10 times as"),
        (lambda: Langevin(0.1, 4, momentum="x"), TypeError, r"lr and temperature 1 / \(1 − momentum\) times as large"),
        (lambda: SGD(0.1, 4, momentum=1.0), ValueError, "momentum"),
    ],
)
def test_wrong_arguments_are_named(make, kind, name):
    with pytest.raises(kind, match=name):
        make()


FOR_MODELS = {
    "Adam": Adam(1e-3, 4, betas=(0.8, 0.99), weight_decay=0.1),
    "AdamW": AdamW(1e-3, sampling="full", weight_decay=0.1, schedule=Cosine(10)),
    "Langevin": Langevin(1e-3, 4, samples=4),
}


@pytest.mark.parametrize("name", FOR_MODELS)
@pytest.mark.parametrize("engine", ["auto", "native", "reference"])
def test_methods_for_models_are_refused_for_layered_networks(name, engine):
    problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    with pytest.raises(ValueError, match=f"{name}.* is for a Model, got a DeepLinear network"):
        simulate(problem, FOR_MODELS[name], Plan(steps=1), engine=engine)
    with pytest.raises(ValueError, match=f"closed SDE under SGD and Langevin, got {name}"):
        theory.mode_sde(problem, FOR_MODELS[name], 0)
    assert theory.stability_edge(problem, FOR_MODELS[name]) == float("inf")


def test_methods_for_models_are_parts_as_others():
    adam, decoupled, langevin = FOR_MODELS.values()
    assert adam.temperature == 2.5e-4 and adam.batch == 4 and adam.keeps == () and not adam.full_batch
    assert decoupled.full_batch and decoupled.temperature == 0 and decoupled.lr_at(5) < decoupled.lr
    assert adam == from_table("method", to_table(adam), METHODS) != Adam(1e-3, 4)
    assert langevin.batch == 4 and langevin.temperature == Langevin(1e-3, 4).temperature
    assert repr(Adam(1e-3, 4)) == "Adam(lr=0.001, batch_size=4)"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Adam(1e-3), "Adam needs the argument 'batch_size'"),
        (lambda: Adam(1e-3, 4, "full"), "batch_size must be left out"),
        (lambda: AdamW(1e-3, 4), "AdamW needs the argument 'weight_decay'"),
        (lambda: Adam(1e-3, 4, betas=(1.0, 0.9)), "betas must be less than 1, got 1"),
        (lambda: Adam(1e-3, 4, betas=0.9), "betas must be a list, got 0.9"),
        (lambda: Adam(1e-3, 4, eps=0), "eps must be greater than 0"),
        (lambda: SGD(1e-3, 4, betas=(0.9, 0.9)), "no argument 'betas': Adam and AdamW have"),
        (lambda: Langevin(1e-3, 4, samples=3), r"samples must be at least batch_size . dt / lr = 4, got 3"),
        (lambda: Langevin(1e-3, 4, "isotropic", samples=8), "samples is for noise"),
        (lambda: Langevin(1e-3, 4, order=2, samples=8), "samples is for noise"),
    ],
)
def test_wrong_arguments_of_methods_for_models(make, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        make()
    assert Langevin(1e-3, 4, dt=5e-4, samples=2).samples == 2, "a shorter step has less noise"
