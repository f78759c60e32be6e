"""./dev bench context: attention over one sequence that two processes share, beside one process that has it alone.

context_parallel.py PROGRAM [--tokens 16384,65536] [--dtype f32] [--processes 2]

Each process has one thread, so that what two save is their own doing. Times are medians of the slowest process; bytes are those that
all send to one another. A Markdown table.
"""

import argparse
import json
import os
import subprocess
import sys


def run(program, processes, dtype, tokens):
    """By variant and number of tokens."""
    command = [program, dtype, *map(str, tokens)]
    if processes > 1:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node", str(processes), *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(row["tokens"], row["variant"]): row for row in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--tokens", default="16384,65536")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    tokens = [int(word) for word in options.tokens.split(",")]
    one, many = (run(options.program, count, options.dtype, tokens) for count in (1, options.processes))
    print(f"| T, 4 heads of 64, {options.dtype} | one process, forward | backward | {options.processes} processes, forward | backward | speed-up | MB sent, forward | backward |")
    print("| --- |" + " --- |" * 7)
    for key, row in one.items():
        other = many[key]
        both = [sum(own[f"{name}_ms"] for name in ("forward", "backward")) for own in (row, other)]
        print(f"| {key[0]:,} {key[1]} | {row['forward_ms']:,.0f} ms | {row['backward_ms']:,.0f} ms | {other['forward_ms']:,.0f} ms | {other['backward_ms']:,.0f} ms | "
              f"{both[0] / both[1]:.2f}x | {other['forward_bytes'] / 1e6:.2f} | {other['backward_bytes'] / 1e6:.2f} |")


if __name__ == "__main__":
    main()
