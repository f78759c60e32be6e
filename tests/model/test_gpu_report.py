"""./dev gpu: what it says of right and wrong numbers, of processes that die or hang, and that it goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

SOURCE = os.environ["WEFT_SOURCE"]
BENCHMARKS = os.path.join(SOURCE, "benchmarks")

# Answers like gpu_worker.py: soft_cap is wrong in f32, alibi kills the process, document hangs where it is told to.
FAKE = """
import json, os, sys, time
for line in sys.stdin:
    work = json.loads(line)
    answer = {}
    if work["ask"] == "machine":
        answer = {"name": "Fake GPU", "torch": "0"}
    elif work["ask"] == "variants":
        answer = {"names": ["causal", "soft_cap", "alibi", "document"]}
    elif work["ask"] == "speed":
        answer = {"rows": [{"method": "Weft", "forward_ms": 2.0, "backward_ms": 4.0}, {"method": "Other", "forward_ms": 3.0, "backward_ms": 8.0},
                           {"method": "None", "reason": "no kernel"}]}
    elif work["variant"] == "alibi" and work["dtype"] == "f16":
        sys.exit("an illegal address")
    elif work["variant"] == "document" and os.path.exists(os.environ["HANG"]):
        time.sleep(100)
    elif work["variant"] == "soft_cap" and work["dtype"] == "f32":
        answer = {"error": "AssertionError: o is 3 times PyTorch's error"}
    print(json.dumps(answer), flush=True)
