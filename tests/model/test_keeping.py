"""What a training run validates, keeps and tells TensorBoard."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import time
import unittest

from training import WEFT, RunFolder, run, tiny

# The same figures every time, and less work.
os.environ["WEFT_THREADS"] = "1"


class Validation(RunFolder, unittest.TestCase):
    def validated(self, out):
        return {m["step"]: m["val_bpc"] for m in self.metrics(out) if "val_bpc" in m}

    def test_it_changes_nothing_of_the_training(self):
        self.train("without")
        said = self.train("with", "--set", "validate_every=4", "validate_bytes=512", "log_every=3").stderr
        # Steps that are validated are logged, and the last one is validated.
        self.assertEqual([step for step, _ in self.losses("with")], [3, 4, 6, 8, 9, 12])
        self.assertEqual(list(self.validated("with")), [4, 8, 12])
        losses = dict(self.losses("without"))
        for step, loss in self.losses("with"):
            self.assertEqual(loss, losses[step])
        self.assertEqual(len(re.findall(r"  val \d\.\d{3}  ", said)), 3)
        # The figure is that of `weft eval`, which reads the same bytes.
        out = run("eval", "--checkpoint", self.path("with"), "--data", self.data, "--limit", "512").stdout
        self.assertIn(f"{self.validated('with')[12]:.4f} bpc over 512 bytes", out)
        # Over a resume: the same figures.
        self.train("whole", "--set", "validate_every=2", "save_every=4")
        with open(self.path("whole/metrics.jsonl")) as file:
            self.assertEqual(len(file.readlines()), 12)
        process = subprocess.Popen([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path("cut"), "--set", "validate_every=2", "save_every=4"],
                                   stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "] 5/12" in line:
                process.kill()
                break
        process.communicate()
        self.train("cut", "--resume", "--set", "validate_every=2", "save_every=4")
        self.assertEqual(self.losses("cut"), self.losses("whole"))
        self.assertEqual(self.validated("cut"), self.validated("whole"))

    def test_it_is_not_counted(self):
        """Validation takes far longer than the steps; the seconds of training know nothing of it."""
        self.train("a", "--set", "validate_every=1", "validate_bytes=100000", "--steps", "4")
        start = time.time()
        self.train("a", "--resume", "--set", "validate_every=1", "validate_bytes=100000", "--steps", "12")
        spent, entries = time.time() - start, self.metrics("a")
        self.assertLess(entries[-1]["seconds"] - entries[3]["seconds"], spent / 2)

    def test_a_terminal_has_one_line(self):
        """As wide as the terminal is, with the newest validation in sight."""
        for width, cut in ((200, False), (70, True)):
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
            process = subprocess.Popen([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path(str(width)), "--set", "validate_every=5"], stderr=slave)
            os.close(slave)
            text = b""
            while True:
                try:
                    text += os.read(master, 4096)
                except OSError:  # the other end is closed
                    break
            os.close(master)
            self.assertEqual(process.wait(), 0)
            lines = [line for line in text.decode().split("\r\033[K")[1:]]
            self.assertEqual(len(lines), 12)
            for step, line in enumerate(lines, 1):
                self.assertLess(len(line.rstrip("\r\n")), width)
                self.assertEqual("  val " in line, step >= 5)
                self.assertEqual("  kept " in line, not cut)
            self.assertNotIn("left", lines[-1])
            self.assertEqual("left" in lines[0], not cut)

    def test_too_little_to_validate_on(self):
        for message, setting in [("expected train.validate_bytes of at least model.context = 64, got 63", "validate_bytes=63"),
                                 ("expected train.validate_every from 0 to", "validate_every=-1"), ("expected train.keep from 1 to 10000, got 0", "keep=0"),
                                 ("expected train.save_minutes from 0 on, got -1", "save_minutes=-1")]:
            self.assertIn(message, self.train("x", "--set", "validate_every=1", setting, code=1).stderr)
        self.assertFalse(os.path.exists(self.path("x")))
        self.assertIn("expected more bytes to validate on than model.context = 20000", self.train("x", "--set", "validate_every=1", "context=20000", "batch=1", code=1).stderr)


class Keeping(RunFolder, unittest.TestCase):
    def steps(self, out):
        """Of the checkpoints in a folder, by name."""
        names = [name for name in os.listdir(self.path(out)) if name.endswith(".pt")]
        return {name: self.step(out + "/" + name) for name in names}

    def step(self, place):
        return int(re.search(r"step (\d+)", run("eval", "--checkpoint", self.path(place), "--data", self.data, "--limit", "64").stdout)[1])

    def test_the_last_few(self):
        self.train("a", "--set", "save_every=3", "keep=3", "--steps", "11")
        self.assertEqual(self.steps("a"), {"checkpoint.pt": 11, "checkpoint-9.pt": 9, "checkpoint-6.pt": 6})
        # A name that looks like one is nobody's to remove.
        for name in ("checkpoint-old.pt", "checkpoint-007.pt", "checkpoint--1.pt"):
            with open(self.path("a/" + name), "w"):
                pass
        self.train("a", "--resume", "--set", "save_every=3", "keep=2")
        self.assertEqual({name for name in os.listdir(self.path("a")) if name.startswith("checkpoint")},
                         {"checkpoint.pt", "checkpoint-11.pt", "checkpoint-old.pt", "checkpoint-007.pt", "checkpoint--1.pt"})
        # One alone: nothing but checkpoint.pt is touched.
        self.train("a", "--resume", "--steps", "14")
        self.assertTrue(os.path.exists(self.path("a/checkpoint-11.pt")))
        self.assertEqual(self.step("a"), 14)

    def test_by_minutes(self):
        self.train("a", "--set", "save_every=1000", "keep=100", "--steps", "4")
        self.assertEqual(len(self.steps("a")), 1)
        self.train("b", "--set", "save_every=1000", "keep=100", "save_minutes=1e-9", "--steps", "4")
        self.assertEqual(sorted(self.steps("b").values()), [1, 2, 3, 4])

    def test_the_best_by_validation(self):
        # What there is to validate on is nothing like what is learned: every step after the first few is worse.
        self.data = self.path("text")
        with open(self.data, "w") as file:
            file.write("to be or not to be. " * 5400 + "0123456789" * 1200)
        settings = ("--set", "validate_every=4", "save_every=6", "validate_bytes=4096", "lr_min=0")
        self.train("a", *settings, "--set", "lr=3e-3", "--steps", "24")
        bpc = {m["step"]: m["val_bpc"] for m in self.metrics("a") if "val_bpc" in m}
        best = min(bpc, key=bpc.get)
        self.assertEqual(self.step("a/best.pt"), best)
        out = run("eval", "--checkpoint", self.path("a/best.pt"), "--data", self.data, "--limit", "4096").stdout
        self.assertIn(f"{bpc[best]:.4f} bpc", out)
        with open(self.path("a/eval_val.json")) as file:
            self.assertEqual(json.load(file)["checkpoint"], "best.pt")
        run("sample", "--checkpoint", self.path("a/best.pt"), "--length", "3")
        # What comes after a resume is worse, and the best is known still.
        self.train("a", "--resume", *settings, "--set", "lr=3e-3", "--steps", "30")
        later = {m["step"]: m["val_bpc"] for m in self.metrics("a") if "val_bpc" in m and m["step"] > 24}
        self.assertEqual(list(later), [28, 30])
        self.assertGreater(min(later.values()), bpc[best])
        self.assertEqual(self.step("a/best.pt"), best)
        # Of other bytes it does not compare; nor does one that is damaged.
        said = self.train("a", "--resume", *settings, "--set", "validate_bytes=128", "--steps", "32").stderr
        self.assertIn("best.pt was validated on other bytes", said)
        self.assertEqual(self.step("a/best.pt"), 32)
        with open(self.path("a/best.pt"), "rb") as file, open(self.path("damaged"), "wb") as damaged:
            damaged.write(file.read()[:-100])
        os.replace(self.path("damaged"), self.path("a/best.pt"))  # not in place: checkpoint.pt is the same file
        said = self.train("a", "--resume", *settings, "--set", "validate_bytes=128", "--steps", "36").stderr
        self.assertRegex(said, "best.pt is no checkpoint, or is damaged.*\n.*replaces it")
        self.assertEqual(self.step("a/best.pt"), 36)
        # One file of two names where both are of one step.
        self.assertTrue(os.path.samefile(self.path("a/best.pt"), self.path("a/checkpoint.pt")))

    def test_places(self):
        self.train("a", "--steps", "1")
        self.assertIn(f"no checkpoint at {self.path('a/best.pt')};", run("eval", "--checkpoint", self.path("a/best.pt"), "--data", self.data, code=1).stderr)
        self.assertIn(f"no checkpoint at {self.path('b')}/checkpoint.pt;", run("sample", "--checkpoint", self.path("b"), code=1).stderr)


def crc32c(data):
    """Bit by bit, and masked: apart from the writer's table."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path):
    with open(path, "rb") as file:
        data = file.read()
    while data:
        length, check = struct.unpack("<QI", data[:12])
        assert check == crc32c(data[:8]), path
        event, (check,) = data[12:12 + length], struct.unpack("<I", data[12 + length:16 + length])
        assert check == crc32c(event), path
        yield event
        data = data[16 + length:]


