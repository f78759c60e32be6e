"""The emulator on code that Weft did not write: Triton's, compiled here for GPUs that need not be there. It computes what it should, and
mistakes planted in it are found."""

import collections
import concurrent.futures
import os
import sys
import tempfile
import unittest

import numpy

CACHE = tempfile.TemporaryDirectory()
os.environ["TRITON_CACHE_DIR"] = os.environ["TRITON_HOME"] = CACHE.name
try:
    from kernels import attention, attention_boxes, matmul, matmul_boxes
except ImportError as error:
    sys.exit(f"{error}: this test needs Triton in the folder WEFT_TRITON names to CMake; ./dev setup puts it there, where there is a wheel for this Python "
             f"({sys.version.split()[0]})")
from launch import Launch
from mutations import SOMETIMES, mutations

SEEDS = [1, 2, 0]


def values(shape, dtype, seed):
    """As the kernel is given them, and in f64."""
    exact = numpy.random.default_rng(seed).standard_normal(shape).astype("f4")
    if dtype == "bf16":
        own = (exact.view("u4") + 0x8000 >> 16).astype("u2")
        return own, widened(own)
    own = exact.astype({"f16": "f2", "f32": "f4"}[dtype])
    return own, own.astype("f8")


def widened(array):
    return ((array.astype("u4") << 16).view("f4") if array.dtype == numpy.uint16 else array).astype("f8")


class Case:
    """A launch, which of its arrays it fills, what should be there, and how far off it may be."""

    def __init__(self, launch, expected, tolerance):
        self.launch, self.expected, self.tolerance = launch, expected, tolerance

    def verdict(self, seeds, text=None):
        """What is wrong; empty if nothing."""
        runs, error = self.launch.run(seeds, text)
        if error:
            return error
        for seed, arrays in zip(seeds, runs):
            off = numpy.abs(widened(arrays[-1]) - self.expected).max()
            if not off <= self.tolerance:
                return f"wrong numbers: off by {off:.3g} with seed {seed}, expected at most {self.tolerance:.3g}"
        return ""


def products(dtype, capability, K=128, M=128, N=64):
    (a, left), (b, right) = values((M, K), dtype, 1), values((K, N), dtype, 2)
    launch = Launch(matmul, {"a": a, "b": b, "c": numpy.zeros((M, N), "f4"), "K": K, "lda": K, "ldb": N, "ldc": N},
                    {"BM": 64, "BN": 64, "BK": 32}, capability, [M // 64, N // 64], num_warps=4, num_stages=3)
    # tf32 keeps 10 bits of each factor; sums are f32.
    return Case(launch, left @ right, (8e-3 if dtype == "f32" else 8e-5) * numpy.sqrt(K))


def products_of_boxes(dtype, specialised, K=256, M=128, N=64, tile=64):
    (a, left), (b, right) = values((M, K), dtype, 1), values((N, K), dtype, 2)
    launch = Launch(matmul_boxes, {"a": a, "b": b, "c": numpy.zeros((M, N), "f4"), "K": K, "ldc": N},
                    {"BM": tile, "BN": tile, "BK": 64, "SPECIALISED": specialised}, 90, [M // tile, N // tile], {"a": (tile, 64), "b": (tile, 64)}, num_warps=4, num_stages=3)
    return Case(launch, left @ right.T, 8e-5 * numpy.sqrt(K))


def heads(kernel, dtype, capability, causal, T=128, D=64, BM=64):
    H = 2
    (q, left), (k, right), (v, weighed) = (values((H, T, D), dtype, seed) for seed in (3, 4, 5))
    scores = left @ right.transpose(0, 2, 1) / numpy.sqrt(D)
    if causal:
        scores = numpy.where(numpy.tri(T, dtype=bool), scores, -numpy.inf)
    p = numpy.exp(scores - scores.max(-1, keepdims=True))
    exact = p @ weighed / p.sum(-1, keepdims=True)
    flat = [array.reshape(H * T, D) for array in (q, k, v, numpy.zeros_like(q))]
    boxes = {"q": (BM, D), "k": (64, D), "v": (64, D), "o": (BM, D)} if kernel is attention_boxes else None
    launch = Launch(kernel, {**dict(zip("qkvo", flat)), "scale": float(numpy.log2(numpy.e) / numpy.sqrt(D)), "T": T},
                    {"BM": BM, "BN": 64, "D": D, "CAUSAL": causal}, capability, [T // BM, H], boxes, num_warps=BM // 16, num_stages=2)
    # p and o are rounded to the type, whose bits are 8 or 11.
    return Case(launch, exact.reshape(H * T, D), 4 * (2.0**-8 if dtype == "bf16" else 2.0**-11))


class Foreign(unittest.TestCase):
    def right(self, case):
        self.assertEqual(case.verdict(SEEDS), "")

    def test_products(self):
        for capability in (80, 90):
            for dtype in ("f16", "bf16", "f32"):
                with self.subTest(capability=capability, dtype=dtype):
                    self.right(products(dtype, capability))

    def test_products_of_boxes(self):
        for dtype in ("f16", "bf16"):
            for specialised in (False, True):
                with self.subTest(dtype=dtype, specialised=specialised):
                    self.right(products_of_boxes(dtype, specialised))

    def test_attention(self):
        for capability in (80, 90):
            for causal in (False, True):
                with self.subTest(capability=capability, causal=causal):
                    self.right(heads(attention, "bf16", capability, causal))

    def test_attention_of_boxes(self):
        for causal in (False, True):
            for D, BM in ((64, 64), (128, 128)):
                with self.subTest(causal=causal, D=D):
                    self.right(heads(attention_boxes, "f16" if causal else "bf16", 90, causal, T=256, D=D, BM=BM))

    def planted(self, case, sometimes=(), kinds=8):
        """Every mistake is found, but for some of those that need not matter and of the kinds `sometimes`."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = collections.defaultdict(list)
            for name, line, verdict in pool.map(lambda one: (*one[:2], case.verdict(SEEDS, one[2])), mutations(case.launch.text)):
                found[name].append((line, verdict))
        for name, places in found.items():
            unnoticed = [line for line, verdict in places if not verdict]
            print(f"{name}: {len(places) - len(unnoticed)} of {len(places)}" + (f", not in lines {unnoticed}" if unnoticed else ""))
            with self.subTest(mistake=name):
                if name in sometimes or name in SOMETIMES:
                    self.assertLess(len(unnoticed), len(places) + (name in sometimes))
                else:
                    self.assertEqual(unnoticed, [])
                for line, verdict in places:
                    if verdict and not verdict.startswith("wrong numbers"):
                        self.assertRegex(verdict, r"(?s)ptx emulator: .*: line \d+:", f"line {line}")
        self.assertGreaterEqual(len(found), kinds)

    def test_mistakes_in_products(self):
        self.planted(products("f16", 80), kinds=3)
        # What cp.async has brought may be read by wgmma with no fence of the async proxy: compilers differ on it.
        self.planted(products("f16", 90), ["fence.proxy.async left out"], kinds=7)

    def test_mistakes_in_products_of_boxes(self):
        self.planted(products_of_boxes("f16", False), kinds=11)

    def test_mistakes_in_specialised_warps(self):
        self.planted(products_of_boxes("f16", True), kinds=13)

    def test_mistakes_in_attention(self):
        self.planted(heads(attention, "bf16", 80, True), kinds=3)
        self.planted(heads(attention_boxes, "f16", 90, True), kinds=13)


if __name__ == "__main__":
    unittest.main()
