"""The law of balance: the effect of noise on ``‖u‖² − ‖w‖²`` when the loss is invariant under rescaling u and w.

``ℓ(λu, w/λ) = ℓ(u, w)``: two neighbouring layers, the weights into and out of a ReLU unit, queries and keys. u (m,)
and w (n,) are flat; ``g_u``, ``g_w`` are per-sample gradients (samples, m) and (samples, n), and ⟨·⟩ is their mean.
Such a loss depends on ``w uᵀ`` alone. With ``A_ki = ∂ℓ/∂(u_i w_k)`` the gradients are ``g_u = Aᵀw``, ``g_w = Au``.
Source: Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671, the law of balance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import as_numbers, shown
from saddlescope.observe._pairs import of_pair
from saddlescope.theory import _checks
from saddlescope.theory._checks import steady

if TYPE_CHECKING:
    from saddlescope.networks import Model
    from saddlescope.networks.rescaling import Pair

EIGENVALUES_SHOWN = 128
"""Largest matrix whose eigenvalues are computed only to be shown."""

Gradients = Callable[[Floats, Floats], tuple[ArrayLike, ArrayLike]]


@steady
def balance_step(
    u: ArrayLike, w: ArrayLike, grad_u: ArrayLike, grad_w: ArrayLike, lr: float, weight_decay: float = 0.0
) -> Floats:
    """``‖u‖² − ‖w‖²`` after one step with these gradients of the batch; arrays (…, m) and (…, n), result (…).

    ``(1−ηγ)²(‖u‖² − ‖w‖²) + η²(‖g_u‖² − ‖g_w‖²)``, exact for every loss with the symmetry and any batch, since
    ``u·g_u = w·g_w``. Gradient flow (η → 0) conserves it.

    >>> u, w, g = 2.0, 1.0, 0.3                       # ℓ depends on uw, with slope 0.3: g_u = 0.3 w, g_w = 0.3 u
    >>> float(balance_step([u], [w], [g * w], [g * u], lr=0.1)), (u - 0.1 * g * w)**2 - (w - 0.1 * g * u)**2
    (2.9973, 2.9973)
    """
    _checks.not_negative(lr=lr, weight_decay=weight_decay)
    u, w, grad_u, grad_w = (
        as_numbers(value, name) for name, value in (("u", u), ("w", w), ("grad_u", grad_u), ("grad_w", grad_w))
    )
    for name, a, g in (("u", u, grad_u), ("w", w, grad_w)):
        if np.shape(a)[-1:] != np.shape(g)[-1:]:
            raise ValueError(f"grad_{name} must end in the size of {name}, {np.shape(a)[-1:]}, got {np.shape(g)}")
    before, gained = (_square(a) - _square(b) for a, b in ((u, w), (grad_u, grad_w)))
    return np.asarray((1 - lr * weight_decay) ** 2 * before + lr**2 * gained)[()]


@dataclass(frozen=True, repr=False)
class Rescaling(_show.Shown):
    """Whether a pair (u, w) has the rescaling symmetry.

    ``violation``: the part of the gradients that breaks it, relative to their size. "symmetric": at most what rounding
    explains (ε^(2/3), ε the precision of the gradients). "broken": more than ε^(1/3). "inconclusive": between, or no
    gradient.
    """

    verdict: Literal["symmetric", "broken", "inconclusive"]
    violation: float


@steady
def rescaling_symmetry(
    gradients: Gradients, u: ArrayLike, w: ArrayLike, scales: tuple[float, ...] = (0.5, 2.0)
) -> Rescaling:
    """Test a pair of parameters for ``ℓ(λu, w/λ) = ℓ(u, w)``.

    ``gradients(u, w)`` returns the per-sample gradients at any u and w, each (samples, …) with the shape of u or w
    behind. At (u, w) and at every rescaled point they must keep ``u·g_u = w·g_w``, and be those of the first point:
    ``λ g_u(λu, w/λ) = g_u(u, w)``. ReLU pairs have the symmetry for λ > 0, products for every λ ≠ 0: ask for
    ``scales=(-1,)``. Powers of two cause no rounding. Use random, unequal u and w: at special points the
    answer may be special too. Raises ValueError for shapes that do not fit and for scales of 0.

    >>> x = np.linspace(-2, 2, 50)[:, None]
    >>> def pair(phi, slope):                         # ℓ = ½(u φ(wx) − x)²
    ...     def gradients(u, w):
    ...         error = u * phi(w * x) - x
    ...         return error * phi(w * x), error * u * slope(w * x) * x
    ...     return gradients
    >>> relu = pair(lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0))
    >>> rescaling_symmetry(relu, [0.7], [0.3]).verdict, rescaling_symmetry(relu, [0.7], [0.3], (-1,)).verdict
    ('symmetric', 'broken')
    >>> rescaling_symmetry(pair(np.tanh, lambda z: 1 / np.cosh(z) ** 2), [0.7], [0.3])
    Rescaling(verdict='broken', violation=0.29...)
    """
    if not callable(gradients):
        raise TypeError(f"gradients must be a function of u and w, got {shown(gradients)}")
    if not all(np.isfinite(scale) and scale for scale in as_numbers(scales, "scales")):
        raise ValueError(f"scales must be numbers other than 0, got {scales}; use powers of two")
    u, w = as_numbers(u, "u"), as_numbers(w, "w")
    found, first = [], None
    for scale in (1.0, *scales):
        with np.errstate(all="ignore"):
            pair: Any = gradients(scale * u, w / scale)
        pair = list(pair) if isinstance(pair, np.ndarray) and pair.ndim else pair
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"gradients must return two arrays, those of u and of w, got {shown(pair)}")
        given = [np.asarray(g) for g in pair]
        (flat_u, g_u), (flat_w, g_w) = (_flat(a, g, name) for a, g, name in zip((u, w), given, "uw", strict=True))
        _check_samples(g_u, g_w)
        g_u, g_w = scale * g_u, g_w / scale
        first = first or (g_u, g_w)
        found += [
            euler_violation(flat_u, flat_w, g_u, g_w),
            *(_share(g - g0, g, g0) for g, g0 in zip((g_u, g_w), first, strict=True)),
        ]
    rounding = max(float(np.finfo(g.dtype).eps) if g.dtype.kind == "f" else 0.0 for g in (*given, np.zeros(1)))
    violation = float(np.fmax.reduce(found))  # NaN only where there is no gradient at all
    if violation <= rounding ** (2 / 3):
        return Rescaling("symmetric", violation)
    return Rescaling("broken" if violation > rounding ** (1 / 3) else "inconclusive", violation)


@steady
def euler_violation(u: Floats, w: Floats, grad_u: Floats, grad_w: Floats) -> float:
    """Relative violation of ``u·g_u = w·g_w`` on these samples; NaN where there is no gradient.

    >>> euler_violation(np.array([2.0]), np.array([1.0]), np.array([[0.3]]), np.array([[0.6]]))
    0.0
    """
    size = np.abs(grad_u) @ np.abs(u), np.abs(grad_w) @ np.abs(w)
    return _share(grad_u @ u - grad_w @ w, *size)


@steady
@dataclass(frozen=True, eq=False, repr=False)
class Balance(_show.Shown):
    """Noise balance at a point (u, w): the rate of ``‖u‖² − ‖w‖²`` there, and the ratio of norms it approaches.

    ``C₁ = ⟨AᵀA⟩ − ⟨A⟩ᵀ⟨A⟩`` (m, m) and ``C₂ = ⟨AAᵀ⟩ − ⟨A⟩⟨A⟩ᵀ`` (n, n) do not change when u and w are rescaled.
    ``uᵀC₁u = Tr Cov[g_w]`` and ``wᵀC₂w = Tr Cov[g_u]``. T = η/B; batches of B without replacement from N samples have
    ``T(N−B)/(N−1)``. Weight decay γ (loss + ½γ‖θ‖²) adds 2γ to each of TC₁ and TC₂: D₁ and D₂ below.

    From PyTorch, for two layers without biases with nothing or a ReLU between them: per-sample gradients are
    ``torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, y)``, where ``loss(parameters, x, y)``
    is that of one sample, through ``torch.func.functional_call(network, parameters, x)``. u is the upper layer, w the
    lower one, each with its gradients as ``tensor.numpy()``, for ``Balance.of``.

    >>> x, xi = 6**0.5 * np.eye(6), 2**0.5 * np.eye(2)     # white inputs and label noise, dx = 6, dy = 2
    >>> A = np.array([-sign * np.outer(a, b) for sign in (1, -1) for a in x for b in xi])  # a linear unit, no error
    >>> Balance.of_product(np.ones(2), np.ones(6), A, temperature=0.1).ratio   # dy/dx: balanced noise, not norms
    0.333333
    """

    u: Floats
    w: Floats
    C1: Floats
    C2: Floats
    temperature: float
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _checks.not_negative(temperature=self.temperature, weight_decay=self.weight_decay)
        _check_point(self.u, self.w)
        for name, C, size in (("C1", self.C1, self.u.size), ("C2", self.C2, self.w.size)):
            if C.shape != (size, size) or not np.isfinite(C).all():
                raise ValueError(
                    f"{name} must be a finite matrix ({size}, {size}), got {C.shape} or NaN; see Balance.of"
                )

    def _summary(self) -> tuple[str, _show.Rows]:
        def range_of(ends: tuple[float, float]) -> str:
            return f"{_show.number(ends[0])} to {_show.number(ends[1])}"

        arguments = [("temperature", _show.number(self.temperature)), ("weight_decay", _show.number(self.weight_decay))]
        norms = _square(self.u), _square(self.w)
        rows = [
            ("numbers in u and w", f"{self.u.size:,} and {self.w.size:,}"),
            ("‖u‖² and ‖w‖²", f"{_show.number(float(norms[0]))} and {_show.number(float(norms[1]))}"),
            ("drift of the difference", _show.number(_show.computed(getattr, self, "drift"))),
            ("ratio ‖u‖²/‖w‖²", _show.number(_show.computed(lambda: norms[0] / norms[1]))),
            ("ratio where noise balances", _show.number(_show.computed(getattr, self, "ratio"))),
            ("rate of return", _show.number(_show.computed(getattr, self, "rate"))),
        ]
        if max(self.u.size, self.w.size) <= EIGENVALUES_SHOWN:
            rows.append(("bounds of the ratio", _show.tried(lambda: range_of(self.ratio_bounds), _show.MISSING)))
        return _show.call("Balance", arguments), rows

    @classmethod
    def of(
        cls,
        u: ArrayLike,
        w: ArrayLike,
        grad_u: ArrayLike,
        grad_w: ArrayLike,
        temperature: float,
        weight_decay: float = 0.0,
    ) -> Balance:
        """From per-sample gradients; u and w of any shape, gradients with the samples in front.

        They leave A open beyond ``Aᵀw = g_u`` and ``Au = g_w``; this is the smallest A (‖A‖_F): with the part ⊥ to w,
        ``C₁ = Cov[g_u]/‖w‖² + Tr Cov[g_w⊥] ûûᵀ/‖u‖²``, and C₂ in the same way. Drift, ratio and rate are those of
        every A, the bounds are not.
        Raises ValueError where shapes do not fit, u or w is zero, or the gradients break the symmetry.
        """
        (u, g_u), (w, g_w) = (_flat(a, g, name) for a, g, name in ((u, grad_u, "u"), (w, grad_w, "w")))
        _check_samples(g_u, g_w)
        violation = euler_violation(u, w, g_u, g_w)
        if violation > np.finfo(np.float32).eps ** (1 / 3):
            raise ValueError(
                f"u and w must have the rescaling symmetry, got gradients in which u·g_u and w·g_w differ by "
                f"{violation:.2g} of their size; check the pair by rescaling_symmetry"
            )
        _check_point(u, w)
        return cls(u, w, _smallest(u, w, g_u, g_w), _smallest(w, u, g_w, g_u), temperature, weight_decay)

    @classmethod
    def of_product(
        cls, u: ArrayLike, w: ArrayLike, A: ArrayLike, temperature: float, weight_decay: float = 0.0
    ) -> Balance:
        """From per-sample gradients ``A_ki = ∂ℓ/∂(u_i w_k)`` of the product (samples, n, m), of any rank.

        A unit with weights w in and u out has ``A = φ'(w·x) x (∂ℓ/∂y)ᵀ``. Raises ValueError where shapes do not fit.
        """
        u, w, A = np.ravel(as_numbers(u, "u")), np.ravel(as_numbers(w, "w")), as_numbers(A, "A")
        if A.ndim != 3 or A.shape[1:] != (w.size, u.size) or not len(A):
            raise ValueError(f"A must have shape (samples, {w.size}, {u.size}) for this w and u, got {A.shape}")
        centred, samples = A - A.mean(axis=0), len(A)
        C1, C2 = np.einsum("ska,skb->ab", centred, centred), np.einsum("sak,sbk->ab", centred, centred)
        return cls(u, w, C1 / samples, C2 / samples, temperature, weight_decay)

    @classmethod
    def of_model(
        cls,
        model: Model,
        data: Any,
        params: Any,
        pair: Pair,
        temperature: float,
        weight_decay: float = 0.0,
        *,
        unit: int | None = None,
        share: float = 1.0,
    ) -> Balance:
        """Of a pair of a Model at these params, u the upper side and w the lower; of one ``unit``, or of all together.

        Gradients are those of all n samples in double precision, with the noise of fresh labels. T = η/B; of the noise
        of sampling a ``share`` remains: ``(n − B)/(n − 1)`` for batches without replacement, 0 for full batches (T =
        η/n there). The mean of SGD's change per time is ``drift`` and ``η(‖ḡ_u‖² − ‖ḡ_w‖²)``, which is 0 at η → 0.
        Raises ValueError for a pair that does not fit the model, a unit that it does not have, or broken symmetry.

        >>> import jax.numpy as jnp
        >>> from saddlescope import Examples, Model, Pair
        >>> model = Model(lambda p, x: x @ p["w"].T @ p["u"].T, lambda key: dict.fromkeys("uw", jnp.ones((1, 1))))
        >>> data, params = Examples([[1.0], [-1.0]], [[0.0], [0.0]], label_noise=1.0), {"u": [[2.0]], "w": [[1.0]]}
        >>> Balance.of_model(model, data, params, Pair(("w", 0), ("u", 1)), temperature=0.1).drift  # −T σ²(u² − w²)
        -0.3
        """
        (u, g_u), (w, g_w) = of_pair(model, data, params, pair, unit, share)
        return cls.of(u, w, g_u, g_w, temperature, weight_decay)

    @property
    def difference(self) -> float:
        """``‖u‖² − ‖w‖²``."""
        return float(_square(self.u) - _square(self.w))

    @property
    def drift(self) -> float:
        """``d(‖u‖² − ‖w‖²)/dt = −T(uᵀC₁u − wᵀC₂w) − 2γ(‖u‖² − ‖w‖²)``, the same for every path: it has no noise."""
        c, d = self._along
        return float(d * _square(self.w) - c * _square(self.u))

    @property
    def ratio(self) -> float:
        """The ``‖u‖²/‖w‖²`` at which noise balances: ``ŵᵀD₂ŵ / ûᵀD₁û`` for these directions of u and w.

        Norms are balanced only where it is 1. NaN without any noise.
        """
        c, d = self._along
        return d / c if c > 0 else np.nan if d == 0 else np.inf

    @property
    def rate(self) -> float:
        """Rate at which log‖u‖²/‖w‖² returns to that ratio: the harmonic mean of ``ûᵀD₁û`` and ``ŵᵀD₂ŵ``.

        Linearised, the product of the norms held. For scalars ``T Var[∂ℓ/∂(uw)] + 2γ``, and then u² − w² decays at
        this rate from any start.
        """
        c, d = self._along
        return 2 * c * d / (c + d) if c + d > 0 else 0.0

    @property
    def ratio_bounds(self) -> tuple[float, float]:
        """``λ_min(D₂)/λ_max(D₁) ≤ ‖u‖²/‖w‖² ≤ λ_max(D₂)/λ_min(D₁)`` wherever noise balances, for any directions."""
        (low1, high1), (low2, high2) = self._eigenvalues
        return low2 / high1 if high1 > 0 else np.nan, high2 / low1 if low1 > 0 else np.inf

    @property
    def ranks(self) -> tuple[int, int]:
        """Ranks of C₁ and C₂, up to rounding.

        Where both are full the bounds of the ratio are positive and finite for all directions, even without weight
        decay; along directions without noise a norm is not bounded.
        """
        spectra = [np.linalg.eigvalsh(C) for C in (self.C1, self.C2)]
        first, second = (int((s > 1e-12 * len(s) * max(float(s[-1]), 0.0)).sum()) for s in spectra)
        return first, second

    @property
    def drift_bounds(self) -> tuple[float, float]:
        """``λ_min(D₂)‖w‖² − λ_max(D₁)‖u‖² ≤ drift ≤ λ_max(D₂)‖w‖² − λ_min(D₁)‖u‖²``."""
        (low1, high1), (low2, high2) = self._eigenvalues
        u2, w2 = float(_square(self.u)), float(_square(self.w))
        return low2 * w2 - high1 * u2, high2 * w2 - low1 * u2

    @property
    def _along(self) -> tuple[float, float]:
        """``ûᵀD₁û`` and ``ŵᵀD₂ŵ``."""
        forms = (float(a @ C @ a / (a @ a)) for a, C in ((self.u, self.C1), (self.w, self.C2)))
        c, d = (self.temperature * form + 2 * self.weight_decay for form in forms)
        return c, d

    @property
    def _eigenvalues(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Smallest and largest eigenvalue of D₁ and of D₂, rounding below 0 cut off."""
        spectra = (self.temperature * np.linalg.eigvalsh(C) + 2 * self.weight_decay for C in (self.C1, self.C2))
        first, second = ((max(float(s[0]), 0.0), max(float(s[-1]), 0.0)) for s in spectra)
        return first, second


