"""What PyTorch does with functions, done with attention: torch.func, torch.compile, export, checkpoints, counting of FLOPs."""

import os
import tempfile
import unittest
import warnings
from unittest import mock

# Graphs that torch.compile keeps call the operator's inner passes of the build they were made with.
kept_graphs = tempfile.TemporaryDirectory()
os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept_graphs.name

import torch
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap

import weft


def alibi(q, k, v, slope):
    """By PyTorch's math."""
    distance = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])
    k, v = (own.repeat_interleave(q.shape[1] // own.shape[1], 1) for own in (k, v))
    s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 - slope[:, None, None] * distance
    return s.masked_fill(distance < 0, -1e30).softmax(-1) @ v


def own(q, k, v, slope):
    return weft.attention("alibi", q, k, v, slope=slope)


class Func(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.x = torch.randn(2, 4, 30, 16), torch.randn(2, 2, 30, 16), torch.randn(2, 2, 30, 16), torch.rand(4)

    def near(self, got, want, tolerance=1e-4):
        for a, b in zip(got if isinstance(got, tuple) else (got,), want if isinstance(want, tuple) else (want,)):
            self.assertEqual(a.shape, b.shape)
            self.assertLess((a - b).abs().max().item(), tolerance * max(1, b.abs().max().item()))

    def both(self, transform, *arguments):
        self.near(transform(own)(*arguments), transform(alibi)(*arguments))

    def test_grad(self):
        self.both(lambda f: grad(lambda *x: f(*x).square().sum(), (0, 1, 2, 3)), *self.x)

    def test_vjp(self):
        cotangent = torch.randn(2, 4, 30, 16)
        self.both(lambda f: lambda *x: vjp(f, *x)[1](cotangent), *self.x)

    def test_vmap_computes_samples_together(self):
        from weft import _functional

        with mock.patch.object(_functional, "_one_by_one", side_effect=AssertionError("one call a sample")):
            slopes = torch.rand(4)
            samples = [own[None].expand(3, *own.shape) for own in self.x[:3]]
            vmap(own, (0, 0, 0, None))(*samples, slopes)
            vmap(grad(lambda *x: weft.attention("causal", *x).square().sum(), (0, 1, 2)))(*samples)

    def test_vmap(self):
        q, k, v, slope = self.x
        many = torch.randn(3, *q.shape)
        self.both(lambda f: vmap(f, (0, None, None, None)), many, k, v, slope)
        self.both(lambda f: vmap(f, (None, None, 1, None)), q, k, torch.randn(2, 5, 2, 30, 16), slope)  # another dim
        self.both(lambda f: vmap(f, (None, None, None, 0)), q, k, v, torch.rand(3, 4))  # no batch entries: one by one
        self.both(lambda f: vmap(vmap(f, (0, None, None, None)), (0, None, None, None)), torch.randn(2, 3, *q.shape), k, v, slope)

    def test_gradients_of_samples(self):
        q, k, v, slope = self.x
        many = torch.randn(3, *q.shape)
        self.both(lambda f: vmap(grad(lambda *x: f(*x).square().sum(), (0, 1, 2, 3)), (0, None, None, None)), many, k, v, slope)
        causal = lambda q, k, v: weft.attention("causal", q, k, v)
        want = lambda q, k, v: alibi(q, k, v, torch.zeros(4))
        take = lambda f: vmap(grad(lambda *x: f(*x).square().sum(), (0, 1, 2)), (0, 0, None))
        self.near(take(causal)(many, torch.randn(3, *k.shape), v)[0].shape and take(causal)(many, k.expand(3, *k.shape), v), take(want)(many, k.expand(3, *k.shape), v))

    def test_jacobian(self):
        q, k, v, slope = (own[:1, :, :6] if own.dim() == 4 else own for own in self.x)
        self.both(lambda f: jacrev(lambda q: f(q, k, v, slope)), q)

    def test_log_sum_exp(self):
        q, k, v, slope = self.x
        got = grad(lambda slope: weft.attention("alibi", q, k, v, slope=slope, lse=True)[1].sum())(slope)
        distance = torch.arange(30)[:, None] - torch.arange(30)
        want = grad(lambda slope: (q @ k.repeat_interleave(2, 1).transpose(-1, -2) / 4 - slope[:, None, None] * distance).masked_fill(distance < 0, -1e30).logsumexp(-1).sum())(slope)
        self.near(got, want)

    def test_flex_attention(self):
        q, k, v, slope = self.x
        flex = lambda q, k, v, slope: weft.flex_attention(q, k, v, lambda s, b, h, i, j: torch.where(i >= j, s - slope[h] * (i - j), -float("inf")), enable_gqa=True)
        self.near(grad(lambda *x: flex(*x).square().sum(), (0, 3))(*self.x), grad(lambda *x: alibi(*x).square().sum(), (0, 3))(*self.x))
        self.near(vmap(flex, (0, None, None, None))(torch.stack([q, 2 * q]), k, v, slope), torch.stack([alibi(q, k, v, slope), alibi(2 * q, k, v, slope)]))

    def test_samples_keep_their_own_numbers(self):
        """Where an expression uses the number of a batch entry, samples are no entries of one batch."""
        q, k, v, _ = self.x
        many = torch.stack([q, q + 1, 2 * q])
        flex = lambda q: weft.flex_attention(q, k, v, lambda s, b, h, i, j: s + b * j * 0.1, enable_gqa=True)
        self.near(vmap(flex)(many), torch.stack([flex(own) for own in many]))
        table = torch.randn(4)
        flex = lambda q: weft.flex_attention(q, k, v, lambda s, b, h, i, j: s + table[b * 2] * j, enable_gqa=True)
        self.near(vmap(grad(lambda q: flex(q).square().sum()))(many), torch.stack([grad(lambda q: flex(q).square().sum())(own) for own in many]))

    def test_sizes_of_one(self):
        text = "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], bias: [B, H, T, S]) { score dot(q[i], k[j]) / sqrt(D) + bias[i, j] }"
        q, k, v, _ = self.x
        k, v, bias = k[:1], v[:1], torch.randn(1, 1, q.shape[2], k.shape[2])
        loss = lambda bias, k: weft.attention(text, q, k, v, bias=bias).square().sum()
        leaves = [bias.clone().requires_grad_(), k.clone().requires_grad_()]
        want = torch.autograd.grad(loss(*leaves), leaves)
        for got, own in zip(grad(loss, (0, 1))(bias, k), want):
            self.near(got, own)

    def test_what_there_is_not(self):
        with self.assertRaisesRegex(RuntimeError, "second derivative of attention is not supported"):
            grad(lambda q: grad(lambda q: own(q, *self.x[1:]).sum())(q).sum())(self.x[0])
        with self.assertRaisesRegex(RuntimeError, "forward mode AD"):
            jvp(lambda q: own(q, *self.x[1:]), self.x[:1], self.x[:1])


class Layer(torch.nn.Module):
    def __init__(self, heads=4, width=64):
        super().__init__()
        self.heads, self.qkv, self.out = heads, torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.span, self.slope = torch.nn.Parameter(torch.full((heads,), 20.0)), torch.nn.Parameter(torch.linspace(0.1, 0.4, heads))
        self.variant = weft.from_python(score=lambda s, b, h, i, j: s - self.slope[h] * (i - j).abs())

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out((weft.attention("adaptive_span", q, k, v, span=self.span) + self.variant(q, k, v)).transpose(1, 2).flatten(2))


class Models(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.layer, self.x = Layer(), torch.randn(2, 50, 64)

    def gradients(self, function):
        self.layer.zero_grad()
        function(self.x).square().sum().backward()
        return [own.grad.clone() for own in self.layer.parameters()]

    def same(self, function, tolerance=1e-4):
        for got, want in zip(self.gradients(function), self.gradients(self.layer)):
            self.assertLess((got - want).abs().max().item(), tolerance * max(1, want.abs().max().item()))

    def test_compiled_without_a_graph_break(self):
        self.same(torch.compile(self.layer, fullgraph=True))

    def test_checkpoints(self):
        self.same(lambda x: torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=False))
        self.same(lambda x: torch.utils.checkpoint.checkpoint(self.layer, x.requires_grad_(), use_reentrant=True))

    def test_export(self):
        with torch.no_grad():
            exported = torch.export.export(self.layer, (self.x,), dynamic_shapes=({1: torch.export.Dim("length", min=2, max=512)},))
            self.assertTrue(torch.allclose(exported.module()(self.x), self.layer(self.x), atol=1e-6))
            longer = torch.randn(2, 77, 64)
            self.assertTrue(torch.allclose(exported.module()(longer), self.layer(longer), atol=1e-6))

    def test_traced(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with torch.no_grad():
                traced = torch.jit.trace(self.layer, (self.x,))
                for x in (self.x, torch.randn(2, 77, 64)):
                    self.assertTrue(torch.equal(traced(x), self.layer(x)))
            self.same(torch.jit.trace(self.layer, (self.x,)))

    def test_compiled_ahead_of_time(self):
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            exported = torch.export.export(self.layer, (self.x,), dynamic_shapes=({1: torch.export.Dim("length", min=2, max=512)},))
            path = torch._inductor.aoti_compile_and_package(exported, package_path=os.path.join(folder, "layer.pt2"))
            compiled = torch._inductor.aoti_load_package(path)
            for x in (self.x, torch.randn(2, 77, 64)):
                self.assertTrue(torch.allclose(compiled(x), self.layer(x), atol=1e-5))

    def test_per_sample_gradients_of_a_model(self):
        parameters = dict(self.layer.named_parameters())
        loss = lambda parameters, x: functional_call(self.layer, parameters, (x[None],)).square().sum()
        got = vmap(grad(loss), (None, 0))(parameters, self.x)
        for at in range(2):
            want = grad(loss)(parameters, self.x[at])
            for name in parameters:
                self.assertTrue(torch.allclose(got[name][at], want[name], atol=1e-4), name)

    def test_counted_flops(self):
        from torch.utils.flop_counter import FlopCounterMode

        q, k, v = (torch.randn(1, 2, 1024, width, requires_grad=True) for width in (32, 32, 48))
        kept = weft.variant("sliding_window").explain(q, k, v, window=64)
        # A pair takes products of 32 and of 48: q k' and p v; then q k', dq and dk, do v' and dv.
        self.assertEqual(kept.flops * (3 * 32 + 2 * 48), kept.backward_flops * (32 + 48))
        with FlopCounterMode(display=False) as counter:
            out = weft.attention("sliding_window", q, k, v, window=64)
        self.assertEqual(counter.get_total_flops(), kept.flops)
        with FlopCounterMode(display=False) as counter:
            out.sum().backward()
        self.assertEqual(counter.get_total_flops(), kept.backward_flops)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            weft.attention("sliding_window", q, k, v, window=64)
        self.assertEqual(counter.get_total_flops(), kept.flops)


if __name__ == "__main__":
    unittest.main()
