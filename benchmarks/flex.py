#!/usr/bin/env python3
"""weft.flex_attention beside torch's compiled flex_attention, from the same functions, in turns: medians of forward passes, and of both
directions where torch has them (not on a CPU). PYTHONPATH=python benchmarks/flex.py [--length 2048] [--dtype bfloat16]"""

import argparse
import statistics
import time

import torch
from torch.nn.attention import flex_attention as torch_flex

from weft import flex as weft_flex


def functions(heads: int, length: int):
    """(name, score_mod, mask_mod, captured tensors that get gradients)"""
    slope, bias = torch.rand(heads, requires_grad=True), torch.randn(heads, 2 * length, requires_grad=True)
    documents = torch.randint(0, 8, (length,)).sort().values
    causal = lambda b, h, q, k: q >= k
    yield "causal", None, causal, []
    yield "sliding window of 256", None, lambda b, h, q, k: (q >= k) & (q - k < 256), []
    yield "documents", None, lambda b, h, q, k: (q >= k) & (documents[q] == documents[k]), []
    yield "soft cap", lambda s, b, h, q, k: 20 * torch.tanh(s / 20), causal, []
    yield "alibi, learned", lambda s, b, h, q, k: s - slope[h] * (q - k), causal, [slope]
    yield "relative bias, learned", lambda s, b, h, q, k: s + bias[h, q - k + length], causal, [bias]


def median(call, seconds: float = 1.5) -> float:
    took, end = [], time.perf_counter() + seconds
    while len(took) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    torch.manual_seed(0)
    T, H = options.length, options.heads
    q, k, v = (torch.randn(1, H, T, 64, dtype=getattr(torch, options.dtype), requires_grad=True) for _ in range(3))
    compiled = torch.compile(torch_flex.flex_attention)
    print(f"1 x {H} x {T} x 64, {options.dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':24} {'weft':>9} {'torch':>9} {'ratio':>6}   {'mask':>9}  {'weft, with backward':>20}")
    for name, score, mask, captured in functions(H, T):
        start = time.perf_counter()
        theirs = torch_flex.create_block_mask(mask, None, None, T, T, device="cpu")
        making = time.perf_counter() - start
        own = weft_flex.create_block_mask(mask, None, None, T, T)
        with torch.no_grad():
            x = q.detach(), k.detach(), v.detach()  # torch refuses what could get gradients on a CPU
            pair = lambda: weft_flex.flex_attention(*x, score, own), lambda: compiled(*x, score, theirs)
            off = (pair[0]() - pair[1]()).abs().max().item()
            assert off < (1e-4 if q.dtype == torch.float32 else 5e-2), f"{name}: results differ by {off}"
            times = [median(call) for call in pair]
        both = median(lambda: torch.autograd.grad(weft_flex.flex_attention(q, k, v, score, own).sum(), [q, k, v, *captured]))
        print(f"{name:24} {1e3 * times[0]:6.1f} ms {1e3 * times[1]:6.1f} ms {times[1] / times[0]:5.2f}x   {1e3 * making:6.1f} ms  {1e3 * both:17.1f} ms")


if __name__ == "__main__":
    main()
