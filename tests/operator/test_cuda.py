"""The operator on a GPU against float64 on the CPU. Without a GPU every test says that it is skipped."""

import json
import os
import subprocess
import tempfile
import unittest

import torch

from test_variants import REFERENCE, make

QKV = ["q", "k", "v"]


@unittest.skipUnless(torch.cuda.is_available(), "no NVIDIA GPU, or a torch without CUDA")
class Cuda(unittest.TestCase):
    def test_variants(self):
        rows = ("q", "k", "v", "u", "w")
        for name in REFERENCE:
            for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 2e-2), (torch.float16, 4e-3)):
                for shape in ((2, 4, 2, 150, 150, 64), (1, 2, 2, 131, 97, 128)):
                    with self.subTest(name=name, dtype=dtype, shape=shape):
                        x = make(name, *shape)
                        x = {n: t.to(dtype) if n in rows else t.float() if t.is_floating_point() else t for n, t in x.items()}
                        floats = [n for n, t in x.items() if t.is_floating_point()]
                        cotangent = torch.randn(*x["q"].shape[:3], x["v"].shape[3]).to(dtype)

                        def run(values, function, grad):
                            leaves = {n: t.detach().requires_grad_(t.is_floating_point()) for n, t in values.items()}
                            out = function(leaves)
                            return [out] + list(torch.autograd.grad(out, [leaves[n] for n in floats], grad))

                        got = run({n: t.cuda() for n, t in x.items()},
                                  lambda leaves: torch.ops.weft.attention(name, list(leaves), list(leaves.values())), cotangent.cuda())
                        want = run({n: t.double() if t.is_floating_point() else t for n, t in x.items()}, REFERENCE[name], cotangent.double())
                        for what, a, b in zip(["o"] + floats, got, want):
                            error = (a.cpu().double() - b).abs().max().item() / max(1.0, b.abs().max().item())
                            self.assertLess(error, tolerance * (4 if what in ("period", "ratio", "slope") else 1), what)

    def test_graph(self):
        q, k, v = (torch.randn(1, 2, 128, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
        call = lambda: torch.ops.weft.attention("causal", QKV, [q, k, v])
        call()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = call()
        q.copy_(torch.randn_like(q))
        graph.replay()
        torch.testing.assert_close(out, call())

    def test_training(self):
        config = {"model": {"layers": 2, "heads": 2, "width": 64, "context": 128, "attention": "span_periodic", "max_span": 128},
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
