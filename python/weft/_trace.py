"""Plain torch expressions on the scalars of a pair, traced into expressions of Weft's language.

A function is called once, with tensors that remember how they came about (`Traced`). Types and mistakes are torch's own:
every operation is also done on example numbers.
"""

from __future__ import annotations

import functools
import math
import re
import sys
import types
from dataclasses import dataclass, replace
from typing import Any, Callable, Sequence

import torch
from torch.overrides import TorchFunctionMode

from . import _expressions as ex
from ._expressions import Node, binary, choice, number
from ._operations import EXACT, INPLACE, OPERATIONS, WRAPPING, Result, convert, kind_of, truncated

RESERVED = set(
    "attention const let where score weight gate sink dropout normalize select mod and or not if then else true false b h i j "
    "o do lse dlse delta selection workspace pages seed status band counts entries counts_keys entries_keys page also keys "
    "int float bool in typical rising q k v B H G T S D E dot min max clamp abs exp exp2 log log1p sqrt rsqrt sin cos tanh sigmoid relu "
    "softplus pow triangle floor ceil round inf div erf tan log2 any all sum def".split()
)
NARROW = (torch.uint8, torch.int8, torch.int16)


class Traced(torch.Tensor):
    """A scalar of one pair of a query and a key. `node`: how it is computed; `finite`: the condition under which it is not -inf, or
    None where it never is; `read`: a captured tensor that some indices of are still missing, or a product of two such rows."""

    example: torch.Tensor  # a plain one of its type
    node: Node
    finite: Node | None
    read: "Read | Products | None"
    tracer: "Tracer"

    @staticmethod
    def of(tracer: "Tracer", example: torch.Tensor, node: Node | None, finite: Node | None = None, read: "Read | Products | None" = None) -> "Traced":
        with torch._C.DisableTorchFunction():
            own = torch.Tensor._make_subclass(Traced, example)
        own.example, own.node, own.finite, own.read, own.tracer = example, node, finite, read, tracer
        return own

    @property
    def kind(self) -> str:
        return kind_of(self.example.dtype)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        return next(a for a in _flat((args, kwargs)) if isinstance(a, Traced)).tracer.apply(function, args, kwargs)


@dataclass
class Read:
    """A captured tensor with its first indices."""

    tensor: torch.Tensor
    indices: list[Node]

    @property
    def is_row(self) -> bool:
        return self.tensor.dim() - len(self.indices) == 1


@dataclass
class Products:
    """Of the elements of two rows; their sum is a number."""

    rows: "tuple[Traced, Traced]"


class _Indexing(TorchFunctionMode):
    """Sees captured tensors that are indexed by traced numbers."""

    def __init__(self, tracer: "Tracer"):
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(isinstance(a, Traced) for a in _flat((args, kwargs))):
            return self.tracer.apply(function, args, kwargs)
        # What comes of it may hang on values of tensors.
        if function not in (torch.Tensor.dtype.__get__, torch.Tensor.device.__get__):
            self.tracer.opaque = True
        return function(*args, **kwargs)


def _flat(value):
    if isinstance(value, (tuple, list)):
        for own in value:
            yield from _flat(own)
    elif isinstance(value, dict):
        for own in value.values():
            yield from _flat(own)
    else:
        yield value


@dataclass
class Input:
    name: str
    kind: str
    dims: list[str]
    order: tuple[int, ...]  # of the captured tensor's dims
    captured: torch.Tensor | None  # ids are of living tensors
    tensor: torch.Tensor | None = None  # what a call is given: `captured`, cut
    fresh: tuple[int, ...] = ()  # of a row: dims that `captured` has not, of size 1
    groups: int | None = None  # of a row: those of `captured` that the heads share, and how often each stands
    times: int = 1

    def recipe(self) -> "Input":
        """Without the tensors."""
        return replace(self, captured=None, tensor=None)

    def cut(self, captured: torch.Tensor, sizes: dict[str, int]) -> torch.Tensor:
        """`captured` with its dims in their order, and as long as the call's."""
        own = captured.permute(self.order)
        for at in self.fresh:
            own = own.unsqueeze(at)
        for at, dim in enumerate(self.dims):
            size = self.groups if self.groups and at == 1 else sizes.get(dim)
            if size is None or at in self.fresh:
                continue
            if own.shape[at] < size:
                index = "h // n" if size == self.groups != sizes.get("H") else dict(B="b", H="h", T="q_idx", S="kv_idx").get(dim, "h")
                raise IndexError(f"a captured tensor of shape {tuple(captured.shape)} is indexed with {index}, which goes up to {size - 1}")
            own = own.narrow(at, 0, size)
        return own.repeat_interleave(self.times, 1) if self.times > 1 else own

    @property
    def declaration(self) -> str:
        kind = "" if self.kind == "float" else self.kind + " "
        return f"{self.name}: {kind}[{', '.join(self.dims)}]"


