"""The elementwise fit against LAPACK."""

import pytest
import torch

from kmunet.ops import minimum_norm_fit


@pytest.mark.parametrize(("points", "bases"), [(1, 1), (1, 4), (6, 8), (12, 12)])
def test_against_the_pseudoinverse(points, bases):
    torch.manual_seed(0)
    A = torch.randn(3, points, bases, dtype=torch.float64)
    y = torch.randn(3, points, 5, dtype=torch.float64)
    expected = torch.linalg.pinv(A) @ y
    torch.testing.assert_close(minimum_norm_fit(A, y), expected, rtol=1e-7, atol=1e-9)


def test_dtype_of_the_values():
    A = torch.eye(3)[None]
    fitted = minimum_norm_fit(A, torch.ones(1, 3, 2))
    assert fitted.dtype == torch.float32
    torch.testing.assert_close(fitted, torch.ones(1, 3, 2))
