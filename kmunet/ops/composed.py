"""The 2-D scan composed from the one-dimensional one: pixels copied in four orders."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.ops.backend import Inputs
from kmunet.ops.selective_scan import outputs


def four_orders(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> Tensor:
    """As `kmunet.ops.selective_scan_2d`, differentiable; all tensors of one dtype."""
    # Time first and channels last, (L, B, 4, D), so that every reordering copies whole
    # rows of channels; the scan reads it through a view.
    (_, _, height, width), states = x.shape, A_logs.shape[1]
    rank = dt_projs_weight.shape[2]
    pixels = x.permute(2, 3, 0, 1).contiguous()  # (H, W, B, D)
    # A pixel's projections do not depend on the order in which it is read.
    projected = F.linear(pixels, x_proj_weight.flatten(0, 1))
    projected = torch.unflatten(projected, 3, (4, -1))
    projected = _unfold([projected[..., k, :] for k in range(4)])
    dt, B, C = torch.split(projected, [rank, states, states], dim=3)
    dt = torch.einsum("lbkr,kdr->lbkd", dt, dt_projs_weight)
    y = outputs(
        _channels_first(_unfold([pixels] * 4)).flatten(1, 2),
        _channels_first(dt).flatten(1, 2),
        -torch.exp(A_logs),
        _channels_first(B),
        _channels_first(C),
        Ds,
        dt_projs_bias.flatten(),
        delta_softplus=True,
    )
    y = torch.unflatten(y, 1, (4, -1)).permute(3, 0, 1, 2)
    return _fold(y, height, width).permute(2, 3, 0, 1)


class Composed:
    """The forward pass as `Kernels2d`: an exported program finds no fused version."""

    keeps_projections = False

    def kept_size(self, sizes: Sequence[int], states: int, rank: int) -> int:
        """Nothing is kept: the backward pass starts anew."""
        return 0

    def forward(self, tensors: Inputs, keep: bool) -> tuple[Tensor, None, None]:
        pixels, *weights = tensors
        with torch.no_grad():
            y = four_orders(pixels.permute(0, 3, 1, 2).float(), *weights)
        return _own(y.permute(0, 2, 3, 1)), None, None

    def backward(
        self, grad: Tensor, tensors: Inputs, proj: Tensor | None, kept: Tensor
    ) -> Inputs:
        """Autograd does not reach into an operator."""
        raise RuntimeError(
            "this program was exported where a fused scan runs, and none does here: "
            "export the model on this machine to train it"
        )


def _own(y: Tensor) -> Tensor:
    return y if y.is_contiguous() else y.contiguous()


def _channels_first(x: Tensor) -> Tensor:
    """(L, B, 4, D) -> (B, 4, D, L), a view."""
    return x.permute(1, 2, 3, 0)


def _unfold(x: list[Tensor]) -> Tensor:
    """Four (H, W, B, D) -> (L, B, 4, D): rows, columns, and both reversed."""
    return torch.stack(
        [
            x[0].flatten(0, 1),
            x[1].transpose(0, 1).flatten(0, 1),
            x[2].flatten(0, 1).flip(0),
            x[3].transpose(0, 1).flatten(0, 1).flip(0),
        ],
        dim=2,
    )


def _fold(y: Tensor, height: int, width: int) -> Tensor:
    """(L, B, 4, D) -> (H, W, B, D): each order put back in place, and added."""
    rows = y[:, :, 0] + y[:, :, 2].flip(0)
    columns = y[:, :, 1] + y[:, :, 3].flip(0)
    columns = torch.unflatten(columns, 0, (width, height)).transpose(0, 1)
    return torch.unflatten(rows, 0, (height, width)) + columns
