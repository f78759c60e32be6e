"""The `weft` program: check, compile, train, interrupt, resume, evaluate, sample, and bad input."""

import gzip
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

from training import SOURCE, WEFT, RunFolder, run, tiny


class Language(unittest.TestCase):
    def test_library_is_ok(self):
        folder = os.path.join(SOURCE, "ops", "variants")
        files = sorted(os.path.join(folder, f) for f in os.listdir(folder))
        out = run("check", *files).stdout
        self.assertEqual(out.count(": ok"), len(files))
        names = run("variants").stdout
        for file in files:
            self.assertIn(os.path.basename(file)[:-5], names)

    def test_errors(self):
        with tempfile.NamedTemporaryFile("w", suffix=".weft") as file:
            file.write("attention t(q: [B, H, T, D], v: [B, H, S, E]) { score oops }")
            file.flush()
            result = run("check", file.name, code=1)
            self.assertIn("unknown name 'oops'", result.stderr)
            self.assertIn("^~~~", result.stderr)
        self.assertIn("unknown command 'chek'; did you mean 'check'?", run("chek", code=2).stderr)
        self.assertIn("the library has:", run("compile", "nope", code=1).stderr)
        self.assertIn("has no kernel", run("compile", "causal", "--kernel", "nope", code=1).stderr)

    def test_every_stage_prints(self):
        for stage, sign in {"ast": "attention span_periodic", "weft": "weft.pairwise @backward", "tile": "tile.kernel @span_periodic.",
                            "vector": "vector.fma", "llvm": "llvm.fma", "asm": ".text"}.items():
            for kernel in ("forward", "backward", "backward_dq", "backward_dkdv"):
                self.assertIn(sign, run("compile", "span_periodic", "--kernel", kernel, f"--emit={stage}").stdout)
        for dtype in ("bf16", "f16"):
            self.assertIn(".text", run("compile", "causal", "--dtype", dtype, "--head-dim", "80", "--emit=asm").stdout)

    def test_gpu_stages(self):
        for stage, sign in {"nvvm": "nvvm.mma.sync", "llvm": "@llvm.nvvm.mma", "ptx": "mma.sync.aligned.m16n8k16"}.items():
            self.assertIn(sign, run("compile", "causal", "--target", "sm_80", "--dtype", "bf16", f"--emit={stage}").stdout)
        self.assertIn(".target sm_90a", run("compile", "causal", "--target", "sm_90a", "--emit=ptx").stdout)
        self.assertIn("from \"sm_80\" on", run("compile", "causal", "--target", "sm_70", "--emit=ptx", code=1).stderr)
        self.assertIn("expected a GPU", run("compile", "causal", "--emit=cubin", code=1).stderr)
        missing = run("compile", "causal", "--target", "sm_80", "--emit=cubin", code=1, env={"WEFT_PTXAS": "", "PATH": ""}).stderr
        self.assertIn("WEFT_PTXAS", missing)

    def test_predicted_times_say_so(self):
        shape = ("--shape", "1,2,256,64", "--dtype", "bf16", "--emit=timeline")
        for kernel in ("plan_band", "forward", "backward_dkdv", "backward_keys"):
            page = run("compile", "sliding_window", "--target", "sm_90", "--kernel", kernel, *shape).stdout
            self.assertIn("predicted time", page)
            self.assertIn("H200 SXM, predicted from its", page)
        self.assertIn("A100", run("compile", "causal", "--device-model", "a100", "--stages", "3", *shape).stdout)
        self.assertIn("h200", run("compile", "causal", "--device-model", "h300", *shape, code=1).stderr)
        self.assertIn("--device-model", run("compile", "causal", *shape, code=1).stderr)
        self.assertIn("has plan_band", run("compile", "causal", "--target", "sm_90", "--kernel", "nope", *shape, code=1).stderr)
        self.assertIn("keeps nothing", run("tune", "causal", "--device", "model:h200", "--list", code=1).stderr)

    def test_run_on_every_device(self):
        self.assertIn("kept tiles", run("run", "causal", "--shape", "1,1,100,32").stdout)
        emulated = run("run", "adaptive_span", "--shape", "1,1,100,32", "--device", "ptx-emulator", "--backward").stdout
        self.assertIn("bank conflicts                    0", emulated)
        self.assertIn("no race", emulated)
        self.assertIn("expected device", run("run", "causal", "--device", "tpu", code=1).stderr)
        if not os.path.exists("/dev/nvidiactl"):
            self.assertIn("no NVIDIA driver", run("run", "causal", "--device", "cuda", code=1).stderr)

    def test_dump(self):
        with tempfile.TemporaryDirectory() as folder:
            run("compile", "causal", "--emit=asm", env={"WEFT_DUMP": folder})
            self.assertIn("causal.forward.06-build-kernel.mlir", os.listdir(folder))


