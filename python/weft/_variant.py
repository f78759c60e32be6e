"""Variants as Python objects."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any, Callable, Literal, Mapping, Optional, Sequence, overload

import torch

from . import _compiled, _functional, _library, _nested  # noqa: F401
from ._memo import remembered
from ._trace import Tracer

_ops = torch.ops.weft
Rows = Optional[torch.Tensor]
Function = Optional[Callable[..., Any]]


class Error(RuntimeError):
    """A mistake in a variant or a call: says what would be right."""


class SourceError(Error, ValueError):
    """A text that is no variant: its diagnostics, with file, line and column."""


Error.__module__ = SourceError.__module__ = "weft"


def _told(call: Callable, *args, kind: type = Error):
    """The result of a call into the library; its errors without what torch adds to them."""
    try:
        return call(*args)
    except (RuntimeError, ValueError) as error:
        text = str(error).split("\nException raised from ")[0]
        raise kind(text) from None


def call(source: str, names: list[str], tensors: list[torch.Tensor], lse: bool):
    """The operator, inside the transforms of torch.func too, and of nested tensors."""
    if any(own.is_nested for own in tensors):
        return _told(_nested.attention, call, source, names, tensors, lse)
    if _functional.active():
        return _compiled.apart(_told, _functional.attention, source, names, tensors, lse)
    op = _ops.attention_with_lse if lse else _ops.attention
    if torch.jit.is_tracing():  # which knows no lists of strings
        return _told(op.joined, source, " ".join(names), tensors)
    return _told(op.default, source, names, tensors)


class Values(str):
    """What a declaration says of an input's values: its text, as in "in 0 .. T typical T / 2", and the numbers in it. A bound that hangs
    on sizes is a text, as in "T / 2"; None: nothing is said of that side."""

    low: float | str | None
    high: float | str | None
    typical: tuple[float | str, float | str] | None  #: from the one to the other
    rising: bool  #: along the last dim they do not fall

    def __new__(cls, text: str = "", low=None, high=None, typical_low=None, typical_high=None, rising: bool = False):
        own = super().__new__(cls, text)
        own.low, own.high, own.rising = low, high, rising
        own.typical = None if typical_low is None else (typical_low, typical_high)
        return own


@dataclass(frozen=True)
class Input:
    """A declared input of a variant."""

    name: str
    type: str  #: float, int or bool
    dims: tuple[str, ...]  #: their names, as in ("B", "H", "T", "D")
    values: Values  #: what its declaration says of them: a text, empty where nothing, with low, high, typical and rising
    row: bool  #: an operand of products: has the element type of the call (float32, bfloat16, float16 or, on CPUs, float64)
    gradient: bool  #: a gradient can reach it

    def __str__(self) -> str:
        kind = "" if self.type == "float" else self.type + " "
        return f"{self.name}: {kind}[{', '.join(self.dims)}]" + (f" {self.values}" if self.values else "")


class Explanation(dict):
    """What a call does: `kept` tiles of `tiles` for each (b, h), the reach of a query; of each direction, "forward" and "backward", its
    schedule, its `kernels` in order, and its `plan`: a table of buffers and kernels."""

    @property
    def kept_share(self) -> float:
        """Computed tiles over all tiles."""
        return sum(self["kept"]) / max(1, self["tiles"] * len(self["kept"]))

    @property
    def flops(self) -> int:
        """Of the products of a forward pass, q k' and p v, over kept tiles: 2 multiply-adds count as 4."""
        return int(self.kept_share * self["B"] * self["H"] * self["T"] * self["keys"] * 2 * (self["D"] + self["E"]))

    @property
    def backward_flops(self) -> int:
        """Of the products of a backward pass: q k', do v', and one for each of dq, dk, dv. Two passes compute two of them twice."""
        return int(self.kept_share * self["B"] * self["H"] * self["T"] * self["keys"] * 2 * (3 * self["D"] + 2 * self["E"]))

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self['variant']} on {self['device']}, B = {self['B']}, H = {self['H']}, T = {self['T']}, S = {self['S']}",
                f"  kept tiles  {sum(self['kept'])} of {self['tiles'] * len(self['kept'])} ({self.kept_share:.1%})",
                f"  products    {self.flops / 1e9:.3f} GFLOP forward, {self.backward_flops / 1e9:.3f} backward",
                *(f"  {way:<10}  {self[way]}: {', '.join(self['kernels'][way])}" for way in ("forward", "backward")),
            ]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def explained(source: str, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> Explanation:
    given = dict(zip(names, tensors))
    found = json.loads(_told(_ops.explain, source, list(names), list(tensors)))
    return Explanation(found, D=given["q"].shape[-1] if "q" in given else 0, E=given["v"].shape[-1])


class Mask:
    """What a variant's masks do to each pair: `shares` [H, T, S], the probabilities of equal scores, of the first batch entry."""

    def __init__(self, name: str, shares: torch.Tensor):
        self.name, self.shares = name, shares

    @property
    def kept(self) -> torch.Tensor:
        """bool [H, T, S]: pairs that have a part in the result."""
        return self.shares != 0

    def __repr__(self) -> str:
        heads, queries, keys = self.shares.shape
        lines = [f"{self.name}: {heads} heads, {queries} queries, {keys} keys; head 0:"]
        rows, columns = min(queries, 24), min(keys, 48)
        grid = torch.nn.functional.adaptive_max_pool2d(self.shares[:1].float(), (rows, columns))[0]
        least = torch.nn.functional.adaptive_avg_pool2d(self.kept[:1].float(), (rows, columns))[0]
        lines += ["  " + "".join("█" if share > 0.99 else "▒" if most > 0 else "·" for share, most in zip(some, own)) for some, own in zip(least.tolist(), grid.tolist())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A picture for each head, dark where a key counts for much, relative to its row."""
        import base64
        import struct
        import zlib

        pictures = []
        for head in self.shares[:8]:
            rows, columns = (min(size, 256) for size in head.shape)
            share = head / head.amax(-1, keepdim=True).clamp_min(1e-30)
            share = torch.nn.functional.adaptive_avg_pool2d(share[None].float(), (rows, columns))[0]
            grey = (255 - 255 * share.clamp(0, 1)).to(torch.uint8)
            data = b"".join(b"\0" + bytes(row) for row in grey.tolist())

            def chunk(kind: bytes, body: bytes) -> bytes:
                return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

            png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
            pictures.append(
                f'<img width="160" style="image-rendering:pixelated;border:1px solid #999;margin:2px" title="head {len(pictures)}" '
                f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            )
        return f"<div>{html.escape(self.name)}: queries down, keys across<br>{''.join(pictures)}</div>"


class _Attention:
    """What every kind of variant can do, once it has a text for the tensors of a call."""

    def _bind(self, tensors: Mapping[str, Any], decoding: bool = False) -> tuple[str, list[str], list[torch.Tensor]]:
        raise NotImplementedError

    @overload
    def __call__(self, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: Literal[False] = False, **inputs: Any) -> torch.Tensor: ...
    @overload
    def __call__(self, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: Literal[True], **inputs: Any) -> tuple[torch.Tensor, torch.Tensor]: ...
    def __call__(self, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: bool = False, **inputs: Any):
        """o [B, H, T, E] in the type of v; with `lse` also the natural log-sum-exp of each row, float32 [B, H, T] (of float64 that).

        q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E] where the variant calls them so; the other inputs by their names, numbers of Python
        too. Differentiable once with respect to every float input. Raises weft.Error.
        """
        return call(*self._bind(_given(q, k, v, inputs)), lse)

    def decode(self, q: Rows = None, k: Rows = None, v: Rows = None, **inputs: Any) -> torch.Tensor:
        """The attention of the newest token alone, [B, H, 1, E]: q [B, H, 1, D], all keys so far, k [B, G, S, D], v [B, G, S, E]. With
        `lengths`, integers [B], sequence b has the first lengths[b] keys alone, and q [B, H, T, D] are its T newest tokens: o [B, H, T, E].
        Without gradients. Raises weft.Error."""
        return _told(_ops.decode, *self._bind(_given(q, k, v, inputs), decoding=True))

    def explain(self, q: Rows = None, k: Rows = None, v: Rows = None, **inputs: Any) -> Explanation:
        """Kept tiles, cost, schedules and plans of this call: q [B, H, T, D], k [B, G, S, D], v [B, G, S, E]."""
        return explained(*self._bind(_given(q, k, v, inputs)))

    def mask(self, q: Rows = None, k: Rows = None, v: Rows = None, **inputs: Any) -> Mask:
        """What the masks and weights do to each pair of this call, q [B, H, T, D], k [B, G, S, D], v [B, G, S, E]: [H, T, S] numbers, for
        pictures."""
        source, names, tensors = self._bind(_given(q, k, v, inputs))
        return Mask(json.loads(_told(_ops.describe, source))["name"], _told(_ops.mask_shares, source, names, tensors))

    def tune(self, q: Rows = None, k: Rows = None, v: Rows = None, *, backward: bool | None = None, budget: float = 60.0, again: bool = False, **inputs: Any) -> list[dict[str, Any]]:
        """Finds the fastest schedule for calls like this one, q [B, H, T, D], k [B, G, S, D], v [B, G, S, E], on their device, in
        `budget` seconds a direction, and keeps it for all processes of this machine. `backward`: that direction alone (None: both). `again`: forgets what is known."""
        call = self._bind(_given(q, k, v, inputs))
        directions = [False, True] if backward is None else [backward]
        return [dict(json.loads(_told(_ops.tune, *call, own, budget, again)), direction="backward" if own else "forward") for own in directions]

    def compile(self, emit: str = "ptx", *, target: str | None = None, kernel: str = "forward", dtype: str | torch.dtype = "bf16", head_dim: int = 64, terms: int = 8) -> str:
        """The text of a stage of one kernel: ast, weft, tile, llvm; of a CPU vector, asm; of a GPU nvvm, ptx, sass; plan.

        `target`: cpu, a CPU that LLVM knows, or a GPU such as sm_80 or sm_90a (default: what the stage is of). `head_dim`: the size of dims
        that rows end in; `terms`: of those that count terms, as in any(n < N, ...).
        """
        target = target or ("sm_80" if emit in ("nvvm", "ptx", "sass", "cubin") else "cpu")
        names = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16", torch.float64: "f64"}
        return _told(_ops.emit, self._text(), emit, target, kernel, names.get(dtype, dtype), head_dim, terms)

    def _text(self) -> str:
        """What stands for the variant where no tensors are given."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _inputs(described: dict) -> tuple[Input, ...]:
    return tuple(Input(**{**own, "dims": tuple(own["dims"]), "values": Values(**own["values"])}) for own in described["inputs"])


def _given(q, k, v, inputs: Mapping[str, Any]) -> dict[str, Any]:
    first = {name: value for name, value in (("q", q), ("k", k), ("v", v)) if value is not None}
    return {**first, **inputs}


def _tensors(given: Mapping[str, Any]) -> tuple[list[str], list[torch.Tensor]]:
    """Numbers and lists of Python become tensors where the others are."""
    device = next((own.device for own in given.values() if isinstance(own, torch.Tensor)), None)
    names, tensors = [], []
    for name, value in given.items():
        names.append(name)
        # Where a piece of a sequence stands the host must know.
        tensors.append(value if isinstance(value, torch.Tensor) else torch.as_tensor(value, device="cpu" if name == "origin" else device))
    return names, tensors


class Variant(_Attention):
    """A variant of Weft's language: one of the library, of a file, or of a text.

    >>> causal = weft.variant("causal")
    >>> o = causal(q, k, v)
    """

    def __init__(self, source: str):
        described = json.loads(_told(_ops.describe, source, kind=SourceError))
        #: as it was given: a name of the library, the path of a file (which may be edited between calls), or a text
        self.given: str = source
        self.name: str = described["name"]
        self.source: str = described["source"]
        self.inputs: tuple[Input, ...] = _inputs(described)
        self.constants: dict[str, float] = described["constants"]
        self.normalize: str = described["normalize"]
        self.has_log_sum_exp: bool = described["log_sum_exp"]
        self.selects: bool = described["selects"]
        self.__doc__ = self.source

    def _bind(self, given, decoding=False):
        return self.given, *_tensors(given)

    def _text(self) -> str:
        return self.given

    def __repr__(self) -> str:
        return f"weft.variant({self.name}({', '.join(map(str, self.inputs))}))"

    def __str__(self) -> str:
        return self.source


class PythonVariant(_Attention):
    """A variant whose expressions are functions of Python. What they capture is given with them, and gets gradients."""

    def __init__(self, score: Function = None, where: Function = None, weight: Function = None, gate: Function = None, sink: Function = None, *, normalize: str = "softmax", dropout: float = 0.0, scale: float | None = None, name: str = "from_python"):
        self.functions = {"score": score, "where": where, "weight": weight, "gate": gate, "sink": sink}
        self.normalize, self.dropout, self.name = normalize, float(dropout), name
        self.scale = None if scale is None else float(scale)

    def trace(self, sizes: Mapping[str, int] | None = None) -> tuple[str, dict[str, torch.Tensor]]:
        """The text and the captured tensors by name. `sizes`: of B, H, G, T, S, to which captured tensors are cut."""
        known = sizes or {}
        fixed = ("from_python", self.normalize, self.dropout, self.scale, self.name, known.get("H"), known.get("G"))
        return remembered(tuple(self.functions.values()), fixed, dict(sizes or {}), lambda: self._trace(dict(sizes or {})))

    def _trace(self, sizes: dict[str, int]) -> tuple[Tracer, str]:
        t = _compiled.tracer(sizes)
        statements = t.score(self.functions["score"], self.scale)
        for word, function in self.functions.items():
            if word != "score" and function is not None:
                statements += t.statements(word, t.trace(function, *t.pair()[: 2 if word == "sink" else 4]))
        return t, t.text(self.name, statements, [*_compiled.dropped(self.dropout), *self._more()])

    def _more(self) -> tuple[str, ...]:
        """Statements beside those of the functions and dropout."""
        return () if self.normalize == "softmax" else ("normalize " + self.normalize,)

    @overload
    def __call__(self, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: Literal[False] = False, **inputs: Any) -> torch.Tensor: ...
    @overload
    def __call__(self, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: Literal[True], **inputs: Any) -> tuple[torch.Tensor, torch.Tensor]: ...
    def __call__(self, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: bool = False, **inputs: Any):
        return self._call(q, k, v, "lse" if lse else "o", inputs)

    def decode(self, q: Rows = None, k: Rows = None, v: Rows = None, **inputs: Any) -> torch.Tensor:
        return self._call(q, k, v, "decode", inputs)

    __call__.__doc__, decode.__doc__ = _Attention.__call__.__doc__, _Attention.decode.__doc__

    def _call(self, q, k, v, kind: str, inputs: dict):
        if inputs or q is None or q.is_nested:
            return _compiled.apart(self._now, q, k, v, kind, inputs)
        return _compiled.either(self._seen, self._now, q, k, v, kind, inputs)

    def _now(self, q, k, v, kind: str, inputs: dict):
        if kind == "decode":
            return super().decode(q, k, v, **inputs)
        return super().__call__(q, k, v, lse=kind == "lse", **inputs)

    def _seen(self, q, k, v, kind: str, inputs: dict):
        """Where Dynamo looks on."""
        functions = [(word, function) for word, function in self.functions.items() if function is not None or word == "score"]
        return _compiled.attention(q, k, v, functions, self.scale, self.name, self._more(), kind, False, self.dropout)

    @property
    def source(self) -> str:
        """The text of the variant."""
        return self.trace()[0]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """q, k, v and what the functions capture, by the names that it has there."""
        return _inputs(json.loads(_told(_ops.describe, self.source, kind=SourceError)))

    def _text(self) -> str:
        return self.source

    def _bind(self, given, decoding=False):
        absent = [name for name in "qkv" if given.get(name) is None]
        if absent:
            raise TypeError(f"missing {' and '.join(absent)}: a variant of Python is called with q [B, H, T, D], k [B, G, S, D] and v [B, G, S, E]")
        q, k = given["q"], given["k"]
        sizes = {"B": q.shape[0], "H": q.shape[1], "G": k.shape[1]}
        if not q.is_nested and not k.is_nested:  # else each sequence has lengths of its own
            sizes |= {"T": k.shape[2] if decoding else q.shape[2], "S": k.shape[2]}  # decode takes its own of all queries
        source, captured = self.trace(sizes)
        twice = sorted(captured.keys() & given.keys())
        if twice:
            raise TypeError(f"unexpected {' and '.join(twice)}: the functions capture it already")
        return source, *_tensors({**given, **captured})

    def __str__(self) -> str:
        return self.source

    def __repr__(self) -> str:
        return f"weft.from_python({self.name})\n{self.source}"


def variant(source: str) -> Variant:
    """A variant of the library by name, of a file by path (path.weft:name where it holds several), or of a text."""
    return Variant(source)


def from_python(
    score: Function = None, where: Function = None, weight: Function = None, gate: Function = None, sink: Function = None, *, normalize: str = "softmax", dropout: float = 0.0,
    scale: float | None = None, name: str = "from_python",
) -> PythonVariant:
    """A variant of plain torch expressions on scalars, which are traced into Weft's language.

    score(s, b, h, i, j) gives the logit, s being q_i . k_j / sqrt(D) (or times `scale`); where(b, h, i, j) the pairs that are kept;
    weight(b, h, i, j) a factor inside the normaliser, gate(b, h, i, j) one after it; sink(b, h) an extra logit. Tensors that they
    capture become inputs, float ones with gradients. What it gives is called with q [B, H, T, D], k [B, G, S, D], v [B, G, S, E].

    >>> slope = torch.nn.Parameter(torch.rand(8))
    >>> alibi = weft.from_python(score=lambda s, b, h, i, j: s - slope[h] * (i - j), where=lambda b, h, i, j: i >= j)
    >>> o = alibi(q, k, v)
    """
    return PythonVariant(score, where, weight, gate, sink, normalize=normalize, dropout=dropout, scale=scale, name=name)


@overload
def attention(variant: str | Variant | PythonVariant, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: Literal[False] = False, **inputs: Any) -> torch.Tensor: ...
@overload
def attention(variant: str | Variant | PythonVariant, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: Literal[True], **inputs: Any) -> tuple[torch.Tensor, torch.Tensor]: ...
def attention(variant: str | Variant | PythonVariant, q: Rows = None, k: Rows = None, v: Rows = None, *, lse: bool = False, **inputs: Any):
    """o [B, H, T, E] of a variant: a name of the library, a path, a text, or what `variant` and `from_python` give.

    q [B, H, T, D], k [B, G, S, D] and v [B, G, S, E] of one type, G dividing H; `inputs` are what else the variant declares. With `lse`
    also the log-sum-exp of each row, f32 [B, H, T].

    >>> o = weft.attention("adaptive_span", q, k, v, span=span)
    """
    if isinstance(variant, str):
        return call(variant, *_tensors(_given(q, k, v, inputs)), lse)
    return variant(q, k, v, lse=lse, **inputs)


def decode(variant: str | Variant | PythonVariant, q: Rows = None, k: Rows = None, v: Rows = None, **inputs: Any) -> torch.Tensor:
    """The attention of the newest token alone, [B, H, 1, E]: q [B, H, 1, D], all keys so far, k [B, G, S, D], v [B, G, S, E]. With
    `lengths`, integers [B], sequence b has the first lengths[b] keys alone, and q [B, H, T, D] are its T newest tokens: o [B, H, T, E].
    Without gradients. Raises weft.Error."""
    if isinstance(variant, str):
        return _told(_ops.decode, variant, *_tensors(_given(q, k, v, inputs)))
    return variant.decode(q, k, v, **inputs)


def tune(variant: str | Variant | PythonVariant, q: Rows = None, k: Rows = None, v: Rows = None, **options: Any) -> list[dict[str, Any]]:
    """The fastest schedules for calls like this one, q [B, H, T, D], k [B, G, S, D], v [B, G, S, E], kept for this machine: see
    Variant.tune."""
    own = Variant(variant) if isinstance(variant, str) else variant
    return own.tune(q, k, v, **options)


def library() -> Sequence[str]:
    """The names of the library's variants."""
    return list(_ops.library())
