"""Every version of the selective scan, registered in the order that "auto" prefers."""

from kmunet.ops import cpu, mamba, naive, triton
from kmunet.ops.backend import Backend
from kmunet.ops.chunked import Chunked
from kmunet.ops.cpu.native import required
from kmunet.ops.dispatch import register

register(
    Backend(
        "cpu",
        devices=frozenset({"cpu"}),
        usable=cpu.usable,
        kernels=lambda: cpu.Scan(required()),
        kernels_2d=lambda: cpu.Scan2d(required()),
        double=False,
    )
)
register(
    Backend(
        "triton",
        devices=frozenset({"cuda", "cpu"}),  # a CPU through the interpreter
        usable=triton.usable,
        kernels=triton.kernels,
        kernels_2d=triton.kernels_2d,
        double=False,
        automatic=frozenset({"cuda"}),
    )
)
register(
    Backend(
        "mamba-ssm",
        mamba.selective_scan,
        devices=frozenset({"cuda"}),
        usable=mamba.usable,
        double=False,
        note="its backward pass adds atomically: not the same bits on every run",
    )
)
register(Backend("chunked", kernels=Chunked))
register(Backend("naive", naive.selective_scan))
