"""Decoding where heads share keys: the heads of a group are computed together, each as if it were alone."""

import os
import unittest

import torch

torch.ops.load_library(os.environ["WEFT_LIBRARY"])
attention, decode, decode_paged = torch.ops.weft.attention, torch.ops.weft.decode, torch.ops.weft.decode_paged

HEADS = "q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E]"
# What a text can say of heads, groups, queries and keys.
TEXTS = {
    "heads' numbers": "score dot(q[i], k[j]) / sqrt(D) - 0.01 * (h + 1) * (i - j) / H where i >= j and (i - j) mod (h + 2) != 1",
    "inputs of heads": "score (dot(q[i], k[j]) + far[h, j]) * scale[b, h] - slope[h] * abs(i - j) weight sigmoid(gain[b, h, i] + tone[i]) gate 1.0 + level[h, min(i - j, N - 1)] where i >= j",
    "inputs of groups": "score dot(q[i], k[j]) + shift[b, h, j] + group[h] where i >= j",
    "a sink": "score dot(q[i], k[j]) where i >= j sink sinks[h] + 0.1 * h",
    "other keys": "score dot(q[i], k[j]) where i >= j also sv { score dot(q[i], sk[j]) + slope[h] where j <= h + 3 }",
    "an order": "score dot(q[i], k[j]) + slope[h] where i > j normalize stick_breaking",
    "entmax": "score dot(q[i], k[j]) + 0.1 * h where i >= j normalize entmax15",
    "all queries and keys": "score dot(q[i], k[j]) * (i + 1) / T where i >= j and j >= S - 40 - 2 * h",
    # These cannot be grouped.
    "keys of each head": "score dot(q[i], k[j]) + 0.3 * dot(q[i], own[j]) where i >= j",
    "groups of two sizes": "score dot(q[i], k[j]) + wide[h] where i >= j",
}
SHAPES = {
    "far": "H S", "scale": "B H", "slope": "H", "gain": "B H T", "tone": "T", "level": "H N", "shift": "B G S", "group": "G", "sinks": "H",
    "sk": "B G M D", "sv": "B G M E", "own": "B H S D", "wide": "G2",
}


