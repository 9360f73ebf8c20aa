"""Short names and rounded numbers of summaries and figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saddlescope import _show

NAME = 33
"""Most columns of a name."""


def labels(names: Sequence[str], width: int = NAME) -> list[str]:
    """Short names that are as different as the names themselves.

    >>> labels(["encoder.0.mlp.0~encoder.0.mlp.2", "encoder.1.mlp.0~encoder.1.mlp.2"], 8)
    ['…0.mlp.0~2', '…1.mlp.0~2']
    """
    for columns in range(width, max(map(len, names), default=0), 2):
        if len({*(found := [short(name, columns) for name in names])}) == len({*names}):
            return found
    return list(names)


def short(name: str, width: int = NAME) -> str:
    """The end of a long name, which says most; in that of a pair, what both sides begin with is written once.

    >>> short("transformer.layers.11.self_attention.output_projection.weight")
    '…tention.output_projection.weight'
    >>> short("encoder.0.first_linear~encoder.0.second_linear", 40), short("encoder.0.first~other.1.second", 24)
    ('encoder.0.first_linear~second_linear', '…der.0.first~…r.1.second')
    """
    if len(name) <= width:
        return name
    first, _, second = name.partition("~")
    if second:
        begin = first.rpartition(".")[0] + "."
        while begin and not second.startswith(begin):
            begin = begin[:-1].rpartition(".")[0]
            begin += "." * bool(begin)
        second = second.removeprefix(begin)
    if not second or (begin and len(second) < width // 2):
        name = f"{first}~{second}" if second else first
        return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"
    left = width - 1
    cuts = left - left // 2, left // 2
    return "~".join(
        side if len(side) <= cut else f"…{side[1 - cut :]}" for side, cut in zip((first, second), cuts, strict=True)
    )


def within(value: float, error: float, sign: str = "") -> str:
    """A number with its error, the error to one digit, both to the same decimals.

    >>> within(121.3, 10.2), within(0.8641, 0.0062), within(-2.52e-5, 9.7e-6, "+"), within(5.0, float("nan"))
    ('121 ± 10', '0.864 ± 0.006', '-3e-05 ± 1e-05', '5')
    """
    if not (np.isfinite(value) and np.isfinite(error) and error > 0):
        return f"{value:{sign}.3g}"
    error = float(f"{error:.0e}")
    place = int(np.floor(np.log10(error)))
    if max(abs(value), error) < 1e-3 or max(abs(value), error) >= 1e6:
        digits = max(0, int(np.floor(np.log10(abs(value)))) - place) if value else 0
        return f"{value:{sign}.{digits}e} ± {error:.0e}"
    digits = max(0, -place)
    value = value if digits else round(float(value))
    return f"{value:{sign},.{digits}f} ± {error:,.{digits}f}"


def span(low: float, high: float) -> str:
    """Two bounds, one number where they are the same."""
    one, other = f"{low:.3g}", f"{high:.3g}"
    return one if one == other else f"{one}–{other}"


def rounded(x: float) -> str:
    """A number to three digits, whole where it is large."""
    return _show.MISSING if np.isnan(x) else f"{x:,.0f}" if 100 <= abs(x) < 1e6 else f"{x:.3g}"
