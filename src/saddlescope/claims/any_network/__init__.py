"""Beyond linear networks: statements of the three papers, tested in networks of any kind.

One file per claim. Networks are ``Model``s, which need JAX; claims import it when they run, and state ``extra="jax"``.
``_networks`` holds the networks and the data that claims share, ``_rank`` what claims on rank share.
"""

from saddlescope.claims.any_network import (
    deep_relu_rank,
    feature_rank,
    fresh_labels,
    noise_balance_of_relu,
    noise_peaks_elsewhere,
    noise_peaks_of_relu,
    relu_rank,
    tanh_sign,
    tanh_transition,
    width_of_tanh,
)
from saddlescope.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    relu_rank.CLAIM,
    deep_relu_rank.CLAIM,
    fresh_labels.CLAIM,
    feature_rank.CLAIM,
    noise_balance_of_relu.CLAIM,
    tanh_transition.CLAIM,
    tanh_sign.CLAIM,
    noise_peaks_of_relu.CLAIM,
    width_of_tanh.CLAIM,
    noise_peaks_elsewhere.CLAIM,
)