class Tracer:
    """Collects the tensors that functions of one variant capture, by the names and dims that they get. `sizes`: of B, H, G (heads of
    keys), T and S. Texts are the same for all of B, T and S."""

    def __init__(self, sizes: dict[str, int]):
        self.sizes = sizes
        self.inputs: dict[tuple, Input] = {}
        self.wished: dict[int, str] = {}  # names of tensors, by id
        self.with_gradients = True
        self.opaque = False  # what a text hangs on is not all known
        self.heads = "G"  # the dim of k and v that counts them
        self.shared: dict[int, str] = {}  # dims of rows of keys, by how many they are
        # Ints below 2^24 are exact as floats. Texts are the same for all sizes that are.
        self.b, self.h, self.i, self.j = (Node(name, low=0, high=EXACT - 1 if self.sizes.get(dim, 0) <= EXACT else None) for name, dim in zip("bhij", "BHTS"))

    # What functions are given

    def index(self, node: Node, dtype=torch.int32) -> Traced:
        return Traced.of(self, torch.zeros((), dtype=dtype), node)

    def pair(self) -> list[Traced]:
        """b, h, i and j, as functions get them: anew for each, as they may be changed in place."""
        return [self.index(own) for own in (self.b, self.h, self.i, self.j)]

    def scaled_product(self, scale: float | None) -> Node:
        """The logit before any function: without a scale that of D, so that the text serves all D."""
        dot = Node("dot(q[i], k[j])", inputs=frozenset("qk"))
        return binary("/", dot, Node("sqrt(D)")) if scale is None else binary("*", dot, number(float(scale)))

    def score(self, function: Callable | None, scale: float | None) -> list[tuple[str, Node]]:
        """The statements of a score: what `function` makes of the scaled product, and where that is not -inf."""
        node = self.scaled_product(scale)
        if function is None:
            return [("score", node)]
        got = self.trace(function, self.value(node), *self.pair())
        return ([("where", got.finite)] if got.finite else []) + [("score", self.as_number(got, True))]

    def text(self, name: str, statements: list[tuple[str, Node]], more: list[str]) -> str:
        """A variant of these statements, masks first, and of lines of text."""
        statements = sorted(statements, key=lambda own: own[0] != "where")
        printer = ex.Printer([node for _, node in statements], self.names())
        head = "".join(f", {own.declaration}" for own in self.inputs.values())
        lines = [*printer.lets, *(f"{word} {printer[node]}" for word, node in statements), *more]
        return f"attention {name}(q: [B, H, T, D], k: [B, {self.heads}, S, D], v: [B, {self.heads}, S, E]{head})\n{{\n" + "".join(f"  {own}\n" for own in lines) + "}\n"

    def value(self, node: Node) -> Traced:
        return Traced.of(self, torch.zeros((), dtype=torch.float32), node)

    def trace(self, function: Callable, *args: Traced) -> Traced:
        """What `function` gives, as a scalar that remembers. NotImplementedError names what the language has no words for."""
        self._note_names(function, set())
        self.with_gradients = torch.is_grad_enabled()
        with _Indexing(self):
            result = function(*args)
        if isinstance(result, (bool, int, float)):
            result = torch.tensor(result)
        if not isinstance(result, torch.Tensor):
            raise TypeError(f"expected {_name_of(function)} to give a tensor of no dims, got {type(result).__name__}")
        return self.lift(result)

    def _note_names(self, function: Callable, seen: set):
        """Captured tensors are called as in the text of the function."""
        function = getattr(function, "__wrapped__", function)
        if id(function) in seen:
            return
        seen.add(id(function))
        code = getattr(function, "__code__", None)
        if code is None:
            if isinstance(function, functools.partial):
                self._note_names(function.func, seen)
                for name, held in function.keywords.items():
                    self._note_held(name, held, (), seen)
            elif isinstance(getattr(type(function), "__call__", None), types.FunctionType):  # an object, a module among them
                self._note_held("", function, (), seen)
                self._note_names(getattr(function, "forward", None) or function.__call__, seen)
            return
        whose = getattr(function, "__self__", None)  # of a method
        if whose is not None:
            self._note_held("", whose, code.co_names, seen)
        for name, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                held = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            self._note_held(name, held, code.co_names, seen)
        for name in code.co_names:
            held = getattr(function, "__globals__", {}).get(name)
            if isinstance(held, torch.Tensor):
                self.wished.setdefault(id(held), name)

    def _note_held(self, name: str, held: Any, named: Sequence[str], seen: set):
        """What a function captures: a tensor, another function, several of them, or an object with tensors as attributes. `named`: by the
        function's code."""
        if isinstance(held, torch.Tensor):
            self.wished.setdefault(id(held), name)
        elif callable(held) and hasattr(held, "__code__"):
            self._note_names(held, seen)
        elif isinstance(held, (tuple, list)):
            for own in held:
                if hasattr(own, "__code__"):
                    self._note_names(own, seen)
        elif isinstance(held, dict):
            for key, own in held.items():
                if isinstance(key, str) and isinstance(own, torch.Tensor):
                    self.wished.setdefault(id(own), key)
        else:
            kept = getattr(held, "__dict__", {})
            for source in (kept, kept.get("_parameters"), kept.get("_buffers")):
                for attribute in named or source or () if isinstance(source, dict) else ():
                    own = source.get(attribute)
                    if isinstance(own, torch.Tensor):
                        self.wished.setdefault(id(own), attribute)

    # Values

    def lift(self, value: Any) -> Traced:
        if isinstance(value, Traced):
            if isinstance(value.read, Products):
                raise NotImplementedError("the products of two rows are used one by one: sum them, as in (x[b, h, q_idx] * y[b, h, kv_idx]).sum()")
            if value.read is not None:
                rows = ", or multiply two rows, as in torch.dot(x[b, h, q_idx], y[b, h, kv_idx])" if value.read.is_row else ""
                raise NotImplementedError(
                    f"a captured tensor of shape {tuple(value.read.tensor.shape)} is used with {len(value.read.indices)} "
                    f"of its indices: index every dim, as in bias[h, q_idx]{rows}"
                )
            return value
        if isinstance(value, torch.Tensor):
            if value.dim():
                raise NotImplementedError(
                    f"a captured tensor of shape {tuple(value.shape)} is used as a whole: index every dim, as in bias[h, q_idx]"
                )
            return self._read(Read(value, []), ())
        if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
            value = value.item()
        if isinstance(value, bool):
            return Traced.of(self, torch.tensor(value), Node("true" if value else "false"))
        if isinstance(value, int):
            return Traced.of(self, torch.tensor(value), number(value))
        if isinstance(value, float):
            return Traced.of(self, torch.tensor(value), *self._float(value))
        raise NotImplementedError(f"a {type(value).__name__} in an expression of a pair")

    def _float(self, value: float) -> tuple[Node, Node | None]:
        if value == -math.inf:
            return number(0.0), Node("false")
        if not math.isfinite(value):
            raise NotImplementedError(f"{value} in an expression of a pair: only -inf has a meaning, as a score that drops the pair")
        if abs(value) > torch.finfo(torch.float32).max:
            raise NotImplementedError(f"{value} does not fit the float32 that kernels compute in")
        return number(value), None

    def as_number(self, value: Traced, floating: bool = False) -> Node:
        """A condition is 1 or 0."""
        if value.kind == "bool":
            node = choice(value.node, number(1), number(0))
            node.low, node.high = 0, 1
        else:
            node = value.node
        if floating and value.kind != "float":
            node = binary("*", node, number(1.0))
        return node

    def as_kind(self, value: Traced, kind: str) -> Node:
        """Converted: a float to an int towards 0."""
        if value.kind == kind:
            return value.node
        if kind == "bool":
            return self.as_condition(value)
        if kind == "float":
            return self.as_number(value, True)
        return self.as_number(value) if value.kind == "bool" else truncated(value.node, False)

    def as_condition(self, value: Traced) -> Node:
        return value.node if value.kind == "bool" else binary("!=", value.node, number(0))

    # Operations

    def apply(self, function, args, kwargs):
        name = getattr(function, "__name__", str(function))
        if name == "__get__":  # an attribute
            return self._attribute(function, args[0])
        if name in ("__getitem__", "index") and args:
            return self._getitem(*args)
        if name in ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "__nonzero__", "numpy", "__len__", "__contains__"):
            raise NotImplementedError(
                f"{name}: the value of a pair is known when the kernel runs, not before: write torch.where(condition, a, b) for an if, "
                "and & | ~ for and, or, not"
            )
        if name in ("dim", "size", "numel", "nelement", "is_floating_point", "is_complex", "is_signed", "element_size", "get_device"):
            self.opaque |= any(isinstance(a, Traced) and a.read is not None for a in args)  # of rows sizes are seen
            with torch._C.DisableTorchFunction():
                return function(*(_example(a) for a in args), **kwargs)
        if name in ("__repr__", "__str__", "__format__"):
            return f"Traced({args[0].node.form if args[0].node else '...'})"
        key = name.strip("_").removeprefix("special_")
        if name.endswith("_") and not name.endswith("__") or name in INPLACE:
            return self._in_place(function, key, args, kwargs)
        rows = self._of_rows(key, args, kwargs)
        if rows is not None:
            return rows
        known = OPERATIONS.get(key)
        if known is None or name == "__setitem__" or not _is_of_torch(function):
            custom = _custom_function()
            inside = f"torch.autograd.Function {custom} calls what Weft cannot trace: " if custom else ""
            raise NotImplementedError(f"{inside}{_source(function)} has no counterpart in Weft's language")
        operands = [self.lift(a) for a in _flat((args, kwargs)) if isinstance(a, Traced)]
        for own in _flat((args, kwargs)):
            if isinstance(own, torch.Tensor) and not isinstance(own, Traced) and own.dim() and name != "type_as":
                self.lift(own)  # says what is wrong
        examples = [_example(a) for a in args]
        named = {key: _example(own) for key, own in kwargs.items()}
        with torch._C.DisableTorchFunction():
            try:
                example = function(*examples, **named)
            except RuntimeError as error:
                if "ZeroDivision" not in str(error):
                    raise
                example = function(*(torch.ones_like(own) if isinstance(own, torch.Tensor) else own for own in examples), **named)
        if example is not None and isinstance(example, torch.Tensor) and example.dtype in NARROW and key in WRAPPING:
            if not (known is convert and operands[0].example.dtype == example.dtype):
                raise NotImplementedError(f"{_source(function)} gives {example.dtype}, which wraps around: ints of kernels have 32 bits; convert to torch.int32 first")
        if not isinstance(example, torch.Tensor) or example.dim():
            raise NotImplementedError(f"{_source(function)} of a pair's scalars gives no scalar")
        node, *finite = known(self, Result(example, function), *args, **kwargs)
        self._check_gradient(node, example)
        if not finite:
            if any(own.finite for own in operands):
                raise NotImplementedError(f"{_source(function)} of -inf: it may pass through torch.where, + and - alone, on its way to the score")
            finite = [None]
        return Traced.of(self, example, node, finite[0])

    def _check_gradient(self, node: Node, example: torch.Tensor):
        """What is differentiated is the expression that was traced."""
        if not (self.with_gradients and node.inputs and example.is_floating_point()):
            return
        whose, custom = ", ".join(sorted(node.inputs)), _custom_function()
        if custom:
            raise NotImplementedError(
                f"torch.autograd.Function {custom} of what hangs on {whose}: its backward is not that of its forward, which alone could be traced. "
                "Write what forward computes in torch's operations, which are differentiated here; under torch.no_grad forward is traced as it is"
            )
        if not torch.is_grad_enabled():
            raise NotImplementedError(f"torch.no_grad around what hangs on {whose}: give a detached copy of it beside the other")

    def _in_place(self, function, key, args, kwargs):
        """x += y and x.add_(y), of a scalar of the pair: it becomes the result."""
        key = INPLACE.get(f"__{key}__", key)
        target = args[0]
        if not isinstance(target, Traced) or target.read is not None or key not in OPERATIONS:
            raise NotImplementedError(f"{_source(function)} changes a tensor in place: it is not part of an expression of a pair")
        result = self.apply(getattr(torch.Tensor, key, None) or getattr(torch.Tensor, f"__{key}__"), args, kwargs)
        if result.example.dtype != target.example.dtype:
            raise NotImplementedError(f"{_source(function)} would change {target.example.dtype} to {result.example.dtype}")
        target.node, target.finite = result.node, result.finite
        return target

    def _attribute(self, function, value: Traced):
        whose = getattr(function, "__self__", None)
        name = getattr(whose, "__name__", "")
        if name in ("dtype", "device", "shape", "ndim", "is_cuda", "requires_grad", "layout", "is_cpu", "is_meta"):
            self.opaque |= value.read is not None
            with torch._C.DisableTorchFunction():
                return function(value.example)
        raise NotImplementedError(f"attribute {name or function} of a pair's scalar")

    # Rows

    def _of_rows(self, key: str, args, kwargs) -> Traced | None:
        """torch.dot(x[b, h, q_idx], y[b, h, kv_idx]) and the like; None for what is no product of two rows."""
        args = [*args, *kwargs.values()] if key in _PRODUCTS else list(args)
        if key == "einsum" and args and isinstance(args[0], str) and re.fullmatch(r"(\w),\1(->)?", args[0].replace(" ", "")):
            args, key = _listed(args[1:]), "dot"
        if key == "sum" and isinstance(getattr(args[0], "read", None), Products):
            along = [*args[1:], *kwargs.values()]
            if any(dim not in (0, -1, (0,), (-1,), [0], [-1], None) for dim in along) or len(along) > 1 or kwargs.keys() - {"dim", "axis"}:
                raise NotImplementedError("a sum of the products of two rows with further arguments")
            return self._dot(*args[0].read.rows)
        rows = [own for own in args if isinstance(own, Traced) and isinstance(own.read, Read) and own.read.is_row]
        if len(rows) != 2 or len(args) != 2 or key not in ("mul", "multiply", *_PRODUCTS):
            return None
        if key in ("mul", "multiply"):
            with torch._C.DisableTorchFunction():
                return Traced.of(self, rows[0].example * rows[1].example, None, read=Products(tuple(rows)))
        return self._dot(*rows)

    def _dot(self, x: Traced, y: Traced) -> Traced:
        with torch._C.DisableTorchFunction():
            example = torch.dot(x.example, y.example)
        left, right = self._row(x.read), self._row(y.read)
        if "T" in left.dims and "T" in right.dims or "S" in left.dims and "S" in right.dims:
            raise NotImplementedError("a product of two rows that are both of queries, or both of keys: compute it before, and index what comes out")
        # Rows that are multiplied have one length.
        lengths = left.dims[-1], right.dims[-1]
        for own in self.inputs.values():
            if own.dims and own.dims[-1] == lengths[1]:
                own.dims[-1] = lengths[0]
        index = {"T": "i", "S": "j"}
        node = Node(f"dot({left.name}[{index[left.dims[2]]}], {right.name}[{index[right.dims[2]]}])", inputs=frozenset((left.name, right.name)))
        self._check_gradient(node, example)
        return Traced.of(self, example, node)

    def _row(self, read: Read) -> Input:
        """The input [B, H, T, length] of queries or [B, H or groups, S, length] of keys that a row is taken from."""
        tensor, dims, shared = read.tensor, [], 1
        if kind_of(tensor.dtype) != "float":
            raise NotImplementedError(f"a product of rows of {tensor.dtype}")
        if tensor.shape[-1] > 256:
            raise NotImplementedError(f"a product of rows of {tensor.shape[-1]} numbers: kernels take up to 256")
        for node in read.indices:
            group = self._group(node)
            shared = group or shared
            dims.append("B" if node is self.b else "H" if group else "T" if node is self.i else "S" if node is self.j else "")
        if "" in dims or len(set(dims)) != len(dims) or ("T" in dims) == ("S" in dims):
            raise NotImplementedError(
                f"a product of rows of a captured tensor of shape {tuple(tensor.shape)}: they are indexed by q_idx or kv_idx itself, by b, and by h or "
                "h // n, each once, as in torch.dot(x[b, h, q_idx], y[b, h // n, kv_idx])"
            )
        whole = ["B", "H", "T" if "T" in dims else "S"]
        order = (*(dims.index(dim) for dim in whole if dim in dims), len(dims))
        fresh = tuple(at for at, dim in enumerate(whole) if dim not in dims)
        key = ("row", *_same_tensor(tensor), order, tuple(whole), shared)
        if key not in self.inputs:
            heads = self.sizes.get("H")
            groups = None if heads is None else 1 if 1 in fresh else -(-heads // shared)
            if groups and heads % groups or groups and groups > 1 and heads % shared:
                raise NotImplementedError(f"rows indexed by h // {shared} of {heads} heads: the number of heads is a multiple of those that share a row")
            if whole[2] == "S":
                whole[1], times = self._shared_by(groups) if groups else ("H" if shared == 1 and 1 not in fresh else "G", 1)
            else:
                times = heads // groups if groups else 1
            found = Input(self._name(tensor), "float", [*whole, f"N{len(self.inputs)}"], order, tensor, fresh=fresh, groups=groups, times=times)
            found.tensor = found.cut(tensor, self.sizes)
            self.inputs[key] = found
        return self.inputs[key]

    def _group(self, node: Node) -> int | None:
        """n of an index h // n, 1 of h."""
        if node is self.h:
            return 1
        if node.form not in ("{} div {}", "{} >> {}") or node.args[0] is not self.h:
            return None
        by = node.args[1]
        if by.low is None or by.low != by.high or by.args or not 0 < by.low + (node.form == "{} >> {}") < 31 + EXACT * (node.form == "{} div {}"):
            return None
        return by.low if node.form == "{} div {}" else 1 << by.low

    def _shared_by(self, groups: int) -> tuple[str, int]:
        """The dim of that many rows of keys, and how often each must stand. G counts the fewest, v's among them, and divides every other."""
        heads = self.sizes["H"]
        if groups == heads:
            return "H", 1
        least = self.sizes.get("G", heads)
        if least == heads:  # k and v are those of all heads: G is free
            self.heads = "H"
            least = next((own for own, dim in self.shared.items() if dim == "G"), groups)
        if groups % least:
            return ("G", least // groups) if least % groups == 0 else ("H", heads // groups)
        if groups not in self.shared:
            self.shared[groups] = "G" if groups == least else f"G{len(self.shared.keys() - {least}) + 2}"
        return self.shared[groups], 1

    # Captured tensors

    def _getitem(self, tensor, index):
        indices = list(index) if isinstance(index, (tuple, list)) else [index]
        if isinstance(tensor, Traced):
            if not isinstance(tensor.read, Read):
                raise NotImplementedError("an index into a scalar of a pair" if tensor.read is None else "an index into the products of two rows")
            return self._read(tensor.read, indices)
        return self._read(Read(tensor, []), indices)

    def _read(self, before: Read, more) -> Traced:
        tensor, indices = before.tensor, list(before.indices)
        for own in more:
            if isinstance(own, slice) and own == slice(None):
                raise NotImplementedError("a slice beside an index of a pair: index every dim")
            if own is Ellipsis or own is None or isinstance(own, slice):
                raise NotImplementedError(f"{own!r} as an index beside those of a pair")
            if len(indices) >= tensor.dim():
                raise IndexError(f"too many indices for a tensor of shape {tuple(tensor.shape)}")
            if isinstance(own, (bool, float)):
                raise NotImplementedError(f"{own!r} as an index beside those of a pair")
            if not isinstance(own, torch.Tensor) or (not isinstance(own, Traced) and own.dim() == 0 and not own.dtype.is_floating_point):
                tensor = tensor.select(len(indices), int(own))  # the same for all pairs
                continue
            own = self.lift(own)
            if own.kind != "int":
                raise NotImplementedError(f"an index of type {own.example.dtype}: expected an int")
            indices.append(own.node)
        if len(indices) < tensor.dim():
            with torch._C.DisableTorchFunction():
                example = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape[len(indices):])
            return Traced.of(self, example, None, read=Read(tensor, indices))
        return self._element(tensor, indices)

    def _element(self, tensor: torch.Tensor, indices: list[Node]) -> Traced:
        # B and H stand first, in that order.
        order, dims = [], []
        for node, dim in ((self.b, "B"), (self.h, "H")):
            at = next((at for at, own in enumerate(indices) if own is node and at not in order), None)
            if at is not None:
                order.append(at)
                dims.append(dim)
        rest = [at for at in range(len(indices)) if at not in order]
        exact = {id(self.i): "T", id(self.j): "S"}
        # Not two dims of one name: the first is that of the index itself.
        for at in rest:
            dim = exact.get(id(indices[at]))
            dims.append(dim if dim and dim not in dims else "")
        order += rest
        key = (*_same_tensor(tensor), tuple(order), tuple(dims))
        if key not in self.inputs:
            prefix = f"N{len(self.inputs)}"
            named = [dim or (f"{prefix}_{at}" if len(dims) > 1 else prefix) for at, dim in enumerate(dims)]
            found = Input(self._name(tensor), kind_of(tensor.dtype), named, tuple(order), tensor)
            found.tensor = found.cut(tensor, self.sizes)
            self.inputs[key] = found
        own = self.inputs[key]
        nodes = []
        for at, dim in zip(order, own.dims):
            index = indices[at]
            if dim in ("B", "H"):
                continue
            # As in Python an index below 0 counts from the end.
            if dim not in ("T", "S") and (index.low is None or index.low < 0):
                index = choice(binary("<", index, number(0)), binary("+", index, Node(dim)), index)
            nodes.append(index)
        node = Node(own.name + ("[" + ", ".join("{}" for _ in nodes) + "]" if nodes or own.dims else "[]"), nodes, ex.PRIMARY, [ex.IF] * len(nodes))
        if own.dims and not nodes:
            node.form = own.name + "[" + ", ".join({"B": "b", "H": "h"}[dim] for dim in own.dims) + "]"
        elif not own.dims:
            node.form = own.name
        if own.kind == "float":
            node.inputs |= {own.name}
        with torch._C.DisableTorchFunction():
            example = torch.zeros((), dtype=tensor.dtype)
        return Traced.of(self, example, node)

    def _name(self, tensor: torch.Tensor) -> str:
        wished = re.sub(r"\W|^(?=\d)", "_", self.wished.get(id(tensor), ""), flags=re.ASCII)[:80] or "t"
        taken = {own.name for own in self.inputs.values()} | RESERVED
        # Names of dims and of lets, and gradients of other inputs.
        if re.fullmatch(r"[BHGTSDEN]\d*(_\d+)*|x\d+|_+", wished) or (wished.startswith("d") and wished[1:] in taken):
            wished = "t_" + wished
        name, count = wished, 1
        while name in taken or f"d{name}" in taken:
            count += 1
            name = f"{wished}_{count}"
        return name

    def names(self) -> set[str]:
        return {own.name for own in self.inputs.values()}


_PRODUCTS = ("dot", "vdot", "inner", "matmul", "linalg_vecdot", "einsum")


def _same_tensor(tensor: torch.Tensor) -> tuple:
    return id(tensor), tuple(tensor.shape), tensor.storage_offset() if tensor.device.type != "meta" else 0, tuple(tensor.stride())


def _listed(args) -> list:
    return list(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else list(args)


def _is_of_torch(function) -> bool:
    """Not an operator of somebody else's that has the name of one of torch's."""
    name = getattr(function, "_qualified_op_name", None) or str(getattr(function, "_name", "aten::"))
    return name.startswith("aten::")


def _custom_function() -> str | None:
    """The name of the torch.autograd.Function whose forward is running inside of the traced function."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not Tracer.trace.__code__:
        if frame.f_code is torch.autograd.Function.apply.__func__.__code__:
            return getattr(frame.f_locals.get("cls"), "__name__", "")
        frame = frame.f_back
    return None


def _example(value):
    return value.example if isinstance(value, Traced) else value


def _name_of(function) -> str:
    return getattr(function, "__name__", repr(function))


def _source(function) -> str:
    """How a function is called: torch.erf, Tensor.erf."""
    if not _is_of_torch(function):
        return f"torch.ops.{str(getattr(function, '_qualified_op_name', None) or function._name).replace('::', '.')}"
    name = getattr(function, "__name__", str(function))
    owner = getattr(function, "__objclass__", None) or getattr(function, "__qualname__", "")
    return f"Tensor.{name}" if owner is torch.Tensor or "Tensor" in str(owner) else f"torch.{name}"
