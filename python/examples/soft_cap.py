"""Gemma's soft-capped logits as torch expressions, by FlexAttention's functions and by Weft's own words: one kernel, three ways to say it."""

import torch
import weft
from weft.flex import create_block_mask, flex_attention


def main():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 8, 300, 64, requires_grad=True) for _ in range(3))
    cap = torch.full((8,), 20.0, requires_grad=True)  # one a head, learned

    in_torch = weft.from_python(score=lambda s, b, h, i, j: cap[h] * torch.tanh(s / cap[h]), where=lambda b, h, i, j: (i >= j) & (i - j < 100))
    text = """
        attention capped(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], cap: [H])
        {
          where i >= j and i - j < 100
          score cap[h] * tanh(dot(q[i], k[j]) / sqrt(D) / cap[h])
        }"""
    mask = create_block_mask(lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx - kv_idx < 100), None, None, 300, 300)
    results = {
        "torch expressions": in_torch(q, k, v),
        "a text": weft.attention(text, q, k, v, cap=cap),
        "flex_attention": flex_attention(q, k, v, lambda s, b, h, i, j: cap[h] * torch.tanh(s / cap[h]), mask),
    }
    print(in_torch)
    for name, out in results.items():
        (gradient,) = torch.autograd.grad(out.square().sum(), cap)
        print(f"{name:18} output {out.norm().item():.4f}, gradient of the caps {gradient.norm().item():.5f}")
    return list(results.values())


if __name__ == "__main__":
    first, *others = main()
    assert all((first - own).abs().max() < 1e-5 for own in others)
