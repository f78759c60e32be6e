"""Weft's kernels in Hugging Face transformers: `weft.register_transformers()`, then attn_implementation="weft".

Masks are functions of indices that go into the kernels, not tensors; soft caps, sliding windows, sinks, position biases and dropout
are in the kernels too.
"""

from __future__ import annotations

import functools
import inspect
import types

import torch

from . import flex

NAME = "weft"


def _causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def _offset(mask_function, q_offset, kv_offset):
    """Offsets as tensors: the text of a variant is the same for all of them."""
    if all(isinstance(own, int) and own == 0 for own in (q_offset, kv_offset)):
        return mask_function
    q_shift, kv_shift = (torch.as_tensor(own).reshape(()) for own in (q_offset, kv_offset))  # of one element in transformers 5.4
    return lambda b, h, q_idx, kv_idx: mask_function(b, h, q_idx + q_shift, kv_idx + kv_shift)


def _held(value, known: dict):
    """`value` with copies of the tensors that it holds. A mask is read when its layers are called: static caches have advanced their
    counters in place by then. Tensors behind attributes of objects and in globals are not copied."""
    if id(value) in known:
        return known[id(value)]
    own, kind = value, type(value)
    if isinstance(value, torch.Tensor):
        own = value.clone()
    elif kind in (tuple, list):
        own = kind(_held(one, known) for one in value)
    elif kind is dict:
        own = {key: _held(one, known) for key, one in value.items()}
    elif kind is functools.partial:
        own = functools.partial(_held(value.func, known), *_held(value.args, known), **_held(value.keywords, known))
    elif kind is types.FunctionType and (value.__closure__ or value.__defaults__ or value.__kwdefaults__):
        cells = tuple(types.CellType() for _ in value.__closure__ or ())
        own = types.FunctionType(value.__code__, value.__globals__, value.__name__, None, cells)
        known[id(value)] = own  # it may hold itself
        own.__defaults__, own.__kwdefaults__ = _held(value.__defaults__, known), _held(value.__kwdefaults__, known)
        own.__dict__.update(value.__dict__)
        for cell, old in zip(cells, value.__closure__ or ()):
            try:
                cell.cell_contents = _held(old.cell_contents, known)
            except ValueError:  # not assigned yet
                pass
    known[id(value)] = own
    return own


def mask(batch_size: int, q_length: int, kv_length: int, q_offset=0, kv_offset=0, mask_function=None, attention_mask=None, device="cpu", **unused) -> flex.BlockMask:
    """A layer's mask as transformers asks for it (AttentionMaskInterface)."""
    from transformers.masking_utils import and_masks, padding_mask_function, prepare_padding_mask

    own = mask_function or _causal
    if attention_mask is not None and not bool(attention_mask.all()):
        own = and_masks(own, padding_mask_function(prepare_padding_mask(attention_mask, kv_length, kv_offset)))
    return flex.BlockMask(_held(_offset(own, q_offset, kv_offset), {}), batch_size, None, q_length, kv_length, device)


def attention(module, query, key, value, attention_mask=None, scaling=None, dropout=0.0, softcap=None, s_aux=None, position_bias=None, is_causal=None, **unused):
    """A layer's attention as transformers asks for it (AttentionInterface): o [B, T, H, E], and no weights."""
    if unused.get("output_attentions", getattr(getattr(module, "config", None), "output_attentions", False)):
        raise ValueError(f'attn_implementation="{NAME}" never forms attention weights: output_attentions=True needs attn_implementation="eager"')
    block_mask, score_mask = (attention_mask, None) if isinstance(attention_mask, flex._flex.BlockMask) else (None, attention_mask)
    if attention_mask is None and query.shape[2] > 1 and (is_causal if is_causal is not None else getattr(module, "is_causal", True)):
        block_mask = flex.BlockMask(_causal, None, None, query.shape[2], key.shape[2], query.device)
    if score_mask is not None:
        score_mask = score_mask[..., : key.shape[2]].expand(query.shape[0], -1, query.shape[2], -1)
        score_mask = score_mask.squeeze(1) if score_mask.shape[1] == 1 else score_mask

    def score_mod(score, b, h, q_idx, kv_idx):
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        if score_mask is not None:
            own = score_mask[b, q_idx, kv_idx] if score_mask.dim() == 3 else score_mask[b, h, q_idx, kv_idx]
            score = torch.where(own, score, -float("inf")) if score_mask.dtype == torch.bool else score + own
        if position_bias is not None:
            score = score + position_bias[b if position_bias.shape[0] > 1 else 0, h, q_idx, kv_idx]
        return score

    plain = softcap is None and score_mask is None and position_bias is None
    sink = None if s_aux is None else s_aux.float()
    out = flex._attend(query, key, value, None if plain else score_mod, block_mask, scaling, False, sink, dropout if module.training else 0.0)
    return out.transpose(1, 2).contiguous(), None


def register() -> str:
    """Makes attn_implementation="weft" known; gives that name."""
    import transformers

    fits, why = False, None
    try:
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

        fits = {"q_length", "q_offset"} <= inspect.signature(sdpa_mask).parameters.keys()
    except ImportError as error:
        why = error
    if not fits:  # before 5.4 masks were asked for by cache_position
        own = transformers.__version__
        raise ImportError(f"weft works with transformers 5.4 to 5.24, and with newer ones that ask for masks alike; this is {own}") from why
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)
    return NAME
