"""What the tests call right: an error at most twice that of PyTorch's own math in the same type, both measured against float64."""

import math

import torch

UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12}
ROWS = ("q", "k", "v", "u", "w", "sk", "sv")


def rounded(x, dtype):
    """As the operator takes them: rows in `dtype`, other floats in f32."""
    return {n: t.to(dtype) if n in ROWS and t.is_floating_point() else t.float() if t.is_floating_point() else t for n, t in x.items()}


def squared_errors(inputs, dtype, reference, attention, cancelling=False):
    """Of o and each gradient, under a random cotangent: the squares of Weft's error, of PyTorch's, and of the exact result, all from the
    same rounded inputs. `cancelling`: a gradient that softmax makes an exact zero (of what all logits of a row have in common) has the
    size of what cancels."""
    floats = [n for n, t in inputs.items() if t.is_floating_point()]
    cotangent = torch.randn(*inputs["q"].shape[:3], inputs["v"].shape[3]).to(dtype)

    def run(type, function):
        leaves = {n: (t.to(type) if type and t.is_floating_point() else t).detach().clone().requires_grad_(t.is_floating_point())
                  for n, t in inputs.items()}
        out = function(leaves)
        grads = torch.autograd.grad(out, [leaves[n] for n in floats], cotangent.to(out.dtype), allow_unused=True)
        grads = [torch.zeros_like(leaves[n]) if g is None else g for n, g in zip(floats, grads)]  # what only chooses tiles
        return [out.detach().double()] + [g.double() for g in grads]

    square = lambda t: t.double().square().sum().item()
    found = {}
    for what, exact, peer, own in zip(["o"] + floats, run(torch.float64, reference), run(dtype, reference), run(None, attention)):
        cancels = cancelling and exact.norm() < 1e-9 * cotangent.norm()
        found[what] = square(own - exact), square(peer - exact), square(cotangent if cancels else exact)
    return found


def norms_over(draws):
    """Norms over draws: the gradient of a [H] input is only a few numbers, and rows that keep a few pairs of tiny weight make one draw
    of a wave a lottery."""
    return {what: [math.sqrt(sum(d[what][at] for d in draws)) for at in range(3)] for what in draws[0]}


def beyond(errors, dtype):
    """Of norms of Weft's error, of PyTorch's and of the exact result: what is worse than twice PyTorch's error, with a line on it. A
    result exact to a few units in the last place passes in any case."""
    found = {}
    for what, (own, peer, scale) in errors.items():
        peer = peer if math.isfinite(peer) else 8 * UNIT[dtype] * scale  # PyTorch's own math overflowed
        if not (math.isfinite(own) and own <= 2 * peer + 4 * UNIT[dtype] * scale):
            found[what] = f"{what}: {own:.3g}, PyTorch {peer:.3g}, of {scale:.3g}"
    return found
