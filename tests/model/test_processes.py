"""Several processes train one model: with the losses of one process, and none is left behind when one ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

import torch.distributed

from training import WEFT, RunFolder, run, tiny

# The same figures every time; waits end long before this on any machine that works.
os.environ["WEFT_THREADS"] = "1"
PATIENCE = 240
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def settings(attention="span_periodic", **train):
    """Without dropout, whose random numbers are each process's own, and without the rounding of sums to 16 bits."""
    config = tiny(attention, **{"precision": "f32", **train})
    config["model"]["dropout"] = 0
    return config


class Processes(RunFolder, unittest.TestCase):
    # Sums of f32 in another order, and what becomes of that in a few dozen steps: 2e-7 where it was measured.
    ROUNDING = 5e-6

    def setUp(self):
        super().setUp()
        self.write(settings(batch=8))

    def command(self, out, *args):
        return ["train", "--config", self.config, "--data", self.data, "--out", self.path(out), *args]

    def start(self, *args, count=2, env=lambda rank: {}):
        """Processes as torchrun starts them, with its store in this process: the system chooses the port."""
        self.store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        processes = []
        for rank in range(count):
            own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": self.store.port, "TORCHELASTIC_USE_AGENT_STORE": True, **env(rank)}
            processes.append(subprocess.Popen([WEFT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                              env={**os.environ, **{name: str(value) for name, value in own.items()}}))
        for process in processes:
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.stderr.close)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
        return processes

    def end(self, processes, codes=(0, 0)):
        """What each wrote to its output and its errors."""
        texts = [process.communicate(timeout=PATIENCE) for process in processes]
        self.assertEqual([process.returncode for process in processes], list(codes), texts)
        return texts

    def together(self, *args, codes=(0, 0), **options):
        return self.end(self.start(*args, count=len(codes), **options), codes)

    def steps(self, process, count):
        """Reads on until that many steps are logged."""
        for line in process.stderr:
            count -= "tok/s" in line
            if count == 0:
                return
        self.fail("the run ended")

    def same(self, one, other, tolerance):
        """Losses and norms of gradients, relative."""
        figures = [[(entry["step"], entry["loss"], entry["grad_norm"]) for entry in self.metrics(run)] for run in (one, other)]
        self.assertEqual([row[0] for row in figures[0]], [row[0] for row in figures[1]])
        for left, right in zip(*figures):
            for a, b in zip(left[1:], right[1:]):
                self.assertLessEqual(abs(a - b), tolerance * abs(a), (left, right))


class Figures(Processes):
    def test_losses_are_those_of_one_process(self):
        # Spans with their regulariser; several batches a step, and a content network; tables; inputs without gradients.
        for name, attention, train in [("span", "span_periodic", {"span_reg": 1e-3, "clip": 0.5}), ("gate", "row_gate", {"accumulate": 2, "clip": 0}),
                                       ("table", "relative_bias", {"steps": 4}), ("window", "sliding_window", {"steps": 4}),
                                       ("again", "adaptive_span", {"steps": 4, "recompute": "blocks", "optimizer": "muon", "accumulate": 2})]:
            with self.subTest(name):
                self.write(settings(attention, batch=4, **train))
                self.train(name)
                texts = self.together(*self.command(name + "2"))
                self.same(name, name + "2", self.ROUNDING)
                # The first alone prints, once.
                self.assertEqual(texts[1], ("", ""))
                self.assertEqual(len(re.findall("parameters", texts[0][1])), 1)
                self.assertIn("2 processes, each with 2 texts and 1 thread", texts[0][1])
                self.assertEqual(texts[0][0], "")

    def test_sixteen_bits(self):
        # Each process rounds the sums of its own texts: to 8 bits of bf16, and to 11 of f16, whose scale all share.
        for precision, tolerance in (("bf16", 1e-2), ("f16", 2e-3)):
            self.write(settings(batch=4, steps=4, precision=precision))
            self.train(precision)
            self.together(*self.command(precision + "2"))
            self.same(precision, precision + "2", tolerance)

    def test_dropout_is_each_process_its_own(self):
        # All texts are the same, so processes with the same random numbers would be copies of one with half the batch.
        with open(self.path("a.txt"), "w") as file:
            file.write("a" * 20000)
        self.data = self.path("a.txt")
        config = tiny(batch=2, steps=1)
        config["model"]["dropout"] = 0.5
        self.write(config)
        self.train("half")
        self.together(*self.command("both", "--set", "batch=4"))
        half, both = self.losses("half")[0][1], self.losses("both")[0][1]
        self.assertGreater(abs(half - both), 1e-4 * half)

    def test_resumed_with_as_many_or_others(self):
        # A learning rate that does not depend on the number of steps.
        self.write(settings(batch=8, warmup=0, lr=1e-3, lr_min=1e-3))
        self.together(*self.command("whole"))
        self.together(*self.command("two", "--steps", "6"))
        shutil.copytree(self.path("two"), self.path("fewer"))
        self.train("more", "--steps", "6")
        self.together(*self.command("two", "--resume"))
        self.together(*self.command("more", "--resume"))
        self.train("fewer", "--resume")
        self.same("whole", "two", 0)
        self.same("whole", "more", self.ROUNDING)
        self.same("whole", "fewer", self.ROUNDING)
        texts = self.together(*self.command("two"), codes=(1, 1))
        self.assertIn("go on with --resume", texts[0][1])
        self.assertIn("another of the 2 processes has ended", texts[1][1])

    def test_evaluation(self):
        self.train("a")
        arguments = ["eval", "--checkpoint", self.path("a"), "--data", self.data, "--split", "test", "--stride", "16"]

        def result():
            with open(self.path("a/eval_test.json")) as file:
                return json.load(file)
        one = run(*arguments).stdout
        expected = result()
        os.remove(self.path("a/eval_test.json"))
        texts = self.together(*arguments)
        self.assertEqual(texts, [(one, ""), ("", "")])
        self.assertAlmostEqual(result()["bpc"], expected["bpc"], delta=1e-12)
        self.assertEqual(result()["bytes"], expected["bytes"])


