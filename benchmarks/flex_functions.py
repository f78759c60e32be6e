#!/usr/bin/env python3
"""Every function of tests/python/score_functions.py through weft.flex_attention, against FlexAttention's definition in float64: a table
of docs/flexattention.md. PYTHONPATH=python:tests/python:tests/operator benchmarks/flex_functions.py [--dtype bfloat16]"""

import argparse
import math
import warnings

import torch

from score_functions import FUNCTIONS
from test_flex import errors_of


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32")
    dtype = getattr(torch, parser.parse_args().dtype)
    warnings.simplefilter("ignore")
    print("| function | o | PyTorch | worst gradient | PyTorch | of |\n| --- | --- | --- | --- | --- | --- |")
    for name in FUNCTIONS:
        relative = {what: (own / scale if scale else 0, peer / scale if scale else 0) for what, (own, peer, scale) in errors_of(name, dtype).items()}
        o, worst = relative.pop("o"), max(relative, key=lambda what: relative[what][0] if math.isfinite(relative[what][0]) else math.inf)
        print(f"| `{name}` | {o[0]:.1e} | {o[1]:.1e} | {relative[worst][0]:.1e} | {relative[worst][1]:.1e} | {worst} |", flush=True)


if __name__ == "__main__":
    main()
