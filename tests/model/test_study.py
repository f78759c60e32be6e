"""benchmarks/study: tasks whose answers follow from their texts, dials that keep what they say, points that are made once, the page."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ["WEFT_SOURCE"]
FOLDER = os.path.join(SOURCE, "benchmarks", "study")
sys.path[:0] = [FOLDER, os.path.join(SOURCE, "python")]

import numpy as np
import torch
import weft
from dials import DIALS, FIXED, tiles_of, window_of
from queue_of_points import claimed, path_of
from report_of_study import pareto
from tasks import NONE, TASKS, make


class Tasks(unittest.TestCase):
    def texts(self, name, length=192):
        tokens, targets = make(name, 3, 5, 4, length)
        self.assertEqual((tokens.shape, targets.shape), ((4, length), (4, length)))
        self.assertTrue(((tokens >= 0) & (tokens < 256)).all())
        self.assertGreater((targets != NONE).sum(), 0)
        again, other = make(name, 3, 5, 4, length), make(name, 3, 6, 4, length)
        self.assertTrue((tokens == again[0]).all() and (targets == again[1]).all())
        self.assertFalse((tokens == other[0]).all())
        for text, target in zip(tokens.tolist(), targets.tolist()):
            yield text, {place: own for place, own in enumerate(target) if own != NONE}

    def test_recall(self):
        for name in ("recall", "recall_in_noise"):
            for text, known in self.texts(name):
                self.assertEqual(len(known), 12)
                for place, value in known.items():
                    self.assertEqual(text[text.index(text[place]) + 1], value)
                    self.assertLess(text.index(text[place]), place)

    def test_copying(self):
        for length in (64, 191, 192):
            for text, known in self.texts("copying", length):
                sign = text.index(100)
                self.assertEqual(sorted(known), list(range(sign, length - 1)))
                for place, own in known.items():
                    self.assertEqual(own, text[place + 1])
                    self.assertEqual(own, text[place - sign])

    def test_induction(self):
        for text, known in self.texts("induction"):
            for place, own in known.items():
                first = text.index(text[place])
                self.assertLess(first, place)
                self.assertEqual((text[first + 1], text[place + 1]), (own, own))

    def test_needle(self):
        for text, known in self.texts("needle"):
            text = bytes(text)
            name, digits = text[-5:-4], text[-3:]
            self.assertIn(b"#" + name + b"=" + digits + b";", text)
            self.assertEqual(bytes(known[place] for place in sorted(known)), digits)
            self.assertEqual([text[place + 1] for place in sorted(known)], list(digits))

    def test_variables(self):
        for text, known in self.texts("variables"):
            whole = bytes(text)
            self.assertEqual(len(known), 3)
            for place, own in known.items():
                name, steps = whole[place - 1 : place], 0
                while not name.isdigit():
                    at = whole.index(name + b"=")
                    self.assertLess(at, place)
                    name, steps = whole[at + 2 : at + 3], steps + 1
                self.assertEqual((name[0], steps), (own, 4))

    def test_counting(self):
        for text, known in self.texts("counting"):
            self.assertEqual(len(known), 12)
            end = min(known)
            for place, own in known.items():
                self.assertEqual(text[:end].count(text[place]), own - 100)

    def test_all_are_looked_at(self):
        self.assertEqual({f"test_{name}" for name in TASKS} - set(dir(self)), {"test_recall_in_noise"})
        with self.assertRaisesRegex(ValueError, "expected a length of 64 or more, got 63"):
            make("recall", 1, 1, 1, 63)


class Dials(unittest.TestCase):
    def test_shares(self):
        for length in (512, 2048):
            for share in (1.0, 0.5, 0.1):
                window = window_of(share, length)
                pairs = sum(min(i + 1, window) for i in range(length))
                self.assertAlmostEqual(pairs / (length * (length + 1) / 2), share, delta=0.01)
            rows = length // 64
            self.assertEqual((tiles_of(1.0, length), tiles_of(0.01, length)), (rows - 2, 1))

    def test_less_is_kept(self):
        torch.manual_seed(1)
        q, k, v = (torch.randn(1, 2, 1024, 32) for _ in range(3))
        kept = lambda name, share: weft.variant(name).explain(q, k, v, **DIALS[name](share, q, k)).kept_share
        dense = kept("causal", 1.0)
        for name in DIALS:
            with self.subTest(name):
                if name in FIXED:
                    self.assertLessEqual(kept(name, 1.0), dense)
                    continue
                # Of random rows single columns lie in every tile.
                shares = [kept(name, share) for share in (0.9, 0.4, 0.05)]
                self.assertEqual(shares, sorted(shares, reverse=True))
                self.assertLessEqual(shares[0], dense + 1e-9)
                if name not in ("anchor", "vertical_slash", "flex_prefill"):
                    self.assertAlmostEqual(shares[1] / dense, 0.4, delta=0.2)


class Points(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = os.path.join(folder.name, "study")

    def study(self, *arguments, code=0):
        environment = {**os.environ, "PYTHONPATH": os.path.join(SOURCE, "python")}
        done = subprocess.run([sys.executable, os.path.join(FOLDER, "study.py"), *arguments], capture_output=True, text=True, timeout=240, env=environment)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def test_claims(self):
        os.mkdir(self.out)
        path = path_of(self.out, {"task": "recall", "share": 0.5})
        self.assertTrue(path.endswith("task=recall_share=0.5.json"))
        with claimed(path) as mine, claimed(path) as other:
            self.assertEqual((mine, other), (True, False))
        with claimed(path) as mine:
            self.assertTrue(mine)
        # A process that dies holds nothing.
        dying = f"import sys, os; sys.path.insert(0, {FOLDER!r}); from queue_of_points import claimed\nwith claimed({path!r}) as mine: os._exit(3 if mine else 1)"
        self.assertEqual(subprocess.run([sys.executable, "-c", dying], timeout=60).returncode, 3)
        with claimed(path) as mine:
            self.assertTrue(mine)

    def test_run_and_report(self):
        asked = ("run", "--tasks", "recall", "--lengths", "128", "--evaluated", "128,256", "--variants", "causal,sliding_window", "--shares", "0.2", "--seeds", "1",
                 "--modes", "free,trained", "--steps", "4", "--check", "2", "--batch", "2", "--texts", "8", "--out", self.out)
        self.assertIn("[8/8] recall 256 sliding_window 0.2: ", self.study(*asked).stdout)
        kept = {}
        for name in os.listdir(os.path.join(self.out, "points")):
            if not name.endswith(".json"):
                continue
            with open(os.path.join(self.out, "points", name)) as file:
                point = json.load(file)
            self.assertTrue(0 <= point["accuracy"] <= 1 and point["count"] == point["evaluated"] // 16 * 8 and point["seconds"] > 0, point)
            kept[point["mode"], point["variant"], point["evaluated"]] = point["kept"]
        self.assertLess(kept["free", "sliding_window", 256], kept["free", "causal", 256])
        times = lambda: {name: os.stat(os.path.join(self.out, folder, name)).st_mtime_ns for folder in ("points", "models") for name in os.listdir(os.path.join(self.out, folder)) if not name.endswith(".claim")}
        files = times()
        self.assertEqual(len(files), 8 + 2 * 2)  # a dense model and one of a window, each with what it learned
        os.remove(path_of(os.path.join(self.out, "points"), {"mode": "free", "task": "recall", "length": 128, "seed": 1, "variant": "causal", "share": 1.0, "evaluated": 128}))
        self.assertEqual(self.study(*asked).stdout.count("recall"), 1)
        self.assertEqual(sum(files[name] == now for name, now in times().items()), 11)
        for other in (("--width", "32"), ("--texts", "4"), ("--width", "32", "--evaluated", "192")):
            self.assertIn("of another recipe", self.study(*asked, *other, code=1).stderr)
        self.study("report", "--out", self.out)
        with open(os.path.join(self.out, "study.html")) as file:
            page = file.read()
        for words in ("free: which variant for which task", "trained: recall", "right against kept tiles", "study.py run --modes free --tasks recall --lengths 128 --evaluated 256 --variants sliding_window --shares 0.2 --seeds 1 --steps 4 --check 2 --batch 2 --texts 8"):
            self.assertIn(words, page)

    def test_stops_and_lengthens(self):
        """A model that knows enough is not trained on, texts become longer where it nearly knows, and what is there is known again."""
        asked = ("run", "--tasks", "recall", "--lengths", "256", "--variants", "causal", "--seeds", "1", "--steps", "9", "--check", "2", "--batch", "1", "--texts", "4", "--out", self.out)
        self.study(*asked, "--enough", "0")
        with open(os.path.join(self.out, "models", "task=recall_length=256_seed=1_variant=causal_share=1.0.json")) as file:
            told = json.load(file)
        self.assertEqual([length for _, length, _, _ in told["curve"]], [64] * 5)
        self.assertEqual((told["steps"], told["steps_made"]), (9, 9))
        self.study(*asked, "--enough", "0", "--shortest", "256", "--out", self.out + "2")
        with open(os.path.join(self.out + "2", "models", "task=recall_length=256_seed=1_variant=causal_share=1.0.json")) as file:
            self.assertEqual(json.load(file)["steps_made"], 2)
        self.assertNotIn("[1/1]", self.study(*asked, "--enough", "0", "--shortest", "256", "--out", self.out + "2").stdout)

    def test_pareto(self):
        entries = [{"seconds": seconds, "accuracy": accuracy} for seconds, accuracy in ((3, 0.9), (1, 0.5), (2, 0.4), (4, 0.9), (2, 0.7))]
        self.assertEqual([(own["seconds"], own["accuracy"]) for own in pareto(entries, "seconds")], [(1, 0.5), (2, 0.7), (3, 0.9)])

    def test_mistakes(self):
        self.assertIn("unknown 'sparse'; expected some of causal,", self.study("run", "--variants", "sparse", code=2).stderr)
        self.assertIn("expected a share above 0 and up to 1, got 1.5", self.study("run", "--shares", "1.5", code=2).stderr)
        self.assertIn("no points in", self.study("report", "--out", self.out, code=1).stderr)


if __name__ == "__main__":
    unittest.main()
