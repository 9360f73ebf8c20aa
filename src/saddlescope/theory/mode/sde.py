"""One mode of a deep linear network under SGD noise, as a scalar Itô SDE: its answers.

The equation and its coefficients are in ``coefficients``, the SDE in log s in ``log_strength``.
Source: Corlouer et al. 2026, arXiv 2604.06366, section 3; Ziyin, Li & Ueda 2023, arXiv 2308.06671, for any moments.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import as_choice, as_number, as_numbers, shown
from saddlescope._parts import arguments, as_call, frozen
from saddlescope.kernel.mode_paths import integrate, walk
from saddlescope.theory._checks import quiet, steady
from saddlescope.theory.mode import passages, stationary
from saddlescope.theory.mode.coefficients import ModeCoefficients
from saddlescope.theory.mode.flow import mode_flow, plateau_time
from saddlescope.theory.mode.log_strength import LogStrength
from saddlescope.theory.sde.boundaries import Boundaries
from saddlescope.theory.sde.diffusion1d import Diffusion1D
from saddlescope.theory.sde.in_time import LawInTime
from saddlescope.theory.sde.laws import Law, titled
from saddlescope.theory.sde.start import Start


@frozen
@steady
class ModeSDE(ModeCoefficients):
    """The SDE of one mode at depth L, from Gaussian white data (``target`` s*, ``label_noise`` σ) or from ``moments``.

    White Gaussian inputs have β₁ = 1, β₂ = s*, α₁ = 2, α₂ = 2s*, α₃ = 2s*² + σ², so g = 2(s − s*)² + σ². ``moments`` is
    (α₁, α₂, α₃, β₁, β₂), as of a data set; ``target`` is then s* = β₂/β₁, and σ² is part of α₃. ``temperature``
    T = lr / batch_size, ``weight_decay`` γ of a loss + (γ/2)‖θ‖². Strengths are positive for L ≥ 2, any number for
    L = 1.
    Raises ValueError when neither or both of target and moments are given, or moments that no data have.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

    >>> mode = ModeSDE(depth=3, target=1.5, label_noise=0.5, temperature=0.3)
    >>> mode.g(1.0)
    array(0.75)
    >>> mode.stationary().mean()
    1.1991...
    """

    def _facts(self) -> _show.Rows:
        return [(name, text) for name, text in arguments(self) if self.moments is None or name != "target"]

    def _results(self) -> _show.Rows:
        with quiet():
            rest, critical = (_show.computed(getattr, self, name) for name in ("fixed_point", "critical_temperature"))
            regime: str | None = _show.tried(lambda: self._regime, None)
            rows = [
                (
                    "fixed point without noise",
                    None if self.moments is None and rest == self.target else _show.number(rest),
                ),
                ("critical temperature T_c", _show.number(critical)),
                ("regime", regime),
                ("noise peak", _show.tried(self._peak, _show.MISSING)),
            ]
        return [(name, text) for name, text in rows if text is not None]

    def _peak(self) -> str:
        peak = self.noise_peak()
        return "none" if peak is None else f"at s = {_show.number(peak)}"

    @property
    def _regime(self) -> str | None:
        """Where T lies between 0 and T_c; None where that is not all, see ``phases.regime``."""
        share = self.temperature / self.critical_temperature if self.critical_temperature > 0 else np.inf
        if self.depth != 2 or self.frozen or self.crossing is not None:
            return None
        below = (
            "T < T_c/3, the density vanishes at 0" if share < 1 / 3 else "T_c/3 ≤ T < T_c, the density is infinite at 0"
        )
        return f"T = {_show.number(share, 3)} T_c: {below if share < 1 else 'all mass ends at 0'}"

    @cached_property
    def _log(self) -> LogStrength:
        """The SDE in the logarithm of s."""
        return LogStrength(self)

    def flow(self, times: ArrayLike, start: ArrayLike) -> Floats:
        """Strength at ``times`` without noise, from ``start``; they broadcast.

        Raises ValueError with weight decay at depth ≥ 3, where there is no closed form.
        Source: Saxe et al. 2013, arXiv 1312.6120.

        >>> ModeSDE(depth=2, target=1.0, temperature=0.0).flow([0.0, 3.0], start=0.01)
        array([0.01      , 0.80295715])
        """
        self.refuse_deep_decay("the curve of gradient flow")
        return mode_flow(times, start, self.fixed_point, self.depth, self.pull[0])

    def plateau(self, start: ArrayLike) -> Floats:
        """Length of the noiseless plateau, to leading order in a small ``start``; shape of ``start``.

        Zero where the start is at or beyond s*. Raises ValueError with weight decay at depth ≥ 3.
        Source: Saxe et al. 2013, arXiv 1312.6120.

        >>> ModeSDE(depth=3, target=2.0, temperature=0.0).plateau(1e-6)
        array(50.)
        """
        self.refuse_deep_decay("the plateau of gradient flow")
        return plateau_time(start, self.fixed_point, self.depth, self.pull[0])

    def stationary(self, start: float | None = None) -> Law:
        """The law of s after infinite time.

        ``p(s) ∝ s^{−3κ} g(s)^{−1} exp(−(2/(TL)) ∫ (β₁s − β₂)/(s^{2κ}g) ds)``; a point mass at s* = β₂/β₁ where noise
        vanishes there (σ = 0, or T = 0) or spreads it by less than 1e-13 of s*, at 0 where nothing holds the mode
        (β₂ ≤ 0, or L = 2 and T ≥ T_c). Where noise vanishes at s*, L = 2 and T > T_c, it is a mixture of both and
        depends on ``start``: 0 with probability ``1 − I_{s₀/s*}(½−θ, 1+θ)``, θ = β₁/(Tα₁s*). Weight decay at
        depth ≤ 2 is in β₁ and β₂ (``pull``); deeper, at any γ > 0 there is no law on s > 0: all mass collapses,
        if exponentially slowly, so it is a point mass at 0 for T > 0, and at T = 0 where gradient flow ends from
        ``start``. Raises ValueError when start is needed.

        Interpolation: where the noise vanishes at another strength k > 0 (any k at L = 1), such as s* under weight
        decay, paths cross k one way, as the drift does there: k is an entrance of that side and an exit of the other.
        Pushed down, they stay on (0, k) with the law above; pushed up, on (k, ∞) at every T and γ, from which no path
        returns to 0. Only then, from a ``start`` below k with 0 attracting, some end at 0 first: a ``Mixture``.
        Source: Corlouer et al. 2026, arXiv 2604.06366, section 3; Ziyin et al. 2023, arXiv 2308.06671.

        >>> law = ModeSDE(depth=3, target=1.5, label_noise=0.3**0.5, temperature=0.3).stationary()
        >>> law.mean(), law.var()
        (1.1614921, 0.3668612)
        >>> ModeSDE(depth=2, target=1.0, temperature=2.0).stationary(start=0.3).probabilities
        array([0.21450048, 0.78549952])
        """
        return titled(stationary.stationary(self._log, start), f"stationary distribution of {as_call(self)}")

    def boltzmann(self) -> Law:
        """The Boltzmann law near β₂/β₁: normal with variance ``½L s*^{2κ} T g(s*)/β₁``.

        For white Gaussian data ``∝ exp(−(s−s*)²/(L s*^{2κ} T σ²))`` on the whole line, s < 0 too; good when
        ``T L s*^{2κ} ≪ 1`` and ``½ T L s*^{2κ−2} σ² ≪ 1``. Raises ValueError when β₂ ≤ 0 at depth ≥ 2, or with weight
        decay at depth ≥ 3.
        Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

        >>> ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.01).boltzmann().std()
        0.0500000
        """
        return titled(stationary.boltzmann(self), f"Boltzmann distribution of {as_call(self)}")

    def passage(self, start: ArrayLike, target: float) -> tuple[Floats, Floats]:
        """Mean and variance of the time at which s first reaches ``target``; each of the shape of ``start``.

        ``target = θ s*`` gives learning times. Infinite where the passage may never happen, or has no finite mean time.
        Source: Karlin & Taylor 1981, section 15.3.

        >>> mean, variance = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05).passage(1e-3, 0.5)
        >>> float(mean), float(variance) ** 0.5
        (3.6..., 0.6...)
        """
        return passages.passage(self._log, start, target)

    def plateau_passage(self, start: float, target: float | None = None) -> Law:
        """The law of the time on the plateau, from ``start`` to ``target`` (None: s*), at depth 2.

        About inverse Gaussian, with mean ``ℓ/μ``, variance ``4Tα₃ℓ/μ³``, ``μ = 2(β₂−γ) − Tα₃ = 2(β₂−γ)(1 − T/T_c)``,
        ``ℓ = log(target/start)``: far below s*, log s is a Brownian motion with drift.
        Raises ValueError at other depths and for T ≥ T_c. Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

        >>> law = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05).plateau_passage(1e-3)
        >>> law.mean(), law.var()
        (3.6597378, 0.4622624)
        """
        law = stationary.plateau_passage(self, start, target)
        return titled(law, f"time on the plateau from {_show.number(start)} of {as_call(self)}")

    def simulate(
        self,
        start: ArrayLike,
        times: ArrayLike,
        trajectories: int,
        seed: int = 0,
        tol: float | None = None,
        threads: int | None = None,
        dt: float | None = None,
        dtype: str = "float64",
    ) -> NDArray[np.floating]:
        """Strengths of an ensemble at ``times``, shape (trajectories, times), all from ``start`` (or one start each).

        Integrated by the compiled kernel in log a (in s at depth 1) by a weak scheme of order 2, and of order 5 in the
        pull alone, with steps ``tol`` (default 0.05) in units of the local rate. Its bias in the distribution function
        is at most 0.002·(tol/0.1)², whatever T (measured from T = 1e-6 to 1e-2, L = 1 to 6, starts from 1e-19): below
        1e-3 at the default. The same for any number of threads, and for each member whatever the others are; steps end
        on ``times``, so other times give other paths of the same law.

        With ``dt`` instead of ``tol`` it is Euler–Maruyama with that fixed step in the weight coordinate a, s = a^L,
        of weak order 1, in float64 or, about three times as fast, float32, which loses steps below 1e-7 of a. A path
        may cross 0 (at odd depths s < 0 then). Good while ``T dt s^{2−4/L} g(s) ≪ 1`` wherever s goes; a step too long
        for the tail throws a path to where it stays, near 0, or out of all bounds: NaN.

        Raises ValueError for times that are negative, not increasing or no whole steps of dt, for both tol and dt, and
        for float32 without dt.
        Source: Kloeden & Platen 1992, Numerical Solution of Stochastic Differential Equations, 10.2.4 and 14.2.1.

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)
        >>> mode.simulate(0.1, [0.0, 5.0], trajectories=2000).mean(axis=0)
        array([0.1..., 0.9...])
        >>> mode.simulate(0.1, [0.0, 5.0], trajectories=2000, dt=0.01, dtype="float32").mean(axis=0)
        array([0.1..., 0.9...], dtype=float32)
        """
        as_choice(dtype, "dtype", "float32", "float64")
        if dt is None:
            if dtype != "float64":
                raise ValueError(
                    f'dtype must be "float64" with steps that follow the rate, got {shown(dtype)}; give dt too'
                )
            return integrate(
                self.kernel_mode, start, times, (), trajectories, seed, 0.05 if tol is None else tol, threads
            )[0]
        if tol is not None:
            raise ValueError(f"dt and tol exclude each other, got dt={dt} and tol={tol}; leave one out")
        return walk(self.kernel_mode, start, times, dt, trajectories, seed, threads, dtype)

    def simulate_passages(
        self,
        start: ArrayLike,
        targets: ArrayLike,
        horizon: float,
        trajectories: int,
        seed: int = 0,
        tol: float = 0.05,
        threads: int | None = None,
    ) -> Floats:
        """First-passage times of an ensemble to ``targets``, (trajectories, targets); infinite beyond ``horizon``.

        As ``simulate``; a path seen only at its steps passes a level late, by 0.5826 standard deviations of a step on
        average, and each level is moved nearer by as much: at the default the bias of mean times is at most 0.02 of
        their standard deviation. Raises ValueError for more than 16 targets, or a horizon that is not finite.
        Source: Gobet & Menozzi 2010, Stochastic Processes and their Applications 120(2).

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05)
        >>> times = mode.simulate_passages(1e-3, [0.5], horizon=50.0, trajectories=4000)
        >>> abs(times.mean() - mode.passage(1e-3, 0.5)[0]) < 0.1
        np.True_
        """
        if not 0 <= as_number(horizon, "horizon") < np.inf:
            raise ValueError(f"horizon must be a finite time, got {horizon}; use a few mean times of passage")
        return integrate(self.kernel_mode, start, [horizon], targets, trajectories, seed, tol, threads)[1]

    def evolve(self, start: float | Start, times: ArrayLike, tol: float = 1e-5) -> list[LawInTime]:
        """The laws of s at ``times`` (positive, increasing) from a strength or a law of them, to ``tol`` in the cdf.

        ``∂p/∂t = −∂(a p)/∂s + ½ ∂²(b² p)/∂s²`` by ``Diffusion1D.evolve``, at any T > 0, in seconds. Arrivals that are
        spread out in time far beyond the rise itself are not resolved: L ≥ 3 from small starts, at about their mean
        time and later (at T = 0.05, s₀ = 1e-4 reaches tol = 1e-4, not 1e-5; s₀ = 1e-6 at T ≥ 0.1 and s₀ = 1e-19 at any
        T reach none). Raises ValueError where ``tol`` is not reached, with the one that is if that is known; for T = 0,
        a start that is not positive at L ≥ 2, or s* itself where noise vanishes there.

        >>> (law,) = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05).evolve(1e-3, [4.0])
        >>> law.mean(), law.std()
        (0.6..., 0.3...)
        """
        laws = passages.evolve(self._log, start, times, tol)
        name, when = as_call(self), np.atleast_1d(as_numbers(times, "times"))
        return [titled(law, f"at time {_show.number(time)}, {name}") for law, time in zip(laws, when, strict=True)]

    def passage_cdf(self, times: ArrayLike, start: float, target: float, tol: float = 1e-5) -> Floats:
        """Probability that s has gone from ``start`` to ``target`` by ``times`` (increasing); shape of ``times``.

        The law of a learning time, whose mean and variance are ``passage``'s; takes seconds. Raises ValueError as
        ``evolve``.

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05)
        >>> mode.passage_cdf([3.0, 4.0], start=1e-3, target=0.5, tol=1e-4).round(3)
        array([0.187, 0.743])
        """
        return passages.passage_cdf(self._log, times, start, target, tol)

    @property
    def relaxation_time(self) -> float:
        """Time in which the slowest deviation from the stationary law decays by a factor e.

        At L = 2 and s near 0, log s diffuses freely, so that no rate exceeds ``(2(β₂−γ) − Tα₃)²/(8Tα₃)``: relaxation
        slows down without bound as T → T_c. Raises ValueError with the reason when there is no law on s.

        >>> ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.1).relaxation_time
        1.0000...
        """
        return passages.noisy(self._log).relaxation_time

    @property
    def log_diffusion(self) -> Diffusion1D:
        """The SDE of w = log(s/unit)/L for L ≥ 2, of s for L = 1: on the side below s* where noise vanishes there, on
        the side that paths do not leave where it vanishes elsewhere."""
        return self._log.sde

    @property
    def boundaries(self) -> Boundaries:
        """What happens at the ends of s, by exponents: 0 and ∞ for L ≥ 2, ∓∞ for L = 1.

        0 is natural, never reached in finite time; it attracts iff T > T_c (L = 2), iff β₂ ≤ 0 or γ > 0 (L ≥ 3). From
        ∞ it comes down in finite time at L ≥ 2, an entrance; at L = 1 that is natural. Where the noise vanishes at s*,
        that is the upper end: natural and attracting. Where it vanishes elsewhere, the ends are those of the side that
        paths do not leave, an entrance there. Raises ValueError for T = 0.
        Source: Feller's tests (Karlin & Taylor 1981, section 15.6) on Corlouer et al. 2026, arXiv 2604.06366.

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=0.4)      # above T_c = 1/3
        >>> mode.boundaries.lower.attracting, mode.boundaries.upper.kind
        (True, 'entrance')
        """
        return self._log.boundaries
