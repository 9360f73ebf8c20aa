"""The running state of pairs that move by the same rule: one pass over gradients or momentum buffers per step."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.pairs import Pair
from saddlescope.monitor.rules import Rule, State, advanced, differing, rule
from saddlescope.monitor.symmetry import block_dot, layout
from saddlescope.monitor.uses import Heads

FOLD = 64
"""Steps whose changes are kept before they are searched for the largest."""


class Account:
    """The pairs whose weights lie in the same groups of parameters of one optimizer, which is not kept alive."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        optimizer: Any,
        groups: Iterable[int],
        weights: Mapping[str, Tensor],
        heads: Mapping[str, Heads],
    ) -> None:
        self.pairs, self.groups = tuple(pairs), sorted(groups)
        self.layout = layout(pairs, heads, weights[pairs[0].parameters[0]].device)
        self.weights = [weights[name] for name in self.layout.parameters]
        self.state: State | None = None
        self._optimizer = weakref.ref(optimizer)
        self._momentum = False
        self.noting = False
        """Whether the next step is to be kept in ``noted``."""
        self.noted: tuple[Tensor, Tensor] | None = None
        """``‖g_u‖²`` and ``‖g_w‖²`` (P,) of the gradients that a step used."""
        self._changes: list[Tensor] = []
        self._steps = 0
        self._largest, self._at = torch.zeros(len(pairs)), torch.zeros(len(pairs))

    @property
    def optimizer(self) -> Any:
        """The optimizer, None if it is gone."""
        return self._optimizer()

    @property
    def rule(self) -> Rule:
        """The constants of the next step."""
        return rule(self.optimizer.param_groups[self.groups[0]])

    def differing(self) -> dict[str, str]:
        """Pairs whose weights now move by different constants, with the reason."""
        if len(self.groups) == 1 or not (why := differing(self.optimizer, self.groups)):
            return {}
        return {pair.name: why for pair in self.pairs}

    def rows(self) -> dict[str, State]:
        """The state of every pair by its name, nothing before the start."""
        if self.state is None:
            return {}
        columns = (getattr(self.state, one.name).unbind() for one in fields(State))
        return {pair.name: State(*row) for pair, row in zip(self.pairs, zip(*columns, strict=True), strict=True)}

    def begin(self, saved: Mapping[str, State]) -> None:
        """Start from saved states, or from the weights; measure C where momentum has been switched on or off.

        A new optimizer has no buffers yet, whatever C was saved.
        """
        momentum = bool(self.rule.momentum)
        if self.state is not None and momentum == self._momentum:
            return
        now, self._momentum = self._measured(), momentum
        if self.state is not None:
            self.state = State(self.state.imbalance, now.mixed, now.fresh)
            return
        self.state = now
        rows = [saved.get(name, row) for name, row in self.rows().items()]
        Q, C, fresh = (torch.stack([getattr(row, one.name) for row in rows]) for one in fields(State))
        new = now.fresh > 0
        self.state = State(Q, torch.where(new, now.mixed, C), torch.where(new, now.fresh, fresh))

    def _measured(self) -> State:
        """Q, C and where buffers are missing, from weights and buffers as they are."""
        x, m = self._weights_and_buffers()
        missing = [
            torch.full_like(xm, buffer is None)
            for xm, buffer in zip(self.layout.dots(x, m), self._buffers(), strict=True)
        ]
        fresh = torch.stack(self.layout.sides(missing)).sum(0) > 0
        Q, C = (self.layout.differences(self.layout.dots(x, other)) for other in (x, m))
        return State(Q, C, fresh.to(Q))

    def momentum(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """‖m_u‖², ‖m_w‖² and C of every pair by its name, as they are; nothing without momentum."""
        if not self.rule.momentum:
            return {}
        x, m = self._weights_and_buffers()
        columns = *self.layout.sides(self.layout.dots(m, m)), self.layout.differences(self.layout.dots(x, m))
        return dict(zip((pair.name for pair in self.pairs), zip(*columns, strict=True), strict=True))

    def _weights_and_buffers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Both by parameter; 0 where there is no buffer."""
        x = [weight.detach() for weight in self.weights]
        m = [torch.zeros_like(a) if b is None else b for a, b in zip(x, self._buffers(), strict=True)]
        return x, m

    def _buffers(self) -> list[Tensor | None]:
        states = self.optimizer.state
        return [states[weight].get("momentum_buffer") if weight in states else None for weight in self.weights]

    # --- one step

    def advance(self) -> dict[str, str]:
        """Take the step that the optimizer has just taken; pairs that the identity has left, with the reason."""
        if self.state is None:
            return {}
        rule, gradients = self.rule, [weight.grad for weight in self.weights]
        refused, active = ({}, None) if _plain(gradients) else self._absent(gradients)
        buffers = self._buffers() if rule.momentum else []
        gm = self._sum(gradients, buffers) if rule.nesterov else None
        mm = self._sum(buffers, buffers) if rule.momentum else None
        gg = self._sum(gradients, gradients) if mm is None or rule.nesterov else mm
        if self.noting:
            self.noted, self.noting = self.layout.sides(self._dots(gradients, gradients)), False
        after = advanced(self.state, rule, gg, gm, mm)
        skipped = getattr(self.optimizer, "found_inf", None)
        if skipped is not None:  # a fused step under a GradScaler decides on the device
            taken = skipped.to(self.layout.signs.device) == 0
            active = taken if active is None else active & taken
        if active is not None:
            after = State(
                *(torch.where(active, getattr(after, one.name), getattr(self.state, one.name)) for one in fields(State))
            )
        self._changes.append(after.imbalance - self.state.imbalance)
        self._steps += 1
        if len(self._changes) == FOLD:
            self._fold()
        self.state = after
        return refused

    def _sum(self, x: Sequence[Tensor | None], y: Sequence[Tensor | None]) -> Tensor:
        """``⟨x, y⟩`` (P,), where what is missing counts as 0."""
        return self.layout.differences(self._dots(x, y))

    def _dots(self, x: Sequence[Tensor | None], y: Sequence[Tensor | None]) -> list[Tensor]:
        """``x·y`` of every block."""
        return [
            weight.new_zeros(split.count if split else 1) if a is None or b is None else block_dot(a, b, split)
            for a, b, weight, split in zip(x, y, self.weights, self.layout.heads, strict=True)
        ]

    def _absent(self, gradients: list[Tensor | None]) -> tuple[dict[str, str], Tensor]:
        """Pairs of which only a part has a usable gradient, with the reason, and the mask (P,) of those that move."""
        given = {
            name: gradient is not None and not gradient.is_sparse
            for name, gradient in zip(self.layout.parameters, gradients, strict=True)
        }
        sparse = {name for name, one in zip(given, gradients, strict=True) if one is not None and one.is_sparse}
        refused = {}
        for pair in self.pairs:
            without = [name for name in pair.parameters if not given[name]]
            if sparse.intersection(without):
                refused[pair.name] = f"the gradient of {without[0]} is sparse"
            elif 0 < len(without) < len(pair.parameters):
                refused[pair.name] = f"{without[0]} had no gradient in a step in which the rest of the pair had one"
        active = [all(given[name] for name in pair.parameters) for pair in self.pairs]
        for i, name in enumerate(given):
            gradients[i] = gradients[i] if given[name] else None
        return refused, torch.tensor(active, device=self.layout.signs.device)

    # --- the largest change

    def _fold(self) -> None:
        """Search the changes that were kept for the largest of each pair."""
        if not self._changes:
            return
        changes = torch.stack([self._largest.to(self._changes[0]), *self._changes])
        at = changes.abs().argmax(0)
        self._largest = changes.gather(0, at[None])[0]
        first = self._steps - len(self._changes) - 1
        self._at = torch.where(at > 0, at + first, self._at.to(at.device))
        self._changes = []

    def largest(self, clear: bool) -> dict[str, tuple[Tensor, Tensor]]:
        """The largest change in one step since the last clearing and how many steps ago it was, by name."""
        self._fold()
        ago = self._steps - 1 - self._at
        found = zip(self._largest.unbind(), ago.unbind(), strict=True)
        if clear:
            self._largest = torch.zeros_like(self._largest)
        return dict(zip((pair.name for pair in self.pairs), found, strict=True))


def _plain(gradients: Sequence[Tensor | None]) -> bool:
    """Whether every gradient is there and dense."""
    return all(one is not None and not one.is_sparse for one in gradients)
