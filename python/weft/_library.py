"""Finds and loads the library with the operator: one for each minor version of torch."""

import os
import pathlib

import torch


def _find() -> pathlib.Path:
    own = os.environ.get("WEFT_LIBRARY")
    if own:
        if not os.path.isfile(own):
            raise ImportError(f"weft: WEFT_LIBRARY names {own}, where there is no file")
        return pathlib.Path(own)
    here = pathlib.Path(__file__).resolve().parent
    minor = ".".join(torch.__version__.split(".")[:2])
    path = here / "lib" / f"torch-{minor}" / "libweft_torch.so"
    if path.is_file():
        return path
    others = sorted((folder.name.removeprefix("torch-") for folder in (here / "lib").glob("torch-*")), key=lambda own: [int(part) for part in own.split(".")])
    if others:
        raise ImportError(f"weft: this build is for torch {', '.join(others)}, and torch {torch.__version__} is installed: "
                          f"pip install 'torch=={others[-1]}.*', or a newer weft")
    checkout = here.parent.parent / "build" / "lib" / "libweft_torch.so"
    if checkout.is_file():
        return checkout
    raise ImportError(f"weft: no library with the operator in {here / 'lib'} and none built in {checkout.parent}: ./dev build makes it, WEFT_LIBRARY names another")


path = _find()
torch.ops.load_library(str(path))
