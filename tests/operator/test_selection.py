"""torch.ops.weft.select: the chosen tiles, used again by other layers and by the backward pass."""

import os
import unittest

import torch

torch.ops.load_library(os.environ["WEFT_LIBRARY"])
attention, select = torch.ops.weft.attention, torch.ops.weft.select


def inputs(T=300, H=4, G=2):
    torch.manual_seed(1)
    return {"q": torch.randn(2, H, T, 32), "k": torch.randn(2, G, T, 32), "v": torch.randn(2, G, T, 32), "tiles": torch.tensor([1, 2, 1, 3])}


class Selection(unittest.TestCase):
    def call(self, op, x):
        return op("block_sparse", list(x), list(x.values()))

    def test_counts(self):
        chosen = self.call(select, inputs())
        self.assertEqual((chosen.shape, chosen.dtype), ((2, 4, 5, 5), torch.bool))
        # Row 4: itself, the one before and the first are always kept; of the other two as many as asked for.
        self.assertEqual(chosen[0, :, 4].sum(-1).tolist(), [4, 5, 4, 5])
        self.assertEqual(chosen.triu(1).sum().item(), 0)

    def test_given_to_another_layer(self):
        x, y = inputs(), inputs()
        chosen = self.call(select, x)
        y["q"] = y["q"].roll(7, 2)
        own, given = self.call(attention, y), self.call(attention, y | {"selection": chosen})
        self.assertGreater((own - given).abs().max().item(), 1e-3)
        self.assertTrue(torch.equal(given, self.call(attention, y | {"selection": chosen.clone()})))
        everything = self.call(attention, y | {"selection": torch.ones_like(chosen)})
        dense = attention("causal", ["q", "k", "v"], [y["q"], y["k"], y["v"]])
        self.assertLess((everything - dense).abs().max().item(), 1e-6)

    def test_gradients_follow_the_given_tiles(self):
        x = inputs()
        for name in "qkv":
            x[name].requires_grad_()
        chosen = torch.eye(5, dtype=torch.bool).expand(2, 4, 5, 5)
        out = self.call(attention, x | {"selection": chosen})
        out.square().sum().backward()
        mine = x["k"].grad.clone()
        for name in "qkv":
            x[name].grad = None
        spread = lambda t: t.repeat_interleave(64, 2)[:, :, :300].repeat_interleave(64, 3)[..., :300].bool()
        k, v = x["k"].repeat_interleave(2, 1), x["v"].repeat_interleave(2, 1)
        mask = spread(chosen) & torch.ones(300, 300, dtype=torch.bool).tril()
        torch.nn.functional.scaled_dot_product_attention(x["q"], k, v, attn_mask=mask).square().sum().backward()
        self.assertLess((mine - x["k"].grad).abs().max().item(), 1e-4)

    def test_mistakes(self):
        x = inputs()
        with self.assertRaisesRegex(RuntimeError, r"expected 'selection' of type bool and shape \[2, 4, 5, 5\]"):
            self.call(attention, x | {"selection": torch.ones(2, 4, 5, 5)})
        with self.assertRaisesRegex(RuntimeError, "'causal' selects no tiles"):
            select("causal", ["q", "k", "v"], [x["q"], x["k"], x["v"]])
        with self.assertRaisesRegex(RuntimeError, "no input is named 'selection'"):
            attention("causal", ["q", "k", "v", "selection"], [x["q"], x["k"], x["v"], torch.ones(1)])

    def test_opcheck_and_compile(self):
        x = inputs(130)
        x["tiles"] = torch.tensor([1, 1, 1, 1])
        torch.library.opcheck(select.default, ("block_sparse", list(x), list(x.values())))
        torch.library.opcheck(attention.default, ("block_sparse", list(x), list(x.values())))
        f = torch.compile(lambda q, k, v, n: attention("block_sparse", ["q", "k", "v", "tiles"], [q, k, v, n]) * 2, backend="aot_eager")
        x["q"].requires_grad_()
        got = f(*x.values())
        self.assertTrue(torch.equal(got, self.call(attention, x) * 2))
        got.sum().backward()
        self.assertEqual(x["q"].grad.shape, x["q"].shape)


if __name__ == "__main__":
    unittest.main()
