"""weft.bench: what it measures and shows, not how long anything takes."""

import unittest

import torch
import torch.nn.functional as F

import weft


class Bench(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.q, self.k, self.v = (torch.randn(1, 4, 128, 32, requires_grad=True) for _ in range(3))

    def test_variants_and_functions_in_turns(self):
        calls = []

        def sdpa(q, k, v):
            calls.append("sdpa")
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

        mine = weft.from_python(where=lambda b, h, i, j: i - j < 16)
        found = weft.bench({"causal": "causal", "window": "sliding_window", "mine": mine, "sdpa": sdpa}, self.q, self.k, self.v, window=16, seconds=0.01)
        self.assertEqual([own.name for own in found], ["causal", "window", "mine", "sdpa"])
        for own in found:
            self.assertEqual(own.error, "")
            self.assertGreater(own.forward, 0)
            self.assertGreater(own.backward, 0)
        self.assertGreaterEqual(len(calls), 7)  # two before, five in turns
        causal, window, _, sdpa = found
        self.assertEqual(causal.flops, weft.variant("causal").explain(self.q, self.k, self.v).flops)
        self.assertGreater(causal.rate, 0)
        self.assertEqual(window.kept, weft.variant("sliding_window").explain(self.q, self.k, self.v, window=16).kept_share)
        self.assertIsNone(sdpa.kept)
        text = str(found)
        self.assertIn("1 x 4 x 128 x 32 float32 on cpu", text)
        self.assertEqual(len(text.splitlines()), 6)
        self.assertIn("1.00x", text.splitlines()[2])
        page = found._repr_html_()
        self.assertEqual(page.count("<tr>"), 5)
        self.assertIn("window", page)

    def test_without_gradients(self):
        with torch.no_grad():
            found = weft.bench("causal", self.q.detach(), self.k.detach(), self.v.detach(), seconds=0.01)
        self.assertIsNone(found[0].backward)
        self.assertIsNone(weft.bench(["causal"], self.q, self.k, self.v, backward=False, seconds=0.01)[0].backward)

    def test_what_fails_has_its_row(self):
        def broken(q, k, v):
            raise RuntimeError("no such kernel\nmore")

        found = weft.bench({"window": "sliding_window", "broken": broken, "causal": "causal"}, self.q, self.k, self.v, seconds=0.01)
        self.assertIn("expected input 'window'", found[0].error)
        self.assertEqual(found[1].error, "RuntimeError: no such kernel")
        self.assertGreater(found[2].forward, 0)
        self.assertIn("no such kernel", str(found))
        self.assertIn("no such kernel", found._repr_html_())


if __name__ == "__main__":
    unittest.main()
