"""Closed-form answers: one mode as a scalar SDE, gradient flow, the full network's exact Itô law, balance."""

from saddlescope.theory import heavy_ball
from saddlescope.theory.balance import Balance, Rescaling, balance_step, imbalance_forecast, rescaling_symmetry
from saddlescope.theory.mode import phases
from saddlescope.theory.mode.flow import flow_time, mode_flow, plateau_time
from saddlescope.theory.mode.of_problem import mode_sde
from saddlescope.theory.mode.sde import ModeSDE
from saddlescope.theory.network import determinant
from saddlescope.theory.network.end_to_end import (
    SingularValueSDE,
    label_noise_shift,
    map_covariance,
    map_drift,
    singular_value_drift,
    singular_value_sde,
    strength_drift,
)
from saddlescope.theory.network.layers import balance_drift, layer_noise, layer_variance, noise_balance
from saddlescope.theory.network.plateaus import critical_batch_size, growth_rate, half_times
from saddlescope.theory.network.stability import stability_edge
from saddlescope.theory.sde.boundaries import Boundaries, Boundary
from saddlescope.theory.sde.density import Density
from saddlescope.theory.sde.diffusion1d import Diffusion1D
from saddlescope.theory.sde.laws import Atoms, Law, Mixture
from saddlescope.theory.sde.transient import Transient

__all__ = [
    "Atoms",
    "Balance",
    "Boundaries",
    "Boundary",
    "Density",
    "Diffusion1D",
    "Law",
    "Mixture",
    "ModeSDE",
    "Rescaling",
    "SingularValueSDE",
    "Transient",
    "balance_drift",
    "balance_step",
    "critical_batch_size",
    "determinant",
    "flow_time",
    "growth_rate",
    "half_times",
    "heavy_ball",
    "imbalance_forecast",
    "label_noise_shift",
    "layer_noise",
    "layer_variance",
    "map_covariance",
    "map_drift",
    "mode_flow",
    "mode_sde",
    "noise_balance",
    "phases",
    "plateau_time",
    "rescaling_symmetry",
    "singular_value_drift",
    "singular_value_sde",
    "stability_edge",
    "strength_drift",
]
