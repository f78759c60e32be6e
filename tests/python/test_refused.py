"""What weft.flex_attention does not trace: refused by name, never taken for something else."""

import unittest

import torch
from flex_case import Case, math
from score_functions import B, H

from weft.flex import flex_attention


class Refused(Case):
    def test_what_cannot_be_traced_is_named(self):
        table, x, bytes_ = torch.randn(H, 8), torch.randn(H), torch.arange(8, dtype=torch.uint8)

        rows, counts, long = torch.randn(B, H, 200, 24), torch.zeros(B, H, 200, 24, dtype=torch.int64), torch.randn(200, 300)

        def without_gradients(s):
            with torch.no_grad():
                return s * 2

        cases = {
            "torch.erfinv has no counterpart": lambda s, b, h, i, j: torch.erfinv(s),
            "Tensor.lgamma has no counterpart": lambda s, b, h, i, j: s.lgamma(),
            "torch.where(condition, a, b)": lambda s, b, h, i, j: s if i > j else s * 2,
            "index every dim": lambda s, b, h, i, j: s + table[h],
            "as a whole": lambda s, b, h, i, j: s + x,
            "of type torch.float32": lambda s, b, h, i, j: s + x[s],
            "inf in an expression": lambda s, b, h, i, j: torch.where(i > j, s, float("inf")),
            "may pass through torch.where": lambda s, b, h, i, j: torch.tanh(torch.where(i > j, s, -float("inf"))),
            "changes a tensor in place": lambda s, b, h, i, j: torch.zeros(()).add_(s),
            "detach of what hangs on x": lambda s, b, h, i, j: s + x[h].detach(),
            "detach of what hangs on k, q": lambda s, b, h, i, j: s * s.detach(),
            "torch.no_grad around what hangs on k, q": lambda s, b, h, i, j: s + without_gradients(s),
            "gives torch.uint8, which wraps around": lambda s, b, h, i, j: s + (bytes_[i % 8] - bytes_[j % 8]),
            "gives torch.int8, which wraps around": lambda s, b, h, i, j: s + (i * 10).to(torch.int8),
            "True as an index": lambda s, b, h, i, j: s + table[h, True],
            "32 bits": lambda s, b, h, i, j: s + i * 2**40,
            "int: the value of a pair": lambda s, b, h, i, j: s + int(i),
            "or multiply two rows": lambda s, b, h, i, j: s + rows[b, h, i],
            "both of queries": lambda s, b, h, i, j: s + torch.dot(rows[b, h, i], rows[b, 0, i]),
            "each once": lambda s, b, h, i, j: s + torch.dot(rows[b, h, i], rows[b, h, j + 1]),
            "shape (2, 4, 200, 24)": lambda s, b, h, i, j: s + torch.dot(rows[b, h, i], rows[b, h % 2, j]),
            "h // 3 of 4 heads": lambda s, b, h, i, j: s + torch.dot(rows[b, h, i], rows[b, h // 3, j]),
            "are used one by one": lambda s, b, h, i, j: s + (rows[b, h, i] * rows[b, h, j]).tanh().sum(),
            "of rows of torch.int64": lambda s, b, h, i, j: s + torch.dot(counts[b, h, i], counts[b, h, j]),
            "of rows of 300 numbers": lambda s, b, h, i, j: s + torch.dot(long[i], long[j]),
        }
        for words, function in cases.items():
            with self.subTest(words), self.assertRaises(NotImplementedError) as caught:
                flex_attention(self.q, self.k, self.v, function)
            self.assertIn(words.split(":")[0], str(caught.exception))
        with self.assertRaisesRegex(IndexError, "goes up to 99"):
            flex_attention(self.q, self.k, self.v, lambda s, b, h, i, j: s + torch.zeros(50)[i])

    def test_functions_with_a_backward_of_their_own(self):
        """torch.autograd.Function: its forward may be traced where nothing is differentiated. An operator of somebody else's is not torch's."""
        class Cap(torch.autograd.Function):
            @staticmethod
            def forward(ctx, s):
                return 3 * torch.tanh(s / 3)

            @staticmethod
            def backward(ctx, gradient):
                return gradient

        class Sneaking(Cap):
            @staticmethod
            def forward(ctx, s):
                with torch.enable_grad():
                    return 3 * torch.tanh(s / 3)

        q, k, v = self.q, self.k, self.v
        for own in (Cap, Sneaking):
            with self.assertRaisesRegex(NotImplementedError, f"torch.autograd.Function {own.__name__} of what hangs on k, q: .*Write what forward computes"):
                flex_attention(q, k, v, lambda s, b, h, i, j: own.apply(s))
            with torch.no_grad():
                self.near(flex_attention(q, k, v, lambda s, b, h, i, j: own.apply(s)), math(q, k, v, lambda s, b, h, i, j: 3 * torch.tanh(s / 3)))
        # What hangs on places alone has no gradient.
        self.near(flex_attention(q, k, v, lambda s, b, h, i, j: s + Cap.apply((i - j) * 0.1)), math(q, k, v, lambda s, b, h, i, j: s + 3 * torch.tanh((i - j) / 30)))

        class Layer(torch.autograd.Function):
            """A whole layer inside of one."""
            @staticmethod
            def forward(ctx, q, k, v):
                return flex_attention(q, k, v, lambda s, b, h, i, j: s * 0.5)

            @staticmethod
            def backward(ctx, gradient):
                return gradient, gradient, gradient

        self.near(Layer.apply(q.requires_grad_(), k, v), math(q, k, v, lambda s, b, h, i, j: s * 0.5))
        library = torch.library.Library("weft_test", "DEF")
        library.define("tanh(Tensor x) -> Tensor")
        library.impl("tanh", lambda x: x * 2, "CompositeExplicitAutograd")
        class Approximate(Cap):
            @staticmethod
            def forward(ctx, s):
                return torch.ops.weft_test.tanh(s)

        with self.assertRaisesRegex(NotImplementedError, "torch.autograd.Function Approximate calls what Weft cannot trace: torch.ops.weft_test.tanh has no"):
            flex_attention(q, k, v, lambda s, b, h, i, j: Approximate.apply(s))
        for own in (torch.ops.weft_test.tanh, torch.ops.weft_test.tanh.default):
            with self.assertRaisesRegex(NotImplementedError, "torch.ops.weft_test.tanh has no counterpart"):
                flex_attention(q, k, v, lambda s, b, h, i, j: own(s))
        self.near(flex_attention(q, k, v, lambda s, b, h, i, j: torch.ops.aten.tanh(s)), math(q, k, v, lambda s, b, h, i, j: torch.tanh(s)))


if __name__ == "__main__":
    unittest.main()
