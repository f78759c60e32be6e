"""Weft: attention variants, compiled forward and backward for the machine they run on.

    import torch, weft

    q, k, v = (torch.randn(1, 8, 2048, 64, requires_grad=True) for _ in range(3))
    span = torch.full((8,), 256.0, requires_grad=True)
    o = weft.attention("adaptive_span", q, k, v, span=span)
    o.sum().backward()                       # q.grad, k.grad, v.grad, span.grad

`weft.library()` names the variants that come with it, `weft.variant(text)` makes one of your own, `weft.from_python` one of
torch expressions, and `weft.flex_attention` takes what FlexAttention takes.
"""

import os as _os

from ._bench import Bench, Timing, bench
from ._variant import Error, Explanation, Input, Mask, PythonVariant, SourceError, Variant, attention, decode, from_python, library, tune, variant
from .flex import BlockMask, and_masks, create_block_mask, flex_attention, noop_mask, or_masks

from . import _flops


def register_transformers() -> str:
    """Makes attn_implementation="weft" known to Hugging Face transformers; gives that name.

    >>> model = AutoModelForCausalLM.from_pretrained(..., attn_implementation=weft.register_transformers())
    """
    from . import transformers

    return transformers.register()


_flops.register()

__version__ = "0.1.0"

#: for CMAKE_PREFIX_PATH, beside torch.utils.cmake_prefix_path: find_package(Weft CONFIG) of an installed wheel
cmake_prefix_path: str = _os.path.dirname(_os.path.abspath(__file__))

__all__ = [
    "Bench", "Timing", "bench", "Error", "Explanation", "Input", "Mask", "PythonVariant", "SourceError", "Variant", "attention", "decode", "from_python", "library",
    "tune", "variant", "BlockMask", "and_masks", "create_block_mask", "flex_attention", "noop_mask", "or_masks", "register_transformers",
    "cmake_prefix_path",
]
