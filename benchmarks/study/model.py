"""The study's model: a small transformer whose attention is any variant of the library."""

import torch
import torch.nn.functional as F
import weft
from dials import DIALS
from torch import nn

HEADS_OF = 32  # features of a head


def rotated(x):
    """Rotary positions of [B, H, T, D] in half of the features; the other half matches contents wherever they stand."""
    x, still = x.split(x.shape[-1] // 2, -1)
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half) / half)
    angle = torch.arange(x.shape[2])[:, None] * speed
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, a * sin + b * cos, still), -1)


class Attention(nn.Module):
    def __init__(self, width, model):
        super().__init__()
        self.model = [model]  # no submodule
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        # A short convolution (Arora et al. 2023; Allen-Zhu 2025): what stood just before a token is known without attention, and what is
        # far from it by attention alone.
        self.before = nn.Conv1d(3 * width, 3 * width, 4, groups=3 * width, bias=False)

    def forward(self, x):
        model = self.model[0]
        qkv = self.before(F.pad(self.qkv(x).transpose(1, 2), (3, 0))).transpose(1, 2)
        q, k, v = qkv.unflatten(-1, (3, -1, HEADS_OF)).permute(2, 0, 3, 1, 4)
        q, k = rotated(q), rotated(k)
        inputs = DIALS[model.variant](model.share, q.detach(), k.detach())
        if model.told is not None:
            model.told.append(weft.variant(model.variant).explain(q, k, v, **inputs))
        return self.out(weft.attention(model.variant, q, k, v, **inputs).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width, model):
        super().__init__()
        self.attention = Attention(width, model)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.down(F.relu(self.up(self.norms[1](x))).square())


class Model(nn.Module):
    """Logits [B, T, vocabulary] of tokens [B, T]. `variant` and `share` say with which attention, and may be changed between calls; where
    `told` is a list, each layer adds what it keeps."""

    def __init__(self, vocabulary, width=64, layers=2):
        super().__init__()
        self.variant, self.share, self.told = "causal", 1.0, None
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, self) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        for name, own in self.named_parameters():
            if own.dim() == 2:
                nn.init.normal_(own, std=0.02 if name.endswith(("out.weight", "down.weight")) else own.shape[1] ** -0.5 if "embedding" not in name else 0.02)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)
