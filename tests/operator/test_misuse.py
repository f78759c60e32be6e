"""What a caller can get wrong ends in an error that names it: counts, shapes, types and devices of every argument, in every op; empty
dims and wide integers compute what they mean."""

import os
import platform
import unittest
import unittest.mock

import torch

import declarations
from test_variants import REFERENCE, make

weft = torch.ops.weft
QKV = ["q", "k", "v"]


def tensors(name, B=1, H=2, G=2, T=20, S=20, D=16, device="cpu"):
    x = {n: t.float() if t.is_floating_point() else t for n, t in make(name, B, H, G, T, S, D).items()}
    return {n: t.to(device) for n, t in x.items()}


def passed(x):
    return list(x), list(x.values())


class Arguments(unittest.TestCase):
    """The same check for the forward pass, for shapes alone (meta tensors) and for the gradients."""

    def calls(self, name, names, values):
        device = values[0].device if values else "cpu"
        o, rows = torch.zeros(1, 2, 20, 16, device=device), torch.zeros(3, 1, 2, 20, device=device)
        yield lambda: weft.attention(name, names, values)
        yield lambda: weft.attention_with_lse(name, names, values)
        yield lambda: weft._forward_keeping_rows(name, names, values)
        yield lambda: weft._backward_from_rows(name, names, values, o, rows, o, None)

    def refused(self, message, name, names, values):
        for device in ("cpu", "meta"):
            for call in self.calls(name, names, [t.to(device) if t.device.type == "cpu" else t for t in values]):
                with self.subTest(message, device=device), self.assertRaisesRegex(RuntimeError, message):
                    call()

    def test_counts_and_names(self):
        names, values = passed(tensors("sliding_window"))
        self.refused("as many names as tensors, got 5 and 4", "sliding_window", names + ["q"], values)
        self.refused("as many names as tensors, got 4 and 5", "sliding_window", names, values + values[:1])
        self.refused("as many names as tensors, got 0 and 4", "sliding_window", [], values)
        self.refused("'q' is given twice", "sliding_window", names + ["q"], values + values[:1])
        self.refused("no input is named 'x'", "sliding_window", names + ["x"], values + values[:1])
        for at, gone in enumerate(names):
            self.refused(f"'{gone}'", "sliding_window", names[:at] + names[at + 1:], values[:at] + values[at + 1:])

    def test_shapes_types_and_devices_of_every_input(self):
        for name in ("adaptive_span", "document", "vertical_slash", "content_sparse", "gathered"):
            x, dims = tensors(name), {own.name: own.dims for own in declarations.inputs(name)}
            for n, t in x.items():
                self.refused(f"expected input '{n}' with the dims", name, *passed(x | {n: t[None]}))
                # Of B one would be taken for all.
                at = next(at for at, dim in enumerate(dims[n]) if dim != "B" and sum(dim in own for own in dims.values()) > 1)
                self.refused("expected dim", name, *passed(x | {n: torch.cat([t, t, t], at)}))
                wrong = t.int() if t.is_floating_point() else t.float()
                self.refused(f"expected input '{n}' of (a float|an integer)? ?type|expected float32, bfloat16, float16 or, on CPUs, float64", name, *passed(x | {n: wrong}))
        x = tensors("vertical_slash")
        self.refused("expected input 'vertical' of type bool", "vertical_slash", *passed(x | {"vertical": x["vertical"].int()}))

    def test_mixed_devices(self):
        x = tensors("adaptive_span")
        for n in x:
            for device in ("cpu", "meta"):
                other = {"cpu": "meta", "meta": "cpu"}[device]
                y = {m: t.to(other if m == n else device) for m, t in x.items()}
                for call in self.calls("adaptive_span", *passed(y)):
                    with self.subTest(n, device=device), self.assertRaisesRegex(RuntimeError, "expected input '.*' on "):
                        call()

    def test_gradients_of_other_shapes(self):
        x = tensors("causal")
        good = {"o": torch.zeros(1, 2, 20, 16), "rows": torch.zeros(3, 1, 2, 20), "do": torch.zeros(1, 2, 20, 16), "dlse": torch.zeros(1, 2, 20)}
        self.assertEqual(len(weft._backward_from_rows("causal", *passed(x), *good.values())), 3)
        for device in ("cpu", "meta"):
            for n, t in good.items():
                for wrong in (t[..., :-1], t[None], t.narrow(-2, 0, 1), t.int(), t.to("meta" if device == "cpu" else "cpu")):
                    own = {m: (wrong if m == n else u) for m, u in good.items()}
                    own = {m: u.to(device) if m != n or wrong.device.type == "cpu" and wrong.shape != t.shape else u for m, u in own.items()}
                    with self.subTest(n, device=device), self.assertRaisesRegex(RuntimeError, f"expected '{n}'"):
                        weft._backward_from_rows("causal", list(x), [u.to(device) for u in x.values()], *own.values())

    def test_backward_of_dropped_pairs_wants_their_seed(self):
        text = "attention d(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { score dot(q[i], k[j]) dropout 0.25 }"
        x = tensors("causal")
        o, rows = torch.zeros(1, 2, 20, 16), torch.zeros(3, 1, 2, 20)
        with self.assertRaisesRegex(RuntimeError, "expected 'seed'"):
            weft._backward_from_rows(text, *passed(x), o, rows, o, None)
        for wrong in (torch.zeros(3, dtype=torch.int64), torch.zeros(2), torch.zeros(2, dtype=torch.int64, device="meta")):
            with self.assertRaisesRegex(RuntimeError, "expected 'seed'"):
                weft.attention(text, *passed(x | {"seed": wrong}))

    def test_select(self):
        for device in ("cpu", "meta"):
            x = tensors("block_sparse", T=130, S=130, device=device)
            with self.assertRaisesRegex(RuntimeError, "as many names as tensors"):
                weft.select("block_sparse", list(x) + ["q"], list(x.values()))
            with self.assertRaisesRegex(RuntimeError, "expected input 'k' with the dims"):
                weft.select("block_sparse", *passed(x | {"k": x["k"][0]}))
            with self.assertRaisesRegex(RuntimeError, "expected 'selection' of type bool and shape"):
                weft.attention("block_sparse", *passed(x | {"selection": torch.ones(1, 2, 3, 2, dtype=torch.bool, device=device)}))

    def test_decode(self):
        for device in ("cpu", "meta"):
            x = tensors("adaptive_span", T=1, device=device)
            self.assertEqual(weft.decode("adaptive_span", *passed(x)).shape, (1, 2, 1, 16))
            cases = [("as many names as tensors", list(x) + ["q"], list(x.values())),
                     ("expected input 'q' with the dims", *passed(x | {"q": x["q"][0]})),
                     ("expected input 'v' with the dims", *passed(x | {"v": x["v"][0]})),
                     ("expected dim T of input 'q' to be 1", *passed(x | {"q": x["q"].expand(1, 2, 3, 16)})),
                     ("expected dim S of input 'v' to be 20 as in 'k'", *passed(x | {"v": x["v"][:, :, 1:]})),
                     ("expected input 'span' of a float type", *passed(x | {"span": x["span"].int()})),
                     ("expected input 'span' on ", *passed(x | {"span": torch.zeros(2, device="meta" if device == "cpu" else "cpu")}))]
            for message, names, values in cases:
                with self.subTest(message, device=device), self.assertRaisesRegex(RuntimeError, message):
                    weft.decode("adaptive_span", names, values)
            pool = torch.zeros(3, 2, 16, 16, device=device)
            paged = lambda table, k=pool: weft.decode_paged("causal", QKV, [x["q"], k, pool], table.to(device), 20)
            self.assertEqual(paged(torch.tensor([[2, 0]])).shape, (1, 2, 1, 16))
            for message, table, k in (("page table of integers", torch.tensor([[2.0, 0.0]]), pool), ("page table of integers", torch.tensor([2, 0]), pool),
                                      ("room for 20 tokens", torch.tensor([[2]]), pool), ("'k' in 3 pages of 16", torch.tensor([[2, 0]]), pool[1:]),
                                      ("expected input 'k' with the dims", torch.tensor([[2, 0]]), pool[0])):
                with self.subTest(message, device=device), self.assertRaisesRegex(RuntimeError, message):
                    paged(table, k)
        with self.assertRaisesRegex(RuntimeError, f"page table holds {2**32}"):
            weft.decode_paged("causal", QKV, [torch.zeros(1, 2, 1, 16)] + [torch.zeros(3, 2, 16, 16)] * 2, torch.tensor([[2**32, 0]]), 20)


