"""Plain torch expressions on the scalars of a pair, traced into expressions of Weft's language.

A function is called once, with tensors that remember how they came about (`Traced`). Types and mistakes are torch's own:
every operation is also done on example numbers.
"""

from __future__ import annotations

import builtins
import math
import re
from dataclasses import dataclass
from typing import Any, Callable

import torch
from torch.overrides import TorchFunctionMode

from . import _expressions as ex
from ._expressions import Node, binary, call, choice, inversion, negation, number

RESERVED = set(
    "attention const let where score weight gate sink dropout normalize select mod and or not if then else true false b h i j "
    "o do lse dlse delta selection workspace pages seed status band counts entries counts_keys entries_keys page also keys "
    "int float bool in typical rising q k v B H G T S D E dot min max clamp abs exp exp2 log log1p sqrt rsqrt sin cos tanh sigmoid relu "
    "softplus pow triangle floor ceil round".split()
)
EXACT = 1 << 24
NARROW = (torch.uint8, torch.int8, torch.int16)


def kind_of(dtype: torch.dtype) -> str:
    return "bool" if dtype == torch.bool else "float" if dtype.is_floating_point else "int"


class Traced(torch.Tensor):
    """A scalar of one pair of a query and a key. `node`: how it is computed; `finite`: the condition under which it is not -inf, or
    None where it never is; `read`: a captured tensor that some indices of are still missing."""

    example: torch.Tensor  # a plain one of its type
    node: Node
    finite: Node | None
    read: "Read | None"
    tracer: "Tracer"

    @staticmethod
    def of(tracer: "Tracer", example: torch.Tensor, node: Node | None, finite: Node | None = None, read: "Read | None" = None) -> "Traced":
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


class _Indexing(TorchFunctionMode):
    """Sees captured tensors that are indexed by traced numbers."""

    def __init__(self, tracer: "Tracer"):
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(isinstance(a, Traced) for a in _flat((args, kwargs))):
            return self.tracer.apply(function, args, kwargs)
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
    tensor: torch.Tensor

    @property
    def declaration(self) -> str:
        kind = "" if self.kind == "float" else self.kind + " "
        return f"{self.name}: {kind}[{', '.join(self.dims)}]"


