"""Times of variants, and of functions beside them, on one set of tensors."""

from __future__ import annotations

import html
import statistics
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence, Union

import torch

from ._variant import PythonVariant, Variant, variant

Contender = Union[str, Variant, PythonVariant]

MEDIANS_OF = 5  # calls at least


@dataclass
class Timing:
    """Medians of one contender; None where it has no such direction, `error` where it raised."""

    name: str
    forward: float | None = None  #: milliseconds
    backward: float | None = None  #: milliseconds, of a backward pass alone
    kept: float | None = None  #: computed tiles over all tiles
    flops: int | None = None  #: of the products of a forward pass over kept tiles
    error: str = ""

    @property
    def rate(self) -> float | None:
        """GFLOP/s forward, of what is kept."""
        return self.flops / self.forward / 1e6 if self.flops and self.forward else None


class Bench(list):
    """Timings, the first of which the others are compared with. Prints as a table, in a notebook too."""

    columns = ("", "forward", "ratio", "backward", "ratio", "kept", "GFLOP/s")

    def __init__(self, timings: Sequence[Timing], about: str):
        super().__init__(timings)
        self.about = about

    def rows(self) -> list[list[str]]:
        first = self[0]
        milliseconds = lambda own: "" if own is None else f"{own:.3g} ms" if own < 100 else f"{own:.0f} ms"
        ratio = lambda own, base: "" if own is None or base is None else f"{own / base:.2f}x"
        found = []
        for own in self:
            if own.error:
                found.append([own.name, own.error, *[""] * 5])
                continue
            found.append([own.name, milliseconds(own.forward), ratio(own.forward, first.forward), milliseconds(own.backward), ratio(own.backward, first.backward),
                          "" if own.kept is None else f"{own.kept:.1%}", "" if own.rate is None else f"{own.rate:.0f}"])
        return found

    def __str__(self) -> str:
        rows = [list(self.columns), *self.rows()]
        widths = [max(len(row[at]) for row in rows if not (at == 1 and row[2:] == [""] * 5 and row is not rows[0])) for at in range(len(self.columns))]
        lines = [row[0].ljust(widths[0]) + "".join("  " + (cell.ljust(width) if at == 0 and not any(row[2:]) else cell.rjust(width))
                                                   for at, (cell, width) in enumerate(zip(row[1:], widths[1:]))) for row in rows]
        return "\n".join([self.about, *(line.rstrip() for line in lines)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cell = lambda tag, own, at: f'<{tag} style="text-align:{"left" if at == 0 else "right"}">{html.escape(own)}</{tag}>'
        line = lambda tag, row: "<tr>" + "".join(cell(tag, own, at) for at, own in enumerate(row)) + "</tr>"
        return f"<table><caption>{html.escape(self.about)}</caption>{line('th', self.columns)}{''.join(line('td', row) for row in self.rows())}</table>"


def _inputs_of(own, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a variant takes; all tensors of a call are for all contenders."""
    if isinstance(own, PythonVariant):
        return {name: given[name] for name in ("q", "k", "v")}
    return {name: value for name, value in given.items() if name in {one.name for one in own.inputs} | {"seed", "selection"}}


class _Contender:
    def __init__(self, name: str, own, given: Mapping[str, Any]):
        self.timing = Timing(name)
        self.forwards: list[float] = []
        self.backwards: list[float] = []
        if isinstance(own, str):
            own = variant(own)
        if isinstance(own, (Variant, PythonVariant)):
            tensors = _inputs_of(own, given)
            explained = own.explain(**tensors)
            self.timing.kept, self.timing.flops = explained.kept_share, explained.flops
            self.run: Callable = lambda: own(**tensors)
        else:
            self.run = lambda: own(given["q"], given["k"], given["v"])

    def turn(self, leaves: list[torch.Tensor], synchronize: Callable):
        with torch.set_grad_enabled(bool(leaves)):
            synchronize()
            start = time.perf_counter()
            out = self.run()
            synchronize()
            middle = time.perf_counter()
            self.forwards.append(middle - start)
            if not leaves or not out.requires_grad:
                return
            cotangent = torch.ones_like(out)
            synchronize()
            middle = time.perf_counter()
            torch.autograd.grad(out, leaves, cotangent, allow_unused=True)
            synchronize()
            self.backwards.append(time.perf_counter() - middle)


def bench(
    contenders: Contender | Sequence[Contender] | Mapping[str, Contender | Callable[..., torch.Tensor]], q: torch.Tensor | None = None, k: torch.Tensor | None = None,
    v: torch.Tensor | None = None, *, seconds: float = 1.0, backward: bool = True, **inputs: Any,
) -> Bench:
    """Times of variants on these tensors, q [B, H, T, D], k [B, G, S, D], v [B, G, S, E], in turns: medians of forward and backward
    passes, in about `seconds` for each contender.

    `contenders`: a variant (a name, a file, a text, `weft.variant(...)`, `weft.from_python(...)`), a list of them, or a dict from names
    to variants and functions of q, k and v. Each variant takes of `inputs` what it declares. The first is what the others are compared
    with. A contender that raises has its error in its row. Backward passes are timed where a tensor requires a gradient.

    >>> print(weft.bench({"causal": "causal", "sdpa": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)}, q, k, v))
    """
    if isinstance(contenders, (str, Variant, PythonVariant)):
        contenders = [contenders]
    if not isinstance(contenders, Mapping):
        contenders = {own.name: own for own in (variant(own) if isinstance(own, str) else own for own in contenders)}
    given = {name: value for name, value in {"q": q, "k": k, "v": v, **inputs}.items() if value is not None}
    leaves = [own for own in given.values() if isinstance(own, torch.Tensor) and own.requires_grad] if backward else []
    device = next(own.device for own in given.values() if isinstance(own, torch.Tensor))
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    running: list[_Contender] = []
    timings = []
    for name, own in contenders.items():
        try:
            one = _Contender(name, own, given)
            for _ in range(2):  # compiled, and what it allocates
                one.turn(leaves, synchronize)
            one.forwards.clear()
            one.backwards.clear()
            running.append(one)
            timings.append(one.timing)
        except Exception as error:
            said = str(error).splitlines() or [""]
            timings.append(Timing(name, error=f"{type(error).__name__}: {said[0]}"[:120]))
    end = time.perf_counter() + seconds * max(1, len(running))
    while running and (len(running[0].forwards) < MEDIANS_OF or time.perf_counter() < end):
        for one in running:
            one.turn(leaves, synchronize)
    for one in running:
        one.timing.forward = 1e3 * statistics.median(one.forwards)
        one.timing.backward = 1e3 * statistics.median(one.backwards) if one.backwards else None
    shape = next((" x ".join(map(str, own.shape)) + f" {str(own.dtype)[6:]}" for own in (q, v) if isinstance(own, torch.Tensor)), "")
    return Bench(timings, f"{shape} on {device.type}, {torch.get_num_threads()} threads, medians of {len(running[0].forwards) if running else 0} calls in turns")
