"""Kernels for AArch64 (NEON, SVE, products of bf16), run by QEMU on a machine of another architecture, against eager
PyTorch in float64."""

import os
import platform
import subprocess
import sys
import unittest

# What QEMU is to be for a CPU that code is generated for.
CPUS = {"neoverse-n1": "max,sve=off", "neoverse-n2": "max,sve128=on", "neoverse-v1": "max,sve256=on", "a64fx": "max,sve512=on"}


def kernels(cpu):
    """In a process of its own: `cpu` is WEFT_CPU."""
    import torch

    from criterion import rounded
    import test_variants

    def compare(name, dtype, shape):
        x = rounded(test_variants.make(name, *shape), dtype)
        exact = {n: t.double() if t.is_floating_point() else t for n, t in x.items()}
        floats = [n for n, t in x.items() if t.is_floating_point()]
        torch.manual_seed(3)
        cotangent = torch.randn(*x["q"].shape[:3], x["v"].shape[3]).to(dtype)

        def run(values, function):
            leaves = {n: t.detach().requires_grad_(t.is_floating_point()) for n, t in values.items()}
            out = function(leaves)
            return [out] + list(torch.autograd.grad(out, [leaves[n] for n in floats], cotangent.to(out.dtype), allow_unused=True, materialize_grads=True))

        got = run(x, lambda leaves: torch.ops.weft.attention(name, list(leaves), list(leaves.values())))
        want = run(exact, test_variants.REFERENCE[name])
        # A step of a type for each rounding of operands, probabilities, their gradients and results.
        tolerance = {torch.float32: 4e-5, torch.float16: 6e-3, torch.bfloat16: 4e-2, torch.float64: 1e-12}[dtype]
        for what, a, b in zip(["o"] + floats, got, want):
            error = (a.double() - b).abs().max().item() / max(1.0, b.abs().max().item())
            if not error < tolerance * (4 if what in ("period", "ratio") else 1):
                print(f"{name} {dtype} {shape}: {what} is off by {error:.2g}", flush=True)

    odd, wide = (1, 2, 1, 70, 70, 64), (1, 2, 2, 45, 45, 80)
    few = ("causal", "span_periodic", "content_weight", "block_sparse", "stick_breaking")
    # All variants where registers are NEON's; elsewhere what other registers and instructions have a part in.
    for name in test_variants.REFERENCE if cpu == "neoverse-n1" else few:
        compare(name, torch.float32, odd)
    for name in few:
        compare(name, torch.bfloat16, odd)
    compare("causal", torch.bfloat16, wide)
    compare("causal", torch.float16, odd)
    compare("causal", torch.float64, odd)


@unittest.skipUnless(platform.machine() == "x86_64", "this machine's own kernels are no others'")
class AArch64(unittest.TestCase):
    def run_as(self, **environment):
        cpu = environment["WEFT_CPU"]
        return subprocess.run([sys.executable, __file__, "--kernels", cpu], capture_output=True, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1", **environment})

    def test_without_an_emulator(self):
        done = self.run_as(WEFT_CPU="neoverse-n1", WEFT_CPU_EMULATOR="")
        self.assertIn("kernels for neoverse-n1 can be compiled and looked at here, not run: it is of another architecture", done.stderr)

    def test_emulators_that_fail(self):
        done = self.run_as(WEFT_CPU="neoverse-n1", WEFT_CPU_EMULATOR="/bin/false")
        self.assertRegex(done.stderr, r"WEFT_CPU_EMULATOR: /bin/false .* ended with exit code 1 after 0 of \d+ bytes")


for name, qemu in CPUS.items():
    def test(self, name=name, qemu=qemu):
        emulator = os.path.join(os.environ["WEFT_SOURCE"], "tests", "aarch64", "emulator")
        done = self.run_as(WEFT_CPU=name, WEFT_CPU_EMULATOR=emulator, QEMU_CPU=qemu)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
    setattr(AArch64, "test_" + name.replace("-", "_"), test)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--kernels"]:
        kernels(sys.argv[2])
    else:
        unittest.main()
