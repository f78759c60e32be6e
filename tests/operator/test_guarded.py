"""The operator over memory that ends at an unreadable page (guarded_memory.cpp): any variant, sizes, type and layout, forward, backward and
decoding. WEFT_GUARDED_COUNT configurations (a few by default) from WEFT_GUARDED_SEED on; each is named before it runs."""

import os
import random
import subprocess
import sys
import time
import unittest

SHIM = os.environ.get("WEFT_GUARDED")
COUNT = int(os.environ.get("WEFT_GUARDED_COUNT", 0))
SECONDS = 15   # of the default slice


def layout(t, kind):
    """The same values elsewhere: heads inside rows, a slice of something wider, rows from an odd place on, columns apart."""
    import torch
    if kind == "plain" or t.dim() < 3:
        return t.clone()
    if kind == "transposed":
        return t.transpose(1, 2).contiguous().transpose(1, 2)
    if kind == "sliced":
        return torch.cat([t, t[..., :1]], -1)[..., :-1]
    if kind == "shifted":
        return torch.cat([t[..., :1], t], -1)[..., 1:]
    if kind == "expanded":
        return t[:1].clone().expand(t.shape)
    return t.transpose(-1, -2).contiguous().transpose(-1, -2)   # apart


def run(seed, count, seconds):
    import ctypes

    import torch
    from criterion import ROWS, rounded
    from test_decode import newest
    from test_variants import DECODED, REFERENCE, make
    guarded = ctypes.CDLL(SHIM).weftGuarded
    guarded.restype = ctypes.c_size_t
    names, done, start = sorted(REFERENCE), 0, time.monotonic()
    for number in range(seed, seed + count):
        if time.monotonic() - start > seconds:
            break
        choose = random.Random(number)
        name, dtype = names[number % len(names)], choose.choice((torch.float32, torch.bfloat16, torch.float16) if seconds == float("inf") else (torch.float32, torch.bfloat16))
        width = choose.choice((32, 32, 32, 17, 5, 72)) if seconds == float("inf") else 32
        T = choose.choice((1, 2, choose.randint(3, 40), 63, 64, 65, choose.randint(60, 200)))
        S = T if choose.random() < 0.7 else choose.randint(max(1, T - 30), T + 30)
        B, G, repeat = choose.randint(1, 2), choose.randint(1, 2), choose.choice((1, 2, 3))
        kinds = [choose.choice(("plain", "transposed", "sliced", "shifted", "expanded", "apart")) for _ in range(10)]
        print(f"{number}: {name} {dtype} B={B} H={G * repeat} G={G} T={T} S={S} D={width} {kinds}", flush=True)
        x = rounded(make(name, B, G * repeat, G, T, S, width, number), dtype)
        x = {n: layout(t, kind) if n in ROWS else t.clone() for (n, t), kind in zip(x.items(), kinds)}
        leaves = {n: t.requires_grad_() if t.is_floating_point() else t for n, t in x.items()}
        try:
            out = torch.ops.weft.attention(name, list(leaves), list(leaves.values()))
        except RuntimeError as error:
            if "left its dim" in str(error):   # tables of T entries, T below S
                continue
            raise
        gradient = layout(torch.randn_like(out), kinds[-1])
        gradients = torch.autograd.grad(out, [t for t in leaves.values() if t.requires_grad], gradient)
        for result in (out, *gradients):
            assert result.isfinite().all(), "something was never written"
        if S == T and name in DECODED:
            last = {n: t.detach() for n, t in newest(name, x).items()}
            assert torch.ops.weft.decode(name, list(last), list(last.values())).isfinite().all()
        done += 1
    print(f"done {done}, guarded pages {guarded()}")
    assert guarded() > 100, "the shim was not loaded"


@unittest.skipUnless(SHIM, "no guarded memory: ctest brings it")
class Guarded(unittest.TestCase):
    def test_nothing_past_the_end(self):
        seed = int(os.environ.get("WEFT_GUARDED_SEED", 0))
        arguments = [str(seed), str(COUNT or 10**6), "inf" if COUNT else str(SECONDS)]
        child = subprocess.run([sys.executable, __file__, *arguments], env=os.environ | {"LD_PRELOAD": SHIM}, capture_output=True, text=True)
        self.assertEqual(child.returncode, 0, child.stdout[-600:] + child.stderr[-2000:])
        done = int(child.stdout.rsplit("done ", 1)[1].split(",")[0])
        print(child.stdout.splitlines()[-1], file=sys.stderr)
        self.assertGreater(done, 0)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1].isdigit():
        run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    else:
        unittest.main()
