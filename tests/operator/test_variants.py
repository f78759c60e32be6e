"""Every library variant against eager PyTorch, the output and every gradient."""

import math
import os
import re
import unittest

import torch

import declarations
from criterion import beyond, norms_over, rounded, squared_errors

torch.ops.load_library(os.environ["WEFT_LIBRARY"])


def attend(q, k, v, keep, bias=0, weight=None, sink=None, cap=None, gate=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if cap is not None:
        s = cap * torch.tanh(s / cap)
    s = (s + bias).masked_fill(~keep, -math.inf)
    top = s.amax(-1, keepdim=True).clamp_min(torch.finfo(s.dtype).min)
    if sink is not None:
        top = torch.maximum(top, sink)
    e = torch.exp(s - top.detach())
    if weight is not None:
        e = e * weight.to(e.dtype)
    total = e.sum(-1, keepdim=True)
    if sink is not None:
        total = total + torch.exp(sink - top.detach())
    p = e / total.masked_fill(total == 0, 1)
    if gate is not None:
        p = p * gate
    return p @ v


def stick(q, k, v, keep):
    groups = q.shape[1] // k.shape[1]
    s = q @ k.repeat_interleave(groups, 1).transpose(-1, -2) / math.sqrt(q.shape[-1])
    taken = torch.nn.functional.softplus(s).masked_fill(~keep, 0)
    after = taken.flip(-1).cumsum(-1).flip(-1) - taken
    return (torch.sigmoid(s) * torch.exp(-after)).masked_fill(~keep, 0) @ v.repeat_interleave(groups, 1)


class Entmax15(torch.autograd.Function):
    """As in the authors' package `entmax`: by sorting; types narrower than f32 as f32."""

    @staticmethod
    def forward(ctx, s):
        z = s.to(torch.promote_types(s.dtype, torch.float32))
        z = (z - z.amax(-1, keepdim=True)) / 2
        falling = z.sort(-1, descending=True).values
        rho = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype)
        mean, square = falling.cumsum(-1) / rho, (falling * falling).cumsum(-1) / rho
        tau = mean - ((1 - rho * (square - mean * mean)) / rho).clamp_min(0).sqrt()
        count = (tau <= falling).sum(-1, keepdim=True)
        root = (z - tau.gather(-1, count - 1)).clamp_min(0)
        ctx.save_for_backward(root)
        return (root * root).to(s.dtype)

    @staticmethod
    def backward(ctx, dp):
        root, = ctx.saved_tensors
        ds = dp.to(root.dtype) * root
        return (ds - ds.sum(-1, keepdim=True) / root.sum(-1, keepdim=True) * root).to(dp.dtype)


def entmax15(q, k, v, keep):
    groups = q.shape[1] // k.shape[1]
    s = q @ k.repeat_interleave(groups, 1).transpose(-1, -2) / math.sqrt(q.shape[-1])
    return Entmax15.apply(s.masked_fill(~keep, -math.inf)) @ v.repeat_interleave(groups, 1)


def distance(x):
    T, S = x["q"].shape[2], x["k"].shape[2]
    return torch.arange(T)[:, None] - torch.arange(S)[None]


def head(x):
    return x[None, :, None, None]


def triangle(x):
    return 4 * (x - torch.floor(x) - 0.5).abs() - 1


def span_weight(x):
    return ((32 + head(x["span"]) - distance(x)) / 32).clamp(0, 1)


def wave(x, shape):
    p, r = head(x["period"]), head(x["ratio"])
    return (shape(distance(x), p) * p / 4 + 0.5 + p * r).clamp(0, 1)


def sorted_distance(x):
    return (x["place"][:, :, None] - x["key_place"][:, None])[None]


def fourier(d, p):
    # d / p first: an int times a number of Python is of torch's default type, whatever p is.
    return sum(8 / (math.pi * n) ** 2 * torch.cos(2 * math.pi * n * (d / p)) for n in (1, 3, 5))


