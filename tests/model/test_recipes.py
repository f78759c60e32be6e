"""Parts of the model, optimizers and precisions that settings choose: as their formulas say, and to the bit after a resume."""

import io
import math
import os
import signal
import subprocess
import unittest
import warnings

import torch
from torch.nn import functional

from training import WEFT, RunFolder, run, tiny

# The same figures every time, and less work.
os.environ["WEFT_THREADS"] = "1"
warnings.simplefilter("ignore", DeprecationWarning)

MODERN = ["positions=rotary", "norm=rms", "network=relu2", "output=own", "qk_norm=rms", "optimizer=muon", "schedule=linear"]
GATED = ["positions=none", "network=swiglu", "attention=causal"]


def settings(values):
    return [word for value in values for word in ("--set", value)]


class Recipe(RunFolder, unittest.TestCase):
    def archive(self, out):
        with open(self.path(out + "/checkpoint.pt"), "rb") as file:
            whole = file.read()
        return torch.jit.load(io.BytesIO(whole[:whole.rindex(b"\n", 0, -1)]))

    def weights(self, out):
        return {name: value.detach().clone() for name, value in self.archive(out).model.named_parameters()}

    def state(self, out):
        module = self.archive(out).optimizer
        return {name: value.detach().clone() for name, value in list(module.named_buffers()) + list(module.named_parameters())}


