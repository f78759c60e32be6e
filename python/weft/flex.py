"""FlexAttention's functions on Weft's kernels: `from weft.flex import flex_attention, create_block_mask`.

`score_mod` and `mask_mod` are traced into a variant of Weft's language, which is compiled, forward and backward, for the
device of the tensors. On CPUs gradients work too; no mask is built; new lengths are not compiled anew.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import Callable, Literal, overload

import torch
from torch.nn.attention import flex_attention as _flex
from torch.nn.attention.flex_attention import AuxOutput, AuxRequest, and_masks, noop_mask, or_masks

from . import _compiled, _functional, _library  # noqa: F401
from ._expressions import number
from ._memo import remembered
from ._variant import call as call_operator

__all__ = ["flex_attention", "create_block_mask", "create_mask", "BlockMask", "and_masks", "or_masks", "noop_mask", "AuxRequest", "AuxOutput", "variant_of"]

create_mask = _flex.create_mask
if hasattr(_flex, "FlexKernelOptions"):  # of newer torch
    FlexKernelOptions = _flex.FlexKernelOptions
    __all__.append("FlexKernelOptions")


class BlockMask(_flex.BlockMask):
    """FlexAttention's BlockMask: given by its blocks, as PyTorch's own; what `create_block_mask` makes finds its blocks when somebody
    asks for them, as Weft's kernels need the function alone."""

    # The function, B, H, the device and further arguments of one that is given by its function.
    _given: tuple | None = None
    # Its blocks, as they were found: tensors and their versions.
    _found: tuple | None = None
    # Whether blocks were given since.
    _reset: bool = False

    def __init__(self, *given, **named):
        """torch's arguments, blocks; or those of create_block_mask, a function first."""
        of_function = callable(given[0]) if given else "Q_LEN" in named
        (self._by_function if of_function else self._by_blocks)(*given, **named)

    def _by_blocks(self, seq_lengths=None, kv_num_blocks=None, kv_indices=None, full_kv_num_blocks=None, full_kv_indices=None,
                   q_num_blocks=None, q_indices=None, full_q_num_blocks=None, full_q_indices=None, BLOCK_SIZE=128, mask_mod=noop_mask, **more):
        """Without `seq_lengths` they are those of whole blocks; what is not given of the blocks of queries is not there."""
        if kv_num_blocks is None or kv_indices is None:
            raise TypeError("expected kv_num_blocks and kv_indices; of a function alone create_block_mask(mask_mod, B, H, Q_LEN, KV_LEN) makes a BlockMask")
        size = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else tuple(BLOCK_SIZE)
        if seq_lengths is None:
            seq_lengths = tuple(count * own for count, own in zip(kv_indices.shape[-2:], size))
        super().__init__(seq_lengths, kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices, q_num_blocks, q_indices, full_q_num_blocks,
                         full_q_indices, size, noop_mask if mask_mod is None else mask_mod, **more)

    def _by_function(self, mask_mod: Callable, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device=None, BLOCK_SIZE=128, **more):
        self.mask_mod = mask_mod
        self.seq_lengths = (Q_LEN, KV_LEN)
        self.BLOCK_SIZE = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else tuple(BLOCK_SIZE)
        self._given = (mask_mod, B, H, device, more)

    def __getattr__(self, name: str):
        if name.startswith("_") or self._given is None:
            raise AttributeError(name)
        function, B, H, device, more = self._given
        if device is None:  # torch would take a GPU that its build knows, whether there is one or not
            device = "cuda" if torch.cuda.is_available() else "cpu"
        blocks = vars(_flex.create_block_mask(function, B, H, *self.seq_lengths, device, self.BLOCK_SIZE, **more))
        for key, value in blocks.items():
            self.__dict__.setdefault(key, value)
        self._found = tuple((own, _version(own)) for own in blocks.values() if isinstance(own, torch.Tensor))
        if name not in self.__dict__:
            raise AttributeError(name)
        return self.__dict__[name]

    def __setattr__(self, name: str, value):
        super().__setattr__(name, value)
        if name in _BLOCKS and self._given is not None:
            self._reset = True

    @property
    def shape(self) -> tuple[int, ...]:
        if self._given is None:
            return (*self.kv_indices.shape[:-2], *self.seq_lengths)
        _, B, H, *_ = self._given
        return (B or 1, H or 1, *self.seq_lengths)

    def _adjust(self, new_q_len: int, new_kv_len: int) -> "BlockMask":
        if not _is_its_function(self):
            return super()._adjust(new_q_len, new_kv_len)
        _, B, H, device, more = self._given
        return BlockMask(self.mask_mod, B, H, new_q_len, new_kv_len, device, self.BLOCK_SIZE, **more)

    def to(self, device):
        if not _is_its_function(self):
            own = BlockMask.__new__(BlockMask)
            vars(own).update(vars(super().to(device)))
            return own
        _, B, H, _, more = self._given
        return BlockMask(self.mask_mod, B, H, *self.seq_lengths, device, self.BLOCK_SIZE, **more)


