"""`weft bench` and `weft report`: what they measure and say, and their pages in a real browser."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from test_command_line import SOURCE, WEFT, run, tiny

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
# What a name or a message may hold: it would run, end a script, open a comment in it, or be read as an entity.
HOSTILE = ("<script>window.ran=1</script>", "<img src=x onerror=window.ran=1>", "</script><script>window.ran=1</script>", "<!--<script>", "\"'`&lt;&amp;", "\u2028ü日本 $x$ <b>b</b>")
NAME = "|".join(HOSTILE)


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
        ready = "return typeof FIGURES !== 'undefined' && Object.keys(FIGURES).length > 0 && Object.keys(FIGURES).every(id => document.querySelector('#' + id + ' svg.main-svg .cartesianlayer .subplot'))"
        for _ in range(600):
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
                         "--peers", "sdpa,math", "--samples", "6", "--row-seconds", "0.5", "--out", cls.out)
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
            self.assertLessEqual(own["low"], own["ms"])
            self.assertLessEqual(own["ms"], own["high"])
            self.assertGreaterEqual(own["samples"], 3)
            self.assertIn(own["known"], (True, False))
            self.assertLess(row["error"], 1e-5)
            self.assertGreater(row["compile_s"], 0)
        # 512 tokens in 8 tiles of 64: 36 of 64 causal; a window of 64 keeps a diagonal of at most two.
        self.assertAlmostEqual(self.row("causal")["kept_tiles"], 36 / 64)
        self.assertAlmostEqual(self.row("sliding_window")["kept_tiles"], 15 / 64)
        self.assertTrue(self.json["complete"])

    def test_lists_of_each_query(self):
        """An eighth of 512 keys for each query: what is kept and multiplied is counted by queries, not by tiles of them."""
        out = os.path.join(self.folder.name, "lists")
        run("bench", "--variants", "indexed", "--shapes", "1,2,512,32", "--peers", "", "--samples", "3", "--row-seconds", "0.2", "--direction", "forward", "--out", out)
        with open(os.path.join(out, "results.json")) as file:
            (row,) = json.load(file)["rows"]
        self.assertAlmostEqual(row["kept_tiles"], 1 / 8)
        self.assertEqual(row["flops"], 2 * 512 * 64 * 2 * (32 + 32))

    def test_no_row_lies_above_the_roof(self):
        self.assertIn("chains of f32 fma", self.json["peak_of"]["f32"])
        self.assertIn("measured", self.json["bandwidth_of"])
        self.assertGreater(self.json["bandwidth_gbs"], 0)
        for row in self.json["rows"]:
            self.assertLessEqual(row["results"]["weft"]["gflops"], self.json["peak_gflops"]["f32"])
        # The page says so where one does.
        self.assertNotIn("above the roof", self.words(self.json))
        low = json.loads(json.dumps(self.json))
        low["peak_gflops"]["f32"] = 1e-3
        self.assertIn("16 of 16 rows lie above the roof", self.words(low))

    def words(self, results):
        """The text of the page of these results."""
        return browse(self.report(results), 1280, lambda driver: driver.execute_script("return document.body.innerText"))

    def report(self, results):
        """The page of these results, made as weft bench makes it."""
        data, page = (os.path.join(self.folder.name, name) for name in ("changed.json", "changed.html"))
        with open(data, "w") as file:
            json.dump(results, file)
        script = "".join(pathlib.Path(SOURCE, "benchmarks", part + ".py").read_text() for part in ("page", "report"))
        subprocess.run([sys.executable, "-c", script, data, page], check=True)
        return page

    def test_any_text_stands_as_it_is(self):
        results = json.loads(json.dumps(self.json))
        for row in results["rows"]:
            if row["variant"] == "causal":
                row["variant"] = NAME
            row["results"][NAME] = row["results"].pop("sdpa")
            if "error" in row["results"]["math"]:
                row["results"]["math"]["error"] = HOSTILE[0]
        results["peers"] = [NAME, "math"]
        results["device"] = results["peak_of"]["f32"] = NAME
        results["masks"][NAME] = results["masks"].pop("causal")
        points = [{"tile_q": q, "tile_k": 64, "ms": 1.0} for q in (16, 32, 48, 64)]
        results["tuning"] = [{"key": NAME + ", of a call", "seconds": 1.0, "default_seconds": 1.0, "points": points}]

        def look(driver):
            ran = driver.execute_script("return window.ran === undefined && document.querySelectorAll('img, b, script').length === 2")  # plotly, and ours
            self.assertTrue(ran)
            text = driver.execute_script("return document.body.textContent")
            first = driver.execute_script("return document.querySelector('tbody td').textContent")
            self.assertEqual(first, NAME)
            self.assertGreater(text.count(NAME), 5)
            # Titles and names of charts are read by plotly, which knows tags and entities of its own.
            shown = driver.execute_script("return [...document.querySelectorAll('svg text')].map(t => t.textContent)")
            self.assertGreaterEqual(sum(NAME in text for text in shown), 4, shown)
        browse(self.report(results), 1280, look)

    def test_files_of_any_name(self):
        # Long, and cut to a length inside of a character where it stands in a message; bytes that are no UTF-8.
        names = [HOSTILE[0] + "\"'&", "ü" * 110, b"b\xff\xfe".decode(errors="surrogateescape")]
        paths = [os.path.join(self.folder.name, name, "v.weft") for name in names]
        with open(os.path.join(SOURCE, "ops", "variants", "causal.weft")) as file:
            text = file.read()
        for path in paths:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        out = os.path.join(self.folder.name, "names")
        run("bench", "--variants", ",".join(paths), "--shapes", "1,1,64,16", "--peers", "math", "--direction", "forward", "--samples", "3", "--row-seconds", "0.2", "--out", out)
        with open(os.path.join(out, "results.json"), encoding="utf-8") as file:
            results = json.load(file)
        self.assertTrue(results["complete"])
        self.assertEqual([row["variant"] for row in results["rows"]], paths[:2] + [os.path.join(self.folder.name, "b\ufffd\ufffd", "v.weft")])

        def look(driver):
            self.assertTrue(driver.execute_script("return window.ran === undefined"))
            self.assertEqual(driver.execute_script("return document.querySelector('tbody td').textContent"), paths[0])
        browse(os.path.join(out, "report.html"), 1280, look)

    def test_a_time_that_is_not_known_is_marked(self):
        results = json.loads(json.dumps(self.json))
        for row in results["rows"]:
            own = row["results"]["weft"]
            own["known"] = row["variant"] != "causal"
            if row["variant"] == "causal":
                row["results"]["sdpa"]["ratio"] = {"value": 1.25, "low": 0.5, "high": 2.0, "verdict": "unknown"}
                row["results"]["math"]["ratio"] = {"value": 1.02, "low": 0.98, "high": 1.04, "verdict": "same"}
        results["complete"] = False

        def look(driver):
            rows = driver.execute_script("return [...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.textContent + ' ' + c.className))")
            for row in rows:
                self.assertEqual("?" in row[5], row[0].startswith("causal"))
            causal = next(row for row in rows if row[0].startswith("causal"))
            self.assertRegex(causal[8], r"^1\.25x\? .* soft$")
            self.assertRegex(causal[9], r"^~1\.02x .* soft$")
            self.assertIn("Not complete", driver.execute_script("return document.querySelector('main').innerText"))
        browse(self.report(results), 1280, look)
        results["rows"] = []  # stopped before the first row
        page = self.report(results)
        with open(page, encoding="utf-8") as file:
            self.assertIn("after 0 rows", file.read())

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
        def written(name, results):
            path = os.path.join(self.folder.name, name)
            with open(path, "w") as file:
                json.dump(results, file)
            return path
        before = json.loads(json.dumps(self.json))
        for row in before["rows"]:
            row["results"]["weft"].update(samples=9, low=0.99 * row["results"]["weft"]["ms"], high=1.01 * row["results"]["weft"]["ms"])
        path = written("before.json", before)
        self.assertIn("no regression beyond noise in 16 rows", run("bench", "--compare", path, path).stdout)
        slower = json.loads(json.dumps(before))
        for key in ("ms", "low", "high"):
            slower["rows"][0]["results"]["weft"][key] *= 3
        slower["rows"][1]["results"]["weft"] = {"error": "broken"}
        noisy = slower["rows"][2]["results"]["weft"]
        noisy["ms"], noisy["high"] = 2 * noisy["ms"], 3 * noisy["high"]
        other = written("slower.json", slower)
        out = run("bench", "--compare", path, other, code=1).stdout
        self.assertIn("% slower", out)
        self.assertIn("fails now: broken", out)
        self.assertEqual(len(out.splitlines()), 3)
        self.assertTrue(out.splitlines()[2].startswith("not known"), out)
        run("bench", "--compare", other, path)
        part = written("part.json", {**before, "complete": False, "rows": before["rows"][:3]})
        out = run("bench", "--compare", path, part).stdout
        self.assertIn("13 rows are missing now", out)
        self.assertIn("was not measured to the end", out)
        self.assertIn("nothing to compare", run("bench", "--compare", path, written("none.json", {**before, "rows": []}), code=1).stderr)
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
            times = [float(r[column].rstrip("?")) for r in rows()]
            self.assertEqual(times, sorted(times))
            click()
            times = [float(r[column].rstrip("?")) for r in rows()]
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


class Stopped(unittest.TestCase):
    """What a bench leaves that did not come to its end, and peers that do not answer."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.out = os.path.join(self.folder, "bench")
        os.makedirs(self.out)
        # Of an earlier run: not to be taken for this one's.
        for name, text in (("results.json", '{"rows": [], "complete": true}'), ("report.html", "old")):
            with open(os.path.join(self.out, name), "w") as file:
                file.write(text)

    def results(self):
        with open(os.path.join(self.out, "results.json")) as file:
            return json.load(file)

    def start(self):
        """A bench of more rows than anyone waits for, at its second row."""
        process = subprocess.Popen([WEFT, "bench", "--variants", "causal,alibi", "--shapes", *(f"1,1,{T},16" for T in range(64, 4096, 64)), "--peers", "", "--samples", "3",
                                    "--row-seconds", "0.2", "--out", self.out], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        while not self.results()["rows"]:
            self.assertIsNone(process.poll())
            time.sleep(0.05)
        return process

    def test_interrupted(self):
        process = self.start()
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=120)[0]
        self.assertEqual(process.returncode, 130)
        self.assertIn("not complete", out)
        results = self.results()
        self.assertFalse(results["complete"])
        self.assertGreater(len(results["rows"]), 0)
        with open(os.path.join(self.out, "report.html"), encoding="utf-8") as file:
            self.assertIn(f"Not complete: the run was stopped, or died, after {len(results['rows'])} rows", file.read())

    def test_killed(self):
        process = self.start()
        process.kill()
        process.wait()
        self.assertFalse(self.results()["complete"])
        self.assertFalse(os.path.exists(os.path.join(self.out, "report.html")))

    def peer(self, does):
        """A Python that makes pages, but as a peer does something else."""
        path = os.path.join(self.folder, "python")
        with open(path, "w") as file:
            file.write(f"#!{sys.executable}\nimport json, os, subprocess, sys, time\n"
                       f"if 'one JSON line in' not in sys.argv[2]: os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])\n"
                       f"open({self.folder!r} + '/started', 'a').write(str(os.getpid()) + '\\n')\n" + does)
        os.chmod(path, 0o755)
        out = run("bench", "--variants", "causal,alibi,soft_cap", "--shapes", "1,1,64,16", "--peers", "flex", "--direction", "forward", "--samples", "3", "--row-seconds", "0.2",
                  "--peer-seconds", "1", "--out", self.out, env={"WEFT_PYTHON": path}).stdout
        with open(os.path.join(self.folder, "started")) as file:
            started = [int(line) for line in file if line.strip()]
        # Who adopts a process that has ended may take its time to look at it.
        self.assertEqual([pid for pid in started if living(pid)], [])
        results = self.results()
        self.assertTrue(results["complete"])
        for row in results["rows"]:
            self.assertGreater(row["results"]["weft"]["ms"], 0)
        return out, [row["results"]["flex"].get("error") for row in results["rows"]], len(started)

    def test_peer_that_hangs(self):
        # It has started another process, which is to end with it.
        out, errors, started = self.peer("subprocess.Popen(['sleep', '1000'])\ntime.sleep(1000)\n")
        self.assertIn("no answer within 1 s", out)
        self.assertTrue(all("no answer within 1 s" in error for error in errors))
        self.assertIn("not asked again", errors[2])
        self.assertEqual(started, 2)

    def test_peer_that_dies_while_measured(self):
        out, errors, started = self.peer("for line in sys.stdin:\n  if json.loads(line)['do'] == 'run': os.abort()\n  print('{}', flush=True)\n")
        self.assertTrue(all("its Python process ended" in error for error in errors), errors)
        self.assertEqual(started, 2)


