"""Compiles every kernel for a GPU that need not be there; run in its own process.

The interpreter accepts what Triton's compiler refuses, such as a name that changes its
type in a loop. Prints, a line for each, what a lane needs and what goes through shared
memory. Sizes and pointers are declared to divide by 16 as those of a launch do.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kmunet.ops.triton.chunks import carry, chunk_ends
from kmunet.ops.triton.gradients import gradients
from kmunet.ops.triton.outputs import outputs
from kmunet.ops.triton.plan import plan

H100 = GPUTarget("cuda", 90, 32)
DISASSEMBLER = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
SIZES = ("batch", "height", "width", "channels", "states", "chunk", "chunks", "busy")
ALIGNED = ("height", "width", "channels", "states", "chunk")
IMAGE = {
    **{"directions": 4, "rank": 2, "group": 16, "shared": True},
    **{"has_delta": False, "has_bias": True, "has_skip": True, "plus": True},
    **{"keep": True, "adjoint": True, "states": 16},
}
SEQUENCE = {
    **{"directions": 2, "rank": 0, "group": 3, "shared": False},
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
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if name not in constants and (name in ALIGNED or name not in SIZES)
    }
    source = ASTSource(function, signature, constants, attributes)
    options = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}
    return triton.compile(source, target=H100, options=options)


def needs(kernel):
    """Registers, bytes of the stack and of shared memory, and changes of layout."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(DISASSEMBLER), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True)
    used = dict(re.findall(r"(REG|STACK):(\d+)", text.stdout))
    return {
        **{"registers": int(used["REG"]), "stack": int(used["STACK"])},
        "shared": kernel.metadata.shared,
        "conversions": kernel.asm["ttgir"].count("ttg.convert_layout"),
    }


if __name__ == "__main__":
    narrow, wide = plan(16384, 32), plan(4096, 64)
    cases = [
        (IMAGE, cut, pointer)
        for cut in (narrow, wide)
        for pointer in ("*fp32", "*bf16")
    ]
    for constants, cut, pointer in (*cases, (SEQUENCE, narrow, "*fp16")):
        sizes = constants | {"block": cut.block, "tile": cut.tile}
        for kernel in (chunk_ends, carry, outputs, gradients):
            name = getattr(kernel, "base_fn", kernel).__name__
            found = needs(compiled(kernel, sizes, pointer))
            print(json.dumps({"kernel": name, "block": cut.block, **found}), flush=True)
