"""Feller's classification of boundaries against processes whose boundaries are known."""

import numpy as np
import pytest

from saddlescope.theory import Diffusion1D, ModeSDE
from saddlescope.theory.sde.boundaries import Boundary, classified


def power(drift, exponent):
    """``dx = drift dt + x^exponent dW`` on x > 0."""
    return Diffusion1D(lambda x: np.full_like(x, drift), lambda x: x**exponent, lower=0.0)


def ends(diffusion):
    return tuple((end.kind, end.attracting) for end in diffusion.boundaries)


NATURAL, PULLS = ("natural", False), ("natural", True)
ENTRANCE, EXIT, REGULAR = ("entrance", False), ("exit", True), ("regular", True)


@pytest.mark.parametrize("dimension", [0, 0.5, 1, 1.5, 1.999, 2, 2.001, 3])
@pytest.mark.parametrize("end", [0.0, 2.0, -5.0])
def test_bessel_processes_by_their_dimension(dimension, end):
    lower = EXIT if dimension == 0 else REGULAR if dimension < 2 else ENTRANCE
    upper = PULLS if dimension > 2 else NATURAL
    square = Diffusion1D(lambda x: np.full_like(x, dimension), lambda x: 2 * np.sqrt(x - end), lower=end)
    assert ends(square) == (lower, upper)
    mirrored = Diffusion1D(lambda x: np.full_like(x, -dimension), lambda x: 2 * np.sqrt(end - x), upper=end)
    assert ends(mirrored) == (upper, lower)
    if end == 0:
        bessel = Diffusion1D(lambda x: (dimension - 1) / 2 / x, np.ones_like, lower=0.0)
        assert ends(bessel) == (lower, upper)


@pytest.mark.parametrize("tails", ["power", "exponential"])
@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        (lambda x: 0 * x, (NATURAL, NATURAL)),
        (lambda x: 0 * x + 1, (NATURAL, PULLS)),
        (lambda x: -x, (NATURAL, NATURAL)),
        (lambda x: x, (PULLS, PULLS)),
        (lambda x: -(x**3), (ENTRANCE, ENTRANCE)),
        (lambda x: x**3, (EXIT, EXIT)),
        (lambda x: -x / (1 + x * x), (NATURAL, NATURAL)),
    ],
)
def test_unit_noise_on_the_whole_line(drift, expected, tails):
    assert ends(Diffusion1D(drift, np.ones_like, tails=tails)) == expected


@pytest.mark.parametrize(
    ("diffusion", "expected"),
    [
        (Diffusion1D(lambda x: 0.5 * x, lambda x: 1.0 * x, lower=0.0), (NATURAL, NATURAL)),
        (Diffusion1D(lambda x: (0.5 + 1e-6) * x, lambda x: 1.0 * x, lower=0.0), (NATURAL, PULLS)),
        (Diffusion1D(lambda x: (0.5 - 1e-6) * x, lambda x: 1.0 * x, lower=0.0), (PULLS, NATURAL)),
        (power(0.0, 0.4), (REGULAR, NATURAL)),
        (power(0.0, 0.5), (EXIT, NATURAL)),
        (power(0.0, 0.9), (EXIT, NATURAL)),
        (power(0.0, 1.0), (PULLS, NATURAL)),
        (power(0.0, 2.0), (PULLS, ENTRANCE)),
        (Diffusion1D(lambda x: 0.3 - 0.7 * x, lambda x: np.sqrt(2 * x * (1 - x)), 0.0, 1.0), (REGULAR, REGULAR)),
        (Diffusion1D(lambda x: 1 - 2 * x, lambda x: np.sqrt(2 * x * (1 - x)), 0.0, 1.0), (ENTRANCE, ENTRANCE)),
        (Diffusion1D(lambda x: -(x - 2), lambda x: np.sqrt(2 * (x - 2) * (5 - x)), 2.0, 5.0), (EXIT, ENTRANCE)),
        (Diffusion1D(lambda x: 0 * x, np.ones_like, 1.0, 2.0), (REGULAR, REGULAR)),
    ],
)
def test_power_laws_and_intervals(diffusion, expected):
    assert ends(diffusion) == expected


