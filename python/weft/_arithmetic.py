"""Numbers of torch in Weft's language: sums, quotients, powers, functions of one number, roundings.

A function for each function of torch, from operands to a node, in the table OPERATIONS.

Each gives the node of its result and, where it can take -inf, the condition under which the result is finite. `t` is the tracer
(weft._trace.Tracer), `result` what torch gives for example numbers, whose type the result has.
"""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass
from typing import Callable

import torch

from ._expressions import Node, binary, call, choice, negation, number, same

EXACT = 1 << 24  # ints below are exact as floats


def kind_of(dtype: torch.dtype) -> str:
    return "bool" if dtype == torch.bool else "float" if dtype.is_floating_point else "int"


@dataclass
class Result:
    example: torch.Tensor
    function: Callable

    @property
    def kind(self) -> str:
        return kind_of(self.example.dtype)


OPERATIONS: dict[str, Callable] = {}


def operation(*names, reflected=()):
    """Enters a function under torch's names; `reflected`: those with the operands in the other order, as b.__rsub__(a)."""

    def add(function):
        for name in names:
            OPERATIONS[name] = function
        for name in reflected:
            OPERATIONS[name] = lambda t, result, a, b, **more: function(t, result, b, a, **more)
        return function

    return add


def numbers(t, result: Result, *values) -> list[Node]:
    lifted = [t.lift(value) for value in values]
    # Ints of a float result: converted first, where the operation is one of ints too.
    floating = result.kind == "float" and all(own.kind != "float" for own in lifted)
    return [t.as_number(own, floating) for own in lifted]


def both(a: Node | None, b: Node | None) -> Node | None:
    return binary("and", a, b) if a and b else a or b


def bounded(node: Node, low, high) -> Node:
    limit = 2**31 - 1
    node.low = low if low is not None and abs(low) <= limit else None
    node.high = high if high is not None and abs(high) <= limit else None
    return node


def _sum(t, result, a, b, alpha, sign):
    x, y = t.lift(a), t.lift(b)
    t.opaque |= isinstance(alpha, torch.Tensor)
    if alpha != 1:
        y = t.lift(alpha) * y
    if result.kind == "bool":  # of bools a sum is their or
        return (binary("or", x.node, y.node),)
    left, right = t.as_number(x), t.as_number(y)
    if sign == "-" and y.finite:
        raise NotImplementedError("less -inf: a score of +inf")
    if x.finite or y.finite:
        return binary(sign, left, right), both(x.finite, y.finite)
    node = binary(sign, left, right)
    if result.kind == "int":
        low, high = (right.low, right.high) if sign == "+" else (right.high, right.low)
        if sign == "-":
            low, high = (-low if low is not None else None), (-high if high is not None else None)
        node = bounded(node, None if left.low is None or low is None else left.low + low, None if left.high is None or high is None else left.high + high)
    return (node,)


@operation("add", "radd")
def _add(t, result, a, b, *, alpha=1):
    return _sum(t, result, a, b, alpha, "+")


@operation("sub", "subtract", reflected=["rsub"])
def _sub(t, result, a, b, *, alpha=1):
    return _sum(t, result, a, b, alpha, "-")


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
        node = bounded(node, left.low * right.low, None if left.high is None or right.high is None else left.high * right.high)
    return (node,)


def _is_exact(node: Node) -> bool:
    """Known to be so small that a float holds each int of its size."""
    return node.low is not None and node.high is not None and -EXACT < node.low and node.high < EXACT


def whole(node: Node, up: bool = False) -> Node:
    """The greatest whole float that is not above a float, or the least that is not below: floor and ceil are ints, which end at 2^31."""
    if _is_exact(node):
        return binary("*", call("ceil" if up else "floor", node), number(1.0))
    if up:
        return binary("+", node, binary("mod", negation(node), number(1.0)))
    return binary("-", node, binary("mod", node, number(1.0)))


def truncated(node: Node, floating: bool) -> Node:
    if floating:
        return choice(binary("<", node, number(0.0)), whole(node, True), whole(node))
    return choice(binary("<", node, number(0.0)), call("ceil", node), call("floor", node))


def int_quotient(x: Node, y: Node) -> Node:
    """floor(x / y) of ints."""
    node = binary("div", x, y)
    if x.low is not None and x.low >= 0 and y.low is not None and y.low > 0:
        node = bounded(node, 0, x.high)
    elif y.low is not None and y.low > 0 and _is_exact(x):
        node = bounded(node, x.low, x.high)
    return node


