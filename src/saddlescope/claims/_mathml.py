"""Formulas as MathML: pages show them with the reader's own fonts, without a script or the network.

What ``latex2mathml`` does not know, or writes in a way that browsers show badly, is replaced before and after it.
"""

from __future__ import annotations

import html
import re
import unicodedata

from latex2mathml.converter import convert

BEFORE = (
    (r"\\(begin|end)\{(?:aligned|split|align|alignat|gathered|gather|equation)\*?\}", r"\\\1{align*}"),
    (r"\\(?:mathrm|mathop|textrm|rm)\{(\w+)\}", r"\\text{\1}"),
    (r"\\arg\b", r"\\operatorname{arg}"),
    (r"\\(?:label|nonumber|notag)(?:\{[^}]*\})?", ""),
)
"""TeX that is rewritten before the conversion."""

PAIRS = ((r"(?<!\\)\{", r"(?<!\\)\}"), (r"\\left(?![a-z])", r"\\right(?![a-z])"), (r"\\begin", r"\\end"))
"""What comes in pairs; the converter accepts one without the other."""

AFTER = (
    ("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"),
    ("&#x0002A;", "&#x02217;"),
    ("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>'),
    ("<mo>&#x0007C;</mo>", '<mo stretchy="false">&#x0007C;</mo>'),
    ('<mo accent="true">&#x02015;</mo>', '<mo stretchy="true">&#x000AF;</mo>'),
    *(
        (f"<mi>{mark}</mi>", f'<mpadded height="0.3em" voffset="-0.35em"><mi mathsize="1.41em">{mark}</mi></mpadded>')
        for mark in ("&#x02032;", "&#x02033;")  # fonts draw primes small and raised; an exponent is so once more
    ),
)
"""MathML that is replaced after it."""

NAME = r"<mi>[A-Za-z]{2,}</mi>"
"""The name of a function, such as log or Tr."""

THIN = '<mspace width="0.167em"/>'
"""The space before the name of a function, and after it where no bracket follows."""

ALPHABETS = {
    "bold": "MATHEMATICAL BOLD",
    "bold-italic": "MATHEMATICAL BOLD ITALIC",
    "script": "MATHEMATICAL SCRIPT",
    "double-struck": "MATHEMATICAL DOUBLE-STRUCK",
    "fraktur": "MATHEMATICAL FRAKTUR",
}
"""Letters of a variant: browsers ignore the attribute ``mathvariant`` except for "normal"."""


def mathml(tex: str, block: bool = False) -> str:
    r"""TeX as MathML; ``block`` displays it on a separate line.

    Raises ValueError for a command that cannot be shown, and for braces and other pairs of which one is missing.

    >>> "<mo>&#x0223C;</mo>" in mathml(r"x \sim y")
    True
    >>> mathml(r"\unknown x")
    Traceback (most recent call last):
    ValueError: the formula holds \unknown, which cannot be shown; use another command: \unknown x
    """
    source = tex.strip()
    if block and re.search(r"\\\\|(?<!\\)&", source) and not source.startswith(r"\begin"):
        source = rf"\begin{{align*}}{source}\end{{align*}}"
    for first, last in PAIRS:
        if len(re.findall(first, source)) != len(re.findall(last, source)):
            raise ValueError(
                f"braces, \\left and \\right, \\begin and \\end must come in pairs; correct the formula {tex}"
            )
    for pattern, new in BEFORE:
        source = re.sub(pattern, new, source)
    try:
        found = convert(source, display="block" if block else "inline")
    except Exception as error:  # every mistake in TeX ends here, whatever the converter raises
        raise ValueError(f"the formula is not valid ({type(error).__name__}); correct it: {tex}") from error
    for old, new in AFTER:
        found = found.replace(old, new)
    found = re.sub(r'<m([ion]) mathvariant="([a-z-]+)">([^<]+)</m\1>', _variant, found)
    found = re.sub(r"<mi>([^<]+)</mi>", _operator, found)
    found = re.sub(r"<mo>([A-Za-z]{2,})</mo>", r"<mi>\1</mi>", found)
    found = re.sub(rf"(</m(?:i|n|sub|sup|subsup|frac|sqrt)>)(?={NAME})", rf"\1{THIN}", found)
    found = re.sub(rf"({NAME})(?!<mo[^>]*>(?:&#x00028;|\[|&#x0005B;)|</m|<mspace)", rf"\1{THIN}", found)
    if unknown := re.search(r">\s*(\\[A-Za-z]+|&)\s*<", found):
        raise ValueError(f"the formula holds {unknown[1]}, which cannot be shown; use another command: {tex}")
    return found.replace("<math ", f'<math alttext="{html.escape(tex.strip())}" ', 1)


def _variant(found: re.Match[str]) -> str:
    """A letter of another alphabet, as its own character."""
    kind, variant, text = found.groups()
    letter = html.unescape(text)
    if variant not in ALPHABETS or len(letter) > 1:
        return found[0]
    case = "CAPITAL" if letter.isupper() else "SMALL"
    name = unicodedata.name(letter).removeprefix("GREEK ").replace(" LETTER", "").split()[-1]
    for full in (f"{ALPHABETS[variant]} {case} {name}", f"{ALPHABETS[variant]} DIGIT {name}", f"SCRIPT {case} {name}"):
        try:
            return f"<m{kind}>{unicodedata.lookup(full)}</m{kind}>"
        except KeyError:
            continue
    return found[0]


def _operator(found: re.Match[str]) -> str:
    """A relation or an operator that was taken for a variable."""
    text = html.unescape(found[1])
    wrong = len(text) == 1 and text not in "∞∂∇" and (unicodedata.category(text) == "Sm" or text in ":‖")
    flat = ' stretchy="false"' * (text in "|‖")
    return f"<mo{flat}>{found[1]}</mo>" if wrong else found[0]


def line(tex: str, name: str) -> str:
    r"""Formulas in one line, as MathML that a narrow page can break at ``\qquad`` and after ``,`` before ``\quad``.

    ``name`` says whose formulas they are, for the error. Raises ValueError for TeX that cannot be shown.

    >>> line(r"a = b,\quad c = d", "claim 'regimes'").count("<math")
    2
    >>> line(r"\fract{1}{2}", "claim 'regimes'")
    Traceback (most recent call last):
    ValueError: claim 'regimes': the formula holds \fract, which cannot be shown; use another command: \fract{1}{2}
    """
    parts = re.split(r"\\qquad|(?<=,)\s*\\quad", tex)
    whole = all(part.strip() and part.count("{") == part.count("}") for part in parts)
    try:
        return "".join(mathml(part, block=True) for part in (parts if whole else [tex]))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
