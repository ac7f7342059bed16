"""Operators: the selective scan (one dispatch), its 2-D form, B-spline bases."""

from kmunet.ops import versions  # noqa: F401 (registers them)
from kmunet.ops.bsplines import b_spline_bases, is_uniform, uniform_cubic_bases
from kmunet.ops.dispatch import backend, backends, use_backend
from kmunet.ops.kan import fused_kan_product, fused_kan_weight, kan_product
from kmunet.ops.matrix import linear
from kmunet.ops.minimum_norm import minimum_norm_fit
from kmunet.ops.precision import full_precision, product_dtype
from kmunet.ops.selective_scan import selective_scan
from kmunet.ops.selective_scan_2d import selective_scan_2d
from kmunet.ops.spline_fit import adapted_grid, refit

__all__ = [
    "adapted_grid",
    "b_spline_bases",
    "backend",
    "backends",
    "full_precision",
    "fused_kan_product",
    "fused_kan_weight",
    "is_uniform",
    "kan_product",
    "linear",
    "minimum_norm_fit",
    "product_dtype",
    "refit",
    "selective_scan",
    "selective_scan_2d",
    "uniform_cubic_bases",
    "use_backend",
]
