"""Langevin dynamics and gradient flow as the terms of a differential equation, for the solvers of diffrax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from saddlescope import _jax, init
from saddlescope._numbers import as_whole, shown
from saddlescope._parts import allowed
from saddlescope.engines.step import Step, decode
from saddlescope.methods import GD, GradientFlow, Langevin
from saddlescope.networks.model import Model, is_model
from saddlescope.plan import Plan
from saddlescope.problem import Problem


def to_diffrax(problem: Problem, method: Langevin | GradientFlow) -> Terms:
    """The dynamics of a method on a problem as drift and diffusion, for ``diffrax.diffeqsolve``.

    ``dθ = −(∇𝓛 + γθ) dt + √T C(θ)^{1/2} dW`` in the sense of Itô, on the clock t = lr · step. The noise is a linear map
    of a few normals (``noise_shape``), as in a step of ``simulate``: C is not formed. ``diffrax.Euler`` with ``dt0 =
    method.time_step`` takes the steps of ``simulate``; any dt0 below converges to the same law. Of a ``Model`` a state
    is its params.

    Only solvers that converge to the Itô solution may be used: ``Euler``, and ``ItoMilstein`` where the noise commutes,
    as that of a ``Diagonal`` network does. ``Heun``, ``EulerHeun``, ``StratonovichMilstein``, ``SPaRK`` and others take
    the same terms in the sense of Stratonovich, whose drift differs by ``½ Σ_k (∂b_k) b_k`` of the columns b_k of the
    diffusion: of the order of T, at every step size. Gradient flow has no noise, and any solver will do.

    Raises TypeError for other methods, ValueError for a schedule, for isotropic noise or samples of a Model, and where
    the method cannot run on the problem.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

    >>> import diffrax, jax, saddlescope as sc
    >>> data = sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5)
    >>> problem = sc.Problem(sc.DeepLinear((2, 3, 2)), data, sc.init.Balanced(scale=0.5))
    >>> sde = to_diffrax(problem, sc.Langevin(lr=0.01, temperature=1e-4))
    >>> path = diffrax.VirtualBrownianTree(0.0, 8.0, tol=1e-3, shape=sde.noise_shape, key=jax.random.key(0))
    >>> end = diffrax.diffeqsolve(sde.terms(path), diffrax.Euler(), 0.0, 8.0, 0.01, sde.y0()).ys
    >>> sde.mode_strength(end).round(1)[0].tolist()
    [2.0, 1.0]
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be such as Problem(network, data, init), got {shown(problem)}")
    if not isinstance(method, (Langevin, GradientFlow)):
        raise TypeError(
            f"method must be Langevin or GradientFlow, which are differential equations, got {shown(method)}; "
            "use Langevin with the same lr and batch_size"
        )
    if method.schedule is not None:
        raise ValueError("schedule must be left out for terms of a differential equation, which have one temperature")
    step = decode(problem, method, Plan(steps=1, members=(0,)))
    if not is_model(problem.network):
        return Terms(problem, step)
    if step.source == "isotropic" or getattr(method, "samples", None) is not None:
        raise ValueError(
            'method must have noise = "gradient" and no samples for the terms of a Model, whose noise is linear in its '
            f"normals, got {shown(method)}"
        )
    return ModelTerms(problem, step)


