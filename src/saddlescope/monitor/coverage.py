"""What a monitor watches, what it could not record, and what it skips, with the reasons."""

from __future__ import annotations

import json
from dataclasses import dataclass

from saddlescope import _show

WATCHED, SKIPPED, NOT_RECORDED = "watched", "skipped", "not recorded"
"""States of a parameter; one that is not recorded is watched, but nothing arrived."""

Row = tuple[str, str, str]
"""Name of a parameter or layer, its state, and the reason of the state, "" where it needs none."""

NAMES = 3
"""Most names in a sentence."""


@dataclass(frozen=True, repr=False)
class Coverage(_show.Shown):
    """The state of every parameter, in the order of the model.

    >>> Coverage((("fc.weight", WATCHED, ""), ("bn.weight", SKIPPED, "BatchNorm couples samples")))
    Coverage: 1 of 2 recorded
      1 skipped  BatchNorm couples samples (bn.weight)
    """

    rows: tuple[Row, ...] = ()

    def of(self, state: str) -> tuple[Row, ...]:
        """The rows in this state."""
        return tuple(row for row in self.rows if row[1] == state)

    @property
    def headline(self) -> str:
        """How many are recorded, of all."""
        return f"{len(self.of(WATCHED)):,} of {len(self.rows):,} recorded" if self.rows else "nothing to record"

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """What is not recorded or skipped, how often, and for every reason the first names."""
        groups: dict[tuple[str, str], list[str]] = {}
        for name, state, reason in (*self.of(NOT_RECORDED), *self.of(SKIPPED)):
            groups.setdefault((state, reason), []).append(name)
        return [
            (f"{len(names):,} {state}", f"{reason or 'no reason given'} ({listed(names)})")
            for (state, reason), names in groups.items()
        ]

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        return "; ".join([self.headline, *(f"{state}: {reason}" for state, reason in self.reasons)])

    @property
    def text(self) -> str:
        """As an attribute of a dataset: JSON, one row a line."""
        return "[" + ",\n ".join(json.dumps(row, ensure_ascii=False) for row in self.rows) + "]"

    @classmethod
    def from_text(cls, text: str) -> Coverage:
        """The coverage with this ``text``.

        >>> one = Coverage((("fc.weight", WATCHED, ""),))
        >>> Coverage.from_text(one.text) == one
        True
        """
        return cls(tuple((str(name), str(state), str(reason)) for name, state, reason in json.loads(text)))

    def _summary(self) -> tuple[str, _show.Rows]:
        return f"Coverage: {self.headline}", self.reasons

    def _repr_html_(self) -> str:
        return _show.html(f"Coverage: {self.headline}", self.rows, ("", "state", "reason"))


def listed(names: list[str], most: int = NAMES) -> str:
    """The first names of a list.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
