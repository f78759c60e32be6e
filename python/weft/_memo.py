"""Texts of functions that were traced before.

Tracing takes milliseconds; a model calls the same functions again and again, with other tensors or as closures made anew. What a
function can look at is written down as a key: its code, the numbers, functions and containers that it captures or finds in its module,
and of tensors their types. Where that does not say all (values of tensors, objects with code of their own) nothing is kept.
"""

from __future__ import annotations

import functools
import types
from collections import OrderedDict
from typing import Any, Callable

import torch

# Names by which a function can look at what its code does not name.
DYNAMIC = frozenset("getattr vars eval exec globals locals dir __dict__ __getattribute__ __import__".split())
LIBRARIES = frozenset(("torch", "math", "operator", "functools", "builtins", "cmath"))
MOST = 512  # texts kept


def _is_library(value) -> bool:
    """Of what torch and Python's own libraries hold nothing changes; but a function may be a closure."""
    if isinstance(value, types.ModuleType):
        return value.__name__.split(".")[0] in LIBRARIES
    if isinstance(value, types.FunctionType):
        return value.__closure__ is None and (value.__module__ or "").split(".")[0] in LIBRARIES
    return False


class Opaque(Exception):
    """A key would not say all."""


class Key:
    """`parts`: what is written down; `tensors`: what stands for the tensors of a call, each once."""

    def __init__(self):
        self.parts: list[Any] = []
        self.tensors: list[torch.Tensor] = []
        self._seen: dict[Any, int] = {}
        self._keep: list[Any] = []  # ids are those of living objects

    def add(self, value: Any, names: frozenset = frozenset()):
        """`names`: those of the code that holds `value`: which attributes it may look at."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.device, types.EllipsisType)):
            # True is 1, and 0.0 is -0.0.
            self.parts.append((type(value), repr(value)))
        elif isinstance(value, torch.Tensor):
            if type(value) not in (torch.Tensor, torch.nn.Parameter):
                raise Opaque
            if self._first(value):
                self.tensors.append(value)
                self.parts.append(("tensor", value.dtype, value.dim()))
        elif isinstance(value, (type, types.BuiltinFunctionType, types.MethodDescriptorType)) or _is_library(value):
            self.parts.append(value)
        elif isinstance(value, types.FunctionType):
            if self._first(value):
                self._function(value)
        elif self._first(value, names):
            self._other(value, names)

    def _first(self, value, names=None) -> bool:
        """False where it was added before: then which one it is says all."""
        fresh = (id(value), names) not in self._seen
        self.parts.append(self._seen.setdefault((id(value), names), len(self._seen)))
        self._keep.append(value)
        return fresh

    def _other(self, value, names):
        if isinstance(value, types.ModuleType):
            self.parts.append(value)
            for name in sorted(names & vars(value).keys()):
                self.parts.append(name)
                self.add(vars(value)[name], names)
        elif isinstance(value, types.MethodType):
            self.parts.append("method")
            self.add(value.__func__)
            self.add(value.__self__, names_in(value.__func__.__code__))
        elif isinstance(value, functools.partial):
            self.parts.append("partial")
            for own in (value.func, value.args, value.keywords):
                self.add(own)
        elif type(value) in (tuple, list, dict):
            self.parts.append((type(value), len(value)))
            for own in value.items() if isinstance(value, dict) else value:
                self.add(own, names)
        else:
            self._object(value, names)

    def _function(self, function: types.FunctionType):
        code = function.__code__
        names = names_in(code)
        if names & DYNAMIC:
            raise Opaque
        self.parts.append(code)
        self.add(function.__defaults__)
        self.add(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:  # not assigned yet
                raise Opaque from None
            self.add(held, names)
        for name in sorted(names):
            if name in function.__globals__:
                self.parts.append(name)
                self.add(function.__globals__[name], names)

    def _object(self, value: Any, names: frozenset):
        """An object with attributes: those that the code can name, in its methods too."""
        own = getattr(value, "__dict__", None)
        if own is None or names & DYNAMIC or hasattr(type(value), "__getattr__") and not isinstance(value, torch.nn.Module):
            raise Opaque
        held = dict(own)
        if isinstance(value, torch.nn.Module):
            for kind in ("_parameters", "_buffers", "_modules"):
                held |= own[kind]
        self.parts.append(type(value))
        pending, done = set(names), set()
        while pending:
            name = min(pending)
            pending.remove(name)
            done.add(name)
            if name in held:
                self.parts.append(name)
                self.add(held[name], names)
                continue
            found = next((vars(kind)[name] for kind in type(value).__mro__ if name in vars(kind)), None)
            if found is None or isinstance(found, (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)):
                continue
            if isinstance(found, property):
                raise Opaque
            self.parts.append(name)
            self.add(found, names)
            if isinstance(found, types.FunctionType):
                pending |= names_in(found.__code__) - done


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> frozenset:
    """Globals and attributes that a function and those inside it name."""
    inner = [names_in(own) for own in code.co_consts if isinstance(own, types.CodeType)]
    return frozenset(code.co_names).union(*inner)


_texts: OrderedDict[tuple, tuple[str, list]] = OrderedDict()


def remembered(functions: tuple, fixed: tuple, sizes: dict[str, int], trace: Callable):
    """The text of a call, and its inputs by name. `functions`: all that the text comes from, tensors among it; `fixed`: hashable facts;
    `trace` gives a tracer and the text where nothing is known."""
    key = Key()
    try:
        for own in functions:
            key.add(own)
        whole = (tuple(key.parts), fixed, torch.is_grad_enabled(), tuple(size > 1 << 24 for size in sizes.values()))
        hash(whole)
    except (Opaque, TypeError, RecursionError):
        whole = None
    found = _texts.get(whole) if whole is not None else None
    if found is not None:
        text, recipes = found
        return text, {own.name: own.cut(key.tensors[at], sizes) for own, at in recipes}
    tracer, text = trace()
    if whole is not None and not tracer.opaque:
        place = {id(own): at for at, own in enumerate(key.tensors)}
        if all(id(own.captured) in place for own in tracer.inputs.values()):
            _texts[whole] = text, [(own.recipe(), place[id(own.captured)]) for own in tracer.inputs.values()]
            if len(_texts) > MOST:
                _texts.popitem(last=False)
    return text, {own.name: own.tensor for own in tracer.inputs.values()}
