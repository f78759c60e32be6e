"""./dev bench cpu: generated kernels against PyTorch's, interleaved in one run, medians.

Every row first passes a numeric check against float64. Causal attention counts as half of dense.
Writes runs/bench_cpu.json and prints a table.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import torch

F = torch.nn.functional
QKV = ["q", "k", "v"]


def interleave(functions, rounds):
    """Median seconds of each function; one call of each in turn, so that a slow clock hits all."""
    for f in functions.values():
        f()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, f in functions.items():
            start = time.perf_counter()
            f()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def make(B, H, T, D, dtype):
    torch.manual_seed(0)
    return [torch.randn(B, H, T, D).to(dtype).requires_grad_() for _ in range(3)]


def check(out, q, k, v):
    """Rows of one head against float64."""
    rows = torch.tensor([0, q.shape[2] // 3, q.shape[2] - 1])
    s = q[0, 0, rows].double() @ k[0, 0].double().T / math.sqrt(q.shape[-1])
    s = s.masked_fill(torch.arange(k.shape[2]) > rows[:, None], -math.inf)
    want = s.softmax(-1) @ v[0, 0].double()
    error = (out[0, 0, rows].double() - want).abs().max().item()
    assert error < (1e-5 if q.dtype == torch.float32 else 0.05), error


def dense(dtype, rounds, D=64, T=2048, H=8):
    q, k, v = make(1, H, T, D, dtype)
    grad = torch.randn(1, H, T, D).to(dtype)
    weft = lambda: torch.ops.weft.attention("causal", QKV, [q, k, v])
    sdpa = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    check(weft(), q, k, v)
    flops = 4 * H * T * T * D / 2
    with torch.no_grad():
        forward = interleave({"weft": weft, "sdpa": sdpa}, rounds)
    outs = {"weft": weft(), "sdpa": sdpa()}
    backward = interleave({n: lambda o=o: torch.autograd.grad(o, [q, k, v], grad, retain_graph=True) for n, o in outs.items()}, rounds)
    name = str(dtype)[6:]
    return [dict(row=f"dense causal {name} T {T} D {D} {way}", type=name, weft_ms=1e3 * t["weft"], peer="SDPA", peer_ms=1e3 * t["sdpa"],
                 ratio=t["sdpa"] / t["weft"], gflops=scale * flops / t["weft"] / 1e9)
            for way, t, scale in (("forward", forward, 1), ("backward", backward, 2.5))]


def sparse(rounds, D=64, T=2048, H=8):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    torch.set_grad_enabled(False)
    q, k, v = [x.detach() for x in make(1, H, T, D, torch.float32)]
    window, span = torch.tensor(256, dtype=torch.int32), torch.full((H,), 256.0)
    rows = []
    flex = torch.compile(flex_attention)
    start = time.perf_counter()
    mask = create_block_mask(lambda b, h, i, j: (i >= j) & (i - j < 256), None, None, T, T, device="cpu")
    wide = create_block_mask(lambda b, h, i, j: (i >= j) & (i - j < 288), None, None, T, T, device="cpu")

    def span_mod(score, b, h, i, j):
        return score + torch.log(torch.clamp((32 + 256.0 - (i - j)) / 32, 0, 1))

    peers = {
        "window 256 forward": (lambda: torch.ops.weft.attention("sliding_window", QKV + ["window"], [q, k, v, window]),
                               lambda: flex(q, k, v, block_mask=mask)),
        "adaptive span 256 forward": (lambda: torch.ops.weft.attention("adaptive_span", QKV + ["span"], [q, k, v, span]),
                                      lambda: flex(q, k, v, score_mod=span_mod, block_mask=wide)),
    }
    for name, (weft, peer) in peers.items():
        try:
            difference = (weft() - peer()).abs().max().item()
            assert difference < 1e-4, difference
            t = interleave({"weft": weft, "flex": peer}, rounds)
            rows.append(dict(row=name, weft_ms=1e3 * t["weft"], peer="FlexAttention", peer_ms=1e3 * t["flex"], ratio=t["flex"] / t["weft"]))
        except Exception as error:  # the peer failed: a row that says so
            t = interleave({"weft": weft}, rounds)
            rows.append(dict(row=name, weft_ms=1e3 * t["weft"], peer=f"FlexAttention failed: {str(error)[:60]}"))
    torch.set_grad_enabled(True)
    return rows


def proportional(rounds, H=8, D=64):
    rows = []
    for T in (1024, 4096, 16384):
        q, k, v = [x.detach() for x in make(1, H, T, D, torch.float32)]
        full = None
        for window in (T, T // 2, T // 4, 256):
            w = torch.tensor(window, dtype=torch.int32)
            with torch.no_grad():
                t = interleave({"weft": lambda: torch.ops.weft.attention("sliding_window", QKV + ["window"], [q, k, v, w])},
                               max(3, rounds // 3))["weft"]
            tiles = sum(1 for qt in range(T // 64) for kt in range(qt + 1) if qt * 64 - kt * 64 - 63 < window)
            full = full or (t, tiles)
            rows.append(dict(row=f"window {window} of T {T}", weft_ms=1e3 * t, kept=tiles / full[1], time_share=t / full[0]))
    return rows


def periodic(rounds, H=8, T=2048, D=64):
    q, k, v = make(1, H, T, D, torch.float32)
    span, period, ratio = torch.full((H,), 256.0), torch.linspace(2, 8, H), torch.zeros(H)
    for x in (span, period, ratio):
        x.requires_grad_()

    def both(variant, names, extra):
        torch.ops.weft.attention(variant, QKV + names, [q, k, v] + extra).sum().backward()

    t = interleave({"periodic": lambda: both("span_periodic", ["span", "period", "ratio"], [span, period, ratio]),
                    "span": lambda: both("adaptive_span", ["span"], [span])}, rounds)
    return [dict(row="span_periodic forward + backward", weft_ms=1e3 * t["periodic"], peer="adaptive_span", peer_ms=1e3 * t["span"],
                 ratio=t["span"] / t["periodic"])]


def lists(rounds, T=1024, S=4096, D=64):
    """A list of keys for each query, beside gathering them and a dense product of each query."""
    text = """attention listed(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], list: int [B, G, T, N]) {
      keys = list[i] score dot(q[i], k[j]) / sqrt(D) }"""
    rows = []
    for H, G, N in ((16, 1, 256), (16, 4, 256), (8, 8, 64)):
        for dtype in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            q, k, v = (torch.randn(1, *size, D).to(dtype).requires_grad_() for size in ((H, T), (G, S), (G, S)))
            keys = torch.rand(1, G, T, S).argsort(-1)[..., :N].int()
            weft = lambda: torch.ops.weft.attention(text, QKV + ["list"], [q, k, v, keys])

            def gathered():
                at = keys.long()[..., None].expand(-1, -1, -1, -1, D)
                own = [torch.gather(x[:, :, None].expand(-1, -1, T, -1, -1), 3, at).transpose(1, 2).flatten(0, 1) for x in (k, v)]
                queries = q.view(1, G, H // G, T, D).permute(0, 3, 1, 2, 4).flatten(0, 1)
                return F.scaled_dot_product_attention(queries, *own).view(1, T, H, D).transpose(1, 2)

            error = (weft() - gathered()).abs().max().item()
            assert error < (1e-5 if dtype == torch.float32 else 0.05), error
            grad = torch.randn(1, H, T, D).to(dtype)
            name = f"{N} of {S} keys of each query, {H} heads, {G} of keys, {str(dtype)[6:]}"
            for way, run, count in (("forward", lambda f: f().detach(), rounds),
                                    ("both", lambda f: torch.autograd.grad(f(), [q, k, v], grad), 3)):
                t = interleave({"weft": lambda: run(weft), "gather": lambda: run(gathered)}, count)
                rows.append(dict(row=f"{name} {way}", weft_ms=1e3 * t["weft"], peer="gather, SDPA", peer_ms=1e3 * t["gather"],
                                 ratio=t["gather"] / t["weft"]))
            with torch.no_grad():
                wide = [x.repeat_interleave(H // G, 1) for x in (k, v)]
                t = interleave({"weft": weft, "dense": lambda: F.scaled_dot_product_attention(q, *wide)}, rounds)
            rows.append(dict(row=f"{name} forward, all keys", weft_ms=1e3 * t["weft"], peer="SDPA", peer_ms=1e3 * t["dense"],
                             ratio=t["dense"] / t["weft"]))
    return rows


def decoding(rounds, H=8, D=64):
    """The newest token of B sequences of S tokens, beside SDPA and beside torch's sum over as many bytes; and of sequences whose lengths
    differ, beside SDPA with a mask of the longest."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for B, G, S in ((1, 8, 16384), (16, 8, 1024), (16, 8, 128), (4, 2, 4096), (1, 1, 32768)):
            torch.manual_seed(0)
            q = torch.randn(B, H, 1, D).to(dtype)
            k, v = (torch.randn(B, G, S, D).to(dtype) for _ in "kv")
            bytes = 2 * k.numel() * k.element_size()
            as_many = torch.randn(bytes // 4)
            lengths = torch.randint(1, S + 1, (B,))
            seen = (torch.arange(S) < lengths[:, None])[:, None, None]
            peer = lambda mask=None: F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=G < H)
            weft = lambda: torch.ops.weft.decode("causal", QKV, [q, k, v])
            varied = lambda: torch.ops.weft.decode("causal", [*QKV, "lengths"], [q, k, v, lengths])
            for got, mask in ((weft(), None), (varied(), seen)):
                assert (got.double() - peer(mask).double()).abs().max().item() < (1e-5 if dtype == torch.float32 else 0.05)
            with torch.no_grad():
                t = interleave({"weft": weft, "sdpa": peer, "read": lambda: as_many.sum()}, 5 * rounds)
                u = interleave({"weft": varied, "sdpa": lambda: peer(seen)}, 5 * rounds)
            name = f"decode {str(dtype)[6:]} {B} x {S}, {G} heads of keys"
            rows.append(dict(row=name, weft_ms=1e3 * t["weft"], peer="SDPA", peer_ms=1e3 * t["sdpa"], ratio=t["sdpa"] / t["weft"], gbs=bytes / t["weft"] / 1e9,
                             memory_share=t["read"] / t["weft"]))
            if B > 1:
                rows.append(dict(row=f"{name}, lengths up to that", weft_ms=1e3 * u["weft"], peer="SDPA with a mask", peer_ms=1e3 * u["sdpa"], ratio=u["sdpa"] / u["weft"]))
    return rows


