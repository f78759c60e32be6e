"""Each block of queries looks at the few blocks of keys that fit it best: time follows what is kept, not the length."""

import time

import torch
import weft


def seconds(call, times: int = 5) -> float:
    call()
    took = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return sorted(took)[times // 2]


def main():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 8, 4096, 64) for _ in range(3))
    dense = seconds(lambda: weft.attention("causal", q, k, v))
    print(f"dense, causal: {1e3 * dense:.1f} ms")
    shares = []
    for tiles in (16, 8, 2):
        given = {"tiles": torch.full((8,), tiles)}
        share = weft.variant("block_sparse").explain(q, k, v, **given).kept_share
        took = seconds(lambda: weft.attention("block_sparse", q, k, v, **given))
        shares.append(share)
        print(f"best {tiles:2} blocks: {share:.1%} of the tiles, {1e3 * took:.1f} ms, {dense / took:.1f} times as fast")
    return shares


if __name__ == "__main__":
    shares = main()
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.1
