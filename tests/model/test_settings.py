"""What a careless user types: settings, numbers and paths that cannot be meant; what comes out of `weft` and cannot be written."""

import glob
import json
import os
import subprocess
import unittest
import xml.etree.ElementTree

from training import SOURCE, WEFT, RunFolder, run, tiny

os.environ["WEFT_THREADS"] = "1"  # small runs

USAGE = 105  # of the command-line library: a value outside of its range


class Settings(RunFolder, unittest.TestCase):
    def refused(self, message, *args):
        with self.subTest(args):
            self.assertIn(message, self.train("x", *args, code=1).stderr)
            self.assertFalse(os.path.exists(self.path("x")))

    def test_values_have_types_and_ranges(self):
        for message, setting in [
            ("expected train.log_every from 1 to 1000000000000, got 0", "train.log_every=0"),
            ("expected train.save_every from 1 to", "save_every=-3"),
            ("expected train.clip from 0 on, got -1.0", "clip=-1.0"),
            ("expected train.beta1 from 0 to below 1, got 2", "beta1=2"),
            ("expected train.lr above 0, got 0", "lr=0"),
            ("expected train.seed from 0 to 1000000000000, got 18446744073709551615", "seed=18446744073709551615"),
            ("expected a number at train.lr, got \"nan\"", "lr=nan"),
            ("expected an integer at model.width, got 1e+20", "width=100000000000000000000"),
            ("expected an integer at train.steps, got 1000.0", "steps=1e3"),
            ("expected a number, or the lower and the upper end of a range, at model.inputs.span, got [8,2]", "inputs.span=[8, 2]"),
            ("expected a number, or the lower and the upper end of a range, at model.inputs.span, got \"far\"", "inputs.span=far"),
            ("model.inputs: expected inputs of variant 'span_periodic', which has span, period and ratio, got 'spam'", "model.inputs.spam=1"),
            ("expected train.lr_min of at most train.lr, got 0.0001 and 1e-05", "lr=1e-5"),
            ("expected a text in UTF-8 at model.attention", b"attention=\xff.weft"),
        ]:
            self.refused(message, "--set", setting)
        self.refused("expected train.steps from 1 to", "--steps", "0")

    def test_unknown_settings_are_told_the_nearest(self):
        self.refused("unknown setting 'learning_rat'; `weft train --help-settings`", "--set", "learning_rat=1")
        self.refused("unknown setting 'warmupp'; did you mean 'train.warmup'?", "--set", "warmupp=1")
        self.refused("expected key=value, got 'lr'", "--set", "lr")
        for message, text in [
            ("unknown setting 'train.save_evry'; did you mean 'train.save_every'?", '{"train": {"save_evry": 1}}'),
            ("unknown setting 'model.lr'; did you mean 'train.lr'?", '{"model": {"lr": 1}}'),
            ("unknown setting 'modle'; did you mean 'model'?", '{"modle": {}}'),
            ("the key 'lr' is given twice", '{"train": {"lr": 1, "lr": 2}}'),
            ("expected an object at 'train', got 5", '{"train": 5}'),
            ("expected an object with", "[]"),
            ("expected an object at 'model.inputs', got 3", '{"model": {"inputs": 3}}'),
            ("not JSON", "{"),
        ]:
            with open(self.config, "w") as file:
                file.write(text)
            self.refused(message)

    def test_the_table_names_what_configs_use(self):
        table = run("train", "--help-settings").stdout
        rows = {line.split()[0]: line for line in table.strip().splitlines()[1:]}
        self.assertGreater(len(rows), 20)
        for path in glob.glob(f"{SOURCE}/models/configs/*.json"):
            with open(path) as file:
                for section, values in json.load(file).items():
                    for key in values:
                        self.assertIn(f"{section}.{key}", rows)
        self.assertIn("from 1 to 1000000000000", rows["train.log_every"])
        # One shipped config goes as far as its data.
        with open(f"{SOURCE}/models/configs/published_content_sparse.json") as file:
            self.write(json.load(file))
        self.data = "nope.txt"
        self.refused("cannot open nope.txt")

    def test_no_clipping(self):
        self.train("clipped", "--set", "clip=1e9")
        self.train("free", "--set", "clip=0")
        self.assertEqual(self.losses("clipped"), self.losses("free"))

    def test_numbers_of_other_commands(self):
        for args in [("eval", "--checkpoint", "x", "--stride", "0"), ("eval", "--checkpoint", "x", "--limit", "-5"),
                     ("bench", "--row-seconds", "0"), ("bench", "--span", "-1"), ("tune", "causal", "--span", "-1")]:
            with self.subTest(args):
                run(*args, code=USAGE)


