"""Decoding with a length for each sequence: the newest queries give the last rows of attention over their own sequence."""

import os
import platform
import subprocess
import sys
import unittest

import torch

import declarations
from criterion import rounded
from test_decode import in_pages
from test_variants import DECODED, make

attention, decode, decode_paged = torch.ops.weft.attention, torch.ops.weft.decode, torch.ops.weft.decode_paged
LENGTHS = [130, 33, 1, 64]
CALLED = [name for name in DECODED if not any(word in declarations.source(name) for word in ("select ", "dropout ")) and name != "stripes"]


def narrowed(name, x, dim, first, count, b=None):
    """Of sequence b, where an input counts sequences, the `count` entries from `first` on of a dim."""
    out = dict(x)
    for own in declarations.inputs(name):
        t = x[own.name]
        if b is not None and "B" in own.dims:
            t = t.narrow(own.dims.index("B"), b, 1)
        if dim in own.dims:
            t = t.narrow(own.dims.index(dim), first, count)
        out[own.name] = t
    return out


def of_sequence(name, x, b, length):
    own = narrowed(name, narrowed(name, x, "T", 0, length, b), "S", 0, length)
    if "list" in own:
        own["list"] = torch.where(own["list"] < length, own["list"], -1)
    return own


def newest(name, x, lengths, count):
    """Queries and what else counts them: the last `count` of each sequence; what stands before it is anything."""
    out = dict(x)
    for own in declarations.inputs(name):
        if "T" not in own.dims:
            continue
        at, t = own.dims.index("T"), x[own.name]
        parts = []
        for b, length in enumerate(lengths):
            places = (torch.arange(count) + length - count).clamp_min(0)
            parts.append((t.narrow(0, b, 1) if "B" in own.dims else t[None]).index_select(at + ("B" not in own.dims), places))
        if "B" not in own.dims and any(not part.equal(parts[0]) for part in parts):
            return None  # the sequences cannot differ in it
        out[own.name] = torch.cat(parts) if "B" in own.dims else parts[0][0]
    return {**out, "lengths": torch.tensor(lengths)}


def call(name, x):
    return decode(name, list(x), list(x.values()))