def living(group):
    """Processes of a group that have not ended."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                state, _, own = file.read().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        if int(own) == group and state not in "ZX":
            found.append(int(pid))
    return found


class Training(unittest.TestCase):
    def test_page(self):
        with tempfile.TemporaryDirectory() as folder:
            data, runs = os.path.join(folder, "text"), []
            with open(data, "w") as file:
                file.write("to be or not to be, that is the question. " * 400)
            for attention in ("span_periodic", "causal", "adaptive_span"):
                config, out = os.path.join(folder, attention + ".json"), os.path.join(folder, attention)
                with open(config, "w") as file:
                    json.dump(tiny(attention, validate_every=5 if attention == "causal" else 0), file)
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
                self.assertRegex(text, r"best val bpc\b")
                self.assertEqual(len(re.findall(r"\(step \d+\)", text)), 1)
                names = driver.execute_script("return FIGURES.chart0.data.map(d => d.name)")
                self.assertEqual(names, ["span_periodic", "causal", "causal, validation", "adaptive_span"])
                for words in ("Bits per character", "What each head learned", "Unmasked keys a head", "Samples", "span_periodic", "adaptive_span"):
                    self.assertIn(words, text)
                return driver.execute_script("return [document.documentElement.scrollWidth, innerWidth, Object.keys(FIGURES).length]")
            for width in (1280, 390):
                scroll, inner, charts = browse(page, width, look)
                self.assertLessEqual(scroll, inner)
                self.assertEqual(charts, 3 + 2 + 4 + 3)  # span, period, ratio; span of the other; keys of three
            self.assertIn("holds no metrics.jsonl", run("report", folder, "--out", page, code=1).stderr)

    def test_live(self):
        """A page that is there before the first step, follows the run in a browser, and rests after Ctrl-C."""
        with tempfile.TemporaryDirectory() as folder:
            out, page = os.path.join(folder, "a"), os.path.join(folder, "page.html")
            os.mkdir(out)
            process = subprocess.Popen([WEFT, "report", out, "--out", page, "--live", "1"], stdout=subprocess.PIPE, text=True)
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.kill)
            self.assertIn("written anew every 1 s until Ctrl-C", process.stdout.readline())

            def shown(words):
                """The page, when it has them."""
                for _ in range(600):
                    self.assertIsNone(process.poll())
                    if os.path.exists(page):
                        with open(page, encoding="utf-8") as file:
                            text = file.read()
                        if words in text:
                            return text
                    time.sleep(0.1)
                self.fail(words + " is not on the page")

            def log(step):
                entry = {"step": step, "bpc": 2.0, "kept_tiles": 0.5, "mean_span": 8.0, "tokens_per_second": 10.0, "seconds": 1.0, "flops": 1e9}
                with open(os.path.join(out, "metrics.jsonl"), "a") as file:
                    file.write(json.dumps(entry) + "\n")
            shown("has not logged a step yet")
            log(11)
            self.assertIn("location.reload(), 1000)", shown(">11</td>"))

            def look(driver):
                from selenium.common.exceptions import WebDriverException
                log(12)
                for _ in range(600):
                    try:
                        if "12" in driver.execute_script("return [...document.querySelectorAll('tbody td')].map(t => t.textContent)"):
                            return
                    except WebDriverException:  # between two pages
                        pass
                    time.sleep(0.1)
                self.fail("the browser does not follow")
            browse(page, 1280, look)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(timeout=60), 0)
            with open(page, encoding="utf-8") as file:
                text = file.read()
            self.assertIn(">12</td>", text)
            self.assertNotIn("location.reload(), 1000", text)

    def test_any_text_stands_as_it_is(self):
        with tempfile.TemporaryDirectory() as folder:
            entry = {"step": 1, "bpc": 2.0, "kept_tiles": 0.5, "mean_span": 8.0, "tokens_per_second": 10.0, "seconds": 1.0, "flops": 1e9, "heads": {NAME: [[1.0]]}}
            run_of = lambda name: os.path.join(folder, name.replace("/", "\u2215"))
            svg = '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="90" onload="window.ran=1"><text x="2" y="20">{}</text>{}</svg>'
            masks = {NAME: svg.format(NAME.replace("&", "&amp;").replace("<", "&lt;"), ""),   # escaped, as it should be
                     "raw": svg.format("<script>window.ran=1</script>", '<rect width="9" height="9" onclick="window.ran=1" fill="url(#x)"/><image href="x"/>'),
                     "broken": svg.format("<img src=x onerror=window.ran=1>", "")}
            for name, picture in masks.items():
                os.makedirs(run_of(name))
                for file, text in (("metrics.jsonl", json.dumps(entry) + '\n{"step": 2, "bp'),   # killed while it wrote
                                   ("eval_val.json", json.dumps({"data": NAME, "attention": NAME, "bpc": 2.0, "split": "val", "bytes": 1, "heads": [{"layer": 0, "unmasked_keys": 3}]})),
                                   ("masks.svg", picture), ("sample.txt", NAME)):
                    with open(os.path.join(run_of(name), file), "w") as out:
                        out.write(text)
            page = os.path.join(folder, "page.html")
            run("report", *(run_of(name) for name in masks), "--out", page)

            def look(driver):
                self.assertTrue(driver.execute_script("return window.ran === undefined && document.querySelectorAll('main img, main image, main script, [onload], [onclick], [onerror]').length === 0"))
                self.assertEqual(driver.execute_script("return document.querySelector('tbody td').textContent"), NAME.replace("/", "\u2215"))
                self.assertEqual(driver.execute_script("return document.querySelector('pre').textContent"), NAME)
                words = driver.execute_script("return [...document.querySelectorAll('.chart > svg text')].map(t => t.textContent)")
                self.assertEqual(words, [NAME, HOSTILE[0]])
                self.assertIn("This picture cannot be shown", driver.execute_script("return document.body.innerText"))
            browse(page, 1280, look)


if __name__ == "__main__":
    unittest.main()
