"""Formulas of derived fields: arithmetic as in Python, and nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.sweeps.formulas import LONGEST, Formula


@pytest.mark.parametrize(
    "text",
    ["lr / T", "max(1, round(lr / T))", "-lr ** 2 + T % 0.3", "7 // 2 * lr", "sqrt(abs(lr)) - exp(-T)"],
)
@given(lr=st.floats(0.01, 10), T=st.floats(0.01, 10))
def test_as_in_python(text, lr, T):
    functions = {"sqrt": math.sqrt, "exp": math.exp}
    value = Formula(text).at({"lr": lr, "T": T})
    assert value == eval(text, functions, {"lr": lr, "T": T})
    assert type(value) is type(eval(text, functions, {"lr": lr, "T": T}))


def test_names_are_those_of_coordinates_alone():
    assert Formula("max(b, a) * a + round(2)").names == ("b", "a")
    assert Formula("3").names == () and Formula("3").at({}) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (3, "a formula must be text"),
        ("lr +", "cannot be read"),
        ("", "cannot be read"),
        ("lr = 3", "cannot be read"),
        ("lr.real", "'lr.real', which is no arithmetic"),
        ("lr[0]", "which is no arithmetic"),
        ("'a' * 3", "which is no arithmetic"),
        ("True", "which is no arithmetic"),
        ("1j", "which is no arithmetic"),
        ("lr if lr > 1 else 2", "which is no arithmetic"),
        ("(lambda: 3)()", "which is no arithmetic"),
        ("[x for x in (1, 2)]", "which is no arithmetic"),
        ("lr @ lr", "which is no arithmetic"),
        ("max(1, key=abs)", "which is no arithmetic"),
        ("__import__('os')", "calls '__import__'; allowed: abs"),
        ("rund(lr)", r"calls 'rund'; .* \(did you mean 'round'\?\)"),
        ("1+" * LONGEST + "1", "must have at most 1,000 characters"),
        ("(" * 400 + "1" + ")" * 400, "cannot be read|nested too deeply"),
    ],
)
def test_nothing_else_is_read(text, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        Formula(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 / lr", "has no value at lr = 0: division by zero"),
        ("(lr - 1) ** 0.5", "has no value at lr = 0: math domain error"),
        ("9.0 ** 9.0 ** 9.0", "has no value at every run: math range error"),
        ("9 ** 9 ** 9 ** 9", "has no value at every run"),
        ("log(lr)", "has no value at lr = 0"),
        ("round()", "has no value at every run"),
        ("1e308 * 10", "gives inf at every run"),
        ("max((1, 2), (3,)) + lr", "has no value at lr = 0"),
        ("(1, (2, lr))", "gives"),
    ],
)
def test_values_that_are_no_number(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        Formula(text).at({"lr": 0})
