"""Training runs that are stopped, killed, damaged or doubled: nothing is lost, nothing damaged is loaded."""

import hashlib
import io
import os
import random
import resource
import signal
import subprocess
import time
import unittest
import warnings

from training import WEFT, RunFolder, run, tiny

# The same figures every time, and less work.
os.environ["WEFT_THREADS"] = "1"


class Run(RunFolder, unittest.TestCase):
    def start(self, out, *args, before=None):
        """A run of many steps at work."""
        process = subprocess.Popen([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path(out), "--set", "steps=100000", *args],
                                   stderr=subprocess.PIPE, text=True, preexec_fn=before)
        self.addCleanup(process.stderr.close)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        return process

    def steps(self, process, count):
        """Reads on until that many steps are logged; the text read."""
        text = ""
        while count > 0:
            line = process.stderr.readline()
            if not line:
                raise AssertionError("the run ended: " + text)
            text += line
            count -= "tok/s" in line
        return text

    def sample(self, out, code=0):
        return run("sample", "--checkpoint", self.path(out), "--length", "0", code=code).stderr

    def saved_everything(self, out):
        last = self.metrics(out)[-1]["step"]
        self.assertIn(f"step {last} of {last}: nothing is left to do", self.train(out, "--resume", "--steps", str(last)).stderr)


