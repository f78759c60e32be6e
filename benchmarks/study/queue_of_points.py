"""Work that several processes share and that goes on where it was: each point is a file, made once."""

import contextlib
import fcntl
import json
import os


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


@contextlib.contextmanager
def claimed(path):
    """True for the one process that may make the point at `path` now; it may be there already. The claim ends with its process."""
    with open(path + ".claim", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
