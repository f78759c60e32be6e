"""Products of two rows of captured tensors: torch.dot(x[b, h, q_idx], y[b, h, kv_idx]) and its like become `dot`."""

from __future__ import annotations

import re

import torch

from ._expressions import Node
from ._operations import EXACT, kind_of
from ._traced import Input, Products, Read, Traced, same_tensor

_PRODUCTS = ("dot", "vdot", "inner", "matmul", "linalg_vecdot", "einsum")


def _listed(args) -> list:
    return list(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else list(args)


class RowProducts:
    """Of a Tracer: what it does with rows."""

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
        key = ("row", *same_tensor(tensor), order, tuple(whole), shared)
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
            found.tensor = self._cut(found)
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
