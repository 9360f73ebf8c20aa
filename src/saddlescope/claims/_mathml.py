"""Equations as MathML: browsers show it with the reader's own fonts, without a script or the network."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from latex2mathml.converter import convert

BROKEN = re.compile(r"(?<=>)\s*(\\\w*)(?=\s*<)|(?<=<mi>)([{}])(?=</mi>)")
"""What the converter passes through instead of refusing it: unknown commands and single braces."""

FUNCTION = re.compile(r"(<mi>[a-z]{2,}</mi>)(?!<mo[^>]*>&#x00028;|</mrow>)")
"""A function such as log before its argument, from which browsers would not separate it."""


def mathml(tex: str, name: str) -> str:
    """An equation in TeX as a ``<math>`` element in display style.

    ``name`` says whose equation it is, for the error. Raises ValueError for TeX that has no MathML.

    >>> mathml("T_c", "claim 'regimes'")[-53:]
    '<mrow><msub><mi>T</mi><mi>c</mi></msub></mrow></math>'
    >>> mathml(r"\\fract{1}{2}", "claim 'regimes'")
    Traceback (most recent call last):
    ValueError: equation of claim 'regimes' must be TeX with a MathML form, got '\\\\fract{1}{2}' (at '\\\\fract')
    """
    try:
        found = convert(tex, display="block")
        ElementTree.fromstring(found)
    except Exception as error:  # the converter has no common error, and fails on some input with those of Python
        raise _refusal(tex, name, type(error).__name__) from error
    if broken := BROKEN.search(found):
        raise _refusal(tex, name, f"at {broken[0]!r}")
    return FUNCTION.sub(r'\1<mspace width="0.167em"/>', found)


def line(tex: str, name: str) -> str:
    r"""Formulas in one line, as MathML that a narrow page can break at ``\qquad`` and after ``,`` before ``\quad``.

    >>> line(r"a = b,\quad c = d", "claim 'regimes'").count("<math")
    2
    """
    parts = re.split(r"\\qquad|(?<=,)\s*\\quad", tex)
    whole = all(part.strip() and part.count("{") == part.count("}") for part in parts)
    return "".join(mathml(part, name) for part in parts) if whole else mathml(tex, name)


def _refusal(tex: str, name: str, why: str) -> ValueError:
    return ValueError(f"equation of {name} must be TeX with a MathML form, got {tex!r} ({why})")
