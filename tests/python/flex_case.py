"""What tests of weft.flex_attention share: inputs, and FlexAttention by its definition."""

import unittest

import torch
from score_functions import B, H, T
from torch.nn.attention import flex_attention as flex


def math(q, k, v, score_mod=None, mask_mod=None, scale=None):
    """What FlexAttention computes, by its definition."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    pairs = [torch.arange(size) for size in (*q.shape[:3], k.shape[2])]
    s = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if score_mod:
        s = flex._vmap_for_bhqkv(score_mod, prefix=(0,))(s, *pairs)
    if mask_mod:
        s = s.masked_fill(~flex._vmap_for_bhqkv(mask_mod, prefix=())(*pairs), -float("inf"))
    return torch.nan_to_num(torch.softmax(s, -1)).to(v.dtype) @ v


class Case(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.q, self.k, self.v = (torch.randn(B, H, T, 32) for _ in range(3))

    def near(self, got, want, tolerance=1e-5):
        self.assertEqual(got.shape, want.shape)
        self.assertLess((got.double() - want.double()).abs().max().item(), tolerance)
