"""Nested tensors (jagged): sequences of many lengths in one call, without padding and without copies.

Their values are one row of tokens, of one batch entry, and the variant gets a mask more: a query sees the keys of its own sequence.
Tiles of pairs from different sequences are skipped like any that a mask leaves empty. Where the text looks at places other than by their
distance, they are counted from the start of the sequence.
"""

from __future__ import annotations

import functools
import json
import re

import torch

from ._dims import is_head_dim

_ops = torch.ops.weft

_TOKEN = re.compile(r"//[^\n]*|\s+|[A-Za-z_]\w*|\d*\.\d+(?:[eE][+-]?\d+)?|\d+\.?(?:[eE][+-]?\d+)?|[<>=!]=|<<|>>|.", re.DOTALL)
# Before i - j and i >= j, and not behind them: what makes them no expression of their own.
_BEFORE = frozenset("( , = + < <= > >= == != and or not if then else where score weight gate".split())
_BEHIND = frozenset("* / mod div % << >> & | ^".split())
_COMPARISONS = frozenset("< <= > >= == !=".split())


def _tokens(text: str) -> list[str]:
    return [own for own in _TOKEN.findall(text) if not own.isspace() and not own.startswith("//")]


def _own_place(tokens: list[str], at: int, inputs: dict) -> bool:
    """True for i or j that is a whole index of a dim T or S: it reads the token's own element."""
    if tokens[at - 1] not in ("[", ",") or tokens[at + 1] not in ("]", ","):
        return False
    depth, begin = 0, at
    while begin > 0:  # the bracket that it stands in
        begin -= 1
        if tokens[begin] in ")]":
            depth += 1
        elif tokens[begin] in "([":
            if depth == 0:
                break
            depth -= 1
    if tokens[begin] != "[" or tokens[begin - 1] not in inputs:
        return False
    indices, depth, end = [[]], 0, begin + 1
    which = 0
    while depth or tokens[end] != "]":
        if end == at:
            which = len(indices) - 1
        depth += tokens[end] in "(["
        depth -= tokens[end] in ")]"
        if tokens[end] == "," and depth == 0:
            indices.append([])
        else:
            indices[-1].append(tokens[end])
        end += 1
    leading = 0
    while indices[leading:] and indices[leading] in (["b"], ["h"]):
        leading += 1
    dims = [own for own in inputs[tokens[begin - 1]]["dims"] if own != "B" and not is_head_dim(own)]
    place = which - leading
    return 0 <= place < len(dims) and dims[place] == {"i": "T", "j": "S"}[tokens[at]]


def _distances_alone(tokens: list[str], places: list[int]) -> bool:
    """True where each i and j outside of reads stands in i - j or in a comparison of both."""
    left = set(places)
    for at in places:
        if at in left and at + 2 in left and {tokens[at], tokens[at + 2]} == {"i", "j"} and tokens[at + 1] in _COMPARISONS | {"-"}:
            behind = tokens[at + 3]
            if tokens[at - 1] in _BEFORE and behind not in _BEHIND and not (tokens[at + 1] in _COMPARISONS and behind in ("+", "-")):
                left -= {at, at + 2}
    return not left


