"""Rescaling pairs of a model: two sets of weights u, w with ``loss(λu, w/λ) = loss(u, w)`` for every λ > 0.

    layers   a linear map and the next one, nothing but positively homogeneous functions between them
             (ReLU, LeakyReLU, pooling, dropout, flattening); the bias of the first belongs to u
    norm     scale and shift of a norm, and the linear map after it
    gated    ``down(f(gate x) · up x)``: up and down
    lora     the factors of ``W + BA``
    qk, ov   of every attention head: queries and keys, which meet in a product; values and output projection

Pairs in ``nn.Sequential``, in attention and in adapters follow from the structure. Of layers that a module keeps one
after the other, the order of use is unknown: such a pair is a candidate, ``certain=False``. Every pair is tested on
gradients before it is used (``saddlescope.monitor.symmetry``).
Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saddlescope._numbers import hint, shown
from saddlescope.monitor import structure
from saddlescope.monitor._torch import nn

_conv, _norm, _pool, _pad = (nn.modules.conv, nn.modules.batchnorm, nn.modules.pooling, nn.modules.padding)
LINEAR = (nn.Linear, _conv._ConvNd)
TABLES = (nn.Embedding, nn.EmbeddingBag)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _norm._NormBase)
HOMOGENEOUS = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Identity, nn.Flatten, nn.Unflatten, nn.Upsample),
    *(nn.modules.dropout._DropoutNd, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle),
    *(_pool._MaxPoolNd, _pool._AvgPoolNd, _pool._LPPoolNd, _pool._AdaptiveAvgPoolNd, _pool._AdaptiveMaxPoolNd),
    *(_pad._ReflectionPadNd, _pad._ReplicationPadNd, _pad._CircularPadNd),
)
"""``f(λx) = λf(x)`` for λ > 0."""
GATED = (("up_proj", "down_proj", "gate_proj"), ("w3", "w2", "w1"), ("wi_1", "wo", "wi_0"))


@dataclass(frozen=True)
class Part:
    """A parameter, or the block of it that belongs to one head, where ``heads`` says how it is split."""

    parameter: str
    head: int | None = None


@dataclass(frozen=True)
class Pair:
    """Weights u and w that can be rescaled against each other; ``kind`` is any word for the reader.

    >>> Pair("fc1~fc2", (Part("fc1.weight"), Part("fc1.bias")), (Part("fc2.weight"),)).name
    'fc1~fc2'
    """

    name: str
    u: tuple[Part, ...]
    w: tuple[Part, ...]
    kind: str = "declared"
    certain: bool = True
    """Whether the structure leaves no doubt; otherwise the test on gradients must hold three times."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters on both sides."""
        return tuple(dict.fromkeys(part.parameter for part in (*self.u, *self.w)))


def find(model: nn.Module) -> tuple[Pair, ...]:
    """Every pair that the structure of a model shows, without those of frozen or shared weights.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 1))
    >>> [pair.name for pair in find(net)]
    ['0~2']
    """
    attention = structure.attentions(model)
    inside = {block.name for block in attention}
    found: dict[tuple[tuple[Part, ...], tuple[Part, ...]], Pair] = {}
    for pair in (*_of_heads(attention), *_of_modules(model, inside)):
        known = found.get((pair.u, pair.w))
        if known is None or (pair.certain and not known.certain):
            found[pair.u, pair.w] = pair
    usable = _usable(model)
    return tuple(pair for pair in found.values() if usable.issuperset(pair.parameters))


def declared(model: nn.Module, given: Iterable[Any]) -> tuple[Pair, ...]:
    """Pairs from what a user writes: Pair objects, or two names (or tuples of names) of modules or parameters.

    A module stands for its weight and bias on the first side, for its weight on the second. Raises TypeError for
    anything else, ValueError for a name that the model has not.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> declared(net, [("0", "2")])[0].u
    (Part(parameter='0.weight', head=None), Part(parameter='0.bias', head=None))
    >>> declared(net, [("0", "2.weigth")])
    Traceback (most recent call last):
    ValueError: pairs names '2.weigth', which is no module or parameter of the model (did you mean '2.weight'?)
    """
    if isinstance(given, str | Pair) or not isinstance(given, Iterable):
        raise TypeError(f"pairs must be a list of pairs, got {shown(given)}; write pairs=[('fc1', 'fc2')]")
    return tuple(_declared(model, one) for one in given)


def _declared(model: nn.Module, given: Any) -> Pair:
    known = dict(model.named_parameters())
    if isinstance(given, Pair):
        for part in (*given.u, *given.w):
            if not isinstance(part, Part):
                raise TypeError(f"pair {given.name!r} must have tuples of Part as u and w, got {shown(part)} in one")
        for name in given.parameters:
            if name not in known:
                raise ValueError(
                    f"pair {given.name!r} names {name!r}, which is no parameter of the model{hint(name, known)}"
                )
        return given
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise TypeError(f"a pair must be two names or a Pair, got {shown(given)}; write ('fc1', 'fc2')")
    sides = [(one,) if isinstance(one, str) else tuple(one) for one in given]
    u, w = (
        tuple(Part(parameter) for name in side for parameter in _named(model, name, bias))
        for side, bias in zip(sides, (True, False), strict=True)
    )
    if both := set(u) & set(w):
        raise ValueError(f"pairs has {next(iter(both)).parameter!r} on both sides of {shown(given)}; name two weights")
    return Pair("~".join("+".join(side) for side in sides), u, w, "declared")


