"""Networks whose dynamics can be written down."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from saddlescope._parts import Count, frozen

Width = Annotated[Count, Field(ge=1, lt=2**31)]


@frozen
class DeepLinear:
    """Deep linear network ``x -> W_L … W_1 x`` with layers ``W_l`` of shape ``(widths[l], widths[l-1])``.

    Raises ValueError for fewer than two widths or a width below 1.
    Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120, eq. 1.

    >>> DeepLinear((8, 16, 6)).shapes
    ((16, 8), (6, 16))
    """

    widths: Annotated[tuple[Width, ...], Field(min_length=2, max_length=2**16 + 1)] = Field(
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


@frozen
class Diagonal:
    """Diagonal linear network ``x -> Σ_j Π_l u_lj x``, one input and one output: ``width`` chains of ``depth`` weights.

    A deep linear network whose hidden layers stay diagonal. Each layer u_l is an array (width, 1).
    ``depth`` is L, the number of factors of a chain. Raises ValueError for a depth or a width below 1.
    Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671 (their depth is D = L − 1).

    >>> Diagonal(depth=3, width=2).shapes
    ((2, 1), (2, 1), (2, 1))
    """

    depth: Annotated[Count, Field(ge=1, le=2**16)] = Field(description="the number of layers L, such as 2")
    width: Width = Field(default=1, description="the number of chains, such as 1")

    @property
    def dim_in(self) -> int:
        """Input dimension, 1."""
        return 1

    @property
    def dim_out(self) -> int:
        """Output dimension, 1."""
        return 1

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths between input and output."""
        return (self.width,) * (self.depth - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from input to output."""
        return (1, *self.hidden, 1)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape of every layer, first to last."""
        return ((self.width, 1),) * self.depth

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.depth * self.width

    @property
    def speed(self) -> float:
        """How many times as fast d equal balanced chains move as a single one of the same strength: ``d^{2/L−1}``.

        >>> Diagonal(depth=2, width=8).speed, Diagonal(depth=4, width=9).speed
        (1.0, 0.3333333333333333)
        """
        return float(self.width ** (2 / self.depth - 1))


Network = DeepLinear | Diagonal
