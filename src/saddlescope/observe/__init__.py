"""What a run of a Model measures at its saves, paid by the plans that ask for it: ``Plan(observe=[…])``.

Every run of a Model has its ``loss``. An observation is a frozen part that adds variables to the run.
"""

from __future__ import annotations

from saddlescope.observe.noise import LayerNoise, Modes, NoiseRate, RandomDirections

__all__ = ["LayerNoise", "Modes", "NoiseRate", "RandomDirections"]

PARTS: tuple[type, ...] = (LayerNoise, Modes, NoiseRate, RandomDirections)
"""Every part that a store may hold in the list ``observe`` of a plan, those inside observations included."""
