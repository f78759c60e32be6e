"""`weft bench` and `weft report`: what they measure and say, and their pages in a real browser."""

import json
import os
import re
import tempfile
import time
import unittest

from test_command_line import run, tiny

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"


def browse(page, width, look, dark=False):
    """look(driver) with the page open; fails on anything the console says."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    options = Options()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        driver.get("file://" + page)
        # Drawn charts have an svg with a plot layer.
        ready = "return Object.keys(FIGURES).length > 0 && Object.keys(FIGURES).every(id => document.querySelector('#' + id + ' svg.main-svg .cartesianlayer .subplot'))"
        for _ in range(100):
            if driver.execute_script(ready):
                break
            time.sleep(0.1)
        assert driver.execute_script(ready), "a chart is missing"
        result = look(driver)
        log = driver.get_log("browser")
        assert not log, log
        return result
    finally:
        driver.quit()


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.out = os.path.join(cls.folder.name, "bench")
        cls.result = run("bench", "--variants", "causal,sliding_window,content_weight,soft_cap", "--shapes", "1,2,256,32", "1,2,512,32", "--span", "64",
                         "--peers", "sdpa,math", "--samples", "3", "--out", cls.out)
        with open(os.path.join(cls.out, "results.json")) as file:
            cls.json = json.load(file)
        cls.page = os.path.join(cls.out, "report.html")

    def row(self, variant, direction="forward", T=512):
        return next(r for r in self.json["rows"] if (r["variant"], r["direction"], r["T"]) == (variant, direction, T))

    def test_rows(self):
        self.assertEqual(len(self.json["rows"]), 4 * 2 * 2)
        for row in self.json["rows"]:
            own = row["results"]["weft"]
            self.assertGreater(own["ms"], 0)
            self.assertLessEqual(own["low"], own["high"])
            self.assertLess(row["error"], 1e-5)
            self.assertGreater(row["compile_s"], 0)
        # 512 tokens in 8 tiles of 64: 36 of 64 causal; a window of 64 keeps a diagonal of at most two.
        self.assertAlmostEqual(self.row("causal")["kept_tiles"], 36 / 64)
        self.assertAlmostEqual(self.row("sliding_window")["kept_tiles"], 15 / 64)
        self.assertGreater(self.json["peak_gflops"]["f32"], 1)

    def test_peers(self):
        for variant in ("causal", "sliding_window"):
            for peer in ("sdpa", "math"):
                for direction in ("forward", "backward"):
                    self.assertGreater(self.row(variant, direction)["results"][peer]["ms"], 0)
        # What a peer cannot do is a row that says so.
        self.assertIn("of the content", self.row("content_weight")["results"]["sdpa"]["error"])
        self.assertIn("not this variant", self.row("soft_cap")["results"]["sdpa"]["error"])
        self.assertIn("not this variant", self.result.stdout)

    def test_compare(self):
        path = os.path.join(self.out, "results.json")
        self.assertIn("no regression", run("bench", "--compare", path, path).stdout)
        slower = json.loads(json.dumps(self.json))
        for key in ("ms", "low", "high"):
            slower["rows"][0]["results"]["weft"][key] *= 3
        slower["rows"][1]["results"]["weft"] = {"error": "broken"}
        other = os.path.join(self.folder.name, "slower.json")
        with open(other, "w") as file:
            json.dump(slower, file)
        out = run("bench", "--compare", path, other, code=1).stdout
        self.assertIn("% slower", out)
        self.assertIn("fails now: broken", out)
        self.assertEqual(len(out.splitlines()), 2)
        run("bench", "--compare", other, path)
        self.assertIn("cannot open", run("bench", "--compare", path, "/nonexistent", code=1).stderr)

    def test_page(self):
        def look(driver):
            heads = driver.execute_script("return [...document.querySelectorAll('th')].map(h => h.textContent)")
            rows = lambda: driver.execute_script("return [...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
            before = rows()
            self.assertEqual(len(before), 16)
            column = heads.index("ms")
            click = lambda: driver.execute_script("document.querySelectorAll('th')[arguments[0]].click()", column)
            click()
            times = [float(r[column]) for r in rows()]
            self.assertEqual(times, sorted(times))
            click()
            times = [float(r[column]) for r in rows()]
            self.assertEqual(times, sorted(times, reverse=True))
            text = driver.execute_script("return document.body.innerText")
            for heading in ("All rows", "Time against length", "Ratio to the peers", "Kept share against time", "Autotuning", "Masks"):
                self.assertIn(heading, text)
            return driver.execute_script("return [document.documentElement.scrollWidth, innerWidth, getComputedStyle(document.body).backgroundColor, Object.keys(FIGURES).length]")
        colours = set()
        for width in (1280, 390):
            for dark in (False, True):
                scroll, inner, colour, charts = browse(self.page, width, look, dark)
                self.assertLessEqual(scroll, inner)
                self.assertGreaterEqual(charts, 2 + 2 + 2 + 4)
                colours.add(colour)
        self.assertEqual(len(colours), 2)
        with open(self.page, encoding="utf-8") as file:
            page = file.read()
        self.assertEqual(re.findall(r'<(?:script|link|img)[^>]*(?:src|href)=', page), [])

    def test_mistakes(self):
        self.assertIn("expected peers out of", run("bench", "--peers", "nope", code=1).stderr)
        self.assertIn("the library has:", run("bench", "--variants", "nope", code=1).stderr)
        result = run("bench", "--variants", "causal", "--shapes", "1,1,64,16", "--samples", "3", "--peers", "flex", "--direction", "forward", "--out",
                     os.path.join(self.folder.name, "x"), env={"WEFT_PYTHON": "/nonexistent/python"}, code=1)
        self.assertIn("WEFT_PYTHON", result.stdout)
        self.assertIn("the results are in", result.stderr)


class Training(unittest.TestCase):
    def test_page(self):
        with tempfile.TemporaryDirectory() as folder:
            data, runs = os.path.join(folder, "text"), []
            with open(data, "w") as file:
                file.write("to be or not to be, that is the question. " * 400)
            for attention in ("span_periodic", "causal", "adaptive_span"):
                config, out = os.path.join(folder, attention + ".json"), os.path.join(folder, attention)
                with open(config, "w") as file:
                    json.dump(tiny(attention), file)
                run("train", "--config", config, "--data", data, "--out", out)
                run("eval", "--checkpoint", out, "--data", data)
                runs.append(out)
            with open(os.path.join(runs[0], "eval_val.json")) as file:
                heads = json.load(file)["heads"]
            self.assertTrue(all(0 < h["unmasked_keys"] <= 64 for h in heads))
            with open(os.path.join(runs[0], "sample.txt"), "w") as file:
                file.write(run("sample", "--checkpoint", runs[0], "--length", "20").stdout)
            page = os.path.join(folder, "page.html")
            run("report", *runs, "--out", page)

            def look(driver):
                text = driver.execute_script("return document.body.innerText")
                for words in ("Bits per character", "What each head learned", "Unmasked keys a head", "Samples", "span_periodic", "adaptive_span"):
                    self.assertIn(words, text)
                return driver.execute_script("return [document.documentElement.scrollWidth, innerWidth, Object.keys(FIGURES).length]")
            for width in (1280, 390):
                scroll, inner, charts = browse(page, width, look)
                self.assertLessEqual(scroll, inner)
                self.assertEqual(charts, 3 + 2 + 4 + 3)  # span, period, ratio; span of the other; keys of three
            self.assertIn("holds no metrics.jsonl", run("report", folder, "--out", page, code=1).stderr)


if __name__ == "__main__":
    unittest.main()
