"""Compiles every kernel for a GPU that need not be there; run in its own process.

The interpreter accepts what Triton's compiler refuses, such as a name that changes its
type in a loop. Prints each kernel's registers.
"""

import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kmunet.ops.triton.chunks import carry, chunk_ends
from kmunet.ops.triton.gradients import gradients
from kmunet.ops.triton.outputs import outputs

H100 = GPUTarget("cuda", 90, 32)
DISASSEMBLER = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
SIZES = ("batch", "height", "width", "channels", "states", "chunk", "chunks")
IMAGE = {
    **{"directions": 4, "rank": 2, "wide": 16, "tile": 8, "block": 32, "shared": True},
    **{"has_delta": False, "has_bias": True, "has_skip": True, "plus": True},
    **{"keep": True, "adjoint": True, "states": 16},
}
SEQUENCE = {
    **{"directions": 2, "rank": 0, "wide": 4, "tile": 8, "block": 32, "shared": False},
    **{"has_delta": True, "has_bias": False, "has_skip": False, "plus": False},
    **{"keep": False, "adjoint": False, "states": 3},
    **{"height": 1, "chunks": 1, "batch": 1},  # ones are constants to Triton
}


def compiled(kernel, constants, pointer):
    function = getattr(kernel, "fn", kernel)  # without the tuning
    function = kernel if not hasattr(function, "arg_names") else function
    fixed = {p.name for p in function.params if p.is_constexpr}
    fixed |= {name for name, value in constants.items() if value == 1}
    names = function.arg_names
    constants = {name: constants[name] for name in names if name in fixed}
    signature = {name: "i32" if name in SIZES else "*fp32" for name in names}
    signature |= {name: pointer for name in ("x", "dy") if name in names}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(function, signature=signature, constexprs=constants, attrs={})
    options = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}
    return triton.compile(source, target=H100, options=options)


def usage(binary):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [str(DISASSEMBLER), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True)
    return " ".join(w for w in text.stdout.split() if w.startswith(("REG", "STACK")))


if __name__ == "__main__":
    for constants, pointer in ((IMAGE, "*fp32"), (IMAGE, "*bf16"), (SEQUENCE, "*fp16")):
        for kernel in (chunk_ends, carry, outputs, gradients):
            binary = compiled(kernel, constants, pointer).asm["cubin"]
            print(getattr(kernel, "base_fn", kernel).__name__, usage(binary))
