"""Corlouer, Semler, Strang & Gietelink Oldenziel 2026, arXiv 2604.06366: SGD keeps the saddle-to-saddle picture.

One file per claim. s is the strength ``u_αᵀPv_α`` of a mode (product coordinate), s* its target, κ = 1 − 1/L,
T = η/B.
"""

from saddlescope.claims.saddle_to_saddle import (
    coloured_inputs,
    critical_batch,
    depths,
    finite_data,
    isotropic,
    label_noise,
    mode_sde,
    noise_peak,
    plateaus,
    small_start,
    stationary_law,
    whole_map,
)

CLAIMS = (
    mode_sde.CLAIM,
    noise_peak.CLAIM,
    depths.CLAIM,
    stationary_law.CLAIM,
    label_noise.CLAIM,
    small_start.CLAIM,
    plateaus.CLAIM,
    critical_batch.CLAIM,
    finite_data.CLAIM,
    coloured_inputs.CLAIM,
    isotropic.CLAIM,
    whole_map.CLAIM,
)
