"""The scan as one compiled kernel for CPUs, built with the machine's own compiler."""

from kmunet.ops.cpu.native import kernel, kernel_for, usable
from kmunet.ops.cpu.scan import Scan, selective_scan
from kmunet.ops.cpu.scan_2d import Scan2d

__all__ = ["Scan", "Scan2d", "kernel", "kernel_for", "selective_scan", "usable"]
