"""The texts that readers see of every claim: complete, plain, and with equations that can be shown."""

import re

import pytest

from saddlescope.claims._mathml import line
from saddlescope.claims._symbols import html, mathtext
from saddlescope.claims.reproduce import TEXTS, select

CLAIMS = tuple(select().values())
NAMES = {claim.name for claim in CLAIMS}
BANNED = re.compile(r"\b(?:said|nobody|so many|goes on|of its own|issues?|sessions?|helpers?)\b", re.IGNORECASE)
"""Riddles, and words about how the texts were made."""

UNSET = re.compile(r"[_^]")
"""Marks of an index or exponent that are left when symbols have been set."""


@pytest.fixture(params=CLAIMS, ids=lambda claim: claim.name)
def claim(request):
    return request.param


def sentences(text):
    """The number of full stops, not counting those in numbers."""
    return len(re.findall(r"[.!?](?=\s|$)", text))


def test_it_says_in_two_sentences_why_it_matters(claim):
    assert sentences(claim.why) == 2 and claim.why.endswith(".")


def test_it_says_what_is_proved_and_what_is_unknown(claim):
    for text in (claim.proved, claim.unknown):
        assert 1 <= sentences(text) <= 5 and text.endswith(".")


def test_equations_are_mathml(claim):
    assert 1 <= len(claim.equations) <= 4
    for tex in claim.equations:
        assert line(tex, claim.name).startswith("<math")


def test_related_claims_exist(claim):
    assert 1 <= len(set(claim.related)) == len(claim.related) <= 4
    assert set(claim.related) <= NAMES - {claim.name}


def shown(text):
    """The text as HTML, without names of functions."""
    return re.sub("<code>.*?</code>", "", html(text))


def test_words_are_plain_and_symbols_are_set(claim):
    for name in TEXTS:
        text = getattr(claim, name)
        assert not BANNED.search(text), name
        assert not UNSET.search(shown(text)), name
        assert "  " not in text and text == text.strip(), name


@pytest.mark.parametrize("text", ["Nobody knows.", "It goes on.", "said to be balanced", "a thing of its own."])
def test_banned_words_are_found(text):
    assert BANNED.search(text)


def test_a_third_sentence_and_a_mark_that_is_not_set_are_found():
    assert sentences("One at T = 0.5. Two. Three.") == 3
    assert UNSET.search(html("s^{2} and mode_sde"))


def test_names_are_unique():
    assert len(NAMES) == len(CLAIMS)


def test_symbols():
    assert html("a_ia_j, S_xxD") == "a<sub>i</sub>a<sub>j</sub>, S<sub>xx</sub>D"
    assert html("theory.mode_sde") == "<code>theory.mode_sde</code>"
    assert html("|x|^(−(L−2)), τ^p") == "|x|<sup>−(L−2)</sup>, τ<sup>p</sup>"
    assert mathtext("s^(T_c/2)") == r"s$^{\mathregular{T_{c}/2}}$"
    assert mathtext("a $T_c$") == "a $T_c$"
