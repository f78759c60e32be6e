"""The command line `weft`, which comes with the package: python -m weft, or weft."""

import os
import sys

from . import _library


def main():
    program = _library.path.parent / "weft"
    if not program.is_file():  # of a checkout
        program = _library.path.parent.parent / "bin" / "weft"
    if not program.is_file():
        sys.exit(f"weft: the command line is not beside {_library.path}")
    import torch

    folder = os.path.join(os.path.dirname(torch.__file__), "lib")
    environment = dict(os.environ)
    environment.setdefault("WEFT_PYTHON", sys.executable)
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(own for own in (folder, environment.get("LD_LIBRARY_PATH")) if own)
    os.execve(program, [str(program), *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
