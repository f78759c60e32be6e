"""Runs for every combination of settings: which, in what order, and what of a sweep that was stopped."""

import json
import os
import signal
import subprocess
import unittest

from training import WEFT, RunFolder, run, tiny

os.environ["WEFT_THREADS"] = "1"


class Sweep(RunFolder, unittest.TestCase):
    def command(self, *args):
        return ["sweep", "--config", self.config, "--data", self.data, "--out", self.path("s"), *args]

    def results(self):
        with open(self.path("s/sweep.json")) as file:
            return json.load(file)

    def test_every_combination(self):
        vary = ("--vary", "train.lr=1e-3,1e-2,1e30", "--vary", "dropout=0,0.1", "--set", "lr_min=0", "validate_bytes=1000")
        out = run(*self.command(*vary)).stdout
        results = self.results()
        self.assertTrue(results["complete"])
        self.assertEqual({r["name"] for r in results["runs"]}, {f"lr={lr},dropout={dropout}" for lr in ("1e-3", "1e-2", "1e30") for dropout in ("0", "0.1")})
        done = [r for r in results["runs"] if "val_bpc" in r]
        self.assertEqual(len(done), 4)
        self.assertEqual([r["val_bpc"] for r in done], sorted(r["val_bpc"] for r in done))
        self.assertEqual(results["runs"][:4], done)
        self.assertEqual(done[0]["settings"]["train.lr"], "1e-2")
        # One that diverges ends no sweep.
        for row in results["runs"][4:]:
            self.assertIn("the first value that is not finite", row["error"])
        lines = out.splitlines()
        self.assertEqual([line.split()[-1] for line in lines[1:7]], [r["name"] for r in results["runs"]])
        self.assertEqual(lines[1].split()[0], f"{done[0]['val_bpc']:.4f}")
        self.assertEqual(lines[6].split()[0], "diverged")
        # A run is that of `weft train`, and so is its figure.
        self.train("alone", "--set", "lr=1e-3", "dropout=0.1", "lr_min=0", "validate_every=12", "validate_bytes=1000")
        self.assertEqual(self.losses("alone"), self.losses("s/lr=1e-3,dropout=0.1"))
        same = next(r for r in done if r["name"] == "lr=1e-3,dropout=0.1")
        self.assertEqual(same["val_bpc"], self.metrics("alone")[-1]["val_bpc"])
        self.assertAlmostEqual(same["train_bpc"], sum(m["bpc"] for m in self.metrics("alone")) / 12)
        # Again: all is there, and stays. More values: they alone are trained.
        before = {r["name"]: os.stat(self.path(f"s/{r['name']}/metrics.jsonl")).st_mtime_ns for r in done}
        said = run(*self.command("--vary", "train.lr=1e-3,1e-2,1e30,2e-3", *vary[2:])).stderr
        self.assertEqual(said.count("done before"), 6)
        self.assertEqual(len(self.results()["runs"]), 8)
        self.assertEqual(before, {name: os.stat(self.path(f"s/{name}/metrics.jsonl")).st_mtime_ns for name in before})
        self.assertIn("is a run of other settings; give a new --out", run(*self.command(*vary, "--set", "batch=2"), code=1).stderr)

    def test_stopped_and_gone_on_with(self):
        self.write(tiny(steps=60, save_every=1000))
        command = self.command("--vary", "lr=1e-3,2e-3")
        process = subprocess.Popen([WEFT, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "] 5/60" in line and os.path.exists(self.path("s/lr=2e-3")):
                process.send_signal(signal.SIGINT)
                break
        out, said = process.communicate(timeout=240)
        self.assertEqual(process.returncode, 130)
        self.assertIn("saved. Go on with --resume", said)
        self.assertIn("not complete: the same command goes on", out)
        self.assertEqual([r["name"] for r in self.results()["runs"]], ["lr=1e-3"])
        self.assertFalse(self.results()["complete"])
        part = self.losses("s/lr=2e-3")
        run(*command)
        self.assertTrue(self.results()["complete"])
        self.train("alone", "--set", "lr=2e-3")
        self.assertEqual(self.losses("alone"), self.losses("s/lr=2e-3"))
        self.assertEqual(part, self.losses("alone")[:len(part)])
        # Killed at once: nothing is lost either.
        os.remove(self.path("s/lr=2e-3/sweep_run.json"))
        run(*command)
        self.assertEqual(len(self.results()["runs"]), 2)

    def test_mistakes_are_said_before_anything_is_trained(self):
        for message, *args in [("expected key=value,value,..., got 'lr'", "--vary", "lr"), ("'lr' is varied twice", "--vary", "lr=1", "--vary", "lr=2"),
                               ("expected train.lr above 0, got 0", "--vary", "lr=1e-3,0"), ("unknown setting 'learning_rat'", "--vary", "learning_rat=1"),
                               ("two runs of the sweep would be lr=1e-3", "--vary", "lr=1e-3,1e-3"), ("expected a number at train.lr, got \"\"", "--vary", "lr=1e-3,"),
                               ("expected at most 10000 runs", "--vary", "lr=" + ",".join(["1"] * 101), "--vary", "seed=" + ",".join(["1"] * 101))]:
            with self.subTest(message):
                self.assertIn(message, run(*self.command(*args), code=1).stderr)
        self.assertFalse(os.path.exists(self.path("s")))
        # Commas in brackets part nothing.
        self.write(tiny(steps=1))
        run(*self.command("--vary", "inputs.span=[0, 9],[0, 19]"))
        self.assertEqual({r["name"] for r in self.results()["runs"]}, {"span=_0__9_", "span=_0__19_"})


if __name__ == "__main__":
    unittest.main()
