"""Texts in archives: bombs, damage, several files, other compressions."""

import bz2
import gzip
import os
import struct
import unittest
import zipfile

from training import RunFolder

os.environ["WEFT_THREADS"] = "1"  # small runs


class Archives(RunFolder, unittest.TestCase):
    def refused(self, message, name, content, *args):
        with self.subTest(name):
            with open(self.path(name), "wb") as file:
                file.write(content)
            self.data = self.path(name)
            # Before a model is made: the folder of the run shows that loading went well.
            self.assertIn(message, self.train("x", *args, code=1).stderr)
            self.assertFalse(os.path.exists(self.path("x")))

    def zipped(self, files, method=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(self.path("made.zip"), "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        with open(self.path("made.zip"), "rb") as file:
            return file.read()

    def test_a_small_archive_of_a_large_text(self):
        zeros, limit = bytes(64 << 20), ("--data-limit", "1MiB")
        self.refused("holds more than 1048576 bytes of text; --data-limit allows more", "bomb.gz", gzip.compress(zeros, 1), *limit)
        archive = self.zipped({"a": zeros})
        self.refused("says it holds 67108864 bytes of text, expected at most 1048576", "bomb.zip", archive, *limit)
        # The size that an archive states, in its directory and at the file, can be a lie.
        lie = archive.replace(struct.pack("<I", len(zeros)), struct.pack("<I", 20000))
        self.assertEqual(len(lie), len(archive))
        self.assertNotEqual(lie, archive)
        self.refused("holds more than 1048576 bytes of text", "lie.zip", lie, *limit)
        self.refused("holds more than 20000 bytes", "raw.txt", bytes(30000), "--data-limit", "20000")

    def test_damage(self):
        with open(self.data, "rb") as file:
            whole = file.read()
        text = gzip.decompress(whole)
        flip = lambda content, at: content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]
        self.refused("cannot read", "cut.gz", whole[:20000])
        self.refused("cannot read", "flipped.gz", flip(whole, len(whole) // 2))
        self.refused("does not begin as a gzip file does", "head.gz", flip(whole, 0))
        self.refused("does not begin as a zip file does", "head.zip", text)
        self.refused("as a zip file", "cut.zip", self.zipped({"a": text})[:20000])
        stored = self.zipped({"a": text}, zipfile.ZIP_STORED)
        self.refused("cannot read the file in", "flipped.zip", flip(stored, len(stored) // 2))
        self.refused("expected one file in", "several.zip", self.zipped({"a": text, "b": text}))
        self.refused("expected one file in", "none.zip", self.zipped({}))
        self.refused("is compressed by bzip2", "text.bz2", bz2.compress(text))
        self.refused("at least 10,000 bytes, got 1", "one.txt", b"a")
        self.refused("at least 10,000 bytes, got 0", "empty.txt", b"")

    def test_the_first_bytes_say_what_a_file_is(self):
        with open(self.data, "rb") as file:
            compressed = file.read()
        text = gzip.decompress(compressed)
        losses = []
        for name, content in [("raw", text), ("gz", compressed), ("zip", self.zipped({"folder/": "", "folder/text": text, "__MACOSX/text": "x"}))]:
            with open(self.path(name), "wb") as file:
                file.write(content)
            self.data = self.path(name)
            self.train("of_" + name, "--steps", "2")
            losses.append(self.losses("of_" + name))
        self.assertEqual(losses[0], losses[1])
        self.assertEqual(losses[0], losses[2])


if __name__ == "__main__":
    unittest.main()
