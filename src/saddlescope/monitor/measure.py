"""One measurement of a model: hooks on, what they saw, the values of every quantity."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from saddlescope import _warnings
from saddlescope.monitor import modes, noise, products, rank, structure
from saddlescope.monitor._torch import Tensor, nn, torch
from saddlescope.monitor.balance import LARGER, Balance
from saddlescope.monitor.capture import CHECK, NO_CROSS, NO_GRADIENT, NOT_FINITE, NOT_RECORDED, REFUSED, Capture
from saddlescope.monitor.compiled import rows
from saddlescope.monitor.coverage import NO_PAIR, PREDICTED, SKIPPED, UNPREDICTED, WATCHED, Row, listed
from saddlescope.monitor.coverage import NOT_RECORDED as MISSED
from saddlescope.monitor.directions import Directions, leading
from saddlescope.monitor.intervals import WINDOW
from saddlescope.monitor.loss import Listener, couples, doubts, read
from saddlescope.monitor.pairs import Pair
from saddlescope.monitor.probe import averaged, summed
from saddlescope.monitor.record import Values, merged
from saddlescope.monitor.sample import Sample, Scale, pooled
from saddlescope.monitor.settings import Settings
from saddlescope.monitor.sites import Site, fingerprint, layout, shared
from saddlescope.monitor.uses import Heads
from saddlescope.monitor.variables import MEANINGS, Status

WARNED = (CHECK, NO_GRADIENT, NOT_FINITE, NOT_RECORDED, NO_CROSS)
"""Flags that are warned of; a refusal brings its own reason."""


COMPILED = "only weights: the model is compiled; call watch.probe(loss_fn, batch) before every step"
VECTOR = "is a vector, and only matrices are watched without data"
NO_OPTIMIZER = "no step of an optimizer was seen until the last record; pass it as Watch(optimizer=…)"
"""Reasons in the coverage."""


class Measurement:
    """What a ``Watch`` measures with: the layout of the model, warm directions, and what is open at the moment."""

    def __init__(
        self, model: nn.Module, given: Settings, heads: Mapping[str, Heads], pairs: Iterable[Any] | None, group: Any
    ) -> None:
        self._model, self._set, self._group = model, given, group
        self.heads = structure.agreeing(model, heads)
        self._lay_out()
        self.capture = Capture(model, self.layout, {}, 0, set())
        self._hooks, self._scale = False, Scale()
        self._directions: dict[str, Directions] = {}
        self._along: dict[str, Directions] = {}
        self._ranks: Values = {}
        self.fixed: Mapping[str, Directions] = {}
        """Directions of the modes in place of those of the weights as they are."""
        self._controls: dict[str, tuple[Tensor, Tensor]] = {}
        self._bases: dict[str, Tensor] = {}
        self._balance = Balance(model, pairs, self.heads, given.strict) if "balance" in given.quantities else None
        self.optimizer: Any = None
        """The optimizer that is followed."""
        self._declines: dict[str, products.Decline] = {}
        self._totals: deque[tuple[Tensor, Tensor]] = deque(maxlen=WINDOW)
        self._seen: dict[str, tuple[int, str]] = {}
        self._rates: Mapping[str, Tensor] = {}
        self._said: set[Any] = set()
        self._heard, self._doubts, self._coupled = False, "", False

    def _lay_out(self) -> None:
        self.layout = layout(self._model, self.heads)
        self._shared = shared(self.layout.taps)
        self._interfaces = rank.interfaces(self._model)

    # --- one sample

    def start(self, hooks: bool) -> None:
        """Take the directions of the weights as they are, and prepare the hooks; none without ``hooks``."""
        if fingerprint(self._model) != self.layout.fingerprint:
            self._lay_out()
        self._scale = Scale(self._set.reduction, self._set.scale())  # a GradScaler may change it within the step
        needs, self._hooks = self._set.quantities, hooks and self._set.needs_data
        if self._balance is not None:
            self._balance.begin()
        self._directions = self.leading() if needs & {"modes", "rank"} else {}
        of_weights = "rank" in needs  # now, as an optimizer step may follow inside the context
        self._ranks = rank.measure(self.layout.sites, self._directions, self._interfaces) if of_weights else {}
        self._along = (
            {name: self._fixed(name, one) for name, one in self._directions.items()} if "modes" in needs else {}
        )
        frames = {name: modes.frame(one, self._control(name, one)) for name, one in self._along.items()}
        self.capture = Capture(
            self._model, self.layout, frames, self._set.squares, self._shared, self._group is not None,
            self._interfaces if "rank" in needs and self._group is None else {},
            self._balance.ledger.layout.parameters if self._balance is not None else (),
        )  # fmt: skip

    def attach(self, batch: Any = None) -> None:
        """Put the hooks on; the batch tells the number of samples until the model is called."""
        if self._hooks and not self.capture.open_hooks:
            self.capture.open(samples=rows(batch))

    def detach(self) -> None:
        """Remove all hooks."""
        self.capture.close()

    def listening(self) -> contextlib.AbstractContextManager[Any]:
        """A context that hears the first loss that is differentiated."""
        return contextlib.nullcontext() if self._heard or not self._hooks else Listener(self.hear)

    def hear(self, loss: Tensor) -> None:
        """Read a loss, if it is the first."""
        if not self._heard and loss.grad_fn is not None:
            self._heard = True
            self._doubts = doubts(read(loss), self._scale.reduction, self._scale.loss_scale)
            self._coupled = couples(loss)

    def finish(
        self, step: int, gradients: Mapping[str, Tensor] | None = None, batch_size: int | None = None
    ) -> tuple[int, Values]:
        """Batch size and values of the step; a probe gives its gradients, and the batch size of the training step."""
        raws = self.capture.finish()
        for name, gradient in (gradients or {}).items():
            self.capture.took(name, gradient)
        self.capture.settle()
        if self._group is not None and self._hooks and gradients is not None:
            for name, gradient in averaged(gradients, self._group).items():
                self.capture.take(name, gradient)
            batch_size = summed(batch_size or 0, self._group)
        refused = ""
        if self.layout.batch_norm or self._coupled:
            refused = f"{self.layout.batch_norm or 'the model'} has a BatchNorm in training, which couples samples"
        sample = pooled(
            step,
            self.layout.sites,
            raws,
            self._along,
            self._scale,
            refused if self._hooks else None,
            self._balance.per_sample if self._balance is not None else lambda squares: {},
            group=self._group if self._hooks else None,
        )
        self._note(sample)
        batch_size = batch_size or sample.batch_size
        return batch_size, self._values(sample, batch_size)

    def _values(self, sample: Sample, batch_size: int) -> Values:
        needs = self._set.quantities
        parts = [modes.strengths(self._along or self._directions)] if self._directions else []
        parts.append(self._ranks)
        if "modes" in needs and self._hooks:
            parts.append(modes.measure(sample))
        if "noise" in needs and self._hooks:
            parts.append(noise.measure(sample))
            parts.append(noise.scale(self._totals, parts[-1]))
        if self._balance is not None and self._hooks:
            parts.append(self._balance.measure(sample, batch_size, self._of_step(batch_size)))
            self._rates = parts[-1].get("imbalance_predicted", {}) | parts[-1].get("balance_noise", {})
            for why, names in _grouped(self._balance.refused).items():
                self.say(("pair", why), f"no rescaling pair: {listed(names)}: {why}")
            for why, names in _grouped(self._balance.changed).items():
                if why == LARGER:
                    self.say(why, f"before step {sample.step}, as seen at {listed(names)}, {why}")
            if self._balance.stalled:
                self.say("stalled", self._balance.stalled)
        if "log_det" in self._ranks and self._hooks:  # after the pairs, which notice gradients that were changed
            parts.append({"log_det_predicted": self._predicted(sample)})
        return merged(*parts)

    def _of_step(self, batch_size: int) -> float:
        """By what the gradient of a step of the optimizer exceeds that of the mean loss; DDP averages over ranks."""
        ranks = 1 if self._group is None else self._group.size()
        return 1.0 if self._set.reduction == "mean" else batch_size / ranks

    def _predicted(self, sample: Sample) -> dict[str, Tensor]:
        """The log determinants predicted from the gradients of the products."""
        factor = self._scale.of_gradient(sample.batch_size) * self._of_step(sample.batch_size)
        for name, log_det in self._ranks["log_det"].items():
            J, ends = self.capture.products.gradients.get(name), self._interfaces[name]
            weights = tuple(self.layout.sites[end].parameter for end in ends)
            changed = self._balance is not None and name in self._balance.changed
            rate = math.nan if J is None or changed else products.rate(J * factor, self.optimizer, weights)
            self._declines[name] = products.extended(self._declines.get(name), sample.step, float(log_det), rate)
        return {name: torch.tensor(one.predicted, dtype=torch.float64) for name, one in self._declines.items()}

    def leading(self) -> dict[str, Directions]:
        """Leading singular pairs of every weight as it is now."""
        found = {}
        for name, site in self.layout.sites.items():
            if site.shape is not None:
                W = site.parameter.detach().reshape(site.shape)
                found[name] = leading(W, self._set.modes, self._bases.get(name))
                self._bases[name] = found[name].basis
        return found

    def _fixed(self, name: str, own: Directions) -> Directions:
        site, fixed = self.layout.sites[name], self.fixed.get(name)
        return own if fixed is None else modes.along(site.parameter.detach().reshape(site.shape), fixed)

    def _control(self, name: str, directions: Directions) -> tuple[Tensor, Tensor]:
        U, V = directions.U, directions.V
        known = self._controls.get(name)
        if known is None or known[0].shape != U.shape or known[1].shape != V.shape:
            seed = sum(name.encode())  # of the name, so that a resumed training draws the same
            known = self._controls[name] = modes.random_pairs((len(U), len(V)), U.shape[1], U, seed)
        return known

    def follow(self, optimizer: Any) -> None:
        """Follow the steps of an optimizer."""
        self.optimizer = optimizer
        if self._balance is not None:
            self._balance.follow(optimizer)

    # --- what is said

    def _note(self, sample: Sample) -> None:
        """Keep the state of every parameter; warn once of each kind of fault, or raise if strict."""
        self._seen = {name: (one.status, one.why) for name, one in sample.seen.items()}
        if not self._hooks:
            return
        for flag in WARNED:
            if names := [name for name, (status, _) in self._seen.items() if status & flag]:
                self.say(flag, f"{listed(names)} at step {sample.step}: {MEANINGS[Status(flag)]}")
        if self._doubts:
            self.say("loss", self._doubts)
        refused = {name: why for name, (status, why) in self._seen.items() if status & REFUSED}
        for why, names in _grouped(refused).items():
            self.say((REFUSED, why), f"{listed(names)} at step {sample.step} not seen per sample: {why}")

    def say(self, key: Any, message: str) -> None:
        """Warn once for a key; raise if strict."""
        if key in self._said:
            return
        self._said.add(key)
        if self._set.strict:
            raise RuntimeError(message)
        _warnings.warn(f"monitor: {message}")

    def coverage(self) -> tuple[Row, ...]:
        """Name, state and reason of every parameter, and of every pair that was tested."""
        rows = [(name, *self._covered(site)) for name, site in self.layout.sites.items()]
        rows += [(name, SKIPPED, reason) for name, reason in self.layout.skipped.items()]
        return (*rows, *self._pairs())

    def _covered(self, site: Site) -> tuple[str, str]:
        """State and reason of a parameter."""
        status, why = self._seen.get(site.name, (0, ""))
        if not self._set.needs_data or (self._seen and not self._hooks):
            if site.shape is None:
                return SKIPPED, VECTOR
            return WATCHED, COMPILED if self._set.needs_data else ""
        if site.reason and (site.name not in self._seen or status & REFUSED):
            return SKIPPED, why or site.reason
        flags = [flag for flag in (REFUSED, NOT_RECORDED, NO_GRADIENT) if status & flag]
        if flags:
            return MISSED, why or MEANINGS[Status(flags[0])]
        return (SKIPPED, why) if why else (WATCHED, "")

    def _pairs(self) -> list[Row]:
        """Name, state and reason of every pair."""
        if self._balance is None:
            return []
        why = {pair.name: "" if pair.name in self._rates else NO_OPTIMIZER for pair in self._balance.used}
        unknown = {name for name, one in self._rates.items() if not math.isfinite(one)}
        why |= {pair.name: self._unseen(pair) for pair in self._balance.used if pair.name in unknown}
        why |= self._balance.uncovered
        undivided = {
            name: f"not divided into noise and gradient: {one}" for name, one in self._balance.undivided.items()
        }
        rows = [
            (name, UNPREDICTED, reason) if reason else (name, PREDICTED, undivided.get(name, ""))
            for name, reason in why.items()
        ]
        return rows + [(name, NO_PAIR, reason) for name, reason in self._balance.refused.items()]

    def _unseen(self, pair: Pair) -> str:
        """Why the last record does not show the samples of a pair."""
        for name in pair.parameters:
            state, why = self._covered(self.layout.sites[name])
            if state != WATCHED or self._seen[name][0] & NOT_FINITE:
                return why or MEANINGS[Status.NOT_FINITE]
        return "the samples of the last record have no variance, as in a batch of one"

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """What directions start from, and the last records of the noise scale."""
        return {
            "bases": {name: basis.cpu() for name, basis in self._bases.items()},
            "balance": None if self._balance is None else self._balance.state_dict(),
            "declines": {name: vars(one) for name, one in self._declines.items()},
            "totals": [tuple(value.cpu() for value in pair) for pair in self._totals],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        sites = self.layout.sites
        if self._balance is not None and state["balance"] is not None:
            self._balance.load_state_dict(state["balance"])
        self._declines = {name: products.Decline(**one) for name, one in state["declines"].items()}
        self._totals.extend(state["totals"])
        self._bases = {
            name: basis.to(sites[name].parameter.device) for name, basis in state["bases"].items() if name in sites
        }

    def close(self) -> None:
        """Remove everything from the model and the optimizer."""
        self.detach()
        if self._balance is not None:
            self._balance.close()


def _grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by their reason.

    >>> _grouped({"a": "frozen", "b": "shared", "c": "frozen"})
    {'frozen': ['a', 'c'], 'shared': ['b']}
    """
    found: dict[str, list[str]] = {}
    for name, why in reasons.items():
        found.setdefault(why, []).append(name)
    return found
