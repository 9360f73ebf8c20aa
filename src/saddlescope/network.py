"""Networks whose dynamics can be written down."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from saddlescope._model import Count, frozen

Width = Annotated[Count, Field(ge=1)]


@frozen
class DeepLinear:
    """Deep linear network ``x -> W_L … W_1 x`` with layers ``W_l`` of shape ``(widths[l], widths[l-1])``.

    Raises ValueError for fewer than two widths or a width below 1.
    Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120, eq. 1.

    >>> DeepLinear((8, 16, 6)).shapes
    ((16, 8), (6, 16))
    """

    widths: Annotated[tuple[Width, ...], Field(min_length=2)] = Field(
        description="give the widths from input to output, such as (8, 16, 6)"
    )

    @property
    def depth(self) -> int:
        """Number of layers L."""
        return len(self.widths) - 1

    @property
    def dim_in(self) -> int:
        """Input dimension dx."""
        return self.widths[0]

    @property
    def dim_out(self) -> int:
        """Output dimension dy."""
        return self.widths[-1]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths between input and output."""
        return self.widths[1:-1]

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape of every layer, first to last."""
        return tuple((rows, columns) for columns, rows in zip(self.widths, self.widths[1:], strict=False))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(rows * columns for rows, columns in self.shapes)
