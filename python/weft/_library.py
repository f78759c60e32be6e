"""Finds and loads the libraries with the operator."""

import os
import pathlib

import torch


def _candidates():
    own = os.environ.get("WEFT_LIBRARY")
    if own:
        yield pathlib.Path(own)
        return
    here = pathlib.Path(__file__).resolve().parent
    yield here / "lib" / "libweft_torch.so"
    # A checkout that was built.
    yield here.parent.parent / "build" / "lib" / "libweft_torch.so"


def load():
    tried = []
    for path in _candidates():
        if path.is_file():
            torch.ops.load_library(str(path))
            return path
        tried.append(str(path))
    raise ImportError(f"weft: no library with the operator; looked for {', '.join(tried)}. Build it (./dev build), or name it in WEFT_LIBRARY.")


path = load()
