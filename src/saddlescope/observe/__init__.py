"""What a run of a Model measures at its saves, paid by the plans that ask for it: ``Plan(observe=[…])``.

Every run of a Model has its ``loss``. An observation is a frozen part that adds variables to the run.
"""

from __future__ import annotations

from saddlescope.networks.rescaling import Pair
from saddlescope.observe.balance import Balance
from saddlescope.observe.noise import LayerNoise, Modes, NoiseRate, RandomDirections
from saddlescope.observe.rank import EffectiveRank, FeatureRank, LogDet, SingularValues
from saddlescope.observe.values import Accuracy, TestLoss

__all__ = [
    "Accuracy",
    "Balance",
    "EffectiveRank",
    "FeatureRank",
    "LayerNoise",
    "LogDet",
    "Modes",
    "NoiseRate",
    "RandomDirections",
    "SingularValues",
    "TestLoss",
]

PARTS: tuple[type, ...] = (
    Accuracy,
    Balance,
    EffectiveRank,
    FeatureRank,
    LayerNoise,
    LogDet,
    Modes,
    NoiseRate,
    Pair,
    RandomDirections,
    SingularValues,
    TestLoss,
)
"""Every part that a store may hold in the list ``observe`` of a plan, those inside observations included."""
