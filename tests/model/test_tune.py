"""`weft tune`: the search, its cache, interruption and death, several at once, and what the operator makes of it."""

import glob
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
import unittest

from test_command_line import WEFT, run, tiny

SHAPE = ["--shapes", "1,2,256,32"]
# Ample on a busy machine too: a search ends by itself long before.
AMPLE = ["--budget", "20m"]
PATIENCE = 1200  # seconds


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
        return run("tune", *args, env=self.env, code=code, timeout=PATIENCE)

    def start(self, *args, **streams):
        process = subprocess.Popen([WEFT, "tune", *args], env={**os.environ, **self.env}, text=True, **streams)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        return process

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
        out = self.tune("causal", *SHAPE, *AMPLE).stdout
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
        out = self.tune("span_periodic", "--shapes", "1,8,2048,64", "--direction", "forward", "--budget", "0.5s").stdout
        entry = self.entries()[0]
        self.assertGreater(entry["seconds"], 0)
        # Half a second is too little for this search, but who knows what machines will come.
        self.assertEqual("run again to go on" in out, not entry["complete"], out)
        # The same command goes on with what there is.
        before = self.samples()
        self.tune("span_periodic", "--shapes", "1,8,2048,64", "--direction", "forward", "--budget", "0.5s")
        self.assertGreaterEqual(self.samples(), before)

    def samples(self):
        if not glob.glob(os.path.join(self.cache, "schedules", "*.json")):
            return 0
        return sum(len(p["samples"]) for e in self.entries() for p in e["points"])

    def temporaries(self):
        return glob.glob(os.path.join(self.cache, "schedules", ".weft-*.tmp"))

    def test_killed_many_times_nothing_is_lost(self):
        seed = random.randrange(1 << 30)
        print("seed", seed)
        chance = random.Random(seed)
        kills = int(os.environ.get("WEFT_KILLS", "10"))  # 200 for a long look
        before = died = 0
        for number in range(kills):
            process = self.start("causal", *SHAPE, *AMPLE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if number % 2:
                # At any moment: while it starts, compiles, measures.
                try:
                    process.wait(chance.uniform(0, 1.5))
                except subprocess.TimeoutExpired:
                    pass
            else:
                # While it measures, however slow the machine is.
                goal = before + chance.randrange(1, 6)
                while process.poll() is None and self.samples() < goal:
                    time.sleep(0.01)
            process.kill()
            died += process.wait() == -signal.SIGKILL
            now = self.samples()  # the file is whole, too
            self.assertGreaterEqual(now, before)
            before = now
        print(died, "of", kills, "killed,", before, "samples,", len(self.temporaries()), "temporaries")
        self.assertGreater(died, 0)
        self.assertGreater(before, 0)
        self.assertLessEqual(len(self.temporaries()), died)
        # What the dead left goes when it is old.
        for name in (*self.temporaries(), os.path.join(self.cache, "schedules", ".weft-0123456789abcdef.tmp")):
            with open(name, "a"):
                os.utime(name, (time.time() - 86400,) * 2)
        self.assertIn("2 tuned", self.tune("causal", *SHAPE, *AMPLE).stdout)
        # Unless it was complete before, and so nothing was written.
        self.tune("causal", "--shapes", "1,2,64,32", "--direction", "forward", "--budget", "0.5s")
        self.assertEqual(self.temporaries(), [])
        self.assertGreaterEqual(self.samples(), before)
        self.assertEqual(glob.glob(self.path() + ".damaged*"), [])
        self.assertTrue(all(e["complete"] for e in self.entries() if e["bucket"]["queries"] == 256))

    def two_at_once(self, *args):
        """Runs two tuners; gives what they print, and checks that no measurement of either is lost."""
        both = [self.start("causal", "alibi", *SHAPE, "--direction", "forward", *args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
        outs = [process.communicate(timeout=PATIENCE)[0] for process in both]
        self.assertEqual([process.returncode for process in both], [0, 0])
        self.assertEqual(sum(int(re.search(r"(\d+) measurements", out)[1]) for out in outs), self.samples())
        self.assertEqual(sorted(e["variant"] for e in self.entries()), ["alibi", "causal"])
        self.assertEqual(glob.glob(self.path() + ".damaged*"), [])
        return outs

    def test_two_at_once_agree(self):
        outs = self.two_at_once(*AMPLE)
        # Each call was searched once, by one of them, to its end: the other found it known. So both name the same winners,
        # those that the cache has from then on.
        self.assertEqual([out.count("x default  complete") + out.count("x default  known") for out in outs], [2, 2])
        self.assertEqual(sum(out.count("known") for out in outs), 2)
        winners = lambda out: [line.split("x default")[0].split() for line in out.splitlines() if "x default" in line]
        self.assertEqual(winners(outs[0]), winners(outs[1]))
        self.assertEqual(sorted(winners(outs[0])), sorted(winners(self.tune("--list").stdout)))
        self.assertTrue(all(e["complete"] for e in self.entries()))

    def test_two_at_once_with_little_time_lose_nothing(self):
        self.two_at_once("--budget", "1s")

    def test_interrupt_keeps_and_goes_on(self):
        process = self.start("content_weight", "--shapes", "1,8,1024,64", *AMPLE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while self.samples() < 3 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
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
        self.tune("causal", *SHAPE, "--direction", "forward", *AMPLE)
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
        run(*arguments, "--backward", env={**self.env, "WEFT_TUNE": "1"}, timeout=PATIENCE)
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