class Stops(Run):
    def test_signals_save_and_exit_by_convention(self):
        default = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
        for number, code in [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]:
            with self.subTest(number.name):
                process = self.start(number.name, "--set", "save_every=50000", before=default)
                self.steps(process, 3)
                for _ in range(2):  # `timeout` sends it twice
                    process.send_signal(number)
                self.assertEqual(process.wait(timeout=240), code)
                self.assertIn("saved. Go on with --resume", process.stderr.read())
                self.saved_everything(number.name)

    def test_a_reader_that_leaves(self):
        process = self.start("a", "--set", "save_every=50000")
        self.steps(process, 3)
        process.stderr.close()
        self.assertEqual(process.wait(timeout=240), 141)
        self.saved_everything("a")

    def test_nohup_and_a_second_trainer(self):
        process = self.start("a", "--set", "save_every=1", before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.steps(process, 1)
        process.send_signal(signal.SIGHUP)
        for args in ((), ("--resume",)):
            self.assertIn("another weft train is at work in", self.train("a", *args, code=1).stderr)
        self.steps(process, 5)
        # The lock dies with its holder, however that dies.
        process.kill()
        process.wait()
        self.train("a", "--resume", "--steps", str(self.metrics("a")[-1]["step"] + 2))

    def test_a_kill_at_any_moment_loses_no_figure(self):
        # WEFT_KILLS=200 takes some minutes.
        kills, chance = int(os.environ.get("WEFT_KILLS", "8")), random.Random(5)
        self.write(tiny(steps=12 * kills, save_every=2, keep=3, validate_every=3, validate_bytes=256))
        self.train("whole")
        command = ["train", "--config", self.config, "--data", self.data, "--out", self.path("killed"), "--resume"]
        inside = 0
        for kill in range(kills):
            process = subprocess.Popen([WEFT, *command], stderr=subprocess.PIPE, text=True)
            # Every other one among steps and saves, the others at any time from the start on.
            if kill % 2 == 0:
                for line in process.stderr:
                    if "tok/s" in line:
                        break
                time.sleep(chance.uniform(0, 0.1))
            else:
                time.sleep(chance.uniform(0, 2))
            process.kill()
            text = process.communicate()[1]
            self.assertIn(process.returncode, (0, -signal.SIGKILL), text)
            inside += process.returncode != 0
        self.assertGreater(inside, 0)
        run(*command)
        self.assertEqual(self.losses("whole"), self.losses("killed"))
        # Nor a file: the same ones are kept.
        kept = lambda out: {name for name in os.listdir(self.path(out)) if name.endswith(".pt")}
        self.assertEqual(kept("whole"), {"best.pt", "checkpoint.pt", *(f"checkpoint-{12 * kills - back}.pt" for back in (2, 4))})
        self.assertEqual(kept("killed"), kept("whole"))


class Files(Run):
    def test_checkpoints_end_with_a_digest_of_themselves(self):
        self.train("a", "--steps", "3")
        self.assertIn("go on with --resume", self.train("a", code=1).stderr)
        path = self.path("a/checkpoint.pt")
        with open(path, "rb") as file:
            whole = file.read()
        archive, line = whole[:whole.rindex(b"\n", 0, -1)], whole[whole.rindex(b"\n", 0, -1):]
        self.assertEqual(line.split()[-1].decode(), hashlib.sha256(archive).hexdigest())

        def put(content):
            with open(path, "wb") as file:
                file.write(content)

        chance = random.Random(int(os.environ.get("WEFT_FLIPS_SEED", "3")))
        flips = [chance.randrange(8 * len(whole)) for _ in range(int(os.environ.get("WEFT_FLIPS", "4")))] + [8 * len(whole) - 12, 8 * len(archive)]
        for bit in flips:
            with self.subTest(f"bit {bit} of {8 * len(whole)}"):
                damaged = bytearray(whole)
                damaged[bit // 8] ^= 1 << bit % 8
                put(damaged)
                self.assertIn("is damaged", self.sample("a", code=1))
        # Cut short, cut to nothing, and as versions before the digests wrote them.
        for content in (whole[:1000], b"", archive):
            put(content)
            self.assertIn("is damaged", self.sample("a", code=1))
        self.assertIn("is damaged", self.train("a", "--resume", code=1).stderr)
        self.assertIn("is damaged", run("eval", "--checkpoint", self.path("a"), "--data", self.data, code=1).stderr)
        put(whole)
        self.sample("a")

        # Tensors of other shapes and types under a right digest.
        import torch
        warnings.simplefilter("ignore", DeprecationWarning)
        for wrong in (torch.zeros(2, 2), torch.zeros(256, 32, dtype=torch.float64)):
            module = torch.jit.load(io.BytesIO(archive))
            module.model._c.setattr("embedding", wrong)
            changed = io.BytesIO()
            torch.jit.save(module, changed)
            put(changed.getvalue() + line.replace(hashlib.sha256(archive).hexdigest().encode(), hashlib.sha256(changed.getvalue()).hexdigest().encode()))
            self.assertRegex(self.sample("a", code=1), "does not fit this program: embedding is .*, expected Float .256, 32.")

    def test_a_full_disk_leaves_the_checkpoint_before(self):
        self.train("a", "--steps", "3")
        path = self.path("a/checkpoint.pt")
        with open(path, "rb") as file:
            before = file.read()
        limit = len(before) // 2
        result = subprocess.run([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path("a"), "--resume"], capture_output=True, text=True,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"cannot write {path}: File too large; the checkpoint before it is untouched", result.stderr)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), before)
        self.assertEqual([name for name in os.listdir(self.path("a")) if name.endswith(".tmp")], [])
        # What a killed process left goes with the next run, what may be another's at work stays.
        for name in ("checkpoint.pt.1.tmp", ".weft-00.tmp"):
            with open(self.path("a/" + name), "w"):
                os.utime(self.path("a/" + name), (1, 1))
        with open(self.path("a/.weft-01.tmp"), "w"):
            pass
        self.train("a", "--resume")
        self.assertEqual([name for name in os.listdir(self.path("a")) if name.endswith(".tmp")], [".weft-01.tmp"])

    def test_metrics_that_are_damaged(self):
        self.train("a", "--steps", "7")
        path, figures = self.path("a/metrics.jsonl"), self.losses("a")
        with open(path, "ab") as file:
            file.write(b'5\nnull\n[]\n{"step": "x"}\n{"step": 7, "seconds": "x"}\n\xff\xfe\n{"step": 99}\n{"step": 8, "lo')
        with open(path, "rb") as before:
            # Who reads the old file while it is replaced reads all of it.
            size = len(before.read())
            result = self.train("a", "--resume", "--set", "lr=2e-3", "--steps", "9")
            before.seek(0)
            self.assertEqual(len(before.read()), size)
        self.assertIn("left out 7 lines that are no entries", result.stderr)
        # A run that goes on otherwise says so.
        self.assertIn("train.lr was 0.001, is 0.002 from here on", result.stderr)
        self.assertEqual(self.losses("a")[:7], figures)
        self.assertEqual([step for step, _ in self.losses("a")], list(range(1, 10)))


if __name__ == "__main__":
    unittest.main()
