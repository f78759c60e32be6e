"""float64 on CPUs: every library variant and function against eager PyTorch to its last digits, and gradcheck."""

import os
import subprocess
import sys
import unittest

import torch
from torch.autograd import gradcheck

from test_variants import REFERENCE, make, on_cpu

torch.ops.load_library(os.environ["WEFT_LIBRARY"])

# Largest difference, of the largest value: 150 terms of a sum, each rounded to 1e-16 a few times.
EXACT = 5e-14


def wide(x):
    return {name: own.double() if own.is_floating_point() else own for name, own in x.items()}


def evaluate(function, x):
    """o and the gradient of every float of x, under a cotangent that is always the same."""
    leaves = {name: own.clone().requires_grad_(own.is_floating_point()) for name, own in x.items()}
    floats = [name for name, own in leaves.items() if own.requires_grad]
    o = function(leaves)
    torch.manual_seed(1)
    gradients = torch.autograd.grad(o, [leaves[name] for name in floats], torch.randn_like(o), allow_unused=True)
    gradients = [torch.zeros_like(leaves[name]) if own is None else own for name, own in zip(floats, gradients)]
    return dict(zip(["o"] + floats, [o.detach()] + gradients))


def differences(got, want):
    return {name: ((got[name] - own).abs().max() / own.abs().max().clamp_min(1e-2)).item() for name, own in want.items()}


HEAD = "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], c: [H]) { score dot(q[i], k[j]) / sqrt(D) + "
# As the language has it, and the same of PyTorch: c [H, 1, 1], s [T, S] from -1 to 1.
FUNCTIONS = {
    "exp(c[h] * s)": lambda c, s: torch.exp(c * s), "exp2(c[h] * s)": lambda c, s: torch.exp2(c * s),
    "exp(c[h] * s - 600) * exp(600 + c[h])": lambda c, s: torch.exp(c * s - 600) * torch.exp(600 + c),
    "log(2 + c[h] * s)": lambda c, s: torch.log(2 + c * s), "log2(2 + c[h] * s)": lambda c, s: torch.log2(2 + c * s),
    "log1p(c[h] * s * 1e-9) * 1e9": lambda c, s: torch.log1p(c * s * 1e-9) * 1e9,
    "sqrt(2 + c[h] * s)": lambda c, s: torch.sqrt(2 + c * s), "rsqrt(2 + c[h] * s)": lambda c, s: torch.rsqrt(2 + c * s),
    "sin(9 * c[h] * s)": lambda c, s: torch.sin(9 * c * s), "cos(9 * c[h] * s)": lambda c, s: torch.cos(9 * c * s),
    "tan(c[h] * s)": lambda c, s: torch.tan(c * s), "tanh(3 * c[h] * s)": lambda c, s: torch.tanh(3 * c * s),
    "erf(2 * c[h] * s)": lambda c, s: torch.erf(2 * c * s), "sigmoid(5 * c[h] * s)": lambda c, s: torch.sigmoid(5 * c * s),
    "softplus(5 * c[h] * s)": lambda c, s: torch.nn.functional.softplus(5 * c * s, threshold=100),
    "relu(c[h] * s)": lambda c, s: torch.relu(c * s), "pow(2 + c[h] * s, 1.7)": lambda c, s: torch.pow(2 + c * s, 1.7),
    "triangle(c[h] * s)": lambda c, s: 4 * (c * s - torch.floor(c * s) - 0.5).abs() - 1,
    "clamp(c[h] * s, -0.1, 0.1)": lambda c, s: (c * s).clamp(-0.1, 0.1), "c[h] * s mod 0.3": lambda c, s: torch.remainder(c * s, 0.3),
    "0.1 * c[h] * s / 3": lambda c, s: 0.1 * c * s / 3,
}


def of_function(text, x):
    return torch.ops.weft.attention(HEAD + text.replace("* s", "* ((i - j) / 20)") + " }", list(x), list(x.values()))


def by_torch(function, x):
    T, S = x["q"].shape[2], x["k"].shape[2]
    s = (torch.arange(T, dtype=torch.float64)[:, None] - torch.arange(S, dtype=torch.float64)) / 20
    logits = x["q"] @ x["k"].transpose(-1, -2) / x["q"].shape[-1] ** 0.5 + function(x["c"][:, None, None], s)
    return torch.softmax(logits, -1) @ x["v"]


def small(T=20, S=17):
    torch.manual_seed(3)
    rows = {"q": torch.randn(1, 2, T, 8), "k": torch.randn(1, 2, S, 8), "v": torch.randn(1, 2, S, 5), "c": torch.tensor([0.7, -0.4])}
    return wide(rows)


