"""A process that answers questions about a GPU for gpu_report.py: one JSON line in, one out. It dies where CUDA is lost."""

import json
import os
import sys
import unittest

if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "tests", "operator")]
from peers import TYPES


def right(work):
    """Output and gradients of a variant within twice the error of PyTorch's own math against float64."""
    import test_cuda
    import test_variants
    case, dtype = unittest.TestCase(), TYPES[work["dtype"]]
    torch.set_num_threads(1)
    if work["device"] == "cuda":
        test_variants.compare(case, work["variant"], dtype, test_variants.SHAPES[test_cuda.SHAPE[dtype]], test_cuda.run_on_gpu)
    else:
        test_variants.compare(case, work["variant"], dtype, (1, 1, 1, 70, 70, 16), count=1)
    return {}


def variants(work):
    import test_variants
    return {"names": list(test_variants.REFERENCE)}


def speed(work):
    import gpu
    rows = gpu.measure(work["variant"], work["shape"], TYPES[work["dtype"]], work["device"], work.get("span"))
    # Of other code than that for every GPU, and of other schedules, only Weft's own: its peers are the same.
    return {"rows": [next(rows)] if work.get("code") or work.get("tune") else list(rows)}


def machine(work):
    if work["device"] != "cuda":
        return {"name": work["device"], "torch": torch.__version__}
    if not torch.cuda.is_available():
        raise RuntimeError("no NVIDIA GPU, or a torch without CUDA")
    import gpu
    capability = "sm_%d%d" % torch.cuda.get_device_capability()
    return {"name": torch.cuda.get_device_name(), "capability": capability, "torch": torch.__version__, "matrix_tflops": gpu.matrix_product()}


def main():
    torch.ops.load_library(os.environ["WEFT_LIBRARY"])
    for line in sys.stdin:
        work = json.loads(line)
        lost = False
        try:
            answer = {"right": right, "variants": variants, "speed": speed, "machine": machine}[work["ask"]](work)
        except Exception as error:
            lost = "CUDA" in str(error) or "cuda" in str(error)
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(answer), file=out, flush=True)
        if lost:  # a fault leaves nothing of a context
            os._exit(1)


if __name__ == "__main__":
    main()
