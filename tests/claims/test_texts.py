"""The texts that readers see of every claim: complete, plain, and with equations that can be shown."""

import re

import pytest

from saddlescope import claims
from saddlescope.claims import law_of_balance
from saddlescope.claims._mathml import mathml
from saddlescope.claims._symbols import html

NAMES = {claim.name for group in claims.PAPERS.values() for claim in group}
READ = ("title", "statement", "method", "control", "caption", "why", "proved", "unknown")
BANNED = re.compile(r"\b(?:said|nobody|so many|goes on|of its own|issues?|sessions?|helpers?)\b", re.IGNORECASE)
"""Riddles, and words about how the texts were made."""

UNSET = re.compile(r"[_^]")
"""Marks of an index or exponent that are left when symbols have been set."""


@pytest.fixture(params=law_of_balance.CLAIMS, ids=lambda claim: claim.name)
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
        assert mathml(tex, claim.name).startswith("<math")


def test_related_claims_exist(claim):
    assert 1 <= len(set(claim.related)) == len(claim.related) <= 4
    assert set(claim.related) <= NAMES - {claim.name}


def test_words_are_plain_and_symbols_are_set(claim):
    for name in READ:
        text = getattr(claim, name)
        assert not BANNED.search(text), name
        assert not UNSET.search(html(text)), name
        assert "  " not in text and text == text.strip(), name


@pytest.mark.parametrize("text", ["Nobody knows.", "It goes on.", "said to be balanced", "a thing of its own."])
def test_banned_words_are_found(text):
    assert BANNED.search(text)


def test_a_third_sentence_and_a_mark_that_is_not_set_are_found():
    assert sentences("One at T = 0.5. Two. Three.") == 3
    assert UNSET.search(html("s^{2} and mode_sde"))
