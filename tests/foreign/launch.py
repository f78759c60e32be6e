"""Launches what kernels.py compiles in Weft's emulator, by the program weft_run_ptx."""

import json
import os
import subprocess

import numpy

from kernels import compiled

STEPS = 3_000_000  # warp instructions of a launch: some times what the largest here takes


class Launch:
    """A Triton kernel with its arguments. Arrays are in memory, or behind a tensor map where `boxes` has the shape of theirs; their elements
    are numpy's, bf16 as the upper halves of f32."""

    TRITON = {"float16": "fp16", "float32": "fp32", "uint16": "bf16"}
    DRIVER = {"float16": 6, "float32": 7, "uint16": 9}  # types of tensor maps

    def __init__(self, kernel, arguments, constants, capability, grid, boxes=None, **options):
        boxes = boxes or {}
        self.arrays = [value for value in arguments.values() if isinstance(value, numpy.ndarray)]
        signature = {name: self.kind(value, boxes.get(name)) for name, value in arguments.items()}
        self.text, metadata = compiled(kernel, signature, constants, capability, **options)
        maps = iter(metadata.tensordesc_meta or [])
        parameters = []
        for name, value in arguments.items():
            if not isinstance(value, numpy.ndarray):
                parameters.append({"i32" if isinstance(value, int) else "f32": value})
            elif name in boxes:
                parameters += self.descriptor(value, next(maps))
            else:
                parameters.append({"address": self.place(value)})
        # What Triton adds: memory for its own use, none here.
        parameters += [{"i64": 0}, {"i64": 0}]
        self.job = {"kernel": metadata.name, "grid": grid, "threads": 32 * metadata.num_warps, "shared": metadata.shared, "capability": capability,
                    "steps": STEPS, "buffers": [array.nbytes for array in self.arrays], "parameters": parameters}

    def kind(self, value, box):
        if not isinstance(value, numpy.ndarray):
            return "i32" if isinstance(value, int) else "fp32"
        element = self.TRITON[value.dtype.name]
        return f"tensordesc<{element}[{','.join(map(str, box))}]>" if box else f"*{element}"

    def place(self, array):
        return next(at for at, own in enumerate(self.arrays) if own is array)

    def descriptor(self, array, meta):
        """The map, then sizes and strides, the innermost last."""
        own = {"buffer": self.place(array), "type": self.DRIVER[array.dtype.name], "sizes": array.shape[::-1], "box": meta["block_size"][::-1],
               "swizzle": meta["swizzle"]}
        strides = [stride // array.itemsize for stride in array.strides]
        return [{"map": own}, *({"i32": size} for size in array.shape), *({"i64": stride} for stride in strides)]

    def run(self, seeds, text=None):
        """The arrays after a run of each seed, in their order, or what the emulator reports."""
        job = {**self.job, "seeds": seeds, "text": text or self.text}
        done = subprocess.run([os.environ["WEFT_RUN_PTX"]], input=json.dumps(job).encode() + b"\n" + b"".join(array.tobytes() for array in self.arrays),
                              capture_output=True, timeout=300)
        if done.returncode == 1:
            return [], done.stderr.decode()
        if done.returncode:
            raise RuntimeError(f"weft_run_ptx ended with {done.returncode}: {done.stderr.decode()}")
        runs, at = [], 0
        for _ in seeds:
            runs.append([])
            for array in self.arrays:
                runs[-1].append(numpy.frombuffer(done.stdout, array.dtype, array.size, at).reshape(array.shape))
                at += array.nbytes
        return runs, ""
