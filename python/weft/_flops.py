"""Counts for torch.utils.flop_counter.FlopCounterMode: the products over kept tiles, as its formulas of other attentions count them."""

import json

import torch

_ops = torch.ops.weft


def _products(source, names, tensors) -> int:
    given = dict(zip(names, tensors))
    told = json.loads(_ops.explain(source, list(names), [own.detach() for own in tensors]))
    width = given["v"].shape[-1] + (given["q"].shape[-1] if "q" in given else 0)
    return int(sum(told["kept"]) / max(1, told["tiles"] * len(told["kept"])) * told["B"] * told["H"] * told["T"] * told["S"] * 2 * width)


def _forward(source, names, tensors, *args, out_val=None, **kwargs) -> int:
    return _products(source, names, tensors)


def _backward(source, names, tensors, *args, out_val=None, **kwargs) -> int:
    return 5 * _products(source, names, tensors) // 2  # q k', do v', and one for each of dq, dk, dv


def register():
    from torch.utils.flop_counter import register_flop_formula

    for op in (_ops.attention, _ops.attention_with_lse, _ops._forward_keeping_rows):
        register_flop_formula(op, get_raw=True)(_forward)
    register_flop_formula(_ops._backward_from_rows, get_raw=True)(_backward)
