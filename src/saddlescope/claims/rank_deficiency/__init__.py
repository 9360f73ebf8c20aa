"""Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133: noise reduces the rank of linear networks.

One file per claim. Θ = [W_l, W_{l+1}ᵀ] are neighbouring layers, N = ΘᵀΘ, J the gradient that both receive; δ is label
noise, fresh at every step; t = η · step.
"""

from saddlescope.claims.rank_deficiency import (
    deeper,
    determinant_line,
    eigenvalue_paths,
    eigenvalues,
    singular_values,
    step_size,
)

CLAIMS = (
    determinant_line.CLAIM,
    singular_values.CLAIM,
    eigenvalues.CLAIM,
    eigenvalue_paths.CLAIM,
    step_size.CLAIM,
    deeper.CLAIM,
)
