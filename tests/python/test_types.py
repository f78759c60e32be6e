"""The package's types, as a typed program meets them."""

import os
import subprocess
import sys
import unittest

import weft

HERE = os.path.join(os.environ["WEFT_SOURCE"], "tests", "python")


class Types(unittest.TestCase):
    def checked(self, file):
        """What mypy says of a program that uses the package."""
        command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary", "--cache-dir", os.path.join(os.environ["WEFT_CACHE_DIR"], "mypy"), file]
        environment = {**os.environ, "MYPYPATH": os.path.join(os.environ["WEFT_SOURCE"], "python")}
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    def test_a_program_that_is_right(self):
        self.assertEqual(self.checked(os.path.join(HERE, "typed_use.py")), "")

    def test_docstrings_tell_shapes(self):
        takes_rows = [weft.attention, weft.decode, weft.tune, weft.bench, weft.from_python]
        takes_rows += [getattr(weft.Variant, name) for name in ("__call__", "decode", "explain", "mask", "tune")]
        for own in takes_rows:
            for shape in ("[B, H, ", "[B, G, S, D]", "[B, G, S, E]"):
                self.assertIn(shape, own.__doc__, own)
        for name in weft.__all__:
            if name != "cmake_prefix_path":
                self.assertTrue(getattr(weft, name).__doc__, name)

    def test_mistakes_are_seen(self):
        file = os.path.join(os.environ["WEFT_CACHE_DIR"], "mistakes.py")
        with open(file, "w") as out:
            out.write('import torch\nimport weft\nq = torch.zeros(1)\nout: int = weft.attention("causal", q, q, q)\nweft.variant(3)\nweft.variant("causal").sourc\n')
        said = self.checked(file)
        for words in ('expression has type "Tensor"', 'incompatible type "int"; expected "str"', 'has no attribute "sourc"'):
            self.assertIn(words, said)


if __name__ == "__main__":
    unittest.main()