class Events(RunFolder, unittest.TestCase):
    NAMES = {"loss", "bpc", "val_bpc", "lr", "grad_norm", "tokens_per_second", "mfu", "kept_tiles", "mean_span"}

    def files(self, out):
        return sorted(self.path(out + "/" + name) for name in os.listdir(self.path(out)) if name.startswith("events.out.tfevents."))

    def test_frames(self):
        self.assertEqual(crc32c(b"123456789"), ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF)  # of the standard
        self.train("a", "--steps", "3")
        path, = self.files("a")
        self.assertEqual(len(list(records(path))), 2 + 3)
        self.train("a", "--resume", "--steps", "3")  # nothing to tell
        self.assertEqual(self.files("a"), [path])

    def test_tensorboard_reads_them(self):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        process = subprocess.Popen([WEFT, "train", "--config", self.config, "--data", self.data, "--out", self.path("a"), "--set", "save_every=3", "validate_every=4"],
                                   stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "] 8/12" in line:  # saved at 6
                process.kill()
                break
        process.communicate()
        self.train("a", "--resume", "--set", "save_every=3", "validate_every=4")
        first, second = self.files("a")
        events = list(EventFileLoader(first).Load())
        self.assertEqual(events[0].file_version, "brain.Event:2")
        self.assertLess(abs(events[0].wall_time - time.time()), 600)
        self.assertEqual([e.step for e in events if e.HasField("summary")][:8], list(range(1, 9)))
        start = list(EventFileLoader(second).Load())[1]
        self.assertEqual(start.session_log.status, start.session_log.START)
        saved = start.step - 1
        self.assertIn(saved, (6, 9, 12))
        # Steps that were run again are there once, as the later process has them.
        board = EventAccumulator(self.path("a"))
        board.Reload()
        self.assertEqual(set(board.Tags()["scalars"]), self.NAMES)
        metrics = self.metrics("a")
        for name in self.NAMES:
            with self.subTest(name):
                want = [(m["step"], m[name]) for m in metrics if name in m]
                have = [(e.step, e.value) for e in board.Scalars(name)]
                self.assertEqual([step for step, _ in have], [step for step, _ in want])
                for (_, a), (_, b) in zip(have, want):
                    self.assertAlmostEqual(a, b, delta=1e-6 * max(1, abs(b)))


if __name__ == "__main__":
    unittest.main()
