"""Growth on the first plateau under discrete SGD, to all orders of the learning rate: two layers, white inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from saddlescope._arrays import Floats
from saddlescope._numbers import as_numbers
from saddlescope.theory import _checks


def pivot_growth(targets: ArrayLike, lr: float, label_noise: float, samples: int = 2**22, seed: int = 0) -> Floats:
    """Growth per time of the pivots of P near zero weights under SGD of batch size 1, targets descending (m,).

    There balanced aligned layers are multiplied by ``I + ½η(S + Sᵀ)``, ``S = yxᵀ``, in every step, so that pivot k
    grows by ``(2/η) E log(det_k/det_{k−1})``, det_k the leading minors of ``I + ½η(S + Sᵀ)``:
    ``(1 + ½η y·x)² − ¼η²|y|²|x|²`` over the first k entries. To first order in η it is ``growth_rate``; the
    contributions of weaker modes to stronger ones are left out. A mean over ``samples`` pairs (x, y) minus its linear
    part, accurate to 0.3 % of the slow-down at η = 0.005.
    Source: the step of SGD on Corlouer et al. 2026, arXiv 2604.06366, without terms cubic in the weights.

    >>> pivot_growth([2.0, 1.0], lr=0.005, label_noise=0.5, samples=2**18).round(3)
    array([3.94 , 1.97])
    """
    _checks.not_negative(lr=lr, label_noise=label_noise)
    s, rng, block = as_numbers(targets, "targets")[:, None], np.random.default_rng(seed), 2**18
    mean, blocks = np.zeros(s.size), -(-samples // block)
    for _ in range(blocks):
        x = rng.standard_normal((s.size, block))
        y = s * x + label_noise * rng.standard_normal(x.shape)
        xy, xx, yy = (np.cumsum(product, axis=0) for product in (x * y, x * x, y * y))
        minors = (1 + lr / 2 * xy) ** 2 - lr**2 / 4 * xx * yy
        mean += np.diff((np.log(np.abs(minors)) - lr * xy).mean(axis=1), prepend=0) / blocks
    return np.asarray(2 * s[:, 0] + 2 * mean / lr)
