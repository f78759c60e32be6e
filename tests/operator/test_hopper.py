"""The operator with Hopper's own code (sm_90a) on the PTX emulator: rows however they lie, and functions by approximate instructions."""

import os

os.environ["WEFT_GPU"] = "sm_90a"

import unittest

import torch

import test_emulator
import test_variants

os.environ["WEFT_DEVICE"] = "ptx-emulator:sm_90"


class Hopper(unittest.TestCase):
    compare = test_emulator.Emulator.compare
    rising = test_emulator.Emulator.rising
    far = test_emulator.Emulator.far
    capped_window = test_emulator.Emulator.capped_window

    def test_rows_that_lie_apart(self):
        """TMA takes rows whose neighbours are any multiple of 16 bytes away."""
        for name in ("causal", "span_periodic"):
            with self.subTest(name=name):
                self.compare(name, torch.bfloat16, (2, 2, 2, 70, 70, 32), lambda t: t.transpose(1, 2).contiguous().transpose(1, 2))

    def test_rows_that_tma_does_not_take(self):
        """Of these another kernel is compiled, the first time: rows that begin anywhere, and one row for all heads."""
        shifted = lambda t: torch.nn.functional.pad(t, (1, 0))[..., 1:]
        self.compare("causal", torch.bfloat16, (1, 2, 2, 70, 70, 32), shifted)
        self.compare("causal", torch.float16, (1, 2, 2, 70, 70, 32), lambda t: t[:, :1].expand(t.shape))
        # One that it takes after one that it does not, by the same variant.
        self.compare("causal", torch.bfloat16, (1, 2, 2, 72, 72, 32))

    def test_no_keys(self):
        """Of no rows there is a tensor map, too: what is loaded of them is zeros."""
        q, k, v = torch.randn(1, 2, 70, 32).bfloat16(), torch.zeros(1, 2, 0, 32).bfloat16(), torch.zeros(1, 2, 0, 32).bfloat16()
        leaves = [t.requires_grad_() for t in (q, k, v)]
        out = torch.ops.weft.attention("causal", ["q", "k", "v"], leaves)
        self.assertTrue(torch.equal(out, torch.zeros_like(out)))
        self.assertTrue(torch.equal(torch.autograd.grad(out.sum(), leaves)[0], torch.zeros_like(q)))

    def test_peaks_that_lag(self):
        for dtype in (torch.float16, torch.bfloat16):
            self.rising(dtype)

    def test_scores_far_from_zero(self):
        self.far(torch.bfloat16)

    def test_rows_without_keys_at_first(self):
        self.capped_window(torch.bfloat16)

    def test_precision(self):
        """Twice the error of PyTorch's math in 16 bits, with its own approximate instructions."""
        for name, dtype, D in (("soft_cap", torch.bfloat16, 64), ("soft_cap", torch.float16, 64), ("span_periodic", torch.bfloat16, 64),
                               ("causal", torch.float16, 64)):
            with self.subTest(name=name, dtype=dtype):
                test_variants.compare(self, name, dtype, (1, 2, 2, 130, 130, D), count=2)


if __name__ == "__main__":
    unittest.main()
