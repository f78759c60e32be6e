"""Dims with a meaning of their own, as compiler/dims.h has them."""

import re


def is_head_dim(dim: str) -> bool:
    """Heads, or groups of them: H, G, and G with a number behind it."""
    return re.fullmatch(r"H|G\d*", dim) is not None
