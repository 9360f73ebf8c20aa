"""What a monitor watches, what it could not record, and what it skips, with the reasons."""

from __future__ import annotations

import json
from dataclasses import dataclass

from saddlescope import _show

WATCHED, SKIPPED, NOT_RECORDED = "watched", "skipped", "not recorded"
"""States of a parameter; one that is not recorded is watched, but nothing arrived."""

PAIR_STATES = PREDICTED, UNPREDICTED, NO_PAIR = "predicted", "not predicted", "no pair"
"""States of a rescaling pair: whether the change of its imbalance is predicted, or that it failed the test."""

Row = tuple[str, str, str]
"""Name of a parameter or pair, its state, and the reason of the state, "" where it needs none."""

NAMES = 3
"""Most names in a sentence."""


@dataclass(frozen=True, repr=False)
class Coverage(_show.Shown):
    """The state of every parameter, in the order of the model, and of every rescaling pair.

    >>> parameters = ("fc.weight", WATCHED, ""), ("bn.weight", SKIPPED, "BatchNorm couples samples")
    >>> Coverage((*parameters, ("fc~out", UNPREDICTED, "Adam is not covered")))
    Coverage: 1 of 2 parameters recorded; 0 of 1 pairs predicted
      1 watched        (fc.weight)
      1 skipped        BatchNorm couples samples (bn.weight)
      1 not predicted  Adam is not covered (fc~out)
    """

    rows: tuple[Row, ...] = ()

    def of(self, state: str) -> tuple[Row, ...]:
        """The rows in this state."""
        return tuple(row for row in self.rows if row[1] == state)

    @property
    def pairs(self) -> tuple[Row, ...]:
        """The rows of pairs."""
        return tuple(row for row in self.rows if row[1] in PAIR_STATES)

    @property
    def parameters(self) -> tuple[Row, ...]:
        """The rows of parameters."""
        return tuple(row for row in self.rows if row[1] not in PAIR_STATES)

    @property
    def headline(self) -> str:
        """How many are recorded or predicted, of all."""
        parts = [
            f"{len(self.of(good)):,} of {len(rows):,} {words}"
            for rows, good, words in (
                (self.parameters, WATCHED, "parameters recorded"),
                (self.pairs, PREDICTED, "pairs predicted"),
            )
            if rows
        ]
        return "; ".join(parts) or "nothing to record"

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """For every state with its reason: how many, and the first names."""
        groups: dict[tuple[str, str], list[str]] = {}
        for state in (WATCHED, NOT_RECORDED, SKIPPED, *PAIR_STATES):
            for name, _, reason in self.of(state):
                groups.setdefault((state, reason), []).append(name)
        return [
            (f"{len(names):,} {state}", f"{reason} ({listed(names)})".strip())
            for (state, reason), names in groups.items()
        ]

    @property
    def sentence(self) -> str:
        """All that needs a reason, in one line."""
        notable = Coverage(tuple(row for row in self.rows if row[2] or row[1] not in (WATCHED, PREDICTED)))
        return "; ".join([self.headline, *(f"{state}: {reason}" for state, reason in notable.reasons)])

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
