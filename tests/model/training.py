"""The `weft` program and small training runs, for the tests beside this file."""

import gzip
import json
import os
import random
import shutil
import subprocess
import tempfile

WEFT = os.environ["WEFT_PROGRAM"]
SOURCE = os.environ["WEFT_SOURCE"]


def run(*args, code=0, timeout=240, env=None):
    result = subprocess.run([WEFT, *args], capture_output=True, text=True, errors="replace", timeout=timeout,
                            env={**os.environ, **(env or {})})
    if result.returncode != code:
        raise AssertionError(f"weft {args}: exit {result.returncode}, expected {code}\n{result.stdout}\n{result.stderr}")
    return result


def tiny(attention="span_periodic", **train):
    return {"model": {"layers": 2, "heads": 2, "width": 32, "context": 64, "attention": attention, "dropout": 0.1},
            "train": {"steps": 12, "batch": 4, "warmup": 2, "log_every": 1, "save_every": 5, **train}}


class RunFolder:
    """A folder for a test with a text and a config, removed afterwards."""

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        words = "the of and to in a is that for it as was with be by on not he his but at are this have".split()
        random.seed(1)
        self.data = self.path("text.gz")
        with gzip.open(self.data, "wt") as file:
            file.write(" ".join(random.choice(words) for _ in range(40000)))
        self.config = self.path("config.json")
        self.write(tiny())

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, config):
        with open(self.config, "w") as file:
            json.dump(config, file)

    def train(self, out, *args, code=0, env=None):
        return run("train", "--config", self.config, "--data", self.data, "--out", self.path(out), *args, code=code, env=env)

    def metrics(self, out):
        with open(self.path(out + "/metrics.jsonl")) as file:
            return [json.loads(line) for line in file if line.endswith("\n")]  # the last one may be being written

    def losses(self, out):
        return [(m["step"], m["loss"]) for m in self.metrics(out)]
