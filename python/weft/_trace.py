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
from typing import Any, Callable, Sequence

import torch

from . import _expressions as ex
from ._expressions import Node, binary, choice, inversion, number, same
from ._operations import EXACT, INPLACE, OPERATIONS, WRAPPING, Result, convert, kind_of, truncated
from ._rows import RowProducts
from ._traced import Indexing, Input, Products, Read, Traced, flat, same_tensor

RESERVED = set(
    "attention const let where score weight gate sink dropout normalize select mod and or not if then else true false b h i j "
    "o do lse dlse delta selection workspace pages seed status band counts entries counts_keys entries_keys page also keys "
    "int float bool in typical rising q k v B H G T S D E dot min max clamp abs exp exp2 log log1p sqrt rsqrt sin cos tanh sigmoid relu "
    "softplus pow triangle floor ceil round inf div erf tan log2 any all sum def segment".split()
)
NARROW = (torch.uint8, torch.int8, torch.int16)


class Tracer(RowProducts):
    """Collects the tensors that functions of one variant capture, by the names and dims that they get. `sizes`: of B, H, G (heads of
    keys), T and S. Texts are the same for all of B, T and S."""

    def __init__(self, sizes: dict[str, int]):
        self.sizes = sizes
        self.inputs: dict[tuple, Input] = {}
        self.wished: dict[int, str] = {}  # names of tensors, by id
        self.with_gradients = True
        self.forwards: dict[types.CodeType, str] | None = None  # of torch.autograd.Functions
        self.opaque = False  # what a text hangs on is not all known
        self.heads = "G"  # the dim of k and v that counts them
        self.shared: dict[int, str] = {}  # dims of rows of keys, by how many they are
        # Ints below 2^24 are exact as floats. Texts are the same for all sizes that are.
        self.b, self.h, self.i, self.j = (Node(name, low=0, high=EXACT - 1 if self.sizes.get(dim, 0) <= EXACT else None) for name, dim in zip("bhij", "BHTS"))

        self.query = self.i  # what functions are given for it

    # What functions are given

    def index(self, node: Node, dtype=torch.int32) -> Traced:
        return Traced.of(self, torch.zeros((), dtype=dtype), node)

    def pair(self) -> list[Traced]:
        """b, h, i and j, as functions get them: anew for each, as they may be changed in place."""
        return [self.index(own) for own in (self.b, self.h, self.query, self.j)]

    def scaled_product(self, scale: float | None) -> Node:
        """The logit before any function: without a scale that of D, so that the text serves all D."""
        dot = Node("dot(q[i], k[j])", inputs=frozenset("qk"))
        return binary("/", dot, Node("sqrt(D)")) if scale is None else binary("*", dot, number(float(scale)))

    def score(self, function: Callable | None, scale: float | None) -> list[tuple[str, Node]]:
        """The statements of a score: what `function` makes of the scaled product, and where that is not -inf."""
        node = self.scaled_product(scale)
        if function is None:
            return [("score", node)]
        return self.statements("score", self.trace(function, self.value(node), *self.pair()))

    def statements(self, word: str, got: Traced) -> list[tuple[str, Node]]:
        """What a function's result says."""
        if word == "where":
            return [(word, self.as_condition(got))]
        if got.finite and word not in ("score", "sink"):
            raise NotImplementedError(f"-inf as a {word}: pairs are dropped by `where`, or by a weight of 0")
        own = self.as_number(got, True)
        if not got.finite:
            return [(word, own)]
        if word == "score":
            return [("where", got.finite), (word, own)]
        return [(word, choice(got.finite, own, number(-1e30)))]  # no share at all

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
        with Indexing(self):
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
        if value.kind == "float":
            return inversion(same(value.node, number(0)))
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
            custom = self._custom_function()
            inside = f"torch.autograd.Function {custom} calls what Weft cannot trace: " if custom else ""
            raise NotImplementedError(f"{inside}{_source(function)} has no counterpart in Weft's language{self._instead(key, args)}")
        operands = [self.lift(a) for a in flat((args, kwargs)) if isinstance(a, Traced)]
        for own in flat((args, kwargs)):
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
        if isinstance(example, torch.Tensor) and key in ("new_zeros", "new_ones", "new_full") and example.shape == (1,):
            example = example[0]  # in a graph a pair's scalars have the shape [1]
        if not isinstance(example, torch.Tensor) or example.dim():
            raise NotImplementedError(f"{_source(function)} of a pair's scalars gives no scalar")
        node, *finite = known(self, Result(example, function), *args, **kwargs)
        self._check_gradient(node, example)
        if not finite:
            if any(own.finite for own in operands):
                raise NotImplementedError(f"{_source(function)} of -inf: it may pass through torch.where, + and - alone, on its way to the score")
            finite = [None]
        return Traced.of(self, example, node, finite[0])

    def _instead(self, key: str, args) -> str:
        """What could be written for a function that is not known; empty where nothing is near."""
        if not args or key not in ("sum", "mean", "amax", "amin", "prod", "norm", "any", "all", "argmax", "argmin", "cumsum"):
            return ""
        if isinstance(getattr(args[0], "read", None), Read):
            return f": compute it of the captured tensor before, as in x.{key}(-1), and index what comes out"
        return ": of few numbers write them out, as in sum((x[q_idx, n] - y[kv_idx, n]) ** 2 for n in range(3)); a product of two rows is torch.dot(x[b, h, q_idx], y[b, h, kv_idx])"

    def _check_gradient(self, node: Node, example: torch.Tensor):
        """What is differentiated is the expression that was traced."""
        if not (self.with_gradients and node.inputs and example.is_floating_point()):
            return
        whose, custom = ", ".join(sorted(node.inputs)), self._custom_function()
        if custom:
            raise NotImplementedError(
                f"torch.autograd.Function {custom} of what hangs on {whose}: its backward is not that of its forward, which alone could be traced. "
                "Write what forward computes in torch's operations, which are differentiated here; under torch.no_grad forward is traced as it is"
            )
        if not torch.is_grad_enabled():
            raise NotImplementedError(f"torch.no_grad around what hangs on {whose}: give a detached copy of it beside the other")

    def _custom_function(self) -> str | None:
        """The name of the torch.autograd.Function whose forward is running inside of the traced function. Its `apply`, which is no frame
        of Python's from torch 2.14 on, turns gradients off; what turns them on again was there before the trace began."""
        if self.forwards is None or not torch.is_grad_enabled():
            self.forwards = _forwards()
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not Tracer.trace.__code__:
            if frame.f_code in self.forwards:
                return self.forwards[frame.f_code]
            frame = frame.f_back
        return None

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
        key = (*same_tensor(tensor), tuple(order), tuple(dims))
        if key not in self.inputs:
            prefix = f"N{len(self.inputs)}"
            named = [dim or (f"{prefix}_{at}" if len(dims) > 1 else prefix) for at, dim in enumerate(dims)]
            found = Input(self._name(tensor), kind_of(tensor.dtype), named, tuple(order), tensor)
            found.tensor = self._cut(found)
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

    def _cut(self, own: Input) -> torch.Tensor:
        return own.cut(own.captured, self.sizes)

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


def _is_of_torch(function) -> bool:
    """Not an operator of somebody else's that has the name of one of torch's."""
    name = getattr(function, "_qualified_op_name", None) or str(getattr(function, "_name", "aten::"))
    return name.startswith("aten::")


def _forwards() -> dict[types.CodeType, str]:
    """The names of all torch.autograd.Functions, by the code of their forward."""
    found: dict[types.CodeType, str] = {}
    functions: list[type] = [torch.autograd.Function]
    while functions:
        own = functions.pop()
        functions += own.__subclasses__()
        code = getattr(getattr(own.__dict__.get("forward"), "__func__", None), "__code__", None)
        if code is not None and own is not torch.autograd.Function:
            found[code] = own.__name__
    return found


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
