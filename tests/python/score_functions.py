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
    "relative_causal": (scores(lambda x, s, b, h, q, k: torch.where(q <= k, s + (q - k), -INF)), {}),
    "alibi_by_power": (scores(lambda x, s, b, h, q, k: s + (k - q) * torch.exp2(-((h + 1) * 8.0 / H))), {}),
    "head_offset": (scores(lambda x, s, b, h, q, k: s * x["head_offset"][h]), {"head_offset": floats(H)}),
    "trigonometry": (scores(lambda x, s, b, h, q, k: torch.sin(torch.cos(s)) + torch.tan(b * 0.1)), {}),
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
    # published models, and expressions from habit
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
