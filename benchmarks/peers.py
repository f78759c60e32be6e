"""Peers that live in Python, for `weft bench`: one JSON line in, one out. Answers hold seconds, ok, or an error."""

import json
import math
import os
import sys
import time

if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

import torch

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
state = {}


def masks(work):
    """(score_mod, mask_mod) of a variant in FlexAttention's terms."""
    span, period, soft = float(work["span"]), 4.0, 32.0
    causal = lambda b, h, i, j: i >= j

    def weighted(weight):
        return lambda s, b, h, i, j: s + torch.log(weight(i - j).clamp(min=1e-30))

    reach = lambda d: ((soft + span - d) / soft).clamp(0, 1)
    near = lambda b, h, i, j: (i >= j) & (i - j < span + soft)
    triangle = lambda x: 2 * (2 * (x - torch.floor(x + 0.5))).abs().neg() + 1
    known = {
        "causal": (None, causal),
        "sliding_window": (None, lambda b, h, i, j: (i >= j) & (i - j < int(span))),
        "adaptive_span": (weighted(reach), near),
        "span_periodic": (weighted(lambda d: reach(d) * (triangle(d / period) * period / 4 + 0.5).clamp(0, 1)), near),
        "soft_cap": (lambda s, b, h, i, j: 50 * torch.tanh(s / 50), causal),
    }
    if work["variant"] not in known:
        raise NotImplementedError(f"no score_mod written for {work['variant']}: a score_mod sees scalars, not rows of features")
    return known[work["variant"]]


def flex(work, q, k, v):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    score, mask = masks(work)
    block = create_block_mask(mask, None, None, work["T"], work["T"], device=q.device)
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(q, k, v, score_mod=score, block_mask=block)


def triton(work, q, k, v):
    import triton  # noqa: F401
    if not q.is_cuda:
        raise NotImplementedError("Triton needs a GPU")
    if work["variant"] != "causal":
        raise NotImplementedError("Triton's attention kernel has no such mask")
    from triton.ops import flash_attention
    return lambda: flash_attention.attention(q, k, v, True, 1 / math.sqrt(work["D"]))


def prepare(work):
    state.clear()
    torch._dynamo.reset()
    torch.set_num_threads(work["threads"])
    torch.manual_seed(0)
    shape = (work["B"], work["H"], work["T"], work["D"])
    q, k, v = (torch.randn(shape).to(TYPES[work["dtype"]]).to(work["device"]).requires_grad_(work["backward"]) for _ in range(3))
    forward = {"flex": flex, "triton": triton}[work["peer"]](work, q, k, v)
    if work["backward"]:
        o = forward()
        gradient = torch.randn_like(o)
        call = lambda: torch.autograd.grad(o, [q, k, v], gradient, retain_graph=True)
    else:
        def call():
            with torch.no_grad():
                return forward()
    call()
    state.update(call=call, cuda=q.is_cuda)


def answer(work):
    if work["do"] == "prepare":
        prepare(work)
        return {"ok": True}
    if work["do"] == "release":
        state.clear()
        return {"ok": True}
    start = time.perf_counter()
    state["call"]()
    if state["cuda"]:
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - start}


def serve(out):
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            reply = {"error": f"{type(error).__name__}: {words[0][:160]}"}
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    serve(out)
