"""Texts of functions that were traced before.

Tracing takes milliseconds; a model calls the same functions again and again, with other tensors or as closures made anew. What a
function can look at is written down as a key: its code, the numbers, functions and containers that it captures or finds in its module,
the attributes that any of the code names, and of tensors their types. Only what is fully understood makes a key: for everything else
(values of tensors, objects with operators of their own, code that looks around) nothing is kept, and the function is traced each time.
"""

from __future__ import annotations

import dis
import functools
import types
from collections import OrderedDict
from typing import Any, Callable

import torch

# Names by which code can look at what it does not name.
DYNAMIC = frozenset(
    "getattr setattr delattr hasattr vars eval exec globals locals dir super attrgetter methodcaller itemgetter import_module __dict__ "
    "__getattribute__ __getattr__ __class__ __import__ __self__ __closure__ __globals__".split()
)
OPCODES = frozenset("IMPORT_NAME IMPORT_FROM MATCH_CLASS STORE_GLOBAL DELETE_GLOBAL".split())
# What Python itself writes into classes, and what does not come into an expression.
PLAIN = frozenset(
    "__init__ __post_init__ __module__ __doc__ __dict__ __weakref__ __qualname__ __annotations__ __repr__ __str__ __eq__ __hash__ "
    "__dataclass_fields__ __dataclass_params__ __match_args__ __firstlineno__ __static_attributes__ __orig_bases__ __parameters__ "
    "__annotate_func__ __annotations_cache__ __replace__".split()
)
LIBRARIES = frozenset(("torch", "weft", "math", "operator", "builtins", "cmath"))
NUMBERS = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, type(None), type(Ellipsis))
MOST = 512  # texts kept


class Opaque(Exception):
    """A key would not say all."""


def _of_library(value) -> bool:
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    return name.split(".")[0] in LIBRARIES


@functools.lru_cache(maxsize=4096)
def _names_in(code: types.CodeType) -> frozenset | None:
    """Globals and attributes that a function and those inside it name; None where it can look at more."""
    names = frozenset(code.co_names)
    if names & DYNAMIC or any(own.opname in OPCODES for own in dis.get_instructions(code)):
        return None
    for own in code.co_consts:
        if isinstance(own, types.CodeType):
            inner = _names_in(own)
            if inner is None:
                return None
            names |= inner
    return names


@functools.lru_cache(maxsize=1024)
def _is_plain(kind: type) -> bool:
    """A class whose objects are their attributes: no operators, no calls, no rules of its own for attributes."""
    for own in kind.__mro__:
        if own in (object, torch.nn.Module, types.SimpleNamespace):
            continue
        if any(name.startswith("__") and name.endswith("__") and name not in PLAIN for name in vars(own)):
            return False
        if type(own) is not type:
            return False
    return True


class Key:
    """`parts`: what is written down; `tensors`: what stands for the tensors of a call, each once."""

    def __init__(self, values: tuple):
        names: frozenset = frozenset(("forward",))
        while True:
            self.parts: list[Any] = []
            self.tensors: list[torch.Tensor] = []
            self.names = self._look = names
            self._seen: dict[int, int] = {}
            self._keep: list[Any] = []  # ids are those of living objects
            self._attributes = False
            for own in values:
                self.add(own)
            # Attributes are looked at by the names of all code, also of what was found behind them.
            if not self._attributes or self.names == names:
                return
            names = self.names

    def add(self, value: Any):
        if type(value) in NUMBERS:
            # True is 1, and 0.0 is -0.0.
            self.parts.append((type(value), repr(value)))
        elif isinstance(value, torch.Tensor):
            if type(value) not in (torch.Tensor, torch.nn.Parameter):
                raise Opaque
            if self._first(value):
                self.tensors.append(value)
                self.parts.append(("tensor", value.dtype, value.dim(), value.device))
        elif isinstance(value, types.BuiltinFunctionType):
            holder = value.__self__
            if not (holder is None or isinstance(holder, (type, types.ModuleType)) and _of_library(holder)):
                raise Opaque
            self.parts.append(value)
        elif isinstance(value, (type, types.MethodDescriptorType)):
            if isinstance(value, type) and not _of_library(value):
                raise Opaque
            self.parts.append(value)
        elif isinstance(value, types.ModuleType) and _of_library(value):
            self.parts.append(value)
        elif self._first(value):
            self._other(value)

    def _first(self, value) -> bool:
        """False where it was added before: then which one it is says all."""
        fresh = id(value) not in self._seen
        self.parts.append(self._seen.setdefault(id(value), len(self._seen)))
        self._keep.append(value)
        return fresh

    def _other(self, value):
        kind = type(value)
        if kind is types.FunctionType:
            self._function(value)
        elif kind is types.MethodType:
            if type(value.__func__) is not types.FunctionType:
                raise Opaque
            self.parts.append("method")
            self.add(value.__func__)
            self.add(value.__self__)
        elif kind is functools.partial:
            self.parts.append("partial")
            for own in (value.func, value.args, value.keywords):
                self.add(own)
        elif kind in (tuple, list, dict):
            self.parts.append((kind, len(value)))
            for own in value.items() if kind is dict else value:
                self.add(own)
        elif kind is types.ModuleType:
            self._attributes = True
            self.parts.append(value)
            for name in sorted(self._look & vars(value).keys()):
                self.parts.append(name)
                self.add(vars(value)[name])
        else:
            self._object(value)

    def _function(self, function: types.FunctionType):
        code = function.__code__
        if _of_library(function) and function.__closure__ is None:
            self.parts.append(function)
            return
        names = _names_in(code)
        if names is None or vars(function):
            raise Opaque
        self.names |= names
        self.parts.append(code)
        self.add(function.__defaults__)
        self.add(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:  # not assigned yet
                raise Opaque from None
            self.add(held)
        for name in sorted(names & function.__globals__.keys()):
            self.parts.append(name)
            self.add(function.__globals__[name])

    def _object(self, value: Any):
        """An object with attributes: those that any code can name, in its methods too."""
        kind = type(value)
        if not _is_plain(kind) or not hasattr(value, "__dict__"):
            raise Opaque
        self._attributes = True
        held = dict(vars(value))
        if isinstance(value, torch.nn.Module):
            if any(held[own] for own in ("_forward_hooks", "_forward_pre_hooks")):
                raise Opaque
            for own in ("_parameters", "_buffers", "_modules"):
                held |= held[own]
        self.parts.append(kind)
        for name in sorted(self._look):
            if name in held:
                self.parts.append(name)
                self.add(held[name])
                continue
            for own in kind.__mro__:
                if own in (object, torch.nn.Module, types.SimpleNamespace) or name not in vars(own):
                    continue
                found = vars(own)[name]
                # Descriptors with code of their own are none of these.
                if type(found) is not types.FunctionType and type(found) not in NUMBERS and not isinstance(found, torch.Tensor):
                    raise Opaque
                self.parts.append(name)
                self.add(found)
                break


_texts: OrderedDict[tuple, tuple[str, list]] = OrderedDict()


def remembered(values: tuple, fixed: tuple, sizes: dict[str, int], trace: Callable):
    """The text of a call, and its inputs by name. `values`: all that the text comes from, functions and tensors among it; `fixed`:
    numbers and words; `trace` gives a tracer and the text where nothing is known."""
    whole = key = None
    try:
        key = Key((*values, *fixed))
        whole = (tuple(key.parts), torch.is_grad_enabled(), tuple(isinstance(size, int) and size > 1 << 24 for size in sizes.values()))
        found = _texts.get(whole)
    except Exception:  # what cannot be looked at
        whole = found = None
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
