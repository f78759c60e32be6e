"""Work that several processes share and that goes on where it was: each point is a file, made once."""

import contextlib
import json
import os
import socket


def path_of(folder, point):
    name = "_".join(f"{key}={value}" for key, value in point.items()).replace("/", "-")
    return os.path.join(folder, name + ".json")


def read(path):
    with open(path) as file:
        return json.load(file)


def write(path, result):
    """All of it or nothing."""
    with open(path + f".{os.getpid()}.tmp", "w") as file:
        json.dump(result, file, indent=1)
    os.replace(file.name, path)


def _holder_is_gone(claim):
    """Whether the process that claims a point was of this machine and is no more."""
    try:
        with open(claim) as file:
            host, pid = file.read().split()
        if host != socket.gethostname():
            return False
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return True
    except (FileNotFoundError, PermissionError):
        pass
    return False


@contextlib.contextmanager
def claimed(path):
    """True for the one process that may make the point at `path` now; it may be there already."""
    claim = path + ".claim"
    while True:
        try:
            with open(claim, "x") as file:
                file.write(f"{socket.gethostname()} {os.getpid()}")
            break
        except FileExistsError:
            if not _holder_is_gone(claim):
                yield False
                return
            with contextlib.suppress(FileNotFoundError):
                os.remove(claim)
    try:
        yield True
    finally:
        os.remove(claim)
