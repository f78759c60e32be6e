"""Functions of Python inside torch.compile and torch.export: FlexAttention's, and those of from_python."""

import os
import tempfile
import unittest
from unittest import mock

# Graphs that torch.compile keeps call the operator's inner passes of the build they were made with.
kept_graphs = tempfile.TemporaryDirectory()
os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept_graphs.name

import torch
from score_functions import FUNCTIONS, B, H, S, T
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import grad, vmap
from torch.nn.attention import flex_attention as torchs

import weft
from weft import _compiled

INF = float("inf")
learned = torch.nn.Parameter(torch.rand(4))  # a captured global


def causal(b, h, i, j):
    return i >= j


def decay(slope):
    return lambda s, b, h, i, j: s - slope[h] * (i - j)


class Case(unittest.TestCase):
    def setUp(self):
        torch._dynamo.reset()
        torch.manual_seed(0)
        self.q, self.k, self.v = (torch.randn(2, heads, length, 16, requires_grad=True) for heads, length in ((4, 30), (2, 40), (2, 40)))
        self.slope = torch.rand(4, requires_grad=True)

    def gradients(self, function, arguments, leaves):
        out = function(*arguments)
        out = out if isinstance(out, tuple) else (out,)
        own = torch.autograd.grad(sum(own.square().sum() for own in out), leaves, allow_unused=True)
        return [*(own.detach() for own in out), *(g for g in own if g is not None)]

    def same(self, function, *arguments, leaves=(), fullgraph=True, backend="aot_eager"):
        leaves = [own for own in arguments if isinstance(own, torch.Tensor) and own.requires_grad] + list(leaves)
        want = self.gradients(function, arguments, leaves)
        got = self.gradients(torch.compile(function, fullgraph=fullgraph, backend=backend), arguments, leaves)
        self.assertEqual(len(got), len(want))
        for a, b in zip(got, want):
            self.assertEqual((a.shape, a.dtype), (b.shape, b.dtype))
            self.assertTrue(torch.allclose(a, b, rtol=1e-5, atol=1e-5))


