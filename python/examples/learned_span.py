"""Heads that learn how far to look: adaptive spans in a model of your own, with a price on the span (Sukhbaatar et al., 2019)."""

import torch
import weft


class Attention(torch.nn.Module):
    def __init__(self, width: int, heads: int, reach: float):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.span = torch.nn.Parameter(torch.full((heads,), reach))

    def forward(self, x):  # [B, T, width]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(weft.attention("adaptive_span", q, k, v, span=self.span).transpose(1, 2).flatten(2))


def main(steps: int = 60):
    torch.manual_seed(0)
    tokens = torch.nn.Embedding(16, 64)
    layer, head = Attention(64, 4, 128.0), torch.nn.Linear(64, 16)
    weights = [own for module in (tokens, layer.qkv, layer.out, head) for own in module.parameters()]
    optimizer = torch.optim.Adam([{"params": weights, "lr": 1e-2}, {"params": [layer.span], "lr": 4.0}])
    for step in range(steps):
        x = torch.randint(0, 16, (4, 256))
        want = x.roll(2, 1)  # the token before the last: no head needs to look far
        loss = torch.nn.functional.cross_entropy(head(layer(tokens(x)))[:, 2:].flatten(0, 1), want[:, 2:].flatten())
        price = 1e-3 * layer.span.mean()
        optimizer.zero_grad()
        (loss + price).backward()
        optimizer.step()
        with torch.no_grad():
            layer.span.clamp_(0, x.shape[1])
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step:3}: loss {loss.item():.3f}, spans {[round(own) for own in layer.span.tolist()]}")
    return layer.span.detach()


if __name__ == "__main__":
    spans = main()
    assert spans.max() < 100, "the spans did not shrink"
