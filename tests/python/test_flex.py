"""weft.flex_attention: FlexAttention's signature and meaning, against its own math in float64, with every gradient."""

import inspect
import os
import sys
import tempfile
import unittest
from unittest import mock

import torch
from torch.nn.attention import flex_attention as flex

sys.path.insert(0, os.path.join(os.environ["WEFT_SOURCE"], "tests", "operator"))
import weft
from criterion import beyond, norms_over, rounded, squared_errors
from flex_case import Case, math
from score_functions import FUNCTIONS, REFUSED, B, H, S, T
from weft.flex import create_block_mask, flex_attention, variant_of


def errors_of(name, dtype):
    """Of o and of each gradient: the norm of Weft's error, of PyTorch's own math in `dtype`, and of the exact result."""
    maker, captured = FUNCTIONS[name]

    def own(x):
        score, mask = maker(x)
        mask = mask and create_block_mask(mask, B, H, T, S, device="cpu")
        return flex_attention(x["q"], x["k"], x["v"], score, mask, enable_gqa=True)

    def draw(seed):
        torch.manual_seed(seed)
        x = {"q": torch.randn(B, H, T, 32, dtype=torch.float64), "k": torch.randn(B, H // 2, S, 32, dtype=torch.float64),
             "v": torch.randn(B, H // 2, S, 48, dtype=torch.float64)}
        x = rounded({**x, **{key: make() for key, make in captured.items()}}, dtype)
        return squared_errors(x, dtype, lambda x: math(x["q"], x["k"], x["v"], *maker(x)), own, cancelling=True)

    return norms_over([draw(seed) for seed in range(3)])


class Functions(unittest.TestCase):
    def test_the_page_counts_them(self):
        with open(os.path.join(os.environ["WEFT_SOURCE"], "docs", "flexattention.md")) as file:
            page = file.read()
        self.assertIn(f"has {len(FUNCTIONS)} that are taken", page)
        self.assertIn(f"has {len(REFUSED)} that are refused", page)
        for name in [*FUNCTIONS, *REFUSED]:
            self.assertTrue(f"`{name}`" in page, name)

    def test_what_is_refused(self):
        q, k, v = torch.randn(B, H, T, 16), torch.randn(B, H, S, 16), torch.randn(B, H, S, 16)
        for name, (maker, captured, words) in REFUSED.items():
            with self.subTest(name), self.assertRaisesRegex(NotImplementedError, words):
                flex_attention(q, k, v, maker({key: make().float() for key, make in captured.items()})[0])

    def test_pytorchs_own_function(self):
        """FlexAttention in eager mode, in float64. Numbers made of places alone it rounds to float32. Without Dynamo, which fails for three of
        these and writes `(-1.0) ** q` into its graphs as `-1.0 ** q`, -1 for all q."""
        for name, (maker, captured) in FUNCTIONS.items():
            with self.subTest(name), mock.patch.object(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True):
                torch.manual_seed(0)
                q, k, v = (torch.randn(B, heads, length, width, dtype=torch.float64) for heads, length, width in ((H, T, 32), (H // 2, S, 32), (H // 2, S, 48)))
                x = {"q": q, "k": k, "v": v, **{key: own.double() if own.is_floating_point() else own for key, own in ((key, make()) for key, make in captured.items())}}
                score, mask = maker(x)
                # It counts the parameters of functions.
                theirs = mask and flex.create_block_mask(lambda b, h, i, j: mask(b, h, i, j), B, H, T, S, device="cpu")
                want = flex.flex_attention(q, k, v, score and (lambda s, b, h, i, j: score(s, b, h, i, j)), theirs, enable_gqa=True)
                got = flex_attention(q, k, v, score, mask and create_block_mask(mask, B, H, T, S, device="cpu"), enable_gqa=True)
                self.assertLess((got - want).abs().max().item(), 2e-4 if name == "whole_floats" else 2e-6)

    def compare(self, name, dtype):
        worse = beyond(errors_of(name, dtype), dtype)
        self.assertFalse(worse, "\n".join(worse.values()))


for _name in FUNCTIONS:
    for _dtype in (torch.float32, torch.bfloat16):
        if _dtype == torch.float32 or _name in ("causal", "soft_cap", "documents", "relative_table", "learned_decay"):
            setattr(Functions, f"test_{_name}_{str(_dtype)[6:]}", lambda self, name=_name, dtype=_dtype: self.compare(name, dtype))


def causal(b, h, q, k):
    return q >= k


class FlexAttention(Case):
    def test_pytorchs_own_function_gives_the_same(self):
        mask = flex.create_block_mask(causal, None, None, T, T, device="cpu", BLOCK_SIZE=32)
        twice = lambda s, *pair: s * 2
        x = [t.double() for t in (self.q, self.k, self.v)]
        want, aux = flex.flex_attention(*x, twice, mask, return_aux=flex.AuxRequest(lse=True))
        got, own = flex_attention(self.q, self.k, self.v, twice, mask, return_aux=flex.AuxRequest(lse=True))
        self.near(got, want)
        self.near(own.lse, aux.lse)
        self.assertIsNone(own.max_scores)

    def test_options_and_names(self):
        got = flex_attention(self.q, self.k, self.v, kernel_options={"BLOCK_M": 64})
        self.near(got, flex_attention(self.q, self.k, self.v), 1e-30)
        self.assertLessEqual(set(flex.__all__), set(weft.flex.__all__))
        for function in (flex.flex_attention, flex.create_block_mask):
            own = inspect.signature(getattr(weft.flex, function.__name__)).parameters
            others = any(given.kind == given.VAR_KEYWORD for given in own.values())
            for name, parameter in inspect.signature(function).parameters.items():
                if name in own:
                    self.assertEqual((own[name].default, own[name].kind), (parameter.default, parameter.kind), name)
                else:
                    self.assertTrue(others, f"{function.__name__} has no {name}")

    def test_log_sum_exp(self):
        out, lse = flex_attention(self.q, self.k, self.v, return_lse=True)
        self.near(lse, (self.q @ self.k.transpose(-1, -2) / 32**0.5).logsumexp(-1))
        self.near(flex_attention(self.q, self.k, self.v, return_aux=flex.AuxRequest())[0], out, 1e-30)

    def test_max_scores(self):
        mask = create_block_mask(lambda b, h, q, k: q > k + 5, None, None, T, T)
        cap = torch.nn.Parameter(torch.tensor([0.5, 2.0, 30.0, 1e-3]))
        score = lambda s, b, h, i, j: cap[h] * torch.tanh(s / cap[h])
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            q, k, v = (own.to(dtype).requires_grad_() for own in (self.q, self.k, self.v))
            out, aux = flex_attention(q, k, v, score, mask, return_aux=flex.AuxRequest(max_scores=True, lse=True))
            logits = cap[:, None, None] * torch.tanh(q.double() @ k.double().transpose(-1, -2) / 32**0.5 / cap[:, None, None])
            want = logits.masked_fill(torch.arange(T)[:, None] <= torch.arange(T) + 5, -float("inf")).amax(-1)
            self.assertTrue((aux.max_scores[..., :6] == -float("inf")).all())
            difference = (aux.max_scores[..., 6:] - want[..., 6:]).abs() / want[..., 6:].abs()
            self.assertLess(difference.max().item(), 1e-12 if dtype == torch.float64 else 1e-5)
            self.assertEqual((aux.max_scores.requires_grad, out.requires_grad), (False, True))
            self.near(aux.lse[..., 6:], flex_attention(q, k, v, score, mask, return_lse=True)[1][..., 6:], 1e-30)

    def test_max_scores_of_any_size(self):
        least = torch.finfo(torch.float32).min
        logits = self.q.double() @ self.k.double().transpose(-1, -2) / 32**0.5
        for name, score in {
            "the least float": lambda s, b, h, i, j: torch.where((i > 5) & (i > j), s, least),
            "large": lambda s, b, h, i, j: s * 1e22,
            "small": lambda s, b, h, i, j: s * 1e-9,
            "mixed": lambda s, b, h, i, j: s * torch.where(i > 9, 1e30, 0.5),
            "none": lambda s, b, h, i, j: torch.where(j > i + 3, s, -float("inf")),
        }.items():
            with self.subTest(name):
                i, j = torch.arange(T)[:, None], torch.arange(T)
                want = score(logits, None, None, i, j).amax(-1)
                got = flex_attention(self.q, self.k, self.v, score, return_aux=flex.AuxRequest(max_scores=True))[1].max_scores
                self.assertTrue(torch.equal(got.isfinite(), want.isfinite()))
                finite = want.isfinite()
                self.assertLess(((got - want).abs() / want.abs())[finite].max().item(), 1e-5)

    def test_scale(self):
        self.near(flex_attention(self.q, self.k, self.v, scale=0.3), math(self.q, self.k, self.v, scale=0.3))

    def test_a_batch_of_keys_for_all(self):
        mask = create_block_mask(lambda b, h, q, k: q >= k - b, B, None, T, T)
        got = flex_attention(self.q, self.k[:1], self.v[:1], block_mask=mask)
        self.near(got, math(self.q, self.k[:1].expand(B, -1, -1, -1), self.v[:1].expand(B, -1, -1, -1), mask_mod=mask.mask_mod))

    def test_rows_that_keep_no_key_are_zeros(self):
        mask = create_block_mask(lambda b, h, q, k: q > k + 5, None, None, T, T)
        out, lse = flex_attention(self.q, self.k, self.v, block_mask=mask, return_lse=True)
        self.assertTrue((out[:, :, :6] == 0).all())
        self.assertTrue((lse[:, :, :6] == -float("inf")).all())

    def test_masks_of_functions_put_together(self):
        window = lambda b, h, q, k: q - k < 20
        for combine in (weft.and_masks, weft.or_masks):
            own = combine(causal, window)
            self.near(flex_attention(self.q, self.k, self.v, block_mask=create_block_mask(own, None, None, T, T)), math(self.q, self.k, self.v, mask_mod=own))

    def test_blocks_alone(self):
        """A BlockMask made of blocks, without a function, and with one that holds in some."""
        rows = -(-T // 32)
        kept = torch.rand(B, 1, rows, rows) < 0.5
        kept[..., 0] = True
        counts = kept.sum(-1, dtype=torch.int32)
        indices = kept.int().argsort(dim=-1, descending=True, stable=True).int()
        dense = kept.repeat_interleave(32, 2)[:, :, :T].repeat_interleave(32, 3)[..., :T]
        mask = flex.BlockMask.from_kv_blocks(counts, indices, BLOCK_SIZE=32, seq_lengths=(T, T))
        self.near(flex_attention(self.q, self.k, self.v, block_mask=mask), math(self.q, self.k, self.v, mask_mod=lambda b, h, q, k: dense[b, 0, q, k]))
        full = torch.zeros_like(kept)
        full[..., 1:, 0] = True
        partial = kept & ~full
        mask = flex.BlockMask.from_kv_blocks(partial.sum(-1, dtype=torch.int32), partial.int().argsort(dim=-1, descending=True, stable=True).int(),
                                             full.sum(-1, dtype=torch.int32), full.int().argsort(dim=-1, descending=True, stable=True).int(),
                                             BLOCK_SIZE=32, mask_mod=lambda b, h, q, k: (q + k) % 3 != 0, seq_lengths=(T, T))
        wide = lambda own: own.repeat_interleave(32, 2)[:, :, :T].repeat_interleave(32, 3)[..., :T]
        at = torch.arange(T)
        dense = wide(full) | (wide(partial) & ((at[:, None] + at) % 3 != 0))
        self.near(flex_attention(self.q, self.k, self.v, block_mask=mask), math(self.q, self.k, self.v, mask_mod=lambda b, h, q, k: dense[b, 0, q, k]))

    def test_our_block_mask_is_made_of_blocks_as_pytorchs(self):
        """weft.BlockMask from blocks alone, with full ones and a function, in one call and by its constructor: forward and backward."""
        rows = -(-T // 32)
        kept = torch.rand(B, H, rows, rows) < 0.5
        kept[..., 0] = True
        full = kept & (torch.rand(kept.shape) < 0.4)
        ordered = lambda own: (own.sum(-1, dtype=torch.int32), own.int().argsort(dim=-1, descending=True, stable=True).int())
        wide = lambda own: own.repeat_interleave(32, 2)[:, :, :T].repeat_interleave(32, 3)[..., :T]
        odd = lambda b, h, q, k: (q + k) % 3 != 0
        at = torch.arange(T)
        cases = {
            "blocks": ((*ordered(kept),), {}, wide(kept)),
            "blocks, function": (ordered(kept), {"mask_mod": odd}, wide(kept) & odd(0, 0, at[:, None], at)),
            "full ones, function": ((*ordered(kept & ~full), *ordered(full)), {"mask_mod": odd}, wide(full) | wide(kept & ~full) & odd(0, 0, at[:, None], at)),
        }
        x = [own.requires_grad_() for own in (self.q, self.k, self.v)]
        for name, (blocks, more, dense) in cases.items():
            theirs = flex.BlockMask.from_kv_blocks(*blocks, BLOCK_SIZE=32, seq_lengths=(T, T), **more)
            parts = dict(zip(("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"), blocks))
            masks = {
                "from_kv_blocks": weft.BlockMask.from_kv_blocks(*blocks, BLOCK_SIZE=32, seq_lengths=(T, T), **more),
                "without blocks of queries": weft.BlockMask.from_kv_blocks(*blocks, BLOCK_SIZE=(32, 32), seq_lengths=(T, T), compute_q_blocks=False, **more),
                "constructor": weft.BlockMask(**parts, seq_lengths=(T, T), BLOCK_SIZE=32, **more),
                "all of torch's arguments": weft.BlockMask(**vars(theirs)),
                "moved": weft.BlockMask.from_kv_blocks(*blocks, BLOCK_SIZE=32, seq_lengths=(T, T), **more).to("cpu"),
                "cropped": weft.BlockMask(**parts, BLOCK_SIZE=32, **more)._adjust(T, T),
            }
            want = math(*x, mask_mod=lambda b, h, q, k: dense[b, h, q, k])
            wanted = torch.autograd.grad(want.square().sum(), x)
            for made, mask in masks.items():
                with self.subTest(name, made=made):
                    self.assertIsInstance(mask, weft.BlockMask)
                    self.assertTrue(torch.equal(mask.to_dense(), theirs.to_dense()))
                    self.assertEqual((mask.shape, mask.sparsity(), mask.BLOCK_SIZE), (theirs.shape, theirs.sparsity(), theirs.BLOCK_SIZE))
                    self.assertEqual(str(mask), str(theirs))
                    part = mask[1:, 2:]
                    self.assertTrue(torch.equal(part.to_dense(), theirs.to_dense()[1:, 2:]))
                    part.mask_mod = more.get("mask_mod", weft.noop_mask)
                    self.near(flex_attention(*(own[1:, 2:] for own in x), block_mask=part), want[1:, 2:])
                    got = flex_attention(*x, block_mask=mask)
                    self.near(got, want)
                    for own, expected in zip(torch.autograd.grad(got.square().sum(), x), wanted):
                        self.near(own, expected, 1e-4)
        self.assertEqual(weft.BlockMask(kv_num_blocks=ordered(kept)[0], kv_indices=ordered(kept)[1]).shape, (B, H, rows * 128, rows * 128))
        with self.assertRaisesRegex(TypeError, "create_block_mask"):
            weft.BlockMask(mask_mod=causal)
        with self.assertRaisesRegex(RuntimeError, "sliced"):
            flex_attention(*x, block_mask=masks["constructor"][:, :1])
        flat = weft.BlockMask.from_kv_blocks(*(own[0, 0] for own in ordered(kept)), BLOCK_SIZE=32, seq_lengths=(T, T))
        with self.assertRaisesRegex(ValueError, "each batch entry and head"):
            flex_attention(*x, block_mask=flat)

    def test_pages_in_a_cache(self):
        """As paged attention does it: a mask over the tokens of each request becomes one over the pages of a cache that all requests share,
        its blocks those that the requests' pages are in, its function that of the token that a place of a page holds."""
        page, pages, length = 32, 11, 96  # three pages a request, of two requests, anywhere
        own = torch.randperm(pages)[: 2 * 3].view(2, 3).int()  # the page of each block of tokens
        block = torch.full((2, pages), -1, dtype=torch.int32).scatter_(1, own.long(), torch.arange(3, dtype=torch.int32).expand(2, 3))
        window = lambda b, h, q, k: (q >= k) & (q - k < 50 + 10 * b)
        slope = torch.rand(H, requires_grad=True)
        score = lambda s, b, h, q, k: s - slope[h] * (q - k)
        before = create_block_mask(window, 2, None, length, length, device="cpu", BLOCK_SIZE=page)

        def moved(counts, indices):
            found = torch.zeros(2, 1, indices.shape[2], pages, dtype=torch.int32)
            found[..., :3] = own[torch.arange(2)[:, None, None, None], indices.long()]
            return counts, found

        def token(b, k):
            return block[b, k // page] * page + k % page

        mask = weft.BlockMask.from_kv_blocks(
            *moved(before.kv_num_blocks, before.kv_indices), *moved(before.full_kv_num_blocks, before.full_kv_indices), BLOCK_SIZE=page, seq_lengths=(length, pages * page),
            mask_mod=lambda b, h, q, k: torch.where(block[b, k // page] >= 0, window(b, h, q, token(b, k)), False))
        paged_score = lambda s, b, h, q, k: torch.where(block[b, k // page] >= 0, score(s, b, h, q, token(b, k)), -float("inf"))
        q, k, v = (torch.randn(2, H, length, 32, requires_grad=True) for _ in range(3))

        def cached(x):
            cache = torch.full((1, H, pages * page, 32), 7.0)
            places = (own[:, :, None] * page + torch.arange(page)).flatten(1).long()
            for request in range(2):
                cache = cache.index_copy(2, places[request], x[request : request + 1])
            return cache

        want, got = math(q, k, v, score, window), flex_attention(q, cached(k), cached(v), paged_score, mask)
        self.near(got, want)
        for one, other in zip(*(torch.autograd.grad(out.square().sum(), (q, k, v, slope)) for out in (got, want))):
            self.near(one, other, 1e-3)

    def same_with_gradients(self, x, score, reference=None, mask=None):
        """flex_attention of x["q"], x["k"], x["v"] and score(x), against FlexAttention's definition in float64: output, every gradient."""
        leaves = [own for own in x.values() if own.requires_grad]
        got = flex_attention(x["q"], x["k"], x["v"], score(x), mask and create_block_mask(mask, None, None, *(x[own].shape[2] for own in "qk")), enable_gqa=True)
        double = {name: own.detach().double().requires_grad_() if own.requires_grad else own for name, own in x.items()}
        want = math(double["q"], double["k"], double["v"], (reference or score)(double), mask)
        self.near(got, want, 3e-6)
        cotangent = torch.randn_like(got)
        wanted = torch.autograd.grad(want, [own for own in double.values() if own.requires_grad], cotangent.double())
        for name, own, expected in zip((name for name, own in x.items() if own.requires_grad), torch.autograd.grad(got, leaves, cotangent), wanted):
            with self.subTest(gradient=name):
                self.assertEqual(own.shape, expected.shape)
                self.assertLess((own - expected).norm().item(), 2e-6 * expected.norm().item())

    def test_products_of_rows(self):
        """Latent attention: what positions add to a score is a product of rows of its own, its keys shared by groups of heads."""
        def drawn(heads, groups, *row_shapes):
            return {"q": torch.randn(B, heads, T, 32), "k": torch.randn(B, groups, S, 32), "v": torch.randn(B, groups, S, 48),
                    **{name: torch.randn(shape) for name, shape in zip("xyuw", row_shapes)}}

        length = 24
        queries, own_keys = (B, H, T, length), (B, H, S, length)
        added = lambda product: lambda x: lambda s, b, h, i, j: s + product(x, b, h, i, j) * 0.2
        rows = lambda x, b, h, i, j: torch.dot(x["x"][b, h, i], x["y"][b, h // 2, j])
        cases = {
            "one of keys for all heads, as k": (added(lambda x, b, h, i, j: torch.dot(x["x"][b, h, i], x["y"][b, h // H, j])), (H, 1, queries, (B, 1, S, length)), 1),
            "one for all, k of each head": (added(lambda x, b, h, i, j: torch.dot(x["x"][b, h, i], x["y"][b, h // H, j])), (H, H, queries, (B, 1, S, length)), 1),
            "without an index of heads": (added(lambda x, b, h, i, j: torch.dot(x["x"][b, h, i], x["y"][b, j])), (H, H, queries, (B, S, length)), 1),
            "a constant head": (added(lambda x, b, h, i, j: torch.dot(x["x"][b, h, i], x["y"][b, 1, j])), (H, 2, queries, (B, 3, S, length)), 1),
            "groups as k": (added(rows), (H, 2, queries, (B, 2, S, length)), 1),
            "fewer than k": (added(rows), (H, H, queries, (B, 2, S, length)), 1),
            "more than k": (added(rows), (H, 1, queries, (B, 2, S, length)), 1),
            "fewer than k's groups": (added(lambda x, b, h, i, j: torch.dot(x["x"][b, h, i], x["y"][b, h >> 2, j])), (H, 2, queries, (B, 1, S, length)), 1),
            "each head": (added(lambda x, b, h, i, j: torch.dot(x["y"][b, h, j], x["x"][b, h, i])), (H, 2, queries, own_keys), 1),
            "longer than needed": (added(lambda x, b, h, i, j: torch.dot(x["x"][b, h, i], x["y"][b, h // 2, j])), (H, 2, (B, H + 1, T + 5, length), (B, 3, S + 9, length)), 1),
            "in another order": (added(lambda x, b, h, i, j: torch.dot(x["x"][i, b, h], x["y"][j, h, b])), (H, 2, (T, B, H, length), (S, H, B, length)), 1),
            "of all batch entries and heads": (added(lambda x, b, h, i, j: torch.dot(x["x"][i], x["y"][j])), (H, 2, (T, length), (S, length)), 1),
            "queries in groups": (added(lambda x, b, h, i, j: torch.dot(x["x"][b, h // 2, i], x["y"][b, h, j])), (H, 2, (B, 2, T, length), own_keys), 1),
            "sum": (added(lambda x, b, h, i, j: (x["x"][b, h, i] * x["y"][b, h // 2, j]).sum()), (H, 2, queries, (B, 2, S, length)), 1),
            "sum along the last": (added(lambda x, b, h, i, j: torch.sum(x["x"][b, h, i] * x["y"][b, h // 2, j], dim=-1)), (H, 2, queries, (B, 2, S, length)), 1),
            "@": (added(lambda x, b, h, i, j: x["x"][b, h, i] @ x["y"][b, h // 2, j]), (H, 2, queries, (B, 2, S, length)), 1),
            "einsum": (added(lambda x, b, h, i, j: torch.einsum("d,d->", x["x"][b, h, i], x["y"][b, h // 2, j])), (H, 2, queries, (B, 2, S, length)), 1),
            "several": (added(lambda x, b, h, i, j: torch.dot(x["x"][b, h, i], x["y"][b, h // 2, j]) - torch.tanh(torch.dot(x["u"][b, h, i], x["w"][b, h // 4, j]))
                              + 0.5 * torch.dot(x["x"][b, h, i], x["w"][b, h // 4, j])), (H, H, queries, (B, 2, S, length), queries, (B, 1, S, length)), 3),
            "a table at both": (lambda x: lambda s, b, h, i, j: s + torch.dot(x["x"][h, i], x["x"][h, j]) * x["x"][h, i, 3] * 0.1, (H, 2, (H, S, length)), 1),
        }
        for name, (score, drawing, dots) in cases.items():
            with self.subTest(name):
                x = {key: own.requires_grad_() for key, own in drawn(*drawing).items()}
                self.assertEqual(variant_of(x["q"], x["k"], x["v"], score(x)).count("dot("), 1 + dots)
                self.same_with_gradients(x, score)
        x = {key: own.requires_grad_() for key, own in drawn(H, 1, queries, (B, 1, S, length)).items()}
        x_pe, y_pe = x["x"], x["y"]
        text = variant_of(x["q"], x["k"], x["v"], lambda s, b, h, i, j: s + torch.dot(x_pe[b, h, i], y_pe[b, h // H, j]) * 0.2)
        self.assertEqual(text, "attention flex(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], x_pe: [B, H, T, N0], y_pe: [B, G, S, N0])\n{\n"
                               "  score dot(q[i], k[j]) / sqrt(D) + dot(x_pe[i], y_pe[j]) * 0.2\n}\n")
        own = weft.from_python(score=cases["groups as k"][0](x), where=causal)
        self.assertIn("dot(", own.source)

    def test_products_of_rows_with_other_shapes(self):
        """A function that was traced before gets the text of the new call."""
        def layer(x):
            y, z = x["x"], x["y"]
            return lambda s, b, h, i, j: s + torch.dot(y[b, h, i], z[b, h // 2, j]) * 0.1

        for heads, groups, length, count in ((4, 4, 16, 2), (4, 2, 32, 2), (8, 8, 16, 4), (2, 1, 16, 1), (4, 1, 16, 5)):
            with self.subTest(heads=heads, groups=groups):
                x = {"q": torch.randn(B, heads, 40, 16), "k": torch.randn(B, groups, 50, 16), "v": torch.randn(B, groups, 50, 16),
                     "x": torch.randn(B, heads, 40, length), "y": torch.randn(B, count, 50, length)}
                for own in x.values():
                    own.requires_grad_()
                self.same_with_gradients(x, layer, mask=causal)

    def test_new_lengths_have_the_same_text(self):
        texts = set()
        for length in (50, 77, 128):
            q = torch.randn(1, 2, length, 16)
            bias = torch.randn(2, 200)
            texts.add(variant_of(q, q, q, lambda s, b, h, i, j: s + bias[h, i], create_block_mask(causal, None, None, length, length)))
        self.assertEqual(len(texts), 1)

    def test_new_lengths_compile_nothing(self):
        def files():
            return sum(len(names) for _, _, names in os.walk(os.environ["WEFT_CACHE_DIR"]))

        score = lambda s, b, h, i, j: s * 0.7310585 - 0.01 * (i - j)
        counts = []
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, WEFT_CACHE_DIR=folder):
            for length in (48, 130, 77, 512):
                q = torch.randn(1, 2, length, 16, requires_grad=True)
                flex_attention(q, q, q, score, create_block_mask(causal, None, None, length, length)).sum().backward()
                counts.append(files())
        self.assertGreater(counts[0], 0)
        # Few queries take lower tiles; all that are not few have the same kernels.
        self.assertEqual(len(set(counts[1:])), 1, counts)

    def test_the_text_is_readable(self):
        slope = torch.rand(H)
        text = variant_of(self.q, self.k, self.v, lambda s, b, h, i, j: s - slope[h] * (i - j), create_block_mask(causal, None, None, T, T))
        self.assertEqual(text, "attention flex(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], slope: [H])\n{\n  where i >= j\n"
                               "  score dot(q[i], k[j]) / sqrt(D) - slope[h] * (i - j)\n}\n")

    def test_long_expressions(self):
        """What is used twice is computed once: a text does not double with each step."""
        def mod(s, b, h, i, j):
            for _ in range(60):
                s = s * 0.5 + torch.tanh(s) * 0.5
            return s
        self.assertLess(len(variant_of(self.q, self.k, self.v, mod)), 8000)
        self.near(flex_attention(self.q, self.k, self.v, mod), math(self.q.double(), self.k.double(), self.v.double(), mod), 1e-4)

    def test_names(self):
        """Captured tensors may have the names of dims, of the language's words, of one another's gradients, and any letters."""
        N, S2, T, score, größe, d, dd, x1, _ = (torch.randn(H, requires_grad=True) for _ in range(9))
        mod = lambda s, b, h, i, j: s + N[h] * S2[h] + T[h] * score[h] - größe[h] + d[h] * dd[h] + x1[h] + _[h]
        want, got = (math(self.q, self.k, self.v, mod), flex_attention(self.q, self.k, self.v, mod))
        self.near(got, want)

    def test_values_changed_in_place(self):
        bias = torch.randn(H, requires_grad=True)

        def mod(s, b, h, i, j):
            s = s * 1
            s += bias[h]
            s *= 2
            kept = i >= j
            kept &= i - j < 30
            return torch.where(kept, s.clone().mul_(0.5), -float("inf"))

        self.near(flex_attention(self.q, self.k, self.v, mod), math(self.q, self.k, self.v, lambda s, b, h, i, j: torch.where((i >= j) & (i - j < 30), s + bias[h], -float("inf"))))

    def test_numbers_of_numpy(self):
        import numpy

        scale = numpy.float64(0.5)
        self.near(flex_attention(self.q, self.k, self.v, lambda s, b, h, i, j: s * scale + numpy.float32(2) - numpy.int64(1) * h), math(self.q, self.k, self.v, lambda s, b, h, i, j: s * 0.5 + 2 - h))

    def test_functions_that_call_each_other(self):
        def one(s, n):
            return s if n == 0 else other(s, n - 1)

        def other(s, n):
            return one(s * 0.5, n)

        self.near(flex_attention(self.q, self.k, self.v, lambda s, b, h, i, j: one(s, 3)), math(self.q, self.k, self.v, lambda s, b, h, i, j: s * 0.125))

    def test_mistakes_of_a_call(self):
        q, k, v = self.q, self.k, self.v
        mask = create_block_mask(causal, None, None, 64, 64)
        for error, words, call in (
            (ValueError, "enable_gqa", lambda: flex_attention(q, k[:, :2], v[:, :2])),
            (ValueError, "multiple of kv heads", lambda: flex_attention(q, k[:, :3], v[:, :3], enable_gqa=True)),
            (ValueError, "same batch size", lambda: flex_attention(q[:1], k, v)),
            (ValueError, "block_mask was created for", lambda: flex_attention(q, k, v, block_mask=mask)),
            (ValueError, "Cannot specify both", lambda: flex_attention(q, k, v, return_lse=True, return_aux=flex.AuxRequest(lse=True))),
            (ValueError, "expected query", lambda: flex_attention(q[0], k, v)),
            (ValueError, "mask_mod", lambda: create_block_mask(lambda s, b, h, i, j: s, None, None, 8, 8)),
            (ValueError, "same embedding dimension", lambda: flex_attention(q, k[..., :16], v)),
            (weft.Error, "input 'k' of type f32 like 'v', got f16", lambda: flex_attention(q, k.half(), v)),
            (TypeError, "a function, got int", lambda: create_block_mask(3, None, None, 8, 8)),
            (TypeError, "unexpected keyword argument 'nonsense'", lambda: create_block_mask(causal, None, None, 8, 8, nonsense=3)),
            (TypeError, "expected block_mask to be a BlockMask.*got Tensor", lambda: flex_attention(q, k, v, block_mask=torch.ones(T, T))),
            (NotImplementedError, r"compute it of the captured tensor before, as in x.sum\(-1\)", lambda: flex_attention(q, k, v, lambda s, b, h, i, j: s + q[b].sum(-1)[h, i])),
            (RuntimeError, "sliced", lambda: flex_attention(q, k, v, block_mask=flex.create_block_mask(causal, None, None, T, T, device="cpu")[:1])),
        ):
            with self.assertRaisesRegex(error, words):
                call()

    def test_one_query_of_shared_keys(self):
        """The heads that share keys are the rows of one tile, where functions say the same of all heads."""
        q, (k, v) = torch.randn(B, 8, 1, 32, requires_grad=True), (torch.randn(B, 2, S, 32, requires_grad=True) for _ in range(2))
        shift, table, slope, x, y = torch.tensor(40), torch.randn(B, 1, S), torch.rand(8), torch.randn(B, 8, 1, 16), torch.randn(B, S, 16)
        cases = {
            "plain": (None, None, 4), "mask": (None, lambda b, h, i, j: i + shift >= j, 4), "cap": (lambda s, b, h, i, j: 5 * torch.tanh(s / 5), None, 4),
            "table": (lambda s, b, h, i, j: s + table[b, i, j], None, 4), "slope": (lambda s, b, h, i, j: s - slope[h] * (j - i), None, 1),
            "head": (lambda s, b, h, i, j: s - 0.01 * h * j, None, 1), "mask of heads": (None, lambda b, h, i, j: j % 2 == h % 2, 1),
            "rows": (lambda s, b, h, i, j: s + torch.dot(x[b, h, i], y[b, j]), None, 1),
        }
        for name, (score, mask, rows) in cases.items():
            with self.subTest(name):
                with mock.patch("weft.flex.call_operator", wraps=weft.flex.call_operator) as operator:
                    got, lse = flex_attention(q, k, v, score, mask and create_block_mask(mask, None, None, 1, S), enable_gqa=True, return_lse=True)
                self.assertEqual(operator.call_args.args[2][0].shape, (B, 8 // rows, rows, 32))
                self.assertEqual(lse.shape, (B, 8, 1))
                want = math(q, k, v, score, mask)
                self.near(got, want)
                cotangent = torch.randn_like(want)
                for own, exact in zip(torch.autograd.grad(got, (q, k, v), cotangent), torch.autograd.grad(want, (q, k, v), cotangent)):
                    self.near(own, exact, 2e-5)

    def test_gradients_have_the_same_bits_each_run(self):
        bias = torch.randn(H, 2 * T, requires_grad=True)
        mod = lambda s, b, h, i, j: s + bias[h, i - j + T]
        runs = [torch.autograd.grad(flex_attention(self.q, self.k, self.v, mod).sum(), bias)[0] for _ in range(2)]
        self.assertTrue(torch.equal(*runs))

    def test_inside_a_compiled_function(self):
        bias = (0.05 * torch.randn(H)).requires_grad_()  # of distances up to 130: larger logits would be rounded at their own size

        def layer(q, k, v, bias):
            return flex_attention(q * 1.5, k, v, lambda s, b, h, i, j: s + bias[h] * (i - j)).sin()

        want = layer(self.q, self.k, self.v, bias)
        got = torch.compile(layer)(self.q, self.k, self.v, bias)
        self.near(got, want)
        self.near(torch.autograd.grad(got.sum(), bias)[0], torch.autograd.grad(want.sum(), bias)[0], 1e-3)


if __name__ == "__main__":
    unittest.main()