_BLOCKS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")


def _is_its_function(mask: _flex.BlockMask) -> bool:
    """One whose blocks say no more than its function: found of it, and as they were."""
    if not isinstance(mask, BlockMask) or mask._given is None or mask._reset or mask.mask_mod is not mask._given[0]:
        return False
    # A graph does not look at versions: there a mask whose blocks were looked at is what they say.
    return mask._found is None or not torch.compiler.is_dynamo_compiling() and all(_version(own) == version for own, version in mask._found)


def _version(tensor: torch.Tensor) -> int | None:
    """How often it was changed in place; None where that cannot be said."""
    return None if torch.compiler.is_dynamo_compiling() or tensor.is_inference() else tensor._version


def create_block_mask(mask_mod: Callable, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device=None, BLOCK_SIZE=128, _compile=False, **more) -> BlockMask:
    """As torch.nn.attention.flex_attention.create_block_mask, at no cost: blocks are found when they are asked for."""
    if not (mask_mod is None or callable(mask_mod)):
        raise TypeError(f"expected mask_mod(b, h, q_idx, kv_idx), a function, got {type(mask_mod).__name__}")
    if not torch.compiler.is_dynamo_compiling() and _positional(mask_mod) not in (4, None):
        raise ValueError(f"expected mask_mod(b, h, q_idx, kv_idx), got a function of {_positional(mask_mod)} arguments")
    if more.keys() - _MORE:
        raise TypeError(f"create_block_mask() got an unexpected keyword argument '{min(more.keys() - _MORE)}'; expected {', '.join(sorted(_MORE))}")
    return BlockMask(noop_mask if mask_mod is None else mask_mod, B, H, Q_LEN, KV_LEN, device, BLOCK_SIZE, **more)


# Of torch's create_block_mask, beside those named here.
_MORE = inspect.signature(_flex.create_block_mask).parameters.keys() - {"mask_mod", "B", "H", "Q_LEN", "KV_LEN", "device", "BLOCK_SIZE", "_compile"}


def _positional(function: Callable) -> int | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(own.kind is own.VAR_POSITIONAL for own in parameters):
        return None
    return sum(own.default is own.empty and own.kind in (own.POSITIONAL_ONLY, own.POSITIONAL_OR_KEYWORD) for own in parameters)


def _block_map(counts: torch.Tensor, indices: torch.Tensor, columns: int) -> torch.Tensor:
    """bool [B, H, rows, columns] of ordered lists of blocks, which may be shorter than all columns; without B and H of size 1, which
    stand for all batch entries or heads."""
    listed = torch.arange(indices.shape[-1], device=indices.device) < counts[..., None]
    columns = max(columns, indices.shape[-1])
    # What is behind the count goes to a column of its own.
    places = torch.where(listed, indices.long(), columns)
    blocks = torch.zeros(*indices.shape[:-1], columns + 1, dtype=torch.bool, device=indices.device).scatter_(-1, places, True)[..., :columns]
    return blocks[tuple(slice(None) if size > 1 else 0 for size in blocks.shape[:2])]


