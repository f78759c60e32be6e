"""torch.ops.weft.decode: the newest token alone equals the last row of attention, for every library variant."""

import unittest

import torch

import declarations
from criterion import rounded
from test_variants import DECODED, make

attention, decode = torch.ops.weft.attention, torch.ops.weft.decode


def newest(name, x):
    """The newest token's part of what counts queries; what chooses tiles is needed whole."""
    last = dict(x)
    for own in declarations.inputs(name):
        if "T" in own.dims and own.name not in declarations.pooled(name):
            last[own.name] = x[own.name].narrow(own.dims.index("T"), x[own.name].shape[own.dims.index("T")] - 1, 1)
    return last


def in_pages(name, x, page):
    """The same with its rows of keys scattered over pages of `page` tokens, what none of them fills being NaN; and the table."""
    B, T = x["k"].shape[0], x["k"].shape[2]
    count = -(-T // page)
    scattered, table = dict(x), torch.randperm(B * count + 3)[: B * count].view(B, count)
    for n in [own.name for own in declarations.inputs(name) if own.kind == "float" and len(own.dims) == 4 and own.dims[2] == "S"]:
        pool = torch.full((B * count + 3, x[n].shape[1], page, x[n].shape[3]), float("nan"), dtype=x[n].dtype)
        for b in range(B):
            for at, rows in enumerate(x[n][b].split(page, 1)):
                pool[table[b, at], :, : rows.shape[1]] = rows
        scattered[n] = pool
    return scattered, table


class Decode(unittest.TestCase):
    def compare(self, name, dtype, T, H, G):
        x = rounded(make(name, 2, H, G, T, T, 32), dtype)
        want = attention(name, list(x), list(x.values()))[:, :, -1:]
        last = newest(name, x)
        got = decode(name, list(last), list(last.values()))
        self.assertEqual(got.shape, want.shape)
        tolerance = 1e-6 if dtype == torch.float32 else 2e-2
        self.assertLess((got.float() - want.float()).abs().max().item(), tolerance * max(1, want.abs().max().item()), f"T = {T}")

    def test_mistakes(self):
        q, k = torch.randn(1, 2, 3, 16), torch.randn(1, 2, 9, 16)
        with self.assertRaisesRegex(RuntimeError, "expected dim T of input 'q' to be 1"):
            decode("causal", ["q", "k", "v"], [q, k, k])
        with self.assertRaisesRegex(RuntimeError, "expected dim T of input 'q' to be all tokens so far, 9, got 1"):
            decode("block_sparse", ["q", "k", "v", "tiles"], [q[:, :, :1], k, k, torch.ones(2, dtype=torch.int64)])
        with self.assertRaisesRegex(RuntimeError, "expected input 'k'"):
            decode("causal", ["q", "v"], [q[:, :, :1], k])
        with self.assertRaisesRegex(RuntimeError, "expected input 'v'|expected v|dims"):
            decode("causal", ["q", "k", "v"], [q[:, :, :1], k, k[0, 0]])
        with self.assertRaisesRegex(RuntimeError, "at least one key"):
            decode("causal", ["q", "k", "v"], [q[:, :, :1], k[:, :, :0], k[:, :, :0]])

    def test_texts_that_say_origin(self):
        """Of no call with pieces: the newest token of all, also where tiles or lists are of whole sequences."""
        S = 130
        q, k, v = (torch.randn(1, 2, S, 16) for _ in range(3))
        lists = torch.rand(1, 2, 3, S).argsort(-1)[..., :40]
        texts = {
            "score dot(q[i], k[j]) where i >= j": {},
            "score dot(q[i], k[j]) keys = stripes[i div 64]": {"stripes": lists},
            "score dot(q[i], k[j]) where i >= j select tiles(64, 64) { keep diagonal }": {},
            "score dot(q[i], k[j]) where doc[b, i] == doc[b, j]": {"doc": torch.arange(S)[None] // 50},
            "score dot(q[i], k[j]) + (if i > 0 then x[i - 1] else 0.0)": {"x": torch.randn(S)},
        }
        for statements, more in texts.items():
            declared = "".join({"stripes": ", stripes: int [B, H, M, N]", "doc": ", doc: int [B, T]", "x": ", x: [T]"}[name] for name in more)
            for parameter in ("", "origin, "):
                text = f"attention t({parameter}q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E]{declared}) {{ {statements} }}"
                x = {"q": q, "k": k, "v": v, **more}
                want = attention(text, list(x), list(x.values())) if "select" not in text or not parameter else attention(text.replace(parameter, ""), list(x), list(x.values()))
                x["q"] = q[:, :, -1:]
                with self.subTest(text):
                    torch.testing.assert_close(decode(text, list(x), list(x.values())), want[:, :, -1:], atol=5e-6, rtol=5e-6)

    def test_autocast(self):
        q, k = torch.randn(1, 2, 1, 16), torch.randn(1, 2, 32, 16)
        pages, table = k.view(1, 2, 2, 16, 16).transpose(1, 2).reshape(2, 2, 16, 16), torch.arange(2, dtype=torch.int32)[None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = decode("causal", ["q", "k", "v"], [q, k, k.bfloat16()])
            paged = torch.ops.weft.decode_paged("causal", ["q", "k", "v"], [q, pages, pages], table, 32)
        names, halves = ["q", "k", "v"], [x.bfloat16() for x in (q, k, k)]
        torch.testing.assert_close(got, decode("causal", names, halves), atol=0, rtol=0)
        # Tiles of a page's 16 keys may be multiplied otherwise than those of 64.
        halves[1:] = [pages.bfloat16()] * 2
        torch.testing.assert_close(paged, torch.ops.weft.decode_paged("causal", names, halves, table, 32), atol=0, rtol=0)

    def test_opcheck(self):
        q, k = torch.randn(2, 4, 1, 16), torch.randn(2, 4, 50, 16)
        torch.library.opcheck(decode.default, ("causal", ["q", "k", "v"], [q, k, k]))
        pool, table = torch.randn(9, 4, 16, 16), torch.arange(8, dtype=torch.int32).view(2, 4)
        torch.library.opcheck(torch.ops.weft.decode_paged.default, ("causal", ["q", "k", "v"], [q, pool, pool], table, 50))

    def test_a_slice_of_a_cache(self):
        memory = torch.randn(2, 1, 4, 64, 16)  # keys and values, room for 64
        q = torch.randn(1, 4, 1, 16)
        for count in (1, 15, 16, 17, 63, 64):
            k, v = memory[:, :, :, :count]
            got = decode("causal", ["q", "k", "v"], [q, k, v])
            want = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            self.assertLess((got - want).abs().max().item(), 1e-5)

    def test_pages(self):
        """Keys and values scattered over pages: equal to a contiguous cache."""
        for name in DECODED:
            for T, page in ((130, 16), (130, 48), (64, 64), (33, 128)):
                x = {n: t.float() if t.is_floating_point() else t for n, t in make(name, 2, 4, 2, T, T, 32).items()}
                last = newest(name, x)
                want = decode(name, list(last), list(last.values()))
                last, table = in_pages(name, last, page)
                got = torch.ops.weft.decode_paged(name, list(last), list(last.values()), table, T)
                self.assertLess((got - want).abs().max().item(), 2e-6 * max(1, want.abs().max().item()), f"{name} {T} {page}")

    def test_page_mistakes(self):
        q, pool = torch.randn(1, 2, 1, 16), torch.randn(5, 2, 32, 16)
        paged = lambda k, v, table, length: torch.ops.weft.decode_paged("causal", ["q", "k", "v"], [q, k, v], torch.tensor(table), length)
        self.assertEqual(paged(pool, pool, [[3, 1]], 40).shape, (1, 2, 1, 16))
        with self.assertRaisesRegex(RuntimeError, "room for 70 tokens, got 2 pages of 32"):
            paged(pool, pool, [[3, 1]], 70)
        with self.assertRaisesRegex(RuntimeError, "page numbers from 0 to 4, got 1 to 5"):
            paged(pool, pool, [[5, 1]], 40)
        with self.assertRaisesRegex(RuntimeError, "multiple of 16 tokens, got 20"):
            paged(pool[:, :, :20], pool[:, :, :20], [[3, 1]], 40)
        with self.assertRaisesRegex(RuntimeError, "expected input 'k' in 5 pages of 32"):
            paged(pool[:4], pool, [[3, 1]], 40)

    def test_meta(self):
        q, k = torch.empty(1, 2, 1, 16, device="meta"), torch.empty(1, 2, 9, 16, device="meta")
        self.assertEqual(decode("causal", ["q", "k", "v"], [q, k, k]).shape, (1, 2, 1, 16))


for variant in DECODED:
    for dtype in (torch.float32, torch.bfloat16):
        def test(self, variant=variant, dtype=dtype):
            for T in (1, 2, 16, 33, 130):
                self.compare(variant, dtype, T, 4, 2)
        setattr(Decode, f"test_{variant}_{str(dtype)[6:]}", test)

if __name__ == "__main__":
    unittest.main()
