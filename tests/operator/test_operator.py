"""The LibTorch operator as PyTorch users meet it: autograd, opcheck, compile, autocast, errors."""

import math
import os
import tempfile
import unittest

# Graphs that torch.compile keeps call the operator's inner passes of the build they were made with.
kept_graphs = tempfile.TemporaryDirectory()
os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept_graphs.name

import torch

torch.ops.load_library(os.environ["WEFT_LIBRARY"])
attention = torch.ops.weft.attention
with_lse = torch.ops.weft.attention_with_lse
QKV = ["q", "k", "v"]


def inputs(B=1, H=2, T=70, S=None, D=32, G=None, dtype=torch.float32, grad=True):
    torch.manual_seed(1)
    S, G = S or T, G or H
    make = lambda h, n: torch.randn(B, h, n, D).to(dtype).requires_grad_(grad)
    return [make(H, T), make(G, S), make(G, S)]


class Operator(unittest.TestCase):
    def test_agrees_with_pytorch(self):
        q, k, v = inputs(2, 4, 90, D=64, G=2)
        out = attention("causal", QKV, [q, k, v])
        want = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        torch.testing.assert_close(out, want, atol=2e-6, rtol=2e-5)
        grad = torch.randn_like(out)
        for got, ref in zip(torch.autograd.grad(out, [q, k, v], grad), torch.autograd.grad(want, [q, k, v], grad)):
            torch.testing.assert_close(got, ref, atol=5e-6, rtol=5e-5)

    def test_opcheck(self):
        for dtype in (torch.float32, torch.bfloat16):
            q, k, v = inputs(dtype=dtype)
            for op in (attention.default, with_lse.default):
                torch.library.opcheck(op, ("causal", QKV, [q, k, v]))
            span = torch.tensor([20.0, 40.0], requires_grad=True)
            torch.library.opcheck(attention.default, ("adaptive_span", QKV + ["span"], [q, k, v, span]))

    def test_lse_and_its_gradient(self):
        q, k, v = inputs(T=40)
        o, lse = with_lse("causal", QKV, [q, k, v])
        # In float64: torch's float32 logsumexp is now and then off by 4e-5.
        x, y, z = (t.detach().double().requires_grad_() for t in (q, k, v))
        scores = (x @ y.transpose(-1, -2) / math.sqrt(32)).masked_fill(torch.ones(40, 40).triu(1).bool(), -math.inf)
        want = scores.logsumexp(-1)
        torch.testing.assert_close(lse.double(), want, atol=2e-6, rtol=0)
        grad_o, grad_l = torch.randn_like(o), torch.randn_like(lse)
        got = torch.autograd.grad([o, lse], [q, k, v], [grad_o, grad_l])
        ref = torch.autograd.grad([scores.softmax(-1) @ z, want], [x, y, z], [grad_o.double(), grad_l.double()])
        for a, b in zip(got, ref):
            torch.testing.assert_close(a.double(), b, atol=5e-6, rtol=0)

    def test_kinks(self):
        """Arguments that are often equal, and bounds the wrong way round: there the derivative is PyTorch's."""
        # PyTorch's own gradient of clamp fails where bounds are broadcast.
        clamp = lambda *tensors: torch.clamp(*torch.broadcast_tensors(*tensors))
        functions = {"min(x[i], y[j])": lambda x, y, z: torch.minimum(x, y), "max(y[j], z[h])": lambda x, y, z: torch.maximum(y, z),
                     "clamp(x[i], y[j], z[h])": lambda x, y, z: clamp(x, y, z), "clamp(z[h], x[i], y[j])": lambda x, y, z: clamp(z, x, y),
                     "clamp(y[j], -1, 1)": lambda x, y, z: y.clamp(-1, 1), "abs(x[i]) * relu(z[h])": lambda x, y, z: x.abs() * z.relu(),
                     "clamp(x[i], 1, y[j]) + clamp(x[i], y[j], 1)": lambda x, y, z: clamp(x, torch.ones_like(x), y) + clamp(x, y, torch.ones_like(x))}
        q, k, v = (t.double() for t in inputs(1, 5, 40, D=16, grad=False))
        grid = [torch.arange(n, dtype=torch.float64) % 5 - 2 for n in (40, 40, 5)]
        for text, function in functions.items():
            with self.subTest(text):
                leaves = [t.clone().requires_grad_() for t in (q, k, v, *grid)]
                more = function(leaves[3][None, :, None], leaves[4][None, None], leaves[5][:, None, None])
                want = (leaves[0] @ leaves[1].transpose(-1, -2) / 4 + more).softmax(-1) @ leaves[2]
                cotangent = torch.linspace(-1, 1, want.numel(), dtype=torch.float64).view_as(want).sin()
                ref = torch.autograd.grad(want, leaves, cotangent, allow_unused=True)
                single = [t.detach().float().requires_grad_() for t in leaves]
                out = attention("attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], x: [T], y: [S], z: [H]) { score dot(q[i], k[j]) / sqrt(D) + " + text + " }",
                                QKV + ["x", "y", "z"], single)
                for name, got, wanted in zip("qkvxyz", torch.autograd.grad(out, single, cotangent.float()), ref):
                    torch.testing.assert_close(got.double(), torch.zeros_like(got).double() if wanted is None else wanted, atol=2e-5, rtol=1e-4, msg=lambda m: f"{name}: {m}")

    def test_compile(self):
        q, k, v = inputs()
        function = lambda q, k, v: (attention("causal", QKV, [q * 2, k, v]) + 1).square().sum()
        ref = torch.autograd.grad(function(q, k, v), [q, k, v])
        for backend in ("aot_eager", "inductor"):
            compiled = torch.compile(function, fullgraph=True, backend=backend)
            got = torch.autograd.grad(compiled(q, k, v), [q, k, v])
            for a, b in zip(got, ref):
                torch.testing.assert_close(a, b)

    def test_no_grad_and_partial_grad(self):
        q, k, v = inputs()
        with torch.no_grad():
            self.assertFalse(attention("causal", QKV, [q, k, v]).requires_grad)
        out = attention("causal", QKV, [q.detach(), k, v.detach()])
        (gradient,) = torch.autograd.grad(out.sum(), [k])
        self.assertEqual(gradient.shape, k.shape)

    def test_no_graph_where_no_gradient_is_asked_for(self):
        q, k, v = inputs(grad=False)
        self.assertIsNone(attention("causal", QKV, [q, k, v]).grad_fn)
        self.assertIsNotNone(attention("causal", QKV, [q, k.clone().requires_grad_(), v]).grad_fn)
        # A tangent is refused, not lost.
        with torch.autograd.forward_ad.dual_level(), self.assertRaisesRegex(RuntimeError, "jvp is not implemented"):
            attention("causal", QKV, [torch.autograd.forward_ad.make_dual(q, q), k, v])

    def test_few_queries_have_the_bits_of_many(self):
        """Their tiles are smaller."""
        q, k, v = inputs(T=70, grad=False)
        for name, more in (("causal", []), ("adaptive_span", [torch.full((2,), 6.5)])):
            names = QKV + ["span"][:len(more)]
            whole = attention(name, names, [q, k, v, *more])
            for T in (1, 5, 16):
                few = attention(name, names, [t[:, :, :T] for t in (q, k, v)] + more)
                self.assertTrue(torch.equal(few, whole[:, :, :T]), (name, T))

    def test_autocast(self):
        q, k, v = inputs()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = attention("causal", QKV, [q, k, v])
        self.assertEqual(out.dtype, torch.bfloat16)
        self.assertEqual(torch.autograd.grad(out.sum(), q)[0].dtype, torch.float32)

    def test_no_lse_without_a_softmax(self):
        text = "attention %s(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E]) { score dot(q[i], k[j]) normalize %s }"
        for normalize in ("sigmoid", "none", "stick_breaking", "entmax15"):
            with self.assertRaisesRegex(RuntimeError, "'own': expected a softmax for a log-sum-exp"):
                with_lse(text % ("own", normalize), QKV, inputs())

    def test_strides(self):
        B, T, H, D = 2, 70, 3, 32
        packed = torch.randn(B, T, 3, H, D, requires_grad=True)
        views = [x.transpose(1, 2) for x in packed.unbind(2)]
        copies = [x.contiguous() for x in views]
        out, want = attention("causal", QKV, views), attention("causal", QKV, copies)
        torch.testing.assert_close(out, want, atol=0, rtol=0)
        transposed = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in copies]
        torch.testing.assert_close(attention("causal", QKV, transposed), want, atol=0, rtol=0)
        grad = torch.randn(B, T, H, D).transpose(1, 2)
        got = torch.autograd.grad(out, packed, grad)[0]
        ref = torch.autograd.grad(want, packed, grad.contiguous())[0]
        torch.testing.assert_close(got, ref, atol=0, rtol=0)

    def test_results_lie_as_the_inputs_do(self):
        B, T, H, D = 2, 70, 3, 32
        packed = torch.randn(B, T, 3, H, D, requires_grad=True)
        q, k, v = (x.transpose(1, 2) for x in packed.unbind(2))
        out, lse = with_lse("causal", QKV, [q, k, v])
        self.assertEqual(out.stride(), (T * H * D, D, H * D, 1))
        for row, grad in zip((q, k, v), torch.autograd.grad(out, [q, k, v], torch.randn_like(out))):
            self.assertEqual(grad.stride(), (T * H * D, D, H * D, 1))
            self.assertEqual(grad.shape, row.shape)
        self.assertEqual(out.transpose(1, 2).flatten(2).data_ptr(), out.data_ptr())
        # Each gradient as its own input.
        copy = k.detach().contiguous().requires_grad_()
        out = attention("causal", QKV, [q, copy, v])
        grads = torch.autograd.grad(out, [q, copy], torch.randn_like(out))
        self.assertEqual([grad.is_contiguous() for grad in grads], [False, True])
        self.assertTrue(attention("causal", QKV, [q.contiguous(), k, v]).is_contiguous())
        # What torch.compile is told of them.
        for op in (attention.default, with_lse.default):
            torch.library.opcheck(op, ("causal", QKV, [q.detach().requires_grad_(), copy, v.detach().requires_grad_()]))
        with torch.no_grad():
            shapes = attention("causal", QKV, [x.to("meta") for x in (q, k, v)])
        self.assertEqual(shapes.stride(), (T * H * D, D, H * D, 1))

    def test_sizes_of_one_are_broadcast(self):
        text = """attention biased(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], bias: [B, H, T, S], flag: bool [B, T, S]) {
          where flag[i, j]  score dot(q[i], k[j]) / sqrt(D) + bias[i, j] }"""
        torch.manual_seed(1)
        B, H, T, S = 3, 4, 50, 60
        q, v = torch.randn(B, H, T, 32, requires_grad=True), torch.randn(B, H, S, 32, requires_grad=True)
        k = torch.randn(1, H, S, 32, requires_grad=True)
        for shape, flag in (((1, 1, T, S), (1, T, S)), ((1, H, 1, S), (B, 1, S)), ((B, 1, T, 1), (1, T, S)), ((1, 1, 1, 1), (1, 1, 1))):
            bias, kept = torch.randn(shape, requires_grad=True), torch.rand(flag) < 0.9
            kept[..., :1] = True
            call = lambda: attention(text, QKV + ["bias", "flag"], [q, k, v, bias, kept])
            out = call()
            want = torch.nn.functional.scaled_dot_product_attention(q, k.expand(B, -1, -1, -1), v, (bias + torch.where(kept, 0, -torch.inf)[:, None]).expand(B, H, T, S))
            torch.testing.assert_close(out, want, atol=2e-6, rtol=2e-5)
            cotangent = torch.randn_like(out)
            for got, ref in zip(torch.autograd.grad(out, [q, k, v, bias], cotangent), torch.autograd.grad(want, [q, k, v, bias], cotangent)):
                self.assertEqual(got.shape, ref.shape)
                torch.testing.assert_close(got, ref, atol=2e-5, rtol=2e-4)
            with torch.inference_mode():
                torch.testing.assert_close(call(), want, atol=2e-6, rtol=2e-5)
            torch.testing.assert_close(torch.compile(call, fullgraph=True)(), want, atol=2e-6, rtol=2e-5)
        with self.assertRaisesRegex(RuntimeError, "expected dim G of input 'v' to be 1"):
            attention("causal", QKV, [q, k[:, :1], v])
        with self.assertRaisesRegex(RuntimeError, "expected dim D of input 'k' to be 32"):
            attention("causal", QKV, [q, k[..., :1], v])
        last = torch.ops.weft.decode("causal", QKV, [q[:, :, :1], k, v])
        torch.testing.assert_close(last, torch.nn.functional.scaled_dot_product_attention(q[:, :, :1], k.expand(B, -1, -1, -1), v), atol=2e-6, rtol=2e-5)
        self.assertIn('"kept"', torch.ops.weft.explain("causal", QKV, [q, k, v]))
        chosen = torch.ops.weft.select("block_sparse", QKV + ["tiles"], [q, k, v, torch.ones(H, dtype=torch.int64)])
        self.assertEqual(chosen.shape, (B, H, 1, 1))

    def test_same_bits_every_run_and_any_thread_count(self):
        q, k, v = inputs(2, 4, 200)
        span = torch.tensor([20.0, 40.0, 60.0, 80.0], requires_grad=True)
        before = torch.get_num_threads()
        results = []
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            out = attention("adaptive_span", QKV + ["span"], [q, k, v, span])
            results.append([out] + list(torch.autograd.grad(out.square().sum(), [q, k, v, span])))
        torch.set_num_threads(before)
        for other in results[1:]:
            for a, b in zip(results[0], other):
                self.assertTrue(torch.equal(a, b))

    def test_empty_dims(self):
        for B, T, S in ((0, 8, 8), (1, 0, 8), (1, 8, 0)):
            q, k, v = [torch.randn(B, 2, n, 16, requires_grad=True) for n in (T, S, S)]
            out = attention("causal", QKV, [q, k, v])
            self.assertEqual(out.shape, (B, 2, T, 16))
            self.assertEqual(out.abs().sum().item(), 0)
            out.sum().backward()

    def test_dropout(self):
        text = "attention d(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { score dot(q[i], k[j]) * 0 dropout 0.25 }"
        q, k, _ = inputs(T=128, D=32)
        v = torch.ones(1, 2, 128, 16, requires_grad=True)
        seed = torch.tensor([5, 0])
        call = lambda s: attention(text, QKV + ["seed"], [q, k, v, s])
        out = call(seed)
        self.assertTrue(torch.equal(out, call(seed)))
        self.assertFalse(torch.equal(out, call(torch.tensor([6, 0]))))
        self.assertAlmostEqual(out.mean().item(), 1.0, delta=0.02)
        self.assertGreater(out.std().item(), 0.005)
        # The backward pass drops the same pairs: dv is the column sum of what the forward pass used.
        (dv,) = torch.autograd.grad(out.sum(), v)
        basis = torch.eye(128).expand(1, 2, 128, 128).contiguous()
        kept = attention(text, QKV + ["seed"], [q, k, basis, seed])
        torch.testing.assert_close(dv[0, 0, :, 0], kept[0, 0].sum(0), atol=1e-5, rtol=1e-5)
        share = (kept == 0).float().mean().item()
        self.assertAlmostEqual(share, 0.25, delta=0.02)
        torch.manual_seed(3)
        first = attention(text, QKV, [q, k, v])
        torch.manual_seed(3)
        self.assertTrue(torch.equal(first, attention(text, QKV, [q, k, v])))

    def test_second_derivative_is_refused(self):
        q, k, v = inputs()
        with self.assertRaisesRegex(RuntimeError, "second derivative"):
            torch.autograd.grad(attention("causal", QKV, [q, k, v]).square().sum(), q, create_graph=True)

    def test_errors_name_the_input(self):
        q, k, v = inputs(grad=False)
        cases = [
            ("no variant or file 'nope'", "nope", QKV, [q, k, v]),
            ("expected input 'k'", "causal", ["q", "v"], [q, v]),
            ("as many names as tensors", "causal", QKV, [q, k]),
            ("no input is named 'x'", "causal", QKV + ["x"], [q, k, v, v]),
            ("'q' is given twice", "causal", QKV + ["q"], [q, k, v, q]),
            (r"expected input 'q' with the dims \[B, H, T, D\], got shape \[2, 70, 32\]", "causal", QKV, [q[0], k, v]),
            ("expected dim S of input 'v' to be 70 as in 'k'", "causal", QKV, [q, k, v[:, :, :-1]]),
            ("expected input 'k' of type f32 like 'v'", "causal", QKV, [q, k.half(), v]),
            ("expected float32, bfloat16, float16 or, on CPUs, float64", "causal", QKV, [q.int(), k.int(), v.int()]),
            ("expected G to divide H", "causal", QKV, [torch.cat([q, q[:, :1]], 1), k, v]),
            ("expected input 'doc' of an integer type", "document", QKV + ["doc", "key_doc"],
             [q, k, v, torch.zeros(1, 70), torch.zeros(1, 70)]),
            ("an index of a kept pair left its dim", "relative_bias", QKV + ["bias"], [q, k, v, torch.zeros(2, 10)]),
            ("unknown name 'oops'", "attention t(q: [B,H,T,D], v: [B,H,S,E]) { score oops }", ["q", "v"], [q, v]),
        ]
        for message, variant, names, tensors in cases:
            with self.subTest(message), self.assertRaisesRegex(RuntimeError, message):
                attention(variant, names, tensors)

    def test_memory_is_linear(self):
        # 16,384 squared logits of one head would be 1 GiB: this fits only where none are stored.
        def peak():
            with open("/proc/self/status") as file:
                return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        q, k, v = inputs(1, 1, 16384, D=16)
        window = torch.tensor(300, dtype=torch.int32)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = peak()
        attention("sliding_window", QKV + ["window"], [q, k, v, window]).sum().backward()
        grown = (peak() - before) / 1024
        self.assertLess(grown, 150, "MiB")


if __name__ == "__main__":
    unittest.main()
