"""The scan as one compiled kernel for CPUs, built with the machine's own compiler."""

from kmunet.ops.cpu.native import kernel, usable
from kmunet.ops.cpu.scan import selective_scan
from kmunet.ops.cpu.scan_2d import selective_scan_2d

__all__ = ["kernel", "selective_scan", "selective_scan_2d", "usable"]
