"""`weft decode-cost`: bytes and FLOPs against numbers counted by hand, crossovers, JSON and mistakes. Nothing here depends on a time."""

import json
import os
import subprocess
import tempfile
import unittest

from training import WEFT, run

D, BF16 = 64, 2


class Costs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)

    def cost(self, *arguments, device="h100"):
        """The JSON of a run, and what it prints."""
        out = os.path.join(self.folder.name, "cost.json")
        text = run("decode-cost", *map(str, arguments), "--device", device, "--out", out).stdout
        with open(out) as file:
            return json.load(file), text

    def rows(self, variant, *arguments, **more):
        own, _ = self.cost(variant, *arguments, **more)
        return [row for row in own["rows"] if row["variant"] == variant]


class Counts(Costs):
    """H heads over G, one layer."""

    def test_dense(self):
        for B, H, G, N, layers in ((1, 8, 8, 1024, 1), (2, 8, 2, 1000, 3)):
            row, = self.rows("causal", "--batch", B, "--heads", H, "--group-heads", G, "--length", N, "--layers", layers)
            tiles = -(-N // row["tile_k"])
            self.assertEqual(row["key_bytes"], B * 2 * N * G * D * BF16)
            self.assertEqual(row["head_bytes"], B * 2 * N * G * D * BF16)  # heads of a group go together
            self.assertEqual((row["kept_tiles"], row["tiles"]), (B * G * tiles, B * G * tiles))
            self.assertEqual(row["query_bytes"], B * 2 * H * D * BF16)
            self.assertEqual((row["input_bytes"], row["choosing_bytes"], row["choosing_flops"]), (0, 0, 0))
            self.assertEqual(row["flops"], B * H * N * 2 * 2 * D)
            self.assertEqual(row["executed_flops"], B * G * tiles * row["tile_k"] * 16 * 2 * 2 * D)
            self.assertEqual((row["kernels"], row["clears"]), (2, 0))  # plan_band, forward

    def test_types(self):
        for type, size in (("f32", 4), ("f16", 2)):
            row, = self.rows("causal", "--length", 512, "--type", type, "--dim", 32)
            self.assertEqual(row["key_bytes"], 2 * 512 * 8 * 32 * size)

    def test_window(self):
        """The tile of queries that the newest one stands in begins at N - 16; the tile that its first key is in is read whole."""
        N, window = 4096, 300
        row, = self.rows("sliding_window", "--length", N, "--set", f"window={window}", "--group-heads", 2)
        first = (N - 16 - (window - 1)) // row["tile_k"] * row["tile_k"]
        self.assertEqual(row["key_bytes"], 2 * (N - first) * 2 * D * BF16)
        self.assertEqual(row["flops"], 8 * (N - first) * 2 * 2 * D)
        self.assertEqual(row["kept_tiles"], 2 * (N - first) // row["tile_k"])
        longer, = self.rows("sliding_window", "--length", 4 * N, "--set", f"window={window}", "--group-heads", 2)
        self.assertEqual(longer["key_bytes"], row["key_bytes"])

    def test_adaptive_span(self):
        """Weights end 32 behind the span."""
        N, span = 4096, 500
        row, = self.rows("adaptive_span", "--length", N, "--span", span)
        first = (N - 16 - (span + 31)) // row["tile_k"] * row["tile_k"]
        self.assertEqual(row["key_bytes"], 2 * (N - first) * 8 * D * BF16)
        self.assertEqual(row["input_bytes"], 0)

    def test_selected_tiles(self):
        N, H, G = 4096, 8, 2
        sizes = ("--length", N, "--heads", H, "--group-heads", G)
        row, = self.rows("block_sparse", *sizes, "--set", "tiles=4")
        tiles = N // 64
        each = row["flops"] / (H * 2 * 2 * D * 64)  # kept tiles of 64 keys a head: four, and up to three that are always kept
        self.assertTrue(4 <= each <= 7, each)
        self.assertGreaterEqual(row["key_bytes"], 2 * 4 * 64 * G * D * BF16)
        self.assertLessEqual(row["key_bytes"], row["head_bytes"])
        # Keys pooled for each group, a tile of queries for each head, their means left and read by each head, a map left and read.
        pools = G * (N * D * BF16 + tiles * D * 4) + H * (64 * D * BF16 + D * 4)
        self.assertEqual(row["choosing_bytes"], pools + H * (tiles + 1) * D * 4 + 2 * H * tiles)
        self.assertEqual(row["choosing_flops"], G * N * D + H * 64 * D + 2 * H * tiles * D)
        whole, = self.rows("block_sparse", *sizes, "--set", f"tiles={tiles}")
        dense, = self.rows("causal", *sizes)
        self.assertEqual(whole["key_bytes"], dense["key_bytes"])
        self.assertEqual(whole["flops"], dense["flops"])

    def test_pages(self):
        own, _ = self.cost("causal", "--length", 1000, "--batch", 3, "--page", 48)
        flat, paged = own["rows"]
        self.assertEqual((flat["page"], paged["page"]), (0, 48))
        self.assertEqual(paged["tile_k"], 16)  # a tile lies in one page
        self.assertEqual(paged["key_bytes"], flat["key_bytes"])
        self.assertEqual(paged["input_bytes"], 3 * 21 * 4)  # 21 pages a sequence
        self.assertEqual(flat["input_bytes"], 0)

    def test_other_inputs(self):
        """Flags of keys, an int a key for all heads, and keys of an `also`."""
        row, = self.rows("tidal", "--length", 1024, "--set", "window=100")
        self.assertEqual(row["choosing_bytes"], 8 * 1024)
        self.assertEqual(row["input_bytes"], 8 * row["flops"] / (8 * 2 * 2 * D))  # a byte for each key that a head keeps
        row, = self.rows("document", "--length", 1024, "--set", "doc=1", "--set", "key_doc=1")
        self.assertEqual(row["input_bytes"], 1024 * 4)
        row, = self.rows("nsa", "--length", 1024, "--set", "tiles=16")
        self.assertEqual(row["key_bytes"], 2 * (1024 + 16) * 8 * D * BF16)  # a summary of each 64 keys

    def test_lists(self):
        """One key of eight, and its position."""
        row, = self.rows("gathered", "--length", 4096)
        self.assertEqual(row["key_bytes"], 2 * 512 * 8 * D * BF16)
        self.assertEqual(row["input_bytes"], 8 * 512 * 4)

    def test_a_text(self):
        path = os.path.join(self.folder.name, "near.weft")
        with open(path, "w") as file:
            file.write("attention near(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E]) { where i >= j and i - j < 64  score dot(q[i], k[j]) }")
        own, text = self.cost(path, "--length", 2048)
        row = own["rows"][1]
        first = (2048 - 16 - 63) // row["tile_k"] * row["tile_k"]
        self.assertEqual((row["variant"], row["key_bytes"]), ("near", 2 * (2048 - first) * 8 * D * BF16))
        self.assertIn("near ", text)


class Times(Costs):
    def test_parts(self):
        """Enough heads for all of the chip: bytes over the data sheet's bandwidth."""
        own, text = self.cost("causal", "block_sparse", "--batch", 32, "--length", 2048, 8192, "--layers", 2)
        self.assertEqual((own["kind"], own["figures"]), ("predicted", "data sheet"))
        self.assertEqual([(x["bytes"], x["gbs"]) for x in own["bandwidth"]], [(0, 3352)])
        for row in own["rows"]:
            self.assertAlmostEqual(row["launch_us"], 2 * 2.5 * (row["kernels"] + row["clears"]), delta=1e-6)
            self.assertAlmostEqual(row["memory_us"], 2 * (row["key_bytes"] + row["input_bytes"] + row["query_bytes"]) / 3352e3, delta=1e-6 * row["memory_us"])
            self.assertAlmostEqual(row["arithmetic_us"], 2 * row["executed_flops"] / (own["peak_tflops"] * 1e6), delta=0.25 * row["arithmetic_us"])
            parts = row["launch_us"] + row["choosing_us"] + max(row["memory_us"], row["arithmetic_us"])
            self.assertAlmostEqual(row["predicted_us"], parts, delta=1e-6 * parts)
            self.assertAlmostEqual(row["predicted_tokens_per_second"], 32e6 / row["predicted_us"], delta=1e-6 * row["predicted_tokens_per_second"])
            longest = max(("launch", "choosing", "memory", "arithmetic"), key=lambda part: row[part + "_us"])
            self.assertTrue(row["bound"].startswith(longest), row)
        self.assertIn("predicted by its data sheet, nothing is measured", text)

    def test_few_heads_leave_most_of_a_chip_idle(self):
        few, = self.rows("causal", "--length", 2048)
        many, = self.rows("causal", "--length", 2048, "--batch", 4)
        self.assertAlmostEqual(many["memory_us"], few["memory_us"], delta=1e-3 * few["memory_us"])  # four times the bytes, and the SMs
        # Keys of a long sequence are shared in pieces of 2,048, what is joined costs launches.
        long, = self.rows("causal", "--length", 8192)
        self.assertAlmostEqual(long["memory_us"], few["memory_us"], delta=1e-2 * few["memory_us"])
        self.assertEqual((few["kernels"], long["kernels"]), (2, 8))

    def test_monotony(self):
        rows = self.rows("causal")
        self.assertEqual([row["length"] for row in rows], [2**n for n in range(10, 18)])
        for short, long in zip(rows, rows[1:]):
            self.assertLess(short["predicted_us"], 1.001 * long["predicted_us"])  # twice the pieces run beside each other
        fast, slow = (self.rows("causal", "--length", 8192, "--batch", 32, device=device)[0]["predicted_us"] for device in ("h200", "a100"))
        self.assertLess(fast, slow)
        windows = self.rows("sliding_window", "--span", 512, "--length", 2048, 8192, 32768)
        self.assertEqual(len({row["predicted_us"] for row in windows}), 1)

    def test_crossover(self):
        lengths = [2**n for n in range(8, 15)]
        sizes = ("--batch", 16, "--length", *lengths)
        own, text = self.cost("sliding_window", *sizes, "--set", "window=1024")
        point, = own["crossovers"]
        self.assertEqual((point["variant"], point["with_weights"]), ("sliding_window", False))
        start = point["length"]
        self.assertIn(f"sliding_window is faster than causal from {start} tokens on", text)
        self.assertGreater(start, 1024)
        time = {(row["variant"], row["length"]): row["predicted_us"] for row in own["rows"]}
        for length in lengths:
            self.assertEqual(time["sliding_window", length] < 0.99 * time["causal", length], length >= start, length)
        # Between two of the lengths, known to a part in 32.
        before = start - max(64, start // 32) - 64
        own, _ = self.cost("sliding_window", "--batch", 16, "--length", before, start, "--set", "window=1024")
        time = {(row["variant"], row["length"]): row["predicted_us"] for row in own["rows"]}
        self.assertLess(time["sliding_window", start], 0.99 * time["causal", start])
        self.assertGreaterEqual(time["sliding_window", before], 0.99 * time["causal", before])

    def test_no_crossover(self):
        own, text = self.cost("sliding_window", "--length", 1024, 4096, "--set", "window=5000")
        self.assertIsNone(own["crossovers"][0]["length"])
        self.assertIn("sliding_window is nowhere faster than causal up to 4096 tokens", text)
        own, text = self.cost("sliding_window", "--batch", 64, "--length", 4096, 8192, "--set", "window=16")
        self.assertEqual(own["crossovers"][0]["length"], 4096)
        self.assertIn("or before", text)

    def test_weights(self):
        config = {"model": {"layers": 3, "heads": 4, "width": 256, "context": 128, "attention": "sliding_window", "network": "swiglu"}, "train": {}}
        path = os.path.join(self.folder.name, "model.json")
        with open(path, "w") as file:
            json.dump(config, file)
        own, text = self.cost("--model", path, "--batch", 8, "--length", 1024, 16384)
        inner = 8 * 256 // 3
        layer = (own["weights"]["parameters"] - 256 * 256) / 3 - 4 * 256 * 256
        self.assertAlmostEqual(layer / (3 * 256), inner, delta=64)  # the gate's width is rounded
        self.assertEqual(own["weights"]["bytes"], own["weights"]["parameters"] * BF16)
        self.assertEqual((own["layers"], own["heads"], own["dim"]), (3, 4, 64))
        self.assertEqual([row["variant"] for row in own["rows"]], ["causal"] * 2 + ["sliding_window"] * 2)
        for row in own["rows"]:
            seconds = 1e-6 * (row["predicted_us"] + own["weights"]["predicted_us"])
            self.assertAlmostEqual(row["with_weights_tokens_per_second"], 8 / seconds, delta=1e-6 * 8 / seconds)
        alone, whole = own["crossovers"]
        self.assertEqual((alone["with_weights"], whole["with_weights"]), (False, True))
        self.assertLessEqual(alone["length"], whole["length"] or 1e9)
        self.assertIn("weights:", text)


class OnThisCpu(Costs):
    """What is measured is there; how long it took is no matter."""

    def test_figures_are_measured(self):
        own, text = self.cost("causal", "--length", 64, 100, "--heads", 2, "--dim", 16, "--type", "f32", device="cpu")
        self.assertEqual((own["kind"], own["figures"]), ("predicted", "measured"))
        self.assertEqual(own["rows"][1]["key_bytes"], 2 * 100 * 2 * 16 * 4)
        self.assertTrue(all(x["gbs"] > 0 for x in own["bandwidth"]))
        self.assertEqual(sorted(x["bytes"] for x in own["bandwidth"]), [x["bytes"] for x in own["bandwidth"]])
        self.assertGreater(own["peak_tflops"], 0)
        self.assertIn("predicted by what was measured", text)

    def test_check(self):
        out = os.path.join(self.folder.name, "check.json")
        text = run("decode-cost", "causal", "--check", "--length", "64", "--heads", "2", "--dim", "16", "--out", out).stdout
        with open(out) as file:
            own = json.load(file)
        row, = own["rows"]
        self.assertEqual(own["kind"], "checked")
        self.assertAlmostEqual(row["ratio"], row["measured_us"] / row["predicted_us"], delta=1e-6 * row["ratio"])
        self.assertGreater(row["measured_us"], 0)
        self.assertRegex(text, r"causal +64 ")


class Mistakes(Costs):
    def refused(self, words, *arguments, code=1):
        self.assertRegex(run("decode-cost", *arguments, code=code).stderr, words)

    def test_mistakes(self):
        self.refused("h100, h200", "causal", "--device", "h300")
        self.refused("no variant or file 'causl'", "causl", "--device", "h100")
        self.refused("expected a variant", "--device", "h100")
        self.refused("expected --group-heads to divide --heads, got 3 and 8", "causal", "--group-heads", "3", "--device", "h100")
        self.refused("pages of a multiple of 16 tokens, got 20", "causal", "--page", "20", "--device", "h100")
        self.refused("expected --set NAME=NUMBER, got 'window'", "causal", "--set", "window", "--device", "h100")
        self.refused("--set windw: none of the variants", "sliding_window", "--set", "windw=3", "--device", "h100")
        self.refused("expected keys that queries share", "indexed", "--device", "h100", "--length", "256")
        self.refused("--check measures on this CPU", "causal", "--check", "--device", "h100")
        self.refused("'guess' of 'sea' would have .* GB at 65536 tokens", "sea", "--device", "h100", "--length", "65536")

    def test_usage(self):
        for arguments in (("--batch", "0"), ("--type", "f64"), ("--dim", "300"), ("--model", "a.json", "--layers", "3")):
            result = subprocess.run([WEFT, "decode-cost", "causal", *arguments], capture_output=True, timeout=60)
            self.assertNotIn(result.returncode, (0, 1), arguments)


if __name__ == "__main__":
    unittest.main()
