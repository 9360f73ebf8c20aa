"""Attention blocks of a model, found by their structure: which blocks of which parameters belong to which head.

Three ways to keep the projections are known, whatever library the module comes from:

    separate    four modules (or four parameters) named as queries, keys, values and output usually are,
    fused       one module for queries, keys and values, one after the other or head by head,
    built in    ``torch.nn.MultiheadAttention``.

Every head is one block of equal size: of the rows of queries, keys, values (``nn.Linear`` keeps (out, in)), of the
columns of the output projection; exchanged where a module keeps (in, out), as ``Conv1D`` of GPT-2 does. With fewer
heads of keys and values than of queries, neighbouring queries share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from saddlescope.monitor._torch import nn
from saddlescope.monitor.uses import Heads

NAMES = {
    "q": ("q_proj", "query", "wq", "q_lin", "to_q", "q", "query_proj", "linear_q", "W_Q", "W_q"),
    "k": ("k_proj", "key", "wk", "k_lin", "to_k", "k", "key_proj", "linear_k", "W_K", "W_k"),
    "v": ("v_proj", "value", "wv", "v_lin", "to_v", "v", "value_proj", "linear_v", "W_V", "W_v"),
    "qkv": ("c_attn", "qkv", "in_proj", "Wqkv", "qkv_proj", "to_qkv", "query_key_value"),
    "o": (
        *("o_proj", "out_proj", "wo", "out_lin", "to_out", "o", "c_proj", "proj", "linear_out", "dense", "Wo"),
        *("W_O", "W_o", "out"),
    ),
}
"""Names of modules and parameters by their role in attention; "qkv" holds three roles."""
HEADS = ("num_heads", "n_head", "num_attention_heads", "n_heads", "heads", "nhead", "num_q_heads")
KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head", "num_heads_kv")
HEAD_SIZE = ("head_dim", "attention_head_size", "d_head", "head_size", "dim_head")
NORMS = ("q_norm", "k_norm", "q_layernorm", "k_layernorm", "norm_q", "norm_k", "query_norm", "key_norm", "qk_norm")
"""Norms of queries or keys: heads then cannot be rescaled."""
HEAD_BY_HEAD = ("query_key_value",)
"""Fused modules that keep queries, keys and values of one head together."""


@dataclass(frozen=True)
class Projection:
    """One role in attention: its parameters, equal blocks in each, and which block is which head."""

    parameters: tuple[str, ...]
    heads: Heads
    blocks: tuple[int, ...]

    def split(self) -> dict[str, Heads]:
        """The blocks of every parameter; those of a vector are called rows."""
        return {
            name: self.heads if i == 0 else Heads(self.heads.count, "rows") for i, name in enumerate(self.parameters)
        }


@dataclass(frozen=True)
class Attention:
    """Queries, keys, values and output projection of one attention block."""

    name: str
    q: Projection
    k: Projection
    v: Projection
    o: Projection | None
    norms: bool = False
    """Whether a norm acts on queries or keys."""


def heads(model: nn.Module) -> dict[str, Heads]:
    """The equal blocks, one per head, of every parameter that attention splits into heads.

    >>> heads(nn.MultiheadAttention(8, 2))["out_proj.weight"]
    Heads(count=2, side='columns')
    """
    found: dict[str, Heads] = {}
    for attention in attentions(model):
        for role in (attention.q, attention.k, attention.v, attention.o):
            found.update(role.split() if role else {})
    return found


def agreeing(model: nn.Module, given: Mapping[str, Heads]) -> dict[str, Heads]:
    """The heads that are found, and those given by hand; ValueError where a given one mixes heads or roles.

    >>> agreeing(nn.MultiheadAttention(8, 2), {"in_proj_weight": Heads(2, "rows")})
    Traceback (most recent call last):
    ValueError: heads['in_proj_weight'] must be 6 blocks of rows, as the attention has them, got 2 of rows; leave it out
    """
    found, parameters = heads(model), dict(model.named_parameters())
    for name, one in given.items():
        known, shape = found.get(name), parameters[name].shape
        if known and (one.count != known.count or (len(shape) > 1 and one.side != known.side)):
            raise ValueError(
                f"heads[{name!r}] must be {known.count} blocks of {known.side}, as the attention has them, "
                f"got {one.count} of {one.side}; leave it out"
            )
        if not known and one.count % 3 and _along_three_roles(name, shape, one.side):
            raise ValueError(
                f"heads[{name!r}] must count the heads of queries, keys and values, which this parameter holds, "
                f"got {one.count}; write {3 * one.count} for {one.count} heads"
            )
    return found | dict(given)


def _along_three_roles(name: str, shape: Sequence[int], side: str) -> bool:
    """Whether a weight is split where its name and shape say that queries, keys and values follow one another."""
    if len(shape) != 2 or not {name.split(".")[-1], *name.split(".")[-2:-1]} & {*NAMES["qkv"], "in_proj_weight"}:
        return False
    along, across = shape if side == "rows" else (shape[1], shape[0])
    return along == 3 * across


def attentions(model: nn.Module) -> tuple[Attention, ...]:
    """Every attention block whose projections and number of heads can be read from names, attributes and shapes.

    >>> [attention.name for attention in attentions(nn.TransformerEncoderLayer(8, 2))]
    ['self_attn']
    """
    modules = dict(model.named_modules())
    found = (_attention(name, module, modules) for name, module in modules.items())
    return tuple(attention for attention in found if attention)


def _attention(name: str, module: nn.Module, modules: dict[str, nn.Module]) -> Attention | None:
    if isinstance(module, nn.MultiheadAttention):
        return _built_in(name, module)
    roles = {role: _weight(name, module, names) for role, names in NAMES.items()}
    q, k, v, qkv, o = (roles[role] for role in ("q", "k", "v", "qkv", "o"))
    o = o or _output_beside(name, modules)
    norms = any(hasattr(module, norm) and getattr(module, norm) is not None for norm in NORMS)
    if q and k and v:
        return _separate(name, module, (q, k, v), o, norms)
    return _fused(name, module, qkv, o, norms) if qkv and o else None


@dataclass(frozen=True)
class _Weight:
    """A weight seen as a linear map: its parameters, widths out and in, and where its outputs lie."""

    parameters: tuple[str, ...]
    outputs: int
    inputs: int
    outputs_are: str
    heads: int | None = None
    """Heads of a weight that keeps them along its first dim."""


def _weight(prefix: str, module: nn.Module, names: tuple[str, ...]) -> _Weight | None:
    """The linear map that a module keeps under one of these names, as a module or as a parameter."""
    for name in names:
        child = getattr(module, name, None)
        full = f"{prefix}.{name}" if prefix else name
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child):
            child, full = child[0], f"{full}.0"
        if isinstance(child, nn.Parameter) and child.dim() == 3:
            bias = name.replace("W", "b") if name[0] == "W" else ""
            beside = (f"{prefix}.{bias}" if prefix else bias,) if bias and name[-1] not in "Oo" else ()
            beside = beside if isinstance(getattr(module, bias, None), nn.Parameter) else ()
            H, first, second = child.shape
            outputs, inputs = (second, H * first) if name in NAMES["o"] else (H * second, first)
            return _Weight((full, *beside), outputs, inputs, "rows", H)
        if isinstance(child, nn.Module):
            return _linear(full, child)
    return None


def _linear(name: str, module: nn.Module) -> _Weight | None:
    """The weight of ``nn.Linear``, of its kin, or of a module that keeps (in, out) and says so by its class name."""
    own = dict(module.named_parameters(recurse=False))
    inner = getattr(module, "base_layer", None)
    if "weight" not in own and isinstance(inner, nn.Module):
        return _linear(f"{name}.base_layer", inner)
    if "weight" not in own or own["weight"].dim() != 2:
        return None
    first, second = own["weight"].shape
    transposed = type(module).__name__ == "Conv1D"
    parameters = (f"{name}.weight", *([f"{name}.bias"] if "bias" in own else []))
    return _Weight(parameters, *((second, first, "columns") if transposed else (first, second, "rows")))


def _output_beside(name: str, modules: dict[str, nn.Module]) -> _Weight | None:
    """The output projection of a module beside the attention, as ``output.dense`` beside ``self``."""
    parent, _, own = name.rpartition(".")
    beside = f"{parent}.output" if parent else "output"
    if own not in ("self", "attention") or beside not in modules:
        return None
    return _weight(beside, modules[beside], ("dense",))


def _separate(
    name: str, module: nn.Module, qkv: tuple[_Weight, _Weight, _Weight], o: _Weight | None, norms: bool
) -> Attention | None:
    q, k, v = qkv
    size = _number(module, HEAD_SIZE)
    H = q.heads or _number(module, HEADS) or (q.outputs // size if size else None)
    if not H or q.outputs % H:
        return None
    size = q.outputs // H
    kv = k.heads or k.outputs // size
    if not kv or k.outputs % kv or v.outputs % kv or H % kv or k.outputs // kv != size:
        return None
    if o and o.inputs != H * (v.outputs // kv):
        o = None
    return Attention(name, _rows(q, H), _rows(k, kv), _rows(v, kv), _columns(o, H) if o else None, norms)


def _fused(name: str, module: nn.Module, qkv: _Weight, o: _Weight, norms: bool) -> Attention | None:
    size, H, kv = (_number(module, names) for names in (HEAD_SIZE, HEADS, KEY_HEADS))
    H = H or (o.inputs // size if size else None)
    if not H or o.inputs % H:
        return None
    size = o.inputs // H
    rest, left = divmod(qkv.outputs - H * size, 2 * size)
    if left or not rest or H % rest or (kv is not None and rest not in (kv, H)):
        return None
    if _last(name, qkv) in HEAD_BY_HEAD and rest == H:
        places = tuple(tuple(range(i, 3 * H, 3)) for i in range(3))
    else:
        places = (tuple(range(H)), tuple(range(H, H + rest)), tuple(range(H + rest, H + 2 * rest)))
    q, k, v = (Projection(qkv.parameters, Heads(H + 2 * rest, qkv.outputs_are), place) for place in places)
    return Attention(name, q, k, v, _columns(o, H), norms)


def _built_in(name: str, module: nn.MultiheadAttention) -> Attention | None:
    if module.bias_k is not None or module.embed_dim % module.num_heads:
        return None
    H, dot = module.num_heads, f"{name}." if name else ""
    bias = (f"{dot}in_proj_bias",) if module.in_proj_bias is not None else ()
    o = Projection((f"{dot}out_proj.weight",), Heads(H, "columns"), tuple(range(H)))
    if module.in_proj_weight is not None:
        rows = Heads(3 * H, "rows")
        q, k, v = (Projection((f"{dot}in_proj_weight", *bias), rows, tuple(range(i * H, i * H + H))) for i in range(3))
    elif not bias:
        rows = Heads(H, "rows")
        q, k, v = (Projection((f"{dot}{role}_proj_weight",), rows, tuple(range(H))) for role in "qkv")
    else:
        return None
    return Attention(name, q, k, v, o)


def _rows(weight: _Weight, H: int) -> Projection:
    return Projection(weight.parameters, Heads(H, weight.outputs_are), tuple(range(H)))


def _columns(weight: _Weight, H: int) -> Projection:
    side = "rows" if weight.heads else {"rows": "columns", "columns": "rows"}[weight.outputs_are]
    return Projection(weight.parameters[:1], Heads(H, side), tuple(range(H)))


def _number(module: nn.Module, names: tuple[str, ...]) -> int | None:
    """The first whole number that the module, or its configuration, has under one of these names."""
    for owner in _owners(module):
        for name in names:
            value = getattr(owner, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _owners(module: nn.Module) -> Iterator[object]:
    yield module
    for name in ("config", "cfg", "args"):
        if getattr(module, name, None) is not None:
            yield getattr(module, name)


def _last(prefix: str, weight: _Weight) -> str:
    """The name of the module of a weight inside the one called prefix."""
    return weight.parameters[0].removeprefix(f"{prefix}." if prefix else "").split(".")[0]
