"""The Python package on a GPU; without one its PTX runs in the emulator. Output and gradients beside those of the CPU's kernels."""

import os
import unittest

import torch

if not torch.cuda.is_available():
    os.environ["WEFT_DEVICE"] = "ptx-emulator"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

import weft

B, H, G, T, D = 1, 2, 1, 48, 16


def drawn(*shape, grad=True):
    return torch.randn(*shape, device=DEVICE).requires_grad_(grad)


class Devices(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.q, self.k, self.v = drawn(B, H, T, D), drawn(B, G, T, D), drawn(B, G, T, D)

    def near(self, out, want, leaves, tolerance=2e-4):
        """`out` and its gradients beside those of torch's operations."""
        cotangent = torch.randn_like(want)
        self.assertLess((out - want).abs().max().item(), tolerance)
        for own, exact in zip(torch.autograd.grad(out, leaves, cotangent), torch.autograd.grad(want, leaves, cotangent)):
            self.assertLess((own - exact).abs().max().item(), 10 * tolerance)

    def by_formula(self, score, kept):
        place = torch.arange(T, device=DEVICE)
        i, j = place[:, None], place[None]
        s = self.q @ self.k.transpose(-1, -2) / D**0.5
        return torch.softmax(score(s, torch.arange(H, device=DEVICE)[:, None, None], i, j).masked_fill(~kept(i, j), -torch.inf), -1) @ self.v

    def test_that_it_is_no_cpu(self):
        told = weft.variant("causal").explain(self.q, self.k, self.v)
        self.assertNotIn("cpu", str(told["device"]))

    def test_flex_attention(self):
        cap, slope = torch.tensor(5.0, device=DEVICE, requires_grad=True), drawn(H)
        score = lambda s, b, h, i, j: cap * torch.tanh(s / cap) - slope[h] * (i - j)
        mask = weft.create_block_mask(lambda b, h, i, j: (i >= j) & (i - j < 20), None, None, T, T, device=DEVICE)
        out = weft.flex_attention(self.q, self.k, self.v, score, mask, enable_gqa=True)
        want = self.by_formula(lambda s, h, i, j: score(s, 0, h, i, j), lambda i, j: (i >= j) & (i - j < 20))
        self.near(out, want, (self.q, self.k, self.v, cap, slope))

    def test_functions_of_python(self):
        table = drawn(H, 2 * T)
        variant = weft.from_python(score=lambda s, b, h, i, j: s + table[h, i - j + T], where=lambda b, h, i, j: (i - j) % 3 != 1)
        want = self.by_formula(lambda s, h, i, j: s + table[h, i - j + T], lambda i, j: (i - j) % 3 != 1)
        self.near(variant(self.q, self.k, self.v), want, (self.q, self.k, self.v, table))

    def test_compiled(self):
        slope = drawn(H)

        def layer(q, k, v, slope):
            return weft.flex_attention(q, k, v, lambda s, b, h, i, j: s - slope[h] * (i - j).abs(), enable_gqa=True) * 2

        out = torch.compile(layer, fullgraph=True)(self.q, self.k, self.v, slope)
        want = self.by_formula(lambda s, h, i, j: s - slope[h] * (i - j).abs(), lambda i, j: i - j == i - j) * 2
        self.near(out, want, (self.q, self.k, self.v, slope))

    def test_functions_of_tensors(self):
        loss = lambda q: weft.attention("causal", q, self.k, self.v).square().sum()
        got = torch.func.grad(loss)(self.q)
        want = self.by_formula(lambda s, h, i, j: s, lambda i, j: i >= j).square().sum()
        self.assertLess((got - torch.autograd.grad(want, self.q)[0]).abs().max().item(), 2e-3)

    def test_nested(self):
        lengths = (5, 30, 13)
        offsets = torch.tensor([0, *lengths], device=DEVICE).cumsum(0)
        q, k, v = (torch.nested.nested_tensor_from_jagged(own[0].transpose(0, 1), offsets).transpose(1, 2) for own in (self.q, self.k.expand_as(self.q), self.v.expand_as(self.q)))
        out = weft.attention("causal", q, k, v)
        for own, a, b, c in zip(out.unbind(), q.unbind(), k.unbind(), v.unbind()):
            want = torch.nn.functional.scaled_dot_product_attention(a[None], b[None], c[None], is_causal=True)[0]
            self.assertLess((own - want).abs().max().item(), 2e-4)


if __name__ == "__main__":
    unittest.main()
