"""Functions as people give them to FlexAttention: those of PyTorch's own tests, of attention-gym and of published models, written
anew. Each is a maker: it gets captured tensors by name, and gives (score_mod or None, mask_mod or None)."""

import math

import torch

B, H, T, S = 2, 4, 100, 130


def scores(function):
    return lambda x: (lambda *pair: function(x, *pair), None)


def masks(function):
    return lambda x: (None, lambda *pair: function(x, *pair))


def floats(*shape):
    return lambda: torch.randn(shape, dtype=torch.float64)


def ints(high, *shape):
    return lambda: torch.randint(0, high, shape)


def both(score, mask):
    return lambda x: (lambda *pair: score(x, *pair), lambda *pair: mask(x, *pair))


# Documents in one row of tokens: where each begins, and which one a token is of.
LENGTHS = torch.tensor([20, 31, 9, 40, 30])
OFFSETS = torch.cat([torch.zeros(1, dtype=torch.int64), LENGTHS.cumsum(0)[:-1]])
DOCUMENTS = torch.arange(len(LENGTHS)).repeat_interleave(LENGTHS)


def in_document(x, function):
    """A mask over the places in a document, of pairs of one document."""
    place = lambda n: n - x["offsets"][x["doc"][n]]
    return lambda b, h, q, k: (x["doc"][q] == x["doc"][k]) & function(x["doc"][q], place(q), place(k))


