"""The operator on a GPU. Without one every test says that it is skipped. WEFT_CUDA_PART=2/8 takes a part of the variants, for
several processes side by side: most of the time is ptxas's."""

import json
import os
import subprocess
import tempfile
import unittest

import torch

from criterion import rounded
import test_variants
from test_decode import newest
from test_variants import REFERENCE, make

QKV = ["q", "k", "v"]
weft = torch.ops.weft
SHAPE = {torch.float32: "odd", torch.bfloat16: "wide", torch.float16: "cross"}
PART, PARTS = (int(n) for n in os.environ.get("WEFT_CUDA_PART", "0/1").split("/"))
if PARTS > 1:
    torch.set_num_threads(1)  # the references of all parts are computed at the same time


def tensors(name, dtype=torch.float32, B=1, H=2, G=1, T=140, D=64):
    return rounded(make(name, B, H, G, T, T, D), dtype)


def on_gpu(x):
    return {n: t.cuda() for n, t in x.items()}


def attention(name, x):
    return weft.attention(name, list(x), list(x.values()))


def run_on_gpu(name, x):
    return attention(name, on_gpu(x)).cpu()


def both(name, x):
    """Output and gradients of a sum of squares."""
    leaves = {n: t.detach().clone().requires_grad_(t.is_floating_point()) for n, t in x.items()}
    out = attention(name, leaves)
    wanted = [t for t in leaves.values() if t.requires_grad]
    return [out.detach()] + [g for g in torch.autograd.grad(out, wanted, out.detach(), allow_unused=True) if g is not None]


def graph_of(run):
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    return graph, out


