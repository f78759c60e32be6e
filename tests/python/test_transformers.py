"""Models of Hugging Face transformers, small and with random weights: the logits and gradients of eager attention, generation with a
cache, a step of training."""

import unittest

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

import weft

COMMON = dict(vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2)
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**COMMON)),
    # Soft caps, a window in every other layer, a scale of its own.
    "gemma": lambda: Gemma2ForCausalLM(Gemma2Config(**COMMON, head_dim=16, sliding_window=24, attn_logit_softcapping=5.0, query_pre_attn_scalar=20)),
    # Sinks, a window in every other layer.
    "gpt_oss": lambda: GptOssForCausalLM(GptOssConfig(**COMMON, head_dim=16, sliding_window=24, num_local_experts=2, num_experts_per_tok=1)),
}


class Transformers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.name = weft.register_transformers()

    def model(self, name):
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        for own in model.modules():
            if hasattr(own, "sinks"):
                torch.nn.init.normal_(own.sinks)
        return model

    def both(self, model, function):
        found = []
        for implementation in ("eager", self.name):
            model.set_attn_implementation(implementation)
            self.assertEqual(model.config._attn_implementation, implementation)
            found.append(function(model))
        return found

    def near(self, got, want, tolerance=2e-5):
        self.assertEqual(got.shape, want.shape)
        self.assertLess((got - want).abs().max().item(), tolerance * max(1, want.abs().max().item()))


def add(name):
    def logits(self):
        tokens = torch.randint(3, 97, (2, 70))
        want, got = self.both(self.model(name), lambda model: model(tokens).logits)
        self.near(got, want)

    def padded(self):
        tokens = torch.randint(3, 97, (2, 50))
        kept = torch.ones_like(tokens)
        kept[0, :13] = 0  # padded on the left, as for generation
        want, got = self.both(self.model(name), lambda model: model(tokens, attention_mask=kept).logits)
        self.near(got[0, 13:], want[0, 13:])
        self.near(got[1], want[1])

    def gradients(self):
        tokens = torch.randint(3, 97, (2, 70))

        def run(model):
            model.zero_grad()
            model(tokens, labels=tokens).loss.backward()
            return {key: own.grad.clone() for key, own in model.named_parameters() if own.grad is not None}

        want, got = self.both(self.model(name), run)
        self.assertEqual(want.keys(), got.keys())
        for key in want:
            self.near(got[key], want[key])

    def generates(self):
        tokens = torch.randint(3, 97, (2, 30))
        kept = torch.ones_like(tokens)
        kept[1, :5] = 0
        want, got = self.both(self.model(name), lambda model: model.generate(tokens, attention_mask=kept, max_new_tokens=40, do_sample=False, return_dict_in_generate=True, output_logits=True))
        self.assertTrue(torch.equal(got.sequences, want.sequences))
        self.near(torch.stack(got.logits), torch.stack(want.logits))

    def generates_static(self):
        for length, padding in ((30, 5), (30, 0), (18, 3)):  # longer than windows, and reaching them on the way
            tokens = torch.randint(3, 97, (2, length))
            kept = torch.ones_like(tokens)
            kept[1, :padding] = 0
            options = dict(max_new_tokens=12, min_new_tokens=12, do_sample=False, return_dict_in_generate=True, output_logits=True)
            run = lambda model: model.generate(tokens, attention_mask=kept, cache_implementation="static", **options)
            want, got = self.both(self.model(name), run)
            self.assertTrue(torch.equal(got.sequences, want.sequences))
            self.assertEqual(len(got.logits), 12)
            for own, other in zip(got.logits, want.logits):
                self.near(own, other)

    def forms_no_weights(self):
        tokens = torch.randint(3, 97, (1, 8))
        model = self.model(name)
        model.set_attn_implementation(self.name)
        with self.assertRaisesRegex(ValueError, 'attn_implementation="eager"'):
            model(tokens, output_attentions=True)
        with self.assertRaisesRegex(ValueError, 'eager'):
            model.generate(tokens, max_new_tokens=2, return_dict_in_generate=True, output_attentions=True)
        model.set_attn_implementation("eager")
        model.config.output_attentions = True
        model.set_attn_implementation(self.name)
        with self.assertRaisesRegex(ValueError, 'attn_implementation="eager"'):
            model(tokens)
        self.assertEqual(model(tokens, output_attentions=False).logits.shape, (1, 8, 97))

    def trains(self):
        def run(model):
            torch.manual_seed(1)
            state = {key: own.clone() for key, own in model.state_dict().items()}
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            losses = []
            for _ in range(5):
                tokens = torch.randint(3, 9, (4, 40))
                optimizer.zero_grad()
                loss = model(tokens, labels=tokens).loss
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            model.load_state_dict(state)
            return torch.tensor(losses)

        want, got = self.both(self.model(name).train(), run)
        self.near(got, want, 1e-4)
        self.assertLess(got[-1], got[0])

    for function in (logits, padded, gradients, generates, generates_static, forms_no_weights, trains):
        setattr(Transformers, f"test_{name}_{function.__name__}", function)