def near_in_2d(q, k, sides, window):
    """Of two places (row, column): a neighbourhood of `window`, moved inside where it would stand over the edge."""
    return math.prod(((own.clamp(reach, side - 1 - reach) - other).abs() <= reach).int() for own, other, side, reach in zip(q, k, sides, (size // 2 for size in window))) == 1


def morton(n):
    """Row and column of a place on a curve that takes its bits in turns."""
    def every_other(bits):
        for shift, mask in ((0, 0x55555555), (1, 0x33333333), (2, 0x0F0F0F0F), (4, 0x00FF00FF)):
            bits = (bits | (bits >> shift)) & mask
        return bits

    return every_other(n >> 1), every_other(n)


def tiled(n, side, tile):
    """Row and column of a place where tokens lie tile by tile."""
    which, inside = n // (tile[0] * tile[1]), n % (tile[0] * tile[1])
    return which // (side // tile[1]) * tile[0] + inside // tile[1], which % (side // tile[1]) * tile[1] + inside % tile[1]


def sliding_tiles(q, k, tiles=(4, 2, 2), window=(3, 1, 1), inside=8):
    """Video as tiles of 2 x 2 x 2 tokens: a tile sees those of a window around it; the words behind the video see all and are seen by all."""
    video = tiles[0] * tiles[1] * tiles[2] * inside
    where = lambda n: (n // inside // (tiles[1] * tiles[2]), n // inside // tiles[2] % tiles[1], n // inside % tiles[2])
    kept = k < video
    for own, other, side, reach in zip(where(q), where(k), tiles, (size // 2 for size in window)):
        kept = kept & ((own.clamp(reach, side - 1 - reach) - other).abs() <= reach)
    return kept | (q >= video) | (k >= video)


def block_diffusion(q, k, half=65, block=8):
    """A noised sequence beside the clean one: noised blocks see themselves and the clean blocks before, clean ones those up to their own."""
    clean_q, clean_k = q >= half, k >= half
    block_q, block_k = (torch.where(clean, n - half, n) // block for clean, n in ((clean_q, q), (clean_k, k)))
    return torch.where(clean_k, torch.where(clean_q, block_q >= block_k, block_q > block_k), ~clean_q & (block_q == block_k))


def shared_prefix(x, q, k):
    """Answers see the prompt that they share, and themselves."""
    own = x["doc"][q]
    prompt = x["prompt"][own]
    return (k >= x["offsets"][own]) & (q >= k) | (own != prompt) & (k >= x["offsets"][prompt]) & (k < x["offsets"][prompt + 1])


def ancestors(count):
    """bool [count, count]: of a tree whose node n hangs below n // 3."""
    above = torch.eye(count, dtype=torch.bool)
    for node in range(1, count):
        above[node] |= above[node // 3]
    return above


TREE = ancestors(T)


class CapWithABackward(torch.autograd.Function):
    """An approximate tanh with a gradient of its own."""

    @staticmethod
    def forward(s):
        return 20 * torch.tanh(s / 20)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, gradient):
        (output,) = ctx.saved_tensors
        return gradient * (1 - (output / 20) ** 2)


def quotient_for_tanh(x):
    return torch.clamp(x * (27 + x * x) / (27 + 9 * x * x), -1, 1)


INF = float("inf")
# name: (maker, captured tensors)
FUNCTIONS = {
    # PyTorch's test_flex_attention.py
    "identity": (scores(lambda x, s, b, h, q, k: s), {}),
    "times_two": (scores(lambda x, s, b, h, q, k: s * 2), {}),
    "squared": (scores(lambda x, s, b, h, q, k: s * s), {}),
    "causal_score": (scores(lambda x, s, b, h, q, k: torch.where(q >= k, s, float("-inf"))), {}),
    "inverse_causal": (scores(lambda x, s, b, h, q, k: torch.where(q <= k, s, -INF)), {}),
    "relative": (scores(lambda x, s, b, h, q, k: s + (q - k)), {}),
    "relative_causal": (scores(lambda x, s, b, h, q, k: torch.where(q >= k, s + (q - k), -INF)), {}),
    "alibi_by_power": (scores(lambda x, s, b, h, q, k: s + (k - q) * torch.exp2(-((h + 1) * 8.0 / H))), {}),
    "head_offset": (scores(lambda x, s, b, h, q, k: s * x["head_offset"][h]), {"head_offset": floats(H)}),
    "trigonometry": (scores(lambda x, s, b, h, q, k: torch.sin(torch.cos(s)) + torch.tan(b)), {}),
    "trigonometry_of_indices": (scores(lambda x, s, b, h, q, k: torch.sin(q * 0.3) * torch.cos(k * 0.2) + torch.sin(s)), {}),
    "head_and_batch": (scores(lambda x, s, b, h, q, k: s + h - 2 * b), {}),
    "bias_of_batch": (scores(lambda x, s, b, h, q, k: s + x["bias"][b]), {"bias": floats(B)}),
    "bias_of_query": (scores(lambda x, s, b, h, q, k: s + x["bias"][q]), {"bias": floats(T)}),
    "bias_of_key_in_batch": (scores(lambda x, s, b, h, q, k: s + x["bias"][b, k]), {"bias": floats(B, S)}),
    "bias_of_all": (scores(lambda x, s, b, h, q, k: s + x["bias"][b, h, q, k]), {"bias": floats(B, H, T, S)}),
    "bias_in_another_order": (scores(lambda x, s, b, h, q, k: s + x["bias"][k, h, b]), {"bias": floats(S, H, B)}),
    "bias_longer_than_needed": (scores(lambda x, s, b, h, q, k: s + x["bias"][h, q]), {"bias": floats(H + 2, T + 50)}),
    "bias_twice": (scores(lambda x, s, b, h, q, k: s + x["bias"][q] - 0.5 * x["bias"][k]), {"bias": floats(S)}),
    "bias_by_steps": (scores(lambda x, s, b, h, q, k: s + x["bias"][h][q]), {"bias": floats(H, T)}),
    "bias_with_a_constant_index": (scores(lambda x, s, b, h, q, k: s + x["bias"][1, h] + x["bias"][-1, h]), {"bias": floats(3, H)}),
    "index_of_an_index": (scores(lambda x, s, b, h, q, k: s + x["bias"][x["kind"][k]]), {"bias": floats(5), "kind": ints(5, S)}),
    "three_buffers": (scores(lambda x, s, b, h, q, k: s * x["scale"][h] + x["q_bias"][q] + x["k_bias"][k]),
                      {"scale": floats(H), "q_bias": floats(T), "k_bias": floats(S)}),
    "scalar_buffer": (scores(lambda x, s, b, h, q, k: s * x["temperature"]), {"temperature": floats()}),
    "relative_table": (scores(lambda x, s, b, h, q, k: s + x["table"][h, q - k + S]), {"table": floats(H, T + S)}),
    "relative_table_from_the_end": (scores(lambda x, s, b, h, q, k: s + x["table"][q - k]), {"table": floats(T + S)}),
    "silu": (scores(lambda x, s, b, h, q, k: torch.nn.functional.silu(s)), {}),
    "soft_cap": (scores(lambda x, s, b, h, q, k: 20 * torch.tanh(s / 20)), {}),
    "checkerboard": (scores(lambda x, s, b, h, q, k: torch.where(torch.abs(k - q) % 2 == 1, s * 0.5, torch.where(torch.abs(k - q) % 2 == 0, s * 2.0, s))), {}),
    "masked_fill": (scores(lambda x, s, b, h, q, k: s.masked_fill(q < k, -INF)), {}),
    "buffer_masks": (scores(lambda x, s, b, h, q, k: torch.where(x["kept"][b, k], s, -INF)), {"kept": lambda: torch.rand(B, S) < 0.7}),
    "two_cases_of_minus_infinity": (scores(lambda x, s, b, h, q, k: torch.where(q >= k, torch.where(q - k < 40, s, -INF), -INF)), {}),
    "minus_infinity_added": (scores(lambda x, s, b, h, q, k: s + torch.where(q >= k, 0.0, -INF)), {}),
    "causal": (masks(lambda x, b, h, q, k: q >= k), {}),
    "no_mask": (masks(lambda x, b, h, q, k: q.new_ones(size=(), dtype=torch.bool)), {}),
    "score_and_mask": (both(lambda x, s, b, h, q, k: s + x["bias"][h], lambda x, b, h, q, k: (q >= k) | (k < 10)), {"bias": floats(H)}),
    # attention-gym
    "sliding_window": (masks(lambda x, b, h, q, k: (q >= k) & (q - k <= 30)), {}),
    "prefix_lm": (masks(lambda x, b, h, q, k: torch.logical_or(q >= k, k < x["prefix"][b])), {"prefix": ints(60, B)}),
    "documents": (masks(lambda x, b, h, q, k: (x["doc"][q] == x["doc"][k]) & (q >= k)), {"doc": lambda: torch.randint(0, 4, (S,)).sort().values}),
    "dilated_window": (masks(lambda x, b, h, q, k: ((q - k).abs() <= 40) & ((q - k) % 3 == 0) & (q >= k)), {}),
    "global_tokens": (masks(lambda x, b, h, q, k: (k < 4) | (q < 4) | ((q - k).abs() < 16)), {}),
    "natten_2d": (masks(lambda x, b, h, q, k: ((q // 12).clamp(3, 7) - k // 12).abs().le(3) & ((q % 12).clamp(3, 8) - k % 12).abs().le(3)), {}),
    "tiled_natten": (masks(lambda x, b, h, q, k: (torch.div(q, 8, rounding_mode="floor") - torch.div(k, 8, rounding_mode="floor")).abs() <= 2), {}),
    "flamingo": (masks(lambda x, b, h, q, k: (x["start"][q] <= k) & (k < x["end"][q])), {"start": ints(40, T), "end": lambda: 41 + torch.randint(0, 80, (T,))}),
    "alibi": (scores(lambda x, s, b, h, q, k: s + (k - q) * x["slope"][h]), {"slope": floats(H)}),
    "attention_sinks_by_window": (masks(lambda x, b, h, q, k: ((k <= q) & (q - k < 20)) | ((k < 4) & (k <= q))), {}),
    "batch_padding": (masks(lambda x, b, h, q, k: (k < x["length"][b]) & (q < x["length"][b])), {"length": lambda: torch.tensor([60, 90])}),
    "paged_by_table": (masks(lambda x, b, h, q, k: (x["page"][b, k // 16] >= 0) & (k % 16 < 12)), {"page": lambda: torch.randint(-1, 3, (B, -(-S // 16)))}),
    "latent": (scores(lambda x, s, b, h, q, k: s + torch.dot(x["q_pe"][b, h, q], x["k_pe"][b, h // H, k]) * 0.25), {"q_pe": floats(B, H, T, 16), "k_pe": floats(B, 1, S, 16)}),
    "latent_in_groups": (both(lambda x, s, b, h, q, k: (s + (x["q_pe"][b, h, q] * x["k_pe"][b, h // 2, k]).sum()) * 0.7, lambda x, b, h, q, k: q >= k),
                         {"q_pe": floats(B, H, T, 24), "k_pe": floats(B, H // 2, S, 24)}),
    "approximate_soft_cap": (scores(lambda x, s, b, h, q, k: 4 * quotient_for_tanh(s / 4)), {}),
    "morton_natten": (masks(lambda x, b, h, q, k: near_in_2d(morton(q), morton(k), (16, 16), (7, 5))), {}),
    "tiled_natten_2d": (masks(lambda x, b, h, q, k: near_in_2d(tiled(q, 12, (3, 4)), tiled(k, 12, (3, 4)), (12, 12), (5, 7))), {}),
    "sliding_tiles": (masks(lambda x, b, h, q, k: sliding_tiles(q, k)), {}),
    "documents_with_offsets": (masks(lambda x, b, h, q, k: in_document(x, lambda doc, q, k: (q >= k) & (q - k < 24))(b, h, q, k)),
                               {"doc": lambda: DOCUMENTS, "offsets": lambda: OFFSETS}),
    "alibi_of_documents": (both(lambda x, s, b, h, q, k: s + (k - q) * x["slope"][h] * 0.1 + (q - x["offsets"][x["doc"][q]]) * 0.01,
                                lambda x, b, h, q, k: in_document(x, lambda doc, q, k: q >= k)(b, h, q, k)),
                           {"doc": lambda: DOCUMENTS, "offsets": lambda: OFFSETS, "slope": floats(H)}),
    "prefix_lm_of_documents": (masks(lambda x, b, h, q, k: in_document(x, lambda doc, q, k: (q >= k) | (k < x["prefix"][doc]))(b, h, q, k)),
                               {"doc": lambda: DOCUMENTS, "offsets": lambda: OFFSETS, "prefix": ints(20, len(LENGTHS))}),
    "shared_prefix": (masks(lambda x, b, h, q, k: shared_prefix(x, q, k)), {"doc": lambda: DOCUMENTS, "offsets": lambda: torch.cat([OFFSETS, torch.tensor([S])]),
                                                                            "prompt": lambda: torch.tensor([0, 0, 0, 3, 3])}),
    "block_diffusion": (masks(lambda x, b, h, q, k: block_diffusion(q, k)), {}),
    "block_of_a_batch": (masks(lambda x, b, h, q, k: (q // 33 == k // 33) & (q % 33 >= k % 33)), {}),
    "frames_of_a_video": (masks(lambda x, b, h, q, k: (k < 6) | (q < 6) | torch.where(h % 2 == 0, (q - k).abs() < 30, ((q - 6) % 14 - (k - 6) % 14).abs() < 3)), {}),
    "tree_of_drafts": (masks(lambda x, b, h, q, k: (k < 30) | (k >= 30) & (k < 30 + T) & x["ancestor"][q, (k - 30).clamp(min=0, max=T - 1)]), {"ancestor": lambda: TREE}),
    "log_of_an_activation": (scores(lambda x, s, b, h, q, k: torch.log(torch.nn.functional.gelu(s) + 1.0)), {}),
    # published models, and expressions from habit
    "graphormer": (scores(lambda x, s, b, h, q, k: s + x["near"][x["distance"][b, q, k], h]
                          + sum(torch.where(x["distance"][b, q, k] > hop, x["edge"][hop, x["kind"][b, q, k, hop], h], 0.0) for hop in range(3)) / x["distance"][b, q, k].clamp(1, 3)),
                   {"near": floats(6, H), "distance": ints(6, B, T, S), "edge": floats(3, 4, H), "kind": ints(4, B, T, S, 3)}),
    "sandwich": (scores(lambda x, s, b, h, q, k: s + 0.4 * (h + 1) * (sum(torch.cos((q - k) / 10000 ** (n / 8)) for n in range(8)) - 8)), {}),
    "t5_buckets": (scores(lambda x, s, b, h, q, k: s + x["bias"][torch.where((q - k).abs() < 8, (q - k).abs(),
                   torch.clamp(8 + (torch.log((q - k).abs().float().clamp(min=1) / 8) * 3).to(torch.int64), max=15)), h]), {"bias": floats(16, H)}),
    "gemma": (both(lambda x, s, b, h, q, k: 50.0 * torch.tanh(s / 50.0), lambda x, b, h, q, k: (q >= k) & (q - k < 64)), {}),
    "head_groups": (scores(lambda x, s, b, h, q, k: s * x["scale"][h // 2]), {"scale": floats(H // 2)}),
    "learned_decay": (scores(lambda x, s, b, h, q, k: s - torch.nn.functional.softplus(x["decay"][h]) * (q - k).abs() ** 0.5), {"decay": floats(H)}),
    "reflected_operators": (scores(lambda x, s, b, h, q, k: 1.5 - s + 2 ** (-(q - k).abs() / 64.0) - 3 / (1 + (q - k).abs())), {}),
    "bools_as_numbers": (scores(lambda x, s, b, h, q, k: s + 0.5 * (q == k) + (q > k).float() - (q < k).to(s.dtype)), {}),
    "bits": (masks(lambda x, b, h, q, k: ((q & 7) >= (k & 7)) ^ ((q >> 3) < (k >> 3))), {}),
    "shifts": (masks(lambda x, b, h, q, k: (1 << (q % 4)) + (k << 1) > q), {}),
    "bits_of_large_ints": (masks(lambda x, b, h, q, k: ((x["n"][k] & q) ^ (x["n"][k] >> 9) | (q << 3)) % 7 < 4), {"n": ints(2**31 - 1, S)}),
    "shifts_by_captured_ints": (masks(lambda x, b, h, q, k: (q >> x["n"][h]) == (k >> x["n"][h])), {"n": lambda: torch.tensor([2, 3, 4, 5])}),
    "powers_of_two_apart": (masks(lambda x, b, h, q, k: (q >= k) & (((q - k) & (q - k - 1)) == 0)), {}),
    "buckets_by_log2": (scores(lambda x, s, b, h, q, k: s + x["bias"][h, torch.log2((q - k).abs().float() + 1).floor().to(torch.int64)]), {"bias": floats(H, 8)}),
    "same_flags": (masks(lambda x, b, h, q, k: (x["flag"][q] == x["flag"][k]) | (q == k)), {"flag": lambda: torch.rand(S) < 0.5}),
    "erf_and_gelu": (scores(lambda x, s, b, h, q, k: s + torch.erf(s) * 0.5 + torch.nn.functional.gelu(s) + torch.nn.functional.gelu(s, approximate="tanh")), {}),
    "expm1_and_elu": (scores(lambda x, s, b, h, q, k: torch.expm1(s * 0.3) + torch.nn.functional.elu(s, 0.5) + torch.expm1(s * 1e-3)), {}),
    "not_any_of": (masks(lambda x, b, h, q, k: ~((q < k) | torch.logical_not(q - k < 50))), {}),
    "extremes": (scores(lambda x, s, b, h, q, k: torch.maximum(torch.minimum(s, x["high"][h]), -x["high"][h].abs()) + torch.clamp(s, -1, 1)), {"high": floats(H)}),
    "sign_and_square": (scores(lambda x, s, b, h, q, k: s.sign() * s.square() * 0.2 + s.abs().sqrt() * 0.1 + torch.rsqrt(1 + s * s)), {}),
    "exponentials": (scores(lambda x, s, b, h, q, k: torch.log1p(torch.exp(-s.abs())) + torch.sigmoid(s) * 2 + torch.exp2(-s * s) + torch.log(1 + s * s)), {}),
    "local_constants": (scores(lambda x, s, b, h, q, k: s / math.sqrt(2) + x["bias"].mean() * 0.5), {"bias": floats(H)}),
    "computed_buffer": (scores(lambda x, s, b, h, q, k: s + (x["bias"] * 2)[h]), {"bias": floats(H)}),
    "powers": (scores(lambda x, s, b, h, q, k: 0.01 * s**9 + (s**-2).clamp(max=3.0) + s * (-1.0) ** q + 0.1 * s**b + (1 + s * s) ** -1.5), {}),
    "quotients_of_large_ints": (masks(lambda x, b, h, q, k: ((x["n"][k] // 1000) % 2 == 0) | (x["n"][k] // 2**20 % 3 == 1) | (-x["n"][k] // 7 % 5 == 0)), {"n": ints(2**31 - 1, S)}),
    "quotients_by_captured_ints": (masks(lambda x, b, h, q, k: ((k // x["n"][h]) % 2 == 0) | (k % x["n"][h] == 1) | (torch.div(q - k, x["n"][h], rounding_mode="trunc") == 2)),
                                   {"n": lambda: torch.tensor([2, 3, 4, 5])}),
    "whole_floats": (scores(lambda x, s, b, h, q, k: s + torch.floor(q * 1e4) * torch.ceil(k * 1e4) * 1e-9 + torch.round(s * 3.5) * 0.1 + torch.trunc(-s * 2) * 0.1
                            + torch.frac(s) + torch.floor(q / 7) * 0.01), {}),
    "filled": (scores(lambda x, s, b, h, q, k: s + torch.full_like(q, 1.5) + s.new_full((), fill_value=0.25) + torch.zeros_like(s) + q.new_ones(())), {}),
    "the_least_float": (scores(lambda x, s, b, h, q, k: torch.where(q >= k, s, torch.finfo(torch.float32).min)), {}),
    "bools_as_ints": (masks(lambda x, b, h, q, k: torch.maximum(q > k, k < 3) & (((q > k) & 1) == 1) | (torch.minimum(q > 5, k > 5) << 1 > 1)), {}),
    "bools_as_scores": (scores(lambda x, s, b, h, q, k: s + torch.where(q >= k, q > 3, -INF)), {}),
    "clamped_index": (scores(lambda x, s, b, h, q, k: s + x["t"][3 - (q % 4).clamp(min=5)]), {"t": floats(7)}),
    "where_of_numbers": (scores(lambda x, s, b, h, q, k: s + torch.where(q > k, 1, 2) * torch.where(k > 3, 0.5, x["bias"][h])), {"bias": floats(H)}),
}

# What is refused, and the words for it.
REFUSED = {
    "soft_cap_with_a_backward": (scores(lambda x, s, b, h, q, k: CapWithABackward.apply(s)), {}, "torch.autograd.Function CapWithABackward of what hangs on k, q"),
    "product_of_shifted_rows": (scores(lambda x, s, b, h, q, k: s + torch.dot(x["q_pe"][b, h, q], x["k_pe"][b, h, k + 1])),
                                {"q_pe": floats(B, H, T, 16), "k_pe": floats(B, H, S + 1, 16)}, "indexed by q_idx or kv_idx itself"),
    "a_row_in_a_function": (scores(lambda x, s, b, h, q, k: s + (x["q_pe"][b, h, q] - x["k_pe"][b, h, k]).square().sum()),
                            {"q_pe": floats(B, H, T, 16), "k_pe": floats(B, H, S, 16)}, "multiply two rows"),
    "a_function_without_a_counterpart": (scores(lambda x, s, b, h, q, k: s + torch.special.bessel_j0(s)), {}, "special_bessel_j0 has no counterpart"),
    "stopped_gradient": (scores(lambda x, s, b, h, q, k: s - s.detach().tanh()), {}, "detach of what hangs on k, q"),
}