@unittest.skipUnless(torch.cuda.is_available(), "no NVIDIA GPU, or a torch without CUDA")
class Cuda(unittest.TestCase):
    def close(self, a, b, tolerance):
        a, b = a.cpu().double(), b.cpu().double()
        self.assertLess((a - b).norm().item(), tolerance * max(b.norm().item(), 1e-3))

    def test_variants(self):
        """Twice the error of PyTorch's math, both against float64."""
        for name in list(REFERENCE)[PART::PARTS]:
            for dtype, shape in SHAPE.items():
                with self.subTest(name=name, dtype=dtype):
                    test_variants.compare(self, name, dtype, test_variants.SHAPES[shape], run_on_gpu)

    def test_sines(self):
        """ptxas took the sign of some from another one's quadrant: seen on a GPU alone."""
        text = ("attention s(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], r: [B,H,T], table: [H,N]) { where i >= j "
                "score dot(q[i], k[j]) / sqrt(D) + sin(exp(tanh(r[i]))) gate tanh(sin(table[h, i - j + S])) }")
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
            x = tensors("causal", dtype, H=4, G=4, T=120) | {"r": torch.randn(1, 4, 120), "table": torch.randn(4, 240)}
            for name, a, b in zip(["o"] + list(x), both(text, on_gpu(x)), both(text, x)):
                if name != "r":  # all logits of a row have it in common: zero but for rounding
                    self.close(a, b, tolerance)

    def test_heads_of_256(self):
        for name in ("causal", "span_periodic", "stick_breaking", "gathered", "content_weight")[PART::PARTS]:
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                with self.subTest(name=name, dtype=dtype):
                    test_variants.compare(self, name, dtype, (1, 2, 1, 140, 140, 256), run_on_gpu)

    def test_same_bits(self):
        """A race would show as other bits."""
        torch.use_deterministic_algorithms(True, warn_only=True)
        self.addCleanup(torch.use_deterministic_algorithms, False)
        for name in ("causal", "span_periodic", "content_weight", "stick_breaking", "block_sparse", "stripes"):
            x = on_gpu(tensors(name, torch.bfloat16, T=520))
            first = both(name, x)
            for _ in range(4):
                for a, b in zip(both(name, x), first):
                    self.assertTrue(torch.equal(a, b), name)

    def test_graphs(self):
        for name in ("causal", "span_periodic", "sliding_window", "relative_bias", "block_sparse", "anchor"):
            with self.subTest(name):
                x = tensors(name)
                values = on_gpu(x)

                def run(own):
                    if name in ("block_sparse", "anchor"):
                        own = own | {"selection": weft.select(name, list(own), list(own.values()))}
                    o, rows = weft._forward_keeping_rows(name, list(own), list(own.values()))
                    return [o] + [g for g in weft._backward_from_rows(name, list(own), list(own.values()), o, rows, o, None) if g.numel()]

                graph, results = graph_of(lambda: run(values))
                x["q"] = torch.randn_like(x["q"])
                values["q"].copy_(x["q"])
                graph.replay()
                for a, b in zip(results, run(x)):
                    self.close(a, b, 1e-4)

    def test_dropout_in_graphs(self):
        text = "attention d(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { score dot(q[i], k[j]) dropout 0.25 }"
        x = tensors("causal", D=16)
        values = on_gpu(x)
        graph, out = graph_of(lambda: attention(text, values))
        seen = []
        for _ in range(4):
            graph.replay()
            seen.append(out.cpu())
        for a in range(4):
            for b in range(a):
                self.assertGreater((seen[a] - seen[b]).abs().max().item(), 1e-2)
        seed = torch.tensor([12345, 678])
        self.close(attention(text, values | {"seed": seed.cuda()}), attention(text, x | {"seed": seed}), 1e-5)

    def test_streams(self):
        """Inputs made on a stream, and memory that its next work takes over."""
        x = on_gpu(tensors("causal", H=8, G=8, T=2000))
        want = attention("causal", x)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        for _ in range(20):
            with torch.cuda.stream(side):
                late = torch.randn(3000, 3000, device="cuda")
                late = late @ late
                out = attention("causal", x | {"q": x["q"] + 0 * late[0, 0]})
            torch.cuda.current_stream().wait_stream(side)
            self.close(out, want, 1e-6)

    def test_decode(self):
        for name in ("causal", "adaptive_span"):
            x = newest(name, tensors(name))
            self.close(weft.decode(name, list(x), list(on_gpu(x).values())), weft.decode(name, list(x), list(x.values())), 1e-5)
        x = newest("causal", tensors("causal", T=300))
        values = list(on_gpu(x).values())
        graph, out = graph_of(lambda: weft.decode("causal", list(x), values))
        x["q"] = torch.randn_like(x["q"])
        values[0].copy_(x["q"])
        graph.replay()
        self.close(out, weft.decode("causal", list(x), list(x.values())), 1e-5)

    def test_deterministic_mode(self):
        torch.use_deterministic_algorithms(True)
        try:
            both("adaptive_span", on_gpu(tensors("adaptive_span")))
            for name in ("relative_bias", "gathered"):
                with self.assertRaisesRegex(RuntimeError, "does not have a deterministic"):
                    both(name, on_gpu(tensors(name)))
        finally:
            torch.use_deterministic_algorithms(False)

    def test_training(self):
        config = {"model": {"layers": 2, "heads": 2, "width": 64, "context": 128, "attention": "span_periodic"},
                  "train": {"steps": 100, "batch": 8, "warmup": 5, "log_every": 1}}
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/config.json", "w") as file:
                json.dump(config, file)
            with open(f"{folder}/text", "w") as file:
                file.write("it is as it was and as it will be " * 3000)
            subprocess.run([os.environ["WEFT_PROGRAM"], "train", "--config", f"{folder}/config.json", "--data", f"{folder}/text",
                            "--out", f"{folder}/run", "--device", "cuda"], check=True)
            with open(f"{folder}/run/metrics.jsonl") as file:
                losses = [json.loads(line)["loss"] for line in file]
        self.assertLess(losses[-1], losses[0] / 2)


if __name__ == "__main__":
    unittest.main()
