"""The Python package: variants as objects, variants written in Python."""

import base64
import functools
import io
import math
import os
import re
import tempfile
import unittest

import numpy
import torch
from PIL import Image

import weft


class Variants(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.q = torch.randn(2, 4, 90, 32, requires_grad=True)
        self.k, self.v = (torch.randn(2, 2, 90, 32, requires_grad=True) for _ in range(2))
        self.span = torch.full((4,), 40.0, requires_grad=True)

    def test_the_library(self):
        self.assertIn("adaptive_span", weft.library())
        self.assertGreater(len(weft.library()), 30)
        for name in weft.library():
            own = weft.variant(name)
            self.assertEqual(own.name, name)
            self.assertIn(f"attention {name}(", str(own))
            self.assertTrue(all(isinstance(given, weft.Input) for given in own.inputs))

    def test_what_a_variant_says_of_itself(self):
        own = weft.variant("adaptive_span")
        self.assertEqual(repr(own), "weft.variant(adaptive_span(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], span: [H] in 0 .. T typical T / 2))")
        self.assertEqual((own.normalize, own.constants, own.has_log_sum_exp, own.selects), ("softmax", {"soft": 32.0}, True, False))
        span = own.inputs[3]
        self.assertEqual((span.name, span.type, span.dims, span.row, span.gradient), ("span", "float", ("H",), False, True))
        self.assertIn("attention adaptive_span", own._repr_html_())

    def test_calls(self):
        want = weft.attention("adaptive_span", self.q, self.k, self.v, span=self.span)
        got = weft.attention("adaptive_span", q=self.q, k=self.k, v=self.v, span=self.span)
        own, lse = weft.variant("adaptive_span")(self.q, self.k, self.v, span=self.span, lse=True)
        self.assertTrue(torch.equal(got, want) and torch.equal(own, want))
        self.assertEqual(lse.shape, (2, 4, 90))
        want.sum().backward()
        for leaf in (self.q, self.k, self.v, self.span):
            self.assertGreater(leaf.grad.abs().max().item(), 0)
        # Numbers of Python.
        window = weft.attention("sliding_window", self.q, self.k, self.v, window=16)
        self.assertTrue(torch.equal(window, weft.attention("sliding_window", self.q, self.k, self.v, window=torch.tensor(16))))

    def test_groups_of_two_kinds(self):
        """As of differential attention: pairs of heads share values, and more of them keys."""
        text = "attention t(q: [B, H, T, D], k: [B, G2, S, D], v: [B, G, S, E], bias: [B, G2, T, S]) { where i >= j score dot(q[i], k[j]) / sqrt(D) + bias[i, j] }"
        q, k, v = (torch.randn(2, heads, 40, 16, requires_grad=True) for heads in (8, 4, 2))
        bias = torch.randn(1, 4, 40, 40, requires_grad=True)
        inputs = {"q": q, "k": k, "v": v, "bias": bias}
        want = torch.nn.functional.scaled_dot_product_attention(
            q,
            k.repeat_interleave(2, 1),
            v.repeat_interleave(4, 1),
            attn_mask=bias.repeat_interleave(2, 1).masked_fill(~torch.ones(40, 40, dtype=torch.bool).tril(), -torch.inf),
        )
        cotangent = torch.randn_like(want)
        gradients = torch.autograd.grad(want, inputs.values(), cotangent)
        got = weft.attention(text, **inputs)
        torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)
        for own, expected in zip(torch.autograd.grad(got, inputs.values(), cotangent), gradients):
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)
        mapped = torch.func.vmap(lambda q, k, v, bias: weft.attention(text, q[None], k[None], v[None], bias=bias[None]).squeeze(0))(q, k, v, bias.expand(2, -1, -1, -1))
        torch.testing.assert_close(mapped, want, atol=2e-6, rtol=1e-5)
        newest = weft.decode(text, q[:, :, -1:], k, v, bias=bias[:, :, -1:])
        torch.testing.assert_close(newest, want[:, :, -1:], atol=2e-6, rtol=1e-5)
        self.assertIn("16 of 16", str(weft.variant(text).explain(q, k, v, bias=bias)))
        with self.assertRaisesRegex(weft.Error, "expected G2 to divide H, and G to divide it, got G2 = 3, H = 8 and G = 2"):
            weft.attention(text, q, k[:, :3], v, bias=bias[:, :3])

    def test_files_and_texts(self):
        text = "attention mine(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E]) { where i >= j score dot(q[i], k[j]) / sqrt(D) }"
        want = weft.attention("causal", self.q, self.k, self.v)
        self.assertTrue(torch.equal(weft.variant(text)(self.q, self.k, self.v), want))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mine.weft")
            with open(path, "w") as file:
                file.write(text)
            self.assertTrue(torch.equal(weft.variant(path)(self.q, self.k, self.v), want))

    def test_decoding(self):
        want = weft.attention("causal", self.q, self.k, self.v)[:, :, -1:]
        got = weft.decode("causal", self.q[:, :, -1:], self.k, self.v)
        self.assertLess((got - want).abs().max().item(), 1e-5)

    def test_explanations(self):
        told = weft.variant("sliding_window").explain(self.q.new_zeros(1, 2, 1024, 32), self.k.new_zeros(1, 2, 1024, 32), self.v.new_zeros(1, 2, 1024, 32), window=64)
        self.assertLess(told.kept_share, 0.15)
        self.assertEqual(told["T"], 1024)
        self.assertEqual(told.flops, int(told.kept_share * 2 * 1024 * 1024 * 2 * 64))
        self.assertEqual(told.backward_flops, int(told.kept_share * 2 * 1024 * 1024 * 2 * 5 * 32))
        for text in ("kept tiles", "GFLOP forward", f"forward     {told['forward']}: plan_band, forward"):
            self.assertIn(text, str(told))
        self.assertEqual(told["kernels"]["forward"], ["plan_band", "forward"])
        self.assertEqual(told["kernels"]["backward"][:2], ["plan_band", "backward_delta"])
        for text in ("o     ", "[B, H, T, E]", "steps, where B, H, T > 0"):
            self.assertIn(text, told["plan"]["forward"])
        self.assertIn("dv ", told["plan"]["backward"])

    def test_plans_of_variants_that_draw_and_choose(self):
        text = "attention own(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E]) { score dot(q[i], k[j]) dropout 0.1 where i >= j select tiles(16, 16) { keep diagonal keep first 1 } }"
        for dtype in (torch.float32, torch.float64):
            kernels = weft.variant(text).explain(*(own.to(dtype) for own in (self.q, self.k, self.v)))["kernels"]
            self.assertEqual("select_0" in kernels["forward"], dtype == torch.float32)  # of float64 tiles are chosen before
            self.assertNotIn("select_0", kernels["backward"])

    def test_what_inputs_may_be(self):
        own = {one.name: one.values for one in weft.variant(
            "attention t(q: [B, H, T, D], v: [B, H, S, E], a: [H] in 2 .. 8 typical T / 2, n: int [] in ..S / 64 + 1, e: int [B, T] in 0.. rising) { score a[h] + n + e[i] }").inputs}
        self.assertEqual(own["a"], "in 2 .. 8 typical T / 2")
        self.assertEqual([(one.low, one.high, one.typical, one.rising) for one in own.values()],
                         [(None, None, None, False)] * 2 + [(2, 8, ("T / 2", "T / 2"), False), (None, "S / 64 + 1", None, False), (0, None, None, True)])
        self.assertFalse(own["q"])

    def test_decode_takes_the_newest_of_what_is_captured(self):
        bias = torch.randn(90)
        own = weft.from_python(score=lambda s, b, h, i, j: s + bias[i] * (j % 2), where=lambda b, h, i, j: i >= j)
        q, k, v = (one.detach() for one in (self.q, self.k, self.v))
        want = own(q, k, v)[:, :, -1:]
        torch.testing.assert_close(own.decode(q[:, :, -1:], k, v), want, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(torch.compile(lambda q, k, v: own.decode(q, k, v), fullgraph=True)(q[:, :, -1:], k, v), want, atol=1e-5, rtol=1e-5)
        with self.assertRaisesRegex(weft.Error, "dim T"):
            own.decode(q[:, :, -2:], k, v, lengths=torch.full((q.shape[0],), 90))

    def test_terms_of_the_calls_number(self):
        own = weft.variant("attention own(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], bias: [H, N], far: int [N]) { score dot(q[i], k[j]) / sqrt(D) + "
                           "sum(n < N, bias[h, n] * (i - j == far[n])) where i >= j or any(n < N, far[n] == j - i) }")
        q, k, v = (one.detach().requires_grad_() for one in (self.q, self.k, self.v))
        distance = torch.arange(90)[:, None] - torch.arange(90)
        for count in (1, 5, 3, 5):
            bias, far = torch.randn(4, count, requires_grad=True), torch.randint(0, 40, (count,))
            o = own(q, k, v, bias=bias, far=far)
            same = (distance[..., None] == far).float()
            keys, values = (one.repeat_interleave(2, 1) for one in (k, v))
            scores = q @ keys.transpose(-1, -2) / q.shape[-1] ** 0.5 + torch.einsum("hn,ijn->hij", bias, same)
            kept = (distance >= 0) | (-distance[..., None] == far).any(-1)
            want = scores.masked_fill(~kept, -torch.inf).softmax(-1) @ values
            self.assertLess((o - want).abs().max().item(), 1e-5)
            cotangent = torch.randn_like(want)
            for got, exact in zip(torch.autograd.grad(o, (q, k, v, bias), cotangent), torch.autograd.grad(want, (q, k, v, bias), cotangent)):
                self.assertLess((got - exact).abs().max().item(), 1e-4)
            self.assertLess((own.decode(q[:, :, -1:], k, v, bias=bias, far=far) - own(q, k, v, bias=bias, far=far)[:, :, -1:]).abs().max().item(), 1e-5)
            self.assertEqual(own.explain(q, k, v, bias=bias, far=far)["T"], 90)
        compiled = torch.compile(lambda *given: own(*given[:3], bias=given[3], far=given[4]).sin(), fullgraph=True, backend="aot_eager")
        for count in (2, 4):
            given = q, k, v, torch.randn(4, count, requires_grad=True), torch.randint(0, 40, (count,))
            self.assertLess((compiled(*given) - own(*given[:3], bias=given[3], far=given[4]).sin()).abs().max().item(), 1e-6)
        with self.assertRaisesRegex(weft.Error, "variant 'own': expected dim N, a number of terms, from 1 to 64, got 65"):
            own(q, k, v, bias=torch.randn(4, 65), far=torch.zeros(65, dtype=torch.int32))
        with self.assertRaisesRegex(weft.Error, "expected dim N of input 'far' to be 3 as in 'bias'"):
            own(q, k, v, bias=torch.randn(4, 3), far=torch.zeros(4, dtype=torch.int32))
        self.assertEqual(len(own.compile("weft", terms=3)) < len(own.compile("weft", terms=30)), True)

    def test_keys_of_each_querys_own(self):
        q, k, v = torch.randn(2, 6, 40, 32), torch.randn(2, 2, 64, 32), torch.randn(2, 2, 64, 32)
        lists = torch.rand(2, 2, 40, 64).argsort(-1)[..., :16].int()
        own = weft.variant("indexed")
        told = own.explain(q, k, v, list=lists)
        self.assertEqual((told["keys"], len(told["kept"]), told["tiles"]), (16, 12, 40))
        self.assertLessEqual(told.flops, 2 * 6 * 40 * 16 * 2 * 64)
        kept = own.mask(q, k, v, list=lists).kept
        chosen = torch.zeros(2, 40, 64, dtype=torch.bool).scatter(2, lists[0].long(), True).tril()
        self.assertTrue(torch.equal(kept, chosen.repeat_interleave(3, 0)))
        with self.assertRaisesRegex(RuntimeError, "expected keys that queries share; with a list for each query, call attention with T = 1"):
            weft.decode("indexed", q[:, :, -1:], k, v, list=lists[:, :, -1:])

    def test_masks(self):
        mask = weft.variant("causal").mask(self.q, self.k, self.v)
        self.assertTrue(torch.equal(mask.kept, torch.ones(4, 90, 90, dtype=torch.bool).tril()))
        self.assertTrue(torch.allclose(mask.shares.sum(-1), torch.ones(4, 90)))
        self.assertIn("█", repr(mask))
        pictures = re.findall('data:image/png;base64,([^"]*)', mask._repr_html_())
        self.assertEqual(len(pictures), 4)
        for picture, shares in zip(pictures, mask.shares):
            grey = torch.from_numpy(numpy.array(Image.open(io.BytesIO(base64.b64decode(picture)))))
            self.assertEqual(grey.shape, shares.shape)
            self.assertLessEqual((grey - 255 * (1 - shares / shares.amax(-1, keepdim=True).clamp_min(1e-30))).abs().max().item(), 1)

    def test_stages(self):
        own = weft.variant("causal")
        self.assertIn(".target sm_80", own.compile())
        self.assertIn(".target sm_90a", own.compile("ptx", target="sm_90a", dtype=torch.bfloat16))
        self.assertIn("tile.kernel", own.compile("tile"))
        with self.assertRaisesRegex(weft.Error, "no stage 'wasm'; there are: ast"):
            own.compile("wasm")
        with self.assertRaisesRegex(weft.Error, "expected a GPU"):
            own.compile("ptx", target="cpu")

    def test_tuning(self):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["WEFT_CACHE_DIR"], before = folder, os.environ.get("WEFT_CACHE_DIR")
            try:
                found = weft.tune("causal", self.q, self.k, self.v, budget=2.0, backward=False)
                self.assertEqual(len(found), 1)
                self.assertLessEqual(found[0]["seconds"], found[0]["default_seconds"] * 1.05)
                self.assertGreater(found[0]["samples"], 0)
                self.assertTrue(any("schedules" in name or name.endswith(".json") for _, _, names in os.walk(folder) for name in names), list(os.walk(folder)))
            finally:
                if before is None:
                    del os.environ["WEFT_CACHE_DIR"]
                else:
                    os.environ["WEFT_CACHE_DIR"] = before

    def test_mistakes(self):
        with self.assertRaises(weft.SourceError) as caught:
            weft.variant("attention x(v: [B, H, S, E]) { scor 1 }")
        self.assertIn("expected a statement, got 'scor'", str(caught.exception))
        self.assertIsInstance(caught.exception, ValueError)
        with self.assertRaisesRegex(weft.SourceError, "no variant or file 'casual'; the library has:"):
            weft.variant("casual")
        with self.assertRaisesRegex(weft.Error, "no input is named 'spam'"):
            weft.attention("causal", self.q, self.k, self.v, spam=1.0)
        with self.assertRaisesRegex(RuntimeError, "expected input 'span'"):
            weft.attention("adaptive_span", self.q, self.k, self.v)
        with self.assertRaises(weft.Error) as caught:
            weft.attention("causal", self.q, self.k[..., :16], self.v)
        self.assertNotIn("Exception raised from", str(caught.exception))

    def test_inside_a_compiled_function(self):
        def layer(q, k, v, span):
            return weft.attention("adaptive_span", q * 2, k, v, span=span).sin()

        want = layer(self.q, self.k, self.v, self.span)
        got = torch.compile(layer, fullgraph=True)(self.q, self.k, self.v, self.span)
        self.assertTrue(torch.allclose(got, want, atol=1e-6))
        self.assertTrue(torch.allclose(*(torch.autograd.grad(own.sum(), self.span)[0] for own in (got, want)), atol=1e-4))


class FromPython(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.q, self.k, self.v = (torch.randn(1, 4, 100, 32) for _ in range(3))

    def test_alibi(self):
        slope = torch.rand(4, requires_grad=True)
        own = weft.from_python(score=lambda s, b, h, i, j: s - slope[h] * (i - j), where=lambda b, h, i, j: i >= j, name="my_alibi")
        got, want = own(self.q, self.k, self.v), weft.attention("alibi", self.q, self.k, self.v, slope=slope)
        self.assertTrue(torch.equal(got, want))
        self.assertTrue(torch.allclose(*(torch.autograd.grad(out.square().sum(), slope)[0] for out in (got, want))))
        self.assertIn("attention my_alibi(", str(own))
        self.assertIn("score dot(q[i], k[j]) / sqrt(D) - slope[h] * (i - j)", own.source)

    def test_every_statement(self):
        span, gain, sink = torch.full((4,), 30.3, requires_grad=True), torch.randn(4, 100, requires_grad=True), torch.randn(4, requires_grad=True)
        own = weft.from_python(where=lambda b, h, i, j: i >= j, weight=lambda b, h, i, j: ((32 + span[h] - (i - j)) / 32).clamp(0, 1),
                               gate=lambda b, h, i, j: torch.sigmoid(gain[h, j]), sink=lambda b, h: 2 * sink[h], scale=0.2)
        text = """attention same(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], span: [H], gain: [H, S], sink_of: [H]) {
            where i >= j score dot(q[i], k[j]) * 0.2 weight clamp((32 + span[h] - (i - j)) / 32, 0, 1) gate sigmoid(gain[h, j]) sink 2 * sink_of[h] }"""
        got = own(self.q, self.k, self.v)
        want = weft.attention(text, self.q, self.k, self.v, span=span, gain=gain, sink_of=sink)
        self.assertTrue(torch.allclose(got, want, atol=1e-6))
        for leaf in (span, gain, sink):
            self.assertTrue(torch.allclose(*(torch.autograd.grad(out.square().sum(), leaf, retain_graph=True)[0] for out in (got, want)), atol=1e-4))

    def test_other_normalisers_and_dropout(self):
        for name in ("sigmoid", "entmax15", "stick_breaking"):
            own = weft.from_python(where=lambda b, h, i, j: i > j, normalize=name)
            self.assertIn(f"normalize {name}", own.source)
            self.assertTrue(own(self.q, self.k, self.v).isfinite().all())
        dropped = weft.from_python(dropout=0.5)
        self.assertFalse(torch.equal(dropped(self.q, self.k, self.v), dropped(self.q, self.k, self.v)))

    def test_minus_infinity(self):
        sink = torch.randn(4)
        own = weft.from_python(sink=lambda b, h: torch.where(h > 1, sink[h], -float("inf")))
        want = weft.from_python(sink=lambda b, h: sink[h])
        got, plain = own(self.q, self.k, self.v), weft.from_python()(self.q, self.k, self.v)
        self.assertTrue(torch.allclose(got[:, :2], plain[:, :2], atol=1e-6) and torch.allclose(got[:, 2:], want(self.q, self.k, self.v)[:, 2:], atol=1e-6))
        with self.assertRaisesRegex(NotImplementedError, "-inf as a weight"):
            weft.from_python(weight=lambda b, h, i, j: torch.where(i >= j, 1.0, -float("inf"))).source

    def test_what_a_variant_of_python_says_of_itself(self):
        slope, doc = torch.rand(4), torch.zeros(120, dtype=torch.int64)
        own = weft.from_python(score=lambda s, b, h, i, j: s - slope[h] * (i - j), where=lambda b, h, i, j: (i >= j) & (doc[i] == doc[j]), name="mine")
        # One tensor, read at queries and at keys.
        self.assertEqual([str(given) for given in own.inputs],
                         ["q: [B, H, T, D]", "k: [B, G, S, D]", "v: [B, G, S, E]", "slope: [H]", "doc: int [T]", "doc_2: int [S]"])
        self.assertTrue(all(isinstance(given, weft.Input) for given in own.inputs))
        self.assertEqual([given.gradient for given in own.inputs], [True] * 4 + [False] * 2)
        self.assertIn("<pre>attention mine(", own._repr_html_())
        self.assertIn("i &gt;= j", own._repr_html_())
        self.assertIn(".target sm_90a", own.compile("ptx", target="sm_90a", dtype=torch.bfloat16, head_dim=32))
        self.assertIn("attention mine(", own.compile("ast") + own.source)
        self.assertEqual(own.compile("tile", dtype="f32"), weft.variant(own.source).compile("tile", dtype="f32"))

    def test_products_of_rows(self):
        x, y = torch.randn(1, 4, 100, 16, requires_grad=True), torch.randn(1, 1, 100, 16, requires_grad=True)
        own = weft.from_python(score=lambda s, b, h, i, j: s + torch.dot(x[b, h, i], y[b, h // 4, j]) * 0.1, where=lambda b, h, i, j: i >= j)
        self.assertEqual([str(given) for given in own.inputs[3:]], ["x: [B, H, T, N0]", "y: [B, G, S, N0]"])
        self.assertTrue(own.inputs[3].row)
        scores = self.q @ self.k.transpose(-1, -2) / 32**0.5 + x @ y.transpose(-1, -2) * 0.1
        want = scores.masked_fill(~torch.ones(100, 100, dtype=torch.bool).tril(), -torch.inf).softmax(-1) @ self.v
        got = own(self.q, self.k, self.v)
        torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)
        for one, other in zip(*(torch.autograd.grad(out.square().sum(), (x, y)) for out in (got, want))):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)

    def test_names_of_what_is_captured(self):
        """By the names of variables, of attributes of objects and modules, and of entries of dictionaries."""
        class Bias(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.table = torch.nn.Parameter(torch.rand(4))
                self.register_buffer("offset", torch.rand(4))
                self.other = torch.rand(4)

            def score(self, s, b, h, i, j):
                return s + self.table[h] - self.offset[h] * self.other[h]

            def forward(self, s, b, h, i, j):
                return s + self.table[h]

        bias, held, names = Bias(), {"near": torch.rand(4), "far away": torch.rand(4)}, lambda own: [given.name for given in own.inputs[3:]]

        def partial(s, b, h, i, j, decay):
            return s * decay[h]

        for want, function in ((["table", "offset", "other"], bias.score), (["table"], bias), (["table", "other"], lambda s, b, h, i, j: s + bias.table[h] * bias.other[h]),
                               (["near", "far_away"], lambda s, b, h, i, j: s + held["near"][h] * held["far away"][h]),
                               (["decay"], functools.partial(partial, decay=torch.rand(4)))):
            own = weft.from_python(score=function)
            self.assertEqual(names(own), want)
            self.assertTrue(own(self.q, self.k, self.v).isfinite().all())

    def test_mistakes_in_calls_of_variants_of_python(self):
        slope = torch.rand(4)
        own = weft.from_python(score=lambda s, b, h, i, j: s - slope[h])
        for call in (own, own.decode, own.explain, own.mask, own.tune):
            with self.assertRaisesRegex(TypeError, "missing k and v: .* is called with q"):
                call(self.q)
        with self.assertRaisesRegex(TypeError, "missing q: "):
            own(k=self.k, v=self.v)
        with self.assertRaisesRegex(TypeError, "missing v: "):
            weft.attention(own, self.q, self.k)
        with self.assertRaisesRegex(TypeError, "unexpected slope: the functions capture it already"):
            own(self.q, self.k, self.v, slope=slope)
        with self.assertRaisesRegex(weft.Error, "no input is named 'spam'"):
            own(self.q, self.k, self.v, spam=slope)

    def test_explain_and_mask(self):
        own = weft.from_python(where=lambda b, h, i, j: (i >= j) & (i - j < 10))
        self.assertLess(own.explain(*(torch.zeros(1, 1, 1000, 16) for _ in range(3))).kept_share, 0.2)
        self.assertEqual(int(own.mask(self.q, self.k, self.v).kept[0].sum()), sum(min(i + 1, 10) for i in range(100)))

    def test_captured_parameters_train(self):
        """A decay that is learned back from another start."""
        true = weft.from_python(score=lambda s, b, h, i, j: s - 0.3 * (i - j).abs())(self.q, self.k, self.v)
        decay = torch.zeros(4, requires_grad=True)
        own = weft.from_python(score=lambda s, b, h, i, j: s - decay[h] * (i - j).abs())
        optimizer = torch.optim.Adam([decay], lr=0.05)
        for _ in range(40):
            optimizer.zero_grad()
            (own(self.q, self.k, self.v) - true).square().mean().backward()
            optimizer.step()
        self.assertTrue(((decay - 0.3).abs() < 0.1).all(), decay)
        self.assertTrue(math.isfinite(decay.sum().item()))


F = torch.nn.functional
# Of one number and another beside it: a function, and the least and the greatest number, among which the kinks are.
OPERATIONS = {
    "leaky_relu": (lambda x, y: F.leaky_relu(x) + F.leaky_relu(y, 0.25), -4, 4),
    "hardtanh": (lambda x, y: F.hardtanh(x) + F.hardtanh(y, -0.5, 2.0), -4, 4),
    "relu6": (lambda x, y: F.relu6(x), -8, 8),
    "hardswish": (lambda x, y: F.hardswish(x), -8, 8),
    "hardsigmoid": (lambda x, y: F.hardsigmoid(x), -8, 8, 1e-7),  # torch takes a sixth in float32
    "mish": (lambda x, y: F.mish(x), -30, 30),
    "selu": (lambda x, y: F.selu(x), -20, 20),
    "celu": (lambda x, y: F.celu(x) + F.celu(y, 0.5), -10, 10),
    "elu": (lambda x, y: F.elu(x) + F.elu(y, 0.5), -10, 10),
    "silu": (lambda x, y: F.silu(x), -30, 30),
    "softplus": (lambda x, y: F.softplus(x) + F.softplus(x, 2.0) + F.softplus(y, 0.5, 1.0), -9, 9),
    "softsign": (lambda x, y: F.softsign(x), -50, 50),
    "tanhshrink": (lambda x, y: F.tanhshrink(x), -16, 16),
    "softshrink": (lambda x, y: F.softshrink(x) + F.softshrink(y, 1.0), -4, 4),
    "hardshrink": (lambda x, y: F.hardshrink(x) + F.hardshrink(y, 1.0), -4, 4),
    "threshold": (lambda x, y: F.threshold(x, 0.5, -2.0), -4, 4),
    "logsigmoid": (lambda x, y: F.logsigmoid(x), -30, 30),
    "square": (lambda x, y: torch.square(x) + y.square(), -4, 4),
    "rsqrt": (lambda x, y: torch.rsqrt(x) + torch.reciprocal(y), 0.25, 4),
    "sinc": (lambda x, y: torch.sinc(x), -8, 8),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3) + x.lerp(y, 0.75) + torch.lerp(x, y, y), -4, 4),
    "addcmul": (lambda x, y: torch.addcmul(x, y, x) + torch.addcmul(y, x, x, value=0.3), -4, 4),
    "addcdiv": (lambda x, y: torch.addcdiv(x, y, x) + torch.addcdiv(y, x, y, value=-0.5), 1, 9),
    "logaddexp": (lambda x, y: torch.logaddexp(x, y) + torch.logaddexp(x, x), -40, 40),
    "hypot": (lambda x, y: torch.hypot(x, y) + x.hypot(y * 3), 1, 9),
    "logit": (lambda x, y: torch.logit(x) + torch.special.logit(y, 0.25), 0.03125, 0.96875),
    "asinh": (lambda x, y: torch.asinh(x), -40, 40),
    "atanh": (lambda x, y: torch.atanh(x), -0.96875, 0.96875),
    "expm1": (lambda x, y: torch.expm1(x) + torch.special.expm1(y * 0.01), -8, 4),
    "log10": (lambda x, y: torch.log10(x), 0.25, 4),
    "angles": (lambda x, y: torch.deg2rad(x) + torch.rad2deg(y), -400, 400),
    "frac": (lambda x, y: torch.frac(x) + torch.trunc(y) * 0.5 + torch.sign(x), -4, 4),
    "clamps": (lambda x, y: torch.clamp_min(x, -1) + torch.clamp_max(y, 1.5), -4, 4),
    "not finite": (lambda x, y: torch.where(torch.isinf(1 / x) | torch.isnan(torch.log(y)), x * 2, y) + torch.isfinite(torch.log(y)).float() + torch.isfinite(x).float(), -4, 4),
    "nan_to_num": (lambda x, y: torch.nan_to_num(x) + torch.nan_to_num(torch.where(y > 1, y, torch.log(torch.full_like(y, -1.0))), 0.5), -4, 4),
    "nan_to_num of infinities": (lambda x, y: torch.nan_to_num(1 / x, 0.0, 7.0, -7.0), -4, 4),
    "logical": (lambda x, y: torch.logical_xor(x > 1, y > 1).float() + torch.logical_and(x > 0, y > 0).to(x.dtype) * x, -4, 4),
}


class Operations(unittest.TestCase):
    """Functions of numbers against torch's in float64, values and derivatives: the score of one key is the function itself."""

    def test_of_ints(self):
        def function(i, j, table):
            half = torch.tensor(0.5)
            return (table[F.relu6(i - 3) + F.hardtanh(j, 1, 3)] + torch.addcmul(i, j, i) + F.softsign(i - j) + torch.sinc(j) + torch.heaviside((i - j).float(), half)
                    + torch.heaviside(i - j, j) + F.threshold(i, 4, 7) + torch.nan_to_num(i) + torch.isfinite(i) * 2 - torch.isinf(j).int())

        table = torch.rand(10)
        own = weft.from_python(score=lambda s, b, h, i, j: function(i, j, table), normalize="none")
        got = own(torch.zeros(1, 1, 20, 16), torch.zeros(1, 1, 9, 16), torch.eye(9)[None, None])[0, 0]
        want = torch.tensor([[function(torch.tensor(i), torch.tensor(j), table).item() for j in range(9)] for i in range(20)])
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-6)

    def compare(self, dtype, function, least, most, tolerance=1e-13):
        torch.manual_seed(2)
        points = 64
        x = torch.linspace(least, most, points + 1, dtype=torch.float64)[:points]
        y = x[torch.randperm(points)]
        cotangent = torch.randn(points, dtype=torch.float64)

        def run(call, type):
            leaves = [own.to(type).requires_grad_() for own in (x, y)]
            out = call(*leaves)
            gradients = torch.autograd.grad(out, leaves, cotangent.to(out.dtype), allow_unused=True, materialize_grads=True)
            return [own.double() for own in (out.detach(), *gradients)]

        def ours(x, y):
            own = weft.from_python(score=lambda s, b, h, i, j: function(x[i], y[i]), normalize="none")
            q, k = (torch.zeros(1, 1, size, 16, dtype=dtype) for size in (points, 1))
            return own(q, k, torch.ones(1, 1, 1, 8, dtype=dtype))[0, 0, :, 0]

        for what, exact, peer, own in zip(("value", "gradient", "gradient of the other"), run(function, torch.float64), run(function, dtype), run(ours, dtype)):
            with self.subTest(what):
                finite = exact.isfinite()
                self.assertTrue(torch.equal(own.isfinite(), finite), own)
                exact, peer, own = exact[finite], peer[finite], own[finite]
                if dtype == torch.float64:
                    self.assertLess(((own - exact).abs() / (exact.abs() + 0.1)).max().item(), tolerance)
                else:
                    self.assertLessEqual((own - exact).norm().item(), 2 * (peer - exact).norm().item() + 4 * 2**-24 * exact.norm().item())


for _name, _case in OPERATIONS.items():
    for _dtype in (torch.float32, torch.float64):
        setattr(Operations, f"test_{_name.replace(' ', '_')}_{str(_dtype)[6:]}", lambda self, case=_case, dtype=_dtype: self.compare(dtype, *case))


if __name__ == "__main__":
    unittest.main()
