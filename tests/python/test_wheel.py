"""The wheel, in an environment of its own without the sources: made of this build, installed by pip, used."""

import ast
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import venv
import zipfile

import torch

SOURCE = os.environ["WEFT_SOURCE"]
FIRST = """
import time, torch
start = time.perf_counter()
import weft
imported = time.perf_counter()
q, k, v = (torch.randn(1, 8, 256, 64, requires_grad=True) for _ in range(3))
span = torch.full((8,), 64.0, requires_grad=True)
o = weft.attention("adaptive_span", q, k, v, span=span)
first = time.perf_counter()
o.sum().backward()
assert span.grad.abs().max() > 0
print(weft.__file__)
print(f"import {imported - start:.2f} s, first call {first - imported:.2f} s, gradients {time.perf_counter() - first:.2f} s")
"""


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        out = os.path.join(cls.folder.name, "dist")
        build = os.path.dirname(os.path.dirname(os.environ["WEFT_LIBRARY"]))
        subprocess.run([sys.executable, os.path.join(SOURCE, "python", "build_wheel.py"), "--built", build, "--out", out], check=True, capture_output=True)
        (cls.wheel,) = glob.glob(os.path.join(out, "weft-*.whl"))
        cls.root = os.path.join(cls.folder.name, "venv")
        venv.create(cls.root, with_pip=False)
        cls.python = os.path.join(cls.root, "bin", "python")
        # torch is not downloaded again.
        (site,) = glob.glob(os.path.join(cls.root, "lib", "python3*", "site-packages"))
        with open(os.path.join(site, "torch.pth"), "w") as file:
            file.write(os.path.dirname(os.path.dirname(torch.__file__)) + "\n")
        cls.environment = {key: own for key, own in os.environ.items() if not key.startswith(("WEFT_", "PYTHON", "LD_"))}
        cls.environment["WEFT_CACHE_DIR"] = os.path.join(cls.folder.name, "cache")
        subprocess.run([sys.executable, "-m", "pip", "--python", cls.python, "install", "-q", "--no-deps", "--no-index", cls.wheel], check=True, capture_output=True)

    def run_python(self, code, **more):
        result = subprocess.run([self.python, "-W", "ignore", "-c", code], cwd=self.folder.name, capture_output=True, text=True, env={**self.environment, **more}, timeout=300)
        return result

    def test_first_call(self):
        result = self.run_python(FIRST)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(result.stdout.startswith(self.root), result.stdout)
        print(result.stdout.splitlines()[-1], file=sys.stderr)
        imported, first, _ = map(float, re.findall(r"([\d.]+) s", result.stdout))
        self.assertLess(imported + first, 15)  # seconds; 3 on an idle machine

    def test_another_torch_is_an_error_that_says_which(self):
        result = self.run_python("import torch; torch.__version__ = '1.13.1'; import weft")
        self.assertIn("this build is for torch 2.", result.stderr)
        self.assertIn("torch 1.13.1 is installed", result.stderr)

    def test_what_it_needs_is_there(self):
        checked = subprocess.run([sys.executable, "-m", "pip", "--python", self.python, "check"], capture_output=True, text=True, env=self.environment)
        self.assertTrue(checked.stdout.strip(), checked.stderr)  # pip has looked
        self.assertNotIn("weft", checked.stdout, checked.stderr)
        named = self.run_python("import importlib.metadata as own; print(own.requires('weft'), own.metadata('weft')['License'])").stdout
        minor = ".".join(torch.__version__.split(".")[:2])
        self.assertIn(f">={minor},<2.{int(minor.split('.')[1]) + 1}", named)
        self.assertIn("Apache-2.0", named)

    def test_the_command_line(self):
        program = os.path.join(self.root, "bin", "weft")
        result = subprocess.run([program, "variants"], cwd=self.folder.name, capture_output=True, text=True, env=self.environment, timeout=120)
        self.assertIn("adaptive_span", result.stdout, result.stderr)
        result = subprocess.run([program, "run", "causal", "--shape", "1,2,128,32"], cwd=self.folder.name, capture_output=True, text=True, env=self.environment, timeout=120)
        self.assertIn("kept tiles", result.stdout, result.stderr)
        configs = self.run_python("import weft; print(weft.__path__[0])").stdout.strip()
        text = os.path.join(self.folder.name, "text")
        with open(text, "wb") as file:
            file.write(b"The quick brown fox jumps over the lazy dog. " * 2000)
        command = [program, "train", "--config", os.path.join(configs, "configs", "small_dense.json"), "--data", text, "--out", os.path.join(self.folder.name, "run"), "--steps", "1"]
        result = subprocess.run([*command, "--set", "train.batch=1", "model.context=64", "model.layers=1"], cwd=self.folder.name, capture_output=True, text=True, env=self.environment, timeout=120)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_from_c_and_cpp(self):
        """tests/install/project beside the wheel: no LLVM, no sources of Weft."""
        prefix = self.run_python("import weft; print(weft.cmake_prefix_path)").stdout.strip()
        self.assertTrue(prefix.startswith(self.root), prefix)
        build = os.path.join(self.folder.name, "project")
        for command in (["cmake", "-S", os.path.join(SOURCE, "tests", "install", "project"), "-B", build, f"-DCMAKE_PREFIX_PATH={prefix};{torch.utils.cmake_prefix_path}"],
                        ["cmake", "--build", build, "-j", "2"], [os.path.join(build, "from_c")], [os.path.join(build, "from_cpp")]):
            result = subprocess.run(command, cwd=self.folder.name, capture_output=True, text=True, env=self.environment, timeout=600)
            self.assertEqual(result.returncode, 0, f"{command}\n{result.stdout}\n{result.stderr}")
        self.assertIn("largest error of o and of four gradients", result.stdout)

    def test_the_build_for_this_torch_is_taken(self):
        # Builds for other versions lie beside it; this one's is loaded, by its minor version and not by its text.
        (site,) = glob.glob(os.path.join(self.root, "lib", "python3*", "site-packages"))
        for minor in ("2.1", "2.9", "3.0"):
            other = os.path.join(site, "weft", "lib", "torch-" + minor)
            os.makedirs(other)
            self.addCleanup(shutil.rmtree, other)
            with open(os.path.join(other, "libweft_torch.so"), "w") as file:
                file.write("another torch's")
        result = self.run_python("import weft, weft._library as own; print(own.path)")
        minor = ".".join(torch.__version__.split(".")[:2])
        self.assertEqual(os.path.basename(os.path.dirname(result.stdout.strip())), "torch-" + minor, result.stderr)
        result = self.run_python("import torch; torch.__version__ = '2.10.0'; import weft")
        self.assertIn(f"this build is for torch 2.1, 2.9, {minor}, 3.0, and torch 2.10.0 is installed", result.stderr)

    def test_the_oldest_python_reads_it(self):
        for path in glob.glob(os.path.join(SOURCE, "python", "weft", "*.py")):
            with open(path) as file:
                ast.parse(file.read(), path, feature_version=(3, 10))

    def test_what_is_inside(self):
        names = zipfile.ZipFile(self.wheel).namelist()
        for end in ("weft/py.typed", "weft/flex.py", "licenses/LICENSE", "licenses/libllvm22", "licenses/nlohmann-json3-dev", "dist-info/RECORD", "libweft_compiler.so", "variants/causal.weft"):
            self.assertTrue(any(name.endswith(end) for name in names), end)
        self.assertRegex(os.path.basename(self.wheel), r"^weft-[\d.]+-py3-none-manylinux_\d+_\d+_x86_64\.whl$")


if __name__ == "__main__":
    unittest.main()