class Paths(RunFolder, unittest.TestCase):
    def test_what_is_no_file_is_refused(self):
        fifo, missing = self.path("fifo"), self.path("missing")
        os.mkfifo(fifo)
        for option in ("--data", "--config"):
            for message, path in [("got the pipe", fifo), ("got the device", "/dev/zero"), ("got the folder", self.folder), ("no such file", missing)]:
                with self.subTest((option, path)):
                    args = {"--data": self.data, "--config": self.config, "--out": self.path("x"), option: path}
                    self.assertIn(message, run("train", *sum(args.items(), ()), code=1).stderr)
        for message, path in [("got the pipe", fifo), ("got the device", "/dev/null"), ("got the file", self.data), ("cannot make the folder", self.data + "/x")]:
            with self.subTest(("--out", path)):
                self.assertIn(message, run("train", "--config", self.config, "--data", self.data, "--out", path, code=1).stderr)
        os.mkdir(self.path("hollow"))
        os.mkfifo(self.path("hollow/checkpoint.pt"))
        for message, path in [("expected the folder of a training run", fifo), ("is no checkpoint, or is damaged", self.data), ("no checkpoint", missing),
                              ("got the pipe", self.path("hollow"))]:
            with self.subTest(("--checkpoint", path)):
                self.assertIn(message, run("sample", "--checkpoint", path, code=1).stderr)
        os.remove(self.path("hollow/checkpoint.pt"))
        os.mkfifo(self.path("hollow/metrics.jsonl"))
        self.assertIn("got the pipe", self.train("hollow", code=1).stderr)

    def test_a_context_longer_than_the_text(self):
        self.assertIn("expected more bytes to train on than model.context = 1000000", self.train("x", "--set", "context=1000000", code=1).stderr)

    def test_texts_of_any_length_and_temperature(self):
        self.train("a", "--steps", "1")
        sample = lambda *args, code=0: run("sample", "--checkpoint", self.path("a"), "--prompt", "a", *args, code=code)
        self.assertEqual(sample("--length", "0").stdout, "a\n")
        self.assertIn("expected a length of 0 or more, got -1", sample("--length", "-1", code=1).stderr)
        for temperature in ("-0.5", "nan"):
            self.assertIn("expected a temperature of 0 or more", sample("--temperature", temperature, code=1).stderr)
        for message, *wrong in [("expected a top k from 1 to 256, got 0", "--top-k", "0"), ("expected a top k from 1 to 256, got 257", "--top-k", "257"),
                                ("expected a top p above 0, at most 1, got 0", "--top-p", "0"), ("expected a top p above 0, at most 1, got 1.5", "--top-p", "1.5"),
                                ("expected a top p above 0", "--top-p", "nan"), ("expected a temperature of 0 or more, got inf", "--temperature", "inf"),
                                ("expected a text to stop before, got an empty one", "--stop", "")]:
            with self.subTest(wrong):
                self.assertIn(message, sample(*wrong, code=1).stderr)
        # The coldest is as good as frozen.
        self.assertEqual(sample("--length", "5", "--temperature", "1e-300").stdout, sample("--length", "5", "--temperature", "0").stdout)

    def test_a_batch_larger_than_the_memory(self):
        self.assertIn("train.batch = 1000000 texts of 4096 bytes take at least", self.train("x", "--set", "batch=1000000", "context=4096", code=1).stderr)
        self.assertFalse(os.path.exists(self.path("x")))

    def test_what_cannot_be_written_is_an_error(self):
        self.train("a", "--steps", "2")
        arguments = ("eval", "--checkpoint", self.path("a"), "--data", self.data)
        self.assertIn("cannot write", run(*arguments, "--picture", self.data + "/masks.svg", code=1).stderr)
        os.mkfifo(self.path("pipe"))
        self.assertIn("expected a file to write, got the pipe", run(*arguments, "--picture", self.path("pipe"), code=1).stderr)
        os.remove(self.path("a/eval_val.json"))
        os.mkdir(self.path("a/eval_val.json"))
        self.assertIn("got the folder", run(*arguments, code=1).stderr)
        with open("/dev/full", "w") as full:
            result = subprocess.run([WEFT, "variants"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((result.returncode, result.stderr), (1, "weft: cannot write to standard output\n"))

    def test_names_in_pictures_are_text(self):
        name = "<script>alert(1)<&\"'x.weft"
        with open(f"{SOURCE}/ops/variants/causal.weft") as file, open(self.path(name), "w") as copy:
            copy.write(file.read())
        self.write(tiny(self.path(name), steps=1))
        self.train("a")
        run("eval", "--checkpoint", self.path("a"), "--data", self.data)
        with open(self.path("a/masks.svg")) as file:
            picture = file.read()
        self.assertNotIn("<script", picture)
        self.assertIn(name, "".join(xml.etree.ElementTree.fromstring(picture).itertext()))


if __name__ == "__main__":
    unittest.main()
