"""weft eval --mass: what a selection misses, against a softmax in float64; dials solved for a target; what a model then is."""

import gzip
import json
import math
import os
import struct
import unittest

import torch

from training import RunFolder, run

torch.ops.load_library(os.environ["WEFT_LIBRARY"])
torch.set_num_threads(1)
os.environ["WEFT_THREADS"] = "1"  # small runs

LAYERS, HEADS, WIDTH, CONTEXT, WINDOWS = 2, 2, 32, 256, 2
LENGTH = torch.arange(CONTEXT)
DISTANCE = LENGTH[:, None] - LENGTH


def tensors(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__")
    return {name: torch.frombuffer(bytearray(data[slice(*own["data_offsets"])]), dtype=torch.float32).view(own["shape"]).double() for name, own in header.items()}


def queries_and_keys(weights, tokens):
    """Of each layer q and k [B, H, T, D], of the model with dense causal attention, in float64."""

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, [WIDTH], weights[name + ".weight"], weights[name + ".bias"], 1e-5)

    x = weights["embedding"][tokens]
    layers = []
    for layer in range(LAYERS):
        own = f"block{layer}."
        x = x + weights["position"]
        q, k, v = (norm(x, own + "norm1") @ weights[own + "attention.projection.weight"].T).view(*tokens.shape, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        layers.append((q, k))
        o = probabilities(q, k) @ v
        x = x + o.transpose(1, 2).flatten(2) @ weights[own + "attention.output.weight"].T
        up = torch.nn.functional.gelu(norm(x, own + "norm2") @ weights[own + "up.weight"].T + weights[own + "up.bias"])
        x = x + up @ weights[own + "down.weight"].T + weights[own + "down.bias"]
    return layers


def probabilities(q, k):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return scores.masked_fill(DISTANCE < 0, -math.inf).softmax(-1)


def chosen(variant, q, k, **inputs):
    """The pairs [B, H, T, S] of a variant that selects."""
    x = {"q": q.float(), "k": k.float(), "v": k.float(), **inputs}
    tiles = torch.ops.weft.select(variant, list(x), [t.contiguous() for t in x.values()])
    keys = CONTEXT // tiles.shape[3]
    return tiles.repeat_interleave(64, 2).repeat_interleave(keys, 3) & (DISTANCE >= 0)


def window(width):
    return ((DISTANCE >= 0) & (DISTANCE < width)).expand(WINDOWS, HEADS, -1, -1)


class Mass(RunFolder, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.trained = cls("test_mass_of_exact_attention")
        RunFolder.setUp(cls.trained)
        cls.addClassCleanup(cls.trained.doCleanups)
        model = {"layers": LAYERS, "heads": HEADS, "width": WIDTH, "context": CONTEXT, "attention": "causal", "dropout": 0.0}
        cls.trained.write({"model": model, "train": {"steps": 30, "batch": 4, "warmup": 2, "lr": 0.01, "log_every": 10}})
        cls.trained.train("dense")
        cls.out = cls.trained.path("dense")
        exported = cls.trained.path("dense.safetensors")
        run("export", "--checkpoint", cls.out, "--out", exported)
        with gzip.open(cls.trained.data) as file:
            text = file.read()
        first = len(text) * 90 // 100
        tokens = torch.tensor(list(text[first : first + WINDOWS * CONTEXT])).view(WINDOWS, CONTEXT)
        cls.layers = queries_and_keys(tensors(exported), tokens)
        cls.exact = [probabilities(q, k) for q, k in cls.layers]

    def setUp(self):
        pass

    def eval(self, *args, code=0):
        return run("eval", "--checkpoint", self.out, "--data", self.trained.data, "--limit", str(WINDOWS * CONTEXT), *args, code=code)

    def written(self, name):
        with open(os.path.join(self.out, name)) as file:
            return json.load(file)

    def rows(self, layer, head, kept):
        """The masses of a head's rows, from the least on."""
        return (self.exact[layer] * kept).sum(-1)[:, head].flatten().sort().values

    def compare(self, figures, kept):
        """`kept` gives of a layer the pairs [B, H, T, S]."""
        self.assertEqual([(head["layer"], head["head"]) for head in figures["heads"]], [(layer, head) for layer in range(LAYERS) for head in range(HEADS)])
        for own in figures["heads"]:
            layer, head = own["layer"], own["head"]
            pairs = kept(layer)
            masses = self.rows(layer, head, pairs)
            with self.subTest(layer=layer, head=head):
                self.assertAlmostEqual(own["mass"], masses.mean().item(), delta=1e-5)
                self.assertAlmostEqual(own["mass_low"], masses[math.ceil(0.01 * len(masses)) - 1].item(), delta=2e-4)
                self.assertAlmostEqual(own["mass_least"], masses[0].item(), delta=2e-4)
                self.assertAlmostEqual(own["kept_pairs"], pairs[:, head].double().mean().item() * CONTEXT / ((CONTEXT + 1) / 2), delta=1e-9)

    def test_mass_of_exact_attention(self):
        """Windows, spans (a weight above 0), tiles by count and by share, single keys: against probabilities in float64."""
        share = torch.tensor([0.3, 0.6])
        for variant, settings, kept in [
            ("sliding_window", ["inputs.window=[[20],[90]]"], lambda layer: window((20, 90)[layer])),
            ("adaptive_span", ["inputs.span=[[40,100],[16,200]]"],
             lambda layer: torch.stack([window(32 + span)[:, 0] for span in ((40, 100), (16, 200))[layer]], 1)),
            ("dhsa", ["inputs.tiles=1"], lambda layer: chosen("dhsa", *self.layers[layer], tiles=torch.tensor([1, 1]))),
            ("flex_prefill", ["inputs.share=[[0.3,0.6],[0.3,0.6]]"], lambda layer: chosen("flex_prefill", *self.layers[layer], share=share)),
            ("anchor", ["inputs.theta=-0.1"], lambda layer: chosen("anchor", *self.layers[layer], theta=torch.tensor([-0.1, -0.1]))),
        ]:
            with self.subTest(variant):
                shown = self.eval("--mass", variant, "--set", *settings).stdout
                figures = self.written(f"mass_{variant}.json")
                self.assertEqual((figures["variant"], figures["model"], figures["bytes"]), (variant, "causal", WINDOWS * CONTEXT))
                self.compare(figures, kept)
                self.assertTrue(0.2 < figures["heads"][0]["mass"] < 0.9999, figures["heads"][0])
                self.assertIn(f"{figures['heads'][0]['mass']:.4f}", shown)
                # The more pairs, the more tiles; half of them and the diagonal are those of exact attention.
                self.assertTrue(0.5 < figures["exact_tiles"] < 0.8)
                for own in figures["heads"]:
                    self.assertTrue(own["kept_pairs"] / 2 < own["kept_tiles"] <= figures["exact_tiles"] + 0.07, own)

    def test_all_is_kept(self):
        self.eval("--mass")
        self.eval("--mass", "block_sparse", "--set", "inputs.tiles=4")
        for name in ("causal", "block_sparse"):
            figures = self.written(f"mass_{name}.json")
            for own in figures["heads"]:
                self.assertAlmostEqual(own["mass"], 1, delta=1e-6)
                self.assertEqual(own["kept_pairs"], 1)
                if name == "causal":
                    self.assertEqual(own["kept_tiles"], figures["exact_tiles"])

    def test_window_meets_its_target(self):
        self.eval("--mass", "sliding_window", "--target", "0.8")
        figures = self.written("mass_sliding_window_0.8.json")
        self.assertEqual((figures["target"], figures["dial"]["name"], figures["dial"]["step"]), (0.8, "window", 1))
        for layer, (width,) in enumerate(figures["inputs"]["window"]):
            heads = [own for own in figures["heads"] if own["layer"] == layer]
            self.assertTrue(all(own["met"] and own["dial"] == width for own in heads))
            mass = lambda width: sum(self.rows(layer, head, window(width)).mean().item() for head in range(HEADS)) / HEADS
            self.assertTrue(1 < width < CONTEXT)
            self.assertGreaterEqual(mass(width), 0.8 - 1e-6)
            self.assertLess(mass(width - 1), 0.8 + 1e-6)
        self.compare(figures, lambda layer: window(figures["inputs"]["window"][layer][0]))

    def test_keys_near_the_anchor_meet_their_target(self):
        """A dial of each head, of floats, beyond its declared range; then what is written is read: measured and evaluated."""
        shown = self.eval("--mass", "anchor", "--target", "0.93").stdout
        figures = self.written("mass_anchor_0.93.json")
        step, theta = figures["dial"]["step"], figures["inputs"]["theta"]
        mass = lambda layer, theta: [self.rows(layer, head, chosen("anchor", *self.layers[layer], theta=torch.tensor(theta))).mean().item() for head in range(HEADS)]
        for layer in range(LAYERS):
            at, before = mass(layer, theta[layer]), mass(layer, [value - step for value in theta[layer]])
            for head in range(HEADS):
                self.assertGreaterEqual(at[head], 0.93 - 1e-5)
                if theta[layer][head] > figures["dial"]["tight"]:
                    self.assertLess(before[head], 0.93 + 1e-5)
        self.assertTrue(any(value > figures["dial"]["tight"] for layer in theta for value in layer), theta)
        config = os.path.join(self.out, "dials_anchor_0.93.json")
        self.assertIn(config, shown)
        with open(config) as file:
            self.assertEqual(json.load(file)["model"]["inputs"], {"theta": theta})
        self.eval("--mass", "--config", config)
        again = self.written("mass_anchor.json")
        self.assertEqual([own["mass"] for own in again["heads"]], [own["mass"] for own in figures["heads"]])
        self.eval()
        before = self.written("eval_val.json")
        self.eval("--config", config)
        self.assertEqual(self.written("eval_val.json"), before)
        sparse = self.written("eval_val_anchor.json")
        self.assertEqual((sparse["attention"], sparse["inputs"]), ("anchor", {"theta": theta}))
        self.assertLess(abs(sparse["bpc"] - before["bpc"]), 0.2)
        self.assertNotEqual(sparse["bpc"], before["bpc"])
        # All is kept: the same model.
        self.eval("--set", "attention=block_sparse", "inputs.tiles=4")
        self.assertAlmostEqual(self.written("eval_val_block_sparse.json")["bpc"], before["bpc"], delta=1e-5)

    def test_target_out_of_reach(self):
        shown = self.eval("--mass", "anchor", "--target", "0.999", "--dial", "theta=-0.2..0.1").stdout
        figures = self.written("mass_anchor_0.999.json")
        self.assertIn("* below the target at the end of the range; --dial theta=LOW..HIGH", shown)
        self.assertFalse(all(own["met"] for own in figures["heads"]))
        for own in figures["heads"]:
            self.assertEqual(own["met"], own["mass"] >= 0.999, own)
            if not own["met"]:
                self.assertAlmostEqual(own["dial"], 0.1, delta=1e-9)

    def test_own_selection(self):
        """A model that was trained with a selection and a weight: the weight is part of its exact attention."""
        self.trained.train("content", "--set", "attention=content_sparse", "steps=2", "features=16")
        out = self.trained.path("content")
        measure = lambda *args: run("eval", "--checkpoint", out, "--data", self.trained.data, "--limit", "512", "--mass", *args).stdout
        measure("--set", "inputs.tiles=1")
        with open(out + "/mass_content_sparse.json") as file:
            some = json.load(file)["heads"]
        measure("--set", "inputs.tiles=4")
        with open(out + "/mass_content_sparse.json") as file:
            every = json.load(file)["heads"]
        for few, all_ in zip(some, every):
            self.assertTrue(0.5 < few["mass"] < 0.999 and few["kept_pairs"] < 0.95, few)
            self.assertAlmostEqual(all_["mass"], 1, delta=1e-6)
            self.assertEqual(all_["kept_pairs"], 1)
        measure("--target", "0.9")  # tiles alone: what is learned of the weight is no dial
        with open(out + "/mass_content_sparse_0.9.json") as file:
            self.assertEqual(json.load(file)["dial"]["name"], "tiles")

    def test_inputs_of_each_layer(self):
        """Of values and of learned numbers, in training too."""
        settings = ["steps=1", "lr=1e-9", "lr_min=0", "attention=adaptive_span", "inputs.span=[[20,200],[60,100]]"]
        self.trained.train("spans", "--set", *settings)
        run("eval", "--checkpoint", self.trained.path("spans"), "--data", self.trained.data, "--limit", "512")
        with open(self.trained.path("spans/eval_val.json")) as file:
            spans = [own["learned"]["span"] for own in json.load(file)["heads"]]
        for span, expected in zip(spans, (20, 200, 60, 100)):
            self.assertAlmostEqual(span, expected, delta=1e-3)
        for message, setting in [
            ("expected at model.inputs.span an array of 2 layers, each an array of one value or of 2 heads' values", "inputs.span=[[1],[2],[3]]"),
            ("expected at model.inputs.span an array of 2 layers", "inputs.span=[[1,2,3],[4,5,6]]"),
            ("expected a number, or the lower and the upper end of a range, at model.inputs.span, got [[1],2] (of each layer", "inputs.span=[[1],2]"),
        ]:
            self.assertIn(message, self.trained.train("x", "--set", "attention=adaptive_span", setting, code=1).stderr)
        self.assertIn("model.inputs.window: expected one value a layer, for it is no input by head",
                      self.trained.train("x", "--set", "attention=sliding_window", "inputs.window=[[1,2],[3,4]]", code=1).stderr)
        self.assertIn("model.inputs.window: expected integers",
                      self.trained.train("x", "--set", "attention=sliding_window", "inputs.window=[[1.5],[3]]", code=1).stderr)

    def test_errors(self):
        for message, args in [
            ("expected a variant whose rows are a softmax, got 'entmax15'", ["--mass", "entmax15"]),
            ("no variant or file 'nope'", ["--mass", "nope"]),
            ("has an input 'list' that the GPT does not make", ["--mass", "gathered"]),
            ("expected a variant with the scores of the model's attention 'causal', dot(q[i],k[j])/sqrt(D); 'alibi' has", ["--mass", "alibi"]),
            ("'content_sparse' has a network of its own", ["--mass", "content_sparse"]),
            ("expected inputs of variant 'anchor', which has theta, got 'tiles'", ["--mass", "anchor", "--set", "inputs.tiles=3"]),
            ("has no dial", ["--mass", "power", "--target", "0.9"]),
            ("expected --dial window or first, for variant 'a_shape' has several", ["--mass", "a_shape", "--target", "0.9"]),
            ("expected --dial window or first, got 'widow'; did you mean 'window'?", ["--mass", "a_shape", "--target", "0.9", "--dial", "widow"]),
            ("expected --dial theta=LOW..HIGH, two numbers and the lower one first, got 'theta=1..x'", ["--mass", "anchor", "--target", "0.9", "--dial", "theta=1..x"]),
            ("keeps the same share of the pairs", ["--mass", "block_sparse", "--target", "0.9", "--dial", "tiles=3..4"]),
            ("only model.attention and model.inputs can be others", ["--set", "heads=1"]),
            ("--config: expected the model of the checkpoint", None),
        ]:
            with self.subTest(message):
                if args is None:
                    config = self.trained.path("other.json")
                    with open(config, "w") as file:
                        json.dump({"model": {"layers": 1}}, file)
                    message, args = f"{config}: expected the model of the checkpoint", ["--config", config]
                self.assertIn(message, self.eval(*args, code=1).stderr)
        run("eval", "--checkpoint", self.out, "--target", "0.9", code=107)
        self.eval("--mass", "anchor", "--target", "1.5", code=105)
        self.assertIn("at least the context of 256 bytes", run("eval", "--checkpoint", self.out, "--data", self.trained.data, "--limit", "100", "--mass", code=1).stderr)
        self.assertIn("--mass", run("eval", "--help").stdout)


if __name__ == "__main__":
    unittest.main()
