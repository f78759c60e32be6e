#!/usr/bin/env python3
"""Every function of tests/python/score_functions.py through weft.flex_attention, against FlexAttention's definition in float64: a table
of docs/flexattention.md. PYTHONPATH=python:tests/python:tests/operator benchmarks/flex_functions.py [--dtype bfloat16]"""

import argparse
import math
import warnings

import torch

import test_flex
from criterion import norms_over, rounded, squared_errors
from score_functions import FUNCTIONS, B, H, S, T
from weft.flex import create_block_mask, flex_attention


def errors_of(name, dtype):
    """Of o and of each gradient: the norm of Weft's error, of PyTorch's own math in `dtype`, and of the exact result."""
    maker, captured = FUNCTIONS[name]

    def own(x):
        score, mask = maker(x)
        mask = mask and create_block_mask(mask, B, H, T, S, device="cpu")
        return flex_attention(x["q"], x["k"], x["v"], score, mask, enable_gqa=True)

    def draw(seed):
        torch.manual_seed(seed)
        shapes = {"q": (B, H, T, 32), "k": (B, H // 2, S, 32), "v": (B, H // 2, S, 48)}
        x = {key: torch.randn(shape, dtype=torch.float64) for key, shape in shapes.items()} | {key: make() for key, make in captured.items()}
        return squared_errors(rounded(x, dtype), dtype, lambda x: test_flex.math(x["q"], x["k"], x["v"], *maker(x)), own, cancelling=True)

    return norms_over([draw(seed) for seed in range(3)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32")
    dtype = getattr(torch, parser.parse_args().dtype)
    warnings.simplefilter("ignore")
    print("| function | o | PyTorch | worst gradient | PyTorch | of |\n| --- | --- | --- | --- | --- | --- |")
    for name in FUNCTIONS:
        relative = {what: (own / scale if scale else 0, peer / scale if scale else 0) for what, (own, peer, scale) in errors_of(name, dtype).items()}
        o, worst = relative.pop("o"), max(relative, key=lambda what: relative[what][0] if math.isfinite(relative[what][0]) else math.inf)
        print(f"| {name} | {o[0]:.1e} | {o[1]:.1e} | {relative[worst][0]:.1e} | {relative[worst][1]:.1e} | {worst} |", flush=True)


if __name__ == "__main__":
    main()
