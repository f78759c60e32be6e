"""./dev bench library: every library variant against dense causal attention and against its ideal time.

The ideal is the time of `causal` times the share of its tiles that the variant keeps. Content-based variants are measured
with their selection. Prints a Markdown table, then what sorting by phase saves for periodic masks; writes runs/library.json and
runs/library.html.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import torch


def variants(weft, folder):
    """Name, and how it says what is kept."""
    listed = subprocess.run([weft, "variants"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name = line.split()[0]
        text = "\n".join(l.split("//")[0] for l in open(os.path.join(folder, name + ".weft")))
        tiles = re.findall(r"select tiles\((\d+), (\d+)\)", text)
        keys = re.findall(r"select keys\((\d+)\)", text)
        plan = subprocess.run([weft, "compile", name, "--kernel", "plan_band"], capture_output=True, text=True)
        how = f"content, single keys by {keys[0]} queries" if keys else "content, tiles " + " then ".join("x".join(t) for t in tiles) if tiles else "listed keys" if "keys = " in text else "band of i - j" if plan.returncode == 0 else "mask, tiles"
        if " also " in text:
            how += ", and summaries"
        yield name, how


def groups(names, size=5):
    """Each with causal: the clock of a machine drifts from minute to minute, so a row is compared with a dense one near it."""
    others = [name for name in names if name != "causal"]
    return [["causal"] + others[at:at + size] for at in range(0, len(others), size)]


def measure(weft, names, T, heads, seconds):
    """Rows of one group, each with the time and the kept tiles of its causal."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([weft, "bench", "--variants", ",".join(names), "--shapes", f"1,{heads},{T},64", "--peers", "", "--direction", "both", "--samples", "5",
                        "--row-seconds", str(seconds), "--out", folder], check=True, stdout=subprocess.DEVNULL)
        results = json.load(open(os.path.join(folder, "results.json")))
    rows = results["rows"]
    dense = {r["direction"]: {"ms": r["results"]["weft"]["ms"], "known": r["results"]["weft"]["known"], "kept_tiles": r["kept_tiles"]} for r in rows if r["variant"] == "causal"}
    return {**results, "rows": [{**row, "dense": dense[row["direction"]]} for row in rows]}


def table(rows, info, lengths):
    cells = {(r["variant"], r["T"], r["direction"]): r for r in rows}
    print("| variant | what is kept | backward | " + " | ".join(f"kept, {T // 1024}k | forward: of dense, of ideal | backward: of dense, of ideal" for T in lengths) + " |")
    print("| --- " * (3 + 3 * len(lengths)) + "|")
    short = []
    for name, how in info:
        line = [name, how, "yes"]
        for T in lengths:
            for direction in ("forward", "backward"):
                row = cells[name, T, direction]
                dense = row["dense"]
                if "ms" not in row["results"]["weft"]:
                    line[2] = row["results"]["weft"]["error"]
                    continue
                kept = row["kept_tiles"] / dense["kept_tiles"]
                share = row["results"]["weft"]["ms"] / dense["ms"]
                if direction == "forward":
                    line.append(f"{kept:.1%}")
                sure = "" if row["results"]["weft"]["known"] and dense["known"] else "?"
                line.append(f"{share:.2f}, {share / kept:.2f}{sure}")
                if share / kept > 1.5:
                    short.append(f"{name} {direction} T = {T}: {share / kept:.2f}{sure} of ideal")
        print("| " + " | ".join(line) + " |")
    print("\n? marks medians that are not known to 3 % (more --seconds may help)")
    print("\nabove 1.5 times the ideal:", *(short or ["none"]), sep="\n  ")


def interleave(functions, rounds):
    times = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, f in functions.items():
            start = time.perf_counter()
            f()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(t) for name, t in times.items()}