class Tracer:
    """Collects the tensors that functions of one variant capture, by the names and dims that they get. `sizes`: of B, H, T and S."""

    def __init__(self, sizes: dict[str, int], names: dict[int, str] | None = None):
        self.sizes = sizes
        self.inputs: dict[tuple, Input] = {}
        self.wished = dict(names or {})
        self.with_gradients = True
        # Ints below 2^24 are exact as floats. Texts are the same for all sizes that are.
        self.b, self.h, self.i, self.j = (Node(name, low=0, high=EXACT - 1 if self.sizes.get(dim, 0) <= EXACT else None) for name, dim in zip("bhij", "BHTS"))

    # What functions are given

    def index(self, node: Node, dtype=torch.int32) -> Traced:
        return Traced.of(self, torch.zeros((), dtype=dtype), node)

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
            return
        for name, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                held = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if isinstance(held, torch.Tensor):
                self.wished.setdefault(id(held), name)
            elif callable(held) and hasattr(held, "__code__"):
                self._note_names(held, seen)
            elif isinstance(held, (tuple, list)):
                for own in held:
                    if hasattr(own, "__code__"):
                        self._note_names(own, seen)
        for name in code.co_names:
            held = getattr(function, "__globals__", {}).get(name)
            if isinstance(held, torch.Tensor):
                self.wished.setdefault(id(held), name)

    # Values

    def lift(self, value: Any) -> Traced:
        if isinstance(value, Traced):
            if value.read is not None:
                raise NotImplementedError(
                    f"a captured tensor of shape {tuple(value.read.tensor.shape)} is used with {len(value.read.indices)} "
                    "of its indices: index every dim, as in bias[h, q_idx]"
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
            with torch._C.DisableTorchFunction():
                return function(*(_example(a) for a in args), **kwargs)
        if name in ("__repr__", "__str__", "__format__"):
            return f"Traced({args[0].node.form if args[0].node else '...'})"
        key = name.strip("_").removeprefix("special_")
        if name.endswith("_") and not name.endswith("__") or name in INPLACE:
            return self._in_place(function, key, args, kwargs)
        known = OPERATIONS.get(key)
        if known is None or name == "__setitem__":
            raise NotImplementedError(f"{_source(function)} has no counterpart in Weft's language")
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
            if not (known is _convert and operands[0].example.dtype == example.dtype):
                raise NotImplementedError(f"{_source(function)} gives {example.dtype}, which wraps around: ints of kernels have 32 bits; convert to torch.int32 first")
        if not isinstance(example, torch.Tensor) or example.dim():
            raise NotImplementedError(f"{_source(function)} of a pair's scalars gives no scalar")
        node, *finite = known(self, _Result(example, function), *args, **kwargs)
        if self.with_gradients and not torch.is_grad_enabled() and node.inputs and example.is_floating_point():
            raise NotImplementedError(f"torch.no_grad around what hangs on {', '.join(sorted(node.inputs))}: give a detached copy of it beside the other")
        if not finite:
            if any(own.finite for own in operands):
                raise NotImplementedError(f"{_source(function)} of -inf: it may pass through torch.where, + and - alone, on its way to the score")
            finite = [None]
        return Traced.of(self, example, node, finite[0])

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
            with torch._C.DisableTorchFunction():
                return function(value.example)
        raise NotImplementedError(f"attribute {name or function} of a pair's scalar")

    # Captured tensors

    def _getitem(self, tensor, index):
        indices = list(index) if isinstance(index, (tuple, list)) else [index]
        if isinstance(tensor, Traced):
            if tensor.read is None:
                raise NotImplementedError("an index into a scalar of a pair")
            return self._read(tensor.read, indices)
        return self._read(Read(tensor, []), indices)

    def _read(self, before: Read, more) -> Traced:
        tensor, indices = before.tensor, list(before.indices)
        for own in more:
            if own is Ellipsis or own is None or isinstance(own, slice):
                if isinstance(own, slice) and own == slice(None):
                    raise NotImplementedError("a slice beside an index of a pair: index every dim")
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
                example = torch.zeros([1] * (tensor.dim() - len(indices)), dtype=tensor.dtype)
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
        key = (id(tensor), tuple(tensor.shape), tensor.storage_offset() if tensor.device.type != "meta" else 0, tuple(tensor.stride()),
               tuple(order), tuple(dims))
        if key not in self.inputs:
            own = tensor.permute(order)
            named = []
            for at, dim in enumerate(dims):
                if not dim:
                    named.append(f"N{len(self.inputs)}_{at}" if len(dims) > 1 else f"N{len(self.inputs)}")
                    continue
                named.append(dim)
                if dim not in self.sizes:
                    continue
                if own.shape[at] < self.sizes[dim]:
                    raise IndexError(
                        f"a captured tensor of shape {tuple(tensor.shape)} is indexed with {dict(B='b', H='h', T='q_idx', S='kv_idx')[dim]}, "
                        f"which goes up to {self.sizes[dim] - 1}"
                    )
                own = own.narrow(at, 0, self.sizes[dim])
            self.inputs[key] = Input(self._name(tensor), kind_of(tensor.dtype), named, own)
            self.inputs[key].held = tensor  # ids are of living tensors
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


def _example(value):
    return value.example if isinstance(value, Traced) else value


def _name_of(function) -> str:
    return getattr(function, "__name__", repr(function))


def _source(function) -> str:
    """How a function is called: torch.erf, Tensor.erf."""
    name = getattr(function, "__name__", str(function))
    owner = getattr(function, "__objclass__", None) or getattr(function, "__qualname__", "")
    return f"Tensor.{name}" if owner is torch.Tensor or "Tensor" in str(owner) else f"torch.{name}"


@dataclass
class _Result:
    example: torch.Tensor
    function: Callable

    @property
    def kind(self) -> str:
        return kind_of(self.example.dtype)


# Each gives the node of its result and, where it can take -inf, the condition under which the result is finite.
OPERATIONS: dict[str, Callable] = {}


def operation(*names):
    def add(function):
        for name in names:
            OPERATIONS[name] = function
        return function

    return add


def _numbers(t: Tracer, result: _Result, *values) -> list[Node]:
    lifted = [t.lift(value) for value in values]
    # Ints of a float result: converted first, where the operation is one of ints too.
    floating = result.kind == "float" and all(own.kind != "float" for own in lifted)
    return [t.as_number(own, floating) for own in lifted]


def _both(a: Node | None, b: Node | None) -> Node | None:
    return binary("and", a, b) if a and b else a or b


def _bounds(node: Node, low, high) -> Node:
    limit = 2**31 - 1
    node.low = low if low is not None and abs(low) <= limit else None
    node.high = high if high is not None and abs(high) <= limit else None
    return node


def _sum(t, result, a, b, alpha, sign):
    x, y = t.lift(a), t.lift(b)
    if alpha != 1:
        y = t.lift(alpha) * y
    if result.kind == "bool":  # of bools a sum is their or
        return (binary("or", x.node, y.node),)
    left, right = t.as_number(x), t.as_number(y)
    if sign == "-" and y.finite:
        raise NotImplementedError("less -inf: a score of +inf")
    if x.finite or y.finite:
        return binary(sign, left, right), _both(x.finite, y.finite)
    node = binary(sign, left, right)
    if result.kind == "int":
        low, high = (right.low, right.high) if sign == "+" else (right.high, right.low)
        if sign == "-":
            low, high = (-low if low is not None else None), (-high if high is not None else None)
        node = _bounds(node, None if left.low is None or low is None else left.low + low, None if left.high is None or high is None else left.high + high)
    return (node,)


@operation("add", "radd")
def _add(t, result, a, b, *, alpha=1):
    return _sum(t, result, a, b, alpha, "+")


@operation("sub", "subtract")
def _sub(t, result, a, b, *, alpha=1):
    return _sum(t, result, a, b, alpha, "-")


@operation("rsub")
def _rsub(t, result, a, b, *, alpha=1):
    return _sum(t, result, b, a, alpha, "-")


@operation("mul", "multiply", "rmul")
def _mul(t, result, a, b):
    x, y = t.lift(a), t.lift(b)
    if result.kind == "bool":
        return (binary("and", x.node, y.node),)
    for scaled, factor in ((x, b), (y, a)):
        if scaled.finite and isinstance(factor, (int, float)) and factor > 0:
            return binary("*", x.node, y.node), scaled.finite
    if x.finite or y.finite:
        raise NotImplementedError("-inf times what may be 0 or less")
    left, right = t.as_number(x), t.as_number(y)
    node = binary("*", left, right)
    if result.kind == "int" and left.low is not None and right.low is not None and left.low >= 0 and right.low >= 0:
        node = _bounds(node, left.low * right.low, None if left.high is None or right.high is None else left.high * right.high)
    return (node,)


def _is_exact(node: Node) -> bool:
    """An int that a float holds exactly."""
    return node.low is not None and node.high is not None and -EXACT < node.low and node.high < EXACT


def whole(node: Node, up: bool = False) -> Node:
    """The greatest whole float that is not above a float, or the least that is not below: floor and ceil are ints, which end at 2^31."""
    if node.low is not None and node.high is not None and -EXACT < node.low and node.high < EXACT:
        return binary("*", call("ceil" if up else "floor", node), number(1.0))
    if up:
        return binary("+", node, binary("mod", negation(node), number(1.0)))
    return binary("-", node, binary("mod", node, number(1.0)))


def truncated(node: Node, floating: bool) -> Node:
    if floating:
        return choice(binary("<", node, number(0.0)), whole(node, True), whole(node))
    return choice(binary("<", node, number(0.0)), call("ceil", node), call("floor", node))


def _int_quotient(x: Node, y: Node) -> Node:
    """floor(x / y) of ints."""
    if _is_exact(x) and _is_exact(y):
        # The nearest float of a quotient of ints below 2^24 is on the right side of every int.
        node = call("floor", binary("/", x, y))
    else:
        # What y divides without a rest; its quotient as floats is off by little, which a second step mends.
        even = binary("-", x, binary("mod", x, y))
        about = call("round", binary("/", even, y))
        node = binary("+", about, call("round", binary("/", binary("-", even, binary("*", about, y)), y)))
    if x.low is not None and x.low >= 0 and y.low is not None and y.low > 0:
        node = _bounds(node, 0, x.high)
    elif y.low is not None and y.low > 0 and _is_exact(x):
        node = _bounds(node, x.low, x.high)
    return node


def _quotient(t, result, a, b, rounding_mode):
    x, y = t.lift(a), t.lift(b)
    if x.finite and isinstance(b, (int, float)) and b > 0 and rounding_mode is None:
        return binary("/", x.node, y.node), x.finite
    if x.finite or y.finite:
        raise NotImplementedError("-inf in a division")
    left, right = t.as_number(x), t.as_number(y)
    if rounding_mode not in (None, "floor", "trunc"):
        raise NotImplementedError(f"rounding_mode={rounding_mode!r}")
    if rounding_mode and result.kind == "int":
        if rounding_mode == "floor" or (left.low is not None and left.low >= 0 and right.low is not None and right.low > 0):
            return (_int_quotient(left, right),)
        same = binary(">=", binary("*", t.as_number(t.lift(a).sign()), t.as_number(t.lift(b).sign())), number(0))
        size = _int_quotient(call("abs", left), call("abs", right))
        return (choice(same, size, negation(size)),)
    node = binary("/", left, right)
    if x.kind == y.kind == "int" and _is_exact(left) and right.low is not None and right.low > 0:
        node.low, node.high = builtins.min(left.low, 0), builtins.max(left.high, 0)
    if rounding_mode is None:
        return (node,)
    return (whole(node) if rounding_mode == "floor" else truncated(node, True),)


@operation("div", "divide", "true_divide", "truediv")
def _div(t, result, a, b, *, rounding_mode=None):
    return _quotient(t, result, a, b, rounding_mode)


@operation("rdiv", "rtruediv")
def _rdiv(t, result, a, b, *, rounding_mode=None):
    return _quotient(t, result, b, a, rounding_mode)


@operation("floor_divide", "floordiv")
def _floordiv(t, result, a, b):
    return _quotient(t, result, a, b, "floor")


@operation("rfloordiv")
def _rfloordiv(t, result, a, b):
    return _quotient(t, result, b, a, "floor")


def _modulo(t, result, a, b):
    left, right = _numbers(t, result, a, b)
    node = binary("mod", left, right)
    if result.kind == "int" and right.low is not None and right.low > 0:
        node = _bounds(node, 0, None if right.high is None else right.high - 1)
    return (node,)


@operation("remainder", "mod")
def _mod(t, result, a, b):
    return _modulo(t, result, a, b)


@operation("rmod")
def _rmod(t, result, a, b):
    return _modulo(t, result, b, a)


@operation("fmod")
def _fmod(t, result, a, b):
    left, right = _numbers(t, result, a, b)
    size = call("abs", right)
    return (choice(binary("<", left, number(0)), negation(binary("mod", negation(left), size)), binary("mod", left, size)),)


def _power(t, result, base, exponent):
    def plain(value):
        constant = isinstance(value, torch.Tensor) and not isinstance(value, Traced) and value.dim() == 0 and not value.requires_grad
        value = value.item() if constant or type(value).__module__ == "numpy" else value
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    value, floating = plain(exponent), result.kind == "float"
    if value is not None:
        x = t.as_number(t.lift(base), floating and t.lift(base).kind != "float")
        if float(value).is_integer() and (abs(value) <= 64) and (value >= 0 or floating):
            node = _repeated(x, int(abs(value)), number(1.0 if floating else 1))
            return (binary("/", number(1.0), node) if value < 0 else node,)
        if value in (0.5, -0.5):
            return (call("sqrt" if value > 0 else "rsqrt", x),)
    if plain(base) == 2:
        node = call("exp2", t.as_number(t.lift(exponent)))
        return (node if floating else call("round", node),)
    if not floating:
        raise NotImplementedError("a power of ints, but of a number of Python as the exponent or of 2: compute it before, or in floats")
    x, n = t.as_number(t.lift(base), t.lift(base).kind != "float"), t.as_number(t.lift(exponent), True)
    # Of a base below 0 there are powers of whole exponents alone. No branch is NaN for others' values: gradients pass through all.
    size, parity = call("pow", call("abs", x), n), binary("mod", n, number(2.0))
    odd = choice(binary("==", parity, number(1.0)), negation(size), call("log", number(-1.0)))
    below = choice(binary("==", parity, number(0.0)), size, odd)
    return (choice(binary("<", x, number(0.0)), below, size),)


def _repeated(x: Node, count: int, one: Node) -> Node:
    """x ** count by squaring."""
    result, square = None, x
    while count:
        if count & 1:
            result = square if result is None else binary("*", result, square)
        count >>= 1
        square = binary("*", square, square) if count else square
    return result or one


@operation("pow", "float_power")
def _pow(t, result, a, b):
    return _power(t, result, a, b)


@operation("rpow")
def _rpow(t, result, a, b):
    return _power(t, result, b, a)


@operation("neg", "negative")
def _neg(t, result, a):
    own = t.lift(a)
    node = negation(own.node)
    if result.kind == "int":
        node = _bounds(node, None if own.node.high is None else -own.node.high, None if own.node.low is None else -own.node.low)
    return (node,)


@operation("positive", "pos", "clone", "contiguous", "alias")
def _same(t, result, a, **unused):
    own = t.lift(a)
    return own.node, own.finite


@operation("detach")
def _detach(t, result, a):
    own = t.lift(a)
    if own.node.inputs:
        raise NotImplementedError(f"detach of what hangs on {', '.join(sorted(own.node.inputs))}: give a detached copy of it beside the other")
    return own.node, own.finite


@operation("abs", "absolute")
def _abs(t, result, a):
    own = t.lift(a)
    node = call("abs", own.node)
    return (_bounds(node, 0, None) if result.kind == "int" else node,)


def _of_one(spelling):
    def apply(t, result, a):
        return (call(spelling, t.as_number(t.lift(a))),)

    return apply


for _torch_name, _spelling in dict(exp="exp", exp2="exp2", log="log", log1p="log1p", sqrt="sqrt", rsqrt="rsqrt", sin="sin", cos="cos", tanh="tanh",
                                   sigmoid="sigmoid", expit="sigmoid").items():
    OPERATIONS[_torch_name] = _of_one(_spelling)


@operation("relu")
def _relu(t, result, a, inplace=False):
    if result.kind == "int":
        return (_bounds(call("max", t.lift(a).node, number(0)), 0, None),)
    return (call("relu", t.lift(a).node),)


@operation("softplus")
def _softplus(t, result, a, beta=1, threshold=20):
    x = t.as_number(t.lift(a))
    if beta == 1:
        return (call("softplus", x),)
    return (binary("/", call("softplus", binary("*", x, number(float(beta)))), number(float(beta))),)


@operation("logsigmoid", "log_sigmoid")
def _logsigmoid(t, result, a):
    return (negation(call("softplus", negation(t.lift(a).node))),)


@operation("silu")
def _silu(t, result, a, inplace=False):
    x = t.lift(a).node
    return (binary("*", x, call("sigmoid", x)),)


@operation("log2")
def _log2(t, result, a):
    return (binary("*", call("log", t.as_number(t.lift(a))), number(1 / math.log(2))),)


@operation("log10")
def _log10(t, result, a):
    return (binary("*", call("log", t.as_number(t.lift(a))), number(1 / math.log(10))),)


@operation("expm1")
def _expm1(t, result, a):
    raise NotImplementedError("torch.expm1: Weft's language has exp(x), which is not as exact near 0")


@operation("tan")
def _tan(t, result, a):
    x = t.as_number(t.lift(a))
    return (binary("/", call("sin", x), call("cos", x)),)


@operation("sinh")
def _sinh(t, result, a):
    x = t.as_number(t.lift(a))
    return (binary("/", binary("-", call("exp", x), call("exp", negation(x))), number(2.0)),)


@operation("cosh")
def _cosh(t, result, a):
    x = t.as_number(t.lift(a))
    return (binary("/", binary("+", call("exp", x), call("exp", negation(x))), number(2.0)),)


@operation("square")
def _square(t, result, a):
    x = t.lift(a).node
    return (binary("*", x, x),)


@operation("reciprocal")
def _reciprocal(t, result, a):
    return (binary("/", number(1.0), t.as_number(t.lift(a))),)


@operation("sign", "sgn")
def _sign(t, result, a):
    x = t.lift(a).node
    one, zero = (number(1), number(0)) if result.kind == "int" else (number(1.0), number(0.0))
    return (choice(binary(">", x, zero), one, choice(binary("<", x, zero), negation(one), zero)),)


@operation("floor", "ceil", "round")
def _rounding(t, result, a, *, decimals=0):
    if decimals:
        raise NotImplementedError("round to decimals")
    own, name = t.lift(a), result.function.__name__.strip("_").removeprefix("special_")
    if own.kind == "int":
        return (own.node,)
    if name != "round":
        return (whole(own.node, name == "ceil"),)
    near = binary("*", call("round", own.node), number(1.0))
    return (choice(binary("<", call("abs", own.node), number(2.0**30)), near, whole(own.node)),)


@operation("trunc", "fix")
def _trunc(t, result, a):
    own = t.lift(a)
    return (own.node if own.kind == "int" else truncated(own.node, True),)


@operation("frac")
def _frac(t, result, a):
    x = t.lift(a).node
    return (binary("-", x, truncated(x, True)),)


def _extreme(spelling):
    def apply(t, result, a, b=None, *, other=None):
        b = other if b is None else b
        if b is None:
            return (t.lift(a).node,)
        if result.kind == "bool":
            return (binary("or" if spelling == "max" else "and", t.lift(a).node, t.lift(b).node),)
        left, right = _numbers(t, result, a, b)
        node = call(spelling, left, right)
        if result.kind == "int":
            lows, highs = [left.low, right.low], [left.high, right.high]
            if spelling == "max":
                low = max((own for own in lows if own is not None), default=None)
                high = None if None in highs else max(highs)
            else:
                low = None if None in lows else min(lows)
                high = min((own for own in highs if own is not None), default=None)
            node = _bounds(node, low, high)
        return (node,)

    return apply


for _names, _spelling in ((("maximum", "max", "fmax"), "max"), (("minimum", "min", "fmin"), "min")):
    for _torch_name in _names:
        OPERATIONS[_torch_name] = _extreme(_spelling)


@operation("clamp", "clip")
def _clamp(t, result, a, min=None, max=None):
    (x,) = _numbers(t, result, a)
    least, most = (None if bound is None else t.as_number(t.lift(bound)) for bound in (min, max))
    low, high = x.low, x.high
    # At a bound the derivative is that of x, as torch's: max(x, bound) would share it.
    if least and most:
        node = call("clamp", x, least, most)
    elif least:
        node = choice(binary("<", x, least), least, x)
    elif most:
        node = choice(binary(">", x, most), most, x)
    else:
        return (x,)
    if least:
        low = least.low if low is None or (least.low is not None and least.low > low) else low
        high = None if high is None or least.high is None else builtins.max(high, least.high)
    if most:
        high = most.high if high is None or (most.high is not None and most.high < high) else high
        low = None if low is None or most.low is None else builtins.min(low, most.low)
    return (_bounds(node, low, high) if result.kind == "int" else node,)


@operation("clamp_min")
def _clamp_min(t, result, a, min):
    return _clamp(t, result, a, min)


@operation("clamp_max")
def _clamp_max(t, result, a, max):
    return _clamp(t, result, a, None, max)


def _comparison(sign, swapped=False):
    def apply(t, result, a, b):
        x, y = t.lift(a), t.lift(b)
        if x.kind == y.kind == "bool" and sign in ("==", "!="):
            same = binary("or", binary("and", x.node, y.node), inversion(binary("or", x.node, y.node)))
            return (same if sign == "==" else inversion(same),)
        return (binary(sign, t.as_number(x), t.as_number(y)),)

    return apply


for _names, _spelling in ((("eq",), "=="), (("ne", "not_equal"), "!="), (("lt", "less"), "<"), (("le", "less_equal"), "<="), (("gt", "greater"), ">"),
                          (("ge", "greater_equal"), ">=")):
    for _torch_name in _names:
        OPERATIONS[_torch_name] = _comparison(_spelling)


@operation("isnan")
def _isnan(t, result, a):
    x = t.lift(a)
    return (binary("!=", x.node, x.node) if x.kind == "float" else Node("false"),)


def _logical(sign):
    def apply(t, result, a, b):
        x, y = t.lift(a), t.lift(b)
        if result.kind != "bool":
            return (_bits(t, sign, x, y),)
        return (binary(sign, t.as_condition(x), t.as_condition(y)),)

    return apply


def _bits(t, sign, x, y):
    """Of ints: the lowest bits, and powers of two."""
    for value, mask in ((x, y), (y, x)):
        low = mask.node.low
        if sign == "and" and low is not None and low == mask.node.high and low >= 0 and (low & (low + 1)) == 0:
            return _bounds(binary("mod", t.as_number(value), t.lift(low + 1).node), 0, low)
    raise NotImplementedError("bits of ints other than x & (2 ** n - 1): write it with // and %")


for _names, _spelling in ((("logical_and", "bitwise_and", "and", "rand"), "and"), (("logical_or", "bitwise_or", "or", "ror"), "or")):
    for _torch_name in _names:
        OPERATIONS[_torch_name] = _logical(_spelling)


@operation("logical_xor", "bitwise_xor", "xor", "rxor")
def _xor(t, result, a, b):
    x, y = t.lift(a), t.lift(b)
    if result.kind != "bool":
        raise NotImplementedError("bits of ints: write it with // and %")
    left, right = t.as_condition(x), t.as_condition(y)
    return (binary("and", binary("or", left, right), inversion(binary("and", left, right))),)


@operation("logical_not", "bitwise_not", "invert")
def _not(t, result, a):
    x = t.lift(a)
    if result.kind != "bool":
        return (binary("-", negation(x.node), number(1)),)
    return (inversion(t.as_condition(x)),)


def _shift(t, a, b, left):
    x, y = t.as_number(t.lift(a)), t.as_number(t.lift(b))
    if isinstance(b, int) and 0 <= b <= 30:
        factor = number(1 << b)
    else:
        factor = _bounds(call("round", call("exp2", y)), 1, 1 << 30)
    return (binary("*", x, factor) if left else _int_quotient(x, factor),)


@operation("bitwise_left_shift", "lshift")
def _lshift(t, result, a, b):
    return _shift(t, a, b, True)


@operation("rlshift")
def _rlshift(t, result, a, b):
    return _shift(t, b, a, True)


@operation("rrshift")
def _rrshift(t, result, a, b):
    return _shift(t, b, a, False)


@operation("bitwise_right_shift", "rshift")
def _rshift(t, result, a, b):
    return _shift(t, a, b, False)


def _choose(t, result, condition, yes, no):
    c, x, y = t.as_condition(t.lift(condition)), t.lift(yes), t.lift(no)
    finite = None
    if x.finite or y.finite:
        always = Node("true")
        finite = choice(c, x.finite or always, y.finite or always)
        if y.finite and y.finite.form == "false" and not x.finite:
            finite = c
        elif y.finite and y.finite.form == "false":
            finite = binary("and", c, x.finite)
        elif x.finite and x.finite.form == "false":
            finite = inversion(c) if not y.finite else binary("and", inversion(c), y.finite)
        # What a dropped pair's score would be does not matter.
        if y.finite and y.finite.form == "false":
            return t.as_kind(x, result.kind), finite
        if x.finite and x.finite.form == "false":
            return t.as_kind(y, result.kind), finite
    if result.kind == "bool":
        left, right = x.node, y.node
    else:
        left, right = t.as_number(x), t.as_number(y)
        if result.kind == "float" and x.kind != "float" and y.kind != "float":
            left = binary("*", left, number(1.0))
    node = choice(c, left, right)
    if result.kind == "int":
        node = _bounds(node, None if left.low is None or right.low is None else builtins.min(left.low, right.low),
                       None if left.high is None or right.high is None else -builtins.min(-left.high, -right.high))
    return node, finite


@operation("where")
def _where(t, result, condition, input=None, other=None, *, self=None):
    return _choose(t, result, condition, self if input is None else input, other)


@operation("masked_fill")
def _masked_fill(t, result, a, mask, value):
    return _choose(t, result, mask, value, a)


@operation("to", "type", "float", "double", "half", "bfloat16", "int", "long", "short", "bool", "type_as", "cpu", "cuda", "char", "byte")
def _convert(t, result, a, *unused, **named):
    x = t.lift(a)
    return (x.node, x.finite) if x.kind == result.kind else (t.as_kind(x, result.kind),)


@operation("zeros_like", "new_zeros")
def _zeros_like(t, result, a, *unused, **named):
    return (Node("false") if result.kind == "bool" else number(0.0) if result.kind == "float" else number(0),)


@operation("ones_like", "new_ones")
def _ones_like(t, result, a, *unused, **named):
    return (Node("true") if result.kind == "bool" else number(1.0) if result.kind == "float" else number(1),)


def _filled(t, result, value):
    own = t.lift(value)
    return t.as_kind(own, result.kind), own.finite


@operation("full_like")
def _full_like(t, result, a, fill_value, **named):
    return _filled(t, result, fill_value)


@operation("new_full")
def _new_full(t, result, a, size, fill_value, **named):
    return _filled(t, result, fill_value)


@operation("new_tensor")
def _new_tensor(t, result, a, data, **named):
    return _filled(t, result, data)


INPLACE = {f"__i{name}__": name for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")}
# Of types of 8 and 16 bits these give other numbers than ints of 32 bits.
WRAPPING = {name for name, own in OPERATIONS.items() if own in (_add, _sub, _rsub, _mul, _neg, _floordiv, _pow, _rpow, _not, _lshift, _rlshift, _convert, _square, _abs)}