"""


# Tunes as weft does: says what it was asked, and runs out of time where it is told to.
WEFT = """#!/bin/sh
echo "$2 forward tuned 1.11x default"
echo "WEFT_GPU=$WEFT_GPU $WEFT_CACHE_DIR $*" >>"$HANG.asked"
if [ -e "$HANG.short" ]; then echo "1 tuned, none confirmed; some searches ran out of budget (--budget)"; else echo "1 tuned"; fi
"""


class GpuReport(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = os.path.join(self.folder.name, "out")
        self.hang = os.path.join(self.folder.name, "hang")
        os.mkdir(os.path.join(self.folder.name, "lib"))
        self.library = os.path.join(self.folder.name, "lib", "libweft_torch.so")
        self.write(self.library, "one build")
        self.write(os.path.join(self.folder.name, "gpu_worker.py"), FAKE)
        self.weft = os.path.join(self.folder.name, "weft")
        self.write(self.weft, WEFT)
        os.chmod(self.weft, 0o755)

    def write(self, path, text):
        with open(path, "w") as file:
            file.write(text)

    def command(self, *arguments):
        code = f"import sys; sys.path.insert(0, {BENCHMARKS!r}); import gpu_report; gpu_report.HERE = {self.folder.name!r}; gpu_report.main()"
        return [sys.executable, "-c", code, self.library, self.weft, "--device", "ptx-emulator", "--out", self.out, *arguments]

    def run_it(self, *arguments):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=120, env={**os.environ, "HANG": self.hang})
        return done.returncode, done.stdout + done.stderr

    def steps(self):
        with open(os.path.join(self.out, "gpu.json")) as file:
            return json.load(file)["steps"]

    def test_right_and_wrong(self):
        code, said = self.run_it()
        self.assertEqual(code, 1, said)
        wrong = {name for name, result in self.steps().items() if "error" in result}
        self.assertEqual(wrong, {"right soft_cap f32", "right alibi f16", "right alibi f16 sm_90a"}, said)
        self.assertIn("an illegal address", self.steps()["right alibi f16"]["error"])
        # Hopper's own code again, where there is any: not of f32.
        self.assertEqual(len(self.steps()), 12 + 8 + 4 + 1)
        with open(os.path.join(self.out, "gpu.html")) as file:
            text = file.read()
        for words in ("Fake GPU", "rehearsal", "1.50x", "2.00x", "no kernel", "3 times PyTorch", "Weft, sm_90a", "bf16 sm_90a", "Weft, sm_90a, tuned",
                      "causal forward tuned 1.11x default"):
            self.assertIn(words, text)

    def test_goes_on(self):
        self.write(self.hang, "")
        code, said = self.run_it("--budget", "4s", "--only", "right document")
        self.assertEqual(code, 0, said)
        self.assertIn("run it again to go on", said)
        self.assertEqual(self.steps(), {})
        os.remove(self.hang)
        self.run_it("--only", "right document")
        self.assertEqual(len(self.steps()), 5)
        self.assertNotIn("right document f32 ", self.run_it("--only", "right document")[1])
        self.write(self.library, "another build")
        self.assertIn("right document f32 ", self.run_it("--only", "right document")[1])

    def test_tuning(self):
        self.write(self.hang + ".short", "")
        step = "tuned causal bf16 1,1,128,64"
        code, said = self.run_it("--only", step)
        self.assertEqual(code, 0, said)
        self.assertIn("run it again to go on", said)
        self.assertEqual({name: result["tuned"][0] for name, result in self.steps().items()},
                         {name: "causal forward tuned 1.11x default" for name in (step, step + " sm_90a")})
        with open(self.hang + ".asked") as file:
            asked = file.read().splitlines()
        # In each code, in a cache of its own, within the time there is.
        self.assertEqual([line.split()[0] for line in asked], ["WEFT_GPU=", "WEFT_GPU=sm_90a"])
        for line in asked:
            self.assertIn(os.path.join(self.out, "tuned") + " tune causal --shapes 1,1,128,64 --dtype bf16 --budget 32s", line)
        # A search that has not ended goes on, one that has is not asked again.
        os.remove(self.hang + ".short")
        for expected in (4, 4):
            self.run_it("--only", step)
            with open(self.hang + ".asked") as file:
                self.assertEqual(len(file.read().splitlines()), expected)

    def test_interrupted(self):
        self.write(self.hang, "")
        process = subprocess.Popen(self.command("--only", "right"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env={**os.environ, "HANG": self.hang})
        try:
            deadline = time.monotonic() + 60
            while not (os.path.exists(os.path.join(self.out, "gpu.json")) and "right causal bf16" in self.steps()):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[0]
        finally:
            process.kill()
            process.communicate()
        self.assertIn("interrupted", said)
        self.assertFalse([name for name in self.steps() if "document" in name], said)

    def test_none_starts_after_the_stop(self):
        """A worker's process that is being started when all are stopped is stopped, too; none is started after it."""
        sys.path.insert(0, BENCHMARKS)
        import gpu_report
        self.write(self.hang, "")
        begun, popen = threading.Event(), subprocess.Popen

        def slow(*arguments, **options):
            begun.set()
            time.sleep(0.3)
            return popen(*arguments, **options)

        workers = gpu_report.Workers()
        own, later = (workers.worker({**os.environ, "HANG": self.hang}) for _ in range(2))
        with unittest.mock.patch.object(gpu_report, "HERE", self.folder.name), unittest.mock.patch.object(subprocess, "Popen", slow):
            answers = []
            thread = threading.Thread(target=lambda: answers.append(own.ask({"ask": "right", "variant": "document", "dtype": "f32"}, 60)))
            thread.start()
            begun.wait(30)
            workers.stop()
            thread.join(30)
            self.assertFalse(thread.is_alive())
            self.assertNotEqual(own.process.poll(), None)
            self.assertEqual(later.ask({"ask": "variants"}, 60), {"late": True})
            self.assertIsNone(later.process)
        for stream in (own.process.stdin, own.process.stdout):
            stream.close()

    def test_rehearsal(self):
        """The emulator in place of a GPU."""
        for _ in range(2):
            done = subprocess.run([sys.executable, os.path.join(BENCHMARKS, "gpu_report.py"), os.environ["WEFT_LIBRARY"], os.environ["WEFT_PROGRAM"],
                                   "--device", "ptx-emulator", "--out", self.out, "--only", "right causal"], capture_output=True, text=True, timeout=600)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual(self.steps(), {f"right causal {code}": {} for code in ("bf16", "f16", "f32", "bf16 sm_90a", "f16 sm_90a")})

    def test_rehearsal_of_tuning(self):
        done = subprocess.run([sys.executable, os.path.join(BENCHMARKS, "gpu_report.py"), os.environ["WEFT_LIBRARY"], os.environ["WEFT_PROGRAM"],
                               "--device", "ptx-emulator", "--out", self.out, "--only", "tuned causal"], capture_output=True, text=True, timeout=600)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(len(self.steps()), 2)
        for result in self.steps().values():
            self.assertEqual([row["method"] for row in result["rows"]], ["Weft"])
            self.assertIn("no speed to tune for", result["tuned"][0])

    def test_no_gpu(self):
        import torch
        if torch.cuda.is_available():
            return
        done = subprocess.run([sys.executable, os.path.join(BENCHMARKS, "gpu_report.py"), os.environ["WEFT_LIBRARY"], os.environ["WEFT_PROGRAM"],
                               "--out", self.out], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--device ptx-emulator rehearses it", done.stderr)


if __name__ == "__main__":
    unittest.main()
