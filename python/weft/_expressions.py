"""Expressions of Weft's language, built from Python: nodes of a graph, and their text.

A node is printed once: what is used more than once becomes a `let`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

# How tightly what a node prints holds together (docs/expressions.md, Grammar).
IF, OR, AND, NOT, COMPARISON, BIT_OR, BIT_XOR, BIT_AND, SHIFT, SUM, PRODUCT, UNARY, PRIMARY = range(13)
TIGHTNESS = {"or": OR, "and": AND, "|": BIT_OR, "^": BIT_XOR, "&": BIT_AND, "<<": SHIFT, ">>": SHIFT, "+": SUM, "-": SUM,
             "*": PRODUCT, "/": PRODUCT, "div": PRODUCT, "mod": PRODUCT}


@dataclass(eq=False)
class Node:
    """`form` is the text with a `{}` for each argument; `needs` the least tightness each argument must have there."""

    form: str
    args: Sequence["Node"] = ()
    tightness: int = PRIMARY
    needs: Sequence[int] = ()
    low: int | None = None  # an int known to be no less
    high: int | None = None  # or no greater
    inputs: frozenset = field(default_factory=frozenset)  # names of the float inputs that it hangs on

    def __post_init__(self):
        for arg in self.args:
            self.inputs |= arg.inputs


def call(function: str, *args: Node) -> Node:
    return Node(f"{function}({', '.join('{}' for _ in args)})", args, PRIMARY, [IF] * len(args))


def binary(sign: str, left: Node, right: Node) -> Node:
    tightness = TIGHTNESS.get(sign, COMPARISON)
    # Operations of one kind are taken from the left; a comparison is not taken twice.
    first = tightness + 1 if tightness == COMPARISON else tightness
    return Node(f"{{}} {sign} {{}}", (left, right), tightness, (first, tightness + 1))


def negation(arg: Node) -> Node:
    return Node("-{}", (arg,), UNARY, (UNARY,))


def inversion(arg: Node) -> Node:
    return Node("not {}", (arg,), NOT, (NOT,))


def same(left: Node, right: Node) -> Node:
    """`==` of floats, computed ones among them, of which the language refuses it; false of NaN."""
    return binary("and", binary("<=", left, right), binary(">=", left, right))


def choice(condition: Node, yes: Node, no: Node) -> Node:
    return Node("if {} then {} else {}", (condition, yes, no), IF, (OR, OR, IF))


def number(value: int | float) -> Node:
    """A literal. Ints beyond 2^30 are put together."""
    if isinstance(value, int):
        size = abs(value)
        if size > 2**31 - 1:
            raise NotImplementedError(f"{value} does not fit the 32 bits of ints in kernels")
        text = str(size) if size <= 2**30 else f"({2**30} + {size - 2**30})"
        node = Node(text, low=size, high=size)
    else:
        # The greatest f32 in eight digits: all of them would be read as more than f32 holds.
        text = "3.4028234e38" if abs(value) > 3.4028234e38 else repr(abs(float(value)))
        node = Node(text if any(mark in text for mark in ".en") else text + ".0")
    if value < 0 or (value == 0 and str(value).startswith("-")):
        node = negation(node)
        if isinstance(value, int):
            node.low = node.high = value
    return node


class Printer:
    """Texts of nodes, and the `let`s that they use."""

    def __init__(self, roots: Sequence[Node], taken: Sequence[str]):
        self.names: dict[Node, str] = {}
        self.lets: list[str] = []
        uses: dict[Node, int] = {}
        order: list[Node] = []
        pending = [(root, False) for root in reversed(roots)]
        while pending:  # without recursion: a chain may be long
            node, done = pending.pop()
            if done:
                order.append(node)
                continue
            uses[node] = uses.get(node, 0) + 1
            if uses[node] > 1:
                continue
            pending.append((node, True))
            pending.extend((arg, False) for arg in reversed(node.args))
        self.texts: dict[Node, tuple[str, int, int]] = {}
        for node in order:
            text, depth = self._text(node)
            # Nested deeply it would be refused.
            if node.args and (uses[node] > 1 or depth > 40):
                name = next(name for name in (f"x{count}" for count in range(len(self.lets) + 1, 10**6)) if name not in taken)
                self.lets.append(f"let {name} = {text}")
                self.texts[node] = name, PRIMARY, 0
            else:
                self.texts[node] = text, node.tightness, depth

    def _text(self, node: Node) -> tuple[str, int]:
        parts, depth = [], 0
        for arg, need in zip(node.args, node.needs):
            text, tightness, own = self.texts[arg]
            parts.append(f"({text})" if tightness < need else text)
            depth = max(depth, own + 1)
        return node.form.format(*parts), depth

    def __getitem__(self, node: Node) -> str:
        return self.texts[node][0]
