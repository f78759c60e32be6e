"""BlockMasks: found when their blocks are asked for, changed afterwards."""

import copy
import unittest
from unittest import mock

import torch
from torch.nn.attention import flex_attention as flex

import weft
from flex_case import Case
from weft.flex import create_block_mask, flex_attention


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


class BlockMask(Case):
    def test_masks_that_are_changed(self):
        """What is done to a mask's blocks, or to its function, holds, as where it had been given by its blocks."""
        q, k, v = (torch.randn(1, 1, 300, 16) for _ in range(3))

        def emptied(mask):
            mask.kv_num_blocks[0, 0, 2] = mask.full_kv_num_blocks[0, 0, 2] = 0

        def fewer(mask):
            mask.kv_num_blocks = mask.kv_num_blocks.clone()
            mask.kv_num_blocks[0, 0, 1] = 0

        def no_full(mask):
            mask.full_kv_num_blocks = mask.full_kv_indices = None

        def another(mask):
            mask.mask_mod = lambda b, h, i, j: (i == j) | (i == j + 200)

        for change in (emptied, fewer, no_full, another):
            with self.subTest(change.__name__):
                mask, want = (make(causal, None, None, 300, 300, device="cpu") for make in (create_block_mask, flex.create_block_mask))
                before = flex_attention(q, k, v, block_mask=mask)
                str(mask)  # finds its blocks
                self.near(flex_attention(q, k, v, block_mask=mask), before, 1e-30)
                fresh = create_block_mask(causal, None, None, 300, 300, device="cpu")
                for own in (mask, want, fresh):
                    change(own)
                expected = flex_attention(q, k, v, block_mask=want)
                self.assertGreater((expected - before).abs().max().item(), 0.1)
                for own in (mask, fresh, mask.to("cpu"), mask._adjust(300, 300), copy.copy(fresh)):
                    self.near(flex_attention(q, k, v, block_mask=own), expected, 1e-30)
        with torch.inference_mode():  # whose tensors do not say that they were changed
            mask = create_block_mask(causal, None, None, 300, 300, device="cpu")
            str(mask)
            self.near(flex_attention(q, k, v, block_mask=mask), before, 1e-30)

    def test_blocks_are_found_when_asked_for(self):
        mask = create_block_mask(causal, None, None, 1 << 20, 1 << 20, device="cpu")  # a million tokens squared
        self.assertEqual(mask.shape, (1, 1, 1 << 20, 1 << 20))
        small, want = create_block_mask(causal, 1, 1, 256, 256, device="cpu"), flex.create_block_mask(causal, 1, 1, 256, 256, device="cpu")
        self.assertIsInstance(small, flex.BlockMask)
        self.assertEqual(str(small), str(want))
        self.assertEqual(small.sparsity(), want.sparsity())
        self.assertTrue(torch.equal(small.to_dense(), want.to_dense()))
        self.assertEqual(small._adjust(128, 128).shape, (1, 1, 128, 128))
        with mock.patch.object(flex, "create_block_mask", wraps=flex.create_block_mask) as make:
            create_block_mask(causal, None, None, 256, 256).kv_indices
        self.assertEqual(str(make.call_args.args[5]), "cuda" if torch.cuda.is_available() else "cpu")  # not what torch is built for
        self.assertEqual(str(weft.BlockMask(mask_mod=causal, B=1, H=1, Q_LEN=256, KV_LEN=256, device="cpu")), str(want))


if __name__ == "__main__":
    unittest.main()
