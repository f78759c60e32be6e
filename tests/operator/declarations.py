"""What the library's variants declare of their inputs, and tensors drawn by it."""

import functools
import os
import re
import subprocess
from dataclasses import dataclass

import torch

LINE = re.compile(r"  input (\w+): (float|int|bool) \[(.*?)\](?: in (.*?) ?\.\. ?(.*?))?(?: typical (.*?))?( rising)?$")


def bound(text, sizes):
    """T / 64 + 1, -0.25"""
    dim, divisor, offset = re.fullmatch(r"([A-Z]\w*)?(?: / (\S+))?(?: ?([+-]? ?\S+))?", text).groups()
    value = sizes[dim] / float(divisor or 1) if dim else 0.0
    return value + float((offset or "0").replace(" ", ""))


@dataclass
class Input:
    name: str
    kind: str
    dims: list
    low: str
    high: str
    typical: str
    rising: bool

    def ranges(self, sizes):
        """The range and the typical values, as numbers; None where nothing is declared."""
        whole = (bound(self.low, sizes), bound(self.high, sizes)) if self.low and self.high else None
        if self.typical:
            ends = [bound(end, sizes) for end in self.typical.split(" .. ")]
            typical = (ends[0], ends[-1])
            if whole:
                typical = tuple(min(max(end, whole[0]), max(whole)) for end in typical)
            return whole or typical, typical
        return whole and (whole, whole)

    def draw(self, sizes, rising):
        """f64, int64 or bool; half of the numbers typical ones. Without a declaration normal numbers."""
        shape = [sizes[dim] for dim in self.dims]
        if self.kind == "bool":
            return torch.rand(shape) < 0.07
        ranges = self.ranges(sizes)
        if not ranges:
            return torch.randn(shape, dtype=torch.float64)
        one = 1 if self.kind == "int" else 0
        pick = (torch.rand(shape) < 0.5).long()
        low, high = (torch.tensor(ends, dtype=torch.float64)[pick] for ends in zip(*ranges))
        values = low + (high + one - low) * torch.rand(shape, dtype=torch.float64)
        if self.rising and rising:
            values = values.sort(-1).values
        return torch.minimum(values.floor(), high.floor()).long() if one else values


@functools.lru_cache(None)
def inputs(variant):
    """Of a library variant, in their order."""
    result = subprocess.run([os.environ["WEFT_PROGRAM"], "compile", variant, "--emit=ast"], capture_output=True, text=True, check=True)
    lines = [line for line in result.stdout.splitlines() if line.startswith("  input ")]
    parsed = [LINE.fullmatch(line) for line in lines]
    assert all(parsed), lines
    return [Input(name, kind, dims.split(", ") if dims else [], low, high, typical, bool(rising))
            for name, kind, dims, low, high, typical, rising in (match.groups() for match in parsed)]


@functools.lru_cache(None)
def source(variant):
    with open(os.path.join(os.environ["WEFT_SOURCE"], "ops", "variants", variant + ".weft")) as file:
        return re.sub(r"//.*", "", file.read())


def pooled(variant):
    """Names of the inputs whose tiles a `select` pools."""
    return set(re.findall(r"(?:mean_before|mean|max|min|first|last)\((\w+)\)", "".join(source(variant).split("select")[1:])))