def single(rounds=3000, H=8, D=64):
    """What a call costs that computes nearly nothing."""
    q, k, v = make(1, H, 1, D, torch.float32)
    methods = {"weft": lambda: torch.ops.weft.attention("causal", QKV, [q, k, v]), "sdpa": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)}
    with torch.no_grad():
        forward = interleave(methods, rounds)
    both = interleave({n: lambda f=f: torch.autograd.grad(f(), [q, k, v], torch.ones_like(q)) for n, f in methods.items()}, rounds)
    return [dict(row=f"T 1 {way}", weft_ms=1e3 * t["weft"], peer="SDPA", peer_ms=1e3 * t["sdpa"], ratio=t["sdpa"] / t["weft"])
            for way, t in (("forward", forward), ("forward + backward", both))]


START = """
import sys, time, torch
torch.ops.load_library(sys.argv[1])
q, k, v = [torch.randn(1, 1, 64, 64, requires_grad=True) for _ in range(3)]
span = torch.tensor([20.0], requires_grad=True)
torch.randn(8, 8) @ torch.randn(8, 8)
start = time.perf_counter()
torch.ops.weft.attention("adaptive_span", ["q", "k", "v", "span"], [q, k, v, span]).sum().backward()
print(time.perf_counter() - start)
"""


def starts(library):
    with tempfile.TemporaryDirectory() as cache:
        run = lambda: float(subprocess.run([sys.executable, "-c", START, library], env={**os.environ, "WEFT_CACHE_DIR": cache},
                                           capture_output=True, text=True, check=True).stdout)
        cold = run()
        warm = statistics.median(run() for _ in range(5))
    return [dict(row="cold start of a forward and backward pair", weft_ms=1e3 * cold), dict(row="warm start from the disk cache", weft_ms=1e3 * warm)]


