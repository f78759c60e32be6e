"""What stands for the scalars of a pair while a function is traced, and for the tensors that the function captures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.overrides import TorchFunctionMode

from ._expressions import Node
from ._operations import kind_of

if TYPE_CHECKING:
    from ._trace import Tracer


class Traced(torch.Tensor):
    """A scalar of one pair of a query and a key. `node`: how it is computed; `finite`: the condition under which it is not -inf, or
    None where it never is; `read`: a captured tensor that some indices of are still missing, or a product of two such rows."""

    example: torch.Tensor  # a plain one of its type
    node: Node
    finite: Node | None
    read: Read | Products | None
    tracer: Tracer

    @staticmethod
    def of(tracer: Tracer, example: torch.Tensor, node: Node | None, finite: Node | None = None, read: Read | Products | None = None) -> "Traced":
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
        return next(a for a in flat((args, kwargs)) if isinstance(a, Traced)).tracer.apply(function, args, kwargs)


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


class Indexing(TorchFunctionMode):
    """Sees captured tensors that are indexed by traced numbers."""

    def __init__(self, tracer: Tracer):
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(isinstance(a, Traced) for a in flat((args, kwargs))):
            return self.tracer.apply(function, args, kwargs)
        # What comes of it may hang on values of tensors.
        if function not in (torch.Tensor.dtype.__get__, torch.Tensor.device.__get__):
            self.tracer.opaque = True
        return function(*args, **kwargs)


def flat(value):
    if isinstance(value, (tuple, list)):
        for own in value:
            yield from flat(own)
    elif isinstance(value, dict):
        for own in value.values():
            yield from flat(own)
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


def same_tensor(tensor: torch.Tensor) -> tuple:
    return id(tensor), tuple(tensor.shape), tensor.storage_offset() if tensor.device.type != "meta" else 0, tuple(tensor.stride())
