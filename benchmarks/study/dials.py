"""How sparse a variant is: its own dial, set by the share of causal attention's pairs that it should keep.

DIALS[name](share, q, k) gives the inputs of the library's variant `name` for queries and keys [B, H, T, D], of models that were
trained with dense attention: nothing is learned. Which share is kept in fact, `weft.variant(name).explain` says.
"""

import math

import torch

TILE = 64  # of the variants that choose tiles


def window_of(share, length):
    """Of a causal window that keeps this share of the pairs: 2 w / T - (w / T)^2 = share."""
    return max(1, round(length * (1 - math.sqrt(max(0.0, 1 - share)))))


def tiles_of(share, length, beside=2):
    """How many tiles each row of tiles should choose to keep this share of the causal ones; `beside` those that it has anyway."""
    rows = (length + TILE - 1) // TILE
    wanted = share * rows * (rows + 1) / 2
    return next((count for count in range(1, rows) if sum(min(count + beside, row + 1) for row in range(rows)) >= wanted), rows)


def _heads(number, q):
    return torch.full((q.shape[1],), number, dtype=torch.int64)


def _tiles(share, q, k):
    return {"tiles": _heads(tiles_of(share, k.shape[2]), q)}


def _columns_and_diagonals(share, q, k):
    """MInference's estimate (Jiang et al. 2024): columns and diagonals with most of the mass of the last 64 queries, half of the share for
    each."""
    length, last = k.shape[2], min(TILE, q.shape[2])
    i = torch.arange(length - last, length)[:, None]
    j = torch.arange(length)
    scores = (q[:, :, -last:] @ k.transpose(-1, -2)) / math.sqrt(q.shape[3])
    mass = scores.masked_fill(j > i, -math.inf).softmax(-1).mean(0)  # [H, last, S]
    heads = q.shape[1]
    distance = (i - j).clamp_min(0).expand(heads, -1, -1)
    by_distance = torch.zeros(heads, length).scatter_add_(1, distance.flatten(1), mass.flatten(1))
    # A column at j keeps T - j pairs, a diagonal at d as many: half of the pairs of the share for each.
    budget, kept = share * length * (length + 1) / 4, []
    for weight in (mass.sum(1), by_distance):
        order = weight.argsort(-1, descending=True)
        cost = (length - order).cumsum(-1)
        kept.append(torch.zeros(heads, length, dtype=torch.bool).scatter_(1, order, cost <= budget))
    kept[0][:, :4] = True
    kept[1][:, : min(length, 16)] = True
    return {"vertical": kept[0], "slash": kept[1]}


DIALS = {
    "causal": lambda share, q, k: {},
    "sliding_window": lambda share, q, k: {"window": torch.tensor(window_of(share, k.shape[2]))},
    "a_shape": lambda share, q, k: {"window": torch.tensor(window_of(share, k.shape[2])), "first": torch.tensor(4)},
    "adaptive_span": lambda share, q, k: {"span": torch.full((q.shape[1],), float(window_of(share, k.shape[2])))},
    "block_sparse": _tiles,
    "dhsa": _tiles,
    "hip": lambda share, q, k: {"stretches": _heads((k.shape[2] + 511) // 512, q), **_tiles(share, q, k)},
    "flex_prefill": lambda share, q, k: {"share": torch.full((q.shape[1],), float(share))},
    "anchor": lambda share, q, k: {"theta": torch.full((q.shape[1],), 0.7 * float(share) - 0.2)},
    "vertical_slash": _columns_and_diagonals,
    "power": lambda share, q, k: {},
}
FIXED = ("causal", "power")  # without a dial