for _name in MODELS:
    add(_name)


class Texts(unittest.TestCase):
    def test_masks_given_as_tensors(self):
        from types import SimpleNamespace

        from weft import transformers

        torch.manual_seed(0)
        q, k, v = torch.randn(2, 4, 20, 16), torch.randn(2, 4, 30, 16), torch.randn(2, 4, 30, 16)
        module = SimpleNamespace(training=False, is_causal=False)
        for mask in (torch.randn(2, 4, 20, 30), torch.randn(2, 1, 20, 30), torch.randn(1, 1, 20, 40), torch.rand(2, 4, 20, 30) < 0.7, torch.rand(1, 1, 20, 30) < 0.7):
            got, _ = transformers.attention(module, q, k, v, attention_mask=mask)
            want = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[..., :30])
            self.assertLess((got.transpose(1, 2) - want).abs().max().item(), 1e-5, mask.shape)

    def test_masks_keep_their_values(self):
        """Of what a mask was made of, tensors may be changed in place before it is read, and before gradients are."""
        from functools import partial
        from types import SimpleNamespace

        from transformers.masking_utils import and_masks, packed_sequence_mask_function

        from weft import transformers

        torch.manual_seed(0)
        k, v = torch.randn(2, 2, 40, 16), torch.randn(2, 2, 40, 16)
        module = SimpleNamespace(training=False, is_causal=True)
        of_length = lambda length, b, h, q_idx, kv_idx: kv_idx < length[b]

        def run(changed):
            q = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
            offset, kv_offset, padding = torch.tensor(20), torch.tensor(1), torch.ones(2, 41, dtype=torch.bool)
            padding[0, :9] = False
            positions, lengths = torch.arange(41).repeat(2, 1), torch.tensor([30, 35])
            groups = positions // 35
            causal = lambda b, h, q_idx, kv_idx: positions[b, q_idx] >= positions[b, kv_idx]
            function = and_masks(causal, packed_sequence_mask_function(groups))
            function = and_masks(function, partial(of_length, lengths), lambda b, h, q_idx, kv_idx, own=padding: own[b, kv_idx])
            mask = transformers.mask(2, 8, 40, offset, kv_offset, function, padding)
            tensors = offset, kv_offset, padding, groups, lengths, positions
            if changed == "forward":
                [own.zero_() for own in tensors]
            o, _ = transformers.attention(module, q, k, v, attention_mask=mask)
            if changed == "backward":
                [own.zero_() for own in tensors]
            o.square().sum().backward()
            return o.detach(), q.grad

        want = run(None)
        for when in ("forward", "backward"):
            for got, own in zip(run(when), want):
                self.assertTrue(torch.equal(got, own), when)

    def test_new_tokens_compile_nothing_anew(self):
        """The offset of a query in the cache is an input of the variant, not a part of its text."""
        from weft import flex, transformers

        texts = set()
        for seen in (10, 11, 40):
            q, k = torch.zeros(1, 4, 1, 16), torch.zeros(1, 2, seen, 16)
            for offset in (seen - 1, torch.tensor(seen - 1), torch.tensor([seen - 1])):  # as caches give it
                texts.add(flex._traced(q, k, k, None, transformers.mask(1, 1, seen, q_offset=offset), 0.25)[0])
        self.assertEqual(len(texts), 1)

    def test_other_versions_are_named(self):
        import sys
        from unittest import mock

        import transformers

        def asks_otherwise(batch_size, cache_position, kv_length, kv_offset=0, mask_function=None, attention_mask=None, **more):
            pass

        none = mock.patch.dict(sys.modules, {"transformers.masking_utils": None})
        for older in (mock.patch("transformers.masking_utils.sdpa_mask", asks_otherwise), none):
            with older, self.assertRaisesRegex(ImportError, rf"transformers 5\.4 to 5\.24.*{transformers.__version__}"):
                weft.register_transformers()


if __name__ == "__main__":
    unittest.main()