def _kept(mask: _flex.BlockMask) -> Callable | None:
    """The condition under which a BlockMask keeps a pair, as a function; None for all pairs."""
    inside = None if mask.mask_mod in (None, noop_mask) else mask.mask_mod
    if _is_its_function(mask) or min(mask.BLOCK_SIZE) >= 1 << 30:  # one block holds all: what stands for no mask
        return inside
    size, apart = mask.BLOCK_SIZE, mask.kv_indices.shape[:2]
    columns = -(-mask.seq_lengths[1] // size[1])
    partial_blocks = _block_map(mask.kv_num_blocks, mask.kv_indices, columns)
    full_blocks = None if mask.full_kv_num_blocks is None else _block_map(mask.full_kv_num_blocks, mask.full_kv_indices, columns)

    def among(blocks, b, h, i, j):
        return blocks[(*(own for own, count in zip((b, h), apart) if count > 1), i // size[0], j // size[1])]

    def kept(b, h, i, j):
        own = among(partial_blocks, b, h, i, j)
        if inside is not None:
            own = torch.logical_and(own, inside(b, h, i, j))
        return own if full_blocks is None else among(full_blocks, b, h, i, j) | own

    return kept


def _attend_now(query, key, value, score_mod, block_mask, scale, lse: bool, sink=None, dropout=0.0, sharp=False):
    if query.shape[2] == 1 and 0 < key.shape[1] < query.shape[1] and sink is None and not dropout and not _functional.active():
        source, names, more = _traced(query, key, value, score_mod, block_mask, scale, None, 0.0, sharp, one_query=True)
        if _is_of_any_head(source):
            # The heads that share keys are the rows of one tile: each key is looked at once for all of them.
            rows = query.squeeze(2).unflatten(1, (key.shape[1], -1))
            out = call_operator(source, names, [rows, key, value, *more], lse)
            return tuple(own.flatten(1, 2).unsqueeze(2) for own in out) if lse else out.flatten(1, 2).unsqueeze(2)
    source, names, more = _traced(query, key, value, score_mod, block_mask, scale, sink, dropout, sharp)
    return call_operator(source, names, [query, key, value, *more], lse)


@functools.lru_cache(maxsize=512)
def _is_of_any_head(source: str) -> bool:
    """A text that says the same of all heads, q's aside, and nothing of queries."""
    once = all(len(re.findall(rf"\b{dim}\b", source)) == 1 for dim in "HT")
    return once and not re.search(r"\bh\b", source)


def _max_scores(lse, query, key, value, score_mod, block_mask, scale):
    """The greatest logit of each row, [B, Hq, L]; without gradients, as PyTorch's. One more forward pass."""
    with torch.no_grad():
        sharp = _attend(query, key, value, score_mod, block_mask, scale, True, None, 0.0, True)[1] / _compiled.SHARP
        # So large a number is the log-sum-exp too; the sharpened ones leave the range of float32.
        return torch.where(lse.abs() > 2.0**60, lse.detach(), sharp)


def _attend_seen(query, key, value, score_mod, block_mask, scale, lse: bool, sink=None, dropout=0.0, sharp=False):
    """As `_attend_now`, where Dynamo looks on."""
    functions = [("score", score_mod)]
    kept = _kept(block_mask) if block_mask is not None else None
    if kept is not None:
        functions.append(("where", kept))
    if sink is not None:
        functions.append(("sink", lambda b, h: sink[h]))
    return _compiled.attention(query, key, value, functions, scale, "flex", (), "lse" if lse else "o", sharp, dropout)


def _attend(query, key, value, *more):
    if key.shape[0] != query.shape[0]:  # one batch entry for all
        key, value = key.expand(query.shape[0], -1, -1, -1), value.expand(query.shape[0], -1, -1, -1)
    return _compiled.either(_attend_seen, _attend_now, query, key, value, *more)


def _traced(query, key, value, score_mod, block_mask, scale, sink=None, dropout=0.0, sharp=False, one_query=False) -> tuple[str, list[str], list[torch.Tensor]]:
    """The text of a call's variant, and its inputs. `sink`: an extra logit a head, [H]. `sharp`: logits are multiplied by SHARP.
    `one_query`: q_idx is 0; no text where it has to be a row's."""
    scale = None if scale is None else float(scale)
    sizes = {"B": query.shape[0], "H": query.shape[1], "G": key.shape[1], "T": query.shape[2], "S": key.shape[2]}

    def trace():
        t = _compiled.tracer(sizes, query)
        if one_query:
            t.query = number(0)
            try:
                return t, stated(t)
            except NotImplementedError:
                return t, ""
        return t, stated(t)

    def stated(t):
        statements = t.score(score_mod, scale)
        if sharp:
            statements = _compiled.sharpened(statements)
        kept = _kept(block_mask) if block_mask is not None else None
        if kept is not None:
            statements += t.statements("where", t.trace(kept, *t.pair()))
        if sink is not None:
            statements.append(("sink", t._getitem(sink, (t.index(t.h),)).node))
        return t.text("flex", statements, _compiled.dropped(dropout))

    # The blocks of masks that are more than their function are tensors made anew.
    mask = block_mask.mask_mod if _is_its_function(block_mask) else block_mask
    text, inputs = remembered((score_mod, mask, sink), (scale, dropout, sharp, one_query, sizes["H"], sizes["G"]), sizes, trace)
    return text, ["q", "k", "v", *inputs], list(inputs.values())


def variant_of(query, key, value, score_mod=None, block_mask=None, scale=None) -> str:
    """The variant of Weft's language that `flex_attention` makes of its functions, as text."""
    return _traced(query, key, value, score_mod, block_mask, scale)[0]


def _check(query, key, value, block_mask, enable_gqa):
    for name, own in (("query", query), ("key", key), ("value", value)):
        if own.is_nested:
            raise NotImplementedError(f"{name} is a nested tensor: give padded ones and a mask, or documents")
        if own.dim() != 4:
            raise ValueError(f"expected {name} [B, H, length, D], got shape {tuple(own.shape)}")
    (Hq, Hkv), (Bq, Bkv) = ((query.shape[dim], key.shape[dim]) for dim in (1, 0))
    if Hq != Hkv and not enable_gqa:
        raise ValueError(f"Expect query and key/value to have the same number of heads but got Hq={Hq} and Hkv={Hkv}. Try setting enable_gqa=True for GQA.")
    if Hkv == 0 or Hq % Hkv:
        raise ValueError(f"Expect number of query heads to be a multiple of kv heads for GQA but got Hq={Hq} and Hkv={Hkv}.")
    if Bq != Bkv and Bkv != 1:
        raise ValueError(f"Expect query and key/value to have the same batch size, but got Bq={Bq} and Bkv={Bkv}.")
    if query.shape[3] != key.shape[3]:
        raise ValueError(f"Expect query and key/value to have the same embedding dimension but got E={query.shape[3]} and E={key.shape[3]}.")
    if block_mask is None:
        return
    if not isinstance(block_mask, _flex.BlockMask):
        raise TypeError(f"expected block_mask to be a BlockMask, as create_block_mask(mask_mod, B, H, Q_LEN, KV_LEN) makes one, got {type(block_mask).__name__}")
    if getattr(block_mask.mask_mod, "__name__", "") == "_sliced_mask_mod_error":
        raise RuntimeError("Cannot use mask_mod from a sliced BlockMask")
    if min(block_mask.BLOCK_SIZE) < 1 << 30 and tuple(block_mask.seq_lengths) != (query.shape[2], key.shape[2]):
        raise ValueError(
            f"block_mask was created for block_mask.shape={block_mask.shape} but got q_len={query.shape[2]} and kv_len={key.shape[2]}: "
            "create another, or call block_mask._adjust(q_len, kv_len), which crops it to the upper left corner"
        )
    masked = block_mask.shape[:-2]
    if len(masked) != 2:
        raise ValueError(f"expected blocks for each batch entry and head, kv_indices [B, H, rows, columns], got block_mask.shape={block_mask.shape}")
    for dim, own, have in zip("BH", masked, (Bq, Hq)):
        if own not in (1, have):
            raise ValueError(f"block_mask was created for {dim}={own} but got {dim}={have}")


@overload
def flex_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, score_mod: Callable | None = None, block_mask: _flex.BlockMask | None = None, scale: float | None = None,
    enable_gqa: bool = False, return_lse: Literal[False] = False, kernel_options: dict | None = None, *, return_aux: None = None,
) -> torch.Tensor: ...
@overload
def flex_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, score_mod: Callable | None = None, block_mask: _flex.BlockMask | None = None, scale: float | None = None,
    enable_gqa: bool = False, *, return_lse: Literal[True], kernel_options: dict | None = None, return_aux: None = None,
) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def flex_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, score_mod: Callable | None = None, block_mask: _flex.BlockMask | None = None, scale: float | None = None,
    enable_gqa: bool = False, return_lse: Literal[False] = False, kernel_options: dict | None = None, *, return_aux: AuxRequest,
) -> tuple[torch.Tensor, AuxOutput]: ...
def flex_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    score_mod: Callable | None = None,
    block_mask: _flex.BlockMask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: dict | None = None,
    *,
    return_aux: "AuxRequest | None" = None,
):
    """torch.nn.attention.flex_attention.flex_attention, on Weft's kernels.

    query: [B, Hq, L, E], key: [B or 1, Hkv, S, E], value: [B or 1, Hkv, S, Ev], of float32, bfloat16, float16 or, on CPUs, float64, E and Ev up to 256.
    score_mod(score, b, h, q_idx, kv_idx) gives the logit of a pair, in float32; block_mask says which pairs there are. Tensors that they
    capture get gradients. `kernel_options` has no meaning here: `weft tune` finds tiles.

    Gives [B, Hq, L, Ev]; with return_lse or return_aux=AuxRequest(lse=True) the natural log-sum-exp [B, Hq, L] too, with
    AuxRequest(max_scores=True) the greatest logit [B, Hq, L], which takes another forward pass and has no gradient.
    Raises NotImplementedError for what the language has no words for, and names it.
    """
    _check(query, key, value, block_mask, enable_gqa)
    if return_lse and return_aux is not None:
        raise ValueError("Cannot specify both return_lse and return_aux: return_aux=AuxRequest(lse=True) is enough.")
    if return_aux is None:
        return _attend(query, key, value, score_mod, block_mask, scale, return_lse)
    if not (return_aux.lse or return_aux.max_scores):
        return _attend(query, key, value, score_mod, block_mask, scale, False), AuxOutput()
    out, lse = _attend(query, key, value, score_mod, block_mask, scale, True)
    peaks = _max_scores(lse, query, key, value, score_mod, block_mask, scale) if return_aux.max_scores else None
    return out, AuxOutput(lse=lse if return_aux.lse else None, max_scores=peaks)
