"""Variants in files: edited while the process runs, too large, or no files at all."""

import os
import tempfile
import threading
import unittest

import torch

torch.ops.load_library(os.environ["WEFT_LIBRARY"])
attention = torch.ops.weft.attention
QKV = ["q", "k", "v"]
TEXT = "attention %s(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E]) { score dot(q[i], k[j]) * %s }\n"


def inputs(grad=False):
    torch.manual_seed(1)
    return [torch.randn(1, 1, 20, 16).requires_grad_(grad) for _ in QKV]


def expected(q, k, v, scale):
    return ((q @ k.transpose(-1, -2)) * scale).softmax(-1) @ v


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "own.weft")

    def write(self, text):
        with open(self.path, "w") as file:
            file.write(text)

    def check(self, scale, variant=None):
        q, k, v = inputs()
        torch.testing.assert_close(attention(variant or self.path, QKV, [q, k, v]), expected(q, k, v, scale), atol=1e-5, rtol=1e-4)

    def test_an_edited_file_counts(self):
        # Of one size, and as soon as a program can write: no time stamp need differ.
        for scale in (0.25, 0.75, 0.25, 0.5):
            self.write(TEXT % ("own", "%.2f" % scale))
            self.check(scale)

    def test_a_byte_order_mark(self):
        self.write("\ufeff" + TEXT % ("own", "0.25"))
        self.check(0.25)

    def test_an_older_file_counts_too(self):
        self.write(TEXT % ("own", 0.25))
        os.utime(self.path, (1e9, 1e9))
        self.check(0.25)
        other = self.path + ".other"
        with open(other, "w") as file:
            file.write(TEXT % ("own", 0.75))
        os.utime(other, (1e9, 1e9))
        os.replace(other, self.path)
        self.check(0.75)

    def test_one_of_several(self):
        self.write(TEXT % ("one", 0.25) + TEXT % ("two", 0.5))
        self.check(0.25, self.path + ":one")
        self.write(TEXT % ("one", 0.75) + TEXT % ("two", 0.5))
        self.check(0.75, self.path + ":one")
        self.check(0.5, self.path + ":two")
        with self.assertRaisesRegex(RuntimeError, "no variant 'three' in"):
            attention(self.path + ":three", QKV, inputs())

    def test_a_mistake_and_its_mend(self):
        self.write(TEXT % ("own", "oops"))
        for _ in range(2):
            with self.assertRaisesRegex(RuntimeError, "unknown name 'oops'"):
                attention(self.path, QKV, inputs())
        self.write(TEXT % ("own", 0.5))
        self.check(0.5)
        os.remove(self.path)
        with self.assertRaisesRegex(RuntimeError, "no variant or file"):
            attention(self.path, QKV, inputs())

    def test_backward_is_of_the_same_text(self):
        self.write(TEXT % ("own", 0.25))
        q, k, v = inputs(True)
        out = attention(self.path, QKV, [q, k, v])
        self.write(TEXT % ("own", 0.75))
        grad = torch.randn_like(out)
        got = torch.autograd.grad(out, [q, k, v], grad)
        for a, b in zip(got, torch.autograd.grad(expected(q, k, v, 0.25), [q, k, v], grad)):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)

    def test_what_is_no_source_is_refused(self):
        os.mkfifo(self.path)
        for path, message in ((self.path, "expected a file, got a pipe"), ("/dev/zero", "expected a file, got a device"), ("/dev/tty", "expected a file, got a device"),
                              (os.path.dirname(self.path), "expected a file, got a directory")):
            with self.assertRaisesRegex(RuntimeError, message):
                attention(path, QKV, inputs())

    def test_a_large_file_is_refused(self):
        self.write(TEXT % ("own", 0.5) + "//" + "x" * (1 << 20))
        with self.assertRaisesRegex(RuntimeError, "expected a source of at most 1 MiB"):
            attention(self.path, QKV, inputs())
        self.write(TEXT % ("own", 0.5) + "//" + "x" * (1 << 19))
        self.check(0.5)

    def test_many_threads_find_one_variant(self):
        self.write(TEXT % ("own", 0.5))
        outputs, given = [None] * 8, inputs()   # torch's random numbers are shared by threads

        def work(at):
            outputs[at] = attention(self.path, QKV, given)

        threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for output in outputs:
            self.assertTrue(torch.equal(output, outputs[0]))


if __name__ == "__main__":
    unittest.main()