def _named(model: nn.Module, name: Any, bias: bool) -> tuple[str, ...]:
    """The parameters that a name stands for."""
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    if name in parameters:
        return (name,)
    own = _own(name, modules[name], bias) if isinstance(name, str) and name in modules else ()
    if not own:
        what = "a module without a weight" if name in modules else "no module or parameter of the model"
        raise ValueError(f"pairs names {shown(name)}, which is {what}{hint(name, [*modules, *parameters])}")
    return own


def _own(name: str, module: nn.Module, bias: bool) -> tuple[str, ...]:
    """Names of the weight, and of the bias if it counts and exists; none if the weight is not a parameter."""
    wanted = ("weight", "bias") if bias else ("weight",)
    dot = f"{name}." if name else ""
    return tuple(dot + one for one in wanted if module._parameters.get(one) is not None) if _weight(module) else ()


def _weight(module: nn.Module) -> bool:
    return module._parameters.get("weight") is not None


def _usable(model: nn.Module) -> set[str]:
    """Parameters that are trained and that one module alone uses."""
    every = list(model.named_parameters(remove_duplicate=False))
    uses = Counter(id(parameter) for _, parameter in every)
    return {name for name, parameter in every if parameter.requires_grad and uses[id(parameter)] == 1}


def _of_modules(model: nn.Module, attention: set[str]) -> Iterator[Pair]:
    """Pairs that the children of a module form: chains, gated layers, adapters."""
    for name, module in model.named_modules():
        dot = f"{name}." if name else ""
        gated = [names for names in GATED if all(isinstance(getattr(module, one, None), nn.Module) for one in names)]
        if gated:
            up, down, _ = gated[0]
            yield from _pair(dot + up, getattr(module, up), dot + down, getattr(module, down), "gated")
        elif hasattr(module, "lora_A") and hasattr(module, "lora_B"):
            yield from _adapters(dot, module.lora_A, module.lora_B)
        elif type(module).forward is nn.Sequential.forward:
            yield from _chain(_flat(name, module))
        elif name not in attention and not isinstance(module, nn.MultiheadAttention | nn.ModuleList | nn.ModuleDict):
            yield from (replace(pair, certain=False) for pair in _chain(_flat(name, module)))


def _flat(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children, those of ``nn.Sequential`` in its place."""
    for child_name, child in module.named_children():
        full = f"{name}.{child_name}" if name else child_name
        if type(child).forward is nn.Sequential.forward:
            yield from _flat(full, child)
        else:
            yield full, child


def _chain(layers: Iterable[tuple[str, nn.Module]]) -> Iterator[Pair]:
    """Pairs of neighbours in a chain: anything that is not homogeneous parts them."""
    before: tuple[str, nn.Module] | None = None
    for name, layer in layers:
        linear = isinstance(layer, LINEAR) or type(layer).__name__ == "Conv1D"
        if linear and before is not None:
            yield from _pair(*before, name, layer, "norm" if _is_norm(before[1]) else "layers")
        if linear or _is_norm(layer) or isinstance(layer, TABLES):
            before = (name, layer)
        elif not _is_homogeneous(layer):
            before = None


def _is_norm(layer: nn.Module) -> bool:
    return isinstance(layer, NORMS) or type(layer).__name__.endswith("RMSNorm")


def _is_homogeneous(layer: nn.Module) -> bool:
    zeros = isinstance(layer, nn.modules.padding._ConstantPadNd) and layer.value == 0
    return zeros or isinstance(layer, HOMOGENEOUS)


def _pair(u_name: str, u: nn.Module, w_name: str, w: nn.Module, kind: str) -> Iterator[Pair]:
    """The pair of two modules, if each keeps a weight."""
    first, second = _own(u_name, u, True), _own(w_name, w, False)
    if first and second:
        yield Pair(f"{u_name}~{w_name}", tuple(map(Part, first)), tuple(map(Part, second)), kind)


def _adapters(dot: str, a: Any, b: Any) -> Iterator[Pair]:
    """The factors of adapters: parameters, modules, or modules by the name of the adapter."""
    if isinstance(a, nn.ModuleDict) and isinstance(b, nn.ModuleDict):
        for key in a.keys() & b.keys():
            yield from _pair(f"{dot}lora_A.{key}", a[key], f"{dot}lora_B.{key}", b[key], "lora")
    elif isinstance(a, nn.Parameter) and isinstance(b, nn.Parameter):
        yield Pair(f"{dot}lora_A~{dot}lora_B", (Part(f"{dot}lora_A"),), (Part(f"{dot}lora_B"),), "lora")
    elif isinstance(a, nn.Module) and isinstance(b, nn.Module):
        yield from _pair(f"{dot}lora_A", a, f"{dot}lora_B", b, "lora")


def _of_heads(attention: Iterable[structure.Attention]) -> Iterator[Pair]:
    """QK and OV of every head; heads that share keys and values form one pair with them."""
    for block in attention:
        dot = f"{block.name}." if block.name else ""
        shared = len(block.q.blocks) // len(block.k.blocks)
        for i in range(len(block.k.blocks)):
            queries = tuple(range(i * shared, i * shared + shared))
            if not block.norms:
                yield Pair(f"{dot}qk.{i}", _parts(block.q, queries), _parts(block.k, (i,)), "qk")
            if block.o:
                yield Pair(f"{dot}ov.{i}", _parts(block.v, (i,)), _parts(block.o, queries), "ov")


def _parts(role: structure.Projection, which: Iterable[int]) -> tuple[Part, ...]:
    return tuple(Part(name, role.blocks[i]) for i in which for name in role.parameters)
