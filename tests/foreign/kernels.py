"""Triton kernels and the PTX that Triton makes of them: code that Weft did not write. No GPU is needed."""

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def matmul(a, b, c, K, lda, ldb, ldc, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """c = a b, tiles by pointers: cp.async."""
    rows, columns, inner = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN), tl.arange(0, BK)
    left, right = a + rows[:, None] * lda + inner[None, :], b + inner[:, None] * ldb + columns[None, :]
    sums = tl.zeros((BM, BN), tl.float32)
    for _ in range(0, K, BK):
        sums = tl.dot(tl.load(left), tl.load(right), sums)
        left += BK
        right += BK * ldb
    tl.store(c + rows[:, None] * ldc + columns[None, :], sums)


@triton.jit
def matmul_boxes(a, b, c, K, ldc, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPECIALISED: tl.constexpr):
    """c = a b', tiles by tensor maps: TMA, loaded by warps of their own where SPECIALISED."""
    row, column = tl.program_id(0) * BM, tl.program_id(1) * BN
    sums = tl.zeros((BM, BN), tl.float32)
    for at in tl.range(0, K, BK, warp_specialize=SPECIALISED):
        sums = tl.dot(a.load([row, at]), b.load([column, at]).T, sums)
    rows, columns = row + tl.arange(0, BM), column + tl.arange(0, BN)
    tl.store(c + rows[:, None] * ldc + columns[None, :], sums)


@triton.jit
def online(scores, v, most, total, out):
    """Of softmax over the keys: one tile more."""
    now = tl.maximum(most, tl.max(scores, 1))
    p = tl.exp2(scores - now[:, None])
    keep = tl.exp2(most - now)
    return now, total * keep + tl.sum(p, 1), tl.dot(p.to(v.dtype), v, out * keep[:, None])


@triton.jit
def attention(q, k, v, o, scale, T, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr):
    """One head a program_id(1), tiles by pointers. `scale` is for powers of two."""
    first, columns, head = tl.program_id(0) * BM, tl.arange(0, D), tl.program_id(1) * T * D
    rows = first + tl.arange(0, BM)
    queries = tl.load(q + head + rows[:, None] * D + columns[None, :])
    most, total, out = tl.full([BM], -1e30, tl.float32), tl.zeros([BM], tl.float32), tl.zeros([BM, D], tl.float32)
    for at in range(0, first + BM if CAUSAL else T, BN):
        keys = at + tl.arange(0, BN)
        scores = tl.dot(queries, tl.load(k + head + keys[None, :] * D + columns[:, None])) * scale
        if CAUSAL:
            scores = tl.where(rows[:, None] >= keys[None, :], scores, -1e30)
        most, total, out = online(scores, tl.load(v + head + keys[:, None] * D + columns[None, :]), most, total, out)
    tl.store(o + head + rows[:, None] * D + columns[None, :], (out / total[:, None]).to(o.dtype.element_ty))


@triton.jit
def attention_boxes(q, k, v, o, scale, T, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr):
    """The same, tiles by tensor maps."""
    first, head = tl.program_id(0) * BM, tl.program_id(1) * T
    rows = first + tl.arange(0, BM)
    queries = q.load([head + first, 0])
    most, total, out = tl.full([BM], -1e30, tl.float32), tl.zeros([BM], tl.float32), tl.zeros([BM, D], tl.float32)
    for at in range(0, first + BM if CAUSAL else T, BN):
        scores = tl.dot(queries, k.load([head + at, 0]).T) * scale
        if CAUSAL:
            scores = tl.where(rows[:, None] >= (at + tl.arange(0, BN))[None, :], scores, -1e30)
        most, total, out = online(scores, v.load([head + at, 0]), most, total, out)
    o.store([head + first, 0], (out / total[:, None]).to(o.dtype))


def compiled(kernel, signature, constants, capability, **options):
    """`signature`: Triton's type of each argument that is no constant. Gives the PTX, the threads and bytes of shared memory of a block."""
    types = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    # Pointers and lengths are multiples of 16: else no cp.async.
    attributes = {(at,): [["tt.divisibility", 16]] for at, kind in enumerate(types.values()) if kind[0] == "*" or kind == "i32"}
    result = triton.compile(ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=attributes),
                            target=GPUTarget("cuda", capability, 32), options=options)
    return result.asm["ptx"], result.metadata
