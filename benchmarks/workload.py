"""W1, the race: Langevin steps with full gradient noise, one small deep linear network per trajectory.

A step is ``W_l ← W_l − η W_{>l}ᵀ Ḡ W_{<l}ᵀ``, ``Ḡ = Δ(I + H/√B) − σZ/√B``, ``Δ = W_3W_2W_1 − M``, where H is
symmetric Gaussian with variance 1 off and 2 on the diagonal and Z standard normal (white inputs). It has the
covariance of minibatch SGD without ever forming it: all contestants use it, none the dense covariance.
"""

import numpy as np

WIDTH = 10
WIDTHS = (WIDTH,) * 4
LR = 5e-3
BATCH_SIZE = 1
LABEL_NOISE = 0.5
TRAJECTORIES = 1024
CHECK_STEPS = 800

_rng = np.random.default_rng(20240406)
_left, _right = (np.linalg.qr(_rng.standard_normal((WIDTH, WIDTH)))[0] for _ in range(2))
TEACHER = (_left * np.linspace(2.0, 0.2, WIDTH)) @ _right
WEIGHTS = tuple(0.3 * _rng.standard_normal((WIDTH, WIDTH)) for _ in range(3))


def excess_loss(weights: list[np.ndarray]) -> np.ndarray:
    """``½‖W_3W_2W_1 − M‖²`` of every trajectory, from three (n, 10, 10) layers."""
    first, second, third = (np.asarray(layer, np.float64) for layer in weights)
    return 0.5 * ((third @ second @ first - TEACHER) ** 2).sum(axis=(1, 2))
