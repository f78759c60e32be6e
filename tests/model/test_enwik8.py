"""Bringing the text to train on: from a server that cuts, that has something else, or that is not there."""

import contextlib
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import zipfile

SCRIPT = os.path.join(os.environ["WEFT_SOURCE"], "models", "enwik8.py")
spec = importlib.util.spec_from_file_location("enwik8", SCRIPT)
enwik8 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(enwik8)

TEXT = random.Random(1).randbytes(300_000) + b"text" * 1000
SHA256 = hashlib.sha256(TEXT).hexdigest()


def zipped(text=TEXT):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as own:
        own.writestr("enwik8", text)
    return file.getvalue()


def packed(text=TEXT, member="data/enwik8.gz"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as own:
        for name, data in (("own/setup.py", b"raise SystemExit('run')"), (f"own/{member}", gzip.compress(text))):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            own.addfile(entry, io.BytesIO(data))
    return file.getvalue()


class Server:
    """Serves `pages`, path to bytes; `cuts`: how many answers break off half way; `ranges`: it can go on."""

    def __init__(self, pages, cuts=0, ranges=True, pause=0.0):
        server = self
        self.asked, self.cuts = [], cuts

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append((self.path, self.headers.get("Range")))
                data = pages.get(self.path)
                if data is None:
                    return self.send_error(404)
                begin = int(self.headers["Range"][6:-1]) if ranges and self.headers.get("Range") else 0
                if begin and begin >= len(data):
                    return self.send_error(416)
                self.send_response(206 if begin else 200)
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json" if self.path == "/simple/" + enwik8.PACKAGE + "/" else "text/html")
                self.send_header("Content-Length", str(len(data) - begin))
                self.end_headers()
                cut, server.cuts = server.cuts > 0, server.cuts - 1
                rest = data[begin:]
                with contextlib.suppress(OSError):
                    self.wfile.write(rest[: len(rest) // 2 if cut else len(rest) // 2])
                    self.wfile.flush()
                    if not cut:
                        time.sleep(pause)
                        self.wfile.write(rest[len(rest) // 2 :])

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class Enwik8(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = os.path.join(folder.name, "data", "enwik8")

    def serve(self, pages, **options):
        server = Server(pages, **options)
        self.addCleanup(server.close)
        return server

    def bring(self, server, home="/enwik8.zip"):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.addCleanup(said.close)
            try:
                return enwik8.bring(self.out, server.url + home, server.url + "/simple", len(TEXT), SHA256, None, pause=0.01)
            finally:
                self.said = said.getvalue()

    def assertBrought(self):
        with open(self.out, "rb") as file:
            self.assertEqual(hashlib.sha256(file.read()).hexdigest(), SHA256)
        self.assertEqual(os.listdir(os.path.dirname(self.out)), ["enwik8"])

    def test_from_its_home_once(self):
        server = self.serve({"/enwik8.zip": zipped()})
        self.assertTrue(self.bring(server))
        self.assertBrought()
        self.assertFalse(self.bring(server))
        self.assertEqual(len(server.asked), 1)

    def test_a_cut_download_goes_on(self):
        server = self.serve({"/enwik8.zip": zipped()}, cuts=2)
        self.assertTrue(self.bring(server))
        self.assertBrought()
        half = len(zipped()) // 2
        self.assertEqual([own for _, own in server.asked], [None, f"bytes={half}-", f"bytes={half + (len(zipped()) - half) // 2}-"])

    def test_a_server_that_cannot_go_on(self):
        self.assertTrue(self.bring(self.serve({"/enwik8.zip": zipped()}, cuts=2, ranges=False)))
        self.assertBrought()

    def test_from_the_package_where_home_has_none(self):
        file = json.dumps({"files": [{"filename": "other.tar.gz", "url": "/no"}, {"filename": enwik8.ARCHIVE, "url": "../../files/own.tar.gz"}]}).encode()
        for page in (file, f'<a href="/files/{enwik8.ARCHIVE}#sha256=0">x</a>'.encode()):
            with self.subTest(page=page):
                path = "/simple/" if page == file else "/html/"
                server = self.serve({path + enwik8.PACKAGE + "/": page, "/files/own.tar.gz": packed(), "/files/" + enwik8.ARCHIVE: packed()})
                with contextlib.redirect_stderr(io.StringIO()) as said:
                    enwik8.bring(self.out, server.url + "/none.zip", server.url + path, len(TEXT), SHA256, None, pause=0.01)
                self.assertIn("404", said.getvalue())
                self.assertBrought()
                os.unlink(self.out)

    def test_another_text_is_refused(self):
        longer, wrong = TEXT + b"x", bytes([TEXT[0] ^ 1]) + TEXT[1:]
        for text in (longer, wrong, TEXT[:-1]):
            page = json.dumps({"files": [{"filename": enwik8.ARCHIVE, "url": "/own.tar.gz"}]}).encode()
            server = self.serve({"/enwik8.zip": zipped(text), "/simple/" + enwik8.PACKAGE + "/": page, "/own.tar.gz": packed(text)})
            with self.assertRaisesRegex(enwik8.Failure, "no source gave enwik8"):
                self.bring(server)
            self.assertEqual(self.said.count("another text than enwik8"), 2)
            self.assertEqual(os.listdir(os.path.dirname(self.out)), [])

    def test_archives_that_are_none(self):
        page = json.dumps({"files": [{"filename": enwik8.ARCHIVE, "url": "/own.tar.gz"}]}).encode()
        for archive, package in ((b"<html>", b"<html>"), (zipped()[:-200], packed()[:-200]), (packed(), packed(member="data/other.gz"))):
            server = self.serve({"/enwik8.zip": archive, "/simple/" + enwik8.PACKAGE + "/": page, "/own.tar.gz": package})
            with self.assertRaises(enwik8.Failure):
                self.bring(server)
            self.assertFalse(os.path.exists(self.out))

    def test_what_is_there_is_not_lost(self):
        os.makedirs(os.path.dirname(self.out))
        with open(self.out, "w") as file:
            file.write("my own text")
        with self.assertRaisesRegex(enwik8.Failure, "is there and is another text"):
            self.bring(self.serve({}))
        with open(self.out) as file:
            self.assertEqual(file.read(), "my own text")

    def test_two_at_once(self):
        server = self.serve({"/enwik8.zip": zipped()}, pause=1.0)
        first = threading.Thread(target=lambda: enwik8.bring(self.out, server.url + "/enwik8.zip", None, len(TEXT), SHA256, None))
        first.start()
        while not os.path.exists(self.out + ".zip.part"):
            time.sleep(0.01)
        with self.assertRaisesRegex(enwik8.Failure, "another process"):
            self.bring(server)
        first.join()
        self.assertBrought()

    def test_the_command(self):
        page = json.dumps({"files": [{"filename": enwik8.ARCHIVE, "url": "/own.tar.gz"}]}).encode()
        server = self.serve({"/enwik8.zip": zipped(), "/simple/" + enwik8.PACKAGE + "/": page, "/own.tar.gz": packed()})
        done = subprocess.run(
            [os.environ["WEFT_PROGRAM"], "data", "--out", self.out, "--home", server.url + "/enwik8.zip", "--index", server.url + "/simple"],
            capture_output=True,
            text=True,
            env={**os.environ, "WEFT_PYTHON": sys.executable},
        )
        # Right but for the text, which is not the real one.
        self.assertEqual(done.returncode, 1)
        self.assertIn("it holds another text than enwik8", done.stderr)
        self.assertIn("the same command goes on with it", done.stderr)

    def test_stopped_and_gone_on_with(self):
        server = self.serve({"/enwik8.zip": zipped()}, pause=60)
        running = subprocess.Popen([sys.executable, SCRIPT, self.out, "--home", server.url + "/enwik8.zip", "--index", server.url], stderr=subprocess.PIPE, text=True)
        part = self.out + ".zip.part"
        while not os.path.exists(part) or os.path.getsize(part) == 0:
            time.sleep(0.01)
        running.send_signal(2)
        self.assertIn("the same command goes on from here", running.communicate(timeout=60)[1])
        self.assertEqual(running.returncode, 130)
        kept = os.path.getsize(part)
        second = self.serve({"/enwik8.zip": zipped()})
        self.assertTrue(self.bring(second))
        self.assertEqual(second.asked[0][1], f"bytes={kept}-")
        self.assertBrought()


if __name__ == "__main__":
    unittest.main()
