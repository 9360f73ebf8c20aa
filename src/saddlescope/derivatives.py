"""A run as a function of its initial weights, learning rate, temperature and noise, for the derivatives of JAX."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from saddlescope import _jax, init
from saddlescope._arrays import Floats, Layers
from saddlescope._numbers import shown
from saddlescope.engines.state import State
from saddlescope.engines.step import Step, decode
from saddlescope.kernel import streams
from saddlescope.methods import METHODS, GradientFlow, Langevin, Method
from saddlescope.networks.model import is_model
from saddlescope.plan import Plan
from saddlescope.problem import Problem


def differentiable(problem: Problem, method: Method, plan: Plan) -> Run:
    """A run as a pure function that JAX can differentiate, batch and compile.

    The function returned takes initial weights, ``lr``, ``temperature``, ``label_noise`` and ``weight_decay``, each as
    in the problem and the method if left out, and gives the observables of the members of the plan at its saves. All
    calls use the random numbers of ``simulate`` with the same seed, so that its value is that run, to rounding, and its
    derivatives are those of the trajectories. Of a ``Model`` it gives the loss and all that the plan observes.

    It works under ``jax.grad``, ``jvp``, ``vmap`` and ``jit``. Forward mode costs about as much as a second run for
    each direction. Reverse mode holds about 2√steps sets of weights and costs about four and a half runs; of a Model it
    repeats every step once more. Derivatives of single trajectories can grow exponentially in time where the dynamics
    are unstable, and are NaN once one has diverged.

    Raises TypeError for gradient flow, which ``to_diffrax`` can differentiate, and ValueError where the method cannot
    run on the problem.

    >>> import jax, saddlescope as sc
    >>> data = sc.GaussianData([[1.0]], label_noise=0.5)
    >>> problem = sc.Problem(sc.Diagonal(depth=2), data, sc.init.Balanced(scale=0.5))
    >>> plan = sc.Plan(steps=20, trajectories=100, saves=2, dtype="float32")
    >>> run = differentiable(problem, sc.Langevin(lr=0.05, temperature=0.01), plan)
    >>> run()["mode_strength"].shape
    (100, 3, 1)
    >>> slope = jax.grad(lambda T: run(temperature=T)["excess_loss"][:, -1].mean())(0.01)
    >>> bool(slope > 0)
    True
    """
    for name, value, kind, example in (
        ("problem", problem, Problem, "Problem(network, data, init)"),
        ("method", method, METHODS, "SGD(lr=1e-3, batch_size=16)"),
        ("plan", plan, Plan, "Plan(steps=1000)"),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be such as {example}, got {shown(value)}")
    if isinstance(method, GradientFlow):
        raise TypeError("method must take steps, got GradientFlow; use GD, or to_diffrax and diffrax.diffeqsolve")
    return Run(problem, plan, decode(problem, method, plan))


@dataclass(frozen=True, eq=False)
class Run:
    """A run as a function; see ``differentiable``."""

    problem: Problem
    plan: Plan
    step: Step

    @property
    def time(self) -> Floats:
        """Time of every save, at the learning rate of the method (saves,)."""
        return self.step.method.time(self.plan.save_steps)

    @cached_property
    def weights(self) -> Layers:
        """Initial weights of all members in NumPy, a stack (members, n_l, n_{l−1}) or (members, …) a layer or leaf."""
        problem, plan = self.problem, self.plan
        if is_model(problem.network):
            return self._start.weights
        return init.draw(problem.init, problem.network, problem.data, plan.seed, plan.member_indices)

    def __call__(
        self,
        weights: Any = None,
        *,
        lr: Any = None,
        temperature: Any = None,
        label_noise: Any = None,
        weight_decay: Any = None,
    ) -> dict[str, Any]:
        """``loss`` and ``excess_loss`` (members, saves), ``mode_strength`` (members, saves, m); jax arrays.

        Of a Model ``loss`` and every variable of the plan's observations, members and saves first; its ``weights`` are
        leaves, or params, with the members first. With ``keep="weights"`` in the plan also ``weights``, a stack
        (members, saves, …) for each layer or leaf. ``temperature`` is that of Langevin; left out it is lr / batch_size,
        with the lr given here. ``lr`` also is the time of a step, unless the method sets ``dt``. ``label_noise`` can
        replace one above 0.
        Raises ValueError for a temperature of another method, a label noise where the data have none, and a plan of
        float64 where JAX has no 64-bit numbers.
        """
        from saddlescope.engines.jax.sde import Settings

        step = self.step
        self._check(temperature, label_noise)
        lr = step.lr if lr is None else lr
        settings = Settings(
            lr,
            temperature=lr / step.batch if temperature is None else temperature,
            label_noise=step.data.label_noise if label_noise is None else label_noise,
            weight_decay=step.decay if weight_decay is None else weight_decay,
        )
        weights = self.weights if weights is None else weights
        found: dict[str, Any] = self._program(tuple(_jax.load().tree.leaves(weights)), settings)
        return found

    @cached_property
    def _program(self) -> Any:
        """The compiled function of weights and settings."""
        from saddlescope.engines.jax import derivatives

        step, plan, jit = self.step, self.plan, _jax.load().jit
        saves, keep = plan.save_steps, plan.keep == "weights"
        if is_model(self.problem.network):
            engine, words = self._engine, self._start.words
            run = jit(lambda *arguments: derivatives.run_of_model(engine.member, saves, keep, *arguments))
            return lambda weights, settings: run(weights, words, settings, engine.table)
        words = streams.seed_words(plan.seed, plan.member_indices, streams.NOISE, plan.dtype)
        run = jit(lambda *arguments: derivatives.run(step, saves, keep, *arguments))
        return lambda weights, settings: run(weights, words, settings)

    @cached_property
    def _engine(self) -> Any:
        """The engine of a Model."""
        from saddlescope.engines.jax.ensemble import Ensemble

        with _jax.load().ensure_compile_time_eval():  # it may be made while a caller's function is traced
            return Ensemble(self.problem, self.step.method, self.plan)

    @cached_property
    def _start(self) -> State:
        """The members of a Model at step 0: weights, and words of their keys."""
        with _jax.load().ensure_compile_time_eval():
            state: State = self._engine.init()
            return state

    def _check(self, temperature: Any, label_noise: Any) -> None:
        if self.plan.dtype == "float64" and not _jax.load().config.jax_enable_x64:
            raise ValueError(
                'dtype = "float64" of the plan needs 64-bit numbers in JAX; call it inside "with '
                'jax.enable_x64(True):", or use dtype="float32"'
            )
        if temperature is not None and not isinstance(self.step.method, Langevin):
            raise ValueError(
                f"temperature is an argument of Langevin, got one for {type(self.step.method).__name__}; leave it out"
            )
        if label_noise is not None and self.step.data.label_noise == 0:
            raise ValueError("label_noise can replace one above 0, but the data have none; give the data a label noise")
