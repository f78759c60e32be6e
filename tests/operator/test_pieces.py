"""A sequence in pieces: calls that say by `origin` where their tensors stand give together what one call gives, forward and backward."""

import math
import os
import re
import unittest

import torch

import declarations

torch.ops.load_library(os.environ["WEFT_LIBRARY"])
FOLDER = os.path.join(os.environ["WEFT_SOURCE"], "ops", "variants")
VARIANTS = sorted(name[:-5] for name in os.listdir(FOLDER) if name.endswith(".weft"))
T, PIECES = 256, 4


def sizes_of(variant):
    """Like those of other tests of the library; the pieces have whole tiles."""
    sizes = {"B": 2, "H": 4, "G": 2, "T": T, "S": T, "D": 16, "E": 16, "R": 16, "N": 48, "M": 4}
    if variant in ("relative_bias", "vertical_slash"):
        sizes["N"] = T
    if variant == "scored_tiles" or re.search(r"guess: \[B, H, M, N\]", declarations.source(variant)):
        sizes["N"] = sizes["M"] = T // 64
    return sizes


def drawn(variant):
    torch.manual_seed(len(variant))
    sizes = sizes_of(variant)
    x = {own.name: own.draw(sizes, True) for own in declarations.inputs(variant)}
    # Off the kinks of weights: where a piece of a row has no mass, its log-sum-exp has no derivative to give on.
    return {name: own + 0.01 * torch.rand_like(own) if name in ("span", "period", "ratio") else own for name, own in x.items()}


def whole_rows(normalizer_text):
    """True where a query needs all its keys in one call."""
    return bool(re.search(r"normalize (stick_breaking|entmax15|softmax1)|keys =", normalizer_text))


