"""The pages for people: examples compile, wrong ones give the error beside them, links and files exist, nothing is left out."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

WEFT, SOURCE, LIBRARY = (os.environ[name] for name in ("WEFT_PROGRAM", "WEFT_SOURCE", "WEFT_LIBRARY"))
PAGES = ["README.md"] + sorted(os.path.join("docs", name) for name in os.listdir(os.path.join(SOURCE, "docs")) if name.endswith(".md"))


def read(path):
    with open(os.path.join(SOURCE, path)) as file:
        return file.read()


def blocks(text, language):
    """(line, text) of each fenced block."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start()) + 1, match.group(1)


def prose(text):
    """The text without what is fenced."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def run(*arguments):
    return subprocess.run([WEFT, *arguments], capture_output=True, text=True, errors="replace", timeout=240)


class Examples(unittest.TestCase):
    """A block of `weft` is a variant or, without `attention`, statements of the one that docs/language.md calls `example`."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.head = next(text for _, text in blocks(read("docs/language.md"), "weft") if "attention example(" in text).split("{")[0]

    def whole(self, text):
        if re.search(r"^\s*attention\b", text, re.MULTILINE):
            return text
        outside = re.sub(r"\{[^{}]*\}", "", text)  # of blocks: an `also` has its own
        score = "" if re.search(r"^\s*score\b", outside, re.MULTILINE) else "\n  score dot(q[i], k[j]) / sqrt(D)"
        return self.head + "{" + score + "\n" + text + "}\n"

    def write(self, name, text):
        path = os.path.join(self.folder.name, name + ".weft")
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_programs_in_c_say_what_is_beside_them(self):
        page = read("docs/cpp.md")
        header = os.path.join(self.folder.name, "weft")
        os.mkdir(header)
        shutil.copy(os.path.join(SOURCE, "runtime", "weft.h"), header)
        libraries, tried = os.path.dirname(LIBRARY), 0
        for match in re.finditer(r"^```c\n(.*?)^```\n+```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            source, program = os.path.join(self.folder.name, "own.c"), os.path.join(self.folder.name, "own")
            with open(source, "w") as file:
                file.write(match[1])
            options = ["-I", self.folder.name, "-L", libraries, "-lweft_runtime", f"-Wl,-rpath,{libraries}"]
            made = subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", source, *options, "-o", program], capture_output=True, text=True)
            self.assertEqual(made.returncode, 0, made.stderr)
            done = subprocess.run([program], capture_output=True, text=True, timeout=240)
            self.assertEqual(done.returncode, 0, done.stderr)
            # Tiles may be another CPU's.
            self.assertEqual(re.sub(r"tiles\(T, \d+\)", "", done.stdout), re.sub(r"tiles\(T, \d+\)", "", match[2]))
            tried += 1
        self.assertGreater(tried, 0)

    def test_examples_compile(self):
        work = []
        for page in PAGES:
            for line, text in blocks(read(page), "weft"):
                path = self.write(f"{os.path.basename(page)[:-3]}_{line}", self.whole(text))
                names = re.findall(r"^\s*attention (\w+)", self.whole(text), re.MULTILINE)
                work += [(page, line, f"{path}:{name}", kernel) for name in names for kernel in ("forward", "backward")]
        self.assertGreater(len(work), 25)
        # Rows end in a dim of 16.
        compiled = lambda own: run("compile", own[2], "--kernel", own[3], "--head-dim", "16", "--emit=asm")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for (page, line, _, kernel), result in zip(work, pool.map(compiled, work)):
                with self.subTest(f"{page}:{line}", kernel=kernel):
                    self.assertEqual(result.returncode, 0, result.stderr)

    def test_wrong_examples_give_their_errors(self):
        """Rows of tables that begin with `| wrong | error |`: a text, or statements of `example`, and what is said of it."""
        wrong = {}
        for page in PAGES:
            tables = "\n".join(re.findall(r"^\| wrong \| error \|\n\| --- \| --- \|\n((?:\|.*\n)+)", read(page), re.MULTILINE))
            for text, message in re.findall(r"^\| `(.*)` \| `(.*)` \|$", tables, re.MULTILINE):
                whole = text if text.startswith(("attention", "//")) else self.whole(text + "\n")
                wrong[self.write(f"wrong{len(wrong)}", whole)] = (page, text, message)
        self.assertGreater(len(wrong), 80)
        said = run("check", *wrong).stderr
        for path, (page, text, message) in wrong.items():
            with self.subTest(f"{page}: {text}"):
                own = "".join(re.findall(rf"^{re.escape(path)}:.*\n", said, re.MULTILINE))
                self.assertIn(": error: " + message + "\n", own)

    def test_python_examples_run(self):
        for page in PAGES:
            code = "\n".join(text for _, text in blocks(read(page), "python"))
            if not code:
                continue
            with self.subTest(page):
                paths = dict(os.environ, PYTHONPATH=os.path.join(SOURCE, "python"))
                code = code.replace("build/lib/libweft_torch.so", LIBRARY)
                result = subprocess.run([sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, timeout=240, env=paths)
                self.assertEqual(result.returncode, 0, result.stderr)


class Complete(unittest.TestCase):
    """What a table of the code holds, the page about it names."""

    def check(self, page, names):
        text = read(page)
        self.assertGreater(len(names), 4)
        for name in names:
            self.assertRegex(text, rf"(?<!\w){re.escape(name)}(?!\w)", f"{page} does not name it")

    def test_functions(self):
        ids = re.findall(r'^WEFT_FUNCTION\(\w+, "(\w+)"', read("compiler/language/functions.def"), re.MULTILINE)
        self.check("docs/expressions.md", ids)

    def test_normalizers(self):
        folder = "compiler/normalizers"
        facts = "".join(read(f"{folder}/{name}") for name in os.listdir(os.path.join(SOURCE, folder)) if name.endswith(".cpp"))
        self.check("docs/language.md", re.findall(r'\.name = "(\w+)"', facts))

    def test_passes(self):
        self.check("docs/architecture.md", re.findall(r'WeftPass<"([\w-]+)">', read("compiler/Passes.td")))

    def test_variants(self):
        names = [name[:-5] for name in os.listdir(os.path.join(SOURCE, "ops/variants"))]
        self.check("docs/library.md", names)
        self.assertIn(f"one of {len(names)} variants", read("README.md"))

    def test_functions_of_torch(self):
        """The page lists what Python functions may call, under one of its names, and nothing else; operators of Python and
        torch's words for them, makers of tensors and conversions it has a word for each kind."""
        python = "from weft._operations import OPERATIONS\nfor name, function in OPERATIONS.items(): print(name, id(function))"
        paths = dict(os.environ, PYTHONPATH=os.path.join(SOURCE, "python"))
        told = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=240, env=paths, check=True).stdout
        names = {}
        for line in told.splitlines():
            name, function = line.split()
            names.setdefault(function, set()).add(name)
        by_kind = set(
            "add radd sub rsub mul rmul div rdiv truediv rtruediv floordiv rfloordiv remainder rmod rpow neg pos max min fmax fmin "
            "clamp_min clamp_max expit eq ne not_equal lt less le less_equal gt greater ge greater_equal bitwise_and bitwise_or "
            "bitwise_left_shift rlshift bitwise_right_shift rrshift and rand or ror where to detach "
            "zeros_like ones_like full_like new_full new_tensor".split()
        )
        listed = set(re.findall(r"`(\w+)`", re.search(r"^What is known: (.*?)\n\n", read("docs/python.md"), re.MULTILINE | re.DOTALL)[1]))
        self.assertGreater(len(names), 100)
        self.assertEqual(listed - set().union(*names.values()), set(), "no such functions")
        self.assertEqual([own for own in names.values() if not own & (listed | by_kind)], [], "docs/python.md does not name them")

    def test_environment(self):
        self.check("docs/command_line.md", re.findall(r'get\("(WEFT_\w+)"', read("runtime/environment.cpp")))

    def test_commands(self):
        self.check("docs/command_line.md", ["weft " + name for name in re.findall(r"^  (\w[\w-]*)  ", run("--help").stdout.split("Subcommands:")[1], re.MULTILINE)])


class References(unittest.TestCase):
    def test_links(self):
        def anchors(path):
            found = set()
            for title in re.findall(r"^#+ (.*)$", prose(read(path)), re.MULTILINE):
                found.add(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"))
            return found

        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(page))):
                if re.match(r"https?:", target):
                    continue
                path, _, anchor = target.partition("#")
                path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
                with self.subTest(f"{page}: {target}"):
                    self.assertTrue(os.path.exists(os.path.join(SOURCE, path)), "no such file")
                    if anchor:
                        self.assertIn(anchor, anchors(path))

    def test_files(self):
        """What looks like a path of this repository is one; NAME stands for any."""
        folders = r"(?:autotune|benchmarks|compiler|docs|models|ops|python|runtime|tests)"
        for page in PAGES:
            for path in re.findall(rf"`({folders}/[\w./-]+)`", prose(read(page))):
                if "NAME" in path:
                    path = os.path.dirname(path.split("NAME")[0])
                with self.subTest(f"{page}: {path}"):
                    self.assertTrue(os.path.exists(os.path.join(SOURCE, path)), "no such file")

    def test_commands(self):
        """Commands and options of `weft` that are shown exist."""
        known = {}
        for page in PAGES:
            for _, text in blocks(read(page), "sh"):
                for line in text.replace("\\\n", " ").splitlines():
                    match = re.search(r"(?:^|\s)(?:build/bin/)?weft (\w[\w-]*)([^#]*)", line)
                    if not match:
                        continue
                    command, rest = match.groups()
                    known[command] = known.get(command) or run(command, "--help").stdout
                    for option in re.findall(r"(--[\w-]+)", rest):
                        with self.subTest(f"{page}: {line}"):
                            self.assertIn(option, known[command])
        self.assertGreater(len(known), 8)


if __name__ == "__main__":
    unittest.main()
