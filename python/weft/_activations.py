"""What torch's activation functions are in Weft's language: a part of the table OPERATIONS."""

from __future__ import annotations

import math

import torch

from ._arithmetic import bounded, constants, expm1, numbers, operation, repeated
from ._expressions import Node, binary, call, choice, negation, number


def _below(x: Node) -> Node:
    """x where it is not above 0, with all of its derivative at 0, which min would share."""
    return choice(binary(">", x, number(0.0)), number(0.0), x)


@operation("relu")
def _relu(t, result, a, inplace=False):
    if result.kind == "int":
        return (bounded(call("max", t.lift(a).node, number(0)), 0, None),)
    return (call("relu", t.lift(a).node),)


@operation("softplus")
def _softplus(t, result, a, beta=1, threshold=20):
    x = t.as_number(t.lift(a))
    t.opaque |= isinstance(beta, torch.Tensor) or isinstance(threshold, torch.Tensor)
    steep = x if beta == 1 else binary("*", x, number(float(beta)))
    node = call("softplus", steep) if beta == 1 else binary("/", call("softplus", steep), number(float(beta)))
    # Beyond 20 a float32 makes no difference between the two.
    return (choice(binary(">", steep, number(float(threshold))), x, node) if threshold < 20 else node,)


@operation("logsigmoid", "log_sigmoid")
def _logsigmoid(t, result, a):
    return (negation(call("softplus", negation(t.lift(a).node))),)


@operation("silu")
def _silu(t, result, a, inplace=False):
    x = t.lift(a).node
    return (binary("*", x, call("sigmoid", x)),)


@operation("gelu")
def _gelu(t, result, a, approximate="none"):
    x = t.as_number(t.lift(a))
    if approximate == "tanh":
        inner = binary("*", binary("+", x, binary("*", number(0.044715), repeated(x, 3, x))), number(math.sqrt(2 / math.pi)))
        gate = call("tanh", inner)
    else:
        gate = call("erf", binary("*", x, number(math.sqrt(0.5))))
    return (binary("*", binary("*", x, number(0.5)), binary("+", number(1.0), gate)),)


@operation("elu")
def _elu(t, result, a, alpha=1.0, inplace=False):
    x = t.lift(a).node
    t.opaque |= isinstance(alpha, torch.Tensor)
    return (choice(binary(">", x, number(0.0)), x, binary("*", expm1(_below(x)), number(float(alpha)))),)


@operation("selu")
def _selu(t, result, a, inplace=False):
    x, alpha, scale = t.lift(a).node, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return (choice(binary(">", x, number(0.0)), binary("*", x, number(scale)), binary("*", expm1(_below(x)), number(scale * alpha))),)


@operation("celu")
def _celu(t, result, a, alpha=1.0, inplace=False):
    (alpha,), x = constants(t, alpha), t.lift(a).node
    below = binary("*", expm1(binary("/", _below(x), number(alpha))), number(alpha))
    return (choice(binary(">", x, number(0.0)), x, below),)


@operation("leaky_relu")
def _leaky_relu(t, result, a, negative_slope=0.01, inplace=False):
    (slope,), x = constants(t, negative_slope), t.lift(a).node
    return (choice(binary(">", x, number(0.0)), x, binary("*", x, number(slope))),)


def _within(t, result, a, least: float, most: float) -> Node:
    """A number between two others, with no derivative at them."""
    (x,), (low, high) = numbers(t, result, a), (number(int(own) if result.kind == "int" else own) for own in (least, most))
    return choice(binary(">", x, low), choice(binary("<", x, high), x, high), low)


@operation("hardtanh")
def _hardtanh(t, result, a, min_val=-1.0, max_val=1.0, inplace=False):
    return (_within(t, result, a, *constants(t, min_val, max_val)),)


@operation("relu6")
def _relu6(t, result, a, inplace=False):
    return (_within(t, result, a, 0.0, 6.0),)


@operation("hardsigmoid")
def _hardsigmoid(t, result, a, inplace=False):
    return (binary("/", binary("+", _within(t, result, a, -3.0, 3.0), number(3.0)), number(6.0)),)


@operation("hardswish")
def _hardswish(t, result, a, inplace=False):
    x = t.lift(a).node
    inner = binary("/", binary("*", x, binary("+", x, number(3.0))), number(6.0))
    return (choice(binary("<=", x, number(-3.0)), number(0.0), choice(binary(">=", x, number(3.0)), x, inner)),)


@operation("mish")
def _mish(t, result, a, inplace=False):
    x = t.lift(a).node
    return (binary("*", x, call("tanh", call("softplus", x))),)


@operation("softsign")
def _softsign(t, result, a):
    x = t.as_number(t.lift(a), True)
    return (binary("/", x, binary("+", number(1.0), call("abs", x))),)


@operation("tanhshrink")
def _tanhshrink(t, result, a):
    x = t.lift(a).node
    return (binary("-", x, call("tanh", x)),)


@operation("softshrink")
def _softshrink(t, result, a, lambd=0.5):
    (width,), x = constants(t, lambd), t.lift(a).node
    below = choice(binary("<", x, number(-width)), binary("+", x, number(width)), number(0.0))
    return (choice(binary(">", x, number(width)), binary("-", x, number(width)), below),)


@operation("hardshrink")
def _hardshrink(t, result, a, lambd=0.5):
    (width,), x = constants(t, lambd), t.lift(a).node
    return (choice(binary(">", call("abs", x), number(width)), x, number(0.0)),)


@operation("threshold")
def _threshold(t, result, a, threshold, value, inplace=False):
    (x,), kind = numbers(t, result, a), int if result.kind == "int" else float
    least, value = (number(kind(own)) for own in constants(t, threshold, value))
    return (choice(binary(">", x, least), x, value),)
