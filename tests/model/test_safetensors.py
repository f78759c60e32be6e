"""Models as files of safetensors: what other programs read, what they wrote, and what nobody should have written."""

import json
import os
import re
import struct
import unittest

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training import RunFolder, run, tiny

os.environ["WEFT_THREADS"] = "1"


class Safetensors(RunFolder, unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.train("a", "--steps", "4")
        self.file = self.path("a.safetensors")
        self.said = run("export", "--checkpoint", self.path("a"), "--out", self.file).stdout

    def bpc(self, place):
        out = run("eval", "--checkpoint", place, "--data", self.data, "--limit", "2000", "--picture", self.path("masks.svg")).stdout
        return re.search(r"[\d.]+ bpc over \d+ bytes", out)[0]

    def test_there_and_back(self):
        tensors = load_file(self.file)
        self.assertEqual(f"{self.file}: {sum(t.numel() for t in tensors.values())} parameters of span_periodic, step 4\n", self.said)
        self.assertTrue(all(t.dtype == torch.float32 for t in tensors.values()))
        self.assertEqual(tuple(tensors["embedding"].shape), (256, 32))
        with safe_open(self.file, "pt") as file:
            metadata = file.metadata()
        self.assertEqual((metadata["format"], metadata["weft_step"]), ("pt", "4"))
        self.assertEqual(json.loads(metadata["weft_config"])["model"]["width"], 32)
        # Tensors begin where processors read them well.
        with open(self.file, "rb") as file:
            self.assertEqual(struct.unpack("<Q", file.read(8))[0] % 8, 0)
        bpc = self.bpc(self.path("a"))
        self.assertEqual(self.bpc(self.file), bpc)
        # Written by their library, with tensors in another order.
        other = self.path("other.safetensors")
        save_file(dict(reversed(tensors.items())), other, metadata)
        self.assertEqual(self.bpc(other), bpc)
        run("sample", "--checkpoint", other, "--length", "2")
        # And as the beginning of a run, also without its config.
        save_file(tensors, other)
        self.assertIn("does not say its config (weft_config of its metadata); weft train --init takes its weights", run("eval", "--checkpoint", other, "--data", self.data, code=1).stderr)
        for init in (other, self.file, self.path("a"), self.path("a/checkpoint.pt")):
            out = f"from{len(os.listdir(self.folder))}"
            self.train(out, "--init", init, "--steps", "1", "--set", "lr=1e-30", "lr_min=0")
            self.assertEqual(self.bpc(self.path(out)), bpc)
        # A run that is there goes on as it was.
        self.train(out, "--init", "nowhere", "--resume", "--steps", "2", "--set", "lr=1e-30", "lr_min=0")
        self.assertEqual(self.bpc(self.path(out)), bpc)
        self.assertIn("expected --out to end in .safetensors", run("export", "--checkpoint", self.path("a"), "--out", self.path("x.bin"), code=1).stderr)

    def refused(self, message, content):
        path = self.path("wrong.safetensors")
        with open(path, "wb") as file:
            file.write(content)
        with self.subTest(message):
            self.assertRegex(run("eval", "--checkpoint", path, "--data", self.data, code=1).stderr, message)

    def test_hostile_files(self):
        with open(self.file, "rb") as file:
            whole = file.read()
        length, = struct.unpack("<Q", whole[:8])
        header, data = json.loads(whole[8:8 + length]), whole[8 + length:]

        def made(changed, rest=data):
            text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
            return struct.pack("<Q", len(text)) + text + rest

        def changed(**entry):
            return made({**header, "embedding": {**header["embedding"], **entry}})
        begin, end = header["embedding"]["data_offsets"]
        self.refused("has 0 bytes, expected 8 at least", b"")
        self.refused("its header has 18446744073709551615 bytes, expected at most 100000000", b"\xff" * 8 + whole[8:])
        self.refused("its header has 99999999 bytes, of which", struct.pack("<Q", 99999999) + whole[8:])
        self.refused("does not begin with {", made(b" {}"))
        self.refused("is not JSON", made(b"{" + b"[" * 100000))
        self.refused("lists in lists", made(b'{"a": ' + b"[" * 100000 + b"]" * 100000 + b"}"))
        self.refused("the name 'a' twice", made(b'{"a": {}, "a": {}}'))
        self.refused("'format' of __metadata__ is no text", made({**header, "__metadata__": {"format": 3}}))
        self.refused("__metadata__ is no object", made({**header, "__metadata__": []}))
        self.refused("expected dtype, shape and data_offsets of 'x'", made({**header, "x": 5}))
        self.refused("expected dtype, shape and data_offsets of 'embedding'", changed(more=1))
        self.refused("expected a dtype out of F64", changed(dtype="F8"))
        self.refused("expected a shape of sizes", changed(shape=[256, -32]))
        self.refused("expected a shape of sizes", changed(shape=[256, 32.0]))
        self.refused("expected a shape of sizes", changed(shape=[1] * 1000))
        self.refused("expected a shape that a machine can hold", changed(shape=[2 ** 40, 2 ** 40]))
        self.refused("expected a shape that a machine can hold", changed(shape=[2 ** 62]))
        self.refused("expected two data_offsets", changed(data_offsets=[begin]))
        self.refused("expected two data_offsets", changed(data_offsets=[-1, end]))
        self.refused("expected data_offsets in order within", changed(data_offsets=[end, begin]))
        self.refused("expected data_offsets in order within", changed(data_offsets=[begin + 2 ** 50, end + 2 ** 50]))
        self.refused("expected 32768 bytes, got 32764, of 'embedding'", changed(data_offsets=[begin, end - 4]))
        other = next(entry for name, entry in header.items() if name != "embedding" and entry.get("shape") == [128, 32])
        self.refused("begins at byte .*, expected", made({**header, "embedding": {"dtype": "F32", "shape": [128, 32], "data_offsets": other["data_offsets"]}}))  # overlapping
        self.refused("begins at byte .*, expected", made({name: entry for name, entry in header.items() if name != "embedding"}))  # a gap
        self.refused("bytes after the header, got", whole + b"more")
        for cut in (9, 8 + length // 2, 8 + length, len(whole) - 1):
            self.refused("is no safetensors file", whole[:cut])

    def test_other_models(self):
        tensors = load_file(self.file)
        with safe_open(self.file, "pt") as file:
            metadata = file.metadata()

        def refused(message, tensors, metadata=metadata):
            path = self.path("wrong.safetensors")
            save_file(tensors, path, metadata)
            with self.subTest(message):
                self.assertIn(message, run("eval", "--checkpoint", path, "--data", self.data, code=1).stderr)
                self.assertFalse(os.path.exists(self.path("x/checkpoint.pt")))
        refused("is of another model: embedding is Half [256, 32], expected Float [256, 32]", {**tensors, "embedding": tensors["embedding"].half()})
        refused("is of another model: embedding is Float [32, 256], expected Float [256, 32]", {**tensors, "embedding": tensors["embedding"].T.contiguous()})
        refused("is of another model: it has a tensor 'more'", {**tensors, "more": torch.zeros(0)})
        refused("is of another model: it has no norm.weight", {name: t for name, t in tensors.items() if name != "norm.weight"})
        refused("does not fit this program: its config is of a model of at least", tensors,
                {"weft_config": json.dumps({"model": {"layers": 1000, "heads": 1024, "width": 262144}})})
        refused("does not fit this program: weft_config: not JSON", tensors, {"weft_config": "{"})
        self.write(tiny(steps=1) | {"model": {**tiny()["model"], "width": 64}})
        self.assertIn("is of another model: embedding is Float [256, 32], expected Float [256, 64]", self.train("x", "--init", self.file, code=1).stderr)


if __name__ == "__main__":
    unittest.main()
