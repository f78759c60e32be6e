"""The operator on the PTX emulator: the path of CUDA tensors but for the driver. Of an sm_89, which gives a block the least shared
memory (101,376 bytes) of the GPUs that Weft runs on: what fits there fits everywhere."""

import os

os.environ["WEFT_DEVICE"] = "ptx-emulator:sm_89"

import tempfile
import unittest

import torch

from criterion import rounded
import test_variants
from test_decode import in_pages, newest
from test_variants import DECODED, REFERENCE, make

QKV = ["q", "k", "v"]


class Emulator(unittest.TestCase):
    def compare(self, name, dtype, shape, change=lambda t: t, source=None, reference=None, **others):
        """`source`, `reference`: a variant that takes the inputs of `name`, and what it is."""
        x = {n: change(t) if n in ("q", "k", "v", "u", "w") else t for n, t in rounded({**make(name, *shape), **others}, dtype).items()}
        exact = {n: t.double() if t.is_floating_point() else t for n, t in x.items()}
        floats = [n for n, t in x.items() if t.is_floating_point()]
        torch.manual_seed(3)
        cotangent = torch.randn(*x["q"].shape[:3], x["v"].shape[3]).to(dtype)

        def run(values, function):
            leaves = {n: t.detach().requires_grad_(t.is_floating_point()) for n, t in values.items()}
            out = function(leaves)
            return [out] + list(torch.autograd.grad(out, [leaves[n] for n in floats], cotangent.to(out.dtype)))

        got = run(x, lambda leaves: torch.ops.weft.attention(source or name, list(leaves), list(leaves.values())))
        want = run(exact, reference or REFERENCE[name])
        # bf16: 2^-9 of each operand, of probabilities and ds, and of the result.
        tolerance = 2e-5 if dtype == torch.float32 else 2e-2
        for what, a, b in zip(["o"] + floats, got, want):
            scale = max(1.0, b.abs().max().item())
            self.assertLess((a.double() - b).abs().max().item() / scale, tolerance * (4 if what in ("period", "ratio") else 1), f"{name} {what}")

    def test_variants(self):
        for name in ("causal", "span_periodic", "document", "content_weight", "attention_sink"):
            for dtype in (torch.float32, torch.bfloat16):
                with self.subTest(name=name, dtype=dtype):
                    self.compare(name, dtype, (1, 2, 2, 70, 70, 32))

    def rising(self, dtype):
        """Scores that rise with the keys, from tile to tile by less than a peak may lag behind them, and by more."""
        for rise in (3.0, 5.0, 6.0, 50.0, 600.0):
            with self.subTest(dtype=dtype, rise=rise):
                self.compare("alibi", dtype, (1, 2, 2, 330, 330, 32), lambda t: t / 2, slope=torch.full((2,), rise / 64))

    def test_peaks_that_lag(self):
        for dtype in (torch.float32, torch.float16):
            self.rising(dtype)

    def far(self, dtype):
        """Scores far from zero, where rounding their product with log2(e) would be seen, in all heads or in some."""
        for height in ([4000.0, -4000.0], [0.0, 10000.0], [-900.0, 760.0]):
            with self.subTest(dtype=dtype, height=height):
                bias = torch.tensor(height)[:, None] + torch.randn(2, 200)
                self.compare("relative_bias", dtype, (1, 2, 2, 200, 200, 32), bias=bias)

    def test_scores_far_from_zero(self):
        for dtype in (torch.float16, torch.bfloat16):
            self.far(dtype)

    def capped_window(self, dtype):
        """Scores within bounds that are known, of rows that have no key in the first tile."""
        with tempfile.NamedTemporaryFile("w", suffix=".weft") as file:
            file.write("""attention capped_window(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E])
                          { where i - j >= 0 and i - j < 40  score 1000 * tanh(dot(q[i], k[j]) / sqrt(D) / 1000) }""")
            file.flush()

            def reference(x):
                distance = test_variants.distance(x)
                return test_variants.attend(x["q"], x["k"], x["v"], (distance >= 0) & (distance < 40), cap=1000.0)

            self.compare("soft_cap", dtype, (1, 2, 2, 200, 200, 32), source=file.name, reference=reference)

    def test_rows_without_keys_at_first(self):
        for dtype in (torch.float32, torch.bfloat16):
            self.capped_window(dtype)

    def test_groups_and_wide_heads(self):
        self.compare("causal", torch.bfloat16, (1, 4, 2, 40, 40, 80))

    def test_widest_heads(self):
        for name, dtype in (("causal", torch.float32), ("causal", torch.float16), ("span_periodic", torch.bfloat16), ("content_weight", torch.float32)):
            with self.subTest(name=name, dtype=dtype):
                self.compare(name, dtype, (1, 1, 1, 40, 40, 256))

    def test_precision_on_tensor_cores_that_cut_off(self):
        """Twice the error of PyTorch's math, as on the CPU, where products are added as a GPU of 8.9 does (and one of 9.0 does not better)."""
        for name, dtype, D in (("causal", torch.float32, 64), ("causal", torch.float32, 128), ("soft_cap", torch.float32, 64),
                               ("adaptive_span", torch.bfloat16, 64), ("causal", torch.float16, 128)):
            with self.subTest(name=name, dtype=dtype, D=D):
                test_variants.compare(self, name, dtype, (1, 2, 2, 130, 130, D), count=2)

    def test_decoding_from_pages(self):
        for name in DECODED:
            for dtype, T, page in ((torch.float32, 130, 16), (torch.bfloat16, 70, 64)):
                x = rounded(make(name, 2, 4, 2, T, T, 32), dtype)
                last = newest(name, x)
                want = torch.ops.weft.decode(name, list(last), list(last.values()))
                last, table = in_pages(name, last, page)
                got = torch.ops.weft.decode_paged(name, list(last), list(last.values()), table, T)
                scale, tolerance = max(1.0, want.float().abs().max().item()), 1e-5 if dtype == torch.float32 else 2e-2
                self.assertLess((got.float() - want.float()).abs().max().item() / scale, tolerance, f"{name} {dtype}")

    def test_strides(self):
        # [B, T, H, D] in memory, and rows that begin where 16 bytes cannot be read at once.
        self.compare("causal", torch.bfloat16, (1, 2, 2, 40, 40, 32), lambda t: t.transpose(1, 2).contiguous().transpose(1, 2))
        self.compare("causal", torch.bfloat16, (1, 2, 2, 40, 40, 32), lambda t: torch.nn.functional.pad(t, (1, 0))[..., 1:])

    def test_sizes_of_one_are_broadcast(self):
        text = """attention biased(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], bias: [B, H, T, S]) {
          where i >= j  score dot(q[i], k[j]) / sqrt(D) + bias[i, j] }"""
        torch.manual_seed(1)
        B, H, T = 2, 2, 40
        q, k, v, bias = (torch.randn(shape, requires_grad=True) for shape in ((B, H, T, 16), (1, H, T, 16), (1, H, T, 16), (1, 1, T, T)))
        out = torch.ops.weft.attention(text, QKV + ["bias"], [q, k, v, bias])
        causal = torch.zeros(T, T).masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
        want = torch.nn.functional.scaled_dot_product_attention(q, k.expand(B, -1, -1, -1), v.expand(B, -1, -1, -1), (bias + causal).expand(B, H, T, T))
        torch.testing.assert_close(out, want, atol=1e-5, rtol=1e-4)
        cotangent = torch.randn_like(out)
        for got, ref in zip(torch.autograd.grad(out, [q, k, v, bias], cotangent), torch.autograd.grad(want, [q, k, v, bias], cotangent)):
            torch.testing.assert_close(got, ref, atol=5e-5, rtol=1e-3)

    def test_pieces_of_a_sequence(self):
        text = """attention pieces(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], c: [H], doc: int [B, T], key_doc: int [B, S]) {
          where i >= j and i - j < 70 and doc[i] == key_doc[j]  score dot(q[i], k[j]) / sqrt(D) - 0.01 * j * c[h]  sink c[h]  dropout 0.25 }"""
        torch.manual_seed(2)
        x = {"q": torch.randn(1, 2, 128, 16), "k": torch.randn(1, 1, 128, 16), "v": torch.randn(1, 1, 128, 16), "c": torch.randn(2),
             "doc": torch.randint(0, 3, (1, 128)).sort().values, "seed": torch.tensor([5, 1])}
        x["key_doc"] = x["doc"]
        leaves = [x[name].requires_grad_() for name in ("q", "k", "v", "c")]
        whole, l = torch.ops.weft.attention_with_lse(text, list(x), list(x.values()))
        parts = []
        for key in (0, 64):
            own = {**x, "q": x["q"][:, :, 64:], "doc": x["doc"][:, 64:], "origin": torch.tensor([64, key, 128, 128])}
            own.update({name: x[name].narrow(-2 if name != "key_doc" else -1, key, 64) for name in ("k", "v", "key_doc")})
            parts.append(torch.ops.weft.attention_with_lse(text, list(own), list(own.values())))
        all = torch.logsumexp(torch.stack([rows for _, rows in parts]), 0)
        joined = sum(o * torch.exp(rows - all).unsqueeze(-1) for o, rows in parts)
        torch.testing.assert_close(joined, whole[:, :, 64:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(all, l[:, :, 64:], atol=1e-5, rtol=1e-5)
        cotangent = torch.randn_like(joined)
        for got, ref in zip(torch.autograd.grad(joined, leaves, cotangent), torch.autograd.grad(whole[:, :, 64:], leaves, cotangent)):
            torch.testing.assert_close(got, ref, atol=5e-5, rtol=1e-3)

    def test_out_of_bounds_is_an_error(self):
        q, k, v = (torch.randn(1, 1, 40, 32) for _ in range(3))
        with self.assertRaisesRegex(RuntimeError, "left its dim"):
            torch.ops.weft.attention("relative_bias", QKV + ["bias"], [q, k, v, torch.zeros(1, 8)])


if __name__ == "__main__":
    unittest.main()