def powers(x):
    T, S = x["q"].shape[2], x["k"].shape[2]
    tiles = torch.arange(T)[:, None] // 64 - torch.arange(S)[None] // 64
    return (distance(x) >= 0) & ((tiles == 0) | ((tiles > 0) & (tiles & (tiles - 1) == 0)) | (torch.arange(S) < 64))


def before(x, tile=64):
    """The mean of the tile of queries before each one's own; zeros for the first."""
    means = pooled(x, tile)
    return torch.cat([torch.zeros_like(means[:, :, :1]), means[:, :, :-1]], 2)


def pooled(x, tile=64, reduce=lambda rows: rows.mean(2)):
    return torch.stack([reduce(rows) for rows in x.detach().double().split(tile, 2)], 2)


def estimate(query, key):
    return query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).transpose(-1, -2)


def selected(x, choose, allowed=None, tile=64, causal=True):
    """[B, H, T, S] bool: pairs of the chosen tiles. `choose` is a list of (estimates [B, H, tiles, tiles], pick(estimates of a
    row's ranked tiles, head) -> positions) and `also(t, s)`: what is kept beside the diagonal and not ranked."""
    estimates, also = choose
    T, S = x["q"].shape[2], x["k"].shape[2]
    keep = torch.zeros(estimates[0][0].shape, dtype=torch.bool)
    B, H, rows, columns = keep.shape
    for b in range(B):
        for h in range(H):
            for t in range(rows):
                seen = [s for s in range(columns) if not causal or s * tile <= min(T, (t + 1) * tile) - 1]
                if allowed is not None:
                    seen = [s for s in seen if allowed[b, h, t, s]]
                always = [s for s in seen if s == t or also(t, s)]
                ranked = [s for s in seen if s not in always]
                keep[b, h, t, always] = True
                for values, pick in estimates:
                    own = values[b, h, t, ranked]
                    keep[b, h, t, [ranked[at] for at in pick(own, h)]] = True
    return keep.repeat_interleave(tile, 2)[:, :, :T].repeat_interleave(tile, 3)[..., :S]


def top(counts):
    return lambda own, h: own.argsort(descending=True, stable=True)[: int(counts[h])].tolist()


def share(shares):
    def pick(own, h):
        if not len(own):
            return []
        order = own.argsort(descending=True, stable=True)
        mass = own[order].softmax(0).cumsum(0)
        return order[: int((mass < shares[h]).sum()) + 1].tolist()
    return pick


def blocks(x, pick, also, q="q", k="k", scale=1.0):
    return (distance(x) >= 0) & selected(x, ([(scale * estimate(before(x[q]), pooled(x[k])), pick)], also))