@operation("div", "divide", "true_divide", "truediv", reflected=["rdiv", "rtruediv"])
def _div(t, result, a, b, *, rounding_mode=None):
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
            return (int_quotient(left, right),)
        same = binary(">=", binary("*", t.as_number(t.lift(a).sign()), t.as_number(t.lift(b).sign())), number(0))
        size = int_quotient(call("abs", left), call("abs", right))
        return (choice(same, size, negation(size)),)
    node = binary("/", left, right)
    if x.kind == y.kind == "int" and _is_exact(left) and right.low is not None and right.low > 0:
        node.low, node.high = builtins.min(left.low, 0), builtins.max(left.high, 0)
    if rounding_mode is None:
        return (node,)
    return (whole(node) if rounding_mode == "floor" else truncated(node, True),)


@operation("floor_divide", "floordiv", reflected=["rfloordiv"])
def _floordiv(t, result, a, b):
    return _div(t, result, a, b, rounding_mode="floor")


@operation("remainder", "mod", reflected=["rmod"])
def _mod(t, result, a, b):
    left, right = numbers(t, result, a, b)
    node = binary("mod", left, right)
    if result.kind == "int" and right.low is not None and right.low > 0:
        node = bounded(node, 0, None if right.high is None else right.high - 1)
    return (node,)


@operation("fmod")
def _fmod(t, result, a, b):
    left, right = numbers(t, result, a, b)
    size = call("abs", right)
    return (choice(binary("<", left, number(0)), negation(binary("mod", negation(left), size)), binary("mod", left, size)),)


@operation("pow", "float_power", reflected=["rpow"])
def _pow(t, result, base, exponent):
    def plain(value):
        constant = isinstance(value, torch.Tensor) and not hasattr(value, "node") and value.dim() == 0 and not value.requires_grad
        t.opaque |= constant
        value = value.item() if constant or type(value).__module__ == "numpy" else value
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    value, floating = plain(exponent), result.kind == "float"
    if value is not None:
        x = t.as_number(t.lift(base), floating and t.lift(base).kind != "float")
        if float(value).is_integer() and (abs(value) <= 64) and (value >= 0 or floating):
            node = repeated(x, int(abs(value)), number(1.0 if floating else 1))
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
    odd = choice(same(parity, number(1.0)), negation(size), call("log", number(-1.0)))
    below = choice(same(parity, number(0.0)), size, odd)
    return (choice(binary("<", x, number(0.0)), below, size),)


def repeated(x: Node, count: int, one: Node) -> Node:
    """x ** count by squaring."""
    result, square = None, x
    while count:
        if count & 1:
            result = square if result is None else binary("*", result, square)
        count >>= 1
        square = binary("*", square, square) if count else square
    return result or one


@operation("neg", "negative")
def _neg(t, result, a):
    own = t.lift(a)
    node = negation(own.node)
    if result.kind == "int":
        node = bounded(node, None if own.node.high is None else -own.node.high, None if own.node.low is None else -own.node.low)
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
    return (bounded(node, 0, None) if result.kind == "int" else node,)


def _of_one(spelling):
    def apply(t, result, a):
        return (call(spelling, t.as_number(t.lift(a))),)

    return apply


for _torch_name, _spelling in dict(exp="exp", exp2="exp2", log="log", log1p="log1p", log2="log2", sqrt="sqrt", rsqrt="rsqrt", sin="sin", cos="cos",
                                   tan="tan", tanh="tanh", erf="erf", sigmoid="sigmoid", expit="sigmoid").items():
    OPERATIONS[_torch_name] = _of_one(_spelling)


@operation("log10")
def _log10(t, result, a):
    return (binary("*", call("log", t.as_number(t.lift(a))), number(1 / math.log(10))),)


def expm1(x: Node) -> Node:
    """exp(x) - 1, as 2 t / (1 - t) with t = tanh(x / 2) near 0, where the difference would have no digits."""
    near = call("tanh", binary("*", call("clamp", x, number(-1.0), number(1.0)), number(0.5)))
    quotient = binary("/", binary("*", number(2.0), near), binary("-", number(1.0), near))
    return choice(binary("<", call("abs", x), number(1.0)), quotient, binary("-", call("exp", x), number(1.0)))


@operation("expm1")
def _expm1(t, result, a):
    return (expm1(t.as_number(t.lift(a))),)


