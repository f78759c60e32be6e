"""Forward and backward on a GPU, Weft beside SDPA's kernels and FlexAttention, medians: gpu.py LIBRARY [B,H,T,D ...]"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import peers

BACKENDS = {"FlashAttention": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION, "memory-efficient": SDPBackend.EFFICIENT_ATTENTION}
VARIANTS = ("causal", "sliding_window", "adaptive_span", "span_periodic", "soft_cap")


def milliseconds(call, budget=0.3):
    """By CUDA events; by the clock where there is no GPU."""
    if not torch.cuda.is_available():
        call()
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    rounds = max(5, min(100, int(budget / max(time.perf_counter() - start, 1e-5))))
    events = [(torch.cuda.Event(True), torch.cuda.Event(True)) for _ in range(rounds)]
    for begin, end in events:
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


def methods(variant, x, span):
    q, k, v = x["q"], x["k"], x["v"]
    yield "Weft", lambda: torch.ops.weft.attention(variant, list(x), list(x.values()))
    if not q.is_cuda:
        return
    if variant == "causal":
        for name, backend in BACKENDS.items():
            def call(backend=backend):
                with sdpa_kernel(backend):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=True)
            yield name, call
    # Spans, periods and ratios are constants there, without gradients.
    yield "FlexAttention", peers.flex({"variant": variant, "span": span, "T": q.shape[2]}, q, k, v)


def measure(variant, shape, dtype, device="cuda", span=None):
    """Rows: method, forward_ms and backward_ms, or why there is none. Spans and windows: an eighth of T."""
    B, H, T, D = shape
    span = span or max(T // 8, 1)
    torch._dynamo.reset()
    x = {n: torch.randn(B, H, T, D, device=device, dtype=dtype, requires_grad=True) for n in "qkv"}
    constant = lambda value: torch.full((H,), float(value), device=device, requires_grad=True)
    if variant in ("adaptive_span", "span_periodic"):
        x["span"] = constant(span)
    if variant == "span_periodic":
        x |= {"period": constant(4), "ratio": constant(0)}
    if variant == "sliding_window":
        x["window"] = torch.tensor(span, device=device)
    cotangent = torch.randn_like(x["q"])
    for name, call in methods(variant, x, span):
        try:
            with torch.no_grad():
                forward = milliseconds(call)
            out = call()
            wanted = [t for n, t in x.items() if t.requires_grad and (name == "Weft" or n in "qkv")]
            backward = milliseconds(lambda: torch.autograd.grad(out, wanted, cotangent, retain_graph=True))
            yield dict(method=name, forward_ms=forward, backward_ms=backward)
        except Exception as error:  # a method that lacks the type or the shape
            yield dict(method=name, reason=str(error).splitlines()[0][:200])


def matrix_product():
    """TFLOP/s of a bf16 product of 8192 x 8192."""
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    return 2e-9 * 8192**3 / milliseconds(lambda: square @ square)


def words(variant, dtype, shape, row):
    times = f"forward {row['forward_ms']:8.3f} ms   backward {row['backward_ms']:8.3f} ms" if "forward_ms" in row else row["reason"][:90]
    return f"{variant:15} {dtype:9} {str(list(shape)):18} {row['method']:17} {times}"


def main():
    torch.ops.load_library(sys.argv[1])
    if not torch.cuda.is_available():
        sys.exit("no NVIDIA GPU, or a torch without CUDA: ./dev bench cpu measures this machine")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: bf16 matrix product {matrix_product():.0f} TFLOP/s")
    shapes = [tuple(int(n) for n in shape.split(",")) for shape in sys.argv[2:]] or [(2, 16, 4096, 64), (2, 16, 4096, 128)]
    for shape in shapes:
        for variant, dtype in [(name, torch.bfloat16) for name in VARIANTS] + [("causal", torch.float32)]:
            for row in measure(variant, shape, dtype):
                print(words(variant, str(dtype)[6:], shape, row), flush=True)


if __name__ == "__main__":
    main()
