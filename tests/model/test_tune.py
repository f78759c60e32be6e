"""`weft tune`: the search, its cache, interruption and death, several at once, and what the operator makes of it."""

import glob
import json
import os
import random
import signal
import subprocess
import tempfile
import time
import unittest

from test_command_line import WEFT, run, tiny

SHAPE = ["--shapes", "1,2,256,32"]


class Tune(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.cache = os.path.join(self.folder.name, "cache")
        # Kernels may be shared with other tests, tuning results may not.
        os.makedirs(self.cache)
        kernels = os.path.join(os.environ.get("WEFT_CACHE_DIR", self.cache), "kernels")
        os.makedirs(kernels, exist_ok=True)
        if not os.path.exists(os.path.join(self.cache, "kernels")):
            os.symlink(kernels, os.path.join(self.cache, "kernels"))
        self.env = {"WEFT_CACHE_DIR": self.cache}

    def tune(self, *args, code=0):
        return run("tune", *args, env=self.env, code=code)

    def path(self):
        return glob.glob(os.path.join(self.cache, "schedules", "*.json"))[0]

    def entries(self):
        with open(self.path()) as file:
            return json.load(file)["entries"]

    def rewrite(self, change):
        with open(self.path()) as file:
            content = json.load(file)
        change(content)
        with open(self.path(), "w") as file:
            json.dump(content, file)

    def test_finds_keeps_lists_and_explains(self):
        out = self.tune("causal", *SHAPE, "--budget", "60s").stdout
        self.assertIn("2 tuned", out)
        self.assertEqual(out.count("complete"), 2)
        entries = self.entries()
        self.assertEqual([e["direction"] for e in entries], ["forward", "backward"])
        for entry in entries:
            self.assertTrue(entry["complete"])
            self.assertLessEqual(entry["seconds"], entry["default_seconds"])
            measured = [p for p in entry["points"] if p["samples"]]
            self.assertGreater(len(measured), 10)
            self.assertIn(entry["schedule"], [p["schedule"] for p in measured])
            self.assertEqual((entry["bucket"], entry["threads"] > 0), ({"heads": 2, "queries": 256, "keys": 256}, True))
        again = self.tune("causal", *SHAPE).stdout
        self.assertIn(" 0 measurements", again)
        self.assertEqual(again.count("known"), 2)
        self.assertEqual(self.entries(), entries)
        listed = self.tune("--list").stdout
        self.assertEqual(listed.count("x default"), 2)
        explained = self.tune("causal", "--explain").stdout
        for word in ("chosen", "default", "rho =", "samples"):
            self.assertIn(word, explained)
        self.assertIn("nothing tuned yet", self.tune("alibi", "--explain", code=1).stderr)

    def test_the_operator_uses_it(self):
        self.tune("causal", *SHAPE, "--direction", "forward", "--budget", "2s")
        total = lambda: int(run("run", "causal", "--shape", "1,2,256,32", "--dtype", "f32", env=self.env).stdout.split(" of ")[1].split()[0])

        def use(tile):
            self.rewrite(lambda c: c["entries"][0]["schedule"].update(tile_q=tile, tile_k=tile))
        use(32)
        self.assertEqual(total(), 2 * 8 * 8)
        use(128)
        self.assertEqual(total(), 2 * 2 * 2)
        # Another build's result is not trusted: default tiles, and tuning measures anew.
        self.rewrite(lambda c: c["entries"][0].update(build="another", complete=True))
        self.assertEqual(total(), 2 * 4 * 4)
        self.assertIn("of another build", self.tune("--list").stdout)
        self.assertNotIn(" 0 measurements", self.tune("causal", *SHAPE, "--direction", "forward", "--budget", "2s").stdout)
        self.assertNotEqual(self.entries()[0]["build"], "another")

    def test_budget_leaves_the_best_so_far(self):
        start = time.time()
        out = self.tune("span_periodic", "--shapes", "1,8,2048,64", "--direction", "forward", "--budget", "1s").stdout
        self.assertLess(time.time() - start, 30)
        self.assertIn("run again to go on", out)
        self.assertGreater(self.entries()[0]["seconds"], 0)
        self.assertFalse(self.entries()[0]["complete"])

    def samples(self):
        if not glob.glob(os.path.join(self.cache, "schedules", "*.json")):
            return 0
        return sum(len(p["samples"]) for e in self.entries() for p in e["points"])

    def test_killed_twenty_times_nothing_is_lost(self):
        seed = random.randrange(1 << 30)
        print("seed", seed)
        chance = random.Random(seed)
        command = [WEFT, "tune", "causal", "sliding_window", *SHAPE, "--budget", "120s"]
        before = died = 0
        for _ in range(20):
            process = subprocess.Popen(command, env={**os.environ, **self.env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(chance.uniform(0.1, 1.5))
            except subprocess.TimeoutExpired:
                process.kill()
                died += 1
                process.wait()
            now = self.samples()  # the file is whole, too
            self.assertGreaterEqual(now, before)
            before = now
        self.assertGreater(died, 5)
        self.assertGreater(before, 0)
        self.assertIn("4 tuned", self.tune("causal", "sliding_window", *SHAPE, "--budget", "120s").stdout)
        self.assertEqual(glob.glob(self.path() + ".damaged*"), [])
        self.assertTrue(all(e["complete"] for e in self.entries()))

    def test_two_at_once_agree(self):
        command = [WEFT, "tune", "causal", "alibi", *SHAPE, "--budget", "60s"]
        both = [subprocess.Popen(command, env={**os.environ, **self.env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
        outs = [process.communicate(timeout=200)[0] for process in both]
        self.assertEqual([process.returncode for process in both], [0, 0])
        schedule = lambda out: [line[:98].split(",")[-1] for line in out.splitlines() if "x default" in line]
        self.assertEqual(len(schedule(outs[0])), 4)
        self.assertEqual(schedule(outs[0]), schedule(outs[1]))
        # Each call was searched once.
        self.assertEqual(sum(out.count("known") for out in outs), 4)
        self.assertEqual(len(self.entries()), 4)

    def test_interrupt_keeps_and_goes_on(self):
        process = subprocess.Popen([WEFT, "tune", "content_weight", "--shapes", "1,8,1024,64", "--budget", "120s"],
                                   env={**os.environ, **self.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.time() + 100
        while self.samples() < 3 and time.time() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("kept", err)
        self.assertGreaterEqual(self.samples(), 3)

    def test_damaged_cache(self):
        self.tune("causal", *SHAPE, "--direction", "forward", "--budget", "1s")
        for number, damage in enumerate(("{ not json", "", '{"schema": 99, "device": {"name": "x"}, "entries": []}'), 1):
            with open(self.path(), "w") as file:
                file.write(damage)
            result = self.tune("--list")
            self.assertIn("put aside", result.stderr)
            self.assertEqual(len(glob.glob(os.path.join(self.cache, "schedules", "*.damaged*"))), number)
            self.tune("causal", *SHAPE, "--direction", "forward", "--budget", "1s")
            self.assertEqual(len(self.entries()), 1)

    def test_export_and_import(self):
        self.tune("causal", *SHAPE, "--direction", "forward", "--budget", "60s")
        other = os.path.join(self.folder.name, "other.json")
        self.tune("--export", other)
        entries = self.entries()
        os.remove(self.path())
        self.assertIn("1 entries added", self.tune("--import", other).stdout)
        self.assertEqual(self.entries(), entries)
        self.assertIn("0 entries added", self.tune("--import", other).stdout)
        with open(other) as file:
            content = json.load(file)
        content["device"]["name"] = "a GPU"
        with open(other, "w") as file:
            json.dump(content, file)
        self.assertIn("of another device", self.tune("--import", other, code=1).stderr)
        self.assertIn("cannot open", self.tune("--import", "/nonexistent", code=1).stderr)

    def test_on_request_and_never_else(self):
        arguments = ["run", "causal", "--shape", "1,2,128,32", "--dtype", "f32"]
        run(*arguments, env=self.env)
        self.assertEqual(self.samples(), 0)
        run(*arguments, "--backward", env={**self.env, "WEFT_TUNE": "1"})
        self.assertEqual(sorted(e["direction"] for e in self.entries()), ["backward", "forward"])

    def test_before_training(self):
        config, data = os.path.join(self.folder.name, "c.json"), os.path.join(self.folder.name, "text")
        with open(config, "w") as file:
            json.dump(tiny(), file)
        with open(data, "w") as file:
            file.write("to be or not to be, that is the question. " * 400)
        out = run("train", "--config", config, "--data", data, "--out", os.path.join(self.folder.name, "run"), "--tune", "--tune-budget", "4s", env=self.env)
        self.assertIn("2 tuned", out.stdout)
        self.assertEqual({e["variant"] for e in self.entries()}, {"span_periodic"})
        with open(os.path.join(self.folder.name, "run", "metrics.jsonl")) as file:
            last = json.loads(file.readlines()[-1])
        self.assertEqual(len(last["heads"]["span"]), 2)
        self.assertGreater(last["flops"], 0)

    def test_mistakes(self):
        self.assertIn("expected variants", self.tune(code=1).stderr)
        self.assertIn("expected a shape B,H,T,D", self.tune("causal", "--shapes", "1,2,3", code=1).stderr)
        self.assertIn("expected a time", self.tune("causal", "--budget", "soon", code=1).stderr)
        self.assertIn("the library has:", self.tune("nope", code=1).stderr)
        self.assertIn("no speed to tune for", self.tune("causal", *SHAPE, "--device", "ptx-emulator", code=1).stderr)


if __name__ == "__main__":
    unittest.main()
