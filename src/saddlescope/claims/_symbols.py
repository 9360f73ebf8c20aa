"""Symbols in the texts of claims: ``T_c`` and ``s_α^(2κ)``, set with indices and exponents on pages and in figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from matplotlib.axes import Axes
from matplotlib.text import Text

RAISED = re.compile(r"\^(?:\(((?:[^()]|\([^()]*\))*)\)|([A-Za-z0-9α-ω])(?!\w))")
"""An exponent: ``^(…)``, with at most one pair of parentheses inside, or ``^`` and one character."""

LOWERED = re.compile(r"_(?:\{([^{}]*)\}|((?:min|max|GD|xx|[ij]{2})(?![a-z])|[α-ω]|[A-Za-z0-9](?![a-z0-9α-ω](?!_))))")
"""An index: ``_{…}``, or ``_`` and a known index; names of functions, such as ``mode_sde``, are left as they are."""

CODE = re.compile(r"\btheory\.[a-z_]+")
"""The name of a function."""

EITHER = re.compile(f"{RAISED.pattern}|{LOWERED.pattern}")


def html(words: str) -> str:
    """The text as HTML.

    >>> html("s_α^(2κ) < T_c, v_iv_j, λ_min, s^(T_c/(2T)), mode_sde")
    's<sub>α</sub><sup>2κ</sup> &lt; T<sub>c</sub>, v<sub>i</sub>v<sub>j</sub>, λ<sub>min</sub>,
    s<sup>T<sub>c</sub>/(2T)</sup>, mode_sde'
    """
    raised = RAISED.sub(r"<sup>\1\2</sup>", escape(words))
    return CODE.sub(r"<code>\g<0></code>", LOWERED.sub(r"<sub>\1\2</sub>", raised))


def mathtext(words: str) -> str:
    r"""The text in Matplotlib's notation; text that already has mathematics is left as it is.

    >>> mathtext("T / T_c")
    'T / T$_{\\mathregular{c}}$'
    """
    return words if "$" in words else EITHER.sub(_in_mathtext, words)


def _in_mathtext(found: re.Match[str]) -> str:
    raised, lowered = found[1] or found[2], found[3] or found[4]
    if not raised:
        return rf"$_{{\mathregular{{{lowered}}}}}$"
    inner = LOWERED.sub(r"_{\1\2}", raised)
    return rf"$^{{\mathregular{{{inner}}}}}$"


def typeset(axes: Sequence[Axes]) -> None:
    """Set the symbols in every title, label, legend and note of these panels."""
    for panel in axes:
        for text in panel.findobj(Text):
            if (found := mathtext(text.get_text())) != text.get_text():
                text.set_text(found)