class Ends(Processes):
    def test_one_that_is_lost(self):
        for lost in (0, 1):
            with self.subTest(lost=lost):
                out = f"lost{lost}"
                processes = self.start(*self.command(out, "--steps", "100000", "--set", "save_every=3"))
                self.steps(processes[0], 4)
                processes[lost].kill()
                begin = time.monotonic()
                codes = [1, 1]
                codes[lost] = -signal.SIGKILL
                text = self.end(processes, codes)[1 - lost][1]
                self.assertLess(time.monotonic() - begin, 60)
                # Then the system's word for it, and no line of Gloo's sources.
                self.assertRegex(text, rf"weft: rank {1 - lost}: another of the 2 processes has ended, or cannot be reached any more \([A-Z]")
                if lost == 1:
                    # The first one loses no step.
                    last = self.metrics(out)[-1]["step"]
                    self.assertIn(f"step {last} is saved", text)
                    self.assertIn(f"step {last} of {last}: nothing", self.train(out, "--resume", "--steps", str(last)).stderr)

    def test_a_signal_to_one_stops_all_at_the_same_step(self):
        processes = self.start(*self.command("a", "--steps", "100000", "--set", "save_every=50000"))
        self.steps(processes[0], 3)
        processes[1].send_signal(signal.SIGTERM)
        texts = self.end(processes, (143, 143))
        last = self.metrics("a")[-1]["step"]
        self.assertIn(f"interrupted at step {last}; saved", texts[0][1])
        self.assertEqual(texts[1][1], "")
        self.together(*self.command("a", "--resume", "--steps", str(last + 1)))

    def test_an_error_of_all_and_of_one(self):
        for text in self.together(*self.command("a", "--set", "batch=5"), codes=(1, 1)):
            self.assertIn("train.batch = 5 texts cannot be shared equally by 2 processes; a batch of 4 or 6 can", text[1])
        self.assertFalse(os.path.exists(self.path("a")))
        # A copy of the text that is another.
        with open(self.path("other.txt"), "w") as file:
            file.write("other words " * 3000)
        texts = self.together(*self.command("a")[:3], "--out", self.path("a"), codes=(1, 1),
                              env=lambda rank: {"WEFT_DATA": self.path("other.txt") if rank else self.data})
        self.assertIn("rank 1 has another text than rank 0", texts[1][1])
        # One that never comes: torchrun then ends the others.
        processes = self.start(*self.command("a")[:3], "--out", self.path("a"),
                               env=lambda rank: {"WEFT_DATA": self.path("none.txt") if rank else self.data})
        self.assertIn("weft: rank 1: ", processes[1].communicate(timeout=PATIENCE)[1])
        time.sleep(0.5)
        processes[0].terminate()
        self.assertIn("interrupted before the run began: 1 of 2 processes were there", processes[0].communicate(timeout=PATIENCE)[1])
        self.assertFalse(os.path.exists(self.path("a")))
        for environment, error in [({"WORLD_SIZE": "two"}, "expected WORLD_SIZE from 1"), ({"WORLD_SIZE": "2"}, "expected RANK from 0 to 1, got ''"),
                                   ({"WORLD_SIZE": "2", "RANK": "2"}, "expected RANK from 0 to 1, got '2'"),
                                   ({"WORLD_SIZE": "2", "RANK": "1"}, "expected MASTER_ADDR")]:
            self.assertIn(error, self.train("a", code=1, env=environment).stderr)
        self.train("a", "--steps", "1", env={"WORLD_SIZE": "1"})


class Torchrun(Processes):
    def launch(self, *args, options=()):
        process = subprocess.Popen([*TORCHRUN, "--standalone", "--no-python", "--nproc-per-node", "2", "--monitor-interval", "0.1", *options, WEFT, *args],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)

        def finish():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stderr.close()
        self.addCleanup(finish)
        return process

    def workers(self, launcher):
        """By rank."""
        found = {}
        for process in subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True).stdout.split():
            with open(f"/proc/{process}/environ", "rb") as file:
                rank = re.search(rb"(?:^|\0)RANK=(\d+)", file.read())
            if rank:
                found[int(rank[1])] = int(process)
        return found

    def test_a_restart_goes_on_from_the_last_checkpoint(self):
        self.write(settings(batch=4, steps=60, save_every=5))
        self.train("whole")
        launcher = self.launch(*self.command("a"), options=("--max-restarts", "1"))
        self.steps(launcher, 7)
        os.kill(self.workers(launcher)[1], signal.SIGKILL)
        text = launcher.communicate(timeout=PATIENCE)[1]
        self.assertEqual(launcher.returncode, 0, text)
        self.assertEqual([step for step, _ in self.losses("a")], list(range(1, 61)), text)
        self.same("whole", "a", self.ROUNDING)

    def test_a_signal_to_torchrun_saves(self):
        launcher = self.launch(*self.command("a", "--steps", "100000", "--set", "save_every=50000"))
        self.steps(launcher, 3)
        launcher.send_signal(signal.SIGTERM)
        text = launcher.communicate(timeout=PATIENCE)[1]
        last = self.metrics("a")[-1]["step"]
        self.assertIn(f"interrupted at step {last}; saved", text)
        self.assertIn(f"step {last} of {last}: nothing", self.train("a", "--resume", "--steps", str(last)).stderr)


if __name__ == "__main__":
    unittest.main()
