"""How a typed program uses Weft. mypy checks it (test_types), nothing runs it."""

from typing import Any, assert_type

import torch
from torch import Tensor

import weft
from weft.flex import AuxOutput, AuxRequest, BlockMask, create_block_mask, flex_attention

q = k = v = torch.randn(1, 4, 64, 32)

assert_type(weft.attention("causal", q, k, v), Tensor)
assert_type(weft.attention("causal", q=q, k=k, v=v, lse=True), tuple[Tensor, Tensor])
assert_type(weft.attention("sliding_window", q, k, v, window=64), Tensor)

causal = weft.variant("causal")
assert_type(causal, weft.Variant)
assert_type(causal(q, k, v), Tensor)
assert_type(causal(q, k, v, lse=True), tuple[Tensor, Tensor])
assert_type(causal.decode(q[:, :, :1], k, v), Tensor)
assert_type(causal.name, str)
assert_type(causal.inputs[0].dims, tuple[str, ...])
assert_type(causal.compile(emit="ptx", dtype=torch.bfloat16), str)
assert_type(causal.explain(q, k, v).kept_share, float)

slope = torch.rand(4, requires_grad=True)
alibi = weft.from_python(score=lambda s, b, h, i, j: s - slope[h] * (i - j), where=lambda b, h, i, j: i >= j)
assert_type(alibi(q, k, v), Tensor)
assert_type(alibi(q, k, v, lse=True), tuple[Tensor, Tensor])
assert_type(alibi.source, str)

mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 64, 64)
assert_type(mask, BlockMask)
assert_type(flex_attention(q, k, v, block_mask=mask), Tensor)
assert_type(flex_attention(q, k, v, lambda s, b, h, i, j: s * 2, return_lse=True), tuple[Tensor, Tensor])
assert_type(flex_attention(q, k, v, return_aux=AuxRequest(lse=True)), tuple[Tensor, AuxOutput])

found = weft.tune("causal", q, k, v, budget=5.0)
assert_type(weft.cmake_prefix_path, str)
assert_type(found, list[dict[str, Any]])
assert_type(weft.bench(["causal", alibi], q, k, v, seconds=0.1), weft.Bench)
