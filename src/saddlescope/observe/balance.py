"""Balance of rescaling pairs: what a run keeps, and how noise and step size move it.

For a pair with ``ℓ(λu, w/λ) = ℓ(u, w)`` let ``Q = ‖u‖² − ‖w‖²`` and ``G = ‖g_u‖² − ‖g_w‖²``, upper side u and lower
side w (with coefficients: ``Σ_A c_A ‖A‖²`` and ``Σ_A c_A ‖g_A‖²``). A step ``θ ← θ − η(g + γθ)`` makes, exactly,

    Q ← (1 − ηγ)²Q + η²G.

In the mean over batches, per unit of time, the second term is the law of balance, with ``T = η/B``, the gradients g_i
of single samples and their mean ḡ:

    T (Tr Cov[g_u,i] − Tr Cov[g_w,i])  +  η (‖ḡ_u‖² − ‖ḡ_w‖²),      noise and mean gradient.

Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671, for the noise; the identity of a step is derived here.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from saddlescope._parts import frozen
from saddlescope.networks import rescaling
from saddlescope.networks.rescaling import Pair
from saddlescope.observe.base import Coordinate, Now, Observation, Sight, Variable

_PAIRS = "use model.find_pairs(data), or Pair(lower=…, upper=…)"


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, Pair) else value


@frozen
class Balance(Observation):
    """Imbalance of rescaling pairs, its exact identity over all steps, and its rate from noise and mean gradient.

    ``pairs``: those of ``model.find_pairs(data)``, or declared ones, which are tested. Variables with dim ``pair``:
    ``imbalance`` ``‖upper‖² − ‖lower‖²``; ``imbalance_identity``, that of the first step with every step's
    ``η²(‖g_u‖² − ‖g_w‖²)`` and weight decay since, equal to ``imbalance`` to rounding (NaN where it does not hold:
    under momentum, Adam, isotropic noise and order 2); ``balance_noise`` and ``balance_gradient``, the two parts of the
    rate per time, without the ``−2γ imbalance`` of weight decay. ``units=True``: all of them for every unit, with the
    dim ``unit``, NaN beyond the units of a pair. The noise is exact, from the gradients of all samples, at saves.
    Raises ValueError for no pair at all, or one that the model does not have.

    >>> Balance(Pair(lower=("w1", 0), upper=("w2", 1)))
    Balance(pairs=[w1~w2])
    """

    pairs: Annotated[tuple[Pair, ...], BeforeValidator(_listed), Field(description=_PAIRS)]
    units: bool = Field(default=False, description="use True for every unit of a pair")

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError(
                f"pairs must hold a pair or more, got none; a model without symmetry has none, or {_PAIRS}"
            )
        names = [pair.name for pair in self.pairs]
        if twice := [pair for pair in self.pairs if names.count(pair.name) > 1 and self.pairs.count(pair) > 1]:
            raise ValueError(f"pairs must be different, got {twice[0].name} twice; leave one out")

    def _facts(self) -> list[tuple[str, str]]:
        shown = ", ".join([*(pair.name for pair in self.pairs[:4]), *(["…"] if len(self.pairs) > 4 else [])])
        return [("pairs", f"[{shown}]"), *([("units", "True")] if self.units else [])]

    def check(self, model: Any, data: Any) -> None:
        """Test the pairs at random weights."""
        rescaling.check(model, data, self.pairs)

    def variables(self, model: Any, data: Any) -> dict[str, Variable]:
        """Imbalance, its identity, and the two parts of its rate."""
        dims, of = (("pair", "unit"), " of a unit") if self.units else (("pair",), "")
        return {
            "imbalance": Variable(dims, "weight²", f"imbalance{of}", "‖upper‖² − ‖lower‖²"),
            "imbalance_identity": Variable(
                dims,
                "weight²",
                f"imbalance{of} by its identity",
                "imbalance at the start and Σ η²(‖g_u‖² − ‖g_w‖²) over all steps, with weight decay; NaN where it does "
                "not hold: under momentum, Adam, isotropic noise and order 2",
            ),
            "balance_noise": Variable(
                dims,
                "weight²/time",
                f"noise part of the rate of imbalance{of}",
                "T(Tr Cov[g_u] − Tr Cov[g_w]), g of one sample",
            ),
            "balance_gradient": Variable(
                dims, "weight²/time", f"gradient part of the rate of imbalance{of}", "η(‖ḡ_u‖² − ‖ḡ_w‖²), ḡ the mean"
            ),
        }

    def sizes(self, model: Any, data: Any) -> dict[str, int]:
        """Number of pairs, and of the units of the largest."""
        return {"pair": len(self.pairs)} | ({"unit": self._most(model)} if self.units else {})

    def coordinates(self, model: Any, data: Any) -> dict[str, Coordinate]:
        """Names of the pairs."""
        names = np.array([pair.name for pair in self.pairs], object)
        return {"pair": (("pair",), names, {"long_name": "lower~upper"})}

    def of(self, sight: Sight) -> dict[str, Any]:
        """The variables of one member."""
        from saddlescope.observe import _balance

        return _balance.of(self.pairs, self.units, sight)

    def start(self, sight: Sight) -> tuple[Any, ...]:
        """The imbalance, and what its sum has lost to rounding; nothing for methods without the identity."""
        from saddlescope.observe import _balance

        return _balance.start(self.pairs, self.units, sight)

    def step(self, sums: tuple[Any, ...], now: Now) -> tuple[Any, ...]:
        """The identity of a step."""
        from saddlescope.observe import _balance

        return _balance.step(self.pairs, self.units, sums, now) if sums else ()

    def _most(self, model: Any) -> int:
        shapes = {leaf.name: tuple(leaf.shape) for leaf in model.leaves}
        return max(pair.units(shapes) for pair in self.pairs)
