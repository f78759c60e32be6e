# Speeds that others have published, for comparison: facts of their pages, measured by them.

# TFLOP/s on an H100 SXM5 80 GB with 16k tokens (B = 1, H D = 2048), f16; products of kept pairs, of a backward pass 2.5
# times as many.
PUBLISHED_SOURCE = "Shah et al. 2024, FlashAttention-3 (arXiv 2407.08608), measured there on an H100 SXM5 80 GB, f16, 16k tokens"
PUBLISHED = [
    # variant, direction, D, {method: TFLOP/s}
    ("full", "forward", 64, {"FlashAttention-2": 324, "Triton": 403, "cuDNN": 413, "FlashAttention-3": 497}),
    ("causal", "forward", 64, {"FlashAttention-2": 299, "Triton": 363, "cuDNN": 388, "FlashAttention-3": 473}),
    ("full", "forward", 128, {"FlashAttention-2": 370, "Triton": 395, "cuDNN": 595, "FlashAttention-3": 648}),
    ("causal", "forward", 128, {"FlashAttention-2": 335, "Triton": 378, "cuDNN": 539, "FlashAttention-3": 616}),
    ("full", "backward", 128, {"FlashAttention-2": 322, "cuDNN": 516, "FlashAttention-3": 561}),
]