@functools.lru_cache(maxsize=256)
def packed(source: str, same_sequences: bool) -> tuple[str, bool]:
    """The text for values in one row, and whether it counts places from the start of their sequence. `source` is a text; `same_sequences`:
    those of the queries are those of the keys."""
    described = json.loads(_ops.describe(source))
    inputs = {own["name"]: own for own in described["inputs"]}
    head, body = described["source"].split("{", 1)
    tokens = _tokens(body[: body.rindex("}")]) + ["}"] * 4
    for word in ("select", "also", "keys"):
        if word in tokens:
            raise NotImplementedError(f"nested tensors and '{word}' in variant '{described['name']}': what it counts has no sequences")
    for dim in ("B", "T", "S", "b"):
        if dim in tokens:
            raise NotImplementedError(f"nested tensors and '{dim}' in variant '{described['name']}': it would be that of all sequences together")
    places = [at for at, own in enumerate(tokens) if own in ("i", "j") and not _own_place(tokens, at, inputs)]
    local = bool(places) and not (same_sequences and _distances_alone(tokens, places))
    if local:
        for at in places:
            tokens[at] = f"place_{tokens[at]}_"
    parameters = ["sequence_of_query_: int [T]", "sequence_of_key_: int [S]"]
    lets = []
    if local:
        parameters += ["start_of_query_: int [T]", "start_of_key_: int [S]"]
        lets = ["let place_i_ = i - start_of_query_[i]", "let place_j_ = j - start_of_key_[j]"]
    head = head.rstrip()[:-1].rstrip().rstrip(",") + ", " + ", ".join(parameters) + ")"
    text = "\n  ".join([*lets, "where sequence_of_query_[i] == sequence_of_key_[j]", " ".join(tokens[:-4])])
    return f"{head}\n{{\n  {text}\n}}\n", local


def _values(name: str, own: torch.Tensor, dims: list[str]) -> torch.Tensor:
    """[1, ...]: a nested tensor as one batch entry, or a tensor that all sequences share."""
    if own.is_nested:
        if own.layout != torch.jagged:
            raise NotImplementedError(f"input '{name}' is a nested tensor of strided layout: expected torch.jagged")
        if own.dim() != len(dims) or dims[0] != "B" or dims[own._ragged_idx] not in ("T", "S"):
            raise ValueError(f"expected input '{name}' [{', '.join(dims)}] to be jagged in T or S, got shape {tuple(own.shape)}")
        if own.lengths() is not None:
            raise NotImplementedError(f"input '{name}' is a nested tensor with holes: call contiguous() on it")
        return own.values().unsqueeze(0)
    if set(dims) & {"B", "T", "S"}:
        raise NotImplementedError(f"input '{name}' [{', '.join(dims)}] beside nested tensors: expected a nested tensor, as it has B, T or S")
    return own


def attention(call, source: str, names: list[str], tensors: list[torch.Tensor], lse: bool):
    """`call` of packed values; o, and the log-sum-exp, are nested like the queries."""
    described = json.loads(_ops.describe(source))
    inputs = {own["name"]: own["dims"] for own in described["inputs"]}
    offsets: dict[str, torch.Tensor] = {}
    for name, own in zip(names, tensors):
        if own.is_nested and name in inputs and own.layout == torch.jagged:
            side = inputs[name][own._ragged_idx]
            first = offsets.setdefault(side, own.offsets())
            if first is not own.offsets() and not torch.equal(first, own.offsets()):
                raise ValueError(f"expected the sequences of input '{name}' to be as long as those of the other nested tensors with {side}")
    if set(offsets) != {"T", "S"}:
        raise ValueError("expected nested tensors of queries and of keys")
    same = offsets["T"] is offsets["S"] or torch.equal(offsets["T"], offsets["S"])
    if len(offsets["T"]) != len(offsets["S"]):
        raise ValueError(f"expected as many sequences of keys as of queries, got {len(offsets['S']) - 1} and {len(offsets['T']) - 1}")
    text, local = packed(described["source"], same)
    given = {name: _values(name, own, inputs[name]) if name in inputs else own for name, own in zip(names, tensors)}
    for word, side in (("query", "T"), ("key", "S")):
        count = next(value.shape[inputs[name].index(side)] for name, value in given.items() if name in inputs and side in inputs[name])
        places = torch.arange(count, device=offsets[side].device)
        sequence = torch.searchsorted(offsets[side], places, right=True) - 1
        given[f"sequence_of_{word}_"] = sequence.int()
        if local:
            given[f"start_of_{word}_"] = offsets[side][sequence].int()
    results = call(text, list(given), list(given.values()), lse)
    nested = [torch.nested.nested_tensor_from_jagged(own[0], offsets["T"], jagged_dim=2) for own in (results if lse else (results,))]
    return tuple(nested) if lse else nested[0]