def phases(T, rounds, H=2, D=64):
    print(f"\nPeriodic masks at T = {T}: span_periodic, and sorted by phase (attention_by_phase)\n")
    print("| period | ratio | pairs kept | tiles kept | tiles kept, sorted | chunk | forward ms | sorted ms | gain | forward + backward gain |")
    print("| --- " * 10 + "|")
    torch.manual_seed(0)
    q, k, v = [torch.randn(1, H, T, D, requires_grad=True) for _ in range(3)]
    span = torch.full((H,), float(T), requires_grad=True)
    out = []
    for period in (4.0, 8.0, 5.3):
        for ratio in (-0.25, -0.2, -0.1, 0.0):
            p, r = torch.full((H,), period, requires_grad=True), torch.full((H,), ratio, requires_grad=True)
            x = [q, k, v, span, p, r]
            chunk = torch.ops.weft.phase_chunk(*x)
            plain = lambda: torch.ops.weft.attention("span_periodic", ["q", "k", "v", "span", "period", "ratio"], x)
            ordered = lambda: torch.ops.weft.attention_by_phase(*x, chunk)
            assert (plain() - ordered()).abs().max().item() < 1e-5
            with torch.no_grad():
                forward = interleave({"plain": plain, "sorted": ordered}, rounds)
            both = interleave({"plain": lambda: plain().sum().backward(), "sorted": lambda: ordered().sum().backward()}, rounds)
            d = torch.arange(T).double()
            wave = (4 * (d / period - torch.floor(d / period) - 0.5).abs() - 1) * period / 4 + 0.5 + period * ratio
            pairs = (((wave > 0) * (T - d)).sum() / (T * (T + 1) / 2)).item()
            # Of the dense causal kernel's tiles; sorted tiles that hold a pair the wave keeps, counted pair by pair.
            share = 1.0
            if chunk:
                order = torch.ops.weft.phase_order(p, T, chunk)[0][0]
                kept = 0
                for rows in order.split(64):
                    apart = rows[:, None] - order[None]
                    live = (apart >= 0) & (wave[apart.clamp_min(0)] > 0)
                    kept += torch.nn.functional.max_pool1d(live.any(0).float()[None], 64).sum().item()
                share = kept / (T // 64 * (T // 64 + 1) / 2)
            out.append(dict(period=period, ratio=ratio, pairs=pairs, tiles=share, chunk=chunk, **forward))
            print(f"| {period} | {ratio} | {pairs:.0%} | 100% | {share:.0%} | {chunk or 'unsorted'} | {forward['plain']:.1f} | {forward['sorted']:.1f} | "
                  f"{forward['plain'] / forward['sorted']:.2f}x | {both['plain'] / both['sorted']:.2f}x |", flush=True)
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weft")
    parser.add_argument("library")
    parser.add_argument("folder", help="of the variants' files")
    parser.add_argument("--variants", nargs="+", help="only these, and causal")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3, help="a row")
    parser.add_argument("--out", default="runs/library.json")
    args = parser.parse_args()
    torch.ops.load_library(args.library)
    info = [own for own in variants(args.weft, args.folder) if not args.variants or own[0] in args.variants or own[0] == "causal"]
    parts = [measure(args.weft, names, T, args.heads, args.seconds) for T in args.lengths for names in groups([name for name, _ in info])]
    rows = [row for at, part in enumerate(parts) for row in part["rows"] if at == 0 or row["variant"] != "causal" or row["T"] != parts[at - 1]["rows"][0]["T"]]
    table(rows, info, args.lengths)
    waves = [] if args.variants else phases(8192, 3)
    os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
    masks = {name: mask for part in parts for name, mask in part["masks"].items()}
    with open(args.out, "w") as file:
        json.dump({**parts[0], "complete": all(part["complete"] for part in parts), "rows": rows, "masks": masks, "phases": waves}, file, indent=1)
    page = os.path.splitext(args.out)[0] + ".html"
    # As weft bench does: its page is made by these two.
    script = "".join(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), part + ".py")).read() for part in ("page", "report"))
    subprocess.run([sys.executable, "-c", script, args.out, page], check=True)
    print("written to", args.out, "and", page)


if __name__ == "__main__":
    sys.exit(main())
