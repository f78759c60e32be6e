"""The operator's way for CUDA tensors from dispatch to launch, on a fake GPU of compute capability 8.6 (fake_gpu.cpp) whose driver
executes PTX on the emulator: equal to the CPU, and what is special to GPUs."""

import os
import unittest

import torch

from test_decode import newest
from test_variants import REFERENCE, ROWS, make

WITHOUT = None if "WEFT_FAKE_GPU" in os.environ else "no fake GPU: ctest brings one"
if not WITHOUT:
    torch.ops.load_library(os.environ["WEFT_FAKE_GPU"])
weft, fake = torch.ops.weft, torch.ops.fake_gpu
QKV = ["q", "k", "v"]


def tensors(name, dtype=torch.float32, B=1, H=2, G=1, T=70, D=32):
    x = make(name, B, H, G, T, T, D)
    return {n: t.to(dtype) if n in ROWS else t.float() if t.is_floating_point() else t for n, t in x.items()}


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

    def test_deterministic_mode(self):
        def gradient(name):
            x = {n: fake.on(t) for n, t in tensors(name, T=20).items()}
            o, lse = weft._forward_keeping_rows(name, list(x), list(x.values()))
            weft._backward_from_rows(name, list(x), list(x.values()), o, lse, o, None)
        torch.use_deterministic_algorithms(True)
        try:
            gradient("causal")
            gradient("adaptive_span")
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
