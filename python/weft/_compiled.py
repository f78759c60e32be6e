"""Functions of Python inside torch.compile, without a break of its graph, and inside torch.export.

Dynamo sees the functions of a call as they are and writes what they do into its graph, with what they capture as inputs: gradients,
guards and new lengths are then as those of any graph. To Dynamo the scalars of a pair are tensors of one number. When the graph runs,
by AOTAutograd or as it is, they are tensors that remember (`Traced`): the operations of the graph give the text of the variant, and the
operator is called.

    token = _start(q, k, None)         # Traced, where Dynamo sees float32 [1]
    b, h, i, j = _pair(token)
    score = token - slope[h] * (i - j) # Dynamo writes these operations
    o = _finish(token, q, k, v, ...)   # weft::attention
"""

from __future__ import annotations

import sys
import threading
import types
from typing import Callable

import torch
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree
from torch.utils._python_dispatch import _disable_current_modes

from . import _functional, _library  # noqa: F401
from ._expressions import binary, number
from ._trace import Tracer
from ._traced import Read, Traced, flat

_ops = torch.ops.weft
# What Dynamo works out an output's type from: any text with these inputs gives such.
_ANY = "attention any(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E]) { score dot(q[i], k[j]) / sqrt(D) }"


# Tracing beside modes


class Shielded(Tracer):
    """A tracer beside modes of torch that watch each operation (those of AOTAutograd and torch.export): operations of a pair's scalars
    are hidden from them, those of captured tensors are not. Captured tensors have a stand-in until the text is made."""

    def __init__(self, sizes: dict[str, int], near: torch.Tensor | None = None):
        # A length that is not known yet is taken for one below 2^24.
        super().__init__({name: size for name, size in sizes.items() if isinstance(size, int) and (name in ("H", "G") or size > 1 << 24)})
        self.lengths, self.near = sizes, near
        self.real: dict[int, torch.Tensor] = {}  # of stand-ins, by id
        self.standins: dict[int, torch.Tensor] = {}

    def index(self, node, dtype=torch.int32):
        with _disable_current_modes():
            return super().index(node, dtype)

    def value(self, node):
        with _disable_current_modes():
            return super().value(node)

    def lift(self, value):
        if _is_symbol(value):
            device = None if self.near is None else self.near.device
            floating = torch.float64 if self.near is not None and self.near.dtype == torch.float64 else torch.float32
            value = torch.full((), value, dtype=torch.int64 if isinstance(value, torch.SymInt) else floating, device=device)
        if _is_captured(value) and not value.dim():
            value = self._standin(value)
        with _disable_current_modes():
            return super().lift(value)

    def apply(self, function, args, kwargs):
        if getattr(function, "__name__", "") in ("__getitem__", "index") and args:
            return self._getitem(*args)
        args, kwargs = _pytree.tree_map(self._operand, (tuple(args), dict(kwargs)))
        with _disable_current_modes():
            return super().apply(function, args, kwargs)

    def _operand(self, value):
        if _is_symbol(value) or _is_captured(value) and not value.dim():
            return self.lift(value)
        return self._standin(value) if _is_captured(value) else value

    def _getitem(self, tensor, index):
        before: list = []
        if isinstance(tensor, Traced):
            if tensor.read is None:
                raise NotImplementedError("an index into a scalar of a pair")
            before, tensor = tensor.read.indices, self.real[id(tensor.read.tensor)]
        more: list = []
        for own in index if isinstance(index, (tuple, list)) else [index]:
            at = len(before) + len(more)
            if isinstance(own, (int, torch.SymInt)) and not isinstance(own, bool) and at < tensor.dim():
                tensor = tensor.select(at, own)  # the same for all pairs
            else:
                more.append(self.lift(own) if isinstance(own, torch.Tensor) else own)
        with _disable_current_modes():
            return self._read(Read(self._standin(tensor), before), more)

    def _standin(self, tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in self.standins:
            with _disable_current_modes():
                own = torch.empty([1] * tensor.dim(), dtype=tensor.dtype, device="meta")
            self.standins[id(tensor)], self.real[id(own)] = own, tensor
            if id(tensor) in self.wished:
                self.wished[id(own)] = self.wished[id(tensor)]
        return self.standins[id(tensor)]

    def _cut(self, own):
        return own.captured  # until the text is made

    def text(self, name, statements, more):
        for own in self.inputs.values():
            own.captured = self.real[id(own.captured)]
            own.tensor = own.cut(own.captured, self.lengths)
        return super().text(name, statements, more)


def _is_symbol(value) -> bool:
    return isinstance(value, (torch.SymInt, torch.SymFloat))


def _is_captured(value) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, Traced)


def tracer(sizes: dict[str, int], near: torch.Tensor | None = None) -> Tracer:
    """One for a call of now."""
    watched = torch._C._len_torch_dispatch_stack() or torch._ops._len_torch_dispatch_stack_pre_dispatch()
    return Shielded(sizes, near) if watched else Tracer(sizes)


# Nodes of Dynamo's graph


def _start(q, k, scale):
    """The scaled product."""
    scale = None if scale is None else float(scale)
    if not _running():
        if torch._guards.active_fake_mode() is None:
            raise AssertionError("a part of a graph of Weft runs outside of its operator")
        return q.new_empty(1, dtype=torch.float32, requires_grad=q.requires_grad)
    t = Shielded({"B": q.shape[0], "H": q.shape[1], "G": k.shape[1], "T": q.shape[2], "S": k.shape[2]}, q)
    t.with_gradients = torch.is_grad_enabled()
    return t.value(t.scaled_product(scale))


def _pair(token):
    """b, h, i and j."""
    if _running():
        return tuple(token.tracer.pair())
    # Not of no dims: as an index such a one is a number, which Dynamo would ask for.
    return tuple(token.new_empty(1, dtype=torch.int32) for _ in range(4))


