"""The operator's way for CUDA tensors from dispatch to launch, on a fake GPU of compute capability 8.6 (fake_gpu.cpp) whose driver
executes PTX on the emulator: equal to the CPU, and what is special to GPUs."""

import os
import unittest

import torch

from criterion import rounded
from test_decode import newest
from test_variants import REFERENCE, make

WITHOUT = None if "WEFT_FAKE_GPU" in os.environ else "no fake GPU: ctest brings one"
if not WITHOUT:
    torch.ops.load_library(os.environ["WEFT_FAKE_GPU"])
weft, fake = torch.ops.weft, torch.ops.fake_gpu
QKV = ["q", "k", "v"]


def tensors(name, dtype=torch.float32, B=1, H=2, G=1, T=70, D=32):
    return rounded(make(name, B, H, G, T, T, D), dtype)


@unittest.skipIf(WITHOUT, WITHOUT)
class FakeGpu(unittest.TestCase):
    def both(self, name, x, tolerance):
        """Output and gradients on the CPU and on the GPU. Without autograd, whose engine wants a true GPU for CUDA tensors."""
        torch.manual_seed(5)
        cotangent = torch.randn(*x["q"].shape[:3], x["v"].shape[3]).to(x["q"].dtype)
        results = []
        for place in (lambda t: t.clone(), fake.on):
            values = {n: place(t) for n, t in x.items()}
            if name == "block_sparse":
                values["selection"] = weft.select(name, list(values), list(values.values()))
            o, lse = weft._forward_keeping_rows(name, list(values), list(values.values()))
            self.assertEqual(o.device, values["q"].device)
            gradients = weft._backward_from_rows(name, list(values), list(values.values()), o, lse, place(cotangent), None)
            results.append([o] + [gradient for gradient in gradients if gradient.numel()])
        for a, b in zip(*results):
            b = fake.off(b).double()
            self.assertLess((a.double() - b).abs().max().item(), tolerance * max(1, b.abs().max().item()), name)

    def test_forward_and_backward(self):
        for name in ("causal", "span_periodic", "relative_bias", "gathered", "block_sparse"):
            with self.subTest(name):
                fake.record()
                self.both(name, tensors(name), 1e-4)
                self.assertIn("launch weft_", fake.record())

    def test_decode(self):
        for name in ("causal", "adaptive_span"):
            x = newest(name, tensors(name))
            want = weft.decode(name, list(x), list(x.values()))
            got = weft.decode(name, list(x), [fake.on(t) for t in x.values()])
            self.assertTrue(got.is_cuda)
            self.assertLess((fake.off(got) - want).abs().max().item(), 1e-5)

    def test_wide_integers_are_the_nearest(self):
        """No look at the values: it would have to be waited for."""
        x = tensors("sliding_window")
        for window, same in ((2**40, 2**31 - 1), (-2**40, -2**31), (2**31 - 1, 2**31 - 1)):
            got = weft.attention("sliding_window", list(x), [fake.on(t) for t in (x | {"window": torch.tensor(window)}).values()])
            want = weft.attention("sliding_window", list(x), list((x | {"window": torch.tensor(same)}).values()))
            self.assertLess((fake.off(got) - want).abs().max().item(), 1e-5)

    def captured(self, run):
        fake.capture()
        try:
            return run()
        finally:
            fake.end()

    def test_what_a_graph_cannot_hold_is_refused(self):
        x = fake.on(torch.ones(3))
        for look in (lambda: x.sum().item(), lambda: x.cpu(), lambda: x.copy_(torch.zeros(3))):
            with self.assertRaisesRegex(RuntimeError, "not permitted when stream is capturing"):
                self.captured(look)

    def test_graphs(self):
        """Forward and backward are captured without a look at a value, and a replay reads what the inputs hold by then."""
        for name in ("causal", "span_periodic", "sliding_window", "relative_bias", "block_sparse", "anchor"):
            with self.subTest(name):
                x = tensors(name, T=40, D=16)
                values = {n: fake.on(t) for n, t in x.items()}

                def run(own):
                    if name in ("block_sparse", "anchor"):
                        own = own | {"selection": weft.select(name, list(own), list(own.values()))}
                    o, rows = weft._forward_keeping_rows(name, list(own), list(own.values()))
                    return [o] + [g for g in weft._backward_from_rows(name, list(own), list(own.values()), o, rows, o, None) if g.numel()]

                results = self.captured(lambda: run(values))
                x["q"] = torch.randn_like(x["q"])
                values["q"].copy_(x["q"])
                fake.replay()
                for got, want in zip(results, run(x)):
                    self.assertLess((fake.off(got) - want).abs().max().item(), 1e-4 * max(1, want.abs().max().item()))

    def test_dropout_in_graphs(self):
        """Each replay drops other pairs, the same ones forward and backward: the seed is drawn and read on the device."""
        text = "attention d(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { score dot(q[i], k[j]) dropout 0.25 }"
        x = tensors("causal", T=40, D=16)
        values = {n: fake.on(t) for n, t in x.items()}
        names, seeded = list(x), list(x) + ["seed"]
        out = self.captured(lambda: weft.attention(text, names, list(values.values())))
        seen = [fake.off(out)]
        for _ in range(3):
            fake.replay()
            seen.append(fake.off(out))
        for a in range(4):
            for b in range(a):
                self.assertGreater((seen[a] - seen[b]).abs().max().item(), 1e-2)

        def run(values, seed):
            list_ = list(values.values()) + [seed]
            o, rows = weft._forward_keeping_rows(text, seeded, list_)
            return [o] + [g for g in weft._backward_from_rows(text, seeded, list_, o, rows, o, None) if g.numel()]

        zero = fake.on(torch.zeros(2, dtype=torch.int64))

        def drawn():
            seed = torch.randint_like(zero, 2**31 - 1)
            return seed, run(values, seed)

        seed, results = self.captured(drawn)
        for _ in range(2):
            before = fake.off(seed)
            fake.replay()
            self.assertFalse(torch.equal(before, fake.off(seed)))
            for got, want in zip(results, run(x, fake.off(seed))):
                self.assertLess((fake.off(got) - want).abs().max().item(), 1e-4 * max(1, want.abs().max().item()))

    def test_decode_in_a_graph(self):
        x = newest("causal", tensors("causal"))
        values = [fake.on(t) for t in x.values()]
        got = self.captured(lambda: weft.decode("causal", list(x), values))
        x["q"] = torch.randn_like(x["q"])
        values[0].copy_(x["q"])
        fake.replay()
        self.assertLess((fake.off(got) - weft.decode("causal", list(x), list(x.values()))).abs().max().item(), 1e-5)

    def test_current_stream(self):
        """All is launched and allocated on the current stream, so torch's allocator orders the reuse of what a call leaves behind."""
        x = {n: fake.on(t) for n, t in tensors("span_periodic", T=20).items()}
        fake.record()
        fake.stream(7)
        try:
            o, rows = weft._forward_keeping_rows("span_periodic", list(x), list(x.values()))
            weft._backward_from_rows("span_periodic", list(x), list(x.values()), o, rows, o, None)
        finally:
            fake.stream(0)
        launched = [line for line in fake.record().splitlines() if line.startswith("launch")]
        self.assertGreater(len(launched), 3)
        for line in launched:
            self.assertTrue(line.endswith(" stream 7"), line)

    def test_deterministic_mode(self):
        def gradient(name):
            x = {n: fake.on(t) for n, t in tensors(name, T=20).items()}
            o, lse = weft._forward_keeping_rows(name, list(x), list(x.values()))
            weft._backward_from_rows(name, list(x), list(x.values()), o, lse, o, None)
        torch.use_deterministic_algorithms(True)
        try:
            gradient("causal")
            gradient("adaptive_span")
            gradient("stick_breaking")
            with self.assertRaisesRegex(RuntimeError, "gradient of 'bias' of weft variant 'relative_bias' on a GPU does not have a deterministic"):
                gradient("relative_bias")
            with self.assertRaisesRegex(RuntimeError, "gradient of 'k' of weft variant 'gathered'"):
                gradient("gathered")
            torch.use_deterministic_algorithms(True, warn_only=True)
            gradient("relative_bias")   # with a warning, on stderr
        finally:
            torch.use_deterministic_algorithms(False)


if __name__ == "__main__":
    unittest.main()
