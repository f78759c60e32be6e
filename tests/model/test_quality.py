"""benchmarks/variants.py, what sparsity costs in quality: runs that go on, rows of equal bytes and FLOPs, speed, the page."""

import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE, WEFT = os.environ["WEFT_SOURCE"], os.environ["WEFT_PROGRAM"]


class Quality(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.text, self.out, self.config = (os.path.join(folder.name, name) for name in ("text.gz", "quality", "config.json"))
        with open(self.config, "w") as file:
            json.dump({"model": {"layers": 1, "heads": 2, "width": 32, "context": 64, "dropout": 0.0}, "train": {"warmup": 2, "batch": 4, "log_every": 5}}, file)
        random.seed(1)
        words = ["".join(random.choice("abcdefgh") for _ in range(random.randint(2, 6))) for _ in range(40)]
        with gzip.open(self.text, "wb", compresslevel=1) as file:
            file.write(" ".join(random.choice(words) for _ in range(40000)).encode())

    def run_it(self, *more, code=0):
        command = [sys.executable, os.path.join(SOURCE, "benchmarks", "variants.py"), WEFT, self.text, "--config", self.config, "--contexts", "256", "--seeds", "1", "--steps", "10", "--eval-bytes", "500",
                   "--timed-steps", "3", "--out", self.out, *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def test_report(self):
        shown = self.run_it("--only", "dense,sliding window").stdout
        table = re.findall(r"^\| 256 \| (\w+) \| ([\w ]+) \| ([\d.]+) \| (\d+) % \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$", shown, re.MULTILINE)
        self.assertEqual([row[:2] for row in table], [("bytes", "dense"), ("bytes", "sliding window"), ("FLOPs", "dense"), ("FLOPs", "sliding window")])
        with open(self.out + ".json") as file:
            rows = {(row["equal"], row["name"]): row for row in json.load(file)}
        dense, same, equal = rows["bytes", "dense"], rows["bytes", "sliding window"], rows["FLOPs", "sliding window"]
        self.assertEqual((dense["steps"], same["steps"]), (10, 10))
        # A window of 32 of 256 keys takes fewer FLOPs; equal ones are more steps, to ten of them.
        self.assertLess(same["flops"], dense["flops"])
        self.assertEqual(equal["steps"], max(1, round(10 * dense["flops"] / same["flops"] / 10) * 10))
        for row in rows.values():
            self.assertTrue(0 < row["bpc"] < 10 and row["bytes"] == 500, row)
        with open(self.out + ".html") as file:
            page = file.read()
        for words in ("Context 256, equal bytes", "Context 256, equal FLOPs", "bytes a second", "sliding window"):
            self.assertIn(words, page)
        # All is there: nothing is trained, evaluated or timed again.
        names = [os.path.join(folder, name) for folder, _, names in os.walk(self.out) for name in names] + [self.out + ".speed.json"]
        before = {name: os.stat(name).st_mtime_ns for name in names}
        self.assertIn(self.run_it("--only", "dense,sliding window").stdout.strip(), shown)
        self.assertEqual({name: os.stat(name).st_mtime_ns for name in names}, before)
        # What is asked for besides is trained, and timed with what is known of the others.
        with open(self.out + ".speed.json") as file:
            known = json.load(file)["rates"]
        self.assertIn("| 256 | bytes | ALiBi | ", self.run_it("--only", "dense,ALiBi", "--bytes-only").stdout)
        with open(self.out + ".speed.json") as file:
            more = json.load(file)["rates"]
        self.assertEqual((more[: len(known)], [name for _, name, _ in more]), (known, ["dense", "sliding window", "ALiBi"]))
        # Runs that are known need no folder: what a file of them holds is asked for elsewhere, and found there.
        known = self.out + ".known"
        shown = self.run_it("--only", "dense,ALiBi", "--bytes-only", "--untimed", "--known", known).stdout
        with open(known) as file:
            entries = [json.loads(line) for line in file]
        self.assertEqual([entry["asked"]["settings"]["attention"] for entry in entries], ["alibi", "causal"])
        self.assertTrue(all(entry["data"].startswith("text.gz, ") for entry in entries), entries)
        before = os.stat(known).st_mtime_ns
        with tempfile.TemporaryDirectory() as elsewhere:
            again = self.run_it("--only", "dense,ALiBi", "--bytes-only", "--untimed", "--known", known, "--out", os.path.join(elsewhere, "a")).stdout
            self.assertEqual(os.listdir(os.path.join(elsewhere, "a")), [])
        self.assertEqual((again.splitlines()[:-1], os.stat(known).st_mtime_ns), (shown.splitlines()[:-1], before))
        # Another seed would not be that run.
        self.assertIn("holds a run of other settings", self.run_it("--only", "dense", "--steps", "20", code=1).stderr)
        self.assertIn("unknown attention 'sparse'; expected some of dense,", self.run_it("--only", "sparse", code=2).stderr)


if __name__ == "__main__":
    unittest.main()