def coarse_to_fine(x):
    T, S = x["q"].shape[2], x["k"].shape[2]
    rows, columns = -(-T // 64), -(-S // 64)
    allowed = torch.zeros(*x["q"].shape[:2], rows, columns, dtype=torch.bool)
    coarse = estimate(before(x["q"]), pooled(x["k"], 512))
    for b in range(allowed.shape[0]):
        for h in range(allowed.shape[1]):
            for t in range(rows):
                seen = [s for s in range(coarse.shape[3]) if s * 512 <= t * 64 + 63]
                kept = [s for s in seen if s == t // 8 or s == 0]
                ranked = [s for s in seen if s not in kept]
                kept += [ranked[at] for at in top(x["stretches"])(coarse[b, h, t, ranked], h)]
                for s in kept:
                    allowed[b, h, t, s * 8:s * 8 + 8] = True
    fine = [(estimate(before(x["q"]), pooled(x["k"])), top(x["tiles"]))]
    return (distance(x) >= 0) & selected(x, (fine, lambda t, s: s == 0), allowed)


def likeness(x):
    S = x["k"].shape[2]
    sizes = torch.tensor([min(64, S - s) for s in range(0, S, 64)], dtype=torch.float64)
    means = estimate(before(x["q"]), pooled(x["k"])) * sizes.sqrt()
    peaks = estimate(before(x["q"]), pooled(x["k"], reduce=lambda rows: rows.amax(2)))
    return (distance(x) >= 0) & selected(x, ([(means, top(x["tiles"])), (peaks, lambda own, h: top([1])(own, 0))], lambda t, s: False))


def with_summaries(x, keep):
    """One softmax over the tokens that `keep` leaves and a summary of each block of 64 before the query's own."""
    T, M = x["q"].shape[2], x["sk"].shape[2]
    earlier = torch.arange(M) < (torch.arange(T) // 64)[:, None]
    keep = torch.cat([keep.expand(*x["q"].shape[:2], -1, -1), earlier.expand(*x["q"].shape[:2], -1, -1)], -1)
    return attend(x["q"], torch.cat([x["k"], x["sk"]], 2), torch.cat([x["v"], x["sv"]], 2), keep)


def same_block(x):
    return torch.arange(x["q"].shape[2])[:, None] // 64 == torch.arange(x["k"].shape[2]) // 64


def anchored(x):
    T, S, D = x["q"].shape[2], x["k"].shape[2], x["q"].shape[3]
    estimates = estimate(before(x["q"]), x["k"].detach().double()) / math.sqrt(D)
    first, keys = torch.arange(0, T, 64)[:, None], torch.arange(S)
    own = (keys >= first) & (keys < first + 64)
    always = ((first - keys <= 64) | (keys < 16)) & (keys < first) | own
    anchor = estimates.masked_fill(~always | own, -math.inf).amax(-1, keepdim=True)
    near = (keys < first) & (estimates >= anchor - head(x["theta"].detach().double())) & anchor.isfinite()
    return (distance(x) >= 0) & (always | near).repeat_interleave(64, 2)[:, :, :T]


def guessed(x):
    rows, columns = -(-x["q"].shape[2] // 64), -(-x["k"].shape[2] // 64)
    return (distance(x) >= 0) & selected(x, ([(x["guess"].detach()[:, :, :rows, :columns], top(x["tiles"]))], lambda t, s: False))


def permuted(x):
    places = x["place"][..., None] >= x["key_place"][:, :, None]
    tiles = torch.stack([rows.any(2) for rows in places.split(64, 2)], 2)
    allowed = torch.stack([columns.any(3) for columns in tiles.split(64, 3)], 3)
    return places & selected(x, ([(estimate(pooled(x["q"]), pooled(x["k"])), top(x["tiles"]))], lambda t, s: s == 0), allowed, causal=False)


def listed(lists, x):
    """[..., S] bool: keys that a list names."""
    S = x["k"].shape[2]
    return torch.nn.functional.one_hot(lists % (S + 1), S + 1).any(-2)[..., :S]


def same_bucket(x):
    return x["own"][..., None] == x["other"][:, :, None]


QKV = lambda x: (x["q"], x["k"], x["v"])
REFERENCE = {
    "causal": lambda x: attend(*QKV(x), distance(x) >= 0),
    "sliding_window": lambda x: attend(*QKV(x), (distance(x) >= 0) & (distance(x) < x["window"])),
    "alibi": lambda x: attend(*QKV(x), distance(x) >= 0, bias=-head(x["slope"]) * distance(x)),
    "soft_cap": lambda x: attend(*QKV(x), distance(x) >= 0, cap=50.0),
    "document": lambda x: attend(*QKV(x), ((distance(x) >= 0) & (x["doc"][:, :, None] == x["key_doc"][:, None]))[:, None]),
    "prefix_lm": lambda x: attend(*QKV(x), ((distance(x) >= 0) | (torch.arange(x["k"].shape[2]) < x["prefix"][:, None, None]))[:, None]),
    "relative_bias": lambda x: attend(*QKV(x), distance(x) >= 0, bias=x["bias"][:, distance(x).clamp_min(0)][None]),
    "attention_sink": lambda x: attend(*QKV(x), distance(x) >= 0, sink=head(x["c"])),
    "adaptive_span": lambda x: attend(*QKV(x), distance(x) >= 0, weight=span_weight(x)),
    "span_periodic": lambda x: attend(*QKV(x), distance(x) >= 0, weight=span_weight(x) * wave(x, lambda d, p: triangle(d / p))),
    "span_periodic_fourier": lambda x: attend(*QKV(x), distance(x) >= 0, weight=span_weight(x) * wave(x, fourier)),
    "row_gate": lambda x: attend(*QKV(x), (distance(x) >= 0) & (x["keep"] > 0.05)[..., None], gate=x["keep"][..., None]),
    "power": lambda x: attend(*QKV(x), powers(x)),
    "a_shape": lambda x: attend(*QKV(x), (distance(x) >= 0) & ((distance(x) < x["window"]) | (torch.arange(x["k"].shape[2]) < x["first"]))),
    "vertical_slash": lambda x: attend(*QKV(x), ((distance(x) >= 0) & (x["vertical"][:, None] | x["slash"][:, distance(x).clamp_min(0)]))[None]),
    "bucket": lambda x: attend(*QKV(x), (x["own"][..., None] == x["other"][:, :, None]) & (x["place"][..., None] >= x["key_place"][:, :, None])),
    "content_sparse": lambda x: attend(*QKV(x), blocks(x, top(x["tiles"]), lambda t, s: s == 0, "u", "w"),
                                       weight=torch.sigmoid(x["u"] @ x["w"].transpose(-1, -2) + head(x["bias"]))),
    "flex_prefill": lambda x: attend(*QKV(x), blocks(x, share(x["share"].detach()), lambda t, s: s == 0, scale=x["q"].shape[3] ** -0.5)),
    "block_sparse": lambda x: attend(*QKV(x), blocks(x, top(x["tiles"]), lambda t, s: s == 0 or s == t - 1)),
    "hip": lambda x: attend(*QKV(x), coarse_to_fine(x)),
    "dhsa": lambda x: attend(*QKV(x), likeness(x)),
    "sea": lambda x: attend(*QKV(x), guessed(x)),
    "pbs": lambda x: attend(*QKV(x), permuted(x)),
    "hyper": lambda x: attend(*QKV(x), same_bucket(x) | x["sampled"][:, :, None], weight=torch.where(same_bucket(x), 1.0, x["share"])),
    "combiner": lambda x: with_summaries(x, (distance(x) >= 0) & same_block(x)),
    "nsa": lambda x: with_summaries(x, blocks(x, top(x["tiles"]), lambda t, s: s == t - 1)),
    "seqboat": lambda x: attend(*QKV(x), (distance(x) >= 0) & (distance(x) < x["window"]) & (torch.arange(x["q"].shape[2]) < x["count"][:, None])[:, None, :, None]),
    "sparse_vdit": lambda x: attend(*QKV(x), ((distance(x) + head(x["near"])) % head(x["stride"]) <= 2 * head(x["near"])) | (torch.arange(x["k"].shape[2]) < head(x["first"]))),
    "tidal": lambda x: attend(*QKV(x), (distance(x) >= 0) & (x["chosen"][:, :, None] | (distance(x) < x["window"]))),
    "span_periodic_sorted": lambda x: attend(*QKV(x), sorted_distance(x) >= 0, weight=((32 + head(x["span"]) - sorted_distance(x)) / 32).clamp(0, 1) *
                                             (triangle(sorted_distance(x) / head(x["period"])) * head(x["period"]) / 4 + 0.5 + head(x["period"] * x["ratio"])).clamp(0, 1)),
    "anchor": lambda x: attend(*QKV(x), anchored(x)),
    "stripes": lambda x: attend(*QKV(x), (distance(x) >= 0) & listed(x["stripes"], x).repeat_interleave(64, 2)[:, :, :x["q"].shape[2]]),
    "indexed": lambda x: attend(*QKV(x), (distance(x) >= 0) & listed(x["list"], x).repeat_interleave(x["q"].shape[1] // x["k"].shape[1], 1)),
    "gathered": lambda x: attend(*QKV(x), (distance(x) >= 0) & listed(x["list"], x)[:, :, None]),
    "stick_breaking": lambda x: stick(*QKV(x), distance(x) > 0),
    "entmax15": lambda x: entmax15(*QKV(x), distance(x) >= 0),
    "content_weight": lambda x: attend(*QKV(x), distance(x) >= 0, weight=torch.sigmoid(x["u"] @ x["w"].transpose(-1, -2) + head(x["bias"]))),
}


DECODED = sorted(set(REFERENCE) - {"indexed"})  # those whose queries share their keys


def make(name, B, H, G, T, S, D, draw=0):
    """Inputs by what the variant declares of them; what is declared to rise does so for odd draws."""
    torch.manual_seed(draw)
    sizes = dict(B=B, H=H, G=G, T=T, S=S, D=D, E=D, R=16, M=max(T, S) // 64 + 1, N=max(T, S))
    x = {own.name: own.draw(sizes, draw % 2 == 1) for own in declarations.inputs(name)}
    listed = re.search(r"^  keys = (\w+)", declarations.source(name), re.MULTILINE)
    if listed:  # each key once; -1 ends a list
        rows = x[listed[1]].shape[:-1]
        x[listed[1]] = torch.rand(*rows, S).argsort(-1)[..., :max(S // 2, 1)]
        x[listed[1]][torch.rand(x[listed[1]].shape) < 0.25] = -1
    if name == "span_periodic_sorted":
        places = torch.stack([torch.randperm(max(T, S)) for _ in range(H)])
        x["place"], x["key_place"] = places[:, :T], places[:, :S]
        # As the periods that the kernels see: f32.
        phases = places.double() % x["period"].float().double()[:, None]
        x["phase"], x["key_phase"] = phases[:, :T].float(), phases[:, :S].float()
    return x


class Variants(unittest.TestCase):
    def test_all_library_variants_are_here(self):
        folder = os.path.join(os.environ["WEFT_SOURCE"], "ops", "variants")
        self.assertEqual({f[:-5] for f in os.listdir(folder)}, set(REFERENCE))


def on_cpu(name, x):
    return torch.ops.weft.attention(name, list(x), list(x.values()))


def compare(self, name, dtype, shape, attention=on_cpu, count=None):
    # The error of a gradient of one number is a single draw of rounding: of few of them PyTorch's may be small by luck.
    if count is None:
        count = 64 if any(x.is_floating_point() and x.numel() == 1 for x in make(name, *shape).values()) else 8

    def draw(seed):
        inputs = rounded(make(name, *shape, seed), dtype)
        torch.manual_seed(7)
        return squared_errors(inputs, dtype, REFERENCE[name], lambda x: attention(name, x))

    worse = beyond(norms_over([draw(seed) for seed in range(count)]), dtype)
    self.assertFalse(worse, "\n".join(worse.values()) + f"\n{name} {dtype}")


SHAPES = {"odd": (2, 4, 2, 150, 150, 64), "cross": (1, 2, 2, 131, 97, 32), "wide": (1, 2, 1, 90, 90, 80)}
for variant in REFERENCE:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for shape_name, shape in SHAPES.items():
            # float16 is read as float32: one shape of it.
            if dtype == torch.float16 and shape_name != "odd":
                continue

            def test(self, variant=variant, dtype=dtype, shape=shape):
                compare(self, variant, dtype, shape)
            setattr(Variants, f"test_{variant}_{str(dtype)[6:]}_{shape_name}", test)

if __name__ == "__main__":
    unittest.main()