class Pieces:
    """Calls of pieces of a variant's queries and, where they may, of keys."""

    def __init__(self, variant, text, inputs, dims):
        self.variant, self.inputs, self.dims = variant, inputs, dims
        self.sides = {name: ("T" if "T" in own else "S" if "S" in own else None) for name, own in dims.items()}
        self.by_keys = not whole_rows(text)
        self.by_sum = bool(re.search(r"normalize (none|sigmoid)", text))
        self.selects = "select" in text
        lists = re.search(r"keys = (\w+)\[i div (\d+)\]", text)
        self.tile = lists and (lists[1], int(lists[2]))
        self.seed = torch.tensor([7, 0]) if "dropout" in text else None

    def extra(self):
        return {} if self.seed is None else {"seed": self.seed}

    def whole(self, x):
        given = {**x, **self.extra()}
        return torch.ops.weft.attention(self.variant, list(given), list(given.values()))

    def part(self, x, side, first, count):
        def cut(name, tensor):
            if self.tile and name == self.tile[0] and side == "T":  # a list for each tile of queries
                return tensor.narrow(-2, first // self.tile[1], count // self.tile[1])
            return tensor.narrow(self.dims[name].index(side), first, count) if self.sides[name] == side else tensor

        return {name: cut(name, tensor) for name, tensor in x.items()}

    def joined(self, x, pieces=PIECES):
        map = torch.ops.weft.select(self.variant, list(x), list(x.values())) if self.selects else None
        step = T // pieces
        keys = [(first, step) for first in range(0, T, step)] if self.by_keys else [(0, T)]
        rows = []
        for query in range(0, T, step):
            found = []
            for key, count in keys:
                own = self.part(self.part(x, "T", query, step), "S", key, count)
                own.update(self.extra(), origin=torch.tensor([query, key, T, T]))
                if map is not None:
                    tile_q, tile_k = T // map.shape[2], max(T // map.shape[3], 1)
                    own["selection"] = map[:, :, query // tile_q:(query + step) // tile_q, key // tile_k:(key + count) // tile_k]
                names, tensors = list(own), list(own.values())
                if self.by_sum or not self.by_keys:
                    found.append((torch.ops.weft.attention(self.variant, names, tensors), None))
                else:
                    found.append(torch.ops.weft.attention_with_lse(self.variant, names, tensors))
            if self.by_sum or not self.by_keys:
                rows.append(sum(o for o, _ in found))
                continue
            all = torch.logsumexp(torch.stack([l for _, l in found]), 0)
            safe = torch.where(torch.isneginf(all), 0, all)
            rows.append(sum(o * torch.exp(torch.where(torch.isneginf(l), -math.inf, l) - safe).unsqueeze(-1) for o, l in found))
        return torch.cat(rows, 2)


def compared(pieces, inputs, dtype):
    """The greatest difference of o and of each gradient, relative to its greatest number."""
    leaves = {n: (t.to(dtype) if t.is_floating_point() else t).requires_grad_(t.is_floating_point()) for n, t in inputs.items()}
    floats = [n for n, t in leaves.items() if t.is_floating_point()]
    results = []
    torch.manual_seed(1)
    cotangent = None
    for function in (pieces.whole, pieces.joined):
        o = function(leaves)
        cotangent = torch.randn_like(o) if cotangent is None else cotangent
        grads = torch.autograd.grad(o, [leaves[n] for n in floats], cotangent, allow_unused=True)
        results.append([o.detach()] + [torch.zeros(1) if g is None else g for g in grads])
    differences = {}
    for name, a, b in zip(["o"] + floats, *results):
        scale = a.double().abs().max().item()
        differences[name] = (a.double() - b.double()).abs().max().item() / max(scale, 1e-30) if scale or b.abs().max() else 0.0
    return differences


class Library(unittest.TestCase):
    def test_pieces_are_the_whole(self):
        for variant in VARIANTS:
            with self.subTest(variant):
                inputs = drawn(variant)
                dims = {own.name: own.dims for own in declarations.inputs(variant)}
                # Sums in another order; tiles are chosen in f32 in any type.
                worst = compared(Pieces(variant, declarations.source(variant), inputs, dims), inputs, torch.float64)
                self.assertLess(max(worst.values()), 1e-9, worst)


DIMS = {"q": ["B", "H", "T", "D"], "k": ["B", "G", "S", "D"], "v": ["B", "G", "S", "E"], "r": ["B", "H", "T"], "x": ["S"], "doc": ["B", "T"], "key_doc": ["B", "S"],
        "table": ["H", "N"], "tau": [], "c": ["H"], "sk": ["B", "G", "M", "D"], "sv": ["B", "G", "M", "E"], "starts": ["K"]}
KINDS = {"doc": "int", "key_doc": "int", "starts": "int"}


def text_of(body, *inputs):
    declared = [f"{name}: {KINDS.get(name, '')} [{', '.join(DIMS[name])}]" for name in ("q", "k", "v", *inputs)]
    return f"attention t({', '.join(declared)}) {{ score dot(q[i], k[j]) / sqrt(D) {body} }}"


class Texts(unittest.TestCase):
    """What the library does not say: each place where i, j, T or S may stand."""

    CASES = [
        ("where i >= j dropout 0.25", ()),
        ("where j < T - 3 * i div 2 and i + j < S + 7", ()),
        ("where i >= j gate 1.0 + r[i] * x[j]", ("r", "x")),
        ("let row = i let column = j where row >= column weight exp(0.1 * r[row] * x[column])", ("r", "x")),
        ("where if i > j then x[j] < 1.5 else i == j", ("x",)),
        ("where i >= j weight 1.0 + abs(table[h, i - j])", ("table",)),
        ("where doc[i] == key_doc[j] and i >= j", ("doc", "key_doc")),
        ("where segment(starts, i) == segment(starts, j)", ("starts",)),
        ("def near(x, y, w) = abs(x - y) < w where near(i, j, 90) or j < 3", ()),
        ("where i >= j and i - j < 40 sink c[h] + 0.01 * T", ("c",)),
        ("where i >= j and i - j < 40 also sv { score dot(q[i], sk[j]) / sqrt(D) where i >= j * 8 }", ("sk", "sv")),
        ("where i >= j normalize sigmoid", ()),
        ("where i >= j and i - j < S / 3 weight 1.0 / (1.0 + i - j) normalize none", ()),
        ("where i >= j normalize stick_breaking", ()),
        ("where i >= j normalize softmax1", ()),
        ("where i >= j dropout 0.5 normalize entmax15", ()),
        ("where i - j < 100 and i > 20 * tau weight 1e-30 * exp(0.2 * (i - j))", ("tau",)),
    ]

    def inputs(self, names):
        torch.manual_seed(3)
        sizes = {"B": 2, "H": 4, "G": 2, "T": T, "S": T, "D": 16, "E": 16, "N": T, "M": 24, "K": 5}
        x = {}
        for name in ("q", "k", "v", *names):
            shape = [sizes[dim] for dim in DIMS[name]]
            if name == "starts":
                x[name] = torch.tensor([0, 17, 64, 130, 201])
            elif name in KINDS:
                x[name] = torch.randint(0, 3, shape).sort(-1).values
            else:
                x[name] = torch.randn(shape, dtype=torch.float64)
        return x

    def check(self, body, names, dtype, bound, pieces=PIECES):
        text, inputs = text_of(body, *names), self.inputs(names)
        own = Pieces(text, text, inputs, DIMS)
        own.joined = lambda x, joined=own.joined: joined(x, pieces)
        worst = compared(own, inputs, dtype)
        self.assertLess(max(worst.values()), bound, (body, worst))

    def test_float64(self):
        for body, names in self.CASES:
            with self.subTest(body):
                self.check(body, names, torch.float64, 1e-9)

    def test_float32(self):
        for body, names in self.CASES:
            with self.subTest(body):
                self.check(body, names, torch.float32, 1e-4, pieces=2)

    def test_bfloat16_rounds_each_piece(self):
        for body, names in self.CASES[:4]:
            with self.subTest(body):
                self.check(body, names, torch.bfloat16, 3e-2)

    def test_a_text_may_say_origin_itself(self):
        x = self.inputs(())
        plain, own = text_of("where i >= j"), text_of("where i >= j").replace("t(", "t(origin, ", 1)
        a, b = (torch.ops.weft.attention(text, list(x), list(x.values())) for text in (plain, own))
        self.assertTrue(torch.equal(a, b))  # without the tensor a call is the whole
        x["origin"] = torch.tensor([64, 0, 400, 400])
        a, b = (torch.ops.weft.attention(text, list(x), list(x.values())) for text in (plain, own))
        self.assertTrue(torch.equal(a, b))
        self.assertFalse(torch.equal(a, torch.ops.weft.attention(plain, list(x)[:3], list(x.values())[:3])))

    def test_no_keys_and_no_queries(self):
        x = self.inputs(("c",))
        text = text_of("where i >= j sink c[h]", "c")
        call = lambda x: torch.ops.weft.attention_with_lse(text, list(x), list(x.values()))
        none = {**x, "k": x["k"][:, :, :0], "v": x["v"][:, :, :0], "origin": torch.tensor([64, 0, 999, 999])}
        o, l = call(none)
        self.assertTrue(torch.equal(o, torch.zeros_like(o)))
        torch.testing.assert_close(l, x["c"][None, :, None].expand_as(l).to(l.dtype))
        c = x["c"].clone().requires_grad_()
        call({**none, "c": c})[1].sum().backward()
        torch.testing.assert_close(c.grad, torch.full_like(c, 2.0 * T))
        o, l = call({**none, "origin": torch.tensor([64, 1, 999, 999])})
        self.assertTrue(torch.isneginf(l).all() and not o.any())
        o, l = call({**x, "q": x["q"][:, :, :0], "origin": torch.tensor([64, 0, 999, 999])})
        self.assertEqual(tuple(o.shape), (2, 4, 0, 16))


    def test_large_scores(self):
        # A log-sum-exp of 20,000 has steps of 2^-9 in f32: shares of pieces must add up to 1 all the same.
        ones = {**self.inputs(()), "v": torch.ones(2, 2, T, 16, dtype=torch.float64)}
        text = text_of("where i >= j").replace("/ sqrt(D)", "/ sqrt(D) + 20000.0")
        o = Pieces(text, text, ones, DIMS).joined({name: own.float() for name, own in ones.items()})
        self.assertLess((o - 1).abs().max().item(), 3e-3)


class Misuse(unittest.TestCase):
    def fails(self, text, message, **changed):
        x = {"q": torch.randn(1, 1, 8, 16), "k": torch.randn(1, 1, 8, 16), "v": torch.randn(1, 1, 8, 16), **changed}
        with self.assertRaisesRegex(RuntimeError, message):
            torch.ops.weft.attention(text, list(x), list(x.values()))

    def test_origin(self):
        self.fails("causal", "'origin' to be an int64 tensor of 4 elements on the CPU.*got Float \\[4\\]", origin=torch.zeros(4))
        self.fails("causal", "4 elements.*got Long \\[2\\]", origin=torch.tensor([0, 0]))
        self.fails("causal", "'origin' to say queries of the whole sequence, got 8 from 4 on, of 10", origin=torch.tensor([4, 0, 10, 10]))
        self.fails("causal", "'origin' to say keys of the whole sequence, got 8 from -1 on, of 10", origin=torch.tensor([0, -1, 10, 10]))
        self.fails("causal", "expected dim all_queries up to 268435456", origin=torch.tensor([0, 0, 2**40, 10]))
        for variant, own in (("stick_breaking", {}), ("entmax15", {}), ("gathered", {"list": torch.zeros(1, 1, 4, dtype=torch.int64)})):
            self.fails(variant, "a query needs all of its keys in one call.*got 8 of 16", origin=torch.tensor([8, 8, 16, 16]), **own)
        self.fails("block_sparse", "expected 'selection' beside 'origin'", origin=torch.tensor([0, 0, 8, 8]), tiles=torch.tensor([1]))
        with self.assertRaisesRegex(RuntimeError, "no 'origin'"):
            torch.ops.weft.decode("causal", ["q", "k", "v", "origin"], [torch.randn(1, 1, 1, 16)] + [torch.randn(1, 1, 8, 16)] * 2 + [torch.tensor([0, 0, 8, 8])])

    def test_an_origin_with_strides(self):
        x = {name: torch.randn(1, 1, 8, 16) for name in "qkv"}
        call = lambda origin: torch.ops.weft.attention("causal", [*x, "origin"], [*x.values(), origin])
        self.assertTrue(torch.equal(call(torch.tensor([4, 0, 16, 16])), call(torch.tensor([[4, 1], [0, 1], [16, 1], [16, 1]])[:, 0])))

    def test_an_index_that_leaves_the_piece_in_a_mask(self):
        # Whatever stands at the piece's end, what the mask would say of the place beyond it is not known.
        text = "attention t(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], x: [S]) { score dot(q[i], k[j]) where x[max(j - 1, 0)] > 0.5 }"
        for value in (0.0, 1.0):
            self.fails(text, "an index of a kept pair left its dim", origin=torch.tensor([8, 8, 16, 16]), x=torch.full((8,), value))
        doc = "attention t(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], doc: int [B, T]) { score dot(q[i], k[j]) where i >= j and doc[i] == doc[j] }"
        self.fails(doc, "an index of a kept pair left its dim", origin=torch.tensor([8, 0, 16, 16]), doc=torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]))
        # In the piece that holds them, and where a condition keeps it from being used, it is none.
        for start in (0, 8):
            x = {name: torch.randn(1, 1, 8, 16) for name in "qkv"}
            x.update(doc=torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]), origin=torch.tensor([start, start, 16, 16]))
            torch.ops.weft.attention(doc, list(x), list(x.values()))

    def test_an_index_that_leaves_the_piece(self):
        text = "attention t(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], x: [S]) { score dot(q[i], k[j]) + x[max(j - 1, 0)] where i >= j }"
        x = {"x": torch.randn(8)}
        self.fails(text, "an index of a kept pair left its dim", origin=torch.tensor([8, 8, 16, 16]), **x)


if __name__ == "__main__":
    unittest.main()