class Parts(Recipe):
    def reference(self, weights, tokens, config):
        """Logits of the model in float64, by the formulas."""
        w = {name: value.double() for name, value in weights.items()}
        heads, width = config["heads"], config["width"]
        batch, length = tokens.shape
        dim = width // heads

        def norm(x, name):
            if config["norm"] == "rms":
                return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[name + ".weight"]
            return functional.layer_norm(x, (width,), w[name + ".weight"], w[name + ".bias"])

        def linear(x, name):
            return functional.linear(x, w[name + ".weight"], w.get(name + ".bias"))

        def turned(x):
            angle = torch.outer(torch.arange(length, dtype=torch.double), 10000.0 ** (-torch.arange(dim // 2, dtype=torch.double) * 2 / dim))
            number = torch.view_as_complex(x.reshape(*x.shape[:-1], dim // 2, 2)) * torch.polar(torch.ones_like(angle), angle)[:, None]
            return torch.view_as_real(number).flatten(-2)

        distance = torch.arange(length)[:, None] - torch.arange(length)
        x = w["embedding"][tokens]
        for layer in range(config["layers"]):
            name = f"block{layer}"
            q, k, v = linear(norm(x, name + ".norm1"), name + ".attention.projection").view(batch, length, 3, heads, dim).unbind(2)
            if config["qk_norm"] == "rms":
                q, k = (part / (part.square().mean(-1, keepdim=True) + 1e-5).sqrt() for part in (q, k))
            if config["positions"] == "rotary":
                q, k = turned(q), turned(k)
            scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(dim)
            p = scores.masked_fill(distance < 0, -math.inf).softmax(-1)
            x = x + linear(torch.einsum("bhij,bjhd->bihd", p, v).reshape(batch, length, width), name + ".attention.output")
            inner = linear(norm(x, name + ".norm2"), name + ".up")
            if config["network"] == "swiglu":
                gate, value = inner.chunk(2, -1)
                inner = functional.silu(gate) * value
            else:
                inner = functional.relu(inner).square() if config["network"] == "relu2" else functional.gelu(inner)
            x = x + linear(inner, name + ".down")
        x = norm(x, "norm")
        return x @ (w["output.weight"] if config["output"] == "own" else w["embedding"]).T

    def test_logits_are_those_of_the_formulas(self):
        text = bytes(range(32, 96)) * 400
        with open(self.path("plain.txt"), "wb") as file:
            file.write(text)
        tokens = torch.tensor(list(text[len(text) * 90 // 100:][:65]))
        for name, values in enumerate((MODERN, GATED, ["positions=rotary", "network=gelu"])):
            with self.subTest(values):
                name = str(name)
                config = dict(tiny("causal")["model"], norm="layer", qk_norm="none", output="tied", network="gelu", positions="learned")
                config.update(dict(value.split("=") for value in values))
                self.train(name, *settings(["attention=causal", *values, "precision=f32", "steps=4"]))
                answer = run("eval", "--checkpoint", self.path(name), "--data", self.path("plain.txt"), "--stride", "64", "--limit", "64").stdout
                logits = self.reference(self.weights(name), tokens[None, :64], config)[0]
                bpc = functional.cross_entropy(logits, tokens[1:]).item() / math.log(2)
                self.assertAlmostEqual(float(answer.split("result")[1].split()[0]), bpc, delta=1.1e-4)

    def test_gradients_are_those_of_the_formulas(self):
        # Where in a text of five letters the step began is not said. Rotary positions turn 256 tokens of this width at once.
        length, text = 300, b"abbca" * 2100
        with open(self.path("five.txt"), "wb") as file:
            file.write(text)
        self.data = self.path("five.txt")
        self.write({"model": dict(tiny("causal")["model"], width=128, context=length, dropout=0), "train": dict(tiny(lr=1e-9, lr_min=1e-9)["train"], batch=1, steps=1)})
        for name, values in enumerate((MODERN, GATED, ["positions=rotary", "network=gelu"])):
            with self.subTest(values):
                config = dict(tiny("causal")["model"], width=128, norm="layer", qk_norm="none", output="tied", network="gelu", positions="learned")
                config.update(dict(value.split("=") for value in values))
                self.train(str(name), *settings(["attention=causal", *values, "precision=f32", "clip=0", "optimizer=adamw", "weight_decay=0", "validate_every=0"]))
                weights = {key: value.double().requires_grad_() for key, value in self.weights(str(name)).items()}
                state = self.state(str(name))
                texts = [torch.tensor(list(text[begin:begin + length + 1])) for begin in range(5)]
                losses = [functional.cross_entropy(self.reference(weights, tokens[None, :-1], config)[0], tokens[1:]) for tokens in texts]
                own = min(losses, key=lambda loss: abs(loss.item() - self.losses(str(name))[0][1]))
                for (key, weight), gradient in zip(weights.items(), torch.autograd.grad(own, list(weights.values()))):
                    made = state[key.replace(".", "/") + ":mean"].double() / (1 - 0.9)
                    self.assertLess((made - gradient).norm() / gradient.norm(), 1e-4, key)

    def test_texts_do_not_depend_on_the_cache(self):
        # A letter alone does not say which comes next.
        self.data = self.path("sentence.txt")
        with open(self.data, "w") as file:
            file.write("The quick brown fox jumps over the lazy dog and then over the other one. " * 400)
        self.write(tiny("causal", steps=150, lr=5e-3, save_every=1000, log_every=50))
        for at, values in enumerate(([*MODERN, "attention=sliding_window", "inputs.window=24"], MODERN, GATED)):
            self.train(str(at), *settings([*values, "dropout=0"]))
            sample = lambda *more: run("sample", "--checkpoint", self.path(str(at)), "--temperature", "0", *more).stdout.rstrip("\n")
            text = sample("--length", "90")
            self.assertGreater(len(set(text)), 10, text)
            self.assertEqual(text[:60], sample("--length", "90", "--no-cache")[:60])
            # Past the context of 64 the cache begins anew with the newest 32, at the first positions.
            self.assertEqual(text[33:90], sample("--prompt", text[33:65], "--length", "25"))

    def test_blocks_computed_again_change_nothing(self):
        for precision in ("f32", "bf16"):
            values = [f"precision={precision}", "dropout=0.3", *MODERN]
            self.train(precision + "kept", *settings(values))
            self.train(precision + "again", *settings([*values, "recompute=blocks"]))
            self.assertEqual(self.losses(precision + "kept"), self.losses(precision + "again"))


class Optimizers(Recipe):
    def steps(self, values):
        """Weights and state after 6 steps and after 7, and the gradient of the step between, from the means."""
        for steps in ("6", "7"):
            self.train("a" + steps, *settings(["precision=f32", "attention=causal", "lr=1e-2", "lr_min=1e-3", *values]), "--steps", steps, "--set", "warmup=0", "--set", "schedule=linear", "--set", "cooldown=0")
        return self.weights("a6"), self.state("a6"), self.weights("a7"), self.state("a7")

    def test_adamw_is_torch_s(self):
        before, state, after, next_state = self.steps(["weight_decay=0.2", "beta1=0.8", "beta2=0.97"])
        for name in before:
            key = name.replace(".", "/")
            gradient = (next_state[key + ":mean"].double() - 0.8 * state[key + ":mean"].double()) / 0.2
            parameter = torch.nn.Parameter(before[name].double().clone())
            decay = 0.2 if name.endswith(".weight") and parameter.dim() >= 2 else 0
            optimizer = torch.optim.AdamW([parameter], lr=1e-2, betas=(0.8, 0.97), weight_decay=decay)
            parameter.grad = gradient
            optimizer.state[parameter] = {"step": torch.tensor(6.0), "exp_avg": state[key + ":mean"].double(), "exp_avg_sq": state[key + ":square"].double()}
            optimizer.step()
            torch.testing.assert_close(after[name].double(), parameter.detach(), rtol=1e-4, atol=2e-6, msg=lambda text: f"{name}: {text}")
            self.assertFalse(torch.equal(before[name], after[name]), name)

    def test_muon_makes_steps_orthogonal(self):
        before, state, after, next_state = self.steps(["optimizer=muon", "muon_lr=0.03", "momentum=0.9", "weight_decay=0.2", "network=swiglu"])
        seen = 0
        for name in before:
            key = name.replace(".", "/") + ":momentum"
            if key not in state:
                self.assertFalse(name.startswith("block") and name.endswith(".weight") and before[name].dim() == 2, name)
                continue
            mean, next_mean = state[key].double(), next_state[key].double()
            gradient = (next_mean - 0.9 * mean) / 0.1
            parts = 3 if "projection" in name else 2 if ".up." in name else 1
            for part, old, new in zip((0.1 * gradient + 0.9 * next_mean).chunk(parts), before[name].double().chunk(parts), after[name].double().chunk(parts)):
                x = part / part.norm()
                wide = x if x.shape[0] <= x.shape[1] else x.T
                for _ in range(5):
                    square = wide @ wide.T
                    wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
                x = wide if x.shape[0] <= x.shape[1] else wide.T
                step = 0.03 * max(1, x.shape[0] / x.shape[1]) ** 0.5 * x
                torch.testing.assert_close(new, old * (1 - 0.03 * 0.2) - step, rtol=1e-3, atol=2e-4, msg=lambda text: f"{name}: {text}")
                # Most directions are stepped by about as much.
                singular = torch.linalg.svdvals(x)
                self.assertLess(singular.max(), 1.3)
                self.assertGreater(singular.median(), 0.6)
                seen += 1
        self.assertEqual(seen, 2 * (3 + 1 + 2 + 1))

    def test_another_optimizer_s_checkpoint(self):
        self.train("a", "--steps", "3")
        result = self.train("a", "--resume", "--set", "optimizer=muon", code=1)
        self.assertRegex(result.stderr, "the checkpoint's optimizer does not fit: it has no 'block0/.*:momentum', so train.optimizer was another")

    def test_schedules(self):
        for name, values, expected in [
            ("line", ["schedule=linear", "cooldown=0.5", "lr=1e-3", "lr_min=0", "warmup=2"], [5e-4] + [1e-3] * 6 + [5e-4 / 3 * n / 1 for n in (5, 4, 3, 2, 1)]),
            ("cosine", ["lr=1e-3", "lr_min=1e-4", "warmup=2"], [5e-4, 1e-3] + [1e-4 + 4.5e-4 * (1 + math.cos(math.pi * n / 10)) for n in range(10)]),
        ]:
            self.train(name, *settings(values))
            for entry, rate in zip(self.metrics(name), expected, strict=True):
                self.assertAlmostEqual(entry["lr"], rate, delta=1e-9, msg=f"{name} step {entry['step']}")


class Precisions(Recipe):
    def test_bf16_and_f16_learn_as_f32_does(self):
        losses = {}
        for precision in ("f32", "bf16", "f16"):
            self.train(precision, *settings([f"precision={precision}", *MODERN]))
            losses[precision] = self.losses(precision)
        for precision in ("bf16", "f16"):
            self.assertNotEqual(losses[precision], losses["f32"])
            for (step, exact), (_, rounded) in zip(losses["f32"], losses[precision], strict=True):
                self.assertAlmostEqual(rounded, exact, delta=0.02 * exact, msg=f"{precision} step {step}")

    def test_resumed_to_the_bit(self):
        for precision in ("bf16", "f16"):
            values = settings([f"precision={precision}", "accumulate=2", *MODERN])
            self.train(precision, *values)
            self.interrupted(precision + "parts", values)
            self.assertEqual(self.losses(precision), self.losses(precision + "parts"))

    def interrupted(self, out, values):
        """The run of `values`, killed once it has saved, then gone on with."""
        process = subprocess.Popen([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path(out), *values, "--set", "save_every=3"], stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "] 5/" in line:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
        self.assertEqual(process.returncode, -signal.SIGKILL)
        self.assertTrue(os.path.exists(self.path(out + "/checkpoint.pt")))
        self.train(out, "--resume", *values)

    def test_a_scale_that_was_too_large(self):
        # Two bytes a step: times the first scale, the gradients of the output layer leave the range of f16.
        self.write({"model": {"layers": 2, "heads": 1, "width": 256, "context": 2, "attention": "causal", "dropout": 0.0},
                    "train": {"steps": 12, "batch": 1, "warmup": 0, "log_every": 1, "lr": 1e-3, "precision": "f16"}})
        self.train("a")
        scales = [entry["loss_scale"] for entry in self.metrics("a")]
        self.assertEqual(scales[0], 65536)
        self.assertLess(scales[-1], 65536)
        for entry, scale in zip(self.metrics("a")[:-1], scales[1:], strict=True):
            # Halved with each step that was left out, and with no other.
            self.assertEqual(scale, entry["loss_scale"] / (2 if entry["grad_norm"] is None else 1))
        self.assertLess(self.losses("a")[-1][1], self.losses("a")[0][1])
        # A run that goes on has the scale that it had.
        self.train("b", "--steps", "6", "--set", "schedule=linear", "--set", "cooldown=0")
        self.train("b", "--resume", "--set", "schedule=linear", "--set", "cooldown=0")
        self.train("c", "--set", "schedule=linear", "--set", "cooldown=0")
        self.assertEqual([entry["loss_scale"] for entry in self.metrics("b")], [entry["loss_scale"] for entry in self.metrics("c")])
        # One that was of another precision begins with the first.
        self.train("d", "--steps", "3", "--set", "precision=f32")
        self.train("d", "--resume", "--set", "precision=f16", "--steps", "4")
        self.assertEqual(self.metrics("d")[-1]["loss_scale"], 65536)

    def test_what_auto_is_stays(self):
        self.train("a", "--steps", "3", "--set", "precision=f32")
        self.assertNotIn("precision", self.train("a", "--resume", "--set", "precision=auto", "--steps", "5").stderr)
        text = self.train("a", "--resume", "--set", "precision=bf16", "--steps", "7").stderr
        self.assertIn('train.precision was "f32", is "bf16" from here on', text)

    def test_what_is_no_choice(self):
        for setting, message in [("precision=fp8", 'expected auto, f32, bf16 or f16 at train.precision, got "fp8"'), ("norm=batch", 'expected layer or rms at model.norm, got "batch"'),
                                 ("network=3", "expected gelu, relu2 or swiglu at model.network, got"), ("optimizer=sgd", "expected adamw or muon at train.optimizer")]:
            self.assertIn(message, self.train("x", "--set", setting, code=1).stderr)
        message = "expected an even head dim (width / heads) for rotary positions, got 17"
        self.assertIn(message, self.train("x", *settings(["width=34", "positions=rotary"]), code=1).stderr)


if __name__ == "__main__":
    unittest.main()