class Lengths(unittest.TestCase):
    def compare(self, name, dtype, count, lengths=LENGTHS):
        S = max(lengths) + 7
        x = rounded(make(name, len(lengths), 4, 4 if name == "span_periodic_sorted" else 2, S, S, 32), dtype)
        own = newest(name, x, lengths, count)
        if own is None:
            return self.compare(name, dtype, count, [90] * len(lengths)) if lengths == LENGTHS else self.fail(name)
        got = call(name, own)
        self.assertEqual(got.shape, (len(lengths), 4, count, 32))
        for b, length in enumerate(lengths):
            alone = of_sequence(name, x, b, length)
            want, there = attention(name, list(alone), list(alone.values())), min(count, length)
            self.assertEqual(got[b, :, : count - there].abs().sum(), 0)  # before the sequence
            error = (got[b, :, count - there :].float() - want[0, :, length - there :].float()).abs().max().item()
            self.assertLess(error, (5e-6 if dtype == torch.float32 else 2e-2) * max(1, want.abs().max().item()), f"{name} {length} {count}")

    def test_rows_do_not_depend_on_other_sequences(self):
        """To the bit, whatever else is in the batch."""
        for dtype in (torch.float32, torch.bfloat16):
            x = rounded(make("causal", 4, 4, 2, 137, 137, 32), dtype)
            own = newest("causal", x, LENGTHS, 3)
            together = call("causal", own)
            for b in range(4):
                alone = call("causal", {n: t[b : b + 1] for n, t in own.items()})
                self.assertTrue(together[b].equal(alone[0]), f"{dtype} {b}")
            # Nor on how much room there is.
            longer = {n: torch.cat((t, torch.randn_like(t)), 2) if n in "kv" else t for n, t in own.items()}
            self.assertTrue(together.equal(call("causal", longer)), dtype)

    def test_pages(self):
        for name in ("causal", "sliding_window", "adaptive_span", "prefix_lm", "stick_breaking"):
            x = rounded(make(name, 4, 4, 2, 137, 137, 32), torch.float32)
            for count in (1, 5):
                own = newest(name, x, LENGTHS, count)
                want = call(name, own)
                scattered, table = in_pages(name, own, 48)
                scattered = {n: t.nan_to_num(0.0) if t.is_floating_point() else t for n, t in scattered.items()}
                table = torch.where(torch.arange(table.shape[1]) * 48 < torch.tensor(LENGTHS)[:, None], table, -1)  # as callers fill them up
                got = decode_paged(name, list(scattered), list(scattered.values()), table, 137)
                torch.testing.assert_close(got, want, atol=5e-6, rtol=5e-6)

    def widths(self):
        """Rows that fill registers in part: decode, one query at a time and many, beside f64."""
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 4e-3)):
            for D, E in ((1, 5), (24, 1), (40, 72), (72, 24), (136, 256)):
                torch.manual_seed(D)
                q, k, v = (torch.randn(2, 2, rows, width).to(dtype) for rows, width in ((20, D), (70, D), (70, E)))
                for count in (1, 7, 20):
                    lengths = torch.tensor([70, 33])
                    got = call("causal", {"q": q[:, :, :count], "k": k, "v": v, "lengths": lengths})
                    for b, length in enumerate(lengths.tolist()):
                        seen = torch.arange(length) <= torch.arange(length - count, length)[:, None]
                        want = torch.nn.functional.scaled_dot_product_attention(q[b, :, :count].double(), k[b, :, :length].double(), v[b, :, :length].double(), seen)
                        self.assertLess((got[b].double() - want).abs().max().item(), tolerance * max(1, want.abs().max().item()), f"{dtype} {D} {E} {count}")

    def test_widths(self):
        self.widths()

    @unittest.skipUnless(platform.machine() == "x86_64", "of another processor's vectors")
    def test_widths_of_narrower_vectors(self):
        for cpu in ("haswell", "nehalem"):
            done = subprocess.run([sys.executable, "-c", "from test_lengths import Lengths; Lengths().widths()"], env={**os.environ, "WEFT_CPU": cpu}, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr[-2000:])

    def test_a_tree_of_tokens(self):
        """Speculation: of the newest tokens each sees those before it in its branch."""
        text = """attention tree(lengths, q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], branch: bool [B, T, N]) {
          score dot(q[i], k[j]) / sqrt(D)
          where j < lengths[b] - N or branch[b, i, j - lengths[b] + N]
        }"""
        B, H, S, N, D, lengths = 2, 2, 80, 5, 16, [77, 20]
        parents = [-1, 0, 0, 1, 2]
        branch = torch.eye(N, dtype=torch.bool)
        for token, parent in enumerate(parents):
            if parent >= 0:
                branch[token] |= branch[parent]
        q, k, v = torch.randn(B, H, N, D), torch.randn(B, H, S, D), torch.randn(B, H, S, D)
        x = {"q": q, "k": k, "v": v, "branch": branch.expand(B, N, N), "lengths": torch.tensor(lengths)}
        got = call(text, x)
        torch.testing.assert_close(got, attention(text, list(x), list(x.values())), atol=1e-6, rtol=1e-6)
        for b, length in enumerate(lengths):
            seen = torch.cat((torch.ones(N, length - N, dtype=torch.bool), branch), 1)
            want = torch.nn.functional.scaled_dot_product_attention(q[b], k[b, :, :length], v[b, :, :length], seen)
            torch.testing.assert_close(got[b], want, atol=1e-5, rtol=1e-5)

    def test_an_empty_place_in_the_batch(self):
        x = newest("causal", rounded(make("causal", 2, 4, 2, 40, 40, 32), torch.float32), [40, 40], 2)
        x["lengths"] = torch.tensor([0, 40], dtype=torch.int32)
        got = call("causal", x)
        self.assertEqual(got[0].abs().max(), 0)
        self.assertGreater(got[1].abs().max(), 0)

    def test_opcheck(self):
        q, k, lengths = torch.randn(2, 4, 3, 16), torch.randn(2, 4, 50, 16), torch.tensor([50, 9])
        torch.library.opcheck(decode.default, ("causal", ["q", "k", "v", "lengths"], [q, k, k, lengths]))
        pool, table = torch.randn(9, 4, 16, 16), torch.arange(8, dtype=torch.int32).view(2, 4)
        torch.library.opcheck(decode_paged.default, ("causal", ["q", "k", "v", "lengths"], [q, pool, pool, lengths], table, 50))
        meta = [t.to("meta") for t in (q, k, k, lengths)]
        self.assertEqual(decode("causal", ["q", "k", "v", "lengths"], meta).shape, (2, 4, 3, 16))

    def test_mistakes(self):
        def fails(message, name="causal", **changed):
            x = {"q": torch.randn(2, 2, 1, 16), "k": torch.randn(2, 2, 80, 16), "v": torch.randn(2, 2, 80, 16), "lengths": torch.tensor([3, 4]), **changed}
            with self.assertRaisesRegex(RuntimeError, message):
                call(name, x)

        fails("expected input 'lengths' of an integer type, got Float", lengths=torch.tensor([1.0, 2.0]))
        fails("expected dim B of input 'q' to be 3 as in 'lengths'", lengths=torch.tensor([1, 2, 3]))
        fails("expected no 'select' in a variant that is called with 'lengths'", "block_sparse", tiles=torch.ones(2, dtype=torch.int64))
        fails("expected no lists of keys for each query, or for tiles of them, in a variant", "stripes", stripes=torch.zeros(2, 2, 1, 4, dtype=torch.int64))
        fails("expected no 'dropout' in a variant", "attention t(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E]) { score dot(q[i], k[j]) dropout 0.5 }")
        fails("expected lengths from 0 to 80, the tokens that there is room for, got 4 to 81", lengths=torch.tensor([81, 4]))
        fails("expected lengths from 0 to 80, .* got -1 to 4", lengths=torch.tensor([-1, 4]))
        with self.assertRaisesRegex(RuntimeError, "no input is named 'lengths'"):
            attention("causal", ["q", "k", "v", "lengths"], [torch.randn(1, 1, 2, 16)] * 3 + [torch.tensor([1])])


for variant in CALLED:
    for dtype in (torch.float32, torch.bfloat16):
        def test(self, variant=variant, dtype=dtype):
            for count in (1, 2, 20):
                self.compare(variant, dtype, count)
        setattr(Lengths, f"test_{variant}_{str(dtype)[6:]}", test)


if __name__ == "__main__":
    unittest.main()