class Float64(unittest.TestCase):
    def test_functions(self):
        for text, function in FUNCTIONS.items():
            with self.subTest(text):
                x = small()
                found = differences(evaluate(lambda x: of_function(text, x), x), evaluate(lambda x: by_torch(function, x), x))
                self.assertLess(max(found.values()), EXACT, found)

    def test_functions_in_one_text(self):
        x, texts = small(), {text: own for text, own in FUNCTIONS.items() if "600" not in text}
        found = differences(evaluate(lambda x: of_function("(" + ") + (".join(texts) + ")", x), x),
                            evaluate(lambda x: by_torch(lambda c, s: sum(own(c, s) for own in texts.values()), x), x))
        self.assertLess(max(found.values()), 4 * EXACT, found)

    def test_gradcheck(self):
        for name in ("causal", "attention_sink", "soft_cap", "relative_bias", "span_periodic_fourier", "content_weight", "stick_breaking", "combiner"):
            with self.subTest(name):
                x = wide(make(name, 1, 2, 1, 18, 18, 4))
                floats = [own for own in x if x[own].is_floating_point()]
                leaves = [x[own].requires_grad_() for own in floats]
                attention = lambda *given: on_cpu(name, {**x, **dict(zip(floats, given))})
                self.assertTrue(gradcheck(attention, leaves, fast_mode=True))

    def test_gradcheck_of_a_log_sum_exp(self):
        x = small()
        del x["c"]
        leaves = [own.requires_grad_() for own in x.values()]
        self.assertTrue(gradcheck(lambda *given: torch.ops.weft.attention_with_lse("causal", list(x), given), leaves))

    def test_types(self):
        x = small()
        text = HEAD + "c[h] }"
        o, lse = torch.ops.weft.attention_with_lse(text, list(x), list(x.values()))
        self.assertEqual((o.dtype, lse.dtype), (torch.float64, torch.float64))
        # Other floats may have any float type; their gradients have it too.
        x["c"] = x["c"].float().requires_grad_()
        of_float = torch.ops.weft.attention(text, list(x), list(x.values()))
        self.assertLess((of_float - o).abs().max(), 1e-6)
        of_float.sum().backward()
        self.assertEqual(x["c"].grad.dtype, torch.float32)
        meta = torch.ops.weft._forward_keeping_rows(text, list(x), [own.detach().to("meta") for own in x.values()])
        self.assertEqual([own.dtype for own in meta], [torch.float64] * 2)

    def test_sums_beyond_float32(self):
        """Scores of 1e60 are numbers like others."""
        x = {**small(), "c": torch.tensor([7e59, -4e59], dtype=torch.float64)}
        found = differences(evaluate(lambda x: of_function("c[h] * s", x), x), evaluate(lambda x: by_torch(lambda c, s: c * s, x), x))
        self.assertLess(max(found.values()), 20 * EXACT, found)

    def test_decoding_is_the_last_row(self):
        for name in ("causal", "adaptive_span"):
            x = wide(make(name, 2, 4, 2, 70, 70, 16))
            last = {**x, "q": x["q"][:, :, -1:]}
            o = torch.ops.weft.decode(name, list(last), list(last.values()))
            self.assertLess((o - on_cpu(name, x)[:, :, -1:]).abs().max(), EXACT)

    def test_other_cpus(self):
        """Registers of AVX2 and SSE."""
        for cpu in ("haswell", "nehalem"):
            own = subprocess.run([sys.executable, "-m", "unittest", "test_float64.Float64.test_functions_in_one_text", "test_float64.Library.test_combiner"],
                                 env={**os.environ, "WEFT_CPU": cpu}, capture_output=True, text=True)
            self.assertEqual(own.returncode, 0, own.stderr)

    def test_emulated_gpus_refuse(self):
        program = ("import os, torch; torch.ops.load_library(os.environ['WEFT_LIBRARY']); x = [torch.randn(1, 1, 8, 8, dtype=torch.float64)] * 3\n"
                   "torch.ops.weft.attention('causal', ['q', 'k', 'v'], x)")
        own = subprocess.run([sys.executable, "-c", program], env={**os.environ, "WEFT_DEVICE": "ptx-emulator"}, capture_output=True, text=True)
        self.assertIn("f64 runs on CPUs alone", own.stderr)
        self.assertNotIn("cta.", own.stderr, "nothing is generated to find tiles for it")
        for target in ("sm_80", "sm_90a"):
            own = subprocess.run([os.environ["WEFT_PROGRAM"], "compile", "causal", "--target", target, "--dtype", "f64", "--emit", "ptx"],
                                 capture_output=True, text=True)
            self.assertRegex(own.stdout + own.stderr, f"^weft: f64 runs on CPUs alone, got target .{target}.$")


class Library(unittest.TestCase):
    pass


for variant in REFERENCE:
    def test(self, variant=variant):
        for shape in ((2, 4, 2, 150, 150, 32), (1, 2, 2, 131, 97, 32)):
            x = wide(make(variant, *shape))
            got, want = evaluate(lambda x: on_cpu(variant, x), x), evaluate(REFERENCE[variant], x)
            self.assertEqual({own.dtype for own in got.values()}, {torch.float64})
            found = differences(got, want)
            self.assertLess(max(found.values()), EXACT, found)
    setattr(Library, f"test_{variant}", test)

if __name__ == "__main__":
    unittest.main()
