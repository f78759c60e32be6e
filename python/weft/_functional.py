"""torch.func: grad, vjp, jacrev and vmap of attention, per-sample gradients among them.

The operator's own autograd is C++, which these transforms do not see; here the same kernels stand behind functions of Python, with
rules for vmap: samples become batch entries where they can, else they run one after another.
"""

from __future__ import annotations

import json
import re

import torch

from ._dims import is_head_dim

_ops = torch.ops.weft


def active() -> bool:
    return torch._C._are_functorch_transforms_active()


def attention(source: str, names: list[str], tensors: list[torch.Tensor], lse: bool):
    """As torch.ops.weft.attention, or attention_with_lse."""
    out, rows = _Attention.apply(source, tuple(names), *_ops._broadcast(source, names, tensors))
    return (out, rows[0]) if lse else out


def _first(tensor, dim, size):
    """[size, ...] of a mapped or unmapped tensor."""
    return tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _folded(tensor, dim, size):
    """Samples as batch entries."""
    return _first(tensor, dim, size).flatten(0, 1)


def _entries(source, names, mapped) -> list[bool] | None:
    """Which inputs count batch entries; None where samples cannot become entries: where an unfit input is mapped, among others."""
    described = json.loads(_ops.describe(source))
    if described["dropout"]:
        return None  # entries of one batch drop other pairs
    dims = {own["name"]: own["dims"] for own in described["inputs"]}
    # An entry's own number, or how many there are, may not count, but as the index of an input's own entry.
    body = described["source"].split("{", 1)[1]
    for name, own in dims.items():
        if own[:1] == ["B"] and (len(own) == 1 or len(own) == 2 and is_head_dim(own[1])):
            body = re.sub(rf"\b{name}\[b(, h)?\]", "", body)
    if re.search(r"\b[bB]\b", body):
        return None
    entries = [dims.get(name, [""])[:1] == ["B"] for name in names]
    return entries if all(entry for entry, own in zip(entries, mapped) if own is not None) else None


def _one_by_one(function, info, fixed, in_dims, tensors):
    """`function` of each sample."""
    size = info.batch_size
    each = [function(*fixed, *(_first(x, dim, size)[at] for x, dim in zip(tensors, in_dims))) for at in range(size)]
    return tuple(torch.stack(own) for own in zip(*each)), (0,) * len(each[0])


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(source, names, *tensors):
        return _ops._forward_keeping_rows(source, list(names), list(tensors))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.source, ctx.names, *tensors = inputs
        out, rows = output
        ctx.floats = [own.is_floating_point() for own in tensors]
        ctx.save_for_backward(*tensors, out, rows)

    @staticmethod
    def backward(ctx, d_out, d_rows):
        *tensors, out, rows = ctx.saved_tensors
        d_out = torch.zeros_like(out) if d_out is None else d_out
        gradients = _Backward.apply(ctx.source, ctx.names, len(tensors), *tensors, out, rows, d_out, d_rows[0] if d_rows is not None else rows.new_zeros(rows.shape[1:]))
        gradients = iter(gradients)
        return None, None, *(next(gradients) if own else None for own in ctx.floats)

    @staticmethod
    def vmap(info, in_dims, source, names, *tensors):
        mapped, size = in_dims[2:], info.batch_size
        entries = _entries(source, names, mapped)
        if entries is None:
            return _one_by_one(_Attention.apply, info, (source, names), mapped, tensors)
        own = [_folded(x, dim, size) if entry else x for x, dim, entry in zip(tensors, mapped, entries)]
        out, rows = _Attention.apply(source, names, *own)
        return (out.unflatten(0, (size, -1)), rows.unflatten(1, (size, -1))), (0, 1)


class _Backward(torch.autograd.Function):
    """The gradients of the float inputs."""

    @staticmethod
    def forward(source, names, count, *tensors):
        inputs, (out, rows, d_out, d_lse) = tensors[:count], tensors[count:]
        gradients = _ops._backward_from_rows(source, list(names), list(inputs), out, rows, d_out.to(out.dtype), d_lse)
        return tuple(own for own, given in zip(gradients, inputs) if given.is_floating_point())

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *unused):
        raise RuntimeError("weft: the second derivative of attention is not supported")

    @staticmethod
    def vmap(info, in_dims, source, names, count, *tensors):
        mapped, size = in_dims[3:], info.batch_size
        entries = _entries(source, names, mapped[:count])
        # A gradient without batch entries is a sum over them: that of a sample needs a call of its own.
        if entries is None or not all(entry for entry, x in zip(entries, tensors) if x.is_floating_point()):
            return _one_by_one(_Backward.apply, info, (source, names, count), mapped, tensors)
        own = [_folded(x, dim, size) if entry else x for x, dim, entry in zip(tensors, mapped, entries)]
        out, rows, d_out, d_lse = (_first(x, dim, size) for x, dim in zip(tensors[count:], mapped[count:]))
        own += [out.flatten(0, 1), rows.movedim(0, 1).flatten(1, 2).contiguous(), d_out.flatten(0, 1), d_lse.flatten(0, 1)]
        gradients = _Backward.apply(source, names, count, *own)
        return tuple(g.unflatten(0, (size, -1)) for g in gradients), (0,) * len(gradients)