def _finish(token, q, k, v, name, words, sharp, dropout, more, kind, *values):
    """The operator's result for these statements; `sharp`: of the score times SHARP."""
    if not _running():
        # What has a gradient gives it to the result.
        zero = sum(own.sum() * 0.0 for own in values if isinstance(own, torch.Tensor))
        out, lse = _ops.attention_with_lse(_ANY, ["q", "k", "v"], [q, k, v])
        return out[:, :, :1].detach() if kind == "decode" else (out + zero, lse + zero) if kind == "lse" else out + zero
    t = token.tracer
    if kind == "decode":
        t.lengths = {**t.lengths, "T": t.lengths["S"]}  # it takes its own of all queries
    statements = []
    for word, value in zip(words, values):
        statements += t.statements(word, t.lift(value))
    source = t.text(name, sharpened(statements) if sharp else statements, [*dropped(dropout), *more])
    names, tensors = ["q", "k", "v"], [q, k, v]
    for own in t.inputs.values():
        names.append(own.name)
        tensors.append(own.tensor)
    from ._variant import _told, call

    return _told(_ops.decode, source, names, tensors) if kind == "decode" else call(source, names, tensors, kind == "lse")


class _Indexing(TorchFunctionMode):
    """Sees captured tensors that are indexed by traced numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.__getitem__:
            traced = next((own for own in flat(args) if isinstance(own, Traced)), None)
            if traced is not None:
                return traced.tracer.apply(function, args, kwargs or {})
        return function(*args, **(kwargs or {}))


_now = threading.local()


def _running() -> bool:
    """Whether a part of a graph runs now; else Dynamo asks for types alone."""
    return getattr(_now, "running", 0) > 0


class _Whole(HigherOrderOperator):
    """A part of a graph that stays in one piece: that of a call, from `_start` to `_finish`."""

    def __init__(self):
        super().__init__("weft_attention")

    def __call__(self, body, *operands):
        _now.running = getattr(_now, "running", 0) + 1
        try:
            with _Indexing():
                # Not its text: that of (-1.0) ** x is -1.0 ** x.
                return torch.fx.Interpreter(body).run(*operands)
        finally:
            _now.running -= 1


_whole = _Whole()


# A power of two: the log-sum-exp of scores this much larger is their maximum, but for 64 / 2^64.
SHARP = 2.0**64


def sharpened(statements):
    """These with the score times SHARP."""
    return [(word, binary("*", own, number(SHARP)) if word == "score" else own) for word, own in statements]


def dropped(dropout: float) -> list[str]:
    return [f"dropout {float(dropout)!r}"] if dropout else []


def attention(q, k, v, functions, scale, name, more, kind, sharp=False, dropout=0.0):
    """The attention of `functions` by word (score, where, ...), where Dynamo looks on. `kind`: o, lse (o and that) or decode."""
    # Of what may be a symbol of Dynamo's a value of this call: the symbol would be the first call's of a graph.
    scale = None if scale is None else scale * 1.0
    dropout = dropout * 1.0 if dropout else 0

    def body():
        token = _start(q, k, scale)
        values = []
        for word, function in functions:
            b, h, i, j = _pair(token)
            if word == "score":
                values.append(token if function is None else function(token.clone(), b, h, i, j))
            elif word == "sink":
                values.append(function(b, h))
            else:
                values.append(function(b, h, i, j))
        return _finish(token, q, k, v, name, tuple(word for word, _ in functions), sharp, dropout, more, kind, *values)

    return _whole(body)


# Calls


def _ready() -> bool:
    """Whether Dynamo can be shown functions; it calls this while it looks on, and takes the answer as it is."""
    global _is_ready
    if _is_ready is None:
        try:
            from torch._dynamo.eval_frame import skip_code
            from torch._dynamo.variables import higher_order_ops as known

            known._hop_name_to_variable_class["weft_attention"] = known.WrapHigherOrderVariable
            _is_ready = isinstance(known.TorchHigherOrderOperatorVariable.make(_whole), known.WrapHigherOrderVariable)
            torch.compiler.allow_in_graph([_start, _pair, _finish])
            owners = _functional, _functional._Attention, _functional._Backward
            own = [either, apart, *(getattr(owner, name) for owner in owners for name in vars(owner))]
            codes = [function.__code__ for function in own if isinstance(function, types.FunctionType)]
            while codes:
                code = codes.pop()
                skip_code(code)
                codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
        except Exception:  # another torch: graphs break
            _is_ready = False
    return _is_ready


_is_ready: bool | None = None
_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result, whose import takes a second


def either(seen: Callable, now: Callable, *args):
    """`seen(*args)` where Dynamo looks on. Where that does not work, and without it, `now(*args)`: a graph breaks there. Its own code is
    never compiled but as a part of what calls it."""
    if torch.compiler.is_dynamo_compiling() and _ready() and not _functional.active():
        return seen(*args)
    return apart(now, *args)


def _watched() -> bool:
    """Whether Dynamo sees the frames of this thread. Being hidden from it slows each call of a function down."""
    try:
        return torch._C._dynamo.eval_frame.get_eval_frame_callback() is not None
    except AttributeError:  # another torch
        return True


def apart(now: Callable, *args):
    """`now(*args)`, where Dynamo does not look on: a graph breaks there."""
    global _disabled
    compiling = torch.compiler.is_dynamo_compiling()
    if compiling:
        _ready()
    if "torch._dynamo" not in sys.modules or not (compiling or _watched()):  # its import takes a second
        return now(*args)
    if _disabled is None:
        _disabled = torch._dynamo.disable(lambda now, *args: now(*args), reason="Weft traces functions by itself")
    return _disabled(now, *args)


_disabled = None
