"""One sampled step: hooks on layers and parameters, and what they saw of every sample.

A forward hook keeps the input of a layer (autograd keeps it too) and puts a hook on its output. When the output
gradient arrives in the backward pass, the two become a use of each parameter (``layers``), and the use becomes numbers
of every sample (``uses``): projections on the directions, squares. Nothing else is kept. A hook on each parameter reads
its gradient when it has been accumulated, before anything clips it.

Micro-batches are distinguished by the backward pass that they belong to (``passes``): uses within one pass are of the
same samples and are added with their cross term; different passes hold different samples.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from saddlescope.monitor import nodes
from saddlescope.monitor._torch import Tensor, torch, wide
from saddlescope.monitor.layers import NotSamples
from saddlescope.monitor.passes import Call, Passes
from saddlescope.monitor.products import Interfaces, Products
from saddlescope.monitor.rows import unclear, why_not_samples
from saddlescope.monitor.sites import Layout, Site, Tap, products
from saddlescope.monitor.uses import Heads, Use, inner
from saddlescope.monitor.variables import Status
from saddlescope.monitor.vectors import Sums

PackedSequence = torch.nn.utils.rnn.PackedSequence

CHECK, NO_GRADIENT, NOT_FINITE, NOT_RECORDED, REFUSED, NO_CROSS, _ = (flag.value for flag in Status)
"""Flags of the status of a weight in a record."""

BESIDES = "its samples do not add up to the gradient (a penalty, or a use besides its layer): its trace is left out"
"""Why a vector has no trace."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Directions to project on: the columns of U (m, k) and V (n, k), and of the random control beside them."""

    U: Tensor
    V: Tensor
    control_U: Tensor
    control_V: Tensor

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Both in one, (m, 2k) and (n, 2k)."""
        return torch.cat([self.U, self.control_U], 1), torch.cat([self.V, self.control_V], 1)


@dataclass(eq=False)
class Raw:
    """What a parameter contributed, in units of its gradient: one entry per backward pass in each list.

    ``projections`` (n, 2k) on directions and control, ``squares`` (b, H). Of the gradient, of all passes together:
    ``along`` (2k,) ``uᵀgv``, and ``own`` of this rank alone, ``norm2`` (H,) its square, ``euler`` (H,) its product with
    the parameter.
    """

    projections: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    along: Tensor | None = None
    own: Tensor | None = None
    norm2: Tensor | None = None
    euler: Tensor | None = None
    touched: bool = False
    """Whether a pass of this rank added to the gradient."""
    flags: int = 0
    why: str = ""
    quiet: bool = False
    """Refused because it is the same for all samples, which is no fault."""
    precision: float = 0.0
    """The largest rounding unit of the signals that were seen."""


@dataclass(eq=False)
class _Pass:
    """Uses of one parameter in one backward pass."""

    projections: Tensor | None
    squares: Tensor | None
    samples: int
    uses: list[Use] = field(default_factory=list)


class Capture:
    """Hooks from ``open`` to ``close``; what they saw is in ``raw``, by the name of the parameter."""

    def __init__(
        self,
        model: Any,
        layout: Layout,
        frames: Mapping[str, Frame],
        squares: int | None,
        shared: set[str],
        reduced: bool = False,
        interfaces: Interfaces = MappingProxyType({}),
        scaled: Collection[str] = (),
    ) -> None:
        """``squares`` is the number of samples whose squares are taken in a pass: None for all, 0 for none.

        ``shared`` names parameters with more than one use in a pass, and takes those that turn out to have.
        ``reduced``: gradients become means over ranks at the end of a pass. ``scaled``: parameters whose product with
        their gradient is wanted.
        """
        self._model, self._layout, self._count = model, layout, squares
        self._pairs = {name: frame.pairs for name, frame in frames.items()}
        self._per_sample = not layout.batch_norm and bool(frames or squares != 0)
        self._shared, self._scaled = shared, frozenset(scaled)
        self.products = Products(interfaces)
        vectors = {name for name, site in layout.sites.items() if site.shape is None}
        self._sums = Sums(vectors - set(layout.vectors) if self._per_sample and squares != 0 else ())
        self._lookups: dict[Any, tuple[str, str, Call]] = {}
        self._elsewhere: set[Call] = set()
        self._called: set[str] = set()
        self._handles: list[Any] = []
        self._now, self._reads = Passes(self._reduced if reduced else None), False
        self._passes: dict[str, dict[int, _Pass]] = {}
        self._counted: set[tuple[str, int]] = set()
        self._before: dict[str, Tensor] = {}
        self._begun: set[str] = set()
        self._batch: int | None = None
        self.raw: dict[str, Raw] = {name: Raw() for name in layout.sites}

    def open(self, gradients: bool = True, samples: int | None = None) -> None:
        """Put the hooks on; without ``gradients`` they are given to ``take`` instead of being accumulated.

        ``samples`` is the size of the batch, until the model itself is called and tells.
        """
        self._batch = samples
        if self._per_sample:
            self._handles.append(self._model.register_forward_pre_hook(_Hook(self._enter), with_kwargs=True))
            self._handles += [tap.layer.register_forward_hook(_Hook(_Forward(self, tap))) for tap in self._layout.taps]
            self._handles += [
                module.register_forward_pre_hook(_Hook(partial(self._turned, name)), with_kwargs=True)
                for name, module in self._layout.by_position
            ]
            if self._layout.raw or any(isinstance(tap.layer, torch.nn.Embedding) for tap in self._layout.taps):
                self._handles.append(self._model.register_forward_hook(_Hook(self._leave)))
        self._reads = gradients
        if gradients:
            for name, site in self._layout.sites.items():
                self._handles.append(site.parameter.register_hook(partial(self._adds, name, site.parameter)))
                self._handles.append(site.parameter.register_post_accumulate_grad_hook(_Gradient(self, site)))

    def close(self) -> None:
        """Remove all hooks."""
        while self._handles:
            self._handles.pop().remove()

    def finish(self) -> dict[str, Raw]:
        """What was seen, once all passes are over."""
        self.close()
        for name, passes in self._passes.items():
            raw = self.raw[name]
            for number, one in passes.items():
                if not self._counts(name, number):
                    continue
                if one.projections is not None:
                    raw.projections.append(one.projections)
                if one.squares is not None:
                    raw.squares.append(one.squares)
                raw.samples.append(one.samples)
                self._counted.add((name, number))
        self._passes, self._before = {}, {}
        return self.raw

    def settle(self) -> None:
        """Drop the squares of vectors whose samples do not add up to the gradient; once that is known, it holds."""
        known = self._layout.vectors
        found = self._sums.agree(
            lambda name: self.raw[name].precision, lambda name, number: (name, number) in self._counted
        )
        known |= {name: right for name, right in found.items() if not self.raw[name].flags & REFUSED}
        for name in (name for name, right in known.items() if not right):
            self.raw[name].flags |= CHECK
            self.raw[name].squares, self.raw[name].why = [], BESIDES

    def _counts(self, name: str, number: int) -> bool:
        """Whether a pass is part of the gradient of a parameter."""
        return not self._reads or self._now.added(name, number)

    @property
    def open_hooks(self) -> int:
        """Number of hooks that are on."""
        return len(self._handles)

    def _adds(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        """Before a pass adds to ``.grad``: keep what earlier steps left there, drop passes that were cleared."""
        if parameter.grad is None:
            passes = self._passes.get(name, {})
            self._passes[name] = {task: one for task, one in passes.items() if task == self._now.now()}
            self._before.pop(name, None)
        elif name not in self._begun:
            self._before[name] = parameter.grad.detach().clone()
        self._begun.add(name)

    def take(self, name: str, gradient: Tensor | None, own: bool = False) -> None:
        """Read the gradient of a parameter, the sum over all passes so far; ``own`` if it is that of this rank."""
        if gradient is None:
            return
        with torch.no_grad():
            self._take(name, gradient, own)

    def _reduced(self) -> None:
        """Read all gradients, now means over ranks."""
        if self._handles and self._reads:
            for name, site in self._layout.sites.items():
                self.take(name, site.parameter.grad)

    def took(self, name: str, gradient: Tensor | None) -> None:
        """Read the gradient of a parameter after a pass has added to it."""
        self._now.adds(name)
        self.take(name, gradient, own=True)
        raw = self.raw[name]
        raw.own, raw.touched = raw.along, True

    def _take(self, name: str, gradient: Tensor, own: bool) -> None:
        raw, site = self.raw[name], self._layout.sites[name]
        g = (gradient.to_dense() if gradient.is_sparse else gradient).detach().to(wide(gradient.dtype))
        if name in self._before:
            g = g - self._before[name].to(g.dtype)
        raw.norm2 = products(g, g, site)
        if own:
            self._sums.gradient(name, g)
        if name in self._scaled:
            raw.euler = products(g, site.parameter.detach().to(g.dtype), site)
        if name in self._pairs:
            U, V = self._pairs[name]
            raw.along = ((g.reshape(site.shape) @ V.to(g.dtype)) * U.to(g.dtype)).sum(0)

    def _enter(self, model: Any, args: Any, kwargs: Any) -> None:
        given = (*args, *kwargs.values())
        packed = next((x for x in given if isinstance(x, PackedSequence)), None)
        first = next((x for x in _tensors(given) if x.dim()), None)
        self._batch = None if first is None else len(first) if packed is None else int(packed.batch_sizes[0])

    def _turned(self, name: str, module: Any, args: Any, kwargs: Any) -> None:
        """Refuse what a layer that takes (positions, samples) shows to have its rows in an unknown order."""
        given = next(iter((*args, *kwargs.values())), None)
        if isinstance(given, PackedSequence):
            names = [own for own, site in self._layout.sites.items() if _owns(module, site.parameter)]
            self.refuse(names, "is given a packed sequence, which has fewer rows at later positions")
        elif isinstance(given, Tensor) and given.dim() > 2 and not module.batch_first and len(given) == self._batch:
            why = f"{name} takes the batch as its second dimension, so rows may be positions; use batch_first=True"
            self.refuse(self.raw, why)

    def _leave(self, model: Any, args: Any, out: Any) -> None:
        """Put hooks on the nodes that use parameters of no supported layer."""
        if not torch.is_grad_enabled() or not self._batch:
            return
        own = itertools.chain(model.parameters(), model.buffers())
        lookups, self._lookups = self._lookups, {}
        if not (lookups or self._layout.raw):
            return
        names = {node: name for node, (name, *_) in lookups.items()}
        found = nodes.find(_tensors([out]), self._layout.raw, self._batch, own, names)
        broadcast = {one.lookup for one in found}
        for node, (name, why, call) in lookups.items():
            if node in broadcast:
                self._elsewhere.add(call)
            elif why:
                self.refuse([name], why, quiet=True)
        again = Counter(one.name for one in found)
        self._shared.update(name for name, count in again.items() if count > 1)
        self._handles += [one.node.register_prehook(partial(self._met, one, Call())) for one in found]

    def _met(self, found: nodes.Found, call: Call, gradients: tuple[Tensor | None, ...]) -> None:
        with torch.no_grad():
            given = tuple(one.detach() for one in gradients if one is not None)
            if self._handles and given:
                self._guarded([found.name], lambda now: self._one(found.name, now, found.use(given)), given[0], call)

    def later(self, tap: Tap, call: Call, x: Tensor, node: Any, why: str) -> bool:
        """Whether a lookup, if it is the same for all samples, is left to the node that broadcasts it to them."""
        possible = isinstance(tap.layer, torch.nn.Embedding) and node is not None and "Embedding" in node.name()
        if possible and self._batch and (why or unclear(x, self._batch)):
            self._lookups[node] = tap.sites["weight"], why, call
        return possible

    def why_not(self, tap: Tap, x: Tensor) -> str:
        """Why the rows of an input are not samples."""
        if self._batch is None:
            return ""
        key, known = (tap.name, x.shape, self._batch), self._layout.known
        if key not in known:
            known[key] = why_not_samples(x, self._batch)
        return known[key]

    def called(self, tap: Tap) -> None:
        """Note a call before a pass; a second one shares the parameters. Recomputed calls do not count."""
        if self._now.now() is None:
            if tap.name in self._called:
                self._shared.update(tap.sites.values())
            self._called.add(tap.name)

    def add(self, tap: Tap, call: Call, a: Tensor, d: Tensor, batch: int | None) -> None:
        """Take one use of a layer: its input and its output gradient."""

        def take(now: int) -> None:
            samples = len(a) if batch is None else batch
            flat = len(a) != samples  # samples and positions in one dimension
            x, y = (a.unflatten(0, (samples, -1)), d.unflatten(0, (samples, -1))) if flat else (a, d)
            uses = tap.uses(tap.layer, x, y, samples)
            for key, name in tap.sites.items():
                if key in uses:
                    self._one(name, now, uses[key])

        self._guarded(tap.sites.values(), take, d, call)

    def _guarded(self, names: Iterable[str], take: Callable[[int], None], d: Tensor, call: Call) -> None:
        """Take uses of these parameters in the pass that runs; what cannot be taken is refused with its reason."""
        self._called.clear()
        now = self._now.now(call)
        for name in names:
            self.raw[name].precision = max(self.raw[name].precision, torch.finfo(d.dtype).eps)
        try:
            take(now or 0)
        except (NotSamples, RuntimeError, IndexError, TypeError, ValueError) as error:
            self.refuse(names, str(error))

    def refuse(self, names: Iterable[str], why: str, quiet: bool = False) -> None:
        """Mark parameters as not seen; ``why`` is the end of a sentence that starts with their name."""
        for name in names:
            if quiet and self.raw[name].flags & REFUSED:
                continue
            self.raw[name].quiet = quiet
            self.raw[name].flags |= REFUSED
            self.raw[name].why = " ".join(why.split())[:160]

    def _one(self, name: str, task: int, use: Use) -> None:
        site, count = self._layout.sites[name], len(use) if self._count is None else self._count
        self.products.take(name, task, use)
        self._sums.take(name, task, use)
        projections = use.project(*self._pairs[name]) if name in self._pairs else None
        part = use.first(count) if count else None
        squares = part.squares(site.heads) if part is not None else None
        passes = self._passes.setdefault(name, {})
        if task not in passes:
            passes[task] = _Pass(projections, squares, len(use))
        else:
            self._again(name, passes[task], projections, squares, part, site.heads)
        if name in self._shared and part is not None:
            passes[task].uses.append(part)

    def _again(
        self,
        name: str,
        one: _Pass,
        projections: Tensor | None,
        squares: Tensor | None,
        part: Use | None,
        heads: Heads | None,
    ) -> None:
        """A further use of a parameter in the same pass, on the same samples."""
        if projections is not None and one.projections is not None:
            one.projections = one.projections + projections if len(projections) == len(one.projections) else None
        if squares is None or part is None or one.squares is None:
            return
        self._shared.add(name)  # if it was not known before, its uses are kept from the next sampled step on
        if not one.uses or len(squares) != len(one.squares):
            self.raw[name].flags |= NO_CROSS
            one.squares = None
            return
        one.squares = one.squares + squares + 2 * sum(inner(earlier, part, heads) for earlier in one.uses)


class _Hook:
    """A hook on a module; copies and pickles of the module have one that does nothing."""

    def __init__(self, function: Callable[..., None] = lambda *args: None) -> None:
        self._function = function

    def __call__(self, *args: Any) -> None:
        self._function(*args)

    def __reduce__(self) -> Any:
        return _Hook, ()


class _Forward:
    """The forward hook of one layer."""

    def __init__(self, capture: Capture, tap: Tap) -> None:
        self._capture, self._tap = capture, tap

    def __call__(self, layer: Any, args: tuple[Any, ...], out: Any) -> None:
        capture, tap, batch = self._capture, self._tap, self._capture._batch
        capture.called(tap)
        if not (torch.is_grad_enabled() and isinstance(out, Tensor) and out.requires_grad and args):
            return
        a = args[0].detach()
        call, version, shape = Call(), None if a.is_inference() else a._version, out.shape
        why = capture.why_not(tap, args[0])
        later = capture.later(tap, call, a, out.grad_fn, why)
        if why:
            if not later:
                capture.refuse(tap.sites.values(), why)
            return

        def seen(d: Tensor) -> None:
            if not capture.open_hooks or call in capture._elsewhere:
                return
            if version is not None and a._version != version:
                capture.refuse(tap.sites.values(), "had its input changed in place after it was called")
                return
            with torch.no_grad():
                capture.add(tap, call, a, d.detach().reshape(shape), batch)

        _own(out).register_hook(seen)


def _own(out: Tensor) -> Tensor:
    """The tensor whose hooks outlive a change of ``out`` in place: where this is a view of all of it, its base."""
    base = out._base if out._is_view() else None
    if base is None or base.numel() != out.numel() or not (base.is_contiguous() and out.is_contiguous()):
        return out
    return base if base.requires_grad else out


class _Gradient:
    """The hook that reads the gradient of one parameter after it was accumulated."""

    def __init__(self, capture: Capture, site: Site) -> None:
        self._capture, self._site = capture, site

    def __call__(self, parameter: Tensor) -> None:
        self._capture.took(self._site.name, parameter.grad)


def _owns(module: Any, parameter: Tensor) -> bool:
    return any(own is parameter for own in module.parameters())


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from _tensors(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
