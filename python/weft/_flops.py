"""Counts for torch.utils.flop_counter.FlopCounterMode: the products over kept tiles, as its formulas of other attentions count them."""

import torch

from ._variant import explained

_ops = torch.ops.weft


def _explained(source, names, tensors):
    return explained(source, names, [own.detach() for own in tensors])


def _forward(source, names, tensors, *args, out_val=None, **kwargs) -> int:
    return _explained(source, names, tensors).flops


def _backward(source, names, tensors, *args, out_val=None, **kwargs) -> int:
    return _explained(source, names, tensors).backward_flops


def register():
    from torch.utils.flop_counter import register_flop_formula

    for op in (_ops.attention, _ops.attention_with_lse, _ops._forward_keeping_rows):
        register_flop_formula(op, get_raw=True)(_forward)
    register_flop_formula(_ops._backward_from_rows, get_raw=True)(_backward)
