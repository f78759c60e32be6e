"""What torch's functions are in Weft's language: the rest of the table OPERATIONS, comparisons, conditions, choices, conversions."""

from __future__ import annotations

import builtins

import torch

from . import _activations  # noqa: F401, its part of the table
from ._arithmetic import EXACT, OPERATIONS, Result, both, bounded, kind_of, numbers, operation, truncated
from ._expressions import Node, binary, call, choice, inversion, negation, number, same

SHARED_BOUNDS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 14)

__all__ = ["EXACT", "INPLACE", "OPERATIONS", "WRAPPING", "Result", "convert", "kind_of", "truncated"]


def _extreme(spelling):
    def apply(t, result, a, b=None, *, other=None):
        b = other if b is None else b
        if b is None:
            return (t.lift(a).node,)
        if result.kind == "bool":
            return (binary("or" if spelling == "max" else "and", t.lift(a).node, t.lift(b).node),)
        left, right = numbers(t, result, a, b)
        node = call(spelling, left, right)
        if result.kind == "int":
            lows, highs = [left.low, right.low], [left.high, right.high]
            if spelling == "max":
                low = max((own for own in lows if own is not None), default=None)
                high = None if None in highs else max(highs)
            else:
                low = None if None in lows else min(lows)
                high = min((own for own in highs if own is not None), default=None)
            node = bounded(node, low, high)
        return (node,)

    return apply


for _names, _spelling in ((("maximum", "max", "fmax"), "max"), (("minimum", "min", "fmin"), "min")):
    for _torch_name in _names:
        OPERATIONS[_torch_name] = _extreme(_spelling)


@operation("clamp", "clip")
def _clamp(t, result, a, min=None, max=None):
    (x,) = numbers(t, result, a)
    least, most = (None if bound is None else t.as_number(t.lift(bound)) for bound in (min, max))
    if least is None and most is None:
        return (x,)
    low, high = x.low, x.high
    # At a bound the derivative is that of x until torch 2.13; from 2.14 on that of a bound which is a number, 0, and half of
    # each, as that of max, where it is a tensor.
    if SHARED_BOUNDS:
        node = x
        for sign, spelling, bound, given in (("<=", "max", least, min), (">=", "min", most, max)):
            if bound is not None:
                node = call(spelling, node, bound) if isinstance(given, torch.Tensor) else choice(binary(sign, node, bound), bound, node)
    elif least and most:
        node = call("clamp", x, least, most)
    elif least:
        node = choice(binary("<", x, least), least, x)
    else:
        node = choice(binary(">", x, most), most, x)
    if least:
        low = least.low if low is None or (least.low is not None and least.low > low) else low
        high = None if high is None or least.high is None else builtins.max(high, least.high)
    if most:
        high = most.high if high is None or (most.high is not None and most.high < high) else high
        low = None if low is None or most.low is None else builtins.min(low, most.low)
    return (bounded(node, low, high) if result.kind == "int" else node,)


@operation("clamp_min")
def _clamp_min(t, result, a, min):
    return _clamp(t, result, a, min)


@operation("clamp_max")
def _clamp_max(t, result, a, max):
    return _clamp(t, result, a, None, max)


def _comparison(sign):
    def apply(t, result, a, b):
        x, y = t.lift(a), t.lift(b)
        if x.kind == y.kind == "bool" and sign in ("==", "!="):
            return (binary(sign, x.node, y.node),)
        left, right = t.as_number(x), t.as_number(y)
        if sign in ("==", "!=") and "float" in (x.kind, y.kind):
            node = same(left, right)
            return (node if sign == "==" else inversion(node),)
        return (binary(sign, left, right),)

    return apply


for _names, _spelling in ((("eq",), "=="), (("ne", "not_equal"), "!="), (("lt", "less"), "<"), (("le", "less_equal"), "<="), (("gt", "greater"), ">"),
                          (("ge", "greater_equal"), ">=")):
    for _torch_name in _names:
        OPERATIONS[_torch_name] = _comparison(_spelling)


@operation("isnan")
def _isnan(t, result, a):
    x = t.lift(a)
    return (inversion(same(x.node, x.node)) if x.kind == "float" else Node("false"),)


@operation("isinf")
def _isinf(t, result, a):
    x = t.lift(a)
    return (same(call("abs", x.node), Node("inf")) if x.kind == "float" else Node("false"),)


