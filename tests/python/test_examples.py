"""The examples run, and what they claim holds: each checks itself."""

import os
import subprocess
import sys
import unittest

FOLDER = os.path.join(os.environ["WEFT_SOURCE"], "python", "examples")


class Examples(unittest.TestCase):
    def test_there_are_some(self):
        self.assertGreaterEqual(len(NAMES), 4)


NAMES = sorted(name for name in os.listdir(FOLDER) if name.endswith(".py"))
for _name in NAMES:
    def _run(self, name=_name):
        result = subprocess.run([sys.executable, os.path.join(FOLDER, name)], capture_output=True, text=True, timeout=600)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(result.stdout)

    setattr(Examples, f"test_{_name[:-3]}", _run)

if __name__ == "__main__":
    unittest.main()
