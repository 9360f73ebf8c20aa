"""The account of every rescaling pair, at every step of its optimizer.

After each step, one pass over gradients or momentum buffers gives the squares by which imbalances change (``rules``).
They are added up in double precision on the device of the model; nothing waits for the device. An account is exact for
SGD with and without momentum. Pairs under other optimizers are measured without an account; so are pairs whose weights
have different constants, or of which only a part had a gradient.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saddlescope import _warnings
from saddlescope.monitor import structure
from saddlescope.monitor._torch import Tensor, nn, torch
from saddlescope.monitor.account import Account
from saddlescope.monitor.pairs import Pair
from saddlescope.monitor.record import Values
from saddlescope.monitor.rules import Rule, State, why_not
from saddlescope.monitor.symmetry import Layout, layout
from saddlescope.monitor.uses import Heads


class Ledger:
    """The accounts of pairs of a model; ``attach`` it to the optimizer that moves them.

    ``heads`` says how parameters are split into heads; by default as ``structure.heads`` finds. What goes wrong in a
    hook ends all accounts with a warning, and is raised if ``strict``.

    >>> from saddlescope.monitor.pairs import find
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    >>> ledger, sgd = Ledger(net, find(net)), torch.optim.SGD(net.parameters(), lr=0.1)
    >>> ledger.attach(sgd)
    >>> for _ in range(3):
    ...     sgd.zero_grad()
    ...     net(torch.ones(5, 3).double()).square().mean().backward()
    ...     sgd.step()
    >>> found = ledger.values()
    >>> abs(found["imbalance"]["0~2"] - found["imbalance_identity"]["0~2"]).item() < 1e-14
    True
    """

    def __init__(
        self, model: nn.Module, pairs: Iterable[Pair], heads: Mapping[str, Heads] | None = None, strict: bool = False
    ) -> None:
        self.heads = structure.heads(model) if heads is None else dict(heads)
        self.uncovered: dict[str, str] = {}
        """Why a pair has no account, by its name."""
        self.steps = 0
        """Steps of the optimizers that were seen."""
        self._strict, self._failed = strict, False
        self._weights = dict(model.named_parameters())
        self._saved: dict[str, State] = {}
        self._accounts: list[Account] = []
        self._groups: Any = weakref.WeakKeyDictionary()
        self._handles: list[Any] = []
        self._set(pairs)

    def _set(self, pairs: Iterable[Pair]) -> None:
        self.pairs = tuple(pairs)
        """The pairs, in the order of every tensor (P,)."""
        device = next((self._weights[name].device for pair in self.pairs for name in pair.parameters), None)
        self.layout: Layout = layout(self.pairs, self.heads, device or torch.device("cpu"))
        """Where their parts lie."""

    def keep(self, names: Iterable[str]) -> None:
        """Drop all other pairs."""
        wanted = set(names)
        if any(pair.name not in wanted for pair in self.pairs):
            self._save()
            self._set(pair for pair in self.pairs if pair.name in wanted)
            self._open()

    # --- hooks

    def attach(self, optimizer: Any) -> None:
        """Read every step of an optimizer from now on; the inner one of Lightning's and Accelerate's wrappers.

        Neither keeps the other alive. Raises TypeError for anything that is not an optimizer.
        """
        while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            optimizer = optimizer.optimizer
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
        if optimizer in self._groups:
            return
        self._spared(Ledger._admit, optimizer)
        self._handles += [
            optimizer.register_step_pre_hook(_weakly(self, Ledger._before)),
            optimizer.register_step_post_hook(_weakly(self, Ledger._after)),
        ]

    def _admit(self, optimizer: Any) -> None:
        self._save()
        self._groups[optimizer] = _sizes(optimizer)
        self._open()

    def _spared(self, method: Callable[[Ledger, Any], None], optimizer: Any) -> None:
        """Training is spared what goes wrong inside: all accounts end, and one warning says why; not if strict."""
        if self._failed:
            return
        try:
            method(self, optimizer)
        except Exception as error:
            if self._strict:
                raise
            self._failed, self._accounts = True, []
            words = f"the account raised {type(error).__name__}: {' '.join(str(error).split()):.200}"
            self.uncovered.update({pair.name: words for pair in self.pairs})
            _warnings.warn(f"monitor: balance is not accounted for from now on, since {words}")

    def detach(self) -> None:
        """Remove the hooks; the accounts continue if an optimizer is attached again."""
        self._save()
        while self._handles:
            self._handles.pop().remove()
        self._groups.clear()
        self._accounts = []

    def _before(self, optimizer: Any) -> None:
        if self._groups[optimizer] != _sizes(optimizer):
            self._admit(optimizer)
        self._close({name: why for account in self._of(optimizer) for name, why in account.differing().items()})
        for account in self._of(optimizer):
            account.begin(self._saved)

    def _after(self, optimizer: Any) -> None:
        self.steps += 1
        self._close({name: why for account in self._of(optimizer) for name, why in account.advance().items()})

    # --- accounts

    def _of(self, optimizer: Any) -> list[Account]:
        return [account for account in self._accounts if account.optimizer is optimizer]

    def _live(self) -> list[Account]:
        self._accounts = [account for account in self._accounts if account.optimizer is not None]
        return self._accounts

    def _open(self) -> None:
        """One account for the pairs whose weights lie in the same groups of parameters of an optimizer."""
        self._accounts = []
        for optimizer in self._groups:
            place = {id(p): i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}
            alike: dict[frozenset[int], list[Pair]] = {}
            for pair in self.pairs:
                groups = {name: place.get(id(self._weights[name])) for name in pair.parameters}
                own = frozenset(group for group in groups.values() if group is not None)
                if pair.name in self.uncovered or not own:
                    continue
                if why := why_not(optimizer, groups):
                    self.uncovered[pair.name] = why
                else:
                    alike.setdefault(own, []).append(pair)
            self._accounts += [
                Account(pairs, optimizer, groups, self._weights, self.heads) for groups, pairs in alike.items()
            ]

    def _close(self, refused: Mapping[str, str]) -> None:
        """End the accounts of pairs for which the identity does not hold any more."""
        if refused:
            self._save()
            self.uncovered.update(refused)
            self._open()

    def _save(self) -> None:
        """Keep the states of the accounts, by the name of the pair."""
        for account in self._accounts:
            self._saved.update(account.rows())

    # --- what is known

    def values(self) -> Values:
        """``imbalance``, measured, of all pairs, and ``imbalance_identity`` of those that have an account."""
        return {
            "imbalance": self.by_name(self.layout.differences(self.weights2())),
            "imbalance_identity": self.identity(),
        }

    def weights2(self) -> list[Tensor]:
        """``‖θ‖²`` of every block of the parameters of the layout, now."""
        x = [self._weights[name].detach() for name in self.layout.parameters]
        return self.layout.dots(x, x)

    def identity(self) -> dict[str, Tensor]:
        """The imbalance by the account; where it starts, before the first step."""
        for account in self._live():
            account.begin(self._saved)
        return {name: row.imbalance for account in self._accounts for name, row in account.rows().items()}

    def rules(self) -> dict[str, Rule]:
        """The constants of the next step, of the pairs that have an account."""
        return {pair.name: account.rule for account in self._live() for pair in account.pairs}

    def momentum(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """‖m_u‖², ‖m_w‖² and ``C = u·m_u − w·m_w`` now, of the pairs that have an account under momentum."""
        return {name: one for account in self._live() for name, one in account.momentum().items()}

    def note(self) -> None:
        """Keep what the next step uses, for ``noted``."""
        for account in self._accounts:
            account.noting, account.noted = True, None

    def noted(self) -> dict[str, tuple[Tensor, Tensor]]:
        """``‖g_u‖²`` and ``‖g_w‖²`` of the gradients used by the step after ``note``, of pairs that have an account."""
        return {
            pair.name: sides
            for account in self._accounts
            if account.noted is not None
            for pair, sides in zip(account.pairs, zip(*account.noted, strict=True), strict=True)
        }

    def largest(self, clear: bool = False) -> dict[str, tuple[Tensor, Tensor]]:
        """The largest change of an imbalance in one step since the last call with ``clear``, and how many steps ago."""
        return {name: one for account in self._accounts for name, one in account.largest(clear).items()}

    def by_name(self, values: Tensor) -> dict[str, Tensor]:
        """Numbers (P,) by the name of the pair."""
        return {pair.name: value for pair, value in zip(self.pairs, values.unbind(), strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """The accounts by the name of the pair."""
        self._save()
        accounts = {name: (row.imbalance, row.mixed, row.fresh) for name, row in self._saved.items()}
        return {"accounts": accounts, "uncovered": dict(self.uncovered), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the accounts of a ``state_dict``; pairs that are not in it start where they are."""
        self._saved = {
            name: State(*(torch.as_tensor(one).to(self.layout.signs) for one in row))
            for name, row in state["accounts"].items()
        }
        self.uncovered.update(state["uncovered"])
        self.steps = state["steps"]
        self._open()


def _sizes(optimizer: Any) -> list[int]:
    return [len(group["params"]) for group in optimizer.param_groups]


def _weakly(ledger: Ledger, method: Callable[[Ledger, Any], None]) -> Callable[[Any, Any, Any], None]:
    """A hook of an optimizer that does not keep the ledger alive."""
    own = weakref.ref(ledger)

    def hook(optimizer: Any, args: Any, kwargs: Any) -> None:
        if (ledger := own()) is not None:
            ledger._spared(method, optimizer)

    return hook