class Model(RunFolder, unittest.TestCase):
    def test_learns_evaluates_and_samples(self):
        for attention in ("causal", "adaptive_span", "span_periodic", "span_periodic_fourier", "content_weight", "alibi",
                          "attention_sink", "relative_bias", "sliding_window", "row_gate", "soft_cap"):
            with self.subTest(attention):
                self.write(tiny(attention, steps=60, lr=3e-3))
                self.train(attention)
                metrics = self.metrics(attention)
                self.assertLess(metrics[-1]["bpc"], metrics[0]["bpc"] - 2)
                for key in ("tokens_per_second", "mfu", "mean_span", "kept_tiles", "lr", "grad_norm"):
                    self.assertIn(key, metrics[-1])
                for entry in metrics:
                    self.assertTrue(0 < entry["mfu"] <= 1, entry["mfu"])
                    self.assertGreater(entry["peak_gflops"], 0)
        out = run("eval", "--checkpoint", self.path("span_periodic"), "--data", self.data, "--split", "test", "--stride", "16").stdout
        self.assertIn("bpc over", out)
        self.assertIn("not comparable", out)
        with open(self.path("span_periodic/eval_test.json")) as file:
            self.assertLess(json.load(file)["bpc"], 5)
        with open(self.path("span_periodic/masks.svg")) as file:
            self.assertEqual(file.read().count("<g>"), 4)
        sample = lambda seed: run("sample", "--checkpoint", self.path("span_periodic"), "--length", "50", "--seed", seed).stdout
        self.assertEqual(sample("1"), sample("1"))
        self.assertNotEqual(sample("1"), sample("2"))
        # Cached keys give the same text as computing all of it anew, as long as the context lasts (64 bytes).
        likely = lambda *more: run("sample", "--checkpoint", self.path("span_periodic"), "--prompt", "to be ", "--length", "58", "--temperature", "0", *more)
        self.assertEqual(likely().stdout, likely("--no-cache").stdout)
        self.assertIn("58 bytes", likely().stderr)
        self.assertEqual(len(run("sample", "--checkpoint", self.path("span_periodic"), "--length", "200", "--temperature", "0").stdout.encode()) > 100, True)

    def test_a_variant_of_ones_own_is_one_file(self):
        """The model makes what it declares; what it calls a span is none, so that no key may be forgotten in decoding."""
        with open(self.path("own.weft"), "w") as file:
            file.write("attention own(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], span: [H] in 0 .. T typical T / 8, near: int [] in 1 .. T typical 4,\n"
                       "  slope: [H] in 0 .. 2, tone: [H, N], gain: [B, H, T] in 0 .. 1, a: [B, H, T, R], c: [B, H, S, R])\n"
                       "{ where i >= j and (j < span[h] or i - j < near)\n"
                       "  score dot(q[i], k[j]) / sqrt(D) + dot(a[i], c[j]) - slope[h] * log(1 + i - j) + tone[h, j]\n"
                       "  gate 1 + gain[i] }")
        self.write(tiny(self.path("own.weft"), steps=30, lr=3e-3))
        self.train("own", "--set", "inputs.near=6")
        self.assertLess(self.metrics("own")[-1]["bpc"], self.metrics("own")[0]["bpc"] - 1)
        with open(self.path("own.weft")) as file:
            text = file.read()
        with open(self.path("own.weft"), "w") as file:  # `gain` is made of all tokens at once
            file.write(text.replace(", gain: [B, H, T] in 0 .. 1", "").replace("gate 1 + gain[i]", ""))
        self.train("lean")
        likely = lambda *more: run("sample", "--checkpoint", self.path("lean"), "--prompt", "to be ", "--length", "58", "--temperature", "0", *more)
        self.assertEqual(likely().stdout, likely("--no-cache").stdout)

    def test_training_on_the_emulator_is_training_on_the_cpu(self):
        arguments = ("--set", "layers=1", "--set", "batch=2", "--steps", "2")
        self.train("host", *arguments)
        self.train("emulated", *arguments, "--device", "ptx-emulator")
        for a, b in zip(self.losses("host"), self.losses("emulated")):
            self.assertEqual(a[0], b[0])
            self.assertAlmostEqual(a[1], b[1], delta=1e-4)  # f32, other orders of the sums

    def test_resume_repeats_an_uninterrupted_run(self):
        env = {"WEFT_THREADS": "1"}
        self.train("whole", env=env)
        self.train("parts", "--set", "steps=12", "--steps", "12", env=env)
        self.assertEqual(self.losses("whole"), self.losses("parts"))
        # Stop after 7 of 12 steps: the schedule is of the whole run, so cut the run with a signal.
        process = subprocess.Popen([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path("cut"),
                                    "--set", "save_every=1", "--steps", "4000"], stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, **env})
        while not os.path.exists(self.path("cut/metrics.jsonl")) or len(self.losses("cut")) < 5:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=60), 130)
        self.assertIn("Go on with --resume", process.stderr.read())
        process.stderr.close()
        done = len(self.losses("cut"))
        more = subprocess.Popen([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path("cut"), "--resume",
                                 "--steps", "4000"], stderr=subprocess.DEVNULL, env={**os.environ, **env})
        while len(self.losses("cut")) < done + 5:
            time.sleep(0.05)
        more.send_signal(signal.SIGINT)
        self.assertEqual(more.wait(timeout=60), 130)
        again = subprocess.Popen([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path("straight"),
                                  "--steps", "4000"], stderr=subprocess.DEVNULL, env={**os.environ, **env})
        while not os.path.exists(self.path("straight/metrics.jsonl")) or len(self.losses("straight")) < done + 5:
            time.sleep(0.05)
        again.send_signal(signal.SIGINT)
        again.wait(timeout=60)
        self.assertEqual(self.losses("cut")[:done + 5], self.losses("straight")[:done + 5])

    def test_bad_input(self):
        out = self.path("x")
        cases = [
            ("cannot open", ["--config", "nope.json", "--data", self.data, "--out", out]),
            ("cannot open nope.txt", ["--config", self.config, "--data", "nope.txt", "--out", out]),
            ("unknown setting 'model.layrs'", ["--config", self.config, "--data", self.data, "--out", out, "--set", "model.layrs=3"]),
            ("expected an integer at model.layers", ["--config", self.config, "--data", self.data, "--out", out, "--set", "layers=many"]),
            ("expected heads to divide width", ["--config", self.config, "--data", self.data, "--out", out, "--set", "heads=3"]),
            ("has an input 'prefix'", ["--config", self.config, "--data", self.data, "--out", out, "--set", "attention=prefix_lm"]),
        ]
        for message, args in cases:
            with self.subTest(message):
                self.assertIn(message, run("train", *args, code=1).stderr)
        with open(self.path("short.txt"), "w") as file:
            file.write("too short")
        self.assertIn("at least 10,000 bytes", run("train", "--config", self.config, "--data", self.path("short.txt"), "--out", out, code=1).stderr)
        self.assertIn("no checkpoint", run("eval", "--checkpoint", out, "--data", self.data, code=1).stderr)
        self.assertIn("no checkpoint", run("sample", "--checkpoint", out, code=1).stderr)
        with open(self.path("cut.gz"), "wb") as file, open(self.data, "rb") as whole:
            file.write(whole.read()[:20000])
        self.assertIn("cannot read", run("train", "--config", self.config, "--data", self.path("cut.gz"), "--out", out, code=1).stderr)

    def test_non_finite_loss_says_where(self):
        result = self.train("n", "--set", "lr=1e30", code=1)
        self.assertIn("the first value that is not finite is in", result.stderr)

    def test_zip(self):
        import zipfile
        with zipfile.ZipFile(self.path("t.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("enwik", gzip.open(self.data, "rb").read())
        self.data = self.path("t.zip")
        self.train("zip", "--steps", "2")


if __name__ == "__main__":
    unittest.main()