@dataclass(frozen=True, eq=False)
class Terms:
    """Drift and diffusion of all weights; a state is a tuple of layers (n_l, n_{l−1}) in the original basis.

    ``args`` of ``diffeqsolve`` may replace numbers of the method, each traced if need be: a dict with any of the
    entries of ``args`` here. Left out, they are those of the method.
    """

    problem: Problem
    step: Step

    @property
    def args(self) -> dict[str, float]:
        """The numbers that ``args`` may replace: weight_decay; of Langevin temperature, and label_noise if not 0.

        >>> import saddlescope as sc
        >>> problem = sc.Problem(sc.Diagonal(depth=2), sc.GaussianData([[1.0]]), sc.init.Balanced(scale=0.5))
        >>> to_diffrax(problem, sc.Langevin(lr=0.01, batch_size=4)).args
        {'weight_decay': 0.0, 'temperature': 0.0025}
        """
        numbers = {"weight_decay": self.step.decay}
        if self.step.diffusive:
            numbers["temperature"] = self.step.temperature
            if self.step.data.label_noise > 0:
                numbers["label_noise"] = self.step.data.label_noise
        return numbers

    @property
    def noise_shape(self) -> Any:
        """Shape and type of the Brownian motion, ``jax.ShapeDtypeStruct``, for ``VirtualBrownianTree(shape=…)``.

        Raises ValueError for gradient flow, which has none.
        """
        if not self.step.diffusive:
            raise ValueError("gradient flow has no noise; use terms() without a Brownian motion")
        jax = _jax.load()
        return jax.ShapeDtypeStruct((self.step.normals_per_step,), jax.numpy.zeros(0).dtype)

    def drift(self, t: Any, weights: Any, args: Mapping[str, Any] | None = None) -> Any:
        """``−∇𝓛 − γθ``, with the part of order 2 if the method has it; a tuple like ``weights``."""
        from saddlescope.engines.jax import sde

        return sde.drift(self.step, tuple(weights), self._settings(args))

    def diffusion(self, t: Any, weights: Any, args: Mapping[str, Any] | None = None) -> Any:
        """``√T C(θ)^{1/2}`` as a ``lineax.FunctionLinearOperator`` from increments of ``noise_shape`` to weights."""
        import lineax

        from saddlescope.engines.jax import sde

        settings = self._settings(args)

        def increment(normals: Any) -> Any:
            return sde.noise(self.step, tuple(weights), normals, settings)

        if self.step.normals_per_step == 1:  # a vector, which Milstein can differentiate
            jax = _jax.load()
            changes = increment(jax.numpy.ones(1))
            return lineax.PyTreeLinearOperator(tuple(c[..., None] for c in changes), jax.eval_shape(tuple, changes))
        return lineax.FunctionLinearOperator(increment, self.noise_shape)

    def terms(self, path: Any = None) -> Any:
        """``MultiTerm(ODETerm(drift), ControlTerm(diffusion, path))``; of gradient flow ``ODETerm(drift)``.

        ``path`` is a Brownian motion of ``noise_shape``, such as ``diffrax.VirtualBrownianTree``. Raises TypeError
        where it is missing, or given to gradient flow.
        """
        import diffrax

        if self.step.diffusive == (path is None):
            need = "needs a Brownian motion of noise_shape, such as" if path is None else "has no noise; leave out"
            raise TypeError(f"{type(self.step.method).__name__} {need} diffrax.VirtualBrownianTree")
        drift = diffrax.ODETerm(self.drift)
        return drift if path is None else diffrax.MultiTerm(drift, diffrax.ControlTerm(self.diffusion, path))

    def y0(self, member: int | Sequence[int] = 0, seed: int = 0) -> Any:
        """Initial weights of a member, those of ``simulate`` under ``Plan(seed=seed)``: a tuple of layers.

        Of a list of members every layer is a stack, for ``jax.vmap``.
        """
        problem, numpy = self.problem, _jax.load().numpy
        drawn = init.draw(problem.init, problem.network, problem.data, as_whole(seed, "seed"), np.atleast_1d(member))
        return tuple(numpy.asarray(layer if np.ndim(member) else layer[0]) for layer in drawn)

    def mode_strength(self, weights: Any) -> Any:
        """``u_αᵀPv_α`` (…, m) of weights, such as ``solution.ys``; their leading axes lead."""
        from saddlescope.engines.jax import sde

        return sde.mode_strength(self.step, tuple(weights))

    def _settings(self, args: Mapping[str, Any] | None) -> Any:
        from saddlescope.engines.jax.sde import Settings

        given, known = dict(args or {}), self.args
        for name in given:
            if name not in known:
                raise TypeError(f"args have no entry {name!r}; {allowed(name, known)}")
        numbers = {"temperature": 0.0, "label_noise": self.step.data.label_noise} | known | given
        return Settings(lr=self.step.lr, **numbers)


class ModelTerms(Terms):
    """Drift and diffusion of a ``Model``; a state is its params, a pytree."""

    @property
    def noise_shape(self) -> Any:
        """Shapes of the Brownian motion: that of the samples (n,), and that of fresh labels (n, …) if there are any."""
        if not self.step.diffusive:
            raise ValueError("gradient flow has no noise; use terms() without a Brownian motion")
        from saddlescope.engines.jax import sde_of_models

        return sde_of_models.normals(self._table)

    def drift(self, t: Any, params: Any, args: Mapping[str, Any] | None = None) -> Any:
        """``−∇𝓛 − γθ``, with the part of order 2 if the method has it; like ``params``."""
        from saddlescope.engines.jax import sde_of_models

        return sde_of_models.drift(self.step, self._table, params, self._settings(args))

    def diffusion(self, t: Any, params: Any, args: Mapping[str, Any] | None = None) -> Any:
        """``√T C(θ)^{1/2}`` as a ``lineax.FunctionLinearOperator`` from increments of ``noise_shape`` to params."""
        import lineax

        from saddlescope.engines.jax import sde_of_models

        table, settings = self._table, self._settings(args)

        def increment(normals: Any) -> Any:
            return sde_of_models.noise(self.step, table, params, normals, settings)

        return lineax.FunctionLinearOperator(increment, self.noise_shape)

    def y0(self, member: int | Sequence[int] = 0, seed: int = 0) -> Any:
        """Initial params of a member, those of ``simulate`` under ``Plan(seed=seed)`` with the dtype of JAX now.

        Of a list of members every leaf is a stack, for ``jax.vmap``.
        """
        from saddlescope.engines.jax.ensemble import Ensemble

        jax, model = _jax.load(), cast("Model", self.problem.network)
        members = tuple(int(one) for one in np.atleast_1d(member))
        plan = Plan(steps=1, members=members, seed=as_whole(seed, "seed"), dtype=self._dtype)
        with jax.ensure_compile_time_eval():
            drawn = Ensemble(self.problem, GD(self.step.lr), plan).init().weights
        leaves = [jax.numpy.asarray(leaf if np.ndim(member) else leaf[0]) for leaf in drawn]
        return model.unflatten(leaves)

    def mode_strength(self, weights: Any) -> Any:
        """Raises TypeError: a Model has no teacher whose modes these are."""
        raise TypeError("mode_strength is of DeepLinear and Diagonal networks, got a Model; use model.losses")

    @property
    def _dtype(self) -> Literal["float32", "float64"]:
        return "float64" if _jax.load().config.jax_enable_x64 else "float32"

    @property
    def _table(self) -> Any:
        """The samples in the precision of JAX now."""
        from saddlescope.engines.jax.table import Table

        if self._dtype not in self._tables:
            with _jax.load().ensure_compile_time_eval():
                self._tables[self._dtype] = Table.of(self.problem.data, self._dtype)  # type: ignore[arg-type]
        return self._tables[self._dtype]

    @cached_property
    def _tables(self) -> dict[str, Any]:
        return {}