@unittest.skipUnless(platform.machine() == "x86_64", "of another architecture")
class OtherCpus(unittest.TestCase):
    def test_code_that_this_cpu_cannot_run(self):
        """Not SIGILL. No machine has all of AVX10.2 and AMX's latest so far."""
        x = tensors("causal")
        with unittest.mock.patch.dict(os.environ, WEFT_CPU="diamondrapids"), self.assertRaisesRegex(
                RuntimeError, "WEFT_CPU: kernels for diamondrapids can be compiled and looked at here, not run: this CPU has no .*avx10.2"):
            weft.attention("causal", *passed(x))


class EmptyDims(unittest.TestCase):
    def test_a_table_without_entries(self):
        x = tensors("relative_bias") | {"bias": torch.zeros(2, 0, requires_grad=True)}
        with self.assertRaisesRegex(RuntimeError, "an index of a kept pair left its dim"):
            weft.attention("relative_bias", *passed(x))
        # No pair, nothing read: gradients have the shape of the table.
        x = tensors("relative_bias", S=0) | {"bias": torch.zeros(2, 0, requires_grad=True)}
        out = weft.attention("relative_bias", *passed(x))
        self.assertEqual(out.abs().sum().item(), 0)
        out.sum().backward()
        self.assertEqual(x["bias"].grad.shape, (2, 0))

    def test_lists_of_no_keys(self):
        q, k = torch.randn(1, 2, 20, 16, requires_grad=True), torch.randn(1, 2, 0, 16, requires_grad=True)
        for keys in (torch.full((1, 2, 3), -1), torch.zeros(1, 2, 3, dtype=torch.int32), torch.zeros(1, 2, 0, dtype=torch.int32)):
            out = weft.attention("gathered", QKV + ["list"], [q, k, k, keys])
            self.assertEqual(out.abs().sum().item(), 0)
            (gradient,) = torch.autograd.grad(out.sum(), [q])
            self.assertEqual(gradient.abs().sum().item(), 0)

    def test_every_dim_of_every_variant(self):
        """No crash, and zeros where no key is left."""
        for name in REFERENCE:
            for empty in ({"B": 0}, {"H": 0, "G": 0}, {"T": 0}, {"S": 0}, {"T": 0, "S": 0}):
                sizes = {"B": 1, "H": 2, "G": 2, "T": 70, "S": 70}
                whole = tensors(name, **sizes, D=16)
                dims = {d: n for d, n in sizes.items() if d in empty}
                x = without(name, whole, dims)
                for n, t in x.items():
                    if t.is_floating_point():
                        x[n] = t.requires_grad_()
                with self.subTest(name, empty=empty):
                    out = weft.attention(name, *passed(x))
                    self.assertEqual(out.shape[0] == 0, "B" in empty)
                    if "S" in empty and name not in ("nsa", "combiner"):
                        self.assertEqual(out.abs().sum().item(), 0)
                    out.sum().backward()