class Grouped(unittest.TestCase):
    def call(self, name, B, H, G, S, dtype=torch.float32):
        """The text, and tensors of a whole sequence."""
        sizes = {"B": B, "H": H, "G": G, "G2": G if H // G % 2 else 2 * G, "T": S, "S": S, "D": 24, "E": 40, "N": 9, "M": 5}
        more = [own for own in SHAPES if any(word in TEXTS[name] for word in (own + "[", "also " + own))]
        declared = "".join(f", {own}: [{', '.join(SHAPES[own].split())}]" for own in more)
        rows = ("q", "k", "v", "sk", "sv", "own")
        x = {"q": torch.randn(B, H, S, 24), "k": torch.randn(B, G, S, 24), "v": torch.randn(B, G, S, 40)}
        x.update({own: torch.rand([sizes[dim] for dim in SHAPES[own].split()]) for own in more})
        x = {own: t.to(dtype) if own in rows else t for own, t in x.items()}
        return f"attention t({HEADS}{declared}) {{ {TEXTS[name]} }}", x

    def newest(self, x, places):
        """Of sequence b the query at places[b]."""
        out = dict(x)
        for own in x:
            dims = "B H T D" if own == "q" else SHAPES.get(own, "")
            if "T" in dims.split():
                at = dims.split().index("T")
                parts = [(x[own][b : b + 1] if "B" in dims else x[own]).narrow(at, place, 1) for b, place in enumerate(places)]
                out[own] = torch.cat(parts) if "B" in dims else parts[0]
        return out

    def run_op(self, op, text, x, *more):
        return op(text, list(x), list(x.values()), *more)

    def test_decode(self):
        for name in TEXTS:
            for B, H, G, S in ((2, 4, 2, 70), (3, 3, 1, 33), (2, 14, 2, 40), (2, 40, 2, 90), (1, 8, 4, 64)):
                with self.subTest(name, shape=(B, H, G, S)):
                    text, x = self.call(name, B, H, G, S)
                    want = self.run_op(attention, text, x)[:, :, -1:]
                    got = self.run_op(decode, text, self.newest(x, [S - 1] * B))
                    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)

    def test_bf16(self):
        for name in TEXTS:
            with self.subTest(name):
                text, x = self.call(name, 2, 8, 2, 150, torch.bfloat16)
                want = self.run_op(attention, text, {own: t.double() for own, t in x.items()})[:, :, -1:]
                torch.testing.assert_close(self.run_op(decode, text, self.newest(x, [149] * 2)).double(), want, atol=2e-2, rtol=2e-2)

    def test_lengths(self):
        lengths = [70, 41, 1]
        for name in TEXTS:
            with self.subTest(name):
                text, x = self.call(name, 3, 6, 2, 77)
                x.pop("tone", None)  # is of no sequence
                text = text.replace(", tone: [T]", "").replace("tone[i]", "0.0")
                last = {**self.newest(x, [length - 1 for length in lengths]), "lengths": torch.tensor(lengths)}
                got = self.run_op(decode, text, last)
                for b, length in enumerate(lengths):
                    alone = {}
                    for own, t in x.items():
                        dims = {"q": "B H T D", "k": "B G S D", "v": "B G S E"}.get(own) or SHAPES[own]
                        t = t[b : b + 1] if "B" in dims else t
                        for dim in "TS":
                            t = t.narrow(dims.split().index(dim), 0, length) if dim in dims.split() else t
                        alone[own] = t
                    torch.testing.assert_close(got[b], self.run_op(attention, text, alone)[0, :, -1:], atol=1e-5, rtol=1e-5)

    def test_pages(self):
        for name in ("heads' numbers", "inputs of heads", "a sink"):
            text, x = self.call(name, 2, 6, 2, 64)
            want, last = self.run_op(attention, text, x)[:, :, -1:], self.newest(x, [63, 63])
            table = torch.tensor([[7, 2, 0, 4], [3, 1, 6, 5]])
            for own in "kv":
                pool = torch.full((8, 2, 16, x[own].shape[-1]), float("nan"))
                for b in range(2):
                    pool[table[b]] = x[own][b].unflatten(1, (4, 16)).transpose(0, 1)
                last[own] = pool
            torch.testing.assert_close(self.run_op(decode_paged, text, last, table, 64), want, atol=1e-5, rtol=1e-5)

    def test_pieces_of_keys(self):
        """Of few groups and many keys each thread has a piece: the same as one thread, and as other numbers of sequences."""
        threads, S = torch.get_num_threads(), 6_200
        self.addCleanup(torch.set_num_threads, threads)
        others = 0
        for name in TEXTS:
            for B, H, G in ((1, 5, 1), (2, 6, 2)):
                with self.subTest(name, heads=(H, G)):
                    text, x = self.call(name, B, H, G, S)
                    x = self.newest(x, [S - 1] * B)
                    # As many keys as one piece has, and none of the last one, too.
                    calls = [x, {**x, "lengths": torch.tensor([2_100, 1][:B])}]
                    for own in calls:
                        torch.set_num_threads(1)
                        want = self.run_op(decode, text, own)
                        torch.set_num_threads(5)
                        got = self.run_op(decode, text, own)
                        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
                        others += not torch.equal(got, want)
                    one = {n: t[:1] if n in ("q", "k", "v") or "B" in SHAPES.get(n, "").split() else t for n, t in x.items()}
                    self.assertTrue(torch.equal(self.run_op(decode, text, one), self.run_op(decode, text, x)[:1]))
        self.assertGreater(others, 8)  # they were joined of pieces
        # Room for more changes nothing.
        q, k, v = torch.randn(2, 6, 1, 16), torch.randn(2, 2, 9_000, 16), torch.randn(2, 2, 9_000, 16)
        room = [decode("causal", ["q", "k", "v", "lengths"], [q, k[:, :, :S], v[:, :, :S], torch.tensor([5_000, 700])]) for S in (5_000, 6_200, 9_000)]
        self.assertTrue(torch.equal(room[0], room[1]) and torch.equal(room[0], room[2]))

    def test_a_text_that_says_so(self):
        """Rows of the call are heads of a group; [H] is then [H, T]. Gradients too."""
        text = f"attention t(grouped, lengths, {HEADS}, slope: [H]) {{ score dot(q[i], k[j]) - slope[h] * (i - j) + 0.1 * h where i >= j }}"
        plain = text.replace("grouped, ", "")
        q, k, v = torch.randn(2, 2, 3, 16, dtype=torch.double), torch.randn(2, 2, 50, 16, dtype=torch.double), torch.randn(2, 2, 50, 8, dtype=torch.double)
        slope, lengths = torch.rand(2, 3, dtype=torch.double), torch.tensor([50, 17])
        results = []
        for own, queries, slopes in ((text, q, slope), (plain, q.view(2, 6, 1, 16), slope.view(6))):
            leaves = [t.detach().clone().requires_grad_() for t in (queries, k, v, slopes)]
            o = attention(own, ["q", "k", "v", "slope", "lengths"], [*leaves, lengths])
            grads = torch.autograd.grad(o.sin().sum(), leaves)
            results.append([t.reshape(-1) for t in (o, *grads)])
        for got, want in zip(*results):
            torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)

    def test_opcheck(self):
        x = [torch.randn(2, 6, 1, 16), torch.randn(2, 2, 50, 16), torch.randn(2, 2, 50, 16)]
        torch.library.opcheck(decode.default, ("causal", ["q", "k", "v"], x))
        torch.library.opcheck(decode.default, ("causal", ["q", "k", "v", "lengths"], [*x, torch.tensor([50, 9])]))


if __name__ == "__main__":
    unittest.main()