def memory(library):
    code = """
import sys, torch
torch.ops.load_library(sys.argv[1])
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
T = int(sys.argv[2])
q, k, v = [torch.randn(1, 1, T, 64, requires_grad=True) for _ in range(3)]
w = torch.tensor(256, dtype=torch.int32)
open("/proc/self/clear_refs", "w").write("5")  # the peak starts from here
before = peak()
torch.ops.weft.attention("sliding_window", ["q", "k", "v", "window"], [q, k, v, w]).sum().backward()
print((peak() - before) / 1024)
"""
    rows = []
    for T in (16384, 32768, 65536):
        out = subprocess.run([sys.executable, "-c", code, library, str(T)], capture_output=True, text=True, check=True).stdout
        rows.append(dict(row=f"peak memory of forward + backward, one head, T {T}", mib=float(out)))
    return rows


def peaks(library):
    """GFLOP/s of dependent-free chains of multiplications, by type, as `weft bench` measures them."""
    program = os.path.join(os.path.dirname(os.path.abspath(library)), "..", "bin", "weft")
    with tempfile.TemporaryDirectory() as folder:
        words = ["bench", "--variants", "causal", "--shapes", "1,1,64,64", "--peers", "", "--dtype", "f32,bf16", "--direction", "forward", "--samples", "3", "--row-seconds", "0.05"]
        subprocess.run([program, *words, "--out", folder], capture_output=True, check=True)
        with open(os.path.join(folder, "results.json")) as file:
            found = json.load(file)["peak_gflops"]
    return {"float32": found["f32"], "bfloat16": found["bf16"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", default="runs/bench_cpu.json")
    args = parser.parse_args()
    torch.ops.load_library(args.library)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {platform.processor() or platform.machine()}", flush=True)
    rows, peak = [], peaks(args.library)
    print(", ".join(f"peak of {name} {rate:.0f} GFLOP/s" for name, rate in peak.items()), flush=True)

    def show(new):
        for row in new:
            rows.append(row)
            text = f"{row['row']:<58}"
            if "weft_ms" in row:
                text += f"{row['weft_ms']:10.3f} ms"
            if "peer_ms" in row:
                text += f"   {row['peer']} {row['peer_ms']:10.3f} ms   {row['ratio']:5.2f}x"
            elif "peer" in row:
                text += "   " + row["peer"]
            if "gflops" in row:
                row["peak_share"] = row["gflops"] / peak[row["type"]]
                text += f"   {row['gflops']:5.0f} GFLOP/s   {row['peak_share']:4.0%} of peak"
            if "gbs" in row:
                text += f"   {row['gbs']:5.1f} GB/s   {row['memory_share']:5.0%} of reading"
            if "kept" in row:
                text += f"   kept {row['kept']:5.1%}   time {row['time_share']:5.1%}"
            if "mib" in row:
                text += f"{row['mib']:9.1f} MiB"
            print(text, flush=True)

    for dtype in (torch.float32, torch.bfloat16):
        for T, D in ((512, 64), (2048, 64), (2048, 128), (8192, 64)):
            show(dense(dtype, args.rounds if T < 8192 else max(3, args.rounds // 3), D, T))
    show(sparse(args.rounds))
    show(proportional(args.rounds))
    show(periodic(args.rounds))
    show(lists(args.rounds))
    show(decoding(args.rounds))
    show(single())
    show(starts(args.library))
    show(memory(args.library))
    os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
    with open(args.out, "w") as file:
        json.dump({"torch": torch.__version__, "threads": torch.get_num_threads(), "peak_gflops": peak, "rows": rows}, file, indent=1)
    print("written to", args.out)


if __name__ == "__main__":
    main()