def without(name, x, dims):
    """The inputs with the named dims cut to nothing, by the signature in the variant's own words."""
    import os
    import re
    with open(os.path.join(os.environ["WEFT_SOURCE"], "ops", "variants", name + ".weft")) as file:
        text = file.read()
    cut = {}
    for n, t in x.items():
        own = re.search(rf"\b{n}\s*:\s*(?:int|bool)?\s*\[([^\]]*)\]", text).group(1)
        for at, dim in enumerate(d.strip() for d in own.split(",") if d.strip()):
            if dim in dims:
                t = t.narrow(at, 0, 0)
        cut[n] = t.detach().clone()
    return cut


class WideIntegers(unittest.TestCase):
    def test_what_32_bits_do_not_hold(self):
        x = tensors("sliding_window")
        for value in (2**40, 2**31, -2**31 - 1, -2**40):
            with self.assertRaisesRegex(RuntimeError, f"input 'window' .*{value}"):
                weft.attention("sliding_window", *passed(x | {"window": torch.tensor(value)}))
        y = tensors("document") | {"doc": torch.tensor([[0] * 10 + [2**32] * 10])}
        with self.assertRaisesRegex(RuntimeError, f"input 'doc' .*{2**32}"):
            weft.attention("document", *passed(y))
        for dtype, value in ((torch.uint32, 2**32 - 1), (torch.uint64, 2**64 - 1), (torch.uint64, 2**63), (torch.uint64, 2**31)):
            with self.subTest(dtype), self.assertRaisesRegex(RuntimeError, f"input 'window' .*{value}"):
                weft.attention("sliding_window", *passed(x | {"window": torch.tensor(value, dtype=dtype)}))
        z = tensors("sliding_window", T=1)
        with self.assertRaisesRegex(RuntimeError, "input 'window'"):
            weft.decode("sliding_window", *passed(z | {"window": torch.tensor(2**40)}))

    def test_every_integer_type(self):
        x = tensors("sliding_window")
        want = weft.attention("sliding_window", *passed(x | {"window": torch.tensor(5, dtype=torch.int32)}))
        for dtype in (torch.uint8, torch.int8, torch.int16, torch.int64, torch.uint16, torch.uint32, torch.uint64):
            with self.subTest(dtype):
                got = weft.attention("sliding_window", *passed(x | {"window": torch.tensor(5, dtype=dtype)}))
                self.assertTrue(torch.equal(got, want))
        far = weft.attention("sliding_window", *passed(x | {"window": torch.tensor(2**31 - 1)}))
        self.assertTrue(torch.equal(far, weft.attention("causal", QKV, [x[n] for n in QKV])))


if __name__ == "__main__":
    unittest.main()
