"""Functions that were traced before: their texts are kept, and never where what they look at has changed."""

import functools
import types
import unittest
from unittest import mock

import torch

import weft
from weft import _memo, flex
from weft._trace import Tracer

B, H, T = 2, 4, 24
FACTOR = 2.0


def module_with(**values):
    module = types.ModuleType("settings_of_a_model")
    vars(module).update(values)
    return module


settings = module_with(scale=0.5)


class Bias(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.scale = torch.nn.Parameter(torch.randn(H)), 1.0

    def bias(self, h):
        return self.table[h] * self.scale

    def forward(self, q, k, v):
        return weft.flex_attention(q, k, v, lambda s, b, h, i, j: s + self.bias(h) * (i - j) * 0.01)


def math(q, k, v, score):
    """By PyTorch's own."""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return torch.softmax(score(s, torch.arange(B)[:, None, None, None], torch.arange(H)[:, None, None], i, j), -1) @ v


class Memo(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.x = [torch.randn(B, H, T, 16) for _ in range(3)]
        self.traced = 0
        original = Tracer.text

        def counted(tracer, *args):
            self.traced += 1
            return original(tracer, *args)

        patch = mock.patch.object(Tracer, "text", counted)
        patch.start()
        self.addCleanup(patch.stop)
        _memo._texts.clear()

    def holds(self, score, again: int | None = None):
        """The result is that of `score` as it is now; `again`: how often it was traced by then."""
        got, want = flex.flex_attention(*self.x, score), math(*self.x, score)
        self.assertLess((got - want).abs().max().item(), 1e-5)
        if again is not None:
            self.assertEqual(self.traced, again)

    def test_made_anew_each_time(self):
        for count in range(4):
            slope, factor = torch.rand(H), 3
            self.holds(lambda s, b, h, i, j: s - slope[h] * factor * (i - j), again=1)

    def test_gradients_go_to_the_tensors_of_the_call(self):
        for _ in range(3):
            slope = torch.rand(H, requires_grad=True)
            flex.flex_attention(*self.x, lambda s, b, h, i, j: s - slope[h] * (i - j)).square().sum().backward()
            self.assertGreater(slope.grad.abs().max().item(), 0)
        self.assertEqual(self.traced, 1)

    def test_numbers(self):
        for at, factor in enumerate((1, 1.0, 2.0, True, -0.0, 0.0)):
            self.holds(lambda s, b, h, i, j: s * factor + i * 0, again=at + 1)
        self.holds(lambda s, b, h, i, j: s * 2.0, again=7)

    def test_globals(self):
        global FACTOR
        score = lambda s, b, h, i, j: s * FACTOR
        for FACTOR in (2.0, 3.0, 2.0):
            self.holds(score)
        self.assertEqual(self.traced, 2)

    def test_attributes_of_a_module(self):
        score = lambda s, b, h, i, j: s * settings.scale
        for settings.scale in (0.5, 0.25, 0.5):
            self.holds(score)
        self.assertEqual(self.traced, 2)

    def test_containers(self):
        held = {"window": [3, 5], "also": (torch.rand(H), {"x": 1.0})}
        score = lambda s, b, h, i, j: s * held["window"][1] + held["also"][0][h] * held["also"][1]["x"]
        self.holds(score, again=1)
        held["window"][1] = 7
        self.holds(score, again=2)
        held["also"] = (torch.rand(H), {"x": 1.0})
        self.holds(score, again=2)
        held["also"][1]["x"] = 4.0
        self.holds(score, again=3)

    def test_functions_in_functions(self):
        def scaled(by):
            return lambda s: s * by

        for at, by in enumerate((1.5, 2.5)):
            own = scaled(by)
            self.holds(lambda s, b, h, i, j: own(s), again=at + 1)
        for by in (1.5, 2.5):
            self.holds(functools.partial(lambda by, s, b, h, i, j: s * by, by))
        self.holds(lambda s, b, h, i, j, by=1.5: s * by)
        self.holds(lambda s, b, h, i, j, by=2.5: s * by)
        for by in (1.5, 2.5):
            self.holds(lambda s, b, h, i, j, *, by=by: s * by)

    def test_objects(self):
        holder = types.SimpleNamespace(scale=1.0, unused=0)
        score = lambda s, b, h, i, j: s * holder.scale
        self.holds(score, again=1)
        holder.unused = 1  # which the function does not name
        self.holds(score, again=1)
        holder.scale = 2.0
        self.holds(score, again=2)

    def test_modules_of_torch(self):
        own = Bias()
        score = lambda s, b, h, i, j: s + own.bias(h) * (i - j) * 0.01
        for _ in range(2):
            self.assertLess((own(*self.x) - math(*self.x, score)).abs().max().item(), 1e-5)
        self.assertEqual(self.traced, 1)
        own.scale = 3.0
        self.assertLess((own(*self.x) - math(*self.x, score)).abs().max().item(), 1e-5)
        own.table = torch.nn.Parameter(torch.randn(H))
        self.assertLess((own(*self.x) - math(*self.x, score)).abs().max().item(), 1e-5)
        self.assertEqual(self.traced, 2)
        own.bias = lambda h: own.table[h] * 5
        self.assertLess((own(*self.x) - math(*self.x, score)).abs().max().item(), 1e-5)

    def test_values_of_tensors(self):
        exponent, flag, table = torch.tensor(2.0), torch.tensor(True), torch.randn(3, H)
        at = torch.tensor(1)
        scores = [lambda s, b, h, i, j: s.abs() ** exponent, lambda s, b, h, i, j: s * 2 if flag else s, lambda s, b, h, i, j: s * exponent.item(),
                  lambda s, b, h, i, j: s + table[at, h] * j, lambda s, b, h, i, j: s + table.mean() * j, lambda s, b, h, i, j: s * table.shape[0]]
        for score in scores:
            self.holds(score)
        exponent, flag, table, at = torch.tensor(3.0), torch.tensor(False), torch.randn(5, H), torch.tensor(2)
        for score in scores:
            self.holds(score)

    def test_what_looks_around_is_traced_each_time(self):
        holder = types.SimpleNamespace(scale=1.0)
        score = lambda s, b, h, i, j: s * getattr(holder, "sca" + "le")
        for holder.scale in (1.0, 2.0):
            self.holds(score)

        class Property:
            own = 1.0
            scale = property(lambda self: type(self).own)

        held = Property()
        score = lambda s, b, h, i, j: s * held.scale
        for Property.own in (1.0, 2.0):
            self.holds(score)

    def test_types_and_identity_of_tensors(self):
        first, second = torch.randn(H), torch.randn(H)
        score = lambda s, b, h, i, j: s + first[h] * i - second[h] * j
        self.holds(score)
        second = first
        self.holds(score)
        first, second = torch.randn(H), torch.randn(H)
        self.holds(score)
        first = torch.tensor([1, 2, 3, 4])
        self.holds(score)
        first = torch.randn(H + 3)
        self.holds(score)
        first = torch.randn(H - 1)
        with self.assertRaisesRegex(IndexError, "goes up to 3"):
            flex.flex_attention(*self.x, score)

    def test_masks(self):
        for at, window in enumerate((4, 4, 9)):
            mask = flex.create_block_mask(lambda b, h, i, j: (i >= j) & (i - j < window), None, None, T, T, device="cpu")
            i, j = torch.arange(T)[:, None], torch.arange(T)
            want = torch.nn.functional.scaled_dot_product_attention(*self.x, attn_mask=(i >= j) & (i - j < window))
            self.assertLess((flex.flex_attention(*self.x, block_mask=mask) - want).abs().max().item(), 1e-5)
        self.assertEqual(self.traced, 2)

    def test_variants_from_python(self):
        slope = torch.rand(H, requires_grad=True)
        own = weft.from_python(score=lambda s, b, h, i, j: s - slope[h] * (i - j), where=lambda b, h, i, j: i >= j)
        for _ in range(3):
            own(*self.x).sum().backward()
        self.assertEqual(self.traced, 1)
        slope = torch.rand(H)
        want = weft.attention("alibi", *self.x, slope=slope)
        self.assertLess((own(*self.x) - want).abs().max().item(), 1e-6)


class Hold:
    def __init__(self, **values):
        vars(self).update(values)


class Called(torch.nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, s, b, h, i, j):
        return s - self.slope * (i - j)


class CalledObject:
    def __init__(self, slope):
        self.slope = slope

    def __call__(self, s, b, h, i, j):
        return s - self.slope * (i - j)


class Names:
    scale = 1.0


class Base:
    def by(self, s):
        return s * self.scale


class Derived(Base):
    def __init__(self, scale):
        self.scale = scale

    def by(self, s):
        return super().by(s)


class Static:
    @staticmethod
    def by(s):
        return s * FACTOR


class Cached:
    def __init__(self, scale):
        self.of = scale

    @functools.cached_property
    def scale(self):
        return self.of


class Getting(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(vars(self)["inner"], name)


def scaled(holder, s):
    return s * holder.scale


class Nested:
    def __init__(self, scale):
        self.inner = Hold(scale=scale)

    def by(self, s):
        return s * self.inner.scale


def partial_of(holder, s, b, h, i, j):
    return s * holder.scale


class Changed(unittest.TestCase):
    """Each way in which a function can mean something else than before while it looks the same."""

    def setUp(self):
        torch.manual_seed(0)
        self.x = [torch.randn(B, H, T, 16) for _ in range(3)]
        _memo._texts.clear()

    def both(self, make, values=(0.5, 3.0)):
        for value in values:
            score = make(value)
            got, want = flex.flex_attention(*self.x, score), math(*self.x, score)
            self.assertLess((got - want).abs().max().item(), 1e-5, value)

    def test_what_is_called(self):
        self.both(Called)
        self.both(CalledObject)
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: own(s, b, h, i, j))(Called(value)))
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: own(s, b, h, i, j))(CalledObject(value)))
        self.both(lambda value: Nested(value).by and (lambda own: lambda s, b, h, i, j: own(s))(Nested(value).by))

    def test_objects_behind_functions(self):
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: scaled(own, s))(Hold(scale=value)))
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: own.by(s))(Nested(value)))
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: own.by(s))(Derived(value)))
        self.both(lambda value: lambda s, b, h, i, j, own=Hold(scale=value): s * own.scale)
        self.both(lambda value: functools.partial(partial_of, Hold(scale=value)))
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: s * own.scale)(Cached(value)))
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: s * own.scale)(Getting(Hold(scale=value))))
        import operator

        get = operator.attrgetter("scale")
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: s * get(own))(Hold(scale=value)))

    def test_classes_and_globals(self):
        def of_class(value):
            Names.scale = value
            return lambda s, b, h, i, j: s * Names.scale

        self.both(of_class)

        def of_static(value):
            global FACTOR
            FACTOR = value
            own = Static()
            return lambda s, b, h, i, j: own.by(s)

        self.both(of_static)

        def of_attribute(value):
            def score(s, b, h, i, j):
                return s * score.scale

            score.scale = value
            return score

        self.both(of_attribute)

    def test_containers(self):
        from collections import OrderedDict

        self.both(lambda value: (lambda own: lambda s, b, h, i, j: s * own["scale"])(OrderedDict(scale=value)))
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: s * own("scale"))({"scale": value}.get))
        self.both(lambda value: (lambda own: lambda s, b, h, i, j: s * own[0].slope)(torch.nn.ModuleList([Called(value)])))
        made = {}

        @functools.lru_cache
        def cached(key):
            return made[key]

        def of_cache(value):
            made["scale"] = value
            cached.cache_clear()
            return lambda s, b, h, i, j: s * cached("scale")

        self.both(of_cache)

    def test_tensors(self):
        first, second = torch.randn(H), torch.randn(H)
        pick = lambda own, h: own.t[h]
        make = lambda own: lambda s, b, h, i, j: s * pick(own, h) + 0 * (first[h] + second[h])
        self.both(make, (Hold(t=first), Hold(t=second)))
        beta = torch.tensor(1.0)

        def of_beta(value):
            beta.fill_(value)
            return lambda s, b, h, i, j: torch.nn.functional.softplus(s, beta=beta)

        self.both(of_beta)
        for scale in (0.25, 2.0):
            beta.fill_(scale)
            want = torch.nn.functional.scaled_dot_product_attention(*self.x, scale=scale)
            self.assertLess((flex.flex_attention(*self.x, scale=beta) - want).abs().max().item(), 1e-5)

    def test_methods_without_code(self):
        class Own:
            def __init__(self, scale):
                self.scale = scale

            @functools.lru_cache  # noqa: B019
            def score(self, s, b, h, i, j):
                return s * self.scale

        self.both(lambda value: Own(value).score)


if __name__ == "__main__":
    unittest.main()
