"""Every version of the selective scan, registered in the order that "auto" prefers."""

from kmunet.ops import cpu, naive
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
register(Backend("chunked", kernels=Chunked))
register(Backend("naive", naive.selective_scan))