def constants(t, *values) -> list[float]:
    """Numbers that a function is given beside its operands."""
    t.opaque |= any(isinstance(own, torch.Tensor) for own in values)
    return [float(own) for own in values]


@operation("sinc")
def _sinc(t, result, a):
    x = t.as_number(t.lift(a), True)
    still, angle = same(x, number(0.0)), binary("*", x, number(math.pi))
    return (choice(still, number(1.0), binary("/", call("sin", angle), choice(still, number(1.0), angle))),)


@operation("lerp")
def _lerp(t, result, start, end, weight):
    x, y, w = (t.as_number(t.lift(own)) for own in (start, end, weight))
    way = binary("-", y, x)
    near, far = binary("+", x, binary("*", w, way)), binary("-", y, binary("*", way, binary("-", number(1.0), w)))
    return (choice(binary("<", call("abs", w), number(0.5)), near, far),)


def _added(t, result, sign, a, b, c, value):
    x, y, z = (t.as_number(t.lift(own), sign == "/") for own in (a, b, c))
    part = binary(sign, y, z)
    return (binary("+", x, part if value == 1 else binary("*", t.as_number(t.lift(value)), part)),)


@operation("addcmul")
def _addcmul(t, result, a, tensor1, tensor2, *, value=1):
    return _added(t, result, "*", a, tensor1, tensor2, value)


@operation("addcdiv")
def _addcdiv(t, result, a, tensor1, tensor2, *, value=1):
    return _added(t, result, "/", a, tensor1, tensor2, value)


@operation("logaddexp")
def _logaddexp(t, result, a, b):
    x, y = numbers(t, result, a, b)
    return (binary("+", call("max", x, y), call("log1p", call("exp", negation(call("abs", binary("-", x, y)))))),)


@operation("hypot")
def _hypot(t, result, a, b):
    x, y = numbers(t, result, a, b)
    return (call("sqrt", binary("+", binary("*", x, x), binary("*", y, y))),)


@operation("logit")
def _logit(t, result, a, eps=None):
    x = t.as_number(t.lift(a), True)
    if eps is not None:
        (eps,) = constants(t, eps)
        x = choice(binary("<", x, number(eps)), number(eps), choice(binary(">", x, number(1 - eps)), number(1 - eps), x))
    return (call("log", binary("/", x, binary("-", number(1.0), x))),)


@operation("asinh", "arcsinh")
def _asinh(t, result, a):
    x = t.as_number(t.lift(a), True)
    square, size = binary("*", x, x), choice(binary("<", x, number(0.0)), negation(x), x)
    above = call("log1p", binary("+", size, binary("/", square, binary("+", number(1.0), call("sqrt", binary("+", square, number(1.0)))))))
    return (choice(binary("<", x, number(0.0)), negation(above), above),)


@operation("atanh", "arctanh")
def _atanh(t, result, a):
    x = t.as_number(t.lift(a), True)
    return (binary("*", number(0.5), binary("-", call("log1p", x), call("log1p", negation(x)))),)


@operation("heaviside")
def _heaviside(t, result, a, values):
    x, at_zero = t.as_number(t.lift(a)), t.as_number(t.lift(values))
    one, zero = (number(1), number(0)) if result.kind == "int" else (number(1.0), number(0.0))
    return (choice(same(x, number(0)), at_zero, choice(binary("<", x, number(0)), zero, one)),)


@operation("deg2rad")
def _deg2rad(t, result, a):
    return (binary("*", t.as_number(t.lift(a)), number(math.pi / 180)),)


@operation("rad2deg")
def _rad2deg(t, result, a):
    return (binary("*", t.as_number(t.lift(a)), number(180 / math.pi)),)


@operation("nan_to_num")
def _nan_to_num(t, result, a, nan=None, posinf=None, neginf=None):
    x, most = t.lift(a).node, torch.finfo(torch.float32).max
    if result.kind != "float":
        return (x,)
    nan, above, below = constants(t, *(other if own is None else own for own, other in ((nan, 0.0), (posinf, most), (neginf, -most))))
    if not all(math.isfinite(own) for own in (nan, above, below)):
        raise NotImplementedError("nan_to_num to what is not finite")
    infinite = choice(same(x, Node("inf")), number(above), choice(same(x, negation(Node("inf"))), number(below), x))
    return (choice(same(x, x), infinite, number(nan)),)


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