class FlexAttention(Case):
    def test_itself(self):
        compiled = torch.compile(weft.flex_attention, fullgraph=True)
        self.assertTrue(torch.equal(compiled(self.q, self.k, self.v, enable_gqa=True), weft.flex_attention(self.q, self.k, self.v, enable_gqa=True)))

    def test_captured_tensors_get_gradients(self):
        for backend in ("eager", "aot_eager", "inductor"):
            torch._dynamo.reset()
            self.same(lambda q, k, v, slope: weft.flex_attention(q, k, v, decay(slope), enable_gqa=True), self.q, self.k, self.v, self.slope, backend=backend)
        self.same(lambda q, k, v: weft.flex_attention(q, k, v, decay(self.slope), enable_gqa=True), self.q, self.k, self.v, leaves=[self.slope])
        self.same(lambda q, k, v: weft.flex_attention(q, k, v, decay(learned), enable_gqa=True), self.q, self.k, self.v, leaves=[learned])

    def test_results(self):
        score = lambda s, b, h, i, j: torch.where(i >= j, 20 * torch.tanh(s / 20), -INF)
        self.same(lambda *x: weft.flex_attention(*x, score, scale=0.3, enable_gqa=True, return_lse=True), self.q, self.k, self.v)

        def aux(q, k, v):
            out, own = weft.flex_attention(q, k, v, score, enable_gqa=True, return_aux=weft.flex.AuxRequest(lse=True, max_scores=True))
            return out, own.lse, own.max_scores

        self.same(aux, self.q, self.k, self.v)
        self.same(lambda q, k, v: weft.flex_attention(q, k[:1], v[:1], enable_gqa=True), self.q, self.k, self.v)  # one batch entry for all

    def test_masks(self):
        documents = torch.randint(0, 3, (2, 40))
        inside = lambda b, h, i, j: (documents[b, i] == documents[b, j]) & (i >= j)
        masked = lambda q, k, v, mask: weft.flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        own = weft.create_block_mask(inside, 2, None, 30, 40)
        self.same(masked, self.q, self.k, self.v, own)
        self.same(lambda *x: masked(*x, own), self.q, self.k, self.v)
        self.same(lambda *x: masked(*x, weft.create_block_mask(inside, 2, None, x[0].shape[2], x[1].shape[2])), self.q, self.k, self.v)
        theirs = torchs.create_block_mask(inside, 2, None, 30, 40, device="cpu", BLOCK_SIZE=16)
        theirs.kv_num_blocks[0, 0, 0] = 0  # what their function does not say
        self.same(masked, self.q, self.k, self.v, theirs)

    def test_products_of_rows(self):
        x, y = (torch.randn(2, heads, length, 8, requires_grad=True) for heads, length in ((4, 30), (1, 40)))
        self.same(
            lambda q, k, v: weft.flex_attention(q, k, v, lambda s, b, h, i, j: s + (x[b, h, i] * y[b, h // 4, j]).sum(-1), enable_gqa=True),
            self.q, self.k, self.v, leaves=(x, y),
        )

    def test_masks_of_blocks(self):
        counts, blocks = torch.tensor([[[1, 2]]], dtype=torch.int32), torch.tensor([[[[0, 1, 2], [2, 0, 1]]]], dtype=torch.int32)
        mask = weft.BlockMask.from_kv_blocks(counts, blocks, BLOCK_SIZE=16, seq_lengths=(30, 40))
        kept = torch.zeros(30, 40, dtype=torch.bool)
        kept[:16, :16] = kept[16:, 32:] = kept[16:, :16] = True
        want = torch.nn.functional.scaled_dot_product_attention(self.q, self.k, self.v, attn_mask=kept, enable_gqa=True)
        call = lambda q, k, v: weft.flex_attention(q, k, v, block_mask=mask, enable_gqa=True)  # noqa: E731
        torch.testing.assert_close(call(self.q, self.k, self.v), want, atol=1e-5, rtol=1e-5)
        self.same(call, self.q, self.k, self.v)

    def test_views_of_one_tensor(self):
        def layer(x):
            return weft.flex_attention(*x.unflatten(-1, (3, 16)).unbind(-2), decay(self.slope))

        self.same(layer, torch.randn(2, 4, 30, 48, requires_grad=True), leaves=[self.slope])

    def test_new_lengths(self):
        frames = CompileCounterWithBackend("aot_eager")
        table = torch.randn(200)

        def layer(q, k, v):
            shift = k.shape[2] - q.shape[2]
            return weft.flex_attention(q, k, v, lambda s, b, h, i, j: torch.where(i + shift >= j, s + table[i + shift - j] + self.slope[h], -INF))

        compiled = torch.compile(layer, fullgraph=True, backend=frames)
        for queries, keys in ((20, 30), (25, 40), (10, 50), (30, 90)):
            x = [torch.randn(2, 4, length, 16) for length in (queries, keys, keys)]
            self.assertTrue(torch.allclose(compiled(*x), layer(*x), atol=1e-6))
        self.assertLessEqual(frames.frame_count, 2)

    def test_new_numbers(self):
        layer = lambda x, width, factor: weft.flex_attention(x, x, x, lambda s, b, h, i, j: torch.where((i - j).abs() < width, s * factor, -INF), scale=factor)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for width, factor in ((3, 0.5), (4, 0.25), (7, 1.5), (5, 0.125)):
            self.assertTrue(torch.allclose(compiled(self.q, width, factor), layer(self.q, width, factor), atol=1e-6))

    def test_several_calls_of_a_graph_whose_numbers_are_symbols(self):
        """dynamic=True makes symbols of floats too: of scales, dropout, defaults of functions."""
        flex_attention, learnt = weft.flex_attention, torch.rand(4, requires_grad=True)
        mask, variant = weft.create_block_mask(causal, None, None, 30, 30), weft.from_python(where=causal, normalize="sigmoid")
        from weft import transformers

        module = torch.nn.Module().train()
        with_lse = lambda q, k, v: (lambda o, lse: o + lse[..., None])(*flex_attention(q, k, v, return_lse=True))
        with_peaks = lambda q, k, v: flex_attention(q, k, v, decay(learnt), return_aux=torchs.AuxRequest(max_scores=True))
        kinds = {
            "plain": lambda q, k, v: flex_attention(q, k, v),
            "scale": lambda q, k, v: flex_attention(q, k, v, scale=0.3),
            "mask": lambda q, k, v: flex_attention(q, k, v, block_mask=mask),
            "captured": lambda q, k, v: flex_attention(q, k, v, decay(learnt)),
            "lse": with_lse,
            "peaks": lambda q, k, v: (lambda o, aux: o + aux.max_scores[..., None])(*with_peaks(q, k, v)),
            "from_python": variant,
            "transformers": lambda q, k, v: transformers.attention(module, q, k, v, scaling=0.2)[0].transpose(1, 2),
        }
        q, k, v = (torch.randn(2, 4, 30, 16, requires_grad=True) for _ in range(3))
        for name, call in kinds.items():
            with self.subTest(name):
                torch._dynamo.reset()
                layers = lambda q, k, v, call=call: call(call(q, k, v), k, v)
                leaves = [q, k, v, *([learnt] if name in ("captured", "peaks") else [])]
                want, got = (self.gradients(own, (q, k, v), leaves) for own in (layers, torch.compile(layers, dynamic=True, fullgraph=True, backend="aot_eager")))
                for a, b in zip(got, want):
                    self.assertTrue(torch.allclose(a, b, rtol=1e-5, atol=1e-5))
        dropped = weft.from_python(where=causal, dropout=0.5)
        out = torch.compile(lambda q, k, v: dropped(dropped(q, k, v), k, v), dynamic=True, fullgraph=True, backend="aot_eager")(q, k, v)
        self.assertTrue(out.isfinite().all())
        self.assertTrue((out[:, :, 0] == 0).all(-1).any())  # a row of one key, dropped
        torch._dynamo.reset()
        scaled = lambda q, scale: flex_attention(flex_attention(q, k, v, scale=scale), k, v, scale=scale)
        compiled = torch.compile(scaled, fullgraph=True, backend="aot_eager")
        for scale in (0.3, 0.4, 0.5):
            self.assertTrue(torch.allclose(compiled(q, scale), scaled(q, scale), atol=1e-6))

    def test_masks_that_are_changed(self):
        q, k, v = (torch.randn(1, 1, 300, 16) for _ in range(3))
        mask = weft.create_block_mask(causal, None, None, 300, 300, device="cpu")
        layer = lambda q: weft.flex_attention(q, k, v, block_mask=mask)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        self.assertTrue(torch.equal(compiled(q), layer(q)))
        mask.kv_num_blocks[0, 0, 2] = mask.full_kv_num_blocks[0, 0, 2] = 0
        self.assertTrue(torch.allclose(compiled(q), layer(q), atol=1e-6))
        self.assertEqual(layer(q)[0, 0, 256:].abs().max().item(), 0)
        blocks = mask.kv_num_blocks, mask.full_kv_num_blocks
        mask = weft.create_block_mask(causal, None, None, 300, 300)  # nobody looks at its blocks before they are others
        before = compiled(q)
        self.assertGreater(before[0, 0, 256:].abs().max().item(), 0)
        mask.kv_num_blocks, mask.full_kv_num_blocks = blocks
        self.assertTrue(torch.allclose(compiled(q), layer(q), atol=1e-6))
        self.assertEqual(compiled(q)[0, 0, 256:].abs().max().item(), 0)

    def test_an_index_made_of_another(self):
        """In a graph the scalars of a pair have the shape [1]."""
        table = torch.rand(1)
        self.same(lambda q, k, v: weft.flex_attention(q, k, v, lambda s, b, h, i, j: s + table[h.new_zeros(h.shape)], enable_gqa=True), self.q, self.k, self.v)

    def test_types(self):
        for dtype in (torch.float64, torch.bfloat16):
            self.same(lambda *x: weft.flex_attention(*x, decay(self.slope)), *(torch.randn(2, 4, 30, 16, dtype=dtype, requires_grad=True) for _ in range(3)))

    def test_in_place(self):
        self.same(lambda q, k, v, slope: weft.flex_attention(q, k, v, lambda s, b, h, i, j: s.sub_(slope[h]), enable_gqa=True), self.q, self.k, self.v, self.slope)

    def test_checkpoints(self):
        flex = lambda *x: weft.flex_attention(*x, decay(self.slope), enable_gqa=True)
        self.same(lambda *x: torch.utils.checkpoint.checkpoint(flex, *x, use_reentrant=False), self.q, self.k, self.v, leaves=[self.slope])

    def test_what_dynamo_cannot_see_breaks_the_graph(self):
        def score(s, b, h, i, j):
            torch._dynamo.graph_break()
            return s - self.slope[h] * (i - j)

        variant = weft.from_python(score=score)
        self.same(lambda q, k, v: weft.flex_attention(q.sin(), k, v, score, enable_gqa=True).cos(), self.q, self.k, self.v, leaves=[self.slope], fullgraph=False)
        self.same(lambda q, k, v: variant(q.sin(), k, v).cos(), self.q, self.k, self.v, leaves=[self.slope], fullgraph=False)

    def test_functions_of_people(self):
        """Those of test_flex, as graphs."""
        for name, (maker, captured) in FUNCTIONS.items():
            # torch has no types for shifts of bools, and rows [1, n], as Dynamo sees them, are none for torch.dot.
            if name in ("bools_as_ints", "latent"):
                continue
            # Generators that are captured Dynamo cannot hand on.
            whole = name not in ("morton_natten", "tiled_natten_2d")
            with self.subTest(name):
                torch._dynamo.reset()
                x = {key: own.float().requires_grad_() if own.is_floating_point() else own for key, own in ((key, make()) for key, make in captured.items())}
                score, mask = maker(x)
                mask = mask and weft.create_block_mask(mask, B, H, T, S)
                q, k, v = (torch.randn(B, heads, length, 16, requires_grad=True) for heads, length in ((H, T), (2, S), (2, S)))
                self.same(lambda q, k, v: weft.flex_attention(q, k, v, score, mask, enable_gqa=True), q, k, v,
                          leaves=[own for own in x.values() if own.requires_grad], backend="eager", fullgraph=whole)

    def test_layers_of_transformers(self):
        from weft import transformers

        module, sink = torch.nn.Module().eval(), torch.randn(4, requires_grad=True)
        layer = lambda q, k, v: transformers.attention(module, q, k, v, softcap=20.0, s_aux=sink)[0]
        self.same(layer, *(torch.randn(2, heads, 30, 16, requires_grad=True) for heads in (4, 2, 2)), leaves=[sink])

    def test_where_dynamo_is_another(self):
        """Graphs break."""
        with mock.patch.object(_compiled, "_is_ready", False):
            self.same(lambda *x: weft.flex_attention(*x, decay(self.slope), enable_gqa=True).cos(), self.q, self.k, self.v, leaves=[self.slope], fullgraph=False)

    def test_what_the_language_has_no_words_for(self):
        with self.assertRaisesRegex(Exception, "torch.erfinv has no counterpart in Weft's language"):
            torch.compile(lambda x: weft.flex_attention(x, x, x, lambda s, *pair: torch.erfinv(s)), backend="aot_eager")(self.q)


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.rand(4))
        self.project = torch.nn.Linear(16, 48)
        self.variant = weft.from_python(score=lambda s, b, h, i, j: s - self.slope[h] * (i - j), where=causal, sink=lambda b, h: self.slope[h])

    def forward(self, x):
        q, k, v = self.project(x).unflatten(-1, (3, 16)).unbind(-2)
        mask = weft.create_block_mask(causal, None, None, q.shape[2], k.shape[2])
        return self.variant(q, k, v) + weft.flex_attention(q, k, v, lambda s, b, h, i, j: s * self.slope[h], mask)


class Variants(Case):
    def test_captured_attributes(self):
        layer = Layer()
        self.same(layer, torch.randn(2, 4, 30, 16), leaves=list(layer.parameters()))

    def test_captured_globals(self):
        variant = weft.from_python(score=lambda s, b, h, i, j: s - learned[h] * (i - j), weight=lambda b, h, i, j: learned[h] + 0.5, gate=lambda b, h, i, j: 1.0 * (i >= j))
        self.same(lambda *x: variant(*x), self.q, self.k, self.v, leaves=[learned])
        variant = weft.from_python(score=lambda s, b, h, i, j: s - learned[h] * (i - j), scale=0.2)
        self.same(lambda *x: weft.attention(variant, *x, lse=True), self.q, self.k, self.v, leaves=[learned])

    def test_graphs_break_too(self):
        layer = Layer()
        self.same(layer, torch.randn(2, 4, 30, 16), leaves=list(layer.parameters()), fullgraph=False)

    def test_normalize_and_dropout(self):
        torch.manual_seed(0)
        variant = weft.from_python(score=lambda s, b, h, i, j: torch.relu(s), normalize="none")
        self.same(lambda *x: variant(*x), self.q, self.k, self.v)

    def test_decoding(self):
        q, k = torch.randn(2, 4, 1, 16), torch.randn(2, 4, 40, 16)
        python, text = weft.from_python(score=decay(self.slope)), weft.variant("causal")
        for decode in (lambda q, k: weft.decode("causal", q, k, k), lambda q, k: text.decode(q, k, k), lambda q, k: weft.decode(python, q, k, k)):
            with torch.no_grad():
                self.assertTrue(torch.equal(torch.compile(decode, fullgraph=True, backend="aot_eager")(q, k), decode(q, k)))

    def test_inputs_that_there_are_not(self):
        variant = weft.from_python(score=decay(self.slope))
        with self.assertRaisesRegex(weft.Error, "span"):
            torch.compile(lambda *x: variant(*x, span=self.slope), backend="aot_eager")(self.q, self.k, self.v)


class Export(Case):
    def test_export(self):
        layer, x = Layer(), torch.randn(2, 4, 30, 16)
        soft_cap = torch.nn.Module()
        soft_cap.forward = lambda x: weft.flex_attention(x, x, x, lambda s, b, h, i, j: torch.where(i >= j, 20 * torch.tanh(s / 20), -INF))
        for model, strict in ((layer, False), (layer, True), (soft_cap, False)):
            for lengths in (None, ({2: torch.export.Dim("length")},)):
                with torch.no_grad():
                    exported = torch.export.export(model, (x,), dynamic_shapes=lengths, strict=strict)
                    for own in [x] if lengths is None else [x, torch.randn(2, 4, 77, 16)]:
                        self.assertTrue(torch.allclose(exported.module()(own), model(own), atol=1e-5))

    def test_gradients_of_what_was_exported(self):
        layer, x = Layer(), torch.randn(2, 4, 30, 16)
        exported = torch.export.export(layer, (x,)).module()
        exported(x).square().sum().backward()
        layer(x).square().sum().backward()
        self.assertTrue(torch.allclose(exported.slope.grad, layer.slope.grad, atol=1e-4))


class Transforms(Case):
    def test_the_graph_breaks(self):
        k, v, slope = self.k.detach(), self.v.detach(), self.slope.detach()
        text = lambda q: weft.attention("alibi", q, k, v, slope=slope)
        flex = lambda q: weft.flex_attention(q, k, v, decay(slope), enable_gqa=True)
        many = torch.randn(3, 2, 4, 30, 16)
        for own in (text, flex):
            for function in (vmap(own), lambda x: grad(lambda q: own(q).square().sum())(x[0]), vmap(grad(lambda q: own(q).square().sum()))):
                torch._dynamo.reset()
                self.assertTrue(torch.allclose(torch.compile(lambda x: function(x), backend="aot_eager")(many), function(many), atol=1e-5))


if __name__ == "__main__":
    unittest.main()