def test_only_a_regular_end_is_what_it_is_assumed_to_be():
    bessel = {"drift": lambda x: np.zeros_like(x), "diffusion": np.ones_like, "lower": 0.0, "at_lower": "absorbing"}
    assert Diffusion1D(**bessel).boundaries.lower == Boundary("regular", True, True, "absorbing")
    entrance = Diffusion1D(lambda x: 1 / x, np.ones_like, lower=0.0, at_lower="absorbing")
    assert entrance.boundaries.lower.there == "unreachable"
    assert classified(True, False, True, False).there == "absorbing"
    with pytest.raises(ValueError, match='at_lower must be "reflecting" or "absorbing", got \'sticky\''):
        Diffusion1D(**bessel | {"at_lower": "sticky"})


@pytest.mark.parametrize(
    ("diffusion", "recurrence", "reason"),
    [
        (Diffusion1D(lambda x: -x, np.ones_like), "positive recurrent", None),
        (Diffusion1D(lambda x: -0.45 * x / (1 + x * x), np.ones_like), "null recurrent", "lower and the upper end"),
        (Diffusion1D(lambda x: -0.55 * x / (1 + x * x), np.ones_like), "positive recurrent", None),
        (power(2.0, 0.5), "null recurrent", None),
        (
            Diffusion1D(lambda x: 0.6 * x, lambda x: 1.0 * x, lower=0.0),
            "transient",
            r"upper end \(natural, attracting\)",
        ),
        (power(0.0, 0.5), "transient", r"lower end \(exit, absorbing\)"),
        (Diffusion1D(lambda x: x**3, np.ones_like), "transient", r"lower end \(exit, absorbing\) or the upper end"),
        (
            Diffusion1D(lambda x: 0 * x, np.ones_like, 0.0, 1.0, at_upper="absorbing"),
            "transient",
            r"the upper end \(regular, absorbing\)",
        ),
    ],
)
def test_where_there_is_no_law_the_reason_is_said(diffusion, recurrence, reason):
    assert diffusion.boundaries.recurrence == recurrence or (recurrence == "null recurrent" and reason is None)
    if diffusion.boundaries.recurrence == "positive recurrent":
        assert diffusion.boundaries.no_law is None
        assert 0 <= diffusion.stationary().cdf(0.3) <= 1
    elif reason is not None:
        with pytest.raises(ValueError, match=f"there is no stationary law: .*{reason}"):
            diffusion.stationary()


def test_reflection_and_absorption_decide_passages():
    kept = Diffusion1D(lambda x: np.zeros_like(x), np.ones_like, 0.0, 2.0)
    lost = Diffusion1D(lambda x: np.zeros_like(x), np.ones_like, 0.0, 2.0, at_lower="absorbing")
    np.testing.assert_allclose(kept.passage([0.5, 1.0], 1.5)[0], [1.5**2 - 0.5**2, 1.5**2 - 1], rtol=1e-9)
    np.testing.assert_array_equal(lost.passage([0.5, 1.0], 1.5)[0], [np.inf, np.inf])
    np.testing.assert_allclose(lost.exit_probability([0.5, 1.0], upper=1.5), [1 / 3, 2 / 3], rtol=1e-9)
    np.testing.assert_array_equal(kept.exit_probability([0.5, 1.0], upper=1.5), [1, 1])


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "arguments",
    [
        {"target": 1.0, "label_noise": 0.5, "temperature": 0.3},
        {"target": 1.0, "label_noise": 0.5, "temperature": 2.0},
        {"target": -1.0, "label_noise": 0.5, "temperature": 0.3},
        {"target": 0.0, "label_noise": 0.5, "temperature": 0.3},
        {"target": 1.0, "label_noise": 0.5, "temperature": 0.3, "weight_decay": 0.1},
        {"moments": (0.0, 0.0, 0.9, 1.1, 0.8), "temperature": 0.3},
        {"moments": (0.4, 0.3, 0.9, 1.1, 0.8), "temperature": 0.3},
    ],
)
def test_boundaries_of_a_mode_by_exponents_and_by_integrals(depth, arguments):
    mode = ModeSDE(depth=depth, **arguments)
    assert mode.boundaries == mode.log_diffusion.boundaries
    assert mode.boundaries.lower.kind == "natural"


def test_without_noise_at_the_target_it_is_never_reached_but_attracts():
    for depth in (2, 3):
        mode = ModeSDE(depth=depth, target=1.0, temperature=0.3)
        assert mode.boundaries == mode.log_diffusion.boundaries
        assert mode.boundaries.upper == Boundary("natural", True, False, "unreachable")