@operation("isfinite")
def _isfinite(t, result, a):
    x = t.lift(a)
    return (binary("<", call("abs", x.node), Node("inf")) if x.kind == "float" else Node("true"),)


def _logical(sign):
    def apply(t, result, a, b):
        x, y = t.lift(a), t.lift(b)
        if result.kind != "bool":
            return (_bits(t, {"and": "&", "or": "|"}[sign], x, y),)
        return (binary(sign, t.as_condition(x), t.as_condition(y)),)

    return apply


def _bits(t, sign, x, y):
    """Of ints. Of two that are not negative `and` is no greater than either, the others no greater than their sum."""
    left, right = t.as_number(x), t.as_number(y)
    node = binary(sign, left, right)
    lows, highs = (left.low, right.low), (left.high, right.high)
    if sign == "&":
        limits = [high for low, high in zip(lows, highs) if low is not None and low >= 0]
        known = [high for high in limits if high is not None]
        return bounded(node, 0 if limits else None, builtins.min(known) if known else None)
    if all(low is not None and low >= 0 for low in lows):
        return bounded(node, 0, None if None in highs else sum(highs))
    return node


for _names, _spelling in ((("logical_and", "bitwise_and", "and", "rand"), "and"), (("logical_or", "bitwise_or", "or", "ror"), "or")):
    for _torch_name in _names:
        OPERATIONS[_torch_name] = _logical(_spelling)


@operation("logical_xor", "bitwise_xor", "xor", "rxor")
def _xor(t, result, a, b):
    x, y = t.lift(a), t.lift(b)
    if result.kind != "bool":
        return (_bits(t, "^", x, y),)
    return (binary("!=", t.as_condition(x), t.as_condition(y)),)


@operation("logical_not", "bitwise_not", "invert")
def _not(t, result, a):
    x = t.lift(a)
    if result.kind != "bool":
        return (binary("-", negation(x.node), number(1)),)
    return (inversion(t.as_condition(x)),)


@operation("bitwise_left_shift", "lshift", reflected=["rlshift"])
def _lshift(t, result, a, b):
    x, y = t.as_number(t.lift(a)), t.as_number(t.lift(b))
    node = binary("<<", x, y)
    if x.low is not None and x.low >= 0 and y.high is not None:
        node = bounded(node, 0, None if x.high is None else x.high << builtins.max(y.high, 0))
    return (node,)


@operation("bitwise_right_shift", "rshift", reflected=["rrshift"])
def _rshift(t, result, a, b):
    x = t.as_number(t.lift(a))
    node = binary(">>", x, t.as_number(t.lift(b)))
    return (bounded(node, 0, x.high) if x.low is not None and x.low >= 0 else node,)


def _choose(t, result, condition, yes, no):
    c, x, y = t.as_condition(t.lift(condition)), t.lift(yes), t.lift(no)
    # Of -inf itself the other one is left: what a dropped pair's score would be does not matter.
    for other, finite, when in ((x, y.finite, c), (y, x.finite, inversion(c))):
        if finite and finite.form == "false":
            return t.as_kind(other, result.kind), both(when, other.finite)
    finite = choice(c, x.finite or Node("true"), y.finite or Node("true")) if x.finite or y.finite else None
    if result.kind == "bool":
        left, right = x.node, y.node
    else:
        left, right = t.as_number(x), t.as_number(y)
        if result.kind == "float" and x.kind != "float" and y.kind != "float":
            left = binary("*", left, number(1.0))
    node = choice(c, left, right)
    if result.kind == "int":
        node = bounded(node, None if left.low is None or right.low is None else builtins.min(left.low, right.low),
                       None if left.high is None or right.high is None else -builtins.min(-left.high, -right.high))
    return node, finite


@operation("where")
def _where(t, result, condition, input=None, other=None, *, self=None):
    return _choose(t, result, condition, self if input is None else input, other)


@operation("masked_fill")
def _masked_fill(t, result, a, mask, value):
    return _choose(t, result, mask, value, a)


@operation("to", "type", "float", "double", "half", "bfloat16", "int", "long", "short", "bool", "type_as", "cpu", "cuda", "char", "byte")
def convert(t, result, a, *unused, **named):
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
WRAPPING = frozenset(
    "add radd sub subtract rsub mul multiply rmul neg negative abs absolute square floor_divide floordiv rfloordiv pow rpow bitwise_not invert "
    "lshift rlshift bitwise_left_shift to type type_as int long short char byte".split()
)
