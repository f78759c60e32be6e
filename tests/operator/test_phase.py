"""Tokens in other orders. Sorted by phase: the results and gradients of span_periodic, in fewer tiles. Sorted by bucket: causal
attention inside buckets."""

import os
import unittest

import torch

torch.ops.load_library(os.environ["WEFT_LIBRARY"])
weft = torch.ops.weft


def inputs(T=700, H=3, G=3, period=(2.0, 5.3, 8.0), ratio=(-0.2, 0.1, -0.25), span=(700.0, 90.0, 300.0)):
    torch.manual_seed(3)
    q, k, v = torch.randn(2, H, T, 32), torch.randn(2, G, T, 32), torch.randn(2, G, T, 32)
    return [t.requires_grad_() for t in (q, k, v, torch.tensor(span), torch.tensor(period), torch.tensor(ratio))]


def plain(x):
    return weft.attention("span_periodic", ["q", "k", "v", "span", "period", "ratio"], x)


class Phase(unittest.TestCase):
    def test_order(self):
        order, phase = weft.phase_order(torch.tensor([2.5, 4.0]), 40, 16)
        self.assertEqual(order.sort(1).values.tolist(), [list(range(40))] * 2)
        for h, period in enumerate((2.5, 4.0)):
            for at in range(40):
                self.assertEqual(order[h, at].item() // 16, at // 16)
                self.assertAlmostEqual(phase[h, at].item(), order[h, at].item() % period, places=5)
                if at % 16:
                    self.assertLessEqual(phase[h, at - 1], phase[h, at])

    def test_same_results_and_gradients(self):
        for G in (3, 1):
            x = inputs(G=G)
            want = plain(x)
            cotangent = torch.randn_like(want)
            want_grads = torch.autograd.grad(want, x, cotangent)
            for chunk in (-1, 0, 128, 256, 700):
                got = weft.attention_by_phase(*x, chunk)
                self.assertLess((got - want).abs().max().item(), 2e-6)
                for a, b, name in zip(torch.autograd.grad(got, x, cotangent), want_grads, ("q", "k", "v", "span", "period", "ratio")):
                    self.assertLess((a - b).abs().max().item(), 3e-5 * max(1, b.abs().max().item()), f"{name}, chunk {chunk}")

    def test_fewer_tiles_where_it_pays(self):
        T = 2048
        few = inputs(T, period=(8.0,) * 3, ratio=(-0.25,) * 3, span=(2048.0,) * 3)
        self.assertGreater(weft.phase_chunk(*few), 0)
        dense = inputs(T, period=(2.0,) * 3, ratio=(0.25,) * 3, span=(2048.0,) * 3)
        self.assertEqual(weft.phase_chunk(*dense), 0)

    def test_mistakes(self):
        x = inputs()
        with self.assertRaisesRegex(RuntimeError, "expected as many keys as queries"):
            weft.attention_by_phase(x[0][:, :, :9], *x[1:])
        with self.assertRaisesRegex(RuntimeError, r"expected periods \[H\]"):
            weft.phase_order(torch.ones(2, 2), 9, 4)


class Bucket(unittest.TestCase):
    def test_same_as_a_mask(self):
        torch.manual_seed(4)
        for B, H, G, T, S in ((2, 4, 2, 300, 300), (1, 2, 2, 130, 97)):
            q, k, v = [torch.randn(B, heads, n, 32).requires_grad_() for heads, n in ((H, T), (G, S), (G, S))]
            own, other = torch.randint(-2, 5, (B, H, T)), torch.randint(-2, 5, (B, H, S))
            got = weft.attention_by_bucket(q, k, v, own, other)
            keep = (own[..., None] == other[:, :, None]) & (torch.arange(T)[:, None] >= torch.arange(S))
            kk, vv = (t.repeat_interleave(H // G, 1) for t in (k, v))
            s = (q @ kk.transpose(-1, -2) / 32 ** 0.5).masked_fill(~keep, -1e30)
            want = (s.softmax(-1) * keep) @ vv
            self.assertLess((got - want).abs().max().item(), 2e-6)
            cotangent = torch.randn_like(want)
            for a, b in zip(torch.autograd.grad(got, (q, k, v), cotangent), torch.autograd.grad(want, (q, k, v), cotangent)):
                self.assertLess((a - b).abs().max().item(), 2e-5)

    def test_mistakes(self):
        q, ids = torch.randn(1, 2, 9, 16), torch.zeros(1, 2, 9, dtype=torch.int64)
        with self.assertRaisesRegex(RuntimeError, r"expected key buckets of integers \[1, 2, 9\], got Float"):
            weft.attention_by_bucket(q, q, q, ids, ids.float())
        with self.assertRaisesRegex(RuntimeError, r"expected query buckets of integers \[1, 2, 9\], got Long \[1, 2, 8\]"):
            weft.attention_by_bucket(q, q, q, ids[:, :, 1:], ids)


if __name__ == "__main__":
    unittest.main()
