"""`weft bench --device model:...`: what it predicts, that nothing it says looks measured, and its page in a real browser."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from test_command_line import SOURCE, run
from test_reports import HOSTILE, NAME, browse


class Predictions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.result = run("bench", "--device", "model:h200", "--variants", "causal,sliding_window", "--span", "256", "--shapes", "1,16,16384,128", "--direction", "forward",
                         "--out", cls.folder.name)
        cls.data, cls.page = (os.path.join(cls.folder.name, "predictions." + ending) for ending in ("json", "html"))
        with open(cls.data) as file:
            cls.json = json.load(file)

    def test_rows(self):
        self.assertEqual((self.json["kind"], self.json["complete"]), ("predicted", True))
        self.assertEqual([(row["variant"], row["code"]) for row in self.json["rows"]],
                         [(variant, code) for variant in ("causal", "sliding_window") for code in ("sm_80", "sm_90a")])
        causal, window = self.json["rows"][1], self.json["rows"][3]
        # 2 * 2 * 16 heads * T^2 / 2 * 128, of tiles on the diagonal all; within half and all of the peak.
        self.assertAlmostEqual(causal["flops"], 2 * 2 * 16 * 16384 * (16384 + 64) / 2 * 128)
        self.assertTrue(0.1 < causal["predicted_tflops"] / causal["peak_tflops"] < 0.81, causal)
        self.assertLess(window["predicted_ms"], 0.2 * causal["predicted_ms"])
        for row in self.json["rows"]:
            self.assertAlmostEqual(sum(kernel["predicted_us"] for kernel in row["kernels"]), 1e3 * row["predicted_ms"])
            for kernel in row["kernels"]:
                self.assertTrue(kernel["predicted_bound"])
                for share in kernel["predicted_busy"].values():
                    self.assertTrue(0 <= share <= 1.01, kernel)

    def test_every_time_is_marked(self):
        lines = [line for line in self.result.stdout.splitlines() if " ms" in line or "TFLOP" in line]
        self.assertEqual(len(lines), 4)
        for line in lines:
            self.assertIn("ms predicted", line)
            self.assertIn("TFLOP/s predicted", line)
        # No key of a time or a speed but those that say so.
        numbers = {key for row in self.json["rows"] for part in (row, *row["kernels"]) for key in part if key.endswith(("_ms", "_us", "tflops"))}
        self.assertEqual(numbers, {"predicted_ms", "predicted_us", "predicted_tflops", "peak_tflops"})

    def test_page(self):
        def look(driver):
            rows = driver.execute_script("return [...document.querySelectorAll('table')].map(t => [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent)))")
            beside, calls, kernels = rows
            # Others' figures beside ours, each with its kind.
            self.assertEqual({cells[3] for cells in beside}, {"predicted", "published"})
            published = {cells[2]: cells[4] for cells in beside if cells[3] == "published"}
            self.assertEqual(published["FlashAttention-3"], "616")
            for cells in beside:
                self.assertEqual(cells[3] == "predicted", cells[2].startswith("Weft"))
            for cells in calls + kernels:
                self.assertIn("predicted", cells)
            self.assertEqual(len(calls), 4)
            text = driver.execute_script("return document.body.innerText")
            for words in ("predicted, not measured", "No kernel has run for this page", "arXiv 2407.08608"):
                self.assertIn(words, text)
            self.assertTrue(driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"))
        for width, dark in ((1280, False), (390, True)):
            browse(self.page, width, look, dark)

    def test_any_text_stands_as_it_is(self):
        changed = json.loads(json.dumps(self.json))
        changed["product"] = changed["rows"][0]["variant"] = changed["rows"][0]["schedule"] = NAME
        changed["rows"][1]["kernels"][0]["kernel"] = changed["rows"][1]["kernels"][0]["predicted_bound"] = NAME
        changed["rows"][3] = {key: changed["rows"][3][key] for key in ("variant", "B", "H", "T", "D", "dtype", "direction", "span", "code")}
        changed["rows"][3]["error"] = HOSTILE[0]
        data, page = (os.path.join(self.folder.name, name) for name in ("changed.json", "changed.html"))
        with open(data, "w") as file:
            json.dump(changed, file)
        script = "".join(pathlib.Path(SOURCE, "benchmarks", part + ".py").read_text() for part in ("page", "published", "predictions"))
        subprocess.run([sys.executable, "-c", script, data, page], check=True)

        def look(driver):
            self.assertTrue(driver.execute_script("return window.ran === undefined && document.querySelectorAll('img, b').length === 0"))
            text = driver.execute_script("return document.body.textContent")
            self.assertGreater(text.count(NAME), 4)
            self.assertIn("not predicted", text)
        browse(page, 1280, look)

    def test_mistakes(self):
        for words, arguments in (("h200", ["--device", "model:h300"]), ("causl", ["--device", "model:h200", "--variants", "causl"]),
                                 ("got predictions", ["--compare", self.data, self.data])):
            self.assertIn(words, run("bench", "--out", self.folder.name + "/wrong", *arguments, code=1).stderr)


if __name__ == "__main__":
    unittest.main()
