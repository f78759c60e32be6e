"""Text from a model: out of the likely bytes alone, up to a text, whole characters on a terminal."""

import os
import pty
import subprocess
import unittest

from training import WEFT, RunFolder, run, tiny

os.environ["WEFT_THREADS"] = "1"


class Sample(RunFolder, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """One model for all tests, that has seen words with letters of two and three bytes."""
        super().setUpClass()
        holder = cls("setUp")
        RunFolder.setUp(holder)
        cls.addClassCleanup(holder.doCleanups)
        text = holder.path("words.txt")
        with open(text, "w", encoding="utf-8") as file:
            file.write("für die Übung – größer öfter süß. " * 1500)
        holder.write(tiny("causal", steps=150, lr=5e-3, save_every=1000, log_every=50))
        run("train", "--config", holder.config, "--data", text, "--out", holder.path("a"))
        cls.model = holder.path("a")

    def sample(self, *args, code=0, **more):
        """The bytes after the prompt, without the last line's end."""
        length = () if "--length" in args else ("--length", "60")
        result = subprocess.run([WEFT, "sample", "--checkpoint", self.model, *length, *args], capture_output=True, **more)
        self.assertEqual(result.returncode, code, result.stderr)
        return result.stdout[:-1]

    def test_out_of_the_likely_alone(self):
        frozen = self.sample("--temperature", "0")
        # However hot: out of one byte there is no choice.
        self.assertEqual(self.sample("--temperature", "50", "--top-k", "1"), frozen)
        self.assertEqual(self.sample("--temperature", "50", "--top-p", "1e-9"), frozen)
        hot = self.sample("--temperature", "50")
        self.assertNotEqual(hot, frozen)
        self.assertEqual(self.sample("--temperature", "50", "--top-k", "256", "--top-p", "1"), hot)
        # Out of k bytes there are no more than k, whatever came before.
        first = {self.sample("--temperature", "50", "--top-k", "3", "--length", "1", "--seed", str(seed)) for seed in range(24)}
        self.assertTrue(2 <= len(first) <= 3, first)
        # Nearly all of the probability at 50 is more than three bytes, at 0.1 it is one or two.
        wide = {self.sample("--temperature", "50", "--top-p", "0.9", "--length", "1", "--seed", str(seed)) for seed in range(24)}
        narrow = {self.sample("--temperature", "0.01", "--top-p", "0.9", "--length", "1", "--seed", str(seed)) for seed in range(6)}
        self.assertGreater(len(wide), 3)
        self.assertEqual(len(narrow), 1)

    def test_stops_before_a_text(self):
        text = self.sample("--temperature", "0", "--prompt", "für")[len("für".encode()):]
        at = text.index(b"ung")
        stopped = lambda *stops: self.sample("--temperature", "0", "--prompt", "für", *sum((["--stop", s] for s in stops), []))[len("für".encode()):]
        self.assertEqual(stopped("ung"), text[:at])
        self.assertEqual(stopped("nowhere", "ung"), text[:at])
        self.assertEqual(stopped("ung", text[at - 4:at].decode(errors="surrogateescape")), text[:min(at - 4, text.index(text[at - 4:at]))])
        # What only begins as one of them is written, at the end too.
        self.assertEqual(stopped("ung but not so"), text)
        self.assertEqual(stopped(text[-5:].decode(errors="surrogateescape") + "x"), text)

    def test_prompts_from_files(self):
        path = os.path.join(os.path.dirname(self.model), "prompt")
        with open(path, "wb") as file:
            file.write(b"die \0\xffung")
        want = self.sample("--prompt-file", path, "--temperature", "0")
        self.assertTrue(want.startswith(b"die \0\xffung"))
        with open(path, "rb") as file:
            self.assertEqual(self.sample("--prompt-file", "-", "--temperature", "0", stdin=file), want)
        self.assertIn("no such file", run("sample", "--checkpoint", self.model, "--prompt-file", path + "x", code=1).stderr)
        self.assertIn("excludes", run("sample", "--checkpoint", self.model, "--prompt-file", path, "--prompt", "x", code=108).stderr)

    def on_a_terminal(self, *args):
        """What a terminal is sent, write by write."""
        master, slave = pty.openpty()
        process = subprocess.Popen([WEFT, "sample", "--checkpoint", self.model, *args], stdout=slave, stderr=subprocess.DEVNULL)
        os.close(slave)
        parts = []
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
        os.close(master)
        self.assertEqual(process.wait(), 0)
        return parts

    def test_whole_characters_on_a_terminal(self):
        settings = ("--temperature", "0", "--prompt", "die ")
        whole = self.sample(*settings)
        cut = next(at for at in range(len("die "), len(whole)) if whole[at] >= 0xC0)  # before a letter of several bytes
        for more, shown in ((0, 0), (1, 0), (2, 2)):
            length = cut - len("die ") + more
            parts = self.on_a_terminal(*settings, "--length", str(length))
            self.assertEqual(b"".join(parts).rstrip(b"\r\n"), whole[:cut + shown].rstrip(b"\r\n"))
            for part in parts:
                part.decode()  # fails on half a character
            # To a file all bytes go.
            self.assertEqual(self.sample(*settings, "--length", str(length)), whole[:cut + more])


if __name__ == "__main__":
    unittest.main()
