"""Nested tensors: each sequence as if it were alone, output and gradients."""

import unittest

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import weft
from weft._nested import packed

LENGTHS, KEYS, H, G, D = (3, 70, 1, 33), (40, 5, 64, 9), 4, 2, 16
FULL = "attention full(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E]) { score dot(q[i], k[j]) / sqrt(D) }"
PLACES = """attention by_place(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], r: [B, H, T], x: [B, S], table: [H, N], slope: [H]) {
  let behind = i - 2 * j   // not by distance alone
  where i mod 5 != 1 or j < 20
  score dot(q[i], k[j]) / sqrt(D) + r[i] * x[j] + table[h, clamp(j, 0, N - 1)] - 0.01 * slope[h] * abs(behind)
}"""


def jagged(lengths, *shape):
    """[B, *, length, *], of tensors that get gradients; and these."""
    each = [torch.randn(*(length if own is None else own for own in shape), requires_grad=True) for length in lengths]
    dim = shape.index(None)
    values = torch.cat(each, dim)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return torch.nested.nested_tensor_from_jagged(values, offsets, jagged_dim=dim + 1), each


class Nested(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)

    def compare(self, source, keys=LENGTHS, places=False, captured=(), **shared):
        drawn = {"q": jagged(LENGTHS, H, None, D), "k": jagged(keys, G, None, D), "v": jagged(keys, G, None, D)}
        if places:
            drawn |= {"r": jagged(LENGTHS, H, None), "x": jagged(keys, None)}
        out, lse = weft.attention(source, lse=True, **{name: own for name, (own, _) in drawn.items()}, **shared)
        self.assertTrue(out.is_nested and lse.is_nested)
        self.assertEqual(out.shape[:2], (len(LENGTHS), H))
        leaves = [own for _, each in drawn.values() for own in each] + [own for own in shared.values() if own.is_floating_point()] + list(captured)
        cotangents = [torch.randn(H, length, D) for length in LENGTHS]
        got = torch.autograd.grad(sum((own * cotangent).sum() for own, cotangent in zip(out.unbind(), cotangents)), leaves)
        alone = [weft.attention(source, lse=True, **{name: each[at][None] for name, (_, each) in drawn.items()}, **shared) for at in range(len(LENGTHS))]
        for at, (own, rows) in enumerate(alone):
            torch.testing.assert_close(out.unbind()[at], own[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(lse.unbind()[at], rows[0], atol=1e-5, rtol=1e-5)
        want = torch.autograd.grad(sum((own[0] * cotangent).sum() for (own, _), cotangent in zip(alone, cotangents)), leaves)
        for own, other in zip(got, want):
            torch.testing.assert_close(own, other, atol=2e-5, rtol=1e-4)

    def test_library(self):
        self.compare(FULL)
        self.compare("causal")
        self.compare("sliding_window", window=torch.tensor(20))
        self.compare("alibi", slope=torch.rand(H, requires_grad=True))
        self.compare("adaptive_span", span=torch.tensor([3.0, 20.0, 50.0, 9.0], requires_grad=True))

    def test_other_keys(self):
        self.compare(FULL, keys=KEYS)
        self.compare("causal", keys=KEYS)
        self.compare("alibi", keys=KEYS, slope=torch.rand(H, requires_grad=True))

    def test_places(self):
        shared = {"table": torch.randn(H, 30, requires_grad=True), "slope": torch.rand(H, requires_grad=True)}
        self.compare(PLACES, places=True, **shared)
        self.compare(PLACES, keys=KEYS, places=True, **shared)

    def test_functions_of_python(self):
        slope, table = torch.rand(H, requires_grad=True), torch.randn(H, 90, requires_grad=True)
        variant = weft.from_python(score=lambda s, b, h, i, j: s - slope[h] * (i - j).abs() + table[h, j.clamp(max=89)], where=lambda b, h, i, j: (i - j) % 3 < 2)
        self.compare(variant, keys=KEYS, captured=(slope, table))
        q, k, v = (jagged(lengths, heads, None, D)[0] for lengths, heads in ((LENGTHS, H), (KEYS, G), (KEYS, G)))
        bias = torch.randn(80, 80)
        with self.assertRaisesRegex(weft.Error, r"'bias' \[T, S\] beside nested tensors"):
            weft.from_python(score=lambda s, b, h, i, j: s + bias[i, j])(q, k, v)

    def test_distances_need_no_starts(self):
        head = "attention a(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], r: [B, H, T], t: [H, N]) { %s score dot(q[i], k[j]) * r[i] }"
        for text, local in (("where i >= j and i - j < 9", False), ("let d = i - j where abs(d) < 3", False), ("where t[h, clamp(i - j, 0, N - 1)] > 0", False),
                            ("where 2 + i - j > 0", False), ("where i - j * 2 > 0", True), ("where 9 - i - j > 0", True), ("where i + j > 0", True),
                            ("where i >= j + 3", True), ("where i < 5", True), ("where t[h, j] > 0", True), ("where r[h, i] > 0", False)):
            self.assertEqual(packed(head % text, True)[1], local, text)
        self.assertTrue(packed(head % "where i >= j", False)[1])

    def test_layout_and_no_copies(self):
        tokens = torch.randn(sum(LENGTHS), 3, H, D)
        offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
        q, k, v = (torch.nested.nested_tensor_from_jagged(tokens[:, at], offsets).transpose(1, 2) for at in range(3))
        out = weft.attention("causal", q, k, v)
        self.assertEqual(out.shape, q.shape)
        back = out.transpose(1, 2)
        self.assertEqual(back.values().stride(), (H * D, D, 1))
        for at, (a, b, c) in enumerate(zip(q.unbind(), k.unbind(), v.unbind())):
            want = torch.nn.functional.scaled_dot_product_attention(a[None], b[None], c[None], is_causal=True)[0]
            torch.testing.assert_close(out.unbind()[at], want, atol=1e-5, rtol=1e-5)

    def test_rows_are_read_where_they_are(self):
        storage = lambda own: own.untyped_storage().data_ptr()

        class Copies(TorchDispatchMode):
            """Operations that put rows anywhere but where they are; the kernels write theirs."""

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                for own in torch.utils._pytree.tree_leaves(out):
                    if not isinstance(own, torch.Tensor) or own.is_nested or own.numel() < sum(LENGTHS) * H * D:
                        continue
                    if "weft" in str(func):
                        known.add(storage(own))
                    elif storage(own) not in known:
                        found.append(str(func))
                return out

        values = torch.randn(3, sum(LENGTHS), H, D)
        found, known = [], {storage(values)}
        offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
        q, k, v = (torch.nested.nested_tensor_from_jagged(own, offsets).transpose(1, 2) for own in values.unbind())
        with torch.no_grad(), Copies():
            weft.attention("causal", q, k, v)
        self.assertEqual(found, [])

    def test_cost_follows_the_sequences(self):
        text, _ = packed(FULL, True)
        q = torch.randn(1, 1, 2048, 16)
        sequence = torch.arange(2048, dtype=torch.int32) // 256
        kept = weft.variant(text).explain(q, q, q, sequence_of_query_=sequence, sequence_of_key_=sequence).kept_share
        self.assertLess(kept, 0.2)

    def test_mistakes(self):
        q, _ = jagged(LENGTHS, H, None, D)
        k, _ = jagged(KEYS, H, None, D)
        dense = torch.randn(4, H, 20, D)
        with self.assertRaisesRegex(weft.Error, "input 'k' .* expected a nested tensor"):
            weft.attention(FULL, q, dense, q)
        with self.assertRaisesRegex(weft.Error, "'v' to be as long as those of the other nested tensors with S"):
            weft.attention(FULL, q, k, q)
        with self.assertRaisesRegex(weft.Error, "'select' in variant 'block_sparse'"):
            weft.attention("block_sparse", q, q, q, tiles=[1] * H)
        with self.assertRaisesRegex(weft.Error, "'T' in variant 't'"):
            weft.attention("attention t(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E]) { score dot(q[i], k[j]) / T }", q, q, q)


if __name__ == "__main__":
    unittest.main()