@steady
def imbalance_forecast(
    time: ArrayLike, start: ArrayLike, rate: ArrayLike, weight_decay: float = 0.0
) -> tuple[Floats, Floats]:
    """Imbalance that follows from recorded rates, and the error of its integral over time; each (times, …).

    ``Q(t) = e^{−2γt}Q(0) + ∫ e^{−2γ(t−s)} r(s) ds`` by trapezoids between the ``time``s (times,) at which the ``rate``
    (times, …) was recorded, such as ``run.balance_noise + run.balance_gradient``; ``start`` is Q at the first time.
    The error is the sum of the differences to a trapezoid over two intervals at a time: save more often if it is large.
    Raises ValueError for times that do not increase, or rates of another length.

    >>> time = np.linspace(0, 1, 5)
    >>> forecast, error = imbalance_forecast(time, 1.0, 2 * time)
    >>> float(forecast[-1]), float(error[-1])
    (2.0, 0.0)
    """
    _checks.not_negative(weight_decay=weight_decay)
    time, start, rate = as_numbers(time, "time"), as_numbers(start, "start"), as_numbers(rate, "rate")
    if time.ndim != 1 or rate.shape[:1] != time.shape or not (np.diff(time) > 0).all():
        raise ValueError(
            f"time must be increasing numbers, one for each entry of rate, got shapes {time.shape} and {rate.shape}"
        )
    gamma, value, last = 2 * weight_decay, np.broadcast_to(start, rate.shape[1:]), np.zeros(rate.shape[1:])
    values, errors = [value], [last]
    for k, step in enumerate(np.diff(time)):
        value = np.exp(-gamma * step) * (value + 0.5 * step * rate[k]) + 0.5 * step * rate[k + 1]
        if k % 2:  # the middle of two intervals against the straight line between their ends
            whole = time[k + 1] - time[k - 1]
            line = rate[k - 1] + (rate[k + 1] - rate[k - 1]) * (time[k] - time[k - 1]) / whole
            last = last + 0.5 * whole * np.abs(rate[k] - line)
        values.append(value)
        errors.append(last)
    return np.stack(values), np.stack(errors)


