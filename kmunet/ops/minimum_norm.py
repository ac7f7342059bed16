"""Splines through given points, by elementwise operations alone.

LAPACK's least squares give other last bits from run to run, by where in memory the
arguments happen to lie; a model's first weights must not.
"""

import torch
from torch import Tensor


def minimum_norm_fit(bases: Tensor, values: Tensor) -> Tensor:
    """The smallest coefficients c with bases @ c = values: A^T (A A^T)^-1 y.

    bases (F, P, K) of rank P <= K; values (F, P, O). Returns (F, K, O), solved in
    float64, in the dtype of the values.
    """
    A = bases.double()
    gram = (A[:, :, None] * A[:, None]).sum(-1)
    weights = (A[:, :, :, None] * inverse(gram)[:, :, None]).sum(1)  # (F, K, P)
    fitted = A.new_zeros(*weights.shape[:2], values.shape[2])
    for weight, value in zip(weights.unbind(2), values.double().unbind(1), strict=True):
        fitted += weight[:, :, None] * value[:, None]
    return fitted.to(values.dtype)


def inverse(matrix: Tensor) -> Tensor:
    """Gauss-Jordan without pivoting, for (F, P, P) positive definite."""
    size = matrix.shape[-1]
    eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    work = torch.cat([matrix, eye], dim=2)
    for i in range(size):
        row = work[:, i] / work[:, i, i, None]
        work = work - work[:, :, i, None] * row[:, None]
        work[:, i] = row
    return work[:, :, size:]
