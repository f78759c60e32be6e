#!/usr/bin/env python3
"""Models of Hugging Face transformers with Weft's attention beside sdpa, flex and eager, random weights: time of a forward pass, of a
training step, and of a generated token, and how far logits and gradients are from eager's.
PYTHONPATH=python benchmarks/transformers_models.py [--length 1024] [--dtype bfloat16] [--errors]"""

import argparse
import warnings

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

import weft
from flex import median

COMMON = dict(vocab_size=1000, hidden_size=512, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
              max_position_embeddings=4096, pad_token_id=0, bos_token_id=1, eos_token_id=2)
MODELS = {
    "Llama": lambda: LlamaForCausalLM(LlamaConfig(**COMMON)),
    "Gemma 2, window 256": lambda: Gemma2ForCausalLM(Gemma2Config(**COMMON, head_dim=64, sliding_window=256, attn_logit_softcapping=50.0)),
    "GPT-OSS, window 128": lambda: GptOssForCausalLM(GptOssConfig(**COMMON, head_dim=64, sliding_window=128, num_local_experts=2, num_experts_per_tok=1)),
}


@torch.no_grad()
def logits(model, tokens):
    return {"": model(tokens).logits}


def gradients(model, tokens):
    model.zero_grad()
    model(tokens, labels=tokens).loss.backward()
    return {name: own.grad.clone() for name, own in model.named_parameters() if own.grad is not None}


def error(own, wanted):
    """The largest difference of a tensor, relative to its largest element; of many tensors the largest such."""
    # The gradient of an expert that no token has is 0.
    off = lambda own, want: (own.float() - want.float()).abs().max() / want.float().abs().max().clamp(min=1e-30)
    return torch.stack([off(own[name], want) for name, want in wanted.items()]).max().item()


def refused(cause):
    torch._dynamo.reset()  # or what was compiled and raised runs uncompiled from then on: flex, once its backward pass was refused
    return type(cause).__name__


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--errors", action="store_true", help="without times")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    own = weft.register_transformers()
    print(f"1 x {options.length} tokens, 4 layers of 512, {options.dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    times = [] if options.errors else ["forward", "step of training", "token after them"]
    heads = ["model", "attention", *times, "error of logits", "of gradients"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model = make().to(getattr(torch, options.dtype)).eval()
        tokens = torch.randint(3, 1000, (1, options.length))
        model.set_attn_implementation("eager")
        wanted = [what(model, tokens) for what in (logits, gradients)]
        for attention in (own, "sdpa", "flex_attention", "eager"):
            cells = []

            def measured(call, seconds=options.seconds):
                try:
                    call()
                    cells.append(f"{1e3 * median(call, seconds):.1f} ms")
                except Exception as cause:  # what an implementation cannot do is part of the table
                    cells.append(refused(cause))

            @torch.no_grad()
            def forward():
                return model(tokens, logits_to_keep=1)

            def step():
                model.zero_grad()
                model(tokens, labels=tokens).loss.backward()

            @torch.no_grad()
            def token():
                model(tokens[:, :1], past_key_values=cache, use_cache=True)

            def compared():
                for what, want in zip((logits, gradients), wanted):
                    try:
                        cells.append(f"{error(what(model, tokens), want):.1e}")
                    except Exception as cause:
                        cells.append(refused(cause))

            try:
                model.set_attn_implementation(attention)
                if not options.errors:
                    measured(forward)
                    measured(step)
                    with torch.no_grad():
                        cache = model(tokens, use_cache=True, logits_to_keep=1).past_key_values
                    measured(token, 1.0)
                compared()
            except Exception as cause:
                cells += [type(cause).__name__] * (len(heads) - 2 - len(cells))
            print(f"| {name} | {attention} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