def _smallest(u: Floats, w: Floats, g_u: Floats, g_w: Floats) -> Floats:
    """C₁ of the smallest A with these gradients; C₂ when the roles are exchanged."""
    g_u, g_w = g_u - g_u.mean(axis=0), g_w - g_w.mean(axis=0)
    u2, w2 = u @ u, w @ w
    across = g_w - np.outer(g_w @ w, w) / w2
    return np.asarray((g_u.T @ g_u / w2 + (across**2).sum() * np.outer(u, u) / u2**2) / len(g_u))


def _check_point(u: Floats, w: Floats) -> None:
    if not (u.any() and w.any() and np.isfinite(u).all() and np.isfinite(w).all()):
        raise ValueError("u and w must not be zero, and finite; start elsewhere")


def _check_samples(g_u: Floats, g_w: Floats) -> None:
    if len(g_u) != len(g_w):
        raise ValueError(f"gradients of u and w must be of the same samples, got {len(g_u)} and {len(g_w)}")


def _flat(a: ArrayLike, gradients: ArrayLike, name: str) -> tuple[Floats, Floats]:
    """Parameters (m,) and their gradients (samples, m)."""
    parameters, g = as_numbers(a, name), as_numbers(gradients, f"grad_{name}")
    if g.ndim == 0 or len(g) == 0 or g.shape[1:] != parameters.shape:
        raise ValueError(
            f"the gradients of {name} must have shape (samples, …) with that of {name}, {parameters.shape}, behind; "
            f"got {g.shape}"
        )
    if not np.isfinite(g).all():
        raise ValueError(f"the gradients of {name} must be finite, got NaN or infinity; leave out what diverged")
    return parameters.ravel(), g.reshape(len(g), -1)


def _share(difference: Floats, *sizes: Floats) -> float:
    whole = sum(float(np.linalg.norm(size)) for size in sizes)
    return float(np.linalg.norm(difference)) / whole if whole > 0 else float("nan")


def _square(a: ArrayLike) -> Floats:
    return np.asarray(np.square(np.asarray(a, np.float64)).sum(axis=-1))
