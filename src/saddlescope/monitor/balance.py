"""The balance of rescaling pairs: found, tested on every record, accounted for at every step, predicted from samples.

A pair is used once Euler's identity holds on a record (a candidate: on three), and while it hardly ever fails. One
that fails is dropped: the law of balance does not hold for it. Pairs under optimizers other than SGD have imbalance and
symmetry only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saddlescope.monitor import structure
from saddlescope.monitor._torch import Tensor, nn, torch
from saddlescope.monitor.capture import NOT_FINITE
from saddlescope.monitor.forecast import Evidence, Forecast, chosen, constants, extended, restored, start, state
from saddlescope.monitor.ledger import Ledger
from saddlescope.monitor.pairs import Pair, declared, find
from saddlescope.monitor.record import Values
from saddlescope.monitor.rules import Rule
from saddlescope.monitor.sample import Sample
from saddlescope.monitor.symmetry import defect, tolerance
from saddlescope.monitor.uses import Heads

RECORDS, FAILS = 3, 3
"""Records on which a candidate must hold before it is used, and on which a pair must fail before it is dropped."""
RARE = 8
"""Records on which a pair must hold for each one on which it fails."""
CHANGED = 1e4
"""Rounding units of the squared gradients beyond which a step has used other gradients."""
SMALLER = (
    "a step used smaller gradients than those of the declared loss, as after clipping, or with a loss_scale that was "
    "not undone"
)
LARGER = (
    "a step used larger gradients than those of the declared loss: set the gradients of earlier steps to zero "
    "(zero_grad), undo a loss_scale before the step, and declare a sum as reduction"
)
ROUNDING = 10.0
"""Rounding units of the squared weights that are never taken for a jump."""


@dataclass(frozen=True, eq=False)
class _Before:
    """What is read before a step: ‖θ‖² of all blocks; by pair the account, ‖m‖² and C, and the constants."""

    weights2: list[Tensor]
    identity: Mapping[str, Tensor]
    momentum: Mapping[str, tuple[Tensor, Tensor, Tensor]]
    rules: Mapping[str, Rule]


class Balance:
    """The rescaling pairs of a model over a training.

    ``given`` are pairs declared beside those that are found; ``heads`` says how parameters are split into heads;
    ``strict`` raises what goes wrong at the optimizer. Raises TypeError or ValueError for declarations that do not fit
    the model.
    """

    def __init__(
        self,
        model: nn.Module,
        given: Iterable[Any] | None = None,
        heads: Mapping[str, Heads] | None = None,
        strict: bool = False,
    ) -> None:
        stated = declared(model, given or ())
        sides = {(pair.u, pair.w) for pair in stated}
        pairs = (*stated, *(pair for pair in find(model) if (pair.u, pair.w) not in sides))
        self.ledger = Ledger(model, pairs, structure.heads(model) | dict(heads or {}), strict)
        self.refused: dict[str, str] = {}
        """Why a pair was dropped, by its name, without candidates."""
        self._weights = dict(model.named_parameters())
        self.changed: dict[str, str] = {}
        """How the gradients of a step differed from those of its record, by the name of a pair."""
        self.stalled = ""
        """That most watched steps had no step of the optimizer, as a sentence."""
        self._marks: tuple[int, int] | None = None
        self._expected: dict[str, tuple[Tensor, Tensor]] = {}
        self._before: _Before | None = None
        self._eps = 0.0
        self._forecast: Forecast | None = None
        self._passed, self._failed = ({pair.name: 0 for pair in pairs} for _ in range(2))

    @property
    def used(self) -> tuple[Pair, ...]:
        """The pairs that have passed the test."""
        return tuple(pair for pair in self.ledger.pairs if self._accepted(pair))

    @property
    def uncovered(self) -> dict[str, str]:
        """Why there is no prediction, by the name of a pair that is used."""
        rules = self.ledger.rules()
        known = {name: why for name, why in self.changed.items() if name in rules and not self._summed(name, rules)}
        known |= self.ledger.uncovered
        return {pair.name: known[pair.name] for pair in self.used if pair.name in known}

    @property
    def undivided(self) -> dict[str, str]:
        """Why a prediction is not divided into noise and gradient, by the name of a pair that is used."""
        known = self.uncovered
        return {pair.name: self.changed[pair.name] for pair in self.used if pair.name in self.changed.keys() - known}

    def _summed(self, name: str, rules: Mapping[str, Rule]) -> bool:
        """Whether the sum of noise and gradient is known for a pair with changed gradients.

        Under momentum the buffer holds what was used; it must be of the weights as they were, not of earlier ones.
        """
        return bool(rules[name].momentum) and self.changed[name] == SMALLER

    def follow(self, optimizer: Any) -> None:
        """Account for every step of an optimizer from now on."""
        self.ledger.attach(optimizer)

    def close(self) -> None:
        """Remove the hooks from the optimizer."""
        self.ledger.detach()

    def per_sample(self, squares: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``‖G_u,i‖² − ‖G_w,i‖²`` (b,) by the name of the pair, from ``‖G_i‖²`` (b, H) by parameter."""
        whole = self._complete({name: one.shape[1] for name, one in squares.items()})
        if not whole:
            return {}
        b = next(iter(squares.values())).shape[0]
        layout = self.ledger.layout
        values = [
            squares[name] if name in whole else layout.signs.new_zeros(b, count)
            for name, count in self._counts().items()
        ]
        found = layout.differences(values)
        return {pair.name: found[:, i] for i, pair in enumerate(self.ledger.pairs) if whole.issuperset(pair.parameters)}

    def begin(self) -> None:
        """Read the weights of a sampled step, before anything moves them; the optimizer may step within it or after."""
        self._compare(self._eps)
        self._before = self._now()
        self.ledger.note()

    def measure(self, sample: Sample, batch_size: int | None = None, factor: float = 1.0) -> Values:
        """The values of the step of the last ``begin``.

        ``batch_size`` is that of the training step, if the sample is of another batch; the optimizer makes its step
        with the gradient of the mean loss times ``factor``.
        """
        ledger, layout = self.ledger, self.ledger.layout
        if self._before is None:
            self.begin()
        before, self._before = self._before or self._now(), None
        self._count(sample)
        if not ledger.pairs:
            return {}
        self._eps = eps = self._precision(sample)
        weights2 = before.weights2
        euler, norms2, seen = self._gradients(sample)
        defects = torch.where(seen, defect(layout, euler, weights2, norms2), torch.nan)
        self._test(defects, tolerance(layout, self._weights, eps))
        batch_size = batch_size or sample.batch_size
        norms2 = [factor**2 * one for one in norms2]
        now = self._evidence(sample, batch_size, before, norms2, seen, factor)
        if sample.batch_size == batch_size:
            self._expected = {
                pair.name: one for pair, one in zip(ledger.pairs, zip(*layout.sides(norms2), strict=True), strict=True)
            }
        if self._forecast is None:
            self._forecast = start(now)
        else:
            self._forecast = extended(self._forecast, now, ROUNDING * eps * sum(layout.sides(weights2)))
        values = self._values(now, self._forecast, defects, before.identity)
        self._drop()
        return values

    def _compare(self, eps: float) -> None:
        """Find the pairs whose step after the last record did not use the gradients of the record."""
        for name, used in self.ledger.noted().items():
            if name not in self._expected:
                continue
            size, of_record = (float(sum(sides)) for sides in (used, self._expected[name]))
            off = sum(abs(float(a - b)) for a, b in zip(used, self._expected[name], strict=True))
            if off > CHANGED * eps * max(size, of_record):
                self.changed[name] = SMALLER if size < of_record else LARGER
        self._expected = {}

    def _count(self, sample: Sample) -> None:
        """Compare steps that were watched with steps of the optimizer; one with infinite gradients may be skipped."""
        if self._marks and self.ledger.steps and not self.stalled:
            watched, taken = sample.step - self._marks[0], self.ledger.steps - self._marks[1]
            if 2 * taken < watched:
                made = f"{taken} steps" if taken else "no step"
                self.stalled = (
                    f"the optimizer made {made} between two records that are {watched} watched steps apart; with "
                    "gradient accumulation use watch.step(complete=False) around every micro-batch but the last"
                )
        finite = not any(one.status & NOT_FINITE for one in sample.seen.values())
        self._marks = (sample.step, self.ledger.steps) if finite else None

    def _now(self) -> _Before:
        ledger = self.ledger
        return _Before(ledger.weights2(), ledger.identity(), ledger.momentum(), ledger.rules())

    # --- what a record says

    def _gradients(self, sample: Sample) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """θ·g and ‖g‖² of all blocks, and the mask (P,) of pairs whose gradients were seen and finite."""
        parameters, euler, norms2 = self.ledger.layout.parameters, {}, {}
        for name in parameters:
            one = sample.seen.get(name)
            if one is not None and one.euler is not None and one.gradient_norm2 is not None:
                euler[name], norms2[name] = one.euler, one.gradient_norm2
        whole = self._complete({name: len(one) for name, one in euler.items()})
        blocks = [self._blocks({name: known[name] for name in whole}) for known in (euler, norms2)]
        finite = torch.isfinite(sum(self.ledger.layout.sides(blocks[1])))
        there = torch.tensor([whole.issuperset(pair.parameters) for pair in self.ledger.pairs], device=finite.device)
        return *blocks, finite & there

    def _evidence(
        self,
        sample: Sample,
        batch_size: int,
        before: _Before,
        norms2: list[Tensor],
        seen: Tensor,
        factor: float,
    ) -> Evidence:
        """What the record says about the expected change; ``norms2`` are those of the gradients of the step."""
        imbalance = self.ledger.layout.differences(before.weights2)
        nan = torch.where(seen, 0.0, torch.nan).to(imbalance)
        u2, w2 = self.ledger.layout.sides(norms2)
        moments = [sample.sums.get(pair.name) for pair in self.ledger.pairs]
        squares, stderr = (
            torch.stack([nan.new_tensor(torch.nan) if one is None else getattr(one, of)[0].to(nan) for one in moments])
            * factor**2
            for of in ("mean", "mean_stderr")
        )
        gradient2 = u2 - w2 + nan
        rules, momentum = before.rules or self.ledger.rules(), before.momentum
        plain = zip(u2 + nan, w2 + nan, torch.zeros_like(nan), strict=True)
        rows = [momentum.get(pair.name, own) for pair, own in zip(self.ledger.pairs, plain, strict=True)]
        m_u, m_w, mixed = (torch.stack(column) for column in zip(*rows, strict=True))
        known = [constants(rules[pair.name]) if pair.name in rules else [torch.nan] * 6 for pair in self.ledger.pairs]
        return Evidence(
            sample.step, sample.batch_size, batch_size, squares, stderr, gradient2, m_u - m_w, m_u + m_w, imbalance,
            mixed, nan.new_tensor(known).T,
        )  # fmt: skip

    def _counts(self) -> dict[str, int]:
        """Blocks of every parameter of the layout."""
        layout = self.ledger.layout
        return {name: split.count if split else 1 for name, split in zip(layout.parameters, layout.heads, strict=True)}

    def _complete(self, counts: Mapping[str, int]) -> set[str]:
        """Parameters with the numbers of blocks that the layout has."""
        return {name for name, count in self._counts().items() if counts.get(name) == count}

    def _blocks(self, known: Mapping[str, Tensor]) -> list[Tensor]:
        """One tensor (H,) per parameter of the layout, 0 where nothing is known."""
        signs = self.ledger.layout.signs
        return [
            known[name].to(signs) if name in known else signs.new_zeros(count) for name, count in self._counts().items()
        ]

    def _precision(self, sample: Sample) -> float:
        """The rounding unit of weights and signals."""
        own = (torch.finfo(self._weights[name].dtype).eps for name in self.ledger.layout.parameters)
        signals = (seen.precision for name in self.ledger.layout.parameters if (seen := sample.seen.get(name)))
        return max(*own, *signals, 0.0)

    def _values(self, now: Evidence, forecast: Forecast, defects: Tensor, identity: Mapping[str, Tensor]) -> Values:
        noise, gradient, decay = now.parts
        predicted, error = forecast.predicted, now.stderr(forecast.scatter)
        exact = [identity.get(pair.name, one) for pair, one in zip(self.ledger.pairs, now.imbalance, strict=True)]
        rounding = torch.stack(exact).to(now.imbalance) - now.imbalance  # of weights: the account has none
        vectors = {
            "imbalance": now.imbalance,
            "symmetry": defects,
            "balance_noise": noise,
            "balance_gradient": gradient,
            "balance_decay": decay,
            "balance_stderr": error,
            "imbalance_predicted": predicted,
            "imbalance_predicted_stderr": (forecast.stderr.square() + rounding.square()).sqrt(),
            "balance_jump": forecast.jump,
        }
        used = {pair.name for pair in self.used}
        rules = self.ledger.rules()
        accounted = used.intersection(rules)
        covered = {name for name in accounted if name not in self.changed or self._summed(name, rules)}
        values: Values = {}
        for variable, vector in vectors.items():
            names = used if variable in ("imbalance", "symmetry") else covered
            names = names - self.changed.keys() if variable in ("balance_noise", "balance_gradient") else names
            values[variable] = {name: one for name, one in self.ledger.by_name(vector).items() if name in names}
        values["imbalance_identity"] = {name: one for name, one in identity.items() if name in accounted}
        return {variable: by_name for variable, by_name in values.items() if by_name}

    # --- the test

    def _accepted(self, pair: Pair) -> bool:
        passed, failed = self._passed[pair.name], self._failed[pair.name]
        return passed >= (1 if pair.certain else RECORDS) and passed > RARE * failed

    def _test(self, defects: Tensor, allowed: Tensor) -> None:
        """Count the records on which Euler's identity held and failed; one without gradients says nothing."""
        for pair, one, most in zip(self.ledger.pairs, defects.tolist(), allowed.tolist(), strict=True):
            self._passed[pair.name] += one <= most
            self._failed[pair.name] += one > most

    def _drop(self) -> None:
        """Drop the pairs that fail."""
        pairs = self.ledger.pairs
        failing = {pair.name for pair in pairs if self._failed[pair.name] >= FAILS and not self._accepted(pair)}
        if not failing:
            return
        for pair in pairs:
            if pair.name in failing and pair.certain:
                self.refused[pair.name] = (
                    f"u·g_u differs from w·g_w on {self._failed[pair.name]} records: to rescale one against the other "
                    "changes the loss"
                )
        kept = [i for i, pair in enumerate(pairs) if pair.name not in failing]
        self.ledger.keep(pairs[i].name for i in kept)
        self._forecast = None if self._forecast is None else chosen(self._forecast, kept)

    # --- saved and restored

    def state_dict(self) -> dict[str, Any]:
        """Accounts, tests and the forecast."""
        return {
            "pairs": [pair.name for pair in self.ledger.pairs],
            "ledger": self.ledger.state_dict(),
            "tests": (dict(self._passed), dict(self._failed)),
            "refused": dict(self.refused),
            "changed": dict(self.changed),
            "forecast": None if self._forecast is None else state(self._forecast),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.ledger.keep(saved["pairs"])
        self.ledger.load_state_dict(saved["ledger"])
        for own, counts in zip((self._passed, self._failed), saved["tests"], strict=True):
            own.update(counts)
        self.refused, self.changed = dict(saved["refused"]), dict(saved["changed"])
        self._marks, self._expected = None, {}
        names = [pair.name for pair in self.ledger.pairs]
        if saved["forecast"] is not None and names == list(saved["pairs"]):
            self._forecast = restored(saved["forecast"], self.ledger.layout.signs)
