"""A model with generated kernels on two processes: DDP, FSDP2 and tensor parallel by heads give the gradients of one process."""

import os
import sys
import tempfile
import unittest

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

import weft

PROCESSES, HEADS, WIDTH = 2, 4, 32


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.span, self.slope = torch.nn.Parameter(torch.full((HEADS,), 20.0)), torch.nn.Parameter(torch.linspace(0.1, 0.4, HEADS))
        self.variant = weft.from_python(score=lambda s, b, h, i, j: s - self.slope[h] * (i - j).abs())

    def forward(self, x):
        heads = self.span.shape[0]  # of this process
        q, k, v = (own(x).unflatten(-1, (heads, -1)).transpose(1, 2) for own in (self.q, self.k, self.v))
        return self.out((weft.attention("adaptive_span", q, k, v, span=self.span) + self.variant(q, k, v)).transpose(1, 2).flatten(2))


def model():
    torch.manual_seed(0)
    return Layer()


def tokens():
    torch.manual_seed(1)
    return torch.randn(4, 40, WIDTH)


def reference():
    own = model()
    own(tokens()).square().mean().backward()
    return {name: parameter.grad for name, parameter in own.named_parameters()}


def near(got, want, name):
    assert (got - want).abs().max() < 1e-6 + 1e-4 * want.abs().max(), f"{name}: {(got - want).abs().max()}"


def data_parallel(rank, want):
    own = torch.nn.parallel.DistributedDataParallel(model())
    own(tokens().chunk(PROCESSES)[rank]).square().mean().backward()
    for name, parameter in own.module.named_parameters():
        near(parameter.grad, want[name], name)


def fully_sharded(rank, want):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    own = model()
    fully_shard(own, mesh=init_device_mesh("cpu", (PROCESSES,)))
    own(tokens().chunk(PROCESSES)[rank]).square().mean().backward()
    for name, parameter in own.named_parameters():
        near(parameter.grad.full_tensor(), want[name], name)


def tensor_parallel(rank, want):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    own = model()
    mesh = init_device_mesh("cpu", (PROCESSES,))
    parallelize_module(own, mesh, {"q": ColwiseParallel(), "k": ColwiseParallel(), "v": ColwiseParallel(), "out": RowwiseParallel()})
    heads = slice(rank * HEADS // PROCESSES, (rank + 1) * HEADS // PROCESSES)
    own.span, own.slope = (torch.nn.Parameter(part.detach()[heads]) for part in (own.span, own.slope))
    own(tokens()).square().mean().backward()
    for name in ("span", "slope"):
        near(getattr(own, name).grad, want[name][heads], name)
    for name in ("q", "k", "v", "out"):
        near(getattr(own, name).weight.grad.full_tensor(), want[f"{name}.weight"], name)


def process(rank, kind, store, want):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # of this machine alone
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES)
    try:
        globals()[kind](rank, want)
    finally:
        dist.destroy_process_group()
    # Gloo's threads may still hold the last tensors; one that frees them while the interpreter ends aborts the process
    # (PyTorch's: it happens without Weft too). So this process ends without the interpreter's end.
    sys.stdout.flush()
    os._exit(0)


class Parallel(unittest.TestCase):
    def run_kind(self, kind):
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.spawn(process, (kind, os.path.join(folder, "store"), reference()), nprocs=PROCESSES)

    def test_data_parallel(self):
        self.run_kind("data_parallel")

    def test_fully_sharded(self):
        self.run_kind("fully_sharded")

    def test_tensor_parallel_by_heads(self):
        self.run_kind("tensor_parallel")


if __name__ == "__main__":
    unittest.main()
